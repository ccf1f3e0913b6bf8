"""Training images: loading, and batches that depend on the step alone."""

import math
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from robustgen.data.dataset import Dataset
from robustgen.data.digits import load_digits
from robustgen.data.faces import (
    DEFAULT_LABEL,
    POPULATION_SEED,
    draw_faces,
    render_faces,
)
from robustgen.data.mnist import load_mnist
from robustgen.data.smiles import load_smiles
from robustgen.rngs import rng_for
from robustgen.sources import data_folder
from robustgen.training.recipe import AugmentationRecipe, ClassifierOnly
from robustgen.types import Images, Labels


class TrainingImages:
    """Images of the train split as bytes, and their labels.

    The classifier reads the labels, and `relevance` of a recipe, if it is above 0.

    Args:
        images: Bytes, [N, C, H, W]; stay where they are.
        labels: Classes, [N].
        device: Where batches go. They are drawn and changed on the CPU, so they are
            the same on every device.
    """

    def __init__(
        self,
        images: UInt8[Tensor, "n c h w"],
        labels: Tensor,
        device: torch.device | str = "cpu",
    ):
        self.images = images
        self.labels = labels
        self.device = torch.device(device)

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
        images = augment(images, augmentation, rng)
        return images.to(self.device), self.labels[rows].to(self.device)


def load_training_images(
    recipe: ClassifierOnly, device: torch.device | str = "cpu"
) -> TrainingImages:
    """The train split that a recipe names, labels included.

    Args:
        recipe: Names the data set.
        device: Where batches go.

    Raises:
        RequestError: the data set's file is missing or damaged.
    """
    if recipe.dataset == "faces":
        faces = draw_faces(POPULATION_SEED, "train", range(recipe.images))
        images = render_faces(faces)
        labels = faces.labels(recipe.attribute or DEFAULT_LABEL)
    else:
        part = stored_dataset(recipe.dataset).part("train")
        images, labels = part.images, part.labels
    pixels = np.round(images[: recipe.images] * 255).astype(np.uint8)
    return TrainingImages(
        torch.from_numpy(pixels),
        torch.from_numpy(labels[: recipe.images].copy()),
        device,
    )


def stored_dataset(name: Literal["digits", "smiles", "mnist"]) -> Dataset:
    """A data set of photographs or digits, all splits.

    Raises:
        RequestError: its file is missing or damaged.
    """
    if name == "digits":
        return load_digits()
    if name == "smiles":
        return load_smiles(data_folder())
    return load_mnist(data_folder())


def augment(images: Images, recipe: AugmentationRecipe, rng: torch.Generator) -> Images:
    """Flips, moves, turns, scales, darkens and relights each image by its own draw."""
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
        images = F.grid_sample(
            images, grid, padding_mode=recipe.border, align_corners=False
        )
    if recipe.gain:
        images = images * (1 - recipe.gain * (u[:, 5] + 1) / 2).view(n, 1, 1, 1)
    if recipe.light:
        images = relight(images, recipe.light, rng)
    if recipe.blur:
        images = blur(images, torch.rand(n, generator=rng) * recipe.blur)
    return images


def blur(images: Images, std: Float[Tensor, " n"]) -> Images:
    """Gaussian blur of each image by its own standard deviation, pixels.

    Borders are mirrored; the kernel ends at three standard deviations of the widest.
    """
    n, channels, height, width = images.shape
    reach = max(1, math.ceil(3 * float(std.max())))
    offsets = torch.arange(-reach, reach + 1).float()
    # A std of 0 leaves one weight: that of the pixel itself.
    kernel = torch.exp(-(offsets**2) / (2 * std.clamp(min=1e-3)[:, None] ** 2))
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(channels, 0)
    x = images.reshape(1, n * channels, height, width)
    x = F.pad(x, (reach, reach, reach, reach), mode="reflect")
    x = F.conv2d(x, kernel[:, None, None, :], groups=n * channels)
    x = F.conv2d(x, kernel[:, None, :, None], groups=n * channels)
    return x.view(n, channels, height, width)


def relight(images: Images, strength: float, rng: torch.Generator) -> Images:
    """A random tone curve, contrast, brightness and gradient of light for each image.

    At strength 1 the exponent of the tone curve lies in [1/2, 2], contrast in
    [0.6, 1.4], brightness within 0.15 and the light from one border to the other within
    0.5; all uniform, the exponent in its logarithm.
    """
    n, _, height, width = images.shape
    u = (torch.rand(n, 5, 1, 1, 1, generator=rng) * 2 - 1) * strength
    gamma, contrast, brightness, across, down = u.unbind(dim=1)
    x = torch.linspace(-1, 1, width).view(1, 1, 1, -1)
    y = torch.linspace(-1, 1, height).view(1, 1, -1, 1)
    toned = images.clamp(min=1e-4) ** torch.exp2(gamma)
    center = toned.mean(dim=(1, 2, 3), keepdim=True)
    lit = center + (toned - center) * (1 + 0.4 * contrast)
    return (lit + 0.15 * brightness + 0.25 * (across * x + down * y)).clamp(0, 1)
