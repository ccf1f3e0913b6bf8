"""What every data set is, wherever it comes from."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from robustgen.errors import RequestError


@dataclass(frozen=True)
class Dataset:
    """Images with labels and fixed splits.

    Args:
        name: Shown in every output.
        images: Pixels in [0, 1], [N, C, H, W].
        labels: Classes from 0 to K - 1, [N].
        split: `train`, `val` or `test` of each image, [N].
        index: Number that identifies each image for ever, [N]; every random draw made
            for an image hangs on it.
        class_names: Names of the K classes.
        flip: Whether a mirrored image is as plausible and keeps its label.
    """

    name: str
    images: Float32[np.ndarray, "n c h w"]
    # Axes of their own: a wrong length gets our message, not a type checker's.
    labels: Int64[np.ndarray, " labels"]
    split: np.ndarray
    index: Int64[np.ndarray, " index"]
    class_names: tuple[str, ...]
    flip: bool

    def __post_init__(self) -> None:
        sizes = {len(self.images), len(self.labels), len(self.split), len(self.index)}
        if len(sizes) != 1:
            raise RequestError(
                f"data set '{self.name}': images, labels, split and index have "
                f"different lengths {sorted(sizes)}."
            )
        if not len(self.images):
            raise RequestError(f"data set '{self.name}': no images.")
        low, high = float(self.images.min()), float(self.images.max())
        if not (low >= 0 and high <= 1):
            raise RequestError(
                f"data set '{self.name}': pixels from {low:g} to {high:g}, expected "
                "[0, 1]. Divide 8-bit images by 255."
            )
        known = len(self.class_names)
        bad = (self.labels < 0) | (self.labels >= known)
        if bad.any():
            raise RequestError(
                f"data set '{self.name}': label {int(self.labels[bad][0])} of image "
                f"{int(self.index[bad][0])} is outside 0 to {known - 1}."
            )
        if len(np.unique(self.index)) != len(self.index):
            raise RequestError(f"data set '{self.name}': an index occurs twice.")

    def part(self, split: str, count: int | None = None) -> "Dataset":
        """The first `count` images of a split (all where None), in stored order.

        Raises:
            RequestError: the split has fewer images than asked for.
        """
        rows = np.flatnonzero(self.split == split)
        if count is not None and count > len(rows):
            raise RequestError(
                f"data set '{self.name}': {count} {split} images asked for, but it has "
                f"{len(rows)}. Lower `splits.{split}`."
            )
        return self.rows(rows[:count])

    def rows(self, rows: "slice | Int64[np.ndarray, ' rows']") -> "Dataset":
        """Some of the images, in the order of `rows`."""
        return Dataset(
            name=self.name,
            images=self.images[rows],
            labels=self.labels[rows],
            split=self.split[rows],
            index=self.index[rows],
            class_names=self.class_names,
            flip=self.flip,
        )
