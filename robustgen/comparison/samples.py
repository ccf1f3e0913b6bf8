"""Which samples changed between two runs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from robustgen.comparison.compare import ComparedRow

SAMPLE_COLUMNS = (
    "dataset",
    "classifier",
    "attack",
    "tier",
    "norm",
    "eps",
    "path",
    "alpha_from",
    "sample",
    "label",
    "correct_a",
    "correct_b",
    "predicted_a",
    "predicted_b",
    "probability_a",
    "probability_b",
)
"""Columns of comparison.csv."""


@dataclass(frozen=True)
class ChangedSample:
    """A sample that changed in several rows.

    Args:
        dataset: Its data set.
        classifier: The classifier of the rows.
        sample: Its index in the data set.
        label: Its true class.
        gained: Rows in which B does better on it.
        lost: Rows in which A does better on it.
    """

    dataset: str
    classifier: str
    sample: int
    label: int
    gained: int
    lost: int


def gained_samples(row: ComparedRow) -> list[int]:
    """Samples on which B does better, the largest changes first."""
    return _sorted_samples(row, sign=1)


def lost_samples(row: ComparedRow) -> list[int]:
    """Samples on which A does better, the largest changes first."""
    return _sorted_samples(row, sign=-1)


def samples_frame(rows: Sequence[ComparedRow]) -> pd.DataFrame:
    """One line per row and sample that differs, in the order of the rows.

    `correct_a` and `correct_b` are shares of resamples or draws that are right, 0 or 1
    without any; `probability_a` and `probability_b` are those of the true class.
    """
    parts = [part for row in rows if len(part := _changed(row))]
    if not parts:
        return pd.DataFrame([], columns=list(SAMPLE_COLUMNS))
    return pd.concat(parts, ignore_index=True)


def most_changed(rows: Sequence[ComparedRow]) -> list[ChangedSample]:
    """Every sample that changed, those that changed in the most rows first."""
    gained, lost = Counter[tuple[str, str, int]](), Counter[tuple[str, str, int]]()
    labels: dict[tuple[str, str, int], int] = {}
    for row in rows:
        steps, paired = row.paired.steps, row.paired
        for place in np.flatnonzero(steps).tolist():
            who = (row.key.dataset, row.key.classifier, int(paired.sample[place]))
            labels[who] = int(paired.label[place])
            (gained if steps[place] > 0 else lost)[who] += 1
    found = [
        ChangedSample(*who, label, gained[who], lost[who])
        for who, label in labels.items()
    ]
    return sorted(
        found,
        key=lambda one: (-one.gained - one.lost, one.dataset, one.sample),
    )


def _sorted_samples(row: ComparedRow, sign: int) -> list[int]:
    steps = row.paired.steps * sign
    order = np.argsort(-steps, kind="stable")
    return row.paired.sample[order][steps[order] > 0].tolist()


def _changed(row: ComparedRow) -> pd.DataFrame:
    key, paired = row.key, row.paired
    places = np.flatnonzero(paired.steps)
    rows_a, rows_b = paired.rows_a[places], paired.rows_b[places]
    constant = {name: getattr(key, name) for name in SAMPLE_COLUMNS[:8]}
    columns = {
        **{name: [value] * len(places) for name, value in constant.items()},
        "sample": paired.sample[places],
        "label": paired.label[places],
        "correct_a": paired.value_a[places],
        "correct_b": paired.value_b[places],
        "predicted_a": paired.a.predicted[rows_a],
        "predicted_b": paired.b.predicted[rows_b],
        "probability_a": paired.a.probability[rows_a],
        "probability_b": paired.b.probability[rows_b],
    }
    return pd.DataFrame(columns, columns=list(SAMPLE_COLUMNS))
