"""Everything that is counted from the outcomes of a run, as data frames.

Shares are in [0, 1], distances in pixel units of [0, 1]. Where nothing was counted a
share is NaN. Intervals are at 95% and over samples, see `robustgen.intervals`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from jaxtyping import Float

from robustgen.intervals import paired_difference, share, wilson_interval
from robustgen.outcomes import ALPHA_SOURCES, CLEAN, Outcome, Outcomes, Sweep
from robustgen.seeding import numpy_rng
from robustgen.table import TableKey

Row: TypeAlias = dict[str, Any]

Shares: TypeAlias = Float[np.ndarray, " n"]
"""One share in [0, 1] per sample."""

ACCURACY_COLUMNS = (
    "suite",
    "profile",
    "dataset",
    "classifier",
    "attack",
    "tier",
    "norm",
    "eps",
    "path",
    "split",
    "n",
    "accuracy",
    "ci_low",
    "ci_high",
    "alpha",
    "alpha_from",
    "verdict",
)

COSTS = (
    "distance_linf",
    "distance_l2",
    "attack_forwards",
    "attack_backwards",
    "attack_success",
    "first_success",
    "margin_first",
    "margin_best",
    "margin_last",
    "select_margin",
    "initial_loss",
    "final_loss",
    "projection_passes",
    "psnr",
)

CASE_COLUMNS = ("dataset", "classifier", "attack", "tier", "norm", "eps")

PREDICTION_COLUMNS = (
    *CASE_COLUMNS,
    "path",
    "split",
    "sample",
    "label",
    "predicted",
    "correct",
    "probability",
    "alpha",
    "alpha_from",
    "correct_matched",
    *COSTS,
)

DIFFERENCE_COLUMNS = (
    *CASE_COLUMNS,
    "alpha_from",
    "first",
    "second",
    "n",
    "difference",
    "ci_low",
    "ci_high",
    "gained",
    "lost",
)

ROBUSTNESS_COLUMNS = (
    *CASE_COLUMNS,
    "path",
    "alpha_from",
    "n",
    "clean_correct",
    "turned",
    "success_rate",
    "success_low",
    "success_high",
    "robust_accuracy",
    "robust_low",
    "robust_high",
)

WORST_CASE_COLUMNS = (
    "dataset",
    "classifier",
    "attacks",
    "tiers",
    "path",
    "alpha_from",
    "n",
    "accuracy",
    "ci_low",
    "ci_high",
)

CURVE_COLUMNS = (
    *CASE_COLUMNS,
    "path",
    "split",
    "alpha",
    "accuracy",
)

COST_COLUMNS = (
    *CASE_COLUMNS,
    "target",
    "n",
    *COSTS,
    "max_distance_linf",
    "max_distance_l2",
)

PAIRS = (
    ("image", "reconstruction"),
    ("reconstruction", "stylemix_ensemble"),
    ("stylemix_ensemble", "combined_ensemble"),
    ("image", "image_ensemble"),
    ("image_ensemble", "combined_ensemble"),
)
"""Paths whose difference on the same samples is reported, second minus first."""


def accuracy_frame(outcomes: Outcomes, *, suite: str, profile: str) -> pd.DataFrame:
    """The rows of `accuracy.csv`, in its order of columns.

    An ensemble path has one row per way of choosing alpha, on test images only: on
    validation images its alpha would be judged by what chose it. Its accuracy and
    alpha are means over the resamples. `verdict` is empty: no check has run.
    """
    rows: list[Row] = []
    for one in outcomes.outcomes:
        if one.alpha_from and one.key.split != "test":
            continue
        rows.append(
            {
                "suite": suite,
                "profile": profile,
                **_case(one.key),
                "path": one.path,
                "split": one.key.split,
                **_accuracy(one.value),
                "alpha": one.alpha,
                "alpha_from": one.alpha_from,
                "verdict": "",
            }
        )
    return _frame(rows, ACCURACY_COLUMNS)


def predictions_frame(outcomes: Outcomes) -> pd.DataFrame:
    """One row per sample, attack, path and split.

    Columns beside the case: `sample` (index in the data set), `label`, `predicted`
    and `probability` (of the true class, mean over resamples), `correct` (share of
    the resamples that are right; 0 or 1 without an ensemble), `alpha` (mean over
    resamples) and `alpha_from`: `clean`, or `matched` where the run has no clean
    images; `correct_matched` is `correct` for alpha from images under the same
    attack. The rest are what attack and projection cost this sample; NaN where a
    table lacks them. Validation rows of an ensemble use an alpha chosen on them.
    """
    matched = {
        (one.key, one.path): one for one in select_alpha(outcomes.outcomes, "matched")
    }
    parts = [
        _prediction_rows(one, matched[one.key, one.path])
        for one in select_alpha(outcomes.outcomes, CLEAN)
    ]
    if not parts:
        return _frame([], PREDICTION_COLUMNS)
    return pd.concat(parts, ignore_index=True)


def differences_frame(outcomes: Outcomes, *, seed: int) -> pd.DataFrame:
    """Paired differences of paths on the same test samples, second minus first.

    `gained` and `lost` count the samples on which the second path does better or
    worse. Intervals are percentile bootstraps over samples, seeded by `seed` and what
    is compared. `alpha_from` holds for every ensemble of the pair.
    """
    rows: list[Row] = []
    for key, group in _grouped(outcomes.on("test")).items():
        for source in ALPHA_SOURCES:
            found = {one.path: one for one in group if one.alpha_from in ("", source)}
            for first, second in PAIRS:
                if first not in found or second not in found:
                    continue
                alpha_from = found[first].alpha_from or found[second].alpha_from
                # Without an ensemble both sources give the same row.
                if not alpha_from and source != ALPHA_SOURCES[0]:
                    continue
                purpose = (*map(str, _case(key).values()), first, second, alpha_from)
                change = paired_difference(
                    found[first].value,
                    found[second].value,
                    numpy_rng(seed, "paired difference", *purpose),
                )
                rows.append(
                    {
                        **_case(key),
                        "alpha_from": alpha_from,
                        "first": first,
                        "second": second,
                        "n": change.n,
                        "difference": change.mean,
                        "ci_low": change.low,
                        "ci_high": change.high,
                        "gained": change.gained,
                        "lost": change.lost,
                    }
                )
    return _frame(rows, DIFFERENCE_COLUMNS)


def robustness_frame(outcomes: Outcomes) -> pd.DataFrame:
    """What each attack turned, per path, on test images.

    `clean_correct` is the number of samples right without the attack, `turned` those
    of them that are wrong under it, `success_rate` their quotient; `robust_accuracy`
    is the share of all samples right before and after. For an ensemble the counts are
    means over the resamples, each resample compared with itself. Runs without clean
    images have no rows.
    """
    test = outcomes.on("test")
    clean = {_series(one): one for one in test if one.key.attack == CLEAN}
    rows: list[Row] = []
    for one in test:
        before = clean.get(_series(one))
        if before is None or one.key.attack == CLEAN:
            continue
        n = one.correct.shape[1]
        clean_correct = float(before.value.sum())
        robust = float(_both(before, one).sum())
        # The interval takes a whole number of trials; rounding down widens it.
        success = wilson_interval(
            share(clean_correct - robust, clean_correct) * int(clean_correct),
            int(clean_correct),
        )
        low, high = wilson_interval(robust, n)
        rows.append(
            {
                **_case(one.key),
                "path": one.path,
                "alpha_from": one.alpha_from,
                "n": n,
                "clean_correct": clean_correct,
                "turned": clean_correct - robust,
                "success_rate": share(clean_correct - robust, clean_correct),
                "success_low": success.low,
                "success_high": success.high,
                "robust_accuracy": share(robust, n),
                "robust_low": low,
                "robust_high": high,
            }
        )
    return _frame(rows, ROBUSTNESS_COLUMNS)


def worst_case_frame(outcomes: Outcomes) -> pd.DataFrame:
    """Share of test samples right under every attack of the run, clean included.

    Per sample and, for an ensemble, per resample, then averaged: not the minimum of
    the accuracies, which is higher. Corruptions, which nobody searched for, are left
    out: no adversary is bound to them.
    """
    groups: dict[tuple[str, ...], list[Outcome]] = {}
    for one in outcomes.on("test"):
        if one.key.tier == "none" and one.key.attack != CLEAN:
            continue
        groups.setdefault(_series(one), []).append(one)
    rows: list[Row] = []
    for (dataset, classifier, path, alpha_from), group in groups.items():
        rows.append(
            {
                "dataset": dataset,
                "classifier": classifier,
                "attacks": " ".join(dict.fromkeys(one.key.attack for one in group)),
                "tiers": " ".join(dict.fromkeys(one.key.tier for one in group)),
                "path": path,
                "alpha_from": alpha_from,
                **_accuracy(_worst_values(group)),
            }
        )
    return _frame(rows, WORST_CASE_COLUMNS)


def _worst_values(group: Sequence[Outcome]) -> Shares:
    """Per sample, the share of draws that is right under the attack worst for it.

    Of the attacks aimed at the path, the one that the selection draws call worst: the
    scoring draws, which count here, must not choose what they score.
    """
    aimed = [one for one in group if one.key.target]
    blind = [one for one in group if not one.key.target]
    worst = np.ones(group[0].correct.shape[1])
    for resamples in {one.correct.shape[0] for one in blind}:
        alike = [one for one in blind if one.correct.shape[0] == resamples]
        right = np.stack([one.correct for one in alike]).all(axis=0)
        worst = np.minimum(worst, right.mean(axis=0))
    if aimed:
        margins = np.stack([one.table.cost["select_margin"] for one in aimed])
        chosen = margins.argmax(axis=0)
        values = np.stack([one.value for one in aimed])
        worst = np.minimum(worst, values[chosen, np.arange(len(chosen))])
    return worst


def _both(before: Outcome, after: Outcome) -> Shares:
    """Share of the draws in which each sample is right before and after."""
    if before.correct.shape == after.correct.shape and not after.key.target:
        return (before.correct & after.correct).mean(axis=0)
    return before.value * after.value


def curves_frame(outcomes: Outcomes) -> pd.DataFrame:
    """Accuracy at every alpha, mean over the resamples, for both splits."""
    rows = [row for sweep in outcomes.sweeps for row in _curve_rows(sweep)]
    return _frame(rows, CURVE_COLUMNS)


def costs_frame(outcomes: Outcomes) -> pd.DataFrame:
    """Means over test samples of what attacks and projections cost.

    Loss and passes are means; of the distances the largest is given too.
    """
    rows: list[Row] = []
    tables = {one.key: one.table for one in outcomes.on("test")}
    for key, table in tables.items():
        n = len(table.label)
        means = {
            name: share(float(values.sum(dtype=np.float64)), n)
            for name, values in table.cost.items()
            if name in COSTS
        }
        largest = {
            f"max_{name}": float(table.cost[name].max(initial=0)) if n else np.nan
            for name in ("distance_linf", "distance_l2")
            if name in table.cost
        }
        rows.append({**_case(key), "target": key.target, "n": n, **means, **largest})
    return _frame(rows, COST_COLUMNS)


def select_alpha(outcomes: Iterable[Outcome], alpha_from: str) -> list[Outcome]:
    """One outcome per table and path: that of `alpha_from`, or else `matched`."""
    found: dict[tuple[TableKey, str], Outcome] = {}
    for one in outcomes:
        place = (one.key, one.path)
        if place not in found or one.alpha_from == alpha_from:
            found[place] = one
    return list(found.values())


def _prediction_rows(one: Outcome, matched: Outcome) -> pd.DataFrame:
    n = len(one.predicted)
    missing = np.full(n, np.nan, np.float32)
    columns: Mapping[str, Any] = {
        **{name: [value] * n for name, value in _case(one.key).items()},
        "path": [one.path] * n,
        "split": [one.key.split] * n,
        "sample": one.table.sample,
        "label": one.table.label,
        "predicted": one.predicted,
        "correct": one.value,
        "probability": one.probability,
        "alpha": np.full(n, one.alpha),
        "alpha_from": [one.alpha_from] * n,
        "correct_matched": matched.value,
        **{name: one.table.cost.get(name, missing) for name in COSTS},
    }
    return pd.DataFrame(columns, columns=list(PREDICTION_COLUMNS))


def _curve_rows(sweep: Sweep) -> list[Row]:
    resamples, alphas, n = sweep.correct.shape
    right = sweep.correct.sum(axis=(0, 2))
    return [
        {
            **_case(sweep.table.key),
            "path": sweep.path,
            "split": sweep.table.key.split,
            "alpha": place / (alphas - 1),
            "accuracy": share(int(right[place]), resamples * n),
        }
        for place in range(alphas)
    ]


def _accuracy(values: np.ndarray[Any, np.dtype[np.float64]]) -> Row:
    n = len(values)
    right = float(values.sum())
    low, high = wilson_interval(right, n)
    return {"n": n, "accuracy": share(right, n), "ci_low": low, "ci_high": high}


def _case(key: TableKey) -> Row:
    return {name: getattr(key, name) for name in CASE_COLUMNS}


def _series(one: Outcome) -> tuple[str, str, str, str]:
    """What stays the same while the attack changes."""
    return one.key.dataset, one.key.classifier, one.path, one.alpha_from


def _grouped(outcomes: Iterable[Outcome]) -> dict[TableKey, list[Outcome]]:
    groups: dict[TableKey, list[Outcome]] = {}
    for one in outcomes:
        groups.setdefault(one.key, []).append(one)
    return groups


def _frame(rows: Sequence[Row], columns: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(columns))
