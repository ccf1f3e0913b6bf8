"""The baseline: what the gate keeps of a run, and its form as a file.

A file of JSON, versioned, made for git: settings stand one to a line, and what a row
got right, sample by sample, stands on one line.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, TypeGuard

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from robustgen.errors import RequestError
from robustgen.files import write_text
from robustgen.report_schema import json_safe

BASELINE_VERSION = 1

Settings: TypeAlias = dict[str, Any]
"""Plain JSON values, as a suite has them."""


class RowName(NamedTuple):
    """What stays the same of a row from run to run; unique within a run."""

    dataset: str
    classifier: str
    attack: str
    tier: str
    path: str
    alpha_from: str
    target: str

    def __str__(self) -> str:
        alpha = f" ({self.alpha_from})" if self.alpha_from else ""
        tier = f" ({self.tier})" if self.tier not in ("none", self.attack) else ""
        aimed = f" aimed at {self.target}" if self.target not in ("", self.path) else ""
        return f"{self.attack}{tier}{aimed} on {self.path}{alpha}"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PairRecord(_Record):
    """The test images of a pair, and what its paths are made of."""

    dataset: str
    classifier: str
    paths: dict[str, Settings]
    """The sections of the suite that define each path."""
    sample: tuple[int, ...]
    """Index of each test image in its data set."""
    label: tuple[int, ...]
    """True class of each."""


class BaselineRow(_Record):
    """One accuracy and the samples behind it."""

    dataset: str
    classifier: str
    attack: str
    tier: str
    norm: str
    eps: float
    """Pixel units of [0, 1]; in the file infinity is the text `inf`."""
    path: str
    alpha_from: str
    target: str
    verdict: Literal["", "TRUSTED", "SUSPECT", "INVALID"]
    """In a file always TRUSTED."""
    checks: tuple[str, ...] = ()
    """What the checks have against a row that is not TRUSTED."""
    n: int
    accuracy: float
    ci_low: float
    ci_high: float
    alpha: float | None
    """Mean weight of the views; None without an ensemble."""
    of: int
    """Resamples of an ensemble, or draws of a path that was attacked; else 1."""
    right: tuple[int, ...]
    """For each test image, in how many of these it was right."""

    @property
    def name(self) -> RowName:
        """What stays the same from run to run."""
        return RowName(*(getattr(self, name) for name in RowName._fields))

    @model_validator(mode="after")
    def _agrees(self) -> "BaselineRow":
        inside = all(0 <= right <= self.of for right in self.right)
        if len(self.right) != self.n or self.n == 0 or self.of < 1 or not inside:
            raise ValueError(f"{self.name}: `right` does not fit `n` and `of`")
        mean = sum(self.right) / (self.of * self.n)
        if not math.isclose(mean, self.accuracy, abs_tol=1e-9):
            raise ValueError(
                f"{self.name}: `right` gives an accuracy of {mean:.4f}, but "
                f"`accuracy` says {self.accuracy:.4f}"
            )
        return self


class Baseline(_Record):
    """What a run got right, and everything that says whether it may be compared."""

    version: Literal[1] = BASELINE_VERSION
    created: str
    """When the run began, as its manifest says."""
    suite: str
    profile: str
    seed: int
    git_commit: str
    code_sha256: str
    versions: dict[str, str]
    assets_sha256: dict[str, str]
    data: dict[str, Any]
    """Fingerprint and number of images, by `DATASET/CLASSIFIER SPLIT`."""
    attacks: dict[str, Settings]
    """Settings of each attack, by name: shown where they differ, never refused."""
    left_out: dict[str, str] = {}
    """Rows of the run that are not TRUSTED, with the checks that say so."""
    pairs: tuple[PairRecord, ...]
    rows: tuple[BaselineRow, ...]

    @model_validator(mode="after")
    def _is_complete(self) -> "Baseline":
        counts = {(p.dataset, p.classifier): len(p.sample) for p in self.pairs}
        for row in self.rows:
            if counts.get((row.dataset, row.classifier)) != row.n:
                raise ValueError(f"{row.name}: no pair with {row.n} samples")
        if len({row.name for row in self.rows}) < len(self.rows):
            raise ValueError("a row stands twice")
        return self

    def pair(self, row: BaselineRow | RowName) -> PairRecord:
        """The pair that a row is about."""
        wanted = (row.dataset, row.classifier)
        return next(p for p in self.pairs if (p.dataset, p.classifier) == wanted)


def save_baseline(baseline: Baseline, path: Path) -> None:
    """Writes a baseline as a whole file.

    Raises:
        RequestError: the folder cannot be written.
    """
    write_text(path, _laid_out(json_safe(baseline.model_dump())) + "\n")


def load_baseline(path: Path) -> Baseline:
    """Reads a baseline.

    Raises:
        RequestError: the file is missing, not a baseline, damaged, of a newer version,
            or holds rows that are not TRUSTED.
    """
    advice = "Write one with: robustgen baseline RUN --out FILE"
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise RequestError(
            f"{path}: cannot read the baseline ({error.strerror}). {advice}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{path}: not valid JSON ({error}). {advice}") from error
    if not isinstance(data, dict) or "version" not in data:
        raise RequestError(f"{path}: not a baseline (no key 'version'). {advice}")
    if data["version"] != BASELINE_VERSION:
        raise RequestError(
            f"{path}: baseline version {data['version']}, but this robustgen reads "
            f"version {BASELINE_VERSION}. {advice}"
        )
    try:
        baseline = Baseline.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise RequestError(
            f"{path}: damaged: {where + ': ' if where else ''}{first['msg']}. {advice}"
        ) from error
    for row in baseline.rows:
        if row.verdict != "TRUSTED":
            raise RequestError(
                f"{path}: the row {row.name} is '{row.verdict}', not TRUSTED. {advice}"
            )
    if not baseline.rows:
        raise RequestError(f"{path}: the baseline has no rows. {advice}")
    return baseline


def _laid_out(value: object, depth: int = 0) -> str:
    """JSON with one setting to a line, and lists of numbers or texts on one line.

    >>> print(_laid_out({"of": 1, "right": [1, 0, 1]}))
    {
     "of": 1,
     "right": [1, 0, 1]
    }
    """
    outer, inner = "\n" + " " * depth, "\n" + " " * (depth + 1)
    if isinstance(value, Mapping) and value:
        items = [
            f"{json.dumps(key)}: {_laid_out(item, depth + 1)}"
            for key, item in value.items()
        ]
        return "{" + inner + f",{inner}".join(items) + outer + "}"
    if _is_list_of_records(value):
        items = [_laid_out(item, depth + 1) for item in value]
        return "[" + inner + f",{inner}".join(items) + outer + "]"
    return json.dumps(value, allow_nan=False)


def _is_list_of_records(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, list) and any(isinstance(v, Mapping) for v in value)
