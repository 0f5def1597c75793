"""Every norm in every architecture: layers replaced, ReLUs removed, parameters that learn; EvoNorm-S0 and B0."""

from copy import deepcopy
from functools import cache
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from packaging.version import Version
from timm.layers import EvoNorm2dB0, EvoNorm2dS0
from torch import nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

from seg_models.catalog import MODELS
from seg_models.deeplabv3 import DeepLabV3Head
from seg_models.models import build_model
from seg_models.names import NORMS
from seg_models.norms import EvoNormB0, EvoNormS0, GroupNorm, InstanceNorm, norm_layer, num_groups
from seg_models.parts import OTHER_ENCODERS
from seg_models.resnet import LAYERS as RESNETS
from seg_models.resnet import BasicBlock, Bottleneck
from seg_models.short_heads import lengthen_heads

ID2LABEL = {i: f"class {i}" for i in range(5)}
EVO = {"evo": EvoNormS0, "evo_b0": EvoNormB0}
LAYERS = {"batch": nn.BatchNorm2d, "instance": InstanceNorm, "group": GroupNorm, **EVO}

# SegFormer has layer norms too, and timm's encoders keep their own norms.
OURS = [name for name, model in MODELS.items() if model.config.get("encoder") in {*RESNETS, *OTHER_ENCODERS}]
LAST_STRIDE = {"deeplabv3_resnet50": 8, "streetnet": 16}

every_evo = pytest.mark.parametrize("norm", EVO)
with_and_without_act = pytest.mark.parametrize("act", [True, False])
both_formats = pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
every_name = pytest.mark.parametrize(  # a ResNet-101 has more of the blocks of a ResNet-50
    "name", [pytest.param(name, marks=[pytest.mark.slow] * name.endswith("resnet101")) for name in OURS]
)


@cache
def meta_model(name, norm):
    """Build a network without memory for its weights."""
    with torch.device("meta"):
        return build_model(name, norm, ID2LABEL).eval()


def norms_of(model):
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, tuple(LAYERS.values()))}


def pooled_places(model):
    """The norms in a Sequential that begins with a pooling: only a few values are left there to normalise by."""
    places = set()
    for name, parts in model.named_modules():
        if isinstance(parts, nn.Sequential) and any(isinstance(layer, nn.AdaptiveAvgPool2d) for layer in parts):
            places |= {f"{name}.{i}" for i, layer in enumerate(parts) if isinstance(layer, nn.BatchNorm2d)}
    return places


class Flow(TorchDispatchMode):
    """Follows a forward pass from operation to operation.

    relus     how many ran, as modules or functions
    activated places of the norms whose output a ReLU reads
    bare      operations that read the output of a convolution without a bias before a norm has followed it
    """

    LINEAR = {"add", "add_", "cat", "upsample_bilinear2d", "convolution", "view", "expand", "mean", "split", "detach"}

    def __init__(self, model):
        super().__init__()
        self.relus, self.activated, self.bare, self.from_norm, self.unfinished = 0, set(), [], {}, {}
        with torch.no_grad():
            handles = [
                layer.register_forward_hook(lambda *call, place=place: self.after_norm(place, call[2]))
                for place, layer in norms_of(model).items()
            ]
            with self:
                logits = model(torch.empty(1, 3, 64, 64, device="meta")).logits
        for handle in handles:
            handle.remove()
        if id(logits) in self.unfinished:
            self.bare.append("logits")

    def after_norm(self, place, output):
        self.from_norm[id(output)] = output, place  # the tensor is kept, so that no other gets its id
        self.unfinished.pop(id(output), None)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name, inputs = func.overloadpacket.__name__, [t for t in tree_leaves(args) if isinstance(t, torch.Tensor)]
        if name in ("relu", "relu_"):
            self.relus += 1
            if id(args[0]) in self.from_norm:
                self.activated.add(self.from_norm.pop(id(args[0]))[1])
        unfinished = any(id(t) in self.unfinished for t in inputs)
        output = func(*args, **kwargs or {})
        if name == "convolution":
            unfinished = args[2] is None
        elif unfinished and name not in self.LINEAR and "batch_norm" not in name:
            self.bare.append(name)
        for t in tree_leaves(output):
            if unfinished:
                self.unfinished[id(t)] = t
            else:
                self.unfinished.pop(id(t), None)
        return output


