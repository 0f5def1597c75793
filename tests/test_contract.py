"""What every architecture must do. One line in `STRIDES` adds a new one."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import math
import re
import shutil
from copy import deepcopy
from functools import lru_cache

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from timm.layers import convert_sync_batchnorm
from torch import nn
from transformers import AutoConfig, AutoModelForSemanticSegmentation
from transformers.modeling_outputs import SemanticSegmenterOutput

from seg_models.arguments import NetworkOptions
from seg_models.catalog import MODELS
from seg_models.errors import ModelError
from seg_models.meta import QuickNorms
from seg_models.models import build_model, model_entry, parts_to_freeze
from seg_models.names import NORMS
from seg_models.norms import freeze_batch_norm
from seg_models.output_strides import at_output_stride, set_output_stride
from seg_models.parts import DECODERS
from seg_models.unet import SHAPES

# One of each kind, and the stride of its logits. Its siblings, deeper or wider, are the same code: here they are only
# built, without memory; test_models.py compares numbers and sizes with those of others, test_norms.py has Bottlenecks.
STRIDES = {
    "acfnet_resnet18": 8,
    "attention_unet": 1,
    "deeplabv3_resnet18": 8,
    "deeplabv3plus_resnest50": 4,
    "deeplabv3plus_resnet18": 4,
    "encdec_maxunpool": 2,
    "fcn_resnet18": 8,
    "hrnet_w18": 4,
    "pspnet_resnet18": 8,
    "segformer_b0": 4,
    "segformer_swin_tiny": 4,
    "streetnet": 4,
    "streetnet_fine": 2,
    "unet": 1,
    "unet_resnet18": 2,
}
TIMMS = ("deeplabv3plus_resnest50", "hrnet_w18")  # encoders that keep their batch norms
LAYER_NORMS = ("segformer_b0", "segformer_swin_tiny")  # encoders without batch norm
OTHER_NORMS = [norm for norm in NORMS if norm != "batch"]
STRIDED = [name for name in STRIDES if "_resnet" in name]  # dilated
ID2LABEL = {i: f"class {i}" for i in range(5)}


@pytest.fixture(scope="module", autouse=True)
def narrow():
    """Make encdec_maxunpool's encoder an eighth as wide: its 63 million parameters would take a sixth of the time."""
    with pytest.MonkeyPatch.context() as patch:
        widths, stride = SHAPES["maxpool"]
        patch.setitem(SHAPES, "maxpool", ([width // 8 for width in widths], stride))
        yield


# Scope "module" runs tests of one network and norm one after another (see `fresh`).
every_name = pytest.mark.parametrize("name", STRIDES, scope="module")


def with_norms():
    """Each network with batch norm and, in turns, one other norm. The rest are slow; test_norms.py looks at all."""
    for i, name in enumerate(STRIDES):
        yield pytest.param(name, "batch")
        for norm in OTHER_NORMS if name not in TIMMS else ():
            is_its_turn = norm == OTHER_NORMS[i % len(OTHER_NORMS)]
            yield pytest.param(name, norm, marks=() if is_its_turn else pytest.mark.slow)


every_norm = pytest.mark.parametrize(("name", "norm"), [*with_norms()], scope="module")


def build(name, norm="batch", classes=5, seed=0, **options):
    torch.manual_seed(seed)
    return build_model(name, norm, {i: f"class {i}" for i in range(classes)}, **options)


@lru_cache(maxsize=2)
def built(name, norm, auxiliary):
    return build(name, norm, auxiliary=auxiliary, dataset="toy")


def fresh(name, norm="batch", auxiliary=False):
    """A network of its own; that of the test before is not built again."""
    model = deepcopy(built(name, norm, auxiliary))
    torch.manual_seed(0)
    return model


def images(height=49, width=65, batch=2):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


def objective(output):
    """A loss that depends on every logit, with a different gradient for each."""
    return sum(logits.square().mean() for logits in (output.logits, *(getattr(output, "aux_logits", None) or ())))


def train_once(model):
    """Return gradients, buffers and the number of values kept for backward, of one step with dropout."""
    torch.manual_seed(1)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        loss = objective(model.train()(images()))
    loss.backward()
    return {name: p.grad for name, p in model.named_parameters()}, dict(model.named_buffers()), sum(kept)


def kind(name):
    return re.sub(r"\d+$", "", name.replace("streetnet_large", "streetnet"))  # the same kind, but wider or deeper


def test_every_kind_is_here():
    """Every model is listed here or is a sibling of one that is. Others would go untested."""
    assert {kind(name) for name in STRIDES} >= {kind(name) for name in MODELS}
    here = {part: {kind(model_entry(name).config.get(part, "")) for name in STRIDES} for part in ("encoder", "decoder")}
    assert here["encoder"] == {kind(model.config.get("encoder", "")) for model in MODELS.values()}
    assert here["decoder"] == {"", *map(kind, DECODERS)}


# logits


@pytest.mark.parametrize("name", {**MODELS, **STRIDES})
def test_logits_of_odd_sizes_come_at_the_decoders_stride(name):
    with torch.device("meta"):
        model = build(name, classes=150).eval()
        with QuickNorms():
            output = model(torch.empty(2, 3, 257, 383))
    stride = {kind(name): stride for name, stride in STRIDES.items()}[kind(name)]
    sides = (math.ceil(side / stride) for side in (257, 383))
    assert output.logits.shape == (2, 150, *sides)


@every_norm
def test_logits_are_finite_deterministic_and_nearly_uniform_at_first(name, norm):
    model = fresh(name, norm).eval()
    with torch.no_grad():
        output, again = model(images()), model(images())
        assert isinstance(output, SemanticSegmenterOutput) and torch.equal(output.logits, again.logits)
        small = model(images(33, 47, batch=1)).logits
        assert small.isfinite().all() and small.shape[2:] == tuple(math.ceil(s / STRIDES[name]) for s in (33, 47))
        logits = model.train()(images()).logits
    labels = torch.randint(5, (2, *logits.shape[-2:]), generator=torch.Generator().manual_seed(0))
    assert F.cross_entropy(logits, labels).item() == pytest.approx(math.log(5), abs=0.15)
    assert logits.std() > 0.005


@every_name
def test_one_class(name):
    output = build(name, classes=1).train()(images())
    objective(output).backward()
    assert output.logits.shape[1] == 1 and output.logits.isfinite().all()


@every_name
def test_an_image_alone_has_the_logits_that_it_has_in_a_batch(name):
    model = fresh(name).eval()
    with torch.no_grad():
        together, alone = model(images()).logits[1:], model(images()[1:]).logits
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-5 + 1e-4 * together.abs().max().item())


# training


@every_norm
def test_every_parameter_has_a_gradient(name, norm):
    model = fresh(name, norm, auxiliary=True)
    batch_norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert bool(batch_norms) == (norm == "batch")
    for layer in batch_norms:  # timm initialises the end of a block with zero
        nn.init.ones_(layer.weight)
    gradients, *_ = train_once(model)
    assert [key for key, g in gradients.items() if g is None or not g.isfinite().all() or not g.any()] == []


@pytest.mark.parametrize("name", TIMMS)
@pytest.mark.parametrize("norm", [norm for norm in NORMS if norm != "batch"])
def test_norms_that_do_not_reach_an_encoder_are_refused(name, norm):
    with pytest.raises(ModelError, match=f"norm {norm} does not reach into timm's"):
        build(name, norm)


@every_name
def test_the_auxiliary_logits_are_there_in_training_and_their_head_is_not_saved(tmp_path, name):
    model = fresh(name, auxiliary=True)
    more = model.train()(images()).aux_logits
    assert len(more) == (2 if "acfnet" in name else 1) and all(logits.shape[:2] == (2, 5) for logits in more)
    with torch.no_grad():
        assert model.eval()(images()).aux_logits is None
        model.save_pretrained(tmp_path)
        loaded, info = AutoModelForSemanticSegmentation.from_pretrained(tmp_path, output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"] and loaded.aux_classifier is None
        torch.testing.assert_close(loaded(images()).logits, model(images()).logits)


@every_norm
def test_saved_model_comes_back_through_auto_classes(tmp_path, name, norm):
    model = fresh(name, norm).eval()
    for tensor in model.state_dict().values():  # no tensor keeps its initial value, so a forgotten one is noticed
        if tensor.is_floating_point():
            tensor.mul_(1.1).add_(0.01 if tensor.ndim == 1 else 0)
    model.save_pretrained(tmp_path)
    files = {path.name for path in tmp_path.iterdir() if path.suffix != ".py"}
    assert files == {"config.json", "model.safetensors"}
    config = AutoConfig.from_pretrained(tmp_path)
    assert (getattr(config, "norm", norm), config.dataset, config.id2label) == (norm, "toy", ID2LABEL)
    expected = model_entry(name).config
    if "encoder" in expected and name not in MODELS:
        expected = {**expected, "encoder": name.rpartition("_")[2]}
    assert expected.items() <= config.to_dict().items()
    loaded = AutoModelForSemanticSegmentation.from_pretrained(tmp_path)
    assert type(loaded) is type(model)
    expected = model.state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in loaded.state_dict().items())
    with torch.no_grad():
        expected = model(images()).logits
        # Close, not equal: memory mapped from a file is aligned differently, which may select other kernels.
        torch.testing.assert_close(loaded(images()).logits, expected, rtol=0, atol=1e-3 * expected.abs().max().item())


@pytest.mark.parametrize(("name", "norm"), [*((name, "batch") for name in STRIDES), ("streetnet", "evo_b0")])
def test_gradient_checkpointing_changes_no_number(name, norm):
    gradients, buffers, kept = train_once(fresh(name, norm, auxiliary=True))
    again, statistics, kept_again = train_once(build(name, norm, auxiliary=True, gradient_checkpointing=True))
    assert kept_again < 0.8 * kept
    for key, gradient in gradients.items():
        torch.testing.assert_close(again[key], gradient, rtol=1e-4, atol=1e-6)
    assert all(torch.equal(statistics[key], buffer) for key, buffer in buffers.items())


def test_transformers_can_turn_gradient_checkpointing_on():
    """By the method that its Trainer calls."""
    plain, again = fresh("streetnet", "group"), fresh("streetnet", "group")
    again.gradient_checkpointing_enable()
    gradients, _, kept = train_once(plain)
    found, _, kept_again = train_once(again)
    assert kept_again < 0.8 * kept
    for key, gradient in gradients.items():
        torch.testing.assert_close(found[key], gradient, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="not compatible with"):
        fresh("hrnet_w18").gradient_checkpointing_enable()  # timm's blocks do not know it


@pytest.mark.parametrize("name", ["streetnet", "unet_convnext_tiny"])  # our blocks, and timm's
def test_a_copy_of_a_network_recomputes_its_own_blocks(name):
    model = build(name, gradient_checkpointing=True).train()
    average = deepcopy(model)
    results = []
    for _ in range(2):
        torch.manual_seed(0)  # for dropout
        with torch.no_grad():
            results.append(average(images()).logits)
            for tensor in model.parameters():
                tensor.zero_()
    assert torch.equal(*results) and results[0].abs().max() > 0


def test_gradient_checkpointing_with_synchronised_batch_norm():
    plain, again = (build("streetnet", gradient_checkpointing=again) for again in (False, True))
    results = [train_once(convert_sync_batchnorm(model)) for model in (plain, again)]
    assert all(torch.equal(results[1][1][key], buffer) for key, buffer in results[0][1].items())


@pytest.mark.parametrize("encoder", ["resnet18", "efficientnet_b0"])  # batch norms, and timm's with their activations
def test_synchronised_batch_norms_compute_the_same_and_take_an_output_stride(encoder):
    model = build("fcn_resnet50", encoder=encoder).eval()
    with torch.no_grad():
        expected = model(images()).logits
        model = convert_sync_batchnorm(model)
        assert not any(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())
        torch.testing.assert_close(model(images()).logits, expected)
    if encoder == "resnet18":
        with at_output_stride(model, 16):
            assert model(images()).logits.shape[2:] == (4, 5)


def test_no_blocks_to_compute_again():
    with pytest.raises(ModelError, match="--gradient_checkpointing"):
        build("segformer_swin_tiny", encoder="vgg11_bn", gradient_checkpointing=True)


@pytest.mark.parametrize("start", [{"pretrained_encoder": "x"}, {"init_from": "x"}], ids=lambda start: min(start))
@pytest.mark.parametrize("name", [name for name in STRIDES if name not in LAYER_NORMS])
def test_frozen_batch_norms_stay(name, start):
    options = NetworkOptions(model=name, freeze_bn=True, **start)
    model = build(name, freeze_bn=True, **start)
    before = deepcopy(model.state_dict())
    model.train()
    freeze_batch_norm(*parts_to_freeze(model, options))
    objective(model(images())).backward()
    torch.optim.SGD(model.parameters(), 1e-3, weight_decay=0.1).step()
    norms = {key for key, layer in model.named_modules() if isinstance(layer, nn.BatchNorm2d)}
    changed = {key for key, tensor in model.state_dict().items() if not torch.equal(tensor, before[key])}
    changed_norms = {key for key in changed if key.rpartition(".")[0] in norms}
    assert all(key.startswith("classifier.") for key in changed_norms)
    assert bool(changed_norms) == ("pretrained_encoder" in start)
    assert any(key.startswith("backbone.") for key in changed)


@pytest.mark.parametrize("name", LAYER_NORMS)
def test_freezing_batch_norms_that_are_not_there_is_refused(name):
    with pytest.raises(ModelError, match="--freeze_bn"):
        build(name, freeze_bn=True)


# output strides


@pytest.mark.parametrize("name", STRIDED)
def test_output_stride_by_dilation(name):
    models = {stride: build(name, output_stride=stride).eval() for stride in (8, 16)}
    with torch.no_grad():
        own = {stride: model(images()).logits for stride, model in models.items()}
        for stride, model in models.items():
            last = model.backbone(images())[-1]
            assert tuple(last.shape[2:]) == (math.ceil(49 / stride), math.ceil(65 / stride))
            with at_output_stride(model, 24 - stride):
                assert model.config.output_stride == 24 - stride
                torch.testing.assert_close(model(images()).logits, own[24 - stride], rtol=1e-4, atol=1e-6)
            assert torch.equal(model(images()).logits, own[stride]) and model.config.output_stride == stride
    assert not torch.equal(own[8].mean((2, 3)), own[16].mean((2, 3)))


@pytest.mark.parametrize("output_stride", [8, 16])
def test_a_timm_encoder_has_the_output_stride_that_it_is_built_with(output_stride):
    with torch.device("meta"):
        model = build("deeplabv3plus_resnest50", output_stride=output_stride)
        assert model.eval().backbone(torch.empty(1, 3, 65, 97))[-1].shape[2:] == (
            65 // output_stride + 1,
            97 // output_stride + 1,
        )
        with pytest.raises(ModelError, match="resnest50d has other layers at output stride"):
            set_output_stride(model, 24 - output_stride)  # its pooling depends on the stride


@pytest.mark.parametrize("encoder", ["convnext_atto", "nf_regnet_b0", "resnet18d"])
def test_an_encoder_whose_layers_depend_on_the_output_stride_keeps_its_own(encoder):
    """timm's layers then have the same names, but pad or pool differently."""
    with torch.device("meta"), pytest.raises(ModelError, match=f"{encoder} has other layers at output stride 16"):
        build("unet_resnet50", encoder=encoder, eval_output_stride=16)


@pytest.mark.parametrize("name", [name for name in STRIDES if name not in (*STRIDED, "deeplabv3plus_resnest50")])
def test_output_strides_that_cannot_be_are_refused(name):
    with torch.device("meta"):
        own = MODELS[name].config.get("output_stride")
        other = 8 if own == 16 else 16
        with pytest.raises(ModelError, match="output.stride"):
            build(name, output_stride=other)
        model = build(name)
        with pytest.raises(ModelError, match="output stride"):
            set_output_stride(model, other)


# other encoders


TIMM = tuple(int(part) for part in timm.__version__.split(".")[:3] if part.isdigit())
OF_A_NEWER_TIMM = pytest.mark.skipif(TIMM < (1, 0, 30), reason="timm builds RegNets on the meta device since 1.0.30")


@pytest.mark.parametrize(
    "encoder",
    [
        "convnext_atto",
        "efficientnet_b0",
        "mobilenetv3_small_100",
        pytest.param("regnety_002", marks=OF_A_NEWER_TIMM),
    ],
)
@pytest.mark.parametrize(
    "name",
    [
        "unet_resnet50",
        "segformer_swin_tiny",
        pytest.param("deeplabv3plus_resnet50", marks=pytest.mark.slow),
        pytest.param("pspnet_resnet50", marks=pytest.mark.slow),
    ],
)
def test_timms_encoders_fit_the_decoders(name, encoder):
    with torch.device("meta"):
        model = build(name, encoder=encoder)
        assert model.config.encoder == encoder
        with QuickNorms():
            assert model.eval()(torch.empty(1, 3, 129, 97)).logits.shape[1] == 5


NAMES = {
    "UNet_ResNet34": "unet_resnet50",
    "deeplabv3plus_convnext_tiny": "deeplabv3plus_resnet50",
    "fcn_resnet18": "fcn_resnet50",
    "hrnet_resnet18": "hrnet_w18",
    "pspnet_rexnet_100": "pspnet_resnet50",
    "segformer_resnet18": "segformer_swin_tiny",
    "unet_streetnet": "unet_resnet50",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_decoder_and_an_encoder_are_a_name(name):
    decoder, _, encoder = name.lower().partition("_")
    with torch.device("meta"), torch.no_grad():
        short, long = build(name), build(NAMES[name], encoder=encoder)
        assert short.eval()(torch.empty(1, 3, 65, 97)).logits.shape[1] == 5
    assert short.config.to_dict() == long.config.to_dict()
    assert (short.config.encoder, short.config.decoder) == (encoder, decoder)
    assert model_entry(name).training == model_entry(NAMES[name]).training


def test_a_decoder_needs_no_more_than_its_line(monkeypatch):
    monkeypatch.setitem(DECODERS, "new", DECODERS["hrnet"])
    gradients, *_ = train_once(build("New_ResNet18", "group"))
    assert all(g is not None and g.isfinite().all() for g in gradients.values())
    assert model_entry("new_resnet18").training == model_entry("fcn_resnet50").training


def test_resnet34_is_torchvisions():
    with torch.device("meta"):
        ours, theirs = build("unet_resnet34", "evo").backbone, torchvision.models.resnet34()
    own = {name: p.shape for name, p in ours.named_parameters() if p.ndim == 4}
    assert own == {name: p.shape for name, p in theirs.named_parameters() if p.ndim == 4}


@pytest.mark.parametrize("encoder", ["convnext_tiny", "efficientnet_b0"])
def test_a_network_on_timms_encoder_trains_and_comes_back(tmp_path, encoder):
    model = build("unet_resnet50", encoder=encoder)
    gradients, *_ = train_once(model)
    assert all(g is not None and g.isfinite().all() for g in gradients.values())
    assert next(p for p in model.backbone.parameters() if p.ndim == 4).std() > 1e-3
    model.eval().save_pretrained(tmp_path)
    loaded = AutoModelForSemanticSegmentation.from_pretrained(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images()).logits, model(images()).logits, rtol=1e-4, atol=1e-5)


def test_an_encoder_that_needs_a_newer_timm_says_so(monkeypatch):
    def fail(*_, **__):
        raise NotImplementedError("aten::_unique2: attempted to run this operator with Meta tensors, but")

    monkeypatch.setattr(timm, "create_model", fail)
    line = r"timm's regnety_002 gives no .* output stride 32: timm [\d.]+ cannot build .*pip install --upgrade timm"
    with pytest.raises(ModelError, match=line):
        build("unet_resnet50", encoder="regnety_002")


def test_encoders_that_cannot_be_are_refused():
    cases = {
        ("unet_resnet50", "nonsense"): "neither this package nor timm has an encoder nonsense$",
        ("unet_resnet50", "ResNeSt50"): "has an encoder ResNeSt50: did you mean resnest50d",
        ("unet_resnet50", "swin_tiny_patch4_window7_224"): "buffers that are not saved",
        ("pspnet_resnet50", "hrnet_w18"): "hrnet_w18 gives no feature maps at output stride 8",
        ("unet_resnet50", "vit_tiny_patch16_224"): "cannot be built",
        ("unet_resnet50", "halonet26t"): "cannot be built with these flags: its layers do not take images of any size",
        ("unet_resnet50", "inception_v4"): "do not cover the image",
        ("pspnet_resnet50", "swin_tiny"): "cannot be built|would not be used",
        ("streetnet", "resnet50"): "has its own",
        ("segformer_b0", "resnet50"): "--encoder does not apply to --model segformer_b0",
    }
    for (name, encoder), reason in cases.items():
        with pytest.raises(ModelError, match=reason):
            build(name, encoder=encoder)
    with pytest.raises(ModelError, match="neither this package nor timm has an encoder nonsense"):
        build("unet_nonsense")
    for name, said in {
        "deeplabv3_plus_resnet50": "did you mean --model deeplabv3plus_resnet50",
        "segformer_b6": "did you mean --model segformer_b",
    }.items():
        with pytest.raises(ModelError, match=said):
            build(name)
    with pytest.raises(ModelError, match="leave out one of them"):
        build("unet_resnet34", encoder="resnet18")
    with pytest.raises(ModelError, match="norm evo does not reach into timm's resnet26"):
        build("unet_resnet50", "evo", encoder="resnet26")


def test_encoders_in_names():
    names = {"attention_unet_resnet18": "resnet18", "streetnet_resnet18": "resnet18", "hrnet_w30": "hrnet_w30"}
    with torch.device("meta"):
        assert {name: build(name).config.encoder for name in names} == names


@pytest.mark.parametrize("name", ["streetnet", "segformer_b0"])
def test_outputs_as_tuples(name):
    """As of every network of transformers."""
    model = build(name, "group").eval()
    with torch.no_grad():
        (logits,) = model(images(), return_dict=False)
        assert torch.equal(logits, model(images()).logits)


@pytest.mark.parametrize("name", ["streetnet", "segformer_b0"])
def test_the_loss_of_forward_leaves_out_the_label_that_the_configuration_names(tmp_path, name):
    build(name, "group").save_pretrained(tmp_path)
    labels = torch.zeros(2, 33, 47, dtype=torch.long)
    losses = {}
    for options in ({}, {"semantic_loss_ignore_index": 0}):
        model = AutoModelForSemanticSegmentation.from_pretrained(tmp_path, **options)
        losses[model.config.semantic_loss_ignore_index] = model(images(), labels=labels).loss.item()
    assert losses[255] > 1 and losses[0] == 0


def test_networks_of_one_configuration_have_a_stride_of_their_own():
    one = build("unet_resnet18")
    two = type(one)(one.config)
    set_output_stride(one, 8)
    assert (one.config.output_stride, two.config.output_stride) == (8, 32)


# compilers


COMPILED_EVERY_TIME = ("segformer_b0", "streetnet", "unet")  # one takes 1 to 50 s


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in COMPILED_EVERY_TIME)) for name in STRIDES]
)
def test_compiled_without_code_generation_computes_the_same(name):
    # timm's smallest encoders with the same blocks, because many layers take long
    smaller = {"hrnet_w18": "hrnet_w18_small", "deeplabv3plus_resnest50": "resnest14d"}.get(name)
    model = (build(name, encoder=smaller) if smaller else fresh(name)).eval()
    with torch.no_grad():
        expected = model(images()).logits
        torch._dynamo.reset()
        logits = torch.compile(model, backend="aot_eager")(images()).logits
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item() + 1e-6)


