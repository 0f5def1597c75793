"""What labelling tools export becomes index masks, pixel by pixel; wrong variants are one line each."""

import base64
import io
import json
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
from datasets import Array2D, ClassLabel, Dataset, DatasetDict, Features, List, Value
from datasets import Image as ImageColumn
from datasets.utils.logging import disable_progress_bar
from PIL import Image
from preparing import REAL, classes, colors, files, halves, ignored, mask, photo, run, save, write_json
from test_regions import compress, pack

from data_scripts.class_file import read_classes
from data_scripts.preparing import drawing

disable_progress_bar()
real = pytest.mark.skipif(not REAL.exists(), reason="the samples of real data are not here")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def source(tmp_path):
    return tmp_path / "my source"


def square(left, top, right, bottom) -> list[list[float]]:
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def painted(*boxes, height=6, width=8) -> np.ndarray:
    """Return ids with boxes (id, left, top, right, bottom), the later ones on top."""
    array = np.zeros((height, width), np.uint8)
    for value, left, top, right, bottom in boxes:
        array[top:bottom, left:right] = value
    return array


def one_line(capsys) -> str:
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("error: "), error
    return error


# COCO


def coco(annotations, categories=("car", "road"), images=None) -> dict:
    """Return a COCO file. `annotations` are (image id, category id, segmentation)."""
    if not isinstance(categories, list):
        categories = [{"id": number, "name": name} for number, name in enumerate(categories, start=1)]
    return {
        "images": images or [{"id": 7, "file_name": "a.jpg", "height": 6, "width": 8}],
        "categories": categories,
        "annotations": [
            {"id": number, "image_id": image, "category_id": category, "segmentation": segmentation, "iscrowd": 0}
            for number, (image, category, segmentation) in enumerate(annotations)
        ],
    }


def flat(*points) -> list[float]:
    return [coordinate for point in square(*points) for coordinate in point]


def test_coco_polygons_later_on_top(source, out, capsys):
    photo(source / "a.jpg")
    write_json(source / "_annotations.coco.json", coco([(7, 2, [flat(0, 0, 6, 4)]), (7, 1, [flat(4, 2, 8, 6)])]))
    assert run(source, out) == 0
    assert np.array_equal(mask(out, "a"), painted((2, 0, 0, 6, 4), (1, 4, 2, 8, 6)))
    assert classes(out) == {"background": 0, "car": 1, "road": 2}
    report = capsys.readouterr().out
    assert "COCO" in report and "2 regions" in report and "the later one in the file is on top" in report
    assert "pixels that no region covers are background" in report
    assert run(source, out, "--ignore_background", "--overwrite") == 0
    assert "no region covers" not in capsys.readouterr().out
    assert classes(out) == {"car": 1, "road": 2} and ignored(out) == [0, 255]


@pytest.mark.parametrize(
    ("licences", "expected"),
    [
        ([{"name": "CC BY 4.0"}], "CC BY 4.0"),
        ([{"name": "A"}, {"name": "B"}], None),
        ([{}], None),
        ("x", None),
        (3, None),
    ],
)
def test_coco_licence(source, out, licences, expected):
    photo(source / "a.jpg")
    write_json(source / "a.json", coco([(7, 1, [flat(0, 0, 4, 6)])]) | {"licenses": licences})
    assert run(source, out) == 0
    assert read_classes(out / "classes.yaml")[1].licence == expected


def test_coco_several_polygons_and_holes_by_runs(source, out):
    photo(source / "a.jpg")
    bits = painted((1, 1, 1, 7, 5), (0, 3, 2, 5, 4)).astype(bool)
    change = np.flatnonzero(np.diff(np.concatenate([[0], bits.T.ravel(), [0]])))
    counts = np.diff(np.concatenate([[0], change, [48]])).tolist()
    for number, runs in enumerate((counts, compress(counts))):
        parts = [flat(0, 0, 1, 6), flat(7, 0, 8, 6)]
        content = coco([(7, 2, parts), (7, 1, {"size": [6, 8], "counts": runs})])
        write_json(source / "instances.json", content)
        assert run(source, out.with_name(str(number))) == 0
        assert np.array_equal(mask(out.with_name(str(number)), "a"), bits + painted((2, 0, 0, 1, 6), (2, 7, 0, 8, 6)))


def test_coco_order_that_hides_regions_is_not_used(source, out, capsys):
    photo(source / "a.jpg", 40, 40)
    windows = [(7, 1, [flat(x, x, x + 2, x + 2)]) for x in range(0, 20, 4)]
    image = [{"id": 7, "file_name": "a.jpg", "height": 40, "width": 40}]
    write_json(source / "a.json", coco([*windows, (7, 2, [flat(0, 0, 40, 30)])], images=image))
    assert run(source, out) == 0
    expected = painted((2, 0, 0, 40, 30), *((1, x, x, x + 2, x + 2) for x in range(0, 20, 4)), height=40, width=40)
    assert np.array_equal(mask(out, "a"), expected)
    assert "5 of 6 regions would be hidden" in capsys.readouterr().out
    assert run(source, out, "--overlap", "later", "--overwrite") == 0
    assert np.array_equal(mask(out, "a"), painted((2, 0, 0, 40, 30), height=40, width=40))
    assert "regions that others on top hide: 5 (the first in a.jpg)" in capsys.readouterr().out


def test_coco_layout_of_its_own(source, out):
    """annotations/instances_{train,val}2017.json beside train2017/ and val2017/, and equal names in both."""
    for split, value in (("train", 1), ("val", 2)):
        photo(source / f"{split}2017" / "a.jpg")
        write_json(source / "annotations" / f"instances_{split}2017.json", coco([(7, value, [flat(0, 0, 4, 6)])]))
    write_json(source / "annotations" / "captions_train2017.json", {"images": [], "annotations": []})
    assert run(source, out) == 0
    assert np.array_equal(mask(out, "train/a"), halves(1, 0)) and np.array_equal(mask(out, "val/a"), halves(2, 0))


def test_coco_names_in_another_unicode_form(source, out):
    photo(source / normalize("NFD", "größe.jpg"))
    images = [{"id": "x", "file_name": normalize("NFC", "größe.jpg")}]
    write_json(source / "result.json", coco([("x", 1, [flat(0, 0, 4, 6)])], images=images))
    assert run(source, out) == 0 and np.array_equal(mask(out, normalize("NFD", "größe")), halves(1, 0))


