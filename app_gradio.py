"""Segment photos in the browser: upload a photo, look at the prediction, download it.

    python app_gradio.py                                        # the newest complete run under runs/
    python app_gradio.py --model_name_or_path runs/A USER/NAME  # users choose between these; the second is on a hub
    python app_gradio.py --examples my_photos

The id image equals the one that predict_seg.py writes with the same scales and flips, byte for byte.

app_server.py lets users reach only their own photos and predictions. Only `Photo` reads photos.
"""

from script_arguments import AppArguments, answer_early

answer_early(__name__, AppArguments)

import re
import secrets
import shutil
import threading
import traceback
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from app_server import API_NAME, KEPT_SECONDS, Gate, ended_by_signals, server_folder, swept  # isort: skip: before gradio

import gradio as gr
import numpy as np
import torch
from accelerate import Accelerator
from gradio.components.annotated_image import AnnotatedImageData, Annotation
from gradio.data_classes import FileData
from PIL import Image
from starlette.middleware import Middleware

from data_scripts.fold_files import Division, divided
from data_scripts.labels import DataError, LabelInfo
from data_scripts.listing import list_images
from data_scripts.reader import number_of_pixels, read_image, upright_size
from data_scripts.sources import load_source
from seg_models.cost import prediction_memory, prediction_pixels
from seg_models.errors import ModelError
from seg_models.names import MULTI_SCALE
from seg_models.predictor import Predictor
from seg_models.views import Views
from seg_runs.launch import RunError, make_accelerator, one_line_errors
from seg_runs.parsing import parse_arguments
from seg_runs.predictions import Predictions
from seg_runs.run_folder import make_folders
from trained_model import (
    default_model,
    find_model,
    free_memory_of,
    label_set,
    load_model,
    processor_size,
    read_arguments,
)

SHOWN = 1280  # longer side of the annotated image in pixels; downloads have the photo's size
NUM_EXAMPLES = 6
WORK = 10  # limit on the pixels of one photo, summed over scales and mirrored views, in units of --max_megapixels


def main(argv: list[str] | None = None) -> None:
    with one_line_errors(DataError, ModelError):
        args = parse_arguments(AppArguments, argv)
        with ended_by_signals(), server_folder() as folder:
            page = build_page(args, folder)
            # All requests go through the queue, which runs one at a time.
            page.queue(default_concurrency_limit=1, max_size=20, api_open=False)
            try:
                serve(page, args, folder)
            except OSError as error:  # the port is taken, or the address is not this machine's
                where = f"--server_name {args.server_name}"
                where += f" --server_port {args.server_port}" if args.server_port else ""
                raise RunError(f"cannot listen at {where}: {error}") from error


def serve(page: gr.Blocks, args: AppArguments, folder: Path) -> None:
    """Serve the page until the process receives a signal."""
    functions = {number: function.api_name for number, function in page.fns.items()}
    with swept(folder) as make_room:
        size = args.max_file_size * 10**6
        gate = Middleware(Gate, folder=folder, functions=functions, max_upload=size, make_room=make_room)
        try:
            page.launch(
                server_name=args.server_name,
                server_port=args.server_port,
                max_file_size=f"{args.max_file_size}mb",
                footer_links=[],
                run_history=False,
                enable_monitoring=False,
                state_session_capacity=1000,
                app_kwargs={"middleware": [gate]},
            )
        finally:
            page.close(verbose=False)


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
            sentence = re.sub(r"\s*<_io\.BytesIO[^>]*>", "", str(error))
            raise refusal(f"{sentence[:300]}. Give a photo, such as a PNG or a JPEG.") from error


class Segmenter:
    """A loaded model: `segmenter(photo, scales, flip)` -> (photo (H, W, 3), train ids (H, W)), both uint8."""

    def __init__(self, name: str, test_size: list[int] | None, trust_remote_code: bool, accelerator: Accelerator):
        run, folder = find_model(name)
        trained = read_arguments(run)
        model, self.processor = load_model(folder, trust_remote_code)
        dataset, self.labels = label_set(model, folder, trained.get("dataset"))
        model = model.to(memory_format=torch.channels_last)
        self.model = accelerator.prepare_model(model, evaluation_mode=True)
        self.device = accelerator.device
        self.size = test_size or processor_size(self.processor)
        self.examples = example_images(dataset, trained)
        self.memory = lru_cache(maxsize=256)(self._memory)

    def __call__(self, photo: Photo, scales: tuple[float, ...], flip: bool) -> tuple[np.ndarray, np.ndarray]:
        image = photo.pixels()
        predictor = self._predictor(self._views(scales, flip))
        pixels = torch.from_numpy(image.copy()).permute(2, 0, 1).to(self.device)
        return image, predictor.labels(pixels).to(torch.uint8).cpu().numpy()

    def _views(self, scales: tuple[float, ...], flip: bool) -> Views:
        return Views(self.size, scales, flip)

    def _predictor(self, views: Views) -> Predictor:
        return Predictor(self.model, self.processor.image_mean, self.processor.image_std, views)

    def pixels(self, size: tuple[int, int], scales: tuple[float, ...], flip: bool) -> int:
        """Return the number of pixels that the network processes for a photo of `size` (H, W), over all views."""
        return prediction_pixels(self.model, size, self._views(scales, flip))

    def _memory(self, size: tuple[int, int], scales: tuple[float, ...], flip: bool) -> int:
        """Return the bytes that predicting a photo of `size` (H, W) takes on the device."""
        views = self._views(scales, flip)
        self._predictor(views)  # prepares the network for prediction, which changes its memory use
        return prediction_memory(self.model, size, views)

    def free_memory(self, wanted: int) -> int:
        """Return the free bytes on the device; see `free_memory_of`."""
        return free_memory_of(self.device, wanted)


