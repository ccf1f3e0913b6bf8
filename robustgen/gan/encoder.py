"""The split encoder of the assets that ship.

The coarse part of the code comes from a convolution net on the image. The fine part
comes from a small network that sees only an average-pooled thumbnail, so it can carry
color and light but no shape. That makes style mixing keep the label: an ordinary
encoder, trained with the generator, puts shape into the fine layers.

The code is `w = [coarse | fine]`. The generator's coarse layers read the coarse part
only and its fine layers the fine part only (`fine_columns`), so one `w` serves every
layer, as in any StyleGAN2.
"""

import itertools
import json
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustgen.types import Images, Masks, StylesPlus


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes of a split encoder.

    Args:
        resolution: Side of the images in pixels; divides by `2 ** (len(widths) - 1)`.
        img_channels: 3 for color, 1 for grey.
        num_layers: Style layers of the generator; the code is repeated for each.
        coarse_dim: Length of the coarse part of the code.
        fine_dim: Length of the fine part.
        thumbnail: Side of the thumbnail that the fine part is read from.
        widths: Channels of the convolutions; each but the first halves the side.
        hidden: Units of the hidden layers of both parts.
    """

    resolution: int
    img_channels: int
    num_layers: int
    coarse_dim: int
    fine_dim: int
    thumbnail: int
    widths: tuple[int, ...] = (32, 64, 96, 128)
    hidden: int = 256

    def to_json(self) -> str:
        """The configuration as stored beside the weights."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "EncoderConfig":
        """Reads `to_json`."""
        fields = json.loads(text)
        fields["widths"] = tuple(fields["widths"])
        return EncoderConfig(**fields)


class SplitEncoder(nn.Module):
    """Images to `w_plus`, the same `w` for every layer."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.config = config
        first, *others = config.widths
        layers: list[nn.Module] = [
            nn.Conv2d(config.img_channels, first, 3, padding=1),
            nn.LeakyReLU(0.2),
        ]
        for before, after in itertools.pairwise(config.widths):
            layers += [
                nn.Conv2d(before, after, 3, stride=2, padding=1),
                nn.LeakyReLU(0.2),
            ]
        side = config.resolution >> len(others)
        self.trunk = nn.Sequential(
            *layers,
            nn.Flatten(),
            nn.Linear(config.widths[-1] * side * side, config.hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(config.hidden, config.coarse_dim),
        )
        self.thumbnail = nn.Sequential(
            nn.Flatten(),
            nn.Linear(config.img_channels * config.thumbnail**2, config.hidden // 2),
            nn.LeakyReLU(0.2),
            nn.Linear(config.hidden // 2, config.hidden // 2),
            nn.LeakyReLU(0.2),
            nn.Linear(config.hidden // 2, config.fine_dim),
        )

    def styles(
        self,
        images: Images,
        mask: Masks | None = None,
        *,
        relit: Images | None = None,
    ) -> Tensor:
        """One code `w` per image, [N, coarse_dim + fine_dim].

        Args:
            images: Pixels in [0, 1].
            mask: Weights of the pixels; those at 0 are seen as mid-grey.
            relit: The same images in another light, for the coarse part alone; in
                training only, so that it learns to do without light.
        """
        x = images * 2 - 1
        shape = x if relit is None else relit * 2 - 1
        if mask is not None:
            x, shape = x * mask, shape * mask
        small = F.adaptive_avg_pool2d(x, self.config.thumbnail)
        return torch.cat([self.trunk(shape), self.thumbnail(small)], dim=1)

    def forward(self, images: Images, mask: Masks | None = None) -> StylesPlus:
        w = self.styles(images, mask)
        return w[:, None].expand(-1, self.config.num_layers, -1)
