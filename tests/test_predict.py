"""predict_seg.py: scales and flips, interruptions, the zip for a challenge's server."""

import errno
import json
import os
import shutil
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import launch
from PIL import Image

from data_scripts.labels import CITYSCAPES, DataError
from data_scripts.sources import folder_of_images, load_source
from data_scripts.submission import write_submission
from seg_models.predictor import Predictor

FAST = "--dataset toycity --model streetnet --crop_size 32 64 --batch_size 2 --num_workers 0 --report_to none".split()


@pytest.fixture(scope="module")
def trained(toycity, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "run"
    flags = [*FAST, "--max_train_steps", 3, "--dataset_path", toycity, "--output_dir", run]
    result = launch("train_seg.py", *flags)
    assert result.returncode == 0, result.stderr
    return run


@pytest.fixture
def predict(trained, in_process, tmp_path):
    """`predict(...)` predicts into the working directory."""

    def run(*flags):
        where = ["--model_name_or_path", trained, "--output_dir", tmp_path, "--num_workers", 0]
        in_process("predict_seg", *where, *flags)
        return tmp_path

    return run


def ids_of(folder):
    return {path.name: np.asarray(Image.open(path)) for path in sorted(folder.iterdir())}


@pytest.fixture
def counted(monkeypatch):
    """Records the images that the predictor sees; it fails from the `counted.fail_at`-th on."""
    from seg_jobs import prediction_job

    class Counted(prediction_job.Predictor):
        seen, fail_at = [], 99

        def __call__(self, image, size=None):
            if len(self.seen) + 1 == self.fail_at:
                raise KeyboardInterrupt
            self.seen.append(image)
            return super().__call__(image, size)

    monkeypatch.setattr(prediction_job, "Predictor", Counted)
    return Counted


def test_an_interrupted_prediction_goes_on(predict, counted):
    output = predict("--splits", "val", "--mst")
    expected, scores = ids_of(output / "results_val"), (output / "scores_val.json").read_text()
    shutil.rmtree(output / "results_val")
    counted.seen.clear()
    counted.fail_at = 3
    with pytest.raises(SystemExit):
        predict("--splits", "val", "--mst")
    assert len(ids_of(output / "results_val")) == 2
    counted.fail_at = 99
    predict("--splits", "val", "--mst")
    assert len(counted.seen) == 3
    found = ids_of(output / "results_val")
    assert found.keys() == expected.keys() and all(np.array_equal(found[name], expected[name]) for name in found)
    assert (output / "scores_val.json").read_text() == scores
    assert {path.name for path in output.iterdir()} == {"results_val", "results_color_val", "scores_val.json"}


def test_with_other_settings_it_begins_anew(predict, counted):
    counted.fail_at = 3
    with pytest.raises(SystemExit):
        predict("--splits", "val", "--mst")
    counted.fail_at = 99
    predict("--splits", "val")
    assert len(counted.seen) == 2 + 3


def test_a_finished_prediction_is_made_again(predict, counted):
    for _ in range(2):
        predict("--splits", "val")
    assert len(counted.seen) == 6


@pytest.mark.parametrize(
    "flags, scales, flip",
    [
        ("", [1.0], False),
        ("--mst", [0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.2], True),
        ("--mst --no_flip", [0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.2], False),
        ("--scales 0.5 1.5 --average logits", [0.5, 1.5], True),
        ("--scales 1 --no_flip", [1.0], False),
    ],
)
def test_views(predict, flags, scales, flip):
    output = predict("--splits", "val", *flags.split())
    settings = json.loads((output / "scores_val.json").read_text())["settings"]
    assert (settings["scales"], settings["flip"]) == (scales, flip)
    assert settings["average"] == ("logits" if "logits" in flags else "probabilities")


@pytest.mark.parametrize(
    "flags, named",
    [
        ("--no_flip", "--no_flip needs --mst or --scales"),
        ("--flip", "--flip needs --mst or --scales"),
        ("--average logits", "--average"),
        ("--mst --scales 1", "--mst and --scales"),
        ("--input photos --dataset_path city", "--dataset_path city and --input exclude each other"),
        ("--input=", "--input is empty: leave it out, or give it a value"),
        ("--input photos --zip", "--zip and --input exclude each other"),
        ("--scales 0", "--scales 0.0"),
        ("--scales 1e-9", "--scales 1e-09 is out of range: 0.1 to 10"),
        ("--scales 1 1e9", "--scales 1000000000.0 is out of range: 0.1 to 10"),
        ("--mst --average votes", "--average votes"),
    ],
)
def test_views_that_contradict_each_other_are_refused(predict, capsys, flags, named):
    with pytest.raises(SystemExit):
        predict(*flags.split())
    assert f"error: {named}" in capsys.readouterr().err


def test_the_zip_holds_each_image_once(predict, toycity):
    output = predict("--splits", "test", "--zip")
    Image.new("L", (3, 3)).save(output / "results_test" / "stray.png")
    predict("--splits", "test", "--zip")
    with zipfile.ZipFile(output / "results_test.zip") as archive:
        names = sorted(archive.namelist())
        for name in names:
            assert archive.read(name) == (output / "results_test" / name).read_bytes()
    assert names == sorted(path.name for path in (toycity / "leftImg8bit" / "test").iterdir())


@pytest.mark.parametrize("fault", ["missing", "size", "id"])
def test_a_zip_that_the_server_would_refuse_is_not_written(predict, toycity, tmp_path, fault):
    predict("--splits", "test")
    data, labels = load_source("toycity", str(toycity))
    path = sorted((tmp_path / "results_test").iterdir())[1]
    if fault == "missing":
        path.unlink()
    else:
        Image.fromarray(np.full((96, 192) if fault == "id" else (95, 192), 0, np.uint8)).save(path)
    with pytest.raises(DataError, match=path.name):
        write_submission(data["test"], labels, tmp_path / "results_test")
    assert not list(tmp_path.glob("*.zip*"))


@pytest.mark.parametrize("name", ["val", "color_val", "train_ids_test"])
def test_a_folder_with_the_name_of_a_split_does_not_overwrite_it(predict, toycity, tmp_path, name):
    shutil.copytree(toycity / "leftImg8bit" / "test", tmp_path / "photos" / name)
    output = predict("--input", tmp_path / "photos" / name)
    assert len(ids_of(output / f"results_folder_{name}")) == 2 and not (output / f"results_{name}").exists()


# Folders and files as they come


@pytest.fixture
def photos(tmp_path):
    """Four photos of two sizes; two of them share a name."""
    rng = np.random.default_rng(3)
    for name, size in (("a.png", (40, 60)), ("one/b.jpg", (48, 64)), ("two/b.png", (40, 60)), ("two/c.png", (48, 64))):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return tmp_path / "photos"


def results_in(folder):
    """Return the names of the pictures below a folder, hidden ones included."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


FOUR = ["a.png", "one/b.png", "two/b.png", "two/c.png"]


def error_of(capsys):
    """Return the single error line of a script that has exited, and the rest of its stderr."""
    said = capsys.readouterr().err
    (line,) = (line for line in said.splitlines() if line.startswith("error: "))
    assert "Traceback" not in said
    return line, said


def test_the_longest_names_of_photos_have_results(predict, photos):
    name = "ü" * 125 + "x"  # 251 bytes, and 4 of the ending: no file name is longer
    (photos / "a.png").rename(photos / f"{name}.png")
    output = predict("--input", photos)
    assert results_in(output / "results_photos") == [*FOUR[1:], f"{name}.png"]


def test_folders_below_are_kept(predict, photos):
    output = predict("--input", photos)
    assert results_in(output / "results_photos") == results_in(output / "results_color_photos") == FOUR
    assert ids_of(output / "results_photos" / "one")["b.png"].shape == (48, 64)
    archived = write_submission(folder_of_images(str(photos)), CITYSCAPES, output / "results_photos")
    with zipfile.ZipFile(archived) as archive:
        assert sorted(archive.namelist()) == FOUR


def test_damaged_photos_are_named_at_the_end_and_the_rest_is_predicted(predict, photos, counted, capsys):
    path = photos / "two" / "b.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    (photos / "text.png").write_text("no picture")
    (photos / "gone.png").symlink_to(photos / "nowhere.png")
    with pytest.raises(SystemExit) as exit:
        predict("--input", photos)
    line, said = error_of(capsys)
    assert exit.value.code == 1 and "3 of 6 images" in line
    lines = [line for line in said.splitlines() if line.startswith("damaged: ")]
    assert len(lines) == 3 and all(any(name in line for line in lines) for name in ("b.png", "text.png", "gone.png"))
    output = photos.parent
    assert results_in(output / "results_photos") == ["a.png", "one/b.png", "two/c.png"]
    assert len(counted.seen) == 3
    path.write_bytes(whole)
    (photos / "text.png").unlink()
    (photos / "gone.png").unlink()
    predict("--input", photos)
    assert len(counted.seen) == 4  # only the repaired one
    assert results_in(output / "results_photos") == FOUR and not list(output.glob(".predicting*"))


def test_a_photo_that_does_not_fit_into_memory_is_named_and_the_rest_is_predicted(
    predict, tmp_path, counted, monkeypatch, capsys
):
    from seg_jobs import prediction_job, trained_model

    folder = tmp_path / "album"
    folder.mkdir()
    for name, side in (("small", 40), ("vast", 80), ("tiny", 30)):
        Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(folder / f"{name}.png")
    monkeypatch.setattr(trained_model, "free_memory", lambda: 3 * 10**6)
    monkeypatch.setattr(Predictor, "memory", lambda _, size: 1000 * size[0] ** 2)
    on_a_cpu = SimpleNamespace(
        predictor=SimpleNamespace(device=torch.device("cpu")),
        memory=lambda size: 1000 * size[0] ** 2,
        share_of_memory=1.5e6,
    )
    assert not prediction_job.lack_of_memory(on_a_cpu, (50, 50))
    with monkeypatch.context() as patch:
        patch.setattr(prediction_job, "local_processes", lambda: 2)
        assert not prediction_job.lack_of_memory(on_a_cpu, (30, 30))
        patch.setattr(trained_model, "free_memory", lambda: 0)  # the other process is predicting
        assert not prediction_job.lack_of_memory(on_a_cpu, (30, 30))
        assert "GB are free for each process: give" in prediction_job.lack_of_memory(on_a_cpu, (50, 50))
    with pytest.raises(SystemExit):
        predict("--input", folder)
    said = capsys.readouterr().err
    assert "image vast of 80x80 needs about 0.0 GB of memory" in said and "1 of 3 images could not be predicted" in said
    assert sorted(ids_of(tmp_path / "results_album")) == ["small.png", "tiny.png"]


def test_memory_grows_with_the_views(trained):
    from seg_jobs.model_paths import find_model
    from seg_jobs.trained_model import load_model
    from seg_models.crf import CRF, Refined
    from seg_models.ensemble import Ensemble
    from seg_models.predictor import Predictor
    from seg_models.views import Views

    model, processor = load_model(find_model(str(trained))[1])
    names, size = list(model.config.id2label.values()), (64, 96)
    predictors = [
        Predictor(model, processor.image_mean, processor.image_std, views)
        for views in (Views(), Views(scales=(2.0,)), Views(scales=(1.0, 2.0), flip=True))
    ]
    small, large, several = (predictor.memory(size) for predictor in predictors)
    scores = 64 * 96 * 19 * 4
    assert scores < small < large < several
    together = Ensemble(predictors, [names] * 3)
    assert together.memory(size) == scores + several  # the sum, beside the largest network
    assert Refined(together, CRF()).memory(size) == max(scores + several, CRF.memory(19, size))


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_damaged_image_of_a_split(predict, toycity, tmp_path, counted, capsys, split):
    data = tmp_path / "data"
    shutil.copytree(toycity, data)
    path = sorted((data / "leftImg8bit" / split).iterdir())[0]
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(SystemExit):
        predict("--splits", split, "--dataset_path", data, "--zip")
    line, said = error_of(capsys)
    assert path.name in said and not list(tmp_path.glob("*.zip"))
    if split == "val":  # its scores would belong to other images
        assert path.name in line and not counted.seen and not (tmp_path / "scores_val.json").exists()
    else:
        assert len(counted.seen) == 1 and len(results_in(tmp_path / "results_test")) == 1


def test_what_is_left_of_a_folder_of_the_same_name_is_named(predict, photos, tmp_path, capsys):
    predict("--input", photos)
    assert "other image" not in capsys.readouterr().out
    (tmp_path / "b" / "photos").mkdir(parents=True)
    shutil.copy(photos / "a.png", tmp_path / "b" / "photos")
    predict("--input", tmp_path / "b" / "photos")
    assert "results_photos also holds 3 other image(s), such as b.png" in capsys.readouterr().out


def test_a_single_photo(predict, photos, capsys):
    output = predict("--input", photos / "one" / "b.jpg")
    assert results_in(output / "results_b") == ["b.png"]
    assert "b: no labels, 1 image predicted" in capsys.readouterr().out
    (photos / "text.png").write_text("no picture")
    with pytest.raises(SystemExit):
        predict("--input", photos / "text.png")
    assert "text.png" in error_of(capsys)[1]


def test_results_below_the_input_are_no_photos(predict, photos, counted, capsys):
    for _ in range(2):
        predict("--input", photos, "--output_dir", photos)
    said = capsys.readouterr().out
    assert f"note: {photos}/results_photos is skipped" in said and "results_color_photos is skipped" in said
    assert len(counted.seen) == 8 and results_in(photos / "results_photos") == FOUR
    shutil.rmtree(photos / "results_color_photos")  # its own output is recognised even alone
    predict("--input", photos, "--output_dir", photos)
    assert len(counted.seen) == 12 and results_in(photos / "results_photos") == FOUR
    predict("--input", photos)  # nor is the output of an earlier prediction
    assert len(counted.seen) == 16
    (photos / "results_of_mine").mkdir()  # but a folder that only has such a name is
    shutil.copy(photos / "a.png", photos / "results_of_mine")
    predict("--input", photos)
    assert len(counted.seen) == 21


# What an interruption leaves


@pytest.fixture
def interrupted(predict, photos, counted):
    """A prediction interrupted after three of four photos."""
    counted.fail_at = 4
    with pytest.raises(SystemExit):
        predict("--input", photos)
    counted.fail_at = 99
    counted.seen.clear()
    return photos.parent


def test_an_image_that_was_replaced_is_predicted_anew(predict, photos, interrupted, counted):
    before = ids_of(interrupted / "results_photos" / "one")["b.png"]
    other = photos / "a.png"
    Image.fromarray(np.asarray(Image.open(photos / "one" / "b.jpg"))[:40, ::-1]).save(other, "PNG")
    predict("--input", photos)
    assert len(counted.seen) == 2
    assert np.asarray(Image.open(interrupted / "results_photos" / "a.png")).shape == (40, 64)
    assert np.array_equal(ids_of(interrupted / "results_photos" / "one")["b.png"], before)


@pytest.mark.parametrize("kept", [0, 20, -5, "both ends"])
@pytest.mark.parametrize("kind", ["results_photos", "results_color_photos"])
def test_a_result_that_is_not_whole_does_not_count_as_done(predict, photos, interrupted, counted, kind, kept):
    path = interrupted / kind / "a.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:45] + bytes(len(whole) - 60) + whole[-15:] if kept == "both ends" else whole[:kept])
    predict("--input", photos)
    assert len(counted.seen) == 2 and path.read_bytes() == whole


def test_an_interruption_in_a_later_split_keeps_the_earlier_one(predict, counted):
    counted.seen, counted.fail_at = [], 5  # three validation images, then two of the test split
    with pytest.raises(SystemExit):
        predict()
    counted.seen, counted.fail_at = [], 99
    output = predict()
    assert len(counted.seen) == 1 and not list(output.glob(".predicting*"))


@pytest.mark.parametrize(
    "content", ["", "[1, 2]", '{"size": null, "scales": [1.0]}', '{"settings": 3, "images": 4}', "folder"]
)
def test_a_record_that_cannot_be_used_is_begun_anew(predict, photos, interrupted, counted, content):
    marker = interrupted / ".predicting_photos.json"
    if content == "folder":
        marker.unlink()
        (marker / "inside").mkdir(parents=True)
    else:
        marker.write_text(content)
    predict("--input", photos)
    assert len(counted.seen) == 4 and not marker.exists() and results_in(interrupted / "results_photos") == FOUR


def test_temporary_files_of_a_killed_prediction_are_deleted(predict, photos, interrupted):
    left = interrupted / "results_photos" / "two" / ".c.png.tmp"
    left.parent.mkdir(exist_ok=True)
    left.write_bytes(b"half")
    predict("--input", photos)
    assert results_in(interrupted / "results_photos") == FOUR


# The output folder


def test_one_prediction_at_a_time_in_a_folder(predict, photos, counted, capsys):
    from seg_runs.lock import PREDICTING, locked

    output = predict("--input", photos)
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    with locked(output, "--output_dir", PREDICTING):
        with pytest.raises(SystemExit):
            predict("--input", photos, "--mst")
    line, _ = error_of(capsys)
    assert str(output) in line and f"process {os.getpid()}" in line and "--output_dir" in line
    assert before == {path: path.read_bytes() for path in before} and len(counted.seen) == 4
    predict("--input", photos, "--mst")
    assert len(counted.seen) == 8 and not list(output.glob(".predicting*"))


def full(path):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("what", ["results_val", "results_color_val", "scores_val.json", ".predicting_val.json"])
def test_a_full_disk_is_one_line_that_names_the_file(predict, monkeypatch, tmp_path, capsys, what):
    from seg_runs import files, predictions

    write = files.write_atomically

    def write_or_fail(path, content):
        if what in str(path):
            path.with_name(f".{path.name}.tmp").write_bytes(b"half")
            monkeypatch.setattr(files, "sync", full)
        return write(path, content)

    monkeypatch.setattr(files, "write_atomically", write_or_fail)
    monkeypatch.setattr(predictions, "write_atomically", write_or_fail)
    with pytest.raises(SystemExit):
        predict("--splits", "val")
    line, _ = error_of(capsys)
    assert what in line or what.startswith(".") and str(tmp_path) in line
    assert "No space left on device" in line and "--output_dir" in line
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_full_disk_leaves_no_half_zip(predict, monkeypatch, tmp_path, capsys):
    predict("--splits", "test", "--zip")
    path = tmp_path / "results_test.zip"
    before = path.read_bytes()
    monkeypatch.setattr(zipfile.ZipFile, "write", lambda self, *names: full(names))
    with pytest.raises(SystemExit):
        predict("--splits", "test", "--zip")
    line, _ = error_of(capsys)
    assert f"cannot write {path}: No space left on device" in line
    assert path.read_bytes() == before and not list(tmp_path.glob(".*.tmp"))


def test_a_folder_that_cannot_be_written_to(predict, photos, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit):
        predict("--input", photos, "--output_dir", tmp_path / "file")
    assert str(tmp_path / "file") in error_of(capsys)[0]
    (tmp_path / "o" / "results_photos" / "a.png").mkdir(parents=True)
    with pytest.raises(SystemExit):
        predict("--input", photos, "--output_dir", tmp_path / "o")
    assert str(tmp_path / "o") in error_of(capsys)[0]


def error_lines(result):
    """Return the one error that a launch reports. On a busy machine, both processes may print it."""
    (line,) = {line for line in result.stderr.splitlines() if line.startswith("error: ")}
    return line


def test_two_processes_end_with_one_line_where_the_folder_is_in_use(trained, photos, tmp_path):
    from seg_runs.lock import PREDICTING, locked

    flags = ["--model_name_or_path", trained, "--input", photos, "--output_dir", tmp_path / "o", "--num_workers", 0]
    with locked(tmp_path / "o", "--output_dir", PREDICTING):
        refused = launch("predict_seg.py", *flags, processes=2)
    assert refused.returncode and "is in use by" in error_lines(refused)
    assert not (tmp_path / "o" / "results_photos").exists()


def test_two_processes_share_a_folder_with_damaged_photos(trained, photos, tmp_path):
    (photos / "two" / "b.png").write_bytes(b"")
    (photos / "text.png").write_text("no picture")
    flags = ["--model_name_or_path", trained, "--input", photos, "--output_dir", tmp_path / "o", "--num_workers", 1]
    result = launch("predict_seg.py", *flags, processes=2)
    assert result.returncode and error_lines(result).startswith("error: 2 of 5 images")
    assert result.stderr.count("damaged: ") == 2 and "text.png" in result.stderr and "two/b.png" in result.stderr
    assert results_in(tmp_path / "o" / "results_photos") == ["a.png", "one/b.png", "two/c.png"]


@pytest.mark.parametrize(
    ("dataset", "scored", "name", "noted"),
    [
        ("camvid", "camvid", "val", True),
        ("camvid", "camvid", "camvid_val", True),  # --eval_dataset
        ("toycity", "camvid", "camvid_val", False),
        ("camvid", "camvid", "camvid_test", False),
    ],
)
def test_scores_on_images_of_the_training_are_noted(dataset, scored, name, noted):
    from seg_jobs.prediction_job import note_on_scores

    config = {"dataset": dataset, "trained_on": "train+val", "fold": None}
    assert ("may have been trained" in (note_on_scores(config, scored, name, None) or "")) == noted
