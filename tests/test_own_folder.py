"""A folder of one's own: which files belong together, what is left out and said, and what comes out at the end."""

import json
import re
import shlex
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT, launch
from PIL import Image

from benchmarks import pixel_baseline
from data_scripts import prepare
from data_scripts.arguments import DataOptions
from data_scripts.class_file import default_palette
from data_scripts.file_checks import check_data
from data_scripts.fold_files import Division, load_data
from data_scripts.labels import DataError
from data_scripts.own_folder import prepare_command
from data_scripts.reader import read_label
from data_scripts.recognition import recognize, with_dataset
from data_scripts.saved_classes import saved_labels
from data_scripts.sources import folder_of_images, load_source
from data_scripts.val_share import joined, sequences_of
from seg_jobs.export_checks import find_photos
from seg_jobs.prediction_job import Trained

CLASSES = """\
title: Yards
classes:
  - {name: gravel, id: 3, color: [200, 100, 0], weight: 1, ground: true}
  - {name: grass, id: 1, weight: 2}
  - {name: shed, id: 9, weight: 4}
ignore: [7]
copyblob: ["shed:grass"]
"""
REAL = ROOT.parent / "shared" / "real" / "roboflow"


def picture(path: Path, seed: int = 0, size=(24, 32)) -> None:
    """Write a photo of blobs, which differ a lot between seeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC).save(path)


def mask_of(seed: int, size=(24, 32)) -> np.ndarray:
    """The ids 3, 1, 9, 7 and 255 in stripes, which start elsewhere for each seed."""
    stripes = np.array([3, 1, 9, 7, 255], np.uint8)[(np.arange(size[1]) // 4 + seed) % 5]
    return np.repeat(stripes[None], size[0], axis=0)


def write_mask(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask_of(seed)).save(path)


def own(root: Path, pairs: dict[str, str], classes: str = CLASSES) -> Path:
    """Make a folder with the pairs {image: mask}, each with its number as seed, and classes.yaml."""
    for seed, (image, mask) in enumerate(pairs.items()):
        picture(root / image, seed)
        write_mask(root / mask, seed)
    (root / "classes.yaml").write_text(classes)
    return root


def names(root: Path) -> dict[str, list[str]]:
    return {split: rows["name"] for split, rows in load_source("folder", str(root))[0].items()}


ARRANGEMENTS = {
    "below": ("images/{split}/{name}.jpg", "masks/{split}/{name}.png"),
    "above": ("{split}/images/{name}.jpg", "{split}/masks/{name}.png"),
    "labels": ("images/{split}/{name}.JPG", "labels/{split}/{name}.PNG"),
    "annotations": ("{split}/images/{name}.PNG", "{split}/annotations/{name}_mask.png"),
    "capitals": ("Images/{split}/{name}.Jpeg", "Masks/{split}/{name}_gt.Png"),
    "deeper": ("images/{split}/a b/{name}.webp", "masks/{split}/a b/{name}_label.tif"),
}


@pytest.mark.parametrize("splits", [("train", "val", "test"), ("Train", "Valid", "Test"), ("training", "validation")])
@pytest.mark.parametrize("arrangement", ARRANGEMENTS.values(), ids=ARRANGEMENTS)
def test_splits_are_found_above_and_below_images_and_masks(arrangement, splits, tmp_path):
    each = [{"split": split, "name": f"{i} é"} for split in splits for i in range(2)]
    image, mask = arrangement
    root = own(tmp_path / "my data", {image.format(**one): mask.format(**one) for one in each})
    data, labels = load_source("folder", str(root))
    assert list(data) == ["train", "validation", "test"][: len(splits)]
    rows = [row for split in data.values() for row in split]
    assert [row["name"] for row in rows] == ["0 é", "1 é"] * len(splits)
    for seed, row in enumerate(rows):
        np.testing.assert_array_equal(read_label(row["label"], row["image"]), mask_of(seed))
    assert labels.names == ("gravel", "grass", "shed") and labels.source_ids == (3, 1, 9)
    assert labels.palette == ((200, 100, 0), *default_palette(2)) and labels.class_weights == (1, 2, 4)
    assert recognize(str(root)) == "folder"


def test_train_ids_are_those_of_the_file_pixel_by_pixel(tmp_path):
    data, labels = load_source("folder", str(own(tmp_path, {"images/a.png": "masks/a.png"})))
    expected = np.repeat(np.repeat([[0, 1, 2, 255, 255]], 4, axis=1), 24, axis=0)
    ids = labels.train_ids[read_label(data["train"][0]["label"])]
    np.testing.assert_array_equal(ids[:, :20], expected)
    colors = labels.to_color(ids)
    assert [tuple(colors[0, x]) for x in (0, 4, 8, 12)] == [*labels.palette, (0, 0, 0)]
    assert (labels.to_source(ids)[0, :16] == np.repeat([3, 1, 9, 7], 4)).all()


def test_what_is_left_out_is_counted_and_named(tmp_path, capsys):
    root = own(tmp_path, {f"images/train/{name}.jpg": f"masks/train/{name}.png" for name in "abc"})
    picture(root / "images/train/alone.jpg")
    picture(root / "images/loose.jpg")
    picture(root / "images/test/t.jpg")
    write_mask(root / "masks/train/nobody.png")
    write_mask(root / "masks/train/c_mask.png")
    (root / "images/train/clip.mp4").touch()
    for folder in ("images/train", "masks/train"):
        (root / folder / "Thumbs.db").touch()
        (root / folder / "._a.png").write_bytes(b"\0\5\26\7")
        (root / folder / "notes.txt").touch()
    assert names(root) == {"train": ["a", "b"], "test": ["t"]}
    said = capsys.readouterr().out
    for line in (
        f"note: images of {root}/images in no split are left out (1): loose.jpg\n",
        f"note: images of {root}/images/train without a mask are left out (1): alone.jpg\n",
        f"note: images of {root}/images/train with several masks are left out (1): c.jpg\n",
        f"note: masks of {root}/masks/train without an image are left out (1): nobody.png\n",
        f"note: .mp4 files in {root}/images/train are skipped: clip.mp4; ",
        f"note: {root} has 2 train, 1 test images\n",
    ):
        assert line in said, said
    assert "Thumbs" not in said and "._a" not in said and "notes" not in said


def test_whole_folders_that_are_left_out_are_named_once(tmp_path, capsys):
    pairs = {f"{split}/images/{split}.jpg": f"{split}/masks/{split}.png" for split in ("train", "train2")}
    root = own(tmp_path / "above", pairs)
    other = own(tmp_path / "below", {"images/train/a.jpg": "masks/train/a.png"})
    write_mask(other / "masks/extra/x.png")
    assert recognize(str(root)) == recognize(str(other)) == "folder"
    assert names(root) == {"train": ["train"]} and names(other) == {"train": ["a"]}
    said = capsys.readouterr().out
    for line in (
        f"note: images of {root}/train2/images in no split are left out (1): train2.jpg\n",
        f"note: masks of {root}/train2/masks in no split are left out (1): train2.png\n",
        f"note: masks of {other}/masks in no split are left out (1): extra/x.png\n",
    ):
        assert said.count(line) == 1, said


def test_two_folders_of_one_split_are_refused_above_images_too(tmp_path):
    pairs = {f"{split}/images/{split}.jpg": f"{split}/masks/{split}.png" for split in ("train", "training")}
    with pytest.raises(DataError, match="has files in train and in training: merge these folders"):
        names(own(tmp_path, pairs))


def test_an_image_whose_name_ends_like_a_mask_keeps_its_own_mask(tmp_path):
    pairs = {"images/a.jpg": "masks/a.png", "images/a_mask.jpg": "masks/a_mask.png", "images/b.jpg": "masks/b_mask.png"}
    data, _ = load_source("folder", str(own(tmp_path, pairs)))
    assert [Path(row["label"]["path"]).name for row in data["train"]] == ["a.png", "a_mask.png", "b_mask.png"]


def test_names_match_in_any_case_and_unicode_form(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "Grün") for form in ("NFC", "NFD"))
    pairs = {f"images/{composed}.jpg": f"masks/{decomposed}.png", "images/IMG 1.JPG": "masks/img 1.png"}
    assert len(names(own(tmp_path, pairs))["train"]) == 2


def test_equal_names_in_two_subfolders_stay_apart(tmp_path):
    pairs = {f"images/{place}/1.jpg": f"masks/{place}/1.png" for place in "xy"}
    assert names(own(tmp_path, pairs)) == {"train": ["x/1", "y/1"]}


def test_linked_files_and_folders_are_followed(tmp_path):
    source = own(tmp_path / "disk", {"images/a.jpg": "masks/a.png", "images/b.jpg": "masks/b.png"})
    root = tmp_path / "linked"
    (root / "masks").mkdir(parents=True)
    (root / "images").symlink_to(source / "images")
    for path in (source / "masks").iterdir():
        (root / "masks" / path.name).symlink_to(path)
    (root / "classes.yaml").symlink_to(source / "classes.yaml")
    assert names(root) == {"train": ["a", "b"]}


def test_a_folder_that_may_only_be_read_is_read(tmp_path):
    root = own(tmp_path / "own", {f"images/{i}.jpg": f"masks/{i}.png" for i in range(6)})
    before = sorted(root.rglob("*"))
    for path in [root, *before]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        data, _ = load_data("folder", str(root))
    finally:
        for path in [root, *before]:
            path.chmod(0o755)
    assert (len(data["train"]), len(data["validation"])) == (5, 1) and sorted(root.rglob("*")) == before


def no_classes(root):
    (root / "classes.yaml").unlink()
    return "no classes.yaml"


def no_masks(root):
    shutil.rmtree(root / "masks")
    return "no mask for the 3 images"


def only_tests(root):
    (root / "images" / "test").mkdir()
    return "no images for training, only for test: put some into images/train and masks/train"


def other_names(root):
    for i, path in enumerate(sorted((root / "masks").iterdir())):
        path.rename(path.with_name(f"m{i}.png"))
    return "a mask needs the name of its image"


def two_mask_folders(root):
    shutil.copytree(root / "masks", root / "labels")
    return "masks and in labels: merge these folders, or rename all but one"


def two_splits_of_a_kind(root):
    for path in sorted((root / "images").iterdir()):
        for name in ("train", "training"):
            (root / "images" / name).mkdir(exist_ok=True)
            shutil.copy(path, root / "images" / name)
    return "train and in training: merge these folders, or rename all but one"


def two_arrangements(root):
    shutil.copytree(root / "images", root / "train" / "images")
    return "keep one arrangement"


def no_images(root):
    for path in (root / "images").iterdir():
        path.unlink()
    return "images: put images there, as PNG, JPEG, "


@pytest.mark.parametrize(
    "damage",
    [
        *(no_classes, no_masks, only_tests, other_names, two_mask_folders, two_splits_of_a_kind, two_arrangements),
        no_images,
    ],
)
def test_a_folder_that_cannot_be_read_is_refused_in_one_line(damage, tmp_path):
    root = own(tmp_path / "a b", {f"images/{i}.jpg": f"masks/{i}.png" for i in range(3)})
    part = damage(root)
    with pytest.raises(DataError) as caught:
        load_source("folder", str(root))
    line = str(caught.value)
    assert part in line and str(root) in line and "\n" not in line
    if damage is no_classes:
        assert f"python -m data_scripts.prepare '{root}' '{root}_prepared'" in line


CONVERT = "convert the masks with python -m data_scripts.prepare {root} {root}_prepared"


def colors(path):
    Image.fromarray(np.zeros((24, 32, 3), np.uint8)).save(path)
    return (
        "is in colours (RGB), not class ids: write the colour of each class in {root}/classes.yaml (color: [r, g, b]), "
        "then run python -m data_scripts.prepare {root} {root}_prepared"
    )


def sixteen_bits(path):
    Image.fromarray(np.full((24, 32), 1000, np.uint16)).save(path)
    return f"holds id 1000, but class ids are 0 to 255: {CONVERT}"


def smoothed(path):
    Image.fromarray(np.arange(24 * 32, dtype=np.uint8).reshape(24, 32)).save(path)
    return f"holds id 0 and 250 others, which {{root}}/classes.yaml does not list: {CONVERT}"


def jpeg(path):
    Image.fromarray(mask_of(0)).save(path, "JPEG")
    return "is a JPEG, which changes class ids: save it as PNG"


def another_size(path):
    Image.fromarray(mask_of(0)[:12]).save(path)
    return (
        "is 12x32 (height x width), but its image {root}/images/train/train.jpg is 24x32: use the photo that was "
        "labelled, or export the mask at its size"
    )


def black_and_white(path):
    Image.fromarray(np.where(mask_of(0) == 1, 255, 0).astype(np.uint8)).save(path)
    return f"holds only 0 and 255, and 255 always means ignored: {CONVERT}"


def another_id(path):
    Image.fromarray(np.full((24, 32), 2, np.uint8)).save(path)
    return "holds id 2, which {root}/classes.yaml does not list: add a class with that id, or add it to ignore"


KINDS = [colors, sixteen_bits, smoothed, jpeg, another_size, black_and_white, another_id]


@pytest.mark.parametrize("change", KINDS)
def test_a_mask_of_another_kind_is_named_with_its_own_remedy(change, tmp_path):
    root = own(tmp_path / "own", {f"images/{s}/{s}.jpg": f"masks/{s}/{s}.png" for s in ("train", "val")})
    part = change(root / "masks" / "train" / "train.png")
    data, labels = load_source("folder", str(root))
    with pytest.raises(DataError) as caught:
        check_data(data, labels, ("train",))
    assert str(caught.value) == f"mask {root}/masks/train/train.png {part.format(root=root)}"


def test_masks_of_0_and_255_do_not_train_on_nothing(tmp_path):
    """255 always is ignored, so that one class is left in such masks."""
    classes = "classes: [{name: background, id: 0}, {name: cell, id: 1}]"
    root = own(tmp_path / "own", {f"images/{s}/{s}.jpg": f"masks/{s}/{s}.png" for s in ("train", "val")}, classes)
    for split in ("train", "val"):
        black_and_white(root / "masks" / split / f"{split}.png")
    data, labels = load_source("folder", str(root))
    with pytest.raises(DataError) as caught:
        check_data(data, labels, ("train",))
    line = str(caught.value)
    assert line.startswith(f"mask {root}/masks/train/train.png holds only 0 and 255, and 255 always means ignored: ")
    command = shlex.split(line.split(": convert the masks with ")[1])
    assert prepare.main(command[3:]) == 0
    data, labels = load_source("folder", command[4])
    check_data(data, labels, ("train",))
    assert labels.names == ("background", "cell") and read_label(data["train"][0]["label"]).max() == 1


# --val_share


def yards(root: Path, number: int = 20) -> Path:
    return own(root, {f"images/clip{i // 2}_{i:02}.png": f"masks/clip{i // 2}_{i:02}.png" for i in range(number)})


def held_out(root: Path, *options) -> list[str]:
    data, _ = load_data("folder", str(root), Division(None, None, "train", *options))
    assert set(data["train"]["name"]).isdisjoint(data["validation"]["name"])
    assert data["train"]["index"] == list(range(len(data["train"])))
    return data["validation"]["name"]


def test_a_share_of_the_images_is_held_out_the_same_every_time(tmp_path, capsys):
    root = yards(tmp_path / "one")
    first = held_out(root)
    assert "note: 4 of 20 images are held out for validation (--val_share)" in capsys.readouterr().out
    assert len(first) == 4 == len(held_out(root, 0.2)) and held_out(root) == first
    shutil.copytree(root, tmp_path / "two")
    assert held_out(tmp_path / "two") == first  # elsewhere, and without the cache
    assert len(held_out(root, 0.5)) == 10


def test_a_run_on_all_images_does_not_say_that_some_are_held_out(tmp_path, capsys):
    load_data("folder", str(yards(tmp_path)), Division(train_on="train+val"))
    said = capsys.readouterr().out
    assert "20 train images" in said and "held out" not in said


def test_frames_of_a_sequence_stay_together(tmp_path):
    names = held_out(yards(tmp_path), 0.3, "clip([0-9]+)_")
    assert len(names) == 6 and len({name.split("_")[0] for name in names}) == 3


def test_near_duplicates_stay_together(tmp_path):
    root = yards(tmp_path)
    for i in range(0, 20, 2):  # each second photo is the one before it, a little brighter
        pixels = np.asarray(Image.open(root / f"images/clip{i // 2}_{i:02}.png"))
        brighter = np.clip(pixels.astype(int) + 3, 0, 255).astype(np.uint8)
        Image.fromarray(brighter).save(root / f"images/clip{i // 2}_{i + 1:02}.png")
    names = held_out(root, 0.3)
    assert len(names) == 6 and len({name.split("_")[0] for name in names}) == 3


def test_every_class_is_on_both_sides(tmp_path):
    root = yards(tmp_path)
    for i in range(20):
        Image.fromarray(np.full((24, 32), 9 if i in (4, 11) else 3 if i % 2 else 1, np.uint8)).save(
            root / f"masks/clip{i // 2}_{i:02}.png"
        )
    data, labels = load_data("folder", str(root))
    for split in data.values():
        shown = {int(i) for row in split for i in np.unique(read_label(row["label"]))}
        assert shown == {1, 3, 9}


def test_a_fold_needs_no_validation_images(tmp_path):
    root = yards(tmp_path / "own")
    (tmp_path / "folds.json").write_text(json.dumps({"a": ["clip3_06"]}))
    for train_on in ("train", "train+val"):
        data, _ = load_data("folder", str(root), Division(str(tmp_path / "folds.json"), "a", train_on))
        assert data["validation"]["name"] == ["clip3_06"] and len(data["train"]) == 19


def with_validation(root):
    picture(root / "images/val/v.png")
    write_mask(root / "masks/val/v.png")
    for kind in ("images", "masks"):
        (root / kind / "train").mkdir()
        for path in (root / kind).glob("*.png"):
            path.rename(root / kind / "train" / path.name)


@pytest.mark.parametrize(
    "options, message",
    [
        ((0.2, "("), "--group_by \\( is not a regular expression"),
        ((0.2, "film"), "--group_by film does not match the image clip0_00"),
        ((0.2, "clip"), "--group_by clip has no group"),
        ((0.2, "(c)lip"), "none can be held out: add a folder val"),
    ],
)
def test_images_that_cannot_be_divided_are_refused(options, message, tmp_path):
    with pytest.raises(DataError, match=message):
        held_out(yards(tmp_path), *options)


@pytest.mark.parametrize("options, flag", [((0.3,), "--val_share"), ((None, "(.)"), "--group_by")])
def test_a_division_without_effect_is_refused(options, flag, tmp_path):
    root = yards(tmp_path / "own")
    (tmp_path / "folds.json").write_text(json.dumps({"a": ["clip3_06"]}))
    with pytest.raises(DataError, match=f"{flag} has no effect, because --fold"):
        load_data("folder", str(root), Division(str(tmp_path / "folds.json"), "a", "train", *options))
    with pytest.raises(DataError, match=f"{flag} has no effect, because --train_on train\\+val holds no images out"):
        load_data("folder", str(root), Division(None, None, "train+val", *options))
    with_validation(root)
    assert held_out(root) == ["v"]
    with pytest.raises(DataError, match=f"{flag} has no effect, because .* has validation images"):
        held_out(root, *options)


def test_the_baseline_of_pixels_is_scored_on_the_images_that_are_held_out(tmp_path, capsys):
    flags = ["--dataset", "folder", "--dataset_path"]
    pixel_baseline.main([*flags, str(yards(tmp_path))])
    assert capsys.readouterr().out.splitlines()[-1].startswith("mIoU 0.")
    with pytest.raises(SystemExit):
        pixel_baseline.main([*flags, str(tmp_path / "nowhere")])
    assert capsys.readouterr().err.startswith("error: no folder ")


def test_a_damaged_mask_ends_the_division_in_one_line(tmp_path):
    root = yards(tmp_path)
    (root / "masks/clip0_00.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="clip0_00.png"):
        held_out(root)


def test_groupings_are_joined():
    assert joined(np.array([0, 0, 1, 2, 3]), np.array([0, 1, 1, 2, 3])).tolist() == [0, 0, 0, 3, 4]
    assert sequences_of(["b_1", "a_1", "b_2"], "(.)_").tolist() == [1, 0, 1]


# Recognition


def test_the_layout_is_recognised_and_minicity_comes_first(toycity, tmp_path):
    assert recognize(str(toycity)) == "toycity" and recognize(str(toycity), "minicity") == "minicity"
    (tmp_path / "city" / "leftImg8bit").mkdir(parents=True)
    assert recognize(str(tmp_path / "city")) == "minicity"
    picture(tmp_path / "cities" / "leftImg8bit" / "train" / "aachen" / "a_leftImg8bit.png")
    assert recognize(str(tmp_path / "cities")) == "cityscapes"
    assert recognize(str(tmp_path / "cities"), "minicity") == "minicity"
    for name in ("train", "trainannot"):
        (tmp_path / "cam" / name).mkdir(parents=True)
    assert recognize(str(tmp_path / "cam")) == "camvid"
    root = yards(tmp_path / "own", 2)
    assert with_dataset(DataOptions(dataset_path=str(root))).dataset == "folder"
    assert with_dataset(DataOptions()).dataset == "minicity"
    assert with_dataset(DataOptions(dataset="camvid", dataset_path=str(root))).dataset == "camvid"


def test_a_folder_that_needs_preparing_is_refused_with_the_command(tmp_path):
    root = tmp_path / "photos of mine"
    picture(root / "a.jpg")
    write_mask(root / "a_mask.png")
    with pytest.raises(DataError, match=f"python -m data_scripts.prepare '{root}' '{root}_prepared'"):
        recognize(str(root))
    with pytest.raises(DataError, match="no folder .*missing \\(--dataset_path\\)$"):
        recognize(str(tmp_path / "missing"))
    with pytest.raises(DataError, match="on the hub: --dataset_name some/one"):
        recognize("some/one")


@pytest.mark.parametrize(
    ("folder", "remedy"), [("maks", "rename maks/ to masks/"), (None, "put the masks into masks/")]
)
def test_a_folder_of_masks_of_another_name_is_named(folder, remedy, tmp_path):
    picture(tmp_path / "q" / "images" / "a.jpg")
    if folder:
        write_mask(tmp_path / "q" / folder / "a.png")
    with pytest.raises(DataError, match=f"q has images/ but no masks/ beside it: {remedy} "):
        recognize(str(tmp_path / "q"))


def test_a_classes_yml_asks_for_its_other_name(tmp_path):
    root = own(tmp_path / "q", {"images/a.jpg": "masks/a.png"})
    (root / "classes.yaml").rename(root / "classes.yml")
    with pytest.raises(DataError, match="q .* has classes.yml: rename it to classes.yaml"):
        load_source("folder", str(root))


@pytest.mark.parametrize(
    ("photo", "mask"),
    [
        ("valid/a.jpg", "valid/a_mask.png"),
        ("JPEGImages/a.jpg", "SegmentationClass/a.png"),
        ("training/image_2/a.png", "training/semantic/a.png"),
        ("leftImg8bit/val/a.png", "gtFine/val/a.png"),
    ],
)
def test_masks_are_no_photos_to_predict(photo, mask, tmp_path):
    picture(tmp_path / "q" / photo)
    write_mask(tmp_path / "q" / mask)
    with pytest.raises(DataError, match="--input .* no photos"):
        folder_of_images(str(tmp_path / "q"))
    picture(tmp_path / "other" / "a.jpg")
    picture(tmp_path / "other" / "b.jpg")
    picture(tmp_path / "other" / "c.jpg")
    picture(tmp_path / "other" / "a_label.jpg")  # one such name among others is a photo's own
    assert len(folder_of_images(str(tmp_path / "other"))) == 4


def test_a_data_set_of_the_hub_is_prepared_beside_the_user_s_folders():
    assert prepare_command("some/one") == "python -m data_scripts.prepare some/one one_prepared"


@pytest.mark.parametrize(
    ("root", "command"),
    [
        (".", ". ../mine_prepared"),
        ("./", ". ../mine_prepared"),
        ("..", ".. ../../of_prepared"),
        ("x/.", "x x_prepared"),
    ],
)
def test_the_command_names_a_folder_beside_the_source(tmp_path, monkeypatch, root, command):
    (tmp_path / "of" / "mine" / "x").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "of" / "mine")
    assert prepare_command(root) == f"python -m data_scripts.prepare {command}"


# A run, from the folder to the card

FAST = "--model streetnet --crop_size 24 32 --batch_size 4 --max_train_steps 4 --num_workers 0 --report_to none".split()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder without splits, and a run on it, with a clip of each two images."""
    place = tmp_path_factory.mktemp("own run")
    root, run = yards(place / "my yards"), place / "run"
    flags = [*FAST, "--dataset_path", root, "--group_by", "clip(.*)_", "--loss", "weighted_ce", "--output_dir", run]
    result = launch("train_seg.py", *flags, cwd=place)
    assert result.returncode == 0, result.stderr
    for line in (f"note: {root} has 20 train images", "4 of 20 images, which form 10 groups, are held out"):
        assert result.stdout.count(line) == 1
    return root, run


