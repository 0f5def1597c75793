"""The models of the app: loading one, predicting a photo with it, and what its card says."""

import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from huggingface_hub import ModelCard

from app_viewer import Prediction, shown_size
from data_scripts.catalog import UNNAMED, data_note
from data_scripts.fold_files import Division, divided
from data_scripts.labels import DataError
from data_scripts.sources import load_source
from model_paths import STREET, default_model
from prediction_job import open_model, settings_of
from seg_models.arguments import ViewOptions
from seg_models.calibration import at_temperature, confidence, entropy
from seg_models.cost import prediction_memory, prediction_pixels
from seg_models.predictor import Predictor
from seg_models.views import Views
from seg_runs.temperatures import read_temperatures, stored_temperature
from trained_model import free_memory_of, label_set, processor_size

STREETS = ("cityscapes", "minicity", "camvid", "camvid32", "kitti", "virtual_kitti")  # data sets of streets


class Segmenter:
    """A loaded model: `segmenter(image, views)` returns a `Prediction`.

    test_size  (H, W) at which it sees photos, in place of the size at which it was validated

    The `size` of the views that its methods take is not read.
    """

    def __init__(self, name: str, test_size: list[int] | None, trust_remote_code: bool, accelerator: Accelerator):
        self.trained = open_model(name, trust_remote_code)
        trained, self.processor = self.trained, self.trained.processor
        dataset, self.labels = label_set(trained.model, trained.folder, trained.arguments.get("dataset"))
        self.facts = model_facts(trained.folder, dataset)
        network = trained.model.to(memory_format=torch.channels_last)
        self.model = accelerator.prepare_model(network, evaluation_mode=True)
        self.device, self.precision = accelerator.device, accelerator.mixed_precision
        self.size = test_size or processor_size(self.processor)
        self.examples = example_images(dataset, trained.arguments)
        self.has_temperatures = bool(read_temperatures(trained.folder))
        self.memory = lru_cache(maxsize=256)(self._memory)

    def __call__(self, image: np.ndarray, views: Views, calibrated: bool = True) -> Prediction:
        """Predict a photo, uint8 (H, W, 3). With `calibrated`, confidences use the temperature stored for `views`."""
        begun, views = time.perf_counter(), self._views(views)
        predictor = self._predictor(views)
        scores = predictor(torch.from_numpy(image.copy()).permute(2, 0, 1).to(self.device))
        ids = scores.argmax(0).to(torch.uint8).cpu().numpy()
        size = image.shape[:2]
        small = F.interpolate(scores[None], shown_size(size), mode="area")[0]
        probabilities = predictor.as_probabilities(small, size)
        temperature = self._temperature(views) if calibrated else None
        if temperature is not None:
            probabilities = at_temperature(probabilities, temperature)
        found = {"confidence": confidence(probabilities), "entropy": entropy(probabilities)}
        maps = {name: values.clamp(0, 1).cpu().numpy() for name, values in found.items()}
        return Prediction(image, ids, maps, temperature, time.perf_counter() - begun)

    def _views(self, views: Views) -> Views:
        return replace(views, size=self.size)

    def _predictor(self, views: Views) -> Predictor:
        return Predictor(self.model, self.processor.image_mean, self.processor.image_std, views)

    def _temperature(self, views: Views) -> float | None:
        """Return the temperature that `predict_seg.py --calibrate` stored for these views, or None."""
        settings = settings_of(ViewOptions(), views, [self.trained], self.precision)
        return stored_temperature(self.trained.folder, settings)

    def pixels(self, size: tuple[int, int], views: Views) -> int:
        """Return the number of pixels that the network processes for a photo of `size` (H, W), over all views."""
        return prediction_pixels(self.model, size, self._views(views))

    def _memory(self, size: tuple[int, int], views: Views) -> int:
        """Return the bytes that predicting a photo of `size` (H, W) takes on the device."""
        views = self._views(views)
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
    """Return paths of test or validation images of the model's data set.

    trained  flags of the run, or {}

    Where the data set is not on this machine: a photo of a street if it shows streets, else [].
    """
    path = trained.get("dataset_path")
    division = Division(val_share=trained.get("val_share"), group_by=trained.get("group_by"))
    try:
        data, labels = load_source(dataset, path)
        data = data if "test" in data else divided(data, labels, division, dataset, path)
    except DataError:
        return [str(STREET)] if dataset in STREETS and STREET.is_file() else []
    split = data["test"] if "test" in data else data["validation"]
    return [image["path"] for image in split["image"]]


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
