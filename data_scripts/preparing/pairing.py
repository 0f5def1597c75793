"""Tell photos from masks by the names of folders and files, and match them."""

import re
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..labels import DataError
from ..listing import name_key
from ..reader import LABEL_MODES, open_image, packed_colors, read_image
from .found import IMAGE_SUFFIXES, Found, some, split_of, words
from .other_tools import unknown_files, unread_annotations

PHOTO_WORDS = set("image images img imgs photo photos picture pictures jpegimages leftimg8bit rgb input inputs".split())
MASK_WORDS = set(
    """
    mask masks label labels annotation annotations annot annots ann anns gt gts gtfine gtcoarse groundtruth truth
    segmentationclass segmentationclassraw semantic segmentation segmentations seg segs target targets labelids
    classsegmentation msk indexmasks
    """.split()
)
TOPICS = {"semantic", "segmentation"}  # may also name a whole data set
# Folders and names of pictures that stand beside masks and are none.
OTHER_WORDS = set(
    """
    instance instances segmentationobject overlay overlays viz visualization visualizations
    segmentationclassvisualization prediction predictions preview previews depth disparity instanceids instancetrainids
    instanceid panoptic
    """.split()
)
BESIDE_IDS = {"color", "colour", "colors", "rgb", "labeltrainids", "trainids"}  # ... if there are class ids as well
MASK_END = re.compile(
    r"[ _.-](cp_masks|masks?|gt|labels?|(gt(fine|coarse)_)?label(train)?ids|seg|segmentation|annotation|groundtruth"
    r"|target|l|m|p)$",  # Cellpose writes NAME_cp_masks, CamVid has NAME_L and, from fast.ai, NAME_P
    re.IGNORECASE,
)
WHOLE_MASK = re.compile(r"^(mask|label|gt|seg|segmentation|annotation|target)$", re.IGNORECASE)
WHOLE_PHOTO = re.compile(r"^(image|img|photo|rgb)$", re.IGNORECASE)
MASK_START = re.compile(r"^(mask|label|gt|seg|annotation)[ _.-]", re.IGNORECASE)
PHOTO_END = re.compile(r"[ _.-](leftimg8bit|image|img|photo|rgb|sat)$", re.IGNORECASE)
PHOTO_START = re.compile(r"^(image|img|photo|rgb)[ _.-]", re.IGNORECASE)
LOOKED_AT = 3  # images of a folder whose content is looked at, where names do not tell
FEW_COLORS = 64  # a mask has no more


@dataclass(frozen=True)
class Pair:
    """Relative paths of a photo and its mask. `mask` None: a test photo without one."""

    photo: Path
    mask: Path | None
    split: str | None


@dataclass(frozen=True)
class Pairs:
    """The photos of a source with their masks.

    pairs        in the order of the photos
    how          what told photos and masks apart, for the report
    passed_over  {reason: files}
    guesses      what the user should check, one line each
    """

    pairs: list[Pair]
    how: str
    passed_over: dict[str, list[Path]]
    guesses: list[str]


@dataclass(frozen=True)
class _Place:
    """What the names of an image's folders say. `rest` are the folders that name neither a role nor a split."""

    role: str | None
    split: str | None
    rest: tuple[str, ...]

    @property
    def folder(self) -> tuple[str | None, tuple[str, ...]]:
        """Return what a photo and its mask have in common."""
        return self.split, self.rest


