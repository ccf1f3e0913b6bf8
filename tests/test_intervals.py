import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from statsmodels.stats.multitest import multipletests

from robustgen.intervals import (
    bootstrap_interval,
    holm,
    mcnemar_p,
    paired_difference,
    paired_interval,
    share,
    sign_flip_p,
    wilson_interval,
)
from robustgen.seeding import numpy_rng


def _reference_wilson(p: float, n: int) -> tuple[float, float]:
    z = 1.959963984540054
    center = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return center - half, center + half


@given(st.integers(1, 500), st.floats(0, 1))
def test_wilson_is_its_closed_form(n: int, p: float):
    low, high = wilson_interval(p * n, n)
    expected = _reference_wilson(p, n)
    assert low == pytest.approx(max(0, expected[0]), abs=1e-12)
    assert high == pytest.approx(min(1, expected[1]), abs=1e-12)
    assert 0 <= low <= p + 1e-12
    assert p - 1e-12 <= high <= 1


def test_wilson_never_shrinks_to_a_point():
    assert wilson_interval(1, 1) == pytest.approx((0.2065493, 1.0))
    assert wilson_interval(0, 1) == pytest.approx((0.0, 0.7934507))


def test_nothing_is_not_zero():
    assert math.isnan(share(0, 0))
    assert all(map(math.isnan, wilson_interval(0, 0)))
    empty = np.zeros(0)
    assert all(map(math.isnan, bootstrap_interval(empty, numpy_rng(0))))
    nothing = paired_difference(empty, empty, numpy_rng(0))
    assert math.isnan(nothing.mean)
    assert nothing.n == 0


def test_bootstrap_agrees_with_the_normal_approximation():
    values = np.repeat([0.0, 1.0], [300, 700])
    low, high = bootstrap_interval(values, numpy_rng(0, "test"))
    half = 1.96 * math.sqrt(0.3 * 0.7 / 1000)
    assert low == pytest.approx(0.7 - half, abs=0.004)
    assert high == pytest.approx(0.7 + half, abs=0.004)


@given(
    arrays(np.float64, st.integers(1, 40), elements=st.floats(0, 1)),
    st.integers(0, 100),
)
def test_bootstrap_stays_in_the_range_of_the_values(values: np.ndarray, seed: int):
    low, high = bootstrap_interval(values, numpy_rng(seed))
    assert values.min() - 1e-12 <= low <= high <= values.max() + 1e-12
    assert (low, high) == bootstrap_interval(values, numpy_rng(seed))


def test_a_paired_difference_counts_gains_and_losses():
    first = np.array([0.0, 0.0, 1.0, 0.5])
    second = np.array([1.0, 0.0, 0.0, 0.75])
    change = paired_difference(first, second, numpy_rng(0))
    assert change.mean == pytest.approx(0.0625)
    assert (change.gained, change.lost, change.n) == (2, 1, 4)
    assert change.low <= change.mean <= change.high
    back = paired_difference(second, first, numpy_rng(0))
    assert back.mean == -change.mean


def test_equal_paths_differ_by_exactly_nothing():
    values = np.array([0.0, 1.0, 0.3])
    assert paired_difference(values, values, numpy_rng(0)) == (0, 0, 0, 0, 0, 3)


def test_pairing_is_narrower_than_two_separate_intervals():
    rng = np.random.default_rng(1)
    first = (rng.random(400) < 0.8).astype(float)
    second = first.copy()
    second[:8] = 1 - second[:8]
    change = paired_difference(first, second, numpy_rng(0))
    low, high = wilson_interval(first.sum(), 400)
    assert change.high - change.low < high - low


@given(st.lists(st.integers(-4, 4), max_size=9))
def test_the_sign_flip_test_is_the_share_of_sign_patterns_as_extreme(steps: list[int]):
    sizes = [abs(step) for step in steps if step]
    signs = itertools.product((-1, 1), repeat=len(sizes))
    sums = [sum(s * k for s, k in zip(sign, sizes, strict=True)) for sign in signs]
    extreme = [total for total in sums if abs(total) >= abs(sum(steps))]
    expected = len(extreme) / len(sums)
    assert sign_flip_p(np.array(steps, np.int64)) == pytest.approx(expected, abs=1e-12)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 20))
def test_for_decisions_the_sign_flip_test_is_mcnemars(gained: int, lost: int, of: int):
    steps = np.array([of] * gained + [-of] * lost + [0] * 7, np.int64)
    assert sign_flip_p(steps) == pytest.approx(mcnemar_p(gained, lost), abs=1e-12)


def test_many_small_losses_are_seen_though_no_majority_changed():
    # 40 images fall from 20 of 20 draws to 14, two rise by 1: a sum of -238 of 242.
    steps = np.array([-6] * 40 + [1] * 2, np.int64)
    assert sign_flip_p(steps) == pytest.approx(4 * 2.0**-41, rel=1e-9)


def test_thousands_of_flips_underflow_nowhere_that_counts():
    steps = np.array([1] * 1600 + [-1] * 1400, np.int64)
    assert sign_flip_p(steps) == pytest.approx(mcnemar_p(1600, 1400), rel=1e-9)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
@settings(max_examples=20)
def test_holm_is_that_of_statsmodels(p_values: list[float]):
    expected = np.asarray(multipletests(p_values, method="holm")[1])
    np.testing.assert_allclose(holm(p_values), expected, rtol=1e-15)


def test_no_p_value_needs_no_correction():
    assert holm([]) == []


def test_the_paired_interval_is_bonett_and_prices():
    # f12 = 5, f21 = 12 of n = 100: p12 = 6/102, p21 = 13/102.
    delta = np.array([1.0] * 5 + [-1.0] * 12 + [0.0] * 83)
    p12, p21 = 6 / 102, 13 / 102
    half = 1.959963984540054 * math.sqrt((p12 + p21 - (p12 - p21) ** 2) / 102)
    expected = (p12 - p21 - half, p12 - p21 + half)
    assert paired_interval(delta) == pytest.approx(expected, abs=1e-12)
    assert all(map(math.isnan, paired_interval(np.zeros(0))))
