"""Compute SegFormer's head (Xie et al., 2021, arXiv 2105.15203, section 3.2) with fewer operations.

The short way is used in training, and in eval mode once a `Predictor` holds the network. Otherwise, eval mode computes
the head as published, and operations.py counts it so.
"""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import SegformerConfig
from transformers.models.segformer.modeling_segformer import SegformerDecodeHead

from .norms import activation_after, norm_layer


class ShortHead(SegformerDecodeHead):
    """`transformers`' head with any norm. With batch norm it has the same parameters and, up to rounding, logits.

    The published head projects each map, upsamples it to the first map's size, and fuses all with one linear map over
    channels. Linear maps over channels commute with bilinear interpolation, which also preserves constants. So here
    each map is multiplied by the product of its two matrices while it is small, and the upsampled results are only
    added. Dropout zeroes whole channels, as in the authors' code. `transformers` zeroes single values, which costs a
    random number for each: 7 % of SegFormer-B0's step on a CPU.
    """

    in_eval = False

    def __init__(self, config: SegformerConfig, norm: str = "batch"):
        super().__init__(config)
        self.batch_norm = norm_layer(norm, config.decoder_hidden_size, act=True)
        self.activation = activation_after(self.batch_norm)

    @classmethod
    def of(cls, head: SegformerDecodeHead) -> "ShortHead":
        """Return a short head that shares the layers of `head`."""
        with torch.device("meta"):  # the loop below replaces these layers
            short = cls(head.config)
        for name, layer in head.named_children():
            setattr(short, name, layer)
        short.training = head.training
        return short

    def forward(self, encoder_hidden_states: list[torch.Tensor], **kwargs) -> torch.Tensor:
        """Map features (B, C_i, H_i, W_i), largest first, to logits (B, C, H_0, W_0)."""
        if not (self.training or self.in_eval) or encoder_hidden_states[-1].ndim == 3:  # 3 dimensions: a flattened map
            return super().forward(encoder_hidden_states, **kwargs)
        projections = [mlp.proj for mlp in next(m for m in self.children() if isinstance(m, nn.ModuleList))]
        fuse = self.linear_fuse.weight.flatten(1).chunk(len(projections), dim=1)[::-1]  # stored smallest map first
        fused, size = 0, encoder_hidden_states[0].shape[2:]
        for x, first, second in zip(encoder_hidden_states, projections, fuse, strict=True):
            weight = (second @ first.weight)[:, :, None, None]
            x = F.conv2d(x, weight, second @ first.bias)
            fused = fused + F.interpolate(x, size=size, mode="bilinear", align_corners=False)
        x = F.dropout2d(self.activation(self.batch_norm(fused)), self.dropout.p, self.training)
        return self.classifier(x)


def shorten_heads(model: nn.Module, in_eval: bool = False) -> None:
    """Make the heads of `model` use the short way in training, and also in eval mode with `in_eval`, in place.

    This does not change the saved weights or the configuration.
    """
    for parent in list(model.modules()):
        for name, module in parent.named_children():
            if type(module) is SegformerDecodeHead:  # not a subclass
                setattr(parent, name, ShortHead.of(module))
    for module in model.modules():
        if hasattr(module, "in_eval"):  # not isinstance: a head loaded from a model's own code is another class
            module.in_eval = in_eval
