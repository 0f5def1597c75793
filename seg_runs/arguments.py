"""The command line of `train_seg.py` and `predict_seg.py`: every flag, with its one default.

A first argument that ends in .yaml is a recipe: its entries become flags placed before the user's own, so the user's
win and both are checked in one place.
"""

import dataclasses
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml
from huggingface_hub.utils import HFValidationError, validate_repo_id
from transformers.hf_argparser import HfArg, HfArgumentParser

from .checkpoints import run_of
from .files import write_atomically, writing
from .launch import RunError, fail, os_reason
from .optimization import SCHEDULES


def size(help: str, aliases: list[str] | None = None):
    return HfArg(default=None, help=f"{help} (two numbers: height width)", aliases=aliases, metadata={"metavar": "N"})


@dataclass(frozen=True)
class DataArguments:
    """What is read, and at which size."""

    dataset: str = HfArg(default="minicity", help="minicity, cityscapes, camvid or toycity")
    dataset_path: str | None = HfArg(default=None, help="its folder; ./NAME-OF-THE-DATASET if not given")
    folds: str | None = HfArg(
        default=None, help="a JSON file of folds, each with the names of the images that it holds out of training"
    )
    fold: str | None = HfArg(default=None, help="of --folds: validate on this fold, train on the other images")
    test_size: list[int] | None = size("size that images are predicted at; their own if not given")
    num_workers: int = HfArg(default=2, help="worker processes that prepare data, per training process")

    def __post_init__(self):
        check_finite(self)
        check_size("--test_size", self.test_size)
        check_range("--num_workers", self.num_workers, least=0)
        if (self.folds is None) != (self.fold is None):
            given, missing = ("--folds", "--fold") if self.folds else ("--fold", "--folds")
            raise RunError(f"{given} needs {missing}: a file of folds, and the fold of it that is held out")


COUNTS = ("batch_size", "gradient_accumulation_steps", "epochs", "max_train_steps", "eval_every", "lr_num_cycles")
COUNTS += ("checkpointing_steps", "keep_checkpoints", "cutmix_boxes", "preview")


