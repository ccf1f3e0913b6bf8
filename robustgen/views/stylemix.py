"""Style-mix views: some layers take the style of a random latent.

Ensembling with Deep Generative Views (Chai et al., CVPR 2021), section 3.2.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from robustgen.gan.layers import LayerRange
from robustgen.types import Labels, Styles, StylesPlus
from robustgen.views.draws import ViewCodes, check_views, normals, view_rngs
from robustgen.views.styles import MappingNetwork

_ROWS = 16
"""Latents mapped at once, always. A matrix product may round a row differently in a
batch of another height, and a view must not depend on how many others there are."""


def stylemix_codes(
    gan: MappingNetwork,
    w_plus: StylesPlus,
    *,
    layers: LayerRange,
    count: int,
    seed: int,
    samples: Sequence[int],
    labels: Labels | None = None,
) -> ViewCodes:
    """Codes whose `layers` are those of a random latent, mapped without truncation.

    Views differ only in those layers; gradients reach `w_plus` through the others.
    Every view costs one row of the mapping network.

    Args:
        gan: Generator whose mapping network is used.
        w_plus: Codes of the projected images `[N, L, D]`.
        layers: Layers that a random style replaces.
        count: Number of views of an image. The first ones stay the same when more
            are asked for.
        seed: Seed of the suite.
        samples: Index of each image in its data set.
        labels: One class per image, for a class-conditional generator: the latent is
            mapped with it. None maps without a class.

    Returns:
        Codes `[N, count, L, D]`, on the device of `w_plus`.

    Raises:
        RequestError: `count`, `samples` or `layers` do not fit the codes.
    """
    check_views(w_plus, samples, count)
    layers.check(w_plus.shape[1])
    mixed = torch.stack(
        [
            _map_fixed(
                gan,
                normals(rng, count, gan.z_dim).to(w_plus),
                None if labels is None else labels[image],
            )
            for image, rng in enumerate(view_rngs(seed, "stylemix", samples))
        ]
    )  # [N, V, D]
    codes = w_plus[:, None].repeat(1, count, 1, 1)  # [N, V, L, D]
    codes[:, :, layers.start : layers.stop] = mixed[:, :, None]
    return codes


@torch.no_grad()
def _map_fixed(gan: MappingNetwork, z: Tensor, label: Tensor | None) -> Styles:
    """Styles of one image's latents, in blocks of a fixed height."""
    padded = F.pad(z, (0, 0, 0, -len(z) % _ROWS))
    labels = None if label is None else label.expand(_ROWS)
    blocks = [gan.map(block, labels=labels) for block in padded.split(_ROWS)]
    return torch.cat(blocks)[: len(z)]
