"""Segment photos in the browser: upload a photo, look at the prediction, download it.

    python app_gradio.py                                        # the newest complete run under runs/
    python app_gradio.py --model_name_or_path runs/A USER/NAME  # users choose between these; the second is on a hub
    python app_gradio.py --examples my_photos
    python app_gradio.py --export_space my_space                # writes a folder for a hub Space

The id image equals the one that predict_seg.py writes with the same scales and flips, byte for byte.

app_server.py, imported before gradio, lets users reach only their own photos and predictions. Only `Photo` reads
photos.
"""

from script_arguments import AppArguments, answer_early

answer_early(__name__, AppArguments)

import re
import secrets
import shutil
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

from app_server import API_NAME, KEPT_SECONDS, PAGE_NAME, Gate, ended_by_signals, server_folder, swept  # isort: skip

import gradio as gr
import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from huggingface_hub import ModelCard
from starlette.middleware import Middleware

from app_space import export_space
from app_viewer import add_differences, sent, shares_of, shown_size, view_of, viewer
from data_scripts.catalog import UNNAMED, data_note
from data_scripts.fold_files import Division, divided
from data_scripts.labels import DataError, LabelInfo
from data_scripts.listing import list_images
from data_scripts.reader import number_of_pixels, read_image, upright_size
from data_scripts.sources import load_source
from prediction_job import open_model, settings_of
from seg_models.arguments import ViewOptions
from seg_models.calibration import at_temperature, confidence, entropy
from seg_models.cost import prediction_memory, prediction_pixels
from seg_models.errors import ModelError
from seg_models.names import MULTI_SCALE
from seg_models.predictor import Predictor
from seg_models.views import Views
from seg_runs.launch import RunError, make_accelerator, one_line_errors
from seg_runs.parsing import parse_arguments
from seg_runs.predictions import Predictions
from seg_runs.run_folder import make_folders
from seg_runs.temperatures import stored_temperature
from trained_model import default_model, free_memory_of, label_set, processor_size

NUM_EXAMPLES = 6
NOTHING = "nothing"  # in the list of models to compare with
CSS = "#head, #view, #other-view, :is(#head, #view, #other-view) .html-container { padding: 0 !important; }"
API_EXAMPLE = """from gradio_client import Client, handle_file

client = Client("http://127.0.0.1:7860")
photo = handle_file("street.png")
ids, colours, shares = client.predict(photo, "{name}", [1.0], False, api_name="/segment")
print(ids, shares)"""
WORK = 10  # limit on the pixels of one photo, summed over scales and mirrored views, in units of --max_megapixels


def main(argv: list[str] | None = None) -> None:
    with one_line_errors(DataError, ModelError):
        args = parse_arguments(AppArguments, argv)
        if args.export_space:
            export_space(Path(args.export_space), (args.model_name_or_path or [None])[0])
            print(f"wrote {args.export_space}. Before you publish it, read the terms in model/README.md there")
            return
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
                auth=[tuple(entry.split(":", 1)) for entry in args.auth or ()] or None,
                share=args.share,
                css=CSS,
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


@dataclass
class Prediction:
    """What a model says of a photo.

    image    the photo, uint8 (H, W, 3)
    ids      train ids, uint8 (H, W)
    maps     confidence and entropy, 0 to 1, float32, at the size at which the page shows the photo
    seconds  that it took
    """

    image: np.ndarray
    ids: np.ndarray
    maps: dict[str, np.ndarray]
    seconds: float


