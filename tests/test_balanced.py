import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from synthetic import first, make_run, make_table

from robustgen.balanced import BALANCED_COLUMNS, balanced_accuracy, balanced_frame
from robustgen.ensembling import EnsembleRule
from robustgen.grids import UNBALANCED, balanced_grid
from robustgen.intervals import share_mean_interval, wilson_interval
from robustgen.metrics import accuracy_frame
from robustgen.outcomes import Outcomes, read_outcomes
from robustgen.rendering import terminal_table, to_markdown
from robustgen.report import build_report
from robustgen.report_schema import Report
from robustgen.table import PredictionTable

RULE = EnsembleRule()


def relabelled(table: PredictionTable, ones: int) -> PredictionTable:
    """The same decisions, of which the last `ones` samples are of class 1."""
    n = len(table.label)
    label = np.repeat([0, 1], [n - ones, ones])
    turned = (label != table.label)[:, None]
    single = {
        path: np.where(turned, values[:, ::-1], values)
        for path, values in table.single.items()
    }
    return dataclasses.replace(table, label=label, single=single)


def unbalanced_report(ones: int) -> Report:
    paths = {"image": first(9), "reconstruction": first(5)}
    tables = [
        relabelled(make_table("clean", split, paths), ones) for split in ("val", "test")
    ]
    suite = {"version": 1, "name": "mini", "seed": 0}
    return build_report(tables, suite=suite, profile="embedded", manifest={})


def test_balanced_accuracy_is_the_mean_recall():
    labels = np.array([0, 0, 0, 0, 3, 3, 7])
    values = np.array([1.0, 1, 1, 0, 0.5, 0, 1])
    found = balanced_accuracy(values, labels)
    assert found.balanced_accuracy == pytest.approx((0.75 + 0.25 + 1) / 3)
    assert found.accuracy == pytest.approx(4.5 / 7)
    assert (found.n, found.classes) == (7, 3)
    assert found.largest_class == pytest.approx(4 / 7)


def test_the_constant_guess_scores_one_half_of_two_classes():
    labels = np.repeat([0, 1], [720, 280])
    found = balanced_accuracy((labels == 0).astype(float), labels)
    assert found.accuracy == pytest.approx(0.72)
    assert found.balanced_accuracy == 0.5


def test_nothing_is_not_zero():
    found = balanced_accuracy(np.zeros(0), np.zeros(0, np.int64))
    assert (found.n, found.classes) == (0, 0)
    assert np.isnan(found[2:]).all()


def test_classes_of_equal_size_have_the_accuracy():
    labels = np.arange(30) % 3
    values = np.random.default_rng(0).random(30)
    found = balanced_accuracy(values, labels)
    assert found.balanced_accuracy == pytest.approx(values.mean())


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_of_one_class_is_wilsons(case: tuple[int, int]):
    right, n = case
    found = share_mean_interval(np.array([float(right)]), np.array([n]))
    assert found == pytest.approx(wilson_interval(right, n))


@pytest.mark.parametrize(
    "chances", [(0.5, 0.5), (0.95, 0.9), (0.9, 0.99), (1.0, 1.0), (0.0, 0.05)]
)
def test_the_interval_holds_the_truth_as_often_as_it_says(
    chances: tuple[float, float],
):
    # Exact: summed over every outcome of 28 samples of one class and 72 of the other.
    sizes = np.array([28, 72])
    weights = [
        binom.pmf(np.arange(n + 1), n, p) for n, p in zip(sizes, chances, strict=True)
    ]
    covered = 0.0
    for a in np.flatnonzero(weights[0] > 1e-4):
        for b in np.flatnonzero(weights[1] > 1e-4):
            low, high = share_mean_interval(np.array([a, b], float), sizes)
            truth = sum(chances) / 2
            covered += (low <= truth <= high) * weights[0][a] * weights[1][b]
    assert covered > 0.935


@pytest.mark.parametrize("chance", [0.95, 0.99])
def test_the_interval_of_ten_classes_holds_the_truth(chance: float):
    # Summed over 2000 draws; MOVER alone holds it in 0.88 of them at 0.99.
    sizes = np.full(10, 100)
    drawn = np.random.default_rng(0).binomial(sizes, chance, (2000, 10))
    # Classes of equal size are interchangeable.
    rows, counts = np.unique(np.sort(drawn), axis=0, return_counts=True)
    held = 0
    for row, count in zip(rows, counts, strict=True):
        low, high = share_mean_interval(row.astype(np.float64), sizes)
        held += int(count) * (low <= chance <= high)
    assert held / len(drawn) > 0.94


def test_a_frame_has_a_row_for_every_accuracy():
    outcomes: Outcomes = read_outcomes(make_run(), RULE, attacks=("clean", "pgd"))
    accuracy = accuracy_frame(outcomes, suite="s", profile="embedded")
    frame = balanced_frame(outcomes)
    assert tuple(frame.columns) == BALANCED_COLUMNS
    shared = [name for name in BALANCED_COLUMNS if name in accuracy.columns]
    for name in shared:
        assert list(frame[name]) == list(accuracy[name])
    # Classes of equal size: five samples each.
    assert list(frame["balanced_accuracy"]) == pytest.approx(list(frame["accuracy"]))


def test_reports_show_it_where_classes_are_unbalanced():
    report = unbalanced_report(ones=2)
    row = report.balanced.query("path == 'reconstruction' and split == 'test'").iloc[0]
    # Right are the first five: five of eight zeros, none of two ones.
    assert row["accuracy"] == 0.5
    assert row["balanced_accuracy"] == pytest.approx(5 / 16)
    assert row["largest_class"] == 0.8
    for text in (to_markdown(report), terminal_table(report)):
        assert "Balanced accuracy on test images (n = 10)" in text
        assert "0.312 [" in text
        assert "80% of the images are of one class" in text


def test_reports_do_not_show_it_at_the_limit():
    report = unbalanced_report(ones=4)
    assert set(report.balanced["largest_class"]) == {UNBALANCED}
    assert not balanced_grid(report.balanced, "clean").rows
    for text in (to_markdown(report), terminal_table(report)):
        assert "Balanced accuracy" not in text
