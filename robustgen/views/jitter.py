"""Classical jitter of images: zoom and crop, flip, color.

The transforms that the released code of Ensembling with Deep Generative Views (Chai
et al., CVPR 2021) calls `tensormixed`: bilinear zoom, random crop back, horizontal
flip, then torchvision's color jitter without hue. Here all views of all images are
jittered at once, each with its own draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from robustgen.errors import RequestError
from robustgen.rngs import rng_for

ImageViews: TypeAlias = Float[Tensor, "batch view channel height width"]
"""Views of each image, in pixel units of [0, 1]."""

Pixels: TypeAlias = Float[Tensor, "item channel height width"]

_DRAWS = 9
"""Uniform numbers of a view: crop (2), flip, color factors (3), order of colors (3)."""

_BRIGHTNESS, _CONTRAST, _SATURATION = range(3)


@dataclass(frozen=True)
class JitterSpec:
    """How far images are jittered.

    Args:
        zoom: Factor of the enlargement before the crop back to size, such as 33/32.
            1 neither enlarges nor crops.
        flip: Whether an image is mirrored left to right with probability 1/2. Only
            where a mirrored image keeps its label.
        color: Half-width of the factors of brightness, contrast and saturation, each
            from U(1 - color, 1 + color). 0 leaves the colors alone, and does not clamp.

    Raises:
        RequestError: `zoom` is below 1 or not finite, or `color` outside [0, 1].
    """

    zoom: float
    flip: bool
    color: float

    def __post_init__(self) -> None:
        if not 1 <= self.zoom < float("inf"):
            raise RequestError(
                f"`zoom={self.zoom}` must be 1 or more: an image is enlarged, then "
                "cropped back to its size."
            )
        if not 0 <= self.color <= 1:
            raise RequestError(
                f"`color={self.color}` must lie in [0, 1]: the half-width of a factor "
                "around 1."
            )


def jitter(
    images: ImageViews,
    spec: JitterSpec,
    *,
    seed: int,
    samples: Sequence[int],
    purpose: str,
) -> ImageViews:
    """Jitters every view of every image by its own draws.

    The draws belong to (seed, purpose, sample, number of the view); a batch of other
    images or of more views changes none of them. Gradients pass through.

    Args:
        images: Views `[N, V, C, H, W]`, grey or color. Grey ones have no saturation.
        spec: How far.
        seed: Seed of the suite.
        samples: Index of each image in its data set.
        purpose: What the views are for, such as `combined`; another purpose draws
            other numbers.

    Returns:
        Views of the same shape, clamped to [0, 1] unless `spec.color` is 0.

    Raises:
        RequestError: there is not one sample index for each image, or the images have
            neither 1 nor 3 channels.
    """
    if len(samples) != len(images):
        raise RequestError(
            f"{len(samples)} sample indices for {len(images)} images: every image "
            "needs its index in the data set, because its jitter is drawn from it."
        )
    if images.shape[2] not in (1, 3):
        raise RequestError(
            f"Images of {images.shape[2]} channels cannot be jittered: 1 (grey) or 3 "
            "(red, green, blue) are needed."
        )
    count = images.shape[1]
    draws = torch.stack(
        [
            torch.rand(_DRAWS, generator=rng)
            for sample in samples
            for rng in [rng_for(seed, "jitter", purpose, sample)]
            for _ in range(count)
        ]
    ).to(images.device)  # [N * V, 9]
    x = images.flatten(0, 1)
    x = _zoom_and_crop(x, spec.zoom, draws[:, 0:2])
    if spec.flip:
        x = torch.where((draws[:, 2] < 0.5).view(-1, 1, 1, 1), x.flip(-1), x)
    if spec.color > 0:
        factors = 1 + spec.color * (2 * draws[:, 3:6] - 1)
        x = color_jitter(x, factors.to(x.dtype), draws[:, 6:9].argsort(dim=1))
    return x.view(images.shape)


def color_jitter(
    images: Pixels,
    factors: Float[Tensor, "item 3"],
    order: Int64[Tensor, "item 3"],
) -> Pixels:
    """Brightness, contrast and saturation of each image, in its own order.

    Each step is torchvision's blend with black, with the mean grey or with the image's
    own grey: `clamp(factor * image + (1 - factor) * other)`.

    Args:
        images: Grey or color images `[B, C, H, W]`.
        factors: Factors of brightness, contrast and saturation.
        order: A permutation of 0 (brightness), 1 (contrast) and 2 (saturation).

    Returns:
        Images in [0, 1].
    """
    for step in order.unbind(dim=1):
        grey = _grey(images)
        # In double precision, so that the sum's order cannot change the rounded mean.
        mean = grey.double().mean(dim=(1, 2, 3), keepdim=True).to(grey.dtype)
        kind = step.view(-1, 1, 1, 1)
        other = torch.where(kind == _CONTRAST, mean, grey)
        other = torch.where(kind == _BRIGHTNESS, torch.zeros_like(mean), other)
        factor = factors.gather(1, step[:, None]).view(-1, 1, 1, 1)
        images = (factor * images + (1 - factor) * other).clamp(0.0, 1.0)
    return images


def _grey(images: Pixels) -> Float[Tensor, "item 1 height width"]:
    """Luminance of color images, with torchvision's weights; grey ones as they are."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.split(1, dim=1)
    return 0.2989 * red + 0.587 * green + 0.114 * blue


def _zoom_and_crop(
    images: Pixels, zoom: float, draws: Float[Tensor, "item 2"]
) -> Pixels:
    height, width = images.shape[-2:]
    large = (round(zoom * height), round(zoom * width))
    if large == (height, width):
        return images
    zoomed = _stretch(_stretch(images, 2, large[0]), 3, large[1])
    crops = zoomed.unfold(2, height, 1).unfold(3, width, 1)  # [B, C, dy, dx, H, W]
    places = draws.new_tensor(crops.shape[2:4])
    # A draw just below 1 may be rounded up to the number of places.
    top, left = torch.minimum((draws * places).long(), places.long() - 1).unbind(dim=1)
    item = torch.arange(len(images), device=images.device)
    return crops[item, :, top, left]


def _stretch(images: Tensor, dim: int, size: int) -> Tensor:
    """Bilinear enlargement along one axis, corners not aligned.

    `torch.nn.functional.interpolate` picks its kernel by the number of threads, and
    the kernels round differently; here every pixel is the same everywhere.
    """
    last = images.shape[dim] - 1
    pixels = torch.arange(size, device=images.device, dtype=torch.float64)
    place = ((pixels + 0.5) * ((last + 1) / size) - 0.5).clamp(0, last)
    low = place.long()
    share = (place - low).to(images.dtype)
    share = share.view([-1 if axis == dim else 1 for axis in range(4)])
    before = images.index_select(dim, low)
    after = images.index_select(dim, (low + 1).clamp(max=last))
    return (1 - share) * before + share * after
