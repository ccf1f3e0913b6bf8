"""Outcomes and evidence made by hand, for tests of the checks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robustgen.checks import Finding
from robustgen.checks.pair import Pair, pairs_of
from robustgen.evidence import (
    Evidence,
    GradientEvidence,
    OutputEvidence,
    RandomnessEvidence,
    SweepEvidence,
)
from robustgen.outcomes import Outcome, Outcomes
from robustgen.table import PredictionTable, TableKey

EPS = 8 / 255
N = 100
SUITE: Mapping[str, Any] = {
    "attacks": [
        {"name": name, "attack": name}
        for name in ("clean", "fgsm", "pgd", "cw", "square")
    ],
    "splits": {"val": N, "test": N},
}


def outcome(
    attack: str,
    path: str,
    right: float | Sequence[float],
    *,
    tier: str | None = None,
    norm: str = "linf",
    eps: float = EPS,
    split: str = "test",
    alpha_from: str = "",
    cost: Mapping[str, Sequence[float]] | None = None,
    classes: int = 10,
    n: int = N,
    sample: Sequence[int] | None = None,
) -> Outcome:
    """One row.

    Args:
        attack: Its name; a tier's name aims it at the path.
        path: What is scored.
        right: Share of the first samples that are right, or one value per sample in
            steps of a tenth: the share of ten draws.
        tier: By default `oblivious`, `none` for `clean`, or the attack's own name.
        norm: Of the threat.
        eps: Of the threat.
        split: `val` or `test`.
        alpha_from: Protocol of alpha.
        cost: Columns of the table.
        classes: Number of classes.
        n: Number of samples, where `right` is a share.
        sample: Indices of the samples; by default 1000, 1001, ...
    """
    known = {"clean": "none", "fgsm": "oblivious", "pgd": "oblivious"}
    ladder = ["transfer", "bpda_identity", "bpda_encoder", "unrolled", "latent", "spsa"]
    aimed = attack if attack in ladder else "oblivious"
    tier = tier or known.get(attack, aimed)
    if isinstance(right, Sequence):
        values = np.array(right, np.float64)
    else:
        values = np.zeros(n)
        values[: round(right * n)] = 1
    n = len(values)
    binary = np.isin(values, (0, 1)).all()
    draws = 1 if binary else 10
    correct = np.arange(draws)[:, None] < np.round(values * draws)[None]
    key = TableKey(
        "faces",
        "cnn",
        attack,
        tier,
        "none" if tier == "none" else norm,
        0.0 if tier == "none" else eps,
        split,
        "" if tier in ("none", "oblivious") else path,
    )
    table = PredictionTable(
        key=key,
        class_names=tuple(f"class{i}" for i in range(classes)),
        sample=np.array(
            np.arange(1000, 1000 + n) if sample is None else sample, np.int64
        ),
        label=np.arange(n) % classes,
        single={},
        views={},
        cost={k: np.array(v, np.float32) for k, v in (cost or {}).items()},
    )
    return Outcome(
        table=table,
        path=path,
        alpha_from=alpha_from,
        alpha=0.5 if alpha_from else float("nan"),
        correct=correct,
        predicted=np.where(values >= 0.5, table.label, (table.label + 1) % classes),
        probability=np.zeros(n),
    )


def outcomes(*rows: Outcome) -> Outcomes:
    return Outcomes(rows, ())


def evidence(**parts: Any) -> Evidence:
    return Evidence(
        dataset="faces", classifier="cnn", seconds=1.0, run_seconds=10.0, **parts
    )


def pair(
    *rows: Outcome,
    measured: Evidence | None = None,
    suite: Mapping[str, Any] = SUITE,
) -> Pair:
    """The only pair of these rows."""
    given = [] if measured is None else [measured]
    (found,) = pairs_of(outcomes(*rows), given, suite)
    return found


def sweep(
    accuracy: float,
    factor: float,
    *,
    path: str = "image",
    attack: str = "pgd",
    tier: str = "oblivious",
    n: int = 20,
) -> SweepEvidence:
    return SweepEvidence(
        path=path,
        attack=attack,
        tier=tier,
        factor=factor,
        eps=factor * EPS,
        n=n,
        accuracy=accuracy,
    )


def gradient(
    path: str = "reconstruction", tier: str = "bpda_encoder", **changes: float
) -> GradientEvidence:
    healthy = {
        "zero_share": 0.0,
        "nonfinite_share": 0.0,
        "norm_low": 0.1,
        "norm_median": 1.0,
        "norm_high": 5.0,
        "cosine": float("nan"),
        "slope_error": 0.001,
        "gain": 1.0,
    }
    return GradientEvidence(path=path, tier=tier, n=20, **{**healthy, **changes})


def output(path: str = "image", **changes: Any) -> OutputEvidence:
    sound: dict[str, Any] = {
        "classes": 10,
        "finite": True,
        "kind": "logits",
        "all_negative_share": 0.0,
        "top_class_share": 0.2,
        "top_label_share": 0.2,
        "saturated_share": 0.0,
    }
    return OutputEvidence(path=path, **{**sound, **changes})


def randomness(path: str = "image", **changes: bool) -> RandomnessEvidence:
    sound = {
        "declared": False,
        "detected": False,
        "repeatable": True,
        "uses_global_rng": False,
    }
    return RandomnessEvidence(path=path, **{**sound, **changes})


def told(findings: Sequence[Finding]) -> list[tuple[str, str]]:
    """Status and effect of each finding."""
    return [(one.status, one.effect) for one in findings]


def said(findings: Sequence[Finding]) -> tuple[str, str, str]:
    """Status, effect and evidence of the only finding."""
    (one,) = findings
    return one.status, one.effect, one.evidence


def effects(findings: Sequence[Finding]) -> dict[tuple[str, str, str], str]:
    """Effect of every finding that has one, by attack, tier and path."""
    return {(o.attack, o.tier, o.path): o.effect for o in findings if o.effect}
