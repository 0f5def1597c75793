"""A fully connected conditional random field: redraw a prediction along the edges of the image.

Pixels of similar colour that are near each other are drawn towards the same class, by mean field inference (Krähenbühl
and Koltun, 2011, arXiv 1210.5644). A permutohedral lattice makes its Gaussian filters linear in the number of pixels
(Adams et al., 2010, Fast high-dimensional filtering using the permutohedral lattice).
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .layers import resize_logits
from .predictor import PixelPredictor

BYTES_A_PIXEL = 700  # of the lattice, as measured for 0.2 to 1.6 megapixels


@dataclass(frozen=True)
class CRF:
    """Settings of the field. The defaults are those of DeepLab's networks (Chen et al., 2016, arXiv 1606.00915).

    The appearance kernel compares positions and colours, the smoothness kernel positions only. Standard deviations are
    in pixels and in colours of 0 to 255.
    """

    appearance: float = 4.0  # weight
    position_std: float = 67.0
    color_std: float = 3.0
    smoothness: float = 3.0  # weight
    smoothness_std: float = 1.0
    iterations: int = 10

    @torch.no_grad()
    def __call__(self, probabilities: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Return new probabilities (C, H, W), float32, of an image uint8 (3, H, W) with `probabilities` (C, H, W)."""
        height, width = image.shape[-2:]
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        positions = torch.stack([rows, columns], dim=-1).reshape(-1, 2).float().to(image.device)
        colors = image.permute(1, 2, 0).reshape(-1, 3).float()
        appearance = Filter(torch.cat([positions / self.position_std, colors / self.color_std], dim=1))
        smoothness = Smoothing((height, width), self.smoothness_std, image.device)
        unary = probabilities.float().flatten(1).t().clamp(min=1e-8).log()
        belief = unary.softmax(1)
        for _ in range(self.iterations):
            logits = unary.add(appearance(belief), alpha=self.appearance)
            belief = logits.add_(smoothness(belief), alpha=self.smoothness).softmax(1)
        return belief.t().reshape(probabilities.shape)

    @staticmethod
    def memory(classes: int, size: Sequence[int]) -> int:
        """Return about how many bytes an image of `size` (H, W) takes."""
        return (BYTES_A_PIXEL + 4 * 8 * classes) * size[0] * size[1]


class Refined(PixelPredictor):
    """A predictor whose probabilities a CRF redraws along the edges of the image: `refined(image)` returns them."""

    def __init__(self, predictor: PixelPredictor, crf: CRF):
        self.predictor, self.crf = predictor, crf

    def __call__(self, image: torch.Tensor, size: tuple[int, int] | None = None) -> torch.Tensor:
        """Return probabilities, float32 (C, H, W). The field is as large as the image; another `size` resizes them."""
        probabilities = self.crf(self.predictor.probabilities(image), image)
        return probabilities if size is None else resize_logits(probabilities[None], size)[0]

    def as_probabilities(self, scores: torch.Tensor, image_size: Sequence[int]) -> torch.Tensor:
        """Return `scores`: they are probabilities."""
        return scores

    def memory(self, image_size: Sequence[int]) -> int:
        return max(self.predictor.memory(image_size), self.crf.memory(self.classes, image_size))

    @property
    def classes(self) -> int:
        return self.predictor.classes

    @property
    def device(self) -> torch.device:
        return self.predictor.device


class Filter:
    """A Gaussian filter with a standard deviation of 1 over `features` (N, d), divided symmetrically by its sums.

    `filter(values)` maps float32 (N, C) to D^(-1/2) K D^(-1/2) values, where K holds the Gaussians between the N
    features and D the row sums of K. The kernels' symmetric division is that of the authors' code.

    Raises ValueError if the features lie too far apart for the lattice's keys.
    """

    def __init__(self, features: torch.Tensor):
        vertices, weights, keys = lattice(features)
        self.neighbours = neighbours_of(keys, features.shape[1])
        self.splat, self.slice = interpolation(vertices, weights, len(keys))
        ones = torch.ones(len(features), 1, device=features.device)
        self.scale = self._filter(ones).clamp(min=1e-20).rsqrt()

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        return self._filter(values * self.scale).mul_(self.scale)

    def _filter(self, values: torch.Tensor) -> torch.Tensor:
        """Splat the values onto the lattice, blur it along each of its axes, and read the result."""
        points = self.splat @ values
        zero = points.new_zeros(1, points.shape[1])  # stands for neighbours that are not there
        for before, after in self.neighbours:
            padded = torch.cat([points, zero])
            points = points + 0.5 * (padded[before] + padded[after])
        dimensions = len(self.neighbours) - 1
        return self.slice @ (points / (1 + 2.0**-dimensions))


