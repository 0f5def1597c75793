"""The main job, end to end, in this process: train, resume, predict, and compare the numbers."""

import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from conftest import rows_of
from PIL import Image
from safetensors.torch import load_file, save_file

from data_scripts.labels import CITYSCAPES
from seg_jobs.model_paths import note_on_default
from seg_jobs.training_job import default_batch_size
from seg_runs.best_model import restore_best
from seg_runs.epoch_rows import COLUMNS
from seg_runs.run_folder import create_run, newest_run

FAST = "--dataset toycity --model streetnet --crop_size 32 64 --batch_size 2 --num_workers 0 --report_to none".split()


@pytest.fixture(scope="module")
def trained(toycity, tmp_path_factory):
    """A run of 3 epochs with 3 steps each, and every kind of output."""
    from accelerate.state import AcceleratorState, GradientState

    import train_seg

    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    run = tmp_path_factory.mktemp("runs") / "run"
    flags = [*FAST, "--dataset_path", toycity, "--epochs", 3, "--output_dir", run, "--report_to", "tensorboard"]
    train_seg.main([str(flag) for flag in flags])
    return run


def test_the_run_folder_holds_what_the_design_says(trained):
    files = "args.yaml log_epoch.csv learning_curve.png results.json"
    folders = "images tensorboard checkpoints best"
    names = {path.name for path in trained.iterdir()}
    assert names == {*files.split(), *folders.split(), ".lock"}
    best = {path.name for path in (trained / "best").iterdir()}
    code = {path for path in best if path.endswith(".py")}
    assert best - code == {
        *"README.md config.json model.safetensors preprocessor_config.json training.json checksums.json".split()
    }
    assert {"modeling.py", "streetnet.py", "norms.py"} <= code  # the network's code
    assert not code & {"weights.py", "weight_files.py", "weight_names.py", "hub_folders.py", "operations.py"}
    assert not code & {"arguments.py", "objective.py", "views.py"}  # a saved network needs no flags
    assert {path for path in code if "loss" in path} == {"losses.py"}
    assert sorted(p.name for p in (trained / "checkpoints").iterdir()) == ["step_000006", "step_000009"]
    assert sorted(p.name for p in (trained / "images").iterdir()) == [f"epoch_{i:04d}.png" for i in (1, 2, 3)]
    assert list((trained / "tensorboard").iterdir())
    classes = [f"iou/{name}" for name in CITYSCAPES.names]
    assert list(rows_of(trained)[0]) == [*COLUMNS, *classes] and [row["epoch"] for row in rows_of(trained)] == [
        "1",
        "2",
        "3",
    ]


@pytest.mark.parametrize("images, shares, size", [(200, 1, 8), (8, 2, 8), (7, 1, 7), (7, 2, 6), (3, 4, 8), (100, 3, 8)])
def test_the_default_batch_has_fewer_images_if_there_are_fewer(images, shares, size):
    assert default_batch_size(images, shares) == size


def test_six_training_images_need_no_flag(toycity, in_process, tmp_path, capsys):
    flags = [flag for flag in FAST if flag not in ("--batch_size", "2")]
    in_process("train_seg", *flags, "--dataset_path", toycity, "--max_train_steps", 1, "--output_dir", tmp_path / "run")
    assert yaml.safe_load((tmp_path / "run" / "args.yaml").read_text())["batch_size"] == 6
    assert "1 steps of 6 images" in capsys.readouterr().out
    in_process("train_seg", "--resume_from_checkpoint", tmp_path / "run", "--max_train_steps", 2)
    assert "step 1 is done" in capsys.readouterr().out


def test_a_sum_of_losses_trains_and_resumes(toycity, in_process, tmp_path):
    flags = ["--loss", "ce+0.5*lovasz+0.1*ohem", "--ohem_min_kept", 500, "--label_smoothing", 0.1, "--aux_weight", 0.4]
    in_process("train_seg", *FAST, *flags, "--epochs", 2, "--dataset_path", toycity, "--output_dir", tmp_path / "r")
    in_process("train_seg", "--resume_from_checkpoint", tmp_path / "r", "--epochs", 3)
    losses = [float(row[column]) for row in rows_of(tmp_path / "r") for column in ("train_loss", "val_loss")]
    assert len(losses) == 6 and all(1.5 < loss < 5 for loss in losses)  # about log(19) + 0.5 + 0.1 log(19) at first
    args = yaml.safe_load((tmp_path / "r" / "args.yaml").read_text())
    assert (args["loss"], args["ohem_min_kept"], args["focal_gamma"]) == (flags[1], 500, None)


