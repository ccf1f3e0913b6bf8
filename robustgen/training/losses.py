"""Reconstruction losses of the first stage."""

from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from robustgen.types import Images

PixelWeights: TypeAlias = Float[Tensor, "1 1 h w"]


def laplacian_l1(
    a: Images, b: Images, levels: int = 3, weight: PixelWeights | None = None
) -> Tensor:
    """L1 distance of Laplacian pyramids; coarse levels weigh as much as fine ones.

    Args:
        a: Images.
        b: Other images.
        levels: Of the pyramid.
        weight: Of the pixels, the same for all images; None for 1.
    """
    difference = a - b
    weight = difference.new_ones(1, 1, *a.shape[2:]) if weight is None else weight
    total = a.new_zeros(())
    for _ in range(levels - 1):
        small = F.avg_pool2d(difference, 2)
        large = F.interpolate(small, scale_factor=2.0, mode="nearest")
        total = total + ((difference - large).abs() * weight).mean()
        difference, weight = small, F.avg_pool2d(weight, 2)
    return total + (difference.abs() * weight).mean()


def gradient_l1(a: Images, b: Images, weight: PixelWeights | None = None) -> Tensor:
    """L1 distance of the differences of neighboring pixels."""
    d = a - b if weight is None else (a - b) * weight
    across = (d[..., 1:] - d[..., :-1]).abs().mean()
    down = (d[..., 1:, :] - d[..., :-1, :]).abs().mean()
    return across + down


def ssim(a: Images, b: Images) -> Tensor:
    """Mean structural similarity over 7x7 windows (Wang et al., 2004)."""

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 7, stride=1)

    mu_a, mu_b = mean(a), mean(b)
    var_a = mean(a * a) - mu_a**2
    var_b = mean(b * b) - mu_b**2
    covariance = mean(a * b) - mu_a * mu_b
    c1, c2 = 0.01**2, 0.03**2
    top = (2 * mu_a * mu_b + c1) * (2 * covariance + c2)
    return (top / ((mu_a**2 + mu_b**2 + c1) * (var_a + var_b + c2))).mean()


def reconstruction_loss(
    output: Images, target: Images, w: Tensor, weight: PixelWeights | None = None
) -> Tensor:
    """Laplacian L1 + 0.5 gradient L1 + 0.2 (1 - SSIM) + 0.001 mean square code.

    The first two weigh the pixels by `weight`, if there is one.
    """
    return (
        laplacian_l1(output, target, weight=weight)
        + 0.5 * gradient_l1(output, target, weight)
        + 0.2 * (1 - ssim(output, target))
        + 0.001 * w.square().mean()
    )


def non_saturating(logits: Tensor, *, real: bool) -> Tensor:
    """Softplus loss of the original GAN for a batch that should be real or fake."""
    return F.softplus(-logits if real else logits).mean()


def r1_penalty(logits: Tensor, images: Images) -> Tensor:
    """Mean squared gradient norm of the discriminator on real images."""
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()
