"""The cache, and decoded images in it."""

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image

from data_scripts import cache, copyblob, pixels
from data_scripts.arguments import AugmentOptions
from data_scripts.labels import CITYSCAPES, DataError
from data_scripts.loading import BatchPlan, TrainBatches, train_loader
from data_scripts.pixels import Pixels, build_decoded
from data_scripts.sampling import training_split
from data_scripts.sources import from_files, load_source
from data_scripts.transforms import EvalTransform, RareClasses, SharedEpoch, TrainTransform


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MINICITY_SEG_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def split(tmp_path):
    """Three images of different sizes. The second is a photo to be rotated together with its mask."""
    rng, rows, folder = np.random.default_rng(0), [], tmp_path / "data"
    folder.mkdir()
    for name, size in (("a", (20, 30)), ("b", (24, 16)), ("c", (18, 18))):
        exif = Image.Exif()
        exif[0x0112] = 6 if name == "b" else 1
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / f"{name}.png", exif=exif)
        label = rng.choice(np.array(CITYSCAPES.source_ids, np.uint8), size)
        Image.fromarray(label).save(folder / f"{name}_label.png")
        rows.append((name, folder / f"{name}.png", folder / f"{name}_label.png", None))
    return from_files(rows, "here")


def kept() -> list[str]:
    """Return what is in the cache, except locks."""
    return sorted(path.name for path in cache.cache_root().iterdir() if path.name != ".locks")


def decoded(split, size=None):
    folder, refusal = build_decoded(split, CITYSCAPES, size, "training", progress=False)
    assert not refusal
    return folder


def test_an_empty_variable_of_the_cache_counts_as_unset(tmp_path, monkeypatch):
    monkeypatch.setenv("MINICITY_SEG_CACHE", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    for empty in ("", str(tmp_path / ".cache")):
        monkeypatch.setenv("XDG_CACHE_HOME", empty)
        assert cache.cache_root() == tmp_path / ".cache" / "minicity-seg"


@pytest.mark.parametrize("size", [None, (12, 10)])
def test_decoded_pixels_are_those_of_the_files(split, size):
    files, mapped = Pixels(split, CITYSCAPES, size), Pixels(split, CITYSCAPES, size, decoded(split, size))
    assert len(files) == len(mapped) == 3
    for index in (2, 0, 1):
        for read in ("image", "label", "instances"):
            one, two = getattr(files, read)(index), getattr(mapped, read)(index)
            assert one.dtype == two.dtype and np.array_equal(one, two)
    assert files.image(1).shape == ((16, 24, 3) if size is None else (*size, 3))
    with pytest.raises(ValueError):
        mapped.image(0)[0, 0] = 1  # shared pixels are read-only


def test_rows_in_another_order_are_refused_until_they_are_numbered_anew(split):
    """An item's name would come from one row and its pixels from another."""
    for rows in (split.select([1, 2]), split.select([2, 0, 1])):
        with pytest.raises(DataError, match="renumber them with data_scripts.sampling.training_split"):
            Pixels(rows, CITYSCAPES)
        rows = training_split(rows)
        item = rows.with_transform(EvalTransform(Pixels(rows, CITYSCAPES)))[0]
        index = split["name"].index(item["name"])
        assert np.array_equal(item["labels"], Pixels(split, CITYSCAPES).label(index))


def test_items_are_the_same_from_files_and_from_the_decoded_file(toycity):
    data, labels = load_source("toycity", toycity)
    split, seen = training_split(data["train"]), []
    for folder in (None, build_decoded(data["train"], labels, None, "training", progress=False)[0]):
        epoch = SharedEpoch()
        options = AugmentOptions((48, 64), cutmix=True, rotation=10.0)
        transform = TrainTransform(Pixels(split, labels, None, folder), 0, epoch, options)
        loader = train_loader(split.with_transform(transform), TrainBatches(BatchPlan(6, 3), 0, epoch), 1, False)
        seen += [torch.cat([batch["pixel_values"].flatten() for batch in loader])]
        items = data["validation"].with_transform(EvalTransform(Pixels(data["validation"], labels)))
        if folder is not None:
            folder, _ = build_decoded(data["validation"], labels, None, "validation", progress=False)
            read = Pixels(data["validation"], labels, None, folder)
            cached = data["validation"].with_transform(EvalTransform(read))
            for one, two in zip(items, cached, strict=True):
                assert one["name"] == two["name"]
                assert all(torch.equal(one[key], two[key]) for key in ("pixel_values", "labels"))
    assert torch.equal(*seen)


def test_it_is_decoded_once_for_each_size_and_again_when_a_file_changes(split, monkeypatch):
    written, write = [], pixels._write_decoded
    monkeypatch.setattr(pixels, "_write_decoded", lambda *args: (written.append(1), write(*args)))
    first = decoded(split)
    assert decoded(split) == first and len(written) == 1
    assert decoded(split, (8, 8)) != first and len(written) == 2
    path = split[0]["image"]["path"]
    changed = np.asarray(Image.open(path)).copy()
    changed[0, 0] ^= 255
    Image.fromarray(changed).save(path)
    again = decoded(split)
    assert again != first and len(written) == 3 and not first.exists()  # outdated folders are deleted
    assert np.array_equal(Pixels(split, CITYSCAPES, None, again).image(0), changed)


@pytest.mark.parametrize("short", ["memory", "disk"])
def test_what_does_not_fit_is_not_decoded_and_said(split, monkeypatch, short):
    if short == "memory":
        monkeypatch.setattr(pixels, "free_memory", lambda: 2000)
    else:
        monkeypatch.setattr(pixels.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 2000}))
    folder, refusal = build_decoded(split, CITYSCAPES, None, "training", progress=False)
    assert folder is None and short in refusal and "\n" not in refusal and not cache.cache_root().exists()


