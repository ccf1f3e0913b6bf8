import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from problems import LinearGan, linear_images, rng

from robustgen.errors import RequestError
from robustgen.projectors.loss import ProjectionLoss
from robustgen.projectors.minimum import Outcome
from robustgen.projectors.spaces import Centers
from robustgen.projectors.stylegan2_projector import Schedule, StyleGan2Projector
from robustgen.rngs import rng_for

SQUARES = ProjectionLoss(None, 0.0, 0.0, pixel_term="l2")
STILL = Schedule(rate=0.1, code_noise=0.0)


def published(
    image: torch.Tensor, sample: int, seed: int, passes: int, schedule: Schedule
) -> tuple[torch.Tensor, torch.Tensor]:
    """Code and noise map after the published loop with `torch.optim.Adam`."""
    gan = LinearGan(strength=0.1)
    center = Centers(gan)(None, 1, torch.device("cpu"))
    draws = rng_for(seed, "projection", sample)
    w = center.w.clone().requires_grad_()
    noise = torch.randn(6, 6, generator=draws).requires_grad_()
    optimizer = torch.optim.Adam([w, noise], betas=(0.9, 0.999))
    for step in range(passes):
        t = step / passes
        ramp = min(1.0, (1.0 - t) / 0.25)
        ramp = 0.5 - 0.5 * math.cos(ramp * math.pi)
        optimizer.param_groups[0]["lr"] = schedule.rate * ramp * min(1.0, t / 0.05)
        scale = schedule.code_noise * max(0.0, 1.0 - t / 0.75) ** 2 * center.spread
        jitter = torch.zeros(3)
        if schedule.code_noise and t < 0.75:
            jitter = scale * torch.randn(3, generator=draws)
        codes = (w + jitter).repeat(1, 2)
        made = 0.5 + (codes @ gan.weight.detach()).view(6, 6) + 0.1 * noise
        loss = (made - image[0]).square().mean()
        structure = (noise * noise.roll(1, 1)).mean() ** 2
        structure = structure + (noise * noise.roll(1, 0)).mean() ** 2
        optimizer.zero_grad()
        (loss + 1e5 * structure).backward()
        optimizer.step()
        with torch.no_grad():
            noise -= noise.mean()
            noise *= noise.square().mean().rsqrt()
    return w.detach(), noise.detach()


@pytest.mark.parametrize("schedule", [STILL, Schedule()], ids=["still", "jittered"])
def test_the_iterations_are_those_of_the_published_loop(schedule: Schedule):
    images, samples = linear_images(2), [3, 11]
    project = StyleGan2Projector(
        LinearGan(strength=0.1), SQUARES, passes=60, schedule=schedule, seed=5
    )
    found = project(images, samples=samples)
    for i, sample in enumerate(samples):
        w, noise = published(images[i], sample, 5, 60, schedule)
        torch.testing.assert_close(found.w_plus[i], w.expand(2, 3), atol=1e-4, rtol=0)
        plain = LinearGan().synthesize(found.w_plus[i : i + 1])
        own = (found.images[i] - plain[0]) / 0.1
        torch.testing.assert_close(own[0], noise, atol=1e-3, rtol=0)


@pytest.mark.parametrize("space", ["w", "w_plus"])
def test_it_comes_near_the_least_squares(space: Any):
    images = linear_images(3)
    project = StyleGan2Projector(
        LinearGan(), SQUARES, space=space, passes=150, optimize_noise=False
    )
    found = project(images)
    rows = LinearGan().weight.detach()
    flat = (images - 0.5).flatten(1)
    if space == "w_plus":
        expected = (flat @ rows.T).view(-1, 2, 3)
    else:
        w = flat @ (rows[:3] + rows[3:]).T / 2
        expected = w[:, None].expand(-1, 2, -1)
    torch.testing.assert_close(found.w_plus, expected, atol=0.02, rtol=0)
    assert found.passes.tolist() == [150] * 3
    assert found.outcome.tolist() == [Outcome.BUDGET] * 3
    assert (found.loss < found.initial_loss).all()


