"""S10 and S11: what the paths return, and whether they return it twice."""

import numpy as np

from robustgen.checks.finding import Finding
from robustgen.checks.pair import (
    GRADIENT_TIERS,
    IMAGE,
    NOT_MEASURED,
    Pair,
    threat_of,
)
from robustgen.evidence import OutputEvidence, RandomnessEvidence

S10 = "Every path returns finite logits that depend on the image"
S11 = "Randomness is as declared, and can be repeated"

CONSTANT_SHARE = 0.99
"""Share of one prediction from which a path counts as a constant."""

ONE_LABEL = 0.9
"""Share of one label from which that prediction may simply be right."""

SATURATED_SHARE = 0.5
"""Share of images of probability 1 in float32, whose cross-entropy has gradient 0."""


def check_outputs(pair: Pair) -> list[Finding]:
    """S10 for every path: by the tables, and by the probes."""
    found = _not_finite(pair)
    measured = pair.evidence.outputs if pair.evidence else ()
    for one in measured:
        found += _path(pair, one)
    if not measured:
        found.append(
            pair.finding(
                "S10",
                S10,
                "warn",
                f"{NOT_MEASURED}the probes looked at no path",
                "Run the probes.",
            )
        )
    return found


def _not_finite(pair: Pair) -> list[Finding]:
    found: list[Finding] = []
    for table in pair.tables:
        for group in (table.single, table.views, table.draws):
            for path, values in group.items():
                bad = np.array([not np.isfinite(row).all() for row in values], bool)
                if not bad.any():
                    continue
                found.append(
                    pair.finding(
                        "S10",
                        S10,
                        "fail",
                        f"{int(bad.sum())} of {len(bad)} {table.key.split} images have "
                        "probabilities that are not finite",
                        "Look for NaN in the network and in the defense.",
                        "INVALID",
                        attack=table.key.attack,
                        tier=table.key.tier,
                        path=path,
                    )
                )
    return found


def _path(pair: Pair, one: OutputEvidence) -> list[Finding]:
    found: list[Finding] = []
    if not one.finite:
        found.append(
            pair.finding(
                "S10",
                S10,
                "fail",
                "outputs on clean images are not finite",
                "Look for NaN in the network and in the defense.",
                "INVALID",
                path=one.path,
            )
        )
    top, label, n = _shares(pair, one)
    if one.classes >= 2 and top >= CONSTANT_SHARE and label < ONE_LABEL:
        found.append(
            pair.finding(
                "S10",
                S10,
                "fail",
                f"{top:.0%} of {n} images get one prediction, the most frequent label "
                f"has {label:.0%}",
                "A constant cannot be attacked and classifies nothing: its accuracy is "
                "the share of one class. Check what the path returns.",
                "INVALID",
                path=one.path,
            )
        )
    found += _probabilities(pair, one)
    found += _saturated(pair, one)
    negative = (
        f"; {one.all_negative_share:.0%} have all logits below 0, which CW of this "
        "package masks safely"
        if one.all_negative_share > 0
        else ""
    )
    return found or [
        pair.finding(
            "S10",
            S10,
            "pass",
            f"{one.kind} of {one.classes} classes, finite, most frequent prediction "
            f"{top:.0%}, saturated {one.saturated_share:.0%}{negative}",
            path=one.path,
        )
    ]


def _shares(pair: Pair, one: OutputEvidence) -> tuple[float, float, str]:
    """Shares of the most frequent prediction and label: of the run's clean images, or
    else of the few that the probes looked at.
    """
    row = pair.clean(one.path)
    if row is None:
        return one.top_class_share, one.top_label_share, "the probed"
    n = len(row.predicted)
    top, label = (
        int(np.bincount(classes).max()) / n
        for classes in (row.predicted, row.table.label)
    )
    return top, label, f"{n} clean"


def _probabilities(pair: Pair, one: OutputEvidence) -> list[Finding]:
    if one.kind != "probabilities":
        return []
    said = "the rows lie in [0, 1] and sum to 1: probabilities where logits belong"
    advice = (
        "Return logits or log-probabilities: a second softmax flattens the loss that "
        "CW, DLR and cross-entropy climb."
    )
    # Oblivious attacks climb the loss of the bare classifier, whatever path is scored.
    tiers = ("oblivious",) if one.path == IMAGE else GRADIENT_TIERS
    return [
        pair.finding(
            "S10",
            S10,
            "warn",
            said,
            advice,
            "SUSPECT",
            tier=tier,
            path="" if one.path == IMAGE else one.path,
        )
        for tier in tiers
    ]


def _saturated(pair: Pair, one: OutputEvidence) -> list[Finding]:
    if one.saturated_share <= SATURATED_SHARE:
        return []
    said = f"{one.saturated_share:.0%} of the probabilities round to 1 in float32"
    advice = (
        "Cross-entropy has no gradient there: attack with the margin loss, or divide "
        "the logits by a temperature."
    )
    tiers = ("oblivious",) if one.path == IMAGE else GRADIENT_TIERS
    found: list[Finding] = []
    for tier in tiers:
        rows = [row for row in pair.on(one.path) if row.key.tier == tier]
        if one.path == IMAGE:
            rows = [row for row in rows if pair.follows_gradients(row)]
        undone = {t: pair.undone(one.path, t) for t in map(threat_of, rows)}
        for row in rows:
            harmless = undone[threat_of(row)]
            found.append(
                pair.about(
                    row,
                    "S10",
                    S10,
                    "warn" if harmless else "fail",
                    f"{said}; yet {harmless}" if harmless else said,
                    advice,
                    "" if harmless else "SUSPECT",
                )
            )
    return found or [pair.finding("S10", S10, "warn", said, advice, path=one.path)]


def check_randomness(pair: Pair) -> list[Finding]:
    """S11 for every path that the probes looked at, and for those they did not."""
    measured = pair.evidence.randomness if pair.evidence else ()
    found = [_randomness(pair, one) for one in measured]
    seen = {one.path for one in measured}
    # Clean rows stay as they are: a missing probe is no evidence against them.
    missing = dict.fromkeys(
        (one.path, one.key.tier) for one in pair.attacked if one.path not in seen
    )
    found += [
        pair.finding(
            "S11",
            S11,
            "warn",
            f"{NOT_MEASURED}{path} was not evaluated twice",
            "Run the probes.",
            "SUSPECT",
            tier=tier,
            path=path,
        )
        for path, tier in missing
    ]
    return found or [pair.finding("S11", S11, "pass", "the run has no attack")]


def _randomness(pair: Pair, one: RandomnessEvidence) -> Finding:
    def says(value: bool) -> str:
        return "random" if value else "not random"

    said = f"declared {says(one.declared)}, found {says(one.detected)}"
    if not one.repeatable:
        return pair.finding(
            "S11",
            S11,
            "fail",
            f"{said}; the same draw gave two outputs",
            "Draw all randomness from the generator that is handed in, and keep no "
            "state between calls: attack and score saw different defenses.",
            "INVALID",
            path=one.path,
        )
    if one.declared != one.detected:
        return pair.finding(
            "S11",
            S11,
            "fail",
            said,
            "Declare it as it is: only a path that is declared random is attacked and "
            "scored over several draws.",
            "SUSPECT",
            path=one.path,
        )
    if one.uses_global_rng and not one.detected:
        return pair.finding(
            "S11",
            S11,
            "warn",
            f"{said}; the output follows the global generators",
            "Draw from a generator of your own.",
            path=one.path,
        )
    return pair.finding("S11", S11, "pass", said, path=one.path)
