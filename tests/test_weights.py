"""Initial weights: which published files fit, how the rest is reported, and that no foreign code runs."""

import json
import os
import re

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.models import resnet18, segmentation
from transformers import (
    SegformerConfig,
    SegformerForImageClassification,
    SegformerImageProcessor,
    SwinConfig,
    SwinForImageClassification,
)

from seg_models.catalog import MODELS, VARIANTS
from seg_models.errors import ModelError
from seg_models.models import build_model
from seg_models.weight_files import Weights, read_encoder, read_weights
from seg_models.weight_names import common_name
from seg_models.weights import is_classifier, load_into, note_on_normalization, start_weights

CITY = {0: "road", 1: "sky", 2: "car"}
OTHER = {0: "sky", 1: "tree", 2: "building", 3: "road"}
FAST = "--dataset toycity --model streetnet --crop_size 32 64 --batch_size 2 --num_workers 0 --report_to none".split()


def network(name, norm="batch", labels=CITY, seed=0, auxiliary=False):
    torch.manual_seed(seed)
    return build_model(name, norm, labels, auxiliary=auxiliary).eval()


def state(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def differences(model, before) -> set[str]:
    """Return the names of the tensors that have changed."""
    return {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}


# torchvision


def test_official_deeplabv3_state_dicts_load_whole(tmp_path):
    """With VOC's 21 classes and an auxiliary head, everything fits except the two classifiers."""
    torch.manual_seed(1)
    theirs = segmentation.deeplabv3_resnet50(weights=None, weights_backbone=None, aux_loss=True, num_classes=21)
    torch.save(theirs.state_dict(), tmp_path / "deeplabv3_resnet50_coco.pth")
    ours = network("deeplabv3_resnet50", auxiliary=True)
    before = state(ours)
    report = start_weights(ours, str(tmp_path / "deeplabv3_resnet50_coco.pth"), None)
    classifiers = {f"{layer}.{kind}" for layer in ("classifier.4", "aux_classifier.4") for kind in ("weight", "bias")}
    for key, value in theirs.state_dict().items():
        expected = before[key] if key in classifiers else value
        assert torch.equal(ours.state_dict()[key], expected), key
    assert "21 unnamed classes in the file, 3 here: classifier.4, aux_classifier.4" in report


def test_another_norm_is_not_mistaken_for_batch_norm():
    source, ours = network("unet_resnet18", seed=1), network("unet_resnet18", "evo")
    before = state(ours)
    report = load_into(ours, Weights(state(source)), "--init_from x")
    changed = differences(ours, before)
    assert all(ours.state_dict()[key].ndim == 4 for key in changed - {"classifier.classifier.bias"})
    assert "another norm in the file" in report and "backbone.bn1" in report
    one, other = network("streetnet", "group", seed=1), network("streetnet", "instance")
    before = state(other)
    load_into(other, Weights(state(one), norm="group"), "--init_from x")
    assert not any(key.endswith(".1.weight") for key in differences(other, before))


# classes


def test_classes_of_equal_names_keep_their_rows(tmp_path):
    source, ours = network("streetnet", labels=OTHER, seed=1), network("streetnet")
    with torch.no_grad():
        source.classifier.classifier.bias.copy_(torch.arange(4.0) + 1)
    source.save_pretrained(tmp_path)
    before = state(ours)
    report = start_weights(ours, str(tmp_path), None)
    weight, theirs = ours.classifier.classifier.weight, source.classifier.classifier.weight
    assert torch.equal(weight[0], theirs[3]) and torch.equal(weight[1], theirs[0])
    assert torch.equal(weight[2], before["classifier.classifier.weight"][2])
    assert ours.classifier.classifier.bias.tolist() == [4, 1, 0]
    assert "classifier.classifier takes the rows of 2 of 3 classes: road, sky" in report
    rest = state(ours).keys() - {"classifier.classifier.weight", "classifier.classifier.bias"}
    assert all(torch.equal(ours.state_dict()[key], source.state_dict()[key]) for key in rest)


def classifiers(model) -> set[str]:
    return {name for name, layer in model.named_modules() if is_classifier(name, layer)}


@pytest.mark.parametrize("name", MODELS)
def test_the_classifiers_are_the_layers_with_an_output_for_each_class(name):
    """Also where other layers of the head happen to have as many outputs."""
    with torch.device("meta"):
        rare, *others = (build_model(name, "batch", dict.fromkeys(range(n), "x"), auxiliary=True) for n in (37, 48, 64))
    layers = {name: layer for name, layer in rare.named_modules() if isinstance(layer, nn.Conv2d)}
    assert classifiers(rare) == {name for name, layer in layers.items() if layer.out_channels == 37}
    assert all(classifiers(other) == classifiers(rare) for other in others)


def test_hidden_layers_as_wide_as_there_are_classes_are_loaded_whole(tmp_path):
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0)).tolist()
    source, ours = (network("streetnet", labels={i: f"c{n}" for i, n in enumerate(o)}) for o in (range(64), order))
    source.save_pretrained(tmp_path)
    start_weights(ours, str(tmp_path), None)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(images).logits, source(images).logits[:, order])