@dataclass(frozen=True)
class TrainArguments(DataArguments):
    """Train a segmentation network from scratch."""

    train_size: list[int] | None = size(
        "size that training images are resized to before augmentation; their own if not given"
    )
    crop_size: list[int] | None = size(
        "size of training crops; by default the data set's, or the image where that is smaller"
    )
    scale_range: list[float] | None = HfArg(
        default=None, help="random scale: lowest highest; 0.75 2.0 if not given", metadata={"metavar": "X"}
    )
    hflip: bool = HfArg(default=True, help="mirror half of the training images")
    rotation: float = HfArg(default=0.0, help="random rotation by up to this many degrees either way")
    colorjitter_factor: float | None = HfArg(
        default=None, help="brightness, contrast, saturation and hue jitter; 0.3 if not given, 0 is none"
    )
    photometric: bool = HfArg(default=False, help="SSD's photometric distortion instead of colour jitter")
    cutmix: bool = HfArg(default=False, help="replace boxes of each training image by another's")
    cutmix_boxes: int | None = HfArg(default=None, help="of cutmix: how many boxes; 1 if not given")
    cutmix_beta: float | None = HfArg(
        default=None, help="of cutmix: the boxes' share of the image is drawn from Beta(B, B); 1.0 if not given"
    )
    cutmix_prob: float | None = HfArg(default=None, help="of cutmix: share of images that are mixed; 1.0 if not given")
    copyblob: str = HfArg(
        default="none",
        help="paste objects of rare classes where they belong: from all training images and in perspective (bank, "
        "which --copyblob alone means), or from the images of the batch and as they are (tutorial)",
        metadata={"nargs": "?", "const": "bank", "metavar": "bank|tutorial|none"},
    )
    copyblob_rules: list[str] | None = HfArg(
        default=None,
        help="of copyblob: what is pasted and what it stands on, as in fence:sidewalk; the data set's if not given",
        metadata={"metavar": "CLASS:CLASS"},
    )
    copyblob_prob: float | None = HfArg(
        default=None, help="of copyblob: probability of each of an image's three pastes; 0.5 if not given"
    )
    class_crop_prob: float = HfArg(
        default=0.0, help="share of crops that contain a pixel of a class drawn by inverse frequency"
    )
    sampling: str = HfArg(
        default="shuffle",
        help="of images: shuffle (each once an epoch), rare (classes drawn by inverse frequency) or balanced (classes "
        "in turn)",
    )
    cache: bool = HfArg(
        default=True,
        help="decode images once, into files below $MINICITY_SEG_CACHE or ~/.cache/minicity-seg, if they take at most "
        "half of the free memory and disk",
    )
    train_on: str = HfArg(
        default="train", help="train, or train+val for a final run without validation (a fold is held out of these)"
    )
    preview: int | None = HfArg(
        default=None, help="first write preview.png: this many augmented training images with their labels"
    )

    model: str = HfArg(
        default="deeplabv3_resnet50",
        help="deeplabv3_, deeplabv3plus_, pspnet_, fcn_, acfnet_ or unet_ with an encoder: resnet18, 34, 50, 101 or "
        "one of timm's, as unet_convnext_tiny; unet, attention_unet, hrnet_w18, deeplabv3plus_resnest50, "
        "encdec_maxunpool, streetnet, segformer_b0 to segformer_b5, or segformer_swin_tiny",
    )
    encoder: str | None = HfArg(
        default=None,
        help="instead of the model's own: any of timm's that gives feature maps, as convnext_tiny",
    )
    output_stride: int | None = HfArg(
        default=None, help="8 or 16: the encoder's, by dilation, in training; by default the model's"
    )
    eval_output_stride: int | None = HfArg(
        default=None, help="8 or 16: in validation and in the saved model; by default as in training"
    )
    norm: str = HfArg(
        default="batch", help="batch, instance, group, evo or evo_b0, in every layer (SegFormer: in the head)"
    )
    pretrained_encoder: str | None = HfArg(
        default=None,
        help="weights that the encoder starts from: a file or folder, a name of timm's (resnet50.a1_in1k) or "
        "torchvision's (ResNet50_Weights.IMAGENET1K_V2), or a hub id (nvidia/mit-b0); none if not given",
    )
    init_from: str | None = HfArg(
        default=None,
        help="weights that the whole network starts from, as far as they fit: a run folder, a saved model, a "
        ".safetensors or .pth file, or a hub id, with @REVISION if need be; none if not given",
    )
    sync_bn: bool = HfArg(default=False, help="batch norm over the images of all GPUs")
    freeze_bn: bool = HfArg(
        default=False,
        help="with --init_from or --pretrained_encoder: the encoder's batch norms keep statistics, weights and biases",
    )
    gradient_checkpointing: bool = HfArg(
        default=False, help="compute each block again for its backward pass: less memory, more time, the same numbers"
    )
    loss: str = HfArg(default="ce", help="ce (cross entropy), weighted_ce or focal")
    class_weights: str | None = HfArg(
        default=None,
        help="of weighted_ce: challenge (the MiniCity challenge's, for Cityscapes classes) or enet (from the training "
        "pixels of each class); by default challenge where it applies",
    )
    class_weights_constant: float | None = HfArg(
        default=None,
        help="of enet class weights: c in 1 / ln(c + share of the pixels), larger is gentler; 1.02 if not given",
    )
    focal_gamma: float | None = HfArg(default=None, help="of focal; 2.0 if not given")
    aux_weight: float | None = HfArg(
        default=None,
        help="weight of the loss of an auxiliary head, for example 0.4; by default 0.6 for acfnet, 0 (none) for others",
    )

    optimizer: str | None = HfArg(default=None, help="sgd or adamw; by default the model's")
    learning_rate: float | None = HfArg(default=None, help="by default the model's", aliases=["--lr_init"])
    momentum: float | None = HfArg(default=None, help="of sgd; 0.9 by default", aliases=["--lr_momentum"])
    weight_decay: float | None = HfArg(default=None, help="by default the model's", aliases=["--lr_weight_decay"])
    lr_scheduler_type: str | None = HfArg(
        default=None, help="cosine, poly, poly_with_restarts or constant; by default the model's"
    )
    lr_num_cycles: int = HfArg(default=1, help="cycles of poly_with_restarts")
    warmup_steps: int | None = HfArg(
        default=None, help="optimizer steps over which the learning rate rises, before it falls; by default the model's"
    )
    max_grad_norm: float | None = HfArg(default=None, help="clip the gradient at this norm; not clipped if not given")
    ema_decay: float | None = HfArg(
        default=None, help="evaluate and save a moving average of the weights, for example 0.999; none if not given"
    )
    batch_size: int = HfArg(default=8, help="images per optimizer step, over all processes and accumulation steps")
    gradient_accumulation_steps: int = HfArg(default=1, help="parts that a step is split into, to save memory")
    epochs: int = HfArg(default=200, help="passes over the training images")
    max_train_steps: int | None = HfArg(default=None, help="optimizer steps in all; overrides --epochs")
    eval_every: int = HfArg(
        default=1, help="epochs between validations, each with a checkpoint; the last epoch always has both"
    )
    select: str = HfArg(
        default="best", help="weights that best/ holds: best (of all validations, by mIoU) or last (of the newest one)"
    )
    seed: int = HfArg(default=0, help="of weights, order and augmentation")
    deterministic: bool = HfArg(default=False, help="only deterministic GPU kernels; a CPU has no others")

    output_dir: str | None = HfArg(
        default=None, help="run folder; runs/DATASET_MODEL_NORM_TIME if not given", aliases=["--save_path"]
    )
    overwrite_output_dir: bool = HfArg(default=False, help="delete the run that --output_dir holds")
    resume_from_checkpoint: str | None = HfArg(
        default=None,
        help="a checkpoint, or a run folder for its newest one; the run goes on there",
        aliases=["--weights"],
    )
    checkpointing_steps: int | None = HfArg(
        default=None, help="optimizer steps between further checkpoints, besides those of --eval_every"
    )
    keep_checkpoints: int = HfArg(
        default=2, help="newest checkpoints that are kept: with 2, a damaged one has one before it"
    )
    report_to: str = HfArg(default="tensorboard", help="tensorboard or none")
    push_to_hub: bool = HfArg(default=False, help="upload model, card, logs and pictures to a hub")
    hub_model_id: str | None = HfArg(
        default=None, help="of --push_to_hub: where to, USER/NAME; made if it is not there"
    )
    hub_private: bool = HfArg(default=False, help="of --push_to_hub: only for those who may see it, if it is made anew")
    hub_strategy: str | None = HfArg(
        default=None, help="of --push_to_hub: end, or every_save for each new best model too; end if not given"
    )
    predict: bool = HfArg(default=False, help="do not train: predict_seg.py on --output_dir, or the newest run")
    mst: bool = HfArg(default=False, help="of --predict: average over scales and flips")

    def __post_init__(self):
        super().__post_init__()
        if self.mst and not self.predict:
            raise RunError("--mst is for --predict: train_seg.py validates at one scale")
        for flag in ("train_size", "crop_size"):
            check_size(f"--{flag}", getattr(self, flag))
        if self.scale_range and (len(self.scale_range) != 2 or not 0 < self.scale_range[0] <= self.scale_range[1]):
            raise RunError(f"--scale_range takes the lowest and the highest scale, above 0, not {self.scale_range}")
        check_range("--rotation", self.rotation, 0, 180)
        check_range("--colorjitter_factor", self.colorjitter_factor, 0, 1)
        if self.photometric and self.colorjitter_factor is not None:
            raise RunError("--photometric and --colorjitter_factor exclude each other")
        check_choice("--copyblob", self.copyblob, ("bank", "tutorial", "none"))
        for flag in ("cutmix_boxes", "cutmix_beta", "cutmix_prob", "copyblob_rules", "copyblob_prob"):
            needed = flag.split("_")[0]
            if getattr(self, flag) is not None and getattr(self, needed) in (False, "none"):
                raise RunError(f"--{flag} needs --{needed}")
        if self.copyblob == "tutorial" and self.copyblob_prob is not None:
            raise RunError("--copyblob_prob is for pastes from all images: --copyblob tutorial pastes whatever it can")
        check_above("--cutmix_beta", self.cutmix_beta)
        for flag in ("cutmix_prob", "copyblob_prob", "class_crop_prob"):
            check_range(f"--{flag}", getattr(self, flag), 0, 1)
        check_choice("--sampling", self.sampling, ("shuffle", "rare", "balanced"))
        check_choice("--train_on", self.train_on, ("train", "train+val"))
        check_choice("--select", self.select, ("best", "last"))
        for flag in COUNTS:
            check_range(f"--{flag}", getattr(self, flag), least=1)
        for flag in ("learning_rate", "momentum", "weight_decay", "warmup_steps"):
            check_range(f"--{flag}", getattr(self, flag), least=0)
        check_above("--max_grad_norm", self.max_grad_norm)
        check_above("--ema_decay", self.ema_decay, below=1)
        check_range("--seed", self.seed, 0, 2**32 - 1)
        check_choice("--loss", self.loss, ("ce", "weighted_ce", "focal"))
        check_choice("--class_weights", self.class_weights, ("challenge", "enet"))
        if self.class_weights and self.loss != "weighted_ce":
            raise RunError(f"--class_weights is for --loss weighted_ce, and this is {self.loss}")
        if self.class_weights_constant is not None and self.class_weights != "enet":
            raise RunError("--class_weights_constant needs --class_weights enet")
        if self.class_weights_constant is not None and self.class_weights_constant <= 1:
            raise RunError(f"--class_weights_constant {self.class_weights_constant} is out of range: above 1")
        check_range("--focal_gamma", self.focal_gamma, least=0)
        if self.focal_gamma is not None and self.loss != "focal":
            raise RunError(f"--focal_gamma is for --loss focal, and this is {self.loss}")
        check_range("--aux_weight", self.aux_weight, least=0)
        check_choice("--optimizer", self.optimizer, ("sgd", "adamw"))
        check_choice("--lr_scheduler_type", self.lr_scheduler_type, SCHEDULES)
        check_choice("--report_to", self.report_to, ("tensorboard", "none"))
        if self.overwrite_output_dir and self.resume_from_checkpoint:
            raise RunError("--overwrite_output_dir would delete the run that --resume_from_checkpoint goes on with")
        if self.overwrite_output_dir and not self.output_dir:
            raise RunError("--overwrite_output_dir needs --output_dir: a run folder named by itself is always new")
        if self.init_from and self.pretrained_encoder:
            raise RunError("--init_from and --pretrained_encoder exclude each other: a network comes with its encoder")
        for flag in ("hub_model_id", "hub_private", "hub_strategy"):
            if getattr(self, flag) and not self.push_to_hub:
                raise RunError(f"--{flag} needs --push_to_hub")
        if self.push_to_hub and self.predict:
            raise RunError("--push_to_hub is for training, not --predict")
        if self.push_to_hub and not self.hub_model_id:
            raise RunError("--push_to_hub needs --hub_model_id")
        check_hub_id("--hub_model_id", self.hub_model_id)
        check_choice("--hub_strategy", self.hub_strategy, ("end", "every_save"))
        for flag in ("output_stride", "eval_output_stride"):
            check_choice(f"--{flag}", getattr(self, flag), (8, 16))
        for flag in ("sync_bn", "freeze_bn"):
            if getattr(self, flag) and self.norm != "batch":
                raise RunError(f"--{flag} is for --norm batch, not --norm {self.norm}")
        if self.freeze_bn and not (self.init_from or self.pretrained_encoder):
            raise RunError("--freeze_bn needs weights to start from: --init_from or --pretrained_encoder")
        if self.sync_bn and self.freeze_bn:
            raise RunError("--sync_bn and --freeze_bn exclude each other: frozen norms have nothing to synchronise")


