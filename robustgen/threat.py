"""The set of images that an attack may return."""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

from robustgen.types import Flags, Images, PerSample

Norm: TypeAlias = Literal["none", "linf", "l2"]


@dataclass(frozen=True)
class Threat:
    """Images in [0, 1] within `eps` of the clean image.

    Args:
        norm: `linf` or `l2`; `none` where no distance bounds the set: it is the clean
            image itself (`eps` 0) or any image at all (`eps` infinity: a corruption).
        eps: Radius in pixel units of [0, 1]; infinity for a minimum-norm attack.

    Raises:
        ValueError: the radius is negative, above the pixel range for `linf`, or
            neither 0 nor infinity for `none`.
    """

    norm: Norm
    eps: float

    def __post_init__(self) -> None:
        if not self.eps >= 0:
            raise ValueError(f"`eps={self.eps}` must be 0 or more.")
        if self.norm == "none" and self.eps not in (0, math.inf):
            raise ValueError(f"`eps={self.eps}` needs a norm: linf or l2.")
        if self.norm == "linf" and self.eps > 1:
            raise ValueError(
                f"`eps={self.eps:g}` exceeds the pixel range [0, 1]. Images are in "
                f"[0, 1] here; did you mean {self.eps:g}/255?"
            )

    def distance(self, x: Images, x0: Images) -> PerSample:
        """Distance of each image from its clean one: `l2`, else the largest change."""
        delta = (x - x0).flatten(1)
        if self.norm == "l2":
            return delta.norm(dim=1)
        return delta.abs().amax(dim=1)

    def clip(self, x: Images, x0: Images) -> Images:
        """The image of the set nearest to `x` along the straight line or box.

        An image inside the set comes back unchanged.
        """
        if self.norm == "none":
            return x0.clone() if self.eps == 0 else x.clamp(0.0, 1.0)
        if self.norm == "linf":
            return torch.clamp(torch.clamp(x, x0 - self.eps, x0 + self.eps), 0.0, 1.0)
        x = x.clamp(0.0, 1.0)
        length = (x - x0).flatten(1).norm(dim=1)
        factor = (self.eps / length.clamp(min=1e-30)).clamp(max=1.0)
        shrunk = x0 + (x - x0) * factor.view(-1, 1, 1, 1)
        return torch.where((factor < 1).view(-1, 1, 1, 1), shrunk, x)

    def contains(self, x: Images, x0: Images, *, atol: float = 1e-6) -> Flags:
        """Whether each image is finite, in [0, 1] and within `eps` (+ `atol`)."""
        flat = x.flatten(1)
        finite = torch.isfinite(flat).all(dim=1)
        in_range = ((flat >= 0) & (flat <= 1)).all(dim=1)
        return finite & in_range & (self.distance(x, x0) <= self.eps + atol)