def test_classes_of_one_name_are_told_apart_by_their_order():
    labels = {0: "a", 1: "b", 2: "b"}
    source, ours = network("streetnet", labels=labels, seed=1), network("streetnet", labels=labels)
    for names in (None, ["a", "b", "b"]):
        load_into(ours, Weights(state(source), names), "x")
        assert not differences(ours, state(source))


def test_integers_are_no_weights():
    source, ours = network("streetnet", seed=1), network("streetnet")
    before, keys = state(ours), ["classifier.classifier.weight", "backbone.stem.0.0.weight"]
    tensors = {key: value.to(torch.int8) if key in keys else value for key, value in state(source).items()}
    report = load_into(ours, Weights(tensors), "x")
    assert "int8 numbers in the file: backbone.stem.0.0" in report and "integers in the file: classifier" in report
    assert not differences(ours, before) & {*keys}


@pytest.mark.parametrize("beginning", ["module.", "_orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize("end", ["pth", "safetensors"])
def test_names_of_wrapped_networks(tmp_path, beginning, end):
    source, ours = network("streetnet", seed=1), network("streetnet")
    wrapped = {beginning + key: value for key, value in state(source).items()}
    path = tmp_path / f"x.{end}"
    torch.save(wrapped, path) if end == "pth" else save_file(wrapped, path)
    start_weights(ours, str(path), None)
    assert not differences(ours, state(source))


def test_class_names_that_are_none(tmp_path):
    source, ours = network("streetnet", seed=1), network("streetnet")
    torch.save({"state_dict": state(source), "meta": {"classes": 3}}, tmp_path / "x.pth")
    start_weights(ours, str(tmp_path / "x.pth"), None)
    assert not differences(ours, state(source))


def test_a_norm_of_other_code_says_nothing():
    source, ours = network("streetnet", seed=1), network("streetnet")
    load_into(ours, Weights(state(source), norm="synced"), "x")
    assert not differences(ours, state(source))


def test_what_other_parts_of_a_file_are_is_said():
    source, ours = network("unet_resnet18", seed=1), network("unet_resnet18")
    encoder = {f"encoder.{key}": value for key, value in source.backbone.state_dict().items()}
    tensors = encoder | {"decoder.blocks.0.weight": torch.ones(3), "x": torch.ones(3)}
    report = load_into(ours, Weights(tensors), "y", encoder_only=True)
    assert "unused: decoder.blocks.0, x" in report and not differences(ours.backbone, state(source.backbone))
    with pytest.raises(ModelError, match="give them with --pretrained_encoder, because they fit the encoder alone"):
        load_into(ours, Weights(source.backbone.state_dict()), "y")


def test_classes_of_other_names_leave_the_classifier_new(tmp_path):
    source, ours = network("streetnet", labels={0: "a", 1: "b", 2: "c"}, seed=1), network("streetnet")
    source.save_pretrained(tmp_path)
    before = state(ours)
    report = start_weights(ours, str(tmp_path), None)
    assert torch.equal(ours.state_dict()["classifier.classifier.weight"], before["classifier.classifier.weight"])
    assert "none of its 3 class names is one of ours: classifier.classifier" in report


def test_a_segformer_of_the_hub_with_other_classes(tmp_path):
    """Saved as nvidia's are: with the names of transformers 4, which differ from those of its modules."""
    source = network("segformer_b0", labels=OTHER, seed=1)
    source.save_pretrained(tmp_path / "source")
    assert any(".encoder.block." in key for key in read_weights(str(tmp_path / "source"), "").tensors)
    ours = network("segformer_b0", "evo")
    report = start_weights(ours, str(tmp_path / "source"), None)
    for key, value in source.state_dict().items():
        if not key.startswith(("decode_head.batch_norm", "decode_head.classifier")):
            assert torch.equal(ours.state_dict()[key], value), key
    assert "another norm in the file: decode_head.batch_norm" in report and "road, sky" in report


# MMSegmentation, and the paper's code


class MMSegBlock(nn.Module):
    """A block of MMSegmentation's MixVisionTransformer, with its names."""

    def __init__(self, width, heads, reduction):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = nn.Module()
        self.attn.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        if reduction > 1:
            self.attn.sr = nn.Conv2d(width, width, reduction, reduction)
            self.attn.norm = nn.LayerNorm(width, eps=1e-6)
        wide = 4 * width
        layers = nn.Conv2d(width, wide, 1), nn.Conv2d(wide, wide, 3, 1, 1, groups=wide), nn.GELU(), nn.Identity()
        self.ffn = nn.Module()
        self.ffn.layers = nn.Sequential(*layers, nn.Conv2d(wide, width, 1))

    def forward(self, x, size):
        def as_map(tokens):
            return tokens.transpose(1, 2).unflatten(2, size)

        query = key = self.norm1(x)
        if hasattr(self.attn, "sr"):
            key = self.attn.norm(self.attn.sr(as_map(query)).flatten(2).transpose(1, 2))
        x = x + self.attn.attn(query, key, key, need_weights=False)[0]
        return x + self.ffn.layers(as_map(self.norm2(x))).flatten(2).transpose(1, 2)


class MMSegMiT(nn.Module):
    """MMSegmentation's MixVisionTransformer, with the sizes of SegFormer-B0."""

    def __init__(self, widths=(32, 64, 160, 256), heads=(1, 2, 5, 8), reductions=(8, 4, 2, 1)):
        super().__init__()
        self.layers, channels = nn.ModuleList(), 3
        for i, (width, number, reduction) in enumerate(zip(widths, heads, reductions, strict=True)):
            patch = nn.Module()
            kernel, stride = (3, 2) if i else (7, 4)
            patch.projection = nn.Conv2d(channels, width, kernel, stride, kernel // 2)
            patch.norm, channels = nn.LayerNorm(width, eps=1e-6), width
            blocks = nn.ModuleList(MMSegBlock(width, number, reduction) for _ in range(2))
            self.layers.append(nn.ModuleList([patch, blocks, nn.LayerNorm(width, eps=1e-6)]))

    def forward(self, x):
        features = []
        for patch, blocks, norm in self.layers:
            x = patch.projection(x)
            size, x = x.shape[-2:], patch.norm(x.flatten(2).transpose(1, 2))
            for block in blocks:
                x = block(x, size)
            x = norm(x).transpose(1, 2).unflatten(2, size)
            features.append(x)
        return features


def mmseg_checkpoint(encoder):
    torch.manual_seed(1)
    tensors = {f"backbone.{key}": value for key, value in encoder.state_dict().items()}
    for i, width in enumerate((32, 64, 160, 256)):
        tensors[f"decode_head.convs.{i}.conv.weight"] = torch.randn(256, width, 1, 1)
        tensors[f"decode_head.convs.{i}.bn.weight"] = torch.randn(256)
    tensors["decode_head.fusion_conv.conv.weight"] = torch.randn(256, 1024, 1, 1)
    tensors["decode_head.conv_seg.weight"], tensors["decode_head.conv_seg.bias"] = (
        torch.randn(19, 256, 1, 1),
        torch.ones(19),
    )
    return {"meta": {"CLASSES": ("road", "sky"), "epoch": 3}, "state_dict": tensors}


def test_mmsegmentations_segformer_encoder_computes_the_same(tmp_path):
    torch.manual_seed(1)
    theirs = MMSegMiT().eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.1)  # biases too, so that a forgotten one is noticed
    torch.save(mmseg_checkpoint(theirs), tmp_path / "segformer.pth")
    ours = network("segformer_b0")
    head = {key: value for key, value in state(ours).items() if key.startswith("decode_head.")}
    report = start_weights(ours, str(tmp_path / "segformer.pth"), None)
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        features = ours.segformer(images, output_hidden_states=True).hidden_states
        for mine, expected in zip(features, theirs(images), strict=True):
            torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(ours.state_dict()[key], value) for key, value in head.items())
    assert "MMSegmentation's SegFormer" in report and "a norm and a ReLU in each branch" in report
    # as published in mit_b0.pth: the encoder alone
    torch.save(theirs.state_dict(), tmp_path / "mit_b0.pth")
    again = network("segformer_b0", seed=2)
    start_weights(again, None, str(tmp_path / "mit_b0.pth"))
    encoder = [key for key in ours.state_dict() if key.startswith("segformer.")]
    assert all(torch.equal(again.state_dict()[key], ours.state_dict()[key]) for key in encoder)


PAPERS_NAMES = {  # names in the first block, the patches before it, the norm after it, and the head; ours as saved
    "segformer.encoder.patch_embeddings.0.proj": "backbone.patch_embed1.proj",
    "segformer.encoder.patch_embeddings.0.layer_norm": "backbone.patch_embed1.norm",
    "segformer.encoder.block.0.0.layer_norm_1": "backbone.block1.0.norm1",
    "segformer.encoder.block.0.0.attention.self.query": "backbone.block1.0.attn.q",
    "segformer.encoder.block.0.0.attention.output.dense": "backbone.block1.0.attn.proj",
    "segformer.encoder.block.0.0.attention.self.sr": "backbone.block1.0.attn.sr",
    "segformer.encoder.block.0.0.attention.self.layer_norm": "backbone.block1.0.attn.norm",
    "segformer.encoder.block.0.0.layer_norm_2": "backbone.block1.0.norm2",
    "segformer.encoder.block.0.0.mlp.dense1": "backbone.block1.0.mlp.fc1",
    "segformer.encoder.block.0.0.mlp.dwconv.dwconv": "backbone.block1.0.mlp.dwconv.dwconv",
    "segformer.encoder.block.0.0.mlp.dense2": "backbone.block1.0.mlp.fc2",
    "segformer.encoder.layer_norm.0": "backbone.norm1",
    "segformer.encoder.layer_norm.3": "backbone.norm4",
    "decode_head.linear_c.3.proj": "decode_head.linear_c4.proj",
    "decode_head.linear_fuse": "decode_head.linear_fuse.conv",
    "decode_head.batch_norm": "decode_head.linear_fuse.bn",
}


def saved(model, folder):
    """Return a model's tensors under the names of its file."""
    model.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


def test_the_names_of_the_papers_code(tmp_path):
    torch.manual_seed(1)
    source, ours = saved(network("segformer_b0", seed=1), tmp_path / "source"), network("segformer_b0")
    for value in source.values():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5)
    before = saved(ours, tmp_path / "before")
    kinds = ("weight", "bias", "running_mean", "running_var")
    names = {f"{layer}.{kind}": f"{name}.{kind}" for layer, name in PAPERS_NAMES.items() for kind in kinds}
    theirs = {name: source[key] for key, name in names.items() if key in source}
    attention = "segformer.encoder.block.0.0.attention.self"
    expected = {key for key in names if key in source}
    for kind in ("weight", "bias"):
        joined = [f"{attention}.key.{kind}", f"{attention}.value.{kind}"]
        theirs[f"backbone.block1.0.attn.kv.{kind}"] = torch.cat([source[key] for key in joined])
        theirs[f"decode_head.linear_pred.{kind}"] = source[f"decode_head.classifier.{kind}"]
        expected |= {*joined, f"decode_head.classifier.{kind}"}
    report = load_into(ours, Weights(theirs, list(CITY.values())), "--init_from x")
    after = saved(ours, tmp_path / "after")
    assert {key for key in after if not torch.equal(after[key], before[key])} == expected
    assert all(torch.equal(after[key], source[key]) for key in expected) and len(expected) == 39
    assert "the paper's SegFormer" in report


