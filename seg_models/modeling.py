"""One `transformers` model for all architectures but SegFormer B0 to B5. Its configuration names encoder and decoder.

config = SegmentationConfig(encoder="resnet50", decoder="deeplabv3", norm="evo", num_labels=19)
logits = SegmentationModel(config)(pixel_values).logits
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torchvision.models.segmentation.fcn import FCNHead
from transformers import PretrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import SemanticSegmenterOutput

from .acfnet import ACFHead
from .deeplabv3 import DeepLabV3Head
from .deeplabv3plus import DeepLabV3PlusHead
from .errors import ModelError
from .fcn import FCNDecoder
from .hrnet import HRNetHead
from .layers import resize_logits
from .losses import cross_entropy
from .maxunpool import MaxPoolEncoder, MaxUnpoolHead
from .names import MODEL_TYPE
from .norms import EvoNorm, convert_norms
from .pspnet import PSPNetHead
from .resnet import LAYERS, ResNetEncoder
from .streetnet import StreetNetEncoder, StreetNetHead
from .swin import AllMLPHead, SwinTinyEncoder
from .timm_encoder import TimmEncoder
from .unet import AttentionUNetHead, UNetEncoder, UNetHead

DECODERS = {
    "acfnet": ACFHead,
    "deeplabv3": DeepLabV3Head,
    "deeplabv3plus": DeepLabV3PlusHead,
    "fcn": FCNDecoder,
    "hrnet": HRNetHead,
    "maxunpool": MaxUnpoolHead,
    "pspnet": PSPNetHead,
    "segformer": AllMLPHead,
    "streetnet": StreetNetHead,
    "unet": UNetHead,
    "attention_unet": AttentionUNetHead,
}
OTHER_ENCODERS = {  # name: (class, output stride) of our encoders that are not ResNets
    "maxpool": (MaxPoolEncoder, 32),
    "streetnet": (StreetNetEncoder, 16),
    "streetnet_fine": (partial(StreetNetEncoder, fine=True), 16),
    "streetnet_large": (
        partial(StreetNetEncoder, widths=(64, 128, 256), depths=(2, 3, 6), dilations=(1, 2, 4, 8, 1, 2)),
        16,
    ),
    "swin_tiny": (SwinTinyEncoder, 32),
    "unet": (UNetEncoder, 16),
}


@dataclass
class SegmentationOutput(SemanticSegmenterOutput):
    """`transformers`' output plus `aux_logits`, a tuple of (B, C, h', w') with losses of their own, or None."""

    aux_logits: tuple[torch.FloatTensor, ...] | None = None


