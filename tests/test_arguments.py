"""The command line: flags, aliases, recipes. Each mistake gives one line."""

import ast
import dataclasses
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from data_scripts.catalog import DATASETS
from seg_jobs.arguments import AppArguments, PredictArguments, TrainArguments, prediction_of
from seg_models.arguments import LossOptions
from seg_models.catalog import MODELS
from seg_runs import publish, report
from seg_runs.arguments import HubOptions, OptimizationOptions, RunOptions
from seg_runs.errors import RunError
from seg_runs.optimization import WEIGHT_DECAY
from seg_runs.parsing import flags_of, flat, parse_arguments, parts_of, save_arguments

ROOT = Path(__file__).resolve().parent.parent
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


def train_arguments(line: str) -> TrainArguments:
    return parse_arguments(TrainArguments, line.split())


def train_flags(line: str) -> SimpleNamespace:
    """All flags, by name."""
    return SimpleNamespace(**flat(train_arguments(line)))


def test_the_tutorials_names_are_aliases():
    args = train_flags(
        "--save_path a --lr_init 0.5 --lr_momentum 0.8 --lr_weight_decay 0.1 --crop_size 384 768 "
        "--train_size 512 1024 --test_size 512 1024 --batch_size 8 --colorjitter_factor 0.2 --seed 7 --epochs 3"
    )
    assert args.output_dir == "a"
    with pytest.raises(RunError, match="--resume_from_checkpoint b"):
        train_arguments("--weights b")
    assert (args.learning_rate, args.momentum, args.weight_decay) == (0.5, 0.8, 0.1)
    assert args.crop_size == [384, 768] and args.train_size == args.test_size == [512, 1024]


@pytest.mark.parametrize(
    "line",
    [
        "--crop_size 384",
        "--crop_size 384 0",
        "--test_size 1 2 3",
        "--test_size 1 1",
        "--batch_size 0",
        "--epochs -1",
        "--max_train_steps 0",
        "--colorjitter_factor 1.5",
        "--scale_range 2.0 1.0",
        "--loss dice_of_seven",
        "--loss ce+dice_of_seven",
        "--loss ce+",
        "--loss 0.5*ce",
        "--loss ce+0*dice",
        "--loss ce+dice+ce",
        "--class_balanced_beta 0.9",
        "--class_balanced_beta 1 --loss class_balanced",
        "--class_balanced_beta 0.5 --loss ohem",
        "--class_balanced_beta 0.5 --loss weighted_ce --class_weights enet",
        "--class_weights class_balanced",
        "--ohem_threshold 0.5",
        "--ohem_threshold 0 --loss ohem",
        "--ohem_min_kept 10 --loss ce+dice",
        "--ohem_min_kept 0 --loss ohem",
        "--lovasz_per_image --loss dice",
        "--label_smoothing 0.1 --loss dice+lovasz",
        "--label_smoothing 1",
        "--distill kl",
        "--distill_weight 3",
        "--distill_temperature 4",
        "--distill features --teacher x",
        "--distill_weight 0 --teacher x",
        "--distill_temperature 0 --teacher x",
        "--lr_power 0",
        "--head_lr_factor 0",
        "--optimizer lion",
        "--lr_scheduler_type step",
        "--report_to carrier_pigeon",
        "--report_to tensorboard carrier_pigeon",
        "--report_to tensorboard TensorBoard",
        "--report_to none wandb",
        "--seed -1",
        "--seed 99999999999999999999",
        "--overwrite_output_dir",
        "--sync_bn --norm evo",
        "--freeze_bn --norm group",
        "--freeze_bn --sync_bn --init_from x",
        "--freeze_bn",
        "--output_stride 32",
        "--eval_output_stride 4",
        "--cutmix_boxes 4",
        "--cutmix_boxes 0 --cutmix",
        "--cutmix_beta 0 --cutmix",
        "--cutmix_prob 1.5 --cutmix",
        "--copyblob everywhere",
        "--copyblob_rules fence:pavement",
        "--copyblob_prob 0.5",
        "--copyblob_prob 0.5 --copyblob tutorial",
        "--copyblob_prob -1 --copyblob",
        "--class_crop_prob 2",
        "--rotation 200",
        "--photometric --colorjitter_factor 0.2",
        "--sampling biggest",
        "--train_on test",
        "--preview 0",
        "--preview 1000",
        "--mst",
        "--class_weights enet",
        "--class_weights votes --loss weighted_ce",
        "--class_weights_constant 1.1 --loss weighted_ce",
        "--class_weights_constant 1 --loss weighted_ce --class_weights enet",
        "--class_weights_constant inf --loss weighted_ce --class_weights enet",
        "--folds x.json",
        "--fold T",
        "--select first",
        "--focal_gamma 2",
        "--focal_gamma -1 --loss focal",
        "--aux_weight -1",
        "--ema_decay 1",
        "--max_grad_norm 0",
        "--warmup_steps -1",
        "--keep_checkpoints 0",
        "--checkpointing_steps 0",
        "--overwrite_output_dir --resume_from_checkpoint x",
        "--init_from a --pretrained_encoder b",
        "--push_to_hub",
        "--push_to_hub --hub_model_id a/b --predict",
        "--dry_run --preview 2",
        "--predict --weights x",
        "--hub_model_id a/b",
        "--hub_private",
        "--hub_strategy end",
        "--hub_model_id a/b/c --push_to_hub",
        "--hub_model_id ../b --push_to_hub",
        "--hub_strategy always --push_to_hub --hub_model_id a/b",
    ],
)
def test_contradictions_and_wrong_values_name_their_flag(line):
    with pytest.raises(RunError) as error:
        train_arguments(line)
    assert line.split()[0] in str(error.value) and "\n" not in str(error.value)


