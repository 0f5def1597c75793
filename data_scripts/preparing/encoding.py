"""Find out how mask files hold their classes (ids, a palette, grey levels, colours) and turn them into ids.

All masks are looked at once before any is written, because only all of them together show which values there are.

    ids         Grey levels or palette indices are kept as they are if they fit into 0 to 254.
    levels      0 and 255 become 0 and 1, and levels that divide 0 to 255 evenly (0, 128, 255) become 0, 1, 2, ...
    colours     One class for each colour; black is the background. A palette that differs between files is read so too.
    blends      Where masks were smoothed, or saved as JPEG, pixels between two classes have a colour of neither. They
                take the class, among those within 2 pixels, whose colour is nearest.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from ..cache import PARTS_AT_ONCE, in_threads
from ..labels import IGNORE_INDEX, DataError
from ..reader import (
    LABEL_MODES,
    decoding,
    describe,
    open_image,
    orientation,
    read_image,
    read_instances,
    turned_with,
    upright,
    upright_size,
)
from .annotated import BACKGROUND, MOST_CLASSES, BadFiles, Drawn, File, FoundClass, is_background, is_nothing
from .class_lists import ClassList, Color
from .found import some

UNEVEN = 3  # levels differ from an even division of 0 to 255 by at most so much
NEAR = 40  # a lossy colour differs from its class's by at most so much in each channel
ON_LINE = 6  # a blend differs from the line between two colours by at most so much in each channel
MANY_LEVELS, MANY_COLORS = 17, 65  # so many grey levels or colours may be the noise of a JPEG
FEW = 4  # so many different blends are needed to call masks smoothed
RARE = 0.001  # share of the pixels: colours of lossy masks below it are no classes
MOST_BLENDS = 0.2  # share of a mask's pixels
FORMS = ("ids", "levels", "colors")
REACH = np.ones((5, 5), np.uint8)


@dataclass(frozen=True)
class Scan:
    """The values of one mask, or of several.

    form     "palette", "grey" or "colour"
    counts   {value: pixels}; values are ids, or colours as 0xRRGGBB
    flat     values that fill at least one square of 3x3 pixels
    palette  {index: colour} of a palette
    lossy    whether a file is a JPEG
    clear    whether a file has transparent pixels, which count as black
    """

    form: str
    counts: dict[int, int]
    flat: frozenset[int]
    palette: dict[int, int] | None = None
    lossy: bool = False
    clear: bool = False


@dataclass(frozen=True)
class Encoding:
    """How to turn mask files into ids.

    form     "ids": files hold values as ids; "colour": they are read as colours
    values   sorted values that have a class, (N,)
    ids      their ids, uint8 (N,)
    centres  {id: colour} of the classes, if other values are blends, to be given a class nearby; else empty
    """

    form: str
    values: np.ndarray
    ids: np.ndarray
    centres: dict[int, Color]
    classes: list[FoundClass]
    facts: list[str]
    guesses: list[str]

    def decode(self, mask: dict, image: dict) -> Drawn:
        """Return the upright ids of a mask. Raises `DataError` if the file cannot be read or holds other values."""
        values, form = read_values(mask, image, self.form == "colour")
        if form == "colour" and self.form == "ids":  # grey in a file of colours
            values = values & 255
        place = np.searchsorted(self.values, values).clip(max=len(self.values) - 1)
        known = self.values[place] == values
        ids, others = self.ids[place], int(known.size - np.count_nonzero(known))
        if not others:
            return Drawn(ids)
        if not self.centres or others > MOST_BLENDS * known.size:
            raise DataError(
                f"mask {describe(mask)} has {others / known.size:.1%} of its pixels in values of no class, such as "
                f"{_text(int(values[~known][0]), self.form)}: draw it without smoothing and save it as PNG"
            )
        remark = "pixels between classes (smoothed or compressed masks), which took the class beside them"
        return Drawn(_nearby(values, ids, known, self), Counter({remark: others}))


def read_values(mask: dict, image: dict | None, as_colors: bool) -> tuple[np.ndarray, str]:
    """Return the values of a mask, upright like its photo, and their form: "palette", "grey" or "colour".

    Values are ids, uint16 (H, W), or if the file has colours or `as_colors` is true, 0xRRGGBB, uint32 (H, W).
    """
    opened = open_image(mask, "mask")
    lossy = opened.format in ("JPEG", "MPO")
    if opened.mode in LABEL_MODES and not lossy:
        form = "palette" if opened.mode == "P" and not _is_grey(palette_of(opened)) else "grey"
        if not as_colors:
            return read_instances(mask, image), form
        ids = read_instances(mask, image)
        table = np.arange(65536, dtype=np.uint32) * 0x010101
        if form == "palette":
            table[list(palette_of(opened))] = list(palette_of(opened).values())
        return table[ids], form
    with decoding(mask, "mask"):
        own = orientation(opened)
    pixels = read_image(mask)
    if "A" in opened.mode:
        pixels = np.where(_alpha(mask)[..., None] > 0, pixels, 0)
    pixels = pixels.astype(np.uint32)
    colors = pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2]
    return turned_with(colors, image) if own == 1 else colors, "colour"


def _alpha(mask: dict) -> np.ndarray:
    with decoding(mask, "mask"):
        image = open_image(mask, "mask")
        return upright(image.convert("RGBA").getchannel("A"), image)


def palette_of(image: Image.Image) -> dict[int, int]:
    """Return {index: 0xRRGGBB} of a palette image."""
    table = np.array(image.getpalette("RGB"), np.uint32).reshape(-1, 3)
    return dict(enumerate((table[:, 0] << 16 | table[:, 1] << 8 | table[:, 2]).tolist()))


def _is_grey(palette: dict[int, int]) -> bool:
    return all(color == index * 0x010101 for index, color in palette.items())


def scan(mask: dict, image: dict) -> Scan:
    """Return the values of a mask. Raises `DataError` if it cannot be read or has another size than its photo."""
    values, form = read_values(mask, image, False)
    if values.shape != (size := upright_size(image)):
        raise DataError(
            f"mask {describe(mask)} is {values.shape[0]}x{values.shape[1]} (height x width), but its photo "
            f"{describe(image)} is {size[0]}x{size[1]}: use the photo that was labelled"
        )
    counts, flat = _count(values.ravel()), frozenset(_flat(values))
    opened = open_image(mask, "mask")
    lossy, clear = opened.format in ("JPEG", "MPO"), "A" in opened.mode and not _alpha(mask).all()
    palette = None
    if form == "palette":
        palette = dict.fromkeys(counts, 0) | palette_of(opened)
    if form == "colour" and all(value % 0x010101 == 0 for value in counts):
        form, flat = "grey", frozenset(value & 255 for value in flat)
        counts = {value & 255: number for value, number in counts.items()}
    return Scan(form, counts, flat, palette, lossy, clear)


def _count(values: np.ndarray) -> dict[int, int]:
    """Count values by their runs, which are few in a mask."""
    if not len(values):
        return {}
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    lengths = np.diff(np.append(starts, len(values)))
    found, place = np.unique(values[starts], return_inverse=True)
    return dict(zip(found.tolist(), np.bincount(place.ravel(), lengths).astype(np.int64).tolist(), strict=True))


def _flat(values: np.ndarray) -> list[int]:
    """Return the values that fill at least one square of 3x3 pixels."""
    if min(values.shape) < 3:
        return np.unique(values).tolist()
    rows = (values[:, 1:-1] == values[:, :-2]) & (values[:, 1:-1] == values[:, 2:])
    middle = values[1:-1, 1:-1]
    columns = (middle == values[:-2, 1:-1]) & (middle == values[2:, 1:-1])
    return list(_count(middle[rows[:-2] & rows[1:-1] & rows[2:] & columns]))


def understand(
    masks: Sequence[File], images: Sequence[File], listed: ClassList | None, asked: str | None
) -> tuple[Encoding, list[str | None]]:
    """Look at all masks. Return how they are encoded, and for each mask None, or why it cannot be used.

    `asked` is how the user says that they are encoded, one of `FORMS`, or None. Raises `BadFiles` if no mask can be
    used, and `DataError` if the values are no classes.
    """

    def look(pair: tuple[File, File]) -> Scan | str:
        try:
            return scan(pair[0](), pair[1]())
        except DataError as error:
            return str(error)

    pairs = list(zip(masks, images, strict=True))
    scans, errors = [], []
    for found in tqdm(in_threads(look, pairs), "Looking at masks", len(pairs), leave=False, disable=None, unit="mask"):
        errors.append(found if isinstance(found, str) else None)
        if isinstance(found, Scan):
            scans.append(found)
        if len(scans) > PARTS_AT_ONCE:  # a noisy mask holds many values, most of them those of others
            scans = [_sum(scans)]
    if not scans:
        raise BadFiles(filter(None, errors))
    whole = _sum(scans)
    if _is_noisy(whole, listed):
        whole = replace(whole, lossy=True)
    if asked == "colors" or asked is None and _are_colors(whole, listed):
        return _colors(_as_colors(whole), listed), errors
    if whole.form == "colour":
        raise DataError(f"--mask_values {asked}: the masks hold colours, such as {_rgb(max(whole.counts))}")
    levels = asked == "levels" or asked is None and _are_levels(whole, listed)
    return (_levels if levels else _ids)(whole, listed), errors


def _is_noisy(whole: Scan, listed: ClassList | None) -> bool:
    """Return whether lossless masks look like former JPEGs: many values, most of the pixels near a few of them."""
    if whole.form == "palette" or listed and not listed.colors:
        return False
    colors = _as_colors(whole)
    given = [_packed(color) for color in listed.colors.values()] if listed else []
    if len(colors.counts.keys() - {*given}) < (MANY_LEVELS if whole.form == "grey" else MANY_COLORS):
        return False
    centres = _frequent(colors, given)
    if not centres:
        return False
    table, pixels = _table(np.array(list(colors.counts))), np.array(list(colors.counts.values()))
    near = np.min([np.abs(table - _rgb(centre)).max(1) for centre in centres], axis=0) <= NEAR
    few = 4 * len(centres) <= len(table) and pixels[near].sum() >= (1 - MOST_BLENDS) * pixels.sum()
    return few and (whole.form == "colour" or bool(given) or _are_even([centre & 255 for centre in centres]))


def _sum(scans: Sequence[Scan]) -> Scan:
    """Return the values of all masks together. Palettes that differ, or mixed forms, become colours."""
    forms = {found.form for found in scans}
    palette: dict[int, int] = {}
    for found in scans:
        for index in found.counts if found.palette else ():
            if palette.setdefault(index, found.palette[index]) != found.palette[index]:
                forms.add("colour")
    if "colour" in forms and forms != {"colour"}:
        scans, forms = [_as_colors(found) for found in scans], {"colour"}
    counts: Counter = Counter()
    for found in scans:
        counts.update(found.counts)
    palette = next((found.palette for found in scans if found.palette), {}) | palette
    form = "palette" if "palette" in forms else forms.pop()
    flat = frozenset().union(*(found.flat for found in scans))
    lossy, clear = any(found.lossy for found in scans), any(found.clear for found in scans)
    return Scan(form, dict(counts), flat, palette or None, lossy, clear)


def _as_colors(found: Scan) -> Scan:
    if found.form == "colour":
        return found
    table = found.palette if found.form == "palette" else {value: min(value, 255) * 0x010101 for value in found.counts}
    counts: Counter = Counter()
    for value, number in found.counts.items():
        counts[table.get(value, 0)] += number
    flat = frozenset(table.get(value, 0) for value in found.flat)
    return Scan("colour", dict(counts), flat, None, found.lossy, found.clear)


def _are_colors(whole: Scan, listed: ClassList | None) -> bool:
    """Return whether masks hold colours: files of colours, or grey ones whose values are grey colours of the list."""
    if whole.form == "colour" or listed is None or not listed.colors:
        return whole.form == "colour"
    if whole.form == "palette":
        return not {*whole.counts} <= {*listed.names, IGNORE_INDEX}
    greys = {color[0] for color in listed.colors.values() if len({*color}) == 1}
    return {*whole.counts} <= greys or not {*whole.counts} <= {*listed.names, IGNORE_INDEX}


def _ids(whole: Scan, listed: ClassList | None) -> Encoding:
    """Keep ids as they are, or number them anew if they exceed 254 (255 is kept for ignored pixels)."""
    facts = [f"masks hold {'indices into a palette' if whole.form == 'palette' else 'class ids'}"]
    names, values, guesses = dict(listed.names) if listed else {}, sorted(whole.counts), []
    if whole.lossy:
        raise DataError("the masks are JPEGs, which change class ids: save them as PNG from the original")
    if listed and _starts_at_one(names, values):
        names = {0: BACKGROUND} | {number + 1: name for number, name in names.items()}
        guesses.append(f"{listed.where} lists no background, so its first class is id 1 and id 0 the background")
    ids = {value: value for value in {*values, *names} if value <= IGNORE_INDEX}
    if values[-1] > IGNORE_INDEX or IGNORE_INDEX in names and not is_nothing(names[IGNORE_INDEX]):
        ids = _number(values, names)
        changed = [f"{value} became {ids[value]}" for value in values if value != ids[value]]
        guesses.append(f"255 always means ignored, and ids go up to 254, so ids have changed: {some(changed)}")
    elif len(values) > MOST_CLASSES:
        raise DataError(
            f"the masks hold {len(values)} different values: these are no class ids (photos? depth? instances?)"
        )
    unnamed = [value for value in values if value not in names and ids[value] != IGNORE_INDEX]
    if listed is None:
        two = {0: BACKGROUND, 1: "foreground"}
        names = (
            two if {*unnamed} <= {*two} else {value: two[0] if value == 0 else f"class_{value}" for value in unnamed}
        )
        guesses.append(
            f"the masks do not say what their ids mean: give the classes names{_if(0 in ids, '; 0 is the background')}"
        )
    elif unnamed:
        guesses.append(f"{listed.where} has no name for {some(f'id {value}' for value in unnamed)}")
        names |= {value: f"class_{value}" for value in unnamed}
    if ids.get(IGNORE_INDEX) == IGNORE_INDEX and IGNORE_INDEX in values:
        guesses.append("255 marks pixels of no class, which are ignored")
    colors = {value: _rgb(color) for value, color in (whole.palette or {}).items()} | (listed.colors if listed else {})
    classes = [
        FoundClass(names[value], ids[value], colors.get(value), is_nothing(names[value]))
        for value in sorted(names)
        if value in ids and ids[value] != IGNORE_INDEX
    ]
    table = np.array([ids[value] for value in values], np.uint8)
    return Encoding("ids", np.array(values), table, {}, classes, facts, guesses)


def _starts_at_one(names: dict[int, str], values: list[int]) -> bool:
    """Return whether a list without a background leaves out id 0: its last id is one less than the masks' largest."""
    ids = [value for value in values if value != IGNORE_INDEX]
    named = any(is_background(name) or is_nothing(name) for name in names.values())
    return not named and 0 in names and bool(ids) and ids[0] == 0 and ids[-1] == len(names) == max(names) + 1