@pytest.mark.skipif(not shutil.which("g++"), reason="inductor needs a C++ compiler")
@pytest.mark.parametrize(
    ("name", "norm"), [pytest.param("streetnet", "evo", marks=pytest.mark.slow), ("unet_resnet18", "batch")]
)
def test_compiled_by_inductor_computes_the_same(name, norm):
    model = build(name, norm).eval()
    with torch.no_grad():
        expected = model(images()).logits
        torch._dynamo.reset()
        logits = torch.compile(model)(images()).logits
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


# parts without a peer to compare with


def test_class_context_is_the_mean_of_centres():
    from seg_models.acfnet import class_context

    features = torch.tensor([[[[1.0, 3.0, 10.0, 20.0]]]])  # one channel, four pixels
    sure = torch.tensor([[[[50.0, 50, 0, 0]], [[0.0, 0, 50, 50]]]])  # two pixels of each class
    assert class_context(features, sure).flatten().tolist() == pytest.approx([2, 2, 15, 15])
    unsure = torch.zeros_like(sure)
    assert class_context(features, unsure).flatten().tolist() == pytest.approx([8.5] * 4)


def test_class_context_is_in_float32_under_autocast():
    from seg_models.acfnet import class_context

    features, coarse = torch.randn(1, 4, 30, 40), torch.randn(1, 3, 30, 40)
    with torch.autocast("cpu", torch.bfloat16):
        found = class_context(features.bfloat16(), coarse.bfloat16())
    expected = class_context(features.bfloat16().float(), coarse.bfloat16().float())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected.bfloat16(), rtol=0, atol=0)


def test_unpooling_puts_values_where_the_maxima_were():
    from seg_models.maxunpool import unpool

    before = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    x, places = F.max_pool2d(before, 2, ceil_mode=True, return_indices=True)
    assert torch.equal(unpool(x, before), F.max_unpool2d(x, places, 2, output_size=before.shape))
