"""The models of the app: loading one, and predicting a photo with it."""

import time
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator

from seg_jobs.prediction_job import open_model, settings_of, turns_photos
from seg_jobs.trained_model import free_memory_of, label_set, processor_size
from seg_models.arguments import ViewOptions
from seg_models.calibration import MEASURES, at_temperature
from seg_models.cost import prediction_memory, prediction_pixels
from seg_models.predictor import Predictor
from seg_models.views import Views
from seg_runs.temperatures import stored_temperature

from .viewer import Prediction, shown_size


class Segmenter:
    """A loaded model: `segmenter(image, views)` returns a `Prediction`.

    test_size  (H, W) at which it sees photos, in place of the size at which it was validated

    `size` and `turn` of the views that its methods take are not read.
    """

    def __init__(self, name: str, test_size: list[int] | None, trust_remote_code: bool, accelerator: Accelerator):
        self.trained = open_model(name, trust_remote_code)
        trained = self.trained
        self.processor = self.trained.processor
        _, self.labels = label_set(trained.model, trained.folder, trained.arguments.get("dataset"))
        network = trained.model.to(memory_format=torch.channels_last)
        self.model = accelerator.prepare_model(network, evaluation_mode=True)
        self.device, self.precision = accelerator.device, accelerator.mixed_precision
        self.size = test_size or processor_size(self.processor)
        self.turn = not test_size and turns_photos(trained)
        self.memory = lru_cache(maxsize=256)(self._memory)

    def __call__(self, image: np.ndarray, views: Views, calibrated: bool = True) -> Prediction:
        """Predict a photo, uint8 (H, W, 3). With `calibrated`, confidences use the temperature stored for `views`."""
        begun = time.perf_counter()
        views = self._views(views)
        predictor = self._predictor(views)
        scores = predictor(torch.from_numpy(image.copy()).permute(2, 0, 1).to(self.device))
        ids = scores.argmax(0).to(torch.uint8).cpu().numpy()
        size = image.shape[:2]
        small = F.interpolate(scores[None], shown_size(size), mode="area")[0]
        probabilities = predictor.as_probabilities(small, size)
        temperature = self._temperature(views) if calibrated else None
        if temperature is not None:
            probabilities = at_temperature(probabilities, temperature)
        maps = {name: measure(probabilities).clamp(0, 1).cpu().numpy() for name, measure in MEASURES.items()}
        return Prediction(image, ids, maps, temperature, time.perf_counter() - begun)

    def _views(self, views: Views) -> Views:
        return replace(views, size=self.size, turn=self.turn)

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
        return prediction_memory(self.model, size, self._views(views))

    def free_memory(self, wanted: int) -> int:
        """Return the free bytes on the device; see `free_memory_of`."""
        return free_memory_of(self.device, wanted)
