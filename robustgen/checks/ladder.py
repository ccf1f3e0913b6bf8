"""S5: does an attack that knows more leave less?"""

from collections.abc import Sequence

from robustgen.checks.compare import exceeds
from robustgen.checks.finding import Finding
from robustgen.checks.masking import check_masking
from robustgen.checks.pair import (
    GRADIENT_TIERS,
    IMAGE,
    NOT_MEASURED,
    Pair,
    Threat,
    accuracy,
    name,
    threat_of,
    threat_text,
    weakest,
)
from robustgen.names import TIERS
from robustgen.outcomes import Outcome

S5 = "An attack that knows more leaves less"

KNOWLEDGE = ("oblivious", "transfer", *GRADIENT_TIERS)
"""Tiers in the order of what their gradients know."""

KNOWING = (*GRADIENT_TIERS, "latent", "projection_breaking")
"""Tiers that look inside the defense."""

ADVICE = (
    "Add to the suite `tiers: [oblivious, bpda_identity, bpda_encoder, unrolled, "
    "latent, square]`."
)


def check_ladder(pair: Pair) -> list[Finding]:
    """S5 for every path that was attacked."""
    found: list[Finding] = []
    for path in pair.paths:
        rows = pair.on(path)
        if rows and path == IMAGE:
            found += check_masking(pair, path, _threats(rows))
        elif rows:
            found += _defended(pair, path, rows)
    return found or [pair.finding("S5", S5, "pass", "the run has no attack")]


def _defended(pair: Pair, path: str, rows: Sequence[Outcome]) -> list[Finding]:
    tiers = {one.key.tier for one in rows}
    if tiers <= {"oblivious", "transfer"}:
        return [_not_attacked(pair, path, "no attack that knows the defense was run")]
    found: list[Finding] = []
    aimed = _threats([one for one in rows if one.key.tier != "oblivious"])
    if not tiers & set(KNOWING) and not any(pair.undone(path, t) for t in aimed):
        found.append(
            _not_attacked(
                pair, path, f"only {_listed(tiers)} were run, which see outputs alone"
            )
        )
    for threat in aimed:
        found += _rungs(pair, path, threat)
    found += check_masking(pair, path, aimed)
    for threat in _threats(rows):
        if threat not in aimed:
            found += _elsewhere(pair, path, threat, aimed)
    return found


def _threats(rows: Sequence[Outcome]) -> list[Threat]:
    return list(dict.fromkeys(threat_of(one) for one in rows))


def _listed(tiers: set[str]) -> str:
    return ", ".join(tier for tier in TIERS if tier in tiers)


def _not_attacked(pair: Pair, path: str, reason: str) -> Finding:
    skipped = [
        f"{tier}: {why}"
        for at, tier, why in (pair.evidence.skipped_tiers if pair.evidence else ())
        if at == path
    ]
    more = f" (skipped: {'; '.join(skipped)})" if skipped else ""
    return pair.finding(
        "S5",
        S5,
        "warn",
        f"{NOT_MEASURED}{reason}{more}",
        ADVICE,
        "SUSPECT",
        path=path,
    )


def _rungs(pair: Pair, path: str, threat: Threat) -> list[Finding]:
    """Compares every tier of one threat with the one that leaves least."""
    rows = [
        one
        for one in pair.rows
        if one.path == path and one.key.tier != "none" and threat_of(one) == threat
    ]
    oblivious = [one for one in rows if one.key.tier == "oblivious"]
    # The strongest attack stands for its tier: another that is weaker says nothing.
    stands = [
        weakest(one for one in oblivious if one.alpha_from == source)
        for source in dict.fromkeys(one.alpha_from for one in oblivious)
    ]
    adaptive = [one for one in rows if one.key.tier != "oblivious"]
    tiers = [*stands, *adaptive]
    lowest = weakest(one for one in tiers if one.alpha_from != "matched")
    listed = ", ".join(
        f"{name(one)}{_source(one)} {accuracy(one):.2f}" for one in tiers
    )
    said = f"{threat_text(threat)}: {listed}"
    found: list[Finding] = []
    for one in tiers:
        if not exceeds(one.value, lowest.value):
            continue
        weaker = _beaten_by_weaker(one, tiers)
        reason = (
            f"{name(one)} leaves {accuracy(one):.2f}, though {name(weaker)}, which "
            f"knows less, leaves {accuracy(weaker):.2f}"
            if weaker is not None
            else f"{name(lowest)} leaves {accuracy(lowest):.2f} where {name(one)} "
            f"leaves {accuracy(one):.2f}"
        )
        same = oblivious if one.key.tier == "oblivious" else [one]
        found += [
            pair.finding(
                "S5",
                S5,
                "fail",
                f"{reason}; {said}",
                f"Quote the row of {name(lowest)} instead.",
                "SUSPECT",
                attack=attack,
                tier=one.key.tier,
                path=path,
                alpha_from=one.alpha_from if one.key.tier == "oblivious" else "",
            )
            for attack in dict.fromkeys(other.key.attack for other in same)
        ]
    return found or [
        pair.finding(
            "S5",
            S5,
            "pass",
            f"no tier leaves more by more than chance; {said}",
            path=path,
        )
    ]


def _source(one: Outcome) -> str:
    return " (matched α)" if one.alpha_from == "matched" else ""


def _beaten_by_weaker(one: Outcome, tiers: Sequence[Outcome]) -> Outcome | None:
    """The row of a tier that knows less and leaves significantly less, if any."""
    if one.key.tier not in KNOWLEDGE:
        return None
    rank = KNOWLEDGE.index(one.key.tier)
    weaker = [
        other
        for other in tiers
        if other.key.tier in KNOWLEDGE[:rank] and other.alpha_from != "matched"
    ]
    if not weaker:
        return None
    best = weakest(weaker)
    return best if exceeds(one.value, best.value) else None


def _elsewhere(
    pair: Pair, path: str, threat: Threat, aimed: Sequence[Threat]
) -> list[Finding]:
    """Rows of a threat at which nothing that knows the defense was run."""
    drops = [_drop(pair, path, other) for other in aimed]
    if not any(drops):
        return []
    attacks = dict.fromkeys(one.key.attack for one in pair.on(path, threat))
    reason = "; ".join(drop for drop in drops if drop)
    return [
        pair.finding(
            "S5",
            S5,
            "warn",
            f"{NOT_MEASURED}nothing that knows the defense was run at "
            f"{threat_text(threat)}, and {reason}",
            "Take the ladder's rows instead, or run the ladder at this threat: "
            "`ladder: {norm: ..., eps: ...}`.",
            "SUSPECT",
            attack=attack,
            path=path,
        )
        for attack in attacks
    ]


def _drop(pair: Pair, path: str, threat: Threat) -> str:
    """How knowledge of the defense lowers accuracy at one threat; empty if not."""
    rows = pair.on(path, threat)
    oblivious = [one for one in rows if one.key.tier == "oblivious"]
    lowest = weakest(one for one in rows if one.key.tier != "oblivious")
    if not oblivious:
        return f"no oblivious attack at {threat_text(threat)} shows what it would cost"
    before = weakest(oblivious)
    if not exceeds(before.value, lowest.value):
        return ""
    return (
        f"at {threat_text(threat)} {name(lowest)} leaves {accuracy(lowest):.2f} where "
        f"{name(before)} leaves {accuracy(before):.2f}"
    )
