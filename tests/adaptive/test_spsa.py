"""SPSA finds the way from answers alone."""

import pytest
import torch
import toys

from robustgen.adaptive.ladder import run_tier
from robustgen.threat import Threat

LINF = Threat("linf", toys.EPS)
L2 = Threat("l2", toys.EPS * toys.SIZE)
ZEROS = torch.zeros(3, dtype=torch.int64)


def path(samples=(0, 1, 2), std: float = 0.0):
    change = toys.noisy(std, samples) if std else toys.identity
    forward = toys.Watched(toys.behind(toys.Brightness(), change))
    victim = toys.victim(
        forward,
        count=len(samples),
        surrogates={},
        random=std > 0,
        samples=samples,
    )
    return forward, victim


@pytest.mark.parametrize("threat", [LINF, L2], ids=["linf", "l2"])
def test_a_linear_path_falls_without_a_gradient(threat):
    _, victim = path()
    images = toys.gray(0.54, 0.57, 0.65)
    budget = toys.budget(spsa_steps=20, spsa_samples=16)
    found = run_tier("spsa", victim, images, ZEROS, threat, budget, seed=0)
    assert found.outcome.success.tolist() == [True, True, False]
    assert found.outcome.in_threat.all()
    assert found.outcome.backwards.tolist() == [0, 0, 0]


def test_passes_are_those_of_the_budget():
    forward, victim = path()
    budget = toys.budget(spsa_steps=3, spsa_samples=6)
    images = toys.gray(0.9, 0.9, 0.9)
    found = run_tier("spsa", victim, images, ZEROS, LINF, budget, seed=0)
    assert found.outcome.forwards.tolist() == [3 * (2 * 6 + 1) + 1] * 3
    # One image to learn K, all for `success`; choice: clean and attacked.
    assert forward.asked == 3 * 40 + 1 + 3 + 2 * 3


@pytest.mark.parametrize("std", [0.0, 0.05])
def test_an_image_fares_the_same_in_any_batch(std):
    images = toys.gray(0.58, 0.62, 0.7)
    budget = toys.budget(spsa_steps=3, spsa_samples=5, draws=2)
    args = (ZEROS, LINF, budget)
    _, victim = path((5, 9, 2), std)
    together = run_tier("spsa", victim, images, *args, seed=0)
    _, victim = path((2,), std)
    alone = run_tier("spsa", victim, images[2:], ZEROS[:1], LINF, budget, seed=0)
    assert torch.allclose(alone.outcome.images[0], together.outcome.images[2])
    assert alone.outcome.forwards[0] == together.outcome.forwards[2]
