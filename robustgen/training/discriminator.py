"""The discriminator of the second stage; thrown away after training."""

import math

import torch
from torch import Tensor, nn

from robustgen.types import Images


class Discriminator(nn.Module):
    """Plain convolutions down to 4 px, with the batch's deviation as a feature.

    Args:
        img_channels: 3 for color, 1 for grey.
        resolution: Side of the images in pixels, a power of two from 8.
    """

    def __init__(self, img_channels: int, resolution: int):
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(img_channels, 32, 3, padding=1),
            nn.LeakyReLU(0.2),
        ]
        width = 32
        for _ in range(int(math.log2(resolution)) - 2):
            wider = min(2 * width, 128)
            layers += [
                nn.Conv2d(width, wider, 4, stride=2, padding=1),
                nn.LeakyReLU(0.2),
            ]
            width = wider
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Conv2d(width + 1, width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(width * 16, 1),
        )

    def forward(self, images: Images) -> Tensor:
        x = self.trunk(images * 2 - 1)
        # Minibatch standard deviation (arXiv:1710.10196, section 3).
        deviation = x.var(dim=0, correction=0).add(1e-8).sqrt().mean()
        feature = deviation.expand(len(x), 1, *x.shape[2:])
        return self.head(torch.cat([x, feature], dim=1))[:, 0]
