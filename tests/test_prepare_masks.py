"""Mask files of every encoding and arrangement become index masks, pixel by pixel; wrong ones are one line each."""

import re
import textwrap
from unicodedata import normalize

import cv2
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from preparing import REAL, classes, colors, files, halves, ids, ignored, mask, photo, run, save

RED, GREEN, BLUE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def source(tmp_path):
    return tmp_path / "my source"


def paint(array: np.ndarray, *palette) -> np.ndarray:
    return np.array(palette, np.uint8)[array]


# Encodings. Each test writes images/a.png and masks/a.png, and a second pair where it takes several masks to tell.


def one_pair(source, array, name="a", suffix=".png", **options):
    photo(source / "images" / f"{name}.png", *array.shape[:2])
    save(source / "masks" / f"{name}{suffix}", array, **options)


def test_ids_stay_as_they_are(source, out, capsys):
    one_pair(source, halves(0, 7))
    one_pair(source, halves(7, 3), "b")
    assert run(source, out) == 0
    assert np.array_equal(mask(out, "a"), halves(0, 7)) and np.array_equal(mask(out, "b"), halves(7, 3))
    assert classes(out) == {"background": 0, "class_3": 3, "class_7": 7} and ignored(out) == [255]
    report = capsys.readouterr().out
    assert f"Please check (correct {out}/classes.yaml):" in report  # no line names a flag
    assert "do not say what their ids mean" in report and "50.00%" in report


def test_255_among_ids_is_ignored(source, out, capsys):
    array = halves(0, 1)
    array[0, :3] = 255
    one_pair(source, array)
    assert run(source, out) == 0
    assert np.array_equal(mask(out, "a"), array) and classes(out) == {"background": 0, "foreground": 1}
    assert "255 marks pixels of no class" in capsys.readouterr().out


def test_masks_of_0_and_255_among_those_of_ids_are_counted(source, out, capsys):
    """Two exports in one folder: 255 marks the objects of one of them, and would be ignored without a word."""
    one_pair(source, halves(0, 1))
    one_pair(source, halves(0, 255), "b")
    one_pair(source, halves(0, 255), "c")
    assert run(source, out) == 0 and ignored(out) == [255]
    report = capsys.readouterr().out
    assert f"2 masks hold only 0 and 255 (the first is {source}/masks/b.png), and 255 is ignored" in report


@pytest.mark.parametrize("white", [255, 254])
def test_0_and_255_become_0_and_1(source, out, white, capsys):
    one_pair(source, halves(0, white))
    assert run(source, out) == 0
    assert np.array_equal(mask(out, "a"), halves(0, 1)) and classes(out) == {"background": 0, "foreground": 1}
    assert f"{white} became 1 (foreground)" in capsys.readouterr().out


