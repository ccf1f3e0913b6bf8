"""Near-duplicates: photographs of the same shot, cut or lit otherwise.

An image that is scored and was trained on measures memory. Two images are compared by
the normalized correlation of small thumbnails, over mirroring and shifts: a thumbnail
is gray and 32 px on a side, and its 28 px windows are averaged to 14 px. Means and
norms are divided out, so brightness and contrast do not count; a copy that is mirrored,
or cut up to 2 px of the thumbnail (4 px of 64) further aside, is still found.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from robustgen.errors import RequestError

THUMBNAIL_SIDE = 32

SHIFT = 2
"""Pixels of the thumbnail by which a copy may be cut aside, in each direction."""

_WINDOW = THUMBNAIL_SIDE - 2 * SHIFT

_BATCH = 1024
"""Images compared at a time; bounds the memory of a comparison."""

_LEAST_NORM = np.float32(1e-6)
"""Added to norms, so that a flat image resembles nothing."""


class NearDuplicate(NamedTuple):
    """An image that resembles a held-out one.

    Args:
        row: Its place.
        held_out: Place of the held-out image that it resembles most.
        similarity: Normalized correlation of the two, in [-1, 1].
    """

    row: int
    held_out: int
    similarity: float


def near_duplicates(
    images: UInt8[np.ndarray, "n h w"], split: np.ndarray, *, threshold: float
) -> list[NearDuplicate]:
    """Images to leave out, so that no network has seen what it is scored on.

    The test split stays whole. A validation image is listed if it resembles a test
    image; a training image if it resembles either, listed validation images included.

    Args:
        images: Gray bytes; their side is a multiple of 32 px.
        split: `train`, `val` or `test` of each image, [N].
        threshold: Least similarity that counts. A lower one also drops images that are
            merely alike, a higher one keeps copies that were edited more.

    Returns:
        At most one entry for each image, in the order of the images.

    Raises:
        RequestError: the images are of another size.
    """
    found: list[NearDuplicate] = []
    for name, scored in (("train", ("val", "test")), ("val", ("test",))):
        held_out = np.flatnonzero(np.isin(split, scored))
        if not len(held_out):
            continue
        rows = np.flatnonzero(split == name)
        for start in range(0, len(rows), _BATCH):
            batch = rows[start : start + _BATCH]
            alike = similarities(images[batch], images[held_out])
            best = alike.argmax(axis=1)
            found += [
                NearDuplicate(int(row), int(held_out[place]), float(line[place]))
                for row, place, line in zip(batch, best, alike, strict=True)
                if line[place] >= threshold
            ]
    return sorted(found)


def similarities(
    images: UInt8[np.ndarray, "n h w"], others: UInt8[np.ndarray, "m h w"]
) -> Float32[np.ndarray, "n m"]:
    """Largest normalized correlation of each pair, over mirroring and shifts.

    Args:
        images: Gray bytes; these are mirrored and shifted.
        others: What they are compared with.

    Raises:
        RequestError: the images are not square, or their side is no multiple of 32 px.
    """
    moved, fixed = _thumbnails(images), _thumbnails(others)
    target = _window(fixed, SHIFT, SHIFT).T
    best = np.full((len(images), len(others)), -1, np.float32)
    for thumbnails in (moved, moved[:, :, ::-1]):
        for top in range(2 * SHIFT + 1):
            for left in range(2 * SHIFT + 1):
                np.maximum(best, _window(thumbnails, top, left) @ target, out=best)
    return best


def digest(image: UInt8[np.ndarray, "h w"]) -> str:
    """First 16 hexadecimal digits of the SHA-256 of an image's bytes."""
    return hashlib.sha256(image.tobytes()).hexdigest()[:16]


def dropped_lines(
    images: UInt8[np.ndarray, "n h w"],
    split: np.ndarray,
    found: Sequence[NearDuplicate],
) -> list[str]:
    """The lines of a list of dropped images, such as `smiles_dropped.txt`, sorted.

    Args:
        images: Gray bytes.
        split: `train`, `val` or `test` of each image, [N].
        found: What `near_duplicates` found among them.

    Returns:
        The digest of each image, its split, the similarity to the held-out image that
        it resembles most, and digest and split of that one.
    """
    return sorted(
        f"{digest(images[one.row])} {split[one.row]} {one.similarity:.3f} "
        f"{digest(images[one.held_out])} {split[one.held_out]}"
        for one in found
    )


def _thumbnails(images: UInt8[np.ndarray, "n h w"]) -> Float32[np.ndarray, "n 32 32"]:
    """Means of square blocks of pixels."""
    count, rows, columns = images.shape
    block, rest = divmod(rows, THUMBNAIL_SIDE)
    if rows != columns or rest or not block:
        raise RequestError(
            f"images of {rows} x {columns} pixels; expected squares whose side is a "
            f"multiple of {THUMBNAIL_SIDE}. Pad them."
        )
    return _means(images, THUMBNAIL_SIDE).reshape(count, THUMBNAIL_SIDE, THUMBNAIL_SIDE)


def _window(
    thumbnails: Float32[np.ndarray, "n 32 32"], top: int, left: int
) -> Float32[np.ndarray, "n window"]:
    """A window of each thumbnail, averaged to half its size, of mean 0 and norm 1."""
    cut = thumbnails[:, top : top + _WINDOW, left : left + _WINDOW]
    flat = _means(cut, _WINDOW // 2)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return flat / (np.linalg.norm(flat, axis=1, keepdims=True) + _LEAST_NORM)


def _means(images: np.ndarray, side: int) -> Float32[np.ndarray, "n cells"]:
    """Means of the square blocks that make `side` rows and columns of an image."""
    count, rows, _ = images.shape
    block = rows // side
    return (
        images.reshape(count, side, block, side, block)
        .mean(axis=(2, 4), dtype=np.float32)
        .reshape(count, side * side)
    )
