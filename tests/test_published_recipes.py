"""The recipes of published runs have the published settings, and their data, network and loss make two steps.

The values in `PUBLISHED` are typed from the sources that docs/recipes.md names, not read from the recipes.
"""

import itertools
import math
import re
import shlex
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT

from data_scripts.augment import IMAGENET_MEAN, IMAGENET_STD
from data_scripts.labels import CITYSCAPES
from data_scripts.loading import BatchPlan
from seg_jobs.arguments import PredictArguments, TrainArguments
from seg_jobs.training_job import open_setup
from seg_models.arguments import NetworkOptions
from seg_models.meta import QuickNorms
from seg_models.models import build_network, model_entry
from seg_models.objective import aux_weight_of
from seg_models.predictor import Predictor
from seg_runs.optimization import chosen, make_schedule, total_steps
from seg_runs.parsing import flat, parse_arguments
from train_seg import train_step

RECIPES = ROOT / "recipes"
OURS = {
    "camvid_speedrun",
    "camvid_streetnet",
    "camvid_streetnet_long",
    "minicity_deeplabv3_resnet50_final",
    "toycity_demo",
}
IMAGES = {"minicity": 200, "kitti": 150, "virtual_kitti": 21_260}  # training images: of challenge, course, notebook


@dataclass(frozen=True)
class Published:
    """Settings of a run: network, optimizer, its learning rate and weight decay, schedule, steps, crop, batch, loss."""

    model: str
    optimizer: str
    learning_rate: float
    weight_decay: float
    schedule: str
    steps: int
    crop: tuple[int, int]
    batch: int
    loss: str = "ce"
    aux_weight: float = 0.0


