"""A run that diverges or cannot be scored never looks like success."""

import json

import numpy as np
import pytest
import torch
from conftest import refusal, rows_of
from PIL import Image
from safetensors.torch import load_file, save_file

from seg_models import objective
from seg_models.losses import cross_entropy

FAST = "--dataset toycity --model streetnet --crop_size 32 64 --batch_size 2 --num_workers 0 --report_to none".split()
FAST += ["--no_cache"]


@pytest.mark.parametrize("value", ["inf", "nan", "-inf", "1e999"])
@pytest.mark.parametrize(
    "script, flags",
    [
        ("train_seg", ["--learning_rate"]),
        ("train_seg", ["--weight_decay"]),
        ("train_seg", ["--lr_momentum"]),
        ("train_seg", ["--cutmix", "--cutmix_beta"]),
        ("train_seg", ["--loss", "focal", "--focal_gamma"]),
        ("train_seg", ["--aux_weight"]),
        ("train_seg", ["--rotation"]),
        ("train_seg", ["--scale_range", "0.5"]),
        ("train_seg", ["--max_grad_norm"]),
        ("predict_seg", ["--scales", "1.0"]),
    ],
)
def test_numbers_that_are_not_finite_are_refused(script, flags, value, in_process, capsys):
    *before, last = flags
    given = [f"{last}={value}"] if last.startswith("-") else [last, value]
    if value == "-inf" and not last.startswith("-"):
        pytest.skip("argparse takes it for a flag")
    assert "is not a finite number" in refusal(in_process, capsys, script, *before, *given)