def test_mmsegmentations_deeplabv3_says_what_does_not_fit():
    """ResNetV1c has another stem and a pyramid of 512 channels, so only the stages and the auxiliary head fit."""
    source = state(network("deeplabv3_resnet50", seed=1, auxiliary=True))
    theirs = {key: value for key, value in source.items() if key.startswith("backbone.layer")}
    theirs |= {f"backbone.stem.{i}.weight": torch.randn(32, 32, 3, 3) for i in (0, 3, 6)}
    for i in range(4):
        size = 3 if i else 1
        theirs[f"decode_head.aspp_modules.{i}.conv.weight"] = torch.zeros(()).expand(512, 2048, size, size)
    theirs["decode_head.conv_seg.weight"], theirs["decode_head.conv_seg.bias"] = (
        torch.randn(3, 512, 1, 1),
        torch.randn(3),
    )
    theirs["auxiliary_head.convs.0.conv.weight"] = source["aux_classifier.0.weight"]
    for kind in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        theirs[f"auxiliary_head.convs.0.bn.{kind}"] = source[f"aux_classifier.1.{kind}"]
    for kind in ("weight", "bias"):
        theirs[f"auxiliary_head.conv_seg.{kind}"] = source[f"aux_classifier.4.{kind}"]
    ours = network("deeplabv3_resnet50", auxiliary=True)
    before = state(ours)
    report = load_into(ours, Weights(theirs), "--init_from x")
    assert {key.split(".")[0] + "." + key.split(".")[1] for key in differences(ours, before)} <= {
        *(f"backbone.layer{i}" for i in range(1, 5)),
        *(f"aux_classifier.{i}" for i in (0, 1, 4)),
    }
    assert all(
        torch.equal(ours.state_dict()[key], source[key]) for key in source if key.startswith(("backbone.layer", "aux"))
    )
    assert "ResNetV1c begins with three 3x3 convolutions" in report
    assert "shape 512x2048x1x1 in the file, 256x2048x1x1 here: classifier.0.convs.0.0" in report
    assert "shape 3x512x1x1 in the file, 3x256x1x1 here: classifier.4" in report


