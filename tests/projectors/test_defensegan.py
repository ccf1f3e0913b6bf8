import math

import pytest
import torch
from problems import LinearGan, linear_images
from torch import Tensor

from robustgen.errors import RequestError
from robustgen.projectors.defensegan import DefenseGanProjector, best_restarts
from robustgen.projectors.minimum import Minimum, Outcome
from robustgen.rngs import rng_for


def published(image: Tensor, starts: Tensor, passes: int, rate: float) -> Tensor:
    """Best loss along momentum descents in z, for one image [1, 6, 6]."""
    gan, best = LinearGan(), math.inf
    for start in starts:
        z, velocity = start.clone(), torch.zeros_like(start)
        for used in range(passes):
            z.requires_grad_()
            made = gan.synthesize(gan.map(z[None])[:, None].expand(1, 2, 3))
            loss = (made[0] - image).square().mean()
            (gradient,) = torch.autograd.grad(loss, z)
            best = min(best, loss.item())
            velocity = 0.7 * velocity + gradient
            step = rate if used < math.ceil(0.8 * passes) else 0.1 * rate
            z = (z - step * velocity).detach()
    return torch.tensor(best)


def test_it_is_momentum_descent_from_the_starts_of_the_sample():
    images, samples = linear_images(2), [5, 17]
    project = DefenseGanProjector(LinearGan(), restarts=3, passes=9, seed=4)
    found = project(images, samples=samples)
    for i, sample in enumerate(samples):
        rng = rng_for(4, "projection", sample)
        starts = torch.randn(3, 3, generator=rng) / math.sqrt(3)
        expected = published(images[i], starts, 9, 10.0)
        torch.testing.assert_close(found.loss[i], expected)
    assert found.passes.tolist() == [27, 27]


def test_it_reaches_the_least_squares():
    images = linear_images(4)
    found = DefenseGanProjector(LinearGan(), restarts=2, passes=60, rate=3.0)(images)
    rows = LinearGan().weight.detach()
    basis = rows[:3] + rows[3:]
    expected = ((images - 0.5).flatten(1) @ basis.T / 2)[:, None].expand(-1, 2, -1)
    torch.testing.assert_close(found.w_plus, expected, atol=1e-3, rtol=0)


def test_more_restarts_never_hurt_and_keep_the_first_starts():
    images = linear_images(6)
    few = DefenseGanProjector(LinearGan(), restarts=2, passes=3)(images)
    many = DefenseGanProjector(LinearGan(), restarts=8, passes=3)(images)
    assert (many.initial_loss <= few.initial_loss + 1e-6).all()
    assert (many.loss <= few.loss + 1e-6).all()
    assert (many.loss < few.loss).any()


def test_the_best_restart_is_kept():
    inf, nan = math.inf, math.nan
    runs = Minimum(
        points=torch.arange(6.0)[:, None],
        initial_loss=torch.tensor([3.0, 2.0, 4.0, nan, 5.0, inf]),
        loss=torch.tensor([1.0, 2.0, 0.5, nan, 0.7, inf]),
        passes=torch.tensor([1, 2, 3, 4, 5, 6]),
        steps=torch.tensor([0, 1, 2, 3, 4, 5]),
        outcome=torch.tensor([0, 1, 2, 4, 1, 0]),
    )
    best = best_restarts(runs, 3)
    assert best.points.flatten().tolist() == [2.0, 4.0]
    assert best.loss.tolist() == pytest.approx([0.5, 0.7])
    assert best.initial_loss.tolist() == [2.0, 5.0]
    assert best.passes.tolist() == [6, 15]
    assert best.outcome.tolist() == [Outcome.CONVERGED, Outcome.STEPS]


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(RequestError, match="restarts is 0: expected at least 1"):
        DefenseGanProjector(LinearGan(), restarts=0)
    with pytest.raises(RequestError, match="passes is 0"):
        DefenseGanProjector(LinearGan(), passes=0)
    project = DefenseGanProjector(LinearGan(), restarts=1, passes=2)
    with pytest.raises(RequestError, match="1 sample indices for 2 images"):
        project(linear_images(2), samples=[3])
