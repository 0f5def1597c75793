"""The result view of the app: a photo with its classes on top, aligned to the pixel, and what can be asked of it.

The browser gets the photo, a grey PNG of class numbers and two of confidence and entropy. It colours the pixels itself,
so opacity, isolated classes and the other views need no further request.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import gradio as gr
import numpy as np
from gradio.data_classes import FileData
from PIL import Image

from data_scripts.labels import LabelInfo

SHOWN = 1280  # longer side of the view in pixels; downloads have the photo's size
FOLDED = 0.001  # classes with a smaller share of the pixels are folded away

TEMPLATE = """
<div class="viewer" data-state="empty">
  <div class="bar">
    <div class="views" role="radiogroup" aria-label="What the picture shows">
      <button type="button" role="radio" data-view="classes" aria-checked="true">Classes</button>
      <button type="button" role="radio" data-view="confidence" aria-checked="false">Confidence</button>
      <button type="button" role="radio" data-view="entropy" aria-checked="false">Entropy</button>
      <button type="button" role="radio" data-view="differs" aria-checked="false" hidden>Differences</button>
    </div>
    <button type="button" class="named" aria-pressed="true" title="Write the names on the picture">Names</button>
    <label class="opacity">Opacity <input type="range" min="0" max="100" value="60"></label>
    <button type="button" class="full" aria-label="Full screen" title="Full screen"><svg viewBox="0 0 16 16" width="16"
      height="16" aria-hidden="true"><path d="M2 6V2h4M10 2h4v4M14 10v4h-4M6 14H2v-4"/></svg></button>
  </div>
  <div class="frame"><div class="stage">
    <img class="photo" alt="">
    <canvas class="mask" role="img" aria-label=""></canvas>
    <div class="names" aria-hidden="true"></div>
    <div class="tip" hidden></div>
  </div></div>
  <p class="line" aria-live="polite">Choose a photo: its classes appear here.</p>
  <div class="scale" hidden><span>0 %</span><i></i><span>100 %</span></div>
  <ul class="legend"></ul>
</div>
"""

CSS = """
.viewer { display: flex; flex-direction: column; gap: 10px; color: var(--body-text-color); font-size: 15px; }
.viewer:fullscreen { background: var(--body-background-fill); padding: 16px; overflow: auto; }
.viewer [hidden] { display: none !important; }
.bar { display: flex; flex-wrap: wrap; gap: 10px 16px; align-items: center; }
.views { display: inline-flex; border: 1px solid var(--border-color-primary); border-radius: 9px; overflow: hidden; }
.viewer button { font: inherit; color: inherit; background: transparent; border: 0; cursor: pointer; padding: 7px 13px;
  min-height: 36px; margin: 0; }