class Segmenter:
    """A loaded model: `segmenter(photo, scales, flip)` returns a `Prediction`."""

    def __init__(self, name: str, test_size: list[int] | None, trust_remote_code: bool, accelerator: Accelerator):
        self.trained = open_model(name, trust_remote_code)
        trained, self.processor = self.trained, self.trained.processor
        dataset, self.labels = label_set(trained.model, trained.folder, trained.arguments.get("dataset"))
        self.facts = model_facts(trained.folder, dataset)
        model = trained.model.to(memory_format=torch.channels_last)
        self.model = accelerator.prepare_model(model, evaluation_mode=True)
        self.device, self.precision = accelerator.device, accelerator.mixed_precision
        self.size = test_size or processor_size(self.processor)
        self.examples = example_images(dataset, trained.arguments)
        self.memory = lru_cache(maxsize=256)(self._memory)

    def __call__(self, photo: Photo, scales: tuple[float, ...], flip: bool) -> Prediction:
        begun, views = time.perf_counter(), self._views(scales, flip)
        image = photo.pixels()
        predictor = self._predictor(views)
        pixels = torch.from_numpy(image.copy()).permute(2, 0, 1).to(self.device)
        scores = predictor(pixels)
        ids = scores.argmax(0).to(torch.uint8).cpu().numpy()
        small = F.interpolate(scores[None], shown_size(photo.size), mode="area")[0]
        probabilities = predictor.as_probabilities(small, photo.size)
        if temperature := self._temperature(views):
            probabilities = at_temperature(probabilities, temperature)
        found = {"confidence": confidence(probabilities), "entropy": entropy(probabilities)}
        maps = {name: values.clamp(0, 1).cpu().numpy() for name, values in found.items()}
        return Prediction(image, ids, maps, time.perf_counter() - begun)

    def _views(self, scales: tuple[float, ...], flip: bool) -> Views:
        return Views(self.size, scales, flip)

    def _predictor(self, views: Views) -> Predictor:
        return Predictor(self.model, self.processor.image_mean, self.processor.image_std, views)

    def _temperature(self, views: Views) -> float | None:
        """Return the temperature that `predict_seg.py --calibrate` stored for these views, or None."""
        settings = settings_of(ViewOptions(), views, [self.trained], self.precision)
        return stored_temperature(self.trained.folder, settings)

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


def model_facts(folder: Path, dataset: str) -> dict[str, str]:
    """Return what the model's card says: `data`, `score` and `limits`; "" for what it does not say.

    dataset  key of the data set in the catalogue
    """
    title = data_note(dataset).title
    facts = {"data": "" if title == UNNAMED else title, "score": "", "limits": ""}
    try:
        card = ModelCard.load(folder / "README.md")
        results = card.data.eval_results or []
    except (OSError, ValueError, TypeError, AttributeError):  # no card, or one of another kind
        return facts
    for result in results:
        if result.metric_type == "mean_iou" and isinstance(result.metric_value, int | float):
            facts["data"] = facts["data"] or (result.dataset_name if result.dataset_name != UNNAMED else "")
            facts["score"] = f"mIoU {result.metric_value:.3f} on its {result.dataset_split or 'validation'} images"
            break
    _, _, limits = card.text.partition("## Intended use and limits")
    facts["limits"] = limits.partition("\n## ")[0].strip()
    return facts


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
        """Answer the API: return the PNGs of ids and colours, and each class's share of the pixels.

        The values have the form that gradio sends, so gradio opens no files itself.
        """
        return self._guarded(self._files, photo, [name], scales, flip)

    def show(self, photo: dict | None, name: str, other: str, scales: list[float], flip: bool) -> tuple:
        """Answer the page: return the view, the second view (hidden unless `other` is a model), both PNGs, the hint."""
        if photo is None:  # it was removed
            return None, gr.update(value=None, visible=False), None, None, ""
        names = [name] if other == NOTHING else [name, other]
        return self._guarded(self._page, photo, names, scales, flip)

    def _guarded(self, answer: Callable[..., tuple], photo: object, names: list, scales: object, flip: object) -> tuple:
        """Return the answer for a photo. What a user can correct becomes one sentence; the log gets the rest."""
        try:
            segmenters = [self._segmenter(name) for name in names]
            scales, flip = checked_scales(scales), checked_flip(flip)
            if not isinstance(photo, dict):
                raise refusal("Give a photo first: upload one or pick an example.")
            with self.one_at_a_time:
                return answer(Photo(photo["path"], self.max_megapixels), segmenters, scales, flip)
        except gr.Error:
            raise
        except Exception as error:
            raise self._apology(error) from error

    def _segmenter(self, name: object) -> Segmenter:
        if not isinstance(name, str) or name not in self.segmenters:
            raise refusal("There is no such model here: choose one from the list.")
        return self.segmenters[name]

    def _files(self, photo: Photo, segmenters: list[Segmenter], scales: tuple[float, ...], flip: bool) -> tuple:
        prediction = self._predict(photo, segmenters[0], scales, flip)
        with self._answer_folder() as folder:
            files = write_files(folder, photo, prediction, segmenters[0].labels)
        names = segmenters[0].labels.names
        return *files, {names[i]: share for i, share in shares_of(prediction.ids).items()}

    def _page(self, photo: Photo, segmenters: list[Segmenter], scales: tuple[float, ...], flip: bool) -> tuple:
        predictions = [self._predict(photo, segmenter, scales, flip) for segmenter in segmenters]
        views = []
        with self._answer_folder() as folder:
            for number, (segmenter, prediction) in enumerate(zip(segmenters, predictions, strict=True)):
                part = folder / str(number)
                part.mkdir()
                height, width = photo.size
                line = f"{width} x {height} pixels by {self._name(segmenter)}, in {prediction.seconds:.1f} s."
                views.append(view_of(prediction.image, prediction.ids, prediction.maps, segmenter.labels, line, part))
            if len(views) > 1:
                names = [segmenter.labels.names for segmenter in segmenters]
                add_differences(views[1], [prediction.ids for prediction in predictions], names, folder / "1")
            files = write_files(folder, photo, predictions[0], segmenters[0].labels)
        second = gr.update(value=views[1] if len(views) > 1 else None, visible=len(views) > 1)
        return views[0], second, *files, self._hint(photo, segmenters[0], predictions[0], scales, flip)

    def _name(self, segmenter: Segmenter) -> str:
        return next(name for name, known in self.segmenters.items() if known is segmenter)

    def _hint(
        self, photo: Photo, segmenter: Segmenter, prediction: Prediction, scales: tuple[float, ...], flip: bool
    ) -> str:
        """Return how long this photo takes at other settings, from the pixels that the network sees."""
        pace = prediction.seconds / segmenter.pixels(photo.size, scales, flip)
        one, most = (segmenter.pixels(photo.size, *views) * pace for views in (((1.0,), False), (MULTI_SCALE, True)))
        return (
            f"For this photo, one scale takes about {max(one, 0.1):.1f} s, all scales with mirrored views {most:.0f} s."
        )

    @contextmanager
    def _answer_folder(self) -> Iterator[Path]:
        """Create a folder with an unguessable name for the files of an answer. It goes if they cannot be written."""
        folder = self.folder / secrets.token_hex(16)
        try:
            folder.mkdir(mode=0o700)
            yield folder
        except (OSError, RunError):
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _predict(self, photo: Photo, segmenter: Segmenter, scales: tuple[float, ...], flip: bool) -> Prediction:
        self._refuse_too_much(photo.size, segmenter, scales, flip)
        return segmenter(photo, scales, flip)

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


