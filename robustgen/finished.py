"""A finished run, as its folder holds it: manifest, prediction tables, evidence.

Everything that looks at finished runs starts here: reports, rankings, the gate and
comparisons. No model is needed.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustgen.ensembling import EnsembleRule
from robustgen.errors import RequestError
from robustgen.evidence import Evidence, load_evidence
from robustgen.files import sha256_of
from robustgen.outcomes import Outcomes, read_outcomes
from robustgen.table import PATHS, PredictionTable, load_table

FILES = "files"
"""Key of a manifest: SHA-256 of every file that the run wrote before it."""

SEAL = "sha256"
"""Key of a manifest: SHA-256 of all its other keys."""


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """What the folder of a run holds.

    Args:
        folder: Where it lies.
        manifest: Suite as resolved, versions, seeds, hashes of assets and data. What
            vouches for the files themselves is checked on reading and left out.
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
    files: Mapping[str, str] | None = manifest.pop(FILES, None)
    tables = sorted((folder / "tables").glob("*.npz"))
    probes = sorted((folder / "probes").glob("*.json"))
    if files is not None:
        _check_files(folder, files, [*tables, *probes])
    if not tables:
        raise RequestError(
            f"{folder / 'tables'}: no prediction tables. Name the folder of a "
            "finished run, or run the suite again."
        )
    return FinishedRun(
        folder=folder,
        manifest=manifest,
        tables=tuple(load_table(path) for path in tables),
        evidence=tuple(load_evidence(path) for path in probes) if probes else None,
    )


def sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest with the hash of its content, which `read_run` checks."""
    content = {key: value for key, value in manifest.items() if key != SEAL}
    text = json.dumps(content, sort_keys=True)
    return {**content, SEAL: hashlib.sha256(text.encode()).hexdigest()}


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
    if FILES in manifest or SEAL in manifest:
        if sealed(manifest)[SEAL] != manifest.get(SEAL):
            raise _not_written(path)
        del manifest[SEAL]
    return manifest


def _check_files(folder: Path, files: Mapping[str, str], there: Sequence[Path]) -> None:
    """Refuses a folder whose tables, probes or pictures are not what the run wrote.

    A folder without `pictures/` is taken: numbers do not need them.

    Args:
        folder: Folder of the run.
        files: SHA-256 of each file, by its path relative to the folder.
        there: Tables and probes found.
    """
    for path in there:
        if path.relative_to(folder).as_posix() not in files:
            raise RequestError(
                f"{path}: is not a file of this run. Remove it, or run the suite "
                "again; what is whole will be reused."
            )
    pictured = (folder / "pictures").is_dir()
    for name, sha256 in files.items():
        path = folder / name
        if name.startswith("pictures/") and not pictured:
            continue
        if not path.is_file():
            raise RequestError(
                f"{path}: this file of the run is missing. Run the suite again; what "
                "is whole will be reused."
            )
        if sha256_of(path) != sha256:
            raise _not_written(path)


def _not_written(path: Path) -> RequestError:
    return RequestError(
        f"{path}: is not the file that this run wrote (sha256 differs). Run the suite "
        "again; what is whole will be reused."
    )