@pytest.mark.parametrize("name", ["images\\a.jpg", "C:\\data\\images\\a.jpg", "./images/a.jpg", "A.JPG"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_coco_paths_and_encodings(source, out, name, encoding):
    photo(source / "images" / "a.jpg")
    images = [{"id": "x", "file_name": name}]  # no size
    content = coco([("x", 1, [flat(0, 0, 4, 6)])], categories=("größe",), images=images)
    write_json(source / "result.json", content, encoding=encoding)
    assert run(source, out) == 0 and np.array_equal(mask(out, "a"), halves(1, 0)) and "größe" in classes(out)
    assert run(source / "result.json", out.with_name("again")) == 0


def test_coco_categories_of_one_name_are_one_class(source, out, capsys):
    photo(source / "a.jpg")
    categories = [{"id": 5, "name": "car"}, {"id": 9, "name": "road"}, {"id": 11, "name": " car"}]
    content = coco([(7, 11, [flat(0, 0, 4, 6)]), (7, 5, [flat(6, 0, 8, 6)])], categories)
    write_json(source / "a.json", content)
    assert run(source, out) == 0
    assert classes(out) == {"background": 0, "car": 1, "road": 2}
    assert np.array_equal(mask(out, "a"), painted((1, 0, 0, 4, 6), (1, 6, 0, 8, 6)))
    report = capsys.readouterr().out
    assert "categories of the same name are one class: car" in report
    assert "no pixel is labelled road: delete it from classes.yaml if you do not need it" in report


def test_coco_roboflows_category_above_the_others_is_left_out(source, out, capsys):
    photo(source / "a.jpg")
    categories = [{"id": 0, "name": "things", "supercategory": "none"}]
    categories += [{"id": 1, "name": "car", "supercategory": "things"}]
    write_json(source / "a.json", coco([(7, 1, [flat(0, 0, 4, 6)])], categories))
    assert run(source, out) == 0 and classes(out) == {"background": 0, "car": 1}
    assert "categories above others, without annotations: 1 (things)" in capsys.readouterr().out


def test_coco_background_and_void_categories(source, out):
    photo(source / "a.jpg")
    content = coco([(7, 2, [flat(0, 0, 2, 6)]), (7, 3, [flat(2, 0, 4, 6)])], ("_background_", "car", "ignore"))
    write_json(source / "a.json", content)
    assert run(source, out) == 0 and classes(out) == {"background": 0, "car": 1}
    assert np.array_equal(mask(out, "a"), painted((1, 0, 0, 2, 6), (255, 2, 0, 4, 6)))


def test_coco_files_and_photos_of_different_names(source, out, capsys):
    images = [{"id": number, "file_name": f"frame{number}.jpg"} for number in range(6)]
    write_json(source / "a.json", coco([(0, 1, [flat(0, 0, 4, 6)])], images=images))
    assert run(source, out) == 1
    expected = "which has none: put frame0.jpg, frame1.jpg and 4 more beside the file or in images/"
    assert expected in one_line(capsys)
    for number in range(6):
        photo(source / "images" / f"p{number}.jpg")
    assert run(source, out) == 1
    assert one_line(capsys) == (
        f"error: a.json names none of the photos in {source}: it names frame0.jpg, frame1.jpg and 4 more, the folder "
        "has images/p0.jpg, images/p1.jpg and 4 more: give them equal names\n"
    )


def test_coco_photos_without_annotations(source, out, capsys):
    images = [{"id": number, "file_name": f"{name}.jpg"} for number, name in enumerate("abce")]
    for name in "abd":
        photo(source / f"{name}.jpg")
    write_json(source / "a.json", coco([(0, 1, [flat(0, 0, 4, 6)]), (3, 1, [flat(0, 0, 4, 6)])], images=images))
    assert run(source, out) == 0
    assert not mask(out, "b").any() and sorted(path.name for path in (out / "images").iterdir()) == ["a.jpg", "b.jpg"]
    report = capsys.readouterr().out
    assert f"Please check (correct {out}/classes.yaml, or give the flag):" in report
    assert "photos without annotations are all background: 1 (b.jpg)" in report
    assert "photos that are missing: 2 (c.jpg (0 annotations), e.jpg (1 annotation))" in report
    assert "photos that no annotation file lists: 1 (d.jpg)" in report
    assert run(source, out, "--empty", "leave_out", "--overwrite") == 0
    assert [path.name for path in (out / "images").iterdir()] == ["a.jpg"]


def test_coco_annotations_of_images_that_are_not_listed(source, out, capsys):
    photo(source / "a.jpg")
    box = [flat(0, 0, 4, 6)]
    write_json(source / "a.json", coco([(7, 1, box), ("7", 1, box), (77, 2, box), (77, 2, box)]))
    assert run(source, out) == 0 and np.array_equal(mask(out, "a"), halves(1, 0))
    report = capsys.readouterr().out
    assert "annotations of images that the file does not list: 3 (a.json: image_id '7', a.json: image_id 77," in report
    write_json(source / "a.json", coco([("7", 1, box)]))
    assert run(source, out, "--overwrite") == 1
    assert "has the image_id of a photo, but 1 (a.json: image_id '7'): correct these ids" in one_line(capsys)


def test_coco_test_file_without_annotations(source, out, capsys):
    for split in ("train", "test"):
        photo(source / split / "a.jpg")
        write_json(source / split / "x.json", coco([(7, 1, [flat(0, 0, 4, 6)])] if split == "train" else []))
    assert run(source, out) == 0
    assert {*files(out)} >= {"images/test/a.jpg", "masks/train/a.png"} and "masks/test/a.png" not in files(out)
    assert "test photos without annotations, which get no masks: 1" in capsys.readouterr().out


def test_coco_shapes_that_cover_nothing_are_counted(source, out, capsys):
    photo(source / "a.jpg")
    shapes = [[flat(0, 0, 4, 6)], [[1, 1, 2, 2]], [], [flat(50, 50, 60, 60)], [flat(-9, -9, 2, 3)]]
    write_json(source / "a.json", coco([(7, 1, shape) for shape in shapes]))
    assert run(source, out) == 0 and np.array_equal(mask(out, "a"), halves(1, 0))
    report = capsys.readouterr().out
    assert "polygons of fewer than 3 points: 1 (a.json: annotation 1)" in report
    assert "annotations without an outline (boxes only): 1 (a.json: annotation 2)" in report
    assert "regions that cover no pixel's centre or lie outside their photo: 1 (the first in a.jpg)" in report


@pytest.mark.parametrize(
    ("annotation", "complaint"),
    [
        ((7, 9, [flat(0, 0, 4, 6)]), "category 9, which categories does not list"),
        ((7, 1, [["x", 1, 2, 3, 4, 5]]), "annotation 0 is not as COCO writes it"),
        ((7, 1, [[1, 2, 3, 4, 5, 6, 7]]), "annotation 0 is not as COCO writes it"),
        ((7, 1, [[float("nan"), 2, 3, 4, 5, 6]]), "annotation 0 is not as COCO writes it"),
        ((7, 1, []), "boxes"),
    ],
)
def test_wrong_coco_annotations(source, out, annotation, complaint, capsys):
    photo(source / "a.jpg")
    write_json(source / "a.json", coco([annotation]))
    assert run(source, out) == 1 and not out.exists() and complaint in capsys.readouterr().err.splitlines()[0]


@pytest.mark.parametrize(
    "runs", [{"size": [6, 8], "counts": [1, 2]}, {"size": [8, 6], "counts": [0, 48]}, {"counts": "a"}]
)
def test_wrong_coco_runs_name_the_photo(source, out, runs, capsys):
    photo(source / "a.jpg")
    write_json(source / "a.json", coco([(7, 1, runs)]))
    assert run(source, out) == 1 and not out.exists()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and "a.jpg" in lines[0] and "a.json" in lines[0]


@pytest.mark.parametrize("content", ['{"images": [', '{"images": 1, "annotations": 2, "categories": 3}', ""])
def test_wrong_coco_files(source, out, content, capsys):
    photo(source / "a.jpg")
    (source / "_annotations.coco.json").write_text(content)
    assert run(source, out) == 1 and not out.exists() and one_line(capsys)


def test_coco_photo_of_another_size(source, out, capsys):
    photo(source / "a.jpg", 12, 16)
    write_json(source / "a.json", coco([(7, 1, [flat(0, 0, 4, 6)])]))
    assert run(source, out) == 1 and not out.exists()
    line = capsys.readouterr().err.splitlines()[0]
    assert "a.json" in line and "a.jpg has 6x8 pixels" in line and "it has 12x16" in line


def test_coco_more_classes_than_fit(source, out, capsys):
    photo(source / "a.jpg")
    names = tuple(f"class {number}" for number in range(300))
    write_json(source / "a.json", coco([(7, 1, [flat(0, 0, 4, 6)])], names))
    assert run(source, out) == 1 and "300 classes: at most 254" in one_line(capsys)


def test_coco_captions_and_keypoints_beside_the_instances(source, out, capsys):
    photo(source / "train2017" / "a.jpg")
    instances = coco([(7, 1, [flat(0, 0, 4, 6)])])
    folder = source / "annotations"
    write_json(folder / "instances_train2017.json", instances)
    write_json(folder / "person_keypoints_train2017.json", coco([(7, 1, [flat(0, 0, 8, 6)])]))
    write_json(folder / "captions_train2017.json", instances | {"annotations": [{"image_id": 7, "caption": "x"}]})
    assert run(source, out) == 0 and np.array_equal(mask(out, "train/a"), halves(1, 0))
    assert "persons that are in the instances file: 1 (annotations/person_keypoints" in capsys.readouterr().out


def test_coco_photos_below_the_files_folder_come_first(source, out):
    for folder in ("valid", "valid-mini"):
        photo(source / folder / "images" / "a.jpg")
        write_json(source / folder / "_annotations.coco.json", coco([(7, 1, [flat(0, 0, 4, 6)])]))
    assert run(source, out) == 0 and len([*(out / "masks" / "val").iterdir()]) == 2


def test_coco_two_files_for_a_photo(source, out, capsys):
    photo(source / "a.jpg")
    for name in ("one", "two"):
        write_json(source / f"{name}.json", coco([(7, 1, [flat(0, 0, 4, 6)])]))
    assert run(source, out) == 1 and "both annotate a.jpg" in one_line(capsys)


def test_coco_category_without_a_name(source, out, capsys):
    photo(source / "a.jpg")
    for name in (None, " "):
        write_json(source / "a.json", coco([(7, 1, [flat(0, 0, 4, 6)])], [{"id": 1, "name": name}]))
        assert run(source, out) == 1 and "a.json: 1 has no name: give it one" in one_line(capsys)


def test_no_more_photos_are_drawn_to_see_overlaps_than_said(source, out, monkeypatch):
    seen = []
    monkeypatch.setattr(drawing, "SAMPLE", 2)
    monkeypatch.setattr(drawing, "in_threads", lambda function, rows: seen.append(len(rows)) or map(function, rows))
    images = [{"id": name, "file_name": f"{name}.jpg"} for name in "abc"]
    for name in "abc":
        photo(source / f"{name}.jpg")
    write_json(source / "a.json", coco([(name, 1, [flat(0, 0, 4, 6)]) for name in "abc"], images=images))
    assert run(source, out) == 0 and seen == [2]


def test_coco_ids_that_are_there_twice_are_refused(source, out, capsys):
    for name in "ab":
        photo(source / f"{name}.jpg")
    box, images = [flat(0, 0, 4, 6)], [{"id": 7, "file_name": name} for name in ("a.jpg", "b.jpg")]
    write_json(source / "a.json", coco([(7, 1, box)], images=images))
    assert run(source, out) == 1 and "'a.jpg' and 'b.jpg' have the same id 7: change one" in one_line(capsys)
    write_json(source / "a.json", coco([(7, 1, box), (8, 1, box)], images=[images[0], images[0] | {"id": 8}]))
    assert run(source, out) == 1 and "a.json lists a.jpg twice: keep one of them" in one_line(capsys)
    write_json(source / "a.json", coco([(7, 1, box)], [{"id": 1, "name": name} for name in ("car", "road")]))
    assert run(source, out) == 1 and "'car' and 'road' have the same id 1: change one" in one_line(capsys)


@pytest.mark.parametrize("orientation", [3, 6])
def test_coco_draws_on_the_upright_photo(source, out, orientation):
    from data_scripts.reader import read_label

    exif = Image.Exif()
    exif[0x0112] = orientation
    photo(source / "a.jpg", 6, 8, exif=exif)
    height, width = (6, 8) if orientation == 3 else (8, 6)
    images = [{"id": 7, "file_name": "a.jpg", "height": height, "width": width}]
    write_json(source / "a.json", coco([(7, 1, [flat(0, 0, 3, 2)])], images=images))
    assert run(source, out) == 0
    expected = painted((1, 0, 0, 3, 2), height=height, width=width)
    assert np.array_equal(read_label(str(out / "masks" / "a.png"), str(out / "images" / "a.jpg")), expected)


# YOLO


def yolo(path, *rows, height=6, width=8, **options) -> None:
    """Write a photo and its label file. `rows` are lines, or a class and the corners in pixels."""
    photo(path, height, width, **options)
    lines = [
        row if isinstance(row, str) else " ".join(map(str, [row[0], *(np.array(row[1]) / (width, height)).ravel()]))
        for row in rows
    ]
    parts = ["labels" if part == "images" else part for part in path.with_suffix(".txt").parts]
    Path(*parts).parent.mkdir(parents=True, exist_ok=True)
    Path(*parts).write_text("".join(f"{line}\n" for line in lines))


def data_yaml(folder, names="[car, road]", **keys) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{key}: {value}" for key, value in keys.items()]
    (folder / "data.yaml").write_text("\n".join([*lines, f"names: {names}"]) + "\n")


LEFT, RIGHT = square(0, 0, 4, 6), square(4, 0, 8, 6)


def test_yolo_beside_a_yaml_of_another_program(source, out):
    yolo(source / "images" / "a.jpg", (0, LEFT))
    (source / "settings.yaml").write_bytes("names: Straße".encode("latin-1"))
    assert run(source, out) == 0 and np.array_equal(mask(out, "a"), halves(1, 0))


@pytest.mark.parametrize("names", ["[car, road]", "{0: car, 1: road}", "\n  1: road\n  0: car", "\n- car\n- road"])
def test_yolo_polygons_later_on_top(source, out, names, capsys):
    data_yaml(source, names, path="C:\\Users\\me\\data", train="images/train", val="images/val", nc=2)
    yolo(source / "images" / "train" / "a.jpg", (1, square(0, 0, 6, 4)), (0, square(4, 2, 8, 6)))
    yolo(source / "images" / "val" / "a.jpg", (1, LEFT), "0.0\t0.5 0 1 0 1.0004 1 0.5 1 ")  # rounded
    assert run(source, out) == 0
    assert np.array_equal(mask(out, "train/a"), painted((2, 0, 0, 6, 4), (1, 4, 2, 8, 6)))
    assert np.array_equal(mask(out, "val/a"), halves(2, 1)) and classes(out) == {"background": 0, "car": 1, "road": 2}
    report = capsys.readouterr().out
    assert "YOLO segmentation" in report and "4 regions" in report and "the later one in the file is on top" in report


def test_yolo_triangles_cover_the_pixels_whose_centres_lie_inside(source, out):
    corners = np.array([(2.3, 1.1), (27.4, 9.6), (8.2, 18.7)])
    data_yaml(source, train="images")
    yolo(source / "images" / "a.jpg", (1, corners), height=20, width=30)
    assert run(source, out) == 0
    centres = np.stack(np.meshgrid(np.arange(30) + 0.5, np.arange(20) + 0.5), axis=-1)
    sides = []
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        along, there = end - start, centres - start
        sides.append(along[0] * there[..., 1] - along[1] * there[..., 0] > 0)
    assert np.array_equal(mask(out, "train/a"), np.all(sides, axis=0) * 2) and np.all(sides, axis=0).sum() > 150


def test_yolo_as_roboflow_writes_it(source, out, capsys):
    """../train/images is train/images beside data.yaml, and the test folder that it names is often not there."""
    keys = {"train": "../train/images", "val": "../valid/images", "test": "../test/images"}
    data_yaml(source, **keys, roboflow="{license: CC BY 4.0}")
    yolo(source / "train" / "images" / "a.jpg", (0, LEFT))
    yolo(source / "valid" / "images" / "a.jpg", (1, RIGHT))
    (source / "README.roboflow.txt").write_text("YOLOv8 format")
    assert run(source, out) == 0 and read_classes(out / "classes.yaml")[1].licence == "CC BY 4.0"
    assert np.array_equal(mask(out, "train/a"), halves(1, 0)) and np.array_equal(mask(out, "val/a"), halves(0, 2))
    assert "data.yaml names ../test/images (test), which is not there" in capsys.readouterr().out


@pytest.mark.parametrize("path", ["../datasets/roads", "/datasets/roads", "."])
def test_yolo_split_of_the_folder_images(source, out, path, capsys):
    """Other than in Roboflow's ../train/images, the word is all that the value says."""
    data_yaml(source, path=path, train="images", val="images_val")
    yolo(source / "images" / "a.jpg", (0, LEFT))
    yolo(source / "images_val" / "b.jpg", (1, LEFT))
    assert run(source, out) == 0 and {*files(out)} >= {"masks/train/a.png", "masks/val/b.png"}
    assert "not there" not in capsys.readouterr().out


def test_yolo_splits_from_lists_as_cvat_writes_them(source, out, capsys):
    data_yaml(source, path="./", train="train.txt", val="[val.txt]")
    for name in "abc":
        yolo(source / "images" / "train" / f"{name}.jpg", (0, LEFT))
    (source / "train.txt").write_text("data/images/train/a.jpg\n./images/train/x.jpg\n")
    (source / "val.txt").write_text("data/images/train/b.jpg\n")
    assert run(source, out) == 0
    assert {path for path in files(out) if path.startswith("masks")} == {"masks/train/a.png", "masks/val/b.png"}
    report = capsys.readouterr().out
    assert "photos that data.yaml does not name: 1 (images/train/c.jpg)" in report
    assert "photos that train.txt names and are missing: 1 (./images/train/x.jpg)" in report


def test_yolo_photos_without_outlines(source, out, capsys):
    data_yaml(source, path="../datasets", train="images/train", test="images/test")
    folder = source / "images" / "train"
    yolo(folder / "a.jpg", (0, LEFT), "1 0.5 0.5 0.1 0.1")
    yolo(folder / "boxes.jpg", "1 0.5 0.5 0.1 0.1")
    yolo(folder / "empty.jpg")
    for path in (folder / "none.jpg", source / "images" / "test" / "t.jpg"):
        photo(path)
    (source / "labels" / "train" / "gone.txt").write_text("")
    expected = {"leave_out": {"a"}, "background": {"a", "empty", "none"}, None: {"a", "empty"}}
    for choice, names in expected.items():
        assert run(source, out, "--overwrite", *(["--empty", choice] if choice else [])) == 0
        assert {path.stem for path in (out / "masks" / "train").iterdir()} == names
        assert "images/test/t.jpg" in files(out) and "masks/test/t.png" not in files(out)
    assert np.array_equal(mask(out, "train/a"), halves(1, 0)) and not mask(out, "train/empty").any()
    report = capsys.readouterr().out
    report = report[report.rindex("YOLO") :]
    assert "photos with an empty label file are all background: 1 (images/train/empty.jpg)" in report
    assert "keep them, all background): 1 (images/train/none.jpg)" in report
    assert "test photos without labels, which get no masks: 1 (images/test/t.jpg)" in report
    assert "boxes, which have no outline: 2 (labels/train/a.txt: line 2, labels/train/boxes.txt: line 1)" in report
    assert "photos of which only boxes are labelled: 1 (images/train/boxes.jpg)" in report
    assert "label files without a photo: 1 (labels/train/gone.txt)" in report


@pytest.mark.parametrize("listed", ["classes.txt", None])
def test_yolo_without_data_yaml(source, out, listed, capsys):
    yolo(source / "train" / "a.jpg", (0, LEFT), (2, RIGHT))  # side by side
    yolo(source / "val" / "a.jpg", (2, LEFT))
    if listed:
        (source / listed).write_text("car\nroad\ntree\n")
    assert run(source, out) == 0
    assert [*classes(out)] == ["background", *(["car", "road", "tree"] if listed else ["class_0", "class_2"])]
    assert np.array_equal(mask(out, "train/a"), halves(1, 3 if listed else 2))
    assert ("no data.yaml and no classes.txt names the classes" in capsys.readouterr().out) == (not listed)


def test_yolo_s_numbers_in_a_list_are_its_ids(source, out, capsys):
    yolo(source / "a.jpg", (2, LEFT))
    (source / "classes.txt").write_text("3: tree\n1: car\n2: road\n")
    assert run(source, out) == 0 and [*classes(out)] == ["background", "car", "road", "tree"]
    assert np.array_equal(mask(out, "a"), halves(2, 0))
    yolo(source / "b.jpg", (0, LEFT))
    assert run(source, out, "--overwrite") == 1
    assert f"b.txt: line 1 has class 0, which {source}/classes.txt does not name" in capsys.readouterr().err


def test_yolo_on_a_rotated_photo(source, out):
    data_yaml(source, train="images")
    exif = Image.Exif()
    exif[0x0112] = 6  # upright, it has 8 rows and 6 columns
    yolo(source / "images" / "a.jpg", "0 0 0 1 0 1 0.25 0 0.25", exif=exif)
    assert run(source, out) == 0
    assert np.array_equal(mask(out, "train/a"), painted((1, 0, 0, 2, 6)))  # as stored: the upright top is left


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("2 0 0 1 0 1 1", "has class 2, which {yaml} does not name"),
        ("-1 0 0 1 0 1 1", "has the class -1.0, which is not a whole number"),
        ("0.5 0 0 1 0 1 1", "has the class 0.5, which is not a whole number"),
        ("0 0 0 1 0 1 1.02", "has the coordinate 1.02: give shares of width and height, from 0 to 1"),
        ("0 0 0 320 0 320 -240", "has the coordinate 320.0: give shares"),
        ("0 0 0 1 0 1 nan", "has the coordinate nan"),
        ("0 0 0 1 0 1 1 0.9", "has 7 coordinates, which are not pairs of x and y"),
        ("0 0 0", "has 1 points: an outline needs 3"),
        ("0", "has 0 points: an outline needs 3"),
        ("car 0 0 1 0 1 1", "is not a class and coordinates: 'car 0 0 1 0 1 1'"),
    ],
)
def test_wrong_yolo_lines(source, out, line, complaint, capsys):
    data_yaml(source, train="images")
    yolo(source / "images" / "a.jpg", (0, LEFT))
    yolo(source / "images" / "b.jpg", (0, LEFT), "", line)
    assert run(source, out) == 1 and not out.exists()
    first, last = capsys.readouterr().err.splitlines()
    complaint = complaint.format(yaml=source / "data.yaml")
    assert f"{source}/labels/b.txt: line 3 {complaint}" in first and "1 bad file, and photos" in last
    assert run(source, out, "--skip_bad") == 0 and [path.name for path in (out / "masks/train").iterdir()] == ["a.png"]
    (source / "images" / "a.jpg").unlink()
    assert run(source, out, "--skip_bad", "--overwrite") == 1


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("names: []", "names is []: give each class a name"),
        ("names: car", "names is 'car': give each class a name"),
        ("names: [car, '']", "give each class a name"),
        ("names: {car: 0}", "data.yaml: names is not as YOLO writes it"),
        ("names: [[car]]", "data.yaml: names is not as YOLO writes it"),
        ("names: [car", "data.yaml cannot be read as YAML at line 1, column "),
        ("names: [car]\nkpt_shape: [17, 3]", "data.yaml is of keypoints (kpt_shape), not of outlines"),
        ("names: [car]\ntrain: images\nval: images", "images/a.jpg is in train and in val: remove one of them"),
        ("names: [car]\ntrain: other", "no photo that data.yaml names has outlines"),
    ],
)
def test_wrong_data_yaml(source, out, content, complaint, capsys):
    yolo(source / "images" / "a.jpg", (0, LEFT))
    photo(source / "other" / "b.jpg")
    (source / "data.yaml").write_text(content)
    assert run(source, out) == 1 and not out.exists() and complaint in one_line(capsys)


