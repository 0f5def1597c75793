"""Networks, norms, losses and the predictor: every function of tensors. Nothing here opens a file of a data set.

`MODELS` lists each name with its parts and its training defaults. Any encoder can stand behind a decoder of
`modeling.DECODERS` in a name, as in unet_convnext_tiny.
"""

from dataclasses import dataclass, replace

import torch
from transformers import AutoConfig, AutoModelForSemanticSegmentation, PreTrainedModel
from transformers import SegformerConfig as NativeSegFormerConfig
from transformers import SegformerForSemanticSegmentation as NativeSegFormer

from .errors import ModelError
from .modeling import DECODERS, OTHER_ENCODERS, SegmentationConfig, SegmentationModel, at_output_stride
from .norms import NORMS, freeze_batch_norm
from .predictor import Predictor
from .recompute import recompute_blocks
from .segformer import VARIANTS, SegFormer, SegFormerConfig
from .short_heads import shorten_heads
from .weights import start_weights

__all__ = ["MODELS", "ModelError", "Predictor", "SegmentationConfig", "SegmentationModel", "SegFormer"]
__all__ += ["SegFormerConfig", "build_model", "start_weights"]

for config_class, model_class in ((SegmentationConfig, SegmentationModel), (SegFormerConfig, SegFormer)):
    AutoConfig.register(config_class.model_type, config_class)
    AutoModelForSemanticSegmentation.register(config_class, model_class)
    # Saving copies the file of the class, and what it imports by `from .x import`, for those without this package.
    config_class.register_for_auto_class()
    model_class.register_for_auto_class("AutoModelForSemanticSegmentation")


@dataclass(frozen=True)
class TrainingDefaults:
    """How a model is trained when no flag says otherwise: the one home of these numbers. `warmup` is the share of the
    steps over which the learning rate rises, `head_factor` multiplies the learning rate of the head, `aux_weight` the
    losses beside the main one."""

    optimizer: str
    learning_rate: float
    weight_decay: float
    lr_scheduler_type: str
    momentum: float = 0.9
    warmup: float = 0.0
    head_factor: float = 1.0
    aux_weight: float = 0.0


@dataclass(frozen=True)
class Model:
    """A line of `MODELS`: fields of the configuration, and the training defaults."""

    config: dict
    training: TrainingDefaults


SGD = TrainingDefaults("sgd", learning_rate=1e-2, weight_decay=1e-4, lr_scheduler_type="cosine")
# The paper has 0.7 for the logits, 0.6 for the coarse ones and 0.4 for the second head.
ACFNET = replace(SGD, aux_weight=0.6)
ADAMW = TrainingDefaults("adamw", learning_rate=1e-3, weight_decay=5e-2, lr_scheduler_type="poly")
# Section 4.1 of the paper, but for the power of the decay (there 1.0) and the warm-up (in its code 1,500 of 160,000
# steps).
SEGFORMER = TrainingDefaults(
    "adamw", learning_rate=6e-5, weight_decay=1e-2, lr_scheduler_type="poly", warmup=0.05, head_factor=10.0
)

MODELS = {
    "deeplabv3_resnet50": Model({"encoder": "resnet50", "decoder": "deeplabv3", "output_stride": 8}, SGD),
    "deeplabv3_resnet101": Model({"encoder": "resnet101", "decoder": "deeplabv3", "output_stride": 8}, SGD),
    **{
        f"{decoder}_{encoder}": Model({"encoder": encoder, "decoder": decoder, "output_stride": stride}, SGD)
        for decoder, stride in (("deeplabv3plus", 16), ("pspnet", 8), ("unet", 32))
        for encoder in ("resnet18", "resnet50", "resnet101")
    },
    "deeplabv3plus_resnest50": Model({"encoder": "resnest50d", "decoder": "deeplabv3plus", "output_stride": 16}, SGD),
    "fcn_resnet50": Model({"encoder": "resnet50", "decoder": "fcn", "output_stride": 8}, SGD),
    "acfnet_resnet50": Model({"encoder": "resnet50", "decoder": "acfnet", "output_stride": 8}, ACFNET),
    "acfnet_resnet101": Model({"encoder": "resnet101", "decoder": "acfnet", "output_stride": 8}, ACFNET),
    "hrnet_w18": Model({"encoder": "hrnet_w18", "decoder": "hrnet", "output_stride": 32}, SGD),
    "unet": Model({"encoder": "unet", "decoder": "unet", "output_stride": 16}, SGD),
    "attention_unet": Model({"encoder": "unet", "decoder": "attention_unet", "output_stride": 16}, SGD),
    "encdec_maxunpool": Model({"encoder": "maxpool", "decoder": "maxunpool", "output_stride": 32}, SGD),
    "streetnet": Model({"encoder": "streetnet", "decoder": "streetnet", "output_stride": 16}, ADAMW),
    "streetnet_fine": Model({"encoder": "streetnet_fine", "decoder": "streetnet", "output_stride": 16}, ADAMW),
    "streetnet_large": Model({"encoder": "streetnet_large", "decoder": "streetnet", "output_stride": 16}, ADAMW),
    **{f"segformer_{name}": Model(variant, SEGFORMER) for name, variant in VARIANTS.items()},
    "segformer_swin_tiny": Model({"encoder": "swin_tiny", "decoder": "segformer", "output_stride": 32}, SEGFORMER),
}


