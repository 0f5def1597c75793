"""The page of failures: the worst images by class, and the largest or most confident mistakes, as sections of HTML.

Maps are train ids uint8 (H, W). Every text that comes from a data set passes through `html.escape`.
"""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import cv2
import numpy as np
from PIL import Image

from .figures import iou, mean_of_known, unions

WIDTH = 480  # of a picture on the page, in pixels
PER_CLASS, MISTAKES = 3, 24  # images of each class, and mistakes, on the page
LEAST = 1e-3  # share of an image's pixels that a class or a mistake must have to be shown
PAIRS = 3  # of label and prediction whose largest region is looked at in each image
WRONG, VOID = (222, 70, 42), (150, 148, 145)  # colours of the errors: --wrong and --void of the style
CONTEXT = 0.6  # of a mistake's box, shown around it on each side
SMALLEST = 0.25  # side of the window around a mistake, as a share of the image's

STYLE = """
:root { --wrong: #de462a; --right: #dfe6e1; --void: #969491; }
@media (prefers-color-scheme: dark) { :root { --right: #27332c; } }
.warning { color: var(--wrong); } .controls { display: flex; flex-wrap: wrap; gap: 10px 18px; margin: 0 0 14px;
  font-size: 14px; } .controls label { display: inline-flex; gap: 8px; align-items: center; }
select { font: inherit; color: inherit; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: 4px 8px; max-width: 210px; }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 350px), 1fr)); gap: 16px; }
.sheet article { background: var(--card); border: 1px solid var(--line); border-radius: 12px; overflow: hidden;
  min-width: 0; } .sheet article.big { grid-column: 1 / -1; } .sheet [hidden] { display: none; }
.title { display: flex; justify-content: space-between; align-items: baseline; gap: 10px; width: 100%; font: inherit;
  font-size: 13px; color: inherit; text-align: left; border: 0; background: none; padding: 9px 12px; cursor: zoom-in; }
.big .title { cursor: zoom-out; } .title b { font-weight: 500; overflow-wrap: anywhere; }
.title span { color: var(--soft); white-space: nowrap; font-variant-numeric: tabular-nums; }
.four { display: grid; grid-template-columns: 1fr 1fr; gap: 2px; }
.four figcaption { font-size: 11.5px; color: var(--soft); padding: 1px 12px 5px; }
.view { position: relative; display: block; overflow: hidden; } .view img { display: block; width: 100%; height: auto; }
.flat { background: var(--void); } .flat img { image-rendering: pixelated; } .flat.errors { background: var(--right); }
.mark { position: absolute; border: 2px solid #fff; outline: 1px solid #000; border-radius: 3px; }
.said { margin: 0; padding: 4px 12px 10px; font-size: 13px; } .said .swatch { margin-right: 5px; }
"""
SCRIPT = """
for (const section of document.querySelectorAll('.sortable')) {
  const sheet = section.querySelector('.sheet'), order = section.querySelector('.order');
  const chosen = section.querySelector('.class');
  const update = () => {
    const cards = [...sheet.children], key = order.value, name = chosen ? chosen.value : '';
    for (const card of cards) {
      const iou = JSON.parse(card.dataset.iou || '{}');
      const value = name === '' ? +card.dataset.mean : iou[name];
      card.hidden = name !== '' && value === undefined;
      card.value = key === 'iou' ? value ?? 2 : key === 'name' ? card.dataset.name : -card.dataset[key];
      const shown = card.querySelector('.value');
      if (shown && value !== undefined) {
        const title = name === '' ? 'mIoU' : 'IoU of ' + chosen.selectedOptions[0].text;
        shown.textContent = title + ' ' + (100 * value).toFixed(1) + ' %';
      }
    }
    cards.sort((a, b) => key === 'name' ? a.value.localeCompare(b.value) : a.value - b.value);
    sheet.append(...cards);
  };
  order.addEventListener('change', update);
  if (chosen) chosen.addEventListener('change', update);
  sheet.addEventListener('click', event => {
    const title = event.target.closest('.title');
    if (title) title.setAttribute('aria-expanded', title.parentElement.classList.toggle('big'));
  });
}
"""


