"""Losses: sums and weights by hand, against torch and plain code, ignored pixels, arithmetic in float32."""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss

from seg_models.arguments import LossOptions
from seg_models.errors import ModelError
from seg_models.loss_pixels import (
    boundary_cross_entropy,
    class_balanced_weights,
    enet_class_weights,
    focal_loss,
    near_edges,
    ohem_cross_entropy,
    smoothed_cross_entropy,
)
from seg_models.loss_regions import descending, dice_loss, focal_tversky_loss, lovasz_softmax, tversky_loss
from seg_models.loss_terms import loss_terms
from seg_models.losses import cross_entropy
from seg_models.names import LOSSES
from seg_models.objective import aux_weight_of, check_class_weights, loss_from_flags, make_loss

CLASS_WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 3.0, 0.25])
PIXELS, IMAGES = [50, 30, 15, 5, 0], 10
ALONE = {name: LossOptions(loss=name) for name in LOSSES}
SUMS_OVER_PIXELS = {
    **{name: ALONE[name] for name in ("ce", "weighted_ce", "class_balanced", "focal", "boundary")},
    "smoothed": LossOptions(label_smoothing=0.1),
    "smoothed weighted_ce": LossOptions(loss="weighted_ce", label_smoothing=0.1),
    "sum": LossOptions(loss="1.0*ce+0.5*focal"),
}
ADDING_UP = {**SUMS_OVER_PIXELS, "lovasz per image": LossOptions(loss="lovasz", lovasz_per_image=True)}
ALL = {
    **ALONE,
    **ADDING_UP,
    "ohem": LossOptions(loss="ohem", ohem_threshold=0.5, ohem_min_kept=3),
    "weighted ohem": LossOptions(loss="ohem", ohem_min_kept=3, class_weights="class_balanced", class_balanced_beta=0.5),
    "mixed sum": LossOptions(loss="0.7*weighted_ce+lovasz+0.5*ohem"),
}


def loss_of(options):
    return loss_from_flags(options, CLASS_WEIGHTS.tolist(), PIXELS, IMAGES)


@pytest.fixture(params=ALL)
def loss(request):
    return loss_of(ALL[request.param])


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


@pytest.mark.parametrize("name", ADDING_UP)
def test_the_losses_of_two_halves_add_up(name):
    logits, labels = batch()
    loss = loss_of(ADDING_UP[name])
    whole = torch.stack(loss(logits, labels))
    parts = [torch.stack(loss(logits[part], labels[part])) for part in (slice(1), slice(1, 4))]
    torch.testing.assert_close(sum(parts), whole)


def test_cross_entropy_refuses_a_label_beyond_the_classes():
    with pytest.raises((IndexError, RuntimeError)):
        cross_entropy(torch.zeros(1, 4, 1, 2), torch.tensor([[[0, 4]]]))


def test_weighted_cross_entropy_by_hand():
    logits = torch.tensor([[0.0, math.log(3), 5.0], [0.0, 0.0, -5.0]]).view(1, 2, 1, 3)
    total, weight = make_loss("weighted_ce", LossOptions(), torch.tensor([2.0, 5.0]))(
        logits, torch.tensor([[[0, 1, 255]]])
    )
    assert total.item() == pytest.approx(2 * math.log(2) + 5 * math.log(4))
    assert weight.item() == 7


def test_weighted_cross_entropy_is_torchs():
    logits, labels = batch()
    total, weight = make_loss("weighted_ce", LossOptions(), CLASS_WEIGHTS)(logits, labels)
    expected = F.cross_entropy(logits, labels, CLASS_WEIGHTS, ignore_index=255)
    torch.testing.assert_close(total / weight, expected)
    torch.testing.assert_close(*(torch.autograd.grad(value, logits)[0] for value in (total / weight, expected)))


def test_focal_loss_by_hand():
    # p = 1/2 and 1/4: (1/2)^3 log 2 + (3/4)^3 log 4
    logits = torch.tensor([[0.0, math.log(3), 5.0], [0.0, 0.0, -5.0]]).view(1, 2, 1, 3)
    total, weight = make_loss("focal", LossOptions(focal_gamma=3.0))(logits, torch.tensor([[[0, 1, 255]]]))
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
    logits, labels = (tensor[:2].detach() for tensor in batch(torch.float64))
    assert torch.autograd.gradcheck(lambda x: loss(x, labels)[0], logits.requires_grad_())


