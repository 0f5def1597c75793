"""Losses: sums and weights by hand and against torch, ignored pixels, arithmetic in float32."""

import math

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss

from seg_models.arguments import LossOptions
from seg_models.errors import ModelError
from seg_models.losses import cross_entropy, enet_class_weights, focal_loss, make_loss
from seg_models.names import LOSSES
from seg_models.objective import Objective

CLASS_WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 3.0, 0.25])


@pytest.fixture(params=LOSSES)
def loss(request):
    return make_loss(request.param, CLASS_WEIGHTS)


def batch(dtype=torch.float32, seed=0):
    """Logits (4, 5, 3, 7) and labels, a third of them 255."""
    generator = torch.Generator().manual_seed(seed)
    logits = (3 * torch.randn(4, 5, 3, 7, generator=generator)).to(dtype).requires_grad_()
    labels = torch.randint(5, (4, 3, 7), generator=generator)
    return logits, labels.masked_fill(torch.rand(labels.shape, generator=generator) < 1 / 3, 255)


def test_cross_entropy_by_hand():
    # two classes, three pixels: p(label) = 1/2, 1/4, ignored
    logits = torch.tensor([[0.0, math.log(3), 5.0], [0.0, 0.0, -5.0]]).view(1, 2, 1, 3)
    total, weight = cross_entropy(logits, torch.tensor([[[0, 1, 255]]]))
    assert total.item() == pytest.approx(math.log(2) + math.log(4))
    assert weight.item() == 2


def test_cross_entropy_ignores_the_index_it_is_told():
    logits = torch.zeros(1, 4, 1, 3)
    total, weight = cross_entropy(logits, torch.tensor([[[0, 3, 3]]]), ignore_index=3)
    assert (total.item(), weight.item()) == (pytest.approx(math.log(4)), 1)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_cross_entropy_is_torchs(dtype):
    logits, labels = batch()
    total, weight = cross_entropy(logits, labels.to(dtype))
    expected = F.cross_entropy(logits, labels, ignore_index=255, reduction="sum")
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(*(torch.autograd.grad(value, logits)[0] for value in (total, expected)))
    assert weight.item() == (labels != 255).sum().item()


def test_the_losses_of_two_halves_add_up(loss):
    logits, labels = batch()
    whole = torch.stack(loss(logits, labels))
    parts = [torch.stack(loss(logits[part], labels[part])) for part in (slice(1), slice(1, 4))]
    torch.testing.assert_close(sum(parts), whole)


def test_cross_entropy_refuses_a_label_beyond_the_classes():
    with pytest.raises((IndexError, RuntimeError)):
        cross_entropy(torch.zeros(1, 4, 1, 2), torch.tensor([[[0, 4]]]))


def test_weighted_cross_entropy_by_hand():
    logits = torch.tensor([[0.0, math.log(3), 5.0], [0.0, 0.0, -5.0]]).view(1, 2, 1, 3)
    total, weight = make_loss("weighted_ce", torch.tensor([2.0, 5.0]))(logits, torch.tensor([[[0, 1, 255]]]))
    assert total.item() == pytest.approx(2 * math.log(2) + 5 * math.log(4))
    assert weight.item() == 7


def test_weighted_cross_entropy_is_torchs():
    logits, labels = batch()
    total, weight = make_loss("weighted_ce", CLASS_WEIGHTS)(logits, labels)
    expected = F.cross_entropy(logits, labels, CLASS_WEIGHTS, ignore_index=255)
    torch.testing.assert_close(total / weight, expected)
    torch.testing.assert_close(*(torch.autograd.grad(value, logits)[0] for value in (total / weight, expected)))


def test_focal_loss_by_hand():
    # p = 1/2 and 1/4: (1/2)^3 log 2 + (3/4)^3 log 4
    logits = torch.tensor([[0.0, math.log(3), 5.0], [0.0, 0.0, -5.0]]).view(1, 2, 1, 3)
    total, weight = make_loss("focal", gamma=3.0)(logits, torch.tensor([[[0, 1, 255]]]))
    assert total.item() == pytest.approx(math.log(2) / 8 + 27 / 64 * math.log(4))
    assert weight.item() == 2


