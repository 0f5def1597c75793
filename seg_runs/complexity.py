"""Print parameters, operations, training memory and, with --time, images per second of each network.

    python -m seg_runs.complexity                                       # every model
    python -m seg_runs.complexity segformer_b0 unet --size 375 1242 --norm evo --time --markdown
    python -m seg_runs.complexity unet_resnet50 deeplabv3plus_resnet50 --encoder convnext_tiny --output_stride 8

`seg_models/operations.py` documents what is counted. `python -m seg_runs.report` shows the mIoU of runs against their
operations.
"""

import argparse
import sys
from functools import partial

from seg_models.catalog import MODELS, OUTPUT_STRIDES
from seg_models.errors import ModelError
from seg_models.models import build_model
from seg_models.names import NORMS
from seg_models.operations import images_per_second, measure

COLUMNS = ("model", "parameters", "GMACs", "GFLOPs", "kept for backward", "images/s")


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
    parser = argparse.ArgumentParser(
        prog="python -m seg_runs.complexity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help="models to measure (default: all)")
    parser.add_argument(
        "--size",
        nargs=2,
        type=int,
        metavar=("H", "W"),
        default=(375, 1242),
        help="height and width of the image (default: 375 1242, KITTI's)",
    )
    parser.add_argument(
        "--norm", default="batch", choices=NORMS, help="norm of all layers; in SegFormer, of the head (default: batch)"
    )
    parser.add_argument("--num_labels", type=int, metavar="N", default=19, help="number of classes (default: 19)")
    parser.add_argument("--encoder", help="timm encoder to use instead of the model's")
    parser.add_argument("--output_stride", type=int, choices=OUTPUT_STRIDES, help="default: the model's")
    parser.add_argument("--time", action="store_true", help="measure images per second on this machine")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    args = parser.parse_args(argv)
    size = tuple(args.size)
    if min(size) < 1 or args.num_labels < 1:
        parser.error("--size takes a height and a width, and --num_labels 1 or more")
    try:
        print_table(args, size)
    except ModelError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
