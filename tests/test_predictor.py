"""The predictor: a single view equals the plain forward pass, several views equal a hand-written loop."""

import itertools
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.transforms import functional as TF

from seg_models.arguments import ViewOptions
from seg_models.ensemble import Ensemble
from seg_models.errors import ModelError
from seg_models.layers import resize_logits
from seg_models.models import build_model
from seg_models.names import MULTI_SCALE
from seg_models.predictor import Predictor, blending_weights, normalize
from seg_models.sides import check_sides, smallest_side
from seg_models.views import ALIGNMENT, Views, cover, make_views

MEAN, STD = (0.3, 0.4, 0.5), (0.2, 0.25, 0.3)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = build_model("streetnet", "batch", {i: f"class {i}" for i in range(5)}).eval()
    nn.init.normal_(model.classifier.classifier.weight)  # else the first predictions are nearly uniform
    return model


class Identity(torch.nn.Module):
    """A model whose logits are its input; `sizes` records the size of each view."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, pixel_values):
        self.sizes.append(tuple(pixel_values.shape[-2:]))
        return SimpleNamespace(logits=pixel_values)


def random_image(size, seed=0):
    return torch.randint(256, (3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def resize(x, size, **kwargs):
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False, **kwargs)


# normalize and resize_logits


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_normalize_is_torchvisions(dtype):
    images = torch.stack([random_image((5, 7), seed) for seed in (0, 1)])
    result = normalize(images.to(dtype), MEAN, STD)
    torch.testing.assert_close(result, TF.normalize(images.float() / 255, MEAN, STD))
    assert result.is_contiguous(memory_format=torch.channels_last)


def test_resize_logits_keeps_values_of_the_right_size():
    logits = torch.randn(2, 4, 3, 5)
    assert torch.equal(resize_logits(logits, (3, 5)), logits)


def test_resize_logits_does_not_align_corners():
    logits = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2)
    assert resize_logits(logits, (1, 4)).flatten().tolist() == [0, 0.25, 0.75, 1]


@pytest.mark.parametrize("size", [(3, 5), (4, 9)])
def test_resize_logits_computes_in_float32(size):
    logits = torch.randn(2, 4, 3, 5).bfloat16()
    result = resize_logits(logits, size)
    assert result.dtype == torch.float32
    assert torch.equal(result, resize_logits(logits.float(), size))


# one view


@pytest.mark.parametrize(
    ("image_size", "size"), [((64, 96), None), ((33, 47), None), ((33, 47), (65, 91)), ((65, 91), (33, 47))]
)
@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_one_view_is_the_plain_forward(model, image_size, size, average):
    image = random_image(image_size)
    with torch.no_grad():
        logits = model(normalize(image[None], MEAN, STD)).logits
    expected = resize_logits(logits, size or image_size)[0]
    predictor = Predictor(model, MEAN, STD, Views(average=average))
    scores = predictor(image, size)
    assert scores.shape == (5, *(size or image_size))
    assert torch.equal(scores, expected)
    assert not scores.requires_grad
    assert torch.equal(predictor.labels(image, size), expected.argmax(0))


@pytest.mark.parametrize(("scales", "sizes"), [((1.0,), [(24, 41)]), ((0.5, 2.0), [(12, 20), (48, 82)])])
def test_size_is_what_the_network_sees_at_scale_one(scales, sizes):
    model = Identity()
    scores = Predictor(model, MEAN, STD, Views(size=(24, 41), scales=scales))(random_image((33, 47)))
    assert model.sizes == sizes
    assert scores.shape == (3, 33, 47)


def test_size_resizes_the_image_smoothly():
    image = random_image((33, 47))
    scores = Predictor(Identity(), MEAN, STD, Views(size=(12, 20)))(image, (12, 20))
    torch.testing.assert_close(scores, resize(normalize(image[None], MEAN, STD), (12, 20), antialias=True)[0])


def test_a_view_has_at_least_one_pixel():
    model = Identity()
    Predictor(model, MEAN, STD, Views(scales=(0.1,)))(random_image((3, 21)))
    assert model.sizes == [(1, 2)]


# several views


@pytest.mark.parametrize("together", [False, True], ids=["as on a CPU", "as on a GPU"])
@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_views_are_averaged_as_by_hand(model, average, together, monkeypatch):
    monkeypatch.setattr("seg_models.predictor.mirrored_together", lambda views, device: together)
    image, size = random_image((49, 63)), (51, 65)
    pixels = TF.normalize(image[None].float() / 255, MEAN, STD)
    views = []
    for view in (resize(pixels, (24, 32), antialias=True), pixels):
        for turn in (lambda x: x, lambda x: x.flip(-1)):
            with torch.no_grad():
                logits = turn(resize(model(turn(view)).logits, size))[0]
            views.append(logits.softmax(0) if average == "probabilities" else logits)
    predictor = Predictor(model, MEAN, STD, Views(scales=(0.5, 1.0), flip=True, average=average))
    torch.testing.assert_close(predictor(image, size), torch.stack(views).mean(0), rtol=1e-4, atol=1e-4)
    assert torch.equal(predictor.labels(image, size), predictor(image, size).argmax(0))


@pytest.mark.parametrize("average", ["probabilities", "logits"])
@pytest.mark.parametrize("width", [46, 47])
def test_flip_makes_the_scores_of_a_symmetric_image_symmetric(model, width, average):
    image = random_image((33, width))
    image = torch.maximum(image, image.flip(2))
    scores = Predictor(model, MEAN, STD, Views(flip=True, average=average))(image)
    torch.testing.assert_close(scores, scores.flip(2), rtol=1e-5, atol=1e-5)
    plain = Predictor(model, MEAN, STD)(image)
    assert (plain - plain.flip(2)).abs().max() > 0.1  # the network alone is not symmetric


@pytest.mark.parametrize(("scales", "flip"), [((1.0,), True), ((0.5, 1.0), False), ((0.5, 1.0, 1.5), True)])
def test_probabilities_of_several_views_sum_to_one(model, scales, flip):
    scores = Predictor(model, MEAN, STD, Views(scales=scales, flip=flip))(random_image((33, 47)))
    assert scores.min() >= 0
    torch.testing.assert_close(scores.sum(0), torch.ones(33, 47))


@pytest.mark.parametrize(
    ("flags", "views"),
    [
        ({}, Views((24, 41))),
        ({"test_size": [8, 16]}, Views([8, 16])),
        ({"mst": True}, Views((24, 41), MULTI_SCALE, True)),
        ({"mst": True, "flip": False, "average": "logits"}, Views((24, 41), MULTI_SCALE, False, "logits")),
        ({"scales": [1.0]}, Views((24, 41), (1.0,), True)),
    ],
)
def test_flags_choose_the_views(flags, views):
    assert make_views(ViewOptions(**flags), (24, 41)) == views


def test_unknown_average_is_refused():
    with pytest.raises(ValueError, match="probabilities or logits, not 'votes'"):
        Views(average="votes")


def test_views_that_segformer_cannot_take_are_enlarged():
    segformer = build_model("segformer_b0", "batch", {0: "a", 1: "b"}).eval()
    assert smallest_side(segformer) == 29
    scores = Predictor(segformer, MEAN, STD, Views(scales=(0.25, 1.0), flip=True))(random_image((20, 70)))
    assert scores.shape == (2, 20, 70) and scores.isfinite().all()
    with pytest.raises(RuntimeError):
        segformer(torch.zeros(1, 3, 28, 64))
    segformer(torch.zeros(1, 3, 29, 64))


def test_sizes_that_a_network_cannot_take_are_refused(model):
    segformer = build_model("segformer_b0", "batch", {0: "a", 1: "b"})
    check_sides(segformer, (29, 40), None)
    with pytest.raises(ModelError, match="--crop_size 28 40 is too small: this network needs at least 29 pixels"):
        check_sides(segformer, (28, 40), None)
    with pytest.raises(ModelError, match="--test_size 64 16 is too small"):
        check_sides(segformer, (64, 64), (64, 16))
    with pytest.raises(ModelError, match="--crop_size 16 40 is too small: this network needs at least 17"):
        check_sides(model, (16, 40), None)
    check_sides(model, (17, 40), (1, 1))


# windows


class Shallow(torch.nn.Module):
    """Convolutions that see 7 pixels in each direction, and a stride of 4. `sizes` records the size of each view."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU(), nn.Conv2d(8, 5, 3, padding=1))
        self.sizes = []

    def forward(self, pixel_values):
        self.sizes.append(tuple(pixel_values.shape[-2:]))
        return SimpleNamespace(logits=self.layers(pixel_values))