def test_views_keep_the_noise_of_their_image():
    gan, images = LinearGan(strength=0.2), linear_images(3)
    project = StyleGan2Projector(gan, SQUARES, passes=20)
    found = project(images)
    codes = torch.randn(3, 4, 2, 3, generator=rng(0))
    views = found.decode(codes)
    moved = LinearGan().synthesize(codes.flatten(0, 1)).view(3, 4, 1, 6, 6)
    base = LinearGan().synthesize(found.w_plus)[:, None]
    expected = (found.images[:, None] - base + moved).detach()
    torch.testing.assert_close(views, expected, atol=1e-5, rtol=1e-5)
    noise = (found.images - LinearGan().synthesize(found.w_plus)).detach() / 0.2
    torch.testing.assert_close(
        noise.square().mean(dim=(1, 2, 3)), torch.ones(3), atol=1e-4, rtol=0
    )
    assert not torch.allclose(noise[0], noise[1], atol=0.1)
    shared = replace(project, optimize_noise=False)(images)
    torch.testing.assert_close(
        shared.images, gan.synthesize(shared.w_plus).detach(), atol=1e-6, rtol=0
    )


def test_steps_stop_on_the_way_and_tolerance_once_the_code_is_still():
    images = linear_images(3)
    project = StyleGan2Projector(LinearGan(), SQUARES, passes=100, schedule=STILL)
    some = replace(project, steps=30)(images)
    assert some.passes.tolist() == [30] * 3
    assert some.outcome.tolist() == [Outcome.STEPS] * 3
    early = replace(project, tolerance=0.05)(images)
    assert (early.passes < 100).all()
    assert early.outcome.tolist() == [Outcome.CONVERGED] * 3
    jittered = replace(project, tolerance=0.8, schedule=Schedule())(images)
    assert (jittered.passes > 75).all()
    assert (jittered.passes < 100).all()


def test_the_start_is_returned_where_the_search_fails():
    images = linear_images(3)
    wild = Schedule(rate=1e30, ramp_up=0.0, code_noise=0.0)
    project = StyleGan2Projector(LinearGan(), SQUARES, passes=4, schedule=wild)
    found = project(images)
    start = Centers(LinearGan())(None, 3, images.device).w[:, None].expand(-1, 2, -1)
    assert torch.equal(found.w_plus, start)
    assert torch.equal(found.loss, found.initial_loss)
    assert found.outcome.tolist() == [Outcome.NOT_FINITE] * 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": 0.0}, "rate is 0.0"),
        ({"ramp_up": 1.5}, "ramp_up is 1.5"),
        ({"ramp_down": -0.1}, "ramp_down is -0.1"),
        ({"code_noise": math.inf}, "code_noise is inf"),
        ({"code_noise_until": 2.0}, "code_noise_until is 2.0"),
    ],
)
def test_schedules_that_make_no_sense_are_refused(
    change: dict[str, float], message: str
):
    with pytest.raises(RequestError, match=message):
        Schedule(**change)


def test_settings_that_make_no_sense_are_refused():
    gan = LinearGan()
    with pytest.raises(RequestError, match=r"latent_weight is 0.25: StyleGAN2's proj"):
        StyleGan2Projector(gan, ProjectionLoss(perceptual_weight=0.0))
    with pytest.raises(RequestError, match="noise_weight is -1"):
        StyleGan2Projector(gan, SQUARES, noise_weight=-1.0)
    init: Any = StyleGan2Projector.__init__
    init = getattr(init, "__wrapped__", init)
    with pytest.raises(RequestError, match="Unknown space 'z'"):
        init(object.__new__(StyleGan2Projector), gan, SQUARES, space="z")


def test_a_schedule_without_ramps_is_flat():
    flat = Schedule(rate=0.1, ramp_up=0.0, ramp_down=0.0, code_noise_until=0.0)
    assert [flat.rate_at(t) for t in (0.0, 0.5, 0.99)] == [0.1] * 3
    assert [flat.noise_at(t) for t in (0.0, 0.5)] == [0.0] * 2
