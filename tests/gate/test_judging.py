"""The gate's statistics: verdicts, corrections, power."""

import sys
from pathlib import Path

import numpy as np
import pytest
from gate_runs import row
from hypothesis import given
from hypothesis import strategies as st

from robustgen.gate.judging import decidable, judge, samples_needed, steps
from robustgen.intervals import holm, mcnemar_p, paired_interval

sys.path.append(str(Path(__file__).parents[2]))

from benchmarks import gate_power

N = 500


def marks(right: int, n: int = N) -> list[int]:
    return [int(place < right) for place in range(n)]


def verdict(
    before: int, now: int, *, n: int = N, attack: str = "pgd", margin: float = 0.01
) -> str:
    pair = (row(marks(before, n), attack=attack), row(marks(now, n), attack=attack))
    return judge([pair], margin=margin)[0].verdict


def test_what_a_row_says_follows_from_test_interval_and_margin():
    assert verdict(450, 450) == "identical"
    assert verdict(450, 425) == "defense weaker"
    assert verdict(450, 475) == "attack weaker"
    assert verdict(450, 475, attack="clean") == "improved"
    assert verdict(450, 425, margin=0.1) == "within margin"
    assert verdict(450, 475, margin=0.1) == "within margin"
    assert verdict(450, 448, margin=0.02) == "unchanged"
    assert verdict(450, 448, margin=0.005) == "undecided"


def test_clean_accuracy_may_rise_and_an_attacked_one_may_not():
    assert verdict(450, 454, attack="clean", margin=0.01) == "unchanged"
    assert verdict(450, 454, margin=0.01) == "undecided"


def test_the_p_value_of_decisions_is_mcnemars():
    before = [1] * 20 + [0] * 10
    now = [0] * 9 + [1] * 11 + [1] * 3 + [0] * 7
    found = judge([(row(before), row(now))])[0]
    assert (found.gained, found.lost) == (3, 9)
    assert found.p_value == pytest.approx(mcnemar_p(3, 9))
    assert found.difference == pytest.approx(-6 / 30)
    low, high = paired_interval(np.array(now, float) - np.array(before, float))
    assert (found.low, found.high) == (low, high)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), min_size=1, max_size=30)
)
def test_draws_of_another_number_are_compared_as_shares(
    pairs: list[tuple[int, int]],
):
    before, now = row([a for a, _ in pairs], of=4), row([b for _, b in pairs], of=6)
    shares = np.array([b / 6 - a / 4 for a, b in pairs])
    np.testing.assert_allclose(steps(before, now) / 12, shares, atol=1e-12)
    found = judge([(before, now)])[0]
    assert found.difference == pytest.approx(shares.mean(), abs=1e-12)
    assert found.gained == (shares > 1e-9).sum()


def test_holm_counts_the_rows_that_could_be_significant():
    lost = (row(marks(450)), row(marks(438)))
    other = (row(marks(450), path="image"), row([0, *marks(450, N - 1)], path="image"))
    alone, beside = judge([lost])[0], judge([lost, other])[0]
    # Two flips cannot be significant at any level in use: they weigh nothing.
    assert alone.p_corrected == beside.p_corrected == mcnemar_p(0, 12)
    twice = judge([lost, (row(marks(450)), row(marks(438)))])
    assert [one.p_corrected for one in twice] == holm([mcnemar_p(0, 12)] * 2)


def test_a_row_that_is_not_trusted_any_more_is_refused_and_not_counted():
    lost = (row(marks(450)), row(marks(400), verdict="SUSPECT", checks=("S4: x",)))
    found = judge([lost, (row(marks(450)), row(marks(440)))])
    assert found[0].verdict == "refused"
    assert np.isnan(found[0].p_corrected)
    assert found[0].checks == ("S4: x",)
    assert found[1].p_corrected == mcnemar_p(0, 10)


@given(st.lists(st.integers(0, 30), max_size=12), st.sampled_from([0.01, 0.05]))
def test_what_is_left_out_could_not_have_been_significant(
    moved: list[int], alpha: float
):
    smallest = [min(1.0, 2.0 ** (1 - count)) for count in moved]
    kept = decidable(smallest, alpha)
    out = [p for place, p in enumerate(smallest) if place not in kept]
    # Plain Holm could reject these at no step where one of them comes first.
    assert all(p > alpha / max(len(smallest), 1) for p in out)
    assert all(smallest[place] <= alpha / len(kept) for place in kept)


def test_so_many_samples_show_that_nothing_changed_four_times_in_five():
    flips = 0.04
    needed = samples_needed(flips, 0.03)
    assert needed == 467
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(1000):
        delta = rng.choice(
            [-1.0, 0.0, 1.0], size=needed, p=[flips / 2, 1 - flips, flips / 2]
        )
        low, high = paired_interval(delta)
        inside += max(-low, high) <= 0.03
    assert inside / 1000 == pytest.approx(0.8, abs=0.05)


def test_five_points_on_500_samples_are_caught_and_noise_is_not():
    """Twelve rows, 1% of the samples flipping each way in each of them."""
    caught, false, _ = gate_power.rates(200, drop=0.05, noise=0.01)
    assert caught >= 0.95
    assert false <= 0.02
    _, false, _ = gate_power.rates(200, drop=0.0, noise=0.01)
    assert false <= 0.02
