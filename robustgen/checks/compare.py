"""Which differences lie beyond chance.

Tolerances are two standard errors of a paired difference, or the exact test that
this stands for where counts are small. All tests ask for one direction at 2.5%.
"""

import math

import numpy as np
from jaxtyping import Float
from scipy.stats import binomtest

from robustgen.intervals import CONFIDENCE, mcnemar_p

TOLERANCE = 2.0
"""Standard errors that a difference may have by chance."""

LEVEL = (1 - CONFIDENCE) / 2
"""Chance of exceeding two standard errors in one direction, rounded to 2.5%."""


def exceeds(higher: Float[np.ndarray, " n"], lower: Float[np.ndarray, " n"]) -> bool:
    """Whether the first mean lies above the second beyond chance, on the same samples.

    Where each sample is right or wrong this is McNemar's exact test. Shares of draws
    are compared by `sum(d) / sqrt(sum(d^2))`, its normal form, which needs at least
    five samples to reach two standard errors.

    Args:
        higher: Values in [0, 1], one per sample.
        lower: The same samples, in the same order.

    >>> exceeds(np.ones(6), np.zeros(6)), exceeds(np.ones(5), np.zeros(5))
    (True, False)
    """
    delta = higher - lower
    total = float(delta.sum())
    if total <= 0:
        return False
    if np.isin(delta, (-1.0, 0.0, 1.0)).all():
        gained, lost = int((delta > 0).sum()), int((delta < 0).sum())
        return mcnemar_p(gained, lost) <= 1 - CONFIDENCE
    return total > TOLERANCE * math.sqrt(float((delta**2).sum()))


def same_images_exceed(higher: float, lower: float, n: int) -> bool:
    """The same for two accuracies on the same `n` images that were kept as shares.

    How many images changed in either direction is not known; the fewest that fit the
    difference are assumed, so that six images in one direction lie beyond chance.

    >>> same_images_exceed(0.6, 0.0, 10), same_images_exceed(0.5, 0.0, 10)
    (True, False)
    """
    gained = round((higher - lower) * n)
    return gained > 0 and mcnemar_p(gained, 0) <= 1 - CONFIDENCE


def other_images_exceed(
    higher: float, n_higher: int, lower: float, n_lower: int
) -> bool:
    """The same for accuracies on two sets of images.

    One success and one failure are added to each set (Agresti and Caffo, 2000), so
    that a share of 0 or 1 of few images is not taken for certain.

    >>> other_images_exceed(0.9, 20, 0.3, 20), other_images_exceed(0.5, 10, 0.4, 10)
    (True, False)
    """

    def added(share: float, n: int) -> tuple[float, float]:
        moved = (share * n + 1) / (n + 2)
        return moved, moved * (1 - moved) / (n + 2)

    (first, first_variance), (second, second_variance) = (
        added(higher, n_higher),
        added(lower, n_lower),
    )
    return first - second > TOLERANCE * math.sqrt(first_variance + second_variance)


def share_exceeds(share: float, limit: float, n: int) -> bool:
    """Whether a share of `n` images lies above a limit beyond chance (exact binomial).

    >>> share_exceeds(0.5, 0.05, 20), share_exceeds(1 / 16, 0.05, 16)
    (True, False)
    """
    right = round(share * n)
    if n == 0 or right <= limit * n:
        return False
    return bool(binomtest(right, n, limit, alternative="greater").pvalue <= LEVEL)