TUTORIAL = Published("deeplabv3_resnet50", "sgd", 1e-2, 1e-4, "cosine", 5_000, (576, 1152), 8)
HALF_SIZE = replace(TUTORIAL, model="deeplabv3_resnet101", crop=(384, 768))
NOTEBOOK = Published("deeplabv3_resnet101", "sgd", 7e-3, 1e-4, "poly", 30_000, (513, 513), 10)  # rates: of the paper
BASELINE = Published("encdec_maxunpool", "adamw", 3e-4, 0.0, "constant", 37 * 180, (256, 864), 4)  # Adam
CNN = Published("", "sgd", 1e-2, 5e-4, "poly", 40_000, (368, 368), 16, aux_weight=0.4)
SEGFORMER = Published("", "adamw", 6e-5, 1e-2, "poly", 20_000, (368, 368), 32)
TUNED = replace(SEGFORMER, learning_rate=1e-5)
HARD = replace(TUNED, loss="ohem")
FINAL = replace(HARD, aux_weight=0.4)
PUBLISHED = {
    "minicity_deeplabv3_resnet50": TUTORIAL,
    "minicity_deeplabv3_resnet101": HALF_SIZE,
    "minicity_deeplabv3_resnet50_wce": replace(TUTORIAL, loss="weighted_ce"),
    "minicity_deeplabv3_resnet50_focal": replace(TUTORIAL, loss="focal"),
    "minicity_deeplabv3_resnet50_instancenorm": TUTORIAL,
    "minicity_deeplabv3_resnet50_groupnorm": TUTORIAL,
    "minicity_deeplabv3_resnet50_evonorm": TUTORIAL,
    "minicity_deeplabv3_resnet50_cutmix": TUTORIAL,
    "minicity_deeplabv3_resnet50_copyblob": TUTORIAL,
    "minicity_deeplabv3_resnet101_lovasz": replace(HALF_SIZE, loss="lovasz"),
    "minicity_deeplabv3_resnet101_wce": replace(HALF_SIZE, loss="weighted_ce"),
    "minicity_deeplabv3_resnet101_focal_tversky": replace(HALF_SIZE, loss="focal_tversky"),
    "minicity_deeplabv3_resnet101_balanced": HALF_SIZE,
    "minicity_attention_unet": replace(HALF_SIZE, model="attention_unet"),
    "minicity_acfnet_resnet101": replace(HALF_SIZE, model="acfnet_resnet101", aux_weight=0.6),
    "minicity_strong": replace(
        TUTORIAL, model="deeplabv3plus_resnest50", schedule="poly", steps=7_500, loss="boundary", aux_weight=0.4
    ),
    "notebook_stage1": NOTEBOOK,
    "notebook_stage2": replace(NOTEBOOK, learning_rate=1e-3),
    "kitti_baseline_180": BASELINE,
    "kitti_baseline_1000": replace(BASELINE, steps=37 * 1000, crop=(375, 512)),
    "kitti_unet": replace(CNN, model="unet", steps=160_000),
    "kitti_deeplabv3plus_resnet18": replace(CNN, model="deeplabv3plus_resnet18", steps=80_000),
    "kitti_deeplabv3plus_resnet50": replace(CNN, model="deeplabv3plus_resnet50"),
    "kitti_deeplabv3plus_resnet101": replace(CNN, model="deeplabv3plus_resnet101"),
    "kitti_pspnet_resnet18": replace(CNN, model="pspnet_resnet18", steps=20_000, batch=32),
    "kitti_pspnet_resnet101": replace(CNN, model="pspnet_resnet101", steps=20_000, batch=32),
    "kitti_pspnet_resnet18_cwd": replace(CNN, model="pspnet_resnet18", steps=20_000, batch=32),
    "kitti_segformer_b0": replace(SEGFORMER, model="segformer_b0"),
    "kitti_segformer_b2": replace(SEGFORMER, model="segformer_b2"),
    "kitti_segformer_b5": replace(SEGFORMER, model="segformer_b5", batch=8),
    "kitti_segformer_b2_schedule": replace(TUNED, model="segformer_b2"),
    "kitti_segformer_b2_class_balanced": replace(TUNED, model="segformer_b2", loss="class_balanced"),
    "kitti_segformer_b2_ohem": replace(HARD, model="segformer_b2"),
    "kitti_segformer_b0_final": replace(FINAL, model="segformer_b0"),
    "kitti_segformer_b2_final": replace(FINAL, model="segformer_b2"),
    "kitti_segformer_b5_final": replace(FINAL, model="segformer_b5", batch=8),
    "kitti_segformer_swin_tiny": replace(HARD, model="segformer_swin_tiny", batch=8),
}
# The differences between runs that share the settings above.
FLAGS = {
    "minicity_deeplabv3_resnet50_focal": {"loss.focal_gamma": 2.0},
    "minicity_deeplabv3_resnet50_instancenorm": {"network.norm": "instance"},
    "minicity_deeplabv3_resnet50_groupnorm": {"network.norm": "group"},
    "minicity_deeplabv3_resnet50_evonorm": {"network.norm": "evo"},
    "minicity_deeplabv3_resnet50_cutmix": {"augmentation.cutmix": True},
    "minicity_deeplabv3_resnet50_copyblob": {"augmentation.copyblob": "bank"},
    "minicity_deeplabv3_resnet101_balanced": {"data.sampling": "balanced"},
    "kitti_segformer_b2_ohem": {
        "loss.ohem_threshold": 0.5,
        "loss.ohem_min_kept": 10_000,
        "loss.class_weights": "class_balanced",
    },
    "kitti_segformer_b2_schedule": {"optimization.lr_power": 1.0},
    "kitti_pspnet_resnet18_cwd": {"distillation.distill": "cwd"},
    "minicity_strong": {"augmentation.cutmix_boxes": 4, "augmentation.copyblob": "bank", "network.output_stride": 8},
    "notebook_stage1": {"augmentation.scale_range": [1.4, 2.0], "network.output_stride": 16},
    "notebook_stage2": {"augmentation.scale_range": [1.4, 2.0], "network.output_stride": 8, "network.freeze_bn": True},
    "kitti_baseline_180": {"augmentation.hflip": False, "augmentation.scale_range": [1.0, 1.0]},
}
TUTORIALS = list(PUBLISHED)[:9]
SOURCES = (" MiniCity tutorial, run ", " Earlier challenge repository of the tutorial's author, on MiniCity: ")
SOURCES += (" Lab notebook of 2019, DeepLabV3 on Virtual KITTI, stage ",)
SOURCES += (" Course report on KITTI (arXiv 2206.12571): ", " The best-known ingredients of the MiniCity challenge")
ELSEWHERE = {*TUTORIALS, "notebook_stage1", "notebook_stage2"}  # test_tutorial.py and test_recipes.py make their steps
# A small network of the same architecture, for the steps.
SMALLER = {"resnet101": "resnet18", "resnet50": "resnet18", "resnest50": "resnest14d", "_b2": "_b0", "_b5": "_b0"}


