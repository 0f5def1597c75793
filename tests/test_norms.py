"""Every norm in every architecture: the layers it replaces, the ReLUs that go, who learns; EvoNorm-S0."""

from functools import cache
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from timm.layers import EvoNorm2dS0
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from seg_models import MODELS, build_model
from seg_models.deeplabv3 import DeepLabV3Head
from seg_models.norms import NORMS, EvoNormS0, InstanceNorm, norm_layer, num_groups
from seg_models.resnet import BasicBlock, Bottleneck

ID2LABEL = {i: f"class {i}" for i in range(5)}
LAYERS = {"batch": nn.BatchNorm2d, "instance": InstanceNorm, "group": nn.GroupNorm, "evo": EvoNormS0}

# Counted by hand. Of an encoder: norms (stem, blocks, shortcuts), ReLUs (stem, blocks), and those after an addition,
# one a block. Of a head: norms, and as many ReLUs.
ENCODERS = {
    "resnet18": (1 + 2 * 8 + 3, 1 + 2 * 8, 8),
    "resnet50": (1 + 3 * 16 + 4, 1 + 3 * 16, 16),
    "resnet101": (1 + 3 * 33 + 4, 1 + 3 * 33, 33),
    "unet": (2 * 5, 2 * 5, 0),
    "streetnet": (2 + 2 * 7 + 2, 2 + 2 * 7, 7),
}
HEADS = {"deeplabv3": 7, "deeplabv3plus": 9, "pspnet": 5, "fcn": 1, "unet": 8, "attention_unet": 8, "streetnet": 5}
GATES = {"attention_unet": 4}  # each with a ReLU that follows no norm
# Under instance norm a bias: on pooled branches, and where one of a single pixel is merged.
BIASES = {
    "deeplabv3": {"classifier.0.convs.4.2", "classifier.0.project.1"},
    "deeplabv3plus": {"classifier.pool.2", "classifier.project.1"},
    "pspnet": {f"classifier.pyramid.{i}.2" for i in range(4)},
}
PARTS = {name: (m.config["encoder"], m.config["decoder"]) for name, m in MODELS.items() if "encoder" in m.config}
NORM_LAYERS = {name: ENCODERS[encoder][0] + HEADS[head] for name, (encoder, head) in PARTS.items()}
RELUS = {name: ENCODERS[encoder][1] + HEADS[head] + GATES.get(head, 0) for name, (encoder, head) in PARTS.items()}
BLOCKS = {name: ENCODERS[encoder][2] for name, (encoder, _) in PARTS.items()}
LAST_STRIDE = {"deeplabv3_resnet50": 8, "streetnet": 16}

every_name = pytest.mark.parametrize("name", PARTS)  # SegFormer has layer norms too


@cache
def meta_model(name, norm):
    """The structure of a network, without memory for its weights."""
    with torch.device("meta"):
        return build_model(name, norm, ID2LABEL).eval()


def norms_of(model):
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, tuple(LAYERS.values()))}


