"""Plots of a score: the confusion matrix and the reliability of the confidences, as PIL images."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from .calibration_error.reliability import expected_calibration_error
from .figures import row_shares

BLUE, GREY = "#1f6fd6", "#8a8782"


def confusion_plot(counts: np.ndarray, names: Sequence[str]) -> Image.Image:
    """Draw a confusion matrix (C, C) in per cent of each row: of the pixels with this label, what was predicted."""
    shares = 100 * row_shares(counts)
    side = max(4.5, 1.9 + 0.47 * len(names))
    figure = Figure(figsize=(side + 0.4, side), layout="constrained", dpi=130)
    axes = figure.add_subplot()
    axes.imshow(np.sqrt(np.nan_to_num(shares)), cmap="Blues", vmin=0, vmax=10)  # the root shows small shares too
    size = 8 if len(names) <= 24 else 5.5
    for (row, column), share in np.ndenumerate(shares):
        if np.isnan(share) or share < 0.05:
            continue
        text = f"{share:.0f}" if share >= 9.95 else f"{share:.1f}"
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color="white" if share > 45 else "#222")
    labelled = counts.sum(1) > 0
    axes.set_yticks(
        range(len(names)), [n if known else f"{n} (none)" for n, known in zip(names, labelled, strict=True)]
    )
    axes.set_xticks(range(len(names)), names, rotation=90 if len(names) > 6 else 45)
    axes.tick_params(length=0, labelsize=9)
    axes.set_xlabel("predicted")
    axes.set_ylabel("label")
    axes.set_title("Of the pixels of each label, % predicted as", fontsize=11)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return _drawn(figure)


def reliability_plot(counts: np.ndarray) -> Image.Image:
    """Draw accuracy against confidence, and the share of the pixels in each bin, from `reliability_counts` (B, 3)."""
    pixels, confidence, correct = counts.T
    known = pixels > 0
    bins = len(counts)
    figure = Figure(figsize=(5, 5.6), layout="constrained", dpi=130)
    upper, lower = figure.subplots(2, 1, height_ratios=(3.4, 1), sharex=True)
    edges = np.arange(bins) / bins
    accuracy = np.divide(correct, pixels, out=np.zeros(bins), where=known)
    upper.bar(edges[known], accuracy[known], 1 / bins, align="edge", color=BLUE, edgecolor="white", label="accuracy")
    upper.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1.2, label="accuracy = confidence")
    mean = np.divide(confidence, pixels, out=np.zeros(bins), where=known)
    upper.scatter(mean[known], accuracy[known], s=14, color="#16202b", zorder=3, label="mean of the bin")
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    upper.set_title(f"Expected calibration error {100 * expected_calibration_error(counts):.2f} %", fontsize=11)
    upper.legend(loc="best", framealpha=0.9, fontsize=9)
    lower.bar(edges, 100 * pixels / max(1, pixels.sum()), 1 / bins, align="edge", color=GREY, edgecolor="white")
    lower.set(xlabel="confidence", ylabel="% of pixels")
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    return _drawn(figure)


def _drawn(figure: Figure) -> Image.Image:
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    return Image.open(file, formats=["PNG"]).convert("RGB")
