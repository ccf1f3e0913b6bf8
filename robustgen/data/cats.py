"""Aligned cats of the Oxford-IIIT Pet data set, in the layout of the released code.

`FOLDER/images/images/Abyssinian_1.png` (or `FOLDER/images/`): faces of 256 px, moved to
where the generator makes them and padded with mid-gray. The label is the breed, which
the name of the file begins with, as in `data_cats.py` of chail/gan-ensembling.
"""

import re
from functools import partial
from pathlib import Path

import numpy as np

from robustgen.data.dataset import Dataset
from robustgen.data.decode import (
    content_of,
    existing_folder,
    read_image,
    some_of,
    to_pixels,
)
from robustgen.data.images import LazyImages, Picture
from robustgen.data.masks import near_gray_mask
from robustgen.data.splits import alternate, halves_and_quarters
from robustgen.errors import RequestError

IMAGE_FOLDERS = ("images/images", "images")

NUMBERS_OF_A_BREED = 10_000
"""The index of an image is its number in the file's name, plus this times its class."""


def load_cats(folder: Path, *, resolution: int, mask_threshold: float) -> Dataset:
    """Cats by breed; reads the names of the files, but no image.

    Each breed is cut into half, a quarter and a quarter in the order of its sorted
    names (`Bengal_10` before `Bengal_2`), see `halves_and_quarters`. Within a split
    the breeds take turns, so that its first images are of all of them.

    Args:
        folder: Where the folder of images is.
        resolution: Side in pixels of every file. None is resized, since that would
            blur the border of the padding.
        mask_threshold: See `robustgen.data.masks.near_gray_mask`.

    Raises:
        RequestError: the folder is missing or holds no cats, or a file is named in
            another way.
    """
    images = existing_folder(folder, IMAGE_FOLDERS, "folder of images")
    # Dogs of the same data set begin with a small letter.
    files = sorted(p.name for p in images.iterdir() if re.match("[A-Z]", p.name))
    files = [name for name in files if name.endswith(".png")]
    if not files:
        raise RequestError(
            f"{images}: no PNG file of an aligned cat, such as Abyssinian_1.png."
        )
    matches = [re.fullmatch(r"([A-Za-z_]+)_(\d+)\.png", name) for name in files]
    strange = [name for name, m in zip(files, matches, strict=True) if m is None]
    if strange:
        raise RequestError(
            f"{images}: not named by breed and number, such as Abyssinian_1.png: "
            f"{some_of(strange)}."
        )
    breeds = [m[1].replace("_", " ") for m in matches if m is not None]
    numbers = np.array([int(m[2]) for m in matches if m is not None], np.int64)
    class_names = tuple(sorted(set(breeds)))
    labels = np.array([class_names.index(breed) for breed in breeds], np.int64)
    split = halves_and_quarters(breeds)
    order = alternate(split, labels)
    return Dataset(
        name="cats",
        images=LazyImages(
            keys=tuple(images / files[row] for row in order),
            shape=(3, resolution, resolution),
            masked=True,
            read=partial(_read, resolution=resolution, threshold=mask_threshold),
            content=content_of,
            settings=f"cats, {resolution} px, mask threshold {mask_threshold}",
        ),
        labels=labels[order],
        split=split[order],
        index=(labels * NUMBERS_OF_A_BREED + numbers)[order],
        class_names=class_names,
        flip=True,
    )


def _read(path: Path, *, resolution: int, threshold: float) -> Picture:
    image = read_image(path)
    if image.size != (resolution, resolution):
        raise RequestError(
            f"{path}: {image.width} x {image.height} pixels, expected {resolution} x "
            f"{resolution}. Is it an aligned cat?"
        )
    pixels = to_pixels(image)
    return Picture(pixels, near_gray_mask(pixels, threshold))