def pair(found: Found) -> Pairs:
    """Match the photos and masks of a source. Raises `DataError` if there are none, or if a photo has two masks."""
    places = {path: _place(path) for path in found.images}
    if {place.role for place in places.values()} <= {"mask", "other"}:  # segmentation/images, segmentation/masks
        places = {path: _place(path, MASK_WORDS - TOPICS) for path in found.images}
    places = _without_mixed_folders(places, found.root)
    others = [path for path, place in places.items() if place.role == "other"]
    images = [path for path in found.images if places[path].role != "other"]
    photos, with_pictures, how = _roles(images, places, found.root)
    masks = _without_color_pictures(with_pictures, photos)
    if not photos or not masks:
        what = "photo" if not photos else "mask"
        unread = unread_annotations(found)
        raise DataError(
            f"no {what} found in {found.root}, which has {len(found.images)} images ({some(found.images, 2)}): "
            f"{unread or _remedy(photos, masks, places) + unknown_files(found)}"
        )
    pairs, used = _match(photos, masks, places)
    matched = {pair.photo for pair in pairs}
    alone = [path for path in photos if path not in matched]
    if not any(pair.split == "test" for pair in pairs):  # a test split without labels; it has labels for all or none
        pairs += [Pair(path, None, "test") for path in alone if places[path].split == "test"]
        alone = [path for path in alone if places[path].split != "test"]
    if not any(pair.mask for pair in pairs):
        raise DataError(
            f"no mask in {found.root} has the name of a photo: photos are {some(photos, 2)}, masks {some(masks, 2)}; "
            f"give both the same name{_merge(photos, masks)}"
        )
    unused = sorted({*images} - {*photos} - {*masks})
    left = {
        "photos without a mask": alone,
        "masks without a photo": [path for path in masks if path not in used],
        "images that are neither photo nor mask": [*others, *unused],
    }
    pairs.sort(key=lambda pair: pair.photo)
    return Pairs(
        pairs,
        how,
        {reason: sorted(paths) for reason, paths in left.items() if paths},
        _other_masks([path for path in unused if places[path].role is None], masks, found.root),
    )


def _remedy(photos: list[Path], masks: list[Path], places: dict[Path, _Place]) -> str:
    in_folders = [path for path in masks if places[path].role == "mask"]
    if in_folders and not photos:
        return (
            f"masks are in {some(_folders(in_folders))}; put their photos, of the same names, into a folder images "
            "beside it (CVAT: export with 'Save images')"
        )
    return (
        "put photos into a folder images and masks of the same names into a folder masks, or name masks NAME_mask.png"
    )


def _merge(photos: list[Path], masks: list[Path]) -> str:
    return ", and merge the masks of a photo into one" if len(masks) > len(photos) else ""


def _other_masks(unused: list[Path], masks: list[Path], root: Path) -> list[str]:
    """Return a line on folders without a telling name that look as if they held the masks, if there are any."""
    folders = _folders_of_masks(unused, root)
    if 2 * sum(path.parent in folders for path in unused) < len(masks):
        return []
    return [
        f"images in {some(sorted(folders))} look like masks too, but masks are taken from {some(_folders(masks))}, "
        "because of the names: if that is wrong, take these out of SOURCE, and rename the former to masks"
    ]


def _place(path: Path, mask_words: set[str] = MASK_WORDS) -> _Place:
    role = None
    rest = []
    for part in path.parent.parts:
        telling = {*words(part)}
        if OTHER_WORDS & telling or {"semantic", "rgb"} <= telling:
            role = "other"
        elif mask_words & telling or any(word.endswith("annot") for word in telling):  # CamVid has trainannot
            role = role or "mask"
        elif PHOTO_WORDS & telling:
            role = role or "photo"
        elif split_of(Path(part)) is None:
            rest.append(part)
    return _Place(role, split_of(path.parent), tuple(rest))


def _without_mixed_folders(places: dict[Path, _Place], root: Path) -> dict[Path, _Place]:
    """Return the places, where the name of a folder says nothing if photos lie in it beside their masks.

    Either a photo and its mask have the folder for themselves (img.png, label.png), or masks are called NAME_mask.
    """
    stems = {(path.parent, name_key(stem_of(path))): path for path in places}
    mixed = set()
    own = {path.parent for path in places if WHOLE_PHOTO.search(stem_of(path))}
    own &= {path.parent for path in places if WHOLE_MASK.search(stem_of(path))}
    for path, place in places.items():
        photo = stems.get((path.parent, name_key(MASK_END.sub("", stem_of(path)))), path)
        if place.role == "mask" and photo != path and path.parent not in mixed:
            if not _looks_like_mask(root / photo):
                mixed.add(path.parent)

    def corrected(path: Path, place: _Place) -> _Place:
        if path.parent in own:
            return _Place(None, place.split, path.parent.parts)
        return replace(place, role=None) if path.parent in mixed else place

    return {path: corrected(path, place) for path, place in places.items()}


