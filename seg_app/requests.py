"""What the app does with a request: check it, read the photo, predict, write the answer.

Whatever a client may send is checked here or by the gate in server.py. Only `Photo` reads photos.
"""

import secrets
import shutil
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np

from data_scripts.labels import DataError, LabelInfo
from data_scripts.reader import number_of_pixels, read_image, upright_size
from seg_models.names import MULTI_SCALE
from seg_models.views import Views
from seg_runs.predictions import Predictions
from seg_runs.run_folder import make_folders

from .viewer import Prediction, add_differences, sent, shares_of, view_of

if TYPE_CHECKING:  # it loads torch
    from .models import Segmenter

NOTHING = "nothing"  # in the list of models to compare with
WINDOWS = (0, 512, 1024)  # sides of windows in pixels; 0: the whole photo at once
WORK = 10  # limit on the pixels of one photo, summed over all views, in units of --max_megapixels


def refusal(sentence: str) -> gr.Error:
    """Return an error that shows `sentence` to the user and logs nothing."""
    return gr.Error(sentence, print_exception=False)


class Photo:
    """An uploaded photo. Reads its bytes once, and its size before decoding it.

    size  (H, W), after EXIF rotation

    Raises a refusal if it is unreadable or larger than `max_megapixels`.
    """

    def __init__(self, path: str, max_megapixels: int):
        self.name = Path(path).name
        try:
            # Only the file name, so that error messages do not show the server's paths.
            self.file = {"path": self.name, "bytes": Path(path).read_bytes()}
        except OSError as error:
            raise refusal("This photo is no longer here: upload it again.") from error
        megapixels = self._read(number_of_pixels) / 1e6
        if megapixels > max_megapixels:  # check before reading the orientation, which decodes some PNGs
            raise refusal(
                f"This photo has {megapixels:.0f} megapixels, but the limit is {max_megapixels}: "
                "make it smaller, or start the app with a larger --max_megapixels."
            )
        self.size = self._read(upright_size)

    def pixels(self) -> np.ndarray:
        """Return the pixels, uint8 (H, W, 3)."""
        return self._read(read_image)

    def _read(self, how: Callable[[dict], Any]) -> Any:
        try:
            return how(self.file)
        except DataError as error:
            raise refusal(f"{str(error)[:300]}. Give a photo, such as a PNG or a JPEG.") from error


class Requests:
    """Answer the calls of the page. Each answer writes its files to a new folder in `folder`.

    One thread answers all requests, one after another. In several threads, the memory that each has freed would add up.

    segmenters  returns the models by name, after waiting for them if necessary
    """

    def __init__(self, segmenters: Callable[[], dict[str, "Segmenter"]], folder: Path, max_megapixels: int):
        self.segmenters, self.folder, self.max_megapixels = segmenters, folder, max_megapixels
        self.worker = ThreadPoolExecutor(1)

    def segment(self, photo: dict | None, name: str, scales: list[float], flip: bool, window: int = 0) -> tuple:
        """Answer the API: return the PNGs of ids and colours, and each class's share of the pixels.

        The values have the form that gradio sends, so gradio opens no files itself.
        """
        return self._in_turn(self._segment, photo, name, scales, flip, window)

    def show(
        self,
        photo: dict | None,
        name: str,
        other: str,
        scales: list[float],
        flip: bool,
        window: int = 0,
        calibrated: bool = True,
    ) -> tuple:
        """Answer the page: return the view, the second view (hidden unless `other` is a model), both PNGs, the hint."""
        if photo is None:  # it was removed
            return None, gr.update(value=None, visible=False), None, None, ""
        names = [name] if other == NOTHING else [name, other]
        return self._in_turn(self._show, photo, names, scales, flip, window, calibrated)

    def _in_turn(self, answer: Callable[..., tuple], *request: object) -> tuple:
        """Return the answer to a request when those before it are answered.

        Any failure becomes one sentence for the user. The log gets what only the server's owner can mend.
        """
        try:
            return self.worker.submit(answer, *request).result()
        except gr.Error:
            raise
        except CancelledError as error:
            raise refusal("The server could not load its models and is shutting down.") from error
        except Exception as error:
            raise apology(error) from error

    def _segment(self, photo: object, name: object, scales: object, flip: object, window: object) -> tuple:
        segmenter = self._segmenter(name)
        views = checked_views(scales, flip, window)
        opened = self._photo(photo)
        with self._answer_folder() as folder:
            prediction = self._predict(opened, segmenter, views)
            files = write_files(folder, opened, prediction, segmenter.labels)
        shares = {}
        for i, share in shares_of(prediction.ids).items():
            name = segmenter.labels.names[i]  # of a stranger's model, two classes may have one
            shares[name] = shares.get(name, 0) + share
        return *files, shares

    def _show(
        self, photo: object, names: list, scales: object, flip: object, window: object, calibrated: object
    ) -> tuple:
        segmenters = [self._segmenter(name) for name in names]
        views = checked_views(scales, flip, window)
        calibrated = checked_switch(calibrated, "calibrated")
        opened = self._photo(photo)
        with self._answer_folder() as folder:
            predictions = [self._predict(opened, segmenter, views, calibrated) for segmenter in segmenters]
            shown = write_views(folder, names, segmenters, predictions)
            files = write_files(folder, opened, predictions[0], segmenters[0].labels)
            hint = expected_time(opened.size, segmenters[0], views, predictions[0].seconds)
        second = gr.update(value=shown[1] if len(shown) > 1 else None, visible=len(shown) > 1)
        return shown[0], second, *files, hint

    def _photo(self, photo: object) -> Photo:
        if not isinstance(photo, dict):
            raise refusal("Give a photo first: upload one or pick an example.")
        return Photo(photo["path"], self.max_megapixels)

    @contextmanager
    def _answer_folder(self) -> Iterator[Path]:
        """Create a folder with an unguessable name for the files of an answer. It goes if there is no answer."""
        folder = self.folder / secrets.token_hex(16)
        try:
            folder.mkdir(mode=0o700)
            yield folder
        except Exception:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _segmenter(self, name: object) -> "Segmenter":
        segmenters = self.segmenters()
        if not isinstance(name, str) or name not in segmenters:
            raise refusal("There is no such model here: choose one from the list.")
        return segmenters[name]

    def _predict(self, photo: Photo, segmenter: "Segmenter", views: Views, calibrated: bool = True) -> Prediction:
        """Predict a photo. Raises a refusal if that would take too long or too much memory."""
        remedy = "choose fewer or smaller scales, leave out the mirrored views, or give a smaller photo."
        seen, limit = segmenter.pixels(photo.size, views) / 1e6, WORK * self.max_megapixels
        if seen > limit:
            raise refusal(f"Over these scales the photo has {seen:.0f} megapixels, but the limit is {limit}: {remedy}")
        memory = segmenter.memory(photo.size, views)
        free = segmenter.free_memory(memory)
        if memory > free:
            remedy = remedy if views.window else f"cut the photo into windows, {remedy}"
            raise refusal(
                f"This photo at these scales needs about {memory / 1e9:.1f} GB of memory, but {free / 1e9:.1f} GB are "
                f"free: {remedy}"
            )
        return segmenter(photo.pixels(), views, calibrated)


