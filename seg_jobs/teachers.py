"""Load the trained networks that another one learns from, check that it can, and record what they are."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from transformers import BaseImageProcessor, PreTrainedModel

from data_scripts.augment import IMAGENET_MEAN, IMAGENET_STD
from seg_models.class_names import names_by_id
from seg_models.names import OWN_TYPES
from seg_runs.errors import RunError
from seg_runs.files import read_json
from seg_runs.lineage import entry_on
from seg_runs.run_folder import public_name

from .model_paths import find_model
from .trained_model import load_model


@dataclass(frozen=True)
class Teacher:
    """A trained network that another one learns from.

    network       frozen, and in evaluation mode
    prepared      the same, for the device and the precision of the launch
    about         entries of its student's config.json: one on it, and one on each of its own teachers
    started_from  entries on the models that its weights come from
    fingerprint   a digest of its weights
    """

    network: PreTrainedModel
    prepared: nn.Module
    about: list[dict]
    started_from: list[dict]
    fingerprint: str


def load_teacher(name: str, classes: Sequence[str], accelerator: Accelerator) -> Teacher:
    """Load a trained model. Raises RunError unless it predicts `classes`, from the images that its student sees.

    name     a run folder, a saved model, or a hub id
    classes  names of the classes, in order
    """
    network, processor = load_model(_folder_of(name))
    _check_teacher(name, network, processor, classes)
    config = network.config.to_dict()
    digest = fingerprint(network)
    network = network.eval().requires_grad_(False).to(accelerator.device, memory_format=torch.channels_last)
    return Teacher(
        network=network,
        prepared=accelerator.prepare_model(network, evaluation_mode=True),
        about=[entry_on(public_name(name), config), *(config.get("teachers") or [])],
        started_from=config.get("started_from") or [],
        fingerprint=digest,
    )


def _folder_of(name: str) -> Path:
    """Return the folder of a saved model. Raises RunError if its code is not part of this project or transformers."""
    folder = find_model(name, "--teacher")[1]
    config = read_json(folder / "config.json")
    if config.get("auto_map") and config.get("model_type") not in OWN_TYPES:
        raise RunError(f"--teacher {name} needs the Python code in its folder, which train_seg.py does not run")
    return folder


def _check_teacher(name: str, network: PreTrainedModel, processor: BaseImageProcessor, classes: Sequence[str]) -> None:
    theirs = names_by_id(network.config.id2label)
    if theirs != list(classes):
        missing, more = ([c for c in one if c not in other] for one, other in ((classes, theirs), (theirs, classes)))
        why = f"does not know {', '.join(missing)}" if missing else f"also knows {', '.join(more)}"
        why = why if missing or more else f"has them in the order {', '.join(theirs)}"
        raise RunError(f"--teacher {name} must predict the classes of the data, in their order, but {why}")
    given = (*processor.image_mean, *processor.image_std)
    if not np.allclose(given, (*IMAGENET_MEAN, *IMAGENET_STD), atol=1e-3):
        raise RunError(
            f"--teacher {name} normalises images with mean {list(processor.image_mean)} and deviation "
            f"{list(processor.image_std)}, but training does so with ImageNet's: choose another teacher"
        )


def fingerprint(network: PreTrainedModel) -> str:
    """Return a digest of weights, buffers and output stride: of all that determines the predictions of an image."""
    digest = hashlib.sha256(str(getattr(network.config, "output_stride", None)).encode())
    for key, tensor in sorted(network.state_dict().items()):
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
