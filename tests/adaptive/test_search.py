"""Steps, starts and the iterate that is kept."""

import pytest
import torch
import toys

from robustgen.adaptive.search import (
    ascend,
    loss_measure,
    step_shares,
)
from robustgen.attacks.steps import start_anywhere, uphill
from robustgen.rngs import rng_for
from robustgen.threat import Threat

LINF, L2 = Threat("linf", 0.1), Threat("l2", 0.5)


@pytest.mark.parametrize("steps", [1, 2, 5, 20, 200])
def test_steps_fall_to_a_tenth_and_reach_the_edge(steps):
    shares = step_shares(steps, 0.25)
    assert len(shares) == steps
    assert sum(shares) >= 1 - 1e-9
    assert shares == sorted(shares, reverse=True)
    if steps > 1:
        assert shares[-1] == pytest.approx(shares[0] / 10)
    assert shares[0] == pytest.approx(max(0.25, 1 / (0.55 * steps)), rel=0.9)


def test_random_starts_fill_the_ball_and_belong_to_their_generator():
    images = toys.gray(*[0.5] * 400)
    for threat, share in ((LINF, 0.5), (L2, 0.5 ** (1 / 16))):
        starts = start_anywhere(images, threat, [rng_for(0, i) for i in range(400)])
        lengths = threat.distance(starts, images) / threat.eps
        assert lengths.max() <= 1 + 1e-5
        if threat.norm == "l2":  # half of the volume lies within this radius
            assert (lengths < share).float().mean().item() == pytest.approx(
                0.5, abs=0.1
            )
        else:
            change = (starts - images).abs().flatten() / threat.eps
            assert change.mean().item() == pytest.approx(0.5, abs=0.02)
    alone = start_anywhere(images[:1], LINF, [rng_for(0, 7)])
    together = start_anywhere(images[:9], LINF, [rng_for(0, i) for i in range(9)])
    assert torch.equal(alone[0], together[7])


def test_a_gradient_of_zero_or_nan_moves_nothing():
    assert not uphill(torch.zeros(2, 1, 4, 4), "l2").any()
    images = toys.gray(0.3, 0.6)

    def measure(x, rows, last):
        del last
        return x.flatten(1)[:, 0], torch.full_like(x, torch.nan)

    found = ascend(measure, images, LINF, images, shares=[1.0, 0.5])
    assert torch.equal(found, images)


def test_the_best_iterate_is_kept_not_the_last():
    # Distance to a level that is passed on the way: the step overshoots.
    def measure(x, rows, last):
        del rows, last
        return -(x - 0.55).abs().mean(dim=(1, 2, 3)), torch.ones_like(x)

    images = toys.gray(0.5)
    found = ascend(measure, images, LINF, images, shares=[0.5, 0.5])
    assert torch.allclose(found, torch.tensor(0.55))


def test_memory_keeps_one_lucky_draw_from_winning():
    lucky = iter([0.0, 9.0, 1.0, 5.0, 6.0])

    def measure(x, rows, last):
        del rows, last
        return torch.full((1,), next(lucky)), torch.ones_like(x)

    images = toys.gray(0.5)
    shares = [0.2] * 4
    found = ascend(measure, images, LINF, images, shares=shares, memory=0.7)
    assert torch.allclose(found, torch.tensor(0.58))  # the last, not the second


def test_momentum_follows_the_running_sum():
    gradients = iter([1.0, -0.5, -0.5, 0.0])

    def measure(x, rows, last):
        del rows, last
        return x.flatten(1)[:, 0], torch.full_like(x, next(gradients))

    images = toys.gray(0.5)
    found = ascend(measure, images, LINF, images, shares=[0.5, 0.25, 0.1], momentum=0.9)
    # Sums: 1, 0.4, -0.14: two steps up, one down.
    assert torch.allclose(found, torch.tensor(0.575))


@pytest.mark.parametrize("loss", ["ce", "margin"])
def test_gradients_of_an_image_do_not_hang_on_its_batch(loss):
    model = toys.Brightness(0.3)
    images, labels = toys.gray(0.2, 0.6, 0.7), torch.tensor([0, 0, 1])
    measure = loss_measure(lambda x: model(x).log_softmax(1), labels, loss)
    rows = torch.arange(3)
    lead, together = measure(images, rows, False)
    _, alone = measure(images[1:2], rows[1:2], False)
    assert torch.allclose(together[1:2], alone)
    assert torch.allclose(lead, torch.tensor([2.88, -0.96, 1.92]), atol=1e-5)
    if loss == "margin":
        assert torch.allclose(together[0], torch.tensor(-0.6))
        assert torch.allclose(together[2], torch.tensor(0.6))