.views button[aria-checked="true"] { background: #1f5fbf; color: #fff; }
.viewer button:focus-visible, .viewer input:focus-visible { outline: 2px solid #3b82f6; outline-offset: 2px; }
.opacity { display: inline-flex; gap: 8px; align-items: center; flex: 1 1 140px; }
.opacity input { flex: 1; min-width: 70px; max-width: 220px; accent-color: #1f5fbf; }
.full, .named { border: 1px solid var(--border-color-primary) !important; border-radius: 9px; }
.full svg { display: block; fill: none; stroke: currentColor; stroke-width: 1.6; }
.viewer .named[aria-pressed="true"] { background: #1f5fbf; color: #fff; }
.names { position: absolute; inset: 0; pointer-events: none; overflow: hidden; }
.names span { position: absolute; background: rgb(17 17 17 / .78); color: #fff;
  padding: 1px 6px; border-radius: 6px; font-size: 12px; line-height: 16px; white-space: nowrap; }
.frame { background: var(--background-fill-secondary); border-radius: 12px; overflow: hidden; }
.stage { position: relative; margin: 0 auto; aspect-ratio: 2 / 1; width: 100%; }
.stage img, .stage canvas { position: absolute; inset: 0; width: 100%; height: 100%; display: block; margin: 0;
  border-radius: 0; max-width: none; }
.stage canvas { opacity: .6; touch-action: pan-y; }
.viewer[data-state="empty"] .stage img, .viewer[data-state="empty"] .stage canvas { visibility: hidden; }
.tip { position: absolute; pointer-events: none; background: rgb(17 17 17 / .9); color: #fff; padding: 3px 9px;
  border-radius: 7px; font-size: 13px; white-space: nowrap; z-index: 2; }
.line { margin: 0; color: var(--body-text-color); min-height: 1.5em; }
.scale { display: flex; gap: 10px; align-items: center; font-size: 13px; }
.scale i { flex: 1; max-width: 320px; height: 12px; border-radius: 6px; }
.legend { display: flex; flex-wrap: wrap; gap: 6px; list-style: none; margin: 0; padding: 0; align-content: start;
  min-height: 82px; }  /* two rows; on phones four: so the page below hardly jumps when an answer arrives */
.legend li { margin: 0; }
.legend button { display: inline-flex; gap: 8px; align-items: center; border: 1px solid var(--border-color-primary);
  border-radius: 999px; padding: 4px 12px 4px 6px; font-size: 14px; }
.legend button[aria-pressed="true"] { border-color: #1f5fbf; box-shadow: 0 0 0 1px #1f5fbf; }
.legend b { width: 22px; height: 22px; border-radius: 50%; box-shadow: inset 0 0 0 1px rgb(128 128 128 / .6); }
.legend small { font-size: 13px; font-variant-numeric: tabular-nums; }
@media (max-width: 480px) { .viewer { gap: 8px; } .legend { min-height: 162px; } .viewer button { padding: 7px 10px; }
  .legend button { padding: 4px 10px 4px 6px; } }
"""

SCRIPT = r"""
const find = (query) => element.querySelector(query);
const root = find('.viewer'), stage = find('.stage'), photo = find('.photo'), canvas = find('.mask');
const legend = find('.legend'), tip = find('.tip'), line = find('.line'), scale = find('.scale');
const names = find('.names'), named = find('.named');
const context = canvas.getContext('2d');
let answer = null, maps = {}, view = 'classes', pinned = null, pointed = null, unfolded = false, turn = 0;

// Five colours from "not at all" to "completely", readable on any photo and for the colour-blind (a cut of cividis).
const STOPS = [[253, 234, 69], [188, 175, 111], [124, 123, 120], [66, 77, 108], [0, 32, 81]];
const ramp = (share) => {
  const place = share * (STOPS.length - 1), i = Math.min(STOPS.length - 2, Math.floor(place)), part = place - i;
  return STOPS[i].map((value, c) => Math.round(value + part * (STOPS[i + 1][c] - value)));
};
const percent = (share) => (100 * share).toFixed(share < 0.1 ? 1 : 0) + ' %';
const calibrated = () => answer.temperature === null ? 'Not calibrated.' :
  'Calibrated with temperature ' + answer.temperature.toFixed(2) + '.';
const packed = (rgb) => (255 << 24 | rgb[2] << 16 | rgb[1] << 8 | rgb[0]) >>> 0;

// The bytes of a grey picture. No colour management: the values are numbers, not light.
async function bytesOf(file) {
  const blob = await (await fetch(file.url)).blob();
  const picture = await createImageBitmap(blob, {colorSpaceConversion: 'none', premultiplyAlpha: 'none'});
  const drawn = new OffscreenCanvas(picture.width, picture.height).getContext('2d', {willReadFrequently: true});
  drawn.drawImage(picture, 0, 0);
  const rgba = drawn.getImageData(0, 0, picture.width, picture.height).data;
  const bytes = new Uint8Array(rgba.length / 4);
  for (let i = 0; i < bytes.length; i++) bytes[i] = rgba[4 * i];
  return bytes;
}

function table() {  // the colour of each byte of the map that is shown
  const colors = new Uint32Array(256), only = pointed ?? pinned;
  if (view === 'classes') {
    for (const part of answer.classes) if (only === null || only === part.id) colors[part.id] = packed(part.color);
  } else if (view === 'differs') {
    colors[255] = packed([230, 0, 80]);
  } else {
    for (let i = 0; i < 256; i++) colors[i] = packed(ramp(view === 'confidence' ? i / 255 : 1 - i / 255));
  }
  return colors;
}

function paint() {
  if (!answer || !maps.ids) return;
  const source = maps[view === 'classes' ? 'ids' : view], colors = table();
  const image = context.createImageData(answer.width, answer.height), pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < pixels.length; i++) pixels[i] = colors[source[i]];
  context.putImageData(image, 0, 0);
  label();
}

// Writes the name of each class into its widest region, unless the region is too small or the name would hide another.
function label() {
  names.replaceChildren();
  if (!answer || view !== 'classes' || named.getAttribute('aria-pressed') !== 'true') return;
  const only = pointed ?? pinned, width = stage.clientWidth, height = stage.clientHeight, zoom = width / answer.width;
  const taken = [];
  for (const part of answer.classes) {
    if ((only !== null && only !== part.id) || 2 * part.radius * zoom < 16) continue;
    const name = document.createElement('span');
    name.textContent = part.name;
    names.append(name);
    const w = name.offsetWidth, h = name.offsetHeight, inside = (v, most) => Math.max(2, Math.min(v, most - 2));
    const x = inside((part.spot[0] + .5) * zoom - w / 2, width - w);
    const y = inside((part.spot[1] + .5) * zoom - h / 2, height - h);
    if (taken.some((box) => x < box.x + box.w && box.x < x + w && y < box.y + box.h && box.y < y + h)) {
      name.remove();
      continue;
    }
    taken.push({x, y, w, h});
    name.style.left = x + 'px';
    name.style.top = y + 'px';
  }
}

function describe() {
  for (const button of root.querySelectorAll('[data-view]')) {
    button.setAttribute('aria-checked', button.dataset.view === view);
    button.tabIndex = button.dataset.view === view ? 0 : -1;
  }
  find('[data-view=differs]').hidden = !answer || !answer.differs;
  legend.hidden = named.hidden = view !== 'classes';
  scale.hidden = view !== 'confidence' && view !== 'entropy';
  const colors = [0, .25, .5, .75, 1].map((share) => 'rgb(' + ramp(view === 'confidence' ? share : 1 - share) + ')');
  scale.querySelector('i').style.background = 'linear-gradient(90deg,' + colors.join(',') + ')';
  if (!answer) { line.textContent = 'Choose a photo: its classes appear here.'; return; }
  line.textContent = {
    classes: answer.line,
    confidence: 'Probability of the predicted class; ' + percent(answer.confident) + ' on average. ' + calibrated(),
    entropy: 'How undecided the network is: 100 % if all classes are equally likely. ' + calibrated(),
    differs: answer.differs_line,
  }[view];
  const parts = answer.classes.map((part) => part.name + ' ' + percent(part.share));
  canvas.setAttribute('aria-label', 'Classes: ' + parts.join(', '));
}

function chip(part) {
  const item = document.createElement('li'), button = document.createElement('button');
  const swatch = document.createElement('b'), share = document.createElement('small');
  button.type = 'button';
  button.dataset.id = part.id;
  button.setAttribute('aria-pressed', pinned === part.id);
  button.title = 'Show ' + part.name + ' alone';
  swatch.style.background = 'rgb(' + part.color + ')';
  share.textContent = percent(part.share);
  button.append(swatch, document.createTextNode(part.name), share);
  item.append(button);
  return item;
}

function list() {
  const small = answer ? answer.classes.filter((part) => part.share < answer.folded) : [];
  const shown = answer ? answer.classes.filter((part) => unfolded || part.share >= answer.folded) : [];
  legend.replaceChildren(...shown.map(chip));
  if (!small.length || unfolded) return;
  const item = document.createElement('li'), more = document.createElement('button');
  more.type = 'button';
  more.className = 'more';
  more.textContent = '+ ' + small.length + (small.length > 1 ? ' rare classes' : ' rare class');
  item.append(more);
  legend.append(item);
}

function isolate() {
  for (const button of legend.querySelectorAll('[data-id]')) {
    button.setAttribute('aria-pressed', pinned === Number(button.dataset.id));
  }
  paint();
}

async function show() {
  const mine = ++turn, value = props.value;
  pinned = pointed = null;
  unfolded = false;
  tip.hidden = true;
  if (!value) {
    answer = null; maps = {};
    root.dataset.state = 'empty';
    list(); describe(); label();
    return;
  }
  const kinds = ['ids', 'confidence', 'entropy', ...(value.differs ? ['differs'] : [])];
  const loaded = await Promise.all(kinds.map((kind) => bytesOf(value[kind])));
  if (mine !== turn) return;  // a newer answer has come meanwhile
  answer = value;
  maps = Object.fromEntries(kinds.map((kind, i) => [kind, loaded[i]]));
  if (!maps[view] && view !== 'classes') view = 'classes';
  stage.style.aspectRatio = answer.width + ' / ' + answer.height;
  stage.style.maxWidth = 'calc(72vh * ' + answer.width / answer.height + ')';
  canvas.width = answer.width;
  canvas.height = answer.height;
  photo.src = answer.photo.url;
  photo.alt = 'The photo';
  list(); describe(); paint();
  root.dataset.state = 'shown';
}

function place(event) {  // index of the pixel below the pointer, or -1
  const box = canvas.getBoundingClientRect();
  const x = Math.floor((event.clientX - box.left) / box.width * answer.width);
  const y = Math.floor((event.clientY - box.top) / box.height * answer.height);
  return x >= 0 && y >= 0 && x < answer.width && y < answer.height ? y * answer.width + x : -1;
}

canvas.addEventListener('pointermove', (event) => {
  const i = answer ? place(event) : -1;
  if (i < 0) { tip.hidden = true; return; }
  const part = answer.classes.find((one) => one.id === maps.ids[i]);
  tip.textContent = (part ? part.name : '?') + ' \u00b7 ' + percent(maps.confidence[i] / 255) + ' sure';
  tip.hidden = false;
  const box = stage.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
  tip.style.left = Math.max(0, Math.min(x + 14, box.width - tip.offsetWidth)) + 'px';
  tip.style.top = (y > 44 ? y - 36 : y + 20) + 'px';
});
canvas.addEventListener('pointerleave', () => { tip.hidden = true; });
canvas.addEventListener('click', (event) => {
  const i = answer && view === 'classes' ? place(event) : -1;
  if (i < 0) return;
  pinned = pinned === maps.ids[i] ? null : maps.ids[i];
  isolate();
});
const idOf = (event) => {
  const button = event.target.closest('[data-id]');
  return button ? Number(button.dataset.id) : null;
};
legend.addEventListener('click', (event) => {
  if (event.target.closest('.more')) { unfolded = true; list(); return; }
  const id = idOf(event);
  if (id === null) return;
  pinned = pinned === id ? null : id;
  pointed = null;
  isolate();
});
legend.addEventListener('pointerover', (event) => {
  if (event.pointerType === 'mouse') { pointed = idOf(event); paint(); }
});
legend.addEventListener('pointerleave', () => { pointed = null; paint(); });
legend.addEventListener('keydown', (event) => { if (event.key === 'Escape') { pinned = null; isolate(); } });
find('.opacity input').addEventListener('input', (event) => { canvas.style.opacity = event.target.value / 100; });
named.addEventListener('click', () => {
  named.setAttribute('aria-pressed', named.getAttribute('aria-pressed') !== 'true');
  label();
});
new ResizeObserver(label).observe(stage);
find('.views').addEventListener('click', (event) => {
  const button = event.target.closest('[data-view]');
  if (!button || !answer) return;
  view = button.dataset.view;
  describe(); paint();
});
find('.views').addEventListener('keydown', (event) => {
  const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
  if (!step) return;
  const buttons = [...root.querySelectorAll('[data-view]:not([hidden])')];
  const next = buttons[(buttons.indexOf(document.activeElement) + step + buttons.length) % buttons.length];
  next.focus(); next.click();
  event.preventDefault();
});
find('.full').addEventListener('click', () => {
  if (document.fullscreenElement) document.exitFullscreen(); else root.requestFullscreen();
});
watch('value', show);
show();
"""


def viewer(**options: Any) -> gr.HTML:
    """Return a gradio component that shows the value of `view_of`, or nothing for None. `options` are gr.HTML's."""
    return gr.HTML(html_template=TEMPLATE, css_template=CSS, js_on_load=SCRIPT, apply_default_css=False, **options)


def shown_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the (H, W) of the view of a photo of `size` (H, W)."""
    factor = min(1.0, SHOWN / max(size))
    return tuple(max(1, round(side * factor)) for side in size)


@dataclass
class Prediction:
    """What a model says of a photo.

    image        the photo, uint8 (H, W, 3)
    ids          train ids, uint8 (H, W)
    maps         confidence and entropy, 0 to 1, float32, of the size `shown_size`
    temperature  by which the confidences are calibrated, or None
    seconds      that it took
    """

    image: np.ndarray
    ids: np.ndarray
    maps: dict[str, np.ndarray]
    temperature: float | None
    seconds: float


def view_of(prediction: Prediction, labels: LabelInfo, model: str, folder: Path) -> dict:
    """Write the pictures of a view to `folder`, and return its value in the form that gradio sends.

    model  the name that users know
    """
    ids, maps = prediction.ids, prediction.maps
    height, width = shown_size(ids.shape)
    photo = Image.fromarray(prediction.image).resize((width, height), Image.Resampling.BILINEAR)
    photo.save(folder / "photo.webp", quality=90)
    grey = {"ids": shown_ids(ids)} | {name: np.round(255 * values).astype(np.uint8) for name, values in maps.items()}
    for name, values in grey.items():
        Image.fromarray(values).save(folder / f"view_{name}.png")
    classes = []
    for i, share in shares_of(ids).items():
        spot, radius = widest_spot(grey["ids"] == i)
        found = {"id": i, "name": labels.names[i], "color": list(labels.palette[i]), "share": share}
        classes.append(found | {"spot": spot, "radius": radius})
    files = {name: sent(folder / f"view_{name}.png") for name in grey}
    return {
        "photo": sent(folder / "photo.webp"),
        **files,
        "width": width,
        "height": height,
        "classes": classes,
        "folded": FOLDED,
        "confident": float(maps["confidence"].mean()),
        "temperature": prediction.temperature,
        "line": f"{ids.shape[1]} x {ids.shape[0]} pixels by {model}, in {prediction.seconds:.1f} s.",
    }


def shares_of(ids: np.ndarray) -> dict[int, float]:
    """Return the share of the pixels of each train id that occurs, largest first."""
    counts = np.bincount(ids.reshape(-1))
    return {i: float(counts[i] / ids.size) for i in np.argsort(-counts, kind="stable").tolist() if counts[i]}


def widest_spot(mask: np.ndarray) -> tuple[tuple[int, int], float]:
    """Return the centre (x, y) and the radius, in pixels, of the largest circle inside a mask, bool (H, W)."""
    inside = np.pad(mask.astype(np.uint8), 1)  # the picture's edge is an edge of the region
    _, radius, _, (x, y) = cv2.minMaxLoc(cv2.distanceTransform(inside, cv2.DIST_L2, 5))
    return (x - 1, y - 1), radius


def shown_ids(ids: np.ndarray) -> np.ndarray:
    """Return ids (H, W) at the size of the view."""
    return np.asarray(Image.fromarray(ids).resize(shown_size(ids.shape)[::-1], Image.Resampling.NEAREST))


def add_differences(view: dict, ids: Sequence[np.ndarray], names: Sequence[Sequence[str]], folder: Path) -> None:
    """Add to the value of a second view where its classes have other names than those of the first.

    ids     train ids of both models, uint8 (H, W)
    names   names of the classes of both models
    folder  holds the pictures of the second view
    """
    known = {name: i for i, name in enumerate(dict.fromkeys([*names[0], *names[1]]))}
    one, other = (np.array([known[name] for name in own])[shown_ids(of)] for own, of in zip(names, ids, strict=True))
    differs = one != other
    Image.fromarray(np.where(differs, 255, 0).astype(np.uint8)).save(folder / "view_differs.png")
    view["differs"] = sent(folder / "view_differs.png")
    view["differs_line"] = f"The two models give {differs.mean():.1%} of the pixels different classes."


def sent(path: Path) -> dict:
    """Return a file in the server's folder in the form that gradio sends."""
    return FileData(path=str(path), orig_name=path.name).model_dump()
