"""The same photos under each model, from the validation pictures of the run folders."""

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .report_runs import Comparison, FinishedRun
from .results import panels

COLUMNS = 3  # of a validation picture: image, truth, prediction
WIDTH = 360  # of a picture on the page, in pixels
MOST_GROUPS = 24
Color = tuple[int, int, int]


@dataclass(frozen=True)
class Prediction:
    """What a model makes of a photo.

    group    index of its group
    run      name of the run
    picture  data URI in class colours
    correct  data URI that covers the pixels that are right or ignored, and is transparent where they are wrong
    share    of the labelled pixels of the picture that are right
    """

    group: int
    run: str
    picture: str
    correct: str
    share: float


@dataclass(frozen=True)
class Photo:
    """A validation image as a data URI, with its truth and with the predictions of the groups."""

    image: str
    truth: str
    predictions: list[Prediction]


def photos_of(comparison: Comparison, groups: Sequence[int], palette: Mapping[str, Color]) -> list[Photo]:
    """Return the photos of the baseline's validation pictures, with the predictions of `groups` for them.

    A group is left out of a photo if none of its runs has drawn it. `palette` are the colours of the classes; with an
    empty one, black counts as ignored.
    """
    reference = next((found for run in comparison.groups[comparison.baseline].runs if (found := panels_of(run))), {})
    if not reference:
        return []
    drawn = {group: _drawn(comparison.groups[group].runs, reference.keys()) for group in groups}
    photos = []
    for key, (image, truth, _) in reference.items():
        labelled = _labelled(truth, palette)
        predictions = []
        for group, (run, rows) in drawn.items():
            if key in rows:
                predicted = rows[key][2]
                right = (predicted == truth).all(-1)
                share = float(right[labelled].mean()) if labelled.any() else float("nan")
                predictions.append(Prediction(group, run, flat_picture(predicted), veil(~labelled | right), share))
        photos.append(Photo(photograph(image), flat_picture(truth), predictions))
    return photos


Panels = dict[str, tuple[np.ndarray, ...]]  # {digest of the photo: image, truth, prediction}


def _drawn(runs: Sequence[FinishedRun], wanted: set[str]) -> tuple[str, Panels]:
    """Return the name and the panels of the run that has drawn most of the `wanted` photos."""
    best: tuple[str, Panels] = ("", {})
    for run in runs:
        found = {key: row for key, row in panels_of(run).items() if key in wanted}
        if len(found) > len(best[1]):
            best = run.folder.name, found
        if len(best[1]) == len(wanted):
            break
    return best


def panels_of(run: FinishedRun) -> Panels:
    """Return the panels that a run drew when it validated the weights in best/; {} if there are none."""
    path = picture_of(run)
    if path is None:
        return {}
    try:
        with Image.open(path, formats=["PNG"]) as sheet:
            rows = panels(sheet, COLUMNS)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # damaged, or not ours
        return {}
    return {hashlib.sha256(row[0].tobytes() + repr(row[0].shape).encode()).hexdigest(): row for row in rows}


def picture_of(run: FinishedRun) -> Path | None:
    folder = run.folder / "images"
    best = folder / f"epoch_{run.best_epoch:04d}.png" if run.best_epoch is not None else None
    if best is not None and best.is_file():
        return best
    return max(folder.glob("epoch_*.png"), default=None)


def _labelled(truth: np.ndarray, palette: Mapping[str, Color]) -> np.ndarray:
    """Return where `truth` (H, W, 3) has the colour of a class, bool (H, W)."""
    if not palette:
        return truth.any(-1)
    codes = [(red << 16) + (green << 8) + blue for red, green, blue in palette.values()]
    return np.isin(_codes(truth), codes)


def _codes(picture: np.ndarray) -> np.ndarray:
    return (picture.astype(np.int64) * (65536, 256, 1)).sum(-1)


def photograph(pixels: np.ndarray) -> str:
    """Return a photo (H, W, 3) as a data URI, reduced to `WIDTH`."""
    picture = Image.fromarray(pixels)
    return _webp(picture.resize(_size(picture), Image.Resampling.LANCZOS), quality=78, method=4)


def flat_picture(pixels: np.ndarray) -> str:
    """Return a picture of few colours (H, W, 3) as a data URI, reduced to `WIDTH` without new colours."""
    picture = Image.fromarray(pixels)
    return _webp(picture.resize(_size(picture), Image.Resampling.NEAREST), lossless=True, method=4)


def veil(covers: np.ndarray) -> str:
    """Return a picture that is grey where `covers` (H, W) is true and transparent elsewhere, as a data URI."""
    picture = Image.fromarray(np.where(covers, 255, 0).astype(np.uint8))
    alpha = picture.resize(_size(picture), Image.Resampling.NEAREST)
    covered = Image.merge("RGBA", [Image.new("L", alpha.size, 128)] * 3 + [alpha])
    return _webp(covered, lossless=True, method=4)


def _size(picture: Image.Image) -> tuple[int, int]:
    width = min(WIDTH, picture.width)
    return width, max(1, round(picture.height * width / picture.width))


def _webp(picture: Image.Image, **options: int | bool) -> str:
    file = io.BytesIO()
    picture.save(file, "WEBP", **options)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
