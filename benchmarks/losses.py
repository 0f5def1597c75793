"""Measure what losses cost, and compare them with segmentation_models.pytorch's.

    python benchmarks/losses.py step        # each loss against a training step of DeepLabV3-R50
    python benchmarks/losses.py peers       # value and time against segmentation_models.pytorch's losses
    python benchmarks/losses.py memory      # the peak of StreetNet's training step, with and without the loss

step    a step on 2 crops of 288x1152, which have as many pixels as one of 576x1152, 19 classes. Each loss is computed
        forward and backward on logits of three networks: one that starts (all classes equally likely), one that has
        learnt half (most pixels right, few of them sure), and one that is sure of nearly all pixels.
peers   the same logits, without ignored pixels and with every class present, because theirs treat both in another way.
        Times in fp32, values in fp64 (Lovasz: fp32, because theirs has no fp64).
        Their focal Tversky loss differs by definition: it is a power of the mean, not the mean of powers.
memory  StreetNet, 16 crops of 360x480, 11 classes, as measured by the process's peak. Each variant has a process of its
        own.

Times are CPU seconds of this process, so that other work on the machine disturbs them less. Steps are
measured between losses. The precision is fp32 unless `--mixed_precision bf16` is given.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
import torch.nn.functional as F
from flags import count
from timing import cpu_seconds, row

from seg_models import objective
from seg_models.arguments import LossOptions
from seg_models.layers import resize_logits
from seg_models.losses import cross_entropy
from seg_models.models import build_model
from seg_runs import launch
from train_seg import train_step

SIZE, CLASSES = (288, 1152), 19
LOSSES = ("lovasz", "ce", "ohem", "boundary", "dice", "focal_tversky")
MARGINS = {"a network that starts": (0.0, 0.05), "one that has learnt half": (2.0, 1.5), "a sure one": (9.0, 2.0)}


def example(margin: float, noise: float, images: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits and labels of images made of blobs. The logits prefer the label by `margin`, plus smooth noise."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(images, CLASSES, 9, 18, generator=generator)
    frequency = torch.linspace(1.5, -0.5, CLASSES)[:, None, None]  # so that some classes are rare
    labels = F.interpolate(coarse + frequency, SIZE, mode="bicubic").argmax(1)
    scores = margin * F.one_hot(labels, CLASSES).movedim(-1, 1)[:, :, ::4, ::4].float()
    scores = scores + noise * torch.randn(scores.shape, generator=generator)
    return F.interpolate(scores, SIZE, mode="bilinear"), labels.to(torch.uint8)


def loss_named(name: str) -> objective.LossFunction:
    options = LossOptions(loss=name)
    return objective.loss_from_flags(options, (), [1 + 2 ** (CLASSES - i) for i in range(CLASSES)], 200)


def both_ways(loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], logits: torch.Tensor, labels: torch.Tensor):
    """Return a function that computes a loss, and its gradient in the logits."""
    logits = logits.requires_grad_()
    return lambda: torch.autograd.grad(loss(logits, labels), logits)


def stepper(name: str, num_labels: int, batch: dict[str, torch.Tensor]) -> Callable[[], object]:
    """Return a function that runs one training step of this project with cross entropy."""
    accelerator = launch.make_accelerator()
    model = build_model(name, "batch", {i: str(i) for i in range(num_labels)}).to(memory_format=torch.channels_last)
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9))
    model.train()
    return lambda: train_step(accelerator, model, [batch], objective.Criterion(cross_entropy), optimizer, None)


def batch_of(images: int, size: tuple[int, int], num_labels: int) -> dict[str, torch.Tensor]:
    pixels = torch.randint(0, 256, (images, 3, *size), dtype=torch.uint8)
    return {"pixel_values": pixels, "labels": torch.randint(0, num_labels, (images, *size), dtype=torch.uint8)}


def step(repeats: int) -> None:
    run = stepper("deeplabv3_resnet50", CLASSES, batch_of(2, SIZE, CLASSES))
    run()
    steps = [cpu_seconds(run) for _ in range(repeats)]
    for name in LOSSES:
        loss = loss_named(name)
        for network, margins in MARGINS.items():
            function = both_ways(lambda x, y: loss(x, y)[0], *example(*margins))  # noqa: B023
            taken = statistics.median(cpu_seconds(function) for _ in range(repeats))
            row(f"{name}, {network}", 1000 * taken, f"ms, {taken / statistics.median(steps):6.1%} of a step")
        steps.append(cpu_seconds(run))
    row("a step of DeepLabV3-R50 with cross entropy", 1000 * statistics.median(steps), "ms")


def peers(repeats: int) -> None:
    from segmentation_models_pytorch import losses as theirs

    pairs = {
        "lovasz": theirs.LovaszLoss("multiclass"),
        "dice": theirs.DiceLoss("multiclass"),
        "tversky": theirs.TverskyLoss("multiclass", alpha=0.3, beta=0.7),
        "focal_tversky": theirs.TverskyLoss("multiclass", alpha=0.3, beta=0.7, gamma=0.75),
    }
    for network, margins in MARGINS.items():
        logits, labels = example(*margins)
        for name, their_loss in pairs.items():
            our_loss = loss_named(name)
            mean = lambda x, y, loss=our_loss: torch.div(*loss(x, y))  # noqa: E731
            our, their = both_ways(mean, logits, labels), both_ways(their_loss, logits, labels.long())
            taken = [(cpu_seconds(our), cpu_seconds(their)) for _ in range(repeats)]
            ours, others = (statistics.median(values) for values in zip(*taken, strict=True))
            row(f"{name}, {network}", 1000 * ours, f"ms, theirs {1000 * others:8.1f} ms")
            dtype = torch.float32 if name == "lovasz" else torch.float64  # their Lovasz loss has no fp64
            exact = logits.detach().to(dtype).requires_grad_()
            value = mean(exact, labels)
            other = their_loss(exact, labels.long())
            gradient, their_gradient = (torch.autograd.grad(loss, exact)[0] for loss in (value, other))
            apart = (gradient - their_gradient).norm() / their_gradient.norm()
            print(f"    {value.item():.8f}, theirs {other.item():.8f}; gradients differ by {apart:.1e}", flush=True)


def peak_of(variant: str) -> None:
    """Print the peak memory of this process in GiB after three steps of StreetNet. `memory` calls it."""
    batch = batch_of(16, (360, 480), 11)
    if variant == "step":
        run = stepper("streetnet", 11, batch)
    else:  # the network alone, with the gradient of a sum of its small logits, or the loss alone
        model = build_model("streetnet", "batch", {i: str(i) for i in range(11)}).to(memory_format=torch.channels_last)
        small = torch.randn(16, 11, 90, 120, requires_grad=True)

        def run() -> None:
            if variant == "network":
                with torch.autocast("cpu", torch.bfloat16, enabled=os.environ["ACCELERATE_MIXED_PRECISION"] == "bf16"):
                    logits = model.train()(pixel_values=batch["pixel_values"].float()).logits
                logits.sum().backward()
            elif variant == "loss":
                cross_entropy(resize_logits(small, (360, 480)), batch["labels"])[0].backward()

    for _ in range(3):
        run()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


def memory(repeats: int) -> None:
    precision = ["--mixed_precision", os.environ["ACCELERATE_MIXED_PRECISION"]]
    for variant in ("nothing", "network", "loss", "step"):
        command = [sys.executable, __file__, "memory", "--variant", variant, *precision]
        peaks = [float(subprocess.check_output(command, text=True).split()[-1]) for _ in range(repeats)]
        row(f"peak memory: {variant}", max(peaks), "GiB")


PARTS = {"step": step, "peers": peers, "memory": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--repeats", type=count, default=5)
    parser.add_argument("--mixed_precision", choices=("no", "bf16"), default="no")
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ["ACCELERATE_MIXED_PRECISION"] = args.mixed_precision
    if args.variant:
        return peak_of(args.variant)
    PARTS[args.part](args.repeats)


if __name__ == "__main__":
    main()
