"""A data set as one NumPy archive."""

import logging
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int64

from robustgen.data.dataset import Dataset
from robustgen.data.images import Pixels, UncheckedMasks
from robustgen.data.splits import hashed_halves_and_quarters
from robustgen.errors import RequestError, suggestion

KEYS = ("images", "labels", "split", "index", "masks", "class_names")
"""Arrays that an archive may hold; the first two it must."""

SPLITS = ("train", "val", "test")

Layout = Literal["nchw", "nhwc"]
"""Order of the axes: image, channel, row, column, or the channel last."""

_CHANNELS = (1, 3)
_DAMAGES = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)

log = logging.getLogger(__name__)


def load_npz(
    path: Path,
    *,
    layout: Layout | None = None,
    flip: bool = False,
    seed: int = 0,
    name: str | None = None,
) -> Dataset:
    """A data set from a file that `numpy.savez` wrote; objects are refused, not run.

    Args:
        path: An archive with
            `images`: bytes, or floats in [0, 1]; [N, C, H, W], [N, H, W, C] or, gray,
            [N, H, W];
            `labels`: whole numbers from 0, [N];
            `split`, optional: `train`, `val` or `test`, [N]. Without it each class is
            cut into half, a quarter and a quarter, in an order that hangs on the seed;
            `index`, optional: a whole number that identifies each image, [N]; the
            place where there is none;
            `masks`, optional: truth values, or floats in [0, 1], [N, H, W] or
            [N, 1, H, W];
            `class_names`, optional: K texts; numbers where there are none.
        layout: Order of the axes of `images`. None tells it by the axis of length 1 or
            3, logs what was found, and refuses where both axes are of such a length.
        flip: Whether a mirrored image is as plausible and keeps its label.
        seed: Of the split, where the file has none.
        name: Of the data set; that of the file where None.

    Raises:
        RequestError: the file is missing, damaged, lacks an array or has an unknown
            one, or an array is of another type or shape.
    """
    arrays = read_arrays(path, KEYS)
    images = _images(path, arrays["images"], layout)
    count = len(images)
    labels = _whole_numbers(path, "labels", arrays["labels"], count)
    index = np.arange(count, dtype=np.int64)
    if "index" in arrays:
        index = _whole_numbers(path, "index", arrays["index"], count)
    if "split" in arrays:
        split = _split(path, arrays["split"], count)
    else:
        names = [str(number) for number in index]
        split = hashed_halves_and_quarters(labels.tolist(), names, seed=seed)
    class_names = tuple(str(k) for k in range(int(labels.max(initial=0)) + 1))
    if "class_names" in arrays:
        class_names = tuple(_texts(path, "class_names", arrays["class_names"]))
    masks = _masks(path, arrays["masks"]) if "masks" in arrays else None
    return Dataset(
        name=name or path.stem,
        images=images,
        labels=labels,
        split=split,
        index=index,
        class_names=class_names,
        flip=flip,
        masks=masks,
    )


def read_arrays(path: Path, known: Sequence[str]) -> Mapping[str, np.ndarray]:
    """Every array of a file, by name; `images` and `labels` are among them.

    Args:
        path: An archive that `numpy.savez` wrote.
        known: Names that it may hold.

    Raises:
        RequestError: the file is missing, damaged, lacks images or labels, or holds an
            array of another name.
    """
    if not path.is_file():
        raise RequestError(f"{path}: no such file.")
    try:
        with path.open("rb") as stream:
            content = np.load(stream, allow_pickle=False)
            if isinstance(content, np.ndarray):
                raise RequestError(
                    f"{path}: a single array; write several by name with numpy.savez."
                )
            arrays = {key: content[key] for key in content.files}
    except _DAMAGES as error:
        raise RequestError(
            f"{path}: no NumPy archive of plain arrays, or one that is cut off or "
            f"damaged ({error})."
        ) from error
    for key in arrays:
        if key not in known:
            raise RequestError(
                f"{path}: unknown array '{key}'. {suggestion(key, known)}"
            )
    for key in ("images", "labels"):
        if key not in arrays:
            raise RequestError(f"{path}: lacks the array '{key}'.")
    return arrays


def _images(path: Path, images: np.ndarray, layout: Layout | None) -> Pixels:
    if images.ndim not in (3, 4):
        raise RequestError(
            f"{path}: images of shape {list(images.shape)}, expected [N, C, H, W], "
            "[N, H, W, C] or [N, H, W]."
        )
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise RequestError(
            f"{path}: images of type {images.dtype}, expected bytes (uint8) or floats "
            "in [0, 1]."
        )
    if images.ndim == 3:
        images = images[:, None]
    elif _layout(path, images.shape, layout) == "nhwc":
        images = images.transpose(0, 3, 1, 2)
    scale = 255 if images.dtype == np.uint8 else 1
    return np.ascontiguousarray(images.astype(np.float32) / np.float32(scale))


def _layout(path: Path, shape: tuple[int, ...], layout: Layout | None) -> Layout:
    if layout is not None:
        return layout
    first, last = shape[1] in _CHANNELS, shape[3] in _CHANNELS
    if first == last:
        raise RequestError(
            f"{path}: images of shape {list(shape)}; which axis is the channel? Say "
            "`layout: nchw` or `layout: nhwc`."
        )
    found: Layout = "nchw" if first else "nhwc"
    log.info("%s: images of shape %s read as %s", path, list(shape), found)
    return found


def _masks(path: Path, masks: np.ndarray) -> UncheckedMasks:
    if masks.dtype.kind not in "bf" or masks.ndim not in (3, 4):
        raise RequestError(
            f"{path}: masks of type {masks.dtype} and shape {list(masks.shape)}, "
            "expected truth values or floats in [0, 1], [N, H, W] or [N, 1, H, W]."
        )
    return (masks if masks.ndim == 4 else masks[:, None]).astype(np.float32)


def _whole_numbers(
    path: Path, key: str, values: np.ndarray, count: int
) -> Int64[np.ndarray, " n"]:
    if values.dtype.kind not in "iu" or values.shape != (count,):
        raise RequestError(
            f"{path}: {key} of type {values.dtype} and shape {list(values.shape)}, "
            f"expected {count} whole numbers."
        )
    return values.astype(np.int64)


def _split(path: Path, values: np.ndarray, count: int) -> np.ndarray:
    names = _texts(path, "split", values)
    if len(names) != count:
        raise RequestError(f"{path}: split of {len(names)} texts for {count} images.")
    for name in names:
        if name not in SPLITS:
            raise RequestError(f"{path}: split '{name}'. {suggestion(name, SPLITS)}")
    return np.array(names)


def _texts(path: Path, key: str, values: np.ndarray) -> list[str]:
    if values.dtype.kind not in "US" or values.ndim != 1:
        raise RequestError(
            f"{path}: {key} of type {values.dtype} and shape {list(values.shape)}, "
            "expected one axis of texts."
        )
    return [str(value) for value in values.astype(str)]
