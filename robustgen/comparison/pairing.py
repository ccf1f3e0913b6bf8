"""Which rows and which samples two runs share.

A sample is the same in both only if data set, index and label are. Fingerprints of the
data say more where both runs took the same selection: then they must be equal.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from robustgen.errors import RequestError
from robustgen.finished import FinishedRun
from robustgen.intervals import whole_steps
from robustgen.outcomes import Outcome, Outcomes
from robustgen.table import PredictionTable, TableKey


@dataclass(frozen=True)
class RowKey:
    """What one row of accuracy on test images is about."""

    dataset: str
    classifier: str
    attack: str
    tier: str
    norm: str
    eps: float
    target: str
    path: str
    alpha_from: str


@dataclass(frozen=True, eq=False)
class PairedRow:
    """One row of two runs, on the N test samples that both have.

    Args:
        key: What the row is about.
        a: The first run's outcome.
        b: The second run's outcome.
        rows_a: Places of the common samples in `a`, [N], by ascending index.
        rows_b: Places of the same samples in `b`, [N].
    """

    key: RowKey
    a: Outcome
    b: Outcome
    rows_a: Int[np.ndarray, " n"]
    rows_b: Int[np.ndarray, " n"]

    @property
    def sample(self) -> Int[np.ndarray, " n"]:
        """Index of each common sample in its data set."""
        return self.a.table.sample[self.rows_a]

    @property
    def label(self) -> Int[np.ndarray, " n"]:
        """True class of each common sample."""
        return self.a.table.label[self.rows_a]

    @property
    def value_a(self) -> Float[np.ndarray, " n"]:
        """Share of the first run's resamples or draws that are right."""
        return self.a.value[self.rows_a]

    @property
    def value_b(self) -> Float[np.ndarray, " n"]:
        """Share of the second run's resamples or draws that are right."""
        return self.b.value[self.rows_b]

    @property
    def steps(self) -> Int[np.ndarray, " n"]:
        """B minus A in whole numbers; their unit is a common part of both shares."""
        right_a = self.a.correct[:, self.rows_a].sum(axis=0)
        right_b = self.b.correct[:, self.rows_b].sum(axis=0)
        return whole_steps(right_a, len(self.a.correct), right_b, len(self.b.correct))


@dataclass(frozen=True, eq=False)
class Pairing:
    """What two runs share.

    Args:
        rows: Rows of both, in the order of the first run.
        only_a: Rows that only the first run has.
        only_b: Rows that only the second run has.
        notes: What a reader must know about the samples, one sentence or two each.
    """

    rows: tuple[PairedRow, ...]
    only_a: tuple[RowKey, ...]
    only_b: tuple[RowKey, ...]
    notes: tuple[str, ...]


def pair_runs(
    a: FinishedRun, b: FinishedRun, outcomes_a: Outcomes, outcomes_b: Outcomes
) -> Pairing:
    """Matches the rows of two runs on test images, and their samples.

    Args:
        a: The first run.
        b: The second run.
        outcomes_a: What every path of the first run got right, sample by sample.
        outcomes_b: The same of the second run.

    Raises:
        RequestError: the runs are of two profiles, have no row in common, or the
            samples of a row cannot be matched.
    """
    if a.profile != b.profile:
        raise RequestError(
            f"{a.folder} is of profile '{a.profile}', {b.folder} of profile "
            f"'{b.profile}'. Numbers of two profiles are never compared; run both "
            "with the same --profile."
        )
    ours, theirs = _rows(outcomes_a), _rows(outcomes_b)
    common = [key for key in ours if key in theirs]
    if not common:
        raise RequestError(
            f"{a.folder} and {b.folder} have no row in common: none has the same data "
            "set, classifier, attack, tier, norm, eps and path. A has "
            f"{_some(ours)}; B has {_some(theirs)}."
        )
    matched: dict[tuple[str, str], _Samples] = {}
    for key in common:
        pair = (key.dataset, key.classifier)
        if pair not in matched:
            hashes = (_data_sha256(a, pair), _data_sha256(b, pair))
            matched[pair] = _samples(ours[key].table, theirs[key].table, hashes)
    return Pairing(
        rows=tuple(
            PairedRow(
                key,
                ours[key],
                theirs[key],
                matched[key.dataset, key.classifier].rows_a,
                matched[key.dataset, key.classifier].rows_b,
            )
            for key in common
        ),
        only_a=tuple(key for key in ours if key not in theirs),
        only_b=tuple(key for key in theirs if key not in ours),
        notes=tuple(one.note for one in matched.values() if one.note),
    )


