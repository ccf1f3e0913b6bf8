"""Feature adversaries: the encoder takes an image for another."""

import pytest
import torch
import toys

from robustgen.adaptive.ladder import applies, run_tier
from robustgen.threat import Threat

LINF = Threat("linf", toys.EPS)
L2 = Threat("l2", toys.EPS * toys.SIZE)
ZEROS = torch.zeros(3, dtype=torch.int64)


@pytest.mark.parametrize("threat", [LINF, L2], ids=["linf", "l2"])
def test_codes_move_to_another_class_where_the_ball_allows_it(threat):
    victim = toys.projecting(count=3, classifier=toys.Brightness())
    images = toys.gray(0.54, 0.57, 0.65)
    budget = toys.budget(breaking_steps=20)
    found = run_tier(
        "projection_breaking", victim, images, ZEROS, threat, budget, seed=0
    )
    assert found.outcome.success.tolist() == [True, True, False]
    assert found.candidates == ("clean", "to another class", "away from its code")
    assert found.outcome.margin_best.isnan().all()
    assert (found.outcome.first_success == -1).all()


def test_passes_are_through_the_encoder_and_to_the_target():
    victim = toys.projecting(count=1, classifier=toys.Brightness())
    budget = toys.budget(breaking_steps=5, latent_steps=8)
    images = toys.gray(0.9)
    found = run_tier(
        "projection_breaking", victim, images, ZEROS[:1], LINF, budget, seed=0
    )
    # Target: 8 steps. Two searches of 5 steps; the second asks for the own code first.
    assert found.outcome.forwards.tolist() == [9 + 6 + 1 + 6]
    assert found.outcome.backwards.tolist() == [8 + 5 + 5]


def test_it_says_what_it_lacks():
    forward = toys.behind(toys.Brightness(), toys.identity)
    assert applies("projection_breaking", toys.victim(forward, count=1)) == (
        "The path 'toy' has no generative model to mislead."
    )
    blind = toys.projecting(count=1, encoder=False, classifier=toys.Brightness())
    assert applies("projection_breaking", blind) == ("It has none.")
    assert (
        applies(
            "projection_breaking",
            toys.projecting(count=1, classifier=toys.Brightness()),
        )
        is None
    )
