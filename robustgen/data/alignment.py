"""Moves the annotated object of a photograph to where a generator makes it.

The cars of LSUN, which the generator was trained on, lie centered in 512 x 384 pixels
of a square canvas. The released code aligns Cars196 to that by resizing and by an
integer shift (`optimize_car.py` and `shift_tensor` of chail/gan-ensembling).
"""

from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float32
from PIL import Image

from robustgen.data.decode import to_pixels
from robustgen.data.images import Picture
from robustgen.errors import RequestError

MID_GRAY = 0.5
"""0 on the scale [-1, 1]: what surrounds the content of a canvas."""

Array: TypeAlias = Float32[np.ndarray, "c h w"]
Mask: TypeAlias = Float32[np.ndarray, "1 h w"]
Cropped: TypeAlias = Float32[np.ndarray, "c rows columns"]
Canvas: TypeAlias = Float32[np.ndarray, "c side side"]


class Box(NamedTuple):
    """A rectangle in pixels of an image."""

    left: int
    top: int
    right: int
    bottom: int


def center_box(
    image: Image.Image, box: Box, *, width: int, content: tuple[int, int], canvas: int
) -> Picture:
    """A photograph with its box in the middle of a square canvas.

    Resized to a width (LANCZOS, once named ANTIALIAS), shifted by whole pixels until
    the middle of the box is the middle of the image, cropped around that to the
    content, and pasted into the middle of a mid-gray canvas. Numbers are cut to whole
    pixels where the released code cuts them.

    Args:
        image: An RGB picture.
        box: The object, in pixels of `image`.
        width: Width in pixels after resizing; the height keeps the ratio.
        content: Rows and columns of the canvas that a picture may fill.
        canvas: Side of the result.

    Returns:
        Pixels [3, canvas, canvas]: black where the shift left none of the photograph,
        mid-gray beside the content. The mask is 1 on pixels of the photograph alone.

    Raises:
        RequestError: the content is larger than the canvas.
    """
    rows, columns = content
    if rows > canvas or columns > canvas:
        raise RequestError(
            f"content of {rows} x {columns} pixels is larger than its canvas of "
            f"{canvas} x {canvas}."
        )
    ratio = width / image.width
    size = width, max(1, int(ratio * image.height))
    resized = image.resize(size, Image.Resampling.LANCZOS)
    scaled = Box(*(int(edge * ratio) for edge in box))
    shifted, mask = shift(
        to_pixels(resized),
        down=size[1] // 2 - (scaled.bottom + scaled.top) // 2,
        right=size[0] // 2 - (scaled.right + scaled.left) // 2,
    )
    return Picture(
        paste_centered(center_crop(shifted, rows, columns), canvas, MID_GRAY),
        paste_centered(center_crop(mask, rows, columns), canvas, 0),
    )


def shift(image: Array, *, down: int, right: int) -> tuple[Array, Mask]:
    """An image moved by whole pixels, and where it then is.

    Args:
        image: Pixels [C, H, W].
        down: Rows to move down; negative moves up.
        right: Columns to move right; negative moves left.

    Returns:
        The image, black where nothing moved to, and a mask that is 1 elsewhere.
    """
    _, height, width = image.shape
    moved = np.zeros_like(image)
    mask = np.zeros((1, height, width), np.float32)
    to_rows, from_rows = _overlap(height, down)
    to_columns, from_columns = _overlap(width, right)
    moved[:, to_rows, to_columns] = image[:, from_rows, from_columns]
    mask[:, to_rows, to_columns] = 1
    return moved, mask


def center_crop(image: Array, rows: int, columns: int) -> Cropped:
    """The middle of an image; a smaller image keeps its size.

    Args:
        image: Pixels [C, H, W].
        rows: Height of the result, at most.
        columns: Width of the result, at most.
    """
    top = max(0, (image.shape[1] - rows) // 2)
    left = max(0, (image.shape[2] - columns) // 2)
    return image[:, top : top + rows, left : left + columns]


def paste_centered(image: Array, side: int, fill: float) -> Canvas:
    """A square canvas with an image in its middle.

    Args:
        image: Pixels [C, H, W], no larger than the canvas.
        side: Height and width of the canvas.
        fill: Value of the canvas beside the image.
    """
    channels, height, width = image.shape
    canvas = np.full((channels, side, side), fill, np.float32)
    top, left = (side - height) // 2, (side - width) // 2
    canvas[:, top : top + height, left : left + width] = image
    return canvas


def _overlap(length: int, step: int) -> tuple[slice, slice]:
    """Where a line of pixels moved by `step` lies, and where that was before."""
    stop = max(0, length - abs(step))
    ahead, behind = slice(abs(step), abs(step) + stop), slice(0, stop)
    return (ahead, behind) if step > 0 else (behind, ahead)
