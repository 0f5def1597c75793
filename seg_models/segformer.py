"""SegFormer (Xie et al., 2021, arXiv 2105.15203), with any norm in its head and an optional auxiliary head.

The published network, with batch norm in the head, is `transformers`' own `SegformerForSemanticSegmentation`, which
loads anywhere. With another norm or an auxiliary head it is `SegFormer`, which has its own model type: the native class
would load it with batch norm and compute wrong logits.
"""

import torch
from transformers import SegformerConfig, SegformerModel, SegformerPreTrainedModel

from .modeling import AuxiliaryHead, SegmentationOutput, mean_cross_entropy
from .short_heads import ShortHead

# Widths and depths of the stages and width of the head, from tables 1 and 6 of the paper.
B0 = {"hidden_sizes": [32, 64, 160, 256], "depths": [2, 2, 2, 2], "decoder_hidden_size": 256}
B1 = {"hidden_sizes": [64, 128, 320, 512], "depths": [2, 2, 2, 2], "decoder_hidden_size": 256}
B2 = {"hidden_sizes": [64, 128, 320, 512], "depths": [3, 4, 6, 3], "decoder_hidden_size": 768}
B3, B4, B5 = ({**B2, "depths": depths} for depths in ([3, 4, 18, 3], [3, 8, 27, 3], [3, 6, 40, 3]))
VARIANTS = {"b0": B0, "b1": B1, "b2": B2, "b3": B3, "b4": B4, "b5": B5}


class SegFormerConfig(SegformerConfig):
    """`transformers`' configuration with `norm`, the head's norm, and `dataset`, the label set of the classes."""

    model_type = "minicity_segformer"

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

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None) -> SegmentationOutput:
        """Map normalised `pixel_values` (B, 3, H, W) to `logits` (B, C, H/4, W/4).

        With `labels` (B, H, W), the output also has the mean `loss`.
        """
        features = self.segformer(pixel_values, output_hidden_states=True).hidden_states
        logits = self.decode_head(features)
        auxiliary = self.auxiliary_logits(features) or None
        return SegmentationOutput(loss=mean_cross_entropy(logits, labels), logits=logits, aux_logits=auxiliary)
