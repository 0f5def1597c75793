"""Build networks by name, and register them with transformers' Auto classes.

Import this module before you load a saved network. `catalog.MODELS` lists the names. A name can also combine a decoder
of `parts.DECODERS` with any encoder, such as unet_convnext_tiny.
"""

import re
from difflib import get_close_matches
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSemanticSegmentation, PreTrainedModel
from transformers import SegformerConfig as NativeSegFormerConfig
from transformers import SegformerForSemanticSegmentation as NativeSegFormer

from .arguments import NetworkOptions
from .catalog import MODELS, SGD, Model
from .errors import ModelError
from .meta import QuickNorms
from .modeling import SegmentationConfig, SegmentationModel
from .names import NORMS
from .norms import freeze_batch_norm
from .output_strides import check_output_stride
from .parts import DECODERS, OTHER_ENCODERS
from .recompute import recompute_blocks
from .segformer import SegFormer, SegFormerConfig
from .short_heads import shorten_heads

for config_class, model_class in ((SegmentationConfig, SegmentationModel), (SegFormerConfig, SegFormer)):
    AutoConfig.register(config_class.model_type, config_class)
    AutoModelForSemanticSegmentation.register(config_class, model_class)
# Saving then copies the code of the class, and of its `from .x import` imports, for users without this package. Our
# other networks do this themselves (`SegmentationConfig.save_pretrained`).
SegFormerConfig.register_for_auto_class()
SegFormer.register_for_auto_class("AutoModelForSemanticSegmentation")


def find_model(name: str) -> tuple[Model, str | None]:
    """Return the entry of `MODELS` for `name`, in upper or lower case, and the encoder that the name adds, or None.

    unet_convnext_tiny gives the first entry with the decoder unet, and convnext_tiny. A decoder without an entry gets
    the training defaults `SGD`. hrnet_w32 is the encoder's name. Raises ModelError with the list of names if `name` is
    unknown.
    """
    lower = name.lower()
    if lower in MODELS:
        return MODELS[lower], None
    for decoder in DECODERS:
        prefix = f"{decoder}_"
        if not lower.startswith(prefix) or lower == prefix:
            continue
        encoder = lower.removeprefix(prefix)
        if decoder == "hrnet" and re.match(r"w\d", encoder):
            encoder = lower
        entries = (model for model in MODELS.values() if model.config.get("decoder") == decoder)
        entry = next(entries, None)
        if entry is None or entry.config["encoder"] in OTHER_ENCODERS:  # an encoder that only this entry has
            fields = {"encoder": encoder, "decoder": decoder, "output_stride": 32}
            entry = Model(fields, entry.training if entry else SGD)
        return entry, encoder
    known = f"{', '.join(MODELS)}, or another encoder in a name, such as unet_convnext_tiny"
    raise ModelError(f"--model {name} is not known: choose one of {known}")


def model_entry(name: str) -> Model:
    """Return the entry of `MODELS` for `name`, which holds its training defaults."""
    return find_model(name)[0]


def in_head(name: str) -> bool:
    """Whether the parameter `name` belongs to a head, in our networks and in transformers' SegFormer."""
    return name.startswith(("classifier.", "decode_head.", "aux_classifier."))


def build_model(
    name: str,
    norm: str,
    id2label: dict[int, str],
    dataset: str | None = None,
    auxiliary: bool = False,
    **options: Any,
) -> PreTrainedModel:
    """Call `build_network` with a model name, one of `NORMS`, and further fields of `NetworkOptions`."""
    return build_network(NetworkOptions(model=name, norm=norm, **options), id2label, dataset, auxiliary)


