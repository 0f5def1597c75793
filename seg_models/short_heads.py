"""Compute SegFormer's head (Xie et al., 2021, arXiv 2105.15203, section 3.2) with fewer operations."""

from typing import Any

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

    def __init__(self, config: SegformerConfig, norm: str = "batch"):
        super().__init__(config)
        self.batch_norm = norm_layer(norm, config.decoder_hidden_size, act=True)
        self.activation = activation_after(self.batch_norm)

    def forward(self, encoder_hidden_states: list[torch.Tensor], **kwargs: Any) -> torch.Tensor:
        """Map features (B, C_i, H_i, W_i), largest first, to logits (B, C, H_0, W_0)."""
        if encoder_hidden_states[-1].ndim == 3:  # a flattened map
            return super().forward(encoder_hidden_states, **kwargs)
        # The list is called linear_c, or linear_projections in newer releases of transformers.
        projections = [mlp.proj for mlp in next(m for m in self.children() if isinstance(m, nn.ModuleList))]
        fuse = self.linear_fuse.weight.flatten(1).chunk(len(projections), dim=1)[::-1]  # stored smallest map first
        fused = 0
        size = encoder_hidden_states[0].shape[2:]
        for x, first, second in zip(encoder_hidden_states, projections, fuse, strict=True):
            weight = (second @ first.weight)[:, :, None, None]
            x = F.conv2d(x, weight, second @ first.bias)
            fused = fused + F.interpolate(x, size=size, mode="bilinear", align_corners=False)
        x = F.dropout2d(self.activation(self.batch_norm(fused)), self.dropout.p, self.training)
        return self.classifier(x)


def shorten_heads(model: nn.Module) -> None:
    """Replace `transformers`' heads in `model` by short ones, in place. Saved weights and configuration stay the same.

    A subclass of their head, which may compute something else, stays as it is.
    """
    _replace_heads(model, SegformerDecodeHead, ShortHead)


def lengthen_heads(model: nn.Module) -> None:
    """Undo `shorten_heads`, so that the heads compute as published. operations.py counts them so."""
    _replace_heads(model, ShortHead, SegformerDecodeHead)


def _replace_heads(model: nn.Module, old: type[nn.Module], new: type[nn.Module]) -> None:
    """Replace heads of the class `old` by heads of the class `new` that share their layers."""
    for parent in list(model.modules()):
        for name, head in parent.named_children():
            if type(head) is not old:
                continue
            with torch.device("meta"):  # the loop below replaces these layers
                replacement = new(head.config)
            for part, layer in head.named_children():
                setattr(replacement, part, layer)
            setattr(parent, name, replacement.train(head.training))
