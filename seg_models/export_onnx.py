"""Turn an exported program into an ONNX model, and an ONNX model into one of int8."""

import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

from .errors import ModelError, first_line
from .export_graph import INPUT

if TYPE_CHECKING:
    from onnx import ModelProto


def to_onnx(program: torch.export.ExportedProgram, output: str) -> "ModelProto":
    """Return a program as an ONNX model whose result is called `output`.

    Raises ModelError if an operation has no counterpart in ONNX.
    """
    names = {"input_names": [INPUT], "output_names": [output]}
    try:
        with quiet():
            model = torch.onnx.export(program, dynamo=True, verbose=False, **names).model_proto
    except Exception as error:  # as in `trace`
        raise ModelError(f"torch.onnx does not support this network: {first_line(root_of(error))}") from error
    del model.metadata_props[:], model.graph.metadata_props[:]
    for part in (model.graph, *model.functions):
        for entry in (*part.node, *part.value_info):
            del entry.metadata_props[:]  # where each operation stands in Python files of this machine
            entry.doc_string = ""
    return model


def quantized(model: "ModelProto", photos: Iterable[np.ndarray], place: str) -> "ModelProto":
    """Return an ONNX model whose convolutions compute in int8 (onnxruntime's static quantisation).

    photos  each uint8 (1, H, W, 3); the ranges of the activations are those that occur in them
    place   folder for temporary files

    Weights have a scale for each output channel. Raises ModelError if onnxruntime cannot quantise the model, and
    OSError if the disk refuses.
    """
    import onnx

    with same_search_path():
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(dir=place) as folder, quiet():
        given, prepared, result = (os.path.join(folder, f"{name}.onnx") for name in ("given", "prepared", "result"))
        onnx.save(model, given)
        try:
            quant_pre_process(given, prepared, skip_symbolic_shape=True)  # merges batch norms into convolutions
            quantize_static(
                prepared,
                result,
                PhotoReader(photos),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        except OSError:
            raise
        except Exception as error:  # as in `trace`
            raise ModelError(f"onnxruntime cannot quantise this network: {first_line(error)}") from error
        return onnx.load(result)


class PhotoReader:
    """Hands photos to onnxruntime's calibration, one at a time."""

    def __init__(self, photos: Iterable[np.ndarray]):
        self.photos = iter(photos)

    def get_next(self) -> dict[str, np.ndarray] | None:
        photo = next(self.photos, None)
        return None if photo is None else {INPUT: photo}


def root_of(error: BaseException) -> BaseException:
    """Return the error that caused `error`. torch.onnx wraps it in others with longer texts."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


@contextmanager
def same_search_path() -> Iterator[None]:
    """Restore `sys.path`. onnxruntime.quantization puts a folder in front whose metrics.py hides our `metrics`."""
    before = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = before


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what the exporters log and warn about: their own progress, and tools that are not installed."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
