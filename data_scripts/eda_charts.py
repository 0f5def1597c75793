"""Draw the charts of the page about a data set, as HTML and SVG."""

from collections.abc import Iterable, Sequence
from html import escape

import cv2
import numpy as np
from PIL import Image

from .class_statistics import BINS, QUANTILES
from .eda_marks import percent, png, short, split_key, swatch
from .labels import LabelInfo

LEAST_SHARE = 1e-5  # left end of the logarithmic axis of pixels


def class_bars(numbers: Sequence[dict], splits: Sequence[str], images: dict[str, int], labels: LabelInfo) -> str:
    """Return pixels and images of each class on logarithmic axes, the most frequent class first."""
    if not splits:
        return ""
    order = sorted(range(len(numbers)), key=lambda i: -numbers[i]["splits"][splits[0]]["share of labelled pixels"])
    decades = [10.0**k for k in range(round(np.log10(LEAST_SHARE)), 1)]
    pixels = [
        _bar_row(
            swatch(i, labels),
            [(split, _log_share(numbers[i]["splits"][split]["share of labelled pixels"])) for split in splits],
            _values(percent(numbers[i]["splits"][split]["share of labelled pixels"]) for split in splits),
            len(decades) - 1,
        )
        for i in order
    ]
    largest = max(2, *(images[split] for split in splits))
    counts = [
        _bar_row(
            swatch(i, labels),
            [(split, _log_count(numbers[i]["splits"][split]["images"], largest)) for split in splits],
            _values(f"{numbers[i]['splits'][split]['images']:,}" for split in splits),
            0,
        )
        for i in order
    ]
    ticks = [(1 + np.log10(value) / -np.log10(LEAST_SHARE), percent(value)) for value in decades]
    powers = [10**k for k in range(int(np.log10(largest)) + 1)]
    return (
        "<h2>How much of each class</h2><p class='soft'>Both axes are logarithmic: each step is ten times as much.</p>"
        f'{split_key(splits)}<div class="two"><div class="card"><h3>Share of the labelled pixels</h3>{"".join(pixels)}'
        f'{_axis(ticks)}</div><div class="card"><h3>Images that show it</h3>{"".join(counts)}'
        f"{_axis([(_log_count(value, largest), f'{value:,}') for value in powers])}</div></div>"
    )


def _log_share(share: float) -> float:
    return 0.0 if share <= 0 else max(0.01, 1 + np.log10(share) / -np.log10(LEAST_SHARE))


def _log_count(count: int, largest: int) -> float:
    """Return where a count lies on the axis, 0 to 1: one image is not at its very left, so that it can be seen."""
    return 0.0 if count <= 0 else float((np.log10(count) + 0.15) / (np.log10(largest) + 0.15))


def _values(texts: Iterable[str]) -> str:
    """Return the values of the splits, which may stand in several lines."""
    return " / ".join(text.replace(" ", "\N{NO-BREAK SPACE}") for text in texts)


def _bar_row(name: str, bars: Sequence[tuple[str, float]], value: str, decades: int) -> str:
    drawn = "".join(
        f'<div class="bar {split}" style="width:{100 * length:.1f}%"></div>' if length else '<div class="bar"></div>'
        for split, length in bars
    )
    grid = _grid(decades) if decades else ""
    return f'<div class="row">{name}<div class="track"{grid}>{drawn}</div><span>{escape(value)}</span></div>'


def _grid(decades: int) -> str:
    """Return the attribute that draws a line at the beginning of each decade."""
    line = "linear-gradient(to right,var(--line) 1px,transparent 1px)"
    return f' style="background-image:{line};background-size:{100 / decades:.3f}% 100%"'


def _axis(ticks: Sequence[tuple[float, str]]) -> str:
    marks = "".join(f'<span style="left:{100 * place:.1f}%">{escape(text)}</span>' for place, text in ticks)
    return f'<div class="row axis"><span></span><div class="ticks">{marks}</div><span></span></div>'


