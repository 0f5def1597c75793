"""ToyCity: files, ids, determinism, all classes in all splits, perspective, no class readable off colour."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
from conftest import ROOT

from benchmarks.pixel_baseline import PixelBaseline, score
from data_scripts.labels import CITYSCAPES, DataError
from data_scripts.sources import load_source
from data_scripts.toycity import make_scene, write_toycity
from data_scripts.toycity.classes import INSTANCE_CLASSES
from data_scripts.toycity.files import main

TRAIN_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
RARE_IDS = (12, 13, 25, 27, 28, 31, 32)
SIZE = (128, 256)


def read(path):
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    return image[..., ::-1] if image.ndim == 3 else image


def files(root):
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def scenes():
    """The default numbers of images at a small size: split -> list of (image, label, instance)."""
    return {
        name: [make_scene(0, split, index, SIZE, count) for index in range(count)]
        for split, (name, count) in enumerate((("train", 24), ("val", 8)))
    }


def test_writes_minicity_files(tmp_path):
    counts = ["--train", "2", "--val", "2", "--test", "1"]
    assert main([str(tmp_path / "toy"), *counts, "--size", "64", "128"]) == 0
    stems = {
        "train": ("toycity_000000_000000", "toycity_000000_000001"),
        "val": ("toycity_000001_000000", "toycity_000001_000001"),
        "test": ("toycity_000002_000000",),
    }
    expected = [f"leftImg8bit/{split}/{stem}_leftImg8bit.png" for split in stems for stem in stems[split]]
    expected += [
        f"gtFine/{split}/{stem}_gtFine_{kind}.png"
        for split in ("train", "val")
        for stem in stems[split]
        for kind in ("labelIds", "instanceIds")
    ]
    assert files(tmp_path / "toy") == sorted(expected)
    for name in expected:
        image = read(tmp_path / "toy" / name)
        assert image.shape[:2] == (64, 128)
        assert image.dtype == (np.uint16 if "instanceIds" in name else np.uint8)
        assert image.ndim == (3 if "leftImg8bit" in name else 2)


def test_files_hold_the_scene(tmp_path):
    write_toycity(tmp_path, train=3, val=0, test=0, size=(64, 128), seed=3)
    image, label, instance = make_scene(3, 0, 0, (64, 128), 3)
    stem = "train/toycity_000000_000000"
    assert np.array_equal(read(tmp_path / f"leftImg8bit/{stem}_leftImg8bit.png"), image)
    assert np.array_equal(read(tmp_path / f"gtFine/{stem}_gtFine_labelIds.png"), label)
    assert np.array_equal(read(tmp_path / f"gtFine/{stem}_gtFine_instanceIds.png"), instance)


def test_same_seed_same_bytes_other_seed_other_scene(tmp_path):
    for folder, seed in (("a", 5), ("b", 5), ("c", 6)):
        write_toycity(tmp_path / folder, train=2, val=0, test=0, size=(64, 128), seed=seed)
    for name in files(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
        assert (tmp_path / "a" / name).read_bytes() != (tmp_path / "c" / name).read_bytes()


def test_a_city_without_test_images_loads(tmp_path):
    write_toycity(tmp_path, train=3, val=3, test=1, size=(32, 64))
    write_toycity(tmp_path, train=3, val=3, test=0, size=(32, 64))
    data, _ = load_source("toycity", str(tmp_path))
    assert sorted(data) == ["train", "validation"]


def test_a_scene_does_not_depend_on_how_many_are_drawn():
    few, many = make_scene(0, 0, 1, SIZE, 3), make_scene(0, 0, 1, SIZE, 24)
    assert all(np.array_equal(a, b) for a, b in zip(few, many, strict=True))


def test_refuses_a_full_folder_and_overwrites_only_its_own_names(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("keep")
    arguments = [str(tmp_path), "--train", "3", "--val", "0", "--test", "0", "--size", "32", "64"]
    assert main(arguments) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert files(tmp_path) == ["mine.txt"]
    assert main([*arguments, "--overwrite"]) == 0
    assert (tmp_path / "mine.txt").read_text() == "keep" and len(files(tmp_path)) == 1 + 9


@pytest.mark.parametrize(
    "flags", [["--train", "-1"], ["--size", "8", "64"], ["--size", "32", "4096"], ["--seed", "-2"]]
)
def test_bad_arguments_get_one_line(tmp_path, capsys, flags):
    assert main([str(tmp_path / "toy"), *flags]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "toy").exists()


def fail_at(monkeypatch, number, error):
    """Make the `number`-th write of a file raise `error`."""
    from data_scripts.toycity import files as module

    save, written = module.save, []

    def save_or_fail(path, image):
        written.append(path)
        if len(written) == number:
            raise error
        save(path, image)

    monkeypatch.setattr(module, "save", save_or_fail)


def test_a_city_that_is_not_whole_is_no_data_set_and_is_drawn_again(tmp_path, capsys):
    code = (
        "import os, signal; from data_scripts.toycity import files\n"
        "save, written = files.save, []\n"
        "def save_or_die(path, image):\n    written.append(path)\n    save(path, image)\n"
        "    len(written) == 7 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "files.save = save_or_die\n"
        f"files.write_toycity({str(tmp_path / 'toy')!r}, 3, 1, 1, (32, 64), 5)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == -9
    (tmp_path / "toy" / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="is incomplete.*python -m data_scripts.toycity"):
        load_source("toycity", str(tmp_path / "toy"))
    assert main([str(tmp_path / "toy"), "--train", "2", "--val", "2", "--test", "1", "--size", "32", "64"]) == 0
    data, _ = load_source("toycity", str(tmp_path / "toy"))
    assert len(data["train"]) == 2 and (tmp_path / "toy" / "mine.txt").exists()
    assert len(files(tmp_path / "toy")) == 1 + 6 + 6 + 1  # nothing left from the other seed


@pytest.mark.parametrize("number", [1, 4])
def test_a_full_disk_is_one_line(tmp_path, capsys, monkeypatch, number):
    fail_at(monkeypatch, number, OSError(28, "No space left on device", "x.png"))
    assert main([str(tmp_path / "toy"), "--train", "2", "--val", "1", "--test", "1", "--size", "32", "64"]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert lines == ["error: cannot write x.png: No space left on device; name another folder"]
    assert not (tmp_path / "toy" / ".lock").exists()
    with pytest.raises(DataError, match="is incomplete"):
        load_source("toycity", str(tmp_path / "toy"))


def test_a_place_that_cannot_be_written_to_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main([str(tmp_path / "file" / "toy"), "--train", "1"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: cannot write ") and said.count("\n") == 1 and str(tmp_path / "file") in said


def test_a_folder_that_cannot_be_looked_at_is_one_line(tmp_path, capsys):
    assert main([str(tmp_path / ("x" * 300)), "--train", "1"]) == 1  # as with a locked folder, which root may enter
    said = capsys.readouterr().err
    assert said.startswith("error: cannot read ") and said.endswith("; name another folder\n") and said.count("\n") == 1


def test_ctrl_c_is_one_line(tmp_path, capsys, monkeypatch):
    fail_at(monkeypatch, 2, KeyboardInterrupt())
    assert main([str(tmp_path / "toy"), "--train", "2", "--val", "0", "--test", "0", "--size", "32", "64"]) == 1
    assert "interrupted" in capsys.readouterr().err


def test_every_class_and_void_in_train_and_val(scenes):
    for split in scenes.values():
        seen = set().union(*(np.unique(label).tolist() for _, label, _ in split))
        assert set(TRAIN_IDS) <= seen
        assert seen - set(TRAIN_IDS)
        assert max(seen) <= 33


@pytest.mark.parametrize(("seed", "split", "count"), [(1, 0, 4), (1, 1, 2), (2, 0, 4), (2, 1, 2), (3, 1, 1)])
def test_every_class_in_few_images(seed, split, count):
    labels = [make_scene(seed, split, i, SIZE, count)[1] for i in range(count)]
    seen = set(np.unique(labels).tolist())
    assert set(TRAIN_IDS) <= seen


def test_instances_agree_with_labels(scenes):
    for image, label, instance in scenes["val"]:
        assert (image.dtype, label.dtype, instance.dtype) == (np.uint8, np.uint8, np.uint16)
        assert image.shape == (*SIZE, 3) and label.shape == instance.shape == SIZE
        single = instance >= 1000
        assert np.array_equal(single, np.isin(label, INSTANCE_CLASSES))
        assert np.array_equal(instance[single] // 1000, label[single])
        assert np.array_equal(instance[~single], label[~single])


def test_rare_classes_are_rare_in_pixels_and_large_where_they_stand(scenes):
    counts = np.stack([np.bincount(label.ravel(), minlength=34) for _, label, _ in scenes["train"]])
    counts = counts / np.prod(SIZE)
    share = counts.mean(axis=0)
    for kind in RARE_IDS:
        assert 0.001 < share[kind] < 0.04
        assert share[kind] < 0.3 * min(share[7], share[11])
        assert (counts[:, kind] > 0.001).mean() >= 0.25
    for kind in (12, 13, 27, 28, 31):
        assert np.median(counts[counts[:, kind] > 0, kind]) > 0.015


def test_road_widens_downwards(scenes):
    width = np.mean([(label == 7).sum(axis=1) for split in scenes.values() for _, label, _ in split], axis=0)
    rows = [int(SIZE[0] * part) for part in (0.5, 0.58, 0.66, 0.74, 0.82)]
    assert all(width[low] > width[high] * 1.1 for high, low in zip(rows[:-1], rows[1:], strict=True))
    assert width[: int(0.38 * SIZE[0])].max() == 0


def test_colour_and_position_do_not_give_the_classes_away(scenes):
    baseline = PixelBaseline(19)
    for image, label, _ in scenes["train"]:
        baseline.fit(image, CITYSCAPES.train_ids[label])
    pairs = ((baseline.predict(image), CITYSCAPES.train_ids[label]) for image, label, _ in scenes["val"])
    assert 0.08 < score(pairs, 19).mean() < 0.35  # a broken classifier would be below 0.08


def test_draws_where_a_barrier_is_one_column_wide():
    assert make_scene(34, 2, 0, (48, 40), 1)[1].shape == (48, 40)


def test_importing_the_package_is_cheap():
    code = "import sys, data_scripts.toycity; sys.exit('cv2' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
