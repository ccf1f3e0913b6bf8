"""Draws are numbered, disjoint between streams, and averaged without infinities."""

import pytest
import torch
import toys

from robustgen.adaptive.scoring import mean_margin, score_draws
from robustgen.adaptive.victim import Draw
from robustgen.errors import RequestError


def coin(count: int, p: float = 0.9) -> toys.Watched:
    labels = torch.zeros(count, dtype=torch.int64)
    return toys.Watched(toys.Coin(p, labels, tuple(range(count))))


def test_draws_are_those_asked_for_and_probabilities():
    forward = coin(3)
    victim = toys.victim(forward, count=3, random=True)
    found = score_draws(victim, toys.gray(0.1, 0.2, 0.3), 4, start=7)
    assert found.shape == (3, 4, 2)
    assert torch.allclose(found.sum(dim=2), torch.ones(3, 4))
    assert forward.draws == [Draw("score", number) for number in range(7, 11)]


def test_a_path_that_draws_nothing_is_asked_once():
    forward = toys.Watched(toys.behind(toys.Brightness(), toys.identity))
    victim = toys.victim(forward, count=2)
    images = toys.gray(0.7, 0.4)
    found = score_draws(victim, images, 50)
    assert found.shape == (2, 1, 2)
    assert forward.asked == 2
    assert torch.allclose(found[:, 0], toys.Brightness()(images).softmax(dim=1))


def test_the_mean_margin_of_a_linear_path_is_its_logit_difference():
    victim = toys.victim(toys.behind(toys.Brightness(), toys.identity), count=2)
    labels = torch.tensor([0, 0])
    lead = mean_margin(victim, toys.gray(0.75, 0.25), labels, 3, stream="select")
    assert torch.allclose(lead, torch.tensor([-8.0, 8.0]), atol=1e-5)


def test_an_infinite_or_missing_answer_does_not_decide_a_mean():
    def forward(images, rows, draw):
        infinite = torch.tensor([[0.0, -torch.inf], [-torch.inf, 0.0], [0.0, 0.0]])
        infinite[2] = torch.nan
        fine = torch.full((3, 2), 0.5).log() + torch.tensor([-1.0, 0.0])
        return infinite if draw.number == 0 else fine

    victim = toys.victim(forward, count=3, random=True)
    labels = torch.zeros(3, dtype=torch.int64)
    images = toys.gray(0.1, 0.2, 0.3)
    lead = mean_margin(victim, images, labels, 2, stream="select")
    assert torch.allclose(lead, torch.tensor([-49.5, 50.5, -49.5]))


def test_senseless_requests_are_refused():
    victim = toys.victim(coin(2), count=2, random=True)
    with pytest.raises(RequestError, match="3 images for path 'toy' of 2 samples"):
        score_draws(victim, toys.gray(0.1, 0.2, 0.3), 1)
    with pytest.raises(RequestError, match="0 draws of path 'toy': expected 1 or more"):
        score_draws(victim, toys.gray(0.1, 0.2), 0)


def test_global_generators_and_modes_are_left_alone():
    classifier = toys.Brightness().train()
    victim = toys.victim(
        toys.behind(classifier, lambda x, rows, draw: x + 0 * torch.randn(x.shape)),
        count=1,
        classifier=classifier,
        random=True,
    )
    before = torch.random.get_rng_state()
    score_draws(victim, toys.gray(0.5), 2)
    assert torch.equal(before, torch.random.get_rng_state())
    assert classifier.training
    assert classifier.weight.requires_grad
