"""predict_seg.py: scales and flips, what an interruption leaves, the zip for a challenge's server."""

import json
import shutil
import zipfile

import numpy as np
import pytest
from conftest import launch
from PIL import Image

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
    """`predict(...)`: into the working directory."""

    def run(*flags):
        where = ["--model_name_or_path", trained, "--output_dir", tmp_path, "--num_workers", 0]
        in_process("predict_seg", *where, *flags)
        return tmp_path

    return run


def ids_of(folder):
    return {path.name: np.asarray(Image.open(path)) for path in sorted(folder.iterdir())}


@pytest.fixture
def counted(monkeypatch):
    """The images that the predictor is shown; from the `counted.fail_at`-th on it fails."""
    import predict_seg

    class Counted(predict_seg.Predictor):
        seen, fail_at = [], 99

        def labels(self, image, size=None):
            if len(self.seen) + 1 == self.fail_at:
                raise KeyboardInterrupt
            self.seen.append(image)
            return super().labels(image, size)

    monkeypatch.setattr(predict_seg, "Predictor", Counted)
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
        ("--no_flip", "--no_flip"),
        ("--average logits", "--average"),
        ("--mst --scales 1", "--mst and --scales"),
        ("--scales 0", "--scales 0.0"),
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
    from data_scripts.labels import DataError
    from data_scripts.sources import load_source
    from data_scripts.submission import write_submission

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


def test_a_folder_with_the_name_of_a_split_does_not_overwrite_it(predict, toycity, tmp_path):
    shutil.copytree(toycity / "leftImg8bit" / "test", tmp_path / "photos" / "val")
    output = predict("--input", tmp_path / "photos" / "val")
    assert len(ids_of(output / "results_folder_val")) == 2 and not (output / "results_val").exists()
