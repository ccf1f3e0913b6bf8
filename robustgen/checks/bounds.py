"""S9 and S12: did the attack stay inside its threat, and could it cross it?"""

import numpy as np

from robustgen.checks.compare import same_images_exceed
from robustgen.checks.finding import Finding
from robustgen.checks.pair import NOT_MEASURED, Pair, threat_text
from robustgen.evidence import ReachEvidence, RoundingEvidence
from robustgen.table import PredictionTable

S9 = "Attacked images lie within the threat"
S12 = "The steps of the attack can cross the threat"

SLACK = 1e-6
"""Excess over the radius that float32 may cause, in pixel units."""

RELATIVE_SLACK = 4e-6
"""The same as a share of an l2 radius: a root of a sum of float32 squares."""

FAILED_SHARE = 0.05
"""Share of failed searches, left at the clean image, above which a row measures
nothing."""


def check_bounds(pair: Pair) -> list[Finding]:
    """S9 for every test table, and for images rounded to 8 bits."""
    found = [
        finding
        for table in pair.tables
        if table.key.split == "test"
        for finding in (*_distances(pair, table), *_failures(pair, table))
    ]
    measured = pair.evidence.rounding if pair.evidence else ()
    found += [_rounding(pair, one) for one in measured]
    if found:
        return found
    tables = [table for table in pair.tables if "distance_linf" in table.cost]
    if not tables:
        return [
            pair.finding(
                "S9",
                S9,
                "warn",
                f"{NOT_MEASURED}no table holds distances",
                "Run the suite again with --fresh.",
            )
        ]
    return [
        pair.finding("S9", S9, "pass", f"{len(tables)} tables, none beyond its radius")
    ]


def _distances(pair: Pair, table: PredictionTable) -> list[Finding]:
    column = "distance_l2" if table.key.norm == "l2" else "distance_linf"
    if column not in table.cost:
        return []
    distance = table.cost[column].astype(np.float64)
    eps = table.key.eps
    slack = SLACK + (RELATIVE_SLACK * eps if table.key.norm == "l2" else 0.0)
    unbounded = np.isinf(eps)
    outside = ~np.isfinite(distance) | ((distance > eps + slack) & (not unbounded))
    if not outside.any():
        return []
    finite = distance[np.isfinite(distance)]
    return [
        pair.finding(
            "S9",
            S9,
            "fail",
            f"{int(outside.sum())} of {len(distance)} images lie beyond "
            f"{threat_text((table.key.norm, eps))}; the farthest at "
            f"{finite.max(initial=0):.6g}",
            "The images are not those that the threat allows; the framework clips "
            "what an attack returns, so the table is damaged. Run again with --fresh.",
            "INVALID",
            attack=table.key.attack,
            tier=table.key.tier,
            path=table.key.target,
        )
    ]


def _failures(pair: Pair, table: PredictionTable) -> list[Finding]:
    failed = table.cost.get("attack_failed")
    if failed is None or not (failed > 0).any():
        return []
    share = float((failed > 0).mean())
    return [
        pair.finding(
            "S9",
            S9,
            "fail",
            f"the attack failed on {int((failed > 0).sum())} of {len(failed)} images "
            "(not finite), which were scored clean",
            "Find what gives NaN: a division by a zero gradient, a logarithm of 0.",
            "INVALID" if share > FAILED_SHARE else "SUSPECT",
            attack=table.key.attack,
            tier=table.key.tier,
            path=table.key.target,
        )
    ]


def _rounding(pair: Pair, one: RoundingEvidence) -> Finding:
    said = (
        f"{one.accuracy:.2f} before, {one.rounded_accuracy:.2f} after rounding to 8 "
        f"bits, {one.n} images"
    )
    survives = not same_images_exceed(one.rounded_accuracy, one.accuracy, one.n)
    return pair.finding(
        "S9",
        "Attacked images survive rounding to 8 bits",
        "pass" if survives else "warn",
        said,
        ""
        if survives
        else "The attack lives on differences that an image file cannot hold; say so "
        "where you quote it.",
        attack=one.attack,
        tier=one.tier,
        path=one.path,
    )


def check_reach(pair: Pair) -> list[Finding]:
    """S12: steps times step size reach the far side of the ball."""
    measured = pair.evidence.reach if pair.evidence else ()
    return [_reach(pair, one) for one in measured] or [
        pair.finding(
            "S12",
            S12,
            "warn",
            f"{NOT_MEASURED}the probes did not run",
            "Suites refuse PGD, MI-FGSM and EOT-PGD that cannot reach; run the probes "
            "for the others.",
        )
    ]


def _reach(pair: Pair, one: ReachEvidence) -> Finding:
    # The last digit of a product of steps and step size is rounding.
    short = one.travel < one.needed * (1 - 1e-9)
    return pair.finding(
        "S12",
        S12,
        "fail" if short else "pass",
        f"travels {one.travel:.4g}, needs {one.needed:.4g}",
        "Raise the steps or the step size." if short else "",
        "INVALID" if short else "",
        attack=one.attack,
        tier=one.tier,
    )
