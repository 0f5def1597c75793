"""Temperature scaling: make a network as sure as it is right (Guo et al., 2017, arXiv 1706.04599, section 4.2).

The logarithms of the probabilities are divided by one number, the temperature. The order of the classes stays the same,
so no prediction changes.
"""

import torch
import torch.nn.functional as F

LEAST, MOST = 0.05, 20.0  # temperatures
STEPS = 50


def at_temperature(probabilities: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return softmax(log p / temperature) of probabilities p (C, ...), over their first dimension."""
    return (log(probabilities) / temperature).softmax(0)


def fit_temperature(probabilities: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the temperature with the least mean -log p of the labels, between `LEAST` and `MOST`.

    probabilities  (N, C), of N pixels
    labels         (N,), none ignored

    The mean is convex in 1 / temperature, so its derivative has one zero. It is found by bisection.
    """
    scores = log(probabilities).double()
    of_label = scores.gather(1, labels.long()[:, None]).mean()
    low, high = 1 / MOST, 1 / LEAST
    for _ in range(STEPS):
        middle = (low * high) ** 0.5
        slope = ((scores * middle).softmax(1) * scores).sum(1).mean() - of_label
        low, high = (middle, high) if slope < 0 else (low, middle)
    return 1 / (low * high) ** 0.5


def at_end_of_range(temperature: float) -> bool:
    """Whether a fitted temperature is `LEAST` or `MOST`: a better one may lie beyond."""
    return not 1.001 * LEAST < temperature < 0.999 * MOST


def negative_log_likelihood(probabilities: torch.Tensor, labels: torch.Tensor, temperature: float = 1.0) -> float:
    """Return the mean -log p of the labels (N,) at a temperature, for probabilities (N, C)."""
    return F.cross_entropy(log(probabilities).double() / temperature, labels.long()).item()


def log(probabilities: torch.Tensor) -> torch.Tensor:
    """Return log p in float32, finite also where p is 0."""
    return probabilities.float().clamp(min=1e-12).log()


def confidence(probabilities: torch.Tensor) -> torch.Tensor:
    """Return the largest probability (H, W) of (C, H, W)."""
    return probabilities.amax(0)


def entropy(probabilities: torch.Tensor) -> torch.Tensor:
    """Return the entropy (H, W) of probabilities (C, H, W), divided by that of equal ones: from 0 to 1."""
    classes = max(2, len(probabilities))
    return torch.special.entr(probabilities).sum(0) / torch.log(torch.tensor(float(classes)))


MEASURES = {"confidence": confidence, "entropy": entropy}  # by their names in --save