def test_predict_passes_the_data_on(tmp_path):
    line = "--predict --dataset kitti --dataset_path k --test_size 64 96 --eval_dataset camvid c --mst --output_dir "
    found = prediction_of(train_arguments(line + str(tmp_path)))
    assert (found.images.dataset, found.images.dataset_path) == ("kitti", "k")
    assert found.images.eval_dataset == ["camvid", "c"] and found.results.model_name_or_path == [str(tmp_path)]
    assert found.views.test_size == [64, 96] and found.views.mst and found.views.scales is None
    assert prediction_of(train_arguments("--predict")) == PredictArguments()


@pytest.mark.parametrize(
    "line, named",
    [
        ("--no_such_flag 1", "--no_such_flag"),
        ("--batch_size eight", "eight"),
        ("--epoch 3", "--epoch"),
        ("stray", "stray"),
    ],
)
def test_what_the_parser_refuses_is_one_line_and_exit_code_2(line, named, capsys):
    with pytest.raises(SystemExit) as stop:
        train_arguments(line)
    assert stop.value.code == 2
    output = capsys.readouterr()
    assert output.err.count("\n") == 1 and named in output.err


def test_flags_of_the_user_win_over_a_recipe(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "norm: evo\nlr_init: 0.5\nbatch_size: 4\ncrop_size: [64, 128]\nhflip: false\nepochs: 3\nmax_train_steps: null\n"
    )
    args = train_flags(f"{recipe} --batch_size 2 --crop_size 32 48")
    assert args.learning_rate == 0.5  # aliases too
    assert (args.norm, args.batch_size, args.crop_size, args.hflip, args.epochs) == ("evo", 2, [32, 48], False, 3)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("no_such_flag: 1", "there is no flag --no_such_flag"),
        ("- a list", "is not a list of 'flag: value' lines"),
        ("a: [", "cannot read recipe"),
        ("batch_size: no", "batch_size is False, but takes whole numbers"),
    ],
)
def test_a_bad_recipe_is_refused(tmp_path, text, line):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(text)
    with pytest.raises(RunError, match=line):
        train_arguments(str(recipe))


@pytest.mark.parametrize(
    "line",
    [
        "",
        "--norm evo --crop_size 64 96 --learning_rate 1e-5 --no_hflip --scale_range 1 1.5",
        "--copyblob --copyblob_rules wall:road fence:road --cutmix --cutmix_boxes 3 --sampling rare --no_cache",
        "--copyblob tutorial --photometric --rotation 5 --class_crop_prob 0.5 --train_on train+val",
    ],
)
def test_saved_arguments_are_a_recipe_for_the_same_run(tmp_path, line):
    args = train_arguments(line + " --output_dir somewhere")
    save_arguments(args, tmp_path / "args.yaml")
    again = train_arguments(str(tmp_path / "args.yaml"))
    assert again == dataclasses.replace(args, run=dataclasses.replace(args.run, output_dir=None))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_shipped_recipes_parse(path):
    args = train_flags(str(path))
    for key, value in yaml.safe_load(path.read_text()).items():
        assert getattr(args, key) == value
    assert path.name in (ROOT / "docs" / "recipes.md").read_text()


