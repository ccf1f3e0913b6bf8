"""What every data set is, wherever it comes from."""

import hashlib
from typing import Any, Final

import numpy as np
from jaxtyping import Int64

from robustgen.data.images import (
    ArrayImages,
    LazyImages,
    MaskPixels,
    Pixels,
    Rows,
    Shape,
    UncheckedMasks,
)
from robustgen.errors import RequestError


class Dataset:
    """Images with labels and fixed splits, in memory or read when needed.

    Args:
        name: Shown in every output.
        images: Pixels in [0, 1], [N, C, H, W], or a source that reads them.
        labels: Classes from 0 to K - 1, [N].
        split: `train`, `val` or `test` of each image, [N].
        index: Number that identifies each image for ever, [N]; every random draw made
            for an image hangs on it.
        class_names: Names of the K classes.
        flip: Whether a mirrored image is as plausible and keeps its label.
        masks: Weights in [0, 1] of the pixels that count, [N, 1, H, W], for images in
            memory; None where all count. A source that reads brings its own.

    Raises:
        RequestError: lengths differ, there is no image, an index occurs twice, a label
            is out of range, or pixels or masks in memory are. Pixels that are read are
            checked when they are.
    """

    def __init__(
        self,
        *,
        name: str,
        images: Pixels | LazyImages[Any],
        # Axes of their own: a wrong length gets our message, not a type checker's.
        labels: Int64[np.ndarray, " labels"],
        split: np.ndarray,
        index: Int64[np.ndarray, " index"],
        class_names: tuple[str, ...],
        flip: bool,
        masks: UncheckedMasks | None = None,
    ) -> None:
        self.name: Final = name
        self.labels: Final = labels
        self.split: Final = split
        self.index: Final = index
        self.class_names: Final = class_names
        self.flip: Final = flip
        self._source: Final = _source(name, images, masks)
        self._check()

    def __len__(self) -> int:
        return len(self.index)

    @property
    def image_shape(self) -> Shape:
        """Channels, height and width of every image; nothing is read."""
        return self._source.shape

    @property
    def images(self) -> Pixels:
        """The same as `pixels()`, for a data set known to lie in memory."""
        return self.pixels()

    def pixels(self) -> Pixels:
        """All images, [N, C, H, W]. Take a part first: a lazy data set reads them all.

        Raises:
            RequestError: a file is missing, damaged, or no image of the stated size.
        """
        return self._source.pixels()

    def mask_pixels(self) -> MaskPixels | None:
        """Weights of the pixels, [N, 1, H, W]; None where all count alike.

        Raises:
            RequestError: see `pixels`.
        """
        return self._source.mask_pixels()

    def row_fingerprints(self) -> list[str]:
        """SHA-256 over image, mask, label and index of each image, in stored order.

        A lazy data set hashes the bytes of its files and its reader's settings instead
        of the pixels.

        Raises:
            RequestError: a file is missing.
        """
        rows = zip(
            self._source.row_fingerprints(), self.labels, self.index, strict=True
        )
        return [
            hashlib.sha256(f"{row} {label} {index}".encode()).hexdigest()
            for row, label, index in rows
        ]

    def fingerprint(self) -> str:
        """SHA-256 over `row_fingerprints`.

        Raises:
            RequestError: a file is missing.
        """
        return hashlib.sha256(" ".join(self.row_fingerprints()).encode()).hexdigest()

    def part(self, split: str, count: int | None = None) -> "Dataset":
        """The first `count` images of a split (all where None), in stored order.

        Raises:
            RequestError: the split is empty or has fewer images than asked for.
        """
        rows = np.flatnonzero(self.split == split)
        if count is not None and count > len(rows):
            raise RequestError(
                f"data set '{self.name}': {count} {split} images asked for, but it has "
                f"{len(rows)}. Lower `splits.{split}`."
            )
        if not len(rows):
            names, counts = np.unique(self.split, return_counts=True)
            there = ", ".join(
                f"{n} {name}" for name, n in zip(names, counts, strict=True)
            )
            raise RequestError(
                f"data set '{self.name}': no {split} images; it has {there}."
            )
        return self.rows(rows[:count])

    def rows(self, rows: Rows) -> "Dataset":
        """Some of the images, in the order of `rows`; nothing is read."""
        part = self._source.take(rows)
        in_memory = isinstance(part, ArrayImages)
        return Dataset(
            name=self.name,
            images=part.images if in_memory else part,
            labels=self.labels[rows],
            split=self.split[rows],
            index=self.index[rows],
            class_names=self.class_names,
            flip=self.flip,
            masks=part.masks if in_memory else None,
        )

    def _check(self) -> None:
        sizes = {len(self._source), len(self.labels), len(self.split), len(self.index)}
        if len(sizes) != 1:
            raise RequestError(
                f"data set '{self.name}': images, labels, split and index have "
                f"different lengths {sorted(sizes)}."
            )
        if not len(self):
            raise RequestError(f"data set '{self.name}': no images.")
        if isinstance(self._source, ArrayImages):
            self._source.check(self.name)
        known = len(self.class_names)
        bad = (self.labels < 0) | (self.labels >= known)
        if bad.any():
            raise RequestError(
                f"data set '{self.name}': label {int(self.labels[bad][0])} of image "
                f"{int(self.index[bad][0])} is outside 0 to {known - 1}."
            )
        if len(np.unique(self.index)) != len(self.index):
            raise RequestError(f"data set '{self.name}': an index occurs twice.")


def _source(
    name: str, images: Pixels | LazyImages[Any], masks: UncheckedMasks | None
) -> ArrayImages | LazyImages[Any]:
    if not isinstance(images, LazyImages):
        return ArrayImages(images, masks)
    if masks is not None:
        raise RequestError(
            f"data set '{name}': masks in memory beside images that are read; let the "
            "reader give them."
        )
    return images
