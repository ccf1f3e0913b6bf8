"""SMILEs: 64 px photographs of faces, gray, labeled by whether they smile.

The set of the repository hromi/SMILEsmileD (Hromada et al., 2010): faces cut out of
photographs of several sources, with the light and pose that they had. 28% of them
smile. The file is made by `robustgen.assembling`; docs/data.md is its card.
"""

from importlib import resources
from pathlib import Path

import numpy as np

from robustgen.data.dataset import Dataset
from robustgen.data.duplicates import digest
from robustgen.data.images import byte_images
from robustgen.data.splits import DROPPED
from robustgen.data.stored import read_stored

FILE = "smiles/smiles64.npz"
"""Where the file lies below the folder of data sets."""

CLASS_NAMES = ("not smiling", "smiling")

SIDE = 64


def load_smiles(folder: Path) -> Dataset:
    """All photographs; stays bytes in memory (49 MB) until pixels are asked for.

    Training and validation images that resemble a held-out one too much have the split
    `dropped`: see `robustgen.data.duplicates`.

    Args:
        folder: Folder of data sets; the file is `smiles/smiles64.npz` below it.

    Returns:
        The index is the place in the file.

    Raises:
        RequestError: the file is missing, damaged, or another one.
    """
    stored = read_stored(folder / FILE, SIDE, len(CLASS_NAMES), fetched_as="smiles")
    split = stored.split.astype("<U7")
    known = dropped_images()
    rows = zip(stored.images, stored.split, strict=True)
    split[[(digest(image), str(name)) in known for image, name in rows]] = DROPPED
    return Dataset(
        name="smiles",
        images=byte_images(stored.images[:, None], "smiles64.npz, gray / 255"),
        labels=stored.labels,
        split=split,
        index=np.arange(len(split), dtype=np.int64),
        class_names=CLASS_NAMES,
        flip=True,
    )


def dropped_images() -> frozenset[tuple[str, str]]:
    """Digests of the images that are left out, each with the split it stood in."""
    text = resources.files("robustgen.data").joinpath("smiles_dropped.txt").read_text()
    lines = [line.split() for line in text.splitlines() if not line.startswith("#")]
    return frozenset((line[0], line[1]) for line in lines)