# encoders


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """A ResNet-18 with 1000 classes, as timm and torchvision name its tensors."""
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(3)
    encoder = resnet18(num_classes=1000)
    save_file(encoder.state_dict(), folder / "resnet18.safetensors")
    torch.save(encoder.state_dict(), folder / "resnet18-f37072fd.pth")
    return folder, encoder.state_dict()


def test_an_encoder_from_a_file(imagenet):
    folder, theirs = imagenet
    ours = network("unet_resnet18")
    before = state(ours)
    report = start_weights(ours, None, str(folder / "resnet18.safetensors"))
    assert all(key.startswith("backbone.") for key in differences(ours, before))
    for key, value in theirs.items():
        if not key.startswith("fc."):
            assert torch.equal(ours.state_dict()[f"backbone.{key}"], value), key
    assert "unused: fc" in report


@pytest.mark.parametrize(
    ("name", "encoder"),
    [
        ("unet_resnet50", "convnext_atto"),
        ("unet_resnet50", "densenet121"),
        ("hrnet_w18", "hrnet_w18"),
        ("deeplabv3plus_resnest50", "resnest50d"),
    ],
)
def test_timms_encoders_load_whole_from_a_file(tmp_path, name, encoder):
    theirs = timm.create_model(encoder, pretrained=False).state_dict()
    save_file(theirs, tmp_path / "w.safetensors")
    model = build_model(name, "batch", CITY, encoder=None if name == encoder else encoder)
    report = start_weights(model, None, str(tmp_path / "w.safetensors"))
    count = len([key for key in model.backbone.state_dict() if not key.endswith("num_batches_tracked")])
    assert f"{count} of {count} tensors loaded" in report
    own = {common_name(key): value for key, value in model.backbone.net.state_dict().items()}
    assert all(torch.equal(value, theirs[key]) for key, value in own.items() if key in theirs)


