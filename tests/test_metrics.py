import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest
from synthetic import first, make_run, make_table

from robustgen.ensembling import EnsembleRule
from robustgen.grids import Record, records
from robustgen.intervals import wilson_interval
from robustgen.metrics import (
    ACCURACY_COLUMNS,
    PREDICTION_COLUMNS,
    accuracy_frame,
    costs_frame,
    curves_frame,
    differences_frame,
    predictions_frame,
    robustness_frame,
    worst_case_frame,
)
from robustgen.outcomes import Outcomes, read_outcomes
from robustgen.table import PredictionTable

RULE = EnsembleRule()


@pytest.fixture(scope="module")
def outcomes() -> Outcomes:
    return read_outcomes(make_run(), RULE, attacks=("clean", "pgd"))


def _rows(frame: pd.DataFrame, **wanted: str) -> list[Record]:
    return [
        row
        for row in records(frame)
        if all(row[column] == value for column, value in wanted.items())
    ]


def _row(frame: pd.DataFrame, **wanted: str) -> Record:
    (row,) = _rows(frame, **wanted)
    return row


def _column(frame: pd.DataFrame, name: str, **wanted: str) -> list[Any]:
    return [row[name] for row in _rows(frame, **wanted)]


def _without_samples(table: PredictionTable) -> PredictionTable:
    return dataclasses.replace(
        table,
        sample=table.sample[:0],
        label=table.label[:0],
        single={name: values[:0] for name, values in table.single.items()},
        views={name: values[:0] for name, values in table.views.items()},
        cost={name: values[:0] for name, values in table.cost.items()},
    )


def test_accuracy_has_the_columns_and_rows_of_the_contract(outcomes: Outcomes):
    frame = accuracy_frame(outcomes, suite="s", profile="embedded")
    assert tuple(frame.columns) == ACCURACY_COLUMNS
    # Per attack: val and test of two single paths, and three ensembles twice.
    assert len(frame) == 2 * (2 * 2 + 3 * 2)
    assert set(_column(frame, "verdict")) == {""}
    assert set(_column(frame, "path", split="val")) == {"image", "reconstruction"}
    assert np.isnan(_column(frame, "alpha", alpha_from="")).all()


@pytest.mark.parametrize(
    ("attack", "path", "alpha_from", "accuracy", "alpha"),
    [
        ("clean", "image", "", 1.0, None),
        ("clean", "reconstruction", "", 0.9, None),
        ("clean", "stylemix_ensemble", "matched", 1.0, 0.55),
        ("clean", "stylemix_ensemble", "clean", 1.0, 0.55),
        ("pgd", "image", "", 0.1, None),
        ("pgd", "reconstruction", "", 0.7, None),
        ("pgd", "stylemix_ensemble", "matched", 0.8, 1.0),
        ("pgd", "stylemix_ensemble", "clean", 0.1, 0.55),
        ("pgd", "combined_ensemble", "matched", 0.9, 1.0),
        ("pgd", "image_ensemble", "matched", 0.2, 1.0),
    ],
)
def test_accuracies_are_those_of_the_tables(
    outcomes: Outcomes,
    attack: str,
    path: str,
    alpha_from: str,
    accuracy: float,
    alpha: float | None,
):
    frame = accuracy_frame(outcomes, suite="s", profile="embedded")
    row = _row(frame, attack=attack, path=path, alpha_from=alpha_from, split="test")
    assert row["accuracy"] == pytest.approx(accuracy)
    assert row["n"] == 10
    expected = wilson_interval(accuracy * 10, 10)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(expected)
    assert (alpha is None) == bool(np.isnan(row["alpha"]))
    if alpha is not None:
        assert row["alpha"] == pytest.approx(alpha)


