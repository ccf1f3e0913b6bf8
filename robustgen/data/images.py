"""Where the pixels of a data set are: in memory, or in files read when needed.

Both kinds answer the same questions, so a data set need not know which one it has.
A data set of 1024 px photographs does not fit in memory; its batches do.
"""

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from robustgen.errors import RequestError

Pixels: TypeAlias = Float32[np.ndarray, "n c h w"]
"""Images in [0, 1]."""

MaskPixels: TypeAlias = Float32[np.ndarray, "n 1 h w"]
"""Weights in [0, 1] of the pixels that a loss may look at."""

UncheckedMasks: TypeAlias = Float32[np.ndarray, "masks rows cols ..."]
"""Masks whose shape may be wrong: that gets our message, not a type checker's."""

Rows: TypeAlias = slice | Int64[np.ndarray, " rows"]
"""Which images, and in which order."""

Shape: TypeAlias = tuple[int, int, int]
"""Channels, height and width."""

Key = TypeVar("Key")


class Picture(NamedTuple):
    """One image and what of it counts.

    Args:
        image: Pixels in [0, 1], [C, H, W].
        mask: Weights of the pixels, [1, H, W]; None where all count alike.
    """

    image: Float32[np.ndarray, "c h w"]
    mask: Float32[np.ndarray, "1 h w"] | None = None


