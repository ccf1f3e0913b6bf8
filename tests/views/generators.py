"""Small generators and classifiers whose directions are known in closed form."""

import torch
from torch import Tensor


class LinearGan:
    """Styles are scaled latents; an image shows the mean style of its layers.

    The picture is `base + pixels @ mean(w_plus)`, grey, one row of `pixels` per pixel.
    """

    num_classes = 0
    num_layers = 2

    def __init__(self, pixels: Tensor, spread: Tensor, side: int) -> None:
        self.pixels = pixels
        self.spread = spread
        self.side = side
        self.z_dim = len(spread)

    def map(
        self, z: Tensor, labels: Tensor | None = None, truncation: float = 1.0
    ) -> Tensor:
        assert labels is None
        assert truncation == 1.0
        return z * self.spread

    def synthesize(self, w_plus: Tensor) -> Tensor:
        flat = 0.5 + w_plus.mean(dim=1) @ self.pixels.T
        return flat.view(-1, 1, self.side, self.side)


def brightness_gan() -> LinearGan:
    """16 pixels, 4 style channels: the first lights all pixels, the others some."""
    pattern = torch.tensor([1.0, -1.0]).repeat(8)
    blocks = torch.tensor([1.0, 1.0, -1.0, -1.0]).repeat(4)
    halves = torch.tensor([1.0] * 8 + [-1.0] * 8)
    pixels = 0.1 * torch.stack([torch.ones(16), pattern, blocks, halves], dim=1)
    return LinearGan(pixels, torch.tensor([1.0, 0.5, 2.0, 1.0]), side=4)