def test_the_results_are_those_of_the_best_epoch(trained):
    results = json.loads((trained / "results.json").read_text())
    scores = [float(row["mean_iou"]) for row in rows_of(trained)]
    assert (
        results["best_epoch"] == 1 + int(np.argmax(scores))
        and f"{results['best_mean_iou']:.4f}" == f"{max(scores):.4f}"
    )
    assert results["step"] == 9


def test_the_logged_learning_rate_is_the_schedules(trained):
    """StreetNet: AdamW, 1e-3, poly."""
    for i, row in enumerate(rows_of(trained)):
        assert float(row["learning_rate"]) == pytest.approx(1e-3 * (1 - 3 * i / 9) ** 0.9, rel=1e-3)


def test_the_learning_curve_and_the_pictures_open(trained):
    assert min(Image.open(trained / "learning_curve.png").size) > 300
    assert Image.open(trained / "images" / "epoch_0001.png").size[0] > 1400


def test_the_recipe_of_a_run_repeats_it_bit_for_bit(trained, in_process, tmp_path):
    in_process("train_seg", trained / "args.yaml", "--output_dir", tmp_path / "again", "--report_to", "none")
    for row, again in zip(rows_of(trained), rows_of(tmp_path / "again"), strict=True):
        assert {**row, "seconds": 0} == {**again, "seconds": 0}
    one, two = (load_file(run / "best" / "model.safetensors") for run in (trained, tmp_path / "again"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_another_seed_gives_another_run(trained, in_process, tmp_path):
    in_process("train_seg", trained / "args.yaml", "--output_dir", tmp_path / "r", "--seed", 1, "--max_train_steps", 1)
    assert rows_of(tmp_path / "r")[0]["train_loss"] != rows_of(trained)[0]["train_loss"]


def test_steps_end_in_the_middle_of_an_epoch(toycity, in_process, tmp_path):
    flags = ["--dataset_path", toycity, "--max_train_steps", 4, "--eval_every", 5, "--output_dir", tmp_path / "r"]
    in_process("train_seg", *FAST, *flags)
    rows = rows_of(tmp_path / "r")
    assert [row["mean_iou"] != "" for row in rows] == [False, True]
    assert json.loads((tmp_path / "r" / "results.json").read_text())["step"] == 4
    assert [path.name for path in (tmp_path / "r" / "checkpoints").iterdir()] == ["step_000004"]  # no row of epoch 1


def test_the_number_of_workers_changes_nothing(trained, in_process, tmp_path):
    """Dropout does not change either, although it uses the generator from which data loaders would draw seeds."""
    in_process("train_seg", trained / "args.yaml", "--output_dir", tmp_path / "r", "--num_workers", 2)
    for row, again in zip(rows_of(trained), rows_of(tmp_path / "r"), strict=True):
        assert {**row, "seconds": 0} == {**again, "seconds": 0}


def test_a_resumed_run_keeps_its_flags(trained, in_process, tmp_path, capsys):
    run = tmp_path / "r"
    shutil.copytree(trained, run)
    for flag, value in (("--batch_size", 3), ("--seed", 4), ("--norm", "evo"), ("--crop_size", "32 48")):
        with pytest.raises(SystemExit):
            in_process("train_seg", "--resume_from_checkpoint", run, flag, *str(value).split())
        assert f"error: {flag}" in capsys.readouterr().err
    in_process("train_seg", "--resume_from_checkpoint", run / "checkpoints" / "step_000009", "--epochs", 4)
    assert [row["epoch"] for row in rows_of(run)] == ["1", "2", "3", "4"]


@pytest.mark.parametrize("name", ["model.safetensors", "training.pt", "state.json", "rng_0.pt"])
def test_a_broken_checkpoint_is_one_line(trained, in_process, tmp_path, capsys, name):
    run = tmp_path / "r"
    shutil.copytree(trained, run)
    for checkpoint in (run / "checkpoints").iterdir():
        (checkpoint / name).write_bytes(b"garbage")
    with pytest.raises(SystemExit):
        in_process("train_seg", "--resume_from_checkpoint", run, "--epochs", 4)
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: checkpoint ")


def test_a_broken_model_is_one_line(trained, in_process, tmp_path, capsys):
    shutil.copytree(trained / "best", tmp_path / "best")
    (tmp_path / "best" / "model.safetensors").write_bytes(b"garbage")
    with pytest.raises(SystemExit):
        in_process("predict_seg", "--model_name_or_path", tmp_path / "best")
    assert "error: cannot load the model" in capsys.readouterr().err


def test_a_model_without_all_its_weights_is_one_line(trained, in_process, tmp_path, capsys):
    shutil.copytree(trained / "best", tmp_path / "best")
    weights = load_file(tmp_path / "best" / "model.safetensors")
    gone = [key for key in weights if key.startswith("classifier.classifier.")]
    save_file({key: weights[key] for key in weights if key not in gone}, tmp_path / "best" / "model.safetensors")
    (tmp_path / "best" / "checksums.json").unlink()
    with pytest.raises(SystemExit):
        in_process("predict_seg", "--model_name_or_path", tmp_path / "best")
    assert (
        f"{len(gone)} of its weights are missing, for example {min(gone)}" in capsys.readouterr().err and len(gone) == 2
    )


def test_a_split_that_is_not_there_is_refused(trained, toycity, in_process, tmp_path, capsys):
    shutil.copytree(toycity, tmp_path / "data")
    shutil.rmtree(tmp_path / "data" / "leftImg8bit" / "test")
    with pytest.raises(SystemExit):
        flags = ("--model_name_or_path", trained, "--dataset_path", tmp_path / "data", "--splits", "test")
        in_process("predict_seg", *flags)
    assert "error: --splits test" in capsys.readouterr().err


def test_a_new_run_does_not_inherit_a_model_that_was_half_deleted(trained, tmp_path):
    shutil.copytree(trained / "best", tmp_path / ".best.old")
    create_run(tmp_path, overwrite=True)
    restore_best(tmp_path)
    assert not (tmp_path / "best").exists()


def test_a_replacement_of_best_that_was_killed_half_way_is_undone(trained, tmp_path):
    shutil.copytree(trained / "best", tmp_path / ".best.old")
    restore_best(tmp_path)
    assert (tmp_path / "best" / "config.json").exists() and not (tmp_path / ".best.old").exists()


@pytest.mark.parametrize("norm", ["batch", "evo"])
@pytest.mark.parametrize("size", [(), ("--train_size", 64, 128, "--test_size", 64, 128)], ids=["native", "resized"])
def test_the_logged_score_is_the_predicted_one(toycity, in_process, tmp_path, norm, size):
    """The mIoU in the log of the best epoch equals predict_seg.py's from best/. This catches many mistakes."""
    run = tmp_path / "r"
    in_process("train_seg", *FAST, "--dataset_path", toycity, "--norm", norm, "--epochs", 2, "--output_dir", run, *size)
    in_process("predict_seg", "--model_name_or_path", run, "--splits", "val", "--num_workers", 0)
    predicted = json.loads((run / "scores_val.json").read_text())["mean_iou"]
    assert f"{predicted:.4f}" == max(row["mean_iou"] for row in rows_of(run))
    in_process(
        "predict_seg", "--model_name_or_path", run / "best", "--splits", "val", "--num_workers", 0, *dataset(toycity)
    )
    assert json.loads((run / "scores_val.json").read_text())["mean_iou"] == predicted


@pytest.mark.parametrize("test_size", [(), ("--test_size", 64, 128)], ids=["alone", "both"])
def test_a_train_size_without_a_test_size_is_said(toycity, in_process, tmp_path, capsys, test_size):
    flags = ["--dataset_path", toycity, "--output_dir", tmp_path / "r", "--train_size", 64, 128, "--dry_run"]
    in_process("train_seg", *FAST, *flags, *test_size)
    assert ("at their own size: give --test_size 64 128 too" in capsys.readouterr().out) == (not test_size)


def dataset(toycity):
    return ["--dataset", "toycity", "--dataset_path", toycity]


def test_predictions_are_source_ids_at_full_size_and_score_as_said(trained, in_process, tmp_path, toycity):
    in_process("predict_seg", "--model_name_or_path", trained, "--mst", "--output_dir", tmp_path, "--num_workers", 0)
    truth = sorted((toycity / "gtFine" / "val").glob("*labelIds.png"))
    counts = np.zeros((19, 19), int)
    for label in truth:
        stem = label.name.replace("gtFine_labelIds", "leftImg8bit")
        ids = np.asarray(Image.open(tmp_path / "results_val" / stem))
        colors = np.asarray(Image.open(tmp_path / "results_color_val" / stem))
        assert ids.shape == (96, 192) and set(np.unique(ids)) <= set(CITYSCAPES.source_ids)
        assert np.array_equal(colors, CITYSCAPES.to_color(CITYSCAPES.train_ids[ids]))
        reference = CITYSCAPES.train_ids[np.asarray(Image.open(label))]
        valid = reference != 255
        np.add.at(counts, (reference[valid], CITYSCAPES.train_ids[ids][valid]), 1)
    union = counts.sum(0) + counts.sum(1) - counts.diagonal()
    iou = counts.diagonal()[union > 0] / union[union > 0]
    scores = json.loads((tmp_path / "scores_val.json").read_text())
    assert scores["mean_iou"] == pytest.approx(iou.mean(), abs=1e-12)
    assert scores["settings"]["flip"] is True and len(scores["settings"]["scales"]) == 8
    assert len(list((tmp_path / "results_test").iterdir())) == 2 and not (tmp_path / "scores_test.json").exists()


def test_a_folder_of_photos_of_any_size(trained, in_process, tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "photos" / "deeper").mkdir(parents=True)
    for name, size in (("a.jpg", (33, 57)), ("deeper/b.png", (64, 40))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(tmp_path / "photos" / name)
    in_process(
        "predict_seg", "--model_name_or_path", trained, "--input", tmp_path / "photos", "--output_dir", tmp_path / "o"
    )
    assert Image.open(tmp_path / "o" / "results_photos" / "a.png").size == (57, 33)
    assert Image.open(tmp_path / "o" / "results_color_photos" / "b.png").size == (40, 64)


def test_the_newest_complete_run_is_the_default(trained, in_process, tmp_path, toycity, capsys):
    for i, name in enumerate(("old", "new", "half")):
        shutil.copytree(trained, tmp_path / "runs" / name)
        import os

        os.utime(tmp_path / "runs" / name / "results.json", (1000 + i, 1000 + i))
    (tmp_path / "runs" / "half" / "results.json").unlink()  # still training, or killed
    assert newest_run().name == "new"
    in_process("predict_seg", "--splits", "val", "--num_workers", 0)
    assert (tmp_path / "runs" / "new" / "scores_val.json").exists()
    said = capsys.readouterr().out
    assert "note: runs/half is not finished, so this uses runs/new. Finish it: accelerate launch train_seg.py " in said
    assert "--resume_from_checkpoint runs/half, or use its best weights so far: --model_name_or_path runs/half" in said


def test_what_is_said_of_the_default_model(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert note_on_default().startswith(
        "note: runs/ holds no finished run: using the network that comes with the project"
    )
    run = tmp_path / "runs" / "a b"
    shutil.copytree(trained, run)
    assert note_on_default() is None
    (run / "results.json").unlink()
    shutil.rmtree(run / "best")
    note = note_on_default()
    assert note.startswith("note: runs/a b is not finished, so this uses ") and "camvid_streetnet" in note
    assert note.endswith("--resume_from_checkpoint 'runs/a b'")
    shutil.rmtree(run / "checkpoints")
    assert note_on_default().startswith("note: runs/ holds no finished run")


def test_default_names_of_runs(toycity, in_process, tmp_path):
    (tmp_path / "toycity").symlink_to(toycity)
    for _ in range(2):  # twice in a row
        in_process("train_seg", *FAST, "--max_train_steps", 1)
    runs = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert len(runs) == 2 and all(name.startswith("toycity_streetnet_batch_") for name in runs)


def test_overwriting_deletes_the_old_run_only_when_asked(trained, toycity, in_process, tmp_path):
    run = tmp_path / "r"
    shutil.copytree(trained, run)
    (run / "notes.txt").write_text("mine")
    (run / "scores_val.json").write_text("{}")
    before = sorted(str(p) for p in run.rglob("*"))
    with pytest.raises(SystemExit):
        in_process("train_seg", *FAST, "--dataset_path", toycity, "--output_dir", run)
    assert sorted(str(p) for p in run.rglob("*")) == before
    in_process(
        "train_seg",
        *FAST,
        "--dataset_path",
        toycity,
        "--output_dir",
        run,
        "--overwrite_output_dir",
        "--max_train_steps",
        1,
    )
    assert len(rows_of(run)) == 1 and (run / "notes.txt").exists() and not (run / "tensorboard").exists()
    assert not (run / "scores_val.json").exists()


def test_saved_arguments_and_configuration_tell_the_provenance(trained, toycity):
    args = yaml.safe_load((trained / "args.yaml").read_text())
    assert args["dataset_path"] == str(toycity) and args["seed"] == 0 and "output_dir" not in args
    config = json.loads((trained / "best" / "config.json").read_text())
    assert config["dataset"] == "toycity" and config["id2label"]["18"] == "bicycle" and config["norm"] == "batch"
    provenance = {"pretrained": "none", "trained_on": "train", "train_images": 6, "seed": 0}
    assert provenance.items() <= config.items()


def test_gradient_checkpointing_gives_the_same_run(trained, in_process, tmp_path):
    in_process("train_seg", trained / "args.yaml", "--output_dir", tmp_path / "r", "--gradient_checkpointing")
    for row, again in zip(rows_of(trained), rows_of(tmp_path / "r"), strict=True):
        assert {**row, "seconds": 0} == {**again, "seconds": 0}


def test_a_compiled_network_with_gradient_checkpointing_is_refused(toycity, in_process, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "aot_eager")
    with pytest.raises(SystemExit):
        in_process(
            "train_seg", *FAST, "--dataset_path", toycity, "--gradient_checkpointing", "--output_dir", tmp_path / "r"
        )
    assert "error: --gradient_checkpointing cannot be compiled" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_a_crop_too_small_for_the_network_is_refused(toycity, in_process, tmp_path, capsys):
    flags = ["--dataset_path", toycity, "--model", "segformer_b0", "--output_dir", tmp_path / "r"]
    for flag, size in (("--crop_size", 16), ("--test_size", 28)):
        with pytest.raises(SystemExit):
            in_process("train_seg", *FAST, *flags, flag, size, 64)
        assert f"error: {flag} {size} 64 is too small" in capsys.readouterr().err and not (tmp_path / "r").exists()


def test_a_run_trains_at_one_output_stride_and_is_evaluated_at_another(toycity, in_process, tmp_path, capsys):
    flags = ["--dataset_path", toycity, "--model", "deeplabv3plus_resnet18", "--max_train_steps", 2]
    frozen = ["--ema_decay", 0.9, "--init_from", tmp_path / "one", "--freeze_bn"]
    statistics = []
    for run, more in (("one", []), ("two", frozen)):
        strides = ["--output_stride", 16, "--eval_output_stride", 8]
        in_process("train_seg", *FAST, *flags, *strides, *more, "--output_dir", tmp_path / run)
        best = tmp_path / run / "best"
        assert json.loads((best / "config.json").read_text())["output_stride"] == 8
        weights = load_file(best / "model.safetensors").items()
        statistics.append({k: t for k, t in weights if "running" in k})
    assert {"backbone", "classifier"} == {key.split(".")[0] for key in statistics[0]} and all(
        torch.equal(statistics[1][key], tensor) for key, tensor in statistics[0].items()
    )
    in_process("train_seg", *FAST, *flags, *frozen, "--batch_size", 1, "--output_dir", tmp_path / "alone")
    predict = ["--model_name_or_path", tmp_path / "one", "--splits", "val", "--eval_output_stride", 16]
    in_process("predict_seg", *predict, "--output_dir", tmp_path / "at16")
    assert "mean_iou" in json.loads((tmp_path / "at16" / "scores_val.json").read_text())
    refused = {
        "cannot have output stride 8": ["--model", "streetnet", "--eval_output_stride", 8],
        "has an encoder nonsense": ["--encoder", "nonsense"],
        "needs at least 2 images": [  # the network's head pools to one pixel, and its norm learns
            *("--pretrained_encoder", tmp_path / "one", "--freeze_bn", "--batch_size", 1)
        ],
    }
    for reason, more in refused.items():
        with pytest.raises(SystemExit):
            in_process("train_seg", *FAST, *flags, *more, "--output_dir", tmp_path / "refused")
        error = capsys.readouterr().err
        assert "error: " in error and reason in error and not (tmp_path / "refused").exists()