@dataclass(frozen=True)
class PredictArguments(DataArguments):
    """Predict a split or a folder of images, and score where there are labels."""

    dataset: str | None = HfArg(default=None, help="by default the one that the run was trained on")
    model_name_or_path: str | None = HfArg(
        default=None,
        help="a run folder, a saved model or a hub id, with @REVISION if need be; the newest complete run below runs/ "
        "if not given",
        aliases=["--save_path"],
    )
    trust_remote_code: bool = HfArg(default=False, help="run the code that lies beside another's model")
    splits: list[str] | None = HfArg(
        default=None,
        help="of train, val, test; val and, where there is one, test if not given",
        metadata={"metavar": "SPLIT"},
    )
    input: str | None = HfArg(default=None, help="a photo, or a folder of them, to predict instead of splits")
    output_dir: str | None = HfArg(default=None, help="where results_SPLIT and scores go; the run folder if not given")
    mst: bool = HfArg(default=False, help="average over scales 0.5 0.75 1.0 1.25 1.5 1.75 2.0 2.2 and flips")
    scales: list[float] | None = HfArg(
        default=None, help="average over these scales, and flips, instead", metadata={"metavar": "X"}
    )
    flip: bool = HfArg(default=True, help="with --mst or --scales, predict mirrored images too")
    average: str = HfArg(default="probabilities", help="of several views: probabilities or logits")
    eval_output_stride: int | None = HfArg(default=None, help="8 or 16, instead of the model's own")
    zip: bool = HfArg(default=False, help="check the id images and pack them for a challenge's server")

    def __post_init__(self):
        super().__post_init__()
        check_choice("--average", self.average, ("probabilities", "logits"))
        check_choice("--eval_output_stride", self.eval_output_stride, (8, 16))
        for scale in self.scales or ():
            check_above("--scales", scale)
        if self.mst and self.scales:
            raise RunError("--mst and --scales exclude each other: the usual scales, or these")
        if not (self.mst or self.scales) and (not self.flip or self.average == "logits"):
            given = "--average logits" if self.flip else "--no_flip"
            raise RunError(f"{given} is for several views: give --mst or --scales")
        for split in self.splits or ():
            check_choice("--splits", split, ("train", "val", "test"))
        if self.fold is not None and self.input:
            raise RunError("--fold and --input exclude each other: a fold of the data set, or a folder of images")
        if self.splits and self.input:
            raise RunError("--splits and --input exclude each other: splits of the data set, or a folder of images")


