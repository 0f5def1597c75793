"""Load initial weights, from `--init_from` or `--pretrained_encoder`, into the layers that they fit.

A layer is loaded completely or not at all, except a classifier, which takes the rows of the classes whose names match.
A convolution with a bias does not fit one without, and batch norm does not fit group norm. `weight_files.py` reads the
files, `weight_names.py` translates the layer names of other code, and `load_report.py` words the report.
"""

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn
from transformers import PreTrainedModel

from .class_names import each_distinct, names_by_id
from .errors import ModelError
from .evonorm import EvoNorm
from .load_report import Report, describe, layer_of, some
from .names import NORMS
from .norms import is_frozen
from .weight_files import Weights, read_encoder, read_weights
from .weight_names import translate, under_our_names


def start_weights(model: PreTrainedModel, init_from: str | None, pretrained_encoder: str | None) -> str:
    """Load initial weights into `model`, in place, from the flag that was given.

    Returns lines for the user that say what was loaded, and what was not and why, or "" without either flag. Raises
    `ModelError` if the weights cannot be read, or if nothing fits.
    """
    if init_from:
        weights, title = read_weights(init_from, "--init_from"), f"--init_from {init_from}"
    elif pretrained_encoder:
        weights, title = read_encoder(pretrained_encoder), f"--pretrained_encoder {pretrained_encoder}"
    else:
        return ""
    return load_into(model, weights, title, encoder_only=not init_from) + note_on_normalization(weights)


def note_on_normalization(weights: Weights) -> str:
    """Return a line if the weights expect images that are normalised in another way than training does it, or ""."""
    given = weights.normalization
    here = (*IMAGENET_DEFAULT_MEAN, *IMAGENET_DEFAULT_STD)
    if given is None or all(abs(a - b) < 1e-3 for a, b in zip(given, here, strict=True)):
        return ""
    mean, deviation = (", ".join(f"{value:.3g}" for value in half) for half in (given[:3], given[3:]))
    return (
        f"\nnote: these weights expect images normalised with mean ({mean}) and deviation ({deviation}), but training "
        "does so with ImageNet's: others may fit better"
    )


def load_into(model: PreTrainedModel, weights: Weights, title: str, encoder_only: bool = False) -> str:
    """Load the weights that fit into `model`, in place.

    title         beginning of the report
    encoder_only  whether to leave the head alone

    Returns the report, lines for the user. Raises `ModelError` if nothing fits.
    """
    weights, form, without = translate(weights)
    target = dict(model.state_dict())
    encoder = "backbone." if hasattr(model, "backbone") else "segformer."
    if encoder_only:
        target = {key: value for key, value in target.items() if key.startswith(encoder)}
    tensors = under_our_names(weights.tensors, target)
    report = Report()
    modules = dict(model.named_modules())
    labels = names_by_id(model.config.id2label)
    other_norm = weights.norm in NORMS and weights.norm != getattr(model.config, "norm", None)
    given = by_layer(tensors)
    for layer, ours in by_layer(target).items():
        theirs = given.get(layer, {})
        why = misfit(modules[layer], ours, theirs, other_norm)
        if is_classifier(layer, modules[layer]) and theirs:
            why = load_rows(layer, ours, theirs, labels, weights.labels, report)
        elif not why:
            with torch.no_grad():
                for key, value in ours.items():
                    if key in theirs:
                        value.copy_(theirs[key])
                        report.loaded.add(key)
        if why:
            report.refused.setdefault(why, []).append(layer)
    for key, why in without.items():
        report.refused.setdefault(f"{why} (their names)", []).append(layer_of(key))
    if not report.loaded:
        names = ", ".join(list(weights.tensors)[:3])
        remedy = "give the --model or --encoder of these weights"
        if not encoder_only and fit_encoder(weights.tensors, target, encoder):
            remedy = "give them with --pretrained_encoder, because they fit the encoder alone"
        raise ModelError(f"{title}: nothing in it fits this network, so {remedy}; its first tensors are {names}")
    refuse_frozen_at_random(model, report, title)
    return describe(report, target, tensors, f"{title}{f' ({form})' if form else ''}")


