"""S1, S3, S4 and S6: are the attacks as strong as they should be?"""

from collections.abc import Mapping
from types import MappingProxyType

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
"""Accuracy that twice the work may cost: one point, as in the published checklists."""

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


def _breaks(pair: Pair, attack: str) -> Finding:
    group = pair.sweeps.get(attack, attack)
    related = {attack, *(n for n, g in pair.sweeps.items() if g == group)}
    rows = [one for one in pair.on(IMAGE) if one.key.attack in related]
    points = [
        (threat_text(threat_of(o)), accuracy(o), len(o.value), o.key.attack == attack)
        for o in rows
    ]
    measured = pair.evidence.sweeps if pair.evidence else ()
    points += [
        (f"{one.factor:g} times its radius", one.accuracy, one.n, False)
        for one in measured
        if one.path == IMAGE and one.attack in related and one.tier == "oblivious"
    ]
    limit = pair.broken

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

    if not points:
        return found(
            "warn",
            f"{NOT_MEASURED}{attack} was not scored on the bare classifier",
            "List `image` among the paths.",
        )
    where, lowest, n, own = min(points, key=lambda point: point[1])
    said = f"{attack} leaves {lowest:.2f} of {n} images at {where}; limit {limit:.2f}"
    if lowest <= limit:
        return found("pass", said)
    if not share_exceeds(lowest, limit, n):
        return found("pass", f"{said}, which is within chance")
    only_own = own and len(points) == 1
    unbounded = only_own and points[0][0].endswith(" inf")
    if only_own and not unbounded:
        return found(
            "warn",
            f"{NOT_MEASURED}{said}, and no larger radius was tried",
            "Run the probes, or list the attack with larger radii: "
            "`eps: [8/255, 32/255, 1.0]`.",
        )
    return found(
        "fail",
        said,
        "The attack does not work on this classifier: look at its gradients (S7), "
        "raise its steps, or take `apgd` with the margin loss.",
    )


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
    lower = one.accuracy - one.longer_accuracy >= CONVERGED
    fail = lower and same_images_exceed(one.accuracy, one.longer_accuracy, one.n)
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
