"""Attacks of the same threat side by side: union, worst case, ranks.

Attacks within a radius are ranked by what they leave right, those of least norm by how
far they must go. Neighbors are compared by an exact test on the same samples.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from robustgen.intervals import holm, mcnemar_p, share, wilson_interval
from robustgen.strength.reach import distance_median
from robustgen.strength.series import SERIES_COLUMNS, Attempt, Row, Series

LEVEL = 0.05
"""Two attacks are told apart where the corrected p-value is below this."""

RANK_COLUMNS = (
    *SERIES_COLUMNS,
    "norm",
    "eps",
    "rank",
    "attack",
    "tier",
    "target",
    "n",
    "robust_accuracy",
    "robust_low",
    "robust_high",
    "clean_correct",
    "broken",
    "success_rate",
    "success_low",
    "success_high",
    "only",
    "left_out",
    "median_distance",
    "forwards",
    "backwards",
    "forwards_per_success",
    "behind",
    "ahead",
    "p_value",
    "p_corrected",
    "told_apart",
)

THREAT_COLUMNS = (
    *SERIES_COLUMNS,
    "norm",
    "eps",
    "attacks",
    "clean_correct",
    "union",
    "n",
    "accuracy",
    "ci_low",
    "ci_high",
)


class Comparison(NamedTuple):
    """An attack against the next stronger one, on clean-correct samples.

    Args:
        behind: Samples on which the stronger attack alone succeeds, or goes nearer.
        ahead: Samples on which the weaker attack does.
        p_value: Of the exact test that either is as likely.
        p_corrected: The same by Holm, over the neighbors of one ranking.
    """

    behind: int
    ahead: int
    p_value: float
    p_corrected: float

    @property
    def told_apart(self) -> bool:
        """Whether the test says that the stronger attack is the stronger one."""
        return self.p_corrected < LEVEL and self.behind > self.ahead


def threats_of(series: Series) -> dict[tuple[str, float], list[Attempt]]:
    """The attacks of a series by what they were allowed: norm and radius."""
    groups: dict[tuple[str, float], list[Attempt]] = {}
    for one in series.attempts:
        groups.setdefault((one.key.norm, one.key.eps), []).append(one)
    return groups


def only_broken(
    broken: Bool[np.ndarray, "attack n"],
) -> Bool[np.ndarray, "attack n"]:
    """Samples that one attack breaks and no other does.

    >>> only_broken(np.array([[True, True, False], [True, False, False]])).tolist()
    [[False, True, False], [False, False, False]]
    """
    return broken & (broken.sum(axis=0) == 1)


def compare_neighbors(series: Series, ordered: Sequence[Attempt]) -> list[Comparison]:
    """Every attack but the first against the one before it.

    Args:
        series: Where the attacks belong.
        ordered: Attacks of one threat, strongest first.
    """
    counts: list[tuple[int, int]] = []
    for strong, weak in itertools.pairwise(ordered):
        if math.isinf(strong.key.eps):
            near, far = series.distances(strong), series.distances(weak)
            counts.append((int((near < far).sum()), int((far < near).sum())))
        else:
            one, two = series.broken(strong), series.broken(weak)
            counts.append((int((one & ~two).sum()), int((two & ~one).sum())))
    p_values = [mcnemar_p(behind, ahead) for behind, ahead in counts]
    return [
        Comparison(behind, ahead, p, corrected)
        for (behind, ahead), p, corrected in zip(
            counts, p_values, holm(p_values), strict=True
        )
    ]


def ranks(comparisons: Sequence[Comparison]) -> list[int]:
    """Ranks from the strongest on; attacks that no test parts share one.

    After a shared rank as many are skipped as share it.
    """
    found = [1]
    for place, one in enumerate(comparisons, start=2):
        found.append(place if one.told_apart else found[-1])
    return found


def rank_rows(series: Series) -> list[Row]:
    """All attacks of a series, threat by threat, strongest first."""
    rows: list[Row] = []
    for group in threats_of(series).values():
        ordered = sorted(group, key=lambda one: _weakness(series, one))
        broken = np.stack([series.broken(one) for one in ordered])
        only = only_broken(broken).sum(axis=1)
        comparisons = compare_neighbors(series, ordered)
        above: list[Comparison | None] = [None, *comparisons]
        for one, rank, alone, comparison in zip(
            ordered, ranks(comparisons), only, above, strict=True
        ):
            rows.append(
                {
                    **_threat(series, one),
                    "rank": rank,
                    "attack": one.key.attack,
                    "tier": one.key.tier,
                    "target": one.key.target,
                    **_success(series, one),
                    "only": int(alone),
                    "left_out": share(int(alone), len(series.clean)),
                    **_effort(series, one),
                    **_against(comparison),
                }
            )
    return rows


def threat_rows(series: Series) -> list[Row]:
    """For every threat, what is right under all of its attacks and without one."""
    rows: list[Row] = []
    for group in threats_of(series).values():
        held = series.clean & np.stack([one.right for one in group]).all(axis=0)
        n, count = len(held), int(held.sum())
        low, high = wilson_interval(count, n)
        clean_correct = int(series.clean.sum())
        rows.append(
            {
                **_threat(series, group[0]),
                "attacks": len(group),
                "clean_correct": clean_correct,
                "union": clean_correct - count,
                "n": n,
                "accuracy": share(count, n),
                "ci_low": low,
                "ci_high": high,
            }
        )
    return rows


def _weakness(series: Series, one: Attempt) -> tuple[float, int, str]:
    """Order of strength within a threat; names part what is equal."""
    broken = int(series.broken(one).sum())
    return _median_distance(series, one), -broken, one.key.attack


def _median_distance(series: Series, one: Attempt) -> float:
    """Of a minimum-norm attack, infinite if most samples hold; of others 0."""
    if not math.isinf(one.key.eps) or not series.clean.any():
        return 0.0
    return distance_median(series.distances(one)).high


def _threat(series: Series, one: Attempt) -> Row:
    return {**series.row, "norm": one.key.norm, "eps": one.key.eps}


def _success(series: Series, one: Attempt) -> Row:
    n, clean_correct = len(series.clean), int(series.clean.sum())
    broken = int(series.broken(one).sum())
    robust = wilson_interval(clean_correct - broken, n)
    success = wilson_interval(broken, clean_correct)
    return {
        "n": n,
        "robust_accuracy": share(clean_correct - broken, n),
        "robust_low": robust.low,
        "robust_high": robust.high,
        "clean_correct": clean_correct,
        "broken": broken,
        "success_rate": share(broken, clean_correct),
        "success_low": success.low,
        "success_high": success.high,
    }


def _effort(series: Series, one: Attempt) -> Row:
    """Means over clean-correct samples, those that held included."""
    broken = int(series.broken(one).sum())
    clean_correct = int(series.clean.sum())
    totals = {
        name: float(one.cost[f"attack_{name}"][series.clean].sum(dtype=np.float64))
        for name in ("forwards", "backwards")
    }
    minimum = math.isinf(one.key.eps) and clean_correct
    return {
        "median_distance": _median_distance(series, one) if minimum else math.nan,
        "forwards": share(totals["forwards"], clean_correct),
        "backwards": share(totals["backwards"], clean_correct),
        "forwards_per_success": share(totals["forwards"], broken),
    }


def _against(one: Comparison | None) -> Row:
    if one is None:
        return {}
    return {**one._asdict(), "told_apart": one.told_apart}
