"""KITTI, Virtual KITTI and CamVid in its three arrangements: which files are found, and every id in them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import CAMVID, ROOT
from PIL import Image

from data_scripts.camvid import STILLS, camvid_files, looks_like_camvid, split_of
from data_scripts.catalog import data_note
from data_scripts.file_checks import check_data
from data_scripts.fold_files import load_data
from data_scripts.kitti import looks_like_kitti
from data_scripts.labels import CAMVID as CAMVID_LABELS
from data_scripts.labels import CAMVID32, CAMVID_CLASSES, VIRTUAL_KITTI, VIRTUAL_KITTI_COLORS, DataError
from data_scripts.pixels import Pixels
from data_scripts.sources import load_source
from data_scripts.virtual_kitti import looks_like_virtual_kitti

KITTI = ROOT.parent / "shared" / "real" / "kitti"
SIZE = (12, 20)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def photo(path, seed=0):
    save(path, np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8))


def painted(colors, seed=0):
    """Return a mask (H, W, 3) of random colours from a list, and the number of each pixel's colour (H, W)."""
    chosen = np.random.default_rng(seed).integers(0, len(colors), SIZE)
    return np.array(colors, np.uint8)[chosen], chosen


# KITTI


def make_kitti(root, numbers=range(8), test=2):
    for number in numbers:
        photo(root / f"training/image_2/{number:06}_10.png", number)
        ids = np.random.default_rng(number).integers(0, 34, SIZE).astype(np.uint8)
        save(root / f"training/semantic/{number:06}_10.png", ids)
    for number in range(test):
        photo(root / f"testing/image_2/{number:06}_10.png", 100 + number)


def test_every_fourth_image_of_kitti_is_validated_on(tmp_path):
    make_kitti(tmp_path)
    data, labels = load_source("kitti", str(tmp_path))
    assert data["train"]["name"] == [f"{i:06}_10" for i in (0, 1, 2, 4, 5, 6)]
    assert data["validation"]["name"] == ["000003_10", "000007_10"]
    assert data["test"]["name"] == ["000000_10", "000001_10"] and "label" not in data["test"].column_names
    ids = np.random.default_rng(7).integers(0, 34, SIZE)
    assert np.array_equal(Pixels(data["validation"], labels).label(1), labels.train_ids[ids])
    assert labels.names[labels.train_ids[26]] == "car"


def test_a_copy_is_no_image_of_kitti(tmp_path, capsys):
    for name in ("000000_10", "000000_10 copy"):
        for folder in ("image_2", "semantic"):
            (tmp_path / "training" / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / "training" / folder / f"{name}.png").touch()
    assert load_source("kitti", str(tmp_path))[0]["train"]["name"] == ["000000_10"]
    assert "skipped, such as 000000_10 copy.png: not NNNNNN_10" in capsys.readouterr().out


def test_the_whole_of_kitti_has_150_and_50_images(tmp_path):
    for number in range(200):
        for folder in ("image_2", "semantic"):
            (tmp_path / "training" / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / "training" / folder / f"{number:06}_10.png").touch()
    data, _ = load_source("kitti", str(tmp_path))
    assert {name: len(split) for name, split in data.items()} == {"train": 150, "validation": 50}


def test_instances_of_kitti_are_found_if_all_images_have_them(tmp_path):
    make_kitti(tmp_path)
    maps = {number: np.full(SIZE, 26 * 256 + number, np.uint16) for number in range(8)}
    for number, instances in maps.items():
        save(tmp_path / f"training/instance/{number:06}_10.png", instances)
    data, labels = load_source("kitti", str(tmp_path))
    assert np.array_equal(Pixels(data["validation"], labels).instances(0), maps[3])
    check_data(data, labels, ("train",))


