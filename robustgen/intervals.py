"""How far a share or a difference may be off, at 95%.

All intervals are over samples: what another draw of test images from the same source
would change. They say nothing about other trainings of the assets.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.stats import binomtest
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

CONFIDENCE = 0.95
BOOTSTRAP_RESAMPLES = 2000


class Interval(NamedTuple):
    """Two ends of an interval; both NaN where nothing was counted."""

    low: float
    high: float


class Difference(NamedTuple):
    """How a second measurement of the same samples differs from a first one.

    Args:
        mean: Mean of second minus first.
        low: Lower end of the interval.
        high: Upper end of the interval.
        gained: Number of samples on which the second is higher.
        lost: Number of samples on which the second is lower.
        n: Number of samples.
    """

    mean: float
    low: float
    high: float
    gained: int
    lost: int
    n: int


def share(right: float, n: float) -> float:
    """`right / n`, and NaN for an empty selection: nothing is not zero.

    >>> share(3, 4), share(0, 0)
    (0.75, nan)
    """
    return right / n if n else float("nan")


def wilson_interval(right: float, n: int) -> Interval:
    """Wilson's score interval of a share.

    Args:
        right: Sum of N values in [0, 1]. For values of 0 and 1 this is the textbook
            interval; fractional values (shares of resamples) vary less than 0 and 1
            of the same mean, so that the interval errs on the wide side. It never
            shrinks to a point, as a bootstrap does when all samples agree.
        n: Number of independent samples.

    >>> [round(end, 4) for end in wilson_interval(200, 200)]
    [0.9812, 1.0]
    """
    if n == 0:
        return Interval(float("nan"), float("nan"))
    ends = proportion_confint(right, n, alpha=1 - CONFIDENCE, method="wilson")
    # The ends leave [0, 1] by rounding where all samples agree.
    low, high = np.clip(np.asarray(ends, dtype=np.float64), 0.0, 1.0)
    return Interval(float(low), float(high))


def bootstrap_interval(
    values: Float[np.ndarray, " n"],
    rng: np.random.Generator,
    resamples: int = BOOTSTRAP_RESAMPLES,
) -> Interval:
    """Percentile bootstrap over samples of the mean of `values`.

    Args:
        values: One number per sample.
        rng: Source of the resamples. Consumed.
        resamples: Number of resamples; fewer make the ends themselves noisy.
    """
    n = len(values)
    if n == 0:
        return Interval(float("nan"), float("nan"))
    # Samples of equal value are interchangeable: drawing how often each value comes
    # up is the same bootstrap at the cost of the few values that occur.
    distinct, counts = np.unique(values, return_counts=True)
    drawn = rng.multinomial(n, counts / n, size=resamples)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(drawn @ distinct / n, [tail, 100 - tail])
    return Interval(float(low), float(high))


def paired_difference(
    first: Float[np.ndarray, " n"],
    second: Float[np.ndarray, " n"],
    rng: np.random.Generator,
) -> Difference:
    """Second minus first on the same samples, with a bootstrap interval.

    Args:
        first: Values in [0, 1], one per sample.
        second: The same samples, in the same order.
        rng: Source of the resamples. Consumed.
    """
    delta = second - first
    low, high = bootstrap_interval(delta, rng)
    return Difference(
        mean=share(float(delta.sum()), len(delta)),
        low=low,
        high=high,
        gained=int((delta > 0).sum()),
        lost=int((delta < 0).sum()),
        n=len(delta),
    )


def mcnemar_p(gained: int, lost: int) -> float:
    """Two-sided p-value of McNemar's exact test on paired samples.

    Under the null hypothesis each sample on which two measurements disagree is equally
    likely to favor either. Where none disagree, p is 1.

    Args:
        gained: Number of samples on which the second alone is right.
        lost: Number of samples on which the first alone is right.

    >>> mcnemar_p(0, 6), mcnemar_p(4, 4)
    (0.03125, 1.0)
    """
    if gained + lost == 0:
        return 1.0
    return float(binomtest(gained, gained + lost, 0.5).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: p-values that may be read side by side.

    The chance of one false finding or more among them stays below the level at which
    they are read.

    >>> [round(p, 4) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    if not p_values:
        return []
    corrected = np.asarray(multipletests(p_values, method="holm")[1])
    return corrected.tolist()