def test_the_run_records_the_recognised_data_set_and_its_classes(trained):
    root, run = trained
    recorded = yaml.safe_load((run / "args.yaml").read_text())
    assert (recorded["dataset"], recorded["dataset_path"]) == ("folder", str(root))
    assert (recorded["val_share"], recorded["group_by"]) == (None, "clip(.*)_")
    config = json.loads((run / "best" / "config.json").read_text())
    assert config["id2label"] == {"0": "gravel", "1": "grass", "2": "shed"} and config["train_images"] == 16
    palette = [[200, 100, 0], *map(list, default_palette(2))]
    assert config["label_set"] == {"source_ids": [3, 1, 9], "palette": palette, "void_ids": [7, 255]}
    images = {"train": 16, "validation": 4}
    assert config["training_data"] == {"title": "Yards", "images": images} and config["val_share"] == 0.2
    header = (run / "log_epoch.csv").read_text().splitlines()[0]
    assert header.endswith("iou/gravel,iou/grass,iou/shed")


def test_the_card_says_what_the_data_are_and_claims_nothing_else(trained):
    _, run = trained
    card = (run / "best" / "README.md").read_text()
    for part in (
        "# streetnet with batch norm on Yards",
        "16 images, of Yards (16 train, 4 validation images; 20% were held out for validation, ",
        "with these classes: gravel, grass, shed.",
        "The licence of Yards is not known here.",
        "--dataset folder --dataset_path 'my yards'",
        'segment("photo.png")',
    ):
        assert part in card, part
    assert not re.search("cityscapes|minicity(?!-seg)|german|street(?!net)|camvid", card, re.IGNORECASE)


