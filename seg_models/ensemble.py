"""Predict with several networks: the mean of their probabilities, class by class."""

from collections.abc import Sequence

import torch

from .class_names import each_distinct
from .errors import ModelError
from .predictor import PixelPredictor, Predictor


class Ensemble(PixelPredictor):
    """The predictors of several networks as one: `ensemble(image)` returns the mean of their probabilities.

    predictors  at least one; they may have other architectures, sizes and views
    names       the classes of each predictor, in its order

    Classes are matched by name, and come in the order of the first predictor. Raises ModelError if a predictor has
    other classes.
    """

    def __init__(self, predictors: Sequence[Predictor], names: Sequence[Sequence[str]]):
        self.predictors = predictors
        self.orders = [class_order(names[0], own, number) for number, own in enumerate(names, start=1)]

    @torch.no_grad()
    def __call__(self, image: torch.Tensor, size: tuple[int, int] | None = None) -> torch.Tensor:
        """Return probabilities, float32 (C, H, W), at `size` or the image's own."""
        total = None
        for predictor, order in zip(self.predictors, self.orders, strict=True):
            probabilities = predictor.probabilities(image, size)
            if order != sorted(order):
                probabilities = probabilities[order]
            total = probabilities if total is None else total.add_(probabilities)
        return total.div_(len(self.predictors))

    def as_probabilities(self, scores: torch.Tensor, image_size: Sequence[int]) -> torch.Tensor:
        """Return `scores`: they are probabilities."""
        return scores

    def memory(self, image_size: Sequence[int]) -> int:
        total = 4 * self.classes * image_size[0] * image_size[1]
        return total + max(predictor.memory(image_size) for predictor in self.predictors)

    @property
    def classes(self) -> int:
        return self.predictors[0].classes

    @property
    def device(self) -> torch.device:
        return self.predictors[0].device


def class_order(wanted: Sequence[str], own: Sequence[str], number: int) -> list[int]:
    """Return the index in `own` of each of the `wanted` classes. Raises ModelError if the names differ.

    number  of the model, counted from 1, for the message
    """
    if sorted(wanted) != sorted(own):
        different = sorted(set(wanted) ^ set(own))
        raise ModelError(
            f"models of one ensemble need the same classes: those of model {number} differ from the first one's in "
            f"{', '.join(different[:5])}{' ...' if len(different) > 5 else ''}"
        )
    places = {name: place for place, name in enumerate(each_distinct(own))}
    return [places[name] for name in each_distinct(wanted)]
