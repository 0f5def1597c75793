"""What reads flags, recipes and args.yaml refuses what no run can mean, in one line; what older runs wrote loads."""

import json
import os
import re
import shlex
import subprocess
import sys
import time

import pytest
import torch
import yaml
from conftest import ROOT
from safetensors.torch import load_file

from seg_jobs.arguments import AppArguments, PredictArguments, TrainArguments
from seg_runs.errors import RunError
from seg_runs.parsing import changed_flags, flags_of, flat, parse_arguments, recipe_of, save_arguments
from seg_runs.recipes import LARGEST_FILE, read_recipe

# args.yaml as a run wrote it before --select, --folds and --class_weights_constant were flags.
OLD = """\
dataset: toycity
dataset_path: null
test_size: null
num_workers: 1
train_size: null
crop_size: [32, 64]
scale_range: null
hflip: true
colorjitter_factor: null
model: StreetNet
norm: group
sync_bn: false
loss: weighted_ce
class_weights: enet
focal_gamma: null
aux_weight: 0.4
optimizer: null
learning_rate: null
momentum: null
weight_decay: null
lr_scheduler_type: null
lr_num_cycles: 1
warmup_steps: 3
max_grad_norm: 1.0
ema_decay: 0.9
batch_size: 4
gradient_accumulation_steps: 2
epochs: 2
max_train_steps: null
eval_every: 1
seed: 0
deterministic: false
checkpointing_steps: 2
keep_checkpoints: 2
report_to: tensorboard
"""
LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))


def said(kind, argv, capsys) -> str:
    """The one line that refuses a command line."""
    with pytest.raises((RunError, SystemExit)) as refused:
        parse_arguments(kind, argv)
    line = str(refused.value) if isinstance(refused.value, RunError) else capsys.readouterr().err.strip()
    assert "\n" not in line and 0 < len(line) < 600, line
    return line


WRONG = {
    "batch_size: [1, 2]": "batch_size takes one value, not a list",
    "norm: [batch]": "norm takes one value",
    "batch_size: {a: 1}": "batch_size is {'a': 1}",
    "crop_size: [[32, 64]]": "crop_size is [32, 64]",
    "crop_size: {height: 3}": "crop_size is",
    "crop_size: []": "crop_size is []",
    "crop_size: [32, null]": "crop_size is None",
    "copyblob_rules: [{fence: road, bus: road}]": "copyblob_rules is",
    "copyblob_rules: [{fence: [road]}]": "copyblob_rules is",
    "copyblob_rules: [--help]": "copyblob_rules is",
    "batch_size: 4\nbatch_size: 8": "batch_size is there twice",
    "lr_init: 0.1\nlearning_rate: 0.2": "lr_init and learning_rate are the same flag",
    "model: true": "model is True: put quotes around text",
    "fold: no": "fold is False: put quotes around text",
    "batch_size: yes": "batch_size is True, but takes whole numbers",
    "batch_size: 4.0": "batch_size is 4.0, but takes whole numbers",
    "batch_size: 2026-11-26": "batch_size is",
    "epochs: .inf": "epochs is inf, but takes whole numbers",
    "learning_rate: .nan": "--learning_rate nan is not a finite number",
    "learning_rate: .inf": "--learning_rate inf is not a finite number",
    "learning_rate: 1e400": "--learning_rate inf is not a finite number",
    "learning_rate: -1": "--learning_rate -1.0 is out of range",
    "learning_rate: 1.0e+300": "too large",
    f"epochs: {10**30}": "--epochs 1000000000000000000000000000000 is out of range",
    f"epochs: {'9' * 5000}": "cannot read recipe",
    "hflip: !!bool foo": "a tag (!!) does not fit its value",
    'epochs: !!int ""': "a tag (!!) does not fit its value",
    'epochs: !!float ""': "a tag (!!) does not fit its value",
    "rotation: !!timestamp foo": "a tag (!!) does not fit its value",
    f"epochs: 0x{'f' * 6000}": "is no decimal number: put quotes around text",
    f"seed: {':'.join('1' * 4000)}": "is no decimal number: put quotes around text",
    f"seed: {'9' * 4000}": "seed is out of range",
    "seed: 010": "010 is no decimal number",
    "seed: 12:30": "12:30 is no decimal number",
    "dataset_path: 2024_01_15": "2024_01_15 is no decimal number: put quotes around text",
    "fold: 1.10": "fold is 1.1: put quotes around text",
    f"norm: {'b' * 90000}": "is not known: choose one of",
    "crop_size: [2147483648, 2147483648]": "--crop_size 2147483648 is out of range: 16 to 65536",
    "scale_range: [9.0e+15, 9.0e+15]": "--scale_range 9000000000000000.0 is out of range",
    "num_workers: 100000": "--num_workers 100000 is out of range",
    "seed: 4294967296": "--seed 4294967296 is out of range",
    "hflip: perhaps": "perhaps",
    "output_dir: --help": None,  # a value, not a flag
    'output_dir: "a\\nb"': "output_dir is",
    'output_dir: "a\\0b"': "output_dir is",
    "1: 2": "1 is not the name of a flag",
    "null: 2": "None is not the name of a flag",
    "? [a]\n: b": "cannot read recipe",
    '"a\\nb": 3': "is not the name of a flag",
    "no_such_flag: 1": "there is no flag --no_such_flag",
    "help: true": "there is no flag --help",
    "a: &a [*a]": "cannot read recipe",
    LAUGHS: "write out what *a0 stands for",
    "<<: {batch_size: 4}": "cannot read recipe",
    "[" * 5000: "cannot read recipe",
    "{a: " * 5000: "cannot read recipe",
    "x" * (LARGEST_FILE + 1): "more than 100000 bytes",
    "!!python/object/apply:os.system [true]": "cannot read recipe",
    "!!binary aGVsbG8=": "is not a list of",
    "batch_size: !!binary aGVsbG8=": "batch_size is",
    "batch_size: !!set {a}": "batch_size is",
    "- a": "is not a list of",
    "3": "is not a list of",
    "": "is not a list of",
    "a: b: c": "cannot read recipe",
    "a: \t- b": "cannot read recipe",
    "--- {a: 1}\n--- {b: 2}": "cannot read recipe",
}