def test_two_yolo_data_sets_are_not_mixed(source, out, capsys):
    for folder, names in (("one", "[car]"), ("two", "[road]")):
        data_yaml(source / folder, names, train="images")
        yolo(source / folder / "images" / "a.jpg", (0, LEFT))
    assert run(source, out) == 1
    assert "one/data.yaml and two/data.yaml, which differ: name the folder" in one_line(capsys)
    assert run(source / "two", out) == 0 and classes(out) == {"background": 0, "road": 1}


def test_yolo_boxes_alone_are_refused_and_do_not_hide_masks(source, out, capsys):
    data_yaml(source, train="images")
    yolo(source / "images" / "a.jpg", "1 0.5 0.5 0.1 0.1")
    assert run(source, out) == 1
    assert "labels/a.txt is a YOLO file of boxes, which have no outline: label outlines" in one_line(capsys)
    save(source / "masks" / "a.png", halves(0, 1))
    assert run(source, out) == 0 and np.array_equal(mask(out, "a"), halves(0, 1))


# labelme


def labelme(path, shapes, image="a.jpg", size=(6, 8), **more) -> None:
    entries = [
        {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}, **extra}
        for label, kind, points, extra in shapes
    ]
    content = {"version": "5.2.1", "flags": {}, "shapes": entries, "imagePath": image, "imageData": None}
    write_json(path, {**content, "imageHeight": size[0], "imageWidth": size[1], **more})


