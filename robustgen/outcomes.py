"""From prediction tables to what every path got right, sample by sample.

Everything that is counted later starts here: a table's probabilities become, for each
path and each way of choosing alpha, one truth value per resample and sample.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from robustgen.ensembling import (
    EnsembleRule,
    choose_alpha,
    correct_by_alpha,
    decide,
    mix,
    pooled_means,
)
from robustgen.errors import RequestError
from robustgen.names import ADAPTIVE_TIERS, DEFENSE
from robustgen.table import (
    ENSEMBLE_PATHS,
    PATHS,
    SINGLE_PATHS,
    PredictionTable,
    TableKey,
)

CLEAN = "clean"
"""Name of the attack that changes nothing."""

ALPHA_SOURCES = ("matched", CLEAN)
"""Where alpha comes from: validation images under the same attack, or clean ones."""


@dataclass(frozen=True)
class Sweep:
    """One ensemble path of one table, at every alpha.

    Args:
        table: Where the predictions come from.
        path: Name of the ensemble path.
        image: Probabilities of the image, [N, K].
        pooled: Means of the drawn members, [R, N, K].
        correct: Whether each sample is right, [R, A, N].
    """

    table: PredictionTable
    path: str
    image: Float[np.ndarray, "n k"]
    pooled: Float[np.ndarray, "resample n k"]
    correct: Bool[np.ndarray, "resample alpha n"]


@dataclass(frozen=True)
class Outcome:
    """What one path did with the samples of one table.

    Args:
        table: Where the predictions come from.
        path: Name of the path.
        alpha_from: `matched`, `clean`, or empty for a path without an ensemble.
        alpha: Mean over the resamples of the alpha chosen; NaN without an ensemble.
        correct: Whether each sample is right, [R, N]: in R resamples of an ensemble, or
            in R draws of a path that an attack was aimed at; R is 1 without either.
        predicted: Class of the largest mean probability over the resamples, [N].
        probability: Mean probability of the true class over the resamples, [N].
    """

    table: PredictionTable
    path: str
    alpha_from: str
    alpha: float
    correct: Bool[np.ndarray, "resample n"]
    predicted: Int[np.ndarray, " n"]
    probability: Float[np.ndarray, " n"]

    @property
    def key(self) -> TableKey:
        """What the outcome is about."""
        return self.table.key

    @property
    def value(self) -> Float[np.ndarray, " n"]:
        """Share of the resamples in which each sample is right."""
        return self.correct.mean(axis=0)


@dataclass(frozen=True)
class Outcomes:
    """All outcomes and sweeps of a run, in the order in which reports list them."""

    outcomes: tuple[Outcome, ...]
    sweeps: tuple[Sweep, ...]

    def on(self, split: str) -> tuple[Outcome, ...]:
        """The outcomes of one split."""
        return tuple(one for one in self.outcomes if one.key.split == split)


def read_outcomes(
    tables: Sequence[PredictionTable],
    rule: EnsembleRule,
    *,
    paths: Sequence[str] = PATHS,
    attacks: Sequence[str] = (),
) -> Outcomes:
    """Applies the ensembling rule to every table.

    Args:
        tables: Tables of any number of cases, in any order.
        rule: How ensembles draw and which alphas they try.
        paths: Paths to report, in this order; a path that a table lacks is left out.
            That of a whole defense comes last, listed or not.
        attacks: Attacks in the order of the report; others follow by name.

    Raises:
        RequestError: two tables are about the same case and split, tables of one data
            set hold different samples, or an ensemble lacks the image's predictions
            or validation images.
    """
    ordered = _in_order(tables, attacks)
    paths = tuple(dict.fromkeys((*paths, DEFENSE)))
    sweeps = {
        (table.key, path): _sweep(table, path, rule)
        for table in ordered
        for path in paths
        if path in ENSEMBLE_PATHS and path in table.views
    }
    outcomes: list[Outcome] = []
    for table in ordered:
        for path in paths:
            if path in table.draws:
                outcomes.append(_drawn(table, path))
            elif path in SINGLE_PATHS and path in table.single:
                outcomes.append(_single(table, path))
            elif (table.key, path) in sweeps:
                sweep = sweeps[table.key, path]
                outcomes += [
                    _at(sweep, choose_alpha(source.correct), name, rule)
                    for name, source in _alpha_sources(table.key, path, sweeps).items()
                ]
    return Outcomes(tuple(outcomes), tuple(sweeps.values()))


def clean_alpha(table: PredictionTable, path: str, rule: EnsembleRule) -> float:
    """The weight of the views that clean validation images choose.

    Args:
        table: Predictions on clean validation images.
        path: Name of the ensemble path.
        rule: How ensembles draw and which alphas they try.

    Returns:
        Mean over the resamples, as reports show it.

    Raises:
        RequestError: the table lacks the predictions that the path averages.
    """
    return float(rule.grid[choose_alpha(_sweep(table, path, rule).correct)].mean())


def _in_order(
    tables: Sequence[PredictionTable], attacks: Sequence[str]
) -> list[PredictionTable]:
    keys = [table.key for table in tables]
    for key, count in Counter(keys).items():
        if count > 1:
            raise RequestError(f"{count} prediction tables are about {_name(key)}.")
    samples: dict[tuple[str, str, str], PredictionTable] = {}
    for table in tables:
        group = (table.key.dataset, table.key.classifier, table.key.split)
        first = samples.setdefault(group, table)
        same = np.array_equal(first.sample, table.sample) and np.array_equal(
            first.label, table.label
        )
        if not same:
            raise RequestError(
                f"The tables of {_name(first.key)} and {_name(table.key)} hold "
                "different samples, so they cannot be paired. Run the suite again."
            )
    named = attacks if CLEAN in attacks else (CLEAN, *attacks)
    listed = (*named, *(tier for tier in ADAPTIVE_TIERS if tier not in named))
    rank = {name: place for place, name in enumerate(listed)}

    def order(table: PredictionTable) -> tuple[object, ...]:
        key = table.key
        return (
            key.dataset,
            key.classifier,
            key.target != "",
            rank.get(key.attack, len(rank)),
            key.attack,
            key.tier,
            key.norm,
            key.eps,
            key.target,
            key.split == "test",
        )

    return sorted(tables, key=order)


def _name(key: TableKey) -> str:
    target = (key.target,) if key.target else ()
    return "/".join((key.dataset, key.classifier, key.attack, *target, key.split))


def _sweep(table: PredictionTable, path: str, rule: EnsembleRule) -> Sweep:
    first = "image" if path == "image_ensemble" else "reconstruction"
    for needed in ("image", first):
        if needed not in table.single:
            raise RequestError(
                f"{_name(table.key)}: '{path}' needs predictions of '{needed}', which "
                "the table lacks. Run the suite again."
            )
    image = table.single["image"].astype(np.float64)
    members = (table.single[first][:, None], table.views[path])
    pooled = pooled_means(np.concatenate(members, axis=1), rule)
    correct = correct_by_alpha(image[None], pooled, table.label, rule.grid)
    return Sweep(table, path, image, pooled, correct)


def _alpha_sources(
    key: TableKey, path: str, sweeps: dict[tuple[TableKey, str], Sweep]
) -> dict[str, Sweep]:
    """Validation sweeps on which alpha is chosen, by the name of the protocol."""
    found: dict[str, Sweep] = {}
    for (other, other_path), sweep in sweeps.items():
        related = (other.dataset, other.classifier) == (key.dataset, key.classifier)
        if not related or other_path != path or other.split != "val":
            continue
        if _without_split(other) == _without_split(key):
            found["matched"] = sweep
        if other.attack == CLEAN:
            found[CLEAN] = sweep
    if "matched" not in found or not len(found["matched"].table.label):
        raise RequestError(
            f"{_name(key)}: '{path}' has no validation images to choose alpha on. "
            "Run the suite with one validation image or more."
        )
    return {name: found[name] for name in ALPHA_SOURCES if name in found}


def _without_split(key: TableKey) -> tuple[object, ...]:
    return (
        key.dataset,
        key.classifier,
        key.attack,
        key.tier,
        key.norm,
        key.eps,
    )


def _single(table: PredictionTable, path: str) -> Outcome:
    probabilities = table.single[path].astype(np.float64)
    predicted = decide(probabilities)
    return Outcome(
        table=table,
        path=path,
        alpha_from="",
        alpha=float("nan"),
        correct=(predicted == table.label)[None],
        predicted=predicted,
        probability=probabilities[np.arange(len(predicted)), table.label],
    )


def _drawn(table: PredictionTable, path: str) -> Outcome:
    """The outcome of independent draws of a whole path, each scored by itself.

    The weight of the views was chosen before the attack, on clean validation images.
    """
    draws = table.draws[path].astype(np.float64)
    mean = draws.mean(axis=1)
    return Outcome(
        table=table,
        path=path,
        alpha_from=CLEAN if path in ENSEMBLE_PATHS else "",
        alpha=table.alpha.get(path, float("nan")),
        correct=(decide(draws) == table.label[:, None]).T,
        predicted=decide(mean),
        probability=mean[np.arange(len(mean)), table.label],
    )


def _at(
    sweep: Sweep, chosen: Int[np.ndarray, " resample"], name: str, rule: EnsembleRule
) -> Outcome:
    """The sweep's outcome at each resample's chosen alpha."""
    alpha = rule.grid[chosen]
    mean = mix(sweep.image[None], sweep.pooled, alpha).mean(axis=0)
    return Outcome(
        table=sweep.table,
        path=sweep.path,
        alpha_from=name,
        alpha=float(alpha.mean()),
        correct=sweep.correct[np.arange(len(chosen)), chosen],
        predicted=decide(mean),
        probability=mean[np.arange(len(mean)), sweep.table.label],
    )
