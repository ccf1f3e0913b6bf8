"""Noise maps of each image's own, as StyleGAN2's projector has them.

Gaussian noise has no structure. The regularizer of arXiv:1912.04958 (appendix D) asks
that neighboring pixels of a map are uncorrelated at every scale, so that the noise
cannot carry the picture; normalizing keeps mean 0 and variance 1.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from robustgen.errors import RequestError
from robustgen.projectors.loss import Gan
from robustgen.projectors.swapped import require_module

SMALLEST = 8
"""Side in pixels of the coarsest maps that are compared with their neighbors."""


def noise_sides(gan: Gan) -> dict[str, tuple[int, int]]:
    """Height and width of the generator's noise maps, by name of the buffer.

    Raises:
        RequestError: it has none.
    """
    sides = {
        name: (buffer.shape[0], buffer.shape[1])
        for name, buffer in require_module(gan).named_buffers()
        if name.rpartition(".")[2] == "noise" and buffer.ndim == 2
    }
    if not sides:
        raise RequestError(
            f"{type(gan).__name__} has no noise maps (buffers named `noise`): set "
            "optimize_noise to false."
        )
    return sides


def split_maps(
    flat: Float[Tensor, "n q"], sides: Mapping[str, tuple[int, int]]
) -> dict[str, Float[Tensor, "n 1 h w"]]:
    """Noise maps by name, from one row of numbers for each image."""
    if not sides:
        return {}
    parts = flat.split([math.prod(side) for side in sides.values()], dim=1)
    return {
        name: part.unflatten(1, (1, *side))
        for (name, side), part in zip(sides.items(), parts, strict=True)
    }


def noise_structure(
    maps: Mapping[str, Float[Tensor, "n 1 h w"]],
) -> Float[Tensor, " n"]:
    """Squared correlation of pixels with their neighbors, over all maps and scales."""
    total: Tensor | None = None
    for noise in maps.values():
        scale = noise
        while True:
            for axis in (2, 3):
                neighbors = (scale * scale.roll(1, dims=axis)).mean(dim=(1, 2, 3))
                square = neighbors.square()
                total = square if total is None else total + square
            if min(scale.shape[2:]) <= SMALLEST:
                break
            scale = F.avg_pool2d(scale, 2)
    assert total is not None
    return total


def normalized(
    flat: Float[Tensor, "n q"], sides: Mapping[str, tuple[int, int]]
) -> Float[Tensor, "n q"]:
    """The maps with mean 0 and mean square 1, each on its own."""
    rows: list[Tensor] = []
    for part in flat.split([math.prod(side) for side in sides.values()], dim=1):
        centered = part - part.mean(dim=1, keepdim=True)
        rows.append(centered * centered.square().mean(dim=1, keepdim=True).rsqrt())
    return torch.cat(rows, dim=1)
