"""Label files in colours: every pixel gets the id of its colour, and an unknown colour is named."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from data_scripts.file_checks import check_split
from data_scripts.labels import CAMVID, DataError
from data_scripts.pixels import Pixels, build_decoded
from data_scripts.reader import ids_of_colors, read_label
from data_scripts.sources import from_files

COLORS = {(128, 0, 0): 1, (128, 128, 128): 0, (0, 0, 0): 11, (0, 128, 192): 10, (255, 255, 255): 4}
LABELS = replace(CAMVID, colors={"": COLORS})


def painted(shape=(40, 60), seed=0):
    """Return random ids (H, W) of `COLORS`, in patches and single pixels, and the same in colours (H, W, 3)."""
    random = np.random.default_rng(seed)
    colors, ids = np.array(list(COLORS), np.uint8), np.array(list(COLORS.values()), np.uint8)
    patches = random.integers(0, len(COLORS), (-(-shape[0] // 4), -(-shape[1] // 4)))
    chosen = np.kron(patches, np.ones((4, 4), int))[: shape[0], : shape[1]]
    single = random.random(shape) < 0.1
    chosen[single] = random.integers(0, len(COLORS), single.sum())
    return ids[chosen], colors[chosen]


def as_palette(rgb):
    """Return a palette image in which the colours of `rgb` have indices that are no ids."""
    colors = [*map(tuple, np.unique(rgb.reshape(-1, 3), axis=0).tolist())]
    indices = np.zeros(rgb.shape[:2], np.uint8)
    for number, color in enumerate(colors):
        indices[(rgb == color).all(-1)] = number + 40
    image = Image.fromarray(indices, "P")
    image.putpalette([0] * 120 + [value for color in colors for value in color])
    return image


SAVED = {
    "rgb.png": lambda rgb: Image.fromarray(rgb),
    "transparent.png": lambda rgb: Image.fromarray(np.dstack([rgb, np.full(rgb.shape[:2], 7, np.uint8)])),
    "palette.png": as_palette,
    "rgb.bmp": lambda rgb: Image.fromarray(rgb),
    "rgb.tif": lambda rgb: Image.fromarray(rgb),
}


@pytest.mark.parametrize("name", SAVED)
@pytest.mark.parametrize("shape", [(40, 60), (1, 1), (3, 257)])
def test_every_pixel_gets_the_id_of_its_colour(tmp_path, name, shape):
    ids, rgb = painted(shape)
    SAVED[name](rgb).save(tmp_path / name)
    found = read_label(str(tmp_path / name), None, COLORS)
    assert found.dtype == np.uint8 and np.array_equal(found, ids)


def test_an_image_of_one_colour():
    rgb = np.full((5, 7, 3), (0, 128, 192), np.uint8)
    assert (ids_of_colors(rgb, COLORS, "x") == 10).all()


def test_the_most_frequent_unknown_colour_is_named(tmp_path):
    _, rgb = painted()
    rgb[3, 5:8], rgb[0, 0] = (1, 2, 3), (128, 0, 1)
    Image.fromarray(rgb).save(tmp_path / "a_L.png")
    with pytest.raises(
        DataError, match=r"a_L.png holds colour 1 2 3 in 3 pixels, which no class has, and 1 other unknown colours$"
    ):
        read_label(str(tmp_path / "a_L.png"), None, COLORS)
    rgb[0, 0] = (0, 0, 0)
    with pytest.raises(DataError, match=r"^mask x holds colour 1 2 3 in 3 pixels, which no class has$"):
        ids_of_colors(rgb, COLORS, "x")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_in_colours_is_turned_as_its_photo(tmp_path, orientation):
    ids, rgb = painted((24, 36))
    tags = Image.Exif()
    tags[0x0112] = orientation
    Image.fromarray(rgb).save(tmp_path / "photo.png", exif=tags)
    Image.fromarray(rgb).save(tmp_path / "mask.png")
    Image.fromarray(ids).save(tmp_path / "ids.png")
    in_colours = read_label(str(tmp_path / "mask.png"), str(tmp_path / "photo.png"), COLORS)
    assert np.array_equal(in_colours, read_label(str(tmp_path / "ids.png"), str(tmp_path / "photo.png")))


@pytest.mark.parametrize(
    ("name", "image", "message"),
    [
        ("a.png", Image.new("L", (4, 4)), "is a L image: its classes are colours, so it must be RGB"),
        ("a.png", Image.new("I;16", (4, 4)), "is a I;16 image"),
        ("a.jpg", Image.new("RGB", (4, 4)), "is a JPEG, which changes colours: save it as PNG"),
    ],
)
def test_masks_that_hold_no_colours_are_refused(tmp_path, name, image, message):
    image.save(tmp_path / name)
    with pytest.raises(DataError, match=message):
        read_label(str(tmp_path / name), None, COLORS)


def split_of(folder, names=("one", "two")):
    """Write images and masks, each mask into a folder of its own, and return the split and the ids."""
    rows, ids = [], []
    for seed, name in enumerate(names):
        found, rgb = painted(seed=seed)
        (folder / name).mkdir()
        Image.fromarray(rgb).save(folder / f"{name}.png")
        Image.fromarray(rgb).save(folder / name / "label.png")
        rows.append((name, folder / f"{name}.png", folder / name / "label.png", None))
        ids.append(found)
    return from_files(rows, "here"), ids


def test_a_table_of_colours_holds_for_its_folder(tmp_path):
    split, ids = split_of(tmp_path)
    swapped = {**COLORS, (128, 0, 0): 0, (128, 128, 128): 1}
    labels = replace(CAMVID, colors={str(tmp_path / "one"): COLORS, str(tmp_path / "two"): swapped})
    pixels = Pixels(split, labels)
    assert np.array_equal(pixels.label(0), labels.train_ids[ids[0]])
    expected = np.choose(ids[1], [1, 0, *range(2, 12)]).astype(np.uint8)
    assert np.array_equal(pixels.label(1), labels.train_ids[expected])
    counts, _ = check_split(split, labels, "train", progress=False)
    assert counts[1].tolist() == [(expected == i).sum() for i in range(11)]


def test_decoded_labels_are_those_of_the_files_and_built_again_for_other_colours(tmp_path):
    split, ids = split_of(tmp_path)
    first, _ = build_decoded(split, LABELS, None, "train", False)
    assert np.array_equal(Pixels(split, LABELS, None, first).label(1), LABELS.train_ids[ids[1]])
    other = replace(CAMVID, colors={"": {**COLORS, (255, 255, 255): 7}})
    second, _ = build_decoded(split, other, None, "train", False)
    assert second != first
    assert np.array_equal(Pixels(split, other, None, second).label(1) == 7, ids[1] == 4)


def test_the_check_names_the_file_and_the_colour(tmp_path):
    split, _ = split_of(tmp_path)
    rgb = np.full((40, 60, 3), (9, 9, 9), np.uint8)
    Image.fromarray(rgb).save(tmp_path / "two" / "label.png")
    with pytest.raises(DataError, match=r"mask .*two/label.png holds colour 9 9 9 in 2400 pixels, which no class has"):
        check_split(split, LABELS, "train", progress=False)


def test_label_files_of_ids_are_read_as_before():
    assert CAMVID.colors_of("a/b.png") is None and CAMVID.cache_key == (CAMVID.source_ids,)
    assert LABELS.colors_of({"path": "a/b.png", "bytes": None}) is COLORS
    assert LABELS.colors_of({"path": None, "bytes": b""}) is COLORS
