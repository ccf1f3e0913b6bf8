"""CIFAR-10 from either of its archives, neither run as code.

`FOLDER/cifar-10-batches-bin/` (bytes) or `FOLDER/cifar-10-batches-py/` (pickles, which
are read for plain values and arrays alone).
"""

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64, UInt8

from robustgen.data.dataset import Dataset
from robustgen.data.decode import existing_folder
from robustgen.data.images import byte_images
from robustgen.errors import RequestError

CLASS_NAMES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)

_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32
_BINARY, _PYTHON = "cifar-10-batches-bin", "cifar-10-batches-py"
_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
_TEST = "test_batch"


class _Batch(NamedTuple):
    pixels: UInt8[np.ndarray, "n 3 32 32"]
    labels: Int64[np.ndarray, " n"]


def load_cifar10(folder: Path, *, val: int) -> Dataset:
    """CIFAR-10; stays bytes in memory (184 MB) until pixels are asked for.

    Args:
        folder: Where the unpacked archive is; the binary one is preferred.
        val: Images at the end of the training batches that validate instead. The
            released code takes 5,000 of 50,000.

    Returns:
        The index is the place in the training batches, and goes on with the test batch.

    Raises:
        RequestError: a file is missing, cut off or damaged, or `val` leaves no image
            for training.
    """
    source = existing_folder(folder, (_BINARY, _PYTHON), "unpacked CIFAR-10")
    read = _read_binary if source.name == _BINARY else _read_python
    suffix = ".bin" if source.name == _BINARY else ""
    batches = [read(source / f"{name}{suffix}") for name in (*_TRAIN, _TEST)]
    pixels = np.concatenate([batch.pixels for batch in batches])
    labels = np.concatenate([batch.labels for batch in batches])
    test = len(batches[-1].labels)
    train = len(labels) - test - val
    if val < 0 or train < 1:
        raise RequestError(
            f"{source}: {val} validation images of {len(labels) - test} training "
            "images asked for."
        )
    return Dataset(
        name="cifar10",
        images=byte_images(pixels, settings="cifar10"),
        labels=labels,
        split=np.repeat(["train", "val", "test"], [train, val, test]),
        index=np.arange(len(labels), dtype=np.int64),
        class_names=CLASS_NAMES,
        flip=True,
    )


def _read_binary(path: Path) -> _Batch:
    """Records of a label and three planes, one byte each."""
    content = _bytes(path)
    if not content or len(content) % (1 + _PIXELS):
        raise RequestError(
            f"{path}: {len(content)} bytes, expected a multiple of {1 + _PIXELS}. It "
            "is cut off or another file; unpack the archive again."
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, 1 + _PIXELS)
    return _Batch(records[:, 1:].reshape(-1, *_SHAPE), records[:, 0].astype(np.int64))


def _read_python(path: Path) -> _Batch:
    """A pickled dictionary of an array of bytes and a list of labels."""
    content = _bytes(path)
    try:
        batch = _PlainUnpickler(content).load()
        pixels = np.asarray(batch[b"data"])
        labels = np.asarray(batch[b"labels"], np.int64)
    except Exception as error:
        # A damaged pickle may raise anything at all.
        raise RequestError(
            f"{path}: no batch of CIFAR-10, or one that is cut off or damaged "
            f"({error}). Unpack the archive again."
        ) from error
    if pixels.dtype != np.uint8 or pixels.shape != (len(labels), _PIXELS):
        raise RequestError(
            f"{path}: {pixels.dtype} of shape {list(pixels.shape)} with {len(labels)} "
            f"labels, expected bytes of shape [N, {_PIXELS}]."
        )
    return _Batch(pixels.reshape(-1, *_SHAPE), labels)


class _PlainUnpickler(pickle.Unpickler):
    """Reads dictionaries, lists, numbers, bytes and NumPy arrays, and nothing else."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")

    def find_class(self, module: str, name: str, /) -> Any:
        """The few names that an array needs; all others end the reading."""
        known = _ARRAY_NAMES.get((module, name))
        if known is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return known


def _plain_dtype(code: bytes | str, align: object = 0, copy: object = 0) -> np.dtype:
    """A type of numbers; old pickles state its alignment in a way that warns."""
    name = code.decode("ascii") if isinstance(code, bytes) else code
    dtype = np.dtype(name)
    if dtype.kind not in "biu":
        raise pickle.UnpicklingError(f"it holds an array of {dtype}")
    return dtype


_ARRAY_NAMES: Mapping[tuple[str, str], Any] = MappingProxyType(
    {
        # What NumPy itself names, under the old and the new name of its module.
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): _plain_dtype,
    }
)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise RequestError(f"{path}: no such file.") from error
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror}).") from error
