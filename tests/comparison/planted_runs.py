"""Finished runs made by hand, for tests of comparisons."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robustgen.evidence import Evidence
from robustgen.finished import FinishedRun
from robustgen.table import PredictionTable, TableKey, save_table

EPS = 8 / 255

SUITE: Mapping[str, Any] = {
    "version": 1,
    "name": "planted",
    "seed": 0,
    "profile": "embedded",
    "attacks": [
        {
            "name": "clean",
            "about": "Nothing",
            "attack": "clean",
            "norm": "none",
            "eps": 0.0,
            "tier": "none",
            "sources": {},
            "settings": {},
        },
        {
            "name": "pgd",
            "about": "Some words",
            "attack": "pgd",
            "norm": "linf",
            "eps": EPS,
            "tier": "oblivious",
            "sources": {"eps": "a paper"},
            "settings": {"steps": 40, "step_size": 2 / 255},
        },
    ],
    "paths": ["image", "reconstruction"],
    "splits": {"val": 10, "test": 10},
    "projection": {"method": "hybrid", "passes": 6},
    "ensemble": {"size": 2, "resamples": 3, "alphas": 3},
    "pairs": [{"dataset": "digits", "classifier": "cnn", "generator": "digits"}],
}

MANIFEST: Mapping[str, Any] = {
    "profile": "embedded",
    "profile_message": "Profile: embedded.",
    "seeds": {"suite": 0},
    "versions": {"torch": "2.15.0"},
    "assets_sha256": {"classifier: cnn": "c" * 64},
    "data": {"digits/cnn test": {"sha256": "d" * 64, "n": 10}},
    "code_sha256": "a" * 64,
    "git_commit": "b" * 40,
    "machine": {"device": "cpu"},
    "batch_size": 20,
    "limit": None,
    "started": "2026-01-01T00:00:00+00:00",
    "wall_seconds": 1.0,
}


def table(
    attack: str,
    right: str | Mapping[str, str],
    *,
    dataset: str = "digits",
    tier: str = "oblivious",
    norm: str = "linf",
    eps: float = EPS,
    sample: Sequence[int] | None = None,
    label: Sequence[int] | None = None,
    class_names: tuple[str, ...] = ("zero", "one"),
    draws: Sequence[str] = (),
    distance: float = EPS / 2,
) -> PredictionTable:
    """A test table of two classes.

    Args:
        attack: Name of the attack; `clean` for none.
        right: One `+` or `-` per sample: whether it is right; by path, or of `image`.
        dataset: Name of the data set.
        tier: What the attack knows.
        norm: Norm of the threat.
        eps: Radius.
        sample: Indices of the samples; by default 100, 101, ...
        label: Their classes; by default all 0.
        class_names: Names of the classes.
        draws: One string of `+` and `-` for each draw of the path `reconstruction`.
        distance: How far each image lies from the clean one.
    """
    by_path = {"image": right} if isinstance(right, str) else right
    if attack == "clean":
        norm, eps, tier, distance = "none", 0.0, "none", 0.0
    n = len(next(iter((*by_path.values(), *draws))))
    labels = np.zeros(n, np.int64) if label is None else np.array(label, np.int64)
    drawn = [_probabilities(one, labels) for one in draws]
    return PredictionTable(
        key=TableKey(dataset, "cnn", attack, tier, norm, eps, "test", ""),
        class_names=class_names,
        sample=np.arange(100, 100 + n) if sample is None else np.array(sample),
        label=labels,
        single={k: _probabilities(marks, labels) for k, marks in by_path.items()},
        views={},
        cost={
            "distance_linf": np.full(n, distance, np.float32),
            "distance_l2": np.full(n, distance, np.float32),
        },
        draws={"reconstruction": np.stack(drawn, axis=1)} if drawn else {},
    )


def marks(n: int, wrong: Sequence[int] = ()) -> str:
    """N samples that are right but for the ones at some places."""
    return "".join("-" if place in set(wrong) else "+" for place in range(n))


def run(
    *tables: PredictionTable,
    folder: str = "run",
    suite: Mapping[str, Any] | None = None,
    evidence: tuple[Evidence, ...] | None = None,
    **manifest: Any,
) -> FinishedRun:
    """A finished run in memory.

    Args:
        tables: Its prediction tables.
        folder: What it is called.
        suite: Keys of the suite that differ from `SUITE`.
        evidence: What its probes measured; None where none has run.
        manifest: Keys of the manifest that differ from `MANIFEST`.
    """
    return FinishedRun(
        folder=Path(folder),
        manifest={"suite": {**SUITE, **(suite or {})}, **MANIFEST, **manifest},
        tables=tables,
        evidence=evidence,
    )


def save_run(finished: FinishedRun, folder: Path) -> Path:
    """Writes manifest and tables of a run, as `rg.run` does."""
    for number, one in enumerate(finished.tables):
        save_table(one, folder / "tables" / f"{number}.npz")
    (folder / "manifest.json").write_text(json.dumps(finished.manifest))
    return folder


def _probabilities(row: str, label: np.ndarray) -> np.ndarray:
    """Probabilities [N, 2]: 0.9 for the true class for each `+`, 0.2 for each `-`."""
    true = np.array([{"+": 0.9, "-": 0.2}[one] for one in row], np.float32)
    zero = label == 0
    return np.stack([np.where(zero, true, 1 - true), np.where(zero, 1 - true, true)], 1)
