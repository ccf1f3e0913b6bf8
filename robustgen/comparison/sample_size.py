"""How many samples a paired comparison needs.

All of it rests on the discordance: the mean square of B minus A. For decisions of 0
and 1 that is the share of samples on which two runs disagree.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import binom, norm

from robustgen.errors import RequestError
from robustgen.intervals import CONFIDENCE

SMALLEST_MARGIN = 0.005
"""Below it a row may need more than 300,000 samples."""


@dataclass(frozen=True)
class Plan:
    """What a comparison should be able to find.

    Args:
        margin: Difference of accuracy, a share in [0.005, 1].
        power: Chance of finding it, in [0.5, 1).
        alpha: Level of the test of one row, in (0, 0.5].

    Raises:
        RequestError: a number is outside its range.
    """

    margin: float
    power: float = 0.8
    alpha: float = 0.05

    def __post_init__(self) -> None:
        if not SMALLEST_MARGIN <= self.margin <= 1:
            raise RequestError(
                f"--margin is a share of samples from {SMALLEST_MARGIN:g} to 1, such "
                f"as 0.02 for two points; not {self.margin:g}."
            )
        if not 0.5 <= self.power < 1:
            raise RequestError(
                f"--power is a chance from 0.5 to below 1, such as 0.8; not "
                f"{self.power:g}."
            )
        if not 0 < self.alpha <= 0.5:
            raise RequestError(
                f"--alpha is the level of a test, above 0 and at most 0.5, such as "
                f"0.05; not {self.alpha:g}."
            )


def connor_size(discordance: float, plan: Plan) -> int:
    """Number of pairs for McNemar's test by the formula for large samples.

    Connor (1987, Biometrics 43, equation 3; Miettinen 1968 has the same form):
    n = (z_a sqrt(psi) + z_b sqrt(psi - delta²))² / delta², with the discordance psi,
    the difference delta, and normal quantiles of 1 - alpha / 2 and of the power.

    Args:
        discordance: psi, at least the margin and at most 1.
        plan: What should be found; its margin is delta.

    >>> connor_size(0.25, Plan(0.1))
    194
    """
    z_a = float(norm.ppf(1 - plan.alpha / 2))
    z_b = float(norm.ppf(plan.power))
    spread = z_a * math.sqrt(discordance)
    spread += z_b * math.sqrt(max(0.0, discordance - plan.margin**2))
    return math.ceil((spread / plan.margin) ** 2)


def exact_power(n: int, discordance: float, difference: float, alpha: float) -> float:
    """Chance that McNemar's exact test on n pairs finds a difference, in its direction.

    The number of discordant pairs is binomial, and given it the number that favors the
    better side; the two-sided test rejects where p <= alpha.

    Args:
        n: Number of pairs.
        discordance: Share of pairs that disagree, at least `difference`.
        difference: Difference of the two shares, above 0.
        alpha: Level of the test.

    >>> round(exact_power(6, 1.0, 1.0, 0.05), 6), exact_power(5, 1.0, 1.0, 0.05)
    (1.0, 0.0)
    """
    center = n * discordance
    # Beyond six standard deviations, and a few pairs, lies less than 1e-8.
    reach = 6 * math.sqrt(center * (1 - discordance)) + 30
    counts = np.arange(max(0, int(center - reach)), min(n, int(center + reach)) + 1)
    chance = binom.pmf(counts, n, discordance)
    # The fewest favorable pairs of which so many or more have a chance of alpha / 2.
    needed = binom.isf(alpha / 2, counts, 0.5) + 1
    favorable = (1 + difference / discordance) / 2
    return float((chance * binom.sf(needed - 1, counts, favorable)).sum())


def size_for_difference(discordance: float, plan: Plan, step: float = 1.0) -> int:
    """Number of samples at which the exact paired test finds a difference.

    The search starts at Connor's formula. The exact test needs more, by up to
    2 / margin, as its p-values come in steps; where nearly all pairs that disagree go
    one way and the power is high, the formula asks for too many.

    Args:
        discordance: Mean square of B minus A. One too small for the margin counts as
            the least that it needs: all samples that change go one way.
        plan: What should be found.
        step: How far a sample that changes moves, in (0, 1]: 1 for decisions. Shares of
            draws are planned as decisions that count for one step each.
    """
    step = max(step, plan.margin)
    scaled = replace(plan, margin=plan.margin / step)
    spread = min(1.0, max(discordance / step**2, scaled.margin))

    def enough(n: int) -> bool:
        return exact_power(n, spread, scaled.margin, plan.alpha) >= plan.power

    high = connor_size(spread, scaled)
    while not enough(high):
        high += max(1, high // 4)
    return _smallest(enough, high)


def size_for_half_width(discordance: float, difference: float, margin: float) -> int:
    """Number of samples at which half of `intervals.paired_interval` is the margin.

    Args:
        discordance: Mean square of B minus A.
        difference: Mean of B minus A.
        margin: Half-width wanted, a share.

    >>> size_for_half_width(0.0, 0.0, 0.02)
    137
    """
    z = float(norm.ppf((1 + CONFIDENCE) / 2))

    def enough(n: int) -> bool:
        square = (n * discordance + 2) / (n + 2)
        mean = n * difference / (n + 2)
        return z * math.sqrt((square - mean**2) / (n + 2)) <= margin

    high = 1
    while not enough(high):
        high *= 2
    return _smallest(enough, high)


def _smallest(enough: Callable[[int], bool], high: int) -> int:
    """The smallest positive number that is enough, where `high` is, by bisection."""
    low = 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
