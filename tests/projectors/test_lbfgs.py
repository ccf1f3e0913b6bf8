import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import bowl, objective_of, rng, rosenbrock
from torch import Tensor

from robustgen.errors import RequestError
from robustgen.projectors.lbfgs import block_scale, minimize_lbfgs
from robustgen.projectors.minimum import Objective, Outcome


def random_bowls(count: int, width: int, seed: int = 0) -> tuple[Objective, Tensor]:
    generator = rng(seed)
    center = torch.randn(count, width, generator=generator)
    curvature = torch.rand(count, width, generator=generator) * 9 + 1
    return bowl(center, curvature), center


def rows_of(objective: Objective, rows: Tensor) -> Objective:
    """The objective of some samples, renumbered from 0."""
    return lambda points, samples: objective(points, rows[samples])


def test_a_quadratic_is_solved_within_about_as_many_passes_as_coordinates():
    objective, center = random_bowls(5, 8)
    found = minimize_lbfgs(objective, torch.zeros(5, 8), passes=20)
    torch.testing.assert_close(found.points, center, atol=1e-4, rtol=0)
    assert found.loss.max() < 1e-6 * found.initial_loss.min()


def test_rosenbrock_is_solved():
    start = torch.randn(6, 4, generator=rng(0), dtype=torch.float64)
    found = minimize_lbfgs(objective_of(rosenbrock), start, passes=120)
    assert found.loss.max() < 1e-12


def test_scales_a_million_apart_are_solved_alike():
    # Powers of two, so that rounding is the same at every scale.
    scale = 2.0 ** torch.tensor([-20.0, 0.0, 20.0])[:, None]
    center = torch.randn(1, 6, generator=rng(0)).expand(3, 6)
    curvature = torch.arange(1.0, 7.0).expand(3, 6)

    stretched = bowl(center * scale, curvature)
    found = minimize_lbfgs(stretched, torch.zeros(3, 6), passes=8)
    assert torch.equal(found.points[0] * 2**20, found.points[1])
    assert torch.equal(found.points[2] / 2**20, found.points[1])

    steep = bowl(center, curvature * scale)
    found = minimize_lbfgs(steep, torch.zeros(3, 6), passes=8)
    assert torch.equal(found.points[0], found.points[1])
    assert torch.equal(found.points[2], found.points[1])


@pytest.mark.parametrize("batch", [1, 7, 64])
@pytest.mark.parametrize("tolerance", [0.0, 1e-3])
def test_a_result_does_not_depend_on_the_batch(batch: int, tolerance: float):
    def loss(points: Tensor, samples: Tensor) -> Tensor:
        return (points - (samples[:, None] % 5) * 0.1).abs().sqrt().cos().neg().sum(1)

    objective = objective_of(loss)
    start = torch.randn(64, 12, generator=rng(0))
    whole = minimize_lbfgs(objective, start, passes=9, tolerance=tolerance, blocks=3)
    for rows in torch.arange(64).split(batch):
        part = minimize_lbfgs(
            rows_of(objective, rows),
            start[rows],
            passes=9,
            tolerance=tolerance,
            blocks=3,
        )
        assert torch.equal(part.passes, whole.passes[rows])
        assert torch.equal(part.steps, whole.steps[rows])
        assert torch.equal(part.outcome, whole.outcome[rows])
        assert torch.equal(part.points, whole.points[rows])
        assert torch.equal(part.loss, whole.loss[rows])
    if tolerance == 0:
        assert whole.passes.unique().tolist() == [9]
    else:
        assert len(whole.passes.unique()) > 1


