"""What is known of the strength of a run's attacks, as data frames."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from robustgen.errors import RequestError
from robustgen.finished import suite_outcomes
from robustgen.outcomes import CLEAN
from robustgen.strength.passes import PASS_COLUMNS, pass_rows
from robustgen.strength.ranking import (
    RANK_COLUMNS,
    THREAT_COLUMNS,
    rank_rows,
    threat_rows,
)
from robustgen.strength.reach import (
    CURVE_COLUMNS,
    REACH_COLUMNS,
    curve_rows,
    reach_rows,
)
from robustgen.strength.series import Row, Series, read_series
from robustgen.table import PredictionTable


@dataclass(frozen=True)
class StrengthReport:
    """Strength of the attacks of one run, per pair and path, on test images.

    Args:
        name: Name of the suite.
        ranking: One row per attack: what it breaks, alone and beside others of the
            same threat, what that costs, and its rank.
        threats: One row per norm and radius: what no attack of it breaks.
        curves: Accuracy at every radius of the sweeps, clean images at 0.
        reach: Area below those curves, and median distance to break of sweeps and of
            minimum-norm attacks.
        passes: Share broken within so many forward passes.
    """

    name: str
    ranking: pd.DataFrame
    threats: pd.DataFrame
    curves: pd.DataFrame
    reach: pd.DataFrame
    passes: pd.DataFrame


def strength_report(
    tables: Sequence[PredictionTable], suite: Mapping[str, Any], *, seed: int
) -> StrengthReport:
    """Counts how strong the attacks of a run were.

    Args:
        tables: Tables of every case of a run, in any order.
        suite: The suite as resolved for one profile. Read are `name`, `attacks` (their
            order, and the `sweep` that each belongs to), `paths`, and `ensemble`.
        seed: Root of the bootstrap that gives the intervals of areas.

    Raises:
        RequestError: there are no tables, they do not fit together, none holds an
            attack, or a path was never scored without one.
    """
    attacks = [dict(one) for one in suite.get("attacks", ())]
    outcomes = suite_outcomes(tables, suite)
    if all(one.key.tier == "none" for one in outcomes.on("test")):
        raise RequestError(
            f"The run holds no attack to measure, only {CLEAN} images or corruptions."
        )
    sweeps = {one["name"]: one["sweep"] for one in attacks if one.get("sweep")}
    series = read_series(outcomes)

    def frame(
        rows_of: Callable[[Series], list[Row]], columns: Sequence[str]
    ) -> pd.DataFrame:
        rows = [row for one in series for row in rows_of(one)]
        return pd.DataFrame(rows, columns=list(columns))

    return StrengthReport(
        name=str(suite.get("name", "")),
        ranking=frame(rank_rows, RANK_COLUMNS),
        threats=frame(threat_rows, THREAT_COLUMNS),
        curves=frame(lambda one: curve_rows(one, sweeps), CURVE_COLUMNS),
        reach=frame(lambda one: reach_rows(one, sweeps, seed=seed), REACH_COLUMNS),
        passes=frame(pass_rows, PASS_COLUMNS),
    )
