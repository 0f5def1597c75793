"""Load a trained model, look up its classes, and score it on a split. The three scripts share this module."""

import ctypes
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation, BaseImageProcessor, PreTrainedModel
from transformers.utils import logging

from data_scripts.catalog import are_generic, dataset_of_classes, named_dataset, source_of
from data_scripts.labels import LabelInfo
from data_scripts.pixels import free_memory
from data_scripts.saved_classes import saved_labels
from seg_models.class_names import names_by_id
from seg_models.models import SegFormer, SegmentationModel  # registers them with transformers
from seg_models.short_heads import shorten_heads
from seg_runs.checkpoints import not_finite
from seg_runs.errors import RunError, os_reason
from seg_runs.files import CHECKSUMS, damage, read_json
from seg_runs.lineage import are_entries
from seg_runs.state import is_count, is_number

from .model_paths import HERE

if TYPE_CHECKING:
    from evaluate import EvaluationModule

METRIC = HERE / "metrics" / "mean_iou"
MOST_CLASSES = 256  # ids are bytes
LARGEST = 2**16  # largest number in a configuration: a damaged one must not make the network fill all memory


def load_model(folder: Path, trust_remote_code: bool = False) -> tuple[PreTrainedModel, BaseImageProcessor]:
    """Load a network, always in fp32, and its image processor from `folder`.

    Runs Python code from the folder only with `trust_remote_code`. Raises RunError if a file is damaged or a value is
    out of range.
    """
    options = {"local_files_only": True, "trust_remote_code": trust_remote_code}
    if wrong := damage(folder):
        raise RunError(f"cannot load the model in {folder}: {wrong} (if you changed it, delete {CHECKSUMS} there)")
    try:
        check_configuration(read_json(folder / "config.json"))
        with without_load_report():
            model, found = AutoModelForSemanticSegmentation.from_pretrained(
                folder, output_loading_info=True, ignore_mismatched_sizes=True, dtype=torch.float32, **options
            )
        check_weights(found, ours=isinstance(model, SegmentationModel | SegFormer))
        processor = AutoImageProcessor.from_pretrained(folder, **options)
        check_processor(processor)
        check_logits(model)
    except RunError as error:
        raise RunError(f"cannot load the model in {folder}: {error}") from error
    except Exception as error:  # a damaged or hostile file can raise anything
        line = os_reason(error)
        if "custom code" in str(error) and not trust_remote_code:
            line = "it needs the Python code in this folder: read it, and give --trust_remote_code if you trust it"
        raise RunError(f"cannot load the model in {folder}: {line:.300}") from error
    if bad := not_finite(model.state_dict()):
        raise RunError(f"cannot load the model in {folder}: its {bad} is not finite")
    shorten_heads(model)
    return model, processor