def _roles(images: list[Path], places: dict[Path, _Place], root: Path) -> tuple[list[Path], list[Path], str]:
    """Return the photos, the masks, and what told them apart: names of folders, names of files, or their content."""
    in_folders = [path for path in images if places[path].role == "mask"]
    if in_folders:
        photos = [path for path in images if places[path].role == "photo"] or _others(images, in_folders)
        return photos, in_folders, f"photos are in {some(_folders(photos))}, masks in {some(_folders(in_folders))}"
    named = [path for path in images if MASK_END.search(stem_of(path))]
    if len(named) == len(images):
        return [], images, ""
    own = {path.parent for path in images if WHOLE_PHOTO.search(stem_of(path))}
    if masks := [path for path in images if WHOLE_MASK.search(stem_of(path)) and path.parent in own]:
        return _others(images, masks), masks, f"each photo and its {masks[0].name} have a folder of their own"
    stems = {(path.parent, name_key(stem)) for path in images for stem in (stem_of(path), _bare_photo(path))}
    for form, how in ((MASK_END, "NAME{}"), (MASK_START, "{}NAME")):
        named = [path for path in images if form.search(stem_of(path))]
        if beside := [path for path in named if (path.parent, name_key(form.sub("", stem_of(path)))) in stems]:
            how = how.format(form.search(stem_of(beside[0]))[0])
            return _others(images, beside), beside, f"masks lie beside the photos, as {how}"
    by_stem = defaultdict(list)
    for path in images:
        by_stem[path.parent, name_key(stem_of(path))].append(path)
    if twins := [group for group in by_stem.values() if len(group) == 2]:
        masks = [mask for mask in (_the_mask(group, root) for group in twins) if mask]
        return _others(images, masks), masks, "masks lie beside the photos, with the same name"
    return _by_content(images, root)


def _others(images: list[Path], masks: list[Path]) -> list[Path]:
    known = {*masks}
    return [path for path in images if path not in known]


def _by_content(images: list[Path], root: Path) -> tuple[list[Path], list[Path], str]:
    """Tell folders of masks by their pixels, where neither folders nor files have telling names."""
    folders = {path.parent for path in images}
    of_masks = _folders_of_masks(images, root) if len(folders) > 1 else set()
    masks = [path for path in images if path.parent in of_masks]
    how = f"by their content, masks are in {some(sorted(of_masks))}"
    return [path for path in images if path.parent not in of_masks], masks, how


def _folders_of_masks(images: list[Path], root: Path) -> set[Path]:
    """Return the folders whose first images look like masks."""
    folders = defaultdict(list)
    for path in images:
        folders[path.parent].append(path)
    return {
        folder for folder, paths in folders.items() if all(_looks_like_mask(root / path) for path in paths[:LOOKED_AT])
    }


def _the_mask(twins: list[Path], root: Path) -> Path | None:
    """Return the one of two images that looks like a mask, or None."""
    found = [path for path in twins if _looks_like_mask(root / path)]
    return found[0] if len(found) == 1 else None


def _looks_like_mask(path: Path) -> bool:
    try:
        image = open_image(str(path))
        if image.mode in ("P", "1") and image.format != "GIF":
            return True
        if image.format in ("JPEG", "MPO") and image.mode not in LABEL_MODES:
            return False
        pixels = read_image(str(path))[::2, ::2]
    except DataError:
        return False  # it is reported when it is read
    return len(np.unique(packed_colors(pixels))) <= FEW_COLORS


