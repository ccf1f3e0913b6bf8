"""Small pictures of large images, for people."""

import numpy as np
from jaxtyping import Float32

SIDE = 256
"""Longest side of a stored picture, in pixels."""


def thumbnails(
    images: Float32[np.ndarray, "*batch c h w"], side: int = SIDE
) -> Float32[np.ndarray, "*batch c small_h small_w"]:
    """Images, averaged down by a whole factor until no side exceeds `side`.

    Images that are small enough come back as they are. Rows and columns that do not
    fill a whole block at the lower right edge are left out.

    >>> thumbnails(np.zeros((2, 3, 1024, 512), np.float32)).shape
    (2, 3, 256, 128)
    >>> thumbnails(np.zeros((3, 32, 32), np.float32)).shape
    (3, 32, 32)

    Args:
        images: Pixels of any range.
        side: Longest side that is left alone.
    """
    height, width = images.shape[-2:]
    factor = -(-max(height, width) // side)
    if factor == 1:
        return images
    rows, columns = height // factor, width // factor
    cut = images[..., : rows * factor, : columns * factor]
    blocks = cut.reshape(*images.shape[:-2], rows, factor, columns, factor)
    return blocks.mean(axis=(-3, -1), dtype=np.float32)