def _number(values: list[int], names: dict[int, str]) -> dict[int, int]:
    """Return new ids, from 0 (or from 1 if no value is 0), in the order of the values."""
    wanted = sorted({*values, *names})
    if len(wanted) > MOST_CLASSES:
        wanted = values
    if len(wanted) > MOST_CLASSES:
        raise DataError(
            f"the masks hold {len(values)} different values up to {values[-1]}: these are no class ids, of which at "
            f"most {MOST_CLASSES} fit (photos? depth? instances?)"
        )
    return {value: number for number, value in enumerate(wanted)}


def _are_levels(whole: Scan, listed: ClassList | None) -> bool:
    """Return whether grey values are levels such as 0 and 255, and not ids: all, or all that fill areas, are even."""
    if whole.form != "grey" or listed and {*whole.counts} <= {*listed.names}:
        return False
    values, sure = sorted(whole.counts), sorted(whole.flat & {*whole.counts})
    return (
        whole.lossy
        or values == [IGNORE_INDEX]
        or _are_even(values)
        or _are_even(sure)
        and len(values) >= len(sure) + FEW
    )


def _are_even(values: Sequence[int]) -> bool:
    """Return whether values divide 0 to 255 evenly."""
    if len(values) < 2 or len(values) > IGNORE_INDEX // (2 * UNEVEN + 2):
        return False
    return np.abs(np.linspace(0, IGNORE_INDEX, len(values)) - values).max() <= UNEVEN


