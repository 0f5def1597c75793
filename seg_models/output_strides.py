"""Change the output stride of a network that is built already: `--eval_output_stride`."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import nn
from transformers import PreTrainedModel

from .errors import ModelError
from .modeling import SegmentationModel


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
    model.config = config  # its own: other networks may share the one that it was built from
    model.backbone.reductions = other.backbone.reductions


def check_output_stride(model: PreTrainedModel, output_stride: int | None) -> None:
    """Raise ModelError if `model` does not support the stride."""
    with at_output_stride(model, output_stride):
        pass


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
