import math

import pytest
import torch
from problems import bowl, objective_of, rng, rosenbrock
from torch import Tensor

from robustgen.errors import RequestError
from robustgen.projectors.adam import minimize_adam
from robustgen.projectors.minimum import Outcome


def reference_adam(point: Tensor, passes: int, rate: float) -> list[float]:
    """Losses along Algorithm 1 of the paper, for one sample."""
    objective, everyone = objective_of(rosenbrock), torch.arange(1)
    mean, power = torch.zeros_like(point), torch.zeros_like(point)
    losses: list[float] = []
    for t in range(1, passes + 1):
        loss, gradient = objective(point[None], everyone)
        losses.append(loss.item())
        mean = 0.9 * mean + 0.1 * gradient[0]
        power = 0.999 * power + 0.001 * gradient[0] ** 2
        unbiased = mean / (1 - 0.9**t), power / (1 - 0.999**t)
        point = point - rate * unbiased[0] / (unbiased[1].sqrt() + 1e-8)
    return losses


def test_steps_are_those_of_the_paper():
    start = torch.randn(3, 4, generator=rng(0), dtype=torch.float64)
    found = minimize_adam(objective_of(rosenbrock), start, passes=20, rate=0.02)
    lowest = [min(reference_adam(start[i], 20, 0.02)) for i in range(3)]
    assert found.loss.tolist() == pytest.approx(lowest, rel=1e-10)
    assert found.passes.tolist() == [20] * 3
    assert found.steps.tolist() == [19] * 3


def test_the_best_point_is_returned_though_later_ones_are_worse():
    objective = bowl(torch.full((1, 2), 0.1), torch.ones(1, 2))
    # The first step lands on the minimum, all others overshoot.
    found = minimize_adam(objective, torch.zeros(1, 2), passes=6, rate=0.1)
    assert found.loss[0] < 1e-12
    torch.testing.assert_close(found.points, torch.full((1, 2), 0.1))


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_a_result_does_not_depend_on_the_batch(batch: int):
    center = torch.randn(64, 6, generator=rng(0))
    curvature = torch.rand(64, 6, generator=rng(1)) + 0.1
    objective = bowl(center, curvature)
    start = torch.zeros(64, 6)
    whole = minimize_adam(objective, start, passes=80, tolerance=0.05)
    for rows in torch.arange(64).split(batch):
        part = minimize_adam(
            bowl(center[rows], curvature[rows]), start[rows], passes=80, tolerance=0.05
        )
        assert torch.equal(part.points, whole.points[rows])
        assert torch.equal(part.passes, whole.passes[rows])
    assert len(whole.passes.unique()) > 1
    assert (whole.loss <= whole.initial_loss).all()


def test_a_wall_sends_a_sample_back_and_leaves_the_others_alone():
    center = torch.full((2, 3), 0.5)

    def walled(points: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        loss, gradient = bowl(center, torch.ones(2, 3))(points, samples)
        outside = (samples == 0) & (points.amax(dim=1) > 0.3)
        return loss, gradient.masked_fill(outside[:, None], math.nan)

    start = torch.zeros(2, 3)
    free = minimize_adam(bowl(center, torch.ones(2, 3)), start, passes=40)
    found = minimize_adam(walled, start, passes=40)
    assert torch.equal(found.points[1], free.points[1])
    assert 0.25 < found.points[0, 0] <= 0.3
    assert found.passes.tolist() == [40, 40]


def test_a_start_that_is_not_finite_is_returned():
    center = torch.tensor([[math.nan], [1.0]])
    found = minimize_adam(bowl(center, torch.ones(2, 1)), torch.zeros(2, 1), passes=5)
    assert found.outcome.tolist() == [Outcome.NOT_FINITE, Outcome.BUDGET]
    assert found.passes.tolist() == [1, 5]
    assert found.points[0, 0] == 0


def test_steps_limit_the_passes():
    objective = bowl(torch.ones(2, 3), torch.ones(2, 3))
    found = minimize_adam(objective, torch.zeros(2, 3), passes=50, steps=4)
    assert found.passes.tolist() == [5, 5]
    assert found.outcome.tolist() == [Outcome.STEPS] * 2


def test_settings_that_make_no_sense_are_refused():
    objective = bowl(torch.ones(1, 3), torch.ones(1, 3))
    with pytest.raises(RequestError, match="rate is 0"):
        minimize_adam(objective, torch.zeros(1, 3), passes=5, rate=0.0)
    with pytest.raises(RequestError, match=r"betas are \(0.9, 1.0\)"):
        minimize_adam(objective, torch.zeros(1, 3), passes=5, betas=(0.9, 1.0))
    with pytest.raises(RequestError, match="passes is 0"):
        minimize_adam(objective, torch.zeros(1, 3), passes=0)