def test_predictions_have_one_row_per_sample_attack_path_and_split(outcomes: Outcomes):
    frame = predictions_frame(outcomes)
    assert tuple(frame.columns) == PREDICTION_COLUMNS
    assert len(frame) == 10 * 2 * 5 * 2
    assert not frame.duplicated(["sample", "attack", "path", "split"]).any()
    wanted = {"attack": "pgd", "path": "stylemix_ensemble", "split": "test"}
    assert set(_column(frame, "alpha_from", **wanted)) == {"clean"}
    assert _column(frame, "correct", **wanted) == [1.0] + [0.0] * 9
    assert _column(frame, "correct_matched", **wanted) == [1.0] * 8 + [0.0] * 2
    assert _column(frame, "sample", **wanted) == list(range(100, 110))
    assert _column(frame, "projection_passes", **wanted) == [12.0] * 10
    for row in _rows(frame, path="image"):
        assert row["correct"] == row["correct_matched"]
        assert row["correct"] == (row["predicted"] == row["label"])


def test_accuracy_is_the_mean_of_the_predictions(outcomes: Outcomes):
    accuracy = accuracy_frame(outcomes, suite="s", profile="embedded")
    predictions = predictions_frame(outcomes)
    compared = 0
    for row in records(accuracy):
        wanted = {name: row[name] for name in ("attack", "path", "alpha_from", "split")}
        correct = _column(predictions, "correct", **wanted)
        if row["alpha_from"] != "matched":
            assert np.mean(correct) == pytest.approx(row["accuracy"])
            compared += 1
    assert compared == 2 * (2 * 2 + 3)


def test_differences_are_paired_and_named(outcomes: Outcomes):
    frame = differences_frame(outcomes, seed=0)
    row = _row(
        frame,
        attack="pgd",
        first="reconstruction",
        second="stylemix_ensemble",
        alpha_from="matched",
    )
    assert row["difference"] == pytest.approx(0.1)
    assert (row["gained"], row["lost"], row["n"]) == (1, 0, 10)
    assert row["ci_low"] == 0.0
    assert row["ci_high"] == pytest.approx(0.3)
    row = _row(frame, attack="pgd", first="image", second="reconstruction")
    assert row["alpha_from"] == ""
    assert row["difference"] == pytest.approx(0.6)
    assert row["ci_low"] > 0.2
    row = _row(
        frame,
        attack="pgd",
        first="image",
        second="image_ensemble",
        alpha_from="clean",
    )
    assert row["difference"] == 0.0