def apology(error: Exception) -> gr.Error:
    """Return an error for the user about a failure of the server. Details go to the server's log."""
    if isinstance(error, MemoryError) or "allocate memory" in str(error) or "out of memory" in str(error):
        return refusal("The server is out of memory: choose fewer or smaller scales, or give a smaller photo.")
    if isinstance(error.__cause__ or error, OSError):
        print(f"cannot write a prediction: {' '.join(str(error).split())}", flush=True)
        return refusal("The server cannot store the prediction: its disk may be full. Try again later.")
    traceback.print_exception(error)
    return refusal("The server failed on this photo: its log says why.")


def checked_views(scales: object, flip: object, window: object) -> Views:
    """Return the views that a client asks for. Raises a refusal if they are not among the choices."""
    scales = checked_scales(scales)
    flip = checked_switch(flip, "flip")
    if window is not None and (type(window) is not int or window not in WINDOWS):
        raise refusal(f"{str(window)[:20]} is not a window size: choose from {', '.join(map(str, WINDOWS))}.")
    return Views(None, scales, flip, window=(window, window) if window else None)


def checked_scales(scales: object) -> tuple[float, ...]:
    """Return the scales in ascending order. Raises a refusal if they are invalid."""
    choices = ", ".join(map(str, MULTI_SCALE))
    if not isinstance(scales, list):
        raise refusal(f"Give the scales as a list of some of these numbers: {choices}.")
    if not scales:
        raise refusal("Choose at least one scale.")
    if len(scales) > len(MULTI_SCALE):
        raise refusal(f"These are {len(scales)} scales: choose each of {choices} at most once.")
    for scale in scales:
        if isinstance(scale, bool) or not isinstance(scale, int | float) or scale not in MULTI_SCALE:
            raise refusal(f"{str(scale)[:20]} is not an available scale: choose from {choices}.")
    if len(set(scales)) < len(scales):
        raise refusal("A scale occurs twice: choose each at most once.")
    return tuple(sorted(map(float, scales)))


def checked_switch(value: object, name: str) -> bool:
    """Return `value`. Raises a refusal if a client sent anything but true or false."""
    if not isinstance(value, bool):
        raise refusal(f"{name} must be true or false.")
    return value


def write_files(folder: Path, photo: Photo, prediction: Prediction, labels: LabelInfo) -> tuple[dict, dict]:
    """Write the PNGs of ids and of colours, as predict_seg.py does, and return both in the form that gradio sends."""
    stem = Path(photo.name).stem
    ids = prediction.ids
    files = Predictions(folder, "app")
    make_folders(*files.folders.values())
    files.write(stem, {"ids": labels.to_source(ids), "color": labels.to_color(ids)})
    named = {kind: path.rename(path.with_name(f"{stem}_{kind}.png")) for kind, path in files.files(stem).items()}
    return sent(named["ids"]), sent(named["color"])


def write_views(
    folder: Path, names: list[str], segmenters: list["Segmenter"], predictions: list[Prediction]
) -> list[dict]:
    """Write the pictures of one or two models' views, and return their values. The second shows what differs.

    names  of the models, as users know them
    """
    views = []
    for i, (name, segmenter, prediction) in enumerate(zip(names, segmenters, predictions, strict=True)):
        part = folder / str(i)
        part.mkdir()
        views.append(view_of(prediction, segmenter.labels, name, part))
    if len(views) > 1:
        classes = [segmenter.labels.names for segmenter in segmenters]
        add_differences(views[1], [prediction.ids for prediction in predictions], classes, folder / "1")
    return views


def expected_time(size: tuple[int, int], segmenter: "Segmenter", views: Views, seconds: float) -> str:
    """Return how long a photo of `size` (H, W) takes at other settings, if it took `seconds` with `views`."""
    pace = seconds / segmenter.pixels(size, views)
    one, most = (segmenter.pixels(size, other) * pace for other in (Views(), Views(None, MULTI_SCALE, True)))
    return f"For this photo, one scale takes about {max(one, 0.1):.1f} s, all scales with mirrored views {most:.0f} s."
