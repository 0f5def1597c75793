"""Read named tensors from a file, a folder, the hub, torchvision or timm.

Files other than safetensors are read with `weights_only=True`, so no code from a file runs.
"""

import json
import os
import pickle
import re
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from .class_names import names_by_id
from .errors import ModelError, first_line
from .hub_folders import hub_folder


@dataclass
class Weights:
    """Named tensors of a file, and what their source says of them; None for what it does not say.

    labels         class names in order of their ids
    norm           the norm of the layers
    normalization  mean and deviation of the RGB values that the network expects: six numbers
    """

    tensors: dict[str, torch.Tensor]
    labels: list[str] | None = None
    norm: str | None = None
    normalization: tuple[float, ...] | None = None


def read_weights(name: str, flag: str) -> Weights:
    """Read the weights of a file, a run folder, a saved model, or a model on the hub.

    `flag` names the flag in errors. Raises `ModelError` if there are no weights, or if they cannot be read.
    """
    if os.path.isfile(name):
        return read_file(name, flag)
    folder = name if os.path.isdir(name) else hub_folder(name, flag)
    if os.path.isfile(os.path.join(folder, "best", "config.json")):
        folder = os.path.join(folder, "best")
    labels, norm = None, None
    if os.path.isfile(os.path.join(folder, "config.json")):
        labels, norm = read_config(os.path.join(folder, "config.json"), flag)
    shards = sorted(
        path for path in os.listdir(folder) if re.fullmatch(r"(model|pytorch_model)(-.*)?\.(safetensors|bin)", path)
    )
    shards = [path for path in shards if path.endswith(".safetensors")] or shards
    if not shards:
        raise ModelError(f"{flag} {name}: there is no model.safetensors or pytorch_model.bin in {folder}")
    tensors = {}
    for shard in shards:
        tensors |= read_file(os.path.join(folder, shard), flag).tensors
    return Weights(tensors, labels, norm, read_normalization(os.path.join(folder, "preprocessor_config.json")))


def read_normalization(path: str) -> tuple[float, ...] | None:
    """Return mean and deviation of a saved model's image processor, or None if they are missing or not those of RGB."""
    try:
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
        mean, deviation = (tuple(map(float, config[key])) for key in ("image_mean", "image_std"))
        return (*mean, *deviation) if len(mean) == len(deviation) == 3 else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def read_config(path: str, flag: str) -> tuple[list[str] | None, str | None]:
    """Return class names and norm from a saved model's configuration. Each is None if it is missing."""
    try:
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
        labels = names_by_id(config.get("id2label", {}))
        if all(re.fullmatch(r"LABEL_\d+", label) for label in labels):  # transformers' names for unnamed classes
            labels = None
        return labels, config.get("norm")
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ModelError(f"{flag}: {path} is not the configuration of a model: {error}") from error


def read_file(path: str, flag: str) -> Weights:
    """Read the weights of a .safetensors file, or of a .pth, .pt or .bin file with `weights_only=True`."""
    try:
        if path.endswith(".safetensors"):
            return Weights(unwrapped(load_file(path)))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{flag}: {path} is damaged, or holds objects besides weights, and loading objects runs code. If you trust "
            "it, save its state_dict alone, or convert it to safetensors"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, SafetensorError) as error:
        raise ModelError(f"{flag}: cannot read {path}: {first_line(error)}") from error
    content = by_name(content)
    meta = by_name(content.get("meta"))
    meta = {key.lower(): value for key, value in {**meta, **by_name(meta.get("dataset_meta"))}.items()}
    for key in ("state_dict", "model", "model_state_dict"):  # keys under which training code stores weights
        content = by_name(content.get(key)) or content
    tensors = unwrapped({key: value for key, value in content.items() if isinstance(value, torch.Tensor)})
    if not tensors:
        raise ModelError(f"{flag}: {path} holds no named weights")
    classes = meta.get("classes")
    named = isinstance(classes, list | tuple) and all(isinstance(name, str) for name in classes)
    return Weights(tensors, list(classes) if named and classes else None)


def unwrapped(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors without the beginnings that DDP (`module.`) and torch.compile (`_orig_mod.`) give to names."""
    return {re.sub(r"^((module|_orig_mod)\.)+", "", key): value for key, value in tensors.items()}


def by_name(content: object) -> dict:
    """Return the entries of a dict whose keys are strings, or {} if `content` is not a dict."""
    return {key: value for key, value in content.items() if isinstance(key, str)} if isinstance(content, dict) else {}


def read_encoder(name: str) -> Weights:
    """Read the weights of a file, a folder or a hub id, or those that torchvision or timm have under this name.

    ResNet50_Weights.IMAGENET1K_V2, for example, is a name in torchvision. Raises `ModelError` if there are no weights.
    """
    flag = "--pretrained_encoder"
    if os.path.exists(name) or "/" in name:
        return read_weights(name, flag)
    try:
        if "_Weights." in name:
            from torchvision.models import get_weight

            return Weights(get_weight(name).get_state_dict(weights_only=True))
        import timm

        if not timm.is_model_pretrained(name):
            raise ModelError(f"{flag} {name}: no such file or folder here, and timm has no weights of that name")
        encoder = timm.create_model(name, pretrained=True)
        expected = encoder.pretrained_cfg
        return Weights(encoder.state_dict(), normalization=(*expected["mean"], *expected["std"]))
    except ModelError:
        raise
    except Exception as error:  # from either library, or from the download
        raise ModelError(f"{flag} {name}: cannot get these weights: {first_line(error)}") from error