def _levels(whole: Scan, listed: ClassList | None) -> Encoding:
    """Number grey levels 0, 1, 2, ... Two levels are background and foreground."""
    colors = _as_colors(whole)
    centres, smooth = _class_colors(colors)
    levels = sorted(color & 255 for color in centres)
    listed_names = [listed.names[key] for key in sorted(listed.names)] if listed else []
    if len(listed_names) == len(levels):
        names = listed_names
    elif len(listed_names) == len(levels) - 1 and not any(map(is_background, listed_names)):
        names = [BACKGROUND, *listed_names]
    else:
        names = [BACKGROUND, "foreground"] if len(levels) == 2 else [f"level_{level}" for level in levels]
        names = [BACKGROUND if level == 0 else name for level, name in zip(levels, names, strict=True)]
    changes = ", ".join(
        f"{level} became {number} ({name})" for number, (level, name) in enumerate(zip(levels, names, strict=True))
    )
    if levels == [IGNORE_INDEX]:
        raise DataError("every pixel of every mask is 255, which marks ignored pixels: there is no class to learn")
    values = {level * 0x010101: number for number, level in enumerate(levels)}
    classes = [FoundClass(name, number) for number, name in enumerate(names)]
    facts = [f"masks hold grey levels, not ids{_if(smooth, ', with smoothed or compressed edges')}"]
    return _encoding(colors, values, smooth, classes, facts, [f"grey levels are classes: {changes}"])