@dataclass(frozen=True, eq=False)
class _Samples:
    """Places of the common samples in two tables, and what to say about them."""

    rows_a: Int[np.ndarray, " n"]
    rows_b: Int[np.ndarray, " n"]
    note: str


def _rows(outcomes: Outcomes) -> dict[RowKey, Outcome]:
    """The rows on test images, in the order of reports."""
    return {_row_key(one): one for one in outcomes.on("test")}


def _row_key(one: Outcome) -> RowKey:
    key = one.key
    return RowKey(
        dataset=key.dataset,
        classifier=key.classifier,
        attack=key.attack,
        tier=key.tier,
        norm=key.norm,
        eps=key.eps,
        target=key.target,
        path=one.path,
        alpha_from=one.alpha_from,
    )


def _some(rows: Mapping[RowKey, Outcome]) -> str:
    """The first row of a run as words, and how many more there are."""
    first = next(iter(rows), None)
    if first is None:
        return "no test rows"
    words = (first.dataset, first.classifier, first.attack, f"{first.eps:g}")
    more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
    return f"{' / '.join((*words, first.path))}{more}"


def _data_sha256(run: FinishedRun, pair: tuple[str, str]) -> str:
    """Fingerprint of a pair's test images; empty where the manifest has none."""
    entry = run.manifest.get("data", {}).get(f"{'/'.join(pair)} test", {})
    return str(entry.get("sha256", ""))


def _samples(
    a: PredictionTable, b: PredictionTable, sha256: tuple[str, str]
) -> _Samples:
    """Matches the samples of two tables of one pair.

    Raises:
        RequestError: nothing says that equal indices are equal images.
    """
    name = _pair_name(a.key)
    common, rows_a, rows_b = np.intersect1d(
        a.sample, b.sample, assume_unique=True, return_indices=True
    )
    if not len(common):
        raise RequestError(
            f"{name}: the runs have no test sample in common. Run both on the same "
            "data set."
        )
    if len(common) < min(len(a.sample), len(b.sample)):
        raise RequestError(
            f"{name}: A has {len(a.sample)} test samples, B has {len(b.sample)}, and "
            f"only {len(common)} indices occur in both, so the selections are not of "
            "one kind. Run both on the same data set; --limit may differ."
        )
    _refuse_other_labels(a, b, rows_a, rows_b)
    known = bool(sha256[0] and sha256[1])
    note = ""
    if np.array_equal(a.sample, b.sample):
        if known and sha256[0] != sha256[1]:
            raise RequestError(
                f"{name}: the test samples have equal indices, but the data differ "
                f"(sha256 {sha256[0][:12]} and {sha256[1][:12]}): other images cannot "
                "be paired. Run both on the same data."
            )
        if not known:
            note = (
                f"{name}: a manifest without fingerprints of the data. Samples are "
                "paired by index and label; that their images are the same was not "
                "checked."
            )
    else:
        note = (
            f"{name}: A has {len(a.sample)} test samples, B has {len(b.sample)}. All "
            f"numbers are of the {len(common)} that both have, paired by index and "
            "label; they differ from those of the reports."
        )
    return _Samples(rows_a, rows_b, note)


def _refuse_other_labels(
    a: PredictionTable,
    b: PredictionTable,
    rows_a: Int[np.ndarray, " n"],
    rows_b: Int[np.ndarray, " n"],
) -> None:
    name = _pair_name(a.key)
    if a.class_names != b.class_names:
        raise RequestError(
            f"{name}: classes are {', '.join(a.class_names)} in A and "
            f"{', '.join(b.class_names)} in B: not the same task."
        )
    differ = np.flatnonzero(a.label[rows_a] != b.label[rows_b])
    if len(differ):
        first = int(differ[0])
        raise RequestError(
            f"{name}: {len(differ)} of {len(rows_a)} common samples have another "
            f"label, such as sample {int(a.sample[rows_a][first])}: "
            f"{int(a.label[rows_a][first])} in A, {int(b.label[rows_b][first])} in B. "
            "These are not the same data."
        )


def _pair_name(key: TableKey) -> str:
    return f"{key.dataset}/{key.classifier}"
