"""The dense CRF: its filter against a sum over all pairs, and what it does to a prediction."""

import pytest
import torch

from seg_models.crf import CRF, Filter, Smoothing


def gaussian_sums(features, values):
    """The filter by its definition: a sum over all pairs."""
    kernel = torch.exp(-0.5 * torch.cdist(features.double(), features.double()) ** 2)
    scale = kernel.sum(1, keepdim=True).rsqrt()
    return scale * (kernel @ (scale * values.double()))


@pytest.mark.parametrize("dimensions", [1, 2, 3, 5])
def test_the_filter_is_close_to_the_sum_over_all_pairs(dimensions):
    """The lattice approximates a Gaussian. Its blur was made for images, so the points are many and near."""
    torch.manual_seed(0)
    features = 3 * torch.rand(4000, dimensions)
    values = torch.rand(4000, 2)
    values[:, 0] = (features[:, 0] > 1.5).float()
    found, expected = Filter(features)(values), gaussian_sums(features, values)
    assert (found - expected).abs().mean() < 0.03
    edge = (features[:, 0] - 1.5).abs() < 2
    assert torch.corrcoef(torch.stack([found[edge, 0].double(), expected[edge, 0]]))[0, 1] > 0.99


def test_the_filter_divides_by_its_own_sums():
    """With K 1 = D, D^(-1/2) K D^(-1/2) maps D^(1/2) to itself."""
    torch.manual_seed(0)
    kernel = Filter(torch.rand(200, 3) * 4)
    sums = 1 / kernel.scale
    assert sums.max() / sums.min() > 1.5
    torch.testing.assert_close(kernel(sums), sums)


def test_distant_features_do_not_meet():
    features = torch.tensor([[0.0, 0.0], [100.0, 100.0]])
    torch.testing.assert_close(Filter(features)(torch.eye(2)), torch.eye(2), atol=1e-6, rtol=0)


def test_a_blurred_border_follows_the_edge_of_the_image():
    image = torch.full((3, 24, 32), 40, dtype=torch.uint8)
    image[:, :, 16:] = 200
    truth = (torch.arange(32) >= 16).long().expand(24, 32)
    slope = ((torch.arange(32) - 19.5) / 8).expand(24, 32)  # the prediction's border is 4 pixels off
    probabilities = torch.stack([-slope, slope]).softmax(0)
    assert (probabilities.argmax(0) != truth).sum() == 24 * 4
    result = CRF()(probabilities, image)
    assert torch.equal(result.argmax(0), truth)
    torch.testing.assert_close(result.sum(0), torch.ones(24, 32))
    assert result.dtype == torch.float32


def test_an_isolated_pixel_takes_its_neighbours_class():
    image = torch.full((3, 9, 9), 90, dtype=torch.uint8)
    probabilities = torch.full((2, 9, 9), 0.3)
    probabilities[0] = 0.7
    probabilities[:, 4, 4] = torch.tensor([0.4, 0.6])
    assert (CRF()(probabilities, image).argmax(0) == 0).all()


def test_without_iterations_nothing_changes():
    torch.manual_seed(0)
    probabilities = torch.rand(3, 5, 6).softmax(0)
    image = torch.zeros(3, 5, 6, dtype=torch.uint8)
    torch.testing.assert_close(CRF(iterations=0)(probabilities, image), probabilities)


def test_smoothing_is_the_sum_over_all_pairs():
    torch.manual_seed(0)
    rows, columns = torch.meshgrid(torch.arange(6), torch.arange(7), indexing="ij")
    positions = torch.stack([rows, columns], dim=-1).reshape(-1, 2).float()
    values = torch.rand(42, 3)
    found = Smoothing((6, 7), 1.0, values.device)(values)
    torch.testing.assert_close(found.double(), gaussian_sums(positions, values), atol=0.01, rtol=0.02)
