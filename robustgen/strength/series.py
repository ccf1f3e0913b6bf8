"""What every attack of a run did to one path of one pair, sample by sample."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Float32

from robustgen.errors import RequestError
from robustgen.metrics import select_alpha
from robustgen.outcomes import CLEAN, Outcome, Outcomes
from robustgen.table import TableKey

Row: TypeAlias = dict[str, Any]

SERIES_COLUMNS = ("dataset", "classifier", "path")


@dataclass(frozen=True)
class Attempt:
    """One attack on one path.

    Args:
        key: What was attacked, and how.
        right: Whether each sample is right under the attack, [N].
        cost: Numbers per sample, as in a prediction table.
        aimed: Whether the attack saw this path: its passes then went through it.
    """

    key: TableKey
    right: Bool[np.ndarray, " n"]
    cost: Mapping[str, Float32[np.ndarray, " n"]]
    aimed: bool


@dataclass(frozen=True)
class Series:
    """All attacks on one path of one pair, on the same test samples.

    Args:
        dataset: Name of the data set.
        classifier: Name of the classifier.
        path: Name of the path.
        clean: Whether each sample is right without an attack, [N].
        attempts: The attacks, in the order of the run.
    """

    dataset: str
    classifier: str
    path: str
    clean: Bool[np.ndarray, " n"]
    attempts: tuple[Attempt, ...]

    @property
    def row(self) -> Row:
        """The columns that name the series."""
        return {name: getattr(self, name) for name in SERIES_COLUMNS}

    def broken(self, attempt: Attempt) -> Bool[np.ndarray, " n"]:
        """Samples that were right without the attack and are wrong under it."""
        return self.clean & ~attempt.right

    def distances(self, attempt: Attempt) -> Float[np.ndarray, " m"]:
        """How far the attack went on each clean-correct sample, in its own norm.

        Infinite where it broke nothing.
        """
        length = attempt.cost[f"distance_{attempt.key.norm}"].astype(np.float64)
        return np.where(attempt.right, np.inf, length)[self.clean]


def read_series(outcomes: Outcomes) -> list[Series]:
    """Groups the test outcomes of a run by pair and path.

    A sample of a path with several resamples or draws is right where half of them or
    more are. Alpha is the one chosen on clean validation images. Corruptions, which
    nobody searched for, are left out.

    Raises:
        RequestError: a path was never scored without an attack.
    """
    groups: dict[tuple[str, str, str], list[Outcome]] = {}
    for one in select_alpha(outcomes.on("test"), CLEAN):
        place = (one.key.dataset, one.key.classifier, one.path)
        groups.setdefault(place, []).append(one)
    return [_series(place, group) for place, group in groups.items()]


def _series(place: tuple[str, str, str], group: list[Outcome]) -> Series:
    dataset, classifier, path = place
    clean = [_right(one) for one in group if one.key.attack == CLEAN]
    if not clean:
        raise RequestError(
            f"{dataset}/{classifier}: '{path}' was never scored on clean images, so "
            "that nobody can say what the attacks broke. List `clean` among the "
            "attacks and run the suite again."
        )
    attempts = tuple(
        Attempt(one.key, _right(one), one.table.cost, _aimed(one.key, path))
        for one in group
        if one.key.tier != "none"
    )
    return Series(dataset, classifier, path, clean[0], attempts)


def _right(one: Outcome) -> Bool[np.ndarray, " n"]:
    return one.value >= 0.5


def _aimed(key: TableKey, path: str) -> bool:
    return path == (key.target or "image")