def by_layer(tensors: dict) -> dict[str, dict]:
    """Return {layer: {name: tensor}}, in the order of `tensors`."""
    layers = {}
    for name, tensor in tensors.items():
        layers.setdefault(layer_of(name), {})[name] = tensor
    return layers


def refuse_frozen_at_random(model: PreTrainedModel, report: Report, title: str) -> None:
    """Raise ModelError if a batch norm that `--freeze_bn` froze was not loaded."""
    frozen = [key for key, layer in model.named_modules() if is_frozen(layer)]
    new = [key for key in frozen if f"{key}.running_mean" not in report.loaded]
    if new:
        raise ModelError(
            f"{title} has no weights for {some(new)}, and --freeze_bn would keep random ones: leave out --freeze_bn, "
            "or load and freeze the encoder alone, with --pretrained_encoder"
        )


def fit_encoder(tensors: dict, target: dict, encoder: str) -> bool:
    """Whether most of the encoder of a network, whose names begin with `encoder`, is in a file."""
    ours = {key: value for key, value in target.items() if key.startswith(encoder)}
    found = under_our_names(tensors, ours)
    return 2 * sum(key in found and found[key].shape == value.shape for key, value in ours.items()) > len(ours)


def misfit(module: nn.Module, ours: dict, theirs: dict, other_norm: bool) -> str | None:
    """Return why a layer cannot be loaded, or None if it can.

    ours, theirs  {name: tensor} of the layer in our network and in the file
    other_norm    whether the file's configuration names another norm than ours
    """
    if not theirs:
        return "missing in the file"
    counters = {key for key in {**ours, **theirs} if key.endswith("num_batches_tracked")}
    norm = isinstance(module, (nn.BatchNorm2d, nn.InstanceNorm2d, nn.GroupNorm, EvoNorm))
    if ours.keys() - counters != theirs.keys() - counters or (norm and other_norm):
        return "another norm in the file" if norm else "other tensors in the file (a bias?)"
    for key, value in ours.items():
        if key in theirs and value.shape != theirs[key].shape:
            return f"shape {shape(theirs[key])} in the file, {shape(value)} here"
        if key in theirs and value.is_floating_point() and not theirs[key].is_floating_point():
            return f"{str(theirs[key].dtype).removeprefix('torch.')} numbers in the file"
    return None


def shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def is_classifier(name: str, module: nn.Module) -> bool:
    """Whether the layer `name` gives one score per class: the last of a head, of torchvision's heads number 4.

    The whole head is called `classifier` too, and other layers of it may have as many channels as there are classes.
    """
    return isinstance(module, nn.Conv2d) and "classifier" in name and name.rpartition(".")[2] in ("classifier", "4")


def load_rows(
    layer: str, ours: dict, theirs: dict, labels: list[str], their_labels: list[str] | None, report: Report
) -> str | None:
    """Load the rows of a classifier whose class names match, in place.

    Without class names in the file, loads all rows if the number of classes is the same. Returns why nothing was
    loaded, or None.
    """
    if ours.keys() != theirs.keys() or any(value.shape[1:] != theirs[key].shape[1:] for key, value in ours.items()):
        key = f"{layer}.weight"
        return (
            f"shape {shape(theirs[key])} in the file, {shape(ours[key])} here"
            if key in theirs
            else "other tensors in the file"
        )
    if any(not value.is_floating_point() for value in theirs.values()):
        return "integers in the file"
    number = len(next(iter(theirs.values())))
    if their_labels is None or len(their_labels) != number:
        if number != len(labels):
            return f"{number} unnamed classes in the file, {len(labels)} here"
        their_labels = labels
    rows = {name: row for row, name in enumerate(each_distinct(their_labels))}
    kept = [(row, rows[name]) for row, name in enumerate(each_distinct(labels)) if name in rows]
    if not kept:
        return f"none of its {number} class names is one of ours"
    with torch.no_grad():
        for key, value in ours.items():
            for row, their_row in kept:
                value[row] = theirs[key][their_row]
            report.loaded.add(key)
    report.rows[layer] = [labels[row] for row, _ in kept]
    return None