def test_prediction_finds_the_images_that_were_held_out_and_their_score(trained, in_process, tmp_path):
    root, run = trained
    in_process("predict_seg", "--model_name_or_path", run, "--num_workers", 0, "--output_dir", tmp_path)
    names = held_out(root, None, "clip(.*)_")
    assert sorted(path.stem for path in (tmp_path / "results_val").iterdir()) == sorted(names)
    score = json.loads((tmp_path / "scores_val.json").read_text())["mean_iou"]
    assert score == json.loads((run / "best" / "training.json").read_text())["validation"]["mean_iou"]
    colors = {3: (200, 100, 0), 1: default_palette(2)[0], 9: default_palette(2)[1]}
    for name in names:
        ids, shown = (np.asarray(Image.open(tmp_path / f"results{kind}_val/{name}.png")) for kind in ("", "_color"))
        expected = np.array([[colors[i] for i in row] for row in ids.tolist()])
        np.testing.assert_array_equal(shown, expected)


def test_a_run_on_a_folder_resumes_with_the_images_that_it_held_out(trained, in_process, tmp_path, capsys):
    root, run = trained
    shutil.copytree(run, tmp_path / "run")
    in_process("train_seg", "--resume_from_checkpoint", tmp_path / "run", "--max_train_steps", 6)
    assert "step 4 is done" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "best" / "config.json").read_text())["train_images"] == 16
    flags = ["--resume_from_checkpoint", tmp_path / "run", "--max_train_steps", 8]
    with pytest.raises(SystemExit):
        in_process("train_seg", *flags, "--val_share", 0.3)
    assert "--val_share 0.3 differs from None" in capsys.readouterr().err


