"""S7 and S8: do gradients say where to go, and does the search get there?"""

import numpy as np

from robustgen.checks.compare import share_exceeds
from robustgen.checks.finding import Finding
from robustgen.checks.pair import (
    GRADIENT_TIERS,
    IMAGE,
    NOT_MEASURED,
    Pair,
    accuracy,
    name,
    threat_of,
    weakest,
)
from robustgen.evidence import GradientEvidence
from robustgen.outcomes import Outcome

S7 = "Gradients are finite, not zero, and point uphill"
S8 = "The search raises the loss"

ZERO_SHARE = 0.1
"""Images whose gradient may be exactly 0: no attack moves them. A saturated softmax
or a rounding step gives it to most."""

GAIN = 0.5
"""Images whose loss must rise along the gradient's sign: a random direction raises it
for half of them."""

SLOPE_ERROR = 0.1
"""Relative error that the slope may have against central differences; a correct
gradient in float32 stays below a tenth of it."""

COSINE = 0.5
"""Agreement of gradients averaged over two halves of the draws; below it noise is
longer than the signal (the criterion of EOT studies)."""

RISING_SHARE = 0.95
"""Images, not wrong already, whose margin must have risen at some step."""


def check_gradients(pair: Pair) -> list[Finding]:
    """S7 for the bare classifier and for each tier that follows gradients of a path."""
    measured = pair.evidence.gradients if pair.evidence else ()
    found = [_health(pair, one) for one in measured]
    seen = {(one.path, one.tier) for one in measured}
    needed = dict.fromkeys(
        (one.path, one.key.tier)
        for one in pair.attacked
        if pair.follows_gradients(one)
        and (one.path == IMAGE or one.key.tier in GRADIENT_TIERS)
    )
    found += [
        _verdict(
            pair, path, tier, f"{NOT_MEASURED}no gradient was looked at", "", False
        )
        for path, tier in needed
        if (path, tier) not in seen
    ]
    return found or [
        pair.finding("S7", S7, "pass", "no attack of the run follows gradients")
    ]


def _health(pair: Pair, one: GradientEvidence) -> Finding:
    faults: list[str] = []
    advice: list[str] = []
    if one.zero_share > ZERO_SHARE:
        faults.append(f"{one.zero_share:.0%} of the gradients are 0")
        advice.append(
            "Some step has no gradient (rounding, a detached projection, a saturated "
            "softmax): attack with the margin loss, `bpda_identity` or `square`."
        )
    if one.nonfinite_share > 0:
        faults.append(f"{one.nonfinite_share:.0%} are not finite")
        advice.append("Look for divisions by 0 and logarithms of 0.")
    if one.gain < GAIN:
        faults.append(f"the loss rises for {one.gain:.0%} of the images only")
        advice.append("The backward pass is not that of the forward pass.")
    if one.slope_error > SLOPE_ERROR:
        faults.append(f"the slope is off by {one.slope_error:.0%}")
        advice.append("The gradient is approximate: trust a search without gradients.")
    if one.cosine < COSINE:
        faults.append(f"two halves of the draws agree by a cosine of {one.cosine:.2f}")
        advice.append("Raise `draws` of the budget.")
    said = (
        f"{one.n} images: zero {one.zero_share:.0%}, norm {one.norm_median:.3g} "
        f"({one.norm_low:.3g} to {one.norm_high:.3g}), gain {one.gain:.0%}, slope "
        f"error {one.slope_error:.2g}, cosine {one.cosine:.2f}"
    )
    if not faults:
        return pair.finding("S7", S7, "pass", said, tier=one.tier, path=one.path)
    evidence = f"{'; '.join(faults)} ({said})"
    return _verdict(pair, one.path, one.tier, evidence, " ".join(advice), True)


def _verdict(
    pair: Pair, path: str, tier: str, evidence: str, advice: str, measured: bool
) -> Finding:
    """Bad or missing gradients, harmless where an attack undid the path anyway."""
    undone = _undone(pair, path, tier)
    if undone:
        evidence = f"{evidence}; yet {undone}"
    if undone and path == IMAGE and not measured:
        # What breaks the bare classifier by its gradient has one.
        return pair.finding("S7", S7, "pass", evidence, tier=tier, path=path)
    return pair.finding(
        "S7",
        S7,
        "fail" if measured and not undone else "warn",
        evidence,
        advice or "Run the probes.",
        "" if undone else "SUSPECT",
        tier=tier,
        path=path,
    )


def _undone(pair: Pair, path: str, tier: str) -> str:
    """How the path falls to some attack; for `image`, at any radius."""
    if path != IMAGE:
        threats = {threat_of(o) for o in pair.on(path) if o.key.tier == tier}
        said = [pair.undone(path, threat) for threat in sorted(threats)]
        return "; ".join(said) if all(said) else ""
    rows = pair.on(IMAGE)
    if rows and accuracy(weakest(rows)) <= pair.broken:
        best = weakest(rows)
        return f"{name(best)} leaves {accuracy(best):.2f}"
    for one in pair.evidence.sweeps if pair.evidence else ():
        if one.path == IMAGE and one.accuracy <= pair.broken:
            return (
                f"{one.attack} at {one.factor:g} times its radius leaves "
                f"{one.accuracy:.2f}"
            )
    return ""


def check_traces(pair: Pair) -> list[Finding]:
    """S8: margins rise between the first and the strongest pass of a search."""
    rows = {
        one.key: one
        for one in pair.attacked
        if pair.follows_gradients(one)
        and one.path == (one.key.target or IMAGE)
        and "margin_first" in one.table.cost
    }
    found = [_trace(pair, one) for one in rows.values()]
    return found or [
        pair.finding(
            "S8",
            S8,
            "warn",
            f"{NOT_MEASURED}no table holds the margins of a gradient search",
            "Run the suite again with --fresh.",
        )
    ]


def _trace(pair: Pair, one: Outcome) -> Finding:
    cost = one.table.cost
    first, best, last = (
        cost[f"margin_{which}"].astype(np.float64)
        for which in ("first", "best", "last")
    )
    # One pass leaves no trace, and an image that was wrong has nowhere to rise to.
    searched = (first < 0) & np.isfinite(best)
    if "attack_forwards" in cost:
        searched &= cost["attack_forwards"] >= 2
    n = int(searched.sum())
    rising = int((best > first)[searched].sum())
    ended = int((last >= first)[searched].sum())
    said = (
        f"of {n} images that were right, the margin rose for {rising} and ended no "
        f"lower for {ended}"
    )
    limit = 1 - RISING_SHARE
    if n and share_exceeds(1 - rising / n, limit, n):
        return pair.finding(
            "S8",
            S8,
            "fail",
            said,
            "The search does not move: look at the gradients (S7) and the step size.",
            "SUSPECT",
            attack=one.key.attack,
            tier=one.key.tier,
            path=one.key.target,
        )
    fell = bool(n) and share_exceeds(1 - ended / n, limit, n)
    return pair.finding(
        "S8",
        S8,
        "warn" if fell else "pass",
        said,
        "The steps are too long: lower the step size." if fell else "",
        attack=one.key.attack,
        tier=one.key.tier,
        path=one.key.target,
    )