def _colors(whole: Scan, listed: ClassList | None) -> Encoding:
    """Give each colour of the list, or each colour that is found, an id; black or a background is 0."""
    by_color = {_packed(color): listed.names[number] for number, color in listed.colors.items()} if listed else {}
    guesses, (centres, smooth) = [], _class_colors(whole, sorted(by_color))
    unlisted = [color for color in centres if color not in by_color]
    if by_color and unlisted:
        guesses.append(f"{listed.where} has no name for the colours {some(_rgb(color) for color in unlisted)}")
    elif unlisted:
        guesses.append("the masks do not say what their colours mean: give the classes names")
        if listed:
            guesses.append(f"{listed.where} gives no colours, so its names are not used: {some(listed.names.values())}")
        if 0 in unlisted:
            guesses.append("black is the background")
    names = by_color | {color: _color_name(color, bool(by_color)) for color in unlisted}
    order = sorted(names, key=lambda color: not is_background(names[color]))  # the background first, then as listed
    if len(order) > MOST_CLASSES:
        raise DataError(
            f"the masks hold {len(order)} colours: at most {MOST_CLASSES} can be classes (are these photos?)"
        )
    start = 0 if any(map(is_background, names.values())) else 1
    values = {color: number for number, color in enumerate(order, start=start)}
    classes = [FoundClass(names[color], values[color], _rgb(color), is_nothing(names[color])) for color in order]
    facts = [f"masks hold colours{_if(smooth, ', with smoothed or compressed edges')}"]
    if whole.clear:
        guesses.append("transparent pixels count as black")
    return _encoding(whole, values, smooth, classes, facts, guesses)


