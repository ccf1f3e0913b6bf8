"""The perceptual network: instance discrimination on images alone."""

import logging

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustgen.perceptual import PerceptualNet
from robustgen.rngs import rng_for
from robustgen.training.autoencoder import initialize
from robustgen.training.images import TrainingImages, augment
from robustgen.training.recipe import AugmentationRecipe, Recipe

VIEW = AugmentationRecipe(shift=2.0, rotate=6.0, scale=0.1, gain=0.3)
"""How the two views of an image differ, besides pixel noise."""

log = logging.getLogger(__name__)


def contrastive_loss(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """NT-Xent (arXiv:2002.05709, equation 1) of two views of each of N images.

    Args:
        a: Embeddings of one view, [N, D].
        b: Embeddings of the other view, [N, D].
        temperature: Divides the cosines.
    """
    both = F.normalize(torch.cat([a, b]), dim=1)
    cosines = both @ both.T / temperature
    cosines.fill_diagonal_(-torch.inf)
    n = len(a)
    partner = torch.arange(2 * n, device=both.device).roll(n)
    return F.cross_entropy(cosines, partner)


def train_perceptual(data: TrainingImages, recipe: Recipe) -> PerceptualNet:
    """Trains the feature levels under a head that is thrown away."""
    stage = recipe.perceptual
    network = PerceptualNet(recipe.generator.img_channels, stage.widths)
    head = nn.Sequential(
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(stage.widths[-1] * 16, 128),
        nn.ReLU(),
        nn.Linear(128, 64),
    )
    initialize(network, recipe.seed, "perceptual")
    initialize(head, recipe.seed, "perceptual head")
    network, head = network.to(data.device), head.to(data.device)
    optimizer = torch.optim.Adam(
        [*network.parameters(), *head.parameters()], lr=stage.learning_rate
    )
    for step in range(stage.steps):
        images, _ = data.batch(
            stage.batch, recipe.augmentation, recipe.seed, "perceptual", step
        )
        rng = rng_for(recipe.seed, "perceptual views", step)
        embeddings: list[Tensor] = []
        for _ in range(2):
            view = augment(images.cpu(), VIEW, rng)
            noise = torch.randn(view.shape, generator=rng) * stage.noise
            noisy = (view + noise).to(data.device)
            embeddings.append(head(network.features(noisy)[-1]))
        loss = contrastive_loss(embeddings[0], embeddings[1], stage.temperature)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % 250 == 0:
            log.info(
                "perceptual step %d/%d loss %.4f", step + 1, stage.steps, loss.item()
            )
    return network.eval().requires_grad_(False)
