"""Rows of two runs: accuracies, differences, tests, readings."""

from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_runs import EPS, marks, run, table

from robustgen.comparison.compare import Comparison, compare_runs
from robustgen.comparison.rendering import comparison_text, summary
from robustgen.comparison.sample_size import Plan
from robustgen.intervals import paired_interval, wilson_interval
from robustgen.table import PredictionTable


def readings(comparison: Comparison) -> list[str]:
    return [row.reading for row in comparison.rows]


def compared(*pairs: tuple[str, str], plan: Plan | None = None) -> Comparison:
    """One row for each pair of marks: what A and what B got right."""
    a = [table(f"attack_{i}", one) for i, (one, _) in enumerate(pairs)]
    b = [table(f"attack_{i}", other) for i, (_, other) in enumerate(pairs)]
    return compare_runs(run(*a), run(*b), plan)


def both_paths(lost: int = 0) -> tuple[PredictionTable, PredictionTable]:
    """Clean and attacked images; the reconstruction loses some under attack."""
    return (
        table("clean", {"image": marks(100), "reconstruction": marks(100, [99])}),
        table(
            "pgd",
            {
                "image": "-" * 100,
                "reconstruction": marks(100, range(lost)),
            },
        ),
    )


def test_a_run_and_itself_are_not_distinguishable_in_any_row():
    found = compare_runs(run(*both_paths(7)), run(*both_paths(7)))
    assert readings(found) == ["not distinguishable"] * 4
    assert [(r.difference.gained, r.difference.lost) for r in found.rows] == [
        (0, 0)
    ] * 4
    assert [r.p_corrected for r in found.rows] == [1.0] * 4
    low, high = paired_interval(np.zeros(100))
    assert [r.difference[:3] for r in found.rows] == [(0.0, low, high)] * 4
    assert found.changes == ()
    assert not found.only_a
    assert not found.only_b
    assert "Samples that changed" not in comparison_text(found)


def test_a_planted_loss_is_found_in_its_row_alone():
    found = compare_runs(run(*both_paths()), run(*both_paths(12)))
    assert readings(found) == [*["not distinguishable"] * 3, "B lower"]
    row = found.rows[-1]
    assert (row.key.attack, row.key.path, row.key.eps) == ("pgd", "reconstruction", EPS)
    assert (row.accuracy_a, row.accuracy_b) == (1.0, 0.88)
    assert row.interval_b == wilson_interval(88, 100)
    assert row.difference.mean == pytest.approx(-0.12)
    assert (row.difference.gained, row.difference.lost) == (0, 12)
    # Twelve discordant samples, all one way; four rows.
    assert row.p == pytest.approx(2 / 2**12)
    assert row.p_corrected == pytest.approx(4 * 2 / 2**12)
    assert summary(found.rows) == (
        "4 rows: B higher in 0, B lower in 1, not distinguishable in 3."
    )


def test_p_is_that_of_mcnemar_for_decisions():
    a, b = marks(50, [*range(10)]), marks(50, [*range(2), *range(10, 25)])
    (row,) = compared((a, b)).rows
    assert (row.difference.gained, row.difference.lost) == (8, 15)
    tail = sum(comb(23, k) for k in range(9)) / 2**23
    assert row.p == pytest.approx(2 * tail)
    assert row.discordance == pytest.approx(23 / 50)


def test_p_values_are_corrected_by_holm_over_the_rows():
    right = marks(40)
    found = compared(*[(right, marks(40, range(lost))) for lost in (6, 10, 7, 6)])
    raw = [2 / 2**lost for lost in (6, 10, 7, 6)]
    assert [row.p for row in found.rows] == pytest.approx(raw)
    # In ascending order times 4, 3, 2, 1, and never falling.
    expected = [raw[0] * 2, raw[1] * 4, raw[2] * 3, raw[0] * 2]
    assert [row.p_corrected for row in found.rows] == pytest.approx(expected)
    assert readings(found) == [
        *("not distinguishable", "B lower"),
        *("B lower", "not distinguishable"),
    ]


def test_five_samples_all_one_way_are_within_the_noise():
    (row,) = compared((marks(300), marks(300, range(5)))).rows
    assert row.p == pytest.approx(0.0625)
    assert row.reading == "not distinguishable"


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30),
)
@settings(max_examples=30, deadline=None)
def test_the_other_way_round_everything_but_the_sign_is_the_same(
    right: list[tuple[bool, bool]],
):
    a, b = ("".join("-+"[one] for one in side) for side in zip(*right, strict=True))
    (there,), (back,) = compared((a, b)).rows, compared((b, a)).rows
    assert there.difference.mean == pytest.approx(-back.difference.mean)
    assert there.difference.low == pytest.approx(-back.difference.high)
    assert there.difference.gained == back.difference.lost
    assert there.p == back.p
    assert there.accuracy_a == back.accuracy_b


def test_runs_that_differ_by_noise_alone_are_seldom_told_apart():
    rng = np.random.default_rng(0)
    told = 0
    for _ in range(40):
        pairs = [
            tuple("".join(np.where(rng.random(80) < 0.8, "+", "-")) for _ in "ab")
            for _ in range(8)
        ]
        rows = compared(*[(a, b) for a, b in pairs]).rows
        told += any(row.told_apart for row in rows)
    # The chance of one false reading or more is at most 5%: 2 of 40.
    assert told <= 6


def test_shares_of_draws_count_by_how_far_they_moved():
    a = table("pgd", {}, draws=["++++++", "++++++"])
    b = table("pgd", {}, draws=["++++++", "-+++++", "--++++"])
    (row,) = compare_runs(run(a), run(b)).rows
    assert row.accuracy_a == 1.0
    assert row.accuracy_b == pytest.approx((6 - 2 / 3 - 1 / 3) / 6)
    # The unit is a sixth: a common part of halves and thirds.
    assert row.paired.steps.tolist() == [-4, -2, 0, 0, 0, 0]
    assert row.discordance == pytest.approx((4 / 9 + 1 / 9) / 6)
    # Signs of 2 and 1: of the four equally likely sums, -3 and 3 are as far out.
    assert row.p == 0.5


def test_verdicts_against_a_row_stand_in_its_reading():
    lost = both_paths(12)
    checked = run(*both_paths(), evidence=())
    found = compare_runs(checked, run(*lost))
    assert found.rows[-1].reading == "B lower (A SUSPECT)"
    assert found.rows[-1].verdict_b == ""
    found = compare_runs(checked, run(*lost, evidence=()))
    assert found.rows[-1].reading == "B lower (A SUSPECT, B SUSPECT)"
    assert "1 of them SUSPECT or INVALID" not in summary(found.rows)


def test_an_invalid_row_is_marked_as_such():
    clean, _ = both_paths()
    far = table("pgd", {"image": "-" * 100}, distance=2 * EPS)
    near = table("pgd", {"image": "-" * 100})
    found = compare_runs(run(clean, near, evidence=()), run(clean, far, evidence=()))
    assert found.rows[-1].verdict_b == "INVALID"
    assert "B INVALID" in found.rows[-1].reading


def test_sample_sizes_are_given_for_each_row_and_only_if_asked_for():
    pairs = (marks(100), marks(100, range(10)))
    (row,) = compared(pairs, plan=Plan(0.05)).rows
    assert row.sample_size is not None
    (bare,) = compared(pairs).rows
    assert bare.sample_size is None
    text = comparison_text(compared(pairs, plan=Plan(0.05)))
    assert "Samples needed for a margin of 0.05" in text
    assert str(row.sample_size.for_difference) in text