JOBS = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "seg_jobs").glob("*.py"))]
SCRIPTS = {
    TrainArguments: ["train_seg.py", *JOBS],
    PredictArguments: ["predict_seg.py", *JOBS],
    AppArguments: ["app_gradio.py"],
}


@pytest.mark.parametrize("kind", SCRIPTS, ids=lambda kind: kind.__name__)
def test_every_flag_is_read(kind):
    """A module of its package or a script reads it as an attribute of its options. Its declaration does not count."""
    groups = {} if parts_of(kind) == [kind] else {field.name: field.type for field in dataclasses.fields(kind)}
    for part in parts_of(kind):
        room = ROOT / part.__module__.split(".")[0]
        files = [ROOT / script for script in SCRIPTS[kind]] + [path for path in room.glob("*.py")]
        read = set()
        for path in files:
            if path != room / "arguments.py":
                read |= attributes_of(part, groups, ast.parse(path.read_text()))
        assert set(flags_of(part)) <= read, part


def attributes_of(part: type, groups: dict[str, type], tree: ast.Module) -> set[str]:
    """Return what a module reads from options of type `part`: parameters, fields, args.GROUP, or variables."""
    bases = {base.__name__ for base in part.__mro__}
    names = {group for group, kind in groups.items() if kind is part}  # as in args.run
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and isinstance(node.annotation, ast.Name) and node.annotation.id in bases:
            names.add(node.arg)
        if isinstance(node, ast.AnnAssign) and isinstance(node.annotation, ast.Name) and node.annotation.id in bases:
            names.add(last_name(node.target))  # the field of a dataclass
        if isinstance(node, ast.Assign):  # options = args.network; data, run = args.data, args.run
            for target in node.targets:
                several = isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple)
                pairs = zip(target.elts, node.value.elts, strict=True) if several else [(target, node.value)]
                names |= {to.id for to, value in pairs if isinstance(to, ast.Name) and last_name(value) in names}
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    return {node.attr for node in attributes if last_name(node.value) in names}


def last_name(node: ast.expr) -> str | None:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else None


def test_a_flag_that_nothing_reads_is_noticed():
    tree = ast.parse(
        "def f(options: HubOptions): return options.push_to_hub\nrun = args.run\nprint(run.seed, x.select)"
    )
    assert attributes_of(HubOptions, {}, tree) == {"push_to_hub"}
    tree.body += ast.parse("class A:\n    hub: HubOptions\n    def f(self): return self.hub.hub_private").body
    assert attributes_of(HubOptions, {}, tree) == {"push_to_hub", "hub_private"}
    assert attributes_of(RunOptions, {"run": RunOptions}, tree) == {"seed"}


@pytest.mark.parametrize(
    "text, copyblob",
    [("bank", "bank"), ("tutorial", "tutorial"), ("none", "none"), ("null", "none")],
)
def test_copyblob_in_a_recipe(tmp_path, text, copyblob):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"copyblob: {text}\n")
    assert train_flags(str(recipe)).copyblob == copyblob
    assert train_flags(f"{recipe} --copyblob").copyblob == "bank"
    assert train_flags(f"{recipe} --copyblob none").copyblob == "none"
    recipe.write_text("copyblob: bank\ncopyblob_rules:\n- traffic sign: sidewalk\n- bus:road\n")
    assert train_flags(str(recipe)).copyblob_rules == ["traffic sign:sidewalk", "bus:road"]


def test_arguments_cannot_be_changed_after_parsing():
    with pytest.raises(dataclasses.FrozenInstanceError):
        train_arguments("").optimization.batch_size = 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        train_arguments("").optimization = None


def test_the_launch_configuration_is_what_it_says():
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.utils import DistributedType

    config = load_config_from_file(str(ROOT / "accelerate_config.yaml"))
    assert (config.distributed_type, config.num_processes) == (DistributedType.MULTI_GPU, 4)
    assert (config.num_machines, config.mixed_precision, config.use_cpu) == (1, "fp16", False)


COMMANDS = {"train_seg.py": TrainArguments, "predict_seg.py": PredictArguments, "app_gradio.py": AppArguments}


