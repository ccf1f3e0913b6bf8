"""What an attack achieves for its forward passes."""

import numpy as np
from jaxtyping import Int

from robustgen.intervals import share, wilson_interval
from robustgen.strength.series import SERIES_COLUMNS, Row, Series

PASS_COLUMNS = (
    *SERIES_COLUMNS,
    "attack",
    "tier",
    "target",
    "norm",
    "eps",
    "clean_correct",
    "passes",
    "broken",
    "success_rate",
    "success_low",
    "success_high",
)


def pass_grid(most: int) -> Int[np.ndarray, " step"]:
    """1, 2, 5, 10, 20, 50, ... up to the first number that is not below `most`.

    >>> pass_grid(41).tolist()
    [1, 2, 5, 10, 20, 50]
    """
    grid = [1]
    while grid[-1] < most:
        factor = 2.5 if str(grid[-1]).startswith("2") else 2
        grid.append(int(grid[-1] * factor))
    return np.array(grid)


def pass_rows(series: Series) -> list[Row]:
    """Share of clean-correct samples that each attack broke within so many passes.

    Counted are samples that the attack broke in the end, from the first of its forward
    passes that saw a misclassified image; where none did, because the attack never
    looked at what it returned, from its last pass. Only for attacks that saw the path
    itself: the passes of others say nothing of it.
    """
    rows: list[Row] = []
    for one in series.attempts:
        if not one.aimed or "first_success" not in one.cost:
            continue
        n = int(series.clean.sum())
        first, forwards = one.cost["first_success"], one.cost["attack_forwards"]
        needed = np.where(np.isnan(first), forwards, first)[series.broken(one)]
        most = int(forwards.max(initial=0))
        for passes in pass_grid(most).tolist():
            broken = int((needed <= passes).sum())
            low, high = wilson_interval(broken, n)
            rows.append(
                {
                    **series.row,
                    "attack": one.key.attack,
                    "tier": one.key.tier,
                    "target": one.key.target,
                    "norm": one.key.norm,
                    "eps": one.key.eps,
                    "clean_correct": n,
                    "passes": passes,
                    "broken": broken,
                    "success_rate": share(broken, n),
                    "success_low": low,
                    "success_high": high,
                }
            )
    return rows