@pytest.mark.parametrize("text", WRONG, ids=lambda text: text[:30])
def test_a_recipe_that_no_run_can_mean_is_one_line(text, tmp_path, capsys):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    begun = time.perf_counter()
    if WRONG[text] is None:
        assert parse_arguments(TrainArguments, [str(path)]).run.output_dir == "--help"
    else:
        assert WRONG[text] in said(TrainArguments, [str(path)], capsys)
    assert time.perf_counter() - begun < 10


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a: \x00", b"\x80abc", b"a: \xed\xa0\x80"])
def test_bytes_that_are_no_text_are_one_line(content, tmp_path, capsys):
    path = tmp_path / "r.yaml"
    path.write_bytes(content)
    assert "cannot read recipe" in said(TrainArguments, [str(path)], capsys)


@pytest.mark.parametrize("name", ["missing.yaml", "folder.yaml", "pipe.yaml"])
def test_a_recipe_that_is_no_file_is_one_line(name, tmp_path, capsys):
    (tmp_path / "folder.yaml").mkdir()
    os.mkfifo(tmp_path / "pipe.yaml")
    assert f"cannot read recipe {tmp_path / name}" in said(TrainArguments, [str(tmp_path / name)], capsys)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--learning_rate nan", "--learning_rate nan is not a finite number"),
        ("--learning_rate 1e400", "--learning_rate inf is not a finite number"),
        ("--scale_range 1 inf", "--scale_range inf is not a finite number"),
        ("--weight_decay=-inf", "--weight_decay -inf is not a finite number"),
        (f"--epochs {'9' * 30}", "--epochs 999999999999999999999999999999 is out of range"),
        (f"--epochs {'9' * 5000}", "invalid int value"),
        ("--batch_size 1e3", "invalid int value: '1e3'"),
        ("--epochs -9223372036854775809", "out of range"),
        ("--crop_size 32 99999999999999999999", "--crop_size 99999999999999999999 is out of range"),
        ("--dataset nowhere", "folder, hub; your own folder goes to --dataset_path"),
        ("--focal_gamma 0", "--focal_gamma needs --loss focal, not ce"),
        ("--focal_gamma 0 --loss ce+dice", "--focal_gamma needs --loss focal, not ce+dice"),
        ("--loss ce+dace", "--loss dace is not known: choose one of ce, "),
        ("--loss 2*ce", "--loss 2*ce: a single loss takes no factor"),
        ("--cutmix_prob 1", "--cutmix_prob needs --cutmix"),
        ("--hflip perhaps", "perhaps"),
    ],
)
def test_a_command_line_that_no_run_can_mean_is_one_line(line, words, capsys):
    assert words in said(TrainArguments, line.split(), capsys)


