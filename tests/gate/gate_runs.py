"""Rows and run folders of known outcomes, for tests of the gate."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from synthetic import make_table

from robustgen.evidence import Evidence, save_evidence
from robustgen.gate.baseline import BaselineRow
from robustgen.table import save_table

N = 60
SUITE: dict[str, Any] = {
    "version": 1,
    "name": "gated",
    "seed": 3,
    "profile": "embedded",
    "attacks": [
        {"name": "clean", "attack": "clean", "norm": "none", "eps": 0.0},
        {
            "name": "jpeg",
            "attack": "corruption",
            "norm": "none",
            "eps": "inf",
            "settings": {"kind": "jpeg", "severity": 3},
        },
    ],
    "paths": ["image", "reconstruction", "stylemix_ensemble", "image_ensemble"],
    "splits": {"val": N, "test": N},
    "projection": {"passes": 6},
    "views": {"family": "stylemix", "count": 32},
    "jitter": {"zoom": 1.05},
    "ensemble": {"size": 31, "resamples": 20, "alphas": 21},
    "pairs": [{"dataset": "faces", "classifier": "cnn", "generator": "faces"}],
}
MANIFEST: dict[str, Any] = {
    "suite": SUITE,
    "profile": "embedded",
    "seeds": {"suite": 3},
    "versions": {"torch": "2.6.0"},
    "assets_sha256": {"classifier: cnn": "aa", "generator: faces": "bb"},
    "data": {
        "faces/cnn val": {"sha256": "cc", "n": N},
        "faces/cnn test": {"sha256": "dd", "n": N},
    },
    "code_sha256": "ee",
    "git_commit": "0123456789abcdef",
    "limit": None,
    "started": "2026-01-02T03:04:05+00:00",
}
RIGHT = {"clean": 58, "jpeg": 40}


def row(right: Sequence[int], **changes: Any) -> BaselineRow:
    """A row of PGD on the reconstruction, one decision per sample unless `of` is more.

    Args:
        right: In how many of `of` each sample is right.
        changes: Other fields.
    """
    of = changes.get("of", 1)
    fields: dict[str, Any] = {
        "dataset": "faces",
        "classifier": "cnn",
        "attack": "pgd",
        "tier": "oblivious",
        "norm": "linf",
        "eps": 8 / 255,
        "path": "reconstruction",
        "alpha_from": "",
        "target": "",
        "verdict": "TRUSTED",
        "n": len(right),
        "accuracy": sum(right) / (of * len(right)),
        "ci_low": 0.0,
        "ci_high": 1.0,
        "alpha": None,
        "of": of,
        "right": tuple(right),
    }
    return BaselineRow(**{**fields, **changes})


def write_run(
    folder: Path,
    *,
    right: Mapping[str, int] = RIGHT,
    paths: Sequence[str] = SUITE["paths"],
    suite: Mapping[str, Any] | None = None,
    checked: bool = True,
    **manifest: Any,
) -> Path:
    """A run whose rows of `clean` and `jpeg` are TRUSTED.

    Args:
        folder: Where it goes.
        right: How many of the first test images are right on every path, by attack.
        paths: Paths that it has.
        suite: Sections that differ from `SUITE`.
        checked: Whether the checks can run.
        manifest: Keys that differ from `MANIFEST`.
    """
    for attack, count in right.items():
        for split in ("val", "test"):
            marks = [place < count for place in range(N)]
            table = make_table(attack, split, dict.fromkeys(paths, marks))
            save_table(table, folder / "tables" / f"{attack}-{split}.npz")
    if checked:
        evidence = Evidence(
            dataset="faces", classifier="cnn", seconds=1.0, run_seconds=9.0
        )
        save_evidence(evidence, folder / "probes" / "faces-cnn.json")
    record = {**MANIFEST, **manifest, "suite": {**SUITE, **(suite or {})}}
    (folder / "manifest.json").write_text(json.dumps(record))
    return folder
