import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustgen.checks.compare import (
    exceeds,
    other_images_exceed,
    same_images_exceed,
    share_exceeds,
)
from robustgen.intervals import mcnemar_p


@pytest.mark.parametrize(
    ("gained", "lost", "beyond"),
    [(6, 0, True), (5, 0, False), (0, 6, False), (10, 2, True), (9, 3, False)],
)
def test_right_or_wrong_is_mcnemars_exact_test(gained: int, lost: int, beyond: bool):
    higher = np.array([1.0] * gained + [0.0] * lost + [1.0] * 50)
    lower = np.array([0.0] * gained + [1.0] * lost + [1.0] * 50)
    assert exceeds(higher, lower) is beyond
    assert (mcnemar_p(gained, lost) <= 0.05 and gained > lost) is beyond


def test_shares_of_draws_take_five_samples_or_more():
    for n, beyond in ((4, False), (5, True)):
        assert exceeds(np.full(n, 0.9), np.full(n, 0.4)) is beyond
    # Two samples of a hundred cannot carry a difference, however large.
    higher, lower = np.full(100, 0.5), np.full(100, 0.5)
    higher[:2], lower[:2] = 0.9, 0.1
    assert not exceeds(higher, lower)


@given(st.lists(st.tuples(st.integers(0, 10), st.integers(0, 10)), max_size=40))
def test_never_in_both_directions(pairs: list[tuple[int, int]]):
    first = np.array([a / 10 for a, _ in pairs], np.float64)
    second = np.array([b / 10 for _, b in pairs], np.float64)
    assert not (exceeds(first, second) and exceeds(second, first))
    assert not exceeds(first, first)


def test_shares_of_the_same_images_take_six():
    assert same_images_exceed(0.3, 0.0, 20)
    assert not same_images_exceed(0.25, 0.0, 20)
    assert not same_images_exceed(0.0, 0.3, 20)


def test_other_images_add_a_success_and_a_failure():
    # 21/22 - 1/22 = 0.909, two standard errors of both 0.126.
    assert other_images_exceed(1.0, 20, 0.0, 20)
    assert not other_images_exceed(1.0, 1, 0.0, 1)
    assert not other_images_exceed(0.6, 50, 0.5, 50)


def test_a_share_of_few_images_may_exceed_its_limit():
    assert not share_exceeds(1 / 16, 0.05, 16)
    # P(X >= 4 | n = 20, p = 0.05) = 0.0159.
    assert share_exceeds(4 / 20, 0.05, 20)
    assert not share_exceeds(3 / 20, 0.05, 20)
    assert not share_exceeds(0.5, 0.05, 0)