def recipe(name: str, *flags: str) -> TrainArguments:
    return parse_arguments(TrainArguments, [str(RECIPES / f"{name}.yaml"), *flags])


def header(name: str) -> str:
    """The comment that a recipe opens with."""
    lines = (RECIPES / f"{name}.yaml").read_text().splitlines()
    return "\n".join(line.removeprefix("#") for line in itertools.takewhile(lambda line: line.startswith("#"), lines))


def aux_weight(args: TrainArguments) -> float:
    return aux_weight_of(args.loss, model_entry(args.network.model).training.aux_weight)


def commands(text: str) -> list[list[str]]:
    """The flags of each command of a text, after `accelerate launch` and its own flags."""
    found = re.findall(r"^ +accelerate launch(?: --\w+ \S+)* (train_seg|predict_seg)\.py ?(.*)$", text, re.MULTILINE)
    return [[script, *shlex.split(rest)] for script, rest in found]


def test_each_recipe_is_of_a_published_run_or_of_our_own_and_stands_in_the_docs():
    names = {path.stem for path in RECIPES.glob("*.yaml")}
    assert names == OURS | PUBLISHED.keys()
    page = (ROOT / "docs" / "recipes.md").read_text()
    assert set(re.findall(r"\brecipes/(\w+)\.yaml", page)) == names


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_has_the_published_settings(name):
    args, expected = recipe(name), PUBLISHED[name]
    options, defaults = args.optimization, model_entry(args.network.model).training
    steps = BatchPlan(IMAGES[args.data.dataset], options.batch_size).steps
    schedule = make_schedule(options, defaults, total_steps(steps, options.epochs, options.max_train_steps))
    found = Published(
        model=args.network.model,
        optimizer=options.optimizer or defaults.optimizer,
        learning_rate=chosen(options.learning_rate, defaults.learning_rate),
        weight_decay=chosen(options.weight_decay, defaults.weight_decay),
        schedule=schedule.kind,
        steps=schedule.steps,
        crop=tuple(args.augmentation.crop_size),
        batch=options.batch_size,
        loss=args.loss.loss,
        aux_weight=aux_weight(args),
    )
    assert found == expected
    for flag, value in FLAGS.get(name, {}).items():
        group, field = flag.split(".")
        assert getattr(getattr(args, group), field) == value


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_opens_with_its_source_and_commands_that_parse(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    text = header(name)
    assert text.startswith(SOURCES) and "\n Published: " in text
    found = commands(text)
    assert f"recipes/{name}.yaml" in {rest[0] for script, *rest in found if script == "train_seg"}
    assert len(found) == text.count("accelerate launch")
    for script, *flags in found:
        parse_arguments(TrainArguments if script == "train_seg" else PredictArguments, flags)


@pytest.mark.parametrize("name", TUTORIALS)
def test_the_tutorials_runs_also_as_they_were(name, monkeypatch):
    """ImageNet's weights, a constant rate, no flip, and blobs from the batch: all else stays."""
    monkeypatch.chdir(ROOT)
    assert f", run {TUTORIALS.index(name) + 1} of 9: " in header(name)
    meant, ran = (flat(parse_arguments(TrainArguments, flags)) for _, *flags in commands(header(name)))
    encoder = meant["model"].partition("_resnet")[2]
    changes = {"pretrained_encoder": f"ResNet{encoder}_Weights.IMAGENET1K_V1", "lr_scheduler_type": "constant"}
    changes |= {"hflip": False} | ({"copyblob": "tutorial"} if name.endswith("copyblob") else {})
    assert ran == meant | changes and meant["pretrained_encoder"] is None and meant["hflip"]


@lru_cache
def shapes_on_meta(model: str, norm: str, output_stride: int | None, auxiliary: bool, crop: tuple[int, int]) -> tuple:
    """The shapes of logits and auxiliary logits of two crops. Tensors on the meta device have no content."""
    options = NetworkOptions(model=model, norm=norm, output_stride=output_stride)
    with torch.device("meta"):
        network = build_network(options, dict(enumerate(CITYSCAPES.names)), auxiliary=auxiliary)
        with QuickNorms():
            output = network(pixel_values=torch.empty(2, 3, *crop))
    return output.logits.shape, [more.shape for more in getattr(output, "aux_logits", None) or ()]


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_network_takes_the_published_crop(name):
    args, auxiliary = recipe(name), aux_weight(recipe(name)) > 0
    network, (height, width) = args.network, args.augmentation.crop_size
    logits, more = shapes_on_meta(network.model, network.norm, network.output_stride, auxiliary, (height, width))
    assert logits[:2] == (2, 19) and height // 16 <= logits[2] <= height and width // 16 <= logits[3] <= width
    assert bool(more) == auxiliary and all(shape[:2] == (2, 19) for shape in more)


@pytest.fixture(scope="module")
def kitti(tmp_path_factory):
    """Files in KITTI's layout: 6 training and 2 validation images of 64x192, in blocks of one class each."""
    root, rng = tmp_path_factory.mktemp("kitti"), np.random.default_rng(0)
    for folder in ("image_2", "semantic"):
        (root / "training" / folder).mkdir(parents=True)
    for number in range(8):
        ids = rng.choice(CITYSCAPES.source_ids, (4, 12)).astype(np.uint8).repeat(16, 0).repeat(16, 1)
        photo = np.stack([ids * 7, 255 - ids * 5, rng.integers(0, 256, ids.shape)], -1).astype(np.uint8)
        for folder, pixels in (("image_2", photo), ("semantic", ids)):
            assert cv2.imwrite(str(root / "training" / folder / f"{number:06}_10.png"), pixels)
    return root


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A saved PSPNet of the Cityscapes classes."""
    folder = tmp_path_factory.mktemp("teacher")
    network = build_network(NetworkOptions(model="pspnet_resnet18"), dict(enumerate(CITYSCAPES.names)))
    network.save_pretrained(folder)
    Predictor(network, IMAGENET_MEAN, IMAGENET_STD).image_processor().save_pretrained(folder)
    return folder


def small(args: TrainArguments, data: Path, teacher: Path) -> list[str]:
    """Flags that replace images, crop, batch and networks of a recipe by small ones of the same kind."""
    model = args.network.model
    for large, other in SMALLER.items():
        model = model.replace(large, other)
    flags = f"--model {model} --dataset_path {data} --crop_size 64 96 --batch_size 2 --num_workers 0".split()
    for flag, size in (("train_size", args.data.train_size), ("test_size", args.network.test_size)):
        flags += [f"--{flag}", "64", "128"] if size else []
    return flags + (["--teacher", str(teacher)] if args.distillation.teacher else [])


MARKED_SLOW = {  # each is like a recipe that is tested every time, but for its loss, its sampling or its size
    "minicity_deeplabv3_resnet101_balanced",
    "minicity_deeplabv3_resnet101_focal_tversky",
    "minicity_deeplabv3_resnet101_wce",
    "minicity_deeplabv3_resnet50_focal",
    "kitti_deeplabv3plus_resnet50",
    "kitti_segformer_b2_schedule",
    "kitti_segformer_b5_final",
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in MARKED_SLOW))
        for name in PUBLISHED
        if name not in ELSEWHERE
    ],
)
def test_data_network_and_loss_make_two_steps(name, toycity, kitti, teacher, tmp_path):
    """The network is a smaller one of the same architecture, and the images are small. All else is the recipe's."""
    data = {"minicity": toycity, "kitti": kitti}[recipe(name).data.dataset]
    args = recipe(name, *small(recipe(name), data, teacher), "--output_dir", str(tmp_path / "run"))
    with open_setup(args) as setup:
        learner = setup.learner
        before = [parameter.detach().clone() for parameter in learner.model.parameters()]
        setup.training_mode()
        for batch in itertools.islice(setup.feed.loader, 2):
            totals, norm = train_step(
                setup.accelerator, learner.wrapped, [batch], setup.criterion, learner.optimizer, max_grad_norm=None
            )
            assert totals.pixels > 0 and totals.loss > 0 and 0 < norm < math.inf
        after = list(learner.model.parameters())
    assert not any(torch.equal(old, new) for old, new in zip(before, after, strict=True))
