"""What networks return, and the second head that they can train with."""

from dataclasses import dataclass

import torch
from torchvision.models.segmentation.fcn import FCNHead
from transformers.modeling_outputs import SemanticSegmenterOutput

from .layers import resize_logits
from .losses import cross_entropy
from .norms import convert_norms


@dataclass
class SegmentationOutput(SemanticSegmenterOutput):
    """`transformers`' output plus `aux_logits`, a tuple of (B, C, h', w') with losses of their own, or None."""

    aux_logits: tuple[torch.FloatTensor, ...] | None = None


def mean_cross_entropy(logits: torch.Tensor, labels: torch.Tensor | None, ignore_index: int) -> torch.Tensor | None:
    """Return the mean cross entropy over the pixels of `labels` that are not ignored, or None without labels."""
    if labels is None:
        return None
    total, weight = cross_entropy(resize_logits(logits, labels.shape[-2:]), labels, ignore_index)
    return total / weight.clamp(min=1)


class AuxiliaryHead:
    """Mixin for networks that can train with a second head on the encoder's second-to-last map (deep supervision).

    Zhao et al., 2017, arXiv 1612.01105, section 3.3. The head is torchvision's FCN head, under torchvision's name
    `aux_classifier`. It is not saved: in a loaded model, `aux_classifier` is None.
    """

    def add_auxiliary_head(self, channels: int) -> None:
        """Add the head. `channels` is the number of channels of the encoder's second-to-last map."""
        head = convert_norms(FCNHead(channels, self.config.num_labels), self.config.norm)
        head.apply(self._init_weights)
        self.aux_classifier = head
        unsaved = {f"aux_classifier.{name}" for name in head.state_dict()}
        self._keys_to_ignore_on_save = unsaved.union(self._keys_to_ignore_on_save or ())

    def auxiliary_logits(self, features: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        return (self.aux_classifier(features[-2]),) if self.training and self.aux_classifier is not None else ()