@contextmanager
def without_load_report() -> Iterator[None]:
    """Keep transformers from printing its table of weights that do not fit. `check_weights` says it in one line."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def check_weights(found: dict, ours: bool) -> None:
    """Raise RunError if the weights are not those of the network that config.json describes.

    found  the loading info of `from_pretrained`, which initialises at random what it does not find
    ours   whether it is a network of this project. Others may store more weights than they use: a note says so
    """
    if missing := {key for key in found["missing_keys"] if not key.endswith(".num_batches_tracked")}:
        raise RunError(f"{len(missing)} of its weights are missing, for example {min(missing)}")
    if found["mismatched_keys"]:
        key, stored, expected = min(found["mismatched_keys"])
        raise RunError(f"{key} has shape {tuple(stored)}, but the network of config.json needs {tuple(expected)}")
    if surplus := found["unexpected_keys"]:
        line = f"{len(surplus)} of its weights have no place in the network of config.json, for example {min(surplus)}"
        if ours:
            raise RunError(line)
        print(f"note: {line}")


def check_configuration(config: dict) -> None:
    """Raise RunError for invalid entries of config.json."""
    for key in ("dataset", "trained_on", "eval_dataset", "model_type", "pretrained"):
        if not isinstance(config.get(key), str | None):
            raise RunError(f"config.json: {key} is {config[key]!r:.80}")
    for key in ("teachers", "started_from"):
        if not are_entries(config.get(key) or []):
            raise RunError(f"config.json: {key} is {config[key]!r:.80}")
    names = config.get("id2label")
    if names is not None:
        if not (isinstance(names, dict) and all(isinstance(name, str) for name in names.values())):
            raise RunError(f"config.json: id2label is {names!r:.80}")
        if len(names) > MOST_CLASSES:
            raise RunError(f"config.json: it has {len(names)} classes, and at most {MOST_CLASSES} are possible")
        if sorted(names) != sorted(map(str, range(len(names)))):
            raise RunError("config.json: id2label does not number the classes from 0")
    for key, value in config.items():
        numbers = value if isinstance(value, list) else [value]
        if any(isinstance(number, int | float) and not -LARGEST <= number <= LARGEST for number in numbers):
            if key not in ("seed", "train_images"):
                raise RunError(f"config.json: {key} is {value!r:.80}")


@torch.no_grad()
def check_logits(model: PreTrainedModel) -> None:
    """Raise RunError if a small image does not give one logit map per class.

    A damaged configuration can fit the weights and still not work.
    """
    logits = model(pixel_values=torch.zeros(1, 3, 128, 128)).logits
    if logits.ndim != 4 or logits.shape[:2] != (1, model.config.num_labels):
        raise RunError(f"its logits have shape {tuple(logits.shape)}, for {model.config.num_labels} classes")


def check_processor(processor: BaseImageProcessor) -> None:
    """Raise RunError if mean, standard deviation or size of an image processor is invalid.

    `Predictor` reads no more: a processor that does not scale RGB to 0..1 and normalise it is refused as well.
    """
    for key, wanted in (("do_rescale", True), ("do_normalize", True), ("do_flip_channel_order", False)):
        if bool(getattr(processor, key, wanted)) != wanted:
            raise RunError(f"preprocessor_config.json: {key} is {getattr(processor, key)!r:.80}, and must be {wanted}")
    factor = getattr(processor, "rescale_factor", 1 / 255)
    if not is_number(factor) or not math.isclose(factor, 1 / 255, rel_tol=1e-3):
        raise RunError(f"preprocessor_config.json: rescale_factor is {factor!r:.80}, and must be 1/255")
    for key in ("image_mean", "image_std"):
        value = getattr(processor, key, None)
        numbers = isinstance(value, list | tuple) and len(value) == 3 and all(map(is_number, value))
        if not numbers or (key == "image_std" and min(value) <= 0):
            raise RunError(f"preprocessor_config.json: {key} is {value!r:.80}")
    size = processor_size(processor, strict=False)
    if size is not None and not all(is_count(side) and 1 <= side <= LARGEST for side in size):
        raise RunError(f"preprocessor_config.json: size is {size!r:.80}")


def label_set(model: PreTrainedModel, folder: Path, dataset: str | None) -> tuple[str | None, LabelInfo]:
    """Return the name of the data set whose classes `model` predicts, and its `LabelInfo`.

    `dataset` defaults to the one in the model's configuration, or to one with the model's classes. If there is none,
    as for a model of another project, the name is None and the classes are the model's. The classes of a folder of
    one's own stand in the configuration. Raises an error if the classes of the data set differ from the model's.
    """
    config = model.config
    names = names_by_id(model.config.id2label)
    trained_on = named_dataset(getattr(config, "dataset", None), names)
    dataset = dataset or trained_on or dataset_of_classes(names)
    if dataset is None:
        return None, saved_labels(config.to_dict())
    labels = source_of(dataset).labels
    own = getattr(config, "label_set", None) is not None
    if labels is None:  # a folder whose classes stand in a classes.yaml
        labels = None if own or trained_on is None else source_of(trained_on).labels
        return dataset, labels or saved_labels(config.to_dict())
    if config.num_labels != len(labels.names):
        raise RunError(f"{folder} predicts {config.num_labels} classes but --dataset {dataset} has {len(labels.names)}")
    foreign = trained_on is None and not are_generic(names)
    same = sorted(names) == sorted(labels.names)
    if names != list(labels.names) and (own or foreign or same):
        data = f"--dataset {dataset}"
        what = f"the classes of {data} in another order" if same else f"other classes than {data}"
        raise RunError(f"{folder} predicts {what}: {', '.join(names)}")
    return dataset, labels


def data_labels(labels: LabelInfo, data: LabelInfo, path: str) -> LabelInfo:
    """Return `data`, the label set of the images to score. Raises RunError if the model's `labels` have other names.

    path  the data, for the message
    """
    if labels.names != data.names:
        raise RunError(
            f"{path} has the classes {', '.join(data.names)}, but the model predicts {', '.join(labels.names)}: give "
            "the classes the same names and order, or predict the images with --input"
        )
    return data


def processor_size(processor: BaseImageProcessor, strict: bool = True) -> tuple[int, int] | None:
    """Return the (H, W) at which the model was validated, or None if images keep their own size.

    The image processor of another project may resize without a height and a width. Raises RunError in that case with
    `strict`, else returns None.
    """
    if not processor.do_resize:
        return None
    if processor.size is None or "height" not in processor.size or "width" not in processor.size:
        if strict:
            raise RunError("this model's image processor does not resize to a height and a width: give --test_size")
        return None
    return processor.size["height"], processor.size["width"]


def load_metric() -> "EvaluationModule":
    """Return a new `mean_iou` metric. Its `add_batch` takes train ids (H, W), uint8, of any device."""
    import evaluate

    return evaluate.load(str(METRIC))


def compute_scores(accelerator: Accelerator, metric: "EvaluationModule", labels: LabelInfo) -> dict | None:
    """Return the scores of a metric whose pixels were counted on all processes.

    Returns None if no pixel has a label, as in Cityscapes' test split.
    """
    metric.counts = accelerator.reduce(metric.counts.to(accelerator.device))
    if not metric.counts[: len(labels.names)].any():
        return None
    return metric.compute(num_labels=len(labels.names), ignore_index=labels.ignore_index)


def free_memory_of(device: torch.device, wanted: float = 0) -> int:
    """Return the free memory of a device in bytes.

    On a CPU, if less than `wanted` is free, this process first gives back what it has freed but still holds.
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if free_memory() < wanted:
        give_back_memory()
    return free_memory()


def give_back_memory() -> None:
    """Return freed memory to the system. `keep_memory` stops glibc from doing so by itself."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, TypeError, AttributeError):  # no glibc: another system
        pass
