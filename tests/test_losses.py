"""Losses: sums and weights by hand and against torch, ignored pixels, arithmetic in float32."""

import math

import pytest
import torch
import torch.nn.functional as F

from seg_models import LOSSES
from seg_models.losses import cross_entropy


@pytest.fixture(params=LOSSES)
def loss(request):
    return LOSSES[request.param]


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


def test_cross_entropy_of_two_halves_adds_up():
    logits, labels = batch()
    whole = torch.stack(cross_entropy(logits, labels))
    parts = [torch.stack(cross_entropy(logits[part], labels[part])) for part in (slice(1), slice(1, 4))]
    torch.testing.assert_close(sum(parts), whole)


def test_cross_entropy_refuses_a_label_beyond_the_classes():
    with pytest.raises((IndexError, RuntimeError)):
        cross_entropy(torch.zeros(1, 4, 1, 2), torch.tensor([[[0, 4]]]))


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
