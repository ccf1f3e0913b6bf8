"""What happens to an image before a classifier sees it, as part of the classifier."""

from collections.abc import Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from robustgen.errors import RequestError
from robustgen.types import Images, Logits

Prepared: TypeAlias = Float[Tensor, "batch channel rows cols"]
"""Images of another size."""

ZERO_CENTERED = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""Mean and standard deviation that take [0, 1] to [-1, 1], as all networks of the
released code expect their images."""


class Preprocess(nn.Module):
    """A classifier of images in [0, 1], from a network that wants them prepared.

    In this order: centered crop, bilinear resize, second centered crop, normalization
    `(x - mean) / std`. Steps not asked for are left out. Every step is differentiable,
    so an attack sees the true gradient, and treats each image of a batch on its own.

    The released code prepares what its generators make so, from 512 x 512 pixels for
    cars: crop to (384, 512), which drops the 64 empty rows above and below the picture;
    resize to (256, 342), rows before columns and without antialiasing; crop to 256. For
    cats, from 256 x 256: crop to 224. Photos it resizes with antialiasing from files of
    any shape; here photo and reconstruction take the same way, so that they differ in
    what the generator made of the photo and in nothing else.

    Args:
        module: The network, from normalized images to logits.
        crop: Rows and columns of the first crop.
        resize: Rows and columns after the resize; a single number for the shorter side,
            the longer one in proportion and rounded down, as torchvision does. Note
            that (384, 512) at 256 gives (256, 341), not the 342 of the released code.
        center_crop: Rows and columns of the second crop, or both at once.
        mean: Subtracted from each channel, in pixel units of [0, 1]; one for each
            channel, or one for all.
        std: What each channel is divided by, in the same units.
        antialias: Whether the resize averages over all pixels where it shrinks. The
            released code does not; what torchvision and timm publish was trained with.

    Raises:
        RequestError: a size is below 1, or `mean` and `std` do not fit together.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        module: nn.Module,
        *,
        crop: Sequence[int] | None = None,
        resize: Sequence[int] | int | None = None,
        center_crop: Sequence[int] | int | None = None,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        antialias: bool = False,
    ) -> None:
        super().__init__()
        if len(mean) != len(std) or not mean or min(std) <= 0:
            raise RequestError(
                f"`mean={list(mean)}` and `std={list(std)}` need as many numbers as "
                "each other, and every `std` above 0."
            )
        self.module = module
        self.crop = None if crop is None else _pair("crop", crop)
        self.resize = _shorter_or_pair(resize)
        self.center_crop = (
            None if center_crop is None else _pair("center_crop", center_crop)
        )
        self.antialias = antialias
        # Saved with the weights, so that what identifies these identifies all.
        for name, values in (("mean", mean), ("std", std)):
            numbers = torch.tensor(values, dtype=torch.float32)
            self.register_buffer(name, numbers.view(1, -1, 1, 1))

    def forward(self, images: Images) -> Logits:
        """Logits `[N, K]` of images in [0, 1].

        Raises:
            RequestError: the images are smaller than a crop, or have another number of
                channels than `mean`.
        """
        channels = self.mean.shape[1]
        if channels not in (1, images.shape[1]):
            # Not left to the arithmetic: one channel would be spread to three.
            raise RequestError(
                f"Images of {images.shape[1]} channels, but the classifier reads "
                f"{channels}."
            )
        x = images
        if self.crop is not None:
            x = center_crop(x, self.crop)
        if self.resize is not None:
            x = resized(x, self.resize, antialias=self.antialias)
        if self.center_crop is not None:
            x = center_crop(x, self.center_crop)
        return self.module((x - self.mean) / self.std)

    def extra_repr(self) -> str:
        """Sizes, for `repr`."""
        return (
            f"crop={self.crop}, resize={self.resize}, center_crop={self.center_crop}, "
            f"antialias={self.antialias}"
        )


def center_crop(images: Images, size: tuple[int, int]) -> Prepared:
    """The middle of images; an odd margin leaves the smaller half above and left.

    Args:
        images: Images `[N, C, H, W]`.
        size: Rows and columns to keep.

    Raises:
        RequestError: the images are smaller than that.
    """
    rows, cols = size
    height, width = images.shape[-2:]
    if height < rows or width < cols:
        raise RequestError(
            f"The classifier crops images to {rows} x {cols} pixels, but they have "
            f"{height} x {width}."
        )
    top, left = (height - rows) // 2, (width - cols) // 2
    return images[..., top : top + rows, left : left + cols]


def resized(
    images: Images, size: tuple[int, int] | int, *, antialias: bool = False
) -> Prepared:
    """Bilinear resize; pixels are squares whose corners stay in place.

    Args:
        images: Images `[N, C, H, W]`.
        size: Rows and columns, or the number of pixels of the shorter side.
        antialias: Whether shrinking averages over all pixels.
    """
    height, width = images.shape[-2:]
    if isinstance(size, int):
        shorter = min(height, width)
        size = (size * height // shorter, size * width // shorter)
    if size == (height, width):
        return images
    return F.interpolate(
        images, size=size, mode="bilinear", align_corners=False, antialias=antialias
    )


def _shorter_or_pair(size: Sequence[int] | int | None) -> tuple[int, int] | int | None:
    if size is None:
        return None
    pair = _pair("resize", size)
    return pair[0] if isinstance(size, int) else pair


def _pair(name: str, size: Sequence[int] | int) -> tuple[int, int]:
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or min(pair) < 1:
        raise RequestError(
            f"`{name}: {size}`: expected rows and columns, both 1 or more."
        )
    return pair[0], pair[1]
