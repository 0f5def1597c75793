"""Show a run's results: the table of classes, the learning curve and the validation pictures."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .files import write_atomically

GAP, BAR = 6, 26  # of a comparison: space around its panels, and height of its titles, in pixels
INK, PAPER = (24, 24, 27), (250, 250, 249)


def class_table(names: Sequence[str], scores: dict) -> str:
    """Return a text table with IoU and accuracy of each class, "-" where they are undefined."""
    width = max(map(len, [*names, "mean"]))
    lines = [f"{'class':<{width}}    IoU  accuracy"]
    rows = zip(names, scores["per_category_iou"], scores["per_category_accuracy"], strict=True)
    for name, iou, accuracy in rows:
        lines.append(f"{name:<{width}}  {_number(iou)}    {_number(accuracy)}")
    lines.append("-" * len(lines[0]))
    lines.append(f"{'mean':<{width}}  {_number(scores['mean_iou'])}    {_number(scores['mean_accuracy'])}")
    lines.append(f"pixel accuracy {scores['overall_accuracy']:.4f}")
    return "\n".join(lines)


def _number(value: float) -> str:
    return "   -  " if np.isnan(value) else f"{value:.4f}"


def score_summary(names: Sequence[str], scores: dict) -> dict:
    """Return the means, and IoU and accuracy by class, ready for JSON: None for nan."""

    def by_class(values: Sequence[float]) -> dict[str, float | None]:
        return {name: None if np.isnan(value) else float(value) for name, value in zip(names, values, strict=True)}

    keys = ("mean_iou", "mean_accuracy", "overall_accuracy")
    means = {key: None if np.isnan(scores[key]) else float(scores[key]) for key in keys}
    iou, accuracy = by_class(scores["per_category_iou"]), by_class(scores["per_category_accuracy"])
    return means | {"iou": iou, "accuracy": accuracy}


def plot_learning_curve(rows: list[dict], path: Path) -> None:
    """Plot loss, accuracy and mIoU over epochs to `path`, a PNG, from the rows of log_epoch.csv."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), dpi=120)
    FigureCanvasAgg(figure)
    # A layout that finds the margins itself would double the time.
    margins = {"left": 0.05, "right": 0.985, "bottom": 0.125, "top": 0.92, "wspace": 0.12}
    losses, scores = figure.subplots(1, 2, gridspec_kw=margins)
    for axes, series in (
        (losses, {"train_loss": "training", "val_loss": "validation"}),
        (
            scores,
            {
                "train_accuracy": "training accuracy",
                "val_accuracy": "validation accuracy",
                "mean_iou": "validation mIoU",
            },
        ),
    ):
        for i, (key, label) in enumerate(series.items()):
            points = [(row["epoch"], row[key]) for row in rows if row[key] is not None]
            if points:
                color = ("#9ca3af", "#2563eb", "#dc2626")[i]
                axes.plot(
                    *zip(*points, strict=True), label=label, color=color, marker="." if len(points) < 30 else None
                )
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        if len(rows) == 1:  # matplotlib would show fractions of an epoch
            axes.set_xlim(rows[0]["epoch"] - 1, rows[0]["epoch"] + 1)
    losses.margins(y=0.1)
    losses.set(title="mean loss")
    losses.set_ylim(bottom=0)
    best = max((row["mean_iou"] for row in rows if row["mean_iou"] is not None), default=None)
    scores.set(title="scores" if best is None else f"scores: best mIoU {best:.4f}", ylim=(0, 1))
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    write_atomically(path, picture.getvalue())


def text_font() -> ImageFont.FreeTypeFont:
    """Return matplotlib's font, which has the letters of most alphabets. Pillow's own lacks even a German sharp s."""
    from matplotlib import get_data_path

    return ImageFont.truetype(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", 13)


def comparison(
    rows: list[tuple[np.ndarray, ...]], titles: Sequence[str], legend: dict[str, tuple], width: int = 480
) -> Image.Image:
    """Return a picture with rows of panels side by side, titles above, and a legend of class colours below.

    Each row is a tuple of uint8 (H, W, 3), one for each title. Panels are scaled to `width` pixels: bilinearly if the
    title contains "image", else by nearest neighbour.
    """
    gap, bar = GAP, BAR
    font = text_font()
    heights = [round(width * row[0].shape[0] / row[0].shape[1]) for row in rows]
    total_width = len(titles) * (width + gap) + gap
    entries = []
    swatch = 16
    line = 24
    x = y = 0
    for name, color in legend.items():
        advance = swatch + 6 + int(font.getlength(name)) + 18
        if x + advance > total_width - 2 * gap:
            x, y = 0, y + line
        entries.append((x, y, name, tuple(color)))
        x += advance
    total_height = bar + sum(heights) + gap * len(rows) + gap + y + line + gap
    sheet = Image.new("RGB", (total_width, total_height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, title in enumerate(titles):
        draw.text((gap + i * (width + gap), bar / 2), title, INK, font, anchor="lm")
    top = bar
    for row, height in zip(rows, heights, strict=True):
        for i, panel in enumerate(row):
            method = Image.Resampling.BILINEAR if "image" in titles[i] else Image.Resampling.NEAREST
            sheet.paste(Image.fromarray(panel).resize((width, height), method), (gap + i * (width + gap), top))
        top += height + gap
    for x, y, name, color in entries:
        left, up = gap + x, top + gap + y
        draw.rectangle((left, up, left + swatch, up + swatch), fill=color, outline=INK)
        draw.text((left + swatch + 6, up + swatch / 2), name, INK, font, anchor="lm")
    return sheet


def panels(sheet: Image.Image, columns: int) -> list[tuple[np.ndarray, ...]]:
    """Return the rows of panels of a `comparison` with that many columns, uint8 (h, w, 3) each: the inverse of it.

    Returns what can be recognised: an empty list for any other picture.
    """
    pixels = np.asarray(sheet.convert("RGB"))
    width = (pixels.shape[1] - GAP) // columns - GAP
    if width < 1 or (width + GAP) * columns + GAP != pixels.shape[1]:
        return []
    lefts = [GAP + i * (width + GAP) for i in range(columns)]
    is_paper = (pixels == PAPER).all(-1)
    empty = is_paper.all(1)
    rows = []
    top = BAR
    while top < len(pixels) and all(is_paper[top, left : left + width].mean() < 0.5 for left in lefts):
        ends = np.flatnonzero(empty[top:])
        bottom = top + (int(ends[0]) if len(ends) else len(pixels) - top)
        rows.append(tuple(pixels[top:bottom, left : left + width] for left in lefts))
        top = bottom + GAP
    return rows
