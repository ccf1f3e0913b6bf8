"""Balanced accuracy: the mean over the classes of the share that is right.

Where classes are unbalanced, always guessing the most frequent one has a high accuracy;
its balanced accuracy is 1 / K.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from robustgen.intervals import share, share_mean_interval
from robustgen.metrics import CASE_COLUMNS
from robustgen.outcomes import Outcomes

BALANCED_COLUMNS = (
    *CASE_COLUMNS,
    "path",
    "split",
    "n",
    "classes",
    "largest_class",
    "accuracy",
    "balanced_accuracy",
    "balanced_low",
    "balanced_high",
    "alpha_from",
    "verdict",
)


class Balanced(NamedTuple):
    """Balanced accuracy of some samples; NaN without samples.

    Args:
        n: Number of samples.
        classes: Number of classes that occur.
        largest_class: Share of the samples that the most frequent class has.
        accuracy: Share of the samples that is right.
        balanced_accuracy: Mean over these classes of the share that is right.
        balanced_low: Lower end of its interval.
        balanced_high: Upper end.
    """

    n: int
    classes: int
    largest_class: float
    accuracy: float
    balanced_accuracy: float
    balanced_low: float
    balanced_high: float


def balanced_accuracy(
    values: Float[np.ndarray, " n"], labels: Int[np.ndarray, " n"]
) -> Balanced:
    """Mean recall over the classes that occur, with its interval.

    Args:
        values: Whether each sample is right: 0, 1, or a share of resamples or draws.
        labels: True classes.

    >>> found = balanced_accuracy(np.array([1.0, 1, 1, 0]), np.array([0, 0, 0, 1]))
    >>> found.classes, found.largest_class, found.balanced_accuracy
    (2, 0.75, 0.5)
    """
    _, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    # Of no samples `bincount` returns whole numbers.
    right = np.bincount(place, weights=values).astype(np.float64)
    low, high = share_mean_interval(right, counts)
    return Balanced(
        n=len(values),
        classes=len(counts),
        largest_class=share(float(counts.max(initial=0)), len(values)),
        accuracy=share(float(values.sum()), len(values)),
        balanced_accuracy=share(float((right / counts).sum()), len(counts)),
        balanced_low=low,
        balanced_high=high,
    )


def balanced_frame(outcomes: Outcomes) -> pd.DataFrame:
    """One row for every row of `metrics.accuracy_frame`, in its order.

    `verdict` is empty: no check has run.
    """
    rows = [
        {
            **{name: getattr(one.key, name) for name in CASE_COLUMNS},
            "path": one.path,
            "split": one.key.split,
            **balanced_accuracy(one.value, one.table.label)._asdict(),
            "alpha_from": one.alpha_from,
            "verdict": "",
        }
        for one in outcomes.outcomes
        if not one.alpha_from or one.key.split == "test"
    ]
    return pd.DataFrame(rows, columns=list(BALANCED_COLUMNS))