def test_a_model_alone_predicts_with_its_own_names_and_colours(trained, in_process, tmp_path):
    """As on another machine: neither the data nor the flags of the run are there."""
    root, run = trained
    shutil.copytree(run / "best", tmp_path / "model")
    shutil.copytree(root / "images", tmp_path / "photos")
    flags = ["--model_name_or_path", tmp_path / "model", "--num_workers", 0, "--output_dir", tmp_path / "out"]
    in_process("predict_seg", *flags, "--input", tmp_path / "photos")
    ids = {i for path in (tmp_path / "out/results_photos").iterdir() for i in np.unique(Image.open(path)).tolist()}
    assert ids <= {3, 1, 9}
    colors = [np.asarray(Image.open(path)).reshape(-1, 3) for path in (tmp_path / "out/results_color_photos").iterdir()]
    assert {tuple(color) for color in np.unique(np.concatenate(colors), axis=0).tolist()} <= {
        (200, 100, 0),
        *default_palette(2),
    }


def test_the_demo_shows_its_own_classes(trained, tmp_path):
    from seg_app.facts import facts_of
    from seg_app.models import Segmenter
    from seg_app.requests import NOTHING, Requests
    from seg_runs.launch import make_accelerator

    root, run = trained
    segmenter = Segmenter(str(run), None, False, make_accelerator())
    assert segmenter.labels.names == ("gravel", "grass", "shed")
    facts = facts_of(str(run))
    assert facts.classes == 3 and not facts.publishable
    assert {Path(path).stem for path in facts.examples} == set(held_out(root, None, "clip(.*)_"))
    requests = Requests(lambda: {"mine": segmenter}, tmp_path, 30)
    asked = {"path": facts.examples[0]}, "mine"
    *_, shares = requests.segment(*asked, [1.0], False)
    assert shares and set(shares) <= {"gravel", "grass", "shed"}
    view, *_ = requests.show(*asked, NOTHING, [1.0], False)
    palette = dict(zip(segmenter.labels.names, segmenter.labels.palette, strict=True))
    assert [part["name"] for part in view["classes"]] == list(shares)
    assert all(tuple(part["color"]) == tuple(palette[part["name"]]) for part in view["classes"])


