"""How far an attack must go: accuracy over eps, area below it, distance to break."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from robustgen.intervals import bootstrap_interval, share, wilson_interval
from robustgen.seeding import numpy_rng
from robustgen.strength.series import SERIES_COLUMNS, Attempt, Row, Series

CURVE_COLUMNS = (
    *SERIES_COLUMNS,
    "attack",
    "norm",
    "eps",
    "n",
    "accuracy",
    "ci_low",
    "ci_high",
)

REACH_COLUMNS = (
    *SERIES_COLUMNS,
    "attack",
    "norm",
    "largest_eps",
    "n",
    "area",
    "area_low",
    "area_high",
    "clean_correct",
    "broken",
    "median_low",
    "median_high",
)


class Median(NamedTuple):
    """The distance within which half of the clean-correct samples are broken.

    It lies above `low` and at or below `high`. The two are equal where distances are
    known exactly; `high` is infinite where over half of the samples were never broken,
    and `low` then is the largest distance tried.
    """

    low: float
    high: float


@dataclass(frozen=True)
class EpsSweep:
    """The same attack at rising radii, against one path.

    Args:
        name: Name that the suite gives the sweep.
        norm: `linf` or `l2`.
        eps: The radii, rising, [E].
        right: Whether each sample is right at each radius, [E, N].
    """

    name: str
    norm: str
    eps: Float[np.ndarray, " eps"]
    right: Bool[np.ndarray, "eps n"]


def sweeps_of(series: Series, names: Mapping[str, str]) -> list[EpsSweep]:
    """The sweeps of a series, in the order of the run.

    Args:
        series: Attacks on one path.
        names: The sweep that an attack belongs to, by the attack's name.
    """
    groups: dict[tuple[str, str], list[Attempt]] = {}
    for one in series.attempts:
        if one.key.attack in names and math.isfinite(one.key.eps):
            place = (names[one.key.attack], one.key.norm)
            groups.setdefault(place, []).append(one)
    found: list[EpsSweep] = []
    for (name, norm), group in groups.items():
        rising = sorted(group, key=lambda one: one.key.eps)
        found.append(
            EpsSweep(
                name=name,
                norm=norm,
                eps=np.array([one.key.eps for one in rising]),
                right=np.stack([one.right for one in rising]),
            )
        )
    return found


def area(clean: Bool[np.ndarray, " n"], sweep: EpsSweep) -> Float[np.ndarray, " n"]:
    """Area below each sample's own curve of right (1) and wrong (0), in [0, 1].

    By the trapezoid rule from the clean image to the largest radius, divided by that
    radius. Their mean is the area below the accuracy.
    """
    eps = np.concatenate([[0.0], sweep.eps])
    right = np.concatenate([clean[None], sweep.right]).astype(np.float64)
    width = np.diff(eps)[:, None]
    return ((right[1:] + right[:-1]) / 2 * width).sum(axis=0) / eps[-1]


def sweep_median(clean: Bool[np.ndarray, " n"], sweep: EpsSweep) -> Median:
    """Median over clean-correct samples of the smallest radius that breaks them.

    A sample that is right again at a larger radius counts as broken at the smaller
    one. NaN where no sample is right without an attack.
    """
    wrong = ~sweep.right[:, clean]
    edges = np.concatenate([[0.0], sweep.eps, [np.inf]])
    place = np.where(wrong.any(axis=0), wrong.argmax(axis=0), len(sweep.eps))
    if not len(place):
        return Median(math.nan, math.nan)
    middle = int(_middle(place))
    return Median(float(edges[middle]), float(edges[middle + 1]))


def distance_median(distances: Float[np.ndarray, " m"]) -> Median:
    """Median of distances of which infinite ones stand for samples never broken.

    The smallest distance that at least half of the samples do not exceed; NaN where
    there are none.
    """
    if not len(distances):
        return Median(math.nan, math.nan)
    middle = float(_middle(distances))
    return Median(middle, middle)


def _middle(values: np.ndarray) -> float:
    return float(np.sort(values)[(len(values) - 1) // 2])


def curve_rows(series: Series, names: Mapping[str, str]) -> list[Row]:
    """Accuracy at every radius of every sweep, and at 0 on clean images."""
    return [
        {
            **series.row,
            "attack": sweep.name,
            "norm": sweep.norm,
            "eps": float(eps),
            **_accuracy(right),
        }
        for sweep in sweeps_of(series, names)
        for eps, right in zip(
            (0.0, *sweep.eps), (series.clean, *sweep.right), strict=True
        )
    ]


def reach_rows(series: Series, names: Mapping[str, str], *, seed: int) -> list[Row]:
    """Area and median distance of every sweep, and of every minimum-norm attack.

    Args:
        series: Attacks on one path.
        names: The sweep that an attack belongs to, by the attack's name.
        seed: Root of the bootstrap over samples that gives the areas' intervals.
    """
    rows: list[Row] = []
    for sweep in sweeps_of(series, names):
        areas = area(series.clean, sweep)
        rng = numpy_rng(seed, "area", *series.row.values(), sweep.name, sweep.norm)
        low, high = bootstrap_interval(areas, rng)
        broken = series.clean & ~sweep.right.all(axis=0)
        rows.append(
            {
                **series.row,
                "attack": sweep.name,
                "norm": sweep.norm,
                "largest_eps": float(sweep.eps[-1]),
                "n": len(areas),
                "area": share(float(areas.sum()), len(areas)),
                "area_low": low,
                "area_high": high,
                **_counts(series, broken, sweep_median(series.clean, sweep)),
            }
        )
    for one in series.attempts:
        if math.isinf(one.key.eps):
            median = distance_median(series.distances(one))
            rows.append(
                {
                    **series.row,
                    "attack": one.key.attack,
                    "norm": one.key.norm,
                    "largest_eps": math.inf,
                    "n": len(series.clean),
                    "area": math.nan,
                    "area_low": math.nan,
                    "area_high": math.nan,
                    **_counts(series, series.broken(one), median),
                }
            )
    return rows


def _counts(series: Series, broken: Bool[np.ndarray, " n"], median: Median) -> Row:
    return {
        "clean_correct": int(series.clean.sum()),
        "broken": int(broken.sum()),
        "median_low": median.low,
        "median_high": median.high,
    }


def _accuracy(right: Bool[np.ndarray, " n"]) -> Row:
    n, count = len(right), int(right.sum())
    low, high = wilson_interval(count, n)
    return {"n": n, "accuracy": share(count, n), "ci_low": low, "ci_high": high}