@pytest.mark.parametrize(
    ("name", "noted"), [("tf_mobilenetv3_small_minimal_100.in1k", True), ("mobilenetv3_small_050.lamb_in1k", False)]
)
def test_weights_for_images_normalised_otherwise_are_noted(tmp_path, monkeypatch, name, noted):
    said = "note: these weights expect images normalised with mean (0.5, 0.5, 0.5) and deviation (0.5, 0.5, 0.5)"
    encoder = timm.create_model(name, pretrained=False)  # the download cannot run here
    encoder.pretrained_cfg = timm.get_pretrained_cfg(name).to_dict()
    with monkeypatch.context() as patch:
        patch.setattr(timm, "create_model", lambda *_, **__: encoder)
        weights = read_encoder(name)
    model = build_model("unet_resnet50", "batch", CITY, encoder=name.partition(".")[0])
    assert (said in note_on_normalization(weights)) == noted
    model.save_pretrained(tmp_path)
    save_file(encoder.state_dict(), tmp_path / "encoder.safetensors")
    SegformerImageProcessor(image_mean=[0.5] * 3, image_std=[0.5] * 3).save_pretrained(tmp_path)
    assert said in start_weights(model, str(tmp_path), None)
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.5], "image_std": [0.25]}')  # of grey images
    assert "note" not in start_weights(model, str(tmp_path), None)
    assert "note" not in start_weights(model, None, str(tmp_path / "encoder.safetensors"))  # it does not say