def test_second_frames_of_kitti_are_passed_over_and_counted(tmp_path, capsys):
    make_kitti(tmp_path)
    photo(tmp_path / "training/image_2/000000_11.png")
    data, _ = load_source("kitti", str(tmp_path))
    assert len(data["train"]) == 6
    assert capsys.readouterr().out.count("1 images in") == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "training/semantic/000003_10.png").unlink(), "no label .*semantic/000003_10.png"),
        (
            lambda root: shutil.rmtree(root / "training/image_2"),
            "lacks the train folder of a kitti .*data_semantics.zip",
        ),
        (
            lambda root: [path.unlink() for path in (root / "training/image_2").iterdir() if path.name[5] in "37"],
            "has no validation images of a kitti data set .*--val_share",
        ),
        (
            lambda root: [
                path.rename(path.with_name(f"x{path.name[4:]}")) for path in (root / "training/image_2").iterdir()
            ],
            "no image in .*image_2 is named NNNNNN_10",
        ),
    ],
)
def test_a_kitti_that_is_not_whole_is_named(tmp_path, change, message):
    make_kitti(tmp_path)
    change(tmp_path)
    with pytest.raises(DataError, match=message):
        load_data("kitti", str(tmp_path))


@pytest.mark.skipif(not KITTI.is_dir(), reason="needs ../shared/real/kitti")
def test_real_images_of_kitti_have_the_classes_of_cityscapes():
    data, labels = load_source("kitti", str(KITTI))
    counts, sizes = check_data(data, labels, ("train",))
    assert set(map(tuple, sizes.tolist())) == {(375, 1242)}
    share = dict(zip(labels.names, counts.sum(0) / counts.sum(), strict=True))
    assert share["road"] > 0.1 and share["building"] > 0.1 and share["vegetation"] > 0.1 and share["train"] < 0.01


# Virtual KITTI

WORLDS = ("0001", "0002", "0006", "0018", "0020")
# 1.3.1: a colour for each class, other than in version 2, and colours of cars and vans that change with the table
CLASSES = ("Terrain", "Sky", "Tree", "Vegetation", "Building", "Road", "GuardRail", "TrafficSign", "TrafficLight")
CLASSES = (*CLASSES, "Pole", "Misc", "Truck", "Undefined")


def encoding(number):
    """Return the lines of the table of the `number`-th folder: a car here can have the colour of a van elsewhere."""
    lines = [(name, (10 * i + 5, 200, 7)) for i, name in enumerate(CLASSES)]
    moving = ["Car:0", "Car:1", "Van:0", "Car:2"]
    return lines + [(name, (200, 200, 200 + (i + number) % 4)) for i, name in enumerate(moving)]


def train_id(name):
    """Return the train id of a class as the tables spell it, 255 for Undefined."""
    plain = {"GuardRail": "guard rail", "TrafficSign": "traffic sign", "TrafficLight": "traffic light"}
    name = plain.get(name.split(":")[0], name.split(":")[0].lower())
    return 255 if name == "undefined" else VIRTUAL_KITTI.names.index(name)


def make_first(root, worlds=WORLDS, variations=("clone", "fog"), frames=2):
    """Write version 1.3.1 and return the train ids of each label by name."""
    truth, number = {}, 0
    for world in worlds:
        for variation in variations:
            lines, number = encoding(number), number + 1
            text = "\n".join(["Category(:id) r g b", *(f"{name} {r} {g} {b}" for name, (r, g, b) in lines)])
            labels = root / "vkitti_1.3.1_scenegt"
            labels.mkdir(parents=True, exist_ok=True)
            (labels / f"{world}_{variation}_scenegt_rgb_encoding.txt").write_text(text + "\n")
            for frame in range(frames):
                photo(root / f"vkitti_1.3.1_rgb/{world}/{variation}/{frame:05}.png", number)
                mask, chosen = painted([color for _, color in lines], 10 * number + frame)
                save(labels / world / variation / f"{frame:05}.png", mask)
                ids = np.array([train_id(name) for name, _ in lines], np.uint8)
                truth[f"{world}_{variation}_{frame:05}"] = ids[chosen]
    return truth


def make_second(root, worlds=WORLDS, variations=("clone", "15-deg-left"), cameras=(0, 1)):
    """Write version 2 without colors.txt and return the train ids of each label by name."""
    truth, colors = {}, list(VIRTUAL_KITTI_COLORS.values())
    for world in worlds:
        for variation in variations:
            for camera in cameras:
                frames = root / f"Scene{world[2:]}/{variation}/frames"
                photo(frames / f"rgb/Camera_{camera}/rgb_00003.jpg")
                mask, chosen = painted(colors, camera)
                save(frames / f"classSegmentation/Camera_{camera}/classgt_00003.png", mask)
                truth[f"{world}_{variation}_camera{camera}_00003"] = np.where(chosen == 14, 255, chosen)
    return truth