def test_enet_class_weights():
    weights = enet_class_weights([50, 50, 0])
    assert weights[:2] == [pytest.approx(1 / math.log(1.52))] * 2 and weights[2] == pytest.approx(1 / math.log(1.02))
    assert enet_class_weights([50, 50], constant=1.1) == [pytest.approx(1 / math.log(1.6))] * 2


@pytest.mark.parametrize(
    "options, published, expected",
    [
        ({}, [], enet_class_weights(PIXELS, 1.02)),
        ({"class_weights_constant": 1.1, "class_weights": "enet"}, [], enet_class_weights(PIXELS, 1.1)),
        ({}, CLASS_WEIGHTS.tolist(), CLASS_WEIGHTS),
        ({"class_weights": "challenge"}, CLASS_WEIGHTS.tolist(), CLASS_WEIGHTS),
        ({"class_weights": "enet"}, CLASS_WEIGHTS.tolist(), enet_class_weights(PIXELS, 1.02)),
        ({"class_weights": "class_balanced"}, CLASS_WEIGHTS.tolist(), class_balanced_weights(PIXELS, IMAGES, 0.9)),
        ({"loss": "ohem"}, CLASS_WEIGHTS.tolist(), [1.0] * 5),
        ({"loss": "ohem", "class_weights": "challenge"}, CLASS_WEIGHTS.tolist(), CLASS_WEIGHTS),
    ],
)
def test_the_flags_choose_the_class_weights(options, published, expected):
    options = LossOptions(**{"loss": "weighted_ce", **options})
    given = loss_from_flags(options, published, PIXELS, IMAGES)
    wanted = make_loss(options.loss, LossOptions(), torch.as_tensor(expected))
    assert all(map(torch.equal, given(*batch()), wanted(*batch())))


@pytest.mark.parametrize("options", [{"loss": "ce"}, {"loss": "focal", "focal_gamma": 1.5}])
def test_the_flags_choose_the_loss(options):
    given = loss_from_flags(LossOptions(**options), CLASS_WEIGHTS.tolist(), PIXELS, IMAGES)
    expected = focal_loss(*batch(), gamma=1.5) if options["loss"] == "focal" else cross_entropy(*batch())
    assert all(map(torch.equal, given(*batch()), expected))


def test_the_flag_of_the_auxiliary_weight_wins_over_the_models():
    weights = [aux_weight_of(LossOptions(aux_weight=given), 0.6) for given in (None, 0.0, 0.4)]
    assert weights == [0.6, 0.0, 0.4]


def test_published_weights_that_do_not_exist_are_refused():
    with pytest.raises(ModelError, match="--class_weights challenge"):
        check_class_weights(LossOptions(loss="weighted_ce", class_weights="challenge"), ())


def test_ignored_pixels_get_a_gradient_of_exactly_zero(loss):
    logits, labels = batch()
    loss(logits, labels)[0].backward()
    per_pixel = logits.grad.abs().amax(1)
    assert (per_pixel[labels == 255] == 0).all() and per_pixel.max() > 0


@pytest.mark.parametrize("name", SUMS_OVER_PIXELS)
def test_every_other_pixel_gets_a_gradient(name):
    logits, labels = batch()
    loss_of(SUMS_OVER_PIXELS[name])(logits, labels)[0].backward()
    assert (logits.grad.abs().amax(1)[labels != 255] > 0).all()


def test_without_a_valid_pixel_loss_weight_and_gradient_are_zero(loss):
    logits, labels = batch()
    total, weight = loss(logits, torch.full_like(labels, 255))
    total.backward()
    assert (total.item(), weight.item()) == (0, 0)
    assert (logits.grad == 0).all()


def test_without_an_image_loss_and_weight_are_zero(loss):
    logits, labels = batch()
    total, weight = loss(logits[:0], labels[:0])
    total.backward()
    assert (total.item(), weight.item(), total.dtype) == (0, 0, torch.float32)
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


def test_the_weight_depends_on_the_labels_only(loss):
    """So that auxiliary logits can share it."""
    (logits, labels), (others, _) = batch(), batch(seed=1)
    assert torch.equal(loss(logits, labels)[1], loss(others, labels)[1])


def test_logits_that_are_not_finite_are_noticed(loss):
    """The training loop skips the step then. A loss that leaves pixels out must not leave out these."""
    logits, labels = batch()
    with torch.no_grad():
        logits[:, 2, 1] = math.nan
    loss(logits, labels)[0].backward()
    assert not logits.grad.isfinite().all()


