"""A page in the browser: give a photo, see what each pixel is, download the prediction.

    python app_gradio.py                                        # the newest complete run under runs/
    python app_gradio.py --model_name_or_path runs/A USER/NAME  # these can be chosen from, one of them on a hub
    python app_gradio.py --examples my_photos

The id image is the one that predict_seg.py writes with the same scales and flips, byte for byte.
"""

from seg_runs.arguments import AppArguments, parse_arguments
from seg_runs.launch import one_line_errors

if __name__ == "__main__":  # --help and mistakes in flags are answered before torch is loaded, which takes seconds
    with one_line_errors():
        parse_arguments(AppArguments)

import os
import tempfile
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before the import, which reads it

import gradio as gr
import numpy as np
import torch
from PIL import Image

from data_scripts.labels import DataError
from data_scripts.reader import read_image, upright_size
from data_scripts.sources import list_images, load_source
from predict_seg import find_model, label_set, load_model, processor_size, read_arguments
from seg_models import ModelError, Predictor
from seg_models.predictor import MULTI_SCALE
from seg_runs.launch import RunError, make_accelerator
from seg_runs.predictions import Predictions
from seg_runs.run_folder import make_folders, newest_run, remove

SHOWN = 1280  # longer side of the annotated image in pixels; downloads have the photo's size
NUM_EXAMPLES = 6


def main(argv: list[str] | None = None) -> None:
    with one_line_errors(DataError, ModelError):
        args = parse_arguments(AppArguments, argv)
        page = build_page(args)
        page.queue(default_concurrency_limit=1, max_size=20)
        try:
            page.launch(
                server_name=args.server_name,
                server_port=args.server_port,
                max_file_size=f"{args.max_file_size}mb",
                show_error=True,
                footer_links=[],
            )
        except OSError as error:  # the port is taken, or the address is not this machine's
            where = f"--server_name {args.server_name}"
            where += f" --server_port {args.server_port}" if args.server_port else ""
            raise RunError(f"cannot listen at {where}: {error}") from error


class Segmenter:
    """A loaded model: `segmenter(path, scales, flip)` -> (photo (H, W, 3), train ids (H, W)), both uint8."""

    def __init__(self, name: str, test_size: list[int] | None, trust_remote_code: bool, accelerator):
        run, folder = find_model(name)
        trained = read_arguments(run)
        model, self.processor = load_model(folder, trust_remote_code)
        dataset, self.labels = label_set(model, folder, trained.get("dataset"))
        model = model.to(memory_format=torch.channels_last)
        self.model = accelerator.prepare_model(model, evaluation_mode=True)
        self.device = accelerator.device
        self.size = test_size or processor_size(self.processor)
        self.examples = example_images(dataset, trained.get("dataset_path"))

    def __call__(self, path: str, scales, flip: bool) -> tuple[np.ndarray, np.ndarray]:
        image = read_image(path)
        mean, std = self.processor.image_mean, self.processor.image_std
        predictor = Predictor(self.model, mean, std, self.size, scales, flip)
        pixels = torch.from_numpy(image.copy()).permute(2, 0, 1).to(self.device)
        return image, predictor.labels(pixels).to(torch.uint8).cpu().numpy()


def example_images(dataset: str, path: str | None) -> list[str]:
    """Images of the data that the model was trained for, if they are here."""
    try:
        data, _ = load_source(dataset, path)
    except DataError:
        return []
    split = data["test"] if "test" in data else data["validation"]
    return [image["path"] for image in split["image"]]


def build_page(args: AppArguments) -> gr.Blocks:
    """Load the models that can be chosen, and lay out the page."""
    accelerator = make_accelerator()
    names = args.model_name_or_path or [str(newest_run())]
    segmenters = {name: Segmenter(name, args.test_size, args.trust_remote_code, accelerator) for name in names}
    first = segmenters[names[0]]
    scratch = tempfile.TemporaryDirectory(prefix="minicity-seg-")
    examples = [str(path) for path in list_images(Path(args.examples))] if args.examples else first.examples
    examples = examples[:: max(1, len(examples) // NUM_EXAMPLES)][:NUM_EXAMPLES]

    def segment(path: str | None, name: str, scales: list[float], flip: bool):
        if not path:
            raise gr.Error("Give a photo first: upload one or pick an example.")
        if not scales:
            raise gr.Error("Choose at least one scale.")
        segmenter = segmenters[name]
        try:
            height, width = upright_size(path)
            if height * width > args.max_megapixels * 1e6:
                raise gr.Error(
                    f"This photo has {height * width / 1e6:.0f} megapixels and the limit is {args.max_megapixels}: "
                    "make it smaller, or start the app with a larger --max_megapixels."
                )
            image, ids = segmenter(path, sorted(scales), flip)
        except DataError as error:
            raise gr.Error(str(error)) from error
        labels = segmenter.labels
        files = Predictions(Path(scratch.name), "app")
        remove(*files.folders)  # gradio has copied what the last request wrote
        make_folders(*files.folders)
        stem = Path(path).stem
        files.write(stem, labels.to_source(ids), labels.to_color(ids))
        return annotated(image, ids, labels), shares(ids, labels), *(str(f / f"{stem}.png") for f in files.folders)

    colors = {}
    for labels in (segmenter.labels for segmenter in segmenters.values()):
        colors |= {name: f"#{bytes(color).hex()}" for name, color in zip(labels.names, labels.palette, strict=True)}
    with gr.Blocks(title="minicity-seg", analytics_enabled=False, delete_cache=(3600, 3600), fill_width=True) as page:
        gr.Markdown("# What is each pixel?\nUpload a photo of a street, or pick an example, and press *Segment*.")
        with gr.Row():
            with gr.Column():
                photo = gr.Image(type="filepath", image_mode=None, sources=["upload"], label="Photo", height=420)
                name = gr.Dropdown(names, value=names[0], label="Model", visible=len(names) > 1)
                scales = gr.CheckboxGroup(list(MULTI_SCALE), value=[1.0], label="Scales that are averaged")
                flip = gr.Checkbox(False, label="Mirrored too")
                button = gr.Button("Segment", variant="primary")
                if examples:
                    gr.Examples(examples, photo, label="Examples")
            with gr.Column():
                picture = gr.AnnotatedImage(label="Prediction", color_map=colors, height=420)
                with gr.Row():
                    ids_file = gr.DownloadButton("Ids (PNG)")
                    colors_file = gr.DownloadButton("Colours (PNG)")
                table = gr.Dataframe(headers=["class", "share of pixels"], label="Classes", interactive=False)
        outputs = [picture, table, ids_file, colors_file]
        button.click(segment, [photo, name, scales, flip], outputs, api_name="segment")
    return page


def annotated(image: np.ndarray, ids: np.ndarray, labels):
    """What gr.AnnotatedImage takes: the photo, made smaller, and a mask for each class that is in it."""
    factor = min(1.0, SHOWN / max(ids.shape))
    size = tuple(max(1, round(side * factor)) for side in ids.shape[::-1])
    photo = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
    small = np.asarray(Image.fromarray(ids).resize(size, Image.Resampling.NEAREST))
    return photo, [(0.6 * (small == i), name) for i, name in enumerate(labels.names) if (small == i).any()]


def shares(ids: np.ndarray, labels) -> list[list]:
    """[[class, share of pixels]], the largest first; classes that were not predicted are left out."""
    counts = np.bincount(ids.reshape(-1), minlength=len(labels.names))
    return [[labels.names[i], f"{counts[i] / ids.size:.1%}"] for i in np.argsort(-counts) if counts[i]]


if __name__ == "__main__":
    main()
