"""Planted defenses through the whole harness: their suite, and how a report is judged.

A defense that is weak must be unmasked, and one that is not must be trusted.
"""

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from robustgen.canaries.result import Found
from robustgen.names import DEFENSE
from robustgen.report_schema import json_safe
from robustgen.runner import run

MODULE = "robustgen.canaries.planted"

PLANTED = ("jpeg", "rounding", "resizing", "saturated", "detached", "blind")
"""Weak defenses of `robustgen.canaries.planted`, each with another fault."""

CONTROL = "robust"
"""The defense of `robustgen.canaries.planted` whose accuracy is real."""

TRUSTED, INVALID = "TRUSTED", "INVALID"
FLAGGED = ("SUSPECT", INVALID)

SEARCHES = ("square", "spsa")
"""Tiers without gradients, whose smoke budget is too small for a robust network."""

NEAR = 0.05
"""How near to the undefended accuracy some tier must bring a weak defense."""

SUITE = """\
version: 1
name: planted_{name}
about: A whole defense of digits, brought by a factory.
profiles:
  embedded:
    pairs:
      - dataset: digits
        classifier: {classifier}
        defense: {{factory: "{module}:{name}"}}
attacks:
  - clean
  - {{preset: pgd, eps: 32/255}}
tiers: [oblivious, transfer, bpda_identity, unrolled, square, spsa]
ladder: {{norm: linf, eps: 32/255, budget: smoke}}
paths: [image, defense]
splits: {{val: 20, test: {count}}}
"""


def suite_text(name: str, *, count: int = 40) -> str:
    """The suite of one planted defense, as a user would write it.

    Args:
        name: One of `PLANTED`, `CONTROL`, or another factory of the module.
        count: Test images.
    """
    classifier = "digits_robust" if name == CONTROL else "digits"
    return SUITE.format(name=name, classifier=classifier, module=MODULE, count=count)


def accuracy_of(
    name: str, *, count: int = 40, folder: Path | None = None
) -> pd.DataFrame:
    """Runs the suite of a planted defense and returns the rows of accuracy.csv.

    Args:
        name: See `suite_text`.
        count: Test images.
        folder: Where the run is written; by default a temporary folder.
    """
    with tempfile.TemporaryDirectory() as temporary:
        place = folder or Path(temporary)
        path = place / "suite.yaml"
        path.write_text(suite_text(name, count=count), encoding="utf-8")
        report = run(path, out=place / "run", profile="embedded", plugins=(MODULE,))
    return report.accuracy


def judge_planted(accuracy: pd.DataFrame) -> Found:
    """Whether a weak defense was unmasked.

    Either some row of the path `defense` is SUSPECT or INVALID, or some attack within
    the radius leaves no more than 0.05 above what is left of the bare classifier.

    Args:
        accuracy: Rows of accuracy.csv of one suite of `suite_text`.
    """
    rows = _rows(accuracy, DEFENSE)
    attacked = [row for row in rows if row["tier"] != "none"]
    bare = [
        row["accuracy"] for row in _rows(accuracy, "image") if row["tier"] != "none"
    ]
    if not attacked or not bare:
        return Found("no row of the path `defense`, or of the bare classifier", False)
    undefended = min(bare)
    lowest = min(attacked, key=lambda row: row["accuracy"])
    seen = {row["verdict"] for row in rows}
    flags = [flag for flag in FLAGGED if flag in seen]
    said = f"{_name(lowest)} leaves {lowest['accuracy']:.2f}"
    said += f", {undefended:.2f} undefended"
    said += f"; {' and '.join(flags)}" if flags else "; no row flagged"
    fallen = lowest["accuracy"] <= undefended + NEAR
    return Found(said, passed=bool(flags) or bool(fallen))


def judge_constant(accuracy: pd.DataFrame, prior: float) -> Found:
    """Whether a constant is INVALID in every row and has the accuracy of its class.

    Args:
        accuracy: Rows of accuracy.csv.
        prior: Share of its class among the test images.
    """
    rows = _rows(accuracy, DEFENSE)
    if not rows:
        return Found("no row of the path `defense`", False)
    verdicts = sorted({str(row["verdict"]) for row in rows})
    shares = [row["accuracy"] for row in rows]
    return Found(
        f"verdicts {', '.join(verdicts)}; accuracy {min(shares):.3f} to "
        f"{max(shares):.3f}, share of its class {prior:.3f}",
        passed=verdicts == [INVALID] and all(abs(s - prior) < 1e-9 for s in shares),
    )


def judge_control(accuracy: pd.DataFrame) -> Found:
    """Whether the adversarially trained control is trusted and keeps its accuracy.

    Every row of the path `defense` is TRUSTED, and no attack that knows the defense
    leaves less than the oblivious one, which knows the same network, beyond chance:
    two standard errors of the difference of two shares. A search without gradients
    (`square`, `spsa`) may be SUSPECT: with few queries it leaves more than gradients
    do, and check S5 rightly says to quote the other row. The lowest row may not.

    Args:
        accuracy: Rows of accuracy.csv.
    """
    rows = _rows(accuracy, DEFENSE)
    oblivious = [row["accuracy"] for row in rows if row["tier"] == "oblivious"]
    adaptive = [row for row in rows if row["tier"] not in ("oblivious", "none")]
    if not oblivious or not adaptive:
        return Found("no oblivious or no adaptive row of the path `defense`", False)
    before, lowest = min(oblivious), min(row["accuracy"] for row in adaptive)
    share = (before + lowest) / 2
    count = min(row["n"] for row in adaptive)
    slack = 2 * math.sqrt(2 * share * (1 - share) / count)
    flagged = [row for row in rows if row["verdict"] != TRUSTED]
    wrong = [
        row
        for row in flagged
        if row["tier"] not in SEARCHES
        or row["verdict"] == INVALID
        or row["accuracy"] <= lowest
    ]
    listed = ", ".join(f"{_name(row)} {row['verdict']}" for row in flagged)
    return Found(
        f"PGD leaves {before:.2f}, every tier {lowest:.2f} or more; "
        f"{listed or 'every row TRUSTED'}",
        passed=not wrong and bool(lowest >= before - slack),
    )


def _rows(accuracy: pd.DataFrame, path: str) -> list[dict[str, Any]]:
    """Test rows of one path."""
    records: list[dict[str, Any]] = json_safe(accuracy.to_dict(orient="records"))
    return [row for row in records if (row["path"], row["split"]) == (path, "test")]


def _name(row: Mapping[str, Any]) -> str:
    return str(row["attack"] if row["tier"] == "oblivious" else row["tier"])
