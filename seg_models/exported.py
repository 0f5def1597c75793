"""The files that `python -m seg_models.export` writes: what each format needs, and how to save and run a file."""

import io
import os
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import torch

from .errors import ModelError, first_line
from .export_graph import INPUT

if TYPE_CHECKING:
    from onnx import ModelProto

Runner = Callable[[np.ndarray], np.ndarray]  # maps a photo, uint8 (1, H, W, 3), to the result of a file
RUNTIMES = {"onnx": "onnxruntime", "torch_export": "PyTorch", "openvino": "OpenVINO"}  # by --format
ENDINGS = {"onnx": ".onnx", "torch_export": ".pt2", "openvino": ".xml"}  # by --format
NEEDS = {  # packages that write and run each format
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "torch_export": (),
    "openvino": ("onnx", "onnxscript", "onnxruntime", "openvino"),
}
PRECISIONS = {"onnx": ("fp32", "fp16", "int8"), "torch_export": ("fp32", "fp16"), "openvino": ("fp32", "fp16", "int8")}


def require(kind: str) -> None:
    """Raise ModelError if a package that the format `kind` needs is not installed."""
    missing = [name for name in NEEDS[kind] if find_spec(name) is None]
    if missing:
        raise ModelError(f"--format {kind} needs {', '.join(missing)}: pip install {' '.join(missing)}")


def save_torch(program: torch.export.ExportedProgram, path: str, facts: dict[str, str]) -> None:
    """Save a program, with `facts`, texts by name, as files inside it. Raises OSError if the disk refuses."""
    content = io.BytesIO()  # torch would abort the process on a full disk
    torch.export.save(program, content, extra_files=facts)
    with open(path, "wb") as file:
        file.write(content.getbuffer())


def save_onnx(model: "ModelProto", path: str, facts: dict[str, str]) -> None:
    """Save an ONNX model, with `facts`, texts by name, as its metadata."""
    import onnx

    onnx.helper.set_model_props(model, facts)
    onnx.save(model, path)


def save_openvino(model: "ModelProto", path: str, facts: dict[str, str], half: bool) -> None:
    """Save an ONNX model in OpenVINO's format, with `facts` below "minicity_seg" in its runtime information.

    half  store the weights in float16

    Raises OSError if the disk refuses.
    """
    import openvino

    with tempfile.TemporaryDirectory(dir=os.path.dirname(path)) as folder:
        onnx_path = os.path.join(folder, "model.onnx")
        save_onnx(model, onnx_path, {})
        converted = openvino.Core().read_model(onnx_path)
        for name, text in facts.items():
            converted.set_rt_info(text, ["minicity_seg", name])
        try:
            openvino.save_model(converted, path, compress_to_fp16=half)
        except RuntimeError as error:
            raise OSError(f"OpenVINO could not write it (is the disk full?): {first_line(error)}") from error


def open_exported(path: str, kind: str, threads: int | None = None, hint: str = "f32") -> Runner:
    """Return the function in a file of format `kind`. It maps a photo, uint8 (1, H, W, 3), to the file's result.

    threads  of onnxruntime and OpenVINO; None: theirs
    hint     the precision in which OpenVINO computes what is not int8. By default, it takes bf16 where the CPU has the
             instructions.

    Opening and calling raise ModelError if the runtime refuses.
    """
    runtime = RUNTIMES[kind]
    try:
        match kind:
            case "torch_export":
                run = open_torch(path)
            case "onnx":
                run = open_onnx(path, threads)
            case "openvino":
                run = open_openvino(path, threads, hint)
    except Exception as error:  # of many kinds
        raise ModelError(f"{runtime} cannot open the exported network: {first_line(error)}") from error

    def guarded(photo: np.ndarray) -> np.ndarray:
        try:
            return run(photo)
        except Exception as error:
            size = "x".join(map(str, photo.shape[1:3]))
            line = f"{runtime} cannot run the exported network at {size} (does --size H W help?)"
            raise ModelError(f"{line}: {first_line(error)}") from error

    return guarded


def open_torch(path: str) -> Runner:
    program = torch.export.load(path).module()
    return lambda photo: program(torch.from_numpy(photo)).numpy()


def open_onnx(path: str, threads: int | None) -> Runner:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    if threads is not None:
        options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda photo: session.run(None, {INPUT: photo})[0]


def open_openvino(path: str, threads: int | None, hint: str) -> Runner:
    import openvino

    properties = {"INFERENCE_PRECISION_HINT": hint}
    if threads is not None:
        properties["INFERENCE_NUM_THREADS"] = threads
    compiled = openvino.Core().compile_model(path, "CPU", properties)
    return lambda photo: compiled([photo])[0]