def _match(photos: list[Path], masks: list[Path], places: dict[Path, _Place]) -> tuple[list[Pair], set[Path]]:
    """Match by split, folders and stem, first exactly, then without what only one of them has in its name.

    A photo and a mask of other folders match if none of their neighbours matches within its own folder. Case and
    Unicode form do not count. Raises `DataError` if a photo has several masks, or a mask several photos.
    """
    exact, stripped, anywhere = defaultdict(list), defaultdict(list), defaultdict(list)
    for mask in masks:
        folder = places[mask].folder
        bare = name_key(_bare_mask(mask))
        exact[folder, name_key(stem_of(mask))].append(mask)
        stripped[folder, bare].append(mask)
        anywhere[bare].append(mask)
    names = {photo: (name_key(stem_of(photo)), name_key(_bare_photo(photo))) for photo in photos}
    found = {}
    for photo, (stem, bare) in names.items():
        same, other = (places[photo].folder, stem), (places[photo].folder, bare)
        found[photo] = exact[same] or stripped[same] or stripped[other] or exact[other]
    complete = {places[photo].folder for photo in photos if found[photo]}
    pairs = []
    used = {}
    for photo, (stem, bare) in names.items():
        candidates, place = found[photo], places[photo]
        if not candidates and place.folder not in complete:
            elsewhere = anywhere[stem] or anywhere[bare]
            candidates = [mask for mask in elsewhere if _may_be_of(place, places[mask], complete)]
            if len(elsewhere) > len(candidates) == 1:  # the name alone tells too little
                candidates = []
        if len(candidates) > 1:
            raise DataError(
                f"photo {photo} has several masks, {some(candidates)}: keep one of them in the source, or merge them "
                "if each holds one class (docs/prepare.md has a script)"
            )
        if candidates:
            pairs.append(Pair(photo, candidates[0], place.split or places[candidates[0]].split))
            if (other := used.setdefault(candidates[0], photo)) != photo:
                raise DataError(
                    f"photos {other} and {photo} have the same mask, {candidates[0]}: keep one of them in the source, "
                    "or put each mask into a folder of the same name as its photo's"
                )
    return pairs, {*used}


def _may_be_of(photo: _Place, mask: _Place, complete: set[tuple]) -> bool:
    """Return whether a mask may belong to a photo of another folder. The folders in `complete` hold both."""
    return mask.folder not in complete and (None in (photo.split, mask.split) or photo.split == mask.split)


def _without_color_pictures(masks: list[Path], photos: list[Path]) -> list[Path]:
    """Leave out pictures that stand beside masks, such as overlays, and colours and training ids beside class ids.

    Their names tell them, unless a photo has such a name too.
    """
    beside_ids = any(stem_of(path).lower().endswith("labelids") for path in masks)
    telling = OTHER_WORDS | (BESIDE_IDS if beside_ids else set())
    stems = {name_key(stem_of(path)) for path in photos}
    return [
        path
        for path in masks
        if not telling & {*words(path.stem)} or stems & {name_key(stem_of(path)), name_key(_bare_mask(path))}
    ]


def stem_of(path: Path) -> str:
    """Return a file's name without its suffixes, also `a` for `a.jpg.png`."""
    name = path.name
    while Path(name).suffix.lower() in IMAGE_SUFFIXES:
        name = Path(name).stem
    return name


def _bare_photo(path: Path) -> str:
    return _stripped(path, PHOTO_START, PHOTO_END, WHOLE_PHOTO)


def _bare_mask(path: Path) -> str:
    return _stripped(path, MASK_START, MASK_END, WHOLE_MASK)


def _stripped(path: Path, start: re.Pattern, end: re.Pattern, whole: re.Pattern) -> str:
    return whole.sub("", start.sub("", end.sub("", stem_of(path))))


def _folders(paths: list[Path]) -> list[str]:
    return sorted({path.parent.as_posix() for path in paths})