def test_an_object_of_single_pixels_is_not_lost(source, out):
    array = np.zeros((9, 9), np.uint8)
    array[::2, 4] = 255
    one_pair(source, array)
    assert run(source, out) == 0 and np.array_equal(mask(out, "a"), array // 255)


def test_even_grey_levels_are_numbered(source, out):
    array = ids([0, 0, 128, 128], [255, 255, 255, 255])
    one_pair(source, array)
    assert run(source, out) == 0
    assert np.array_equal(mask(out, "a"), ids([0, 0, 1, 1], [2, 2, 2, 2]))
    assert classes(out) == {"background": 0, "level_128": 1, "level_255": 2}


def test_other_grey_values_are_ids_unless_told(source, out):
    array = ids([0, 0, 100, 100], [255, 255, 255, 255])
    one_pair(source, array)
    assert run(source, out) == 0 and np.array_equal(mask(out, "a"), array)
    assert run(source, out, "--mask_values", "levels", "--overwrite") == 0
    assert np.array_equal(mask(out, "a"), ids([0, 0, 1, 1], [2, 2, 2, 2]))


def test_1_bit_masks(source, out):
    array = halves(0, 1)
    photo(source / "images" / "a.png")
    (source / "masks").mkdir()
    Image.fromarray(array.astype(bool)).save(source / "masks" / "a.png")
    assert run(source, out) == 0 and np.array_equal(mask(out, "a"), array)


def test_16_bit_ids_are_numbered_anew(source, out, capsys):
    array = halves(0, 1).astype(np.uint16) * 1000
    array[0, 0] = 300
    one_pair(source, array)
    (source / "id2label.json").write_text('{"0": "nothing", "300": "tree", "1000": "house"}')
    assert run(source, out) == 0
    expected = halves(0, 2)
    expected[0, 0] = 1
    assert np.array_equal(mask(out, "a"), expected) and classes(out) == {"nothing": 0, "tree": 1, "house": 2}
    assert "300 became 1, 1000 became 2" in capsys.readouterr().out


def test_numbers_of_objects_become_one_class(source, out, capsys):
    """Cellpose, ImageJ and others number cells; 255 is one too."""
    cells = np.zeros((6, 8), np.uint16)
    cells[:4] = np.arange(32).reshape(4, 8) * 40
    cells[0, 3] = 255
    one_pair(source, cells)
    assert run(source, out) == 0
    assert "there are 32 ids: if they number objects, such as cells, run again with --mask_values objects" in (
        capsys.readouterr().out
    )
    assert run(source, out, "--mask_values", "objects", "--overwrite") == 0
    assert np.array_equal(mask(out, "a"), np.minimum(cells, 1)) and classes(out) == {"background": 0, "object": 1}
    assert "masks number objects: 31 different values became one class" in capsys.readouterr().out


def test_objects_in_colours_and_without_a_background(source, out, capsys):
    painted = paint(halves(0, 1), (0, 0, 0), (9, 200, 30))
    painted[0, -1] = (250, 1, 2)
    one_pair(source, painted)
    (source / "classes.txt").write_text("nothing here\ncell\n")
    assert run(source, out, "--mask_values", "objects") == 0
    assert np.array_equal(mask(out, "a"), halves(0, 1)) and classes(out) == {"nothing here": 0, "cell": 1}
    save(source / "masks" / "a.png", halves(3, 7))
    assert run(source, out, "--mask_values", "objects", "--overwrite") != 0
    assert "--mask_values objects: the masks hold no background: no pixel is 0" in capsys.readouterr().err


def test_16_bit_levels(source, out):
    one_pair(source, halves(0, 1).astype(np.uint16) * 65535)
    assert run(source, out, "--mask_values", "levels") == 0
    assert np.array_equal(mask(out, "a"), halves(0, 1)) and classes(out) == {"background": 0, "foreground": 1}


def test_16_bit_ids_that_fit_stay(source, out):
    one_pair(source, halves(3, 200).astype(np.uint16))
    assert run(source, out) == 0 and np.array_equal(mask(out, "a"), halves(3, 200))


def test_more_than_254_ids_are_refused(source, out, capsys):
    one_pair(source, np.arange(400, dtype=np.uint16).reshape(20, 20))
    assert run(source, out) == 1 and not out.exists()
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "400 different values" in error and "--mask_values objects" in error


def with_palette(array: np.ndarray, *palette) -> Image.Image:
    image = Image.fromarray(array).convert("P")
    image.putpalette([value for color in palette for value in color])
    return image


def test_a_palette_gives_ids_and_colours(source, out):
    photo(source / "images" / "a.png")
    (source / "masks").mkdir()
    array = halves(0, 2)
    array[0] = 255
    image = with_palette(array, BLACK, RED, GREEN, *[BLUE] * 253)
    image.save(source / "masks" / "a.png")
    assert run(source, out) == 0
    assert np.array_equal(mask(out, "a"), array)
    assert colors(out) == {"background": [0, 0, 0], "class_2": [0, 255, 0]}


def test_many_grey_masks_before_those_of_short_palettes(source, out):
    for number in range(20):
        one_pair(source, halves(0, 2), f"grey{number:02}")
        one_pair(source, halves(0, 1), f"palette{number:02}")
        with_palette(halves(0, 1), BLACK, RED).save(source / "masks" / f"palette{number:02}.png")
    assert run(source, out) == 0 and [*classes(out).values()] == [0, 1, 2]
    assert np.array_equal(mask(out, "grey03"), halves(0, 2)) and np.array_equal(mask(out, "palette03"), halves(0, 1))


def test_palettes_that_differ_are_colours(source, out, capsys):
    for name, palette in (("a", (BLACK, RED)), ("b", (RED, BLACK))):
        photo(source / "images" / f"{name}.png")
        (source / "masks").mkdir(exist_ok=True)
        with_palette(halves(0, 1), *palette).save(source / "masks" / f"{name}.png")
    assert run(source, out) == 0
    assert np.array_equal(mask(out, "a"), halves(0, 1)) and np.array_equal(mask(out, "b"), halves(1, 0))
    assert classes(out) == {"background": 0, "color_255_0_0": 1}
    assert "masks hold colours" in capsys.readouterr().out


CAR_FIRST = "background:0,0,0::\ncar:255,0,0::\nroad:0,255,0::\n"
CAR_FIRST_YAML = (
    "classes:\n  - {name: background, id: 0, color: [0, 0, 0]}\n  - {name: car, id: 1, color: [255, 0, 0]}\n"
    "  - {name: road, id: 2, color: [0, 255, 0]}\n"
)


@pytest.mark.parametrize(("name", "content"), [("labelmap.txt", CAR_FIRST), ("classes.yaml", CAR_FIRST_YAML)])
def test_a_palette_in_another_order_than_the_list_is_colours(source, out, name, content, capsys):
    array = ids([0, 0, 1, 1], [2, 2, 2, 2])
    for pair in "ab":
        one_pair(source, array, pair)
        with_palette(array, GREEN, BLACK, RED).save(source / "masks" / f"{pair}.png")
    (source / name).write_text(content)
    assert run(source, out) == 0 and classes(out) == {"background": 0, "car": 1, "road": 2}
    assert np.array_equal(mask(out, "a"), ids([2, 2, 0, 0], [1, 1, 1, 1]))
    report = capsys.readouterr().out
    assert f"index 0 of the palette has the colour of road in {source}/{name}, so colours count, not indices" in report
    assert run(source, out, "--mask_values", "ids", "--overwrite") == 0 and np.array_equal(mask(out, "a"), array)


def test_the_black_rest_of_a_palette_is_no_class(source, out):
    array = ids([0, 0, 1, 1], [2, 2, 255, 255])
    one_pair(source, array)
    with_palette(array, BLACK, RED, GREEN, *[BLACK] * 253).save(source / "masks" / "a.png")
    (source / "labelmap.txt").write_text(CAR_FIRST)
    assert run(source, out) == 0 and np.array_equal(mask(out, "a"), array)


@pytest.mark.parametrize("palette", [(BLACK, RED, GREEN), (BLACK, BLUE, GREEN), (GREEN, RED, BLUE)])
def test_a_palette_in_the_order_of_the_list_or_with_other_colours_is_ids(source, out, palette, capsys):
    array = ids([0, 0, 1, 1], [2, 2, 255, 255])
    one_pair(source, array)
    with_palette(array, *palette, *[(9, 9, 9)] * 253).save(source / "masks" / "a.png")
    (source / "labelmap.txt").write_text(f"{CAR_FIRST}void:9,9,9::\n")
    assert run(source, out) == 0 and np.array_equal(mask(out, "a"), array)
    assert "masks hold indices into a palette" in capsys.readouterr().out


def test_colours_without_a_list(source, out, capsys):
    one_pair(source, paint(halves(0, 1), BLACK, (7, 8, 9)))
    one_pair(source, paint(halves(1, 0), BLACK, (7, 8, 10)), "b")
    assert run(source, out) == 0
    assert np.array_equal(mask(out, "a"), halves(0, 1)) and np.array_equal(mask(out, "b"), halves(2, 0))
    assert colors(out) == {"background": [0, 0, 0], "color_7_8_9": [7, 8, 9], "color_7_8_10": [7, 8, 10]}
    assert "black is the background" in capsys.readouterr().out


def test_ids_among_colours_are_doubted(source, out, capsys):
    one_pair(source, paint(halves(0, 1), BLACK, RED))
    one_pair(source, halves(1, 2), "b")
    assert run(source, out) == 0
    assert [*classes(out)] == ["background", "color_1_1_1", "color_2_2_2", "color_255_0_0"]
    assert (
        "dark greys became classes: 1, 2; if these are ids, masks of two exports are mixed" in capsys.readouterr().out
    )


def test_colours_without_black_have_no_background(source, out):
    one_pair(source, paint(halves(0, 1), RED, GREEN))
    assert run(source, out) == 0
    assert classes(out) == {"color_0_255_0": 1, "color_255_0_0": 2} and np.array_equal(mask(out, "a"), halves(2, 1))


def test_grey_in_rgb_files_is_grey(source, out):
    one_pair(source, np.repeat(halves(0, 3)[..., None], 3, axis=2))
    assert run(source, out) == 0 and np.array_equal(mask(out, "a"), halves(0, 3))


def test_transparent_pixels_are_black(source, out, capsys):
    array = np.concatenate([paint(halves(0, 1), RED, GREEN), np.full((6, 8, 1), 255, np.uint8)], axis=2)
    array[0, 0] = (*GREEN, 0)
    one_pair(source, array)
    assert run(source, out) == 0
    expected = halves(2, 1)
    expected[0, 0] = 0
    assert np.array_equal(mask(out, "a"), expected) and "transparent pixels count as black" in capsys.readouterr().out


def test_rgba_without_transparency_is_not_remarked(source, out, capsys):
    one_pair(source, np.concatenate([paint(halves(0, 1), RED, GREEN), np.full((6, 8, 1), 255, np.uint8)], axis=2))
    assert run(source, out) == 0 and "transparent" not in capsys.readouterr().out


LISTS = {
    "labelmap.txt": "# label:color_rgb:parts:actions\nbackground:0,0,0::\nroad:255,0,0::\ncar:0,255,0::\n",
    "class_dict.csv": "name,r,g,b\nbackground,0,0,0\nroad,255,0,0\ncar,0,255,0\n",
    "label_colors.txt": "0 0 0\tbackground\n255 0 0\troad\n0 255 0 car\n",
    "colors.txt": "Category r g b\nbackground 0 0 0\nroad 255 0 0\ncar 0 255 0\n",
    "classes.json": '[{"name": "background", "color": [0, 0, 0]}, {"name": "road", "color": [255, 0, 0]},'
    '{"name": "car", "color": [0, 255, 0]}]',
    "id2label.json": '{"0": {"name": "background", "color": [0, 0, 0]}, "1": {"name": "road", "color": [255, 0, 0]},'
    '"2": {"name": "car", "color": [0, 255, 0]}}',
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("name", LISTS)
def test_colours_of_a_list(source, out, name, end, encoding):
    one_pair(source, paint(halves(0, 1), GREEN, RED))
    (source / name).write_bytes(LISTS[name].replace("\n", end).encode(encoding))
    assert run(source, out) == 0
    assert classes(out) == {"background": 0, "road": 1, "car": 2} and np.array_equal(mask(out, "a"), halves(2, 1))
    assert colors(out)["road"] == [255, 0, 0]


@pytest.mark.parametrize("form", ["{color} {name}", "{name} {color}", "{id} {name} {color}", "{id}: {color} {name}"])
def test_names_with_numbers_in_a_list_of_colours(source, out, form):
    rows = [("background", "0 0 0"), ("Lane 1", "255 0 0"), ("Lane 2", "0 255 0"), ("2 wheeler", "0 0 255")]
    one_pair(source, paint(halves(1, 2), BLACK, RED, GREEN))
    lines = [form.format(id=number, name=name, color=color) for number, (name, color) in enumerate(rows, start=7)]
    (source / "colors.txt").write_text("\n".join(lines))
    assert run(source, out) == 0
    assert classes(out) == {name: number for number, (name, _) in enumerate(rows)}
    assert np.array_equal(mask(out, "a"), halves(1, 2)) and colors(out)["2 wheeler"] == list(BLUE)


@pytest.mark.parametrize("line", ["car 0 255", "0 255 0", "0 255 0 car"])
def test_a_line_of_another_form_in_a_list_of_colours_is_refused(source, out, line, capsys):
    one_pair(source, paint(halves(0, 1), BLACK, RED))
    (source / "colors.txt").write_text(f"background 0 0 0\nroad 255 0 0\n{line}\n")
    assert run(source, out) == 1 and not out.exists()
    assert f"colors.txt: {line!r} is not a name with red, green and blue" in capsys.readouterr().err


def test_a_colour_that_the_list_lacks_becomes_a_class(source, out, capsys):
    one_pair(source, paint(halves(0, 1), BLUE, RED))
    (source / "labelmap.txt").write_text(LISTS["labelmap.txt"])
    assert run(source, out) == 0
    assert classes(out) == {"background": 0, "road": 1, "car": 2, "color_0_0_255": 3}
    assert np.array_equal(mask(out, "a"), halves(3, 1))
    report = capsys.readouterr().out
    assert "has no name for the colours (0, 0, 255), now color_0_0_255: rename them in the new classes.yaml" in report
    assert "labelmap.txt does not name: 24 (the first in images/a.png)" in report


@pytest.mark.parametrize("name", ["void", "Unlabelled", "__ignore__"])
def test_a_colour_called_void_is_ignored(source, out, name):
    one_pair(source, paint(halves(0, 1), BLACK, RED))
    one_pair(source, paint(halves(0, 1), GREEN, RED), "b")
    (source / "labelmap.txt").write_text(f"{name}:0,0,0::\nroad:255,0,0::\ncar:0,255,0::\n")
    assert run(source, out) == 0
    assert {*classes(out)} == {"road", "car"} and mask(out, "a")[0, 0] in ignored(out)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("background:0,0\nroad:255,0,0", "no colour of three numbers"),
        ("background:0,0,0\nroad:256,0,0", "no colour of three numbers"),
        ("background:0,0,0\nroad:0,0,0", "background and road have the same colour"),
        ("", "lists no class"),
        (":1,2,3", "has no name"),
    ],
)
def test_a_wrong_labelmap_is_one_line(source, out, content, complaint, capsys):
    one_pair(source, paint(halves(0, 1), BLACK, RED))
    (source / "labelmap.txt").write_text(content)
    assert run(source, out) == 1 and not out.exists()
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "labelmap.txt" in error and complaint in error