@pytest.mark.parametrize(
    ("kind", "lines"),
    [
        (
            TrainArguments,
            ("--crop_size H W ", "--scale_range LOW HIGH ", "--init_from WEIGHTS ", "--norm batch|instance|"),
        ),
        (PredictArguments, ("--test_size H W ", "--scales X [X ...]", "--splits SPLIT [SPLIT ...]", "--flip ")),
        (AppArguments, ("--test_size H W ", "--max_file_size N ")),
    ],
)
def test_help_says_which_values_a_flag_takes(kind, lines, capsys):
    with pytest.raises(SystemExit, match="0"):
        parse_arguments(kind, ["--help"])
    shown = capsys.readouterr().out
    assert all(f"  {line}" in shown for line in lines)


@pytest.mark.parametrize("flag", [name for name, field in flags_of(TrainArguments).items() if "kind" in field.metadata])
def test_a_size_is_a_height_and_a_width(flag, capsys):
    assert parse_arguments(TrainArguments, [f"--{flag}", "32", "48"]) != parse_arguments(TrainArguments, [])
    assert said(TrainArguments, [f"--{flag}", "32"], capsys) == f"--{flag} takes a height and a width, not 32"
    assert said(TrainArguments, [f"--{flag}", "0", "32"], capsys).startswith(f"--{flag} 0 is out of range: 16 to ")


def test_names_match_in_any_case():
    args = parse_arguments(TrainArguments, shlex.split("--norm EVO --loss CE --copyblob Bank --dataset ToyCity"))
    assert (args.network.norm, args.loss.loss, args.augmentation.copyblob, args.data.dataset) == (
        "evo",
        "ce",
        "bank",
        "toycity",
    )
    assert parse_arguments(PredictArguments, ["--splits", "VAL", "test"]).images.splits == ["val", "test"]


def run_with(folder, text: str):
    """A run folder with a checkpoint that looks whole, and this args.yaml."""
    checkpoint = folder / "run" / "checkpoints" / "step_000002"
    checkpoint.mkdir(parents=True)
    for name in ("model.safetensors", "training.pt", "state.json"):
        (checkpoint / name).write_text("")
    (folder / "run" / "args.yaml").write_text(text)
    return folder / "run"


def test_the_flags_of_an_old_run_load_and_mean_what_they_meant(tmp_path):
    run = run_with(tmp_path, OLD)
    args = parse_arguments(TrainArguments, ["--resume_from_checkpoint", str(run)])
    assert args.optimization.ema_decay == 0.9 and args.augmentation.crop_size == [32, 64]
    assert args.network.model == "StreetNet" and args.loss.class_weights == "enet" and args.loss.aux_weight == 0.4
    # What was null is what it stood for, and what was not there is what the run did.
    assert args.augmentation.scale_range == [0.75, 2.0] and args.augmentation.colorjitter_factor == 0.3
    assert args.loss.class_weights_constant == 1.02 and args.run.select == "best" and args.data.fold is None
    assert args.augmentation.copyblob == "none"
    assert changed_flags(args, run / "args.yaml") == []


def test_an_old_runs_flags_may_change_where_they_may(tmp_path):
    run = run_with(tmp_path, OLD)
    args = parse_arguments(TrainArguments, ["--resume_from_checkpoint", str(run), "--epochs", "3"])
    assert changed_flags(args, run / "args.yaml") == ["--epochs 3 instead of 2"]
    args = parse_arguments(TrainArguments, ["--resume_from_checkpoint", str(run), "--gradient_accumulation_steps", "1"])
    assert changed_flags(args, run / "args.yaml") == ["--gradient_accumulation_steps 1 instead of 2"]
    args = parse_arguments(TrainArguments, ["--resume_from_checkpoint", str(run), "--ema_decay", "0.5"])
    with pytest.raises(RunError, match="--ema_decay 0.5 differs from"):
        changed_flags(args, run / "args.yaml")