@dataclass(frozen=True)
class Legend:
    """Names and colours (R, G, B) of the classes, by train id."""

    names: Sequence[str]
    palette: Sequence[tuple[int, int, int]]


@dataclass(frozen=True)
class Mistake:
    """A connected region of an image with one label and one other predicted class.

    image       index of the image
    label       train id of the label
    predicted   train id of the prediction
    pixels      of the region
    share       of the image's pixels
    confidence  mean of the region, or None if it is not known
    box         (top, left, bottom, right), the last two exclusive
    """

    image: int
    label: int
    predicted: int
    pixels: int
    share: float
    confidence: float | None
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Pictures:
    """An image: its name, photo uint8 (H, W, 3), label and prediction (H, W)."""

    name: str
    photo: np.ndarray
    label: np.ndarray
    prediction: np.ndarray


def mistakes_of(
    image: int, prediction: np.ndarray, label: np.ndarray, num_labels: int, confidence: np.ndarray | None
) -> list[Mistake]:
    """Return the largest region of each of the commonest pairs of label and prediction that differ.

    Regions of less than `LEAST` of the image are left out. With a `confidence` (H, W) in 0..1, pixels count by it.
    """
    wrong = (label < num_labels) & (prediction != label)
    pairs = label[wrong].astype(np.int64) * num_labels + prediction[wrong]
    weights = np.bincount(pairs, None if confidence is None else confidence[wrong], num_labels**2)
    found = []
    for pair in np.argsort(-weights, kind="stable")[:PAIRS].tolist():
        if not weights[pair]:
            break
        true, predicted = divmod(pair, num_labels)
        mask = ((label == true) & (prediction == predicted)).astype(np.uint8)
        _, regions, facts, _ = cv2.connectedComponentsWithStats(mask)
        largest = 1 + int(facts[1:, cv2.CC_STAT_AREA].argmax())
        left, top, width, height, pixels = facts[largest].tolist()
        if pixels < LEAST * label.size:
            continue
        mean = None if confidence is None else float(confidence[regions == largest].mean())
        box = (top, left, top + height, left + width)
        found.append(Mistake(image, true, predicted, pixels, pixels / label.size, mean, box))
    return found


def worst_mistakes(mistakes: Sequence[Mistake], number: int = MISTAKES) -> list[Mistake]:
    """Return the most confident mistakes; without confidences the largest."""
    known = [mistake for mistake in mistakes if mistake.confidence is not None]
    if known:
        return sorted(known, key=lambda mistake: (-mistake.confidence, -mistake.pixels))[:number]
    return sorted(mistakes, key=lambda mistake: -mistake.share)[:number]


def worst_images(counts: np.ndarray, per_class: int = PER_CLASS) -> list[int]:
    """Return the images with the lowest IoU of each class, the lowest mean IoU first, from matrices (N, C, C).

    A class counts in an image if its label and prediction together have at least `LEAST` of the labelled pixels.
    """
    ious = image_ious(counts)
    chosen = np.flatnonzero(are_lowest(ious, per_class).any(1)).tolist()
    return sorted(chosen, key=lambda i: (mean_of_known(ious[i]), i))


def are_lowest(ious: np.ndarray, per_class: int = PER_CLASS) -> np.ndarray:
    """Return which values (N, C) are among the `per_class` lowest known ones of their class, bool (N, C)."""
    order = np.argsort(ious, axis=0, kind="stable")  # nan comes last
    return (np.argsort(order, axis=0) < per_class) & ~np.isnan(ious)


def image_ious(counts: np.ndarray) -> np.ndarray:
    """Return the IoU of each class in each image, float64 (N, C); nan where a class has too few pixels to count."""
    counted = unions(counts) >= LEAST * counts.sum((-1, -2))[:, None]
    return np.where(counted, iou(counts), np.nan)


def header(title: str, counts: np.ndarray, warning: str) -> str:
    """Return the top of the page. `counts` are the matrices (N, C, C) of all images."""
    mean = mean_of_known(iou(counts.sum(0)))
    note = f'<p class="warning">{escape(warning)}</p>' if warning else ""
    return f'<h1>{escape(title)}</h1><p class="soft">{len(counts)} images, mIoU {percent(mean)}</p>{note}'