@pytest.mark.parametrize("name", ['{"label": "road"}', '["road"]', "null", '{"name": {"en": "road"}}'])
def test_names_in_id2label_that_are_no_text_are_one_line(source, out, name, capsys):
    one_pair(source, halves(0, 1))
    (source / "id2label.json").write_text(f'{{"0": "background", "1": {name}}}')
    assert run(source, out) == 1 and not out.exists()
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "id2label.json does not list classes: write" in error


@pytest.mark.parametrize(
    "content",
    ['{"0": "sky", "1": "a", "01": "b"}', '{"sky": 0, "a": 1, "b": 1}', '[{"name": "a", "id": 1}, {"name": "b"}]'],
)
def test_ids_that_are_there_twice_in_id2label_are_refused(source, out, content, capsys):
    one_pair(source, halves(0, 1))
    (source / "id2label.json").write_text(content)
    assert run(source, out) == 1 and not out.exists()
    assert "id2label.json: 'a' and 'b' have the same id 1: change one" in capsys.readouterr().err


def test_a_list_that_is_not_utf8_is_one_line(source, out, capsys):
    one_pair(source, halves(0, 1))
    (source / "classes.txt").write_bytes("Straße\nGrün".encode("latin-1"))
    assert run(source, out) == 1
    assert "classes.txt is not UTF-8: save it with that encoding" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["_background_\nroad\ncar", "background\nroad\ncar\n", "0: bg\n1: road\n2: car"])
def test_names_in_the_order_of_ids(source, out, content):
    one_pair(source, halves(0, 2))
    (source / "classes.txt").write_text(content)
    assert run(source, out) == 0 and [*classes(out).items()][1:] == [("road", 1), ("car", 2)]


def test_a_list_without_background_begins_at_1(source, out, capsys):
    one_pair(source, halves(0, 2))
    (source / "classes.txt").write_text("road\ncar\n")
    assert run(source, out) == 0 and classes(out) == {"background": 0, "road": 1, "car": 2}
    assert "its first class is id 1" in capsys.readouterr().out


def test_a_list_without_background_names_masks_that_begin_at_1(source, out, capsys):
    one_pair(source, halves(1, 2))
    (source / "labelmap.txt").write_text("road:9,8,7::\nbuilding:6,5,4::\n")
    assert run(source, out) == 0 and classes(out) == {"road": 1, "building": 2}
    assert np.array_equal(mask(out, "a"), halves(1, 2)) and colors(out)["road"] == [9, 8, 7]
    assert "lists no background, so its first class is id 1: if that is wrong, write" in capsys.readouterr().out


NUMBERED = {
    "classes.txt": "1: road\n2: building\n7: car\n",
    "names.txt": "7 car\n2 building\n1 road\n",
    "label_colors.txt": "1 128 64 128 road\n7 0 0 142 car\n2 70 70 70 building\n",
    "colors.txt": "1: road 128 64 128\n2: building 70 70 70\n7: car 0 0 142\n",
    "class_dict.csv": "id,name,r,g,b\n1,road,128,64,128\n2,building,70,70,70\n7,car,0,0,142\n",
    "id2label.json": '{"1": "road", "2": "building", "7": "car"}',
}


@pytest.mark.parametrize("name", NUMBERED)
def test_numbers_in_a_list_are_the_ids(source, out, name, capsys):
    array = ids([0, 0, 1, 1], [2, 2, 7, 7])
    one_pair(source, array)
    (source / name).write_text(NUMBERED[name])
    assert run(source, out) == 0 and np.array_equal(mask(out, "a"), array)
    assert classes(out) == {"class_0": 0, "road": 1, "building": 2, "car": 7}
    assert "has no name for id 0" in capsys.readouterr().out


def test_a_list_with_numbers_is_not_shifted(source, out, capsys):
    """Without numbers, three ids and two names would mean that the first one is the background."""
    one_pair(source, ids([0, 1, 2]))
    (source / "classes.txt").write_text("0: road\n1: car\n")
    assert run(source, out) == 0 and classes(out) == {"road": 0, "car": 1, "class_2": 2}
    assert "has no name for id 2" in capsys.readouterr().out


@pytest.mark.parametrize("lines", [["road", "4x4", "2 wheeler"], ["1 lane", "2 lane"], ["3: a", "3: b"]])
def test_numbers_that_belong_to_names_stay_there(source, out, lines):
    one_pair(source, halves(0, 1))
    (source / "classes.txt").write_text("\n".join(lines))
    assert run(source, out) == 0 and classes(out) == {name: number for number, name in enumerate(lines)}