@cache
def flow(name, norm):
    return Flow(meta_model(name, norm))


# structure


@every_name
def test_every_convolution_has_a_norm_or_a_bias(name):
    assert flow(name, "batch").bare == []


@every_name
def test_a_norm_that_is_forgotten_shows(name):
    model = deepcopy(meta_model(name, "batch"))
    lengthen_heads(model)  # a short head adds the biases of its projections, which hides a missing norm
    *_, place = norms_of(model)
    parent, _, last = place.rpartition(".")
    setattr(model.get_submodule(parent), last, nn.Identity())
    assert Flow(model).bare


@every_name
@pytest.mark.parametrize("norm", NORMS)
def test_norm_is_in_every_place_of_the_batch_version(name, norm):
    """Exceptions have a bias instead: after pooling (instance, evo_b0), and where pooled maps are merged (instance)."""
    batch, model = meta_model(name, "batch"), meta_model(name, norm)
    places, pooled = set(norms_of(batch)), pooled_places(batch)
    found = {place: type(layer) for place, layer in norms_of(model).items()}
    missing = places - set(found)
    assert found == dict.fromkeys(places - missing, LAYERS[norm])
    assert missing >= pooled if norm in ("instance", "evo_b0") else not missing
    assert bool(missing - pooled) == (norm == "instance" and bool(pooled))
    for place in missing:
        sequential, _, index = place.rpartition(".")
        layers = list(model.get_submodule(sequential))
        assert layers[int(index) - 1].bias is not None and type(layers[int(index)]) is nn.Identity


@pytest.mark.parametrize("norm", NORMS)
def test_every_norm_has_a_weight_and_a_bias_for_each_channel(norm):
    assert {name: len(p) for name, p in norm_layer(norm, 8).named_parameters()} == {"weight": 8, "bias": 8}


@every_name
@pytest.mark.parametrize("norm", ["instance", "group"])
def test_norms_without_activation_keep_every_relu(name, norm):
    batch, found = flow(name, "batch"), flow(name, norm)
    assert found.relus == batch.relus
    assert found.activated == batch.activated & set(norms_of(meta_model(name, norm)))


@every_name
@every_evo
def test_under_evo_the_relus_that_followed_norms_are_gone(name, norm):
    batch, found = flow(name, "batch"), flow(name, norm)
    replaced = batch.activated & set(norms_of(meta_model(name, norm)))
    assert replaced or name.startswith("segformer")
    assert found.relus == batch.relus - len(replaced) and not found.activated


@every_name
@every_evo
def test_evo_is_affine_only_where_no_relu_followed(name, norm):
    layers = norms_of(meta_model(name, norm))
    affine_only = {place for place, layer in layers.items() if not layer.act}
    assert affine_only == set(layers) - flow(name, "batch").activated
    assert affine_only == {place for place, layer in layers.items() if layer.v is None}


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_of_a_residual_block_the_last_norm_and_the_shortcuts_have_no_relu(block):
    """By hand, for the tests above to start from: the ReLU comes after the addition."""
    name = {BasicBlock: "unet_resnet18", Bottleneck: "unet_resnet50"}[block]
    model, last = meta_model(name, "batch"), {BasicBlock: "bn2", Bottleneck: "bn3"}[block]
    blocks = [place for place, layer in model.named_modules() if type(layer) is block]
    norms = {place for place in norms_of(model) if place.startswith("backbone.")}
    assert len(blocks) == {BasicBlock: 2 + 2 + 2 + 2, Bottleneck: 3 + 4 + 6 + 3}[block]
    plain = {f"{place}.{last}" for place in blocks} | {place for place in norms if place.endswith(".downsample.1")}
    assert norms - flow(name, "batch").activated == plain and plain < norms


@pytest.mark.parametrize("norm", NORMS)
def test_norms_that_need_more_than_a_pixel_are_a_bias_after_pooling(norm):
    torch.manual_seed(0)
    pooling = DeepLabV3Head([64], [8], 5, norm)[0].convs[4]
    layers, bias = [type(layer) for layer in list(pooling)[1:3]], norm in ("instance", "evo_b0")
    assert layers == [nn.Conv2d, nn.Identity if bias else LAYERS[norm]]
    assert (pooling[1].bias is not None) == bias
    scores = pooling(torch.randn(2, 64, 5, 7))
    assert scores.shape == (2, 256, 5, 7)
    assert 0.01 < (scores[0] - scores[1]).abs().max() < 10  # two images, two outputs, of moderate size


