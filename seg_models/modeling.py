"""One `transformers` model for every architecture here: encoder -> decoder, chosen by the configuration.

config = SegmentationConfig(encoder="resnet50", decoder="deeplabv3", norm="evo", num_labels=19)
logits = SegmentationModel(config)(pixel_values).logits
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

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
from .losses import cross_entropy
from .maxunpool import MaxPoolEncoder, MaxUnpoolHead
from .names import MODEL_TYPE
from .norms import EvoNorm, convert_norms
from .predictor import resize_logits
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
OTHER_ENCODERS = {  # beside the ResNets, and their output stride
    "maxpool": (MaxPoolEncoder, 32),
    "streetnet": (StreetNetEncoder, 16),
    "streetnet_fine": (partial(StreetNetEncoder, fine=True), 16),
    "streetnet_large": (
        partial(StreetNetEncoder, fine=True, widths=(64, 128, 256), depths=(2, 3, 6), dilations=(1, 2, 4, 8, 1, 2)),
        16,
    ),
    "swin_tiny": (SwinTinyEncoder, 32),
    "unet": (UNetEncoder, 16),
}


@dataclass
class SegmentationOutput(SemanticSegmenterOutput):
    """With `aux_logits`, in training: the logits (B, C, h', w') that have a loss beside the main one, or none."""

    aux_logits: tuple[torch.FloatTensor, ...] | None = None


def mean_cross_entropy(logits: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor | None:
    """What `forward` gives as its loss: over the pixels of `labels` that are not 255, None without labels."""
    if labels is None:
        return None
    total, weight = cross_entropy(resize_logits(logits, labels.shape[-2:]), labels)
    return total / weight.clamp(min=1)


class AuxiliaryHead:
    """For networks that can have a second head, on the encoder's second-to-last map, while they train: deep
    supervision (Zhao et al., 2017, arXiv 1612.01105, section 3.3). It is torchvision's FCN head, under its name; it is
    not saved with the model, and a loaded model has none: `aux_classifier` is None then."""

    def add_auxiliary_head(self, channels: int) -> None:
        """`channels` of the map that it reads."""
        head = convert_norms(FCNHead(channels, self.config.num_labels), self.config.norm)
        head.apply(self._init_weights)
        self.aux_classifier = head
        unsaved = {f"aux_classifier.{name}" for name in head.state_dict()}
        self._keys_to_ignore_on_save = unsaved.union(self._keys_to_ignore_on_save or ())

    def auxiliary_logits(self, features: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        return (self.aux_classifier(features[-2]),) if self.training and self.aux_classifier is not None else ()


class SegmentationConfig(PretrainedConfig):
    """What a network is: `encoder` (ours, or one of timm's), `decoder`, `norm` (one of `NORMS`), `output_stride` of the
    encoder (ResNets: 8, 16, 32) and, as in every `transformers` configuration, `id2label` or `num_labels`. `dataset`
    names the label set that the classes come from."""

    model_type = MODEL_TYPE

    def __init__(
        self,
        encoder: str = "resnet50",
        decoder: str = "deeplabv3",
        norm: str = "batch",
        output_stride: int | None = None,
        dataset: str | None = None,
        **kwargs,
    ):
        self.encoder = encoder
        self.decoder = decoder
        self.norm = norm
        self.output_stride = output_stride
        self.dataset = dataset
        super().__init__(**kwargs)


def build_encoder(config: SegmentationConfig) -> nn.Module:
    """An encoder maps (B, 3, H, W) to a list of maps and says what they are in `channels` and `reductions`."""
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
    """Encoder and decoder. The attribute names are torchvision's, so that its DeepLabV3 weights load."""

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
        # He initialisation (arXiv 1502.01852); a convolution with a bias has no norm after it, so it starts small:
        # the first predictions are then nearly uniform and the first loss is log(num_labels).
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
                raise ValueError(f"weights of a {type(module).__name__} are missing, and only timm knows how it begins")

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None) -> SegmentationOutput:
        """`pixel_values` (B, 3, H, W), normalised -> `logits` (B, C, h, w) at the decoder's own stride.

        With `labels` (B, H, W), also `loss`: the mean cross entropy over pixels that are not 255, for code that
        expects it of a `transformers` model. train_seg.py computes its losses itself.
        """
        features = self.backbone(pixel_values)
        logits = self.classifier(features)
        logits, *auxiliary = logits if isinstance(logits, tuple) else (logits,)
        auxiliary = (*auxiliary, *self.auxiliary_logits(features)) or None
        return SegmentationOutput(loss=mean_cross_entropy(logits, labels), logits=logits, aux_logits=auxiliary)


def set_output_stride(model: PreTrainedModel, output_stride: int | None) -> None:
    """Give `model` another output stride (8, 16 or 32; None: as it is), in place: the same weights, other strides and
    dilations, and its configuration says so. Raises ModelError where that cannot be."""
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
        raise ModelError(f"{why}: it is chosen when a training begins, by --output_stride")
    for name, geometry in _geometries(other).items():
        for key, value in geometry.items():
            setattr(model.get_submodule(name), key, value)
    model.config.output_stride, model.backbone.reductions = output_stride, other.backbone.reductions


@contextmanager
def at_output_stride(model: PreTrainedModel, output_stride: int | None) -> Iterator[None]:
    """`set_output_stride`, and back at the end."""
    before = getattr(model.config, "output_stride", None)
    set_output_stride(model, output_stride)
    try:
        yield
    finally:
        set_output_stride(model, before)


def _kinds(model: nn.Module) -> dict[str, str]:
    """The class of each layer by name: timm has other paddings, poolings and shortcuts for some strides. Batch norms,
    which may be synchronised by now, do not depend on it."""
    batch_norm = nn.modules.batchnorm._BatchNorm
    layers = {name: layer for name, layer in model.named_modules() if not name.startswith("aux_classifier")}
    return {name: "norm" if isinstance(layer, batch_norm) else type(layer).__name__ for name, layer in layers.items()}


def _geometries(model: nn.Module) -> dict[str, dict]:
    """What strides and dilations a network's layers have."""
    layers = {n: m for n, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d))}
    keys = "kernel_size", "stride", "padding", "dilation"
    return {name: {key: getattr(m, key) for key in keys if hasattr(m, key)} for name, m in layers.items()}