class ReLUCalls(TorchDispatchMode):
    """Counts the ReLUs that run, modules and functions."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.overloadpacket in (torch.ops.aten.relu, torch.ops.aten.relu_)
        return func(*args, **kwargs or {})


def relu_calls(model):
    """(the name of the module at each call of an nn.ReLU, the number of ReLUs that ran)."""
    names, handles = [], []
    for name, layer in model.named_modules():
        if isinstance(layer, nn.ReLU):
            handles.append(layer.register_forward_hook(lambda *_, name=name: names.append(name)))
    with torch.no_grad(), ReLUCalls() as calls:
        model(torch.empty(1, 3, 64, 64, device="meta"))
    for handle in handles:
        handle.remove()
    return names, calls.count


# structure


@every_name
@pytest.mark.parametrize("norm", NORMS)
def test_norm_is_in_every_place_of_the_batch_version(name, norm):
    places = set(norms_of(meta_model(name, "batch")))
    assert len(places) == NORM_LAYERS[name]
    if norm == "instance":
        places -= BIASES.get(PARTS[name][1], set())
    found = {place: type(layer) for place, layer in norms_of(meta_model(name, norm)).items()}
    assert found == dict.fromkeys(places, LAYERS[norm])


@pytest.mark.parametrize("norm", NORMS)
def test_every_norm_has_a_weight_and_a_bias_for_each_channel(norm):
    assert {name: len(p) for name, p in norm_layer(norm, 8).named_parameters()} == {"weight": 8, "bias": 8}


@every_name
@pytest.mark.parametrize("norm", ["batch", "instance", "group"])
def test_norms_without_activation_keep_every_relu(name, norm):
    assert relu_calls(meta_model(name, norm))[1] == RELUS[name]


@every_name
def test_under_evo_only_the_relus_after_additions_run(name):
    model = meta_model(name, "evo")
    blocks = [place for place, layer in model.named_modules() if isinstance(layer, (BasicBlock, Bottleneck))]
    names, count = relu_calls(model)
    assert names == [f"{place}.relu" for place in blocks]
    assert len(names) == BLOCKS[name] and count == BLOCKS[name] + GATES.get(name, 0)


@every_name
def test_evo_is_affine_only_where_no_relu_followed(name):
    last = ".bn3" if PARTS[name][0] in ("resnet50", "resnet101") else ".bn2"
    layers = norms_of(meta_model(name, "evo"))
    affine_only = {place for place, layer in layers.items() if not layer.act}
    assert affine_only == {place for place in layers if place.endswith((last, ".downsample.1"))}
    assert affine_only == {place for place, layer in layers.items() if layer.v is None}


@pytest.mark.parametrize("norm", NORMS)
def test_only_instance_norm_turns_the_norm_after_pooling_into_a_bias(norm):
    torch.manual_seed(0)
    pooling = DeepLabV3Head([64], [8], 5, norm)[0].convs[4]
    layers = [type(layer) for layer in list(pooling)[1:3]]
    assert layers == [nn.Conv2d, nn.Identity if norm == "instance" else LAYERS[norm]]
    assert (pooling[1].bias is not None) == (norm == "instance")
    scores = pooling(torch.randn(2, 64, 5, 7))
    assert scores.shape == (2, 256, 5, 7)
    assert (scores[0] - scores[1]).abs().max() > 0.01  # two images, two outputs


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
        with pytest.raises(ValueError, match="layer.*batch, instance, group, evo"):
            refused()


# gradients


@pytest.fixture(scope="module", params=product(LAST_STRIDE, NORMS), ids="-".join)
def network(request):
    """(name, norm, network in train mode)."""
    torch.manual_seed(0)
    return *request.param, build_model(*request.param, ID2LABEL).train()


def largest_gradients(model, batch, size):
    """Parameter -> the largest absolute gradient, nan where the parameter was not reached."""
    torch.manual_seed(1)
    model.zero_grad()
    logits = model(torch.randn(batch, 3, *size)).logits
    F.cross_entropy(logits, torch.randint(len(ID2LABEL), (batch, *logits.shape[-2:]))).backward()
    none = torch.tensor(torch.nan)
    return {name: (none if p.grad is None else p.grad.abs().max()) for name, p in model.named_parameters()}


def test_every_parameter_gets_a_gradient(network):
    name, norm, model = network
    gradients = largest_gradients(model, 2, (33, 47))
    # rounding leaves about 1e-9 where the gradient is zero; the smallest real one is about 1e-5
    assert [place for place, g in gradients.items() if not (g.isfinite() and g > 1e-7)] == []


def test_every_parameter_gets_a_gradient_when_the_last_map_is_one_pixel(network):
    name, norm, model = network
    side = LAST_STRIDE[name]
    size = (side + 1, side) if norm == "instance" else (side, side)  # of one pixel it leaves the bias alone
    last_map = model.backbone(torch.randn(4, 3, *size))[-1]
    assert last_map.shape[-2:] == ((2, 1) if norm == "instance" else (1, 1))
    # batch 4: of two values batch norm makes -1 and 1, whatever they are
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


def test_global_context_reaches_the_logits_under_instance_norm():
    """Added to the map before an instance norm, the pooled branch would be a constant that the norm takes away."""
    torch.manual_seed(0)
    head = DeepLabV3Head([64], [8], 5, "instance").eval()
    features = torch.randn(1, 64, 9, 9)
    with torch.no_grad():
        before = head([features])
        head[0].convs[4][1].bias += 1
        assert (head([features]) - before).abs().max() > 1e-4


@pytest.mark.parametrize("norm", NORMS)
def test_only_batch_norm_refuses_to_train_aspp_on_one_image(norm):
    head = DeepLabV3Head([64], [8], 5, norm).train()
    if norm == "batch":
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            head([torch.randn(1, 64, 5, 7)])
    else:
        assert head([torch.randn(1, 64, 5, 7)]).isfinite().all()


# EvoNorm-S0


def evo_pair(act, channels=48):
    """Our layer and timm's, with the same random weights."""
    torch.manual_seed(0)
    ours = EvoNormS0(channels, act=act)
    theirs = EvoNorm2dS0(channels, groups=24, apply_act=act)
    for parameter in ours.parameters():
        nn.init.normal_(parameter, 1)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def shifted_images(channels=48):
    """Channels of different means: the variance of a group is not the mean of its channels' variances."""
    return torch.randn(2, channels, 5, 7) * torch.rand(channels, 1, 1) + torch.randn(channels, 1, 1)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("act", [True, False])
def test_evonorm_is_timms(act, memory_format):
    layers = evo_pair(act)
    images, probe = shifted_images(), torch.randn(2, 48, 5, 7)
    results = []
    for layer in layers:
        x = images.clone(memory_format=memory_format).requires_grad_()
        y = layer(x)
        gradients = torch.autograd.grad((y * probe).sum(), [x, *layer.parameters()])
        assert len(gradients) == (4 if act else 3)
        results.append((y, *gradients))
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-5)
    assert results[0][0].is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("act", [True, False])
def test_evonorm_under_bf16_autocast_is_close_to_float32(act, memory_format):
    layer = evo_pair(act)[0]
    images = (shifted_images() + 20).bfloat16().to(memory_format=memory_format).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        result = layer(images)
    result.float().sum().backward()
    assert result.dtype == torch.bfloat16
    assert all(p.grad.isfinite().all() for p in [images, *layer.parameters()])
    torch.testing.assert_close(result.float(), layer(images.float()), rtol=0.03, atol=0.03)