def test_labelme_files_and_shapes_without_labels(source, out, capsys):
    shape = ("polygon", square(0, 0, 4, 6), {})
    for name, labels in (("a", ["car", None, " "]), ("b", [])):
        photo(source / f"{name}.jpg")
        labelme(source / f"{name}.json", [(label, *shape) for label in labels], image=f"{name}.jpg")
    assert run(source, out) == 0 and classes(out) == {"background": 0, "car": 1}
    report = capsys.readouterr().out
    assert "photos without shapes are all background: 1 (b.jpg) (--empty leave_out: omit them)" in report
    assert "shapes without a label: 2 (a.json: shape 2 (), a.json: shape 3 ())" in report
    assert run(source, out, "--overwrite", "--empty", "leave_out") == 0 and not (out / "images" / "b.jpg").exists()


def test_labelme_folders_of_the_photos_are_the_splits(source, out):
    for name, split in (("a", "train"), ("b", "val")):
        photo(source / "images" / split / f"{name}.jpg")
        labelme(
            source / "json" / f"{name}.json",
            [("car", "polygon", square(0, 0, 4, 6), {})],
            image=f"../images/{split}/{name}.jpg",
        )
    assert run(source, out) == 0 and {*files(out)} >= {"masks/train/a.png", "masks/val/b.png"}


def test_labelme_shapes(source, out, capsys):
    photo(source / "a.jpg", 40, 60)
    bitmap = io.BytesIO()
    Image.fromarray(painted((255, 1, 0, 3, 2), height=3, width=4)).save(bitmap, "PNG")
    shapes = [
        ("road", "polygon", square(0, 0, 60, 20), {}),
        ("car", "rectangle", [[12, 8], [4, 2]], {}),
        ("sign", "circle", [[30, 10], [30, 15]], {}),
        ("__ignore__", "polygon", square(50, 0, 60, 10), {}),
        ("wire", "linestrip", [[0, 30], [20, 30]], {}),
        ("tip", "point", [[45, 30]], {}),
        ("blob", "mask", [[50, 30], [53, 32]], {"mask": base64.b64encode(bitmap.getvalue()).decode()}),
    ]
    labelme(source / "a.json", shapes, size=(40, 60))
    assert run(source, out) == 0
    ids = {name: number for number, name in enumerate(sorted({shape[0] for shape in shapes} - {"__ignore__"}), start=1)}
    assert classes(out) == {"background": 0, **ids}
    rows, columns = np.mgrid[:40, :60] + 0.5
    expected = painted((ids["road"], 0, 0, 60, 20), (ids["car"], 4, 2, 12, 8), height=40, width=60)
    expected[(columns - 30) ** 2 + (rows - 10) ** 2 <= 25] = ids["sign"]
    expected[:10, 50:] = 255
    expected[(np.clip(columns, 0, 20) - columns) ** 2 + (rows - 30) ** 2 <= 25] = ids["wire"]
    expected[(columns - 45) ** 2 + (rows - 30) ** 2 <= 25] = ids["tip"]
    expected[30:32, 51:53] = ids["blob"]
    assert np.array_equal(mask(out, "a"), expected)
    assert "__ignore__ means no class" in capsys.readouterr().out


def test_labelme_rectangles_of_four_corners(source, out):
    photo(source / "a.jpg")
    labelme(source / "a.json", [("car", "rectangle", square(1, 2, 5, 6), {})])
    assert run(source, out) == 0 and np.array_equal(mask(out, "a"), painted((1, 1, 2, 5, 6)))


def test_labelme_classes_of_labels_txt(source, out, capsys):
    photo(source / "a.jpg")
    (source / "labels.txt").write_bytes("\ufeff__ignore__\r\n_background_\r\nroad\r\ncar\r\n".encode())
    labelme(
        source / "a.json", [("car", "polygon", square(0, 0, 4, 6), {}), ("bike", "polygon", square(6, 0, 8, 6), {})]
    )
    assert run(source, out) == 0
    assert classes(out) == {"background": 0, "road": 1, "car": 2, "bike": 3}
    assert np.array_equal(mask(out, "a"), painted((2, 0, 0, 4, 6), (3, 6, 0, 8, 6)))
    assert "labels.txt does not list bike" in capsys.readouterr().out


def test_labelme_photo_inside_the_file(source, out):
    data = io.BytesIO()
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(data, "JPEG")
    inside = base64.b64encode(data.getvalue()).decode()
    labelme(source / "b 1.json", [("car", "polygon", square(0, 0, 4, 6), {})], image="gone.jpg", imageData=inside)
    assert run(source, out) == 0
    assert (out / "images" / "b 1.jpg").read_bytes() == data.getvalue() and np.array_equal(
        mask(out, "b 1"), halves(1, 0)
    )


def test_labelme_files_without_shapes(source, out, capsys):
    """labelme also stores flags of whole photos."""
    photo(source / "a.jpg")
    labelme(source / "a.json", [])
    assert run(source, out) == 1 and "a.json outline no object: draw polygons in labelme" in one_line(capsys)


def test_labelme_apart_from_the_photos(source, out):
    for split in ("train", "val"):
        photo(source / split / "images" / "a.jpg")
        path = source / split / "labels" / "a.json"
        labelme(path, [("car", "polygon", square(0, 0, 4, 6), {})], image="..\\images\\a.jpg")
    assert run(source, out) == 0 and {*files(out)} >= {"images/train/a.jpg", "masks/val/a.png"}


def test_labelme_photos_without_a_file(source, out, capsys):
    photo(source / "a.jpg")
    photo(source / "b.jpg")
    labelme(source / "a.json", [("car", "polygon", square(0, 0, 4, 6), {})])
    labelme(source / "c.json", [("car", "polygon", square(0, 0, 4, 6), {})], image="c.jpg")
    assert run(source, out) == 0 and not (out / "images" / "b.jpg").exists()
    report = capsys.readouterr().out
    assert "photos without a JSON file (--empty background: keep them, all background): 1 (b.jpg)" in report
    assert "files whose photo is missing: 1 (c.json (c.jpg))" in report
    assert run(source, out, "--empty", "background", "--overwrite") == 0 and not mask(out, "b").any()


def test_labelme_odd_shapes_are_counted(source, out, capsys):
    photo(source / "a.jpg")
    shapes = [("car", "polygon", square(0, 0, 4, 6), {}), ("car", "polygon", [[1, 1], [2, 2]], {})]
    labelme(source / "a.json", [*shapes, ("car", "cuboid", square(0, 0, 8, 6), {})])
    assert run(source, out) == 0 and np.array_equal(mask(out, "a"), halves(1, 0))
    report = capsys.readouterr().out
    assert "shapes with too few points: 1 (a.json: shape 2 (car))" in report
    assert "shapes of the type cuboid: 1 (a.json: shape 3 (car))" in report