def find_model(name: str) -> tuple[Model, str | None]:
    """Return the entry of `MODELS` for `name` (in any case), and the encoder that the name adds, or None.

    unet_convnext_tiny is the U-Net entry with convnext_tiny. A decoder without an entry is trained as CNNs are.
    Raises ModelError with the list of names if `name` is unknown.
    """
    lower = name.lower()
    if lower in MODELS:
        return MODELS[lower], None
    for decoder in DECODERS:
        encoder = lower.removeprefix(f"{decoder}_")
        if encoder not in (lower, ""):
            lines = (model for model in MODELS.values() if model.config.get("decoder") == decoder)
            return next(lines, Model({"encoder": encoder, "decoder": decoder, "output_stride": 32}, SGD)), encoder
    known = f"{', '.join(MODELS)}, or another encoder in a name, such as unet_convnext_tiny"
    raise ModelError(f"--model {name} is not known: choose one of {known}")


def model_entry(name: str) -> Model:
    """The line of `MODELS` that says how `name` is trained."""
    return find_model(name)[0]


def build_model(
    name: str,
    norm: str,
    id2label: dict[int, str],
    dataset: str | None = None,
    auxiliary: bool = False,
    encoder: str | None = None,
    output_stride: int | None = None,
    eval_output_stride: int | None = None,
    freeze_bn: bool = False,
    gradient_checkpointing: bool = False,
) -> PreTrainedModel:
    """A network from scratch, or a `ModelError`.

    norm, id2label          one of `NORMS`; train id -> class name
    auxiliary               with a second head while it trains
    encoder, output_stride  instead of the model's own
    eval_output_stride      that it will be asked for later: refused now if it cannot be
    freeze_bn               the encoder's batch norms do not learn (see `freeze_batch_norm`)
    gradient_checkpointing  less memory for more time
    """
    entry, named_encoder = find_model(name)
    if encoder and named_encoder:
        raise ModelError(f"--model {name} names an encoder, and --encoder {encoder} another one: leave one of them out")
    encoder = encoder or named_encoder
    if norm not in NORMS:
        raise ModelError(f"--norm {norm} is not known: choose one of {', '.join(NORMS)}")
    label2id = {label: i for i, label in id2label.items()}
    fields = {**entry.config, "norm": norm, "id2label": id2label, "label2id": label2id, "dataset": dataset}
    if "encoder" in entry.config:
        model = _build_ours(name, fields, encoder, output_stride)
        widths = model.backbone.channels
    elif encoder or output_stride:
        raise ModelError(f"{'--encoder' if encoder else '--output_stride'} is not for --model {name}")
    else:
        widths = entry.config["hidden_sizes"]
        if norm == "batch" and not auxiliary:
            model = NativeSegFormer(NativeSegFormerConfig(**fields))
            shorten_heads(model)
        else:
            model = SegFormer(SegFormerConfig(**fields))
    with at_output_stride(model, eval_output_stride):
        pass
    if auxiliary:
        model.add_auxiliary_head(widths[-2])
    if freeze_bn:
        encoder = getattr(model, "backbone", None)
        if encoder is None or not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in encoder.modules()):
            raise ModelError(f"--freeze_bn: the encoder of --model {name} has no batch norm")
        freeze_batch_norm(encoder)
    if gradient_checkpointing:
        recompute_blocks(model)
    return model


def _build_ours(name: str, fields: dict, encoder: str | None, output_stride: int | None) -> SegmentationModel:
    if encoder:
        own = fields["encoder"]
        if own in OTHER_ENCODERS and own != "swin_tiny" and encoder != own:
            raise ModelError(f"--encoder is not for --model {name}, which has its own: for example unet_resnet50")
        fields |= {"encoder": encoder}
        fields |= {"output_stride": OTHER_ENCODERS[encoder][1]} if encoder in OTHER_ENCODERS else {}
    fields |= {"output_stride": output_stride} if output_stride else {}
    try:
        if encoder:
            check_fit(SegmentationConfig(**fields))
        return SegmentationModel(SegmentationConfig(**fields))
    except (AssertionError, IndexError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"--model {name} cannot be built as asked: {reason}") from error


def check_fit(config: SegmentationConfig) -> None:
    """Raise ValueError if an encoder and a decoder do not work together. Nothing is computed: shapes are enough."""
    height, width = 97, 161
    with torch.device("meta"), torch.enable_grad():
        model, images = SegmentationModel(config).train(), torch.empty(2, 3, height, width)
        for x, stride in zip(model.backbone(images), model.backbone.reductions, strict=True):
            if x.shape[2:] != (-(-height // stride), -(-width // stride)):
                raise ValueError(f"the maps of {config.encoder} do not cover the image")
        model(images).logits.sum().backward()
    if any(parameter.grad is None for parameter in model.parameters()):
        raise ValueError(f"parts of {config.encoder} would not be used by this decoder")