def test_another_folder_is_scored_by_its_own_ids_if_the_classes_agree(trained, in_process, tmp_path, capsys):
    _, run = trained
    other = yards(tmp_path / "other", 4)
    with_validation(other)
    ids = CLASSES.replace("id: 1", "id: 2").replace("id: 3", "id: 1").replace("id: 2", "id: 3")  # gravel 1, grass 3
    (other / "classes.yaml").write_text(ids)
    flags = ["--model_name_or_path", run, "--num_workers", 0, "--dataset_path", other, "--output_dir", tmp_path]
    in_process("predict_seg", *flags, "--splits", "val")
    assert "mIoU" in capsys.readouterr().out
    assert set(np.unique(Image.open(tmp_path / "results_val/v.png"))) <= {1, 3, 9}
    (other / "classes.yaml").write_text(CLASSES.replace("name: shed", "name: barn").replace('"shed:', '"barn:'))
    with pytest.raises(SystemExit):
        in_process("predict_seg", *flags)
    assert "has the classes gravel, grass, barn, but the model predicts gravel, grass, shed" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        in_process("predict_seg", *flags[:4], "--dataset", "camvid", "--dataset_path", other)
    assert "predicts 3 classes but --dataset camvid has 11" in capsys.readouterr().err


def test_weights_of_the_file_reach_the_loss(trained):
    from seg_models.arguments import LossOptions
    from seg_models.objective import loss_from_flags

    _, labels = load_source("folder", str(trained[0]))
    for options in (LossOptions(loss="weighted_ce"), LossOptions(loss="weighted_ce", class_weights="challenge")):
        loss = loss_from_flags(options, labels.class_weights, [9, 9, 9], 3)
        _, weight = loss(torch.zeros(1, 3, 1, 3), torch.tensor([[[0, 1, 2]]]))
        assert weight == 1 + 2 + 4