@pytest.mark.parametrize("weights", [None, CLASS_WEIGHTS])
def test_label_smoothing_is_torchs(weights):
    logits, labels = batch()
    total, weight = smoothed_cross_entropy(logits, labels, 0.1, weights)
    expected = F.cross_entropy(logits, labels, weights, ignore_index=255, label_smoothing=0.1)
    torch.testing.assert_close(total / weight, expected)
    torch.testing.assert_close(*(torch.autograd.grad(value, logits)[0] for value in (total / weight, expected)))


def test_label_smoothing_by_hand():
    # p = (3/4, 1/4), label 0: 0.8 log 4/3 + 0.2 (log 4/3 + log 4) / 2
    logits = torch.tensor([math.log(3), 0.0]).view(1, 2, 1, 1)
    total, _ = smoothed_cross_entropy(logits, torch.zeros(1, 1, 1, dtype=torch.uint8), 0.2)
    assert total.item() == pytest.approx(0.9 * math.log(4 / 3) + 0.1 * math.log(4))


def two_classes(*probabilities):
    """Logits (1, 2, 1, W) in which class 1 has these probabilities."""
    return torch.tensor([probabilities]).logit().view(1, 1, 1, -1) * torch.tensor([0.0, 1.0]).view(1, 2, 1, 1)


@pytest.mark.parametrize(
    ("threshold", "min_kept", "kept"),
    [(0.5, 1, (0.2, 0.4)), (0.3, 1, (0.2,)), (0.1, 3, (0.2, 0.4, 0.6)), (0.1, 9, (0.2, 0.4, 0.6, 0.9))],
)
def test_ohem_by_hand(threshold, min_kept, kept):
    logits = two_classes(0.6, 0.2, 0.9, 0.4, 0.1).requires_grad_()
    labels = torch.tensor([[[1, 1, 1, 1, 255]]])
    total, weight = ohem_cross_entropy(logits, labels, threshold, min_kept)
    assert weight.item() == 4
    assert total.item() / 4 == pytest.approx(-sum(map(math.log, kept)) / len(kept))
    total.backward()
    assert (logits.grad != 0).any(1).sum().item() == len(kept)


@pytest.mark.parametrize(("loss", "kept", "said"), [("ce+ohem", 64 * 96, True), ("ohem", 64 * 96 - 1, False)])
def test_ohem_that_takes_all_pixels_of_a_crop_says_so(loss, kept, said, capsys):
    from seg_jobs.training_checks import note_on_ohem

    note_on_ohem(LossOptions(loss=loss, ohem_min_kept=kept), (64, 96), SimpleNamespace(is_main_process=True))
    assert ("note: ohem takes all 6144 pixels of a crop" in capsys.readouterr().out) == said


def test_weighted_ohem_chooses_as_plain_ohem_and_weights_the_mean():
    logits, labels = two_classes(0.6, 0.2, 0.9, 0.7), torch.tensor([[[1, 1, 1, 0]]])  # p(label): 0.6, 0.2, 0.9, 0.3
    total, weight = ohem_cross_entropy(logits, labels, 0.5, 1, class_weights=torch.tensor([3.0, 1.0]))
    assert total.item() / weight.item() == pytest.approx(-(math.log(0.2) + 3 * math.log(0.3)) / 4)
    assert weight.item() == 4


def test_ohem_is_a_plain_one_on_sorted_pixels():
    """As in the published code for pixels: sort, take the `min_kept`th as threshold if it is above the given one."""
    logits, labels = batch()
    p = logits.softmax(1).movedim(1, -1)[labels != 255].gather(1, labels[labels != 255][:, None])[:, 0]
    for threshold, min_kept in itertools.product((0.01, 0.3, 0.9), (1, 5, 12, 100)):
        total, weight = ohem_cross_entropy(logits, labels, threshold, min_kept)
        kept = p[p <= max(threshold, p.sort().values[: 4 * min_kept][-1])]
        torch.testing.assert_close(total / weight, -kept.log().mean())


def test_edges_are_within_the_radius_of_another_class():
    row = [0, 0, 0, 1, 1, 1, 255, 2, 2, 2]
    near = near_edges(torch.tensor([[row]]), 1)[0, 0].int().tolist()
    assert near == [0, 0, 1, 1, 0, 0, 0, 0, 0, 0]  # what is beyond an ignored pixel is out of reach
    near = near_edges(torch.tensor([[row]], dtype=torch.uint8), 2)[0, 0].int().tolist()
    assert near == [0, 1, 1, 1, 1, 1, 0, 1, 0, 0]
    assert not near_edges(torch.full((2, 3, 4), 255), 2).any()


