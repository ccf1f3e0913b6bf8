"""Along the model's range: what a projection cannot remove."""

import pytest
import torch
import toys

from robustgen.adaptive.ladder import applies, run_tier
from robustgen.adaptive.latent import excess
from robustgen.rngs import rng_for
from robustgen.threat import Threat

LINF = Threat("linf", toys.EPS)
L2 = Threat("l2", toys.EPS * toys.SIZE)
ZEROS = torch.zeros(3, dtype=torch.int64)


def textured(*levels: float) -> torch.Tensor:
    """Gray levels with noise of its own, none of which the model can make."""
    images = toys.gray(*levels)
    noise = torch.randn(images.shape, generator=rng_for(0, "texture")) * 0.05
    flat = noise.flatten(1)
    basis = toys.Ramps().basis
    flat -= (flat @ basis.T / basis.square().sum(dim=1)) @ basis
    return images + noise


@pytest.mark.parametrize("threat", [LINF, L2], ids=["linf", "l2"])
def test_images_at_most_eps_from_the_boundary_fall_and_no_others(threat):
    victim = toys.projecting(count=3, classifier=toys.Brightness())
    images = textured(0.54, 0.58, 0.65)
    budget = toys.budget(latent_steps=60)
    found = run_tier("latent", victim, images, ZEROS, threat, budget, seed=0)
    assert found.outcome.success.tolist() == [True, True, False]
    assert found.outcome.in_threat.all()
    assert found.candidates == ("clean", "near the image", "along the model")


def test_moving_along_the_model_pays_nothing_for_what_the_projection_misses():
    # Texture of 0.4 fills the ball around G(w*) four times over: a picture of the model
    # is no image of the ball, yet a step along the model from the image is.
    checks = 0.4 * (torch.arange(4)[:, None] + torch.arange(4)).fmod(2).mul(2).sub(1)
    images = toys.gray(0.57) + checks
    victim = toys.projecting(count=1, classifier=toys.Brightness())
    budget = toys.budget(latent_steps=60)
    found = run_tier("latent", victim, images, ZEROS[:1], LINF, budget, seed=0)
    assert found.outcome.success.all()
    change = found.outcome.images - images
    assert change.std() < 0.02  # a shift of brightness, not of texture


def test_passes_are_those_of_the_search():
    victim = toys.projecting(count=1, classifier=toys.Brightness())
    budget = toys.budget(latent_steps=10)
    images = toys.gray(0.9)
    found = run_tier("latent", victim, images, ZEROS[:1], LINF, budget, seed=0)
    assert found.outcome.forwards.tolist() == [2 * (10 + 3)]
    assert found.outcome.backwards.tolist() == [2 * 10]


def test_an_image_fares_the_same_in_any_batch():
    images = textured(0.55, 0.62, 0.7)
    budget = toys.budget(latent_steps=12)
    classifier = toys.Brightness()
    together = run_tier(
        "latent",
        toys.projecting(count=3, classifier=classifier),
        images,
        ZEROS,
        LINF,
        budget,
        seed=0,
    )
    alone = run_tier(
        "latent",
        toys.projecting(count=1, classifier=classifier),
        images[1:2],
        ZEROS[:1],
        LINF,
        budget,
        seed=0,
    )
    assert torch.allclose(
        alone.outcome.images[0], together.outcome.images[1], atol=1e-5
    )


def test_the_excess_is_zero_in_the_ball_and_counts_radii_outside():
    change = torch.zeros(2, 1, 4, 4)
    change[0, 0, 0, 0] = 0.3
    assert torch.allclose(excess(change, LINF), torch.tensor([2 / 16, 0.0]))
    assert torch.allclose(excess(change, Threat("l2", 0.1)), torch.tensor([2.0, 0.0]))


def test_a_path_without_a_generative_model_is_not_searched():
    forward = toys.behind(toys.Brightness(), toys.identity)
    assert applies("latent", toys.victim(forward, count=1)) == (
        "The path 'toy' has no generative model to search."
    )
