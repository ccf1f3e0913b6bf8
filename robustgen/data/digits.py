"""scikit-learn's handwritten digits: real, 8x8, shipped with that package.

1,797 images of the UCI optical recognition data set. Enlarged to 32 px by cubic
interpolation, one channel.
"""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits as _load_arrays

from robustgen.data.dataset import Dataset
from robustgen.seeding import numpy_rng

SPLITS = {"train": 1197, "val": 200, "spare": 100, "test": 300}
"""Images of each split, drawn once by a fixed seed.

The 100 spare ones were looked at while the suite was designed, so nothing is reported
on them. No decision rests on the test images.
"""

SIDE = 32


def load_digits() -> Dataset:
    """All 1,797 digits, see `SPLITS`."""
    pixels, target = _load_arrays(return_X_y=True)
    small = torch.tensor(pixels, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    large = F.interpolate(small, size=SIDE, mode="bicubic", align_corners=False)
    order = numpy_rng(0, "digits", "split").permutation(len(small))
    split = np.empty(len(small), dtype="<U5")
    held_out = SPLITS["train"] + SPLITS["val"]
    order[held_out:].sort()
    start = 0
    for name, count in SPLITS.items():
        split[order[start : start + count]] = name
        start += count
    return Dataset(
        name="digits",
        images=large.clamp(0, 1).numpy(),
        labels=np.asarray(target, dtype=np.int64),
        split=split,
        index=np.arange(len(small), dtype=np.int64),
        class_names=tuple(str(k) for k in range(10)),
        flip=False,
    )