def assert_ids(data, labels, truth):
    found = {}
    for split in data.values():
        pixels = Pixels(split, labels)
        found |= {name: pixels.label(i) for i, name in enumerate(split["name"])}
    assert found.keys() == truth.keys()
    for name, ids in truth.items():
        assert np.array_equal(found[name], ids), name


@pytest.mark.parametrize("make", [make_first, make_second])
def test_worlds_of_virtual_kitti_are_splits(tmp_path, make):
    truth = make(tmp_path)
    data, labels = load_source("virtual_kitti", str(tmp_path))
    worlds = {name: {image[:4] for image in split["name"]} for name, split in data.items()}
    assert worlds == {"train": {"0001", "0018", "0020"}, "validation": {"0002"}, "test": {"0006"}}
    assert_ids(data, labels, truth)
    check_data(data, labels, ("train",))


def test_colours_of_version_2_may_come_from_its_file(tmp_path):
    truth = make_second(tmp_path)
    swapped = dict(VIRTUAL_KITTI_COLORS, road=VIRTUAL_KITTI_COLORS["sky"], sky=VIRTUAL_KITTI_COLORS["road"])
    lines = [f"{name.title().replace(' ', '')} {r} {g} {b}" for name, (r, g, b) in swapped.items()]
    (tmp_path / "Scene01/clone/colors.txt").write_text("\n".join(["Category r g b", *lines]))
    data, labels = load_source("virtual_kitti", str(tmp_path))
    road, sky = (labels.names.index(name) for name in ("road", "sky"))
    for name in (name for name in truth if name.startswith("0001_clone")):
        before = truth[name]
        truth[name] = np.where(before == road, sky, np.where(before == sky, road, before))
    assert_ids(data, labels, truth)


def test_some_variations_and_no_test_world_suffice(tmp_path):
    make_first(tmp_path, ("0001", "0002"), ("rain",))
    data, _ = load_source("virtual_kitti", str(tmp_path))
    assert {name: len(split) for name, split in data.items()} == {"train": 2, "validation": 2}


def test_a_test_world_may_lack_labels(tmp_path):
    truth = make_first(tmp_path)
    shutil.rmtree(tmp_path / "vkitti_1.3.1_scenegt/0006")
    for path in (tmp_path / "vkitti_1.3.1_scenegt").glob("0006_*"):
        path.unlink()
    data, labels = load_source("virtual_kitti", str(tmp_path))
    assert "label" not in data["test"].column_names
    del data["test"]
    assert_ids(data, labels, {name: ids for name, ids in truth.items() if not name.startswith("0006")})


def test_an_unknown_world_is_passed_over_and_named(tmp_path, capsys):
    make_first(tmp_path, (*WORLDS, "0007"))
    load_source("virtual_kitti", str(tmp_path))
    assert "the worlds 0007 in" in capsys.readouterr().out


def replace_in(path, old, new):
    path.write_text(path.read_text().replace(old, new))


FOG = "vkitti_1.3.1_scenegt/0018_fog_scenegt_rgb_encoding.txt"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda root: (root / FOG).unlink(),
            "no file .*0018_fog_scenegt_rgb_encoding.txt, which says what the colours",
        ),
        (lambda root: (root / FOG).write_text("Category r g b\n"), "0018_fog.* holds no colours"),
        (lambda root: replace_in(root / FOG, "GuardRail", "Fence"), "0018_fog.* has the class fence, which"),
        (
            lambda root: replace_in(root / FOG, "Sky 15", "Sky 5"),
            "gives the colour 5 200 7 to sky and to another class",
        ),
        (lambda root: replace_in(root / FOG, "Sky 15", "Sky 256"), "line 3 is 'Sky 256 200 7', not a class and three"),
        (lambda root: replace_in(root / FOG, "Sky 15", "Sky"), "line 3 is 'Sky 200 7', not a class and three"),
        (lambda root: (root / FOG).write_bytes(b"\xff\xfe"), "cannot read .*0018_fog"),
        (lambda root: (root / "vkitti_1.3.1_scenegt/0018/fog/00001.png").unlink(), "no label .*0018/fog/00001.png"),
        (lambda root: shutil.rmtree(root / "vkitti_1.3.1_rgb/0002"), "no images of world 0002, which is the val split"),
        (lambda root: shutil.rmtree(root / "vkitti_1.3.1_rgb"), "lacks the train folder of a virtual_kitti data set"),
    ],
)
def test_a_virtual_kitti_that_is_not_whole_is_named(tmp_path, change, message):
    make_first(tmp_path)
    change(tmp_path)
    with pytest.raises(DataError, match=message):
        load_source("virtual_kitti", str(tmp_path))


