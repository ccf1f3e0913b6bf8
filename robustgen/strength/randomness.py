"""How random paths fare: one draw, a vote of all draws, the worst of them.

The three answer different questions. The mean over single draws is what one query
meets. The vote is what a defender gets who asks often. The worst of R draws is what is
left if an attacker may send the same image R times. The fixed draw is what is left if
the attacker knows the randomness itself.
"""

import math

import numpy as np
import pandas as pd
from jaxtyping import Float, Float32, Int, Int64

from robustgen.ensembling import decide
from robustgen.intervals import share, wilson_interval
from robustgen.metrics import CASE_COLUMNS
from robustgen.outcomes import Outcomes
from robustgen.strength.series import Row
from robustgen.table import PredictionTable, TableKey

RANDOM_COLUMNS = (
    *CASE_COLUMNS,
    "target",
    "path",
    "n",
    "draws",
    "mean",
    "mean_low",
    "mean_high",
    "majority",
    "majority_low",
    "majority_high",
    "worst",
    "worst_low",
    "worst_high",
    "fixed",
    "fixed_low",
    "fixed_high",
)


def random_frame(outcomes: Outcomes) -> pd.DataFrame:
    """Accuracies of every path scored on two draws or more, on test images.

    Intervals are Wilson's over samples: the draws of one sample are not independent,
    so that a sample counts once, with the share of its draws that are right. `fixed` is
    NaN where the attacker was not given a draw.
    """
    found: dict[tuple[TableKey, str], PredictionTable] = {}
    for one in outcomes.on("test"):
        drawn = one.table.draws.get(one.path)
        if drawn is not None and drawn.shape[1] > 1:
            found[one.key, one.path] = one.table
    rows = [_row(table, path) for (_, path), table in found.items()]
    return pd.DataFrame(rows, columns=list(RANDOM_COLUMNS))


def majority(
    draws: Float32[np.ndarray, "n r k"],
) -> Int[np.ndarray, " n"]:
    """The class that most draws decide for. The lowest class wins a tie.

    >>> majority(np.array([[[0.9, 0.1], [0.2, 0.8]]], np.float32)).tolist()
    [0]
    """
    classes = draws.shape[2]
    decided = decide(draws)
    votes = (decided[..., None] == np.arange(classes)).sum(axis=1)
    return decide(votes / draws.shape[1])


def _row(table: PredictionTable, path: str) -> Row:
    draws = table.draws[path]
    right = (decide(draws) == table.label[:, None]).astype(np.float64)
    fixed = table.fixed.get(path)
    return {
        **{name: getattr(table.key, name) for name in (*CASE_COLUMNS, "target")},
        "path": path,
        "n": len(table.label),
        "draws": draws.shape[1],
        **_share("mean", np.asarray(right.mean(axis=1))),
        **_share("majority", _hits(majority(draws), table.label)),
        **_share("worst", right.min(axis=1)),
        **(
            _share("fixed", _hits(decide(fixed), table.label))
            if fixed is not None
            else dict.fromkeys(("fixed", "fixed_low", "fixed_high"), math.nan)
        ),
    }


def _hits(
    decided: Int[np.ndarray, " n"], label: Int64[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    return (decided == label).astype(np.float64)


def _share(name: str, values: Float[np.ndarray, " n"]) -> Row:
    n, total = len(values), float(values.sum())
    low, high = wilson_interval(total, n)
    return {name: share(total, n), f"{name}_low": low, f"{name}_high": high}
