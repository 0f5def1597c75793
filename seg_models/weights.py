"""Weights to start from, `--init_from` and `--pretrained_encoder`: other people's files, matched by name and shape.

A layer is loaded whole or not at all: a convolution with a bias is none without, batch norm's weights mean nothing to
a group norm. Names are those of torchvision and `transformers`; the tables below lead there from those of other code.
Only tensors are read, from safetensors or with `weights_only=True`: no code of others runs here.
"""

import json
import os
import pickle
import re
from dataclasses import dataclass, field

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel

from .errors import ModelError
from .evonorm import EvoNorm

# What layers of SegFormer and Swin are called while they run, in newer versions of `transformers` -> in files, in all
# versions. Swin is `backbone.swin.swin` in our networks, and `backbone.swin` in their files.
SAVED = (
    (r"^segformer\.stages\.(\d)\.patch_embeddings\.", r"segformer.encoder.patch_embeddings.\1."),
    (r"^segformer\.stages\.(\d)\.blocks\.", r"segformer.encoder.block.\1."),
    (r"^segformer\.stages\.(\d)\.layer_norm\.", r"segformer.encoder.layer_norm.\1."),
    (r"^backbone\.swin\.swin\.", "backbone.swin."),
    (r"(\.encoder\..*\.attention)\.q_proj\.", r"\1.self.query."),
    (r"(\.encoder\..*\.attention)\.k_proj\.", r"\1.self.key."),
    (r"(\.encoder\..*\.attention)\.v_proj\.", r"\1.self.value."),
    (r"(\.encoder\..*\.attention)\.o_proj\.", r"\1.output.dense."),
    (r"(\.encoder\..*\.attention)\.sequence_reduction\.sequence_reduction\.", r"\1.self.sr."),
    (r"(\.encoder\..*\.attention)\.sequence_reduction\.layer_norm\.", r"\1.self.layer_norm."),
    (r"(\.encoder\..*\.attention)\.relative_position_bias\.", r"\1.self."),
    (r"(\.encoder\.block\..*\.mlp)\.fc(\d)\.", r"\1.dense\2."),
    (r"(\.encoder\.layers\..*)\.mlp\.fc1\.", r"\1.intermediate.dense."),
    (r"(\.encoder\.layers\..*)\.mlp\.fc2\.", r"\1.output.dense."),
    (r"(\.encoder\.block\..*)\.layernorm_before\.", r"\1.layer_norm_1."),
    (r"(\.encoder\.block\..*)\.layernorm_after\.", r"\1.layer_norm_2."),
    (r"^decode_head\.linear_projections\.", "decode_head.linear_c."),
)
# Within a block, the same in MMSegmentation and in the code that the paper came with.
BLOCK = (
    (r"^(segformer\..*)\.norm(1|2)\.", r"\1.layer_norm_\2."),
    (r"^(segformer\..*)\.attn\.sr\.", r"\1.attention.self.sr."),
    (r"^(segformer\..*)\.attn\.norm\.", r"\1.attention.self.layer_norm."),
    (r"^(segformer\..*)\.attn\.q\.", r"\1.attention.self.query."),
    (r"^(segformer\..*)\.attn\.k\.", r"\1.attention.self.key."),
    (r"^(segformer\..*)\.attn\.v\.", r"\1.attention.self.value."),
)
MMSEG_SEGFORMER = (
    (r"^(?:backbone\.)?layers\.(\d)\.0\.projection\.", r"segformer.encoder.patch_embeddings.\1.proj."),
    (r"^(?:backbone\.)?layers\.(\d)\.0\.norm\.", r"segformer.encoder.patch_embeddings.\1.layer_norm."),
    (r"^(?:backbone\.)?layers\.(\d)\.1\.", r"segformer.encoder.block.\1."),
    (r"^(?:backbone\.)?layers\.(\d)\.2\.", r"segformer.encoder.layer_norm.\1."),
    (r"\.attn\.attn\.out_proj\.", ".attention.output.dense."),
    (r"\.ffn\.layers\.0\.", ".mlp.dense1."),
    (r"\.ffn\.layers\.1\.", ".mlp.dwconv.dwconv."),
    (r"\.ffn\.layers\.4\.", ".mlp.dense2."),
    *BLOCK,
)
PAPERS_SEGFORMER = (
    (r"^(?:backbone\.)?patch_embed(\d)\.proj\.", r"segformer.encoder.patch_embeddings.\1.proj."),
    (r"^(?:backbone\.)?patch_embed(\d)\.norm\.", r"segformer.encoder.patch_embeddings.\1.layer_norm."),
    (r"^(?:backbone\.)?block(\d)\.", r"segformer.encoder.block.\1."),
    (r"^(?:backbone\.)?norm(\d)\.", r"segformer.encoder.layer_norm.\1."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.mlp\.fc(\d)\.", r".mlp.dense\1."),
    (r"^decode_head\.linear_c(\d)\.", r"decode_head.linear_c.\1."),
    (r"^decode_head\.linear_fuse\.conv\.", "decode_head.linear_fuse."),
    (r"^decode_head\.linear_fuse\.bn\.", "decode_head.batch_norm."),
    (r"^decode_head\.linear_pred\.", "decode_head.classifier."),
    *BLOCK,
)
MMSEG_DEEPLABV3 = (
    (r"^decode_head\.aspp_modules\.(\d)\.conv\.", r"classifier.0.convs.\1.0."),
    (r"^decode_head\.aspp_modules\.(\d)\.bn\.", r"classifier.0.convs.\1.1."),
    (r"^decode_head\.image_pool\.1\.conv\.", "classifier.0.convs.4.1."),
    (r"^decode_head\.image_pool\.1\.bn\.", "classifier.0.convs.4.2."),
    (r"^decode_head\.bottleneck\.conv\.", "classifier.0.project.0."),
    (r"^decode_head\.bottleneck\.bn\.", "classifier.0.project.1."),
    (r"^decode_head\.conv_seg\.", "classifier.4."),
    (r"^auxiliary_head\.convs\.0\.conv\.", "aux_classifier.0."),
    (r"^auxiliary_head\.convs\.0\.bn\.", "aux_classifier.1."),
    (r"^auxiliary_head\.conv_seg\.", "aux_classifier.4."),
)
# (a name that gives the format away, what it is, its table, {names that have no counterpart: why})
FORMATS = (
    (
        r"^(backbone\.)?layers\.0\.1\.0\.ffn\.",
        "MMSegmentation's SegFormer",
        MMSEG_SEGFORMER,
        {
            r"^decode_head\.(convs|fusion_conv|conv_seg)\.": "its head has a norm and a ReLU in each branch, which the "
            "paper's and transformers' have not, so none of it fits"
        },
    ),
    (r"^(backbone\.)?block1\.0\.attn\.", "the paper's SegFormer", PAPERS_SEGFORMER, {}),
    (
        r"^decode_head\.aspp_modules\.",
        "MMSegmentation's DeepLabV3",
        MMSEG_DEEPLABV3,
        {r"^backbone\.stem\.": "ResNetV1c begins with three 3x3 convolutions, torchvision's ResNet with one of 7x7"},
    ),
)


@dataclass
class Weights:
    """Tensors by name, of a file; `labels`: class names by id and `norm`, where the file or its folder says so."""

    tensors: dict[str, torch.Tensor]
    labels: list[str] | None = None
    norm: str | None = None


@dataclass
class Report:
    """What became of a file's tensors: layers by outcome."""

    loaded: set[str] = field(default_factory=set)  # names of tensors
    rows: dict[str, list[str]] = field(default_factory=dict)  # classifier -> classes that kept their row
    refused: dict[str, list[str]] = field(default_factory=dict)  # why -> layers


def start_weights(model: PreTrainedModel, init_from: str | None, pretrained_encoder: str | None) -> str:
    """Load, in place, what fits of one of the two; "" for neither. Lines for the user: what was loaded, what not, why.
    Raises `ModelError` for what cannot be read and where nothing fits."""
    if init_from:
        return load_into(model, read_weights(init_from, "--init_from"), f"--init_from {init_from}")
    if pretrained_encoder:
        title = f"--pretrained_encoder {pretrained_encoder}"
        return load_into(model, read_encoder(pretrained_encoder), title, encoder_only=True)
    return ""


# reading


def read_weights(name: str, flag: str) -> Weights:
    """Of a file, a run folder, a saved model, or a model on the hub."""
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
    return Weights(tensors, labels, norm)


def read_config(path: str, flag: str) -> tuple[list[str] | None, str | None]:
    """Class names, None where there are none, and norm, of a saved model's configuration."""
    try:
        with open(path) as file:
            config = json.load(file)
        labels = [label for _, label in sorted((int(i), label) for i, label in config.get("id2label", {}).items())]
        if all(re.fullmatch(r"LABEL_\d+", label) for label in labels):  # what transformers calls classes without names
            labels = None
        return labels, config.get("norm")
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ModelError(f"{flag}: {path} is no configuration of a model: {error}") from error


def read_file(path: str, flag: str) -> Weights:
    """Of .safetensors, or of a .pth, .pt or .bin, read with `weights_only=True`."""
    try:
        if path.endswith(".safetensors"):
            return Weights(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{flag}: {path} holds more than weights, or is damaged, and is not read: loading objects runs code. Where "
            "you trust it, save its state_dict alone, or convert it to safetensors"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, SafetensorError) as error:
        raise ModelError(f"{flag}: cannot read {path}: {' '.join(str(error).split())[:300]}") from error
    content = by_name(content)
    meta = by_name(content.get("meta"))
    meta = {key.lower(): value for key, value in {**meta, **by_name(meta.get("dataset_meta"))}.items()}
    for key in ("state_dict", "model", "model_state_dict"):  # what training code packs them into
        content = by_name(content.get(key)) or content
    tensors = {key.removeprefix("module."): value for key, value in content.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise ModelError(f"{flag}: {path} holds no weights by name")
    return Weights(tensors, list(meta["classes"]) if meta.get("classes") else None)


def by_name(content) -> dict:
    """What of an object read from a file has a name."""
    return {key: value for key, value in content.items() if isinstance(key, str)} if isinstance(content, dict) else {}


def hub_folder(name: str, flag: str) -> str:
    """Where huggingface_hub keeps a model of the hub, `USER/NAME` or `USER/NAME@REVISION`, downloaded now or before."""
    repository, _, revision = name.partition("@")
    files = ["*.json", "*.safetensors", "*.py"]
    try:
        folder = snapshot_download(repository, revision=revision or None, allow_patterns=files)
        if not any(path.endswith(".safetensors") for path in os.listdir(folder)):
            folder = snapshot_download(repository, revision=revision or None, allow_patterns=[*files, "*.bin"])
        return folder
    except HFValidationError as error:
        raise ModelError(f"{flag} {name}: no such file or folder here, and it cannot be a hub id") from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        why = "the hub has no such model or revision, or shows it only to those who are logged in"
        raise ModelError(f"{flag} {name}: no such file or folder here, and {why}") from error
    except LocalEntryNotFoundError as error:
        why = "the hub cannot be reached (offline?), and it was not downloaded before"
        raise ModelError(f"{flag} {name}: no such file or folder here, {why}") from error
    except Exception as error:  # whatever the hub, or the way to it, says
        raise ModelError(f"{flag} {name}: {first_line(error)}") from error


def read_encoder(name: str) -> Weights:
    """Of a file, folder or hub id, a name of torchvision's (ResNet50_Weights.IMAGENET1K_V2), or one of timm's."""
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
        return Weights(timm.create_model(name, pretrained=True).state_dict())
    except ModelError:
        raise
    except Exception as error:  # of either library, or of the way to its weights
        raise ModelError(f"{flag} {name}: cannot be had: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


# matching


def translate(weights: Weights) -> tuple[Weights, str, dict[str, str]]:
    """Under the names used here; what format it was, "" for none of `FORMATS`; names without counterpart -> why."""
    known = (row[1:] for row in FORMATS if any(re.search(row[0], key) for key in weights.tensors))
    title, table, unfit = next(known, ("", (), {}))
    tensors, without = {}, {}
    for key, tensor in weights.tensors.items():
        why = next((why for pattern, why in unfit.items() if re.search(pattern, key)), None)
        if why:
            without[key] = why
            continue
        for part, value in split_attention(key, tensor):
            part = renamed(part, table)
            if table is PAPERS_SEGFORMER:  # which counts stages from 1
                count_down = r"^(segformer\.encoder\.\w+|decode_head\.linear_c)\.(\d)"
                part = re.sub(count_down, lambda m: f"{m[1]}.{int(m[2]) - 1}", part)
            if table is MMSEG_SEGFORMER and part.endswith((".mlp.dense1.weight", ".mlp.dense2.weight")):  # 1x1 there
                value = value.flatten(1)
            tensors[part] = value
    return Weights(tensors, weights.labels, weights.norm), title, without


def split_attention(key: str, tensor: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    """Projections of query, key and value that are one tensor, into the three, or two, that they are here."""
    joined = re.search(r"\.attn\.attn\.in_proj_(weight|bias)$", key)
    if joined:
        name = key[: joined.start()]
        return [(f"{name}.attn.{part}.{joined[1]}", value) for part, value in zip("qkv", tensor.chunk(3), strict=True)]
    joined = re.search(r"\.attn\.kv\.(weight|bias)$", key)
    if joined:
        name = key[: joined.start()]
        return [(f"{name}.attn.{part}.{joined[1]}", value) for part, value in zip("kv", tensor.chunk(2), strict=True)]
    return [(key, tensor)]


def renamed(key: str, table: tuple) -> str:
    for pattern, name in table:
        key = re.sub(pattern, name, key)
    return key


def common_name(key: str) -> str:
    """The one name of a tensor that has several: SegFormer's and Swin's in files; timm flattens `stages.0` to
    `stages_0` where it returns features."""
    return renamed(key, SAVED).replace("_", ".")


def under_our_names(tensors: dict, target: dict) -> dict:
    """`tensors` with the prefix, of the few that are in use, under which most of them are in `target`."""
    inside = os.path.commonprefix(list(target)).rpartition(".")[0]
    ours = {common_name(key): key for key in target}
    found = []
    for added in dict.fromkeys(("", f"{inside}." if inside else "")):
        for removed in ("", "backbone.", "encoder.", "model.", "features."):
            candidate = {
                ours.get(name, key): value
                for key, value in tensors.items()
                if key.startswith(removed)
                for name in [common_name(added + key.removeprefix(removed))]
            }
            found.append((sum(key in target for key in candidate), candidate))
    return max(found, key=lambda pair: pair[0])[1]


def load_into(model: PreTrainedModel, weights: Weights, title: str, encoder_only: bool = False) -> str:
    """Load what fits, in place; lines for the user."""
    weights, form, without = translate(weights)
    target = dict(model.state_dict())
    encoder = "backbone." if hasattr(model, "backbone") else "segformer."
    if encoder_only:
        target = {key: value for key, value in target.items() if key.startswith(encoder)}
    tensors, report = under_our_names(weights.tensors, target), Report()
    modules, labels = dict(model.named_modules()), [name for _, name in sorted(model.config.id2label.items())]
    for layer in dict.fromkeys(key.rpartition(".")[0] for key in target):
        ours = {key: value for key, value in target.items() if key.rpartition(".")[0] == layer}
        theirs = {key: value for key, value in tensors.items() if key.rpartition(".")[0] == layer}
        why = misfit(modules[layer], ours, theirs, weights.norm not in (None, getattr(model.config, "norm", None)))
        if "classifier" in layer and is_classifier(modules[layer], len(labels)) and theirs:
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
        report.refused.setdefault(f"{why} (their names)", []).append(key.rpartition(".")[0])
    if not report.loaded:
        names = ", ".join(list(weights.tensors)[:3])
        raise ModelError(f"{title}: nothing in it fits this network; its first tensors are {names}")
    return describe(report, target, tensors, f"{title}{f' ({form})' if form else ''}")


def misfit(module: nn.Module, ours: dict, theirs: dict, other_norm: bool) -> str | None:
    """Why a layer, tensors of ours by name, cannot be loaded from theirs; None if it can."""
    if not theirs:
        return "not in it"
    counters = {key for key in {**ours, **theirs} if key.endswith("num_batches_tracked")}
    norm = isinstance(module, (nn.BatchNorm2d, nn.InstanceNorm2d, nn.GroupNorm, EvoNorm))
    if ours.keys() - counters != theirs.keys() - counters or (norm and other_norm):
        return "another norm there" if norm else "other parts there (a bias?)"
    for key, value in ours.items():
        if key in theirs and value.shape != theirs[key].shape:
            return f"shape {shape(theirs[key])} there, {shape(value)} here"
    return None


def shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def is_classifier(module: nn.Module, num_labels: int) -> bool:
    """Whether a layer gives a score to each class."""
    return isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.out_channels == num_labels


def load_rows(
    layer: str, ours: dict, theirs: dict, labels: list[str], their_labels: list[str] | None, report
) -> str | None:
    """Rows of a classifier, by class name; without names all of them where there are as many. Why not, if not."""
    if ours.keys() != theirs.keys() or any(value.shape[1:] != theirs[key].shape[1:] for key, value in ours.items()):
        key = f"{layer}.weight"
        return f"shape {shape(theirs[key])} there, {shape(ours[key])} here" if key in theirs else "other parts there"
    number = len(next(iter(theirs.values())))
    if their_labels is None or len(their_labels) != number:
        if number != len(labels):
            return f"{number} classes without names there, {len(labels)} here"
        their_labels = labels
    kept = [name for name in labels if name in their_labels]
    if not kept:
        return f"none of its {number} classes has a name of ours"
    with torch.no_grad():
        for key, value in ours.items():
            for name in kept:
                value[labels.index(name)] = theirs[key][their_labels.index(name)]
            report.loaded.add(key)
    report.rows[layer] = kept
    return None


def describe(report: Report, target: dict, tensors: dict, title: str) -> str:
    counted = {key for key in target if not key.endswith("num_batches_tracked")}
    loaded = counted & report.loaded
    numbers = [sum(target[key].numel() for key in keys) / 1e6 for keys in (loaded, counted)]
    lines = [f"{title}: {len(loaded)} of {len(counted)} tensors loaded, {numbers[0]:.2f} of {numbers[1]:.2f} M numbers"]
    for layer, kept in report.rows.items():
        classes = len(target[f"{layer}.weight"])
        which = "every class" if len(kept) == classes else f"{len(kept)} of {classes} classes: {', '.join(kept)}"
        lines.append(f"  {layer} keeps the rows of {which}")
    lines += [f"  new, {why}: {some(layers)}" for why, layers in report.refused.items()]
    unused = {key.rpartition(".")[0] for key in tensors} - {key.rpartition(".")[0] for key in target}
    if unused:
        lines.append(f"  of no use here: {some(sorted(unused))}")
    return "\n".join(lines)


def some(names: list[str], most: int = 6) -> str:
    names = list(dict.fromkeys(names))
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