@pytest.mark.parametrize("damage", [{"palette": [[0, 0, 0]]}, {"source_ids": [3, 1, 7]}, {"void_ids": []}, 3, {}])
def test_a_configuration_whose_classes_do_not_fit_is_refused(damage, trained):
    config = json.loads((trained[1] / "best" / "config.json").read_text())
    assert saved_labels(config).names == ("gravel", "grass", "shed")
    config["label_set"] = config["label_set"] | damage if damage and isinstance(damage, dict) else damage
    with pytest.raises(DataError, match="label_set does not describe the 3 classes"):
        saved_labels(config)


def test_a_network_fine_tuned_elsewhere_keeps_no_colours(trained):
    config = json.loads((trained[1] / "best" / "config.json").read_text())
    found = saved_labels(config | {"id2label": {0: "road", 1: "roof"}})
    assert found.names == ("road", "roof") and found.source_ids == (0, 1) and len(found.palette) == 2


# Real photos


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real photos in ../shared")
def test_a_real_export_that_needs_preparing_is_refused_with_the_command():
    with pytest.raises(DataError, match=f"python -m data_scripts.prepare {REAL} {REAL}_prepared"):
        recognize(str(REAL))


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real photos in ../shared")
def test_real_photos_are_divided_with_every_class_on_both_sides(tmp_path):
    """Obstacle and speed breaker are rare in them."""
    for kind, pattern in (("images", "*.jpg"), ("masks", "*_mask.png")):
        (tmp_path / kind).mkdir()
        for path in sorted((REAL / "train").glob(pattern))[:60]:
            (tmp_path / kind / path.name).symlink_to(path)
    entries = "".join(f"  - {{name: class {i}, id: {i}}}\n" for i in range(5))
    (tmp_path / "classes.yaml").write_text(f"classes:\n{entries}")
    data, labels = load_data("folder", str(tmp_path))
    assert (len(data["train"]), len(data["validation"])) == (48, 12)
    for row in data["validation"]:
        truth = np.asarray(Image.open(REAL / "train" / f"{row['name']}_mask.png"))
        np.testing.assert_array_equal(labels.train_ids[read_label(row["label"], row["image"])], truth)
    shown = [{int(i) for row in split for i in np.unique(read_label(row["label"]))} for split in data.values()]
    assert shown[0] == shown[1] == set(range(5))