def test_a_colour_of_another_world_is_an_error(tmp_path):
    make_first(tmp_path)
    save(tmp_path / "vkitti_1.3.1_scenegt/0018/fog/00001.png", np.full((*SIZE, 3), (1, 1, 1), np.uint8))
    data, labels = load_source("virtual_kitti", str(tmp_path))
    with pytest.raises(DataError, match="0018/fog/00001.png holds colour 1 1 1 in 240 pixels, which no class has"):
        check_data(data, labels, ("train",))


# CamVid

FRAMES = {
    "train": ("0001TP_008520", "0006R0_f00930", "0016E5_07920", "0016E5_08190"),
    "val": ("0016E5_07959", "0016E5_08159"),
    "test": ("0001TP_008550", "Seq05VD_f00000"),
}
COLORS = [color for _, color, _ in CAMVID_CLASSES]


def make_camvid(root, splits=False):
    """Write the original release, or the same in splits. Returns the number in `CAMVID_CLASSES` of each pixel."""
    truth = {}
    for split, names in FRAMES.items():
        images, labels = (split, f"{split}_labels") if splits else (STILLS, "LabeledApproved_full")
        for seed, name in enumerate(names):
            photo(root / images / f"{name}.png", seed)
            mask, truth[name] = painted(COLORS, seed)
            save(root / labels / f"{name}_L.png", mask)
    return truth


@pytest.mark.parametrize("splits", [False, True])
@pytest.mark.parametrize("dataset", ["camvid", "camvid32"])
def test_colours_of_camvid_become_11_or_32_classes(tmp_path, splits, dataset):
    chosen = make_camvid(tmp_path, splits)
    data, labels = load_source(dataset, str(tmp_path))
    folders = {"train": "train", "val": "validation", "test": "test"}
    assert {name: data[split]["name"] for name, split in folders.items()} == {k: list(v) for k, v in FRAMES.items()}
    if dataset == "camvid":
        of_class = [255 if not group else CAMVID_LABELS.names.index(group) for _, _, group in CAMVID_CLASSES]
    else:
        of_class = [255 if name == "Void" else CAMVID32.names.index(name) for name, _, _ in CAMVID_CLASSES]
    assert_ids(data, labels, {name: np.array(of_class, np.uint8)[numbers] for name, numbers in chosen.items()})
    check_data(data, labels, ("train",))


def test_the_eleven_classes_are_those_of_segnet():
    groups = {}
    for name, _, group in CAMVID_CLASSES:
        groups.setdefault(group, set()).add(name)
    assert len(CAMVID_CLASSES) == 32 and len({color for _, color, _ in CAMVID_CLASSES}) == 32
    assert groups.keys() - {""} == set(CAMVID_LABELS.names) and groups[""] == {"Void"}
    assert groups["road"] == {"Road", "LaneMkgsDriv", "LaneMkgsNonDriv"}
    assert groups["car"] == {"Car", "SUVPickupTruck", "Truck_Bus", "Train", "OtherMoving"}
    assert groups["tree"] == {"Tree", "VegetationMisc"} and groups["fence"] == {"Fence"}


