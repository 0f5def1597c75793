"""The architectures: torchvision's numbers, sizes, initialisation, saving and loading with `transformers`."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import math
import subprocess
import sys
from copy import deepcopy
from functools import partial
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import segmentation
from transformers import AutoConfig, AutoModelForSemanticSegmentation, SegformerForSemanticSegmentation
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.segformer.modeling_segformer import SegformerDecodeHead

from seg_models.catalog import MODELS
from seg_models.deeplabv3 import AtrousConv
from seg_models.errors import ModelError
from seg_models.modeling import SegmentationConfig, SegmentationModel, build_encoder
from seg_models.models import build_model
from seg_models.names import NORMS
from seg_models.norms import EvoNorm
from seg_models.pspnet import PSPNetHead
from seg_models.segformer import SegFormer
from seg_models.short_heads import ShortHead, lengthen_heads, shorten_heads

ID2LABEL = {i: f"class {i}" for i in range(19)}
NORM_LAYERS = (nn.BatchNorm2d, nn.InstanceNorm2d, nn.GroupNorm, EvoNorm)

torchvisions = pytest.mark.parametrize("name", ["deeplabv3_resnet50", "deeplabv3_resnet101", "fcn_resnet50"])


def meta_model(name, norm="batch"):
    """Build a network without memory for its weights."""
    with torch.device("meta"):
        return build_model(name, norm, ID2LABEL)


def torchvision_model(name):
    return getattr(segmentation, name)(weights=None, weights_backbone=None, aux_loss=None, num_classes=19)


def randomise_norms(model):
    """Change every tensor of the norms, so that a forgotten one shows in the logits."""
    for module in model.modules():
        if isinstance(module, NORM_LAYERS):
            for key, tensor in module.state_dict().items():
                if key in ("bias", "running_mean"):
                    nn.init.normal_(tensor, std=0.1)
                elif tensor.is_floating_point():
                    nn.init.uniform_(tensor, 0.5, 1.5)
    return model


def convolutions(model):
    """Return name -> geometry, which a state dict does not hold."""
    convs = {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    return {name: (m.weight.shape, m.stride, m.padding, m.dilation, m.groups) for name, m in convs.items()}


# DeepLabV3 and FCN are torchvision's


@pytest.mark.parametrize("name", ["deeplabv3_resnet50", "fcn_resnet50"])
def test_torchvisions_logits(name):
    torch.manual_seed(0)
    theirs = randomise_norms(torchvision_model(name)).eval()
    ours = build_model(name, "batch", ID2LABEL).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.randn(2, 3, 65, 97)
    with torch.no_grad():
        expected = theirs(images)["out"]
        logits = F.interpolate(ours(images).logits, size=(65, 97), mode="bilinear", align_corners=False)
    assert expected.std() > 0.01
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


@torchvisions
def test_torchvisions_state_dict(name):
    with torch.device("meta"):
        theirs = torchvision_model(name)
    ours = meta_model(name).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.state_dict().items()}


@torchvisions
@pytest.mark.parametrize("norm", NORMS)
def test_torchvisions_convolutions(name, norm):
    with torch.device("meta"):
        theirs = torchvision_model(name)
    assert convolutions(meta_model(name, norm)) == convolutions(theirs)


@pytest.mark.parametrize(("output_stride", "rates"), [(8, (12, 24, 36)), (16, (6, 12, 18))])
def test_atrous_rates_follow_the_output_stride(output_stride, rates):
    with torch.device("meta"):
        model = SegmentationModel(SegmentationConfig(output_stride=output_stride, num_labels=19))
        logits = model(torch.empty(2, 3, 64, 97)).logits
    assert logits.shape == (2, 19, 64 // output_stride, math.ceil(97 / output_stride))
    atrous = [branch[0] for branch in model.classifier[0].convs[1:4]]
    assert tuple(conv.dilation[0] for conv in atrous) == rates and {type(conv) for conv in atrous} == {AtrousConv}


@pytest.mark.parametrize("size", [(36, 72), (25, 24), (13, 11), (1, 1)])
@pytest.mark.parametrize("rate", [12, 24, 36])
def test_atrous_convolutions_leave_out_what_sees_only_padding(rate, size):
    """Taps are skipped: rows on maps no higher, and columns on maps no wider, than the rate."""
    torch.manual_seed(0)
    theirs = nn.Conv2d(4, 3, 3, padding=rate, dilation=rate, bias=False).double()
    ours = AtrousConv(4, 3, rate).double()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 4, *size).double()
    counted = []
    for conv in (ours, theirs):
        x = images.clone().requires_grad_()
        with FlopCounterMode(display=False) as counter:
            y = conv(x)
        y.square().sum().backward()
        counted.append((y, x.grad, conv.weight.grad, counter.get_total_flops()))
    for one, other in zip(counted[0][:3], counted[1][:3], strict=True):
        torch.testing.assert_close(one, other)
    taps = (3 if size[0] > rate else 1) * (3 if size[1] > rate else 1)
    assert counted[0][3] / counted[1][3] == pytest.approx(taps / 9)


@pytest.mark.parametrize("size", [(36, 72), (25, 24), (13, 11), (12, 40), (1, 1)])
@pytest.mark.parametrize("rate", [6, 12, 36])
def test_atrous_convolutions_in_bf16_sum_their_taps(rate, size):
    """Without gradients, on a CPU. Each product is rounded to bf16 (8 bits) before the sum in float32."""
    torch.manual_seed(0)
    ours = AtrousConv(16, 3, rate).eval()
    exact = nn.Conv2d(16, 3, 3, padding=rate, dilation=rate, bias=False).double()
    exact.load_state_dict({"weight": ours.weight.bfloat16()})
    images = torch.randn(2, 16, *size).bfloat16()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), FlopCounterMode(display=False) as counter:
        output = ours(images)
    assert output.dtype == torch.bfloat16
    expected = exact(images.double()).detach()
    torch.testing.assert_close(output.double(), expected, rtol=0, atol=3 * 2**-8 * float(expected.abs().max()))
    seen = [3 * side - 2 * min(rate, side) for side in size]  # positions that the three taps of an axis see
    assert counter.get_total_flops() == 2 * 2 * 16 * 3 * seen[0] * seen[1]


def test_an_exported_atrous_convolution_is_for_maps_of_any_size():
    conv = nn.Conv2d(4, 3, 3, padding=12, dilation=12, bias=False)
    ours = AtrousConv(4, 3, 12)
    ours.load_state_dict(conv.state_dict())
    sides = {2: torch.export.Dim("height", max=64), 3: torch.export.Dim("width", max=64)}
    exported = torch.export.export(ours, (torch.randn(1, 4, 8, 8),), dynamic_shapes=(sides,)).module()
    larger = torch.randn(1, 4, 30, 20)
    torch.testing.assert_close(exported(larger), conv(larger))


# encoders, sizes


@pytest.mark.parametrize(
    ("encoder", "output_stride"),
    [*product(["resnet18", "resnet50", "resnet101"], [8, 16, 32]), ("streetnet", 16), ("unet", 16), ("maxpool", 32)],
)
def test_encoder_maps_are_what_channels_and_reductions_say(encoder, output_stride):
    with torch.device("meta"):
        model = build_encoder(SegmentationConfig(encoder=encoder, output_stride=output_stride))
        features = model(torch.empty(2, 3, 33, 64))
    maps = zip(model.channels, model.reductions, strict=True)
    assert [tuple(f.shape) for f in features] == [(2, c, math.ceil(33 / r), 64 // r) for c, r in maps]
    assert model.reductions[-1] == output_stride


# Parameters in millions, 19 classes, batch norm. segmentation_models.pytorch 0.6 has 12.334, 26.682 and 45.674 of
# DeepLabV3+, 14.331 and 32.524 of U-Net (with one more step, of 16 channels, to full size). Its PSPNet leaves the last
# stages of the encoder out unless it is told otherwise; with them, it has 29.892 on a ResNet-50.
SIZES = {"deeplabv3plus_resnet18": 12.334, "deeplabv3plus_resnet50": 26.682, "deeplabv3plus_resnet101": 45.674}
SIZES |= {"deeplabv3plus_resnest50": 28.608, "pspnet_resnet50": 29.892}
SIZES |= {"unet_resnet18": 14.331, "unet_resnet50": 32.524}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_those_of_others(name):
    assert sum(p.numel() for p in meta_model(name).parameters()) / 1e6 == pytest.approx(SIZES[name], rel=0.003)


def test_the_baselines_encoder_has_the_courses_channels():
    assert meta_model("encdec_maxunpool").backbone.channels == [64, 128, 256, 512, 2048]


def test_swins_size_is_the_papers():
    """28.3 M with its classifier of 1000 classes and the norm before it (table 1)."""
    without = 28.288354e6 - (768 * 1000 + 1000) - 2 * 768
    encoder = meta_model("segformer_swin_tiny").backbone
    norms_of_maps = sum(2 * width for width in encoder.channels)
    assert sum(p.numel() for p in encoder.parameters()) - norms_of_maps == without


# Parameters in millions, and operations for an image of 1024x2048, that the authors publish with their weights.
HRNETS = {"hrnet_w18_small": (1.5, 31.1), "hrnet_w18_small_v2": (3.9, 71.6), "hrnet_w48": (65.8, 696.2)}


@pytest.mark.parametrize(
    "encoder", [pytest.param(name, marks=[pytest.mark.slow] * (name == "hrnet_w48")) for name in HRNETS]
)
def test_hrnets_are_the_authors(encoder):
    from seg_models.operations import measure

    cost = measure(partial(build_model, "hrnet_w18", "batch", ID2LABEL, encoder=encoder), (1024, 2048))
    published = HRNETS[encoder]
    assert cost["parameters"] / 1e6 == pytest.approx(published[0], abs=0.06)
    assert cost["macs"] / 2**30 == pytest.approx(published[1], abs=0.06)  # they divide by 2^30


@pytest.mark.parametrize("norm", NORMS)
def test_pspnets_averages_are_enlarged_beside_the_map(norm):
    torch.manual_seed(0)
    head = randomise_norms(PSPNetHead([64], [8], 3, norm)).double().eval()
    x = torch.randn(2, 64, 9, 13).double()
    averages = [F.interpolate(branch(x), x.shape[2:], mode="bilinear") for branch in head.pyramid]
    expected = head.classifier(head.fuse(torch.cat([x, *averages], dim=1)))
    torch.testing.assert_close(head([x]), expected)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = head.float()([x.float()])
    assert 0 < (rounded - expected).norm() < 0.02 * expected.norm()


@pytest.mark.parametrize("norm", NORMS)
def test_streetnet_is_small(norm):
    assert 1e6 < sum(p.numel() for p in meta_model("streetnet", norm).parameters()) <= 4e6


def test_seed_decides_the_weights():
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(build_model("streetnet", "evo", ID2LABEL).state_dict())
    first, again, other = states
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not any(torch.equal(first[key], other[key]) for key in first if first[key].ndim == 4)


# transformers


def test_model_type_is_ours_alone():
    assert SegmentationConfig.model_type not in CONFIG_MAPPING_NAMES


@pytest.mark.parametrize(("name", "norm"), [*product(["streetnet"], NORMS), ("deeplabv3_resnet50", "instance")])
def test_weights_missing_from_a_file_are_initialised(tmp_path, name, norm):
    """Whatever was in memory before, each kind of tensor gets its initial value or spread."""
    torch.manual_seed(0)
    model = build_model(name, norm, ID2LABEL)
    first, weight = next(iter(model.state_dict().items()))
    model.save_pretrained(tmp_path, state_dict={first: weight})
    loaded, info = SegmentationModel.from_pretrained(tmp_path, output_loading_info=True)
    assert set(info["missing_keys"]) == model.state_dict().keys() - {first}
    assert torch.equal(loaded.state_dict()[first], weight)
    for module in loaded.modules():
        if isinstance(module, nn.Conv2d):
            out_channels, _, height, width = module.weight.shape
            he = math.sqrt(2 / (out_channels * height * width))
            expected = he if module.bias is None else 0.01
            assert module.weight.std().item() == pytest.approx(expected, rel=0.1)
            assert module.bias is None or (module.bias == 0).all()
        elif isinstance(module, NORM_LAYERS):
            for key, tensor in module.state_dict().items():
                assert (tensor == (key in ("weight", "v", "running_var"))).all()


def test_linear_layers_missing_from_a_file_are_initialised_and_parts_of_timms_refused(tmp_path):
    torch.manual_seed(0)
    swin = build_model("segformer_swin_tiny", "batch", ID2LABEL)
    kept = {k: v for k, v in swin.state_dict().items() if "linear_projections" not in k and "hidden_states_n" not in k}
    swin.save_pretrained(tmp_path / "swin", state_dict=kept)
    loaded = SegmentationModel.from_pretrained(tmp_path / "swin")
    for projection in loaded.classifier.head.linear_projections:
        assert projection.proj.weight.std().item() == pytest.approx(0.02, rel=0.1) and not projection.proj.bias.any()
    assert all((norm.weight == 1).all() for norm in loaded.backbone.swin.hidden_states_norms.values())

    convnext = build_model("unet_resnet50", "batch", ID2LABEL, encoder="convnext_atto")
    kept = {k: v for k, v in convnext.state_dict().items() if not k.endswith(".gamma")}
    convnext.save_pretrained(tmp_path / "convnext", state_dict=kept)
    with pytest.raises(ValueError, match="weights of a .* are missing"):
        SegmentationModel.from_pretrained(tmp_path / "convnext")


# the auxiliary head


def test_deeplabv3s_auxiliary_head_is_torchvisions():
    with torch.device("meta"):
        theirs = segmentation.deeplabv3_resnet50(weights=None, weights_backbone=None, aux_loss=True, num_classes=19)
        ours = build_model("deeplabv3_resnet50", "batch", ID2LABEL, auxiliary=True)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}
    assert convolutions(ours) == convolutions(theirs)


# SegFormer

# Parameters in millions, with the 150 classes of ADE20K: table 1 of the paper.
SEGFORMERS = {"b0": 3.8, "b1": 13.7, "b2": 27.5, "b3": 47.3, "b4": 64.1, "b5": 84.7}


@pytest.mark.parametrize("variant", SEGFORMERS)
def test_segformers_have_the_papers_size(variant):
    with torch.device("meta"):
        model = build_model(f"segformer_{variant}", "batch", {i: f"class {i}" for i in range(150)})
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    assert parameters == pytest.approx(SEGFORMERS[variant], rel=0.02)


def test_a_plain_segformer_is_transformers_own(tmp_path):
    torch.manual_seed(0)
    model = build_model("segformer_b0", "batch", ID2LABEL, dataset="toy").eval()
    assert type(model) is SegformerForSemanticSegmentation
    model.save_pretrained(tmp_path)
    alone = "import sys, torch; from transformers import AutoModelForSemanticSegmentation as Auto; "
    alone += "model = Auto.from_pretrained(sys.argv[1]); assert 'seg_models' not in sys.modules; "
    alone += "print(type(model).__name__, model.config.id2label[18], model.config.dataset)"
    result = subprocess.run([sys.executable, "-c", alone, str(tmp_path)], capture_output=True, text=True, cwd=tmp_path)
    assert result.stdout.split() == ["SegformerForSemanticSegmentation", "class", "18", "toy"], result.stderr


def test_our_segformer_with_batch_norm_computes_transformers_logits():
    torch.manual_seed(0)
    theirs = randomise_norms(build_model("segformer_b0", "batch", ID2LABEL)).eval()
    ours = build_model("segformer_b0", "batch", ID2LABEL, auxiliary=True).eval()
    missing, unexpected = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert not unexpected and all(name.startswith("aux_classifier.") for name in missing)
    images = torch.randn(2, 3, 65, 97)
    with torch.no_grad():
        assert torch.equal(ours(images).logits, theirs(images).logits)
        lengthen_heads(theirs)
        assert type(theirs.decode_head) is SegformerDecodeHead
        torch.testing.assert_close(ours(images).logits, theirs(images).logits)


@pytest.mark.parametrize("ignored", [255, 1, -100])
def test_our_segformer_computes_transformers_loss(ignored):
    """Also where the configuration has another id for ignored pixels."""
    theirs = randomise_norms(build_model("segformer_b0", "batch", ID2LABEL)).eval()
    ours = build_model("segformer_b0", "batch", ID2LABEL, auxiliary=True).eval()
    ours.load_state_dict(theirs.state_dict(), strict=False)
    labels = torch.randint(len(ID2LABEL), (2, 64, 64), generator=torch.Generator().manual_seed(0))
    labels[:, :20] = ignored
    for model in (theirs, ours):
        model.config.semantic_loss_ignore_index = ignored
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(*(model(pixel_values=pixels, labels=labels).loss for model in (ours, theirs)))


@pytest.mark.parametrize("name", ["streetnet", "segformer_b0"])
@pytest.mark.parametrize(
    ("classes", "labels", "words"),
    [
        (1, torch.zeros(2, 64, 64, dtype=torch.long), "two classes or more"),
        (3, torch.zeros(1, 64, 64, dtype=torch.long), r"integers \(2, H, W\), not torch.int64 \(1, 64, 64\)"),
        (3, torch.zeros(2, 1, 64, 64, dtype=torch.long), r"not torch.int64 \(2, 1, 64, 64\)"),
        (3, torch.zeros(2, 64, 64), "not torch.float32"),
        (3, torch.zeros(2, 64, 64, dtype=torch.bool), "not torch.bool"),
    ],
)
def test_labels_that_do_not_fit_are_refused(name, classes, labels, words):
    model = build_model(name, "evo", {i: f"class {i}" for i in range(classes)})
    with pytest.raises(ValueError, match=words):
        model(pixel_values=torch.zeros(2, 3, 64, 64), labels=labels)


@pytest.mark.parametrize("name", ["streetnet", "unet", "segformer_b0"])
def test_hidden_states_are_the_encoders_maps(name):
    model, images = build_model(name, "evo", ID2LABEL).eval(), torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert model(images).hidden_states is None
        maps = model(images, output_hidden_states=True).hidden_states
        model.config.output_hidden_states = True
        assert all(torch.equal(one, other) for one, other in zip(model(images).hidden_states, maps, strict=True))
        assert model(images, output_hidden_states=False).hidden_states is None
    heights = [part.shape[2] for part in maps]
    assert len(maps) > 2 and heights == sorted(heights, reverse=True) and {part.ndim for part in maps} == {4}


@pytest.mark.parametrize("name", ["segformer_b0", "segformer_swin_tiny"])
def test_short_heads_compute_what_was_published(name):
    """Logits and gradients agree up to rounding."""
    torch.manual_seed(0)
    ours = randomise_norms(build_model(name, "batch", ID2LABEL).double())
    for layer in ours.modules():
        if isinstance(layer, (nn.Dropout, nn.Dropout2d)):
            layer.p = 0.0
        elif hasattr(layer, "drop_prob"):
            layer.drop_prob = 0.0
    theirs = deepcopy(ours)
    parent, place = (theirs, "decode_head") if name == "segformer_b0" else (theirs.classifier, "head")
    short = getattr(parent, place)
    head = SegformerDecodeHead(short.config).double()
    head.load_state_dict(short.state_dict())
    head.dropout.p = 0.0
    assert type(short) is ShortHead
    setattr(parent, place, head)
    images, shade = torch.randn(2, 3, 65, 97).double(), torch.randn(2, 19, 1, 1).double()
    for model in (ours, theirs):
        (model.train()(images).logits.square() * shade).sum().backward()
    for (key, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-7, atol=1e-7, msg=lambda text: f"{key}: {text}")  # noqa: B023
    theirs.load_state_dict(ours.state_dict())  # running statistics were rounded in another order
    with torch.no_grad():
        with FlopCounterMode(display=False) as published:
            expected = theirs.eval()(images).logits
        with FlopCounterMode(display=False) as short:
            torch.testing.assert_close(ours.eval()(images).logits, expected)
    assert short.get_total_flops() < 0.97 * published.get_total_flops()


def test_a_short_head_drops_whole_channels():
    torch.manual_seed(0)
    model = build_model("segformer_b0", "batch", ID2LABEL).train()
    head, heard = model.decode_head, []
    head.classifier.register_forward_pre_hook(lambda layer, given: heard.append(given[0].detach()))
    head.dropout.p = 0.5
    model(torch.randn(2, 3, 65, 97))
    empty = heard[0].eq(0).all(dim=3).all(dim=2)
    assert 0.4 < empty.float().mean() < 0.6  # if single values were dropped, no channel would be all zero


def test_a_short_head_is_as_exact_in_bf16():
    torch.manual_seed(0)
    model = randomise_norms(build_model("segformer_b0", "batch", ID2LABEL)).eval()
    head, images, heard = model.decode_head, torch.randn(2, 3, 65, 97), []
    head.register_forward_pre_hook(lambda head, given: heard.append(given[0]))
    with torch.no_grad():
        model(images)
        (features,) = heard
        exact = deepcopy(head).double()([x.double() for x in features])
        with torch.autocast("cpu", torch.bfloat16):
            short = head(features).double()
            lengthen_heads(model)
            published = model.decode_head(features).double()
    assert 0 < (short - exact).norm() < 1.5 * (published - exact).norm() < 0.1 * exact.norm()


def test_a_head_that_somebody_changed_stays_theirs():
    class Theirs(SegformerDecodeHead):
        pass

    model = build_model("segformer_b0", "batch", ID2LABEL)
    model.decode_head = Theirs(model.config)
    shorten_heads(model)
    assert type(model.decode_head) is Theirs
    lengthen_heads(model)
    assert type(model.decode_head) is Theirs


@pytest.mark.parametrize("norm", ["instance", "group", "evo", "evo_b0"])
def test_a_segformer_with_another_norm_comes_back_with_it(tmp_path, norm):
    torch.manual_seed(0)
    model = randomise_norms(build_model("segformer_b0", norm, ID2LABEL, dataset="toy")).eval()
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())
    assert isinstance(model.decode_head.activation, nn.Identity) == norm.startswith("evo")
    model.save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert (config.model_type, config.norm, config.dataset) == ("minicity_segformer", norm, "toy")
    loaded = AutoModelForSemanticSegmentation.from_pretrained(tmp_path)
    assert type(loaded) is SegFormer
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images).logits, model(images).logits)


# build_model


@pytest.mark.parametrize("name", ["DeepLabv3_ResNet50", "DEEPLABV3_RESNET101", "StreetNet"])
def test_names_match_in_any_case(name):
    config = meta_model(name, "group").config
    assert config.norm == "group"
    assert MODELS[name.lower()].config.items() <= config.to_dict().items()


@pytest.mark.parametrize("name", ["deeplabv3_resnet50", "deeplabv3_resnet101", "streetnet"])
def test_configuration_says_the_encoders_stride(name):
    model = meta_model(name)
    assert model.config.output_stride == model.backbone.reductions[-1]


def test_unknown_model_is_refused_with_the_list():
    with pytest.raises(ModelError, match="HRNet is not known.*deeplabv3_resnet50, deeplabv3_resnet101, .*streetnet"):
        build_model("HRNet", "batch", ID2LABEL)


def test_labels_come_from_id2label():
    with torch.device("meta"):
        model = build_model("streetnet", "batch", {0: "road", 1: "sky"}, dataset="toy")
    assert (model.config.num_labels, model.config.dataset) == (2, "toy")
    assert model.config.label2id == {"road": 0, "sky": 1}
    assert model.classifier.classifier.out_channels == 2


# complexity


def test_complexity_counts_what_a_hand_does():
    from seg_models.operations import forward_macs, measure

    build = partial(build_model, "streetnet", "batch", ID2LABEL)
    cost = measure(build, (64, 96))
    model = meta_model("streetnet")
    macs = []

    def count(layer, inputs, output):
        macs.append(output[0].numel() * layer.weight[0].numel())

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(count)
    model.eval()(torch.empty(1, 3, 64, 96, device="meta"))
    assert cost["macs"] == sum(macs) and cost["flops"] == 2 * sum(macs)
    assert cost["parameters"] == sum(p.numel() for p in model.parameters())
    counted = sum(macs)
    assert forward_macs(model.train(), (64, 96)) == counted and model.training
    assert forward_macs(model, (1, 1)) > 0  # as if it were the smallest image
    larger = measure(build, (128, 192))
    assert larger["memory"] == pytest.approx(4 * cost["memory"], rel=0.01) and cost["memory"] > 2**20


def test_operations_are_counted_as_published():
    from seg_models.operations import forward_macs

    model = build_model("segformer_b0", "batch", ID2LABEL)
    counted = forward_macs(model, (64, 96))
    assert type(model.decode_head) is ShortHead
    lengthen_heads(model)
    assert forward_macs(model, (64, 96)) == counted


def test_complexity_is_the_published_one():
    """A published table has 15.58 G for an image of 375x1242. It counts MACs."""
    from seg_models.operations import measure

    build = partial(build_model, "segformer_b0", "batch", ID2LABEL)
    assert measure(build, (375, 1242))["macs"] / 1e9 == pytest.approx(15.58, rel=0.03)


def test_complexity_leaves_out_what_cannot_be_and_says_so(capsys, monkeypatch):
    from seg_runs import complexity

    monkeypatch.setattr(complexity, "MODELS", ["hrnet_w18", "streetnet"])
    complexity.main(["--norm", "evo", "--size", "64", "96"])
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].split()[0] == "streetnet" and "hrnet_w18: --model hrnet_w18 cannot be built" in err
    with pytest.raises(SystemExit, match="norm evo does not reach"):
        complexity.main(["hrnet_w18", "--norm", "evo"])
    with pytest.raises(SystemExit, match="--size 16 64 is too small: this network needs at least 29 pixels"):
        complexity.main(["segformer_b0", "--size", "16", "64"])
    with pytest.raises(SystemExit):
        complexity.main(["streetnet", "--num_labels", "0"])


def test_complexity_prints_tables(capsys):
    from seg_runs.complexity import main

    main(["unet_resnet18", "--encoder", "resnet26", "--output_stride", "16", "--size", "64", "96"])
    main(["streetnet", "unet", "--size", "64", "96", "--markdown", "--time"])
    lines = capsys.readouterr().out.splitlines()
    assert "1 MAC = 2 FLOPs" in lines[0] and [line.split()[1] for line in lines[-2:]] == ["streetnet", "unet"]
    with pytest.raises(SystemExit, match="error: "):
        main(["nonsense"])
