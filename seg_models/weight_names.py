"""Translate the layer names of other code into ours, which are those of torchvision and `transformers`."""

import os
import re
from dataclasses import dataclass, replace

import torch

from .weight_files import Weights

# Names of SegFormer's and Swin's layers in the modules of newer `transformers` versions -> names in the files of all
# versions. Swin is `backbone.swin.swin` in our modules, and `backbone.swin` in our files.
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
# Names within a block, which MMSegmentation and the paper's code share.
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


@dataclass(frozen=True)
class Format:
    """The names that other code gives to the tensors of a network.

    mark    pattern that only names of this format match
    title   name of the format in lines for the user
    table   (pattern, replacement) pairs that lead to our names, applied in this order
    unfit   {pattern: reason} for names that have no counterpart here
    """

    mark: str
    title: str
    table: tuple[tuple[str, str], ...]
    unfit: dict[str, str]


FORMATS = (
    Format(
        r"^(backbone\.)?layers\.0\.1\.0\.ffn\.",
        "MMSegmentation's SegFormer",
        MMSEG_SEGFORMER,
        {
            r"^decode_head\.(convs|fusion_conv|conv_seg)\.": "its head has a norm and a ReLU in each branch, unlike "
            "the paper's and transformers' heads, so none of it fits"
        },
    ),
    Format(r"^(backbone\.)?block1\.0\.attn\.", "the paper's SegFormer", PAPERS_SEGFORMER, {}),
    Format(
        r"^decode_head\.aspp_modules\.",
        "MMSegmentation's DeepLabV3",
        MMSEG_DEEPLABV3,
        {r"^backbone\.stem\.": "ResNetV1c begins with three 3x3 convolutions, torchvision's ResNet with one of 7x7"},
    ),
)
OURS = Format("", "", (), {})  # names that need no translation


def translate(weights: Weights) -> tuple[Weights, str, dict[str, str]]:
    """Translate names of one of `FORMATS` into ours.

    Returns the weights under our names, the title of their format ("" for none of `FORMATS`), and {name: reason} for
    the tensors that have no counterpart here.
    """
    known = (form for form in FORMATS if any(re.search(form.mark, key) for key in weights.tensors))
    form = next(known, OURS)
    tensors, without = {}, {}
    for key, tensor in weights.tensors.items():
        why = next((why for pattern, why in form.unfit.items() if re.search(pattern, key)), None)
        if why:
            without[key] = why
            continue
        for part, value in split_attention(key, tensor):
            part = renamed(part, form.table)
            if form.table is PAPERS_SEGFORMER:  # it counts stages from 1
                count_down = r"^(segformer\.encoder\.\w+|decode_head\.linear_c)\.(\d)"
                part = re.sub(count_down, lambda m: f"{m[1]}.{int(m[2]) - 1}", part)
            if form.table is MMSEG_SEGFORMER and part.endswith(
                (".mlp.dense1.weight", ".mlp.dense2.weight")
            ):  # 1x1 convolutions there
                value = value.flatten(1)
            tensors[part] = value
    return replace(weights, tensors=tensors), form.title, without


def split_attention(key: str, tensor: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    """Return [(name, tensor)], with the projections of query, key and value split if the file joins them."""
    joined = re.search(r"\.attn\.attn\.in_proj_(weight|bias)$", key)
    if joined:
        name = key[: joined.start()]
        return [(f"{name}.attn.{part}.{joined[1]}", value) for part, value in zip("qkv", tensor.chunk(3), strict=True)]
    joined = re.search(r"\.attn\.kv\.(weight|bias)$", key)
    if joined:
        name = key[: joined.start()]
        return [(f"{name}.attn.{part}.{joined[1]}", value) for part, value in zip("kv", tensor.chunk(2), strict=True)]
    return [(key, tensor)]


def renamed(key: str, table: tuple[tuple[str, str], ...]) -> str:
    """Apply the replacements of `table` to `key`, in order."""
    for pattern, name in table:
        key = re.sub(pattern, name, key)
    return key


def common_name(key: str) -> str:
    """Return a name that is the same for all spellings of a tensor's name.

    SegFormer and Swin get their names in files. timm's feature extractors spell `stages.0` as `stages_0`.
    """
    return renamed(key, SAVED).replace("_", ".")


def under_our_names(tensors: dict, target: dict) -> dict:
    """Return `tensors` under the names of `target`. Removes or adds the prefix with which most names match."""
    inside = os.path.commonprefix(list(target)).rpartition(".")[0]
    ours = {common_name(key): key for key in target}
    found = []
    for added in dict.fromkeys(("", f"{inside}." if inside else "")):
        for removed in ("", "backbone.", "encoder.", "model.", "features."):
            names = {
                key: ours.get(common_name(added + key.removeprefix(removed)), key)
                for key in tensors
                if key.startswith(removed)
            }
            found.append((sum(name in target for name in names.values()), names))
    names = max(found, key=lambda pair: pair[0])[1]
    return {names.get(key, f"{key} (another part)" if key in target else key): value for key, value in tensors.items()}
