"""One `transformers` model for every architecture here: encoder -> decoder, chosen by the configuration.

config = SegmentationConfig(encoder="resnet50", decoder="deeplabv3", norm="evo", num_labels=19)
logits = SegmentationModel(config)(pixel_values).logits
"""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torchvision.models.segmentation.fcn import FCNHead
from transformers import PretrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import SemanticSegmenterOutput

from .deeplabv3 import DeepLabV3Head
from .deeplabv3plus import DeepLabV3PlusHead
from .fcn import FCNDecoder
from .losses import cross_entropy
from .norms import EvoNorm, convert_norms
from .predictor import resize_logits
from .pspnet import PSPNetHead
from .resnet import LAYERS, ResNetEncoder
from .streetnet import StreetNetEncoder, StreetNetHead
from .unet import AttentionUNetHead, UNetEncoder, UNetHead

DECODERS = {
    "deeplabv3": DeepLabV3Head,
    "deeplabv3plus": DeepLabV3PlusHead,
    "fcn": FCNDecoder,
    "pspnet": PSPNetHead,
    "streetnet": StreetNetHead,
    "unet": UNetHead,
    "attention_unet": AttentionUNetHead,
}
SMALL_ENCODERS = {"streetnet": (StreetNetEncoder, 16), "unet": (UNetEncoder, 16)}  # and their output stride


@dataclass
class SegmentationOutput(SemanticSegmenterOutput):
    """With `aux_logits` (B, C, h', w') of the auxiliary head, in training."""

    aux_logits: torch.FloatTensor | None = None


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

    def auxiliary_logits(self, features: list[torch.Tensor]) -> torch.Tensor | None:
        return self.aux_classifier(features[-2]) if self.training and self.aux_classifier is not None else None


class SegmentationConfig(PretrainedConfig):
    """What a network is: `encoder`, `decoder`, `norm` ("batch", "instance", "group", "evo", "evo_b0"), `output_stride`
    of the encoder (ResNets: 8, 16, 32) and, as in every `transformers` configuration, `id2label` or `num_labels`.
    `dataset` names the label set that the classes come from."""

    model_type = "minicity_seg"

    def __init__(
        self, encoder="resnet50", decoder="deeplabv3", norm="batch", output_stride=None, dataset=None, **kwargs
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
    if config.encoder not in SMALL_ENCODERS:
        known = ", ".join([*LAYERS, *SMALL_ENCODERS])
        raise ValueError(f"unknown encoder {config.encoder!r}: choose one of {known}")
    encoder, output_stride = SMALL_ENCODERS[config.encoder]
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

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None) -> SegmentationOutput:
        """`pixel_values` (B, 3, H, W), normalised -> `logits` (B, C, h, w) at the decoder's own stride.

        With `labels` (B, H, W), also `loss`: the mean cross entropy over pixels that are not 255, for code that
        expects it of a `transformers` model. train_seg.py computes its losses itself.
        """
        features = self.backbone(pixel_values)
        logits = self.classifier(features)
        loss = mean_cross_entropy(logits, labels)
        return SegmentationOutput(loss=loss, logits=logits, aux_logits=self.auxiliary_logits(features))