@pytest.mark.parametrize(("value", "complaint"), [("x7", "id 'x7' is not a whole number"), ("1", "the same id 1")])
def test_a_wrong_id_in_a_class_dict_is_one_line(source, out, value, complaint, capsys):
    one_pair(source, halves(0, 1))
    (source / "class_dict.csv").write_text(f"id,name,r,g,b\n1,road,128,64,128\n{value},car,0,0,142\n")
    assert run(source, out) == 1 and not out.exists()
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "class_dict.csv" in error and complaint in error


def test_ids_that_a_list_lacks_are_named(source, out, capsys):
    one_pair(source, halves(0, 9))
    (source / "id2label.json").write_text('{"0": "sky", "1": "road"}')
    assert run(source, out) == 0 and classes(out) == {"sky": 0, "road": 1, "class_9": 9}
    report = capsys.readouterr().out
    assert "id2label.json has no name for id 9: rename" in report
    assert "id2label.json does not name: 24 (the first in images/a.png)" in report


def test_two_names_for_0_and_255(source, out):
    one_pair(source, halves(0, 255))
    (source / "classes.txt").write_text("ground\nbuilding\n")
    assert run(source, out) == 0 and classes(out) == {"ground": 0, "building": 1}
    assert np.array_equal(mask(out, "a"), halves(0, 1))


def test_a_class_with_the_id_255_gets_another(source, out, capsys):
    one_pair(source, halves(0, 255))
    (source / "_classes.csv").write_text("Pixel Value, Class\n0, background\n255, road")
    assert run(source, out) == 0
    assert classes(out) == {"background": 0, "road": 1} and np.array_equal(mask(out, "a"), halves(0, 1))
    assert "255 became 1" in capsys.readouterr().out


CRACKS = "classes:\n  - {name: background, id: 0}\n  - {name: crack, id: 1}\n"
COLORED = "classes:\n  - {name: background, id: 0, color: [0, 0, 0]}\n  - {name: crack, id: 1, color: [255, 0, 0]}\n"


@pytest.mark.parametrize("content", [CRACKS, f"{CRACKS}ignore: [255]\n", COLORED])
def test_0_and_255_get_the_two_names_of_a_classes_yaml(source, out, content, capsys):
    one_pair(source, halves(0, 255))
    (source / "classes.yaml").write_text(content)
    assert run(source, out) == 0
    assert classes(out) == {"background": 0, "crack": 1} and np.array_equal(mask(out, "a"), halves(0, 1))
    assert "255 became 1 (crack)" in capsys.readouterr().out
    assert content != COLORED or colors(out)["crack"] == [255, 0, 0]


def test_listed_ids_beside_255_are_no_levels(source, out):
    array = ids([0, 0, 128, 128], [255, 255, 255, 255])
    one_pair(source, array)
    (source / "classes.yaml").write_text(CRACKS.replace("id: 1", "id: 128"))
    assert run(source, out) == 0
    assert classes(out) == {"background": 0, "crack": 128} and np.array_equal(mask(out, "a"), array)


def test_an_ignored_level_of_a_classes_yaml_stays_ignored(source, out):
    one_pair(source, ids([0, 0, 127, 127], [255, 255, 255, 255]))
    (source / "classes.yaml").write_text("classes: [{name: a, id: 1}, {name: b, id: 2}]\nignore: [0]")
    assert run(source, out) == 0
    assert classes(out) == {"a": 1, "b": 2} and np.array_equal(mask(out, "a"), ids([0, 0, 1, 1], [2, 2, 2, 2]))


@pytest.mark.parametrize("palette", [None, (BLACK, BLUE, *[GREEN] * 254)])
@pytest.mark.parametrize("content", [CRACKS, COLORED])
def test_one_id_that_a_classes_yaml_lacks_leaves_the_others_their_names(source, out, content, palette, capsys):
    for name, value in (("a", 1), ("b", 7)):
        one_pair(source, halves(0, value), name)
        if palette:
            with_palette(halves(0, value), *palette).save(source / "masks" / f"{name}.png")
    (source / "classes.yaml").write_text(content)
    assert run(source, out) == 0
    assert classes(out) == {"background": 0, "crack": 1, "class_7": 7}
    assert np.array_equal(mask(out, "a"), halves(0, 1)) and np.array_equal(mask(out, "b"), halves(0, 7))
    assert "classes.yaml has no name for id 7" in capsys.readouterr().out


def test_colours_need_a_classes_yaml_with_colours(source, out, capsys):
    one_pair(source, paint(halves(0, 1), BLACK, RED))
    (source / "classes.yaml").write_text(CRACKS)
    assert run(source, out) == 0
    assert classes(out) == {"background": 0, "color_255_0_0": 1}
    assert "classes.yaml gives no colours to background, crack, so these names are not used" in capsys.readouterr().out
    (source / "classes.yaml").write_text(COLORED)
    assert run(source, out, "--overwrite") == 0
    assert classes(out) == {"background": 0, "crack": 1} and np.array_equal(mask(out, "a"), halves(0, 1))
    assert "gives no colours" not in capsys.readouterr().out


# Smoothed and compressed masks


def disc(size=64) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size]
    return ((rows - 30) ** 2 + (columns - 28) ** 2 < 18**2).astype(np.uint8)


def smoothed(array: np.ndarray) -> np.ndarray:
    """Shift by 0.4 pixels with bilinear interpolation."""
    size, shift = (array.shape[1], array.shape[0]), (1, 0, 0.4, 0, 1, 0.4)
    return np.asarray(Image.fromarray(array).transform(size, Image.Transform.AFFINE, shift, Image.Resampling.BILINEAR))


def test_smoothed_0_and_255(source, out, capsys):
    array = smoothed(disc() * 255)
    assert len(np.unique(array)) > 4
    one_pair(source, array)
    assert run(source, out) == 0
    assert np.array_equal(mask(out, "a"), array > 127)
    assert "took the class beside them" in capsys.readouterr().out
    assert classes(out) == {"background": 0, "foreground": 1}


def test_smoothed_greys_of_a_list_are_its_colours(source, out):
    one_pair(source, smoothed(disc() * 255))
    (source / "class_dict.csv").write_text("name,r,g,b\nroad,255,255,255\nrest,0,0,0\n")
    assert run(source, out) == 0
    number = classes(out)["road"]
    assert {*classes(out)} == {"road", "rest"}
    assert np.array_equal(mask(out, "a") == number, smoothed(disc() * 255) > 127)


def test_smoothed_colours_take_a_class_beside_them(source, out, capsys):
    """Between red and blue lies purple, which another mask has as a class: it must not appear at the edges."""
    one_pair(source, smoothed(paint(disc(), RED, BLUE)))
    one_pair(source, np.full((64, 64, 3), (128, 0, 128), np.uint8), "b")
    assert run(source, out) == 0
    purple = classes(out)["color_128_0_128"]
    assert {*np.unique(mask(out, "a"))} == {*classes(out).values()} - {purple}
    assert (mask(out, "b") == purple).all()
    assert (mask(out, "a") == classes(out)["color_0_0_255"]).sum() == pytest.approx(disc().sum(), abs=60)
    assert "pixels between classes" in capsys.readouterr().out


