"""Networks, norms, losses and the predictor: every function of tensors. Nothing here opens a file of a data set.

`MODELS` is the whole list: a name, what it is made of, and how it is trained unless a flag says otherwise.
"""

from dataclasses import dataclass

from transformers import AutoConfig, AutoModelForSemanticSegmentation, PreTrainedModel
from transformers import SegformerConfig as NativeSegFormerConfig
from transformers import SegformerForSemanticSegmentation as NativeSegFormer

from .errors import ModelError
from .modeling import SegmentationConfig, SegmentationModel
from .norms import NORMS
from .predictor import Predictor
from .segformer import VARIANTS, SegFormer, SegFormerConfig
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
    steps over which the learning rate rises, `head_factor` multiplies the learning rate of the decode head."""

    optimizer: str
    learning_rate: float
    weight_decay: float
    lr_scheduler_type: str
    momentum: float = 0.9
    warmup: float = 0.0
    head_factor: float = 1.0


@dataclass(frozen=True)
class Model:
    """A line of `MODELS`: fields of the configuration, and the training defaults."""

    config: dict
    training: TrainingDefaults


SGD = TrainingDefaults("sgd", learning_rate=1e-2, weight_decay=1e-4, lr_scheduler_type="cosine")
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
    "fcn_resnet50": Model({"encoder": "resnet50", "decoder": "fcn", "output_stride": 8}, SGD),
    "unet": Model({"encoder": "unet", "decoder": "unet", "output_stride": 16}, SGD),
    "attention_unet": Model({"encoder": "unet", "decoder": "attention_unet", "output_stride": 16}, SGD),
    "streetnet": Model({"encoder": "streetnet", "decoder": "streetnet", "output_stride": 16}, ADAMW),
    **{f"segformer_{name}": Model(variant, SEGFORMER) for name, variant in VARIANTS.items()},
}


def model_entry(name: str) -> Model:
    """The line of `MODELS` for `name`, in any case; an unknown one raises with the list."""
    if name.lower() not in MODELS:
        raise ModelError(f"--model {name} is not known: choose one of {', '.join(MODELS)}")
    return MODELS[name.lower()]


def build_model(
    name: str, norm: str, id2label: dict[int, str], dataset: str | None = None, auxiliary: bool = False
) -> PreTrainedModel:
    """A network from scratch. `norm`: one of `NORMS`; `id2label`: train id -> class name; `auxiliary`: with a second
    head while it trains."""
    entry = model_entry(name)
    if norm not in NORMS:
        raise ModelError(f"--norm {norm} is not known: choose one of {', '.join(NORMS)}")
    label2id = {label: i for i, label in id2label.items()}
    fields = {**entry.config, "norm": norm, "id2label": id2label, "label2id": label2id, "dataset": dataset}
    if "encoder" in entry.config:
        model = SegmentationModel(SegmentationConfig(**fields))
        widths = model.backbone.channels
    else:
        widths = entry.config["hidden_sizes"]
        if norm == "batch" and not auxiliary:
            return NativeSegFormer(NativeSegFormerConfig(**fields))
        model = SegFormer(SegFormerConfig(**fields))
    if auxiliary:
        model.add_auxiliary_head(widths[-2])
    return model
