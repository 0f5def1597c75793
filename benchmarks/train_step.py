"""Measure the time of a training step, and how long it waits for data.

    python benchmarks/train_step.py deeplab                                 # against plain torchvision and the peak
    python benchmarks/train_step.py feed --dataset camvid --dataset_path camvid
    python benchmarks/train_step.py norms                                   # every --norm, and timm's EvoNorm-S0
    python benchmarks/train_step.py peers                                   # against segmentation_models.pytorch
    python benchmarks/train_step.py heads                                   # the short way through SegFormer's head
    python benchmarks/train_step.py compiled                                # with --dynamo_backend inductor

deeplab  DeepLabV3-R50, batch 2 at 288x576: this project's step in bf16 and channels_last, and the plain torchvision
         step in fp32 with the system's malloc. Also the share of the machine's bf16 peak, which is the rate of the best
         of several dense kernels.
feed     StreetNet, batch 4 at 360x480 in bf16, with one worker: the time that a step waits for data, and the throughput
         relative to steps that repeat one batch in memory.
norms    DeepLabV3-R50 as above with each norm, and with timm's EvoNorm-S0 in place of ours: the time of a step and the
         peak memory of its process, libraries included. Each norm runs in three separate processes, which alternate
         with those of the other norms.
peers    networks with a counterpart in segmentation_models.pytorch (FCN: torchvision) on the same encoder, batch 2 at
         288x576. Both run this project's step in bf16 and channels_last, alternately. The ratio is the median over the
         pairs, with a 95 % confidence interval if there are six or more independent pairs.
heads    a forward pass of one 512x1024 image in eval mode, in bf16: as published, and the short way of
         seg_models/short_heads.py, alternately.
compiled one CNN of every kind (or --models), batch 2 at 288x576, StreetNet batch 4 at 360x480, in bf16: this project's
         step as it is and compiled by inductor, alternately, in seconds and in CPU seconds, which other programs change
         less; and the time until the first compiled step is done.

Times are medians. Run it on an otherwise idle machine, with OMP_WAIT_POLICY=passive.
"""

import argparse
import multiprocessing
import os
import resource
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16"

import torch
from flags import count
from timing import median_of, row, seconds, times
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from data_scripts.arguments import AugmentOptions
from data_scripts.augment import IMAGENET_MEAN, IMAGENET_STD
from data_scripts.loading import BatchPlan, TrainBatches, train_loader
from data_scripts.pixels import Pixels, build_decoded
from data_scripts.sampling import training_split
from data_scripts.sources import load_source
from data_scripts.transforms import SharedEpoch, TrainTransform
from seg_models import losses
from seg_models.catalog import MODELS, VARIANTS
from seg_models.models import build_model
from seg_models.names import NORMS
from seg_models.norms import EvoNormS0
from seg_models.objective import Criterion
from seg_models.output import SegmentationOutput
from seg_models.predictor import normalize
from seg_models.short_heads import lengthen_heads
from seg_runs import launch
from train_seg import train_step


def network(name: str, num_labels: int, norm: str = "batch") -> torch.nn.Module:
    """Build the network `name`. `norm` is one of `NORMS`, or "timm_evo" for timm's EvoNorm-S0."""
    model = build_model(name, norm.removeprefix("timm_"), {i: str(i) for i in range(num_labels)})
    if norm == "timm_evo":
        use_timms_evonorm(model)
    return model


def stepper(model: torch.nn.Module, backend: str | None = None):
    """Return a function that runs one training step of this project on a batch, with cross entropy.

    `backend` is a compiler for the network, as in `accelerate launch --dynamo_backend`.
    """
    accelerator = launch.make_accelerator()
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)
    model, optimizer = accelerator.prepare(model, optimizer)
    model.train()
    if backend:
        model = torch.compile(model, backend=backend)
    return lambda batch: train_step(accelerator, model, [batch], Criterion(losses.cross_entropy), optimizer, None)


def use_timms_evonorm(model: torch.nn.Module) -> None:
    from timm.layers import EvoNorm2dS0

    for name, layer in list(model.named_modules()):
        if isinstance(layer, EvoNormS0):
            theirs = EvoNorm2dS0(len(layer.weight), groups=layer.groups, apply_act=layer.act)
            model.set_submodule(name, theirs)


def batch_of(images: int, size: tuple[int, int], num_labels: int) -> dict[str, torch.Tensor]:
    pixels = torch.randint(0, 256, (images, 3, *size), dtype=torch.uint8)
    return {"pixel_values": pixels, "labels": torch.randint(0, num_labels, (images, *size), dtype=torch.uint8)}


def bf16_peak() -> float:
    """Return the FLOP/s of the fastest of several dense bf16 kernels: matrix products and typical convolutions."""
    best = 0.0
    for side in (1024, 2048, 4096):
        a, b = (torch.randn(side, side, dtype=torch.bfloat16) for _ in range(2))
        best = max(best, 2 * side**3 / seconds(lambda: a @ b, 5, before=2))  # noqa: B023
    for channels, height in ((256, 72), (512, 36), (512, 72)):
        x = torch.randn(2, channels, height, 2 * height, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
        layer = torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False, dtype=torch.bfloat16)
        layer = layer.to(memory_format=torch.channels_last)
        operations = 2 * 9 * channels**2 * 2 * height * 2 * height
        with torch.no_grad():
            best = max(best, operations / seconds(lambda: layer(x), 5, before=2))  # noqa: B023
    return best