def test_a_rare_colour_of_smoothed_masks_is_named_and_a_list_makes_it_a_class(source, out, capsys):
    for name in "ab":
        array = np.zeros((200, 200, 3), np.uint8)
        cv2.circle(array, (70, 75), 40, (200, 0, 0), -1, cv2.LINE_AA)
        cv2.circle(array, (150, 150), 25, (0, 0, 220), -1, cv2.LINE_AA)
        if name == "a":
            cv2.circle(array, (184, 20), 4, (0, 200, 0), -1, cv2.LINE_AA)
        one_pair(source, cv2.GaussianBlur(array, (3, 3), 0), name)
    assert run(source, out) == 0
    assert {*classes(out)} == {"background", "color_200_0_0", "color_0_0_220"}
    report = capsys.readouterr().out
    assert (
        "count as noise, such as (0, 200, 0): if one of them is a class, list all colours in class_dict.csv" in report
    )
    assert "JPEG" not in report
    (source / "class_dict.csv").write_text("name,r,g,b\nbg,0,0,0\nred,200,0,0\nblue,0,0,220\n")
    assert run(source, out) == 0 and [*classes(out)] == ["bg", "red", "blue"]
    assert f"(0, 200, 0): if one of them is a class, list all colours in {source}/class_" in capsys.readouterr().out
    (source / "class_dict.csv").write_text("name,r,g,b\nbg,0,0,0\nred,200,0,0\nblue,0,0,220\ngreen,0,200,0\n")
    assert run(source, out) == 0 and [*classes(out)] == ["bg", "red", "blue", "green"]
    assert mask(out, "a")[20, 184] == 3 and "count as noise" not in capsys.readouterr().out


@pytest.mark.parametrize("quality", [60, 90])
def test_jpeg_masks_of_two_levels(source, out, quality, capsys):
    one_pair(source, disc() * 255, suffix=".jpg", quality=quality)
    assert run(source, out) == 0
    assert (mask(out, "a") != disc()).sum() <= 12 and classes(out) == {"background": 0, "foreground": 1}
    assert "smoothed or compressed edges" in capsys.readouterr().out


def test_jpeg_masks_of_ids_are_refused(source, out, capsys):
    one_pair(source, disc() * 2, suffix=".jpg")
    assert run(source, out) == 1 and not out.exists()
    error = f"the masks are JPEGs, which change class ids (the first is {source}/masks/a.jpg): save them as PNG"
    assert error in capsys.readouterr().err


@pytest.mark.parametrize("flags", [(), ("--mask_values", "objects")])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_jpeg_among_masks_of_ids_is_a_bad_file(source, out, suffix, flags, capsys):
    for name in "abcd":
        one_pair(source, disc(), name, suffix=suffix if name == "c" else ".png")
    assert run(source, out, *flags) == (suffix == ".jpg")
    if suffix == ".jpg":
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 2 and not out.exists()
        assert f"mask {source}/masks/c.jpg is a JPEG, which changes class ids: save it as PNG" in lines[0]
        assert run(source, out, *flags, "--skip_bad") == 0
    assert ((out / "masks" / "c.png").exists(), classes(out)["background"]) == (suffix == ".png", 0)
    assert np.array_equal(mask(out, "d"), disc()) and len(classes(out)) == 2


@pytest.mark.parametrize("listed", [True, False])
def test_a_jpeg_among_masks_of_colours_leaves_the_others_exact(source, out, listed, capsys):
    """The blues differ by less than what a JPEG changes."""
    array = disc() + 2 * disc().T[::-1]
    palette = (BLACK, (0, 0, 142), (0, 0, 110), RED)
    for name in "abcdefgh":
        lossy = name == "c"
        one_pair(
            source, paint(array, *palette), name, suffix=".jpg" if lossy else ".png", **{"quality": 95} if lossy else {}
        )
    if listed:
        (source / "labelmap.txt").write_text("background:0,0,0::\nbus:0,0,142::\ncar:0,0,110::\nroad:255,0,0::\n")
    assert run(source, out) == 0 and sorted(colors(out).values()) == sorted(map(list, palette))
    numbers = {tuple(color): classes(out)[name] for name, color in colors(out).items()}
    expected = np.array([numbers[color] for color in palette], np.uint8)[array]
    assert np.array_equal(mask(out, "a"), expected) and np.array_equal(mask(out, "h"), expected)
    assert 0 < (mask(out, "c") != expected).mean() < 0.05
    report = capsys.readouterr().out
    assert f"smoothed or compressed edges (the first JPEG is {source}/masks/c.jpg)" in report
    assert "took the class beside them" in report and "count as noise" not in report


def test_a_class_that_only_the_jpeg_among_masks_has_is_kept(source, out):
    for name in "abc":
        one_pair(source, paint(disc(), BLACK, RED), name)
    one_pair(source, paint(disc(), BLACK, GREEN), "d", suffix=".jpg", quality=95, subsampling=0)
    assert run(source, out) == 0 and len(classes(out)) == 3
    green = next(number for name, number in classes(out).items() if name not in ("background", "color_255_0_0"))
    assert ((mask(out, "d") == green) != disc()).mean() < 0.02


def test_a_jpeg_among_masks_of_levels(source, out):
    for name in "abc":
        one_pair(source, disc() * 255, name)
    one_pair(source, disc() * 255, "d", suffix=".jpg")
    assert run(source, out) == 0 and classes(out) == {"background": 0, "foreground": 1}
    assert np.array_equal(mask(out, "a"), disc()) and (mask(out, "d") != disc()).sum() <= 12


def test_a_mask_of_fractions_is_called_a_mask(source, out, capsys):
    one_pair(source, halves(0, 1).astype(np.float32), suffix=".tif")
    assert run(source, out) == 1
    assert capsys.readouterr().err.startswith(f"error: mask {source}/masks/a.tif holds floating-point numbers")


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_colours_that_were_compressed(source, out, suffix, tmp_path):
    """Also as a PNG that was a JPEG once."""
    array = paint(disc() + 2 * disc().T[::-1], BLACK, RED, GREEN, BLUE)
    save(tmp_path / "once.jpg", array, quality=92, subsampling=0)
    with Image.open(tmp_path / "once.jpg") as image:
        assert len(np.unique(np.asarray(image).reshape(-1, 3), axis=0)) > 100
        options = {"quality": 95, "subsampling": 0} if suffix == ".jpg" else {}
        one_pair(source, np.asarray(image), suffix=suffix, **options)
    (source / "labelmap.txt").write_text("background:0,0,0::\na:255,0,0::\nb:0,255,0::\nc:0,0,255::\n")
    assert run(source, out) == 0
    assert classes(out) == {"background": 0, "a": 1, "b": 2, "c": 3}
    assert (mask(out, "a") != disc() + 2 * disc().T[::-1]).mean() < 0.02


def test_former_jpegs_of_two_levels(source, out, tmp_path):
    save(tmp_path / "once.jpg", disc() * 255, quality=80)
    with Image.open(tmp_path / "once.jpg") as image:
        one_pair(source, np.asarray(image))
    assert run(source, out) == 0 and classes(out) == {"background": 0, "foreground": 1}
    assert (mask(out, "a") != disc()).sum() <= 12


def test_photos_in_the_place_of_masks_are_refused(source, out, capsys):
    rng = np.random.default_rng(0)
    one_pair(source, rng.integers(0, 256, (60, 60, 3), dtype=np.uint8))
    assert run(source, out) == 1 and not out.exists()
    assert capsys.readouterr().err.count("\n") == 1


# Arrangements


