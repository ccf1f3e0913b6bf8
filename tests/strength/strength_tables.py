"""Runs of known outcomes, for tests of what is counted about attacks."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robustgen.outcomes import Outcome, Outcomes
from robustgen.table import PredictionTable, TableKey

EPS = {4: 4 / 255, 8: 8 / 255, 16: 16 / 255}


def table(
    attack: str,
    right: str | Mapping[str, str],
    *,
    norm: str = "linf",
    eps: float = 8 / 255,
    tier: str = "oblivious",
    target: str = "",
    **cost: Sequence[float],
) -> PredictionTable:
    """A test table of two classes, all of whose labels are 0.

    Args:
        attack: Name of the attack; `clean` for none.
        right: One `+` or `-` per sample: whether it is right; by path, or of `image`.
        norm: Norm of the threat.
        eps: Radius.
        tier: What the attack knows.
        target: Path that it is aimed at.
        cost: Columns of cost that matter; others are constant.
    """
    by_path = {"image": right} if isinstance(right, str) else right
    if attack == "clean":
        norm, eps, tier = "none", 0.0, "none"
    n = len(next(iter(by_path.values())))
    full: dict[str, Sequence[float]] = {
        "distance_linf": [0.01] * n,
        "distance_l2": [0.5] * n,
        "attack_forwards": [10] * n,
        "attack_backwards": [9] * n,
        **cost,
    }
    return PredictionTable(
        key=TableKey("digits", "cnn", attack, tier, norm, eps, "test", target),
        class_names=("zero", "one"),
        sample=np.arange(n),
        label=np.zeros(n, np.int64),
        single={path: probabilities(marks) for path, marks in by_path.items()},
        views={},
        cost={name: np.array(v, np.float32) for name, v in full.items()},
    )


def probabilities(marks: str) -> np.ndarray:
    """Rows (0.9, 0.1) for each `+` and (0.2, 0.8) for each `-`, [N, 2]."""
    return np.array([{"+": (0.9, 0.1), "-": (0.2, 0.8)}[one] for one in marks], "f4")


def drawn(
    draws: Sequence[Sequence[int]],
    labels: Sequence[int],
    *,
    classes: int = 2,
    fixed: Sequence[int] | None = None,
) -> Outcomes:
    """One adaptive test table scored on draws that decide for the given classes.

    Args:
        draws: Class decided for, by sample and draw.
        labels: True classes.
        classes: Number of classes.
        fixed: Class decided for on the draw that the attacker knew.
    """
    key = TableKey(
        *("digits", "cnn", "unrolled", "unrolled", "linf", 8 / 255, "test"),
        "reconstruction",
    )
    sure = np.eye(classes, dtype=np.float32) * np.float32(0.5) + np.float32(0.25)
    found = PredictionTable(
        key=key,
        class_names=tuple(map(str, range(classes))),
        sample=np.arange(len(labels)),
        label=np.array(labels, np.int64),
        single={},
        views={},
        cost={},
        draws={"reconstruction": sure[np.array(draws, np.int64)]},
        fixed={} if fixed is None else {"reconstruction": sure[np.array(fixed)]},
    )
    right = np.array(labels) == np.array(draws).T
    outcome = Outcome(
        table=found,
        path="reconstruction",
        alpha_from="",
        alpha=math.nan,
        correct=right,
        predicted=np.array(labels, np.int64),
        probability=right.mean(axis=0),
    )
    return Outcomes((outcome,), ())


def suite(*attacks: str, sweeps: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A suite record as far as the strength of attacks reads one."""
    known = sweeps or {}
    return {
        "name": "by_hand",
        "seed": 0,
        "paths": ["image", "reconstruction"],
        "attacks": [{"name": name, "sweep": known.get(name)} for name in attacks],
    }