def mean_cross_entropy(logits: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor | None:
    """Return the mean cross entropy over the pixels of `labels` that are not 255, or None without labels."""
    if labels is None:
        return None
    total, weight = cross_entropy(resize_logits(logits, labels.shape[-2:]), labels)
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


class SegmentationConfig(PretrainedConfig):
    """The configuration of a network.

    encoder        one of ours, or any timm model that gives feature maps
    decoder        one of `DECODERS`
    norm           one of `NORMS`
    output_stride  of the encoder (ResNets: 8, 16 or 32)
    dataset        name of the label set that the classes come from

    `id2label` or `num_labels` are given as for every `transformers` configuration.
    """

    model_type = MODEL_TYPE

    def __init__(
        self,
        encoder: str = "resnet50",
        decoder: str = "deeplabv3",
        norm: str = "batch",
        output_stride: int | None = None,
        dataset: str | None = None,
        **kwargs: Any,
    ):
        self.encoder = encoder
        self.decoder = decoder
        self.norm = norm
        self.output_stride = output_stride
        self.dataset = dataset
        super().__init__(**kwargs)


def build_encoder(config: SegmentationConfig) -> nn.Module:
    """Return the encoder, which maps (B, 3, H, W) to a list of feature maps.

    Its attributes `channels` and `reductions` describe these maps. Raises ValueError if the encoder does not support
    the norm or the output stride.
    """
    if config.encoder in LAYERS:
        return ResNetEncoder(config.encoder, config.norm, config.output_stride or 8)
    if config.encoder not in OTHER_ENCODERS:
        if config.norm != "batch":
            raise ValueError(f"norm {config.norm} does not reach into timm's {config.encoder}: choose batch")
        return TimmEncoder(config.encoder, config.output_stride or 32)
    encoder, output_stride = OTHER_ENCODERS[config.encoder]
    if config.output_stride not in (None, output_stride):
        raise ValueError(f"encoder {config.encoder} has output stride {output_stride}, not {config.output_stride}")
    return encoder(config.norm)


class SegmentationModel(AuxiliaryHead, PreTrainedModel):
    """Encoder and decoder. Attribute names are torchvision's, so its DeepLabV3 weights load."""

    config_class = SegmentationConfig
    main_input_name = "pixel_values"

    def __init__(self, config: SegmentationConfig):
        super().__init__(config)
        self.backbone = build_encoder(config)
        config.output_stride = self.backbone.reductions[-1]
        if config.decoder not in DECODERS:
            raise ValueError(f"unknown decoder {config.decoder!r}: choose one of {', '.join(DECODERS)}")
        head = DECODERS[config.decoder]
        self.classifier = head(self.backbone.channels, self.backbone.reductions, config.num_labels, config.norm)
        self.aux_classifier = None
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # He initialisation (arXiv 1502.01852). A convolution with a bias has no norm after it and starts small, so that
        # the first predictions are nearly uniform and the first loss is about log(num_labels).
        if isinstance(module, nn.Conv2d):
            if module.bias is None:
                fan_out = module.weight.shape[0] // module.groups * module.weight[0, 0].numel()
                init.normal_(module.weight, std=math.sqrt(2 / fan_out))
            else:
                init.normal_(module.weight, std=0.01)
                init.zeros_(module.bias)
        elif isinstance(module, (nn.GroupNorm, nn.InstanceNorm2d, nn.BatchNorm2d, EvoNorm)):
            init.ones_(module.weight)
            init.zeros_(module.bias)
            if getattr(module, "v", None) is not None:
                init.ones_(module.v)
            if getattr(module, "running_var", None) is not None:
                init.ones_(module.running_var)
            if getattr(module, "running_mean", None) is not None:
                init.zeros_(module.running_mean)
                init.zeros_(module.num_batches_tracked)
        elif isinstance(module, nn.Linear):
            init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        else:
            own = [p for p in module.parameters(recurse=False) if not getattr(p, "_is_hf_initialized", False)]
            if not all(p.is_meta for p in own):
                raise ValueError(f"weights of a {type(module).__name__} are missing, and only timm can initialise them")

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None) -> SegmentationOutput:
        """Map normalised `pixel_values` (B, 3, H, W) to `logits` (B, C, h, w) at the decoder's stride.

        With `labels` (B, H, W), the output also has `loss`, the mean cross entropy over pixels that are not 255. It is
        there for code that expects it of a `transformers` model; train_seg.py computes its own losses.
        """
        features = self.backbone(pixel_values)
        logits = self.classifier(features)
        logits, *auxiliary = logits if isinstance(logits, tuple) else (logits,)
        auxiliary = (*auxiliary, *self.auxiliary_logits(features)) or None
        return SegmentationOutput(loss=mean_cross_entropy(logits, labels), logits=logits, aux_logits=auxiliary)


def set_output_stride(model: PreTrainedModel, output_stride: int | None) -> None:
    """Change the output stride of `model` and its configuration to 8, 16 or 32, in place. None changes nothing.

    Strides and dilations change; the weights do not. Raises ModelError if the network does not support the stride.
    """
    if output_stride in (None, getattr(model.config, "output_stride", None)):
        return
    if not isinstance(model, SegmentationModel):
        raise ModelError(f"a {model.config.model_type} has no output stride to change: leave --eval_output_stride out")
    config = deepcopy(model.config)
    config.output_stride = output_stride
    try:
        with torch.device("meta"):
            other = SegmentationModel(config)
    except ValueError as error:
        raise ModelError(f"this network cannot have output stride {output_stride}: {error}") from error
    if _kinds(other) != _kinds(model):
        why = f"encoder {config.encoder} has other layers at output stride {output_stride}"
        raise ModelError(f"{why}: train with --output_stride {output_stride} from the start instead")
    for name, geometry in _geometries(other).items():
        for key, value in geometry.items():
            setattr(model.get_submodule(name), key, value)
    model.config.output_stride, model.backbone.reductions = output_stride, other.backbone.reductions


@contextmanager
def at_output_stride(model: PreTrainedModel, output_stride: int | None) -> Iterator[None]:
    """Set the output stride while the block runs, and restore it afterwards."""
    before = getattr(model.config, "output_stride", None)
    set_output_stride(model, output_stride)
    try:
        yield
    finally:
        set_output_stride(model, before)


def _kinds(model: nn.Module) -> dict[str, str]:
    """Return the class name of each layer. They tell whether timm uses other layers at another output stride.

    All batch norms count as "norm", because they may be synchronised by now.
    """
    batch_norm = nn.modules.batchnorm._BatchNorm
    layers = {name: layer for name, layer in model.named_modules() if not name.startswith("aux_classifier")}
    return {name: "norm" if isinstance(layer, batch_norm) else type(layer).__name__ for name, layer in layers.items()}


def _geometries(model: nn.Module) -> dict[str, dict]:
    """Return kernel size, stride, padding and dilation of each convolution and pooling layer."""
    layers = {n: m for n, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d))}
    keys = "kernel_size", "stride", "padding", "dilation"
    return {name: {key: getattr(m, key) for key in keys if hasattr(m, key)} for name, m in layers.items()}