@pytest.mark.parametrize(
    ("image", "label", "written"),
    [
        ("a.jpg", "a_mask.png", "a"),
        ("a.jpg", "a.png", "a"),
        ("A.JPG", "A.PNG", "A"),
        ("images/a.jpg", "masks/a.png", "a"),
        ("images/a.jpg", "masks/a_mask.png", "a"),
        ("images/a.jpg", "labels/a.jpg.png", "a"),
        ("Images/a.jpg", "Annotations/a.png", "a"),
        ("image_1.jpg", "x/gt/mask_1.png", "image_1"),
        ("train/a.jpg", "trainannot/a.png", "train/a"),
        ("train/a.png", "train_labels/a_L.png", "train/a"),
        ("images/train/a.jpg", "masks/train/a.png", "train/a"),
        ("valid/images/a.jpg", "valid/masks/a.png", "val/a"),
        ("images/validation/a.jpg", "masks/validation/a-gt.png", "val/a"),
        ("data/img/test/a b.jpg", "data/seg/test/a b.png", "test/a b"),
        ("training/image_2/000000_10.png", "training/semantic_ids/gt/000000_10.png", "train/000000_10"),
        ("train2017/ä.jpg", "annotations/train2017/ä.png", "train/ä"),
        ("leftImg8bit/train/x/x_1_leftImg8bit.png", "gtFine/train/x/x_1_gtFine_labelIds.png", "train/x_1_leftImg8bit"),
        ("one/a.jpg", "two/a.png", "a"),
        ("images/a.png", "labels/a_P.png", "a"),
        ("a_sat.jpg", "a_mask.png", "a_sat"),
        ("image_1.png", "mask_1.png", "image_1"),
        ("semantic_set/original_images/a.jpg", "semantic_set/label_images_semantic/a.png", "a"),
    ],
)
def test_arrangements(source, out, image, label, written):
    photo(source / image, 30, 40)
    save(source / label, halves(7, 8, 30, 40))
    assert run(source, out) == 0
    assert np.array_equal(mask(out, written), halves(7, 8, 30, 40))
    copies = [path for path in (out / "images").rglob("*") if path.is_file()]
    assert [path.relative_to(out / "images").with_suffix("").as_posix() for path in copies] == [written]
    assert copies[0].read_bytes() == (source / image).read_bytes()


def test_what_is_passed_over_is_named(source, out, capsys):
    one_pair(source, halves(0, 1))
    photo(source / "images" / "lonely.jpg")
    save(source / "masks" / "widow.png", halves(0, 1))
    (source / "images" / "raw.cr2").write_bytes(b"raw")
    for name in ("._a.png", ".hidden.png", "Thumbs.db", "notes.docx"):
        (source / "images" / name).write_bytes(b"nothing")
    assert run(source, out) == 0
    report = capsys.readouterr().out
    assert "photos without a mask: 1 (images/lonely.jpg)" in report
    assert "masks without a photo: 1 (masks/widow.png)" in report
    assert "formats that cannot be read (save them as PNG or JPEG): 1 (images/raw.cr2)" in report
    assert not any(word in report for word in ("._a", ".hidden", "Thumbs", "notes"))
    assert {*files(out)} == {"images/a.png", "masks/a.png", "classes.yaml", "prepared.json"}


def test_test_photos_may_lack_masks(source, out, capsys):
    photo(source / "train" / "images" / "a.jpg")
    save(source / "train" / "masks" / "a.png", halves(0, 1))
    photo(source / "test" / "images" / "b.jpg")
    assert run(source, out) == 0
    assert {"images/train/a.jpg", "images/test/b.jpg"} <= {*files(out)} and not (out / "masks/test/b.png").exists()
    assert "train 1, test 1" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["images/{0}/{1}.jpg masks/{0}/{1}.png", "{0}/{1}.jpg {0}/{1}_mask.png"])
@pytest.mark.parametrize(
    "folders", ["harbour/train-station/old-town", "highway/test-drive", "bus/train/car", "valid-parking/yard"]
)
def test_a_word_in_the_name_of_one_folder_among_others_is_no_split(source, out, form, folders, capsys):
    for number, folder in enumerate(folders.split("/"), start=1):
        image, label = form.format(folder, number).split()
        photo(source / image)
        save(source / label, halves(0, number))
    assert run(source, out) == 0
    written = {name for name in files(out) if name.startswith("masks/")}
    assert written == {f"masks/{number}.png" for number in range(1, 2 + folders.count("/"))}
    report = capsys.readouterr().out
    assert (
        "not divided into splits)" in report and "(to divide them, put all into folders train, val and test)" in report
    )


@pytest.mark.parametrize(
    ("pairs", "unlabelled", "written"),
    [
        ("images/1", "test/images/2", "train/1 test/2"),
        ("images/1 images_val/2 images_test/3", "", "train/1 val/2 test/3"),
        ("train/images/1 val/images/2 more/images/3", "", "train/1 val/2"),
        ("train2017/images/1 valid_set/images/2", "testing/images/3", "train/1 val/2 test/3"),
    ],
)
def test_photos_outside_the_folders_of_splits(source, out, pairs, unlabelled, written, capsys):
    for name in pairs.split():
        save(source / f"{name.replace('images', 'masks')}.png", halves(0, 1))
    for name in (*pairs.split(), *unlabelled.split()):
        photo(source / f"{name}.jpg")
    assert run(source, out) == 0
    assert {name for name in files(out) if "images/" in name} == {f"images/{name}.jpg" for name in written.split()}
    report = capsys.readouterr().out
    assert ("photos that are in no split: 1 (more/images/3.jpg)" in report) == ("more" in pairs)
    assert ("photos in no split are the training split: 1 (images/1.jpg)" in report) == pairs.startswith("images")


@pytest.mark.parametrize(
    ("photos", "masks", "alone", "widows"),
    [
        ("train/images/1 train/images/2 val/images/1 val/images/2", "train/masks/1 val/masks/1 val/masks/2", 1, 0),
        ("train/images/1 train/images/2 val/images/1", "train/masks/1 val/masks/1 val/masks/2", 1, 1),
        ("images/a/1 images/a/2 images/b/1 images/b/2", "masks/a/1 masks/b/1 masks/b/2", 1, 0),
        ("images/a/1 images/a/2 images/b/1", "masks/a/1 masks/b/1 masks/b/2", 1, 1),
        ("images/1 images/b/2", "masks/1 masks/2", 1, 1),
        ("images/1 images/2", "masks/1 masks/b/2", 1, 1),
        ("train/images/1 val/images/x/2", "train/masks/1 train/masks/y/2", 1, 1),
        ("train/images/1 train/images/2 test/images/1 test/images/2", "train/masks/1 train/masks/2", 0, 0),
    ],
)
def test_a_photo_never_gets_the_mask_of_another(source, out, photos, masks, alone, widows, capsys):
    for number, name in enumerate(masks.split()):
        save(source / f"{name}.png", halves(0, number + 1))
    for name in photos.split():
        photo(source / f"{name}.jpg")
    assert run(source, out) == 0
    report = capsys.readouterr().out
    assert (f"photos without a mask: {alone} (" in report) == bool(alone)
    assert (f"masks without a photo: {widows} (" in report) == bool(widows)
    values = [int(np.asarray(Image.open(path)).max()) for path in (out / "masks").rglob("*.png")]
    assert sorted(values) == list(range(1, 1 + len(masks.split()) - widows))


def test_a_mask_that_two_photos_could_have_is_refused(source, out, capsys):
    for split in ("train", "val"):
        photo(source / split / "images" / "1.jpg")
    save(source / "masks" / "1.png", halves(0, 1))
    assert run(source, out) == 1 and not out.exists()
    error = "photos train/images/1.jpg and val/images/1.jpg have the same mask, masks/1.png"
    assert error in capsys.readouterr().err


def test_masks_of_one_class_each_are_refused(source, out, capsys):
    """Not even the photo of which only one class has a mask gets it."""
    for name in ("a", "b"):
        photo(source / "images" / f"{name}.jpg")
        save(source / "masks" / "body" / f"{name}.png", halves(0, 255))
    save(source / "masks" / "window" / "a.png", halves(0, 255))
    assert run(source, out) == 1 and not out.exists()
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "images/a.jpg has several masks, masks/body/a.png, masks/window/a.png" in error
    assert error.endswith("or merge them if each holds one class (docs/prepare.md has a script)\n")


def test_masks_of_single_objects_are_refused(source, out, capsys):
    photo(source / "1" / "images" / "1.png")
    for number in (7, 8):
        save(source / "1" / "masks" / f"{number}f.png", halves(0, 255))
    assert run(source, out) == 1 and "merge the masks of a photo into one" in capsys.readouterr().err


