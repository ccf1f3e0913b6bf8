"""How far a share or a difference may be off, at 95%.

All intervals are over samples: what another draw of test images from the same source
would change. They say nothing about other trainings of the assets.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import binomtest, norm
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


def share_mean_interval(
    right: Float[np.ndarray, " k"], n: Int[np.ndarray, " k"]
) -> Interval:
    """Interval of the unweighted mean of K independent shares, in closed form.

    The hull of two intervals. MOVER adds the distances of each share from the ends of
    its Wilson interval as squares (Zou & Donner, 2008, Statistics in Medicine 27(10));
    it is too low for ten shares near 1: 0.88 of such intervals hold the truth. Wilson's
    of the effective number of samples (Korn & Graubard, 1998, Survey Methodology 24(2))
    is right there, and too narrow for two shares of very unequal `n`. For one share
    both are `wilson_interval`. Neither shrinks to a point where all samples agree.

    Args:
        right: Sums of values in [0, 1], one per share.
        n: Numbers of independent samples, at least 1 each.

    >>> ends = share_mean_interval(np.array([200.0, 90.0]), np.array([200, 100]))
    >>> [round(end, 4) for end in ends]
    [0.9116, 0.9724]
    """
    if not len(n):
        return Interval(float("nan"), float("nan"))
    lows, highs = _wilson_ends(right / n, n.astype(np.float64))
    shares = right / n
    mean = float(shares.mean())
    below, above = (
        float(np.sqrt(np.square(d).sum())) / len(n)
        for d in (shares - lows, highs - shares)
    )
    low, high = _wilson_ends(np.array([mean]), np.array([_effective(shares, n)]))
    return Interval(
        max(0.0, min(mean - below, float(low[0]))),
        min(1.0, max(mean + above, float(high[0]))),
    )


def _wilson_ends(
    shares: Float[np.ndarray, " k"], n: Float[np.ndarray, " k"]
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Both ends of Wilson's interval, of numbers of samples that need not be whole."""
    z = float(norm.ppf((1 + CONFIDENCE) / 2))
    center = (shares + z**2 / (2 * n)) / (1 + z**2 / n)
    half = np.sqrt(shares * (1 - shares) / n + (z / (2 * n)) ** 2) * z / (1 + z**2 / n)
    return np.clip(center - half, 0.0, 1.0), np.clip(center + half, 0.0, 1.0)


def _effective(shares: Float[np.ndarray, " k"], n: Int[np.ndarray, " k"]) -> float:
    """Samples of one share whose estimate would vary as the mean of these does.

    Two samples of the mean are added to each share, so that one of 0 or 1 varies too.
    """
    drawn = (shares * n + 2 * shares.mean()) / (n + 2)
    variance = float((drawn * (1 - drawn) / n).sum()) / len(n) ** 2
    mean = float(drawn.mean())
    if variance == 0:
        return len(n) ** 2 / float((1 / n).sum())
    return mean * (1 - mean) / variance


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


def paired_interval(delta: Float[np.ndarray, " n"]) -> Interval:
    """Bonett and Price's adjusted Wald interval of a mean paired difference.

    Two samples are added that disagree, one each way, so that the interval does not
    shrink to a point where all samples agree. For values of 0 and 1 this is the
    published interval (Bonett & Price, 2012, Journal of Educational and Behavioral
    Statistics 37(4)); shares take the same moments.

    Args:
        delta: Second minus first, values in [-1, 1], one per sample.

    >>> [round(end, 4) for end in paired_interval(np.zeros(300))]
    [-0.0092, 0.0092]
    """
    n = len(delta)
    if n == 0:
        return Interval(float("nan"), float("nan"))
    mean = float(delta.sum()) / (n + 2)
    square = (float(np.square(delta).sum()) + 2) / (n + 2)
    half = float(norm.ppf((1 + CONFIDENCE) / 2)) * math.sqrt(
        (square - mean**2) / (n + 2)
    )
    return Interval(max(-1.0, mean - half), min(1.0, mean + half))


def whole_steps(
    first: Int[np.ndarray, " n"],
    first_of: int,
    second: Int[np.ndarray, " n"],
    second_of: int,
) -> Int[np.ndarray, " n"]:
    """Second minus first share of each sample, in whole numbers.

    Args:
        first: Draws that are right, one number per sample.
        first_of: Draws of each sample.
        second: The same samples, in the same order.
        second_of: Draws of each sample; may be another number.

    Returns:
        Differences in units of one over the least common multiple of both numbers.

    >>> whole_steps(np.array([1, 0]), 1, np.array([3, 3]), 4)
    array([-1,  3])
    """
    whole = math.lcm(first_of, second_of)
    return second * (whole // second_of) - first * (whole // first_of)


def sign_flip_p(steps: Int[np.ndarray, " n"]) -> float:
    """Two-sided p-value of the exact sign-flip test on paired samples.

    Under the null hypothesis a sample's difference is as likely to have the other
    sign. For decisions of 0 and 1 this is McNemar's exact test; shares of several
    draws count by how far they moved, so that many small losses are seen too.

    Args:
        steps: Second minus first in whole numbers, such as draws that are right, one
            per sample. Only their ratios matter.

    >>> sign_flip_p(np.array([-1, 0, -1, -1, -1, -1, -1])), mcnemar_p(0, 6)
    (0.03125, 0.03125)
    >>> sign_flip_p(np.array([2, -1]))
    1.0
    """
    sizes = np.abs(steps[steps != 0]).astype(np.int64)
    if not len(sizes):
        return 1.0
    sizes //= np.gcd.reduce(sizes)
    # The distribution of the number of steps up, out of all steps: a sum of
    # independent terms that are 0 or the sample's steps.
    chance = np.zeros(int(sizes.sum()) + 1)
    chance[0] = 1.0
    reached = 0
    for size in sizes.tolist():
        chance[size : reached + size + 1] += chance[: reached + 1].copy()
        chance[: reached + size + 1] /= 2
        reached += size
    sums = 2 * np.arange(reached + 1) - reached
    observed = abs(int(steps.sum())) // int(np.gcd.reduce(np.abs(steps)))
    return min(1.0, float(chance[np.abs(sums) >= observed].sum()))


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
    # Not multipletests of statsmodels: it collects garbage on every call, 0.1 to 0.8 s.
    p = np.asarray(p_values, dtype=np.float64)
    order = p.argsort()
    raised = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1.0)
    corrected = np.empty_like(p)
    corrected[order] = raised
    return corrected.tolist()
