"""Write what a survey found as one HTML page that needs no other file, no network and no library.

Every text that comes from a data set (names of classes and files) passes through `html.escape`.
"""

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape

import cv2
import numpy as np
from PIL import Image

from .class_statistics import BINS, QUANTILES
from .findings import Finding
from .labels import LabelInfo
from .reader import read_image, read_label
from .survey import Row

WIDTH, SMALL = 560, 280  # of a picture and of a small one, in pixels
LEAST_SHARE = 1e-5  # left end of the logarithmic axis of pixels
LEVELS = {"error": "must be repaired", "warning": "look at this", "note": "good to know"}

STYLE = """
:root { color-scheme: light dark; --paper: #faf9f7; --card: #fff; --ink: #1c1b1a; --soft: #6b6763; --line: #e5e2dd;
  --train: #2f6fde; --val: #e07b1a; --test: #7d8793; --error: #c62f2f; --warning: #b97a00; --note: #5c7285;
  --mask: .55; }
@media (prefers-color-scheme: dark) { :root { --paper: #131416; --card: #1c1e21; --ink: #ecebe9; --soft: #9c9a96;
  --line: #303338; --train: #6ea3ff; --val: #ffab57; --test: #97a1ad; --error: #ff7b72; --warning: #f0b840;
  --note: #9ab2c6; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI",
  Roboto, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: clamp(28px, 5vw, 42px); line-height: 1.15; letter-spacing: -.02em; margin: 0 0 6px; }
h2 { font-size: 22px; letter-spacing: -.01em; margin: 52px 0 6px; }
h2 + .card { margin-top: 14px; }
h1, h2, p, li, figcaption { overflow-wrap: anywhere; }
p { margin: 4px 0 16px; } .soft { color: var(--soft); } small, .small { font-size: 13px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 18px 20px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 12px; margin: 24px 0 0; }
.tiles .card { padding: 14px 18px; } .tiles b { display: block; font-size: 26px; line-height: 1.2;
  font-variant-numeric: tabular-nums; letter-spacing: -.01em; } .tiles span { color: var(--soft); font-size: 14px; }
.findings { list-style: none; margin: 0; padding: 0; }
.findings li { padding: 12px 0; border-top: 1px solid var(--line); }
.findings li:first-child { border: 0; padding-top: 0; } .findings li:last-child { padding-bottom: 0; }
.level { display: inline-block; font-size: 12px; font-weight: 600; border: 1px solid; border-radius: 99px;
  padding: 0 9px; margin-right: 8px; white-space: nowrap; }
.error { color: var(--error); } .warning { color: var(--warning); } .note { color: var(--note); }
.findings div { font-size: 14px; color: var(--soft); }
.swatch { display: inline-block; width: 12px; height: 12px; border-radius: 3px; flex: none;
  box-shadow: inset 0 0 0 1px rgb(128 128 128 / .45); }
.legend { display: flex; flex-wrap: wrap; gap: 6px 16px; font-size: 14px; margin: 0 0 14px; align-items: center; }
.legend span { display: inline-flex; gap: 6px; align-items: center; }
.slider { display: inline-flex; gap: 10px; align-items: center; margin: 0 0 14px; font-size: 14px; }
.slider input { width: 180px; accent-color: var(--train); }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); gap: 16px; }
figure { margin: 0; min-width: 0; }
.sheet figure { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  overflow: hidden; } .sheet figcaption { padding: 8px 12px 11px; font-size: 12.5px; color: var(--soft); }
.sheet figcaption b { color: var(--ink); font-weight: 500; }
.stack { position: relative; display: block; } .stack img { display: block; width: 100%; height: auto; }
.stack img + img { position: absolute; inset: 0; height: 100%; opacity: var(--mask); image-rendering: pixelated; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 16px; }
.two h3, .card h3 { font-size: 15px; margin: 0 0 12px; }
.row { display: grid; grid-template-columns: minmax(76px, 26%) 1fr 74px; gap: 10px; align-items: center;
  font-size: 13.5px; padding: 3px 0; } .row > :last-child { text-align: right; font-variant-numeric: tabular-nums;
  font-size: 12.5px; line-height: 1.25; white-space: nowrap; }
.name { display: flex; gap: 7px; align-items: center; min-width: 0; } .name span:last-child { overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; }
.track { position: relative; padding: 2px 0; background-repeat: repeat-x; }
.bar { height: 7px; border-radius: 0 4px 4px 0; margin: 1px 0; min-width: 2px; }
.axis { color: var(--soft); font-size: 11.5px; } .axis .ticks { position: relative; height: 16px; }
.axis .ticks span { position: absolute; transform: translateX(-50%); white-space: nowrap; }
.box { position: relative; height: 14px; margin: 1px 0; } .box i { position: absolute; top: 6px; height: 2px;
  border-radius: 1px; opacity: .55; } .box b { position: absolute; top: 2px; height: 10px; border-radius: 3px;
  opacity: .45; } .box u { position: absolute; top: 0; width: 3px; margin-left: -1px; height: 14px;
  border-radius: 2px; }
.train { background: var(--train); } .val { background: var(--val); } .test { background: var(--test); }
.maps { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 14px; }
.maps img { display: block; width: 100%; border-radius: 6px; } .maps figcaption { font-size: 13px; padding-top: 5px; }
.scroll { overflow-x: auto; padding-bottom: 6px; }
.matrix { border-collapse: separate; border-spacing: 2px; font-size: 11.5px; font-variant-numeric: tabular-nums;
  width: 100%; max-width: 900px; }
.matrix td { min-width: 30px; height: 28px; text-align: center; border-radius: 4px; padding: 0 3px; }
.matrix th { font-weight: 400; text-align: left; white-space: nowrap; }
.matrix tbody th { width: 1%; position: sticky; left: 0;
  background: var(--card); padding-right: 8px; max-width: 130px; overflow: hidden;
  text-overflow: ellipsis; z-index: 1; }
.matrix thead th { writing-mode: vertical-rl; transform: rotate(180deg); padding: 4px 0; max-height: 130px;
  overflow: hidden; text-overflow: ellipsis; }
.plain { border-collapse: collapse; width: 100%; font-size: 14px; } .plain th, .plain td { text-align: left;
  padding: 6px 10px 6px 0; border-top: 1px solid var(--line); vertical-align: top; }
.plain thead th { border: 0; color: var(--soft); font-weight: 400; font-size: 13px; }
.plain td { font-variant-numeric: tabular-nums; }
svg { display: block; width: 100%; height: auto; } .ends { display: flex; justify-content: space-between; }
.whole { white-space: nowrap; } .swatch.wide { width: 40px; height: 18px; }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); gap: 16px; }
.pairs .side { display: grid; grid-template-columns: 1fr 1fr; gap: 4px; } .pairs img { width: 100%; display: block;
  border-radius: 6px; } .pairs figcaption { font-size: 12.5px; color: var(--soft); padding-top: 5px; }
footer { margin-top: 56px; color: var(--soft); font-size: 13px; }
@media (max-width: 480px) { main { padding: 22px 14px 48px; } .card { padding: 14px; }
  .row { grid-template-columns: 98px 1fr 58px; gap: 8px; }
  .ticks span:nth-child(even) { display: none; } .tiles b { font-size: 22px; }
  .tiles { grid-template-columns: 1fr 1fr; } .maps { grid-template-columns: 1fr 1fr; } }
@media print { .slider { display: none; } .card, figure { break-inside: avoid; } }
"""
SCRIPT = (
    "document.getElementById('mask')?.addEventListener('input', event => "
    "document.documentElement.style.setProperty('--mask', event.target.value / 100));"
)
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def page(title: str, sections: Iterable[str]) -> str:
    """Return the HTML document. Its policy forbids the browser to load anything from elsewhere."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="generator" content="{GENERATOR}">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(section for section in sections if section)
        + f"\n</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


GENERATOR = "data_scripts.eda"


def header(title: str, where: str, tiles: Sequence[tuple[str, str]], warning: str) -> str:
    """Return the top of the page. `tiles` are (number, what it counts)."""
    cards = "".join(f'<div class="card"><b>{escape(n)}</b><span>{escape(what)}</span></div>' for n, what in tiles)
    note = f'<p class="warning">{escape(warning)}</p>' if warning else ""
    return f'<h1>{escape(title)}</h1><p class="soft">{escape(where)}</p>{note}<div class="tiles">{cards}</div>'


def findings_section(found: Sequence[Finding]) -> str:
    items = "".join(
        f'<li><span class="level {finding.level}">{LEVELS[finding.level]}</span>'
        + escape(finding.title[:1].upper() + finding.title[1:])
        + "".join(f"<div>{escape(line)}</div>" for line in finding.details)
        + (f"<div>&rarr; {escape(finding.then)}</div>" if finding.then else "")
        + "</li>"
        for finding in found
    )
    items = items or "<li>Nothing to complain about.</li>"
    return f'<h2>What stands out</h2><div class="card"><ul class="findings">{items}</ul></div>'


def contact_sheet(rows: Sequence[Row], columns: Sequence[dict], labels: LabelInfo) -> str:
    """Return pictures with their masks on top. `columns` are the undecoded files of each row."""
    if not rows:
        return ""
    figures = "".join(_figure(row, files, labels) for row, files in zip(rows, columns, strict=True))
    return (
        "<h2>Pictures and masks</h2>"
        "<p class='soft'>Chosen so that rare classes appear. Ignored pixels stay uncovered.</p>"
        '<label class="slider">Mask <input type="range" id="mask" min="0" max="100" value="55" '
        'aria-label="opacity of the masks"></label>'
        f'<div class="legend">{"".join(_swatch(i, labels, True) for i in range(len(labels.names)))}</div>'
        f'<div class="sheet">{figures}</div>'
    )


def _figure(row: Row, files: dict, labels: LabelInfo) -> str:
    image = read_image(files["image"])
    ids = labels.train_ids[read_label(files["label"], files["image"], labels.colors_of(files["label"]))]
    size = _fit(image.shape, WIDTH)
    picture = _jpeg(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    mask = _mask(cv2.resize(ids, size, interpolation=cv2.INTER_NEAREST), labels)
    pixels = row.ids[list(labels.source_ids)]
    order = [i for i in np.argsort(-pixels, kind="stable").tolist() if pixels[i]]
    named = ", ".join(labels.names[i] for i in order[:8]) + (f" and {len(order) - 8} more" if len(order) > 8 else "")
    return (
        f'<figure><span class="stack"><img src="{picture}" alt="{escape(row.name)}" width="{size[0]}" '
        f'height="{size[1]}" loading="lazy"><img src="{mask}" alt=""></span>'
        f"<figcaption><b>{escape(row.name)}</b> ({row.split})<br>{escape(named) or 'no class'}</figcaption></figure>"
    )


def class_bars(numbers: Sequence[dict], splits: Sequence[str], images: dict[str, int], labels: LabelInfo) -> str:
    """Return pixels and images of each class on logarithmic axes, the most frequent class first."""
    if not splits:
        return ""
    order = sorted(range(len(numbers)), key=lambda i: -numbers[i]["splits"][splits[0]]["share of labelled pixels"])
    decades = [10.0**k for k in range(round(np.log10(LEAST_SHARE)), 1)]
    pixels = [
        _bar_row(
            _swatch(i, labels),
            [(split, _log_share(numbers[i]["splits"][split]["share of labelled pixels"])) for split in splits],
            percent(numbers[i]["splits"][splits[0]]["share of labelled pixels"]),
            len(decades) - 1,
        )
        for i in order
    ]
    largest = max(2, *(images[split] for split in splits))
    counts = [
        _bar_row(
            _swatch(i, labels),
            [(split, _log_count(numbers[i]["splits"][split]["images"], largest)) for split in splits],
            " / ".join(f"{numbers[i]['splits'][split]['images']:,}" for split in splits),
            0,
        )
        for i in order
    ]
    ticks = [(1 + np.log10(value) / -np.log10(LEAST_SHARE), percent(value)) for value in decades]
    powers = [10**k for k in range(int(np.log10(largest)) + 1)]
    return (
        "<h2>How much of each class</h2><p class='soft'>Both axes are logarithmic: each step is ten times as much.</p>"
        f'{_key(splits)}<div class="two"><div class="card"><h3>Share of the labelled pixels</h3>{"".join(pixels)}'
        f'{_axis(ticks)}</div><div class="card"><h3>Images that show it</h3>{"".join(counts)}'
        f"{_axis([(_log_count(value, largest), f'{value:,}') for value in powers])}</div></div>"
    )


def _log_share(share: float) -> float:
    return 0.0 if share <= 0 else max(0.01, 1 + np.log10(share) / -np.log10(LEAST_SHARE))


def _log_count(count: int, largest: int) -> float:
    """Return where a count lies on the axis, 0 to 1: one image is not at its very left, so that it can be seen."""
    return 0.0 if count <= 0 else float((np.log10(count) + 0.15) / (np.log10(largest) + 0.15))


def _bar_row(name: str, bars: Sequence[tuple[str, float]], value: str, decades: int) -> str:
    drawn = "".join(
        f'<div class="bar {split}" style="width:{100 * length:.1f}%"></div>' if length else '<div class="bar"></div>'
        for split, length in bars
    )
    grid = ""
    if decades:
        line = "linear-gradient(to right,var(--line) 1px,transparent 1px)"
        grid = f' style="background-image:{line};background-size:{100 / decades:.3f}% 100%"'
    return f'<div class="row">{name}<div class="track"{grid}>{drawn}</div><span>{escape(value)}</span></div>'


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
            f'<figure><img src="{_png(Image.fromarray(colored))}" alt="where {escape(labels.names[train_id])} lies" '
            f'style="aspect-ratio:{aspect:.3f}"><figcaption>{_swatch(train_id, labels)}'
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
        boxes, first = "", None
        for split in splits:
            quantiles = entry["splits"][split]["region size, quantiles"]
            first = quantiles if first is None else first
            boxes += _box(split, [np.log10(size) / decades for size in quantiles]) if quantiles else ""
        if first is None:  # the class does not occur
            continue
        line = "linear-gradient(to right,var(--line) 1px,transparent 1px)"
        grid = f'style="background-image:{line};background-size:{100 / decades:.3f}% 100%"'
        rows.append(
            f'<div class="row">{_swatch(train_id, labels)}<div class="track" {grid}>{boxes}</div>'
            f"<span>{first[2]:,.0f} px</span></div>"
        )
    ticks = [(k / decades, _short(10**k)) for k in range(decades + 1)]
    least, most = (f"{100 * QUANTILES[i]:.0f}" for i in (0, -1))
    return (
        "<h2>How large the regions are</h2><p class='soft'>Pixels of each connected region, on a logarithmic axis. The "
        "mark is the median, the box holds the middle half, and the line reaches from the "
        f"{least}th to the {most}th percentile.</p>"
        f'{_key(splits)}<div class="card">{"".join(rows)}{_axis(ticks)}</div>'
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
            shade = f"color-mix(in srgb, var(--train) {75 * share:.0f}%, transparent)"
            title = f"{together[i, j]:,} of {together[i, i]:,} images with {labels.names[i]} show {labels.names[j]}"
            cells += f'<td style="background:{shade}" title="{escape(title)}">{text}</td>'
        rows += f"<tr><th>{_swatch(i, labels)}</th>{cells}</tr>"
    return (
        "<h2>What occurs together</h2><p class='soft'>Of the images that show the class of the row, the per cent that "
        "also show the class of the column.</p>"
        f"<div class='card scroll'><table class='matrix'><thead><tr><td></td>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def images_section(splits: dict[str, dict]) -> str:
    """Return sizes of the images and their brightness, by split. `splits` are those of `split_numbers`."""
    rows = ""
    for split, entry in splits.items():
        sizes = list(entry["sizes, height x width"].items())
        listed = ", ".join(f"{size} ({count:,})" for size, count in sizes[:4])
        listed += f" and {len(sizes) - 4} other sizes" if len(sizes) > 4 else ""
        color = entry["mean color"]
        swatch = f'<i class="swatch wide" style="background:rgb({",".join(map(str, color))})"></i>' if color else ""
        labelled = entry["share of labelled pixels"]
        rows += (
            f"<tr><td class='whole'>{_dot(split)} {escape(split)}</td><td>{entry['images']:,}</td>"
            f"<td>{entry['different scenes']:,}</td><td>{escape(listed)}</td>"
            f"<td>{percent(labelled) if labelled is not None else '-'}</td>"
            f"<td>{swatch}</td></tr>"
        )
    head = "".join(
        f"<th>{text}</th>"
        for text in ("split", "images", "different scenes", "height x width", "pixels with a class", "mean colour")
    )
    return (
        "<h2>The images</h2><p class='soft'>Near-duplicates count as one scene. If the splits differ in brightness, a "
        "score on one says less about the other.</p>"
        "<div class='two'><div class='card'><h3>Sizes</h3><div class='scroll'><table class='plain'>"
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></div>"
        f"<div class='card'><h3>Brightness: mean grey level of each image</h3>{_histogram(splits)}</div></div>"
    )


def _histogram(splits: dict[str, dict]) -> str:
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
    return f"{_key(list(splits))}{chart}{line}{drawn}</svg>{ends}"


def pairs_section(title: str, text: str, pairs: Sequence[tuple[Sequence[dict], str]]) -> str:
    """Return small pictures side by side. `pairs` are (undecoded images, caption)."""
    if not pairs:
        return ""
    figures = ""
    for images, caption in pairs:
        small = "".join(f'<img src="{_small(image)}" alt="" loading="lazy">' for image in images)
        figures += f'<figure><div class="side">{small}</div><figcaption>{escape(caption)}</figcaption></figure>'
    return f'<h2>{escape(title)}</h2><p class="soft">{escape(text)}</p><div class="card pairs">{figures}</div>'


def _small(file: dict) -> str:
    image = read_image(file)
    return _jpeg(cv2.resize(image, _fit(image.shape, SMALL), interpolation=cv2.INTER_AREA))


def _fit(shape: Sequence[int], width: int) -> tuple[int, int]:
    """Return the (width, height) of a picture of `shape` (H, W, ...) reduced to `width`; a tall one to that height."""
    scale = min(1.0, width / max(shape[0], shape[1]))
    return max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))


def _jpeg(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=82, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _mask(train_ids: np.ndarray, labels: LabelInfo) -> str:
    """Return train ids (h, w) as a palette PNG in which ignored pixels are transparent."""
    picture = Image.fromarray(train_ids)
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(labels.palette)] = labels.palette
    picture.putpalette(palette.reshape(-1).tolist())
    return _png(picture, transparency=labels.ignore_index)


def _png(picture: Image.Image, **options: int) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True, **options)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _swatch(train_id: int, labels: LabelInfo, in_legend: bool = False) -> str:
    """Return a class's colour and name."""
    red, green, blue = labels.palette[train_id]
    name = escape(labels.names[train_id])
    box = f'<i class="swatch" style="background:rgb({red},{green},{blue})"></i>'
    if in_legend:
        return f"<span>{box}{name}</span>"
    return f'<span class="name" title="{name}">{box}<span>{name}</span></span>'


def _dot(split: str) -> str:
    return f'<i class="swatch {escape(split)}"></i>'


def _key(splits: Sequence[str]) -> str:
    if len(splits) < 2:
        return ""
    return '<div class="legend">' + "".join(f"<span>{_dot(split)}{escape(split)}</span>" for split in splits) + "</div>"


def percent(share: float) -> str:
    """Return a share as per cent with two significant digits."""
    value = 100 * share
    if not value:
        return "-"
    return f"{value:.0f} %" if value >= 10 else f"{value:.2g} %" if value >= 0.001 else "< 0.001 %"


def _short(number: int) -> str:
    for size, letter in ((10**6, "M"), (1000, "k")):
        if number >= size:
            return f"{number // size}{letter}"
    return str(number)