def test_folders_that_look_like_masks_beside_those_called_masks_are_named(source, out, capsys):
    """DRIVE's folder mask holds the field of view, and the vessels are in 1st_manual."""
    photo(source / "images" / "21_training.tif", 30, 40)
    save(source / "mask" / "21_training_mask.gif", halves(0, 255, 30, 40))
    save(source / "1st_manual" / "21_manual1.gif", halves(255, 0, 30, 40))
    assert run(source, out) == 0
    assert "images in 1st_manual look like masks too, but masks are taken from mask, because" in capsys.readouterr().out


def test_segments_of_panoptic_files_are_no_classes(source, out, capsys):
    photo(source / "train2017" / "1.jpg")
    save(source / "annotations" / "panoptic_train2017" / "1.png", paint(halves(0, 1), RED, GREEN))
    (source / "annotations" / "panoptic_train2017.json").write_text('{"annotations": [{"segments_info": []}]}')
    assert run(source, out) == 1 and not out.exists()
    assert "panoptic_train2017.json is a panoptic file of COCO, which is not read" in capsys.readouterr().err


def test_training_ids_of_cityscapes_without_label_ids(source, out):
    photo(source / "leftImg8bit" / "train" / "x" / "x_1_leftImg8bit.png")
    save(source / "gtFine" / "train" / "x" / "x_1_gtFine_labelTrainIds.png", halves(13, 255))
    save(source / "gtFine" / "train" / "x" / "x_1_gtFine_instanceIds.png", halves(7, 26))
    assert run(source, out) == 0 and ignored(out) == [255]
    assert classes(out)["car"] == 13 and colors(out)["car"] == [0, 0, 142]
    assert np.array_equal(mask(out, "train/x_1_leftImg8bit"), halves(13, 255))


def test_a_pointer_of_git_lfs_is_named_as_such(source, out, capsys):
    one_pair(source, halves(0, 1))
    (source / "images" / "a.png").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert run(source, out) == 1 and "git lfs pull fetches the file" in capsys.readouterr().err


def test_photos_of_the_same_name_keep_their_folders(source, out):
    for folder, value in (("x", 1), ("y", 2)):
        photo(source / "images" / folder / "1.jpg")
        save(source / "masks" / folder / "1.png", halves(0, value))
    assert run(source, out) == 0
    assert np.array_equal(mask(out, "images_x_1"), halves(0, 1)) and np.array_equal(
        mask(out, "images_y_1"), halves(0, 2)
    )


def test_two_masks_of_a_photo_are_one_line(source, out, capsys):
    one_pair(source, halves(0, 1))
    save(source / "masks" / "a.bmp", halves(0, 1))
    assert run(source, out) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "images/a.png has several masks, masks/a.bmp, masks/a.png" in error


def test_instance_maps_and_colour_pictures_beside_ids_are_passed_over(source, out, capsys):
    stem = source / "gtFine" / "train" / "x" / "x_1_gtFine_"
    photo(source / "leftImg8bit" / "train" / "x" / "x_1_leftImg8bit.png")
    save(stem.parent / f"{stem.name}labelIds.png", halves(7, 26))
    save(stem.parent / f"{stem.name}color.png", paint(halves(0, 1), RED, GREEN))
    save(stem.parent / f"{stem.name}instanceIds.png", halves(7, 26).astype(np.uint16) * 1000)
    assert run(source, out) == 0
    assert classes(out)["road"] == 7 and classes(out)["car"] == 26 and colors(out)["road"] == [128, 64, 128]
    assert np.array_equal(mask(out, "train/x_1_leftImg8bit"), halves(7, 26))
    assert "images that are neither photo nor mask: 2" in capsys.readouterr().out


@pytest.mark.parametrize("label", ["{}.png", "{}_mask.png"])
@pytest.mark.parametrize("name", ["dive_depth_10", "wreck preview 3", "Instance-7", "overlay"])
def test_a_word_in_the_name_of_a_photo_leaves_its_mask_one(source, out, name, label, capsys):
    for stem in (name, "reef 1"):
        photo(source / "images" / f"{stem}.jpg")
        save(source / "masks" / label.format(stem), halves(0, 2))
    save(source / "masks" / "reef 1_overlay.png", halves(1, 5))
    assert run(source, out) == 0
    assert {path.stem for path in (out / "masks").iterdir()} == {name, "reef 1"} and classes(out).keys() == {
        "background",
        "class_2",
    }
    assert "images that are neither photo nor mask: 1 (masks/reef 1_overlay.png)" in capsys.readouterr().out


# Orientation: 6 is turned by 90 degrees, 3 by 180


@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("drawn_on", ["stored", "upright"])
@pytest.mark.parametrize("width", [8, 6])
def test_rotated_photos(source, out, orientation, drawn_on, width, capsys):
    from data_scripts.reader import read_image, read_label

    if drawn_on == "upright" and (orientation == 3 or width == 6):
        pytest.skip("a mask of the stored size counts as drawn on the stored pixels: nothing tells otherwise")
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = photo(source / "images" / "a.jpg", 6, width, exif=exif)
    array = np.arange(6 * width, dtype=np.uint8).reshape(6, width) % 5
    upright = np.rot90(array, 2 if orientation == 3 else 3)
    save(source / "masks" / "a.png", upright if drawn_on == "upright" else array)
    assert run(source, out) == 0
    copy = out / "images" / "a.jpg"
    assert copy.read_bytes() == path.read_bytes()
    assert np.array_equal(read_label(str(out / "masks" / "a.png"), str(copy)), upright)
    assert read_image(str(copy)).shape[:2] == upright.shape
    remark = "because only the photo has an orientation tag"
    assert (remark in capsys.readouterr().out) == (orientation == 3 or width == 6)


# Files that cannot be used


def test_every_bad_file_has_a_line_and_nothing_is_written(source, out, capsys):
    for name in "abcde":
        one_pair(source, halves(0, 1), name)
    save(source / "masks" / "a.png", halves(0, 1, 6, 7))
    (source / "masks" / "b.png").write_bytes((source / "masks" / "b.png").read_bytes()[:50])
    assert run(source, out) == 1 and not out.exists()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and "masks/a.png is 6x7" in lines[0] and "images/a.png is 6x8" in lines[0]
    assert f"cannot read mask {source}/masks/b.png" in lines[1]
    assert lines[2].startswith("error: 2 bad files, and photos have not been read yet: nothing was written")
    assert run(source, out, "--skip_bad") == 0
    assert sorted(path.name for path in (out / "masks").iterdir()) == ["c.png", "d.png", "e.png"]
    assert capsys.readouterr().out.count("bad file (--skip_bad)") == 2


def test_a_damaged_photo_is_named(source, out, capsys):
    one_pair(source, halves(0, 1))
    one_pair(source, halves(0, 1), "b")
    path = source / "images" / "b.png"
    path.write_bytes(path.read_bytes()[:-20])
    before = files(source)
    assert run(source, out) == 1 and not out.exists()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and "images/b.png" in lines[0]
    assert run(source, out, "--skip_bad") == 0 and [*(out / "images").iterdir()] == [out / "images" / "a.png"]
    assert files(source) == before


@pytest.mark.parametrize("array", [halves(0, 0), halves(3, 3), halves(255, 255)])
def test_one_class_only_is_refused(source, out, array, capsys):
    one_pair(source, array)
    assert run(source, out) == 1 and not out.exists()
    assert capsys.readouterr().err.count("\n") == 1


def test_ignore_background(source, out, capsys):
    one_pair(source, ids([0, 1, 2]))
    assert run(source, out, "--ignore_background") == 0
    assert classes(out) == {"class_1": 1, "class_2": 2} and ignored(out) == [0, 255]
    assert np.array_equal(mask(out, "a"), ids([0, 1, 2]))
    one_pair(source / "two", halves(0, 1))
    assert run(source / "two", out.with_name("two"), "--ignore_background") == 1
    assert "only the class foreground" in capsys.readouterr().err