@pytest.mark.parametrize("whole", [64, 65, 97, 128, 200, 511, 1000])
@pytest.mark.parametrize("side", [64, 70, 96, 256])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
def test_windows_cover_every_pixel_and_overlap(whole, side, overlap):
    spans = cover(whole, side, overlap)
    assert spans[0][0] == 0 and spans[-1][1] == whole
    assert all(start % ALIGNMENT == 0 and 0 < stop - start <= side for start, stop in spans)
    assert all(first[1] - second[0] >= overlap * side - 1e-9 for first, second in itertools.pairwise(spans))
    assert len(spans) == 1 or min(stop - start for start, stop in spans) > side - ALIGNMENT
    weights = blending_weights(set(spans), torch.device("cpu"))
    total = torch.zeros(whole)
    for span in spans:
        total[slice(*span)] += weights[span]
    torch.testing.assert_close(total, torch.ones(whole))


@pytest.mark.parametrize("average", ["probabilities", "logits"])
@pytest.mark.parametrize("overlap", [0.25, 0.5])
def test_windows_equal_the_whole_image_away_from_borders(average, overlap):
    model, image = Shallow(), random_image((200, 300))
    whole = Predictor(model, MEAN, STD)(image)
    model.sizes.clear()
    views = Views(average=average, window=(96, 128), overlap=overlap)
    predictor = Predictor(model, MEAN, STD, views)
    scores = predictor(image)
    assert len(model.sizes) == len(views.windows((200, 300))) > 4 and max(model.sizes) == (96, 128)
    expected = whole.softmax(0) if average == "probabilities" else whole
    near = torch.zeros(200, 300, dtype=torch.bool)  # to a border of a window that is none of the image
    for window in views.windows((200, 300)):
        for end in window.rows:
            near[max(end - 12, 0) : end + 12, slice(*window.columns)] |= 0 < end < 200
        for end in window.columns:
            near[slice(*window.rows), max(end - 12, 0) : end + 12] |= 0 < end < 300
    assert 0.1 < near.float().mean() < 0.9
    torch.testing.assert_close(scores[:, ~near], expected[:, ~near], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(scores[:, near], expected[:, near], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        predictor.probabilities(image), scores if average == "probabilities" else scores.softmax(0)
    )


def test_a_window_as_large_as_the_image_is_the_image(model):
    image = random_image((64, 96))
    expected = Predictor(model, MEAN, STD)(image)
    assert torch.equal(Predictor(model, MEAN, STD, Views(window=(64, 128)))(image), expected)


def test_each_window_is_seen_at_all_scales_and_mirrored(model):
    image = random_image((64, 160))
    views = Views(scales=(0.5, 1.0), flip=True, window=(64, 96), overlap=0.0)
    scores = Predictor(model, MEAN, STD, views)(image)
    parts = [(0, 96), (64, 160)]
    assert [window.columns for window in views.windows((64, 160))] == parts
    alone = Predictor(model, MEAN, STD, Views(scales=(0.5, 1.0), flip=True))
    left, right = (alone(image[:, :, start:stop]) for start, stop in parts)
    torch.testing.assert_close(scores[:, :, :64], left[:, :, :64])
    torch.testing.assert_close(scores[:, :, 96:], right[:, :, 32:])
    first = (31.5 * left[:, :, 64] + 0.5 * right[:, :, 0]) / 32  # of the 32 columns that both see
    torch.testing.assert_close(scores[:, :, 64], first)


def test_windows_are_measured_in_what_the_network_sees():
    """With a size, the window is one of the resized image."""
    model, image = Identity(), random_image((256, 512))
    views = Views(size=(128, 256), window=(128, 128), overlap=0.0)
    scores = Predictor(model, MEAN, STD, views)(image)
    assert model.sizes == [(128, 128)] * 2 and scores.shape == (3, 256, 512)
    assert [window.columns for window in views.windows((256, 512))] == [(0, 256), (256, 512)]
    assert Predictor(model, MEAN, STD, views)(image, (100, 200)).shape == (3, 100, 200)


class Ones(torch.nn.Module):
    def forward(self, pixel_values):
        return SimpleNamespace(logits=torch.ones_like(pixel_values))


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (6, 6), (12, 9), (3, 700), (40, 40)])
def test_windows_of_an_image_far_smaller_than_what_the_network_sees(size):
    views = Views(size=(512, 512), window=(64, 64), average="logits")
    scores = Predictor(Ones(), MEAN, STD, views)(random_image(size))
    torch.testing.assert_close(scores, torch.ones(3, *size))  # the weights of the windows add up to 1


@pytest.mark.parametrize("wrong", [{"window": (63, 100)}, {"window": (64, 64), "overlap": 0.6}])
def test_wrong_windows_are_refused(wrong):
    with pytest.raises(ValueError):
        Views(**wrong)


# ensembles


def test_an_ensemble_averages_probabilities_of_classes_by_name(model):
    torch.manual_seed(1)
    other = build_model("unet_resnet18", "batch", {i: f"class {4 - i}" for i in range(5)}).eval()
    names = [f"class {i}" for i in range(5)]
    image, size = random_image((64, 96)), (60, 90)
    first, second = (
        Predictor(model, MEAN, STD, Views(flip=True)),
        Predictor(other, (0.5,) * 3, (0.5,) * 3, Views((32, 48))),
    )
    ensemble = Ensemble([first, second], [names, names[::-1]])
    expected = (first(image, size) + second(image, size).softmax(0).flip(0)) / 2
    torch.testing.assert_close(ensemble(image, size), expected)
    assert torch.equal(ensemble.labels(image, size), ensemble(image, size).argmax(0))
    with pytest.raises(ModelError, match="those of model 2 differ from the first one's in class 4, wall"):
        Ensemble([first, second], [names, [*names[:4], "wall"]])