@pytest.mark.parametrize(
    ("channels", "groups"),
    [(1, 1), (19, 19), (32, 32), (33, 11), (37, 1), (40, 20), (48, 24), (64, 32), (192, 32), (2048, 32)],
)
def test_groups_are_the_largest_divisor_up_to_32(channels, groups):
    assert num_groups(channels) == groups
    assert norm_layer("group", channels).num_groups == groups
    assert EvoNormS0(channels).groups == groups


def test_unknown_norm_is_refused_with_the_list():
    for refused in (lambda: norm_layer("layer", 8), lambda: build_model("streetnet", "layer", ID2LABEL)):
        with pytest.raises(ValueError, match="layer.*batch, instance, group, evo, evo_b0"):
            refused()


# gradients


@pytest.fixture(scope="module", params=product(LAST_STRIDE, NORMS), ids="-".join)
def network(request):
    """(name, norm, network in train mode)."""
    torch.manual_seed(0)
    return *request.param, build_model(*request.param, ID2LABEL).train()


def largest_gradients(model, batch, size):
    """Return parameter -> largest absolute gradient, nan if the parameter was not reached."""
    torch.manual_seed(1)
    model.zero_grad()
    logits = model(torch.randn(batch, 3, *size)).logits
    F.cross_entropy(logits, torch.randint(len(ID2LABEL), (batch, *logits.shape[-2:]))).backward()
    none = torch.tensor(torch.nan)
    return {name: (none if p.grad is None else p.grad.abs().max()) for name, p in model.named_parameters()}


def test_every_parameter_gets_a_gradient(network):
    name, norm, model = network
    gradients = largest_gradients(model, 2, (33, 47))
    # rounding leaves about 1e-9 where the gradient is zero; the smallest true gradient is about 1e-5
    assert [place for place, g in gradients.items() if not (g.isfinite() and g > 1e-7)] == []


def test_every_parameter_gets_a_gradient_when_the_last_map_is_one_pixel(network):
    name, norm, model = network
    side = LAST_STRIDE[name]
    size = (side + 1, side) if norm == "instance" else (side, side)  # for a single pixel, only the bias is left
    last_map = model.backbone(torch.randn(4, 3, *size))[-1]
    assert last_map.shape[-2:] == ((2, 1) if norm == "instance" else (1, 1))
    # batch 4, because batch norm turns any two values into -1 and 1
    gradients = largest_gradients(model, 4, size)
    assert [place for place, g in gradients.items() if not (g.isfinite() and g > 0)] == []


def test_a_last_map_of_one_pixel_gives_finite_logits(network):
    name, _, model = network
    images = torch.randn(2, 3, LAST_STRIDE[name], LAST_STRIDE[name])
    assert model(images).logits.isfinite().all()


def test_instance_norm_of_one_pixel_is_its_bias():
    layer = InstanceNorm(3)
    nn.init.normal_(layer.bias)
    x = torch.randn(2, 3, 1, 1, requires_grad=True)
    assert torch.equal(layer(x), layer.bias.view(1, 3, 1, 1).expand(2, 3, 1, 1))
    layer(x).sum().backward()
    assert not x.grad.any()


def test_group_norm_of_one_value_is_its_bias():
    layer = norm_layer("group", 3).eval()
    nn.init.normal_(layer.bias)
    torch.testing.assert_close(layer(torch.randn(1, 3, 1, 1)), layer.bias.view(1, 3, 1, 1), rtol=0, atol=1e-3)


POOLING = {MODELS[name].config["decoder"]: name for name in reversed(OURS) if pooled_places(meta_model(name, "batch"))}


