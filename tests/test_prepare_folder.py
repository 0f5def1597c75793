"""Whose DESTINATION is, what a second run does, corrected classes.yaml, kills, full disks, links."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from preparing import classes, files, halves, ids, ignored, mask, photo, run, save
from test_full_disk import disk  # noqa: F401 - a fixture
from test_prepare import coco, flat, write_json

from data_scripts.class_file import read_classes
from data_scripts.files import UNFINISHED
from data_scripts.toycity import write_toycity

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def source(tmp_path):
    """Two photos with ids 0, 1, 2, 3."""
    folder = tmp_path / "source"
    for name, array in (("a", halves(0, 1)), ("b", halves(2, 3))):
        photo(folder / "images" / f"{name}.jpg")
        save(folder / "masks" / f"{name}.png", array)
    (folder / "classes.txt").write_text("background\nroad\nbus\ntruck\n")
    return folder


def correct(out, *changes) -> str:
    path = out / "classes.yaml"
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return text


def error(capsys) -> str:
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and line.startswith("error: "), line
    return line


def test_a_second_run_gives_the_same_bytes(source, out):
    assert run(source, out) == 0
    first, before = files(out), files(source)
    assert run(source, out) == 0 and files(out) == first and files(source) == before
    assert run(source, out.with_name("other")) == 0
    assert {name: data for name, data in files(out.with_name("other")).items()} == first


def test_what_it_writes_can_be_read(source, out):
    assert run(source, out) == 0
    labels, about = read_classes(out / "classes.yaml")
    assert labels.names == ("background", "road", "bus", "truck") and labels.source_ids == (0, 1, 2, 3)
    assert labels.void_ids == (255,) and about.title is None


@pytest.mark.parametrize("splits", [False, True])
def test_training_reads_the_same_ids(source, out, splits):
    from data_scripts.reader import read_label
    from data_scripts.sources import load_source

    for folder in ("images", "masks") if splits else ():
        for split in ("train", "val"):
            shutil.copytree(source / folder, source / split / folder)
        shutil.rmtree(source / folder)
    assert run(source, out) == 0
    data, labels = load_source("folder", str(out))
    assert labels.names == ("background", "road", "bus", "truck")
    assert {*data} == ({"train", "validation"} if splits else {"train"})
    for split in data.values():
        read = {row["name"]: read_label(row["label"], row["image"]) for row in split}
        assert np.array_equal(read["a"], halves(0, 1)) and np.array_equal(read["b"], halves(2, 3))


def test_its_own_result_is_a_source(source, out):
    assert run(source, out) == 0 and run(out, out.with_name("again")) == 0
    again = out.with_name("again")
    assert classes(again) == classes(out) and np.array_equal(mask(again, "b"), mask(out, "b"))


@pytest.mark.parametrize("size, shown", [((1200, 1600), "768 1024"), ((1600, 1200), "1024 768"), ((1024, 1024), "")])
def test_the_next_command_shrinks_large_photos(source, out, size, shown, capsys):
    for name in ("a", "b"):
        photo(source / "images" / f"{name}.jpg", *size)
        save(source / "masks" / f"{name}.png", halves(0, 1, *size))
    assert run(source, out) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert ("_size" in last) == bool(shown) == ("the photos are large" in last)
    assert f"--train_size {shown} --test_size {shown}  # a fifth" in last or not shown


def test_the_next_command_shows_a_square_for_upright_and_wide_photos(source, out, capsys):
    for name, size in (("a", (1200, 1600)), ("b", (1600, 1200))):
        photo(source / "images" / f"{name}.jpg", *size)
        save(source / "masks" / f"{name}.png", halves(0, 1, *size))
    assert run(source, out) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert "--train_size 1024 1024 --test_size 1024 1024" in last and "a square changes upright and wide" in last


def test_a_source_that_has_changed(source, out):
    assert run(source, out) == 0
    (source / "images" / "a.jpg").rename(source / "images" / "c.jpg")
    (source / "masks" / "a.png").rename(source / "masks" / "c.png")
    assert run(source, out) == 0
    assert sorted(path.name for path in (out / "masks").iterdir()) == ["b.png", "c.png"]


# Corrections


def test_a_corrected_file_is_kept(source, out, capsys):
    assert run(source, out) == 0
    text = correct(out, ("name: bus", "name: coach"), ("# Made", "# mine\n# Made"), ("ignore: [", "ignore: [7, "))
    assert run(source, out) == 0 and (out / "classes.yaml").read_text() == text
    report = capsys.readouterr().out
    assert "classes.yaml was corrected, and is kept as it is" in report and "  2  coach" in report
    assert run(source, out) == 0 and (out / "classes.yaml").read_text() == text
    assert np.array_equal(mask(out, "b"), halves(2, 3))


def test_names_that_were_given_are_not_asked_for(source, out, capsys):
    (source / "classes.txt").unlink()
    assert run(source, out) == 0 and "give the classes names" in capsys.readouterr().out
    correct(out, *((f"class_{number}", name) for number, name in ((1, "road"), (2, "bus"), (3, "truck"))))
    assert run(source, out) == 0 and "give the classes names" not in capsys.readouterr().out


def test_classes_of_one_name_become_one(source, out, capsys):
    assert run(source, out) == 0
    correct(out, ("name: bus", "name: vehicle"), ("name: truck", "name: vehicle"))
    assert run(source, out) == 0
    assert classes(out) == {"background": 0, "road": 1, "vehicle": 2} and (mask(out, "b") == 2).all()
    assert "classes of the same name are one class now (id 3 became 2)" in capsys.readouterr().out
    merged = files(out)
    assert run(source, out) == 0 and files(out) == merged
    correct(out, ("name: vehicle", "name: road"))  # and once more
    assert run(source, out) == 0 and classes(out) == {"background": 0, "road": 1}
    assert np.array_equal(mask(out, "a"), halves(0, 1)) and (mask(out, "b") == 1).all()
    assert run(source, out) == 0 and (mask(out, "b") == 1).all()


def test_a_class_moved_to_ignore(source, out):
    assert run(source, out) == 0
    line = next(line for line in (out / "classes.yaml").read_text().splitlines() if "truck" in line)
    correct(out, (line + "\n", ""), ("ignore: [255]", "ignore: [3, 255]"))
    assert run(source, out) == 0 and "truck" not in classes(out) and ignored(out) == [3, 255]
    assert np.array_equal(mask(out, "b"), halves(2, 3))


def test_ignore_background_after_corrections_is_refused_if_it_has_no_effect(source, out, capsys):
    assert run(source, out) == 0
    text = correct(out, ("name: background", "name: rest"))
    assert run(source, out, "--ignore_background") == 1 and (out / "classes.yaml").read_text() == text
    assert "move id 0 (rest) to ignore" in capsys.readouterr().err
    assert run(source, out, "--ignore_background", "--overwrite") == 0 and ignored(out) == [0, 255]
    correct(out, ("name: bus", "name: coach"))
    assert run(source, out, "--ignore_background") == 0 and ignored(out) == [0, 255]  # the same command again


def test_a_class_that_the_corrected_file_does_not_mention(source, out, capsys):
    assert run(source, out) == 0
    line = next(line for line in (out / "classes.yaml").read_text().splitlines() if "truck" in line)
    text = correct(out, (line + "\n", ""))
    before = files(out)
    assert run(source, out) == 1 and files(out) == before and (out / "classes.yaml").read_text() == text
    assert "classes.yaml does not mention id 3 (truck, 24 pixels)" in error(capsys)


def test_a_wrong_corrected_file_is_one_line(source, out, capsys):
    assert run(source, out) == 0
    correct(out, ("id: 1,", "id: x,"))
    before = files(out)
    assert run(source, out) == 1 and files(out) == before
    assert "classes.yaml" in error(capsys)


def test_ids_stay_when_the_source_gains_a_class(tmp_path, out, capsys):
    """Ids of colours follow the colours' order, which a new colour would change under the user's corrections."""
    source = tmp_path / "colours"
    palette = np.array([(0, 0, 0), (200, 0, 0), (100, 0, 0)], np.uint8)
    photo(source / "images" / "a.jpg")
    save(source / "masks" / "a.png", palette[halves(0, 1)])
    assert run(source, out) == 0
    correct(out, ("color_200_0_0", "roof"))
    photo(source / "images" / "b.jpg")
    save(source / "masks" / "b.png", palette[halves(1, 2)])
    assert run(source, out) == 1 and "id 2 (color_100_0_0, 24 pixels)" in error(capsys)
    correct(out, ("ignore:", "  - {name: door, id: 2}\nignore:"))
    assert run(source, out) == 0 and classes(out) == {"background": 0, "roof": 1, "door": 2}
    assert np.array_equal(mask(out, "a"), halves(0, 1)) and np.array_equal(mask(out, "b"), halves(1, 2))


def test_ids_that_are_void_stay_apart_under_corrections(tmp_path, out):
    """So that the user can make a class of one of them."""
    source = tmp_path / "city"
    photo(source / "leftImg8bit" / "train" / "x_leftImg8bit.png")
    save(source / "gtFine" / "train" / "x_gtFine_labelIds.png", ids([7, 26, 6, 5] * 2).repeat(6, axis=0))
    assert run(source, out) == 0 and {5, 6} <= {*ignored(out)}
    correct(out, (", 6,", ","), ("ignore:", "  - {name: ground, id: 6}\nignore:"))
    assert run(source, out) == 0
    assert mask(out, "train/x_leftImg8bit")[0].tolist() == [7, 26, 6, 5] * 2


def test_without_its_classes_file_a_run_starts_anew(source, out):
    assert run(source, out) == 0
    first = files(out)
    correct(out, ("name: bus", "name: vehicle"), ("name: truck", "name: vehicle"))
    assert run(source, out) == 0
    (out / "classes.yaml").unlink()
    assert run(source, out) == 0 and files(out) == first
    correct(out, ("name: bus", "name: coach"))
    assert run(source, out, "--overwrite") == 0 and files(out) == first


def test_equal_names_in_the_source_are_one_class(source, out, capsys):
    (source / "classes.txt").write_text("background\nroad\ncar\ncar\n")
    assert run(source, out) == 0 and classes(out) == {"background": 0, "road": 1, "car": 2}
    assert (mask(out, "b") == 2).all() and "ids 2 and 3 are both called car" in capsys.readouterr().out


def test_names_that_differ_in_case_are_noted(source, out, capsys):
    (source / "classes.txt").write_text("background\nroad\ncar\nCar\n")
    assert run(source, out) == 0 and len(classes(out)) == 4
    assert "car and Car differ only in case" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["no", "1e3", "a: b", "- x", "# y", "Straße 🚗", 'say "hi"', "x" * 150, "tab\tbed"])
def test_odd_names(source, out, name):
    (source / "classes.txt").write_text(f"background\nroad\nbus\n truck {name}\n", encoding="utf-8")
    assert run(source, out) == 0
    labels, _ = read_classes(out / "classes.yaml")
    assert labels.names[3] == " ".join(f"truck {name}".split())[:100].strip()


# Whose folder


def test_a_folder_of_someone_else_is_refused(source, out, capsys):
    (out / "images").mkdir(parents=True)
    (out / "images" / "mine.jpg").write_bytes(b"mine")
    (out / "notes.txt").write_text("mine")
    before = files(out)
    assert run(source, out) == 1 and files(out) == before and "not empty" in error(capsys)
    assert run(source, out, "--overwrite") == 0
    assert (out / "notes.txt").read_text() == "mine" and not (out / "images" / "mine.jpg").exists()


def test_files_that_someone_added_are_not_lost(source, out, capsys):
    assert run(source, out) == 0
    (out / "images" / "mine.jpg").write_bytes(b"mine")
    (out / "runs").mkdir()
    assert run(source, out) == 1 and "images/mine.jpg" in error(capsys)
    (out / "images" / "mine.jpg").unlink()
    assert run(source, out) == 0 and (out / "runs").is_dir()


def test_the_result_of_another_source_is_refused(source, out, tmp_path, capsys):
    assert run(source, out) == 0
    shutil.copytree(source, tmp_path / "two")
    before = files(out)
    assert run(tmp_path / "two", out) == 1 and files(out) == before and f"was made from {source}" in error(capsys)
    (tmp_path / "link").symlink_to(source)
    assert run(tmp_path / "link", out) == 0


@pytest.mark.parametrize("place", [".", "out", "images/../out", ".."])
def test_a_destination_inside_the_source_is_refused(source, place, capsys):
    before = files(source)
    assert run(source, source / place) == 1 and files(source) == before and "lie in each other" in error(capsys)


def test_a_destination_that_is_a_file(source, out, capsys):
    out.write_text("x")
    assert run(source, out) == 1 and "is a file" in error(capsys) and out.read_text() == "x"
    assert run(source, out / "sub" / "x") == 1 and f"lies below {out}, which is a file" in error(capsys)


def test_folders_that_the_system_refuses_are_one_line(source, out, tmp_path, capsys):
    assert run(source, tmp_path / ("x" * 300)) == 1 and "name too long; name another folder" in error(capsys)
    assert run(tmp_path / ("x" * 300), out) == 1 and "name too long; name another folder" in error(capsys)


def test_folders_above_a_destination_that_fails_are_removed(source, tmp_path):
    (tmp_path / "kept").mkdir()
    (source / "images" / "b.jpg").write_bytes((source / "images" / "b.jpg").read_bytes()[:-9])
    assert run(source, tmp_path / "kept" / "new" / "out") == 1 and not [*(tmp_path / "kept").iterdir()]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"source": 1}'])
def test_a_damaged_record(source, out, content, capsys):
    assert run(source, out) == 0
    (out / "prepared.json").write_text(content)
    assert run(source, out) == 1 and "prepared.json" in error(capsys)
    assert run(source, out, "--overwrite") == 0


def test_a_record_that_cannot_be_read(source, out, capsys):
    (out / "prepared.json").mkdir(parents=True)
    assert run(source, out) == 1 and "json: Is a directory; make room or allow reading" in error(capsys)


def test_an_error_leaves_a_first_result_alone(source, out, capsys):
    assert run(source, out) == 0
    before = files(out)
    save(source / "masks" / "b.png", halves(0, 1, 5, 5))
    assert run(source, out) == 1 and files(out) == before
    (source / "masks" / "b.png").write_bytes(b"x")
    (source / "images" / "a.jpg").write_bytes(b"x")
    assert run(source, out) == 1 and files(out) == before


# Kills, full disks


def command(source, out) -> list[str]:
    return [sys.executable, "-m", "data_scripts.prepare", str(source), str(out)]


def kill_when(source, out, ready) -> None:
    process = subprocess.Popen(command(source, out), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not ready():
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL, "it ended before it was killed"


def test_a_killed_run_is_unfinished_and_can_be_run_again(tmp_path, out):
    from data_scripts.sources import DataError, load_source

    source = tmp_path / "many"
    for number in range(60):
        photo(source / "images" / f"{number}.png", 200, 300)
        save(source / "masks" / f"{number}.png", halves(0, 1, 200, 300))
    kill_when(source, out, lambda: len([*out.glob(".prepare.tmp/masks/*")]) > 2)
    assert (out / UNFINISHED).exists() and not (out / "images").exists()
    with pytest.raises(DataError, match="is incomplete: run it again, python -m data_scripts.prepare"):
        load_source("toycity", str(out))
    assert run(source, out) == 0
    whole = files(out)
    assert {*whole} == {"classes.yaml", "prepared.json"} | {
        f"{a}/{i}.png" for a in ("images", "masks") for i in range(60)
    }
    kill_when(source, out, lambda: len([*out.glob(".prepare.tmp/masks/*")]) > 2)  # a second run leaves the first result
    left = files(out)
    assert all(left[name] == data for name, data in whole.items()) and UNFINISHED not in left
    assert run(source, out) == 0 and files(out) == whole


@pytest.mark.parametrize("step", range(6))
def test_killed_while_it_replaces(source, out, step, monkeypatch):
    """Whatever has been renamed when the program dies, the next run completes it and keeps the corrections."""
    from data_scripts.preparing import destination

    assert run(source, out) == 0
    correct(out, ("name: bus", "name: vehicle"), ("name: truck", "name: vehicle"))
    steps = iter(range(99))

    def dying(function):
        def die(*args, **options):
            if next(steps) == step:
                raise KeyboardInterrupt
            return function(*args, **options)

        return die

    monkeypatch.setattr(destination, "discard", dying(destination.discard))
    monkeypatch.setattr(destination, "write_whole", dying(destination.write_whole))
    monkeypatch.setattr(Path, "rename", dying(Path.rename))
    assert run(source, out) in (0, 130)
    monkeypatch.undo()
    assert run(source, out) == 0
    assert classes(out) == {"background": 0, "road": 1, "vehicle": 2} and (mask(out, "b") == 2).all()
    assert not (out / UNFINISHED).exists() and not [*out.glob(".*")]


def test_a_full_disk_is_one_line(source, disk, capsys):  # noqa: F811
    folder = disk("size=100k")
    photo(source / "images" / "c.png", 300, 300)
    save(source / "masks" / "c.png", halves(0, 1, 300, 300))
    assert run(source, folder / "out") == 1 and not [*folder.iterdir()]
    line = error(capsys)
    assert "MB are free on the disk" in line and "--link" in line


def test_a_disk_that_fills_up_is_one_line(source, disk, monkeypatch, capsys):  # noqa: F811
    from data_scripts import prepare

    folder = disk("size=100k")
    photo(source / "images" / "c.png", 300, 300)
    save(source / "masks" / "c.png", halves(0, 1, 300, 300))
    monkeypatch.setattr(prepare, "check_space", lambda *_: None)
    assert run(source, folder / "out") == 1 and not [*folder.iterdir()]
    assert "No space left on device" in error(capsys)


def test_one_program_at_a_time(source, out, capsys):
    from filelock import FileLock

    assert run(source, out) == 0
    before = files(out)
    with FileLock(out / ".lock"):
        assert run(source, out) == 1 and "is being written by another program" in error(capsys)
    assert {name: data for name, data in files(out).items() if name != ".lock"} == before


# Links, read-only sources


def test_hard_links(source, out):
    assert run(source, out, "--link") == 0
    assert (out / "images" / "a.jpg").stat().st_ino == (source / "images" / "a.jpg").stat().st_ino
    assert run(source, out) == 0
    assert (out / "images" / "a.jpg").stat().st_ino != (source / "images" / "a.jpg").stat().st_ino


def test_links_in_the_source_are_followed_and_copied_as_files(source, out, tmp_path):
    elsewhere = tmp_path / "elsewhere.jpg"
    (source / "images" / "a.jpg").rename(elsewhere)
    (source / "images" / "a.jpg").symlink_to(elsewhere)
    for flags in ((), ("--link",)):
        assert run(source, out, *flags) == 0
        assert (
            not (out / "images" / "a.jpg").is_symlink()
            and (out / "images" / "a.jpg").read_bytes() == elsewhere.read_bytes()
        )


def test_a_broken_link_is_named(source, out, capsys):
    (source / "images" / "a.jpg").unlink()
    (source / "images" / "a.jpg").symlink_to("nowhere")
    assert run(source, out) == 1 and not out.exists()
    assert "images/a.jpg" in capsys.readouterr().err.splitlines()[0]


def test_a_linked_source(source, out, tmp_path):
    (tmp_path / "link").symlink_to(source)
    assert run(tmp_path / "link", out) == 0 and np.array_equal(mask(out, "a"), halves(0, 1))


def test_a_read_only_source(source, disk, out, tmp_path):  # noqa: F811
    folder = disk("size=1m")
    shutil.copytree(source, folder / "s")
    disk("ro,size=1m")
    assert run(folder / "s", out) == 0 and np.array_equal(mask(out, "b"), halves(2, 3))


def test_a_read_only_destination(source, disk, capsys):  # noqa: F811
    disk("size=1m")
    folder = disk("ro,size=1m")
    assert run(source, folder / "out") == 1
    assert "cannot write" in (line := error(capsys)) and "Read-only file system" in line


def test_a_file_name_that_is_not_utf8(source, out, capsys):
    (source / "images" / "a.jpg").rename(os.fsdecode(os.fsencode(source / "images") + b"/\xff.jpg"))
    (source / "masks" / "a.png").rename(os.fsdecode(os.fsencode(source / "masks") + b"/\xff.png"))
    assert run(source, out) == 1 and "is not UTF-8" in error(capsys)


@pytest.mark.parametrize("which", ["source", "destination"])
def test_a_folder_name_that_is_not_utf8(source, out, tmp_path, capsys, which):
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    if which == "source":
        source.rename(odd)
    paths = (odd, out) if which == "source" else (source, odd)
    assert run(*paths) == 1 and "is not UTF-8, as in old archives: rename the folder" in error(capsys)
    assert not paths[1].exists()


def test_a_lock_that_cannot_be_deleted_while_it_is_held(source, out, monkeypatch):
    """As on Windows."""
    unlink = Path.unlink

    def refused(path, **options):
        if path.name == ".lock":
            raise PermissionError(13, "it is open", str(path))
        unlink(path, **options)

    monkeypatch.setattr(Path, "unlink", refused)
    assert run(source, out) == 0
    assert write_toycity(out.parent / "city", 1, 1, 1, (32, 64)) is None


def test_the_program(source, out):
    result = subprocess.run(command(source, out), cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0 and not result.stderr, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == f"{source}: mask files" and lines[1] == "  photos: 2 (not divided into splits)"
    assert f"train_seg.py --dataset_path {out} --model streetnet" in lines[-1] and "a fifth" in lines[-1]
    again = subprocess.run(command(source / "nothing", out), cwd=ROOT, capture_output=True, text=True)
    assert (
        again.returncode == 1
        and again.stderr
        == f"error: no folder {source / 'nothing'} (SOURCE): name a folder, a JSON file, or a hub id (USER/NAME)\n"
        and not again.stdout
    )


def test_many_regions_are_drawn_in_seconds(tmp_path, out):
    """700 polygons on 2 photos of 2 megapixels: the work must not grow with regions times pixels."""
    import time

    source = tmp_path / "large"
    for name in "ab":
        Image.fromarray(np.zeros((1024, 2048, 3), np.uint8)).save(_folder(source) / f"{name}.jpg")
    regions = [(i % 2, 1, [flat(x, x, x + 30, x + 20)]) for i in range(700) for x in [i % 900]]
    images = [{"id": i, "file_name": f"{name}.jpg"} for i, name in enumerate("ab")]
    write_json(source / "a.json", coco(regions, images=images))
    begin = time.process_time()
    assert run(source, out, "--overlap", "later") == 0 and time.process_time() - begin < 10


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def test_ids_of_a_small_example_by_hand(tmp_path, out):
    photo(tmp_path / "s" / "images" / "a.jpg", 2, 3)
    save(tmp_path / "s" / "masks" / "a.png", ids([0, 9, 9], [4, 4, 255]))
    assert run(tmp_path / "s", out) == 0 and mask(out, "a").tolist() == [[0, 9, 9], [4, 4, 255]]
