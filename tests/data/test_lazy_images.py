"""Images that are read when needed: how often, in what order, and what is checked."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from robustgen.data.dataset import Dataset
from robustgen.data.images import LazyImages, Picture, byte_images
from robustgen.errors import RequestError


def picture(key: str) -> Picture:
    value = np.float32(int(key) / 10)
    mask = np.ones((1, 2, 3), np.float32)
    return Picture(np.full((3, 2, 3), value), mask)


def source(
    read: Callable[[str], Picture] = picture, count: int = 6, masked: bool = True
) -> LazyImages[str]:
    return LazyImages(
        keys=tuple(str(k) for k in range(count)),
        shape=(3, 2, 3),
        masked=masked,
        read=read,
        content=lambda key: f"stored {key}".encode(),
        settings="plain",
    )


def dataset(images: LazyImages[str], **changes: Any) -> Dataset:
    fields: dict[str, Any] = {
        "name": "lazy",
        "images": images,
        "labels": np.array([0, 1, 0, 1, 0, 1]),
        "split": np.array(["val", "test"] * 3),
        "index": np.arange(6) + 10,
        "class_names": ("no", "yes"),
        "flip": True,
    }
    return Dataset(**{**fields, **changes})


def test_nothing_is_read_until_pixels_are_asked_for():
    reads: list[str] = []

    def read(key: str) -> Picture:
        reads.append(key)
        return picture(key)

    data = dataset(source(read))
    part = data.part("test", 2).rows(slice(1, 2))
    assert (len(data), data.image_shape) == (6, (3, 2, 3))
    assert part.index.tolist() == [13]
    assert len(part.fingerprint()) == 64
    assert reads == []
    assert part.pixels().tolist() == np.full((1, 3, 2, 3), np.float32(0.3)).tolist()
    assert reads == ["3"]
    part.pixels()
    assert reads == ["3", "3"], "pixels are not kept"


def test_rows_and_masks_keep_the_order_asked_for():
    part = dataset(source()).rows(np.array([5, 0, 2]))
    np.testing.assert_array_equal(
        part.pixels()[:, 0, 0, 0], np.array([0.5, 0, 0.2], np.float32)
    )
    np.testing.assert_array_equal(part.images, part.pixels())
    masks = part.mask_pixels()
    assert masks is not None
    assert masks.shape == (3, 1, 2, 3)
    assert part.labels.tolist() == [1, 0, 0]


def test_a_reader_without_masks_is_not_asked_for_them():
    def read(key: str) -> Picture:
        raise AssertionError(key)

    assert dataset(source(read, masked=False)).mask_pixels() is None


def test_stored_content_decides_the_fingerprint():
    data = dataset(source())
    whole = data.fingerprint()
    data.rows(np.array([4, 1])).pixels()
    assert data.fingerprint() == whole
    others = [
        dataset(dataclasses.replace(source(), settings="resized")),
        dataset(dataclasses.replace(source(), shape=(3, 2, 4))),
        dataset(dataclasses.replace(source(), masked=False)),
        dataset(dataclasses.replace(source(), content=str.encode)),
        dataset(source(), labels=np.array([1, 1, 0, 1, 0, 1])),
        dataset(source(), index=np.arange(6)),
        data.rows(np.array([1, 0, 2, 3, 4, 5])),
    ]
    prints = {other.fingerprint() for other in others}
    assert len(prints | {whole}) == len(others) + 1


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (
            lambda key: Picture(np.zeros((3, 2, 2), np.float32)),
            r"0: read with shape \[3, 2, 2\], expected \[3, 2, 3\]\.",
        ),
        (
            lambda key: Picture(np.full((3, 2, 3), 255, np.float32)),
            r"0: read with pixels from 255 to 255, expected \[0, 1\]\.",
        ),
        (
            lambda key: Picture(np.full((3, 2, 3), np.nan, np.float32)),
            r"0: read with pixels from nan to nan",
        ),
        (
            lambda key: Picture(np.zeros((3, 2, 3), np.float32)),
            "0: its reader states a mask but does otherwise.",
        ),
        (
            lambda key: picture(key)._replace(mask=np.ones((1, 3, 2), np.float32)),
            r"0: its mask has shape \[1, 3, 2\], expected \[1, 2, 3\]\.",
        ),
        (
            lambda key: picture(key)._replace(mask=np.zeros((1, 2, 3), np.float32)),
            "0: its mask is 0 everywhere: no pixel would count.",
        ),
        (
            lambda key: picture(key)._replace(mask=np.full((1, 2, 3), -1, np.float32)),
            r"0: its mask goes from -1 to -1, expected weights in \[0, 1\]\.",
        ),
    ],
)
def test_what_a_reader_returns_is_checked(read: Callable[[str], Picture], message: str):
    with pytest.raises(RequestError, match=message):
        dataset(source(read)).pixels()


def test_masks_come_from_one_place():
    masks = np.ones((6, 1, 2, 3), np.float32)
    with pytest.raises(RequestError, match="masks in memory beside images"):
        dataset(source(), masks=masks)


def test_lengths_are_compared_without_reading():
    with pytest.raises(RequestError, match=r"different lengths \[5, 6\]"):
        dataset(source(count=5))


def test_bytes_become_shares_of_255():
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2) * 11
    images = byte_images(pixels, settings="bytes")
    expected = pixels.astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(images.pixels(), expected)
    assert images.shape == (3, 2, 2)
    assert images.pixels().max() <= 1
    changed = pixels.copy()
    changed[1, 2, 1, 1] ^= 1
    other = byte_images(changed, settings="bytes")
    assert other.row_fingerprints() != images.row_fingerprints()
    assert other.row_fingerprints()[0] == images.row_fingerprints()[0]
