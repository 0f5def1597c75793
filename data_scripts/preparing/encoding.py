"""Find out how mask files hold their classes (ids, a palette, grey levels, colours) and turn them into ids.

All masks are looked at once before any is written, because only all of them together show which values there are.

    ids         Grey levels or palette indices are kept as they are if they fit into 0 to 254.
    levels      0 and 255 become 0 and 1, and levels that divide 0 to 255 evenly (0, 128, 255) become 0, 1, 2, ...
    objects     Masks that number cells or other objects: 0 is the background, everything else is one class.
    colours     One class for each colour; black is the background. A palette that differs between files is read so too.
    blends      Where masks were smoothed, or saved as JPEG, pixels between two classes have a colour of neither. They
                take the class, among those within 2 pixels, whose colour is nearest.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from tqdm import tqdm

from ..cache import PARTS_AT_ONCE, in_threads
from ..class_file import CLASS_FILE
from ..labels import BLACK_AND_WHITE, IGNORE_INDEX, DataError
from ..reader import describe, is_turned_by_guess
from .annotated import (
    BACKGROUND,
    GIVE_NAMES,
    MOST_CLASSES,
    BadFiles,
    Drawn,
    File,
    FoundClass,
    is_background,
    is_nothing,
)
from .class_colors import NEAR, RARE, channels, class_colors, packed, rgb
from .class_lists import ClassList, Color
from .forms import MOST_BLENDS, are_colors, are_levels, is_noisy, of_another_class, starts_at_one
from .found import some
from .scanning import Scan, as_colors, read_values, scan, total

FORMS = ("ids", "levels", "colors", "objects")
MANY_IDS = 30  # so many ids without a name may number objects
OBJECTS = "if they number objects, such as cells, run again with --mask_values objects"
NAME_THEM = ": rename them in the new classes.yaml, or give them another class's name there and run again"
TURNED = (
    "masks that are rotated with their photo, because only the photo has an orientation tag; if they look wrong "
    "(python -m data_scripts.eda), save the photos without the tag"
)
DARKEST = 32  # nobody paints a class in a grey below this; such greys are ids
REACH = np.ones((5, 5), np.uint8)


@dataclass(frozen=True)
class Encoding:
    """How to turn mask files into ids.

    form     "ids": files hold values as ids; "colour": they are read as colours
    values   sorted values that have a class, (N,)
    ids      their ids, uint8 (N,)
    centres  {id: colour} of the classes, if other values are blends, to be given a class nearby; else empty
    classes  with their names and colours
    facts    what was found, one line each
    guesses  what the user should check, one line each
    unnamed  {id: what its pixels are} of the classes that a list of classes lacks
    """

    form: str
    values: np.ndarray
    ids: np.ndarray
    centres: dict[int, Color]
    classes: list[FoundClass]
    facts: list[str]
    guesses: list[str]
    unnamed: dict[int, str]

    def decode(self, mask: dict, image: dict) -> Drawn:
        """Return the upright ids of a mask. Raises `DataError` if the file cannot be read or holds other values."""
        values, form = read_values(mask, image, self.form == "colour")
        if form == "colour" and self.form == "ids":  # grey in a file of colours
            values = values & 255
        place = np.searchsorted(self.values, values).clip(max=len(self.values) - 1)
        known = self.values[place] == values
        ids = self.ids[place]
        others = int(known.size - np.count_nonzero(known))
        remarks = Counter()
        for number, text in self.unnamed.items():
            remarks[text] += int(np.count_nonzero(known & (ids == number)))
        remarks[TURNED] = int(is_turned_by_guess(mask, image))
        remarks = +remarks  # without zeros
        if not others:
            return Drawn(ids, remarks)
        if not self.centres or others > MOST_BLENDS * known.size:
            raise DataError(
                f"mask {describe(mask)} has {others / known.size:.1%} of its pixels in values of no class, such as "
                f"{_text(int(values[~known][0]), self.form)}: draw it without smoothing and save it as PNG"
            )
        remarks["pixels between classes (smoothed or compressed masks), which took the class beside them"] = others
        return Drawn(_nearby(values, ids, known, self), remarks)


def understand(
    masks: Sequence[File], images: Sequence[File], listed: ClassList | None, asked: str | None
) -> tuple[Encoding, list[str | None]]:
    """Look at all masks. Return how they are encoded, and for each mask None, or why it cannot be used.

    If fewer than half of them are JPEGs, the others tell the encoding, and ids in JPEGs cannot be used. `asked` is how
    the user says that they are encoded, one of `FORMS`, or None. Raises `BadFiles` if no mask can be used, and
    `DataError` if the values are no classes.
    """
    scans, errors, two_levels, jpegs = _look(masks, images)
    if not scans:
        raise BadFiles(filter(None, errors))
    whole = total(scans)
    few = 2 * len(jpegs) < errors.count(None)
    exact = total([found for found in scans if not found.lossy]) if few else whole
    encoding = _encode(whole, exact, listed, asked)
    if few and not encoding.centres:
        for place in jpegs:
            name = describe(masks[place]())
            errors[place] = f"mask {name} is a JPEG, which changes class ids: save it as PNG from the original"
    if encoding.form == "ids":
        encoding.guesses.extend(_two_levels_among_ids([masks[place] for place in two_levels], exact, encoding))
    return encoding, errors


def _look(masks: Sequence[File], images: Sequence[File]) -> tuple[list[Scan], list[str | None], list[int], list[int]]:
    """Scan all masks. Return scans, of lossless masks apart from lossy ones, and for each mask None or an error.

    Two lists of places follow: of the masks that hold 0 and 255 alone, and of JPEGs.
    """

    def look(pair: tuple[File, File]) -> Scan | str:
        try:
            return scan(pair[0](), pair[1]())
        except DataError as error:
            return str(error)

    pairs = list(zip(masks, images, strict=True))
    scans, errors, two_levels, jpegs = [], [], [], []
    looked = in_threads(look, pairs)
    for found in tqdm(looked, "Looking at masks", len(pairs), leave=False, disable=None, unit="mask"):
        errors.append(found if isinstance(found, str) else None)
        if isinstance(found, str):
            continue
        scans.append(found)
        if found.form == "grey" and found.counts.keys() == BLACK_AND_WHITE:
            two_levels.append(len(errors) - 1)
        if found.jpeg:
            jpegs.append(len(errors) - 1)
        if len(scans) > PARTS_AT_ONCE:  # a noisy mask holds many values, most of them those of others
            groups = [[found for found in scans if found.lossy == lossy] for lossy in (False, True)]
            scans = [total(group) for group in groups if group]
    return scans, errors, two_levels, jpegs


def _encode(whole: Scan, exact: Scan, listed: ClassList | None, asked: str | None) -> Encoding:
    """Return the encoding of masks. `exact` is as in `class_colors`."""
    if asked == "objects":
        return _objects(exact, listed)
    if is_noisy(exact, listed):
        whole = exact = replace(whole, lossy=True)
    if asked == "colors" or asked is None and are_colors(exact, listed):
        encoding = _colors(as_colors(whole), as_colors(exact), listed)
        if asked is None and (other := of_another_class(exact, listed)):
            encoding.guesses.append(
                f"index {other[0]} of the palette has the colour of {other[1]} in {listed.where}, so colours count, "
                "not indices (--mask_values ids: indices do)"
            )
        return encoding
    if exact.form == "colour":
        raise DataError(f"--mask_values {asked}: the masks hold colours, such as {rgb(max(exact.counts))}")
    if asked == "levels" or asked is None and are_levels(exact, listed):
        return _levels(whole if whole.form == exact.form else exact, exact, listed)
    return _ids(exact, listed)


def _refuse_lossy(whole: Scan) -> None:
    if whole.lossy:
        first = f" (the first is {whole.jpeg})" if whole.jpeg else ""
        raise DataError(f"the masks are JPEGs, which change class ids{first}: save them as PNG from the original")


def _two_levels_among_ids(two_levels: list[File], whole: Scan, encoding: Encoding) -> list[str]:
    """Return a line if 255 is ignored, but some masks hold only 0 and 255.

    There it may mark objects, as after a merge of two exports.
    """
    ignored = IGNORE_INDEX in encoding.values[encoding.ids == IGNORE_INDEX]
    if not two_levels or not ignored or whole.counts.keys() == BLACK_AND_WHITE:
        return []
    number = f"{len(two_levels)} mask{'s hold' if len(two_levels) > 1 else ' holds'}"
    return [
        f"{number} only 0 and 255 (the first is {describe(two_levels[0]())}), and 255 is ignored: if it marks objects "
        "there, write their id in its place, and run again"
    ]


def _ids(whole: Scan, listed: ClassList | None) -> Encoding:
    """Keep ids as they are, or number them anew if they exceed 254 (255 is kept for ignored pixels)."""
    facts = [f"masks hold {'indices into a palette' if whole.form == 'palette' else 'class ids'}"]
    values = sorted(whole.counts)
    guesses = []
    _refuse_lossy(whole)
    if listed and starts_at_one(listed, values):
        what = " and id 0 the background" if 0 in values else ""
        guesses.append(
            f"{listed.where} lists no background, so its first class is id 1{what}: if that is wrong, write the ids "
            "into it"
        )
        listed = _from_one(listed, 0 in values)
    names = dict(listed.names) if listed else {}
    ids = {value: value for value in {*values, *names} if value <= IGNORE_INDEX}
    if values[-1] > IGNORE_INDEX or IGNORE_INDEX in names and not is_nothing(names[IGNORE_INDEX]):
        ids = _number(values, names)
        changed = [f"{value} became {ids[value]}" for value in values if value != ids[value]]
        guesses.append(f"255 always means ignored, and ids go up to 254, so ids have changed: {some(changed)}")
    elif len(values) > MOST_CLASSES:
        raise DataError(
            f"the masks hold {len(values)} different values: these are not class ids (photos? depth?); {OBJECTS}"
        )
    unnamed = [value for value in values if value not in names and ids[value] != IGNORE_INDEX]
    if listed is None:
        two = {0: BACKGROUND, 1: "foreground"}
        names = (
            two if {*unnamed} <= {*two} else {value: two[0] if value == 0 else f"class_{value}" for value in unnamed}
        )
        guesses.append(
            f"the masks do not say what their ids mean: {GIVE_NAMES}{_if(0 in ids, '; 0 is the background')}"
        )
        if len(unnamed) > MANY_IDS:
            guesses.append(f"there are {len(unnamed)} ids: {OBJECTS}")
    elif unnamed:
        guesses.append(f"{listed.where} has no name for {some(f'id {value}' for value in unnamed)}{NAME_THEM}")
        names |= {value: f"class_{value}" for value in unnamed}
    if ids.get(IGNORE_INDEX) == IGNORE_INDEX and IGNORE_INDEX in values:
        guesses.append("255 marks pixels of no class, which are ignored")
    colors = {value: rgb(color) for value, color in (whole.palette or {}).items()} | (listed.colors if listed else {})
    classes = [
        FoundClass(names[value], ids[value], colors.get(value), is_nothing(names[value]))
        for value in sorted(names)
        if value in ids and ids[value] != IGNORE_INDEX
    ]
    table = np.array([ids[value] for value in values], np.uint8)
    strange = {ids[value]: f"pixels of ids that {listed.where} does not name" for value in unnamed} if listed else {}
    return Encoding("ids", np.array(values), table, {}, classes, facts, guesses, strange)


def _objects(whole: Scan, listed: ClassList | None) -> Encoding:
    """Make one class of all objects. 0, or black, is the background."""
    values = sorted(whole.counts)
    _refuse_lossy(whole)
    if values[0] != 0 or len(values) < 2:
        missing = "background: no pixel is 0" if values[0] else "object: every pixel is 0"
        raise DataError(f"--mask_values objects: the masks hold no {missing}")
    names, guesses = [BACKGROUND, "object"], [f"the objects have no name: {GIVE_NAMES}"]
    if listed and len(listed.names) == 2:
        names = [listed.names[key] for key in sorted(listed.names)]
        guesses = []
    classes = [FoundClass(name, number) for number, name in enumerate(names)]
    facts = [f"masks number objects: {len(values) - 1} different values became one class"]
    form = "colour" if whole.form == "colour" else "ids"
    return Encoding(form, np.array(values), np.minimum(values, 1).astype(np.uint8), {}, classes, facts, guesses, {})


def _from_one(listed: ClassList, with_background: bool) -> ClassList:
    """Return a list in which each id is one more and, if wanted, 0 is the background."""
    names = {number + 1: name for number, name in listed.names.items()}
    colors = {number + 1: color for number, color in listed.colors.items()}
    return replace(listed, names=({0: BACKGROUND} if with_background else {}) | names, colors=colors)


def _number(values: list[int], names: dict[int, str]) -> dict[int, int]:
    """Return new ids from 0 on, in the order of values and names, or of the values alone if the names are too many."""
    wanted = sorted({*values, *names})
    if len(wanted) > MOST_CLASSES:
        wanted = values
    if len(wanted) > MOST_CLASSES:
        raise DataError(
            f"the masks hold {len(values)} different values up to {values[-1]}: these are not class ids, of which at "
            f"most {MOST_CLASSES} fit (photos? depth?); {OBJECTS}"
        )
    return {value: number for number, value in enumerate(wanted)}


def _levels(whole: Scan, exact: Scan, listed: ClassList | None) -> Encoding:
    """Number grey levels 0, 1, 2, ... Two levels are background and foreground. `exact` is as in `class_colors`."""
    colors = as_colors(whole)
    centres, smooth = class_colors(colors, as_colors(exact))
    levels = sorted(color & 255 for color in centres)
    if len(levels) < 2 <= len(whole.counts):  # ids such as 0, 1, 2 blur into one
        _refuse_lossy(whole)
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
    given = {listed.names[key]: color for key, color in listed.colors.items()} if listed else {}
    classes = [FoundClass(name, number, given.get(name), is_nothing(name)) for number, name in enumerate(names)]
    facts = [f"masks hold grey levels, not ids{_edges(whole, smooth)}"]
    return _encoding(colors, values, smooth, classes, facts, [f"grey levels are classes: {changes}"], {})


def _colors(whole: Scan, exact: Scan, listed: ClassList | None) -> Encoding:
    """Give each colour of the list, or each colour that is found, an id; black or a background is 0.

    `exact` is as in `class_colors`.
    """
    by_color = {packed(color): listed.names[number] for number, color in listed.colors.items()} if listed else {}
    guesses = []
    centres, smooth = class_colors(whole, exact, sorted(by_color))
    unlisted = [color for color in centres if color not in by_color]
    if by_color and unlisted:
        new = some(f"{rgb(color)}, now {_color_name(color, True)}" for color in unlisted)
        guesses.append(f"{listed.where} has no name for the colours {new}{NAME_THEM}")
    elif unlisted:
        guesses.append(f"the masks do not say what their colours mean: {GIVE_NAMES}")
        if 0 in unlisted:
            guesses.append("black is the background")
    if ids := sorted(color & 255 for color in unlisted if color and color % 0x010101 == 0 and color & 255 < DARKEST):
        guesses.append(
            f"dark greys became classes: {some(ids)}; if these are ids, masks of two exports are mixed: prepare each "
            "export by itself, or give all masks ids"
        )
    named = listed.names.items() if listed else ()
    if without := [name for key, name in named if key not in listed.colors and not is_nothing(name)]:
        guesses.append(f"{listed.where} gives no colours to {some(without)}, so these names are not used")
    names = by_color | {color: _color_name(color, bool(by_color)) for color in unlisted}
    order = sorted(names, key=lambda color: not is_background(names[color]))  # the background first, then as listed
    if len(order) > MOST_CLASSES:
        raise DataError(
            f"the masks hold {len(order)} colours: at most {MOST_CLASSES} can be classes (are these photos?)"
        )
    start = 0 if any(map(is_background, names.values())) else 1
    values = {color: number for number, color in enumerate(order, start=start)}
    classes = [FoundClass(names[color], values[color], rgb(color), is_nothing(names[color])) for color in order]
    facts = [f"masks hold colours{_edges(whole, smooth)}"]
    guesses += _noise(whole, exact, centres, listed) if whole.lossy else []
    if whole.clear:
        guesses.append("transparent pixels count as black")
    strange = [values[color] for color in unlisted if by_color]
    unnamed = dict.fromkeys(strange, f"pixels of colours that {listed.where} does not name") if strange else {}
    return _encoding(whole, values, smooth, classes, facts, guesses, unnamed)


def _noise(whole: Scan, exact: Scan, centres: Sequence[int], listed: ClassList | None) -> list[str]:
    """Return a line that names the most frequent colour that fills areas but is too rare for a class, if there is one.

    If neither a list nor lossless masks give the colours, return a line anyway.
    """
    middles = np.array([rgb(centre) for centre in centres])
    rare = [color for color in whole.flat & {*whole.counts} if np.abs(middles - rgb(color)).max(1).min() > NEAR]
    if not rare and (not exact.lossy or listed and listed.colors):
        return []
    example = f", such as {rgb(max(rare, key=whole.counts.get))}" if rare else ""
    where = "class_dict.csv (first line name,r,g,b) beside the folder of the masks"
    if listed and (listed.colors or listed.where.endswith(CLASS_FILE)):
        where = listed.where
    return [
        f"edges are smoothed or compressed, so colours of less than {RARE:.1%} of the pixels count as noise{example}: "
        f"if one of them is a class, list all colours in {where} and run again"
    ]


def _encoding(
    whole: Scan,
    values: dict[int, int],
    smooth: bool,
    classes: list[FoundClass],
    facts: list[str],
    guesses: list[str],
    unnamed: dict[int, str],
) -> Encoding:
    """Return an encoding of colours. In lossy masks, colours near a class's are that class's."""
    known = dict(values)
    centres = np.array([rgb(color) for color in values], np.int64)
    if whole.lossy:
        numbers = list(values.values())
        for color in whole.counts.keys() - values.keys():
            distance = np.abs(centres - rgb(color)).max(1)
            if distance.min() <= NEAR:
                known[color] = numbers[int(distance.argmin())]
    table = sorted(known)
    ids = np.array([known[value] for value in table], np.uint8)
    middles = {number: rgb(color) for color, number in values.items()} if smooth else {}
    return Encoding("colour", np.array(table, np.uint32), ids, middles, classes, facts, guesses, unnamed)


def _nearby(values: np.ndarray, ids: np.ndarray, known: np.ndarray, encoding: Encoding) -> np.ndarray:
    """Give each pixel that is not `known` the class of nearest colour among those within 2 pixels, else among all."""
    rows, columns = np.nonzero(~known)
    colors = channels(values[rows, columns])
    best = np.full(len(rows), np.inf)
    chosen = np.zeros(len(rows), np.uint8)
    for value, centre in encoding.centres.items():
        near = cv2.dilate((known & (ids == value)).astype(np.uint8), REACH)[rows, columns] > 0
        distance = np.abs(colors - centre).sum(1) + np.where(near, 0, 1000)  # above any distance of colours
        chosen[distance < best] = value
        best = np.minimum(best, distance)
    ids = ids.copy()
    ids[rows, columns] = chosen
    return ids


def _color_name(color: int, listed: bool) -> str:
    return BACKGROUND if color == 0 and not listed else "color_{}_{}_{}".format(*rgb(color))


def _text(value: int, form: str) -> str:
    return f"colour {rgb(value)}" if form == "colour" else f"value {value}"


def _edges(whole: Scan, smooth: bool) -> str:
    first = f" (the first JPEG is {whole.jpeg})" if whole.jpeg else ""
    return f", with smoothed or compressed edges{first}" if smooth else ""


def _if(condition: bool, text: str) -> str:
    return text if condition else ""
