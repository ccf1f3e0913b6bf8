"""From findings to the verdict of each accuracy, and to tables of findings."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from robustgen.checks.finding import Finding

TRUSTED, SUSPECT, INVALID = "TRUSTED", "SUSPECT", "INVALID"

CHECK_COLUMNS = (
    "dataset",
    "classifier",
    "check",
    "title",
    "status",
    "attack",
    "tier",
    "path",
    "evidence",
    "advice",
    "effect",
)

UNATTACKED_CHECKS = frozenset(("S9", "S10", "S11", "S16"))
"""Checks that rows of tier `none` listen to; the others are about searches."""

_RANK = {"": 0, SUSPECT: 1, INVALID: 2}


def checks_frame(findings: Sequence[Finding]) -> pd.DataFrame:
    """One row per finding, in their order."""
    rows = [{name: getattr(one, name) for name in CHECK_COLUMNS} for one in findings]
    return pd.DataFrame(rows, columns=list(CHECK_COLUMNS))


def with_verdicts(accuracy: pd.DataFrame, findings: Sequence[Finding]) -> pd.DataFrame:
    """The frame of accuracies with its column `verdict` filled.

    Args:
        accuracy: From `metrics.accuracy_frame`. It is not changed.
        findings: From `run_checks`.

    Returns:
        A copy. A verdict is the worst effect of the findings about its row, else
        TRUSTED; it is empty for a pair without any finding, which no check has seen.
    """
    checked = {(one.dataset, one.classifier) for one in findings}
    verdicts = [
        _verdict(row, findings)
        if (row["dataset"], row["classifier"]) in checked
        else ""
        for row in accuracy.to_dict(orient="records")
    ]
    return accuracy.assign(verdict=pd.Series(verdicts, accuracy.index, dtype=object))


def reasons(row: Mapping[str, Any], findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The findings that made a row SUSPECT or INVALID, the worst first.

    Args:
        row: A row of the frame of accuracies; `dataset`, `classifier`, `attack`,
            `tier`, `path` and `alpha_from` are read.
        findings: From `run_checks`.
    """
    found = [one for one in findings if one.effect and _is_about(one, row)]
    return tuple(sorted(found, key=lambda one: -_RANK[one.effect]))


def _verdict(row: Mapping[str, Any], findings: Sequence[Finding]) -> str:
    found = reasons(row, findings)
    return found[0].effect if found else TRUSTED


def _is_about(one: Finding, row: Mapping[str, Any]) -> bool:
    if row["tier"] == "none" and one.check not in UNATTACKED_CHECKS:
        return False
    same = (one.dataset, one.classifier) == (row["dataset"], row["classifier"])
    return same and all(
        getattr(one, name) in ("", row[name])
        for name in ("attack", "tier", "path", "alpha_from")
    )
