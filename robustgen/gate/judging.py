"""What the gate says of each row: the statistics, on the same samples.

The test is exact and two-sided, corrected over the rows; the margin is held against an
interval. Formulae and reasons: docs/gate.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Int
from scipy.stats import norm

from robustgen.gate.baseline import BaselineRow, RowName
from robustgen.intervals import (
    CONFIDENCE,
    holm,
    paired_interval,
    sign_flip_p,
    whole_steps,
)
from robustgen.outcomes import CLEAN

MARGIN = 0.01
"""Change of accuracy that does no harm, by default."""

ALPHA = 0.01
"""Chance that the gate fails although nothing changed, at most, by default."""

POWER = 0.8
"""Chance of showing that nothing changed, for which samples are counted."""

GateVerdict: TypeAlias = Literal[
    "identical",
    "unchanged",
    "within margin",
    "improved",
    "undecided",
    "defense weaker",
    "attack weaker",
    "refused",
]

FAILURES = ("defense weaker", "attack weaker")
"""Verdicts that fail the gate."""


@dataclass(frozen=True)
class Judgment:
    """One row of the baseline beside the same row of a run.

    Args:
        name: Which row.
        verdict: What the gate says.
        n: Number of samples.
        before: Accuracy in the baseline.
        now: Accuracy in the run.
        low: Lower end of the interval of the difference.
        high: Upper end of it.
        gained: Samples that are right in more draws than before.
        lost: Samples that are right in fewer.
        p_value: Of the exact paired test that nothing changed.
        p_corrected: The same by Holm over all rows that could come out significant; 1
            for rows that could not, NaN for a refused row.
        needed: Samples that would settle an undecided row; 0 for others.
        checks: What the checks have against a refused row.
    """

    name: RowName
    verdict: GateVerdict
    n: int
    before: float
    now: float
    low: float
    high: float
    gained: int
    lost: int
    p_value: float
    p_corrected: float
    needed: int
    checks: tuple[str, ...] = ()

    @property
    def difference(self) -> float:
        """Accuracy now minus before."""
        return self.now - self.before

    @property
    def failed(self) -> bool:
        """Whether this row alone fails the gate."""
        return self.verdict in FAILURES


@dataclass(frozen=True)
class _Change:
    """What is measured before anything is decided."""

    before: BaselineRow
    now: BaselineRow
    gained: int
    lost: int
    low: float
    high: float
    p_value: float
    smallest_p: float
    variance: float


def judge(
    rows: Sequence[tuple[BaselineRow, BaselineRow]],
    *,
    margin: float = MARGIN,
    alpha: float = ALPHA,
) -> list[Judgment]:
    """Judges all rows that a baseline and a run share.

    Args:
        rows: Row of the baseline and row of the run, on the same samples. Rows of the
            run that are not TRUSTED are refused and take no part in the correction.
        margin: Change of accuracy that does no harm, a share in [0, 1).
        alpha: Chance of one false failure or more among all rows, at most.
    """
    changes = [_measure(before, now) for before, now in rows]
    judged = [place for place, (_, now) in enumerate(rows) if now.verdict == "TRUSTED"]
    corrected = dict(zip(judged, [1.0] * len(judged), strict=True))
    within = decidable([changes[place].smallest_p for place in judged], alpha)
    tested = [judged[place] for place in within]
    p_values = [changes[place].p_value for place in tested]
    corrected |= dict(zip(tested, holm(p_values), strict=True))
    return [
        _judgment(change, corrected.get(place, math.nan), margin, alpha)
        for place, change in enumerate(changes)
    ]


def decidable(smallest: Sequence[float], alpha: float) -> list[int]:
    """Tests that can come out significant beside each other (Tarone, 1990).

    Few flips cannot give a small p-value, whatever their signs. How many samples moved
    says nothing about the direction that is tested, so tests may be left out by it, and
    the others are corrected for fewer (Biometrics 46(2), 515-522).

    Args:
        smallest: The smallest p-value that each test can give.
        alpha: Level of the family.

    Returns:
        Indices of the tests kept, at most k of them, each with a smallest p-value of at
        most alpha / k, for the least such k.

    >>> decidable([1.0, 1.0, 0.001, 0.5], 0.01)
    [2]
    """
    for count in range(1, len(smallest) + 1):
        kept = [place for place, p in enumerate(smallest) if p <= alpha / count]
        if len(kept) <= count:
            return kept
    return []


def steps(before: BaselineRow, now: BaselineRow) -> Int[np.ndarray, " n"]:
    """Now minus before per sample, in whole numbers of a common denominator.

    Args:
        before: Right in so many of `of` resamples or draws.
        now: The same samples; `of` may be another.
    """
    return whole_steps(
        np.array(before.right, np.int64),
        before.of,
        np.array(now.right, np.int64),
        now.of,
    )


def samples_needed(variance: float, margin: float) -> int:
    """Samples after which the interval lies inside the margin, if nothing changed.

    It does so with a chance of `POWER`: half of what is left may lie on either side.

    Args:
        variance: Of a sample's difference.
        margin: Change of accuracy that does no harm.

    >>> samples_needed(0.02, 0.01)
    2102
    """
    if margin <= 0:
        return 0
    reach = float(norm.ppf((1 + CONFIDENCE) / 2) + norm.ppf((1 + POWER) / 2))
    return math.ceil(reach**2 * variance / margin**2)


def _measure(before: BaselineRow, now: BaselineRow) -> _Change:
    moved = steps(before, now)
    delta = moved / math.lcm(before.of, now.of)
    low, high = paired_interval(delta)
    return _Change(
        before=before,
        now=now,
        gained=int((moved > 0).sum()),
        lost=int((moved < 0).sum()),
        low=low,
        high=high,
        p_value=sign_flip_p(moved),
        # All that moved, one way: two of all 2^k patterns of signs.
        smallest_p=min(1.0, 2.0 ** (1 - int((moved != 0).sum()))),
        # Two samples that disagree are added, as in the interval.
        variance=(float(np.square(delta).sum()) + 2) / (len(delta) + 2),
    )


def _judgment(
    change: _Change, p_corrected: float, margin: float, alpha: float
) -> Judgment:
    verdict = _verdict(change, p_corrected, margin, alpha)
    needed = samples_needed(change.variance, margin) if verdict == "undecided" else 0
    return Judgment(
        name=change.before.name,
        verdict=verdict,
        n=change.now.n,
        before=change.before.accuracy,
        now=change.now.accuracy,
        low=change.low,
        high=change.high,
        gained=change.gained,
        lost=change.lost,
        p_value=change.p_value,
        p_corrected=p_corrected,
        needed=needed,
        checks=change.now.checks,
    )


def _verdict(
    change: _Change, p_corrected: float, margin: float, alpha: float
) -> GateVerdict:
    if math.isnan(p_corrected):
        return "refused"
    if change.gained == change.lost == 0:
        return "identical"
    attacked = change.before.attack != CLEAN
    may_have_dropped = change.low < -margin
    # Clean accuracy may rise as it likes; under an attack a rise needs a reason.
    may_have_risen = attacked and change.high > margin
    if p_corrected < alpha:
        if change.now.accuracy < change.before.accuracy:
            return "defense weaker" if may_have_dropped else "within margin"
        if attacked:
            return "attack weaker" if may_have_risen else "within margin"
        return "improved"
    return "undecided" if may_have_dropped or may_have_risen else "unchanged"
