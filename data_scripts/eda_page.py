"""Write what a survey found as one HTML page that needs no other file, no network and no library.

Every text that comes from a data set (names of classes and files) passes through `html.escape`.
"""

import base64
import io
from collections.abc import Sequence
from html import escape

import cv2
import numpy as np
from PIL import Image

from .eda_charts import histogram
from .eda_marks import dot, percent, png, swatch
from .findings import Finding
from .labels import LabelInfo
from .reader import read_image, read_label
from .survey import Row

WIDTH, SMALL = 560, 280  # of a picture and of a small one, in pixels
LEVELS = {"error": "must be repaired", "warning": "look at this", "note": "good to know"}

STYLE = """
:root { --train: #2f6fde; --val: #e07b1a; --test: #7d8793; --error: #c62f2f; --warning: #8f5e00; --note: #5c7285;
  --mask: .55; }
@media (prefers-color-scheme: dark) { :root { --train: #6ea3ff; --val: #ffab57; --test: #97a1ad; --error: #ff7b72;
  --warning: #f0b840; --note: #9ab2c6; } }
h2 + .card { margin-top: 14px; }
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
.slider { display: inline-flex; gap: 10px; align-items: center; margin: 0 0 14px; font-size: 14px; }
.slider input { width: 180px; accent-color: var(--train); }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); gap: 16px; }
.sheet figure { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  overflow: hidden; } .sheet figcaption { padding: 8px 12px 11px; font-size: 12.5px; color: var(--soft); }
.sheet figcaption b { color: var(--ink); font-weight: 500; }
.stack { position: relative; display: block; } .stack img { display: block; width: 100%; height: auto; }
.stack img + img { position: absolute; inset: 0; height: 100%; opacity: var(--mask); image-rendering: pixelated; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 16px; }
.two h3, .card h3 { font-size: 15px; margin: 0 0 12px; }
.row { display: grid; grid-template-columns: minmax(76px, 26%) 1fr 96px; gap: 10px; align-items: center;
  font-size: 13.5px; padding: 3px 0; } .row > :last-child { text-align: right; font-variant-numeric: tabular-nums;
  font-size: 12.5px; line-height: 1.25; }
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
.matrix { border-collapse: separate; border-spacing: 2px; font-size: 11.5px; font-variant-numeric: tabular-nums;
  width: 100%; max-width: 900px; }
.matrix td { min-width: 30px; height: 28px; text-align: center; border-radius: 4px; padding: 0 3px; }
.matrix th { font-weight: 400; text-align: left; white-space: nowrap; }
.matrix tbody th { width: 1%; position: sticky; left: 0;
  background: var(--card); padding-right: 8px; max-width: 130px; overflow: hidden;
  text-overflow: ellipsis; z-index: 1; }
.matrix thead th { writing-mode: vertical-rl; transform: rotate(180deg); padding: 4px 0; max-height: 130px;
  overflow: hidden; text-overflow: ellipsis; }
svg { display: block; width: 100%; height: auto; } .ends { display: flex; justify-content: space-between; }
.whole { white-space: nowrap; } .swatch.wide { width: 40px; height: 18px; }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); gap: 16px; }
.pairs .side { display: grid; grid-template-columns: 1fr 1fr; gap: 4px; } .pairs img { width: 100%; display: block;
  border-radius: 6px; } .pairs figcaption { font-size: 12.5px; color: var(--soft); padding-top: 5px; }
@media (max-width: 480px) { .row { grid-template-columns: 98px 1fr 68px; gap: 8px; }
  .ticks span:nth-child(even) { display: none; } .tiles b { font-size: 22px; }
  .tiles { grid-template-columns: 1fr 1fr; } .maps { grid-template-columns: 1fr 1fr; } }
@media print { .slider { display: none; } }
"""
SCRIPT = (
    "document.getElementById('mask')?.addEventListener('input', event => "
    "document.documentElement.style.setProperty('--mask', event.target.value / 100));"
)


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
        f'<div class="legend">{"".join(swatch(i, labels, True) for i in range(len(labels.names)))}</div>'
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
            f"<tr><td class='whole'>{dot(split)} {escape(split)}</td><td>{entry['images']:,}</td>"
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
        f"<div class='card'><h3>Brightness: mean grey level of each image</h3>{histogram(splits)}</div></div>"
    )


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
    return png(picture, transparency=labels.ignore_index)
