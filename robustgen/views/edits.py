"""Edits of images that a walk in the style space learns to imitate.

The transforms of On the Steerability of Generative Adversarial Networks (Jahanian et
al., arXiv:1907.07171) that need no detector: shift, zoom, rotation and brightness.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from robustgen.types import Images, Masks, PerSample

LARGEST_SHIFT = 1 / 8
"""Of the image's side. The authors: 50 of 1024 px with StyleGAN, half with BigGAN."""

LARGEST_ZOOM = 1.25
"""Factor. The authors go to 4, which cuts a centered object."""

LARGEST_ANGLE = 15.0
"""Degrees. The authors go to 45, which few data sets contain."""

LARGEST_BRIGHTNESS = 0.25
"""Added to every pixel, in units of [0, 1]; the authors' number."""

_INSIDE = 0.999
"""Weight of the source from which a pixel counts as having one."""


class Edited(NamedTuple):
    """An edited image, and which of its pixels the edit knows.

    Args:
        images: Pixels `[N, C, H, W]`, not clamped; 0 where there is no source.
        mask: 1 where every source pixel lies in the image `[N, 1, H, W]`, else 0.
    """

    images: Images
    mask: Masks


Edit: TypeAlias = Callable[[Images, PerSample], Edited]
"""`(images, strengths) -> edited`, a strength of 1 or -1 for the largest edit."""


def shift_x(images: Images, strength: PerSample) -> Edited:
    """Moves to the right; 1 by an eighth of the width."""
    zero, one = torch.zeros_like(strength), torch.ones_like(strength)
    return _warp(images, one, zero, -2 * LARGEST_SHIFT * strength, zero, one, zero)


def shift_y(images: Images, strength: PerSample) -> Edited:
    """Moves down; 1 by an eighth of the height."""
    zero, one = torch.zeros_like(strength), torch.ones_like(strength)
    return _warp(images, one, zero, zero, zero, one, -2 * LARGEST_SHIFT * strength)


def zoom(images: Images, strength: PerSample) -> Edited:
    """Enlarges around the center; 1 by 1.25, -1 shrinks by as much."""
    zero = torch.zeros_like(strength)
    factor = torch.exp(-math.log(LARGEST_ZOOM) * strength)
    return _warp(images, factor, zero, zero, zero, factor, zero)


def rotate(images: Images, strength: PerSample) -> Edited:
    """Turns around the center, clockwise; 1 by 15 degrees."""
    zero = torch.zeros_like(strength)
    angle = math.radians(LARGEST_ANGLE) * strength
    cos, sin = angle.cos(), angle.sin()
    return _warp(images, cos, sin, zero, -sin, cos, zero)


def brightness(images: Images, strength: PerSample) -> Edited:
    """Adds the same to every pixel; 1 a quarter of the range."""
    added = LARGEST_BRIGHTNESS * strength[:, None, None, None]
    return Edited(images + added, torch.ones_like(images[:, :1]))


EDITS: Mapping[str, Edit] = MappingProxyType(
    {
        "shift_x": shift_x,
        "shift_y": shift_y,
        "zoom": zoom,
        "rotate": rotate,
        "brightness": brightness,
    }
)
"""The edits, by the names that a suite gives them."""


def _warp(images: Images, *rows: PerSample) -> Edited:
    """Resamples by the affine map (a, b, c; d, e, f) from a pixel to its source.

    Coordinates run from -1 to 1 between the outer edges of the image. Bilinear.
    """
    matrix: Float[Tensor, "batch 2 3"] = torch.stack(rows, dim=1).unflatten(1, (2, 3))
    size = [len(images), 1, *images.shape[2:]]
    grid = F.affine_grid(matrix, size, align_corners=False)

    def sample(source: Tensor) -> Tensor:
        return F.grid_sample(
            source, grid, mode="bilinear", padding_mode="zeros", align_corners=False
        )

    known = sample(torch.ones_like(images[:, :1])) > _INSIDE
    mask = known.to(images.dtype)
    return Edited(sample(images) * mask, mask)
