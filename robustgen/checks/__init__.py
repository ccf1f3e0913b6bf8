"""Checks S1 to S16: whether the numbers of a run can be believed.

What each looks at, its thresholds and what to do: docs/verdicts.md.
"""

from robustgen.checks.finding import Effect, Finding, Status
from robustgen.checks.run import run_checks
from robustgen.checks.verdicts import (
    CHECK_COLUMNS,
    INVALID,
    SUSPECT,
    TRUSTED,
    checks_frame,
    reasons,
    with_verdicts,
)

__all__ = [
    "CHECK_COLUMNS",
    "INVALID",
    "SUSPECT",
    "TRUSTED",
    "Effect",
    "Finding",
    "Status",
    "checks_frame",
    "reasons",
    "run_checks",
    "with_verdicts",
]