@dataclass(frozen=True, eq=False)
class ArrayImages:
    """Images that lie in memory.

    Args:
        images: Pixels in [0, 1], [N, C, H, W].
        masks: Weights of the pixels, [N, 1, H, W], or None.
    """

    images: Pixels
    masks: UncheckedMasks | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> Shape:
        """Channels, height and width of every image."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def pixels(self) -> Pixels:
        """All images, not copied."""
        return self.images

    def mask_pixels(self) -> MaskPixels | None:
        """All masks, not copied."""
        return self.masks

    def take(self, rows: Rows) -> "ArrayImages":
        """Some of the images, in the order of `rows`."""
        masks = None if self.masks is None else self.masks[rows]
        return ArrayImages(self.images[rows], masks)

    def row_fingerprints(self) -> list[str]:
        """SHA-256 over the pixels and the mask of each image."""
        return [
            _digest(
                *(
                    f"{array.shape[1:]}{array.dtype}".encode()
                    + np.ascontiguousarray(array[row]).tobytes()
                    for array in (self.images, self.masks)
                    if array is not None
                )
            )
            for row in range(len(self))
        ]

    def check(self, name: str) -> None:
        """Makes sure that pixels and masks are what they should be.

        Args:
            name: Of the data set, for the message.

        Raises:
            RequestError: a number is outside [0, 1] or not finite, or the masks do not
                fit the images.
        """
        low, high = float(self.images.min()), float(self.images.max())
        if not (low >= 0 and high <= 1):
            raise RequestError(
                f"data set '{name}': pixels from {low:g} to {high:g}, expected "
                "[0, 1]. Divide 8-bit images by 255."
            )
        if self.masks is None:
            return
        n, _, height, width = self.images.shape
        if self.masks.shape != (n, 1, height, width):
            raise RequestError(
                f"data set '{name}': masks of shape {list(self.masks.shape)}, "
                f"expected {[n, 1, height, width]}."
            )
        for row, mask in enumerate(self.masks):
            fault = _mask_fault(mask)
            if fault:
                raise RequestError(f"data set '{name}': the mask of row {row} {fault}")


@dataclass(frozen=True, eq=False)
class LazyImages(Generic[Key]):
    """Images that are read when they are asked for, and not kept.

    Args:
        keys: What identifies each image to the reader, such as its file.
        shape: Channels, height and width of every image that is read.
        masked: Whether the reader gives masks.
        read: Reads one image. It depends on nothing but the key.
        content: Fingerprint of all that `read` looks at for a key, such as the bytes
            of a file; no pixel need be decoded for it.
        settings: All else that the pixels depend on, such as a resolution, in words.
    """

    keys: tuple[Key, ...]
    shape: Shape
    masked: bool
    read: Callable[[Key], Picture]
    content: Callable[[Key], bytes]
    settings: str

    def __len__(self) -> int:
        return len(self.keys)

    def pixels(self) -> Pixels:
        """Reads all images.

        Raises:
            RequestError: a file is missing or damaged, or its pixels are not as said.
        """
        images = np.empty((len(self), *self.shape), np.float32)
        for row, key in enumerate(self.keys):
            images[row] = self._picture(key).image
        return images

    def mask_pixels(self) -> MaskPixels | None:
        """Reads all masks; None, and nothing read, where the reader gives none.

        Raises:
            RequestError: see `pixels`.
        """
        if not self.masked:
            return None
        masks = np.empty((len(self), 1, *self.shape[1:]), np.float32)
        for row, key in enumerate(self.keys):
            masks[row] = self._picture(key).mask
        return masks

    def take(self, rows: Rows) -> "LazyImages[Key]":
        """Some of the images, in the order of `rows`; nothing is read."""
        if isinstance(rows, slice):
            return dataclasses.replace(self, keys=self.keys[rows])
        return dataclasses.replace(self, keys=tuple(self.keys[int(i)] for i in rows))

    def row_fingerprints(self) -> list[str]:
        """SHA-256 over the stored content of each image and the reader's settings.

        Raises:
            RequestError: a file is missing.
        """
        settings = f"{self.settings}\n{self.shape}{self.masked}\n".encode()
        return [_digest(settings, self.content(key)) for key in self.keys]

    def _picture(self, key: Key) -> Picture:
        picture = self.read(key)
        image, mask = picture
        if image.shape != self.shape:
            raise RequestError(
                f"{key}: read with shape {list(image.shape)}, expected "
                f"{list(self.shape)}."
            )
        if not (image.min() >= 0 and image.max() <= 1):
            raise RequestError(
                f"{key}: read with pixels from {image.min():g} to {image.max():g}, "
                "expected [0, 1]."
            )
        if (mask is not None) != self.masked:
            stated = "a mask" if self.masked else "no mask"
            raise RequestError(f"{key}: its reader states {stated} but does otherwise.")
        if mask is not None:
            if mask.shape != (1, *self.shape[1:]):
                raise RequestError(
                    f"{key}: its mask has shape {list(mask.shape)}, expected "
                    f"{[1, *self.shape[1:]]}."
                )
            fault = _mask_fault(mask)
            if fault:
                raise RequestError(f"{key}: its mask {fault}")
        return picture


def byte_images(pixels: UInt8[np.ndarray, "n c h w"], settings: str) -> LazyImages[int]:
    """Images of 8 bits that stay bytes in memory: a quarter of the room.

    Args:
        pixels: The images; 255 becomes 1.
        settings: Where they come from, in words.
    """

    def read(row: int) -> Picture:
        return Picture(pixels[row].astype(np.float32) / np.float32(255))

    _, channels, height, width = pixels.shape
    return LazyImages(
        keys=tuple(range(len(pixels))),
        shape=(channels, height, width),
        masked=False,
        read=read,
        content=lambda row: hashlib.sha256(pixels[row].tobytes()).digest(),
        settings=settings,
    )


def _mask_fault(mask: Float32[np.ndarray, "1 h w"]) -> str:
    """What is wrong with a mask, as the end of a sentence; empty if nothing is."""
    low, high = float(mask.min()), float(mask.max())
    if not (low >= 0 and high <= 1):
        return f"goes from {low:g} to {high:g}, expected weights in [0, 1]."
    return "" if high > 0 else "is 0 everywhere: no pixel would count."


def _digest(*parts: bytes) -> str:
    """SHA-256 over some bytes, with their lengths: no two splits of them are alike."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)}:".encode() + part)
    return digest.hexdigest()
