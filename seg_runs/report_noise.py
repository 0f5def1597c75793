"""Tell differences between groups of runs from noise.

The model of a score is: effect of the group + effect of the validation images + noise, where the noise has the same
deviation in all runs. Groups are configurations; the images are the fold that a run is scored on. This is the analysis
of variance of an incomplete block design. With seeds only, its noise is the pooled deviation of the runs within their
groups. With one run for each fold, it is how much the difference between two groups varies from fold to fold.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

# 97.5 % quantiles of Student's t distribution with 1, 2, ... degrees of freedom
QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
NORMAL = 1.95996  # the same quantile of the normal distribution


@dataclass(frozen=True)
class Difference:
    """How much one group scores above another.

    value   difference of the scores, on the validation images that the groups share
    margin  half the width of its 95 % interval, or None if no noise is known
    """

    value: float
    margin: float | None

    @property
    def is_noise(self) -> bool | None:
        """Whether noise alone may explain it, or None if no noise is known."""
        return None if self.margin is None else abs(self.value) <= self.margin + 1e-9


@dataclass(frozen=True)
class Design:
    """Which run has which group and which images, made ready for fits. Effects are those of groups, then of images.

    matrix     (runs, effects), 0 and 1
    inverse    pseudo-inverse of its product with itself, (effects, effects)
    estimable  projection on the combinations of effects that the runs determine, (effects, effects)
    columns    {group: its column in `matrix`}
    """

    matrix: np.ndarray
    inverse: np.ndarray
    estimable: np.ndarray
    columns: dict[int, int]

    @property
    def freedom(self) -> int:
        """Degrees of freedom that are left for the noise."""
        return len(self.matrix) - round(float(np.trace(self.estimable)))


@lru_cache(maxsize=64)  # classes that occur in the same runs share their design
def design_of(groups: tuple[int, ...], images: tuple[Hashable, ...]) -> Design:
    columns = {group: k for k, group in enumerate(dict.fromkeys(groups))}
    blocks = {block: k for k, block in enumerate(dict.fromkeys(images), len(columns))}
    matrix = np.zeros((len(groups), len(columns) + len(blocks)))
    for row, (group, block) in enumerate(zip(groups, images, strict=True)):
        matrix[row, [columns[group], blocks[block]]] = 1
    sizes, axes = np.linalg.eigh(matrix.T @ matrix)
    large = sizes > 1e-9 * len(groups)
    sizes, axes = sizes[large], axes[:, large]
    return Design(matrix, axes / sizes @ axes.T, axes @ axes.T, columns)


class Fit:
    """The least-squares fit of the scores of runs.

    deviation  of a run, beside the effects of its group and its images; None without degrees of freedom
    """

    def __init__(self, groups: Sequence[int], images: Sequence[Hashable], scores: Sequence[float]):
        """Fit `scores`. `groups` and `images` say which run has which. Leaves out runs without a score (nan)."""
        known = [i for i, score in enumerate(scores) if not np.isnan(score)]
        self._design = design_of(tuple(groups[i] for i in known), tuple(images[i] for i in known))
        values = np.array([scores[i] for i in known], dtype=float)
        self._effects = self._design.inverse @ self._design.matrix.T @ values
        residuals = values - self._design.matrix @ self._effects
        freedom = self.freedom
        self.deviation = float(np.sqrt(residuals @ residuals / freedom)) if freedom else None

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the deviation."""
        return self._design.freedom

    def difference(self, group: int, other: int) -> Difference | None:
        """Return how much `group` scores above `other`, or None if they share no images, directly or through others."""
        design = self._design
        if group not in design.columns or other not in design.columns:
            return None
        contrast = np.zeros(len(self._effects))
        contrast[design.columns[group]] += 1
        contrast[design.columns[other]] -= 1
        if not np.allclose(contrast @ design.estimable, contrast, atol=1e-6):
            return None
        value = float(contrast @ self._effects)
        if self.deviation is None:
            return Difference(value, None)
        variance = max(0.0, float(contrast @ design.inverse @ contrast))
        return Difference(value, quantile(design.freedom) * self.deviation * math.sqrt(variance))


def quantile(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t distribution.

    Beyond the table, the first terms of its expansion around the normal distribution are exact to 0.002 (Fisher and
    Cornish, 1960).
    """
    if freedom <= len(QUANTILES):
        return QUANTILES[freedom - 1]
    z = NORMAL
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / freedom + second / freedom**2


def mean_and_deviation(scores: Sequence[float]) -> tuple[float, float]:
    """Return the mean of the known scores and their sample deviation: nan without any, and of fewer than two."""
    known = np.array([score for score in scores if not np.isnan(score)])
    mean = float(known.mean()) if len(known) else float("nan")
    return mean, float(known.std(ddof=1)) if len(known) > 1 else float("nan")