def test_a_network_on_timms_encoder_starts_from_itself(tmp_path):
    model = build_model("unet_resnet50", "batch", CITY, encoder="convnext_atto")  # whose layers are 1x1 convolutions
    model.save_pretrained(tmp_path)
    again = build_model("unet_resnet50", "batch", CITY, encoder="convnext_atto")
    assert "new," not in start_weights(again, str(tmp_path), None)
    assert differences(again, state(model)) == set()


@pytest.mark.parametrize("content", ["{", "[]", '{"id2label": {"a": "b"}}', '{"id2label": 3}'])
def test_a_configuration_that_is_none_is_one_line(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelError, match="config.json is not the configuration"):
        read_weights(str(tmp_path), "--init_from")


def test_weights_without_names_are_one_line(tmp_path):
    torch.save({0: torch.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match="holds no named weights"):
        read_weights(str(tmp_path / "w.pth"), "--init_from")


def test_swin_from_an_image_classifier_and_from_ourselves(tmp_path):
    classifier = SwinForImageClassification(SwinConfig())
    classifier.save_pretrained(tmp_path / "swin")
    model = build_model("segformer_swin_tiny", "batch", CITY)
    report = start_weights(model, None, str(tmp_path / "swin"))
    assert "hidden_states_norms.stage1" in report and report.count("\n  not loaded, ") == 1  # the maps' norms
    theirs = classifier.swin.encoder.state_dict()
    assert all(torch.equal(v, theirs[k]) for k, v in model.backbone.swin.swin.encoder.state_dict().items())
    model.save_pretrained(tmp_path / "ours")
    again = build_model("segformer_swin_tiny", "batch", CITY)
    assert "new," not in start_weights(again, str(tmp_path / "ours"), None)
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in again.state_dict().items())


