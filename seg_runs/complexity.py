"""Print parameters, operations, training memory and, with --time, images per second of each network.

    python -m seg_runs.complexity                                       # every model
    python -m seg_runs.complexity segformer_b0 unet --size 375 1242 --norm evo --time --markdown
    python -m seg_runs.complexity unet_resnet50 deeplabv3plus_resnet50 --encoder convnext_tiny --output_stride 8
    python -m seg_runs.complexity --runs runs/* --plot miou_flops.png   # validation mIoU of runs against operations

`seg_models/operations.py` documents what is counted. No other module imports this program.
"""

import argparse
import json
import os
import sys
from functools import partial

import yaml
from transformers import AutoConfig, AutoModelForSemanticSegmentation

from seg_models.catalog import MODELS, OUTPUT_STRIDES
from seg_models.errors import ModelError
from seg_models.models import build_model
from seg_models.names import NORMS
from seg_models.operations import images_per_second, measure

COLUMNS = ("model", "parameters", "GMACs", "GFLOPs", "kept for backward", "images/s")


def plot(runs: list[str], size: tuple[int, int], path: str) -> None:
    """Plot the validation mIoU of complete runs against the operations of their networks for images of `size` (H, W).

    Raises `ModelError` if no run has a validation score, or if `path` cannot be written.
    """
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
    for flops, score, name in points:  # names in the right half go to the left of their points, to stay inside
        offset, side = ((-6, 4), "right") if flops**2 > fewest * most else ((6, 4), "left")
        axes.annotate(name, (flops, score), textcoords="offset points", xytext=offset, ha=side, fontsize=8)
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:  # missing folder, unknown format
        raise ModelError(f"--plot {path} cannot be written: {error}") from error


def print_table(args: argparse.Namespace, size: tuple[int, int]) -> None:
    """Print a table with one row per network, for one image of `size` (H, W).

    A network that cannot be built with the flags gets a line on stderr, or `ModelError` if the command line names it.
    """
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


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="models to measure (default: all)")
    parser.add_argument("--size", nargs=2, type=int, default=(375, 1242), help="height and width (default: KITTI's)")
    parser.add_argument("--norm", default="batch", choices=NORMS)
    parser.add_argument("--num_labels", type=int, default=19)
    parser.add_argument("--encoder", help="timm encoder to use instead of the model's")
    parser.add_argument("--output_stride", type=int, choices=OUTPUT_STRIDES, help="default: the model's")
    parser.add_argument("--time", action="store_true", help="measure images per second on this machine")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--runs", nargs="+", help="run folders, for --plot")
    parser.add_argument("--plot", help="file for a plot of mIoU against operations, instead of the table")
    args = parser.parse_args(argv)
    size = tuple(args.size)
    if min(size) < 1 or args.num_labels < 1:
        parser.error("--size takes a height and a width, and --num_labels 1 or more")
    try:
        if bool(args.runs) != bool(args.plot):
            raise ModelError("--runs and --plot go together")
        if args.runs:
            plot(args.runs, size, args.plot)
        else:
            print_table(args, size)
    except ModelError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
