"""Stand-ins: the classifier, and a network that learns what the path answers."""

import pytest
import torch
import toys

from robustgen.adaptive.ladder import run_tier
from robustgen.adaptive.transfer import train_substitute
from robustgen.adaptive.victim import Draw
from robustgen.errors import RequestError
from robustgen.threat import Threat

LINF = Threat("linf", toys.EPS)
LEVELS = torch.linspace(0.1, 0.9, 24).tolist()


def masked(count: int):
    """A path whose own gradient is zero, in front of a classifier that has one."""
    forward = toys.behind(toys.Brightness(), toys.rounded)
    return toys.victim(forward, count=count, surrogates={})


def test_images_made_against_the_classifier_break_a_path_without_gradients():
    images, labels = toys.gray(0.55, 0.59, 0.75), torch.zeros(3, dtype=torch.int64)
    budget = toys.budget()
    found = run_tier("transfer", masked(3), images, labels, LINF, budget, seed=0)
    assert found.outcome.success.tolist() == [True, True, False]
    assert found.candidates == ("clean", "momentum on classifier", "pgd on classifier")
    # A broken image leaves before the second search; a search is 40 steps.
    assert found.outcome.forwards.tolist() == [41, 41, 82]


def test_a_substitute_learns_the_path_and_serves_as_a_source():
    # The classifier says the opposite of the path: images made against it go astray.
    wrong = toys.Brightness(-1.0)
    predict = toys.behind(toys.Brightness(), toys.rounded)
    victim = toys.victim(predict, count=24, classifier=wrong, surrogates={})
    images = toys.gray(*LEVELS)
    substitute = train_substitute(victim, images, epochs=10, seed=0)
    answers = predict(images, torch.arange(24), Draw("select", 0))
    agree = substitute(images).argmax(1) == answers.argmax(1)
    assert agree.float().mean() >= 0.9

    few = toys.victim(predict, count=2, classifier=wrong, surrogates={})
    attacked, labels = toys.gray(0.55, 0.58), torch.zeros(2, dtype=torch.int64)
    budget = toys.budget()
    without = run_tier("transfer", few, attacked, labels, LINF, budget, seed=0)
    found = run_tier(
        "transfer",
        few,
        attacked,
        labels,
        LINF,
        budget,
        seed=0,
        surrogates=[substitute],
    )
    assert not without.outcome.success.any()
    assert without.chosen.tolist() == [0, 0]
    assert found.outcome.success.all()
    assert (found.chosen > 2).all()


def test_a_substitute_is_the_same_each_time_and_draws_from_no_global_generator():
    victim, images = masked(24), toys.gray(*LEVELS)
    before = torch.random.get_rng_state()
    with torch.no_grad():
        first = train_substitute(victim, images, epochs=1, seed=0)
    second = train_substitute(victim, images, epochs=1, seed=0)
    other = train_substitute(victim, images, epochs=1, seed=1)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(first(images), second(images))
    assert not torch.equal(first(images), other(images))
    assert not first.training
    assert not any(p.requires_grad for p in first.parameters())
    with pytest.raises(RequestError, match="0 epochs"):
        train_substitute(victim, images, epochs=0, seed=0)
