"""S15 and S16: are there enough images, and are they the right ones?"""

import math

import numpy as np

from robustgen.checks.finding import Finding
from robustgen.checks.pair import NOT_MEASURED, Pair, accuracy, name
from robustgen.evidence import DataEvidence
from robustgen.intervals import wilson_interval
from robustgen.outcomes import Outcome
from robustgen.table import PredictionTable

S15 = "There are enough images"
S16 = "All images asked for are there, each once"

HALF_WIDTH = 0.1
"""Half-width of an interval above which a number orders few defenses."""

WANTED_HALF_WIDTH = 0.05
"""Half-width for which the advice says how many images it takes."""

FEWEST = 10
"""Images below which a share says next to nothing: its interval spans half of the
range."""


def check_precision(pair: Pair) -> list[Finding]:
    """S15 by the widest interval of the run."""
    if not pair.scored:
        return [
            pair.finding(
                "S15",
                S15,
                "warn",
                f"{NOT_MEASURED}no test image",
                "Run the suite again.",
            )
        ]
    half, place = max((_half_width(o), -i) for i, o in enumerate(pair.scored))
    widest = pair.scored[-place]
    n = len(widest.value)
    share = accuracy(widest)
    said = (
        f"the widest interval is {share:.2f} ± {half:.2f} ({name(widest)} on "
        f"{widest.path}, {n} images)"
    )
    if half <= HALF_WIDTH:
        return [pair.finding("S15", S15, "pass", said)]
    needed = math.ceil(_Z**2 * max(share * (1 - share), 0.09) / WANTED_HALF_WIDTH**2)
    few = n < FEWEST
    return [
        pair.finding(
            "S15",
            S15,
            "fail" if few else "warn",
            said,
            f"For ± {WANTED_HALF_WIDTH:g} take {needed} test images.",
            "SUSPECT" if few else "",
        )
    ]


def _half_width(one: Outcome) -> float:
    low, high = wilson_interval(float(one.value.sum()), len(one.value))
    return (high - low) / 2


_Z = 1.959964
"""Standard errors of a two-sided interval at 95%."""


def check_data(pair: Pair) -> list[Finding]:
    """S16 for every table, and for what the data set held."""
    measured = {d.split: d for d in (pair.evidence.data if pair.evidence else ())}
    found: list[Finding] = []
    for table in pair.tables:
        found += _table(pair, table, measured.get(table.key.split))
    for one in measured.values():
        found += _split(pair, one)
    if not measured:
        found.append(
            pair.finding(
                "S16",
                S16,
                "warn",
                f"{NOT_MEASURED}the probes did not look at the data",
                "Run the probes.",
            )
        )
    return found


def _table(
    pair: Pair, table: PredictionTable, measured: DataEvidence | None
) -> list[Finding]:
    def invalid(evidence: str, advice: str) -> Finding:
        return pair.finding(
            "S16",
            S16,
            "fail",
            f"{table.key.split}: {evidence}",
            advice,
            "INVALID",
            attack=table.key.attack,
            tier=table.key.tier,
            path=table.key.target,
        )

    found: list[Finding] = []
    n, distinct = len(table.sample), len(np.unique(table.sample))
    if distinct < n:
        found.append(
            invalid(
                f"{n - distinct} of {n} samples stand twice",
                "Each sample counts once; check the `index` of the data set.",
            )
        )
    if measured is not None and n < measured.found:
        found.append(
            invalid(
                f"{n} images scored, {measured.found} were there",
                "A partial batch was dropped, or a run was cut short: run again.",
            )
        )
    asked = pair.promised.get(table.key.split, 0)
    if measured is None and n < asked:
        found.append(
            pair.finding(
                "S16",
                S16,
                "warn",
                f"{table.key.split}: {asked} images asked for, {n} scored; "
                f"{NOT_MEASURED}how many there were",
                "Run the probes.",
                attack=table.key.attack,
                tier=table.key.tier,
                path=table.key.target,
            )
        )
    return found


def _split(pair: Pair, one: DataEvidence) -> list[Finding]:
    labels = " ".join(map(str, one.label_counts))
    said = f"{one.split}: {one.found} images, by label {labels}"
    faults: list[str] = []
    advice: list[str] = []
    if one.found < one.asked:
        faults.append(f"{one.asked} were asked for, {one.found} found")
        advice.append("Lower `splits`, or bring a larger data set.")
    elif one.found > one.asked:
        faults.append(f"{one.found} found, only {one.asked} asked for")
        advice.append("Check how the data set is cut.")
    if one.duplicate_images:
        faults.append(f"{one.duplicate_images} images have the pixels of another")
        advice.append("Remove duplicates: intervals take images for independent.")
    if one.label_counts and min(one.label_counts) == 0:
        faults.append("a class has no image")
        advice.append("Accuracy says nothing about that class.")
    if not faults:
        return [pair.finding("S16", S16, "pass", said)]
    return [
        pair.finding(
            "S16", S16, "warn", f"{'; '.join(faults)}; {said}", " ".join(advice)
        )
    ]