@pytest.mark.parametrize(
    ("shape", "complaint"),
    [
        ({"points": [[0, 0]]}, "no 'label'"),
        ({"label": "car", "points": [["x", 0], [1, 1], [2, 2]]}, "not as labelme writes it"),
        (
            {"label": "car", "points": [[0, 0], [1, 1]], "shape_type": "mask", "mask": "zzzz"},
            "cannot open mask a.json: shape 1 (car)",
        ),
    ],
)
def test_wrong_labelme_files(source, out, shape, complaint, capsys):
    photo(source / "a.jpg")
    write_json(source / "a.json", {"version": "5", "shapes": [shape], "imagePath": "a.jpg"})
    assert run(source, out) == 1 and not out.exists()
    line = capsys.readouterr().err.splitlines()[0]
    assert "a.json" in line and complaint in line


# Label Studio


def region(kind, label, size=(6, 8), **value) -> dict:
    value[kind] = [label]
    return {"type": kind, "original_height": size[0], "original_width": size[1], "value": value, "id": "r"}


def brush(label, bits) -> dict:
    colors = np.zeros((*bits.shape, 4), np.uint8)
    colors[bits] = 255
    return region("brushlabels", label, bits.shape, format="rle", rle=pack(colors.ravel().tolist()))


def task(results, image="/data/upload/1/0a1b2c3d-a.jpg", **more) -> dict:
    return {"id": 5, "data": {"image": image}, "annotations": [{"result": results, "was_cancelled": False, **more}]}


def percent(left, top, right, bottom) -> list[list[float]]:
    return [[x / 8 * 100, y / 6 * 100] for x, y in square(left, top, right, bottom)]


def test_label_studio_shapes(source, out, capsys):
    photo(source / "images" / "a.jpg")
    bits = painted((1, 1, 1, 3, 5)).astype(bool)
    results = [
        region("polygonlabels", "road", points=percent(0, 0, 8, 4), closed=True),
        region("rectanglelabels", "car", x=50, y=0, width=25, height=50, rotation=0),
        brush("tree", bits),
        region("ellipselabels", "sign", x=87.5, y=50, radiusX=12.5, radiusY=1 / 6 * 100, rotation=0),
        {"type": "choices", "value": {"choices": ["sunny"]}},
    ]
    write_json(source / "export.json", [task(results)])
    assert run(source, out) == 0
    assert classes(out) == {"background": 0, "car": 1, "road": 2, "sign": 3, "tree": 4}
    expected = painted((2, 0, 0, 8, 4), (1, 4, 0, 6, 3), (4, 1, 1, 3, 5), (3, 6, 2, 8, 4))
    assert np.array_equal(mask(out, "a"), expected)
    assert "Label Studio" in capsys.readouterr().out


@pytest.mark.parametrize(
    "image",
    [
        "a.jpg",
        "/data/local-files/?d=my%20folder/a.jpg",
        "s3://bucket/images/a.jpg",
        "http://host/x/a.jpg?t=1",
        "x\\a.jpg",
    ],
)
def test_label_studio_names_of_photos(source, out, image):
    photo(source / "a.jpg")
    write_json(source / "export.json", [task([region("polygonlabels", "car", points=percent(0, 0, 4, 6))], image)])
    assert run(source, out) == 0 and np.array_equal(mask(out, "a"), halves(1, 0))


def test_label_studio_changes_the_names_of_uploads(source, out):
    photo(source / "my yard (1).jpg")
    results = [region("polygonlabels", "car", points=percent(0, 0, 4, 6))]
    write_json(source / "export.json", [task(results, "/data/upload/1/0a1b2c3d-my_yard_1.jpg")])
    assert run(source, out) == 0 and np.array_equal(mask(out, "my yard (1)"), halves(1, 0))


def test_label_studio_json_min(source, out):
    photo(source / "a.jpg")
    entry = {"points": percent(0, 0, 4, 6), "polygonlabels": ["car"], "original_width": 8, "original_height": 6}
    write_json(source / "min.json", [{"image": "/data/upload/a.jpg", "id": 1, "label": [entry], "annotator": 1}])
    assert run(source, out) == 0 and np.array_equal(mask(out, "a"), halves(1, 0))


def test_label_studio_labels_apart_from_shapes(source, out, capsys):
    """The tag <Labels> labels shapes of all kinds, but also text, and points, which cover nothing."""
    photo(source / "a.jpg")
    shapes = [
        region("labels", "road", points=percent(0, 0, 8, 4)),
        region("labels", "car", x=50, y=0, width=25, height=50, rotation=0),
        brush("tree", painted((1, 1, 1, 3, 5)).astype(bool)),
        region("labels", "sign", x=87.5, y=50, radiusX=12.5, radiusY=1 / 6 * 100, rotation=0),
    ]
    shapes[2]["value"]["labels"] = shapes[2]["value"].pop("brushlabels")
    results = []
    for number, shape in enumerate(shapes):
        shape |= {"id": f"r{number}", "type": "labels"}
        value = {key: each for key, each in shape["value"].items() if key != "labels"}
        results += [shape | {"type": "polygon", "value": value}, shape]
    results.append({"id": "t", "type": "labels", "value": {"start": 3, "end": 9, "text": "a road", "labels": ["road"]}})
    results.append(region("labels", "tip", x=5, y=5, width=2) | {"id": "k"})
    write_json(source / "export.json", [task(results)])
    assert run(source, out) == 0
    assert classes(out) == {"background": 0, "car": 1, "road": 2, "sign": 3, "tree": 4}
    expected = painted((2, 0, 0, 8, 4), (1, 4, 0, 6, 3), (4, 1, 1, 3, 5), (3, 6, 2, 8, 4))
    assert np.array_equal(mask(out, "a"), expected)
    assert "results without a labelled region (labels): 1 (" in capsys.readouterr().out


def test_label_studio_which_annotation_counts(source, out, capsys):
    for name in "abc":
        photo(source / f"{name}.jpg")
    old, new = ([region("polygonlabels", label, points=percent(0, 0, 4, 6))] for label in ("old", "new"))
    several = task(old, "a.jpg", updated_at="2024-01-01")
    several["annotations"] += [{"result": new, "updated_at": "2024-02-01"}, {"result": old, "was_cancelled": True}]
    skipped = task(old, "b.jpg")
    skipped["annotations"][0]["was_cancelled"] = True
    write_json(source / "export.json", [several, skipped, task([], "c.jpg")])
    assert run(source, out) == 0 and classes(out) == {"background": 0, "new": 1}
    assert not mask(out, "c").any() and not (out / "images" / "b.jpg").exists()
    report = capsys.readouterr().out
    assert "older annotations of photos that have several: 1" in report
    assert "photos that nobody has annotated yet: 1 (b.jpg)" in report


@pytest.mark.parametrize(
    ("result", "complaint"),
    [
        (region("polygonlabels", "car", points=[["x", 1]]), "not as Label Studio writes it"),
        (region("polygonlabels", "car", points=[[float("nan"), 1], [2, 2], [3, 3]]), "not a number"),
        (
            {"type": "polygonlabels", "value": {"polygonlabels": ["car"], "points": percent(0, 0, 4, 6)}},
            "original_height",
        ),
        (region("brushlabels", "car", format="rle", rle=[1, 2, 3]), "brush stroke"),
        (region("polygonlabels", "car", size=(6, 9), points=percent(0, 0, 4, 6)), "6x9"),
        ({"type": "choices", "value": {"choices": ["sunny"]}}, "no polygon, brush"),
    ],
)
def test_wrong_label_studio_results(source, out, result, complaint, capsys):
    photo(source / "a.jpg")
    write_json(source / "export.json", [task([result], "a.jpg")])
    assert run(source, out) == 1 and not out.exists()
    line = capsys.readouterr().err.splitlines()[0]
    assert complaint in line and "export.json" in line


def test_label_studio_one_label_without_a_list(source, out):
    photo(source / "a.jpg")
    write_json(source / "export.json", [task([region("labels", "car", points=percent(0, 0, 4, 6))], "a.jpg")])
    text = (source / "export.json").read_text()
    (source / "export.json").write_text(text.replace('["car"]', '"car"'))
    assert run(source, out) == 0 and classes(out) == {"background": 0, "car": 1}


def test_label_studio_photos_without_regions(source, out, capsys):
    tasks = [task([region("polygonlabels", "car", points=percent(0, 0, 4, 6))], "a.jpg"), task([], "b.jpg")]
    for name in "ab":
        photo(source / f"{name}.jpg")
    write_json(source / "export.json", tasks)
    assert run(source, out) == 0 and not mask(out, "b").any()
    assert "photos without regions are all background: 1 (b.jpg) (--empty leave_out" in capsys.readouterr().out
    assert run(source, out, "--empty", "leave_out", "--overwrite") == 0 and "masks/b.png" not in files(out)


def test_label_studio_regions_on_photos_of_two_sizes(source, out, capsys):
    photo(source / "a.jpg")
    regions = [region("polygonlabels", "car", size, points=percent(0, 0, 4, 6)) for size in ((12, 16), (6, 8))]
    write_json(source / "export.json", [task(regions, "a.jpg")])
    assert run(source, out) == 1
    assert "6x8 (height x width), other regions on 12x16" in capsys.readouterr().err.splitlines()[0]


def test_label_studio_without_its_photos(source, out, capsys):
    write_json(source / "export.json", [task([region("polygonlabels", "car", points=percent(0, 0, 4, 6))])])
    assert run(source, out) == 1 and "put them beside the file" in one_line(capsys)


def test_label_studio_tasks_without_a_photo(source, out, capsys):
    write_json(source / "export.json", [{"id": 1, "data": {"text": "x"}, "annotations": [{"result": []}]}])
    assert run(source, out) == 1 and "name no photo: export tasks of one image each" in one_line(capsys)


# VOC, CVAT, Roboflow


def voc(source, names=("a", "b"), suffix=".jpg", folder="."):
    for name in names:
        photo(source / folder / "JPEGImages" / f"{name}{suffix}")
        save(source / folder / "SegmentationClass" / f"{name}.png", halves(0, 1))
        save(source / folder / "SegmentationObject" / f"{name}.png", halves(0, 9))