def _class_colors(whole: Scan, given: Sequence[int] = ()) -> tuple[list[int], bool]:
    """Return the colours that are classes, sorted, and whether others are blends. `given` ones always are classes.

    In lossless masks every colour is a class, unless it lies between two that are and fills no square of 3x3 pixels
    (or, beside `given` ones, is rare). In lossy ones, a colour is a class if it is frequent and not near a more
    frequent one.
    """
    if whole.lossy:
        return _frequent(whole, given), True
    rare = RARE * sum(whole.counts.values()) if given else 0
    filling = {color for color in whole.flat & {*whole.counts} if whole.counts[color] >= rare}
    sure = sorted({*given} | filling)
    others = sorted({*whole.counts} - {*sure})
    blends = [color for color in others if _between(color, sure)] if len(sure) > 1 else []
    if len(blends) < FEW:
        return sorted({*sure, *others}), False
    return sorted({*sure, *others} - {*blends}), True


def _frequent(whole: Scan, given: Sequence[int]) -> list[int]:
    """Return the given colours, and those around which a share of `RARE` of the pixels lies, sorted."""
    colors, pixels = np.array(list(whole.counts)), np.array(list(whole.counts.values()))
    table, centres = _table(colors), list(given)
    for color in sorted(whole.flat & {*whole.counts}, key=lambda color: (-whole.counts[color], color)):
        if all(_distance(color, centre) > NEAR for centre in centres):
            near = np.abs(table - _rgb(color)).max(1) <= NEAR
            if pixels[near].sum() >= RARE * pixels.sum():
                centres.append(color)
    return sorted(centres)