def write_files(folder: Path, photo: Photo, prediction: Prediction, labels: LabelInfo) -> tuple[dict, dict]:
    """Write the PNGs of ids and of colours, as predict_seg.py does, and return both in the form that gradio sends."""
    stem, ids = Path(photo.name).stem, prediction.ids
    files = Predictions(folder, "app")
    make_folders(*files.folders.values())
    files.write(stem, {"ids": labels.to_source(ids), "color": labels.to_color(ids)})
    named = {kind: path.rename(path.with_name(f"{stem}_{kind}.png")) for kind, path in files.files(stem).items()}
    return sent(named["ids"]), sent(named["color"])


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
    caching = {"delete_cache": (60, KEPT_SECONDS)}
    with gr.Blocks(title="minicity-seg", analytics_enabled=False, fill_width=True, **caching) as page:
        gr.HTML(header(segmenters), elem_id="head", padding=False)
        with gr.Row(equal_height=False):
            with gr.Column(scale=3, min_width=320):
                with gr.Row():  # side by side where there is room
                    view = viewer(elem_id="view", min_width=320)
                    other_view = viewer(elem_id="other-view", min_width=320, visible=False)
            with gr.Column(scale=2, min_width=320):
                # gradio would open the photo itself without image_mode=None and `raw` below.
                sources = ["upload", "webcam", "clipboard"]
                photo = gr.Image(type="filepath", image_mode=None, sources=sources, label="Photo", height=280)
                chosen = add_examples(examples, photo) if examples else None
                with gr.Row():
                    ids_file = gr.DownloadButton("Ids (PNG)", size="sm")
                    colors_file = gr.DownloadButton("Colours (PNG)", size="sm")
                several = len(names) > 1
                name = gr.Dropdown(names, value=names[0], label="Model", visible=several)
                other = gr.Dropdown([NOTHING, *names], value=NOTHING, label="Compare with", visible=several)
                with gr.Accordion("More accurate, slower", open=False):
                    scales = gr.CheckboxGroup(list(MULTI_SCALE), value=[1.0], label="Scales to average over")
                    flip = gr.Checkbox(False, label="Mirrored views too")
                    hint = gr.Markdown()
                    again = gr.Button("Segment again")
                about(segmenters)
        # Otherwise gradio opens photos itself, and names the files that it writes after their content.
        raw = {"preprocess": False, "postprocess": False}
        asked, answered = [photo, name, other, scales, flip], [view, other_view, ids_file, colors_file, hint]
        # The old answer goes at once, and stays away if the new photo cannot be read.
        gone, cleared = "() => [null, null, null, null]", [view, other_view, ids_file, colors_file]
        photo.change(None, None, cleared, js=gone, api_visibility="private")
        events = [photo.change, name.input, other.input, again.click]
        private = {"api_name": PAGE_NAME, "api_visibility": "private", "trigger_mode": "always_last"}
        gr.on(events, requests.show, asked, answered, show_progress_on=view, **private, **raw)
        if chosen:  # an example is there, and segmented, when the page opens
            page.load(chosen, None, photo, api_visibility="private", **raw)
        add_api(requests, [photo, name, scales, flip], raw)
    return page


