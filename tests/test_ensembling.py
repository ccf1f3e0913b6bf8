import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robustgen.ensembling import (
    EnsembleRule,
    choose_alpha,
    correct_by_alpha,
    decide,
    drawn_members,
    mix,
    pooled_means,
)

RULE = EnsembleRule()


@st.composite
def predictions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image term [N, K], a pool [N, M, K] and labels [N]."""
    n, members, k = (draw(st.integers(1, 4)), draw(st.integers(1, 5)), 0)
    k = draw(st.sampled_from([2, 3, 10]))
    weights = draw(
        arrays(np.float64, (n, 1 + members, k), elements=st.floats(0.01, 1.0))
    )
    probabilities = weights / weights.sum(axis=2, keepdims=True)
    labels = draw(arrays(np.int64, n, elements=st.integers(0, k - 1)))
    return probabilities[:, 0], probabilities[:, 1:], labels


def test_draws_are_those_of_the_released_code():
    # RandomState(0).choice(33, 5) is a stream that NumPy has frozen.
    assert drawn_members(0, 33, 5).tolist() == [0, 3, 3, 9, 19]


def test_pooled_means_average_the_drawn_members():
    pool = np.arange(6, dtype=np.float32).reshape(1, 3, 2)
    rule = EnsembleRule(size=4, resamples=2)
    for seed, mean in enumerate(pooled_means(pool, rule)):
        draws = np.random.RandomState(seed).choice(3, 4, replace=True)
        assert mean.dtype == np.float64
        assert mean[0].tolist() == pool[0, draws].mean(axis=0).tolist()


@pytest.mark.parametrize(
    ("probabilities", "winner"),
    [
        ([0.5, 0.5], 0),
        ([0.4, 0.6], 1),
        ([0.2, 0.4, 0.4], 1),
        ([1 / 3, 1 / 3, 1 / 3], 0),
    ],
)
def test_the_lowest_class_wins_a_tie(probabilities: list[float], winner: int):
    assert decide(np.array([probabilities])).tolist() == [winner]


@given(predictions())
def test_alpha_0_is_the_image_and_alpha_1_a_pool_of_one_member(case):
    image, pool, labels = case
    same = np.repeat(pool[:, :1], 3, axis=1)
    pooled = pooled_means(same, EnsembleRule(size=4, resamples=3))
    correct = correct_by_alpha(image[None], pooled, labels, RULE.grid)
    assert correct.shape == (3, 21, len(labels))
    assert (correct[:, 0] == (decide(image) == labels)).all()
    # A mean of equal numbers differs from them by rounding only.
    clear = np.abs(np.diff(np.sort(pool[:, 0], axis=1), axis=1)).min(axis=1) > 1e-9
    assert (correct[:, -1] == (decide(pool[:, 0]) == labels))[:, clear].all()


@given(predictions())
def test_the_sweep_equals_a_loop_over_alphas(case):
    image, pool, labels = case
    pooled = pooled_means(pool, EnsembleRule(size=3, resamples=2))
    correct = correct_by_alpha(image[None], pooled, labels, RULE.grid)
    for resample, drawn in enumerate(pooled):
        for position, alpha in enumerate(RULE.grid):
            one = decide((1 - alpha) * image + alpha * drawn) == labels
            assert (correct[resample, position] == one).all()


@given(predictions(), st.floats(0, 1))
def test_a_mix_of_probabilities_is_a_probability(case, alpha: float):
    image, pool, _ = case
    mixed = mix(image[None], pool[:, 0][None], np.array([alpha]))
    np.testing.assert_allclose(mixed.sum(axis=2), 1.0, atol=1e-12)
    assert (mixed >= 0).all()


def test_the_image_term_may_differ_per_resample():
    image = np.array([[[0.9, 0.1]], [[0.1, 0.9]]])
    pooled = np.full((2, 1, 2), 0.5)
    correct = correct_by_alpha(image, pooled, np.array([1]), RULE.grid)
    assert correct[0].sum() == 0
    assert correct[1, :20].all()
    assert not correct[1, 20, 0]


def test_the_largest_tied_alpha_is_chosen():
    correct = np.zeros((2, 21, 4), dtype=bool)
    correct[0, [3, 7, 12], :2] = True
    correct[1, 5, :3] = True
    correct[1, 9, :2] = True
    assert choose_alpha(correct).tolist() == [12, 5]


def test_the_largest_alpha_is_chosen_when_all_are_tied():
    assert choose_alpha(np.ones((1, 21, 3), dtype=bool)).tolist() == [20]


def test_no_alpha_without_validation_images():
    with pytest.raises(ValueError, match="without validation images"):
        choose_alpha(np.ones((1, 21, 0), dtype=bool))


@pytest.mark.parametrize(
    "fault", [{"size": 0}, {"resamples": 0}, {"alphas": 1}], ids=str
)
def test_a_rule_that_draws_nothing_does_not_construct(fault):
    with pytest.raises(ValueError, match="needs a size"):
        EnsembleRule(**fault)


def test_many_samples_take_little_time_and_memory():
    rng = np.random.default_rng(0)
    pool = rng.dirichlet(np.ones(10), size=(2000, 33))
    labels = rng.integers(0, 10, 2000)
    correct = correct_by_alpha(
        pool[None, :, 0], pooled_means(pool, RULE), labels, RULE.grid
    )
    assert correct.shape == (20, 21, 2000)
    assert 0.05 < correct.mean() < 0.15