def test_colours_in_the_file_of_the_release_count(tmp_path):
    chosen = make_camvid(tmp_path)
    lines = [f"{r} {g} {b}\t\t{name}" for name, (r, g, b), _ in CAMVID_CLASSES]
    text = "\r\n".join(lines).replace("\t\tMotorcycleScooter", "\t\tMotorcycycleScooter")
    swapped = text.replace("Sky", "S").replace("Road\r", "Sky\r").replace("S\r", "Road\r")
    (tmp_path / "label_colors.txt").write_text(text)
    before, labels = load_source("camvid", str(tmp_path))
    assert labels.colors == load_source("camvid", str(tmp_path))[1].colors
    (tmp_path / "label_colors.txt").write_text(swapped)
    data, other = load_source("camvid", str(tmp_path))
    sky = [name for name, _, _ in CAMVID_CLASSES].index("Sky")
    name = data["train"]["name"][0]
    was, now = Pixels(before["train"], labels).label(0), Pixels(data["train"], other).label(0)
    assert (was[chosen[name] == sky] == 0).all() and (now[chosen[name] == sky] == labels.names.index("road")).all()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("64 128 64", "label_colors.txt line 1 is '64 128 64', not three numbers up to 255 and a name"),
        ("64 128 640 Animal", "line 1 is '64 128 640 Animal', not three"),
        ("64 128 64 Unicorn", "line 1: Unicorn is none of CamVid's 32 classes"),
        ("128 128 128 Road", "gives the colour 128 128 128 to Sky and to another class"),
    ],
)
def test_a_wrong_file_of_colours_is_named(tmp_path, line, message):
    make_camvid(tmp_path)
    (tmp_path / "label_colors.txt").write_text(line)
    with pytest.raises(DataError, match=message):
        load_source("camvid", str(tmp_path))


def test_a_photo_that_is_no_frame_is_named(tmp_path):
    make_camvid(tmp_path)
    photo(tmp_path / STILLS / "holiday.png")
    with pytest.raises(DataError, match="holiday.png is not a frame of CamVid"):
        load_source("camvid", str(tmp_path))


def test_32_classes_cannot_come_from_11(tmp_path):
    for name in ("train", "val"):
        photo(tmp_path / name / "0001TP_000030.png")
        save(tmp_path / f"{name}annot" / "0001TP_000030.png", np.zeros(SIZE, np.uint8))
    assert load_source("camvid", str(tmp_path))[1].colors == {}
    with pytest.raises(DataError, match="has SegNet's labels of 11 classes: use --dataset camvid"):
        load_source("camvid32", str(tmp_path))


@pytest.mark.skipif(not CAMVID.is_dir(), reason="needs ../shared/camvid")
def test_frames_of_the_original_get_the_split_of_segnet():
    for split, number in (("train", 367), ("val", 101), ("test", 233)):
        images = sorted((CAMVID / split).iterdir())
        assert len(images) == number and {split_of(Path(image.name)) for image in images} == {split}


# All three


def test_layouts_are_told_apart(tmp_path):
    layouts = {"kitti": make_kitti, "first": make_first, "second": make_second, "camvid": make_camvid}
    for name, make in layouts.items():
        (tmp_path / name).mkdir()
        make(tmp_path / name)
    (tmp_path / "empty").mkdir()
    for looks_like, names in (
        (looks_like_kitti, {"kitti"}),
        (looks_like_virtual_kitti, {"first", "second"}),
        (looks_like_camvid, {"camvid"}),
    ):
        assert {path.name for path in tmp_path.iterdir() if looks_like(path)} == names


@pytest.mark.parametrize("dataset", ["kitti", "virtual_kitti"])
def test_cards_state_the_licence(dataset):
    note = data_note(dataset)
    assert note.licence == "cc-by-nc-sa-3.0" and "not commercially" in note.note and note.link


def test_a_folder_without_images_is_none(tmp_path):
    assert camvid_files(tmp_path, "train") is None


def test_the_check_looks_at_labels_in_colours(tmp_path):
    from data_scripts.survey import take_survey

    chosen = make_camvid(tmp_path)
    name = FRAMES["val"][0]
    save(tmp_path / "LabeledApproved_full" / f"{name}_L.png", np.full((*SIZE, 3), (1, 2, 3), np.uint8))
    data, labels = load_source("camvid", str(tmp_path))
    rows = {row.name: row for row in take_survey(data, labels).rows}
    assert "holds colour 1 2 3 in 240 pixels" in rows[name].faults["label"] and len(rows[name].faults) == 1
    sky = [name for name, _, _ in CAMVID_CLASSES].index("Sky")
    other = FRAMES["train"][0]
    assert not rows[other].faults and rows[other].ids[0] == (chosen[other] == sky).sum()