def position_maps(maps: np.ndarray, labels: LabelInfo, aspect: float) -> str:
    """Return a heat map for each class that occurs. `aspect` is the width of a typical image divided by its height."""
    figures = []
    for train_id in np.flatnonzero(maps.reshape(len(maps), -1).sum(1)).tolist():
        largest = float(maps[train_id].max())
        shades = np.rint(255 * maps[train_id] / largest).astype(np.uint8)
        colored = cv2.cvtColor(cv2.applyColorMap(shades, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
        figures.append(
            f'<figure><img src="{png(Image.fromarray(colored))}" alt="where {escape(labels.names[train_id])} lies" '
            f'style="aspect-ratio:{aspect:.3f}"><figcaption>{swatch(train_id, labels)}'
            f'<span class="soft small">up to {percent(largest)} of the images</span></figcaption></figure>'
        )
    if not figures:
        return ""
    return (
        "<h2>Where each class lies</h2><p class='soft'>How often a class covers each place of the image. Each map has "
        f"its own scale: bright is that class's most frequent place.</p><div class='card maps'>{''.join(figures)}</div>"
    )


def region_boxes(numbers: Sequence[dict], splits: Sequence[str], labels: LabelInfo) -> str:
    """Return the sizes of connected regions of each class, as boxes on a logarithmic axis."""
    every = [
        entry["splits"][split]["region size, quantiles"]
        for entry in numbers
        for split in splits
        if entry["splits"][split]["regions"]
    ]
    if not every:
        return ""
    decades = int(np.ceil(np.log10(max(10, *(quantiles[-1] for quantiles in every)))))
    rows = []
    for train_id, entry in enumerate(numbers):
        found = [(split, entry["splits"][split]["region size, quantiles"]) for split in splits]
        if not any(quantiles for _, quantiles in found):  # the class does not occur
            continue
        boxes = "".join(_box(split, [np.log10(size) / decades for size in q]) for split, q in found if q)
        medians = _values(f"{quantiles[2]:,.0f} px" if quantiles else "-" for _, quantiles in found)
        rows.append(
            f'<div class="row">{swatch(train_id, labels)}<div class="track"{_grid(decades)}>{boxes}</div>'
            f"<span>{medians}</span></div>"
        )
    ticks = [(k / decades, short(10**k)) for k in range(decades + 1)]
    least, most = (f"{100 * QUANTILES[i]:.0f}" for i in (0, -1))
    return (
        "<h2>How large the regions are</h2><p class='soft'>Pixels of each connected region, on a logarithmic axis. The "
        "mark is the median, the box holds the middle half, and the line reaches from the "
        f"{least}th to the {most}th percentile.</p>"
        f'{split_key(splits)}<div class="card">{"".join(rows)}{_axis(ticks)}</div>'
    )


def _box(split: str, places: Sequence[float]) -> str:
    low, first, middle, third, high = (100 * place for place in places)
    return (
        f'<div class="box"><i class="{split}" style="left:{low:.1f}%;width:{high - low:.1f}%"></i>'
        f'<b class="{split}" style="left:{first:.1f}%;width:{max(0.6, third - first):.1f}%"></b>'
        f'<u class="{split}" style="left:{middle:.1f}%"></u></div>'
    )


def co_occurrence_table(together: np.ndarray, labels: LabelInfo) -> str:
    """Return, for each pair of classes, how many of the images with the first show the second too.

    together  images that show both, int (C, C)
    """
    shown = np.flatnonzero(np.diag(together)).tolist()
    if not shown:
        return ""
    head = "".join(f"<th>{escape(labels.names[i])}</th>" for i in shown)
    rows = ""
    for i in shown:
        cells = ""
        for j in shown:
            share = together[i, j] / together[i, i]
            text = f"{100 * share:.0f}" if share else ""
            shade = f"color-mix(in srgb, var(--train) {50 * share:.0f}%, transparent)"
            title = f"{together[i, j]:,} of {together[i, i]:,} images with {labels.names[i]} show {labels.names[j]}"
            cells += f'<td style="background:{shade}" title="{escape(title)}">{text}</td>'
        rows += f"<tr><th>{swatch(i, labels)}</th>{cells}</tr>"
    return (
        "<h2>What occurs together</h2><p class='soft'>Of the images that show the class of the row, the per cent that "
        "also show the class of the column.</p>"
        f"<div class='card scroll'><table class='matrix'><thead><tr><td></td>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def histogram(splits: dict[str, dict]) -> str:
    """Return the brightness of the splits as steps, each scaled to its number of images."""
    width, height = 480, 190
    shares = {
        split: np.array(entry["brightness, histogram"]) / max(1, sum(entry["brightness, histogram"]))
        for split, entry in splits.items()
    }
    largest = max(float(share.max()) for share in shares.values()) or 1.0
    drawn = ""
    for split, share in shares.items():
        points = f"0,{height} " + " ".join(
            f"{width * (k + side) / BINS:.1f},{height - (height - 12) * value / largest:.1f}"
            for k, value in enumerate(share.tolist())
            for side in (0, 1)
        )
        drawn += (
            f'<polygon points="{points} {width},{height}" fill="var(--{split})" fill-opacity=".16" '
            f'stroke="var(--{split})" stroke-width="1.8" stroke-linejoin="round"/>'
        )
    line = f'<line x1="0" y1="{height}" x2="{width}" y2="{height}" stroke="var(--line)"/>'
    chart = f'<svg viewBox="-2 0 {width + 4} {height + 2}" role="img" aria-label="brightness by split">'
    ends = '<div class="ends axis"><span>black</span><span>grey</span><span>white</span></div>'
    return f"{split_key(list(splits))}{chart}{line}{drawn}</svg>{ends}"