def _between(color: int, ends: Sequence[int]) -> bool:
    """Return whether a colour lies on a line between two others."""
    point, table = np.array(_rgb(color), float), np.array([_rgb(end) for end in ends], float)
    for start in table:
        steps = table - start
        length = (steps**2).sum(1)
        share = np.divide(steps @ (point - start), length, out=np.zeros(len(steps)), where=length > 0)
        off = np.abs(start + share[:, None] * steps - point).max(1)
        if ((share > 0) & (share < 1) & (off <= ON_LINE)).any():
            return True
    return False


def _encoding(
    whole: Scan,
    values: dict[int, int],
    smooth: bool,
    classes: list[FoundClass],
    facts: list[str],
    guesses: list[str],
) -> Encoding:
    """Return an encoding of colours. In lossy masks, colours near a class's are that class's."""
    known, centres = dict(values), np.array([_rgb(color) for color in values], np.int64)
    if whole.lossy:
        numbers = list(values.values())
        for color in whole.counts.keys() - values.keys():
            distance = np.abs(centres - _rgb(color)).max(1)
            if distance.min() <= NEAR:
                known[color] = numbers[int(distance.argmin())]
    table = sorted(known)
    ids = np.array([known[value] for value in table], np.uint8)
    middles = {number: _rgb(color) for color, number in values.items()} if smooth else {}
    return Encoding("colour", np.array(table, np.uint32), ids, middles, classes, facts, guesses)


def _nearby(values: np.ndarray, ids: np.ndarray, known: np.ndarray, encoding: Encoding) -> np.ndarray:
    """Give each pixel that is not `known` the class of nearest colour among those within 2 pixels, else among all."""
    rows, columns = np.nonzero(~known)
    colors = _table(values[rows, columns])
    best, chosen = np.full(len(rows), np.inf), np.zeros(len(rows), np.uint8)
    for value, centre in encoding.centres.items():
        near = cv2.dilate((known & (ids == value)).astype(np.uint8), REACH)[rows, columns] > 0
        distance = np.abs(colors - centre).sum(1) + np.where(near, 0, 1000)  # above any distance of colours
        chosen[distance < best] = value
        best = np.minimum(best, distance)
    ids = ids.copy()
    ids[rows, columns] = chosen
    return ids


def _table(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.int64)
    return np.stack([values >> 16, values >> 8 & 255, values & 255], axis=-1)


def _rgb(value: int) -> Color:
    return value >> 16, value >> 8 & 255, value & 255


def _packed(color: Color) -> int:
    return color[0] << 16 | color[1] << 8 | color[2]


def _distance(one: int, two: int) -> int:
    return max(abs(a - b) for a, b in zip(_rgb(one), _rgb(two), strict=True))


def _color_name(color: int, listed: bool) -> str:
    return BACKGROUND if color == 0 and not listed else "color_{}_{}_{}".format(*_rgb(color))


def _text(value: int, form: str) -> str:
    return f"colour {_rgb(value)}" if form == "colour" else f"value {value}"


def _if(condition: bool, text: str) -> str:
    return text if condition else ""