def test_focal_loss_is_torchvisions():
    """Their loss uses a sigmoid, which equals a softmax over two classes with logits x and 0."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 7, generator=generator, requires_grad=True)
    labels = torch.randint(2, x.shape, generator=generator)
    total, _ = focal_loss(torch.stack([torch.zeros_like(x), x], 1), labels, gamma=2.0)
    expected = sigmoid_focal_loss(x, labels.float(), alpha=-1, gamma=2.0, reduction="sum")
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(*(torch.autograd.grad(value, x)[0] for value in (total, expected)))


def test_focal_loss_with_gamma_0_is_cross_entropy():
    logits, labels = batch()
    torch.testing.assert_close(focal_loss(logits, labels, gamma=0.0), cross_entropy(logits, labels))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_of_a_certain_pixel_has_a_finite_gradient(gamma):
    logits = torch.tensor([200.0, 0.0]).view(1, 2, 1, 1).requires_grad_()
    focal_loss(logits, torch.zeros(1, 1, 1, dtype=torch.long), gamma)[0].backward()
    assert logits.grad.isfinite().all()


def test_gradients_in_double_precision(loss):
    logits, labels = batch(torch.float64)
    assert torch.autograd.gradcheck(lambda x: loss(x, labels)[0], logits)


def test_enet_class_weights():
    weights = enet_class_weights([50, 50, 0])
    assert weights[:2] == [pytest.approx(1 / math.log(1.52))] * 2 and weights[2] == pytest.approx(1 / math.log(1.02))
    assert enet_class_weights([50, 50], constant=1.1) == [pytest.approx(1 / math.log(1.6))] * 2


PIXELS = [50, 30, 15, 5, 0]


@pytest.mark.parametrize(
    "options, published, expected",
    [
        ({}, [], enet_class_weights(PIXELS, 1.02)),
        ({"class_weights_constant": 1.1, "class_weights": "enet"}, [], enet_class_weights(PIXELS, 1.1)),
        ({}, CLASS_WEIGHTS.tolist(), CLASS_WEIGHTS),
        ({"class_weights": "challenge"}, CLASS_WEIGHTS.tolist(), CLASS_WEIGHTS),
        ({"class_weights": "enet"}, CLASS_WEIGHTS.tolist(), enet_class_weights(PIXELS, 1.02)),
    ],
)
def test_the_flags_choose_the_class_weights(options, published, expected):
    objective = Objective(LossOptions(loss="weighted_ce", **options), published=published)
    given, wanted = objective.loss_function(PIXELS), make_loss("weighted_ce", torch.as_tensor(expected))
    assert all(map(torch.equal, given(*batch()), wanted(*batch())))


@pytest.mark.parametrize("options", [{"loss": "ce"}, {"loss": "focal", "focal_gamma": 1.5}])
def test_the_flags_choose_the_loss(options):
    given = Objective(LossOptions(**options), published=CLASS_WEIGHTS.tolist()).loss_function(PIXELS)
    expected = focal_loss(*batch(), gamma=1.5) if options["loss"] == "focal" else cross_entropy(*batch())
    assert all(map(torch.equal, given(*batch()), expected))


def test_the_flag_of_the_auxiliary_weight_wins_over_the_models():
    weights = [Objective(LossOptions(aux_weight=given), 0.6).aux_weight for given in (None, 0.0, 0.4)]
    assert weights == [0.6, 0.0, 0.4]


def test_published_weights_that_do_not_exist_are_refused():
    with pytest.raises(ModelError, match="--class_weights challenge"):
        Objective(LossOptions(loss="weighted_ce", class_weights="challenge"))


def test_ignored_pixels_get_a_gradient_of_exactly_zero(loss):
    logits, labels = batch()
    loss(logits, labels)[0].backward()
    per_pixel = logits.grad.abs().amax(1)
    assert (per_pixel[labels == 255] == 0).all()
    assert (per_pixel[labels != 255] > 0).all()


def test_without_a_valid_pixel_loss_weight_and_gradient_are_zero(loss):
    logits, labels = batch()
    total, weight = loss(logits, torch.full_like(labels, 255))
    total.backward()
    assert (total.item(), weight.item()) == (0, 0)
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_computed_in_float32(loss, dtype, autocast):
    logits, labels = batch(dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        total, _ = loss(logits, labels)
    total.backward()
    assert total.dtype == torch.float32
    assert torch.equal(total, loss(logits.float(), labels)[0])
    assert logits.grad.isfinite().all()
