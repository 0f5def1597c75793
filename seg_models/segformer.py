"""SegFormer (Xie et al., 2021, arXiv 2105.15203): transformers' own, and ours where that cannot be.

As published, with batch norm in the head, it is `SegformerForSemanticSegmentation`, which loads anywhere. With another
norm or an auxiliary head it is `SegFormer`, under a model type of its own: the native class would come back with batch
norm and wrong logits.
"""

import torch
from transformers import SegformerConfig, SegformerModel, SegformerPreTrainedModel

from .modeling import AuxiliaryHead, SegmentationOutput, mean_cross_entropy
from .names import SEGFORMER_TYPE
from .short_heads import ShortHead


class SegFormerConfig(SegformerConfig):
    """transformers' configuration with the head's `norm`, and `dataset`, the label set of the classes."""

    model_type = SEGFORMER_TYPE

    norm: str = "batch"
    dataset: str | None = None


class SegFormer(AuxiliaryHead, SegformerPreTrainedModel):
    """SegFormer whose head has any norm; the encoder's layer norms stay. Its layers have the names of transformers'."""

    config_class = SegFormerConfig

    def __init__(self, config: SegFormerConfig):
        super().__init__(config)
        self.segformer = SegformerModel(config)
        self.decode_head = ShortHead(config, config.norm)
        self.aux_classifier = None
        self.post_init()

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None) -> SegmentationOutput:
        """`pixel_values` (B, 3, H, W), normalised -> `logits` (B, C, H/4, W/4); with `labels` also the mean `loss`."""
        features = self.segformer(pixel_values, output_hidden_states=True).hidden_states
        logits = self.decode_head(features)
        auxiliary = self.auxiliary_logits(features) or None
        return SegmentationOutput(loss=mean_cross_entropy(logits, labels), logits=logits, aux_logits=auxiliary)
