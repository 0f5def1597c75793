"""What networks return, and the second head that they can train with."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torchvision.models.segmentation.fcn import FCNHead
from transformers import PretrainedConfig
from transformers.modeling_outputs import SemanticSegmenterOutput

from .layers import resize_logits
from .losses import cross_entropy
from .norms import convert_norms


@dataclass
class SegmentationOutput(SemanticSegmenterOutput):
    """`transformers`' output plus `aux_logits`, a tuple of (B, C, h', w') with losses of their own, or None."""

    aux_logits: tuple[torch.FloatTensor, ...] | None = None


def mean_cross_entropy(logits: torch.Tensor, labels: torch.Tensor | None, ignore_index: int) -> torch.Tensor | None:
    """Return the mean cross entropy over the pixels of `labels` that are not ignored, or None without labels.

    Raises ValueError unless `labels` are integers (B, H, W) and there are two classes or more.
    """
    if labels is None:
        return None
    images, classes = logits.shape[:2]
    is_integer = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    if labels.ndim != 3 or len(labels) != images or not is_integer:
        raise ValueError(f"labels must be integers ({images}, H, W), not {labels.dtype} {tuple(labels.shape)}")
    if classes < 2:
        raise ValueError("cross entropy needs two classes or more, background included: num_labels is 1")
    total, weight = cross_entropy(resize_logits(logits, labels.shape[-2:]), labels, ignore_index)
    return total / weight.clamp(min=1)


def hidden_states(
    features: Sequence[torch.Tensor], asked: bool | None, config: PretrainedConfig
) -> tuple[torch.Tensor, ...] | None:
    """Return the encoder's maps if they are asked for, by the caller or else by the configuration."""
    return tuple(features) if (config.output_hidden_states if asked is None else asked) else None


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