@pytest.mark.parametrize(
    ("recipe", "flags", "expected"),
    [
        ("kitti_unet", "--epochs 5", {"epochs": 5, "max_train_steps": None}),
        ("kitti_unet", "--epochs 5 --max_train_steps 9", {"max_train_steps": 9}),
        ("minicity_strong", "--cutmix false", {"cutmix": False, "cutmix_prob": 1.0}),
        ("camvid_streetnet_long", "--loss CE", {"loss": "ce", "class_weights": None, "class_weights_constant": 1.02}),
        ("camvid_streetnet_long", "--loss weighted_ce+lovasz", {"class_weights": "enet"}),
        ("camvid_streetnet_long", "--copyblob none", {"copyblob_rules": None}),
    ],
)
def test_a_flag_replaces_what_details_the_recipes_entry(recipe, flags, expected):
    args = flat(parse_arguments(TrainArguments, [str(ROOT / "recipes" / f"{recipe}.yaml"), *flags.split()]))
    assert {name: args[name] for name in expected} == expected


def test_a_detail_that_the_user_gives_himself_is_refused():
    words = [str(ROOT / "recipes" / "camvid_streetnet_long.yaml"), "--loss", "ce", "--class_weights", "enet"]
    with pytest.raises(RunError, match="--class_weights needs --loss weighted_ce"):
        parse_arguments(TrainArguments, words)


def test_epochs_do_not_change_a_run_that_counts_steps(tmp_path):
    run = run_with(tmp_path, OLD.replace("max_train_steps: null", "max_train_steps: 6"))
    args = parse_arguments(TrainArguments, ["--resume_from_checkpoint", str(run), "--epochs", "300"])
    with pytest.raises(RunError, match="--epochs has no effect, because this run has --max_train_steps 6: give --max_"):
        changed_flags(args, run / "args.yaml")
    args = parse_arguments(TrainArguments, ["--resume_from_checkpoint", str(run), "--max_train_steps", "8"])
    assert changed_flags(args, run / "args.yaml") == ["--max_train_steps 8 instead of 6"]


DECIDES = [
    name
    for name, field in flags_of(TrainArguments).items()
    if not any(field.metadata.get(mark) for mark in ("may_change", "of_launch", "added"))
]


@pytest.mark.parametrize("name", DECIDES)
def test_a_resumed_run_without_a_flag_that_decides_its_numbers_is_refused(name, tmp_path, capsys):
    """Without its `ema_decay` a run would go on without its moving average."""
    lines = [line for line in OLD.splitlines() if not line.startswith(f"{name}:")]
    assert len(lines) == len(OLD.splitlines()) - 1
    run = run_with(tmp_path, "\n".join(lines))
    line = said(TrainArguments, ["--resume_from_checkpoint", str(run)], capsys)
    assert line.startswith(f"{run}/args.yaml has no {name}: ")


ADDED = {name: field.metadata["added"] for name, field in flags_of(TrainArguments).items() if "added" in field.metadata}
DECIDE_LATER = [name for name in ADDED if not flags_of(TrainArguments)[name].metadata.get("may_change")]


def run_without(folder, missing: set[str]):
    """A run folder whose args.yaml has the flags of today except `missing`."""
    save_arguments(parse_arguments(TrainArguments, []), folder / "a.yaml")
    lines = (folder / "a.yaml").read_text().splitlines()
    return run_with(folder, "\n".join(line for line in lines if line.split(":")[0] not in missing))


@pytest.mark.parametrize("name", DECIDE_LATER)
def test_a_flag_that_is_as_new_shows_that_a_missing_one_existed(name, tmp_path, capsys):
    as_new = {ADDED[other] for other in ADDED if other != name and ADDED[other] >= ADDED[name]}
    for number, moment in enumerate({min(as_new), max(as_new)} if as_new else ()):
        folder = tmp_path / str(number)
        folder.mkdir()
        run = run_without(folder, {name, *(other for other in ADDED if ADDED[other] > moment)})
        line = said(TrainArguments, ["--resume_from_checkpoint", str(run)], capsys)
        assert line.startswith(f"{run}/args.yaml has no {name}: ")


@pytest.mark.parametrize("moment", sorted(set(ADDED.values())))
def test_a_run_may_lack_the_flags_that_were_added_later(moment, tmp_path):
    run = run_without(tmp_path, {name for name in ADDED if ADDED[name] >= moment})
    assert parse_arguments(TrainArguments, ["--resume_from_checkpoint", str(run)]).network.init_from is None


