"""PGD in an l2 ball: even starts, steps of one length, the exact optimum if known."""

from typing import Any

import pytest
import torch
import torchattacks
from attack_models import Linear, Mapped, convnet, pictures, predictions, rngs
from torch import Tensor, nn

from robustgen.attacks import build_pgd, run_attack
from robustgen.attacks.pgd import pgd
from robustgen.attacks.steps import start_anywhere, uphill
from robustgen.errors import RequestError
from robustgen.threat import Threat

BALL = Threat("l2", 0.5)
PGD: dict[str, Any] = {"steps": 40, "step_size": 0.1}


def recorded(model: nn.Module) -> tuple[list[Tensor], Any]:
    """Every batch that a model is asked about, and the model that writes them down."""
    seen: list[Tensor] = []

    def logits_fn(images: Tensor) -> Tensor:
        seen.append(images.detach().clone())
        return model(images)

    return seen, logits_fn


def test_the_optimum_of_a_linear_model_is_reached():
    # Logits (z, -z), z = w.x: inside the box the best is x0 - eps w / |w| on label 0.
    weight = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0))
    images, labels = pictures(4, low=0.4, high=0.6), torch.tensor([0, 1, 0, 1])
    outcome = run_attack(
        build_pgd(**PGD), Linear(weight), images, labels, BALL, rngs(4)
    )
    side = (2 * labels - 1).view(-1, 1, 1, 1)
    expected = images + side * 0.5 * weight / weight.norm()
    torch.testing.assert_close(outcome.images, expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(outcome.distance_l2, torch.full((4,), 0.5))


def test_steps_are_those_of_torchattacks():
    model, images = convnet().eval(), pictures(4)
    labels = predictions(model, images)
    seen, logits_fn = recorded(model)
    settings: dict[str, Any] = {"steps": 10, "step_size": 0.1, "random_start": False}
    pgd(logits_fn, images, labels, Threat("l2", 5.0 / 6), rngs(4), **settings)
    theirs = torchattacks.PGDL2(
        model, eps=5.0 / 6, alpha=0.1, steps=3, random_start=False
    )(images, labels)
    torch.testing.assert_close(seen[3], theirs, atol=1e-5, rtol=0)


def test_starts_fill_the_ball_evenly_and_torchattacks_crowd_its_middle():
    # Of 64 pixels, 0.9^64 = 0.1% of the volume lie within 0.9 eps.
    images = torch.full((300, 1, 8, 8), 0.5)
    start = start_anywhere(images, BALL, rngs(300))
    lengths = BALL.distance(start, images) / 0.5
    assert float(lengths.max()) <= 1 + 1e-6
    assert float((lengths > 0.9).float().mean()) > 0.99
    half = (lengths**64 < 0.5).float().mean()
    assert float(half) == pytest.approx(0.5, abs=0.1)
    assert float((start - images).mean(dim=0).abs().max()) < 0.02

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        seen, logits_fn = recorded(convnet().eval())
        model = Mapped(nn.Identity(), logits_fn)
        torchattacks.PGDL2(model, eps=0.5, steps=1)(images, torch.zeros(300).long())
    theirs = BALL.distance(seen[0], images) / 0.5
    assert float((theirs < 0.9).float().mean()) > 0.8


def test_a_start_belongs_to_its_image():
    images = pictures(5)
    whole = start_anywhere(images, BALL, rngs(5))
    alone = start_anywhere(images[3:4], BALL, rngs(5)[3:4])
    assert torch.equal(whole[3:4], alone)
    assert not torch.equal(whole, start_anywhere(images, BALL, rngs(5, seed=1)))


@pytest.mark.parametrize("size", [1.0, 1e-30, 1e30])
def test_a_step_has_length_one_however_small_the_gradient(size: float):
    gradient = pictures(2, low=-1, high=1) * size
    length = uphill(gradient, "l2").flatten(1).norm(dim=1)
    torch.testing.assert_close(length, torch.ones(2))


def test_a_gradient_of_zero_moves_nothing():
    assert torch.equal(uphill(torch.zeros(2, 1, 3, 3), "l2"), torch.zeros(2, 1, 3, 3))
    model = Mapped(convnet(), lambda z: 0 * z)
    images = pictures(2)
    attack = build_pgd(**PGD, random_start=False)
    outcome = run_attack(attack, model, images, torch.tensor([0, 0]), BALL, rngs(2))
    assert torch.equal(outcome.images, images)
    assert not outcome.failed.any()


def test_gradients_that_are_not_finite_stop_their_image_only():
    def spoil(z: Tensor) -> Tensor:
        # The square root has an infinite gradient at 0, its value there is finite.
        return z + torch.stack([(z[:, 0] - z[:, 0].detach()).abs().sqrt()] * 3, dim=1)

    images = pictures(2)
    attack = build_pgd(**PGD, random_start=False)
    model = Mapped(convnet(), spoil)
    outcome = run_attack(attack, model, images, torch.tensor([0, 1]), BALL, rngs(2))
    assert not outcome.failed.any()
    assert torch.equal(outcome.images, images)


def test_every_iterate_lies_in_the_ball_and_the_box():
    model, images = convnet().eval(), pictures(4)
    labels = predictions(model, images)
    seen, logits_fn = recorded(model)
    pgd(logits_fn, images, labels, BALL, rngs(4), **PGD, restarts=2)
    assert len(seen) == 2 * 41
    assert all(bool(BALL.contains(x, images).all()) for x in seen)


def test_steps_too_short_to_cross_the_ball_are_refused():
    attack = build_pgd(steps=9, step_size=0.1)
    with pytest.raises(RequestError, match=r"0\.9 is below 2 x eps = 1\."):
        run_attack(attack, convnet(), pictures(1), torch.tensor([0]), BALL, rngs(1))