class Smoothing:
    """A Gaussian filter over the positions of an image of `size` (H, W), divided like `Filter`.

    It maps float32 (H * W, C). The kernel ends after three standard deviations `std`, which are in pixels.
    """

    def __init__(self, size: tuple[int, int], std: float, device: torch.device):
        self.size = size
        radius = max(1, round(3 * std))
        self.weights = [math.exp(-0.5 * (step / std) ** 2) for step in range(radius + 1)]
        self.scale = self._filter(torch.ones(size[0] * size[1], 1)).rsqrt().to(device)

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        return self._filter(values * self.scale).mul_(self.scale)

    def _filter(self, values: torch.Tensor) -> torch.Tensor:
        maps = values.view(*self.size, -1)
        for axis in (0, 1):
            total = maps.clone()
            for step, weight in enumerate(self.weights[: self.size[axis]][1:], start=1):
                length = self.size[axis] - step
                total.narrow(axis, 0, length).add_(maps.narrow(axis, step, length), alpha=weight)
                total.narrow(axis, step, length).add_(maps.narrow(axis, 0, length), alpha=weight)
            maps = total
        return maps.flatten(0, 1)


def lattice(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the simplex around each of N features of d dimensions, in the lattice of Adams et al., section 3.

    Returns the indices (d + 1, N) of its corners, their barycentric weights (d + 1, N), and the keys of all corners
    that occur, int64 in ascending order: their first d coordinates, packed as `pack` does.
    """
    number, d = features.shape
    # Onto the plane where d + 1 coordinates sum to 0, scaled so that splatting and blurring have a deviation of 1.
    steps = torch.arange(1, d + 1, device=features.device)
    scaled = features * ((d + 1) * (2 / 3) ** 0.5 / (steps * (steps + 1)).float().sqrt())
    later = scaled.flip(1).cumsum(1).flip(1)  # sum of this and the later ones
    place = torch.cat([later, torch.zeros_like(later[:, :1])], dim=1)
    place[:, 1:] -= steps * scaled
    # The nearest point whose coordinates are multiples of d + 1, and the order of the distances to it
    near = torch.round(place / (d + 1))
    excess = near.sum(1).long()
    near *= d + 1
    rank = excess[:, None] + descending_rank(place - near)
    near += (d + 1) * ((rank < 0).float() - (rank > d).float())
    rank = rank + (d + 1) * ((rank < 0).long() - (rank > d).long())
    # Weights of the corners, from the distances in descending order
    distances = (place - near) / (d + 1)
    sorted_distances = torch.zeros_like(distances).scatter_(1, rank, distances)
    weights = torch.empty_like(distances)
    weights[:, 1:] = (sorted_distances[:, :-1] - sorted_distances[:, 1:]).flip(1)
    weights[:, 0] = 1 - weights[:, 1:].sum(1)
    corners = torch.arange(d + 1, device=features.device)[:, None, None]
    coordinates = near.long()[:, :d] + corners - (d + 1) * (rank[:, :d] > d - corners)
    keys, vertices = torch.unique(pack(coordinates.reshape(-1, d)), return_inverse=True)
    return vertices.view(d + 1, number), weights.t().contiguous(), keys


def descending_rank(values: torch.Tensor) -> torch.Tensor:
    """Return the rank of each entry of a row of `values` (N, k), 0 for the largest. Of equal ones, the first leads."""
    rank = torch.zeros(values.shape, dtype=torch.int64, device=values.device)
    for i in range(values.shape[1]):
        for j in range(i + 1, values.shape[1]):
            first = values[:, i] >= values[:, j]
            rank[:, j] += first
            rank[:, i] += ~first
    return rank


def interpolation(vertices: torch.Tensor, weights: torch.Tensor, points: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sparse matrices that spread N values over `points` lattice points, and that read them back.

    vertices, weights  of the corners around each value, (d + 1, N)
    """
    corners, number = vertices.shape
    ends = torch.arange(0, corners * number + 1, corners, device=vertices.device)
    entries = vertices.t().flatten(), weights.t().flatten()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        read = torch.sparse_csr_tensor(ends, *entries, (number, points), check_invariants=False)
        return read.t().to_sparse_csr(), read


def pack(coordinates: torch.Tensor) -> torch.Tensor:
    """Return one int64 for each row of `coordinates` (N, d)."""
    d = coordinates.shape[1]
    bits = 62 // d
    least = -(2 ** (bits - 1))
    if coordinates.min() <= least or coordinates.max() >= -least - 1:  # one more on each side for neighbours
        raise ValueError("the image is too large for this field: give larger standard deviations")
    return ((coordinates - least) << (bits * torch.arange(d, device=coordinates.device))).sum(1)


def neighbours_of(keys: torch.Tensor, d: int) -> torch.Tensor:
    """Return the indices (d + 1, 2, M) of the neighbours of M lattice points along each axis; M where there is none."""
    bits = 62 // d
    found = []
    units = 1 << (bits * torch.arange(d, device=keys.device))
    for axis in range(d + 1):
        step = units.sum() - ((d + 1) * units[axis] if axis < d else 0)
        pair = []
        for wanted in (keys + step, keys - step):
            index = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
            pair.append(torch.where(keys[index] == wanted, index, len(keys)))
        found.append(torch.stack(pair))
    return torch.stack(found)
