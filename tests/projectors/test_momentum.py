import pytest
import torch
from problems import bowl, objective_of, rng, rosenbrock

from robustgen.errors import RequestError
from robustgen.projectors.minimum import Outcome
from robustgen.projectors.momentum import minimize_momentum


def test_steps_are_those_of_torch():
    start = torch.randn(1, 4, generator=rng(0), dtype=torch.float64) * 0.1
    point = start[0].clone().requires_grad_()
    optimizer = torch.optim.SGD([point], lr=1e-3, momentum=0.7)
    losses: list[float] = []
    for used in range(30):
        loss = rosenbrock(point[None], torch.arange(1))[0]
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = 1e-3 if used < 24 else 1e-4
        optimizer.step()
    found = minimize_momentum(
        objective_of(rosenbrock),
        start,
        passes=30,
        rate=1e-3,
        momentum=0.7,
        drop=0.1,
        drop_at=0.8,
    )
    assert found.loss.item() == pytest.approx(min(losses), rel=1e-10)
    assert found.initial_loss.item() == pytest.approx(losses[0], rel=1e-10)


def test_the_step_size_drops_once():
    # Slope 1 everywhere, so that without momentum each step is as long as the rate.
    def slope(points: torch.Tensor, samples: torch.Tensor):
        return points[:, 0].neg(), torch.full_like(points, -1.0)

    found = minimize_momentum(
        slope,
        torch.zeros(1, 1),
        passes=11,
        rate=1.0,
        momentum=0.0,
        drop=0.1,
        drop_at=0.5,
    )
    # ceil(5.5) steps of 1, then 4 of 0.1; the eleventh pass takes no step.
    assert found.points.item() == pytest.approx(6.4)


def test_a_bowl_is_solved_and_samples_leave_when_they_stand_still():
    center = torch.randn(5, 3, generator=rng(1))
    found = minimize_momentum(
        bowl(center, torch.ones(5, 3)),
        torch.zeros(5, 3),
        passes=500,
        rate=0.3,
        momentum=0.5,
        tolerance=1e-6,
    )
    torch.testing.assert_close(found.points, center, atol=1e-4, rtol=0)
    assert found.outcome.tolist() == [Outcome.CONVERGED] * 5
    assert found.passes.max() < 200


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"momentum": 1.0}, r"momentum is 1.0: expected at least 0, below 1"),
        ({"drop": 0.0}, "drop is 0.0"),
        ({"drop_at": 1.5}, "drop_at is 1.5"),
        ({"rate": 0.0}, "rate is 0.0"),
        ({"passes": 0}, "passes is 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    settings: dict[str, float], message: str
):
    objective = bowl(torch.ones(1, 3), torch.ones(1, 3))
    chosen = {"passes": 5, "rate": 0.1, "momentum": 0.5, **settings}
    with pytest.raises(RequestError, match=message):
        minimize_momentum(objective, torch.zeros(1, 3), **chosen)  # pyright: ignore[reportArgumentType]