def build_network(
    options: NetworkOptions,
    id2label: dict[int, str],
    dataset: str | None = None,
    auxiliary: bool = False,
    provenance: dict | None = None,
) -> PreTrainedModel:
    """Return the network that `options` describe, with random weights.

    id2label    train id -> class name
    dataset     name of the data set that defines the classes, stored in the configuration
    auxiliary   whether to add an auxiliary head for training
    provenance  further entries of the configuration, which say how the network is trained

    Raises ModelError if there is no such network, or if it does not support `eval_output_stride`.
    """
    entry, named_encoder = find_model(options.model)
    if options.encoder and named_encoder:
        raise ModelError(
            f"--model {options.model} names an encoder, but --encoder {options.encoder} names another: leave out one "
            "of them"
        )
    if options.norm not in NORMS:
        raise ModelError(f"--norm {options.norm} is not known: choose one of {', '.join(NORMS)}")
    label2id = {label: i for i, label in id2label.items()}
    fields = {**entry.config, "norm": options.norm, "id2label": id2label, "label2id": label2id, "dataset": dataset}
    fields |= provenance or {}
    if "encoder" in entry.config:
        model = _build_ours(options.model, fields, options.encoder or named_encoder, options.output_stride)
        widths = model.backbone.channels
    else:
        model = _build_segformer(options, fields, native=not auxiliary)
        widths = entry.config["hidden_sizes"]
    check_output_stride(model, options.eval_output_stride)
    if auxiliary:
        model.add_auxiliary_head(widths[-2])
    if options.freeze_bn:
        encoder = getattr(model, "backbone", None)
        if encoder is None or not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in encoder.modules()):
            raise ModelError(f"--freeze_bn: the encoder of --model {options.model} has no batch norm")
        freeze_batch_norm(*parts_to_freeze(model, options))
    if options.gradient_checkpointing:
        recompute_blocks(model)
    return model


def parts_to_freeze(model: PreTrainedModel, options: NetworkOptions) -> list[torch.nn.Module]:
    """Return the parts of a network whose batch norms `--freeze_bn` freezes: those that start from trained weights.

    `--init_from` loads encoder and head, `--pretrained_encoder` the encoder alone. The auxiliary head is not
    among them: it keeps learning, even if a file has one.
    """
    return [model.backbone, model.classifier] if options.init_from else [model.backbone]


def _build_segformer(options: NetworkOptions, fields: dict, native: bool) -> PreTrainedModel:
    """Return transformers' own class if it supports the options, else ours. `native` is False for an auxiliary head."""
    if options.encoder or options.output_stride:
        flag = "--encoder" if options.encoder else "--output_stride"
        raise ModelError(f"{flag} does not apply to --model {options.model}")
    if options.norm != "batch" or not native:
        return SegFormer(SegFormerConfig(**fields))
    model = NativeSegFormer(NativeSegFormerConfig(**fields))
    shorten_heads(model)
    return model


def _build_ours(name: str, fields: dict, encoder: str | None, output_stride: int | None) -> SegmentationModel:
    if encoder:
        own = fields["encoder"]
        if own in OTHER_ENCODERS and own != "swin_tiny" and encoder != own:
            raise ModelError(
                f"--encoder does not apply to --model {name}, which has its own encoder: choose another model, such as "
                "unet_resnet50"
            )
        fields["encoder"] = encoder
        if encoder in OTHER_ENCODERS:
            fields["output_stride"] = None  # they have a stride of their own
    if output_stride:
        fields["output_stride"] = output_stride
    try:
        if encoder:
            check_fit(SegmentationConfig(**fields))
        return SegmentationModel(SegmentationConfig(**fields))
    except (AssertionError, IndexError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split()) or "its layers do not take images of any size"
        meant = get_close_matches(name.lower(), MODELS, n=2, cutoff=0.85)
        if meant and name.lower() not in MODELS and "did you mean" not in reason:
            reason += f": did you mean --model {' or '.join(meant)}?"
        raise ModelError(f"--model {name} cannot be built with these flags: {reason}") from error


def check_fit(config: SegmentationConfig) -> None:
    """Raise ValueError if encoder and decoder do not work together. Runs on the meta device, where shapes suffice."""
    height, width = 97, 161
    with torch.device("meta"), torch.enable_grad():
        model = SegmentationModel(config).train()
        images = torch.empty(2, 3, height, width)
        with QuickNorms():
            for x, stride in zip(model.backbone(images), model.backbone.reductions, strict=True):
                if x.shape[2:] != (-(-height // stride), -(-width // stride)):
                    raise ValueError(f"the maps of {config.encoder} do not cover the image")
            model(images).logits.sum().backward()
    if any(parameter.grad is None for parameter in model.parameters()):
        raise ValueError(f"parts of {config.encoder} would not be used by this decoder")
