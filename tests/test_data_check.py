"""python -m data_scripts.check: each finding appears where it should, and only there."""

import io
import os
import shlex
import shutil

import cv2
import numpy as np
import pytest
from conftest import CAMVID, ROOT
from PIL import Image
from test_near_duplicates import scene

from data_scripts import check, eda
from data_scripts.arguments import DataOptions
from data_scripts.file_checks import check_data
from data_scripts.findings import findings_of
from data_scripts.fold_files import load_data
from data_scripts.labels import DataError
from data_scripts.sources import load_source
from data_scripts.survey import Survey, region_sizes, take_survey
from data_scripts.training import check_command

REAL = ROOT.parent / "shared" / "real"
CLASSES = "classes:\n  - {name: road, id: 1}\n  - {name: car, id: 2}\nignore: [0]\n"
SIZE = (96, 128)


def mask(seed=0):
    """Return ids: sky is ignored, road below, a car on it."""
    ids = np.zeros(SIZE, np.uint8)
    ids[40:] = 1
    ids[50:60, 10 + seed : 40 + seed] = 2
    return ids


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)


def encoded(array, kind, **options):
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind, **options)
    return file.getvalue()


@pytest.fixture
def own(tmp_path):
    """A sound data set: 6 training, 5 validation and 2 test images of different scenes."""
    root = tmp_path / "my data"
    for split, first, number in (("train", 0, 6), ("val", 10, 5), ("test", 20, 2)):
        (root / "images" / split).mkdir(parents=True)
        (root / "masks" / split).mkdir(parents=True)
        for i in range(first, first + number):
            save(root / "images" / split / f"photo {i:02d}.png", scene(i, SIZE))
            save(root / "masks" / split / f"photo {i:02d}.png", mask(i))
    (root / "classes.yaml").write_text(CLASSES)
    return root


@pytest.fixture
def looked(capsys):
    """Run the check on a folder. Returns its exit code and what it printed."""

    def run(root, *flags):
        code = check.main([str(root), *map(str, flags)])
        return code, capsys.readouterr().out

    return run


def training_accepts(root) -> bool:
    """Return whether the check at the start of training passes."""
    try:
        data, labels = load_data("folder", str(root))
        check_data(data, labels, ("train",))
    except DataError:
        return False
    return True


def test_a_sound_data_set_is_ready(own, looked):
    code, text = looked(own)
    assert code == 0 and "nothing to complain about" in text and text.endswith("verdict: ready for training\n")
    assert "train 6 images of 96x128 (height x width), 6 masks, 58.3% of the pixels belong to a class" in text
    row = next(line for line in text.splitlines() if line.startswith("car")).split()
    assert row[:5] == ["car", "6", "4.2", "%", "300"]  # 300 of 56 * 128 labelled pixels in each image
    assert training_accepts(own)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


