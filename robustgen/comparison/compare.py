"""From two finished runs to everything that a comparison shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from robustgen.checks import TRUSTED, run_checks, with_verdicts
from robustgen.comparison.configuration import Change, configuration_changes
from robustgen.comparison.pairing import PairedRow, RowKey, pair_runs
from robustgen.comparison.sample_size import (
    Plan,
    size_for_difference,
    size_for_half_width,
)
from robustgen.finished import FinishedRun, read_run
from robustgen.intervals import (
    Difference,
    Interval,
    holm,
    paired_interval,
    share,
    sign_flip_p,
    wilson_interval,
)
from robustgen.outcomes import Outcomes

LEVEL = 0.05
"""Two runs are told apart on a row if its p-value, corrected by Holm, is below this."""

HIGHER, LOWER, SAME = "B higher", "B lower", "not distinguishable"


@dataclass(frozen=True)
class RunName:
    """Which run stands for A or B."""

    folder: str
    suite: str
    profile: str


@dataclass(frozen=True)
class SampleSize:
    """How many samples a row needs for a wanted margin.

    Args:
        for_difference: To find a difference of the margin by the exact paired test.
        for_half_width: For an interval of the margin on each side.
    """

    for_difference: int
    for_half_width: int


@dataclass(frozen=True, eq=False)
class ComparedRow:
    """One row of two runs.

    Args:
        paired: What each run said about each common sample.
        accuracy_a: Accuracy of the first run on the common samples.
        interval_a: Its interval.
        accuracy_b: Accuracy of the second run on the common samples.
        interval_b: Its interval.
        difference: B minus A on the same samples.
        discordance: Mean square of B minus A; of decisions the share that disagrees.
        p: Of the exact paired test.
        p_corrected: The same, corrected by Holm over all rows.
        verdict_a: TRUSTED, SUSPECT, INVALID, or empty where no check has run.
        verdict_b: The same of the second run.
        sample_size: Samples needed; None where no margin was asked for.
    """

    paired: PairedRow
    accuracy_a: float
    interval_a: Interval
    accuracy_b: float
    interval_b: Interval
    difference: Difference
    discordance: float
    p: float
    p_corrected: float
    verdict_a: str
    verdict_b: str
    sample_size: SampleSize | None

    @property
    def key(self) -> RowKey:
        """What the row is about."""
        return self.paired.key

    @property
    def told_apart(self) -> bool:
        """Whether the difference is beyond chance."""
        return self.p_corrected < LEVEL

    @property
    def reading(self) -> str:
        """What may be said: the finding, and verdicts that stand against it."""
        doubts = [
            f"{run} {verdict}"
            for run, verdict in (("A", self.verdict_a), ("B", self.verdict_b))
            if verdict not in ("", TRUSTED)
        ]
        found = SAME
        if self.told_apart:
            found = HIGHER if self.difference.mean > 0 else LOWER
        return f"{found} ({', '.join(doubts)})" if doubts else found


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two runs side by side.

    Args:
        a: The first run.
        b: The second run.
        changes: What differs in the configuration.
        rows: Rows that both runs have, in the order of the first.
        only_a: Rows that only the first run has.
        only_b: Rows that only the second run has.
        notes: What a reader must know about the samples.
        plan: What sample sizes are for; None where no margin was asked for.
    """

    a: RunName
    b: RunName
    changes: tuple[Change, ...]
    rows: tuple[ComparedRow, ...]
    only_a: tuple[RowKey, ...]
    only_b: tuple[RowKey, ...]
    notes: tuple[str, ...]
    plan: Plan | None


def compare_folders(a: Path, b: Path, plan: Plan | None = None) -> Comparison:
    """Compares two runs by their folders.

    Args:
        a: Folder of the first run; differences are B minus A.
        b: Folder of the second run.
        plan: What sample sizes are asked for, if any.

    Raises:
        RequestError: a folder is not that of a run, or the two cannot be compared; see
            `pair_runs`.
    """
    return compare_runs(read_run(a), read_run(b), plan)


def compare_runs(
    a: FinishedRun, b: FinishedRun, plan: Plan | None = None
) -> Comparison:
    """Compares two runs on the rows and samples that both have.

    Raises:
        RequestError: they cannot be compared; see `pair_runs`.
    """
    outcomes_a, outcomes_b = a.outcomes(), b.outcomes()
    pairing = pair_runs(a, b, outcomes_a, outcomes_b)
    keys = [row.key for row in pairing.rows]
    p_values = [sign_flip_p(row.steps) for row in pairing.rows]
    rows = zip(
        pairing.rows,
        p_values,
        holm(p_values),
        _verdicts(a, outcomes_a, keys),
        _verdicts(b, outcomes_b, keys),
        strict=True,
    )
    return Comparison(
        a=_name(a),
        b=_name(b),
        changes=configuration_changes(a, b),
        rows=tuple(_compared(*row, plan) for row in rows),
        only_a=pairing.only_a,
        only_b=pairing.only_b,
        notes=pairing.notes,
        plan=plan,
    )


def _compared(
    paired: PairedRow,
    p: float,
    p_corrected: float,
    verdict_a: str,
    verdict_b: str,
    plan: Plan | None,
) -> ComparedRow:
    delta = paired.value_b - paired.value_a
    n = len(delta)
    mean = share(float(delta.sum()), n)
    discordance = share(float(np.square(delta).sum()), n)
    moved = share(float(np.abs(delta).sum()), n)
    size = None
    if plan is not None:
        size = SampleSize(
            size_for_difference(discordance, plan, discordance / moved if moved else 1),
            size_for_half_width(discordance, mean, plan.margin),
        )
    accuracy_a, interval_a = _accuracy(paired.value_a)
    accuracy_b, interval_b = _accuracy(paired.value_b)
    low, high = paired_interval(delta)
    return ComparedRow(
        paired=paired,
        accuracy_a=accuracy_a,
        interval_a=interval_a,
        accuracy_b=accuracy_b,
        interval_b=interval_b,
        difference=Difference(
            mean=mean,
            low=low,
            high=high,
            gained=int((paired.steps > 0).sum()),
            lost=int((paired.steps < 0).sum()),
            n=n,
        ),
        discordance=discordance,
        p=p,
        p_corrected=p_corrected,
        verdict_a=verdict_a,
        verdict_b=verdict_b,
        sample_size=size,
    )


def _accuracy(values: Float[np.ndarray, " n"]) -> tuple[float, Interval]:
    right = float(values.sum())
    return share(right, len(values)), wilson_interval(right, len(values))


def _verdicts(
    run: FinishedRun, outcomes: Outcomes, keys: Sequence[RowKey]
) -> list[str]:
    """The verdict of each row of a run, from its own tables and evidence."""
    if run.evidence is None:
        return [""] * len(keys)
    findings = run_checks(outcomes, run.evidence, run.settings)
    frame = pd.DataFrame([vars(key) for key in keys])
    return [str(verdict) for verdict in with_verdicts(frame, findings)["verdict"]]


def _name(run: FinishedRun) -> RunName:
    return RunName(str(run.folder), str(run.suite.get("name", "")), run.profile)
