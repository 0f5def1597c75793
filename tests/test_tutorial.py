"""The tutorial's command lines work with only the script's name changed."""

import json
import shlex

import pytest
from conftest import ROOT, make_toycity, rows_of

from data_scripts.recognition import with_dataset
from seg_jobs.arguments import TrainArguments
from seg_runs.parsing import flat, parse_arguments

RUN = "--save_path baseline_run_deeplabv3_resnet50"
SIZES = "--crop_size 576 1152 --batch_size 8"
TRAIN = {
    "baseline": f"{RUN} {SIZES}",
    "resnet101": "--save_path baseline_run_deeplabv3_resnet101 --model DeepLabv3_resnet101 --train_size 512 1024 "
    "--test_size 512 1024 --crop_size 384 768 --batch_size 8",
    "weighted cross entropy": f"{RUN}_wce {SIZES} --loss weighted_ce",
    "focal": f"{RUN}_focal {SIZES} --loss focal --focal_gamma 2.0",
    "instance norm": f"{RUN}_instancenorm {SIZES} --norm instance",
    "group norm": f"{RUN}_groupnorm {SIZES} --norm group",
    "evonorm": f"{RUN}_evonorm {SIZES} --norm evo",
    "UNet": f"{RUN} {SIZES} --model UNet",
    "CutMix": f"{RUN}_cutmix {SIZES} --cutmix",
    "CopyBlob": f"{RUN}_copyblob {SIZES} --copyblob",
}
RECIPES = {
    "baseline": "resnet50",
    "resnet101": "resnet101",
    "weighted cross entropy": "resnet50_wce",
    "focal": "resnet50_focal",
    "instance norm": "resnet50_instancenorm",
    "group norm": "resnet50_groupnorm",
    "evonorm": "resnet50_evonorm",
    "CutMix": "resnet50_cutmix",
    "CopyBlob": "resnet50_copyblob",
}
TRAINED = ("UNet", "CopyBlob")
PREDICT = {"one scale": f"{RUN} --batch_size 4 --predict", "scales": f"{RUN} --batch_size 1 --predict --mst"}
SMALL = "--train_size 96 192 --test_size 96 192 --crop_size 32 64 --num_workers 0 --max_train_steps 1"


@pytest.fixture(scope="module")
def minicity(tmp_path_factory):
    """8 training images, which is the tutorial's batch size, in ./minicity, its data set."""
    return make_toycity(tmp_path_factory, train=8)


@pytest.fixture
def here(minicity, in_process, tmp_path):
    """Train and predict in this process, in a working directory with ./minicity."""
    (tmp_path / "minicity").symlink_to(minicity)
    return in_process


# test_published_recipes.py takes steps with the recipes that the others equal.
RUNS = [pytest.param(line, id=name, marks=() if name in TRAINED else pytest.mark.slow) for name, line in TRAIN.items()]


@pytest.mark.parametrize("line", RUNS)
def test_training(here, tmp_path, line):
    args = parse_arguments(TrainArguments, shlex.split(line))
    folder = args.run.output_dir
    assert folder == line.split()[1] and args.optimization.batch_size == 8
    assert with_dataset(args.data).dataset == "minicity"
    here("train_seg", *line.split(), *SMALL.split())
    results = json.loads((tmp_path / folder / "results.json").read_text())
    assert results["step"] == 1 and len(rows_of(tmp_path / folder)) == 1


@pytest.mark.parametrize("run", RECIPES)
def test_a_recipe_means_what_the_tutorials_command_line_means(run):
    """It only adds defaults: the data set, and the optimizer of the model."""
    recipe = flat(parse_arguments(TrainArguments, [str(ROOT / "recipes" / f"minicity_deeplabv3_{RECIPES[run]}.yaml")]))
    line = flat(parse_arguments(TrainArguments, shlex.split(TRAIN[run])))
    added = {name for name, value in line.items() if value is None and recipe[name] is not None}
    assert added - {"class_weights"} == {"dataset", "optimizer", "learning_rate"}
    line["model"] = line["model"].lower()
    assert {name for name, value in line.items() if value != recipe[name]} - added == {"output_dir"}


def test_prediction(here, tmp_path):
    here("train_seg", *RUN.split(), "--model", "streetnet", "--batch_size", 8, *SMALL.split())
    for line in PREDICT.values():
        here("train_seg", *line.split(), "--num_workers", 0)
        settings = json.loads((tmp_path / RUN.split()[1] / "scores_val.json").read_text())["settings"]
        assert settings["flip"] == ("--mst" in line) and settings["size"] == [96, 192]


def test_predict_without_its_run_names_the_folder(here, capsys):
    """The name could be that of somebody's model on the hub."""
    with pytest.raises(SystemExit):
        here("train_seg", *PREDICT["one scale"].split())
    line = capsys.readouterr().err
    assert "error: --output_dir baseline_run_deeplabv3_resnet50: there is no such run folder" in line