def test_when_a_flag_was_added_sorts_by_time():
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d( \d\d:\d\d)?", moment) for moment in ADDED.values()), ADDED


@pytest.mark.parametrize("name", ["norm", "lr_num_cycles", "seed", "loss", "hflip"])
def test_null_does_not_stand_for_a_flag_of_a_resumed_run(name, tmp_path, capsys):
    lines = [f"{name}: null" if line.startswith(f"{name}:") else line for line in OLD.splitlines()]
    run = run_with(tmp_path, "\n".join(lines))
    line = said(TrainArguments, ["--resume_from_checkpoint", str(run)], capsys)
    assert line.startswith(f"{run}/args.yaml has no value for {name}: ")


def test_what_a_new_run_writes_has_every_flag_that_a_resumed_one_needs(tmp_path):
    save_arguments(parse_arguments(TrainArguments, []), tmp_path / "args.yaml")
    kept = {name for name, field in flags_of(TrainArguments).items() if not field.metadata.get("of_launch")}
    assert set(read_recipe(tmp_path / "args.yaml")) == kept >= set(DECIDES)


def test_a_flag_that_nobody_gave_does_not_stand_in_the_way_of_another(tmp_path):
    """args.yaml is a recipe for other runs too: --photometric over a run with the default colour jitter."""
    save_arguments(parse_arguments(TrainArguments, ["--cutmix", "--loss", "focal"]), tmp_path / "a.yaml")
    flags = ["--photometric", "--cutmix", "false", "--loss", "ce"]
    args = parse_arguments(TrainArguments, [str(tmp_path / "a.yaml"), *flags])
    assert args.augmentation.photometric and not args.augmentation.cutmix and args.loss.loss == "ce"
    entries = recipe_of(parse_arguments(TrainArguments, ["--cutmix", "--cutmix_boxes", "4", "--photometric"]))
    assert entries["cutmix_boxes"] == 4 and entries["cutmix_prob"] is entries["colorjitter_factor"] is None


