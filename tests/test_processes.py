"""Two processes, started as on GPUs, count, log and save what one process does."""

import json

import numpy as np
import pytest
from conftest import checked, launch, rows_of
from PIL import Image

FAST = (
    "--dataset toycity --model streetnet --crop_size 32 64 --batch_size 4 --num_workers 1 --report_to none --epochs 2"
)
CASES = {
    "batch-native": ("--norm", "batch"),
    "evo-resized": ("--norm", "evo", "--train_size", 64, 128, "--test_size", 64, 128),
}


@pytest.fixture(scope="module", params=CASES, ids=CASES)
def run(request, toycity, tmp_path_factory):
    """A run trained with two processes on 3 validation images, which 2 does not divide."""
    folder = tmp_path_factory.mktemp("two") / "run"
    flags = [*FAST.split(), "--dataset_path", toycity, "--output_dir", folder, *CASES[request.param]]
    result = checked(launch("train_seg.py", *flags, processes=2))
    assert "2 process(es)" in result.stdout
    assert result.stdout.count("done: best validation mIoU") == 1
    return folder


def test_the_logged_score_is_the_predicted_one_on_one_and_two_processes(run, tmp_path):
    logged = max(row["mean_iou"] for row in rows_of(run))
    outputs, temperatures = [], []
    for processes in (1, 2):
        output = tmp_path / str(processes)
        flags = ["--model_name_or_path", run, "--splits", "val", "--output_dir", output, "--num_workers", 0]
        flags.append("--calibrate")
        checked(launch("predict_seg.py", *flags, processes=processes))
        outputs.append(output)
        temperatures.append(json.loads((run / "best" / "calibration.json").read_text()))
        assert f"{json.loads((output / 'scores_val.json').read_text())['mean_iou']:.4f}" == logged
    assert temperatures[0] == temperatures[1] and temperatures[0]["temperatures"][0]["images"] == 3
    one, two = (sorted((output / "results_val").iterdir()) for output in outputs)
    assert [path.name for path in one] == [path.name for path in two] and len(one) == 3
    for a, b in zip(one, two, strict=True):
        assert np.array_equal(Image.open(a), Image.open(b))
    assert (outputs[0] / "scores_val.json").read_text() == (outputs[1] / "scores_val.json").read_text()


def test_the_checkpoint_has_a_part_of_each_process(run):
    checkpoint = max((run / "checkpoints").iterdir())
    assert {path.name for path in checkpoint.iterdir()} == {
        "model.safetensors",
        "training.pt",
        "state.json",
        "checksums.json",
        "rng_0.pt",
        "rng_1.pt",
    }


def test_processes_that_accelerate_would_not_join_are_refused(toycity):
    """--multi_gpu without GPUs and without ACCELERATE_USE_CPU starts runs that do not know of each other."""
    flags = [*FAST.split(), "--dataset_path", toycity]
    result = launch("train_seg.py", *flags, processes=2, env={"ACCELERATE_USE_CPU": "false"})
    assert result.returncode != 0 and result.stderr.count("error: ") == 1
    assert "ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2" in result.stderr
