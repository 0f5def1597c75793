"""The scores of a prediction as text for the terminal and as values for JSON, and the comparison of two models."""

import math
from collections.abc import Sequence

import numpy as np

from .intervals import interval, mean_iou

COLUMNS = {
    "iou": "IoU",
    "dice": "Dice/F1",
    "precision": "precision",
    "recall": "recall",
    "boundary_iou": "boundary IoU",
    "trimap_iou": "trimap IoU",
}
ONE_IMAGE = "no interval: there is only one image"
MEANS = {"pixel_accuracy": "pixel accuracy", "frequency_weighted_iou": "frequency-weighted IoU"}


def report(names: Sequence[str], summary: dict) -> str:
    """Return the table of the classes, the means with their interval, and the comparison, if there is one."""
    width = max(map(len, [*names, "mean"]))
    head = f"{'class':<{width}}" + "".join(f"  {title:>{_width(title)}}" for title in COLUMNS.values())
    means = summary["means"]
    rows = [(name, summary["classes"][name]) for name in names]
    mean = {key: means.get(f"mean_{key}") for key in COLUMNS} | {"recall": means["mean_accuracy"]}
    lines = [head, *(_row(name, values, width) for name, values in rows), "-" * len(head), _row("mean", mean, width)]
    low, high = summary["mean_iou_interval"]
    around = f"95 % interval over {summary['images']} images: {_percent(low)} to {_percent(high)}"
    lines.append(f"mIoU {_percent(means['mean_iou'])} ({ONE_IMAGE if summary['images'] == 1 else around})")
    lines += [f"{title} {_percent(means[key])}" for key, title in MEANS.items()]
    if "calibration_error" in summary:
        lines.append(f"expected calibration error {_percent(summary['calibration_error'])}")
    if "against" in summary:
        lines.append(summary["against"]["text"])
    return "\n".join(lines)


def _row(name: str, values: dict[str, float | None], width: int) -> str:
    cells = ("-" if values.get(key) is None else f"{values[key]:.4f}" for key in COLUMNS)
    return f"{name:<{width}}" + "".join(
        f"  {cell:>{_width(title)}}" for cell, title in zip(cells, COLUMNS.values(), strict=True)
    )


def _width(title: str) -> int:
    return max(len(title), len("0.0000"))


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"


def compare(names: Sequence[str], ours: np.ndarray, theirs: np.ndarray, repeats: int, seed: int) -> dict:
    """Return the difference of two models' mean IoU, from their confusion matrices of the same images (N, C, C).

    The interval is that of the paired bootstrap: each resampling draws the same images for both. The margin is half its
    width.
    """
    difference = float(mean_iou(ours.sum(0)) - mean_iou(theirs.sum(0)))
    if len(ours) == 1:
        nan = float("nan")
        text = f"{names[0]} - {names[1]}: {100 * difference:+.1f} points of mIoU ({ONE_IMAGE})"
        return {"models": list(names), "difference": difference, "interval": [nan, nan], "margin": nan, "text": text}
    low, high = interval(ours, theirs, repeats, seed)
    margin = (high - low) / 2
    better, worse = names if difference >= 0 else reversed(names)
    amount = f"{100 * abs(difference):.1f} +- {100 * margin:.1f} points of mIoU"
    if low > 0 or high < 0:
        text = f"{better} beats {worse} by {amount}"
    else:
        text = f"{better} and {worse} cannot be told apart: {amount}"
    bounds = sorted((100 * low, 100 * high)) if difference >= 0 else sorted((-100 * low, -100 * high))
    text += f" (95 % interval {bounds[0]:.1f} to {bounds[1]:.1f}, paired bootstrap over {len(ours)} images)"
    return {"models": list(names), "difference": difference, "interval": [low, high], "margin": margin, "text": text}


def for_json(value: object) -> object:
    """Return dicts, lists and numbers with plain floats and None for nan."""
    if isinstance(value, dict):
        return {key: for_json(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [for_json(entry) for entry in value]
    if isinstance(value, float | np.floating):
        return None if math.isnan(value) else float(value)
    return value