def test_two_processes_divide_the_images_once_and_say_so_once(tmp_path):
    """The cache is empty, so one of them counts and compares the images while the other waits."""
    root, run = yards(tmp_path / "own"), tmp_path / "run"
    flags = [*FAST, "--dataset_path", root, "--output_dir", run]
    environment = {"MINICITY_SEG_CACHE": str(tmp_path / "cache")}
    result = launch("train_seg.py", *flags, processes=2, cwd=tmp_path, env=environment)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("are held out for validation") == 1 == result.stdout.count("has 20 train images")
    assert len(list((tmp_path / "cache").glob("facts_*"))) == 1
    validation = json.loads((run / "best" / "training.json").read_text())["validation"]
    assert validation["mean_iou"] > 0


def test_a_wrong_mask_ends_two_processes_with_one_line(tmp_path):
    root = yards(tmp_path / "own", 4)
    colors(root / "masks/clip1_03.png")
    result = launch("train_seg.py", *FAST, "--dataset_path", root, processes=2, cwd=tmp_path)
    assert result.returncode != 0 and "Traceback" not in result.stdout
    lines = [line for line in result.stderr.splitlines() if "is in colours (RGB)" in line]
    assert len(lines) == 1 and "clip1_03.png" in lines[0] and f"data_scripts.prepare {root}" in lines[0]


def test_an_export_notes_once_which_images_are_held_out(tmp_path, capsys):
    """It needs training images to calibrate on, and validation images to score on."""
    root = yards(tmp_path / "own")
    arguments = {"dataset": "folder", "dataset_path": str(root), "train_on": "train"}
    trained = Trained(tmp_path, tmp_path, None, None, arguments)
    labels = load_source("folder", str(root))[1]
    photos = find_photos(None, None, True, trained, "folder", labels)
    assert set(photos.photos["name"]).isdisjoint(photos.labelled["name"])
    assert len(photos.photos) + len(photos.labelled) == 20
    printed = capsys.readouterr()
    assert (printed.out + printed.err).count("are held out for validation") == 1
