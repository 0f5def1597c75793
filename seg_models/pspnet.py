"""PSPNet (Zhao et al., 2017, arXiv 1612.01105): averages over parts of the last map, at four sizes, beside the map."""

import torch
import torch.nn.functional as F
from torch import nn

from .layers import conv_norm_act, pool_conv_norm_act, upsample_like

BINS = (1, 2, 3, 6)  # section 3.2 of the paper


class PSPNetHead(nn.Module):
    """The last of the encoder's features -> logits (B, C, h, w) at its stride.

    The 3x3 convolution over the map and the enlarged averages takes a short way (`_fuse`, and short_heads.py).
    """

    in_eval = False

    def __init__(self, channels: list[int], reductions: list[int], num_labels: int, norm: str = "batch"):
        super().__init__()
        width = channels[-1] // len(BINS)
        self.pyramid = nn.ModuleList(pool_conv_norm_act(norm, channels[-1], width, size) for size in BINS)
        self.fuse = conv_norm_act(norm, 2 * channels[-1], width)
        self.dropout = nn.Dropout2d(0.1)
        self.classifier = nn.Conv2d(width, num_labels, 1)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        x, averages = features[-1], [branch(features[-1]) for branch in self.pyramid]
        conv, *rest = self.fuse
        if self.training or self.in_eval:
            x = self._fuse(x, averages, conv.weight)
        else:
            x = conv(torch.cat([x, *(upsample_like(average, x) for average in averages)], dim=1))
        for layer in rest:
            x = layer(x)
        return self.classifier(self.dropout(x))

    @staticmethod
    def _fuse(x: torch.Tensor, averages: list[torch.Tensor], weight: torch.Tensor) -> torch.Tensor:
        """The 3x3 convolution by `weight` over `x` (B, C, h, w) and the enlarged `averages` (B, C_i, n, n).

        An enlarged map is a sum over its n x n cells, each a fixed picture of where it reaches times a vector. So the
        weights meet the 50 cells of all averages, not the pixels, and pictures of 50 cells x 9 taps bring that to them.
        """
        own, *others = weight.split([x.shape[1], *(average.shape[1] for average in averages)], dim=1)
        values, pictures = [], []
        for average, taps in zip(averages, others, strict=True):
            cells = average.flatten(2)
            values.append(torch.einsum("bcn,ocyx->bnyxo", cells, taps).flatten(1, 3))  # (B, n*n*9, O)
            one_each = torch.eye(cells.shape[2], dtype=x.dtype, device=x.device).unflatten(1, (1, *average.shape[2:]))
            pictures.append(F.unfold(upsample_like(one_each, x), 3, padding=1).flatten(0, 1))  # (n*n*9, h*w)
        brought = torch.cat(pictures).T @ torch.cat(values, dim=1)  # (B, h*w, O): channels_last
        return F.conv2d(x, own, padding=1) + brought.transpose(1, 2).unflatten(2, x.shape[2:])