def test_a_sample_that_is_not_finite_leaves_the_others_bit_equal():
    sound, _ = random_bowls(4, 6)

    def broken(points: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        loss, gradient = sound(points, samples)
        return loss.masked_fill(samples == 2, math.nan), gradient

    start = torch.zeros(4, 6)
    expected = minimize_lbfgs(sound, start, passes=6)
    found = minimize_lbfgs(broken, start, passes=6)
    others = torch.tensor([0, 1, 3])
    assert torch.equal(found.points[others], expected.points[others])
    assert torch.equal(found.points[2], start[2])
    assert found.loss[2].isnan()
    assert found.passes.tolist() == [6, 6, 1, 6]
    assert found.outcome[2] == Outcome.NOT_FINITE


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_trials_that_are_not_finite_are_never_accepted(value: float):
    # Finite only within 0.3 of the start, where the loss goes on falling outward.
    def wall(points: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        outside = points.abs().amax(dim=1) > 0.3
        loss = (10 - points.sum(dim=1)).masked_fill(outside, value)
        return loss, torch.full_like(points, -1.0)

    found = minimize_lbfgs(wall, torch.zeros(2, 3), passes=12)
    assert found.points.abs().max() <= 0.3
    assert (found.loss < found.initial_loss).all()
    assert found.loss.isfinite().all()


def test_a_gradient_that_is_not_finite_fails_the_trial():
    def wall(points: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        outside = points[:, :1] > 0.3
        gradient = torch.full_like(points, -1.0).masked_fill(outside, math.nan)
        return 10 - points.sum(dim=1), gradient

    found = minimize_lbfgs(wall, torch.zeros(1, 3), passes=12)
    assert 0 < found.points[0, 0] <= 0.3


@pytest.mark.parametrize("passes", [1, 2, 5, 17])
def test_the_budget_of_passes_is_used_and_respected(passes: int):
    count = torch.zeros(3, dtype=torch.int64)

    def counted(points: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        count[samples] += 1
        return objective_of(rosenbrock)(points, samples)

    found = minimize_lbfgs(counted, torch.zeros(3, 4), passes=passes)
    assert count.tolist() == [passes] * 3
    assert torch.equal(found.passes, count)
    assert found.outcome.tolist() == [Outcome.BUDGET] * 3


def test_samples_that_leave_are_evaluated_no_more():
    objective, _ = random_bowls(4, 6)
    seen: list[int] = []

    def counted(points: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        seen.extend(samples.tolist())
        loss, gradient = objective(points, samples)
        return loss + 1, gradient

    found = minimize_lbfgs(counted, torch.zeros(4, 6), passes=60, tolerance=1e-3)
    assert found.outcome.tolist() == [Outcome.CONVERGED] * 4
    assert [seen.count(sample) for sample in range(4)] == found.passes.tolist()
    assert found.passes.max() < 30


def test_steps_are_counted_and_limited():
    objective, _ = random_bowls(4, 6)
    found = minimize_lbfgs(objective, torch.zeros(4, 6), passes=60, steps=3)
    assert found.steps.tolist() == [3] * 4
    assert found.outcome.tolist() == [Outcome.STEPS] * 4
    none = minimize_lbfgs(objective, torch.zeros(4, 6), passes=60, steps=0)
    assert none.passes.tolist() == [1] * 4
    assert torch.equal(none.points, torch.zeros(4, 6))


@pytest.mark.parametrize("blocks", [1, 2])
def test_a_start_at_the_minimum_stays_there(blocks: int):
    objective, center = random_bowls(3, 4)
    found = minimize_lbfgs(objective, center, passes=5, blocks=blocks)
    assert torch.equal(found.points, center)
    assert found.steps.tolist() == [0, 0, 0]
    assert found.passes.tolist() == [5, 5, 5]
    stalled = minimize_lbfgs(objective, center, passes=50, tolerance=1e-6)
    assert stalled.outcome.tolist() == [Outcome.STALLED] * 3


def test_a_loss_of_either_sign_is_minimized():
    objective, center = random_bowls(3, 4)

    def shifted(points: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        loss, gradient = objective(points, samples)
        return loss + torch.tensor([-50.0, -5.0, 0.0])[samples], gradient

    found = minimize_lbfgs(shifted, torch.zeros(3, 4), passes=30)
    torch.testing.assert_close(found.points, center, atol=1e-2, rtol=0)


def test_blocks_mend_a_scale_that_differs_between_layers():
    center = torch.randn(4, 12, generator=rng(0))
    curvature = torch.ones(4, 12)
    curvature[:, 6:] = 1e-2
    objective = bowl(center, curvature)
    plain = minimize_lbfgs(objective, torch.zeros(4, 12), passes=5)
    scaled = minimize_lbfgs(objective, torch.zeros(4, 12), passes=5, blocks=2)
    assert (scaled.loss < plain.loss).all()


def test_the_scale_of_a_block_is_the_root_of_its_gradient():
    gradient = torch.tensor([[4.0, -4.0, 1.0, 1.0], [0, 0, 0, 0], [1, 1, 0, 0]])
    expected = torch.tensor(
        [[1.0, 1, 2, 2], [1, 1, 1, 1], [1, 1, 1000**0.5, 1000**0.5]]
    )
    torch.testing.assert_close(block_scale(gradient, 2), expected)
    bad = torch.tensor([[math.nan, 1.0], [math.inf, 1.0]])
    assert torch.equal(block_scale(bad, 2), torch.ones(2, 2))


def test_no_samples_are_no_trouble():
    objective, _ = random_bowls(1, 4)
    assert minimize_lbfgs(objective, torch.zeros(0, 4), passes=5).points.shape == (0, 4)


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 15))
def test_the_loss_never_rises_and_is_that_of_the_points(seed: int, passes: int):
    # A rough landscape: kinks, many minima, huge slopes.
    generator = rng(seed)
    bend = torch.randn(4, 5, generator=generator)

    def rough(points: Tensor, samples: Tensor) -> Tensor:
        waves = (points * 7).sin().abs() + (points - bend[samples]).abs().pow(1.5)
        return waves.sum(dim=1) + (points.prod(dim=1) * 50).exp().clamp(max=1e30)

    objective = objective_of(rough)
    start = torch.randn(4, 5, generator=generator)
    found = minimize_lbfgs(objective, start, passes=passes)
    assert (found.loss <= found.initial_loss).all()
    loss, _ = objective(found.points, torch.arange(4))
    torch.testing.assert_close(loss, found.loss, rtol=1e-5, atol=1e-5)


@settings(max_examples=30)
@given(st.permutations(range(6)))
def test_reordering_the_batch_reorders_the_result(order: list[int]):
    objective, _ = random_bowls(6, 5)
    rows = torch.tensor(order)
    start = torch.randn(6, 5, generator=rng(1))
    found = minimize_lbfgs(objective, start, passes=6, tolerance=1e-3)
    moved = minimize_lbfgs(
        rows_of(objective, rows), start[rows], passes=6, tolerance=1e-3
    )
    assert torch.equal(moved.points, found.points[rows])
    assert torch.equal(moved.passes, found.passes[rows])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"passes": 0}, "passes is 0: expected at least 1."),
        ({"steps": -1}, "steps is -1"),
        ({"tolerance": 1.0}, "tolerance is 1.0"),
        ({"tolerance": math.nan}, "tolerance is nan"),
        ({"history": 0}, "history is 0"),
        ({"blocks": 3}, "blocks is 3: expected a divisor of 4 coordinates."),
    ],
)
def test_budgets_that_make_no_sense_are_refused(bad: dict[str, int], message: str):
    objective, _ = random_bowls(1, 4)
    bounds = {"passes": 5, **bad}
    with pytest.raises(RequestError, match=message):
        minimize_lbfgs(objective, torch.zeros(1, 4), **bounds)  # pyright: ignore[reportArgumentType]