def documented_commands() -> list[list[str]]:
    """Return every command in the documents that runs a script, split into words, except those with an ellipsis."""
    found = []
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for line in path.read_text().splitlines():
            if line.startswith("|"):
                code = [f"accelerate launch {code}" for code in re.findall(r"`((?:train|predict)_seg.py [^`]+)`", line)]
            else:
                code = re.findall(
                    r"^    (accelerate launch .+|python \w+_\w+\.py.*|python -m seg_runs.(?:publish|report) .+)", line
                )
            found += [shlex.split(command, comments=True) for command in code if " ..." not in command]
    return found


@pytest.mark.parametrize("words", documented_commands(), ids=" ".join)
def test_documented_commands_parse(words, monkeypatch):
    monkeypatch.chdir(ROOT)
    if "seg_runs.publish" in words:
        assert publish.make_parser().parse_args(words[3:]).hub_model_id
        return
    if "seg_runs.report" in words:
        assert report.make_parser().parse_args(words[3:]).runs
        return
    script = next(word for word in words if word in COMMANDS)
    before, after = words[: words.index(script)], words[words.index(script) + 1 :]
    if "--resume_from_checkpoint" in after:  # these name a run that does not exist, which the parser would look for
        with pytest.raises(RunError, match="--resume_from_checkpoint runs/NAME"):
            parse_arguments(COMMANDS[script], after)
    elif "--help" in after:
        with pytest.raises(SystemExit, match="0"):
            parse_arguments(COMMANDS[script], after)
    else:
        parse_arguments(COMMANDS[script], after)
    if before and before[0] == "accelerate":
        from accelerate.commands.launch import launch_command_parser

        launch_command_parser().parse_args([*before[2:], script])


def test_there_are_documented_commands():
    seen = {word for words in documented_commands() for word in words}
    assert {*COMMANDS, "accelerate_config.yaml"} <= seen and len(documented_commands()) > 12


def test_texts_name_the_defaults_of_models_and_data_sets():
    """The help cannot read them, because seg_runs knows no models."""
    street, segformer, other, acfnet = (
        MODELS[name].training for name in ("streetnet", "segformer_b0", "unet", "acfnet_resnet50")
    )
    families = {"streetnet": street, "segformer": segformer, "acfnet": acfnet}
    for name, model in MODELS.items():
        assert model.training == families.get(name.split("_")[0], other), name
    assert acfnet == dataclasses.replace(other, aux_weight=acfnet.aux_weight)
    defaults = {
        "optimizer": (street.optimizer, segformer.optimizer, other.optimizer),
        "learning_rate": (street.learning_rate, segformer.learning_rate, other.learning_rate),
        "head_lr_factor": (segformer.head_factor, street.head_factor, other.head_factor),
        "momentum": (street.momentum, segformer.momentum, other.momentum),
        "weight_decay": (street.weight_decay, segformer.weight_decay, other.weight_decay),
        "lr_scheduler_type": (street.lr_scheduler_type, segformer.lr_scheduler_type, other.lr_scheduler_type),
        "warmup_steps": (100 * segformer.warmup, street.warmup, other.warmup),
        "aux_weight": (acfnet.aux_weight, street.aux_weight, other.aux_weight, segformer.aux_weight),
    }
    fields = {field.name: field for kind in (OptimizationOptions, LossOptions) for field in dataclasses.fields(kind)}
    for name, values in defaults.items():
        text = fields[name].metadata["help"].partition("(default: ")[2].rstrip(")").partition(";")[0]
        words = [word.strip(",") for word in text.split()]
        written = {as_number(word) for word in words if word not in WORDS_OF_DEFAULTS}
        assert written == set(values), name
    with_other = fields["weight_decay"].metadata["help"].partition("; with another")[2].rstrip(")")
    assert [as_number(word) for word in re.findall(r"\d\S*", with_other)] == [
        WEIGHT_DECAY["adamw"],
        WEIGHT_DECAY["sgd"],
    ]
    page = (ROOT / "docs" / "augmentation.md").read_text()
    for source in DATASETS.values():
        assert "{}x{}".format(*source.crop_size) in page


WORDS_OF_DEFAULTS = {"for", "and", "else", "of", "the", "run", "%", "StreetNet", "SegFormer", "ACFNet"}


def as_number(word: str) -> float | str:
    try:
        return float(word)
    except ValueError:
        return word
