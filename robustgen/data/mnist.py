"""MNIST's test images, padded to 32 px.

The published defense's data (Samangouei et al., arXiv:1805.06605). The file holds the
first 8,000 of the 10,000 test images in the official order: 6,000 train, 1,000
validate, 1,000 test. The published figures are of the 60,000 training images.

All 8,000 images differ, and none is dropped: handwritten digits of a kind resemble each
other without being copies. By the measure of `robustgen.data.duplicates` 17 training
and validation images reach 0.99, all of them ones, none reaches 0.999; at 0.92, the
threshold of SMILEs, it would be 1,757 of 7,000 (`benchmarks/duplicates.py mnist 0.99`).
"""

from pathlib import Path

import numpy as np

from robustgen.data.dataset import Dataset
from robustgen.data.images import byte_images
from robustgen.data.stored import read_stored

FILE = "mnist/mnist8k.npz"
"""Where the file lies below the folder of data sets."""

_STORED_SIDE, _BORDER = 28, 2

SIDE = _STORED_SIDE + 2 * _BORDER


def load_mnist(folder: Path) -> Dataset:
    """All digits, with a black border of 2 px on each side.

    Args:
        folder: Folder of data sets; the file is `mnist/mnist8k.npz` below it.

    Returns:
        The index is the place in the file, which is that in MNIST's test images.

    Raises:
        RequestError: the file is missing, damaged, or another one.
    """
    stored = read_stored(folder / FILE, _STORED_SIDE, 10, fetched_as="mnist")
    border = ((0, 0), (_BORDER, _BORDER), (_BORDER, _BORDER))
    return Dataset(
        name="mnist",
        images=byte_images(
            np.pad(stored.images, border)[:, None], "mnist8k.npz, padded to 32, / 255"
        ),
        labels=stored.labels,
        split=stored.split,
        index=np.arange(len(stored.split), dtype=np.int64),
        class_names=tuple(str(k) for k in range(10)),
        flip=False,
    )
