"""Training images: loading, and batches that depend on the step alone."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

from robustgen.data.digits import load_digits
from robustgen.data.faces import (
    DEFAULT_LABEL,
    POPULATION_SEED,
    draw_faces,
    render_faces,
)
from robustgen.rngs import rng_for
from robustgen.training.recipe import AugmentationRecipe, ClassifierOnly
from robustgen.types import Images, Labels


class TrainingImages:
    """Images of the train split as bytes, and their labels.

    Only the classifier reads the labels.
    """

    def __init__(self, images: UInt8[Tensor, "n c h w"], labels: Tensor):
        self.images = images
        self.labels = labels

    def batch(
        self,
        size: int,
        augmentation: AugmentationRecipe,
        seed: int,
        purpose: str,
        step: int,
    ) -> tuple[Images, Labels]:
        """The batch of one step: a function of seed, purpose and step.

        So a training that was interrupted goes on with the batches it would have had.
        """
        rng = rng_for(seed, "batch", purpose, step)
        rows = torch.randint(len(self.images), (size,), generator=rng)
        images = self.images[rows].float() / 255
        return augment(images, augmentation, rng), self.labels[rows]


def load_training_images(recipe: ClassifierOnly) -> TrainingImages:
    """The train split that a recipe names, labels included."""
    if recipe.dataset == "digits":
        part = load_digits().part("train")
        images, labels = part.images, part.labels
    else:
        faces = draw_faces(POPULATION_SEED, "train", range(recipe.images))
        images = render_faces(faces)
        labels = faces.labels(recipe.attribute or DEFAULT_LABEL)
    pixels = np.round(images[: recipe.images] * 255).astype(np.uint8)
    return TrainingImages(
        torch.from_numpy(pixels), torch.from_numpy(labels[: recipe.images].copy())
    )


def augment(images: Images, recipe: AugmentationRecipe, rng: torch.Generator) -> Images:
    """Flips, moves, turns, scales and darkens each image by its own draw."""
    n, _, _, side = images.shape
    u = torch.rand(n, 6, generator=rng) * 2 - 1
    if recipe.flip:
        images = torch.where((u[:, 0] > 0).view(n, 1, 1, 1), images.flip(3), images)
    if recipe.shift or recipe.rotate or recipe.scale:
        angle = u[:, 1] * math.radians(recipe.rotate)
        zoom = 1 + u[:, 2] * recipe.scale
        cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
        shift = u[:, 3:5] * recipe.shift * 2 / side
        row_x = torch.stack([cos, -sin, shift[:, 0]], dim=1)
        row_y = torch.stack([sin, cos, shift[:, 1]], dim=1)
        grid = F.affine_grid(
            torch.stack([row_x, row_y], dim=1), list(images.shape), align_corners=False
        )
        images = F.grid_sample(images, grid, align_corners=False)
    if recipe.gain:
        images = images * (1 - recipe.gain * (u[:, 5] + 1) / 2).view(n, 1, 1, 1)
    return images