def test_differences_depend_on_the_seed_only_in_their_ends(outcomes: Outcomes):
    one, again, other = (differences_frame(outcomes, seed=seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(one, again)
    assert _column(one, "difference") == _column(other, "difference")


def test_attack_success_counts_only_what_was_right(outcomes: Outcomes):
    frame = robustness_frame(outcomes)
    assert set(frame["attack"]) == {"pgd"}
    row = _row(frame, path="image")
    assert (row["clean_correct"], row["turned"]) == (10.0, 9.0)
    assert row["success_rate"] == pytest.approx(0.9)
    assert row["robust_accuracy"] == pytest.approx(0.1)
    row = _row(frame, path="reconstruction")
    assert (row["clean_correct"], row["turned"]) == (9.0, 2.0)
    assert row["success_rate"] == pytest.approx(2 / 9)
    assert row["robust_accuracy"] == pytest.approx(0.7)
    row = _row(frame, path="combined_ensemble", alpha_from="matched")
    assert row["robust_accuracy"] == pytest.approx(0.9)


def test_robust_accuracy_is_right_before_and_after():
    right = {"clean": [True, True, False, False], "pgd": [True, False, True, False]}
    tables = [
        make_table(attack, "test", {"image": values})
        for attack, values in right.items()
    ]
    row = _row(robustness_frame(read_outcomes(tables, RULE)), path="image")
    assert row["robust_accuracy"] == 0.25
    assert row["success_rate"] == 0.5


def test_success_where_nothing_was_right_is_not_zero():
    tables = [
        make_table(attack, "test", {"image": [False, False]})
        for attack in ("clean", "pgd")
    ]
    row = _row(robustness_frame(read_outcomes(tables, RULE)), path="image")
    assert np.isnan(row["success_rate"])
    assert np.isnan(row["success_low"])
    assert row["robust_accuracy"] == 0.0


def test_worst_case_is_below_the_minimum_of_accuracies():
    right = {
        "clean": [True, True, True, True],
        "pgd": [True, True, False, True],
        "cw": [False, True, True, True],
    }
    tables = [
        make_table(attack, "test", {"image": values})
        for attack, values in right.items()
    ]
    row = _row(worst_case_frame(read_outcomes(tables, RULE)), path="image")
    assert row["accuracy"] == 0.5
    assert row["attacks"] == "clean cw pgd"
    assert row["tiers"] == "none oblivious"


def test_the_worst_case_is_over_attacks_not_corruptions():
    right = {"clean": [True, True], "pgd": [True, False], "jpeg": [False, False]}
    tables = [
        make_table(attack, "test", {"image": values})
        for attack, values in right.items()
    ]
    row = _row(worst_case_frame(read_outcomes(tables, RULE)), path="image")
    assert (row["accuracy"], row["attacks"]) == (0.5, "clean pgd")


def test_curves_start_at_the_image_and_end_at_the_views(outcomes: Outcomes):
    frame = curves_frame(outcomes)
    wanted = {"attack": "pgd", "path": "combined_ensemble", "split": "test"}
    np.testing.assert_allclose(_column(frame, "alpha", **wanted), np.linspace(0, 1, 21))
    accuracy = _column(frame, "accuracy", **wanted)
    assert accuracy[0] == pytest.approx(0.1)
    assert accuracy[-1] == pytest.approx(0.9)


def test_costs_are_means_over_test_samples(outcomes: Outcomes):
    row = _row(costs_frame(outcomes), attack="pgd")
    assert row["distance_linf"] == pytest.approx(8 / 255)
    assert row["distance_l2"] == pytest.approx(0.5)
    assert row["max_distance_l2"] == 1.0
    assert (row["attack_forwards"], row["attack_backwards"]) == (41, 40)
    assert (row["initial_loss"], row["final_loss"]) == (0.5, 0.25)
    assert row["projection_passes"] == 12


def test_costs_that_a_table_lacks_are_nan():
    table = make_table("clean", "test", {"image": first(3, 4)})
    table = dataclasses.replace(table, cost={})
    outcomes = read_outcomes([table], RULE)
    row = _row(costs_frame(outcomes), attack="clean")
    assert np.isnan(row["distance_linf"])
    assert np.isnan(row["max_distance_l2"])
    assert np.isnan(_column(predictions_frame(outcomes), "final_loss")).all()


def test_no_test_samples_give_nan():
    tables = [
        table if table.key.split == "val" else _without_samples(table)
        for table in make_run()
    ]
    outcomes = read_outcomes(tables, RULE)
    frame = accuracy_frame(outcomes, suite="s", profile="embedded")
    for row in _rows(frame, split="test"):
        assert row["n"] == 0
        assert np.isnan([row["accuracy"], row["ci_low"], row["ci_high"]]).all()
    for counted, name in (
        (differences_frame(outcomes, seed=0), "difference"),
        (robustness_frame(outcomes), "robust_accuracy"),
        (worst_case_frame(outcomes), "accuracy"),
    ):
        assert len(counted) > 0
        assert np.isnan(_column(counted, name)).all()
    assert np.isnan(_column(curves_frame(outcomes), "accuracy", split="test")).all()


def test_no_tables_give_empty_frames():
    empty = read_outcomes([], RULE)
    assert tuple(predictions_frame(empty).columns) == PREDICTION_COLUMNS
    assert len(accuracy_frame(empty, suite="s", profile="full")) == 0
