"""Runs all checks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from robustgen.checks.attack_strength import (
    check_breaks_undefended,
    check_converged,
    check_pgd_beats_fgsm,
    check_stronger_than_noise,
)
from robustgen.checks.bounds import check_bounds, check_reach
from robustgen.checks.data import check_data, check_precision
from robustgen.checks.finding import Finding
from robustgen.checks.gradients import check_gradients, check_traces
from robustgen.checks.ladder import check_ladder
from robustgen.checks.outputs import check_outputs, check_randomness
from robustgen.checks.pair import Pair, pairs_of
from robustgen.checks.projection import check_ablation, check_projection
from robustgen.checks.sweeps import check_sweeps
from robustgen.evidence import Evidence
from robustgen.outcomes import Outcomes

CHECKS: tuple[Callable[[Pair], list[Finding]], ...] = (
    check_breaks_undefended,
    check_sweeps,
    check_pgd_beats_fgsm,
    check_converged,
    check_ladder,
    check_stronger_than_noise,
    check_gradients,
    check_traces,
    check_bounds,
    check_outputs,
    check_randomness,
    check_reach,
    check_projection,
    check_ablation,
    check_precision,
    check_data,
)
"""S1 to S16, in this order; each gives at least one finding."""


def run_checks(
    outcomes: Outcomes, evidence: Sequence[Evidence], suite: Mapping[str, Any]
) -> tuple[Finding, ...]:
    """Every finding of every pair, pair by pair and check by check.

    Args:
        outcomes: What every path got right.
        evidence: What the probes measured, of any of the pairs; without it the
            checks that need it say `not measured`, and S1, S5, S7 and S11 make rows
            SUSPECT.
        suite: The suite as resolved. Read are `attacks`, each with `name`, `attack`
            (its kind) and `sweep`; an attack it does not describe has the kind of
            its name.
    """
    return tuple(
        finding
        for pair in pairs_of(outcomes, evidence, suite)
        for check in CHECKS
        for finding in check(pair)
    )
