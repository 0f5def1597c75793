"""Predict class scores for each pixel of an image. Validation, `predict_seg.py` and the app share this predictor."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn
from transformers import SegformerImageProcessor

from .cost import prediction_memory
from .layers import resize_logits
from .sides import smallest_side
from .views import ONE_VIEW, Views, Window, mirrored_together


def normalize(images: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Normalise images (B, 3, H, W) in 0..255 to zero mean and unit variance, float32 and channels_last.

    Images are normalised here only, on the device, so that batches travel as bytes: a quarter of the traffic.
    """
    mean = torch.tensor(mean, dtype=torch.float32, device=images.device).view(1, 3, 1, 1) * 255
    std = torch.tensor(std, dtype=torch.float32, device=images.device).view(1, 3, 1, 1) * 255
    return ((images.float() - mean) / std).contiguous(memory_format=torch.channels_last)


class PixelPredictor(ABC):
    """What predicts the classes of an image's pixels: one network, several, or either with a CRF.

    An image is uint8 (3, H, W), of any size, on `device`.
    """

    @abstractmethod
    def __call__(self, image: torch.Tensor, size: tuple[int, int] | None = None) -> torch.Tensor:
        """Return scores, float32 (C, H, W), at `size` (H, W), such as a label's size; by default at the image's own."""

    @abstractmethod
    def as_probabilities(self, scores: torch.Tensor, image_size: Sequence[int]) -> torch.Tensor:
        """Return the probabilities (C, H, W) that the scores (C, H, W) of an image of `image_size` (H, W) stand for."""

    @abstractmethod
    def memory(self, image_size: Sequence[int]) -> int:
        """Return about how many bytes an image of `image_size` (H, W) takes, besides the weights."""

    @property
    @abstractmethod
    def classes(self) -> int:
        """The number of classes, C."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the network is, and the images must be."""

    def probabilities(self, image: torch.Tensor, size: tuple[int, int] | None = None) -> torch.Tensor:
        """Return the probabilities of the classes, float32 (C, H, W), at `size` (H, W) or the image's own."""
        return self.as_probabilities(self(image, size), image.shape[-2:])

    def labels(self, image: torch.Tensor, size: tuple[int, int] | None = None) -> torch.Tensor:
        """Return train ids, int64 (H, W), at `size` or the image's own."""
        return self(image, size).argmax(0)


class Predictor(PixelPredictor):
    """Predict with one network.

    `mean` and `std` normalise an image. `views` are what the network sees of it. Views smaller than `smallest_side` are
    enlarged. The scores of a single view are its logits, so one scale without flip equals the plain forward pass.
    """

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float], views: Views = ONE_VIEW):
        self.model, self.mean, self.std, self.views = model, mean, std, views

    @torch.no_grad()
    def __call__(self, image: torch.Tensor, size: tuple[int, int] | None = None) -> torch.Tensor:
        self.model.eval()
        windows = self.views.windows(image.shape[-2:])
        size = tuple(size or image.shape[-2:])
        if len(windows) == 1:
            return self._see(image, windows[0].size, size, self.views.count > 1)[0]
        scores = self._blend(image, windows)
        return resize_logits(scores[None], size)[0]

    def _see(self, image: torch.Tensor, seen: tuple[int, int], size: tuple[int, int], averaged: bool) -> torch.Tensor:
        """Return the scores (1, C, *size) of an image or a window, the mean over its views.

        seen      (H, W) at which the network sees it at scale 1
        averaged  whether the scores enter an average, of probabilities unless the views say otherwise
        """
        views = self.views
        total = 0
        pixels = normalize(image[None], self.mean, self.std)
        for view_size in views.sizes(seen, smallest_side(self.model)):
            view = pixels
            if view_size != tuple(pixels.shape[-2:]):
                view = F.interpolate(pixels, size=view_size, mode="bilinear", align_corners=False, antialias=True)
            if mirrored_together(views, view.device):
                both = self._scores(torch.cat([view, view.flip(3)]), size, averaged)
                total = total + (both[:1] + both[1:].flip(3))
                continue
            total = total + self._scores(view, size, averaged)
            if views.flip:
                total += self._scores(view.flip(3), size, averaged).flip(3)
        return total / views.count

    def _scores(self, view: torch.Tensor, size: tuple[int, int], averaged: bool) -> torch.Tensor:
        """Return the scores (B, C, *size) of normalised pixels (B, 3, h, w)."""
        view = view.to(getattr(self.model, "dtype", view.dtype)).contiguous(memory_format=torch.channels_last)
        logits = resize_logits(self.model(view).logits, size)
        return logits.softmax(1) if averaged and self.views.average == "probabilities" else logits

    def _blend(self, image: torch.Tensor, windows: Sequence[Window]) -> torch.Tensor:
        """Return the scores (C, H, W) of an image, blended from those of windows."""
        rows = blending_weights({window.rows for window in windows}, image.device)
        columns = blending_weights({window.columns for window in windows}, image.device)
        total = None
        for window in windows:
            part = image[:, slice(*window.rows), slice(*window.columns)]
            scores = self._see(part, window.size, tuple(part.shape[-2:]), True)[0]
            if total is None:
                total = scores.new_zeros(len(scores), *image.shape[-2:])
            scores *= rows[window.rows][:, None]
            scores *= columns[window.columns]
            total[:, slice(*window.rows), slice(*window.columns)] += scores
        return total

    def as_probabilities(self, scores: torch.Tensor, image_size: Sequence[int]) -> torch.Tensor:
        return scores if self.views.gives_probabilities(image_size) else scores.softmax(0)

    def memory(self, image_size: Sequence[int]) -> int:
        return prediction_memory(self.model, image_size, self.views)

    @property
    def classes(self) -> int:
        return self.model.config.num_labels

    @property
    def device(self) -> torch.device:
        return self.model.device

    def image_processor(self) -> SegformerImageProcessor:
        """Return the image processor to save with the model. It prepares an image as a single view, up to rounding."""
        size = {"height": self.views.size[0], "width": self.views.size[1]} if self.views.size else None
        mean, std = list(self.mean), list(self.std)
        return SegformerImageProcessor(do_resize=size is not None, size=size, image_mean=mean, image_std=std)


def blending_weights(spans: set[tuple[int, int]], device: torch.device) -> dict[tuple[int, int], torch.Tensor]:
    """Return the weights of the positions of each (start, stop), float32. Over all spans, they add up to 1.

    A weight grows with the distance from the nearer end, so that what a network sees of a border counts least.
    """
    total = torch.zeros(max(stop for _, stop in spans), device=device)
    distances = {}
    for start, stop in spans:
        ahead = torch.arange(0.5, stop - start, device=device)
        distances[start, stop] = torch.minimum(ahead, ahead.flip(0))
        total[start:stop] += distances[start, stop]
    return {span: distance / total[slice(*span)] for span, distance in distances.items()}