def test_voc_lists_are_the_splits(source, out, capsys):
    voc(source, "abcde", folder="VOCdevkit/VOC2012")
    lists = source / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_bytes(b"\xef\xbb\xbfa\r\nb\r\n\r\n")
    (lists / "val.txt").write_text("c\nmissing\n")
    (lists / "trainval.txt").write_text("a\nb\nc\n")
    (lists / "test.txt").write_text("d\n")
    assert run(source, out) == 0
    assert {name for name in files(out) if name.startswith("masks")} == {
        *("masks/train/a.png", "masks/train/b.png", "masks/val/c.png", "masks/test/d.png")
    }
    report = capsys.readouterr().out
    assert (
        "photos in no list of" in report
        and "e.jpg" in report
        and "names in lists without a photo: 1 (missing)" in report
    )


@pytest.mark.parametrize("form", ["{split}/{kind}", "{kind}/{split}"])
def test_voc_folders_are_the_splits_without_lists(source, out, form):
    for split, names in (("train", "ab"), ("valid", "a"), ("test", "c")):
        for name in names:
            photo(source / form.format(split=split, kind="JPEGImages") / f"{name}.jpg")
            if split != "test":
                mask_file = source / form.format(split=split, kind="SegmentationClass") / f"{name}.png"
                save(mask_file, halves(0, 1) if split == "train" else halves(1, 0))
    assert run(source, out) == 0
    written = {"masks/train/a.png", "masks/train/b.png", "masks/val/a.png", "images/test/c.jpg"}
    assert {name for name in files(out) if "masks" in name or "test" in name} == written
    assert np.array_equal(mask(out, "val/a"), halves(1, 0))


def test_cvat_colours_and_folders(source, out):
    for folder in ("x", "y"):
        photo(source / "JPEGImages" / folder / "1.PNG")
        array = np.array([(0, 0, 0), (250, 50, 83)], np.uint8)[halves(0, 1)]
        save(source / "SegmentationClass" / folder / "1.png", array)
    (source / "labelmap.txt").write_text("# label:color_rgb:parts:actions\nbackground:0,0,0::\ncar:250,50,83::\n")
    lists = source / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "default.txt").write_text("x/1\ny/1\n")
    assert run(source, out) == 0
    assert np.array_equal(mask(out, "JPEGImages_x_1"), halves(0, 1)) and colors(out)["car"] == [250, 50, 83]


def test_voc_names_in_two_lists(source, out, capsys):
    voc(source)
    lists = source / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\nb\n")
    (lists / "val.txt").write_text("b\n")
    assert run(source, out) == 1 and "both name b" in one_line(capsys)


def test_voc_without_masks_of_the_photos_names(source, out, capsys):
    photo(source / "JPEGImages" / "a.jpg")
    save(source / "SegmentationClass" / "b.png", halves(0, 1))
    assert run(source, out) == 1 and "has a mask of its name" in one_line(capsys)


def roboflow(source, content="Pixel Value, Class\n0, background\n1, road\n2, car", splits=("train", "valid", "test")):
    for split in splits:
        photo(source / split / "a_jpg.rf.0f.jpg")
        save(source / split / "a_jpg.rf.0f_mask.png", halves(0, 2))
        (source / split / "_classes.csv").write_bytes(content.encode())


@pytest.mark.parametrize(
    "content",
    [
        "Pixel Value, Class\n0, background\n1, road\n2, car",
        "\ufeffPixel Value,Class\r\n0,background\r\n1,road\r\n2,car\r\n",
        "pixel value;class\n0;background\n1;road\n2;car\n\n",
    ],
)
def test_roboflow_masks(source, out, content, capsys):
    roboflow(source, content)
    assert run(source, out) == 0
    assert classes(out) == {"background": 0, "road": 1, "car": 2}
    for split in ("train", "val", "test"):
        assert np.array_equal(mask(out, f"{split}/a_jpg.rf.0f"), halves(0, 2))
    assert "Roboflow masks" in capsys.readouterr().out


