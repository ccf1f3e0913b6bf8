"""A finished run, as its folder holds it: manifest, prediction tables, evidence.

Everything that looks at finished runs starts here: reports, rankings, the gate and
comparisons. No model is needed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustgen.ensembling import EnsembleRule
from robustgen.errors import RequestError
from robustgen.evidence import Evidence, load_evidence
from robustgen.outcomes import Outcomes, read_outcomes
from robustgen.table import PATHS, PredictionTable, load_table


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """What the folder of a run holds.

    Args:
        folder: Where it lies.
        manifest: Suite as resolved, versions, seeds, hashes of assets and data.
        tables: Prediction tables, by name of file.
        evidence: What the probes of each pair measured; None where none has run.
    """

    folder: Path
    manifest: Mapping[str, Any]
    tables: tuple[PredictionTable, ...]
    evidence: tuple[Evidence, ...] | None

    @property
    def suite(self) -> Mapping[str, Any]:
        """The suite as resolved."""
        return self.manifest["suite"]

    @property
    def profile(self) -> str:
        """`embedded` or `full`."""
        return self.manifest["profile"]

    @property
    def settings(self) -> Mapping[str, Any]:
        """The suite's sections as the profile of the run has them."""
        return profile_settings(self.suite, self.profile)

    def outcomes(self) -> Outcomes:
        """What every path got right, sample by sample.

        Raises:
            RequestError: the tables do not fit together.
        """
        return suite_outcomes(self.tables, self.settings)


def read_run(folder: Path) -> FinishedRun:
    """Reads the folder of a run.

    Raises:
        RequestError: the folder is not that of a run, or a file in it is damaged.
    """
    manifest = _read_manifest(folder / "manifest.json")
    tables = sorted((folder / "tables").glob("*.npz"))
    if not tables:
        raise RequestError(
            f"{folder / 'tables'}: no prediction tables. Name the folder of a "
            "finished run, or run the suite again."
        )
    probes = sorted((folder / "probes").glob("*.json"))
    return FinishedRun(
        folder=folder,
        manifest=manifest,
        tables=tuple(load_table(path) for path in tables),
        evidence=tuple(load_evidence(path) for path in probes) if probes else None,
    )


def profile_settings(suite: Mapping[str, Any], profile: str) -> dict[str, Any]:
    """The sections of a suite as one of its profiles has them."""
    return {**suite, **(suite.get("profiles", {}).get(profile) or {})}


def suite_outcomes(
    tables: Sequence[PredictionTable], settings: Mapping[str, Any]
) -> Outcomes:
    """Applies a suite's ensembling rule and order of report to tables.

    Args:
        tables: Validation and test tables of every case, in any order.
        settings: Read are `ensemble` (size, resamples, alphas; defaults 31, 20, 21),
            `paths` and `attacks`.

    Raises:
        RequestError: the tables do not fit together.
    """
    return read_outcomes(
        tables,
        EnsembleRule(**settings.get("ensemble", {})),
        paths=settings.get("paths", PATHS),
        attacks=[
            item if isinstance(item, str) else item["name"]
            for item in settings.get("attacks", ())
        ],
    )


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise RequestError(f"{path}: no such file. Name the folder of a run.")
    try:
        manifest = json.loads(path.read_bytes())
    except ValueError as error:
        raise RequestError(
            f"{path}: not valid JSON ({error}). Run the suite again."
        ) from error
    for key in ("suite", "profile"):
        if not isinstance(manifest, dict) or key not in manifest:
            raise RequestError(f"{path}: no key '{key}'. Run the suite again.")
    return manifest
