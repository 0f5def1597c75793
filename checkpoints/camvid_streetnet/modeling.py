"""One `transformers` model for all architectures but SegFormer B0 to B5. Its configuration names encoder and decoder.

config = SegmentationConfig(encoder="resnet50", decoder="deeplabv3", norm="evo", num_labels=19)
logits = SegmentationModel(config)(pixel_values).logits
"""

import math
import os
import shutil
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.dynamic_module_utils import get_relative_imports
from transformers.utils import can_return_tuple

from .names import MODEL_TYPE
from .norms import EvoNorm
from .output import AuxiliaryHead, SegmentationOutput, hidden_states, mean_cross_entropy
from .parts import DECODERS, ENCODERS


class SegmentationConfig(PretrainedConfig):
    """The configuration of a network.

    encoder        one of ours, or any timm model that gives feature maps
    decoder        one of `DECODERS`
    norm           one of `NORMS`
    output_stride  of the encoder (ResNets: 8, 16 or 32)
    dataset        name of the label set that the classes come from
    semantic_loss_ignore_index  label without influence on the loss that `forward` returns

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
        semantic_loss_ignore_index: int = 255,
        **kwargs: Any,
    ):
        self.encoder = encoder
        self.decoder = decoder
        self.norm = norm
        self.output_stride = output_stride
        self.dataset = dataset
        self.semantic_loss_ignore_index = semantic_loss_ignore_index
        super().__init__(**kwargs)

    def save_pretrained(self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs: Any) -> None:
        """Write config.json, and the code of this network beside it. Saving a model calls this.

        transformers' own mechanism, `register_for_auto_class`, would copy the code of every network.
        """
        self.auto_map = {
            "AutoConfig": "modeling.SegmentationConfig",
            "AutoModelForSemanticSegmentation": "modeling.SegmentationModel",
        }
        save_code(self, save_directory)
        super().save_pretrained(save_directory, **({} if push_to_hub else kwargs))
        if push_to_hub:  # this saves again, to a folder of its own, and uploads all of it
            self.push_to_hub(kwargs.pop("repo_id", os.path.basename(os.path.normpath(save_directory))), **kwargs)


def encoder_class(config: SegmentationConfig) -> type[nn.Module]:
    """Return the class in `ENCODERS` that builds `config.encoder`. Raises ValueError if there is none.

    The entry timm, if there is one, takes the names without an entry.
    """
    found = ENCODERS.get(config.encoder, ENCODERS.get("timm"))
    if found is None:
        raise ValueError(f"encoder {config.encoder} is not among those that this folder has code for: {list(ENCODERS)}")
    return found


def decoder_class(config: SegmentationConfig) -> type[nn.Module]:
    """Return the class in `DECODERS` that builds `config.decoder`. Raises ValueError if there is none."""
    if config.decoder not in DECODERS:
        raise ValueError(f"unknown decoder {config.decoder!r}: choose one of {', '.join(DECODERS)}")
    return DECODERS[config.decoder]


def save_code(config: SegmentationConfig, folder: str | os.PathLike) -> None:
    """Write the code that builds the network of `config` to `folder`, so that it loads without this package.

    These are this file, what it imports, the files of encoder and decoder, what those import, and parts.py. That last
    file decides what else is needed: transformers copies whatever a file mentions in the form `from .x import`. So it
    is not copied, but written with the two parts alone.
    """
    own = os.path.dirname(__file__)
    encoder = encoder_class(config)
    decoder = decoder_class(config)
    files, new = {"parts"}, {"modeling", _file_name(encoder), _file_name(decoder)}
    while new:
        files |= new
        new = {name for file in new for name in get_relative_imports(os.path.join(own, f"{file}.py"))} - files
    os.makedirs(folder, exist_ok=True)
    for file in files - {"parts"}:
        shutil.copyfile(os.path.join(own, f"{file}.py"), os.path.join(folder, f"{file}.py"))
    lines = [
        '"""The parts of this network. In the package, this file lists those of every network."""\n',
        *sorted(f"from .{_file_name(part)} import {part.__name__}" for part in (encoder, decoder)),
        f"\nENCODERS = {{{config.encoder!r}: {encoder.__name__}}}",
        f"DECODERS = {{{config.decoder!r}: {decoder.__name__}}}\n",
    ]
    with open(os.path.join(folder, "parts.py"), "w", encoding="utf-8") as file:
        file.write("\n".join(lines))


def _file_name(part: type) -> str:
    """Return the name of the file that defines a class, without .py."""
    return part.__module__.rpartition(".")[2]


def build_encoder(config: SegmentationConfig) -> nn.Module:
    """Return the encoder, which maps (B, 3, H, W) to a list of feature maps.

    Its attributes `channels` and `reductions` describe these maps. Raises ValueError if the encoder does not support
    the norm or the output stride.
    """
    encoder = encoder_class(config)(config.encoder, config.norm, config.output_stride)
    stride = encoder.reductions[-1]
    if config.output_stride not in (None, stride):
        raise ValueError(f"encoder {config.encoder} has output stride {stride}, not {config.output_stride}")
    return encoder


class SegmentationModel(AuxiliaryHead, PreTrainedModel):
    """Encoder and decoder. Attribute names are torchvision's, so its DeepLabV3 weights load."""

    config_class = SegmentationConfig
    main_input_name = "pixel_values"
    # transformers' own switch, as its Trainer uses it, for blocks of ResNets, StreetNet and U-Net. Unlike
    # `recompute_blocks`, it updates the running statistics of their batch norms in both forward passes.
    supports_gradient_checkpointing = True

    def __init__(self, config: SegmentationConfig):
        super().__init__(config)
        self.backbone = build_encoder(config)
        config.output_stride = self.backbone.reductions[-1]
        head = decoder_class(config)
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

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> SegmentationOutput:
        """Map normalised `pixel_values` (B, 3, H, W) to `logits` (B, C, h, w) at the decoder's stride.

        With `labels` (B, H, W), the output also has `loss`, the mean cross entropy over pixels that are not
        `config.semantic_loss_ignore_index`. It is there for code that expects it of a `transformers` model;
        train_seg.py computes its own losses. With `output_hidden_states`, the output also has `hidden_states`, the
        encoder's maps, finest first.
        """
        features = self.backbone(pixel_values)
        logits = self.classifier(features)
        logits, *auxiliary = logits if isinstance(logits, tuple) else (logits,)
        auxiliary = (*auxiliary, *self.auxiliary_logits(features)) or None
        loss = mean_cross_entropy(logits, labels, self.config.semantic_loss_ignore_index)
        maps = hidden_states(features, output_hidden_states, self.config)
        return SegmentationOutput(loss=loss, logits=logits, hidden_states=maps, aux_logits=auxiliary)