def legend_section(legend: Legend) -> str:
    items = "".join(f"<span>{swatch(i, legend)}</span>" for i in range(len(legend.names)))
    errors = "".join(
        f'<span><i class="swatch" style="background:var(--{name})"></i>{text}</span>'
        for name, text in (("wrong", "wrong"), ("right", "right"), ("void", "no label"))
    )
    return f'<div class="legend">{items}</div><div class="legend"><b>Errors</b>{errors}</div>'


def swatch(train_id: int, legend: Legend) -> str:
    color = ",".join(map(str, legend.palette[train_id]))
    return f'<i class="swatch" style="background:rgb({color})"></i>{escape(legend.names[train_id])}'


def images_section(pictures: Sequence[Pictures], counts: np.ndarray, legend: Legend) -> str:
    """Return a card for each image, with the controls that sort them and select a class."""
    ious = image_ious(counts)
    cards = ""
    shown = set()
    for picture, row, lowest, matrix in zip(pictures, ious, are_lowest(ious), counts, strict=True):
        known = {str(i): round(float(row[i]), 4) for i in np.flatnonzero(lowest)}
        shown |= set(known)
        mean = mean_of_known(row)
        total = matrix.sum()
        wrong = float(1 - np.trace(matrix) / total) if total else 0.0
        facts = f"data-name='{escape(picture.name)}' data-mean='{mean:.4f}' data-wrong='{wrong:.4f}'"
        title = f"<b>{escape(picture.name)}</b><span class='value'>mIoU {percent(mean)}</span>"
        cards += _card(
            f"{facts} data-iou='{json.dumps(known)}'", title, _four(picture, legend), f"{percent(wrong)} wrong"
        )
    options = "".join(
        f"<option value='{i}'>{escape(name)}</option>" for i, name in enumerate(legend.names) if str(i) in shown
    )
    orders = {"iou": "IoU, lowest first", "wrong": "wrong pixels, most first", "name": "name"}
    return (
        "<section class='sortable'><h2>Worst images</h2><p class='soft'>The images in which a class has its lowest "
        f"IoU, {PER_CLASS} for each class. A class counts in an image from {100 * LEAST:g} % of its pixels. Click on a "
        "name to enlarge.</p><div class='controls'><label>Class <select class='class'><option value=''>all "
        f"classes</option>{options}</select></label>{_orders(orders)}</div><div class='sheet'>{cards}</div></section>"
    )


def mistakes_section(
    mistakes: Sequence[Mistake], pictures: Mapping[int, Pictures], legend: Legend, confident: bool
) -> str:
    """Return a card for each mistake, cut out of its image."""
    cards = ""
    for mistake in mistakes:
        picture = pictures[mistake.image]
        window = around(mistake.box, picture.label.shape)
        rows, columns = slice(window[0], window[2]), slice(window[1], window[3])
        cut = Pictures(picture.name, *(p[rows, columns] for p in (picture.photo, picture.label, picture.prediction)))
        certain = mistake.confidence or 0.0
        facts = f"data-name='{escape(picture.name)}' data-size='{mistake.share:.5f}' data-confidence='{certain:.4f}'"
        value = percent(certain) + " confident" if confident else percent(mistake.share) + " of the image"
        said = f"{swatch(mistake.label, legend)} &rarr; {swatch(mistake.predicted, legend)}, {mistake.pixels:,} pixels"
        title = f"<b>{escape(picture.name)}</b><span>{value}</span>"
        cards += _card(facts, title, _four(cut, legend, _mark(mistake.box, window)), said)
    kind = "Most confident" if confident else "Largest"
    more = "" if confident else " Predict with --save confidence to see the most confident ones."
    orders = ({"confidence": "confidence, highest first"} if confident else {}) | {"size": "size, largest first"}
    return (
        f"<section class='sortable'><h2>{kind} mistakes</h2><p class='soft'>Connected regions with one label and "
        f"another prediction, of at least {100 * LEAST:g} % of an image.{more}</p><div class='controls'>"
        f"{_orders(orders | {'name': 'name'})}</div><div class='sheet'>{cards}</div></section>"
        if mistakes
        else f"<h2>{kind} mistakes</h2><p class='soft'>No region is as large as {100 * LEAST:g} % of an image.</p>"
    )