@pytest.mark.parametrize("name", POOLING.values())
def test_global_context_reaches_the_logits_under_instance_norm(name):
    """Merged with the map before an instance norm, a pooled branch would be a constant that the norm takes away."""
    torch.manual_seed(0)
    model, images = build_model(name, "instance", ID2LABEL).eval(), torch.randn(1, 3, 65, 97)
    poolings = [
        layer for layer in model.modules() if isinstance(layer, nn.AdaptiveAvgPool2d) and layer.output_size == 1
    ]
    assert poolings
    with torch.no_grad():
        before = model(images).logits
        for layer in poolings:
            layer.register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
        assert (model(images).logits - before).abs().max() > 1e-3 * before.std()


@pytest.mark.parametrize("norm", NORMS)
def test_only_batch_norm_refuses_to_train_aspp_on_one_image(norm):
    head = DeepLabV3Head([64], [8], 5, norm).train()
    if norm == "batch":
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            head([torch.randn(1, 64, 5, 7)])
    else:
        assert head([torch.randn(1, 64, 5, 7)]).isfinite().all()


# EvoNorm


def evo_layer(norm, act=True, channels=48):
    """A layer with random weights, so that no tensor keeps its initial value."""
    torch.manual_seed(0)
    layer = EVO[norm](channels, act=act)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, 1)
    for buffer in layer.buffers():
        nn.init.uniform_(buffer, 0.5, 2)
    return layer


def timms(norm, layer):
    kind, options = {"evo": (EvoNorm2dS0, {"groups": 24}), "evo_b0": (EvoNorm2dB0, {})}[norm]
    theirs = kind(48, apply_act=layer.act, **options)
    missing, unexpected = theirs.load_state_dict(layer.state_dict(), strict=False)
    assert not unexpected and missing == ([] if layer.act or norm == "evo" else ["running_var"])
    return theirs.train(layer.training)


