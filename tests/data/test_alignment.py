"""Alignment by a box, in closed form."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from robustgen.data.alignment import (
    MID_GRAY,
    Box,
    center_box,
    center_crop,
    paste_centered,
    shift,
)
from robustgen.errors import RequestError

sides = st.integers(1, 9)
steps = st.integers(-12, 12)


def marked(height: int, width: int) -> np.ndarray:
    """Every pixel tells where it is; none is black."""
    values = 1 + np.arange(height * width, dtype=np.float32)
    return values.reshape(1, height, width) / (height * width)


@settings(max_examples=50)
@given(sides, sides, steps, steps)
def test_a_shift_moves_every_pixel_that_stays(
    height: int, width: int, down: int, right: int
):
    image = marked(height, width)
    moved, mask = shift(image, down=down, right=right)
    for y in range(height):
        for x in range(width):
            inside = 0 <= y - down < height and 0 <= x - right < width
            expected = image[0, y - down, x - right] if inside else 0
            assert moved[0, y, x] == expected
            assert mask[0, y, x] == inside
    kept = max(0, height - abs(down)) * max(0, width - abs(right))
    assert mask.sum() == kept


def _reference_shift(tensor: np.ndarray, disp_y: int, disp_x: int) -> np.ndarray:
    """`shift_tensor` of the released code; fill -1 there is 0 here."""
    y, x = tensor.shape[-2:]
    moved = np.zeros_like(tensor)
    moved[
        ...,
        max(0, disp_y) : min(y, y + disp_y),
        max(0, disp_x) : min(x, x + disp_x),
    ] = tensor[
        ...,
        max(0, -disp_y) : min(y, y - disp_y),
        max(0, -disp_x) : min(x, x - disp_x),
    ]
    return moved


@settings(max_examples=50)
@given(st.integers(-8, 8), st.integers(-8, 8))
def test_a_shift_is_the_released_one(down: int, right: int):
    image = marked(9, 9)
    moved, _ = shift(image, down=down, right=right)
    np.testing.assert_array_equal(moved, _reference_shift(image, down, right))


def test_a_crop_takes_the_middle_and_never_enlarges():
    image = marked(7, 6)
    np.testing.assert_array_equal(center_crop(image, 4, 3), image[:, 1:5, 1:4])
    np.testing.assert_array_equal(center_crop(image, 9, 6), image)


def test_a_canvas_has_the_image_in_its_middle():
    canvas = paste_centered(marked(2, 4), 5, MID_GRAY)
    np.testing.assert_array_equal(canvas[:, 1:3, 0:4], marked(2, 4))
    canvas[:, 1:3, 0:4] = MID_GRAY
    assert (canvas == 0.5).all()


def test_a_box_lands_in_the_middle_in_closed_form():
    # 128 x 96, no resizing: the box is 20 x 10, its middle at (30, 61).
    pixels = np.zeros((96, 128, 3), np.uint8)
    pixels[:] = 51
    pixels[56:66, 20:40] = 255
    aligned = center_box(
        Image.fromarray(pixels),
        Box(20, 56, 40, 66),
        width=128,
        content=(96, 128),
        canvas=128,
    )
    image, mask = aligned
    assert image.shape == (3, 128, 128)
    assert mask is not None
    # Moved by 34 to the right and 13 up, then 16 rows of gray above and below.
    expected = np.full((128, 128), 0.5, np.float32)
    expected[16:112] = 0
    expected[16 : 16 + 83, 34:] = np.float32(51) / np.float32(255)
    expected[16 + 43 : 16 + 53, 54:74] = 1
    for channel in image:
        np.testing.assert_array_equal(channel, expected)
    assert (59 + 69) // 2 == (54 + 74) // 2 == 64
    weights = np.zeros((128, 128), np.float32)
    weights[16 : 16 + 83, 34:] = 1
    np.testing.assert_array_equal(mask[0], weights)
    assert mask.sum() == 83 * 94


def _reference_geometry(
    size: tuple[int, int], box: Box, width: int, content: tuple[int, int], canvas: int
) -> np.ndarray:
    """Rows and columns of the mask, from the released arithmetic written out."""
    ratio = width / size[0]
    height = int(ratio * size[1])
    left, top, right, bottom = (int(x * ratio) for x in box)
    offset_x = width // 2 - (right + left) // 2
    offset_y = height // 2 - (bottom + top) // 2
    ones = np.ones((1, height, width), np.float32)
    mask = _reference_shift(ones, offset_y, offset_x)
    crop_y = max(0, (height - content[0]) // 2)
    crop_x = max(0, (width - content[1]) // 2)
    mask = mask[:, crop_y : crop_y + content[0], crop_x : crop_x + content[1]]
    full = np.zeros((1, canvas, canvas), np.float32)
    y, x = (canvas - mask.shape[1]) // 2, (canvas - mask.shape[2]) // 2
    full[:, y : y + mask.shape[1], x : x + mask.shape[2]] = mask
    return full


@settings(max_examples=40)
@given(st.integers(20, 70), st.integers(20, 70), st.data())
def test_the_mask_is_the_released_one(width: int, height: int, data: st.DataObject):
    left = data.draw(st.integers(0, width - 2))
    top = data.draw(st.integers(0, height - 2))
    right = data.draw(st.integers(left + 1, width))
    bottom = data.draw(st.integers(top + 1, height))
    box = Box(left, top, right, bottom)
    image = Image.new("RGB", (width, height), (255, 255, 255))
    aligned = center_box(image, box, width=32, content=(24, 32), canvas=32)
    expected = _reference_geometry((width, height), box, 32, (24, 32), 32)
    assert aligned.mask is not None
    np.testing.assert_array_equal(aligned.mask, expected)
    # White where the photograph is, black where it left, gray beside the content.
    rows = min(24, int(32 / width * height))
    gray = np.ones((32, 32), bool)
    gray[(32 - rows) // 2 : (32 - rows) // 2 + rows] = False
    values = np.where(gray, 0.5, expected[0])
    np.testing.assert_array_equal(aligned.image, np.repeat(values[None], 3, axis=0))


def test_a_resize_keeps_the_ratio():
    # 100 x 50 to width 64: 32 rows, all within the content.
    image = Image.new("RGB", (100, 50), (255, 0, 0))
    aligned = center_box(
        image, Box(0, 0, 100, 50), width=64, content=(48, 64), canvas=64
    )
    assert aligned.mask is not None
    assert aligned.mask.sum() == 32 * 64
    assert aligned.image[0, 16:48].min() == 1
    assert aligned.image[1:, 16:48].max() == 0
    assert (aligned.image[:, :16] == 0.5).all()
    assert (aligned.image[:, 48:] == 0.5).all()


def test_content_larger_than_its_canvas_is_refused():
    image = Image.new("RGB", (4, 4))
    with pytest.raises(RequestError, match="content of 6 x 4 pixels is larger than"):
        center_box(image, Box(0, 0, 4, 4), width=4, content=(6, 4), canvas=5)
