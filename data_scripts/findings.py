"""Say what is wrong, doubtful or worth knowing about a data set, from a survey of its files."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .class_file import CLASS_FILE, stated_colors
from .labels import BLACK_AND_WHITE, IGNORE_INDEX, Color, LabelInfo
from .near_duplicates import BITS, NEAR, groups_of, nearest
from .survey import Row, Survey

FEW_IMAGES = 5  # a class in fewer training images than this can hardly be learned
NAMED = 3  # files or values that a finding names before it only counts
SMOOTHED = 16  # more unknown values than this come from smoothed edges or compression, not from wrong ids
DARK = 64  # a photo whose brightest grey level is below this looks black
TINY = 4  # pixels of a speck
MANY_SPECKS, MOSTLY_SPECKS = 50, 0.6  # a mask with so many specks, and such a share of its regions, is full of them
PREPARE = "python -m data_scripts.prepare turns such masks into ids"
MORE_IMAGES = "label more images of it, or move some to the other split"
WORTHLESS = "a score on known images says nothing about new ones"
ERROR, WARNING, NOTE = LEVELS = ("error", "warning", "note")
TRAINING = ("train", "val")  # splits that training reads


@dataclass(frozen=True)
class Finding:
    """What was found, for the user.

    level    "error": training would fail or be meaningless; "warning": it runs, but look at this; "note": good to know
    title    one line with a count
    details  lines that name files, classes or values
    then     what to do about it; may be empty
    """

    level: str
    title: str
    details: tuple[str, ...] = ()
    then: str = ""


def findings_of(survey: Survey, refusal: str = "") -> list[Finding]:
    """Return everything that is wrong or doubtful, the worst first.

    refusal  why training could not load the data; it is a finding of its own if no other error explains it
    """
    found = [
        *bad_files(survey),
        *unknown_values(survey),
        *nothing_to_learn(survey),
        *rare_classes(survey.labels.names, survey.counts("train"), survey.counts("val")),
        *two_levels_among_ids(survey),
        *contrary_palettes(survey),
        *dark_images(survey),
        *stacks(survey),
        *speckled_masks(survey),
        *turned_masks(survey),
        *duplicates(survey),
        *contradictions(survey),
        *ignored_masks(survey),
    ]
    if refusal and all(finding.level != ERROR for finding in found):
        found.append(Finding(ERROR, refusal))
    return sorted(found, key=lambda finding: LEVELS.index(finding.level))


def below(found: Sequence[Finding], root: str) -> list[Finding]:
    """Return findings that name files by their path below the folder `root`."""
    prefix = f"{Path(root)}{os.sep}"
    return [
        replace(
            finding,
            title=replace_path(finding.title, prefix, ""),
            details=tuple(replace_path(line, prefix, "") for line in finding.details),
            then=replace_path(finding.then, prefix, ""),
        )
        for finding in found
    ]


def replace_path(text: str, start: str, by: str) -> str:
    """Replace `start` in a text wherever a path begins with it, but not inside a path."""
    return re.sub(rf"(?<![\w./-]){re.escape(start)}", lambda _: by, text)


BAD_FILES = (  # (kind of fault in `Row.faults`, title, what to do)
    ("image", "images that cannot be read", "replace each file, or remove it and its mask"),
    ("label", "masks that cannot be read", "export them again, or remove them and their images"),
    ("jpeg", "masks saved as JPEG, which changes their ids", "export them as PNG: a JPEG cannot be repaired"),
    ("colors", "masks that hold colours instead of class ids", PREPARE),
    ("size", "masks of another size than their image", "export them at the size of the image, or remove the pairs"),
    ("instance", "instance maps that cannot be used", "export them again, or remove all instance maps"),
)
MANY_COLORS = 256  # no label set has as many: these are photos, or masks with smoothed edges


def bad_files(survey: Survey) -> list[Finding]:
    """Return a finding for each kind of bad file that training reads, and for each in the test split."""
    found = []
    for kind, title, then in BAD_FILES:
        for splits, level, where in ((TRAINING, ERROR, ""), (("test",), WARNING, " in the test split")):
            rows = [row for row in survey.of(*splits) if kind in row.faults]
            if rows:
                lines = some([row.faults[kind] for row in rows])
                advice = survey.labels.remedies.get(kind, then)
                if max(row.colors for row in rows) > MANY_COLORS:
                    lines += ("so many colours come from smoothed (anti-aliased) edges or from compression",)
                    advice = "export the masks again, without smoothing and as PNG"
                found.append(Finding(level, f"{title}{where}: {len(rows)}", lines, advice))
    return found


def unknown_values(survey: Survey) -> list[Finding]:
    """Return a finding if masks hold ids that the label set does not know."""
    found = []
    for splits, level, where in ((TRAINING, ERROR, ""), (("test",), WARNING, " in the test split")):
        masks = defaultdict(list)  # unknown id -> rows
        for row in survey.of(*splits):
            if row.ids is not None:
                for value in np.flatnonzero((row.ids > 0) & ~survey.labels.known_ids).tolist():
                    masks[value].append(row)
        if not masks:
            continue
        pixels = {value: sum(int(row.ids[value]) for row in rows) for value, rows in masks.items()}
        lines = some(
            [
                f"value {value}: {pixels[value]:,} pixels in {counted(len(rows), 'mask')}, the first is {rows[0].label}"
                for value, rows in sorted(masks.items(), key=lambda item: -pixels[item[0]])
            ],
            "values",
        )
        then = survey.labels.remedies.get("id", "name the right data set, or correct the masks")
        if len(masks) > SMOOTHED:
            lines += ("so many values come from smoothed (anti-aliased) edges, from resizing or from a JPEG",)
            then = "export the masks again: no smoothing, nearest-neighbour resizing, PNG"
        elif _are_black_and_white(survey.of(*splits)):
            lines = (*lines, "these look like 0/255 masks, and 255 always means ignored")
            then = survey.labels.remedies.get("values", PREPARE)
        found.append(Finding(level, f"values in the masks that belong to no class{where}: {len(masks)}", lines, then))
    return found


def nothing_to_learn(survey: Survey) -> list[Finding]:
    """Return an error if the training masks show no class, or only one."""
    labels = survey.labels
    rows = [row for row in survey.of("train") if row.ids is not None]
    if not rows:
        return []  # no readable mask: `bad_files` says why
    pixels = sum(row.ids for row in rows)[list(labels.source_ids)]
    shown = [name for name, number in zip(labels.names, pixels, strict=True) if number]
    if len(shown) > 1:
        return []
    what = f"every labelled training pixel is {shown[0]}" if shown else "every training pixel is ignored"
    if not _are_black_and_white(rows):
        return [Finding(ERROR, f"nothing to learn: {what}", then="label at least two classes")]
    lines = ("the masks hold only the values 0 and 255, and 255 always means ignored",)
    return [Finding(ERROR, f"nothing to learn: {what}", lines, labels.remedies.get("values", PREPARE))]


def _are_black_and_white(rows: Iterable[Row]) -> bool:
    """Return whether the labels hold the values 0 and 255 and no other."""
    return {*np.flatnonzero(sum(row.ids for row in rows if row.ids is not None))} == BLACK_AND_WHITE


def rare_classes(names: Sequence[str], train: np.ndarray, validation: np.ndarray | None) -> list[Finding]:
    """Return warnings about few training images, and classes that few of them show, or only one of the two splits.

    train, validation  (N, C) pixels of each class in each image; None if there are no validation images to compare with
    """
    if not len(train):
        return []
    shown = dict(zip(names, (train > 0).sum(0).tolist(), strict=True))
    few = [f"{name} ({images})" for name, images in shown.items() if 0 < images < FEW_IMAGES < len(train)]
    missing = [name for name, images in shown.items() if not images]
    unseen = []
    only = []
    if validation is not None and len(validation):
        seen = dict(zip(names, (validation > 0).any(0).tolist(), strict=True))
        unseen = [name for name in names if shown[name] and not seen[name]]
        only = [name for name in missing if seen[name]]
        missing = [name for name in missing if not seen[name]]
    cases = (
        (missing, "no training image shows", "such a class is never predicted: label some of it, or remove it"),
        (few, f"fewer than {FEW_IMAGES} training images show", "label more (docs/augmentation.md has other help)"),
        (unseen, "no validation image shows", f"the IoU of such a class is not measured: {MORE_IMAGES}"),
        (only, "only validation images show", f"the IoU of such a class will be 0: {MORE_IMAGES}"),
    )
    found = [Finding(WARNING, f"{what} {', '.join(classes)}", (), then) for classes, what, then in cases if classes]
    if len(train) <= FEW_IMAGES:
        title = f"there {'is' if len(train) == 1 else 'are'} only {counted(len(train), 'training image')}"
        found.insert(0, Finding(WARNING, title, (), "a network can hardly learn from so few: label more"))
    return found


def two_levels_among_ids(survey: Survey) -> list[Finding]:
    """Return a warning if some masks hold only 0 and 255 while others hold ids: in the former, 255 may mark objects."""
    rows = [row for row in survey.rows if row.ids is not None]
    found = [row for row in rows if {*np.flatnonzero(row.ids)} == BLACK_AND_WHITE]
    if not found or len(found) == len(rows) or 0 not in survey.labels.source_ids:
        return []
    title = f"masks that hold only 0 and 255, which is ignored, beside masks of ids: {len(found)} of {len(rows)}"
    then = "if 255 marks objects there, write the id of their class in its place"
    return [Finding(WARNING, title, some([row.label for row in found]), then)]


def contrary_palettes(survey: Survey) -> list[Finding]:
    """Return a warning if an id has two colours in the palettes of masks, or the colour of another class.

    Then a tool has numbered the colours anew in each file, and the ids may mean nothing.
    """
    stated = _stated_colors(survey.labels)
    names = dict(zip(survey.labels.source_ids, survey.labels.names, strict=True))
    named = {color: names[value] for value, color in stated.items()}
    first, lines = {}, {}
    for row in survey.rows:
        for value, code in row.palette.items():
            if value == IGNORE_INDEX:  # the rest of many palettes is black
                continue
            color = (code >> 16, code >> 8 & 255, code & 255)
            before, label = first.setdefault(value, (color, row.label))
            if color in named and color != stated.get(value):
                lines.setdefault(value, f"id {value} has the colour of {named[color]}, {color}, in {row.label}")
            elif color != before:
                lines.setdefault(value, f"id {value} has the colour {before} in {label}, and {color} in {row.label}")
    if not lines:
        return []
    title = f"ids whose colours in the palettes of masks contradict each other or {CLASS_FILE}: {len(lines)}"
    then = f"if colours tell the classes there: {survey.labels.remedies.get('values', PREPARE)}"
    return [Finding(WARNING, title, some([lines[value] for value in sorted(lines)], "ids"), then)]


def _stated_colors(labels: LabelInfo) -> dict[int, Color]:
    """Return {id: colour} of the classes that state one in the classes.yaml after which a label set is named."""
    path = Path(labels.name)
    return stated_colors(path) if path.name == CLASS_FILE and path.is_file() else {}


def dark_images(survey: Survey) -> list[Finding]:
    """Return a warning about photos that are black to the eye, such as 12 bits in a file of 16."""
    rows = [row for row in survey.rows if row.look is not None and row.brightest < DARK]
    if not rows:
        return []
    title = f"images that are almost black: {len(rows)} of {len(survey.rows)}"
    lines = some([f"{row.image}: the brightest pixel is {row.brightest} of 255" for row in rows])
    then = "if a file of 16 bits holds only 10 to 14, scale its values to 0 to 65535: only the upper 8 bits are read"
    return [Finding(WARNING, title, lines, then)]


def stacks(survey: Survey) -> list[Finding]:
    """Return a warning about photos of several pages, such as the channels of a microscope, or of several frames."""
    rows = [row for row in survey.rows if row.pages > 1]
    if not rows:
        return []
    title = f"images of which only the first page or frame is read: {len(rows)} of {len(survey.rows)}"
    lines = some([f"{row.image}: it has {row.pages}" for row in rows])
    return [Finding(WARNING, title, lines, "if another page is meant, save it as a file of its own")]


def speckled_masks(survey: Survey) -> list[Finding]:
    """Return a warning about masks with many tiny regions, which resizing, compression or added noise leaves."""
    found = []
    for row in survey.rows:
        sizes = np.concatenate([np.zeros(0, np.int64), *row.regions.values()])
        specks = int((sizes <= TINY).sum())
        if specks >= MANY_SPECKS and specks >= MOSTLY_SPECKS * len(sizes):
            found.append((specks, row.label))
    if not found:
        return []
    found.sort(key=lambda speckled: -speckled[0])
    title = f"masks full of specks: {len(found)} of {sum(row.ids is not None for row in survey.rows)}"
    lines = some([f"{label}: {specks:,} regions of at most {TINY} pixels" for specks, label in found])
    then = "look at these masks enlarged, and export them without resizing, smoothing, JPEG or added noise"
    return [Finding(WARNING, title, lines, then)]


def turned_masks(survey: Survey) -> list[Finding]:
    """Return a warning about masks that are rotated with their photo although their size does not tell whether to."""
    rows = [row for row in survey.rows if row.is_turned]
    if not rows:
        return []
    then = "look at their overlays (python -m data_scripts.eda); if masks are wrong, save the photos without the tag"
    title = f"masks that are rotated with their photo, because only the photo has an orientation tag: {len(rows)}"
    return [Finding(WARNING, title, some([row.label for row in rows]), then)]


def duplicates(survey: Survey) -> list[Finding]:
    """Return findings about equal and similar images: of two splits, of one scene, and within the training images."""
    rows = {split: [row for row in survey.of(split) if row.content] for split in survey.splits}
    found = []
    for split, named in (("val", "validation"), ("test", "test")):
        if rows.get("train") and rows.get(split):
            found += known_images(rows["train"], rows[split], named)
    found += same_sequences(rows.get("train", []), rows.get("val", []))
    found += one_scene(rows.get("val", []))
    if sets := _equal_sets(rows.get("train", [])):
        lines = some([" = ".join(row.image for row in alike[:NAMED]) for alike in sets], "sets")
        extra = sum(len(alike) - 1 for alike in sets)
        found.append(Finding(NOTE, f"copies of training images among the training images: {extra}", lines))
    return found


def known_images(train: list[Row], others: list[Row], named: str) -> list[Finding]:
    """Return what to say about images of a split, `named` for the user, that equal or resemble a training image.

    It is an error if every validation image is a training image, because no score is then worth anything.
    """
    first = {row.content: row for row in reversed(train)}
    found = []
    equal = [(first[row.content], row) for row in others if row.content in first]
    if equal:
        title = f"{named} images that are training images too: {len(equal)} of {len(others)}"
        lines = some([f"{other.image} = {row.image}" for row, other in equal])
        all_known = named == "validation" and len(equal) == len(others)
        found.append(Finding(ERROR if all_known else WARNING, title, lines, f"remove them from one split: {WORTHLESS}"))
    rest = [row for row in others if row.content not in first]
    if not rest:
        return found
    closest, bits = nearest(np.array([row.look for row in rest]), np.array([row.look for row in train]))
    alike = sorted((int(n), i) for i, n in enumerate(bits) if n <= NEAR)
    if alike:
        title = f"{named} images that look like a training image: {len(alike)} of {len(others)}"
        lines = [f"{rest[i].image} ~ {train[closest[i]].image} ({n} of {BITS} bits differ)" for n, i in alike]
        found.append(Finding(WARNING, title, some(lines), f"keep pictures of one scene in one split: {WORTHLESS}"))
    return found


def same_sequences(train: list[Row], validation: list[Row]) -> list[Finding]:
    """Return a note if, by their names, validation images are frames of sequences that training images come from too.

    A sequence is what remains of two or more names without their last number. If all images belong to one, the names
    say nothing.
    """
    frames = {split: Counter(map(_sequence, rows)) for split, rows in (("train", train), ("val", validation))}
    shared = [name for name in frames["val"] if frames["val"][name] > 1 and frames["train"][name] > 1]
    if not shared or len({*frames["train"], *frames["val"]}) == 1:
        return []
    number = sum(frames["val"][name] for name in shared)
    title = "validation images that, by their names, continue a sequence of training images"
    lines = [
        f"{name}*: {frames['train'][name]} training and {frames['val'][name]} validation images" for name in shared
    ]
    then = "if these are videos, hold out whole ones instead (docs/data.md, Folds)"
    return [Finding(NOTE, f"{title}: {number} of {len(validation)}", some(lines, "sequences"), then)]


def _sequence(row: Row) -> str:
    return re.sub(r"\d+$", "", row.name)


def one_scene(validation: list[Row]) -> list[Finding]:
    """Return a warning if most validation images show one scene."""
    if len(validation) < FEW_IMAGES:
        return []
    groups = groups_of(np.array([row.look for row in validation]))
    largest = int(np.bincount(groups).max())
    if largest <= len(validation) / 2:
        return []
    title = f"validation images that show one scene: {largest} of {len(validation)} look alike"
    return [Finding(WARNING, title, then="a score on them measures that scene: choose images of several places")]


def _equal_sets(rows: Iterable[Row]) -> list[list[Row]]:
    """Return lists of two or more rows whose image files are equal."""
    sets = defaultdict(list)
    for row in rows:
        sets[row.content].append(row)
    return [alike for alike in sets.values() if len(alike) > 1]


def contradictions(survey: Survey) -> list[Finding]:
    """Return a warning if equal images have different masks."""
    sets = _equal_sets(row for row in survey.rows if row.content and row.marking and not row.faults)
    wrong = [alike for alike in sets if len({row.marking for row in alike}) > 1]
    if not wrong:
        return []
    lines = some([f"{alike[0].label} and {alike[1].label}" for alike in wrong])
    return [Finding(WARNING, f"equal images with different masks: {len(wrong)}", lines, "keep the right mask only")]


def ignored_masks(survey: Survey) -> list[Finding]:
    """Return a note on masks in which every pixel is ignored."""
    strange = ~survey.labels.known_ids
    rows = [row for row in survey.rows if row.ids is not None and not row.regions and not row.ids[strange].any()]
    if not rows:
        return []
    then = "nothing is learned from them: label them, or remove the pairs"
    return [Finding(NOTE, f"masks in which every pixel is ignored: {len(rows)}", some([r.label for r in rows]), then)]


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def some(lines: Sequence[str], noun: str = "files") -> tuple[str, ...]:
    """Return the first `NAMED` lines, and how many more there are."""
    more = len(lines) - NAMED
    return (*lines[:NAMED], *([f"... and {more:,} more {noun if more > 1 else noun[:-1]}"] if more > 0 else []))
