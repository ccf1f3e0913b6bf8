"""The parts of the departures benchmark that figures of the documentation rest on."""

import doctest
import importlib
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from robustgen.ensembling import EnsembleRule, correct_by_alpha, pooled_means
from robustgen.projectors.lbfgs import minimize_lbfgs

ROOT = Path(__file__).parents[1]


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("departures_optimizer")


@pytest.fixture
def scoring(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("departures_scoring")


def bowls(*curvatures: float):
    """`c x^2 / 2`, one curvature for each row."""
    curvature = torch.tensor(curvatures, dtype=torch.float64)

    def evaluate(points: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        gradient = curvature[samples, None] * points
        return (gradient * points).sum(dim=1) / 2, gradient

    return evaluate


def valley(points: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
    """From 3 down with slope 1 up to 1.5, then up with slope 3.25."""
    falls = points < 1.5
    loss = torch.where(falls, 3 - points, 1.5 + 3.25 * (points - 1.5)).sum(dim=1)
    return loss, torch.where(falls, -1.0, 3.25)


def ones(count: int) -> Tensor:
    return torch.ones(count, 1, dtype=torch.float64)


def test_first_step_of_a_quadratic(released: ModuleType):
    # Steepest descent by t lands at 1 - t c. c = 0.5: t = 1 is taken. c = 4: t = 1
    # overshoots, the parabola is exact. c = 0.06: too flat at 1, taken at 2.
    progress = released.minimize_released(bowls(0.5, 4.0, 0.06), ones(3), (2, 3))
    assert [one.steps for one in progress[2]] == [1, 0, 0]
    assert progress[2][0].point.item() == 0.5
    assert [one.point.item() for one in progress[3][1:]] == pytest.approx([0.0, 0.88])
    # The second step of a quadratic in one dimension is Newton's.
    assert progress[3][0].loss == pytest.approx(0.0, abs=1e-30)
    # The failed first trial of c = 4 needs no gradient.
    assert [one.gradients for one in progress[3]] == [3, 2, 3]


def test_trials_that_the_bracketing_repeats(released: ModuleType):
    # The points between 1.5 and 1.96 would do. They are never tried: in the bracket
    # [a, 2] the parabola's least lies above (2 - a) / 2, to which it is then cut.
    search = released.ReleasedSearch(torch.zeros(1))
    trials: list[float] = []
    for _ in range(25):
        trials.append(search.trial.item())
        loss, gradient = valley(search.trial[None], torch.zeros(1))
        search.send(loss[0], gradient[0])
    line = [1, 2, 0.5, 0.75, 0.625, 0.6875, 0.65625, 0.671875]
    line += [0.6640625, 0.66796875, 0.666015625, 0]
    assert trials == [0, *line, *line]
    found = search.progress
    assert (found.steps, found.failures, found.repeats) == (0, 2, 2)
    assert (found.wasted, found.escaped, found.loss) == (24, False, 3.0)
    ours = minimize_lbfgs(valley, torch.zeros(1, 1), passes=25)
    assert ours.loss.item() < 1.6


def test_searches_of_a_batch_know_nothing_of_each_other(released: ModuleType):
    start = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).double()
    together = released.minimize_released(bowls(0.3, 7.0, 2.0), start, (9,))[9]
    alone = released.minimize_released(bowls(7.0), start[1:2], (9,))[9]
    assert torch.equal(together[1].point, alone[0].point)
    assert together[1].steps == alone[0].steps


def test_examples_of_the_docstrings(released: ModuleType, scoring: ModuleType):
    for module in (released, scoring):
        result = doctest.testmod(module)
        assert result.attempted > 0
        assert result.failed == 0


def random_members(scoring: ModuleType):
    rng = np.random.default_rng(0)
    label = rng.integers(3, size=40)
    return scoring.Members(
        label, rng.normal(size=(40, 3)), rng.normal(size=(40, 33, 3))
    )


def test_default_rule_is_the_one_of_robustgen(scoring: ModuleType):
    members = random_members(scoring)
    image, pool = (
        np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)
        for x in (members.image, members.pool)
    )
    rule = EnsembleRule()
    expected = correct_by_alpha(
        image[None], pooled_means(pool, rule), members.label, rule.grid
    )
    assert np.array_equal(scoring.sweep(members, scoring.Rule()), expected)


def test_where_averages_of_probabilities_and_logits_part(scoring: ModuleType):
    # Mean of the sigmoids 0.487, sigmoid of the mean 0.542.
    pool = np.array([[[0.0, -1.0], [0.0, -1.0], [0.0, 2.5]]])
    members = scoring.Members(np.array([1]), pool[:, 0], pool)
    at_one = [
        scoring.sweep(members, scoring.Rule(average=average, draw="once"))[0, -1, 0]
        for average in ("probabilities", "logits")
    ]
    assert at_one == [False, True]


def test_tied_alphas(scoring: ModuleType):
    correct = np.array([[[0, 1], [1, 1], [1, 1], [1, 0]]], dtype=bool)
    assert scoring.best_alphas(correct, "largest").tolist() == [2]
    assert scoring.best_alphas(correct, "smallest").tolist() == [1]
    assert scoring.best_alphas(correct, "quicksort")[0] in (1, 2)


def test_sign_flip_test_is_mcnemars(scoring: ModuleType):
    def p(*delta: float) -> float:
        return scoring.sign_flip_p(np.array(delta), np.random.default_rng(0))

    assert p(0, 0) == 1.0
    # 2 * (1 + 11 + 55) / 2^11
    assert p(0, *[1] * 9, *[-1] * 2) == pytest.approx(0.0654, abs=0.006)
    # 2 / 2^8, whatever the order in which single precision adds up.
    small = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8], np.float32)
    rng = np.random.default_rng(0)
    assert scoring.sign_flip_p(small, rng) == pytest.approx(2 / 256, abs=0.003)


def test_error_bar_over_images(scoring: ModuleType):
    values = np.repeat([1.0, 0.0], [180, 20])
    found = scoring.image_bar(values, np.random.default_rng(0))
    assert found == pytest.approx((0.9 * 0.1 / 200) ** 0.5, rel=0.05)


def test_documented_commands_exist(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    known = set(importlib.import_module("departures").MEASUREMENTS)
    text = (ROOT / "docs" / "departures.md").read_text(encoding="utf-8")
    assert set(re.findall(r"--only (\w+)", text)) == known