def test_torchvisions_names_are_read_from_its_cache(imagenet, tmp_path, monkeypatch):
    folder, theirs = imagenet
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    os.link(folder / "resnet18-f37072fd.pth", tmp_path / "checkpoints" / "resnet18-f37072fd.pth")
    ours = network("unet_resnet18")
    start_weights(ours, None, "ResNet18_Weights.IMAGENET1K_V1")
    assert torch.equal(ours.state_dict()["backbone.conv1.weight"], theirs["conv1.weight"])


def test_segformers_encoder_as_it_is_published(tmp_path):
    torch.manual_seed(1)
    theirs = SegformerForImageClassification(SegformerConfig(**VARIANTS["b0"], num_labels=1000))
    theirs.save_pretrained(tmp_path)
    ours = network("segformer_b0")
    before = state(ours)
    start_weights(ours, None, str(tmp_path))
    assert all(key.startswith("segformer.") for key in differences(ours, before))
    for key, value in theirs.segformer.state_dict().items():
        assert torch.equal(ours.state_dict()[f"segformer.{key}"], value), key


@pytest.mark.parametrize(
    "name, said",
    [
        ("nobody/nothing", "cannot be reached"),
        ("nobody/nothing@v1", "cannot be reached"),
        ("no/such/file.pth", "cannot be a hub id"),
        ("ResNet18_Weights.NONE", "cannot get these weights"),
        ("resnet18.no_such_tag", "timm has no weights of that name"),
        ("resnet18.a1_in1k", "cannot get these weights"),
    ],
)
def test_encoders_that_cannot_be_had_are_one_line(name, said):
    with pytest.raises(ModelError, match=said) as error:
        start_weights(network("unet_resnet18"), None, name)
    assert "\n" not in str(error.value) and f"--pretrained_encoder {name}" in str(error.value)


def test_what_fits_nothing_is_refused(imagenet):
    with pytest.raises(ModelError, match="nothing in it fits this network, so give the --model or --encoder of these"):
        start_weights(network("streetnet"), None, str(imagenet[0] / "resnet18.safetensors"))


# files


class Trap:
    def __reduce__(self):
        return os.mkdir, (os.environ["TRAP"],)


def test_a_pth_that_holds_code_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.setenv("TRAP", str(tmp_path / "sprung"))
    torch.save({"state_dict": {"backbone.conv1.weight": torch.ones(1)}, "hook": Trap()}, tmp_path / "x.pth")
    with pytest.raises(ModelError, match="holds objects besides weights") as error:
        start_weights(network("unet_resnet18"), str(tmp_path / "x.pth"), None)
    assert "\n" not in str(error.value) and not (tmp_path / "sprung").exists()
    torch.load(tmp_path / "x.pth", weights_only=False)
    assert (tmp_path / "sprung").exists()  # proves that the trap works


@pytest.mark.parametrize("name", ["x.safetensors", "x.pth", "empty.pth"])
def test_damaged_files_are_one_line(tmp_path, name):
    path = tmp_path / name
    torch.save([1, 2], path) if name == "empty.pth" else path.write_bytes(b"garbage")
    with pytest.raises(ModelError, match=name) as error:
        start_weights(network("streetnet"), str(path), None)
    assert "\n" not in str(error.value)