def add_api(requests: Requests, inputs: list[gr.Component], raw: dict) -> None:
    """Add the API's function, whose outputs the page does not show."""
    outputs = [gr.File(label="ids", visible=False), gr.File(label="colours", visible=False)]
    outputs.append(gr.JSON(label="shares", visible=False))
    gr.Button(visible=False).click(requests.segment, inputs, outputs, api_name=API_NAME, **raw)


def header(segmenters: dict[str, Segmenter]) -> str:
    """Return the head of the page as HTML: what it does, with which models."""
    lines = []
    for name, segmenter in segmenters.items():
        facts = [f"{len(segmenter.labels.names)} classes"]
        facts += [f"trained on {segmenter.facts['data']}"] if segmenter.facts["data"] else []
        facts += [segmenter.facts["score"]] if segmenter.facts["score"] else []
        toy = ". A toy: it knows drawn streets only" if "toycity" in segmenter.facts["data"].lower() else ""
        lines.append(f"<p style='margin:2px 0'><b>{escape(name)}</b>: {escape(', '.join(facts))}{toy}.</p>")
    return "<h1 style='margin:0 0 4px;font-size:26px'>What is each pixel?</h1>" + "".join(lines)


def about(segmenters: dict[str, Segmenter]) -> None:
    """Add what the cards say of the models' limits, and how to call the API."""
    for name, segmenter in segmenters.items():
        if segmenter.facts["limits"]:
            with gr.Accordion(f"What {name} can and cannot", open=False):
                gr.Markdown(segmenter.facts["limits"])
    with gr.Accordion("Use it from Python", open=False):
        gr.Code(API_EXAMPLE.format(name=next(iter(segmenters))), language="python", interactive=False, show_label=False)


def models_by_name(given: list[str] | None) -> dict[str, str]:
    """Return {name that users see: model}: a hub id as given, else the name of the folder, never a whole path."""
    named = {}
    for model in given or [str(default_model())]:
        path = Path(model)
        parts = path.resolve().parts if path.exists() else path.parts[-2:]
        parts = parts[:-1] if parts[-1] == "best" and len(parts) > 1 else parts
        short = parts[-1] if path.exists() else "/".join(parts)
        if short in named and path.exists():
            short = "/".join(parts[-2:])
        named[model if short in named else short] = model
    return named


def add_examples(paths: list[str], photo: gr.Image) -> Callable[[], dict]:
    """Add example photos to the page, and return a function that returns the first one.

    gradio copies them into its folder, and users get the copies.
    """
    dataset = gr.Dataset(components=[photo], samples=[[path] for path in paths], label="Examples", type="index")
    copies = [sample[0]["path"] if isinstance(sample[0], dict) else sample[0] for sample in dataset.samples]

    def pick(index: int) -> dict:
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(copies):
            raise refusal("There is no such example.")
        return sent(Path(copies[index]))

    dataset.click(pick, dataset, photo, api_visibility="private", preprocess=False, postprocess=False)
    return lambda: pick(0)


if __name__ == "__main__":
    main()
