"""What training minimises: a loss of `losses.py`, and the weight of auxiliary losses, as the flags choose them.

losses.py is copied next to saved networks, which do not need flags. So what reads them is here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from .arguments import LossOptions
from .errors import ModelError
from .losses import Sums, enet_class_weights, make_loss

LossFunction = Callable[[torch.Tensor, torch.Tensor], Sums]  # of logits and labels


@dataclass(frozen=True)
class Objective:
    """The loss of the logits plus `aux_weight` times the loss of each map of auxiliary logits.

    options             flags
    default_aux_weight  the model's weight of auxiliary losses
    published           loss weights by train id that were published for the classes; () if there are none

    Raises ModelError if the flags ask for published weights and there are none.
    """

    options: LossOptions
    default_aux_weight: float = 0.0
    published: Sequence[float] = ()

    def __post_init__(self):
        if self.options.class_weights == "challenge" and not self.published:
            raise ModelError(
                "--class_weights challenge needs the Cityscapes classes, or weights in classes.yaml: use enet"
            )

    @property
    def aux_weight(self) -> float:
        """The weight of each auxiliary loss. If it is 0, the network needs no auxiliary head."""
        given = self.options.aux_weight
        return self.default_aux_weight if given is None else given

    def loss_function(self, pixels: Sequence[int], device: torch.device | None = None) -> LossFunction:
        """Return the loss as a function (logits, labels) -> (sum, weight).

        pixels  training pixels of each class
        device  where the class weights are kept
        """
        options, weights = self.options, None
        if options.loss == "weighted_ce":
            weights = torch.tensor(self._class_weights(pixels), device=device)
        return make_loss(options.loss, weights, options.focal_gamma)

    def _class_weights(self, pixels: Sequence[int]) -> Sequence[float]:
        """Return the published weights, unless there are none or the flags ask for ENet's."""
        if self.published and self.options.class_weights != "enet":
            return self.published
        return enet_class_weights(pixels, self.options.class_weights_constant)