def _orders(orders: Mapping[str, str]) -> str:
    options = "".join(f"<option value='{key}'>{text}</option>" for key, text in orders.items())
    return f"<label>Sort by <select class='order'>{options}</select></label>"


def around(box: tuple[int, int, int, int], shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return a window (top, left, bottom, right) of the shape of the image (H, W) around a box, inside the image.

    Its sides are those of the image times a factor of at least `SMALLEST`.
    """
    top, left, bottom, right = box
    factor = (1 + 2 * CONTEXT) * max((bottom - top) / shape[0], (right - left) / shape[1])
    factor = min(1.0, max(factor, SMALLEST))
    window = []
    for low, high, side in ((top, bottom, shape[0]), (left, right, shape[1])):
        length = max(1, round(factor * side), high - low)
        start = min(max(0, (low + high - length) // 2), side - length)
        window.append((start, start + length))
    return window[0][0], window[1][0], window[0][1], window[1][1]


def _mark(box: tuple[int, int, int, int], window: tuple[int, int, int, int]) -> str:
    height, width = window[2] - window[0], window[3] - window[1]
    top, left = 100 * (box[0] - window[0]) / height, 100 * (box[1] - window[1]) / width
    tall, wide = 100 * (box[2] - box[0]) / height, 100 * (box[3] - box[1]) / width
    return f'<i class="mark" style="left:{left:.1f}%;top:{top:.1f}%;width:{wide:.1f}%;height:{tall:.1f}%"></i>'


def _card(facts: str, title: str, four: str, said: str) -> str:
    button = f"<button class='title' aria-expanded='false'>{title}</button>"
    return f"<article {facts}>{button}{four}<p class='said'>{said}</p></article>"


def _four(picture: Pictures, legend: Legend, mark: str = "") -> str:
    """Return photo, label, prediction and errors side by side; `mark` lies on top of each."""
    size = _fit(picture.label.shape)
    label, prediction = (
        cv2.resize(ids, size, interpolation=cv2.INTER_NEAREST) for ids in (picture.label, picture.prediction)
    )
    valid = label < len(legend.names)
    photo = cv2.resize(picture.photo, size, interpolation=cv2.INTER_AREA)
    views = (
        ("photo", "photo", _image(_jpeg(photo), size, "photo")),
        ("label", "flat", _image(_map(np.where(valid, label, 255), legend), size, "label")),
        ("prediction", "flat", _image(_map(prediction, legend), size, "prediction")),
        ("errors", "flat errors", _errors(valid & (label != prediction), ~valid, size)),
    )
    figures = "".join(
        f'<figure><span class="view {look}">{drawn}{mark}</span><figcaption>{name}</figcaption></figure>'
        for name, look, drawn in views
    )
    return f"<div class='four'>{figures}</div>"


def _fit(shape: Sequence[int]) -> tuple[int, int]:
    """Return (width, height) of a picture of (H, W), with its longer side at most `WIDTH`."""
    scale = min(1.0, WIDTH / max(shape[:2]))
    return max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))


def _image(source: str, size: tuple[int, int], text: str) -> str:
    return f'<img src="{source}" alt="{text}" width="{size[0]}" height="{size[1]}" loading="lazy">'


def _errors(wrong: np.ndarray, unlabelled: np.ndarray, size: tuple[int, int]) -> str:
    """Return a picture of three colours: wrong, no label, and transparent where the prediction is right."""
    picture = Image.fromarray(np.where(unlabelled, 2, wrong).astype(np.uint8))
    picture.putpalette([0, 0, 0, *WRONG, *VOID])
    return _image(_png(picture, transparency=0), size, "errors")


def _map(ids: np.ndarray, legend: Legend) -> str:
    """Return train ids (h, w) in the colours of the classes; what is no class is transparent."""
    picture = Image.fromarray(ids.astype(np.uint8))
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(legend.palette)] = legend.palette
    picture.putpalette(palette.reshape(-1).tolist())
    return _png(picture, transparency=255)


def _jpeg(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=80, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _png(picture: Image.Image, **options: int) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True, **options)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def percent(share: float) -> str:
    return "-" if np.isnan(share) else f"{100 * share:.1f} %"
