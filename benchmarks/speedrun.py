"""Compare the mIoU that a few minutes of training on this machine give: our recipe and two usual ones, from scratch.

    python benchmarks/speedrun.py --dataset_path camvid --minutes 10 --out runs/speedrun
    python benchmarks/speedrun.py --dataset_path camvid --minutes 10 --out runs/speedrun --fold T

ours       recipes/camvid_speedrun.yaml
deeplabv3  torchvision's DeepLabV3-R50 with the settings of its reference script: SGD 0.01, poly, auxiliary loss 0.5,
           8 images per step, scale 0.5 to 2, mirror
segformer  transformers' SegFormer-B0 with the settings of its example script: AdamW 5e-5, linear decay (here poly
           with power 0.9), 8 images per step, crops at native size, mirror

The program first times a few steps, and derives the number of steps from --minutes. Checkpoints take extra time. All
three runs use the same training loop, which is no slower than the peers' own (docs/benchmarks.md). The minutes in the
table include the one validation at the end.
"""

import argparse
from pathlib import Path

import numpy as np
from ablation import ROOT, launch, validation_counts

from benchmarks.flags import FOLDS, PRECISIONS, existing_folder, positive
from metrics.intervals import interval, mean_iou
from seg_runs.epoch_rows import read_rows

PEERS = {
    "deeplabv3": "--model deeplabv3_resnet50 --batch_size 8 --lr_scheduler_type poly --aux_weight 0.5 "
    "--scale_range 0.5 2.0 --colorjitter_factor 0",
    "segformer": "--model segformer_b0 --batch_size 8 --learning_rate 5e-5 --warmup_steps 0 --weight_decay 0 "
    "--scale_range 1.0 1.0 --colorjitter_factor 0",
}
SHORT, LONG = 4, 14  # steps of the two timed runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_path", type=existing_folder, required=True, help="CamVid")
    parser.add_argument("--out", type=Path, required=True, help="folder for the run folders")
    parser.add_argument("--minutes", type=positive, required=True)
    parser.add_argument(
        "--fold",
        choices=FOLDS,
        help="validate on a fold of recipes/camvid_folds.json (default: on val)",
    )
    parser.add_argument("--only", nargs="+", choices=["ours", *PEERS])
    parser.add_argument("--mixed_precision", choices=PRECISIONS, default="no")
    args = parser.parse_args()
    common = ["--dataset", "camvid", "--select", "last", "--num_workers", "1"]
    runs = {"ours": [ROOT / "recipes" / "camvid_speedrun.yaml"]}
    runs |= {name: [*flags.split(), *common] for name, flags in PEERS.items()}
    table = ["| run | steps | minutes | mIoU | 95 % interval |", "|---|---|---|---|---|"]
    for name in args.only or runs:
        steps = max(1, round(60 * args.minutes / seconds_per_step(name, runs[name], args)))
        folder = args.out / f"{name}_{args.fold or 'val'}"
        train(runs[name], folder, steps, fold_flags(args), args)
        launch("predict_seg.py", "--model_name_or_path", folder, "--splits", "val", precision=args.mixed_precision)
        counts = validation_counts(folder, args.dataset_path)
        low, high = interval(counts)
        minutes = sum(row["seconds"] for row in read_rows(folder / "log_epoch.csv")) / 60
        score = mean_iou(counts.sum(0))
        table.append(f"| {name} | {steps} | {minutes:.1f} | {score:.4f} | {low:.3f} to {high:.3f} |")
    print("\n".join(table))


def fold_flags(args: argparse.Namespace) -> list:
    return ["--folds", ROOT / "recipes" / "camvid_folds.json", "--fold", args.fold] if args.fold else []


def seconds_per_step(name: str, flags: list, args: argparse.Namespace) -> float:
    """Return the seconds of a step: the difference of a long and a short run, so that start-up does not count."""
    seconds = []
    for steps in (SHORT, LONG):
        folder = args.out / f"timing_{name}_{steps}"
        train(flags, folder, steps, ["--train_on", "train+val"], args)
        seconds.append(sum(row["seconds"] for row in read_rows(folder / "log_epoch.csv")))
    difference = float(np.diff(seconds)[0]) / (LONG - SHORT)
    return difference if difference > 0 else seconds[1] / LONG  # other work disturbed the timing


def train(flags: list, folder: Path, steps: int, more: list, args: argparse.Namespace) -> None:
    """Train for `steps` steps in `folder`, and validate once at the end if there are validation images."""
    length = ["--max_train_steps", steps, "--eval_every", steps]
    where = ["--dataset_path", args.dataset_path, "--output_dir", folder, "--overwrite_output_dir"]
    launch("train_seg.py", *flags, *more, *length, *where, precision=args.mixed_precision)


if __name__ == "__main__":
    main()