def test_edges_of_radius_1_are_sobels():
    """Where a Sobel filter of the one-hot labels is not zero, away from the border of the image."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (1, 4, 5), generator=generator).repeat_interleave(4, 1).repeat_interleave(4, 2)
    one_hot = F.one_hot(labels[0]).movedim(-1, 0)[:, None].float()
    sobel = torch.tensor([[1.0, 2.0, 1.0], [0.0, 0.0, 0.0], [-1.0, -2.0, -1.0]])
    kernels = torch.stack([sobel, sobel.T])[:, None]
    expected = (F.conv2d(one_hot, kernels) != 0).any(1).any(0)
    assert torch.equal(near_edges(labels, 1)[0, 1:-1, 1:-1], expected) and expected.any() and not expected.all()


def test_boundary_cross_entropy_by_hand():
    # 1, 1, 0, 0, 0, 0 with p(label) = 1/2: the last two pixels are far from the edge
    total, weight = boundary_cross_entropy(torch.zeros(1, 2, 1, 6), torch.tensor([[[1, 1, 0, 0, 0, 0]]]))
    assert weight.item() == 4 * 5 + 2 and total.item() == pytest.approx(22 * math.log(2))


def test_class_balanced_weights_by_hand():
    # 10 images: 5, 3, 1.5, 0.5 images of each class, so with beta 0.5 E = 2 (1 - 2^-n)
    effective = [2 * (1 - 0.5**n) for n in (5, 3, 1.5, 0.5)]
    weights = class_balanced_weights(PIXELS, 10, 0.5)
    expected = [1 / e for e in (*effective, effective[-1])]
    assert weights == pytest.approx([5 * w / sum(expected) for w in expected])
    assert class_balanced_weights(PIXELS, 10, 0.0) == [1.0] * 5 == class_balanced_weights([0] * 5, 10, 0.9)
    inverse = class_balanced_weights([50, 25], 10, 1 - 1e-9)
    assert inverse[1] / inverse[0] == pytest.approx(2)


def test_lovasz_by_hand():
    # Labels 1, 1, 0. Errors of class 1: 0.4, 0.8, 0.3 (a wrong third pixel). From the largest: missing 1 of 2 pixels,
    # IoU 1/2; missing both, 0. So 0.8 / 2 + 0.4 / 2 + 0.3 * 0. Of class 0: 0.3 (its pixel), 0.4, 0.8. From the largest:
    # IoU 1/2, 1/3, 0, so 0.8 / 2 + 0.4 (1/2 - 1/3) + 0.3 / 3.
    expected = (0.6 + 0.4 + 0.4 / 6 + 0.1) / 2
    total, weight = lovasz_softmax(two_classes(0.6, 0.2, 0.3, 0.9), torch.tensor([[[1, 1, 0, 255]]]))
    assert (total / weight).item() == pytest.approx(expected) and weight.item() == 3


def plain_lovasz(probabilities, labels):
    """The Lovasz extension from its definition: the integral over t of 1 - IoU if pixels with an error above t are
    wrong. `probabilities` are (P, C), without ignored pixels."""
    losses = []
    for label in labels.unique():
        truth = labels == label
        errors = torch.where(truth, 1 - probabilities[:, label], probabilities[:, label])
        levels = torch.cat([errors.new_zeros(1), errors.sort().values])
        total = 0.0
        for low, high in itertools.pairwise(levels):
            wrong = errors >= high
            iou = (truth & ~wrong).sum() / (truth | wrong).sum()
            total = total + (high - low) * (1 - iou)
        losses.append(total)
    return torch.stack(losses).mean()


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("classes", [5, 3])
def test_lovasz_is_the_extension_by_its_definition(scale, classes):
    logits, labels = batch(torch.float64)
    labels = torch.where(labels < 5, labels % classes, 255)  # with 3 classes, two are absent
    valid = labels != 255
    expected = plain_lovasz((scale * logits).softmax(1).movedim(1, -1)[valid], labels[valid])
    total, weight = lovasz_softmax(scale * logits, labels)
    torch.testing.assert_close(total / weight, expected)
    torch.testing.assert_close(*(torch.autograd.grad(value, logits)[0] for value in (total / weight, expected)))


def test_lovasz_per_image_is_the_mean_over_images():
    logits, labels = batch()
    labels[1] = 255
    total, weight = lovasz_softmax(logits, labels, per_image=True)
    alone = [torch.stack(lovasz_softmax(logits[i : i + 1], labels[i : i + 1])) for i in (0, 2, 3)]
    torch.testing.assert_close(total / weight, torch.stack([value / count for value, count in alone]).mean())
    assert weight.item() == 3 * 21


def test_equal_errors_count_once():
    """A network that starts gives all pixels nearly the same probabilities."""
    labels = torch.tensor([[[0, 0, 0, 1]]])
    total, weight = lovasz_softmax(torch.zeros(1, 2, 1, 4), labels)
    assert (total / weight).item() == pytest.approx(0.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_errors_sort_by_their_bits(dtype):
    errors = torch.cat([torch.rand(999, dtype=dtype), torch.tensor([0.0, 1e-42, 1.0, 1e-9], dtype=dtype)])
    assert torch.equal(errors[descending(errors)], errors.sort(descending=True).values)


def test_dice_and_tversky_by_hand():
    # Class 1: TP 0.6 + 0.2, FN 0.4 + 0.8, FP 0.3. Class 0: TP 0.7, FN 0.3, FP 0.4 + 0.8.
    logits, labels = two_classes(0.6, 0.2, 0.3, 0.9), torch.tensor([[[1, 1, 0, 255]]])

    def index(a, b):
        return [0.8 / (0.8 + a * 0.3 + b * 1.2), 0.7 / (0.7 + a * 1.2 + b * 0.3)]

    for loss, expected in (
        (dice_loss, [1 - t for t in index(0.5, 0.5)]),
        (tversky_loss, [1 - t for t in index(0.3, 0.7)]),
        (focal_tversky_loss, [(1 - t) ** 0.75 for t in index(0.3, 0.7)]),
    ):
        total, weight = loss(logits, labels)
        assert (total / weight).item() == pytest.approx(sum(expected) / 2) and weight.item() == 3


@pytest.mark.parametrize("loss", [dice_loss, tversky_loss, focal_tversky_loss, lovasz_softmax])
def test_absent_classes_do_not_count(loss):
    """Neither in the mean, nor through a probability near 0 that a perfect prediction gives them."""
    logits = 100 * F.one_hot(torch.tensor([[[0, 1, 1]]]), 5).movedim(-1, 1).float()
    total, weight = loss(logits.requires_grad_(), torch.tensor([[[0, 1, 1]]]))
    total.backward()
    assert (total / weight).item() == pytest.approx(0, abs=1e-5) and logits.grad.isfinite().all()


def test_a_sum_adds_the_means():
    logits, labels = batch()
    total, weight = loss_of(LossOptions(loss="weighted_ce + 0.5*lovasz+2*ohem"))(logits, labels)
    parts = [loss_of(ALONE[name])(logits, labels) for name in ("weighted_ce", "lovasz", "ohem")]
    means = [value / count for value, count in parts]
    torch.testing.assert_close(total / weight, means[0] + 0.5 * means[1] + 2 * means[2])
    assert weight.item() == (labels != 255).sum().item() != parts[0][1].item()


def test_cross_entropy_has_the_same_bits_in_a_sum():
    logits, labels = batch()
    total, _ = loss_of(LossOptions(loss="ce+lovasz"))(logits, labels)
    assert torch.equal(total, cross_entropy(logits, labels)[0] + lovasz_softmax(logits, labels)[0])


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("ce", {"ce": 1.0}),
        ("CE+Lovasz", {"ce": 1.0, "lovasz": 1.0}),
        ("1.0*ce + 0.5 * dice", {"ce": 1.0, "dice": 0.5}),
        ("1e-1*ce+focal", {"ce": 0.1, "focal": 1.0}),
    ],
)
def test_a_sum_of_losses_is_read(text, terms):
    assert loss_terms(text) == terms


@pytest.mark.parametrize("text", ["2*ce", "ce+ce", "-1*ce+dice", "0*ce+dice", "nan*ce+dice", "*ce+dice", "x*ce+dice"])
def test_a_sum_that_makes_no_sense_is_refused(text):
    with pytest.raises(ModelError, match="--loss"):
        loss_terms(text)


def test_the_file_that_travels_needs_no_other_loss():
    """losses.py is copied next to every saved network; the other files are not."""
    import ast
    from pathlib import Path

    import seg_models.losses

    tree = ast.parse(Path(seg_models.losses.__file__).read_text())
    relative = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level}
    assert relative == {"evonorm"}
