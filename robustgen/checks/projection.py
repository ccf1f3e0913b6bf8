"""S13 and S14: is the projection sound, and what does each part of the defense add?

Neither changes a verdict: a bad projection is still measured soundly.
"""

import numpy as np

from robustgen.checks.compare import exceeds
from robustgen.checks.finding import Finding
from robustgen.checks.pair import (
    IMAGE,
    NOT_MEASURED,
    Pair,
    accuracy,
    name,
    threat_of,
    threat_text,
    weakest,
)
from robustgen.names import DEFENSE
from robustgen.outcomes import Outcome
from robustgen.table import PATHS, PredictionTable

S13 = "The projection keeps what the classifier needs"
S14 = "Each part of the defense adds something"

LOW_PSNR = 15.0
"""dB of the median reconstruction below which it hardly resembles its image: an error
of 0.18 per pixel."""

NO_DESCENT = 0.99
"""Median of final by initial loss above which the projection does not descend."""

WORSE_UNDER_ATTACK = 1.25
"""Factor by which the final loss may rise under attack before the images count as
outside of what the generator makes."""

CONTROL = "image_ensemble"
"""The path that averages views and needs no generator."""

PARTS = (*PATHS[:4], CONTROL, DEFENSE)
"""Paths in the order in which parts of the defense are switched on."""


def check_projection(pair: Pair) -> list[Finding]:
    """S13: reconstructions resemble their images and cost little accuracy."""
    tables = [t for t in pair.tables if t.key.split == "test" and not t.key.target]
    clean = [t for t in tables if t.key.attack == "clean" and "final_loss" in t.cost]
    if not clean:
        none = not any("final_loss" in table.cost for table in tables)
        return [
            pair.finding(
                "S13",
                S13,
                "pass" if none else "warn",
                "the run projects no image"
                if none
                else f"{NOT_MEASURED}no clean image was projected",
                "" if none else "List `clean` among the attacks.",
            )
        ]
    found = [_health(pair, clean[0])]
    for table in tables:
        if table.key.tier != "none" and "final_loss" in table.cost:
            found.append(_under_attack(pair, clean[0], table))
    return found


def _median(table: PredictionTable, column: str) -> float:
    values = table.cost.get(column, np.full(0, np.nan, np.float32))
    return float(np.median(values)) if len(values) else float("nan")


def _descent(table: PredictionTable) -> float:
    start = table.cost["initial_loss"].astype(np.float64)
    end = table.cost["final_loss"].astype(np.float64)
    # An initial loss of 0 cannot fall.
    ratio = np.divide(end, start, out=np.zeros_like(end), where=start > 0)
    return float(np.median(ratio)) if len(ratio) else float("nan")


def _health(pair: Pair, clean: PredictionTable) -> Finding:
    psnr, faults = _median(clean, "psnr"), list[str]()
    said = f"median final loss {_median(clean, 'final_loss'):.3g}"
    if not np.isnan(psnr):
        said += f", PSNR {psnr:.1f} dB"
        if psnr < LOW_PSNR:
            faults.append(f"PSNR below {LOW_PSNR:g} dB")
    if "initial_loss" in clean.cost:
        descent = _descent(clean)
        said += f", final by initial loss {descent:.2f}"
        if descent > NO_DESCENT:
            faults.append("the loss does not fall")
    image, projected = pair.clean(IMAGE), pair.clean("reconstruction")
    if image is not None and projected is not None:
        said += (
            f", clean accuracy {accuracy(image):.2f} -> {accuracy(projected):.2f} by "
            "reconstruction"
        )
        if exceeds(image.value, projected.value):
            faults.append("reconstruction costs clean accuracy")
    return pair.finding(
        "S13",
        S13,
        "warn" if faults else "pass",
        f"{'; '.join(faults)}: {said}" if faults else said,
        "Raise the steps of the projection, or take an encoder and generator trained "
        "on this data."
        if faults
        else "",
        path="reconstruction",
    )


def _under_attack(
    pair: Pair, clean: PredictionTable, table: PredictionTable
) -> Finding:
    before, after = _median(clean, "final_loss"), _median(table, "final_loss")
    worse = after > WORSE_UNDER_ATTACK * before
    return pair.finding(
        "S13",
        S13,
        "warn" if worse else "pass",
        f"median final loss {before:.3g} clean, {after:.3g} under {table.key.attack}",
        "Attacked images lie farther from what the generator makes; their "
        "reconstructions may lose the class as well as the attack."
        if worse
        else "",
        attack=table.key.attack,
        tier=table.key.tier,
        path="reconstruction",
    )


def check_ablation(pair: Pair) -> list[Finding]:
    """S14: under each oblivious attack, and under the ladder, part by part."""
    found: list[Finding] = []
    oblivious = [one for one in pair.attacked if one.key.tier == "oblivious"]
    for attack in dict.fromkeys(one.key.attack for one in oblivious):
        rows = {one.path: one for one in oblivious if one.key.attack == attack}
        found += _parts(pair, rows, attack, attack)
    adaptive = [one for one in pair.attacked if one.key.tier != "oblivious"]
    for threat in dict.fromkeys(threat_of(one) for one in adaptive):
        rows = {
            path: weakest(group) for path in PARTS if (group := pair.on(path, threat))
        }
        found += _parts(
            pair, rows, "", f"the strongest attack at {threat_text(threat)}"
        )
    return found or [
        pair.finding("S14", S14, "pass", "the run has no attacked path to compare")
    ]


def _parts(
    pair: Pair, rows: dict[str, Outcome], attack: str, under: str
) -> list[Finding]:
    listed = [path for path in PARTS if path in rows]
    control = CONTROL if CONTROL in rows else IMAGE
    defended = [path for path in listed if path not in (IMAGE, CONTROL)]
    if control not in rows or not defended:
        return []
    said = ", ".join(
        f"{path} {accuracy(rows[path]):.2f}"
        + (f" ({name(rows[path])})" if not attack else "")
        for path in listed
    )
    found: list[Finding] = []
    for path in defended:
        first, second = rows[control].value, rows[path].value
        helps = exceeds(second, first)
        gained, lost = int((second > first).sum()), int((second < first).sum())
        found.append(
            pair.finding(
                "S14",
                S14,
                "pass" if helps else "warn",
                f"under {under}: {path} against {control}: "
                f"{float((second - first).mean()):+.2f} (+{gained} -{lost} of "
                f"{len(first)} images); {said}",
                ""
                if helps
                else f"{path} does no better than {control}, which needs no generator: "
                "do not credit the generator.",
                attack=attack,
                tier="oblivious" if attack else "",
                path=path,
            )
        )
    return found