def example_images(dataset: str, trained: dict) -> list[str]:
    """Return paths of test or validation images of the model's data set, or [] if it is not on this machine.

    trained  flags of the run, or {}
    """
    path = trained.get("dataset_path")
    division = Division(val_share=trained.get("val_share"), group_by=trained.get("group_by"))
    try:
        data, labels = load_source(dataset, path)
        data = data if "test" in data else divided(data, labels, division, dataset, path)
    except DataError:
        return []
    split = data["test"] if "test" in data else data["validation"]
    return [image["path"] for image in split["image"]]


class Requests:
    """Answer the calls of the page. Each answer writes its files to a new folder in `folder`."""

    def __init__(self, segmenters: dict[str, Segmenter], folder: Path, max_megapixels: int):
        self.segmenters, self.folder, self.max_megapixels = segmenters, folder, max_megapixels
        self.one_at_a_time = threading.Lock()  # a second guard besides the queue

    def segment(self, photo: dict | None, name: str, scales: list[float], flip: bool) -> tuple:
        """Return the values of the page's outputs in the form that gradio sends, so gradio opens no files itself."""
        try:
            segmenter = self._segmenter(name)
            scales, flip = checked_scales(scales), checked_flip(flip)
            if not isinstance(photo, dict):
                raise refusal("Give a photo first: upload one or pick an example.")
            with self.one_at_a_time:
                return self._answer(Photo(photo["path"], self.max_megapixels), segmenter, scales, flip)
        except gr.Error:
            raise
        except Exception as error:
            raise self._apology(error) from error

    def _segmenter(self, name: object) -> Segmenter:
        if not isinstance(name, str) or name not in self.segmenters:
            raise refusal("There is no such model here: choose one from the list.")
        return self.segmenters[name]

    def _answer(self, photo: Photo, segmenter: Segmenter, scales: tuple[float, ...], flip: bool) -> tuple:
        self._refuse_too_much(photo.size, segmenter, scales, flip)
        image, ids = segmenter(photo, scales, flip)
        labels, stem = segmenter.labels, Path(photo.name).stem
        folder = self.folder / secrets.token_hex(16)
        try:
            folder.mkdir(mode=0o700)
            files = Predictions(folder, "app")
            make_folders(*files.folders.values())
            files.write(stem, {"ids": labels.to_source(ids), "color": labels.to_color(ids)})
            picture = annotated(image, ids, labels, folder)
        except (OSError, RunError):
            shutil.rmtree(folder, ignore_errors=True)
            raise
        downloads = (travelling(path / f"{stem}.png") for path in files.folders.values())
        table = {"headers": ["class", "share of pixels"], "data": shares(ids, labels), "metadata": None}
        return picture, table, *downloads

    def _refuse_too_much(
        self, size: tuple[int, int], segmenter: Segmenter, scales: tuple[float, ...], flip: bool
    ) -> None:
        """Raise a refusal if the prediction would take too long or too much memory."""
        remedy = "choose fewer or smaller scales, leave out the mirrored views, or give a smaller photo."
        seen, limit = segmenter.pixels(size, scales, flip) / 1e6, WORK * self.max_megapixels
        if seen > limit:
            raise refusal(f"Over these scales the photo has {seen:.0f} megapixels, but the limit is {limit}: {remedy}")
        memory = segmenter.memory(size, scales, flip)
        free = segmenter.free_memory(memory)
        if memory > free:
            raise refusal(
                f"This photo at these scales needs about {memory / 1e9:.1f} GB of memory, but {free / 1e9:.1f} GB are "
                f"free: {remedy}"
            )

    def _apology(self, error: Exception) -> gr.Error:
        """Return an error for the user about a failure of the server. Details go to the server's log."""
        if isinstance(error, MemoryError) or "allocate memory" in str(error) or "out of memory" in str(error):
            return refusal("The server is out of memory: choose fewer or smaller scales, or give a smaller photo.")
        if isinstance(error.__cause__ or error, OSError):
            print(f"cannot write a prediction: {' '.join(str(error).split())}", flush=True)
            return refusal("The server cannot store the prediction: its disk may be full. Try again later.")
        traceback.print_exception(error)
        return refusal("The server failed on this photo: its log says why.")


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