def test_an_export_of_cvat_without_photos_says_where_they_go(source, out, capsys):
    for folder in ("SegmentationClass", "SegmentationObject"):
        save(source / folder / "a.png", paint(halves(0, 1), BLACK, RED))
    assert run(source, out) == 1 and not out.exists()
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "masks are in SegmentationClass; put their photos" in error
    assert "into a folder images beside it (CVAT: export with 'Save images')" in error
    photo(source / "images" / "a.jpg")
    assert run(source, out) == 0


@pytest.mark.skipif(not REAL.exists(), reason="the samples of real data are not here")
def test_real_samples_of_bad_files(out, capsys, tmp_path):
    assert run(REAL / "broken" / "mask_smaller_than_image", out) == 1 and not out.exists()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4 and all("_mask.png is 480x640" in line and ".jpg is 640x640" in line for line in lines[:3])
    assert run(REAL / "broken" / "damaged_png", out) == 1 and not out.exists()
    assert "no photo found" in capsys.readouterr().err
    for path in (REAL / "broken" / "damaged_png").iterdir():
        (tmp_path / "s").mkdir(exist_ok=True)
        (tmp_path / "s" / path.name).write_bytes(path.read_bytes())
        photo(tmp_path / "s" / path.name.replace("_mask.png", ".jpg"), 640, 640)
    assert run(tmp_path / "s", out) == 1 and not out.exists()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4 and all("damaged" not in line and "_mask.png" in line for line in lines[:3])


@pytest.mark.parametrize("folder", ["", "masks"])
def test_masks_called_as_cellpose_does(source, out, folder):
    for name in ("a", "b"):
        photo(source / ("images" if folder else "") / f"{name}.png")
        save(source / folder / f"{name}_cp_masks.png", halves(0, 7))
    assert run(source, out, "--mask_values", "objects") == 0
    assert {path.name for path in (out / "images").iterdir()} == {"a.png", "b.png"}
    assert np.array_equal(mask(out, "a"), halves(0, 1))


def test_the_script_that_merges_masks_of_classes(source, out, monkeypatch):
    page = (ROOT / "docs" / "prepare.md").read_text().partition("This script merges")[2]
    code = textwrap.dedent(re.search(r"\n\n(    .*?)\n\n\S", page, re.DOTALL)[1])
    for name in ("a", "b"):
        photo(source / "images" / f"{name}.jpg")
    save(source / "labels/cell/a.png", halves(0, 255))
    save(source / "labels/vessel/a.png", halves(255, 0))
    save(source / "labels/vessel/b.png", halves(0, 255))  # which has no cell
    monkeypatch.chdir(source)
    exec(code, {})
    assert run(source, out) == 0
    assert np.array_equal(mask(out, "a"), halves(2, 1)) and np.array_equal(mask(out, "b"), halves(0, 2))


def test_a_folder_called_after_masks_may_hold_photos_beside_their_masks(source, out, capsys):
    for folder, name in (("road_masks_export", "a"), ("second batch", "b")):
        photo(source / folder / f"{name}.jpg")
        save(source / folder / f"{name}_mask.png", halves(0, 3))
    assert run(source, out) == 0
    assert {path.name for path in (out / "images").iterdir()} == {"a.jpg", "b.jpg"}
    assert np.array_equal(mask(out, "a"), halves(0, 3)) and "as NAME_mask" in capsys.readouterr().out


@pytest.mark.parametrize("names", [("img.png", "label.png"), ("photo.jpg", "Mask.PNG"), ("image.jpg", "gt.png")])
def test_each_photo_may_have_a_folder_of_its_own(source, out, names):
    for number in (1, 2):
        photo(source / f"IMG {number}" / names[0])
        save(source / f"IMG {number}" / names[1], halves(0, number))
    assert run(source, out) == 0
    stem = names[0].split(".")[0]
    assert np.array_equal(mask(out, f"IMG 1_{stem}"), halves(0, 1))
    assert np.array_equal(mask(out, f"IMG 2_{stem}"), halves(0, 2))


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("labels/b.txt", "0 0.1 0.1 0.5 0.1 0.5 0.5\n", "labels/b.txt is of --kind yolo, but its photo is not"),
        ("labels/a.txt", "3 .5 .5 1e-3 1\n", "labels/a.txt is a YOLO file of boxes, which have no outline: label"),
        ("ann/a.jpg.json", '{"objects": [{"classTitle": "road"}]}', "a.jpg.json is a file of Supervisely"),
        (
            "via.json",
            '{"a.jpg1": {"regions": [{"region_attributes": {}}]}}',
            "via.json is a file of VGG Image Annotator",
        ),
        (
            "train/_annotations.createml.json",
            '[{"image": "a.jpg", "annotations": [{"label": "x", "coordinates": {"x": 1}}]}]',
            "createml.json is a file of CreateML",
        ),
        (
            "train.csv",
            "ImageId,EncodedPixels\n",
            "NAME_mask.png; if train.csv holds annotations, it is not read: export",
        ),
        ("annotations.xml", "<annotations/>", "annotations.xml and the like are XML"),
        ("masks/a.npy", "", "save masks as PNG"),
        ("notes.txt", "3 photos of the yard\n", "or name masks NAME_mask.png"),
    ],
)
def test_annotations_of_other_tools_are_named_with_the_remedy(source, out, name, content, words, capsys):
    photo(source / "images" / "a.jpg")
    path = source / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    assert run(source, out) == 1 and not out.exists()
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and words in said and ("which has 1 images" in said)


def test_the_report_says_that_rare_colours_of_jpeg_masks_are_noise(source, out, capsys):
    array = paint(halves(0, 1, 40, 60), BLACK, RED)
    one_pair(source, array, suffix=".jpg")
    assert run(source, out) == 0
    assert "colours of less than 0.1% of the pixels count as noise" in capsys.readouterr().out


def test_a_class_of_few_pixels_is_not_none(source, out, capsys):
    array = halves(0, 1, 200, 200)
    array[0, 0] = 2
    one_pair(source, array)
    assert run(source, out) == 0
    assert "<0.01%" in capsys.readouterr().out


def test_case_and_unicode_form_of_names_do_not_count(source, out):
    """Cameras write IMG_1.JPG, macOS decomposes letters, and tools write img_1.png and composed ones."""
    for name, other in (("IMG_1.JPG", "img_1.png"), (normalize("NFD", "Größe.jpg"), "Größe_Mask.PNG")):
        photo(source / "Images" / name)
        save(source / "masks" / other, halves(0, 2))
    assert run(source, out) == 0
    assert len([*(out / "masks").iterdir()]) == 2


def test_names_that_differ_in_case_alone_are_refused(source, out, capsys):
    """Some file systems cannot hold both."""
    for name, value in (("a", 1), ("A", 2)):
        photo(source / "images" / f"{name}.jpg")
        save(source / "masks" / f"{name}.png", halves(0, value))
    assert run(source, out) == 1 and not out.exists()
    assert "has several masks, masks/A.png, masks/a.png" in capsys.readouterr().err


def test_two_photos_of_one_mask_are_refused(source, out, capsys):
    photo(source / "images" / "a.jpg")
    photo(source / "images" / "a.png")
    save(source / "masks" / "a.png", halves(0, 1))
    assert run(source, out) == 1 and not out.exists()
    assert "photos images/a.jpg and images/a.png have the same mask" in capsys.readouterr().err


def test_lists_of_splits_that_are_not_used_are_named(source, out, capsys):
    one_pair(source, halves(0, 1))
    (source / "train.txt").write_text("a\n")
    assert run(source, out) == 0
    assert "train.txt name a split, but are not used" in capsys.readouterr().out
