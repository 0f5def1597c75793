"""SegFormer (Xie et al., 2021, arXiv 2105.15203), with any norm in its head and an optional auxiliary head.

The published network has batch norm in its head. It uses `transformers`' own `SegformerForSemanticSegmentation`, which
loads without this package. With another norm or an auxiliary head, the network is `SegFormer`. It has its own model
type, because the native class would load it with batch norm and compute wrong logits.
"""

import torch
from transformers import SegformerConfig, SegformerModel, SegformerPreTrainedModel
from transformers.utils import can_return_tuple

from .names import SEGFORMER_TYPE
from .output import AuxiliaryHead, SegmentationOutput, hidden_states, mean_cross_entropy
from .short_heads import ShortHead


class SegFormerConfig(SegformerConfig):
    """`transformers`' configuration with `norm`, the head's norm, and `dataset`, the label set of the classes."""

    model_type = SEGFORMER_TYPE

    norm: str = "batch"
    dataset: str | None = None


class SegFormer(AuxiliaryHead, SegformerPreTrainedModel):
    """SegFormer with any norm in its head. The encoder keeps its layer norms. Layer names are `transformers`'."""

    config_class = SegFormerConfig

    def __init__(self, config: SegFormerConfig):
        super().__init__(config)
        self.segformer = SegformerModel(config)
        self.decode_head = ShortHead(config, config.norm)
        self.aux_classifier = None
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> SegmentationOutput:
        """Map normalised `pixel_values` (B, 3, H, W) to `logits` (B, C, H/4, W/4).

        With `labels` (B, H, W), the output also has the mean `loss` over pixels that are not
        `config.semantic_loss_ignore_index`, 255 unless set. train_seg.py computes its own losses.
        With `output_hidden_states`, the output also has `hidden_states`, the encoder's four maps, finest first.
        """
        features = self.segformer(pixel_values, output_hidden_states=True).hidden_states
        logits = self.decode_head(features)
        auxiliary = self.auxiliary_logits(features) or None
        loss = mean_cross_entropy(logits, labels, self.config.semantic_loss_ignore_index)
        maps = hidden_states(features, output_hidden_states, self.config)
        return SegmentationOutput(loss=loss, logits=logits, hidden_states=maps, aux_logits=auxiliary)
