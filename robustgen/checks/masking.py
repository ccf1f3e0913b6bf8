"""S5, second part: images that only attacks without gradients break."""

from collections.abc import Sequence

import numpy as np

from robustgen.checks.compare import exceeds
from robustgen.checks.finding import Finding
from robustgen.checks.pair import (
    GRADIENT_TIERS,
    IMAGE,
    Pair,
    Threat,
    accuracy,
    name,
    threat_text,
    weakest,
)
from robustgen.outcomes import Outcome

TITLE = "Gradients find what searches without them find"

SEARCHES = ("transfer", "square", "spsa")
"""Tiers that need no gradient of what they attack."""

MASKED_SHARE = 0.02
"""Share of images that only searches without gradients may break: a search for each
image succeeds by luck now and then."""

MASKED_COUNT = 2
"""The least number of such images that counts; one proves nothing."""

MASKED_GAP = 0.25
"""How much more often, over the draws of a random path, such an image must be right
under every gradient: less is what other draws would change."""

LISTED = 10
"""Images that the evidence names."""


def check_masking(pair: Pair, path: str, threats: Sequence[Threat]) -> list[Finding]:
    """S5 (d): images broken by searches without gradients alone.

    On `image` gradient attacks must also leave no more than a search by accuracy; on
    other paths the ladder compares all tiers.
    """
    return [one for threat in threats for one in _masking(pair, path, threat)]


def _masking(pair: Pair, path: str, threat: Threat) -> list[Finding]:
    rows = pair.on(path, threat)
    searches = [one for one in rows if _searches(pair, one)]
    gradients = [
        one
        for one in rows
        if one.key.tier in _gradient_tiers(path) and not _searches(pair, one)
    ]
    if not gradients:
        return []
    if not searches:
        return [
            pair.finding(
                "S5",
                TITLE,
                "pass",
                f"{threat_text(threat)}: no search without gradients was run",
                path=path,
            )
        ]
    found: list[Finding] = []
    best, search = weakest(gradients), weakest(searches)
    if path == IMAGE and exceeds(best.value, search.value):
        found += _suspect(
            pair,
            gradients,
            f"{threat_text(threat)}: {name(search)} leaves {accuracy(search):.2f}, the "
            f"best gradient attack, {name(best)}, {accuracy(best):.2f}",
        )
    masked = _masked(pair, path, gradients, searches)
    n = len(best.value)
    named = ", ".join(str(sample) for sample in masked[:LISTED])
    said = (
        f"{threat_text(threat)}: of {n} images {len(masked)} are broken by "
        f"{', '.join(dict.fromkeys(map(name, searches)))} alone"
    )
    if len(masked) >= MASKED_COUNT and len(masked) > MASKED_SHARE * n:
        found += _suspect(pair, gradients, f"gradient masking; {said}: samples {named}")
    return found or [pair.finding("S5", TITLE, "pass", said, path=path)]


def _gradient_tiers(path: str) -> tuple[str, ...]:
    return ("oblivious",) if path == IMAGE else GRADIENT_TIERS


def _searches(pair: Pair, one: Outcome) -> bool:
    if one.key.tier == "oblivious":
        return one.path == IMAGE and pair.kind(one) == "square"
    return one.key.tier in SEARCHES


def _masked(
    pair: Pair,
    path: str,
    gradients: Sequence[Outcome],
    searches: Sequence[Outcome],
) -> list[int]:
    """Samples, right when clean, that searches break and no gradient does."""
    by_gradient = np.min([one.value for one in gradients], axis=0)
    by_search = np.min([one.value for one in searches], axis=0)
    masked = (by_search < 0.5) & (by_gradient >= 0.5)
    masked &= by_gradient - by_search >= MASKED_GAP
    clean = pair.clean(path)
    if clean is not None:
        masked &= clean.value >= 0.5
    return [int(sample) for sample in gradients[0].table.sample[masked]]


def _suspect(pair: Pair, rows: Sequence[Outcome], evidence: str) -> list[Finding]:
    return [
        pair.about(
            one,
            "S5",
            TITLE,
            "fail",
            evidence,
            "The gradient does not say where to go: quote a search without gradients, "
            "raise its queries, or give the defense a `surrogate`.",
            "SUSPECT",
        )
        for one in rows
    ]
