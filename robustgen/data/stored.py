"""Small gray data sets that lie in one file: bytes, labels and splits."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from robustgen.data.npz import SPLITS, read_arrays
from robustgen.errors import RequestError

_KEYS = ("images", "labels", "split", "names")


@dataclass(frozen=True)
class Stored:
    """What the file holds.

    Args:
        images: Gray bytes, [N, H, W].
        labels: Classes, [N].
        split: `train`, `val` or `test`, [N].
    """

    images: UInt8[np.ndarray, "n h w"]
    labels: Int64[np.ndarray, " n"]
    split: np.ndarray


def read_stored(path: Path, side: int, classes: int, *, fetched_as: str) -> Stored:
    """Reads such a file and checks it.

    Args:
        path: The file.
        side: Of every image, in pixels.
        classes: Labels are from 0 to one less.
        fetched_as: Name that `robustgen fetch` knows it by.

    Raises:
        RequestError: the file is missing, damaged, or another one.
    """
    if not path.is_file():
        raise RequestError(
            f"{path}: no such file. Fetch it: robustgen fetch {fetched_as}; or set "
            f"ROBUSTGEN_DATA to the folder that holds {path.parent.name}/{path.name}."
        )
    arrays = read_arrays(path, _KEYS)
    images, labels = arrays["images"], arrays["labels"]
    split = arrays.get("split", np.empty(0))
    count = len(images)
    if images.shape != (count, side, side) or images.dtype != np.uint8 or not count:
        raise RequestError(
            f"{path}: images of shape {list(images.shape)} and type {images.dtype}, "
            f"expected bytes, [N, {side}, {side}]."
        )
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise RequestError(
            f"{path}: labels of shape {list(labels.shape)} and type {labels.dtype}, "
            f"expected {count} whole numbers."
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise RequestError(
            f"{path}: labels from {labels.min()} to {labels.max()}, expected 0 to "
            f"{classes - 1}."
        )
    if split.shape != (count,) or not np.isin(split, SPLITS).all():
        raise RequestError(
            f"{path}: split is not {count} of {', '.join(SPLITS)}; the file is another "
            f"one than `robustgen fetch {fetched_as}` writes."
        )
    return Stored(images, labels.astype(np.int64), split.astype("<U5"))
