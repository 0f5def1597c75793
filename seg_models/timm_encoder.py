"""Encoders from timm: any model that supports `features_only`."""

from difflib import get_close_matches

import torch
import torch.nn.functional as F
from torch import nn

COARSEST = 32  # some timm encoders fail unless both sides are multiples of it


class TimmEncoder(nn.Module):
    """timm's `features_only` model `name`, with random weights and timm's own norms and initialisation.

    Maps (B, 3, H, W) to feature maps (B, channels[i], H/r, W/r), r = reductions[i]. Raises ValueError if timm has no
    such model, or not at this output stride (None: 32), or if `norm` is not batch.
    """

    def __init__(self, name: str, norm: str, output_stride: int | None):
        super().__init__()
        output_stride = output_stride or COARSEST
        if norm != "batch":
            raise ValueError(f"norm {norm} does not reach into timm's {name}: choose batch")
        import timm  # imported here because it takes a third of a second, which other encoders need not spend

        if not timm.is_model(name):
            close = get_close_matches(name.lower(), timm.list_models(), cutoff=0.8)
            meant = f": did you mean {' or '.join(close)}?" if close else ""
            raise ValueError(f"neither this package nor timm has an encoder {name}{meant}")
        options = {} if output_stride == 32 else {"output_stride": output_stride}
        if name.startswith("hrnet"):
            options["feature_location"] = ""  # the plain maps, not those widened for timm's classifier
        try:
            self.net = timm.create_model(name, pretrained=False, features_only=True, **options)
        except (AssertionError, AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split()) or "not supported"
            if "Meta" in reason:  # older versions compute the widths of RegNets where tensors have no content
                reason = f"timm {timm.__version__} cannot build it on the meta device (pip install --upgrade timm)"
            raise ValueError(
                f"timm's {name} gives no feature maps at output stride {output_stride}: {reason}"
            ) from error
        self.channels = self.net.feature_info.channels()
        self.reductions = self.net.feature_info.reduction()
        if options.get("output_stride", self.reductions[-1]) != self.reductions[-1]:
            raise ValueError(f"timm's {name} cannot have output stride {output_stride}")
        if {key for key, _ in self.net.named_buffers()} - self.net.state_dict().keys():
            raise ValueError(f"timm's {name} has buffers that are not saved with it: choose another encoder")
        for module in self.net.modules():  # tell transformers to keep the weights that timm initialised
            module._is_hf_initialized = not any(p.is_meta for p in module.parameters(recurse=False))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        height, width = x.shape[-2:]
        missing = (COARSEST - height % COARSEST) % COARSEST, (COARSEST - width % COARSEST) % COARSEST
        if torch.compiler.is_exporting() or any(missing):  # an exported network must not ask what the size is
            x = F.pad(x, (0, missing[1], 0, missing[0]))
        maps = zip(self.net(x), self.reductions, strict=True)
        # Rounded up in this way, not as -(-height // stride), which torch.export takes for a size below 0.
        return [y[..., : (height + stride - 1) // stride, : (width + stride - 1) // stride] for y, stride in maps]