@dataclass(frozen=True)
class AppArguments:
    """Show what a model sees, in the browser."""

    model_name_or_path: list[str] | None = HfArg(
        default=None,
        help="run folders, saved models or hub ids to choose from; the newest complete run below runs/ if not given",
        aliases=["--save_path"],
        metadata={"metavar": "MODEL"},
    )
    trust_remote_code: bool = HfArg(default=False, help="run the code that lies beside others' models")
    examples: str | None = HfArg(
        default=None, help="a folder of photos to pick from; some of the model's data set if not given"
    )
    test_size: list[int] | None = size("size that photos are predicted at; as in validation if not given")
    max_megapixels: int = HfArg(default=30, help="larger photos are refused before they are decoded")
    max_file_size: int = HfArg(default=50, help="of an upload, in megabytes")
    server_name: str = HfArg(default="127.0.0.1", help="address to listen at; 0.0.0.0 for everyone who can reach it")
    server_port: int | None = HfArg(default=None, help="7860 or the next free one if not given")

    def __post_init__(self):
        check_finite(self)
        check_size("--test_size", self.test_size)
        for flag in ("max_megapixels", "max_file_size", "server_port"):
            check_range(f"--{flag}", getattr(self, flag), least=1)


def predict_flags(args: TrainArguments) -> list[str]:
    """The command line of predict_seg.py that `train_seg.py --predict` stands for."""
    flags = [f"--num_workers={args.num_workers}", *(["--mst"] if args.mst else [])]
    flags += [f"--model_name_or_path={args.output_dir}"] if args.output_dir else []
    flags += [f"--dataset_path={args.dataset_path}"] if args.dataset_path else []
    flags += [f"--folds={args.folds}", f"--fold={args.fold}"] if args.fold is not None else []
    flags += [f"--eval_output_stride={args.eval_output_stride}"] if args.eval_output_stride else []
    return flags + (["--test_size", *map(str, args.test_size)] if args.test_size else [])


