"""S1, S3, S4 and S6: are the attacks as strong as they should be?"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from robustgen.checks.compare import (
    exceeds,
    other_images_exceed,
    same_images_exceed,
    share_exceeds,
)
from robustgen.checks.finding import Effect, Finding, Status
from robustgen.checks.pair import (
    IMAGE,
    NOT_MEASURED,
    Pair,
    Threat,
    accuracy,
    name,
    threat_of,
    threat_text,
)
from robustgen.evidence import ConvergenceEvidence, NoiseEvidence
from robustgen.outcomes import Outcome

S1 = "The attack breaks the undefended classifier"
S3 = "PGD breaks what FGSM breaks"
S4 = "Twice the work changes nothing"
S6 = "The attack is stronger than noise"

CONVERGED = 0.01
"""Share of all images that twice the work may break: one point, as in the published
checklists. A longer search keeps what the shorter one broke, so that each further image
counts against it; whether they are more than a point is an exact binomial test."""

ODD_SHARE = 0.02
"""Share of images that a weaker attack alone may break before it is worth a look."""

NOISE_EXCESS = 0.05
"""How much more accuracy an attack may leave than noise of its radius before it is no
attack."""


def check_breaks_undefended(pair: Pair) -> list[Finding]:
    """S1: at some radius each gradient attack brings `image` to 5% or to chance."""
    listed = dict.fromkeys(
        one.key.attack
        for one in pair.attacked
        if one.key.tier == "oblivious" and pair.follows_gradients(one)
    )
    if not listed:
        return [
            pair.finding("S1", S1, "pass", "no attack of the run follows gradients")
        ]
    return [_breaks(pair, attack) for attack in listed]


_BREAKS_EFFECT: Mapping[Status, Effect] = MappingProxyType(
    {"pass": "", "warn": "SUSPECT", "fail": "INVALID"}
)


class _Point(NamedTuple):
    """Accuracy of the bare classifier under one attack at one radius."""

    left: float
    n: int
    radius: str
    widest: bool
    """Whether the radius allows so much that a working attack must succeed."""


def _breaks(pair: Pair, attack: str) -> Finding:
    def found(status: Status, evidence: str, advice: str = "") -> Finding:
        return pair.finding(
            "S1",
            S1,
            status,
            evidence,
            advice,
            _BREAKS_EFFECT[status],
            attack=attack,
            tier="oblivious",
        )

    points = _points(pair, attack)
    if not points:
        return found(
            "warn",
            f"{NOT_MEASURED}{attack} was not scored on the bare classifier",
            "List `image` among the paths.",
        )
    lowest = min(points)
    limit = pair.broken
    said = (
        f"{attack} leaves {lowest.left:.2f} of {lowest.n} images at {lowest.radius}; "
        f"limit {limit:.2f}"
    )
    if lowest.left <= limit:
        return found("pass", said)
    if not share_exceeds(lowest.left, limit, lowest.n):
        return found("pass", f"{said}, which is within chance")
    if any(point.widest for point in points):
        return found(
            "fail",
            said,
            "The attack does not work on this classifier: look at its gradients (S7), "
            "raise its steps, or take `apgd` with the margin loss.",
        )
    equal = _no_weaker_than(pair, attack)
    if equal:
        return found("pass", f"{said}; no weaker than {equal}")
    return found(
        "warn",
        f"{NOT_MEASURED}{said}, and no radius without bound was tried",
        "Run the probes, or list the attack with larger radii: "
        "`eps: [8/255, 32/255, 1.0]`.",
    )


def _points(pair: Pair, attack: str) -> list[_Point]:
    """What was measured of an attack: in its rows, in those of the suite's sweep, and
    in the probes, which look at one attack of each kind.
    """
    group = pair.sweeps.get(attack, attack)
    rows = {
        one.key.attack: one
        for one in pair.on(IMAGE)
        if one.key.tier == "oblivious"
        and pair.sweeps.get(one.key.attack, one.key.attack) == group
    }
    points = [
        _Point(
            accuracy(one),
            len(one.value),
            threat_text(threat_of(one)),
            _is_widest(threat_of(one)),
        )
        for one in rows.values()
    ]
    measured = [
        one
        for one in (pair.evidence.sweeps if pair.evidence else ())
        if one.path == IMAGE and one.tier == "oblivious"
    ]
    kind = pair.kinds.get(attack, attack)
    same = [one for one in measured if one.attack in rows or one.attack == attack] or [
        one for one in measured if pair.kinds.get(one.attack, one.attack) == kind
    ]
    return points + [
        _Point(
            one.accuracy,
            one.n,
            f"{one.factor:g} times the radius"
            + (f" of {one.attack}" if one.attack != attack else ""),
            math.isinf(one.factor),
        )
        for one in same
    ]


def _is_widest(threat: Threat) -> bool:
    """Whether a radius has no bound, or lets all images meet at medium gray."""
    norm, eps = threat
    return math.isinf(eps) or (norm == "linf" and eps >= 0.5)


def _no_weaker_than(pair: Pair, attack: str) -> str:
    """An attack of the same threat that works, and how far; empty for none.

    Attacks that the probes do not run at larger radii are as good as one that they do
    if they leave no more of the classifier.
    """
    rows = {o.key.attack: o for o in pair.on(IMAGE) if o.key.tier == "oblivious"}
    if attack not in rows:
        return ""
    for listed, other in rows.items():
        if listed == attack or threat_of(other) != threat_of(rows[attack]):
            continue
        points = _points(pair, listed)
        lowest = min(points)
        works = not share_exceeds(lowest.left, pair.broken, lowest.n)
        if works and not exceeds(rows[attack].value, other.value):
            return f"{listed}, which leaves {lowest.left:.2f} at {lowest.radius}"
    return ""


def check_pgd_beats_fgsm(pair: Pair) -> list[Finding]:
    """S3: on the bare classifier, of one threat, PGD breaks what FGSM breaks."""
    found: list[Finding] = []
    bare = [one for one in pair.on(IMAGE) if one.key.tier == "oblivious"]
    for fgsm in (one for one in bare if pair.kind(one) == "fgsm"):
        for pgd in (one for one in bare if pair.kind(one) == "pgd"):
            if threat_of(pgd) == threat_of(fgsm):
                found.append(_against_fgsm(pair, pgd, fgsm))
    return found or [
        pair.finding(
            "S3", S3, "pass", "the run does not have PGD and FGSM of one threat"
        )
    ]


def _against_fgsm(pair: Pair, pgd: Outcome, fgsm: Outcome) -> Finding:
    alone = int(((fgsm.value < 0.5) & (pgd.value >= 0.5)).sum())
    other = int(((pgd.value < 0.5) & (fgsm.value >= 0.5)).sum())
    n = len(pgd.value)
    said = (
        f"of {n} images {fgsm.key.attack} alone breaks {alone}, {pgd.key.attack} "
        f"alone {other}"
    )
    advice = "Raise the steps or lower the step size of PGD; look at its gradients."
    if exceeds(pgd.value, fgsm.value):
        return pair.finding(
            "S3", S3, "fail", said, advice, "SUSPECT", attack=pgd.key.attack
        )
    odd = alone > max(1, ODD_SHARE * n)
    return pair.finding(
        "S3",
        S3,
        "warn" if odd else "pass",
        said,
        "Add restarts to PGD." if odd else "",
        attack=pgd.key.attack,
    )


def check_converged(pair: Pair) -> list[Finding]:
    """S4: twice the steps or restarts lower accuracy by less than a point."""
    measured = pair.evidence.convergence if pair.evidence else ()
    if not measured:
        return [
            pair.finding(
                "S4",
                S4,
                "warn",
                f"{NOT_MEASURED}no attack was run with twice the work",
                "Run the probes.",
            )
        ]
    return [_converged(pair, one) for one in measured]


def _converged(pair: Pair, one: ConvergenceEvidence) -> Finding:
    said = (
        f"{one.what}: {one.accuracy:.2f} -> {one.longer_accuracy:.2f} on {one.n} images"
    )
    fell = one.accuracy - one.longer_accuracy
    row = next(
        (
            row
            for row in pair.on(one.path)
            if (row.key.attack, row.key.tier) == (one.attack, one.tier)
        ),
        None,
    )
    limit = CONVERGED
    if row is not None and one.accuracy == 1:
        # Of survivors alone, a larger share makes up one point of all images.
        limit = min(1.0, CONVERGED / max(accuracy(row), CONVERGED))
    fail = share_exceeds(fell, limit, one.n)
    if row is not None and len(row.correct) > 1:
        # Other draws turn some images by themselves.
        fail = fail and same_images_exceed(one.accuracy, one.longer_accuracy, one.n)
    return pair.finding(
        "S4",
        S4,
        "fail" if fail else "pass",
        said,
        "Raise the budget until this no longer changes." if fail else "",
        "SUSPECT" if fail else "",
        attack=one.attack,
        tier=one.tier,
        path=one.path,
    )


def check_stronger_than_noise(pair: Pair) -> list[Finding]:
    """S6: an attack leaves no more than uniform noise of its radius."""
    measured = pair.evidence.noise if pair.evidence else ()
    found = [
        _against_noise(pair, row, noise)
        for noise in measured
        for row in pair.on(noise.path, (noise.norm, noise.eps))
    ]
    return found or [
        pair.finding(
            "S6",
            S6,
            "warn",
            f"{NOT_MEASURED}no noise of an attack's radius was tried",
            "Run the probes.",
        )
    ]


def _against_noise(pair: Pair, row: Outcome, noise: NoiseEvidence) -> Finding:
    left, n = accuracy(row), len(row.value)
    said = (
        f"{name(row)} leaves {left:.2f} of {n} images, noise {noise.accuracy:.2f} of "
        f"{noise.n} (worst of {noise.draws} draws)"
    )
    if not other_images_exceed(left, n, noise.accuracy, noise.n):
        return pair.about(row, "S6", S6, "pass", said)
    aimed = row.key.target == row.path or row.path == IMAGE
    broken = aimed and left - noise.accuracy > NOISE_EXCESS
    return pair.about(
        row,
        "S6",
        S6,
        "fail",
        said,
        "Random noise does better than this search: raise its budget, or look at its "
        "gradients (S7)."
        if aimed
        else "This attack was aimed at the bare classifier: add `tiers:` to the suite.",
        "INVALID" if broken else "SUSPECT",
    )