@pytest.mark.parametrize("flags", [("--norm", "none"), ("--momentum", 0.5), ("--batch_size", 7)])
def test_flags_that_cannot_be_are_refused_before_anything_is_decoded(in_process, toycity, capsys, flags):
    with pytest.raises(SystemExit):
        in_process(
            *"train_seg --dataset toycity --model streetnet --batch_size 2 --dataset_path".split(), toycity, *flags
        )
    assert f"error: {flags[0]}" in capsys.readouterr().err and not cache.cache_root().exists()


def test_a_broken_file_is_named_and_nothing_is_left(split):
    path = split[1]["image"]["path"]
    data = open(path, "rb").read()
    open(path, "wb").write(data[: len(data) // 2])
    with pytest.raises(DataError, match="b.png"):
        decoded(split)
    assert kept() == []


def test_images_in_memory_have_a_name_too(split):
    stored = [{"path": None, "bytes": open(row["path"], "rb").read()} for row in split["image"]]
    names = cache.names_of("kind", stored)
    assert names == cache.names_of("kind", [dict(row) for row in stored]) != cache.names_of("kind", stored[:2])
    assert names[0] != cache.names_of("kind", stored, "other settings")[0] and names[1].startswith(names[0])


def test_a_pickled_transform_leaves_the_pixels_where_they_are(toycity):
    data, labels = load_source("toycity", toycity)
    rules = copyblob.parse_rules(labels.copyblob, labels)
    bank = copyblob.build_bank(Pixels(data["train"], labels), labels, rules, np.ones((6, 19), int), progress=False)
    blobs = copyblob.BlobBank(bank, np.ones(19), labels)
    read = Pixels(data["train"], labels, None, build_decoded(data["train"], labels, None, "training", False)[0])
    options, rare = AugmentOptions((48, 64), copyblob_prob=1.0), RareClasses(blobs=blobs)
    transform = TrainTransform(read, 0, SharedEpoch(), options, rare)
    data = pickle.dumps(transform.pixels), pickle.dumps(transform.options), pickle.dumps(transform.rare)
    assert sum(map(len, data)) < 10_000 < read.images.nbytes
    pixels, *rest = map(pickle.loads, data)
    again = TrainTransform(pixels, 0, SharedEpoch(), *rest)
    assert np.array_equal(transform.crops([1])[0].image, again.crops([1])[0].image)


def test_a_worker_that_is_spawned_after_the_cache_was_replaced_decodes_the_files(split):
    read = Pixels(split, CITYSCAPES, None, decoded(split))
    data = pickle.dumps(read)
    cache.discard(read.folder)
    again = pickle.loads(data)
    for index in range(3):
        assert np.array_equal(again.image(index), read.image(index))
        assert np.array_equal(again.label(index), read.label(index))


def test_a_label_replaced_by_one_of_the_same_size_and_time_is_noticed(split, tmp_path):
    first, path = decoded(split), Path(split[0]["label"]["path"])
    before = path.stat()
    other = tmp_path / "other.png"
    other.write_bytes(path.read_bytes()[:-1] + b"x")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    files = [row[column] for row in split for column in ("image", "label")]
    assert pixels.names_of("decoded", files, pixels.VERSION, CITYSCAPES.source_ids, None)[1] != first.name


DAMAGE = {
    "zeroed": lambda data: bytes(len(data)),
    "short": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "a bit": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "gone": None,
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("name", ["images.bin", "labels.bin", "shapes.json", cache.CHECKSUMS])
def test_a_damaged_cache_is_built_again(split, name, how, capsys):
    folder = decoded(split)
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    if DAMAGE[how] is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(DAMAGE[how](whole[name]))
    assert decoded(split) == folder and f"note: {folder} is damaged" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole and len(kept()) == 1


def test_a_damaged_bank_is_built_again(toycity, capsys):
    data, labels = load_source("toycity", toycity)
    rules = copyblob.parse_rules(labels.copyblob, labels)
    made = [Pixels(data["train"], labels), labels, rules, np.ones((6, 19), int), False]
    folder = copyblob.build_bank(*made)
    whole = (folder / "pixels.bin").read_bytes()
    (folder / "pixels.bin").write_bytes(bytes(len(whole)))
    assert copyblob.build_bank(*made) == folder and "is damaged (pixels.bin" in capsys.readouterr().out
    assert (folder / "pixels.bin").read_bytes() == whole


def test_a_kill_while_an_old_group_is_deleted_leaves_nothing_half(split, monkeypatch):
    """It is renamed before its first file is deleted."""
    folder = decoded(split)

    def die(path, **_):
        if path.exists():
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(cache.shutil, "rmtree", die)
        cache.discard(folder)
    assert kept() == [f".{folder.name}.old"] and decoded(split) == folder and kept() == [folder.name]


def test_a_builder_that_fails_leaves_nothing(tmp_path):
    def fail(folder):
        (folder / "half").write_text("")
        raise OSError(28, "No space left on device")

    with pytest.raises(DataError, match="No space left on device; MINICITY_SEG_CACHE"):
        cache.cached_folder("x", "x_1", fail)
    assert kept() == []


GROUP, OTHER = f"decoded_{'a' * 16}", f"blobs_{'b' * 16}"  # names as the cache has them
FOLDER = f"{GROUP}_{'1' * 16}"


@pytest.fixture
def builder(tmp_path):
    """Start a process that builds FOLDER and does not end before the file `go` exists."""
    go = tmp_path / "go"
    code = (
        "import sys, time; from pathlib import Path; from data_scripts.cache import cached_folder\n"
        "def build(folder):\n"
        "    (folder / 'value').write_text('first'); print('building', flush=True)\n"
        f"    while not Path({str(go)!r}).exists(): time.sleep(0.01)\n"
        f"cached_folder('{GROUP}', '{FOLDER}', build)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "building\n"
    yield process, go
    go.touch()
    process.communicate(timeout=60)


def test_a_second_process_waits_and_does_not_build_again(builder):
    process, go = builder
    code = (
        "from data_scripts.cache import cached_folder\n"
        "def build(folder): raise SystemExit('built twice')\n"
        f"print((cached_folder('{GROUP}', '{FOLDER}', build) / 'value').read_text())"
    )
    second = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert second.stdout.readline().startswith("waiting for another program that is building")
    go.touch()
    assert second.communicate(timeout=60)[0] == "first\n" and second.returncode == 0


def test_clearing_leaves_what_is_being_built(builder):
    process, go = builder
    cache.cached_folder(OTHER, f"{OTHER}_{'2' * 16}", lambda folder: None)
    command = [sys.executable, "-m", "data_scripts.cache", "--clear"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "kept: a program is building it" in said and kept() == [f".{FOLDER}.tmp"]
    go.touch()
    assert process.wait(60) == 0 and kept() == [FOLDER]


def test_clearing_leaves_folders_that_are_not_the_caches(tmp_path, monkeypatch):
    root = tmp_path / "shared"
    monkeypatch.setenv("MINICITY_SEG_CACHE", str(root))
    cache.cached_folder(GROUP, FOLDER, lambda folder: None)
    (root / "my_thesis").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (root / f"{OTHER}_{'3' * 16}").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setattr("sys.argv", ["cache", "--clear"])
    cache.main()
    assert {path.name for path in root.iterdir()} == {".locks", "my_thesis", f"{OTHER}_{'3' * 16}"}


@pytest.mark.parametrize("flags,done", [([], "read"), (["--clear"], "clear")])
def test_a_cache_that_cannot_be_looked_at_is_one_line(flags, done, tmp_path, monkeypatch):
    monkeypatch.setenv("MINICITY_SEG_CACHE", str(tmp_path / ("x" * 300)))  # as a locked folder, which root may enter
    monkeypatch.setattr("sys.argv", ["cache", *flags])
    with pytest.raises(SystemExit, match=f"^error: cannot {done} the cache .*MINICITY_SEG_CACHE=FOLDER names another$"):
        cache.main()


def test_a_folder_without_its_files_is_made_again(capsys):
    folder = cache.cached_folder(GROUP, FOLDER, lambda folder: (folder / "value").write_text("first"))
    (folder / "value").unlink()
    (folder / cache.CHECKSUMS).write_text("{}")
    (folder / "stranger").write_text("")
    again = cache.cached_folder(GROUP, FOLDER, lambda folder: (folder / "value").write_text("second"))
    assert (again / "value").read_text() == "second" and "is damaged" in capsys.readouterr().out


@pytest.mark.parametrize("version", [1, 2])
def test_free_memory_in_a_container_is_what_is_left_below_its_limit(tmp_path, version):
    from data_scripts.pixels import free_in_container

    assert free_in_container(tmp_path) == []
    folder = tmp_path / "memory" if version == 1 else tmp_path
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    limit, usage, cached = names if version == 1 else ("memory.max", "memory.current", "inactive_file")
    folder.mkdir(exist_ok=True)
    (folder / "memory.stat").write_text(f"anon 5\n{cached} 300\n")
    (folder / usage).write_text("1000\n")
    (folder / limit).write_text("4000\n")
    assert free_in_container(tmp_path) == [4000 - (1000 - 300)]
    (folder / limit).write_text("max\n")
    assert free_in_container(tmp_path) == []


def test_a_builder_that_is_killed_leaves_nothing_that_counts():
    code = (
        "import os, signal; from data_scripts.cache import cached_folder\n"
        "def build(folder):\n    (folder / 'half').write_text('')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "cached_folder('x', 'x_1', build)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == -9
    assert kept() == [".x_1.tmp"]
    folder = cache.cached_folder("x", "x_1", lambda folder: (folder / "whole").write_text(""))
    assert {path.name for path in folder.iterdir()} == {"whole", cache.CHECKSUMS} and kept() == ["x_1"]


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads a process's memory from Linux's /proc")
def test_workers_start_once_and_their_memory_does_not_grow(toycity):
    data, labels = load_source("toycity", toycity)
    split, epoch = training_split(*[data["train"]] * 4), SharedEpoch()
    read = Pixels(split, labels, None, build_decoded(split, labels, None, "training", False)[0])
    transform = TrainTransform(read, 0, epoch, AugmentOptions((64, 96), cutmix=True))
    loader = train_loader(split.with_transform(transform), TrainBatches(BatchPlan(24, 4), 0, epoch), 1, False)
    seen = []
    for number in range(1, 61):
        epoch.set(number)
        assert sum(1 for _ in loader) == 6
        (worker,) = loader._iterator._workers
        rollup = Path(f"/proc/{worker.pid}/smaps_rollup").read_text()
        kilobytes = int(re.search(r"Anonymous: +(\d+) kB", rollup)[1])
        seen.append((worker.pid, kilobytes))
    assert len({pid for pid, _ in seen}) == 1
    assert seen[-1][1] - seen[9][1] < 4096  # 50 epochs, 1,200 items of 24 kB each and as much again for CutMix


def test_one_command_lists_and_clears_it(split, tmp_path):
    folder = decoded(split)

    def run(*flags):
        command = [sys.executable, "-m", "data_scripts.cache", *flags]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert str(folder) in run() and folder.exists()
    assert "deleted" in run("--clear") and kept() == []
    assert run() == ""