ERRORS = {
    "damaged image": (
        lambda own: truncate(own / "images/train/photo 01.png"),
        ["ERROR    images that cannot be read: 1", "images/train/photo 01.png"],
    ),
    "damaged mask": (
        lambda own: truncate(own / "masks/val/photo 11.png"),
        ["ERROR    masks that cannot be read: 1", "masks/val/photo 11.png"],
    ),
    "mask saved as JPEG": (
        lambda own: (own / "masks/train/photo 02.png").write_bytes(encoded(mask(), "JPEG")),
        ["ERROR    masks saved as JPEG, which changes their ids: 1", "a JPEG cannot be repaired"],
    ),
    "mask in colours": (
        lambda own: save(own / "masks/train/photo 02.png", np.stack([mask() * 60] * 3, axis=2)),
        ["ERROR    masks that hold colours instead of class ids: 1", "photo 02.png holds 3 colours", "prepare"],
    ),
    "mask in smoothed colours": (
        lambda own: save(
            own / "masks/train/photo 02.png", scene(3, SIZE) // 2 + np.arange(128, dtype=np.uint8)[:, None]
        ),
        ["ERROR    masks that hold colours instead of class ids: 1", "smoothed (anti-aliased) edges"],
    ),
    "mask of another size": (
        lambda own: save(own / "masks/train/photo 03.png", mask()[:90]),
        ["ERROR    masks of another size than their image: 1", "is 90x128 but its image", "is 96x128"],
    ),
    "mask on its side": (
        lambda own: save(own / "masks/train/photo 03.png", np.rot90(mask())),
        ["ERROR    masks of another size than their image: 1", "is 128x96 but", "one of them lies on its side"],
    ),
    "unknown value": (
        lambda own: save(own / "masks/train/photo 04.png", np.where(mask() == 2, 7, mask()).astype(np.uint8)),
        [
            "ERROR    values in the masks that belong to no class: 1",
            "value 7: 300 pixels in 1 mask, the first is masks/train/",
        ],
    ),
    "smoothed edges": (
        lambda own: save(own / "masks/train/photo 04.png", cv2.GaussianBlur(mask() * 100, (31, 31), 0)),
        ["ERROR    values in the masks that belong to no class: ", "smoothed (anti-aliased) edges", "no smoothing"],
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_training_cannot_read_is_an_error(name, own, looked):
    spoil, texts = ERRORS[name]
    spoil(own)
    code, text = looked(own)
    assert code == 1 and text.endswith("verdict: do not train yet, 1 error must be repaired first\n")
    assert all(expected in text for expected in texts), text
    assert f"{own}{os.sep}" not in text.split("verdict")[0].split("region in pixels")[1]  # short paths
    assert text.count("ERROR") == 1 and not training_accepts(own)


def test_all_errors_are_collected(own, looked):
    for name in ("damaged image", "mask in colours", "mask of another size", "unknown value"):
        ERRORS[name][0](own)
    code, text = looked(own)
    assert code == 1 and text.count("ERROR") == 4 and "4 errors must be repaired" in text


def test_long_lists_are_cut_and_counted(own, looked):
    for i in range(6):
        save(own / f"masks/train/photo {i:02d}.png", mask()[:90])
    _, text = looked(own)
    assert text.count("is 90x128") == 3 and "... and 3 more files" in text
    save(own / "masks/train/photo 00.png", mask())
    save(own / "masks/train/photo 01.png", mask())
    assert "... and 1 more file\n" in looked(own)[1]


def test_sizes_are_those_of_images(own, looked):
    """Not 96x96 to 128x128 for upright and wide photos, of which none is square."""
    sizes = ((128, 96), "96x128 or 128x96"), ((64, 128), "64 to 128 x 96 to 128")
    for i, (shape, text) in enumerate(sizes):
        save(own / f"images/train/photo {i:02d}.png", scene(i, shape))
        save(own / f"masks/train/photo {i:02d}.png", np.ones(shape, np.uint8))
        assert f"train 6 images of {text} (height x width), 6 masks" in looked(own)[1]


def test_errors_are_found_although_no_validation_split_can_be_made(own, looked):
    for folder in ("images", "masks"):
        for split in ("val", "test"):
            shutil.rmtree(own / folder / split)
    truncate(own / "masks/train/photo 01.png")
    ERRORS["unknown value"][0](own)
    code, text = looked(own)
    assert code == 1 and text.count("ERROR") == 2 and "photo 01.png" in text and "value 7" in text


def test_0_and_255_masks_teach_nothing(own, looked):
    (own / "classes.yaml").write_text("classes:\n  - {name: ground, id: 0}\n  - {name: crack, id: 1}\n")
    for path in (own / "masks").rglob("*.png"):
        save(path, np.where(np.asarray(Image.open(path)) == 2, 255, 0).astype(np.uint8))
    code, text = looked(own)
    assert code == 1 and "ERROR    nothing to learn: every labelled training pixel is ground" in text
    assert "the masks hold only the values 0 and 255" in text
    assert not training_accepts(own)


BLACK, RED, BLUE, GREEN = (0, 0, 0), (200, 0, 0), (0, 0, 200), (0, 200, 0)
COLORED = CLASSES.replace("id: 1", "id: 1, color: [200, 0, 0]").replace("id: 2", "id: 2, color: [0, 0, 200]")


def with_palette(path, *colors):
    """Save a mask of ids again with a palette. The ids stay."""
    image = Image.open(path).convert("P")
    image.putpalette([value for color in colors for value in color])
    image.save(path)


CONTRARY = {
    "of another class": (
        COLORED,
        [(BLACK, BLUE, RED)],
        "id 1 has the colour of car, (0, 0, 200), in masks/train/photo 00",
    ),
    "of a class for another id": (COLORED, [(RED, GREEN, BLUE)], "id 0 has the colour of road, (200, 0, 0), in masks/"),
    "that differ": (
        CLASSES,
        [(BLACK, RED, BLUE), (BLACK, BLUE, RED)],
        "id 1 has the colour (200, 0, 0) in masks/train/photo 00.png, and (0, 0, 200) in masks/train/photo 01.png",
    ),
    "that agree": (CLASSES, [(BLACK, RED, BLUE)], None),
    "and others with grey": (CLASSES, [(BLACK, RED, BLUE), [(i, i, i) for i in range(3)]], None),
    "with arbitrary colours": (COLORED, [((1, 2, 3), (4, 5, 6), (7, 8, 9))], None),
    "as stated": (COLORED, [(BLACK, RED, BLUE)], None),
}


@pytest.mark.parametrize("name", CONTRARY)
def test_colours_that_contradict(own, looked, name):
    """Some tools number the colours anew in each file, and the ids mean nothing."""
    content, palettes, expected = CONTRARY[name]
    (own / "classes.yaml").write_text(content)
    for number, path in enumerate(sorted((own / "masks").rglob("*.png"))):
        with_palette(path, *palettes[number % len(palettes)])
    code, text = looked(own)
    assert code == 0 and ("in the palettes of masks" in text) == (expected is not None)
    if expected:
        assert "WARNING  ids whose colours in the palettes of masks contradict each other or classes.yaml: " in text
        assert expected in text and "convert the masks with python -m data_scripts.prepare" in text, text


def test_the_colour_of_ignored_pixels_says_nothing(own, looked):
    """The palettes that many scripts write are black from the last class on."""
    (own / "classes.yaml").write_text(
        COLORED.replace("[200, 0, 0]", "[0, 0, 0]").replace("ignore: [0]", "ignore: [0, 255]")
    )
    for path in (own / "masks").rglob("*.png"):
        ids = np.asarray(Image.open(path)).copy()
        ids[:4] = 255
        save(path, ids)
        with_palette(path, RED, BLACK, BLUE, *[BLACK] * 253)
    code, text = looked(own)
    assert code == 0 and "in the palettes of masks" not in text


def test_masks_of_0_and_255_among_those_of_ids(own, looked):
    (own / "classes.yaml").write_text(
        "classes:\n  - {name: ground, id: 0}\n  - {name: road, id: 1}\n  - {name: car, id: 2}\n"
    )
    path = own / "masks/train/photo 03.png"
    save(path, np.where(np.asarray(Image.open(path)) == 2, 255, 0).astype(np.uint8))
    code, text = looked(own)
    assert (
        code == 0 and "WARNING  masks that hold only 0 and 255, which is ignored, beside masks of ids: 1 of 13" in text
    )
    assert "masks/train/photo 03.png" in text and "write the id of their class in its place" in text
    (own / "classes.yaml").write_text(CLASSES)  # 0 is ignored
    assert "only 0 and 255" not in looked(own)[1]


def test_photos_of_several_pages(own, looked):
    pages = [Image.new("RGB", (64, 48), color) for color in ("red", "green", "blue")]
    (own / "images/train/photo 02.png").unlink()
    path = own / "images/train/photo 02.tif"
    pages[0].resize(Image.open(own / "masks/train/photo 02.png").size).save(
        path, save_all=True, append_images=pages[1:]
    )
    code, text = looked(own)
    assert code == 0 and "WARNING  images of which only the first page or frame is read: 1 of 13" in text
    assert "images/train/photo 02.tif: it has 3" in text


def test_photos_of_12_bits_in_files_of_16(own, looked):
    path = own / "images/train/photo 02.png"
    grey = np.asarray(Image.open(path).convert("L")).astype(np.uint16)
    save(path, grey * 16)
    code, text = looked(own)
    assert code == 0 and "WARNING  images that are almost black: 1 of 13" in text
    assert f"images/train/photo 02.png: the brightest pixel is {grey.max() // 16} of 255" in text
    save(path, grey * 257)
    assert "almost black" not in looked(own)[1]


def test_masks_of_one_class_or_none_teach_nothing(own, looked):
    for value, expected in ((1, "every labelled training pixel is road"), (0, "every training pixel is ignored")):
        for path in (own / "masks/train").iterdir():
            save(path, np.full(SIZE, value, np.uint8))
        code, text = looked(own)
        assert code == 1 and f"nothing to learn: {expected}" in text and "0 and 255" not in text
        assert not training_accepts(own)


def test_training_names_the_command_that_says_more(own, capsys):
    for path in (own / "masks/val").iterdir():
        save(path, np.minimum(mask(), 1))
    command = check_command(DataOptions(dataset="folder", dataset_path=str(own)))
    assert command == f"python -m data_scripts.check '{own}'"
    for flags, given in (
        ({"dataset": "camvid"}, "--dataset camvid"),
        ({"dataset": "camvid", "dataset_path": "a"}, "a --dataset camvid"),
        ({"dataset": "hub", "dataset_name": "a/b"}, "--dataset_name a/b"),
    ):
        assert check_command(DataOptions(**flags)) == f"python -m data_scripts.check {given}"
    data, labels = load_source("folder", str(own))
    check_data(data, labels, ("train",), command=command)
    assert capsys.readouterr().out.endswith(f"note: {command} says more\n")
    assert check.main(shlex.split(command)[3:]) == 0


def test_a_bad_test_image_is_a_warning(own, looked):
    truncate(own / "images/test/photo 20.png")
    save(own / "masks/test/photo 21.png", np.full(SIZE, 9, np.uint8))
    code, text = looked(own)
    assert code == 0 and "WARNING  images that cannot be read in the test split: 1" in text
    assert "WARNING  values in the masks that belong to no class in the test split: 1" in text
    assert "training will run, but see the 2 warnings above" in text and training_accepts(own)


def without_car(path):
    save(path, np.minimum(np.asarray(Image.open(path)), 1))


def test_rare_and_missing_classes(own, looked, capsys):
    masks = sorted((own / "masks/train").iterdir())
    for path in masks[:3]:
        without_car(path)
    code, text = looked(own)
    assert code == 0 and "WARNING  fewer than 5 training images show car (3)" in text and "no validation" not in text
    for path in masks[3:]:
        without_car(path)
    (own / "classes.yaml").write_text(CLASSES.replace("ignore", "  - {name: tree, id: 3}\nignore"))
    save(masks[0], np.where(mask() == 2, 3, mask()).astype(np.uint8))
    _, text = looked(own)
    assert "WARNING  only validation images show car" in text and "no training image shows" not in text
    assert "WARNING  no validation image shows tree" in text
    assert training_accepts(own)  # and says the same in short
    printed = capsys.readouterr().out
    assert "note: only validation images show car\n" in printed and "note: no validation image shows tree\n" in printed
    for path in (own / "masks/val").iterdir():
        without_car(path)
    _, text = looked(own)
    assert "WARNING  no training image shows car" in text and "only validation images" not in text


def test_a_handful_of_training_images_is_a_warning(own, looked):
    for folder in ("images", "masks"):
        for path in sorted((own / folder / "train").iterdir())[2:]:
            path.unlink()
    code, text = looked(own)
    assert code == 0 and "WARNING  there are only 2 training images" in text and "label more" in text
    assert "only" not in looked(own)[1].replace("there are only", "")


def test_equal_images_in_two_splits(own, looked, capsys):
    shutil.copy(own / "images/train/photo 03.png", own / "images/val/photo 12.png")
    code, text = looked(own)
    assert code == 0 and "WARNING  validation images that are training images too: 1 of 5" in text
    assert "images/val/photo 12.png = images/train/photo 03.png" in text and "look like" not in text
    assert "equal images with different masks: 1" in text  # the copy has another mask
    assert training_accepts(own)
    assert "note: 1 of 5 validation images are training images too" in capsys.readouterr().out


def test_nothing_but_known_validation_images_is_an_error(own, looked):
    for i in range(5):
        for folder in ("images", "masks"):
            shutil.copy(own / folder / f"train/photo {i:02d}.png", own / folder / f"val/photo {10 + i}.png")
    code, text = looked(own)
    assert code == 1 and "ERROR    validation images that are training images too: 5 of 5" in text


def test_similar_images_in_two_splits_and_copies_in_one(own, looked):
    save(own / "images/val/photo 13.png", np.clip(scene(5, SIZE) * 1.1, 0, 255).astype(np.uint8))
    save(own / "images/test/photo 21.png", scene(2, SIZE) // 2 + 40)
    shutil.copy(own / "images/train/photo 00.png", own / "images/train/photo 01.png")
    shutil.copy(own / "masks/train/photo 00.png", own / "masks/train/photo 01.png")
    code, text = looked(own)
    assert code == 0 and "WARNING  validation images that look like a training image: 1 of 5" in text
    assert "images/val/photo 13.png ~ images/train/photo 05.png (" in text
    assert "WARNING  test images that look like a training image: 1 of 2" in text
    assert "NOTE     copies of training images among the training images: 1" in text
    assert "different masks" not in text


def test_one_scene_and_frames_of_one_sequence(own, looked):
    for split in ("train", "val"):
        for folder in ("images", "masks"):
            for i, path in enumerate(sorted((own / folder / split).iterdir())):
                drive = "east" if split == "val" or i < 3 else "west"
                path.rename(path.with_name(f"{drive}_{path.stem[-2:]}.png"))
    _, text = looked(own)
    assert "NOTE     validation images that, by their names, continue a sequence of training images: 5 of 5" in text
    assert "east_*: 3 training and 5 validation images" in text and "one scene" not in text
    for i, path in enumerate(sorted((own / "images/val").iterdir())):
        save(path, np.roll(scene(10, SIZE), i, axis=1))
    _, text = looked(own)
    assert "WARNING  validation images that show one scene: 5 of 5 look alike" in text


def test_specks_and_ignored_masks(own, looked):
    ids = mask()
    ids[::4, ::4] = 2
    save(own / "masks/train/photo 00.png", ids)
    save(own / "masks/train/photo 01.png", np.zeros(SIZE, np.uint8))
    code, text = looked(own)
    assert code == 0 and "WARNING  masks full of specks: 1 of 13" in text and "masks/train/photo 00.png: " in text
    assert "NOTE     masks in which every pixel is ignored: 1" in text and "masks/train/photo 01.png" in text


def test_masks_that_are_rotated_with_their_photo(own, looked):
    exif = Image.Exif()
    exif[0x0112] = 3
    save(own / "images/train/photo 00.png", scene(0, SIZE), exif=exif)  # upside down: the size tells nothing
    exif[0x0112] = 6
    save(own / "images/train/photo 01.png", scene(1, SIZE), exif=exif)  # on its side: the size tells
    _, text = looked(own)
    assert "because only the photo has an orientation tag: 1" in text and "masks/train/photo 00.png" in text


def test_instance_maps_are_looked_at(toycity, tmp_path, looked):
    city = tmp_path / "city"
    shutil.copytree(toycity, city)
    path = sorted((city / "gtFine/train").glob("*_instanceIds.png"))[0]
    save(path, np.zeros((10, 10), np.uint16))
    code, text = looked(city, "--dataset", "toycity")
    assert code == 1 and "ERROR    instance maps that cannot be used: 1" in text and path.name in text


def test_images_in_memory_are_surveyed(own):
    data, labels = load_source("folder", str(own))

    def in_memory(row):
        return {key: {"path": None, "bytes": open(row[key]["path"], "rb").read()} for key in ("image", "label")}

    bytes_only = type(data)({name: split.map(in_memory) for name, split in data.items()})
    survey = take_survey(bytes_only, labels)
    assert findings_of(survey) == [] and len(survey.rows) == 13
    assert [row.image for row in survey.of("val")] == [f"photo {i}" for i in range(10, 15)]


def test_regions_are_counted_with_diagonal_neighbours():
    found = np.zeros((6, 8), bool)
    found[0, 0] = found[1, 1] = found[5, 5:] = found[3, 3] = True
    assert sorted(region_sizes(found).tolist()) == [1, 2, 3]
    assert region_sizes(np.zeros((3, 3), bool)).tolist() == []


def test_a_wrong_folder_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        check.main([str(tmp_path / "nowhere")])
    assert end.value.code == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("program", [check, eda])
@pytest.mark.parametrize(
    "flag", ["--sampling rare", "--no_cache", "--train_size 8 8", "--num_workers 1", "--eval_dataset kitti kitti"]
)
def test_flags_of_training_that_would_have_no_effect_are_unknown(program, flag, own, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        program.main([str(own), *([str(tmp_path / "page")] if program is eda else []), *flag.split()])
    assert stop.value.code == 2 and f"unknown argument {flag.split()[0]}" in capsys.readouterr().err
    assert not (tmp_path / "page").exists()


def test_splits_to_train_on_matter_for_a_fold_only(own, capsys):
    with pytest.raises(SystemExit):
        check.main([str(own), "--train_on", "train+val"])
    assert "--train_on train+val has no effect without --fold" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--val_share 0.2", "--val_share has no effect"),
        ("--folds none.json --fold 1", "cannot read --folds none.json"),
        ("--folds {folds} --fold a", "names nobody: there is no such image"),
        ("--group_by (", "--group_by ( is not a regular expression"),
        ("--group_by x(y)", "--group_by x(y) does not match the image"),
    ],
)
@pytest.mark.parametrize("program", [check, eda])
def test_a_wrong_flag_is_one_line_before_any_file_is_read(program, flags, message, own, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(program, "take_survey", None)
    (tmp_path / "folds.json").write_text('{"a": ["nobody"]}')
    if "--group_by" in flags:
        for folder in ("images", "masks"):
            shutil.rmtree(own / folder / "val")
    flags = flags.format(folds=tmp_path / "folds.json").split()
    with pytest.raises(SystemExit):
        program.main([str(own), *([str(tmp_path / "page")] if program is eda else []), *flags])
    said = capsys.readouterr()
    assert message in said.err and said.err.count("\n") == 1 and said.out.count("note: ") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_an_unreadable_file_is_a_finding(own, looked):
    (own / "images/train/photo 00.png").chmod(0)
    code, text = looked(own)
    assert code == 1 and "images that cannot be read: 1" in text


@pytest.mark.skipif(not CAMVID.is_dir(), reason="needs ../shared/camvid")
def test_camvid_s_validation_clip_is_one_scene_of_a_training_drive(looked):
    code, text = looked(CAMVID)
    assert code == 0 and "validation images that show one scene: 101 of 101 look alike" in text
    assert "0016E5_*: 204 training and 101 validation images" in text


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/real")
def test_real_road_scenes_and_broken_files(tmp_path, looked):
    """A Roboflow export in the canonical folder: specks, look-alikes, and masks that a version control system broke."""
    root, source = tmp_path / "roads", REAL / "roboflow"
    for split, name in (("train", "train"), ("valid", "val")):
        for folder in ("images", "masks"):
            (root / folder / name).mkdir(parents=True)
        for photo in (source / split).glob("*.jpg"):
            (root / "images" / name / photo.name).symlink_to(photo)
            (root / "masks" / name / f"{photo.stem}.png").symlink_to(photo.with_name(f"{photo.stem}_mask.png"))
    names = ("obstacle", "road", "sidewalk", "speedbreaker")
    rows = "".join(f"  - {{name: {name}, id: {i}}}\n" for i, name in enumerate(names, start=1))
    (root / "classes.yaml").write_text(f"classes:\n{rows}ignore: [0]\n")
    code, text = looked(root)
    assert code == 0 and "masks full of specks: 119 of 248" in text
    assert "fewer than" not in text and "no validation image" not in text
    assert "validation images that look like a training image: 6 of 48" in text
    for number, broken in enumerate(sorted((REAL / "broken" / "damaged_png").glob("*.png"))):
        shutil.copy(broken, root / "masks/train" / f"broken {number}.png")
        save(root / "images/train" / f"broken {number}.png", scene(number, (640, 640)))
    for photo in (REAL / "broken" / "mask_smaller_than_image").glob("*.jpg"):
        shutil.copy(photo, root / "images/train" / f"small {photo.name}")
        shutil.copy(photo.with_name(f"{photo.stem}_mask.png"), root / "masks/train" / f"small {photo.stem}.png")
    code, text = looked(root)
    assert code == 1 and "masks that cannot be read: 3" in text
    assert "masks of another size than their image: 3" in text and "is 480x640 but its image" in text


def test_a_survey_without_usable_masks_has_no_table(own, looked):
    for path in (own / "masks").rglob("*.png"):
        truncate(path)
    code, text = looked(own)
    assert code == 1 and "no mask can be used, so there is no table of classes" in text
    assert isinstance(Survey(None, []).splits, list)
