"""S2: accuracy falls with the radius, from clean down to chance."""

import math

from robustgen.checks.compare import (
    other_images_exceed,
    same_images_exceed,
    share_exceeds,
)
from robustgen.checks.finding import Finding
from robustgen.checks.pair import IMAGE, NOT_MEASURED, Pair, accuracy
from robustgen.evidence import SweepEvidence
from robustgen.outcomes import CLEAN
from robustgen.table import SINGLE_PATHS

S2 = "Accuracy falls with the radius, from clean to chance"

_EQUAL = 1e-9
"""Shares of the same images are the same number up to the rounding of a division."""


def check_sweeps(pair: Pair) -> list[Finding]:
    """S2, for every path, attack and tier of the probes.

    The first point is compared with what a sweep says of the attack `clean`, or else
    with the run's own clean images: all of them, or the first `n`.
    """
    measured = pair.evidence.sweeps if pair.evidence else ()
    series: dict[tuple[str, str, str], list[SweepEvidence]] = {}
    for one in measured:
        if one.attack != CLEAN:
            series.setdefault((one.path, one.attack, one.tier), []).append(one)
    if not series:
        return [
            pair.finding(
                "S2",
                S2,
                "warn",
                f"{NOT_MEASURED}no attack was run at several radii",
                "Run the probes.",
            )
        ]
    return [
        finding
        for points in series.values()
        for finding in _series(pair, sorted(points, key=lambda one: one.factor))
    ]


def _series(pair: Pair, points: list[SweepEvidence]) -> list[Finding]:
    first, last = points[0], points[-1]
    curve = ", ".join(f"{one.factor:g}x {one.accuracy:.2f}" for one in points)
    said = f"accuracy by radius on {last.n} images: {curve}"

    def failed(evidence: str, advice: str, *, invalid: bool = False) -> Finding:
        return pair.finding(
            "S2",
            S2,
            "fail",
            f"{evidence}; {said}",
            advice,
            "INVALID" if invalid else "SUSPECT",
            attack=first.attack,
            tier=first.tier,
            path=first.path,
        )

    found: list[Finding] = []
    clean = _clean(pair, first)
    if first.factor == 0 and clean is not None and _differs(pair, first, clean):
        found.append(
            failed(
                f"radius 0 leaves {first.accuracy:.2f}, clean images {clean:.2f}",
                "An attack without room must change nothing: compare labels, "
                "normalization and randomness of the two.",
                invalid=True,
            )
        )
    lowest = first
    for one in points[1:]:
        if same_images_exceed(one.accuracy, lowest.accuracy, one.n):
            found.append(
                failed(
                    f"{one.factor:g}x leaves {one.accuracy:.2f}, the smaller "
                    f"{lowest.factor:g}x {lowest.accuracy:.2f}",
                    "More room makes the search worse: raise its steps, or look at "
                    "its gradients (S7).",
                )
            )
            break
        lowest = min(lowest, one, key=lambda point: point.accuracy)
    limit = pair.broken
    if last.accuracy > limit and share_exceeds(last.accuracy, limit, last.n):
        found.append(
            failed(
                f"the largest radius leaves {last.accuracy:.2f}; limit {limit:.2f}",
                "With this much room an image of another class is within reach: the "
                "search fails, so gradients may be masked. Add tiers `square` and "
                "`latent`.",
            )
        )
    return found or [
        pair.finding(
            "S2",
            S2,
            "pass",
            said,
            attack=first.attack,
            tier=first.tier,
            path=first.path,
        )
    ]


def _clean(pair: Pair, point: SweepEvidence) -> float | None:
    """Accuracy without an attack on the images of a sweep."""
    for one in pair.evidence.sweeps if pair.evidence else ():
        if one.attack == CLEAN and one.path == point.path and one.n == point.n:
            return one.accuracy
    row = pair.clean(point.path)
    if row is None or not len(row.value):
        return None
    return (
        accuracy(row)
        if point.n >= len(row.value)
        else float(row.value[: point.n].mean())
    )


def _differs(pair: Pair, point: SweepEvidence, clean: float) -> bool:
    left, n = point.accuracy, point.n
    if _draws(pair, point.path):
        # Other draws than those of the clean images: equal up to chance.
        return other_images_exceed(left, n, clean, n) or other_images_exceed(
            clean, n, left, n
        )
    if point.path == IMAGE:
        return not math.isclose(left, clean, abs_tol=_EQUAL)
    # An optimization inside magnifies rounding, which depends on the batch.
    return abs(left - clean) * n > 1 + _EQUAL


def _draws(pair: Pair, path: str) -> bool:
    """Whether two evaluations of a path may differ."""
    for one in pair.evidence.randomness if pair.evidence else ():
        if one.path == path:
            return one.detected or one.declared
    return path not in SINGLE_PATHS