def test_roboflow_lists_must_agree(source, out, capsys):
    roboflow(source)
    (source / "valid" / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, car\n2, road")
    assert run(source, out) == 1 and "list different classes" in one_line(capsys)


def test_roboflow_values_that_are_there_twice_are_refused(source, out, capsys):
    roboflow(source, "Pixel Value, Class\n0, background\n2, road\n2, car")
    assert run(source, out) == 1 and "_classes.csv: 'road' and 'car' have the same id 2" in one_line(capsys)


def test_roboflow_export_of_another_task(source, out, capsys):
    roboflow(source, "filename, car, road\na.jpg, 1, 0")
    assert run(source, out) == 1 and "export 'Semantic Segmentation Masks'" in one_line(capsys)


# datasets


def png(array) -> dict:
    data = io.BytesIO()
    Image.fromarray(array).save(data, "PNG")
    return {"path": None, "bytes": data.getvalue()}


RGB = np.zeros((6, 8, 3), np.uint8)


def saved(source, masks, image="image", label="label", feature=None, paths=(None,), **splits):
    columns = {image: [png(RGB) | {"path": paths[i % len(paths)]} for i in range(len(masks))], label: masks}
    features = Features({image: ImageColumn(), label: feature or ImageColumn()})
    data = Dataset.from_dict(columns, features=features)
    (DatasetDict(dict.fromkeys(splits, data)) if splits else data).save_to_disk(str(source))


def test_datasets_of_save_to_disk(source, out, capsys):
    saved(source, [png(halves(0, 2)), png(halves(2, 1))], train=1, validation=1)
    (source / "id2label.json").write_text('{"0": "background", "1": "road", "2": "car"}')
    before = files(source)
    assert run(source, out) == 0 and files(source) == before
    assert classes(out) == {"background": 0, "road": 1, "car": 2}
    assert np.array_equal(mask(out, "train/train_000000"), halves(0, 2))
    assert np.array_equal(mask(out, "val/validation_000001"), halves(2, 1))
    assert "photos are in the column image, masks in label" in capsys.readouterr().out


def test_datasets_columns(source, out, capsys):
    saved(source, [png(halves(0, 1))], "pixel_values", "strange", paths=("dir/x 1.png",))
    assert run(source, out) == 0 and np.array_equal(mask(out, "x 1"), halves(0, 1))
    assert run(source, out, "--overwrite", "--label_column", "nope") == 1
    assert "has no column nope of images: give --label_column, one of pixel_values, strange" in one_line(capsys)
    assert run(source, out, "--overwrite", "--image_column", "strange", "--label_column", "pixel_values") == 1


def test_datasets_with_one_column_for_both(source, out, capsys):
    saved(source, [png(halves(0, 1))])
    assert run(source, out, "--label_column", "image", "--image_column", "image") == 1
    assert "--image_column and --label_column are both image: name the column of masks" in one_line(capsys)


@pytest.mark.parametrize("nested", [True, False])
def test_datasets_arrays(source, out, nested):
    names = ClassLabel(names=["background", "road", "car"])
    feature = List(List(names)) if nested else Array2D((6, 8), "uint8")
    saved(source, [halves(0, 2).tolist()], feature=feature)
    assert run(source, out) == 0 and np.array_equal(mask(out, "row_000000"), halves(0, 2))
    assert classes(out) == ({"background": 0, "road": 1, "car": 2} if nested else {"background": 0, "class_2": 2})


def test_datasets_with_ragged_arrays(source, out, capsys):
    saved(source, [halves(0, 2).tolist(), [[0, 1], [2]]], feature=List(List(Value("uint8"))))
    assert run(source, out) == 1 and not out.exists()
    assert "row 1 of split train, column label is no array (height, width) of ids" in capsys.readouterr().err
    assert run(source, out, "--skip_bad") == 0 and np.array_equal(mask(out, "row_000000"), halves(0, 2))


@pytest.mark.parametrize(("kind", "value"), [("string", "x"), ("float32", 0.5), ("float32", float("nan"))])
def test_datasets_with_arrays_of_no_ids(source, out, kind, value, capsys):
    saved(source, [[[value] * 8] * 6], feature=List(List(Value(kind))))
    assert run(source, out) == 1 and "column label is no array (height, width) of ids" in capsys.readouterr().err


def test_datasets_without_masks(source, out, capsys):
    features = Features({"image": ImageColumn(), "label": ClassLabel(names=["cat", "dog"]), "text": Value("string")})
    rows = {"image": [png(RGB)], "label": [0], "text": ["a"]}
    Dataset.from_dict(rows, features=features).save_to_disk(str(source))
    assert run(source, out) == 1 and "give --label_column" in one_line(capsys)


def test_datasets_with_an_empty_mask(source, out, capsys):
    saved(source, [png(halves(0, 2)), None])
    assert run(source, out) == 1 and not out.exists()
    assert "row 1 of split train, column label is empty" in capsys.readouterr().err


@pytest.mark.parametrize("label", ["null", "absent", "array"])
def test_datasets_whose_test_split_has_no_masks(source, out, label, capsys):
    feature = List(List(Value("uint8"))) if label == "array" else ImageColumn()
    masks = [halves(0, 2).tolist() if label == "array" else png(halves(0, 2))]
    splits = {}
    for split, values in (("test", [None, None]), ("train", masks)):
        columns = {"image": [png(RGB)] * len(values), "label": values}
        features = Features({"image": ImageColumn(), "label": feature})
        splits[split] = Dataset.from_dict(columns, features=features)
    if label == "absent":
        splits["test"] = splits["test"].remove_columns("label")
    DatasetDict(splits).save_to_disk(str(source))
    assert run(source, out) == 0 and np.array_equal(mask(out, "train/train_000000"), halves(0, 2))
    assert "images/test/test_000001.png" in files(out) and not (out / "masks/test/test_000001.png").exists()
    assert "train 1, test 2" in capsys.readouterr().out


def test_datasets_with_empty_masks_elsewhere_are_refused(source, out, capsys):
    saved(source, [png(halves(0, 2)), None], train=1, test=1)
    assert run(source, out) == 1 and not out.exists()
    assert "row 1 of split test, column label is empty" in capsys.readouterr().err
    saved(source.with_name("unlabelled"), [None], test=1)
    assert run(source.with_name("unlabelled"), out) == 1 and "has no masks in the column label" in one_line(capsys)


def test_datasets_parquet(source, out):
    saved(source.with_name("saved"), [png(halves(0, 2))])
    source.mkdir()
    from datasets import load_from_disk

    load_from_disk(str(source.with_name("saved"))).to_parquet(str(source / "train.parquet"))
    assert run(source, out) == 0 and np.array_equal(mask(out, "train/train_000000"), halves(0, 2))


def test_a_hub_id_that_cannot_be_had_is_one_line(out, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "someone").mkdir()  # as an earlier run may have left it
    assert run("someone/nothing-of-this-name", out) == 1 and not out.exists()
    assert "cannot load the data set someone/nothing-of-this-name" in one_line(capsys)


# Names


@pytest.mark.parametrize("tool", ["coco", "labelme", "label_studio"])
def test_a_name_that_several_photos_have_is_not_called_missing(source, out, tool, capsys):
    for name in ("cam1/1.jpg", "cam2/1.jpg", "2.jpg"):
        photo(source / name)
    for number in (1, 2):
        path, name = source / f"{number}.json", f"{number}.jpg"
        if tool == "coco":
            content = coco([(7, 1, [flat(0, 0, 4, 6)])], images=[{"id": 7, "file_name": name}])
            write_json(path, content)
        elif tool == "labelme":
            labelme(path, [("car", "polygon", square(0, 0, 4, 6), {})], image=name)
        else:
            write_json(path, [task([region("polygonlabels", "car", points=percent(0, 0, 4, 6))], name)])
    assert run(source, out) == 0 and np.array_equal(mask(out, "2"), halves(1, 0))
    report = capsys.readouterr().out
    assert "photos of whose name there are several" in report and "missing" not in report
    assert "(cam1/1.jpg, cam2/1.jpg)" in report
    (source / "2.json").unlink()
    assert run(source, out, "--overwrite") == 1 and "(cam1/1.jpg, cam2/1.jpg)" in one_line(capsys)


def annotate(tool, folder, names) -> None:
    """Write annotations of the left half of each photo that a tool calls by one of these names."""
    if tool == "coco":
        images = [{"id": name, "file_name": name} for name in names]
        write_json(folder / "a.json", coco([(name, 1, [flat(0, 0, 4, 6)]) for name in names], images=images))
    elif tool == "labelme":
        for number, name in enumerate(names):
            labelme(folder / "json" / f"x{number}.json", [("car", "polygon", square(0, 0, 4, 6), {})], image=name)
    else:
        results = [region("polygonlabels", "car", points=percent(0, 0, 4, 6))]
        write_json(folder / "a.json", [task(results, name) for name in names])


@pytest.mark.parametrize("tool", ["coco", "labelme", "label_studio"])
@pytest.mark.parametrize("beginning", ["/home/me/data/", "D:\\data\\", "more/"])
def test_the_longest_ending_of_a_path_that_is_found_counts(source, out, tool, beginning, capsys):
    photos = ("cam1/1.jpg", "cam2/1.jpg", f"images/{normalize('NFD', 'größe')}/1.jpg", "images/1.jpg")
    for name in photos:
        photo(source / name)
    annotate(tool, source, [beginning + name for name in ("cam1/1.jpg", "Cam2/1.JPG", "größe/1.jpg")])
    assert run(source, out) == 0 and "missing" not in capsys.readouterr().out
    written = {path.stem for path in (out / "masks").iterdir()}
    assert written == {name.removesuffix(".jpg").replace("/", "_") for name in photos[:3]}


@pytest.mark.parametrize("tool", ["coco", "labelme", "label_studio"])
@pytest.mark.parametrize("beginning", ["", "/home/me/data/", "D:\\data\\"])
@pytest.mark.parametrize("below", ["", "images/"])
def test_a_missing_photo_is_not_one_of_another_folder(source, out, tool, beginning, below, capsys):
    for name in ("1.jpg", "2.jpg"):
        photo(source / "cam1" / below / name)
    names = [f"{beginning}{folder}/{below}{name}" for folder, name in (("cam2", "1.jpg"), ("cam1", "2.jpg"))]
    annotate(tool, source, names)
    assert run(source, out) == 0 and [path.name for path in (out / "masks").iterdir()] == ["2.png"]
    report = capsys.readouterr().out
    line = next(line for line in report.splitlines() if "missing: 1 (" in line)
    assert names[0] in line and f": 1 (cam1/{below}1.jpg)" in report


def test_coco_regions_of_a_missing_photo_are_not_drawn_on_another(source, out, capsys):
    photo(source / "images" / "cam1" / "1.jpg")
    photo(source / "images" / "cam1" / "2.jpg")
    images = [{"id": name, "file_name": name} for name in ("cam1/1.jpg", "cam2/1.jpg", "cam1/2.jpg")]
    rows = [("cam2/1.jpg", 1, [flat(0, 0, 4, 6)]), ("cam1/2.jpg", 2, [flat(0, 0, 4, 6)])]
    write_json(source / "a.json", coco(rows, images=images))
    assert run(source, out) == 0 and not mask(out, "1").any() and np.array_equal(mask(out, "2"), halves(2, 0))
    assert "photos that are missing: 1 (cam2/1.jpg (1 annotation))" in capsys.readouterr().out
    write_json(source / "a.json", coco([*rows, ("cam1/1.jpg", 2, [flat(0, 0, 4, 6)])], images=images))
    assert run(source, out, "--overwrite") == 0 and np.array_equal(mask(out, "1"), halves(2, 0))


def test_coco_photos_beside_a_file_are_not_sought_elsewhere(source, out, capsys):
    for folder, names in (("train", "bc"), ("valid", "a")):
        for name in names:
            photo(source / folder / ("more" if name == "c" else "") / f"{name}.jpg")
    for folder, names in (("train", "abc"), ("valid", "a")):
        images = [{"id": name, "file_name": f"{name}.jpg"} for name in names]
        rows = [(name, 1 if folder == "train" else 2, [flat(0, 0, 4, 6)]) for name in names]
        write_json(source / folder / "_annotations.coco.json", coco(rows, images=images))
    assert run(source, out) == 0 and np.array_equal(mask(out, "val/a"), halves(2, 0))
    assert {path.name for path in (out / "masks" / "train").iterdir()} == {"b.png", "c.png"}
    assert "photos that are missing: 1 (a.jpg (1 annotation))" in capsys.readouterr().out


def test_labelme_photos_beside_files_are_not_sought_elsewhere(source, out, capsys):
    for name in ("b/1.jpg", "c/2.jpg"):
        photo(source / name)
    for name in ("a/1", "c/2"):
        labelme(source / f"{name}.json", [("car", "polygon", square(0, 0, 4, 6), {})], image=f"{name[2:]}.jpg")
    assert run(source, out) == 0 and [path.name for path in (out / "masks").iterdir()] == ["2.png"]
    assert "files whose photo is missing: 1 (a/1.json (1.jpg))" in capsys.readouterr().out


def test_labelme_files_in_a_folder_of_their_own_but_one(source, out, capsys):
    for name in "0123":
        photo(source / "images" / f"{name}.jpg")
        folder = "images" if name == "3" else "labels"
        labelme(source / folder / f"{name}.json", [("car", "polygon", square(0, 0, 4, 6), {})], image=f"{name}.jpg")
    assert run(source, out) == 0 and len([*(out / "masks").iterdir()]) == 4
    assert "missing" not in capsys.readouterr().out


def test_labelme_photo_beside_a_file_that_was_renamed_with_it(source, out):
    for name in ("a/1.jpg", "b/IMG_1.jpg"):
        photo(source / name)
    labelme(source / "a" / "1.json", [("car", "polygon", square(0, 0, 4, 6), {})], image="IMG_1.jpg")
    assert run(source, out) == 0 and [path.name for path in (out / "masks").iterdir()] == ["1.png"]


@pytest.mark.parametrize("tool", ["coco", "labelme", "label_studio"])
def test_two_names_never_have_one_photo(source, out, tool, capsys):
    for name in ("1.jpg", "2.jpg"):
        photo(source / name)
    annotate(tool, source, ["C:\\cam1\\1.jpg", "C:\\cam2\\1.jpg", "C:\\cam2\\2.jpg"])
    assert run(source, out) == 0 and [path.name for path in (out / "masks").iterdir()] == ["2.png"]
    report = capsys.readouterr().out
    assert "missing: 2 (" in report and "C:\\cam1\\1.jpg" in report and "C:\\cam2\\1.jpg" in report


@pytest.mark.parametrize("stored", ["s3://bucket/yard/b.jpg", "/data/local-files/?d=more/cam1/c.jpg"])
def test_label_studio_uploads_beside_photos_of_a_storage(source, out, stored):
    for name in ("a", "b", "cam1/c"):
        photo(source / f"{name}.jpg")
    annotate("label_studio", source, ["/data/upload/1/0a1b2c3d-a.jpg", stored])
    assert run(source, out) == 0 and {path.stem for path in (out / "masks").iterdir()} == {"a", stored[-5]}


# Damaged annotations


@pytest.mark.parametrize("tool", ["coco", "labelme", "label_studio"])
def test_photos_with_bad_annotations_can_be_left_out(source, out, tool, capsys):
    good, wrong = [0, 0, 4, 0, 4, 6], [0, 0, 4, 0, 4]
    for name in "abc":
        photo(source / f"{name}.jpg")
    if tool == "coco":
        images = [{"id": name, "file_name": f"{name}.jpg"} for name in "abc"]
        rows = [("a", 1, [good]), ("b", 1, [wrong]), ("b", 1, [wrong]), ("b", 1, [good]), ("c", "1", [good])]
        write_json(source / "a.json", coco(rows, images=images))
    elif tool == "labelme":
        for name, points in (("a", good), ("b", wrong)):
            labelme(source / f"{name}.json", [("car", "polygon", points, {})], image=f"{name}.jpg")
        (source / "c.json").write_text('{"version": "5", "shapes": [')
    else:
        tasks = [task([region("polygonlabels", "car", points=each)], "a.jpg") for each in (good, wrong)]
        tasks[1]["data"]["image"] = "b.jpg"
        write_json(source / "export.json", [*tasks, task(None, "c.jpg", result=3)])
    assert run(source, out) == 1 and not out.exists()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and "[0, 0, 4, 0, 4] is no list of points x, y; correct it" in "".join(lines[:2])
    assert run(source, out, "--skip_bad") == 0 and [path.name for path in (out / "images").iterdir()] == ["a.jpg"]
    report = capsys.readouterr().out
    assert report.count("bad file (--skip_bad): ") == 2 and "b.jpg, c.jpg" not in report
    if tool == "labelme":
        assert run(source, out, "--skip_bad", "--empty", "background") == 0 and not (out / "images" / "c.jpg").exists()


def mutated(content: object, rng: np.random.Generator) -> object:
    """Return a copy with one value removed, or replaced by one of another type."""
    content = json.loads(json.dumps(content))
    places, waiting = [], [content]
    for node in waiting:  # the loop appends to it
        for key in node if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            waiting += [node[key]] if isinstance(node[key], (dict, list)) and len(node[key]) else []
    node, key = places[rng.integers(len(places))]
    others = (None, [], {}, "x", -1, float("inf"), float("nan"), 10**30, True, [[]], [None], {"a": 1}, "", 3.7)
    if rng.random() < 0.3 and isinstance(node, dict):
        del node[key]
    else:
        node[key] = others[rng.integers(len(others))]
    return content


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("tool", ["coco", "labelme", "label_studio"])
def test_damaged_annotations_never_end_in_a_traceback(source, out, tool, seed, capsys):
    photo(source / "a.jpg")
    path = source / "a.json"
    if tool == "coco":
        runs = [{"size": [6, 8], "counts": counts} for counts in ([3, 5, 40], compress([3, 5, 40]))]
        content = coco([(7, 2, [flat(0, 0, 6, 4)]), *((7, 1, each) for each in runs)])
    elif tool == "labelme":
        shapes = [("b", kind, [[3, 3], [4, 4]], {}) for kind in ("rectangle", "circle", "linestrip", "point")]
        labelme(path, [("car", "polygon", square(0, 0, 4, 6), {}), *shapes])
        content = json.loads(path.read_text())
    else:
        box = region("rectanglelabels", "q", x=1, y=2, width=30, height=30, rotation=3)
        shapes = [region("polygonlabels", "r", points=percent(0, 0, 8, 4)), brush("t", halves(0, 1).astype(bool)), box]
        content = [task(shapes, "a.jpg")]
    rng = np.random.default_rng(seed)
    for number in range(12):
        write_json(path, mutated(content, rng))
        folder = out.with_name(f"out {number}")
        code = run(source, folder)
        lines = capsys.readouterr().err.splitlines()
        assert code == 0 and not lines or code == 1 and lines and not folder.exists()
        assert all(line.startswith("error: ") for line in lines)


# Recognition


def test_kind_overrides(source, out, capsys):
    photo(source / "a.jpg")
    save(source / "a_mask.png", halves(0, 2))
    labelme(source / "a.json", [("car", "polygon", square(0, 0, 4, 6), {})])
    assert run(source, out) == 0 and np.array_equal(mask(out, "a"), halves(1, 0))
    assert run(source, out, "--kind", "masks", "--overwrite") == 0 and np.array_equal(mask(out, "a"), halves(0, 2))
    assert run(source, out, "--kind", "coco", "--overwrite") == 1
    assert "--kind coco" in one_line(capsys)


@pytest.mark.parametrize(
    ("tool", "flag"),
    [
        ("masks", "--overlap smaller"),
        ("masks", "--empty leave_out"),
        ("masks", "--image_column nonsense"),
        ("voc", "--empty background"),
        ("roboflow", "--overlap later"),
        ("coco", "--mask_values levels"),
        ("yolo", "--mask_values ids"),
        ("labelme", "--label_column label"),
        ("label_studio", "--mask_values ids"),
        ("datasets", "--overlap later"),
    ],
)
def test_a_flag_that_a_kind_does_not_read_is_refused(source, out, tool, flag, capsys):
    if tool in ("voc", "roboflow", "datasets"):
        make = {"voc": voc, "roboflow": roboflow, "datasets": lambda folder: saved(folder, [png(halves(0, 1))])}
        make[tool](source)
    else:
        photo(source / "a.jpg")
    if tool == "masks":
        save(source / "a_mask.png", halves(0, 1))
    elif tool == "coco":
        write_json(source / "a.json", coco([(7, 1, [flat(0, 0, 4, 6)])]))
    elif tool == "yolo":
        yolo(source / "a.jpg", (0, LEFT))
    elif tool == "labelme":
        labelme(source / "a.json", [("car", "polygon", square(0, 0, 4, 6), {})])
    elif tool == "label_studio":
        write_json(source / "a.json", [task([region("rectanglelabels", "q", x=1, y=2, width=30, height=30)], "a.jpg")])
    assert run(source, out, *flag.split()) == 1 and not out.exists()
    assert f"{flag.split()[0]} has no effect, because SOURCE is read as {tool}: it is for " in one_line(capsys)
    assert run(source, out) == 0


@pytest.mark.parametrize("flag", ["--kind coco", "--overlap later"])
def test_a_flag_that_does_not_fit_a_hub_id_is_refused(out, flag, capsys):
    assert run("someone/nothing-of-this-name", out, *flag.split()) == 1
    assert flag.split()[0] in one_line(capsys)


def test_volumes_are_no_archives(source, out, capsys):
    source.mkdir()
    (source / "la_003.nii.gz").write_bytes(b"x")
    assert run(source, out) == 1
    line = one_line(capsys)
    assert "save photos and masks as PNG" in line and "unpack" not in line


@pytest.mark.parametrize("name", ["nothing", "text.txt", "data.zip"])
def test_a_source_with_nothing_known(source, out, name, capsys):
    source.mkdir()
    if name != "nothing":
        (source / name).write_bytes(b"x")
    assert run(source, out) == 1 and not out.exists()
    line = one_line(capsys)
    assert (
        "is an empty folder: name the folder that holds your photos and masks" if name == "nothing" else name
    ) in line and ("unpack" in line) == (name == "data.zip")


@pytest.mark.parametrize("name", ["no such folder", "file.txt", "file.zip"])
def test_a_source_that_is_no_folder(tmp_path, out, name, capsys):
    if name.startswith("file"):
        (tmp_path / name).write_bytes(b"x")
    assert run(tmp_path / name, out) == 1 and name in one_line(capsys)


# Real samples


@real
def test_real_roboflow(out):
    assert run(REAL / "roboflow", out) == 0
    assert classes(out) == {"background": 0, "obstacle": 1, "road": 2, "sidewalk": 3, "speedbreaker": 4}
    for split, there in (("train", "train"), ("val", "valid")):
        stems = sorted(path.stem for path in (REAL / "roboflow" / there).glob("*.jpg"))
        assert sorted(path.stem for path in (out / "images" / split).iterdir()) == stems
        for stem in stems[:5]:
            with Image.open(REAL / "roboflow" / there / f"{stem}_mask.png") as image:
                assert np.array_equal(mask(out, f"{split}/{stem}"), np.asarray(image))


@real
def test_real_coco(out, capsys):
    assert run(REAL / "coco", out) == 0
    assert len([*(out / "images" / "train").iterdir()]) == 24 and len([*(out / "masks" / "val").iterdir()]) == 8
    content = json.loads((REAL / "coco" / "train" / "_annotations.coco.json").read_text())
    assert {*classes(out)} == {"background", *(entry["name"] for entry in content["categories"])}
    report = capsys.readouterr().out
    assert "one class: facade" in report and "the smaller one is on top" in report


@real
def test_real_voc_and_cvat(out):
    assert run(REAL / "voc", out) == 0
    for path in (REAL / "voc" / "SegmentationClass").iterdir():
        with Image.open(path) as image:
            assert np.array_equal(mask(out, path.stem), np.asarray(image))
    assert run(REAL / "cvat", out, "--overwrite") == 0 and [*classes(out)][:2] == ["background", "cheetah"]
    for path in (REAL / "cvat" / "SegmentationClass").iterdir():
        with Image.open(path) as image:
            assert np.array_equal(mask(out, path.stem) == 1, np.asarray(image)[..., 0] == 224)


def test_a_damaged_photo_inside_a_labelme_file_is_one_line(source, out, capsys):
    labelme(source / "b.json", [("car", "polygon", square(0, 0, 4, 6), {})], image="gone.jpg", imageData="A")
    assert run(source, out) == 1 and "b.json: its imageData is damaged" in capsys.readouterr().err


@real
def test_real_labelme_agrees_with_labelmes_own_masks(out):
    """labelme's example in both forms; labelme draws outlines too, so that its regions are up to a pixel wider."""
    assert run(REAL / "labelme", out) == 0
    for path in (REAL / "voc" / "SegmentationClass").iterdir():
        with Image.open(path) as image:
            assert (mask(out, path.stem) == np.asarray(image)).mean() > 0.99


@real
def test_real_streets(out):
    assert run(REAL / "kitti", out) == 0 and classes(out)["car"] == 26
    with Image.open(REAL / "kitti" / "training" / "semantic" / "000003_10.png") as image:
        assert np.array_equal(mask(out, "train/000003_10"), np.asarray(image))
    assert run(REAL / "cityscapes", out, "--overwrite") == 0 and classes(out)["bicycle"] == 33
