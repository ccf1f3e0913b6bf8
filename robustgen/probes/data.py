"""Whether the data are what the suite asked for."""

import hashlib

import numpy as np

from robustgen.data.dataset import Dataset
from robustgen.evidence import DataEvidence


def probe_data(part: Dataset, split: str, asked: int) -> DataEvidence:
    """Counts, labels and repeated images of one split (S16).

    Args:
        part: The images of the split that were evaluated.
        split: `val` or `test`.
        asked: How many the suite asked for.
    """
    counts = np.bincount(part.labels, minlength=len(part.class_names))
    # One image at a time: a split may be larger than memory.
    digests = {
        hashlib.sha256(part.rows(slice(row, row + 1)).pixels().tobytes()).digest()
        for row in range(len(part.index))
    }
    return DataEvidence(
        split=split,
        asked=asked,
        found=len(part.index),
        label_counts=tuple(int(count) for count in counts),
        duplicate_images=len(part.index) - len(digests),
    )
