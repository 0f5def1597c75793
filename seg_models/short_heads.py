"""SegFormer's heads (Xie et al., 2021, arXiv 2105.15203, section 3.2) from fewer operations.

They do so in training, and in eval mode once a `Predictor` has the network. Otherwise eval mode computes as published,
and operations.py counts that.
"""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import SegformerConfig
from transformers.models.segformer.modeling_segformer import SegformerDecodeHead

from .norms import activation_after, norm_layer


class ShortHead(SegformerDecodeHead):
    """transformers' head with any norm: with batch norm the same parameters and, but for rounding, the same logits.

    As published each map is projected and enlarged to the first one's size, and one linear map over channels fuses them
    all. Linear maps over channels commute with bilinear interpolation, which keeps constants too; so here each map goes
    through the product of its two matrices where it is small, and what is enlarged is only added up. Dropout takes
    whole channels, as in the authors' code: single values, as transformers drops them, cost a random number each, 7 %
    of SegFormer-B0's step on a CPU.
    """

    in_eval = False

    def __init__(self, config: SegformerConfig, norm: str = "batch"):
        super().__init__(config)
        self.batch_norm = norm_layer(norm, config.decoder_hidden_size, act=True)
        self.activation = activation_after(self.batch_norm)

    @classmethod
    def of(cls, head: SegformerDecodeHead) -> "ShortHead":
        """Return a short head that is made of the very layers of `head`."""
        with torch.device("meta"):  # what it is built with gives way to them
            short = cls(head.config)
        for name, layer in head.named_children():
            setattr(short, name, layer)
        short.training = head.training
        return short

    def forward(self, encoder_hidden_states: list[torch.Tensor], **kwargs) -> torch.Tensor:
        """Maps (B, C_i, H_i, W_i), the largest first -> logits (B, C, H_0, W_0)."""
        if not (self.training or self.in_eval) or encoder_hidden_states[-1].ndim == 3:  # pixels in a row
            return super().forward(encoder_hidden_states, **kwargs)
        projections = [mlp.proj for mlp in next(m for m in self.children() if isinstance(m, nn.ModuleList))]
        fuse = self.linear_fuse.weight.flatten(1).chunk(len(projections), dim=1)[::-1]  # the smallest map's comes first
        fused, size = 0, encoder_hidden_states[0].shape[2:]
        for x, first, second in zip(encoder_hidden_states, projections, fuse, strict=True):
            weight = (second @ first.weight)[:, :, None, None]
            x = F.conv2d(x, weight, second @ first.bias)
            fused = fused + F.interpolate(x, size=size, mode="bilinear", align_corners=False)
        x = F.dropout2d(self.activation(self.batch_norm(fused)), self.dropout.p, self.training)
        return self.classifier(x)


def shorten_heads(model: nn.Module, in_eval: bool = False) -> None:
    """In training, and with `in_eval` always, `model` takes the short way: in place; what is saved stays the same."""
    for parent in list(model.modules()):
        for name, module in parent.named_children():
            if type(module) is SegformerDecodeHead:  # not what somebody made of it
                setattr(parent, name, ShortHead.of(module))
    for module in model.modules():
        if hasattr(module, "in_eval"):  # by name: heads from code beside somebody's weights are classes of their own
            module.in_eval = in_eval