def check_finite(args) -> None:
    """No flag takes NaN or infinity."""
    for field in dataclasses.fields(args):
        value = getattr(args, field.name)
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, float) and not math.isfinite(number):
                raise RunError(f"--{field.name} {number} is not a finite number")


def check_size(flag: str, value: list[int] | None) -> None:
    if value is not None and (len(value) != 2 or min(value) < 1):
        raise RunError(f"{flag} takes a height and a width, not {' '.join(map(str, value))}")


def check_range(flag: str, value: float | None, least: float, most: float = float("inf")) -> None:
    if value is not None and not least <= value <= most:
        raise RunError(
            f"{flag} {value} is out of range: " + (f"{least} to {most}" if most < float("inf") else f"{least} or more")
        )


def check_above(flag: str, value: float | None, below: float = float("inf")) -> None:
    if value is not None and not 0 < value < below:
        raise RunError(
            f"{flag} {value} is out of range: above 0" + (f", below {below}" if below < float("inf") else "")
        )


def check_hub_id(flag: str, value: str | None) -> None:
    try:
        if value is not None:
            validate_repo_id(value)
    except HFValidationError as error:
        raise RunError(f"{flag} {value!r} is no id of a model on a hub, USER/NAME: {error}") from error


def check_choice(flag: str, value: str | int | None, choices: tuple) -> None:
    if value is not None and value not in choices:
        raise RunError(f"{flag} {value} is not known: choose one of {', '.join(map(str, choices))}")


