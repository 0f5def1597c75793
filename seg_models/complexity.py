"""What each network costs: parameters, operations, memory for training and, on request, images a second.

    python -m seg_models.complexity                                       # every model
    python -m seg_models.complexity segformer_b0 unet --size 375 1242 --norm evo --time --markdown
    python -m seg_models.complexity unet_resnet50 deeplabv3plus_resnet50 --encoder convnext_tiny --output_stride 8
    python -m seg_models.complexity --runs runs/* --plot miou_flops.png   # validation mIoU of runs against operations

Operations are torch's count, of convolutions and matrix products of one forward pass of one image, and nothing else; a
multiplication with its addition is one MAC and two FLOPs. SegFormer's heads (short_heads.py) are counted as
published. Memory is what a forward pass in float32 keeps for backward.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForSemanticSegmentation

from seg_models.catalog import MODELS
from seg_models.errors import ModelError
from seg_models.models import build_model
from seg_models.predictor import refuse_smaller, smallest_side
from seg_models.short_heads import shorten_heads

COLUMNS = ("model", "parameters", "GMACs", "GFLOPs", "kept for backward", "images/s")


def measure(build: Callable[[], torch.nn.Module], size: tuple[int, int]) -> dict[str, float]:
    """parameters, macs, flops, and bytes kept for backward, of the network that `build` makes, for one image of `size`
    (H, W); nothing is computed."""
    with torch.device("meta"):
        model, images = build(), torch.empty(1, 3, *size)
        refuse_smaller("--size", size, smallest_side(model))
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.eval()(images)
        own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
        kept = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in own:
                kept[storage._cdata] = storage  # held, so that no other can take its place
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = model.train()(torch.empty(2, 3, *size))  # of two: batch norm refuses one value per channel
    flops, memory = counter.get_total_flops(), sum(storage.nbytes() for storage in kept.values()) / 2
    del output
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"parameters": parameters, "macs": flops / 2, "flops": flops, "memory": memory}


def images_per_second(build: Callable[[], torch.nn.Module], size: tuple[int, int], repeats: int = 5) -> float:
    """Of single images, as a `Predictor` has them, on the GPU if there is one, in float32: the best of `repeats`."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = build().to(device).eval()
    shorten_heads(model, in_eval=True)
    images, best = torch.randn(1, 3, *size, device=device), float("inf")
    with torch.no_grad():
        for _ in range(repeats + 1):
            begun = time.perf_counter()
            model(images).logits.sum().item()
            best = min(best, time.perf_counter() - begun)
    return 1 / best


def plot(runs: list[str], size: tuple[int, int], path: str) -> None:
    """Validation mIoU of complete runs against the operations of their networks."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    points = []
    for run in runs:
        try:
            with open(os.path.join(run, "results.json")) as results, open(os.path.join(run, "args.yaml")) as args:
                score = json.load(results)["best_mean_iou"]
                flags = yaml.safe_load(args)
            config = AutoConfig.from_pretrained(os.path.join(run, "best"), local_files_only=True)
        except OSError:
            continue
        if score is not None:
            cost = measure(partial(AutoModelForSemanticSegmentation.from_config, config), size)
            name = flags["model"] + (f" ({flags['encoder']})" if flags.get("encoder") else "")
            points.append((cost["flops"] / 1e9, score, name))
    if not points:
        raise ModelError("--runs: no complete run with a validation score")
    figure = Figure(figsize=(7, 5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set(xscale="log", xlabel=f"GFLOPs of an image of {size[0]}x{size[1]}", ylabel="validation mIoU")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.1, y=0.1)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.scatter(*zip(*[point[:2] for point in points], strict=True), color="#2563eb")
    fewest, most = min(points)[0], max(points)[0]
    for flops, score, name in points:  # names stay inside: to the left of points in the right half
        offset, side = ((-6, 4), "right") if flops**2 > fewest * most else ((6, 4), "left")
        axes.annotate(name, (flops, score), textcoords="offset points", xytext=offset, ha=side, fontsize=8)
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:  # no such folder; no such format
        raise ModelError(f"--plot {path} cannot be written: {error}") from error


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="all if none is given")
    parser.add_argument("--size", nargs=2, type=int, default=(375, 1242), help="height and width; by default KITTI's")
    parser.add_argument("--norm", default="batch")
    parser.add_argument("--num_labels", type=int, default=19)
    parser.add_argument("--encoder", help="of timm's, instead of the model's own")
    parser.add_argument("--output_stride", type=int, choices=(8, 16), help="instead of the model's own")
    parser.add_argument("--time", action="store_true", help="measure images a second on this machine")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--runs", nargs="+", help="run folders, for --plot")
    parser.add_argument("--plot", help="a PNG of mIoU against operations")
    args = parser.parse_args(argv)
    size = tuple(args.size)
    if min(size) < 1 or args.num_labels < 1:
        parser.error("--size takes a height and a width, and --num_labels 1 or more")
    try:
        if bool(args.runs) != bool(args.plot):
            raise ModelError("--runs and --plot go together")
        if args.runs:
            return plot(args.runs, size, args.plot)
        print(
            f"one image of {size[0]}x{size[1]}, --norm {args.norm}; 1 MAC = 2 FLOPs; convolutions and products only, "
            "SegFormer's head as published\n"
        )
        line = (
            "| {:<24} | {:>10} | {:>8} | {:>8} | {:>17} | {:>8} |"
            if args.markdown
            else "{:<24} {:>10} {:>8} {:>8} {:>17} {:>8}"
        )
        print(line.format(*COLUMNS))
        if args.markdown:
            print("|---" * len(COLUMNS) + "|")
        for name in args.models or MODELS:
            options = {"encoder": args.encoder, "output_stride": args.output_stride}
            build = partial(build_model, name, args.norm, {i: str(i) for i in range(args.num_labels)}, **options)
            try:
                cost = measure(build, size)
            except ModelError as error:
                if args.models:
                    raise
                print(f"{name}: {error}", file=sys.stderr)
                continue
            speed = f"{images_per_second(build, size):.2f}" if args.time else ""
            row = f"{cost['parameters'] / 1e6:.2f} M", f"{cost['macs'] / 1e9:.2f}", f"{cost['flops'] / 1e9:.2f}"
            print(line.format(name, *row, f"{cost['memory'] / 2**20:.0f} MiB", speed), flush=True)
    except ModelError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