def test_batch_norms_are_not_frozen_at_random(tmp_path):
    """A file without the head can freeze the encoder's norms, not the head's."""
    source = build_model("unet_resnet18", "batch", CITY)
    saved(source, tmp_path / "unet")
    frozen = {"freeze_bn": True, "init_from": str(tmp_path / "unet")}
    assert "tensors loaded" in start_weights(
        build_model("unet_resnet18", "batch", CITY, **frozen), tmp_path / "unet", None
    )
    other = build_model("deeplabv3plus_resnet18", "batch", CITY, **frozen)
    with pytest.raises(
        ModelError, match="unet has no weights for classifier.*, and --freeze_bn would keep random ones"
    ):
        start_weights(other, str(tmp_path / "unet"), None)
    frozen = {"freeze_bn": True, "pretrained_encoder": str(tmp_path / "unet")}
    other = build_model("deeplabv3plus_resnet18", "batch", CITY, **frozen)
    assert "tensors loaded" in start_weights(other, None, str(tmp_path / "unet"))


# in a training


def test_training_starts_from_a_run_and_says_so(toycity, in_process, tmp_path, capsys):
    flags = [*FAST, "--dataset_path", toycity, "--max_train_steps", 1]
    in_process("train_seg", *flags, "--output_dir", tmp_path / "first", "--seed", 1)
    scratch = json.loads((tmp_path / "first" / "best" / "config.json").read_text())
    assert (scratch["pretrained"], scratch["seed"], scratch["train_images"]) == ("none", 1, 6)
    still = [*flags, "--learning_rate", 0, "--weight_decay", 0]
    in_process("train_seg", *still, "--output_dir", tmp_path / "second", "--init_from", tmp_path / "first")
    output = capsys.readouterr().out
    loaded, tensors = re.search(r"first: (\d+) of (\d+) tensors loaded", output).groups()
    assert loaded == tensors and "takes the rows of every class" in output
    one, two = (read_weights(str(tmp_path / name), "").tensors for name in ("first", "second"))
    norms = ("running_mean", "running_var", "num_batches_tracked")
    assert all(torch.equal(one[key], two[key]) for key in one if not key.endswith(norms))
    config = json.loads((tmp_path / "second" / "best" / "config.json").read_text())
    assert config["pretrained"] == "first"  # not the folder that it was in
    assert "from `first`, which has a licence" in (tmp_path / "second" / "best" / "README.md").read_text()
    # a resumed run has its weights from the checkpoint and no longer needs the first run
    (tmp_path / "first").rename(tmp_path / "away")
    in_process("train_seg", "--resume_from_checkpoint", tmp_path / "second", "--max_train_steps", 2)


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--init_from", "no/such/run"], "--init_from no/such/run: no such file or folder here"),
        (["--init_from", "nobody/nothing"], "--init_from nobody/nothing: no such file or folder here"),
        (["--pretrained_encoder", "resnet18.no_such_tag"], "timm has no weights of that name"),
    ],
)
def test_weights_that_are_not_there_end_the_run_before_it_began(toycity, in_process, tmp_path, capsys, flags, said):
    with pytest.raises(SystemExit):
        in_process("train_seg", *FAST, "--dataset_path", toycity, "--output_dir", tmp_path / "r", *flags)
    assert said in capsys.readouterr().err.splitlines()[-1] and not (tmp_path / "r").exists()


def test_weights_that_fit_bring_their_predictions():
    """With the classifier's rows, predictions are those of the source."""
    source, ours = network("streetnet", seed=1), network("streetnet")
    nn.init.normal_(source.classifier.classifier.weight)
    images = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        expected = source(images).logits
        load_into(ours, Weights(state(source), list(CITY.values())), "--init_from x")
        assert F.cosine_similarity(ours(images).logits.flatten(), expected.flatten(), dim=0) > 0.9999