def formula(layer, x):
    """Compute EvoNorm with activation as the paper writes it."""
    weight, bias, v = (p.view(1, -1, 1, 1) for p in (layer.weight, layer.bias, layer.v))
    if isinstance(layer, EvoNormB0):
        batch = (x.var((0, 2, 3), correction=0, keepdim=True) + layer.eps).sqrt()
        image = (x.var((2, 3), correction=0, keepdim=True) + layer.eps).sqrt()
        return x / torch.maximum(batch, v * x + image) * weight + bias
    var = x.unflatten(1, (layer.groups, -1)).var((2, 3, 4), correction=0, keepdim=True)
    std = (var + layer.eps).sqrt().expand(*var.shape[:2], x.shape[1] // layer.groups, 1, 1).flatten(1, 2)
    return x * torch.sigmoid(v * x) / std * weight + bias


def shifted_images(*size, channels=48):
    """If channels have different means, the variance of a group is not the mean of its channels' variances."""
    return torch.randn(2, channels, *(size or (5, 7))) * torch.rand(channels, 1, 1) + torch.randn(channels, 1, 1)


def result_and_gradients(function, layer, images):
    """Return result, gradient of the images and gradients of the parameters, for a loss that weights every value."""
    x = images.detach().requires_grad_()
    y = function(x)
    probe = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view_as(y).to(y.dtype)
    return y, *torch.autograd.grad((y * probe).sum(), [x, *layer.parameters()])


def largest_error(found, expected):
    """Return the largest error over several tensors, each relative to its largest value."""
    return max((a - b).abs().max() / b.abs().max() for a, b in zip(found, expected, strict=True))


@every_evo
@with_and_without_act
@both_formats
@pytest.mark.parametrize("training", [True, False])
def test_evonorm_is_timms(norm, act, memory_format, training):
    ours = evo_layer(norm, act).train(training)
    theirs, images = timms(norm, ours), shifted_images().contiguous(memory_format=memory_format)
    results = [result_and_gradients(layer, layer, images) for layer in (ours, theirs)]
    assert len(results[0]) == (5 if act else 4)
    assert largest_error(*results) < 1e-5
    assert all(t.is_contiguous(memory_format=memory_format) for t in results[0][:2])
    if norm == "evo_b0" and act:
        torch.testing.assert_close(ours.running_var, theirs.running_var)


@every_evo
@both_formats
@pytest.mark.parametrize("size", [(3, 2), (1, 1)])
@pytest.mark.parametrize("training", [True, False])
def test_gradients_of_evonorm_are_those_of_finite_differences(norm, memory_format, size, training):
    layer = evo_layer(norm, channels=34).double().train(training)  # 17 groups of 2
    names, parameters = zip(*layer.named_parameters(), strict=True)
    images = shifted_images(*size, channels=34).double().contiguous(memory_format=memory_format).requires_grad_()
    layer.momentum = 0.0  # of evo_b0: its running variance stays

    def of(x, *values):
        return functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(of, (images, *parameters), fast_mode=True)


@every_evo
@both_formats
@pytest.mark.parametrize("mean", [0, 1000])
def test_evonorm_is_its_formula_also_far_from_zero(norm, memory_format, mean):
    layer = evo_layer(norm)
    images = (shifted_images() + mean).contiguous(memory_format=memory_format)
    exact = deepcopy(layer).double()
    expected = result_and_gradients(lambda x: formula(exact, x), exact, images.double())
    found = result_and_gradients(layer, layer, images)
    assert largest_error(found, expected) < (1e-3 if mean else 1e-5)  # the spacing of float32 at 1000 is 6e-5


@every_evo
@with_and_without_act
@both_formats
def test_evonorm_under_bf16_autocast_is_close_to_float32(norm, act, memory_format):
    layer = evo_layer(norm, act)
    images = (shifted_images() + 1).bfloat16().contiguous(memory_format=memory_format)
    with torch.autocast("cpu", torch.bfloat16):
        found = result_and_gradients(layer, layer, images)
    expected = result_and_gradients(layer, layer, images.float())
    assert [t.dtype for t in found] == [torch.bfloat16] * 2 + [torch.float32] * (len(found) - 2)
    assert all(t.is_contiguous(memory_format=memory_format) for t in found[:2])
    for a, b in zip(found, expected, strict=True):
        assert (a.float() - b).norm() < 0.01 * b.norm()


@every_evo
@with_and_without_act
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_evonorm_keeps_no_map_but_its_input(norm, act, dtype):
    layer, kept = evo_layer(norm, act), []
    x = shifted_images(9, 9).to(dtype=dtype, memory_format=torch.channels_last).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        layer(x)
    assert [t.data_ptr() for t in kept if t.numel() > 2 * 48] == [x.data_ptr()]


@pytest.mark.skipif(Version(torch.__version__) < Version("2.14"), reason="torch 2.11 cannot: docs/training.md")
@every_evo
@with_and_without_act
def test_evonorm_compiles_as_one_graph(norm, act):
    layer = evo_layer(norm, act)
    compiled, images = deepcopy(layer), shifted_images().contiguous(memory_format=torch.channels_last)
    found = result_and_gradients(torch.compile(compiled, backend="aot_eager", fullgraph=True), compiled, images)
    torch.testing.assert_close(found, result_and_gradients(layer, layer, images), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(compiled.state_dict(), layer.state_dict())


@every_evo
def test_evonorm_without_memory_has_shapes(norm):
    with torch.device("meta"):
        layer, images = EVO[norm](8), torch.randn(2, 8, 5, 7, requires_grad=True)
        layer(images).sum().backward()
    assert images.grad.shape == images.shape and layer.v.grad.shape == (8,)


@every_evo
def test_evonorm_under_gradient_checkpointing(norm):
    layer, images = evo_layer(norm), shifted_images()
    layer.momentum = 0.0  # of evo_b0: its running variance stays
    before = deepcopy(layer.state_dict())
    found = result_and_gradients(lambda x: checkpoint(layer, x, use_reentrant=False), layer, images)
    torch.testing.assert_close(found, result_and_gradients(layer, layer, images), rtol=0, atol=0)
    torch.testing.assert_close(layer.state_dict(), before, rtol=0, atol=0)


def test_evonorms_in_a_state_dict():
    assert list(EvoNormS0(8).state_dict()) == ["weight", "bias", "v"]
    assert list(EvoNormB0(8).state_dict()) == ["weight", "bias", "v", "running_var"]
    for kind in EVO.values():
        assert list(kind(8, act=False).state_dict()) == ["weight", "bias"]


def test_running_variance_of_a_single_value_is_finite():
    layer = EvoNormB0(3)
    assert layer(torch.randn(1, 3, 1, 1)).isfinite().all()
    torch.testing.assert_close(layer.running_var, torch.full((3,), 0.9))