class Parser(HfArgumentParser):
    """One line per mistake instead of the whole usage; printed once under any launcher."""

    def error(self, message):
        fail(f"error: {message} (see {self.prog} --help)", 2)


def parse_arguments(kind: type, argv: list[str] | None = None):
    """An instance of the dataclass `kind` from a command line, with a recipe as its optional first argument."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = Parser(kind, allow_abbrev=False, description=kind.__doc__)
    if argv and argv[0].endswith((".yaml", ".yml")):
        argv = [*recipe_tokens(kind, Path(argv[0])), *argv[1:]]
    args = _parse(parser, argv)
    if getattr(args, "resume_from_checkpoint", None):  # what the run was begun with, and the user's flags over it
        recipe = run_of(args.resume_from_checkpoint) / "args.yaml"
        args = _parse(parser, [*recipe_tokens(kind, recipe), *argv])
    return args


def _parse(parser: Parser, argv: list[str]):
    args, unknown = parser.parse_args_into_dataclasses(argv, return_remaining_strings=True, look_for_args_file=False)
    if unknown:
        parser.error(f"unknown argument {unknown[0]}")
    return args


def recipe_tokens(kind: type, path: Path) -> list[str]:
    """The flags that a YAML file stands for."""
    entries, tokens = read_recipe(path), []
    known = {
        name.removeprefix("--") for f in dataclasses.fields(kind) for name in (f.name, *f.metadata.get("aliases", ()))
    }
    for key, value in entries.items():
        if key not in known:
            raise RunError(f"recipe {path}: there is no flag --{key}")
        if value is not None:
            values = value if isinstance(value, list) else [value]
            # `- fence: sidewalk` in a list is a mapping to YAML, and fence:sidewalk on a command line
            values = [":".join(map(str, *v.items())) if isinstance(v, dict) and len(v) == 1 else str(v) for v in values]
            tokens += [f"--{key}", *values]
    return tokens


def read_recipe(path: Path) -> dict:
    """The entries of a YAML file. Raises RunError if it is no list of flags."""
    try:
        entries = yaml.safe_load(path.read_text())
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split()) if isinstance(error, yaml.YAMLError) else os_reason(error)
        raise RunError(f"cannot read recipe {path}: {reason}") from error
    if not isinstance(entries, dict):
        raise RunError(f"recipe {path} is not a list of 'flag: value' lines")
    return entries


RUN_FLAGS = ("output_dir", "overwrite_output_dir", "resume_from_checkpoint", "predict", "mst", "preview")
RUN_FLAGS += ("push_to_hub", "hub_model_id", "hub_private", "hub_strategy")  # whoever repeats a run pushes elsewhere


def save_arguments(args, path: Path) -> None:
    """Write `args` as a recipe: run again with it, the same numbers come out, in a new folder."""
    entries = {key: value for key, value in dataclasses.asdict(args).items() if key not in RUN_FLAGS}
    with writing(path):
        write_atomically(path, yaml.safe_dump(entries, sort_keys=False))


MAY_CHANGE = (
    "dataset_path",
    "folds",
    "num_workers",
    "cache",
    "report_to",
    "eval_every",
    "checkpointing_steps",
    "keep_checkpoints",
)
MAY_CHANGE += ("epochs", "max_train_steps", "gradient_accumulation_steps")
OTHER_GROUPS = (
    ": each step sees the same images, but dropout draws otherwise, and batch norm and --copyblob tutorial see other "
    "groups of images"
)


def changed_flags(args, path: Path) -> list[str]:
    """What differs from the flags that the run of `path`, its args.yaml, was begun with, in lines for the user; flags
    that would make it another run are refused."""
    changes = []
    begun_with = dataclasses.asdict(type(args)()) | read_recipe(path)
    for key, before in begun_with.items():
        now = getattr(args, key, before)
        if now == before or key in RUN_FLAGS:
            continue
        if key not in MAY_CHANGE:
            raise RunError(
                f"--{key} {now} is not what the run was begun with ({before}): a resumed run keeps its flags, except "
                f"{', '.join(f'--{name}' for name in MAY_CHANGE)}"
            )
        effect = OTHER_GROUPS if key == "gradient_accumulation_steps" else ""
        changes.append(f"--{key} {now} instead of {before}{effect}")
    return changes
