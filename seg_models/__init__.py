"""Networks, norms, losses and the predictor: every function of tensors. Nothing here opens a file of a data set.

`MODELS` is the whole list: a name, what it is made of, and how it is trained unless a flag says otherwise.
"""

from dataclasses import dataclass

from transformers import AutoConfig, AutoModelForSemanticSegmentation

from .losses import LOSSES
from .modeling import SegmentationConfig, SegmentationModel
from .norms import NORMS
from .predictor import Predictor, normalize, resize_logits

__all__ = ["LOSSES", "MODELS", "ModelError", "Predictor", "SegmentationConfig", "SegmentationModel", "build_model"]
__all__ += ["normalize", "resize_logits"]

AutoConfig.register(SegmentationConfig.model_type, SegmentationConfig)
AutoModelForSemanticSegmentation.register(SegmentationConfig, SegmentationModel)


class ModelError(ValueError):
    """A request for a network that cannot be met: one line for the user."""


@dataclass(frozen=True)
class TrainingDefaults:
    """How a model is trained when no flag says otherwise: the one home of these numbers."""

    optimizer: str
    learning_rate: float
    weight_decay: float
    lr_scheduler_type: str
    momentum: float = 0.9


@dataclass(frozen=True)
class Model:
    """A line of `MODELS`: fields of the configuration, and the training defaults."""

    config: dict
    training: TrainingDefaults


SGD = TrainingDefaults("sgd", learning_rate=1e-2, weight_decay=1e-4, lr_scheduler_type="cosine")
ADAMW = TrainingDefaults("adamw", learning_rate=1e-3, weight_decay=5e-2, lr_scheduler_type="poly")

MODELS = {
    "deeplabv3_resnet50": Model({"encoder": "resnet50", "decoder": "deeplabv3", "output_stride": 8}, SGD),
    "deeplabv3_resnet101": Model({"encoder": "resnet101", "decoder": "deeplabv3", "output_stride": 8}, SGD),
    "streetnet": Model({"encoder": "streetnet", "decoder": "streetnet", "output_stride": 16}, ADAMW),
}


def model_entry(name: str) -> Model:
    """The line of `MODELS` for `name`, in any case; an unknown one raises with the list."""
    if name.lower() not in MODELS:
        raise ModelError(f"--model {name} is not known: choose one of {', '.join(MODELS)}")
    return MODELS[name.lower()]


def build_model(name: str, norm: str, id2label: dict[int, str], dataset: str | None = None) -> SegmentationModel:
    """A network from scratch. `norm`: one of `NORMS`; `id2label`: train id -> class name."""
    entry = model_entry(name)
    if norm not in NORMS:
        raise ModelError(f"--norm {norm} is not known: choose one of {', '.join(NORMS)}")
    label2id = {label: i for i, label in id2label.items()}
    config = SegmentationConfig(**entry.config, norm=norm, id2label=id2label, label2id=label2id, dataset=dataset)
    return SegmentationModel(config)