def plain_torchvision(batch: dict[str, torch.Tensor], num_labels: int, repeats: int) -> float:
    """Return the seconds of a step in plain torchvision code."""
    from torchvision.models.segmentation import deeplabv3_resnet50

    model = deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=num_labels).train()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)

    def step():
        pixels = normalize(batch["pixel_values"], IMAGENET_MEAN, IMAGENET_STD).contiguous()
        loss = cross_entropy(model(pixels)["out"], batch["labels"].long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return seconds(step, repeats, before=2)


def deeplab(args) -> None:
    batch = batch_of(2, (288, 576), 19)
    theirs = plain_torchvision(batch, 19, args.repeats)  # first, while malloc has the system's settings
    peak = bf16_peak()
    step = stepper(network("deeplabv3_resnet50", 19))
    ours = seconds(lambda: step(batch), args.repeats, before=2)
    with FlopCounterMode(display=False) as counter:
        step(batch)
    operations = counter.get_total_flops()
    row("torchvision, fp32", 1000 * theirs, "ms per step")
    row("ours, bf16 channels_last", 1000 * ours, "ms per step")
    row("torchvision / ours", theirs / ours, "x")
    row("best dense bf16 kernel", peak / 1e9, "GFLOP/s")
    row("operations of a step, forward and backward", operations / 1e9, "GFLOP")
    row("share of the peak", 100 * operations / ours / peak, "%")


def feed(args) -> None:
    data, labels = load_source(args.dataset, args.dataset_path)
    split = training_split(data["train"])
    epoch = SharedEpoch()
    size = (360, 480)
    step = stepper(network("streetnet", len(labels.names)))
    there = batch_of(4, size, len(labels.names))
    bare = seconds(lambda: step(there), args.repeats, before=2)
    row("a step on a batch in memory", 1000 * bare, "ms")
    folder, refusal = build_decoded(split, labels, None, "training", progress=False)
    for name, kept in (("files", None), *((("the decoded file", folder),) if folder else ())):
        transform = TrainTransform(Pixels(split, labels, None, kept), 0, epoch, AugmentOptions(size))
        batches = TrainBatches(BatchPlan(len(split), 4), 0, epoch)
        loader = iter(train_loader(split.with_transform(transform), batches, 1, pin_memory=False))
        step(next(loader))
        waited = 0.0
        begun = time.perf_counter()
        for _ in range(args.repeats):
            asked = time.perf_counter()
            batch = next(loader)
            waited += time.perf_counter() - asked
            step(batch)
        total = time.perf_counter() - begun
        row(f"a step on a batch from {name}", 1000 * total / args.repeats, "ms")
        row("    waiting for data", 100 * waited / total, "%")
        row("    throughput relative to the bare step", 100 * bare * args.repeats / total, "%")
    print(refusal or "", end="")


def steps_with(norm: str, repeats: int) -> tuple[list[float], float]:
    """Return the seconds of each of `repeats` steps, and the peak memory of this process in GiB."""
    step = stepper(network("deeplabv3_resnet50", 19, norm))
    batch = batch_of(2, (288, 576), 19)
    return times(lambda: step(batch), repeats, before=1), most_memory()


def norms(args) -> None:
    variants, rounds = (*NORMS, "timm_evo"), 3
    taken = {norm: [] for norm in variants}
    memory = dict.fromkeys(variants, 0.0)
    # A process per task, because the peak memory of a process never falls, and would count for the next norm too.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, prepare, (args.default_malloc,), max_tasks_per_child=1) as one_at_a_time:
        for norm in variants * rounds:
            steps, most = one_at_a_time.submit(steps_with, norm, -(-args.repeats // rounds)).result()
            taken[norm] += steps
            memory[norm] = max(memory[norm], most)
    for norm in variants:
        step = statistics.median(taken[norm])
        row(norm, 1000 * step, f"ms per step, {step / statistics.median(taken['batch']):5.2f} x batch")
        row("    peak memory", memory[norm], f"GiB,         {memory[norm] / memory['batch']:5.2f} x batch")


class Peer(torch.nn.Module):
    """Another library's network, wrapped to return the same output as ours."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> SegmentationOutput:
        output = self.model(pixel_values)
        return SegmentationOutput(logits=output["out"] if isinstance(output, dict) else output)


def peer_of(name: str) -> torch.nn.Module:
    import segmentation_models_pytorch as smp
    from torchvision.models.segmentation import fcn_resnet50

    decoder, _, encoder = name.partition("_")
    names = {"deeplabv3": "DeepLabV3", "deeplabv3plus": "DeepLabV3Plus", "unet": "Unet", "pspnet": "PSPNet"}
    if decoder == "fcn":
        return fcn_resnet50(weights=None, weights_backbone=None, num_classes=19)
    if decoder == "segformer":
        width = VARIANTS[encoder]["decoder_hidden_size"]
        return smp.Segformer(f"mit_{encoder}", encoder_weights=None, classes=19, decoder_segmentation_channels=width)
    if decoder == "pspnet":  # theirs leaves out the last stages by default
        model = smp.PSPNet(encoder, encoder_weights=None, encoder_depth=5, classes=19, upsampling=8)
        model.encoder.make_dilated(8)
        return model
    encoder = {"resnest50": "timm-resnest50d"}.get(encoder, encoder)
    return getattr(smp, names[decoder])(encoder, encoder_weights=None, classes=19)


PEERS = ("deeplabv3plus_resnet18", "deeplabv3plus_resnet50", "deeplabv3plus_resnest50", "deeplabv3_resnet50")
PEERS += ("unet_resnet18", "unet_resnet50", "pspnet_resnet18", "pspnet_resnet50", "fcn_resnet50")
PEERS += ("segformer_b0", "segformer_b2")


def peers(args) -> None:
    batch = batch_of(2, (288, 576), 19)
    for name in PEERS:
        steps = [stepper(model) for model in (network(name, 19), Peer(peer_of(name)))]
        taken = [[], []]
        for turn in range(args.repeats):
            for which in (0, 1) if turn % 2 else (1, 0):
                taken[which] += times(lambda: steps[which](batch), 1, before=0 if turn else 1)  # noqa: B023
        ours, theirs = map(statistics.median, taken)
        low, ratio, high = median_of([one / other for one, other in zip(*taken, strict=True)])
        row(
            name, 1000 * ours, f"ms per step, the other's {1000 * theirs:8.2f}: {ratio:.2f} x ({low:.2f} to {high:.2f})"
        )


def heads(args) -> None:
    images = torch.randn(1, 3, 512, 1024).to(memory_format=torch.channels_last)
    for name in ("segformer_b0", "segformer_b2"):
        model = network(name, 19).to(memory_format=torch.channels_last).eval()
        published = deepcopy(model)
        lengthen_heads(published)
        taken = {model: [], published: []}
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            for turn in range(args.repeats):
                for which in taken:
                    taken[which] += times(lambda: which(images), 1, before=0 if turn else 1)  # noqa: B023
        short, long = map(statistics.median, taken.values())
        row(name, 1000 * short, f"ms per image, as published {1000 * long:8.2f}: {short / long:5.2f} x")
        with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
            model.to("meta")(torch.empty(1, 3, 375, 1242))
        row("    one image of 375x1242", counter.get_total_flops() / 2e9, "GMACs")


def compiled(args) -> None:
    for name in args.models or CNNS:
        images, size = (4, (360, 480)) if name.startswith("streetnet") else (2, (288, 576))
        batch = batch_of(images, size, 19)
        model = network(name, 19)
        plain, fast = (stepper(deepcopy(model), backend) for backend in (None, "inductor"))
        first = times(lambda: fast(batch), 1)[0]  # noqa: B023
        plain(batch)
        taken = {clock: ([], []) for clock in (time.perf_counter, time.process_time)}
        for turn in range(args.repeats):
            for which, step in ((0, plain), (1, fast)) if turn % 2 else ((1, fast), (0, plain)):
                begun = [clock() for clock in taken]
                step(batch)
                for (clock, found), before in zip(taken.items(), begun, strict=True):
                    found[which].append(clock() - before)
        for unit, pairs in zip(("ms per step", "ms of CPU"), taken.values(), strict=True):
            low, ratio, high = median_of([one / other for other, one in zip(*pairs, strict=True)])
            eager, quick = (1000 * statistics.median(found) for found in pairs)
            row(f"{name}, compiled", quick, f"{unit}, plain {eager:8.2f}: {ratio:.2f} x ({low:.2f} to {high:.2f})")
        row("    until the first step was compiled and done", first, "s")


def most_memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def prepare(default_malloc: bool) -> None:
    if default_malloc:
        launch.keep_memory = lambda: None


CNNS = ("streetnet", "deeplabv3_resnet50", "deeplabv3plus_resnet18", "deeplabv3plus_resnest50", "pspnet_resnet18")
CNNS += ("fcn_resnet50", "acfnet_resnet50", "unet", "attention_unet", "unet_resnet18", "encdec_maxunpool", "hrnet_w18")

PARTS = {"deeplab": deeplab, "feed": feed, "norms": norms, "peers": peers, "heads": heads, "compiled": compiled}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--dataset", default="camvid")
    parser.add_argument("--dataset_path")
    parser.add_argument("--repeats", type=count, default=12)
    parser.add_argument("--models", nargs="+", metavar="MODEL", choices=MODELS, help="networks of compiled")
    parser.add_argument("--default_malloc", action="store_true", help="keep glibc's malloc settings")
    args = parser.parse_args()
    prepare(args.default_malloc)
    PARTS[args.part](args)
    if args.part != "norms":  # it reports the memory of its own processes
        row("peak memory", most_memory(), "GiB")


if __name__ == "__main__":
    main()
