"""The mapping network, fitted to the encoder's codes after the fact.

Auto-encoding gives codes but no way to draw them at random. The mapping network is
trained until the distribution of `M(z)` is that of the codes of training images, by the
sliced Wasserstein distance: along random directions, sorted against sorted.
"""

import logging

import torch
from torch import Tensor

from robustgen.gan.encoder import SplitEncoder
from robustgen.gan.stylegan2 import MAPPING_LR, StyleGAN2
from robustgen.rngs import rng_for
from robustgen.training.images import TrainingImages
from robustgen.training.recipe import Recipe

CODES = 20_000
"""Codes that the mapping is fitted to, of freshly augmented training images."""

log = logging.getLogger(__name__)


@torch.no_grad()
def encode_training_images(
    encoder: SplitEncoder, data: TrainingImages, recipe: Recipe
) -> Tensor:
    """Codes of `CODES` augmented training images, [CODES, w_dim]."""
    blocks = [
        encoder.styles(
            data.batch(500, recipe.augmentation, recipe.seed, "mapping codes", step)[0]
        )
        for step in range(CODES // 500)
    ]
    return torch.cat(blocks)


def sliced_wasserstein(a: Tensor, b: Tensor, directions: Tensor) -> Tensor:
    """Mean squared distance of the sorted projections of two sets of equal size."""
    sorted_a = (a @ directions).sort(dim=0).values
    sorted_b = (b @ directions).sort(dim=0).values
    return (sorted_a - sorted_b).square().mean()


def fit_mapping(
    gan: StyleGAN2, encoder: SplitEncoder, data: TrainingImages, recipe: Recipe
) -> float:
    """Trains `gan.mapping` in place and sets its mean code.

    Returns:
        Sliced Wasserstein distance at the end, on codes that were not trained on and
        in units of the codes' standard deviation: square root of the mean square over
        1,024 directions.
    """
    stage = recipe.mapping
    codes = encode_training_images(encoder, data, recipe)
    mean, std = codes.mean(dim=0), codes.std(dim=0).clamp(min=1e-6)
    fitted, held_out = codes[: -CODES // 5], codes[-CODES // 5 :]
    mapping = gan.mapping.train()
    mapping.requires_grad_(True)
    # The multiplier slows these parameters by 100; the rate makes up for it.
    optimizer = torch.optim.Adam(
        mapping.parameters(), lr=stage.learning_rate / MAPPING_LR, betas=(0.9, 0.99)
    )
    for step in range(stage.steps):
        decay = 0.5 * (
            1 + torch.cos(torch.tensor(torch.pi * step / stage.steps)).item()
        )
        optimizer.param_groups[0]["lr"] = stage.learning_rate / MAPPING_LR * decay
        rng = rng_for(recipe.seed, "mapping", step)
        rows = torch.randint(len(fitted), (stage.batch,), generator=rng)
        z = torch.randn(stage.batch, gan.z_dim, generator=rng)
        directions = torch.randn(gan.w_dim, stage.projections, generator=rng)
        directions = directions / directions.norm(dim=0)
        w = gan.map(z)
        loss = sliced_wasserstein(
            (w - mean) / std, (fitted[rows] - mean) / std, directions
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        rng = rng_for(recipe.seed, "mapping", "held out")
        w = gan.map(torch.randn(len(held_out), gan.z_dim, generator=rng))
        directions = torch.randn(gan.w_dim, 1024, generator=rng)
        directions = directions / directions.norm(dim=0)
        distance = sliced_wasserstein(
            (w - mean) / std, (held_out - mean) / std, directions
        ).sqrt()
        gan.mapping.w_avg.copy_(w.mean(dim=0))
    log.info("mapping: sliced Wasserstein distance %.3f", distance)
    return float(distance)