def test_a_recipe_with_infinity_is_refused(in_process, tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text("learning_rate: .inf\n")
    assert "--learning_rate inf is not" in refusal(in_process, capsys, "train_seg", tmp_path / "recipe.yaml")


@pytest.fixture
def faulty(monkeypatch):
    """`faulty(steps, weights)` puts a NaN into these optimizer steps, counted from 1: into a weight after the
    step, or into the loss."""
    import train_seg

    train_step, calls = train_seg.train_step, []

    def start(steps, weights):
        def step(*args):
            calls.append(0)
            result = train_step(*args)
            if weights and len(calls) in steps:
                with torch.no_grad():
                    next(args[1].parameters()).fill_(float("nan"))
            return result

        def loss(logits, labels):
            total, weight = cross_entropy(logits, labels)
            wrong = not weights and logits.requires_grad and len(calls) in steps
            return (total * float("nan") if wrong else total), weight

        monkeypatch.setattr(train_seg, "train_step", step)
        monkeypatch.setattr(objective, "make_loss", lambda *_: loss)

    return start


def test_weights_that_are_not_finite_are_not_kept(toycity, in_process, tmp_path, capsys, faulty):
    faulty({4}, weights=True)
    run = tmp_path / "r"
    flags = ["--dataset_path", toycity, "--epochs", 2, "--eval_every", 1, "--checkpointing_steps", 1]
    line = refusal(in_process, capsys, "train_seg", *FAST, *flags, "--output_dir", run)
    assert "no longer finite" in line and f"{run}/checkpoints/step_000003: continue with" in line
    assert [path.name for path in sorted((run / "checkpoints").iterdir())] == ["step_000002", "step_000003"]
    for folder in (run / "checkpoints" / "step_000003", run / "best"):
        assert all(tensor.isfinite().all() for tensor in load_file(folder / "model.safetensors").values())
    assert not (run / "results.json").exists()


def test_ten_steps_without_a_gradient_tell_whether_the_weights_are_lost(city, in_process, tmp_path, capsys, faulty):
    faulty({1}, weights=True)
    flags = ["--dataset_path", city, "--batch_size", 1, "--epochs", 2, "--norm", "evo", "--output_dir", tmp_path / "r"]
    line = refusal(in_process, capsys, "train_seg", *FAST, *flags)
    assert "from step 2 on; the weights are not finite either" in line and "none of them" not in line


def test_a_run_whose_last_steps_changed_nothing_says_so(toycity, in_process, tmp_path, capsys, faulty):
    faulty({4, 5, 6}, weights=False)
    flags = ["--dataset_path", toycity, "--max_train_steps", 6, "--eval_every", 9, "--output_dir", tmp_path / "r"]
    in_process("train_seg", *FAST, *flags)
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith("ended, but the last 3 steps changed nothing") and "done" not in said
    rows = rows_of(tmp_path / "r")
    assert rows[0]["train_loss"] and rows[1]["train_loss"] == rows[1]["train_accuracy"] == ""


def test_a_run_without_a_good_step_is_no_run(toycity, in_process, tmp_path, capsys, faulty):
    faulty(range(9), weights=False)
    flags = ["--dataset_path", toycity, "--max_train_steps", 2, "--output_dir", tmp_path / "r"]
    assert "none of the 2 steps" in refusal(in_process, capsys, "train_seg", *FAST, *flags)
    assert not (tmp_path / "r" / "results.json").exists()


def test_validation_without_a_labelled_pixel_is_refused_before_training(city_of_void, in_process, tmp_path, capsys):
    flags = ["--dataset_path", city_of_void, "--max_train_steps", 1, "--output_dir", tmp_path / "r"]
    assert "every validation pixel is ignored" in refusal(in_process, capsys, "train_seg", *FAST, *flags)
    assert not (tmp_path / "r").exists()


@pytest.fixture
def city_of_void(toycity, tmp_path):
    import shutil

    shutil.copytree(toycity, tmp_path / "data")
    for label in (tmp_path / "data" / "gtFine" / "val").glob("*labelIds.png"):
        Image.fromarray(np.zeros_like(np.asarray(Image.open(label)))).save(label)
    return tmp_path / "data"


def test_weights_that_are_not_finite_are_not_loaded(toycity, in_process, tmp_path, capsys):
    """Checkpoints, models and initial weights are refused, even those of runs from before there were checksums."""
    run = tmp_path / "r"
    in_process("train_seg", *FAST, "--dataset_path", toycity, "--max_train_steps", 1, "--output_dir", run)
    for folder in (run / "checkpoints" / "step_000001", run / "best"):
        weights = load_file(folder / "model.safetensors")
        weights[min(weights)].view(-1)[0] = float("inf")
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        (folder / "checksums.json").unlink()
    name = min(weights)
    resume = ["train_seg", "--resume_from_checkpoint", run, "--max_train_steps", 2]
    assert "holds weights that are not finite" in refusal(in_process, capsys, *resume)
    predict = ["predict_seg", "--model_name_or_path", run, "--splits", "val", "--num_workers", 0]
    assert f"its {name} is not finite" in refusal(in_process, capsys, *predict)
    start = ["train_seg", *FAST, "--dataset_path", toycity, "--init_from", run / "best", "--output_dir", tmp_path / "s"]
    assert "is not finite" in refusal(in_process, capsys, *start) and not (tmp_path / "s").exists()


def test_no_json_holds_nan(tmp_path):
    from seg_runs.files import write_json
    from seg_runs.results import score_summary

    with pytest.raises(ValueError):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []
    nan = float("nan")
    scores = dict(mean_iou=nan, mean_accuracy=nan, overall_accuracy=nan)
    summary = score_summary(["a"], scores | {"per_category_iou": [nan], "per_category_accuracy": [nan]})
    assert json.dumps(summary, allow_nan=False).count("null") == 5


def test_sums_are_exact_on_every_device():
    import train_seg

    places = {kind: train_seg.device_of_sums(torch.device(kind)).type for kind in ("cpu", "cuda", "mps")}
    assert places == {"cpu": "cpu", "cuda": "cuda", "mps": "cpu"}  # MPS has no float64


@pytest.mark.parametrize("files, what", [("*leftImg8bit.png", "image sizes"), ("*labelIds.png", "labels")])
def test_a_run_does_not_go_on_with_other_data(files, what, toycity, in_process, tmp_path, capsys):
    import shutil

    shutil.copytree(toycity, tmp_path / "data")
    run = tmp_path / "r"
    in_process("train_seg", *FAST, "--dataset_path", tmp_path / "data", "--max_train_steps", 1, "--output_dir", run)
    path = min(path for path in (tmp_path / "data").rglob(files) if path.parent.name == "val")
    pixels = np.asarray(Image.open(path)).copy()
    pixels[:9, :9] = pixels[-1, -1]
    Image.fromarray(pixels).save(path)
    resume = ["train_seg", "--resume_from_checkpoint", run, "--max_train_steps", 2]
    assert f"started with other data, which differ in validation {what}." in refusal(in_process, capsys, *resume)
    state = run / "checkpoints" / "step_000001" / "state.json"
    old = json.loads(state.read_text())
    del old["data"]  # an older run, which did not record it, goes on
    state.write_text(json.dumps(old))
    (state.parent / "checksums.json").unlink()
    in_process(*resume)
    assert len(rows_of(run)) == 1
