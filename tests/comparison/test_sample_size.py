"""How many samples a margin takes, against formulas, enumeration and simulation."""

from math import comb

import numpy as np
import pytest

from robustgen.comparison.sample_size import (
    Plan,
    connor_size,
    exact_power,
    size_for_difference,
    size_for_half_width,
)
from robustgen.errors import RequestError
from robustgen.intervals import mcnemar_p, paired_interval, sign_flip_p

CASES = ((0.05, 0.05), (0.1, 0.05), (0.25, 0.1), (0.5, 0.2), (0.04, 0.02))


def test_connor_agrees_with_the_formula_by_hand():
    # (1.959964 * 0.5 + 0.841621 * sqrt(0.25 - 0.0225))² / 0.0225 = 84.8.
    assert connor_size(0.25, Plan(0.15)) == 85
    # All pairs that disagree go one way: (1.959964 + 0.841621 * 0)² for psi = 1.
    assert connor_size(1.0, Plan(1.0)) == 4


@pytest.mark.parametrize("n", [1, 7, 12])
@pytest.mark.parametrize(("discordance", "difference"), [(0.6, 0.4), (0.9, 0.9)])
def test_exact_power_agrees_with_enumeration(
    n: int, discordance: float, difference: float
):
    better = (discordance + difference) / 2
    worse = discordance - better
    total = 0.0
    for gained in range(n + 1):
        for lost in range(n + 1 - gained):
            chance = comb(n, gained) * comb(n - gained, lost) * better**gained
            chance *= worse**lost * (1 - discordance) ** (n - gained - lost)
            if gained > lost and mcnemar_p(gained, lost) <= 0.05:
                total += chance
    found = exact_power(n, discordance, difference, 0.05)
    assert found == pytest.approx(total, abs=1e-9)


@pytest.mark.parametrize(("discordance", "margin"), CASES)
@pytest.mark.parametrize("power", [0.8, 0.95])
def test_the_size_is_the_smallest_with_that_power(
    discordance: float, margin: float, power: float
):
    plan = Plan(margin, power)
    n = size_for_difference(discordance, plan)
    assert exact_power(n, discordance, margin, 0.05) >= power
    assert exact_power(n - 1, discordance, margin, 0.05) < power
    if discordance > margin:
        assert 0 <= n - connor_size(discordance, plan) <= 2 / margin


@pytest.mark.parametrize(("discordance", "margin"), CASES)
def test_simulated_exact_tests_find_the_margin_as_often_as_asked(
    discordance: float, margin: float
):
    n = size_for_difference(discordance, Plan(margin, 0.8))
    rng = np.random.default_rng(1)
    better = (discordance + margin) / 2
    shares = [better, discordance - better, 1 - discordance]
    drawn = rng.multinomial(n, shares, size=1000)
    found = np.mean([mcnemar_p(int(g), int(x)) < 0.05 for g, x, _ in drawn])
    assert found == pytest.approx(0.8, abs=0.04)


def test_simulated_tests_on_shares_of_draws_have_that_power():
    rng = np.random.default_rng(2)
    # Steps out of 10 draws, and the share of samples that takes each.
    steps, shares = np.array([5, 2, -1, -4, 0]), [0.05, 0.05, 0.05, 0.03, 0.82]
    margin = float(steps @ shares) / 10
    discordance = float(steps**2 @ shares) / 100
    moved = float(abs(steps) @ shares) / 10
    n = size_for_difference(discordance, Plan(margin), discordance / moved)
    found = np.mean(
        [sign_flip_p(rng.choice(steps, size=n, p=shares)) < 0.05 for _ in range(400)]
    )
    assert found == pytest.approx(0.8, abs=0.06)


def test_the_step_is_a_unit_of_measure():
    # In units of one half: discordance 0.05 / 0.25, margin 0.05 / 0.5.
    assert size_for_difference(0.05, Plan(0.05), 0.5) == size_for_difference(
        0.2, Plan(0.1)
    )
    assert size_for_difference(0.2, Plan(0.1), 1.0) == size_for_difference(
        0.2, Plan(0.1)
    )


def test_without_a_sample_that_differs_all_would_go_one_way():
    assert size_for_difference(0.0, Plan(0.05)) == size_for_difference(0.05, Plan(0.05))


def test_a_smaller_margin_a_higher_power_or_a_lower_level_takes_more():
    base = size_for_difference(0.1, Plan(0.05))
    assert size_for_difference(0.1, Plan(0.04)) > base
    assert size_for_difference(0.1, Plan(0.05, power=0.9)) > base
    assert size_for_difference(0.1, Plan(0.05, alpha=0.01)) > base
    assert size_for_difference(0.2, Plan(0.05)) > base


def test_the_smallest_margin_agrees_with_the_formula_for_large_samples():
    plan = Plan(0.005)
    n = size_for_difference(0.1, plan)
    assert n == pytest.approx(connor_size(0.1, plan), rel=0.02)


@pytest.mark.parametrize(("lost", "gained", "margin"), [(0, 0, 0.01), (3, 1, 0.02)])
def test_the_interval_at_that_size_has_that_half_width(
    lost: int, gained: int, margin: float
):
    def half_width(n: int) -> float:
        low, high = paired_interval(delta(n))
        return (high - low) / 2

    def delta(n: int) -> np.ndarray:
        # 3% fall and 1% rise, on whole samples where n is a multiple of 100.
        values = np.zeros(n)
        values[: n * lost // 100] = -1
        values[n - n * gained // 100 :] = 1
        return values

    n = size_for_half_width((lost + gained) / 100, (gained - lost) / 100, margin)
    if lost == gained == 0:
        assert half_width(n) <= margin < half_width(n - 1)
    else:
        below, above = n // 100 * 100, n // 100 * 100 + 100
        assert half_width(above) <= margin < half_width(below - 100)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ((0.0,), "--margin is a share of samples from 0.005 to 1"),
        ((2.0,), "--margin is a share"),
        ((0.02, 1.0), "--power is a chance from 0.5 to below 1"),
        ((0.02, 0.3), "--power is a chance"),
        ((0.02, 0.8, 0.0), "--alpha is the level of a test"),
    ],
)
def test_impossible_plans_are_refused(numbers: tuple[float, ...], said: str):
    with pytest.raises(RequestError) as caught:
        Plan(*numbers)
    assert said in str(caught.value)