def checked_flip(flip: object) -> bool:
    """Return `flip`. Raises a refusal if a client sent anything but true or false."""
    if not isinstance(flip, bool):
        raise refusal("Mirrored must be true or false.")
    return flip


def build_page(args: AppArguments, folder: Path) -> gr.Blocks:
    """Load the models and lay out the page."""
    accelerator = make_accelerator()
    models = models_by_name(args.model_name_or_path)
    names = list(models)
    segmenters = {
        name: Segmenter(model, args.test_size, args.trust_remote_code, accelerator) for name, model in models.items()
    }
    examples = [str(p) for p in list_images(Path(args.examples))] if args.examples else segmenters[names[0]].examples
    examples = examples[:: max(1, len(examples) // NUM_EXAMPLES)][:NUM_EXAMPLES]
    requests = Requests(segmenters, folder, args.max_megapixels)

    colors = {}
    for labels in (segmenter.labels for segmenter in segmenters.values()):
        colors |= {name: f"#{bytes(color).hex()}" for name, color in zip(labels.names, labels.palette, strict=True)}
    caching = {"delete_cache": (60, KEPT_SECONDS)}
    with gr.Blocks(title="minicity-seg", analytics_enabled=False, fill_width=True, **caching) as page:
        gr.Markdown("# What is each pixel?\nUpload a photo, or pick an example, and press *Segment*.")
        with gr.Row():
            with gr.Column():
                photo = gr.Image(type="filepath", image_mode=None, sources=["upload"], label="Photo", height=420)
                name = gr.Dropdown(names, value=names[0], label="Model", visible=len(names) > 1)
                scales = gr.CheckboxGroup(list(MULTI_SCALE), value=[1.0], label="Scales to average over")
                flip = gr.Checkbox(False, label="Also mirrored")
                button = gr.Button("Segment", variant="primary")
                if examples:
                    add_examples(examples, photo)
            with gr.Column():
                picture = gr.AnnotatedImage(label="Prediction", color_map=colors, height=420)
                with gr.Row():
                    ids_file = gr.DownloadButton("Ids (PNG)")
                    colors_file = gr.DownloadButton("Colours (PNG)")
                table = gr.Dataframe(headers=["class", "share of pixels"], label="Classes", interactive=False)
        outputs = [picture, table, ids_file, colors_file]
        # Otherwise gradio opens photos itself, and names the files that it writes after their content.
        raw = {"preprocess": False, "postprocess": False}
        button.click(requests.segment, [photo, name, scales, flip], outputs, api_name=API_NAME, **raw)
    return page


def models_by_name(given: list[str] | None) -> dict[str, str]:
    """Return {name that users see: model}: the names as given, or the folder name of the default model."""
    if given:
        return {name: name for name in given}
    folder = default_model()
    return {folder.name: str(folder)}


def add_examples(paths: list[str], photo: gr.Image) -> None:
    """Add example photos to the page. gradio copies them into its folder, and users get the copies."""
    dataset = gr.Dataset(components=[photo], samples=[[path] for path in paths], label="Examples", type="index")
    copies = [sample[0]["path"] if isinstance(sample[0], dict) else sample[0] for sample in dataset.samples]

    def pick(index: int) -> dict:
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(copies):
            raise refusal("There is no such example.")
        return travelling(Path(copies[index]))

    dataset.click(pick, dataset, photo, api_visibility="private", preprocess=False, postprocess=False)


def travelling(path: Path) -> dict:
    """Return a file in the server's folder in the form that gradio sends."""
    return FileData(path=str(path), orig_name=path.name).model_dump()


def annotated(image: np.ndarray, ids: np.ndarray, labels: LabelInfo, folder: Path) -> dict:
    """Return the value of gr.AnnotatedImage: the photo, at most `SHOWN` pixels wide or high, and a mask per class."""
    factor = min(1.0, SHOWN / max(ids.shape))
    size = tuple(max(1, round(side * factor)) for side in ids.shape[::-1])
    Image.fromarray(image).resize(size, Image.Resampling.BILINEAR).save(folder / "photo.webp")
    small = np.asarray(Image.fromarray(ids).resize(size, Image.Resampling.NEAREST))
    masks = []
    for i in np.unique(small).tolist():
        mask = Image.fromarray((small == i).astype(np.uint8)).convert("P")
        mask.putpalette([0, 0, 0, *map(int, labels.palette[i])])
        mask.save(folder / f"mask_{i}.png", transparency=bytes([0, 153]))  # 153 of 255: the photo shows through
        masks.append(Annotation(image=FileData(path=str(folder / f"mask_{i}.png")), label=labels.names[i]))
    return AnnotatedImageData(image=FileData(path=str(folder / "photo.webp")), annotations=masks).model_dump()


def shares(ids: np.ndarray, labels: LabelInfo) -> list[list]:
    """Return [[class, share of pixels]] of the predicted classes, largest share first."""
    counts = np.bincount(ids.reshape(-1), minlength=len(labels.names))
    return [[labels.names[i], f"{counts[i] / ids.size:.1%}"] for i in np.argsort(-counts) if counts[i]]


if __name__ == "__main__":
    main()