@pytest.mark.parametrize("script", ["train_seg.py", "predict_seg.py", "app_gradio.py"])
def test_help_shows_each_flag_once_in_titled_groups_without_loading_torch(script):
    code = (
        f"import runpy, sys; sys.argv = ['{script}', '--help']\n"
        f"try: runpy.run_path('{ROOT / script}', run_name='__main__')\n"
        "finally: print('HEAVY', sorted({'torch', 'datasets', 'timm', 'cv2', 'gradio'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert shown.stdout.endswith("HEAVY []\n"), shown.stderr
    flags = [word.strip(",") for line in shown.stdout.splitlines() for word in names_in(line)]
    assert len(flags) == len(set(flags)) > 8
    if script == "train_seg.py":
        titles = [line[:-1] for line in shown.stdout.splitlines() if line.endswith(":") and line[0] != " "]
        groups = ["Data", "Network", "Augmentation", "Loss", "Distillation", "Optimisation", "Run", "Hub"]
        assert titles == ["options", *groups]
        words = " ".join(shown.stdout.split())
        assert "--hflip flip half of the training images horizontally (default) --no_hflip do not flip" in words
        assert "--no_cache decode images each time" in words and "(default: None)" not in words
        assert set(flags) >= {f"--{name}" for name in flags_of(TrainArguments)}


def names_in(line: str) -> list[str]:
    """The flags that a line of `--help` declares."""
    invocation = line[2:].partition("  ")[0] if line.startswith("  -") else ""
    return [word for word in invocation.split() if word.startswith("--")]


@pytest.mark.parametrize("package", ["seg_models", "seg_runs", "data_scripts", "seg_jobs", "seg_app"])
def test_a_package_costs_nothing(package):
    code = f"import sys; before = set(sys.modules); import {package}; print(sorted(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == f"['{package}']"


def test_no_name_is_typed_twice():
    """Choices come from the tables of the rooms."""
    from data_scripts.catalog import DATASETS
    from seg_models.catalog import MODELS
    from seg_models.names import LOSSES, NORMS
    from seg_runs.arguments import SCHEDULES

    flags = flags_of(TrainArguments)
    for name, table in (("dataset", DATASETS), ("norm", NORMS), ("loss", LOSSES), ("lr_scheduler_type", SCHEDULES)):
        assert tuple(flags[name].metadata["choices"]) == tuple(table)
    assert all(model in flags["model"].metadata["help"] for model in MODELS)


@pytest.mark.parametrize("loss", ["focal", "ce+focal", "1.0*CE + 0.5*Focal"])
def test_a_flag_of_a_loss_has_an_effect_in_a_sum_too(loss, tmp_path):
    args = parse_arguments(TrainArguments, ["--loss", loss, "--focal_gamma", "1.5"])
    assert recipe_of(args)["focal_gamma"] == 1.5 and recipe_of(args)["ohem_threshold"] is None
    save_arguments(args, tmp_path / "a.yaml")
    assert flat(parse_arguments(TrainArguments, [str(tmp_path / "a.yaml")])) == flat(args)


def test_every_flag_of_a_recipe_comes_back(tmp_path):
    """Whatever the value, what is saved and read again is the same."""
    line = "--crop_size 32 48 --scale_range 0.5 1e-1 --norm evo --learning_rate 1e-05 --fold=-x --folds=--help"
    line = line.replace("0.5 1e-1", "1e-1 0.5") + " --copyblob --copyblob_rules 'traffic sign:road' --no_hflip"
    args = parse_arguments(TrainArguments, shlex.split(line))
    save_arguments(args, tmp_path / "a.yaml")
    assert flat(parse_arguments(TrainArguments, [str(tmp_path / "a.yaml")])) == flat(args)
    assert yaml.safe_load((tmp_path / "a.yaml").read_text())["fold"] == "-x"


def test_the_notebooks_second_stage_goes_on_from_the_first(toycity, in_process, tmp_path, capsys):
    """The two recipes, with tiny networks and images: what the second loads and freezes is the first one's last."""
    both = [parse_arguments(TrainArguments, [str(ROOT / "recipes" / f"notebook_stage{i}.yaml")]) for i in (1, 2)]
    first, second = (flat(args) for args in both)
    differ = {name for name in first if first[name] != second[name]}
    assert differ == {"init_from", "freeze_bn", "output_stride", "learning_rate"}
    assert (first["output_stride"], second["output_stride"], second["freeze_bn"]) == (16, 8, True)
    assert {(f["max_train_steps"], f["batch_size"], *f["crop_size"]) for f in (first, second)} == {
        (30_000, 10, 513, 513)
    }
    assert (first["learning_rate"], second["learning_rate"], first["lr_scheduler_type"]) == (0.007, 0.001, "poly")
    small = [
        "--dataset",
        "toycity",
        "--dataset_path",
        toycity,
        "--model",
        "deeplabv3_resnet50",
        "--encoder",
        "resnet18",
    ]
    small += ["--crop_size", 33, 33, "--batch_size", 2, "--max_train_steps", 2, "--num_workers", 0]
    for i in (1, 2):
        recipe = ROOT / "recipes" / f"notebook_stage{i}.yaml"
        in_process("train_seg", recipe, *small, "--output_dir", tmp_path / "runs" / f"notebook_stage{i}")
    assert "--init_from runs/notebook_stage1" in capsys.readouterr().out
    models = [tmp_path / "runs" / f"notebook_stage{i}" / "best" for i in (1, 2)]
    weights = [load_file(model / "model.safetensors") for model in models]
    strides = [json.loads((model / "config.json").read_text())["output_stride"] for model in models]
    changed = {key for key, value in weights[0].items() if not torch.equal(value, weights[1][key])}
    assert strides == [16, 8] and changed and not [key for key in changed if "running" in key or ".bn" in key]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--seed 1 a.yaml", "unknown argument a.yaml: a recipe must be the first argument"),
        ("--output_dir my run --seed 1", "unknown argument run: at most one value may follow --output_dir (put quotes"),
        ("--output_dir=my run", "unknown argument run: at most one value may follow --output_dir (put quotes"),
        ("a --seed 1", "unknown argument a (see"),
        ("--sed=1", "unknown argument --sed=1 (see"),
    ],
)
def test_an_unknown_argument_is_named_with_its_remedy(line, said, capsys):
    with pytest.raises(SystemExit):
        parse_arguments(TrainArguments, line.split())
    assert said in capsys.readouterr().err
