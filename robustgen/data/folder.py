"""A folder of image files, one subfolder for each class."""

import hashlib
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from robustgen.data.dataset import Dataset
from robustgen.data.decode import (
    SUFFIXES,
    content_of,
    image_size,
    read_image,
    some_of,
    squared,
    to_pixels,
)
from robustgen.data.images import LazyImages, Picture
from robustgen.data.splits import alternate, hashed_halves_and_quarters
from robustgen.errors import RequestError

SPLITS = ("train", "val", "test")

_INDEX_BITS = 52
"""Every whole number of so many bits survives a float, as in JSON and spreadsheets."""


class _File(NamedTuple):
    path: Path
    split: str
    class_name: str


def load_folder(
    folder: Path,
    *,
    resolution: int | None = None,
    flip: bool = False,
    seed: int = 0,
    name: str | None = None,
) -> Dataset:
    """Images of `FOLDER/{train,val,test}/CLASS/` or of `FOLDER/CLASS/`; reads no pixel.

    Without folders of splits each class is cut into half, a quarter and a quarter, in
    an order that hangs on the seed and the names of the files, see
    `hashed_halves_and_quarters`. Within a split the classes take turns, so that its
    first images are of all of them.

    Args:
        folder: The folder. Files with other endings than `SUFFIXES`, and what begins
            with a dot, are passed over.
        resolution: Side in pixels: the shorter side is resized to it (LANCZOS), then
            the middle is cut out. None takes the files as they are, all of one size.
        flip: Whether a mirrored image is as plausible and keeps its label.
        seed: Of the split, where the folder has none.
        name: Of the data set; the folder's where None.

    Returns:
        Classes in alphabetical order; the index is a hash of the path below the
        folder, so it stays when other files come or go.

    Raises:
        RequestError: the folder is missing, holds no classes or no images, or mixes
            folders of splits with others.
    """
    if not folder.is_dir():
        raise RequestError(f"{folder}: no such folder.")
    files = _files(folder)
    class_names = tuple(sorted({file.class_name for file in files}))
    labels = np.array([class_names.index(file.class_name) for file in files], np.int64)
    paths = [file.path.relative_to(folder).as_posix() for file in files]
    split = np.array([file.split for file in files])
    if not files[0].split:
        split = hashed_halves_and_quarters(labels.tolist(), paths, seed=seed)
    order = alternate(split, labels)
    if resolution is None:
        width, height = image_size(files[int(order[0])].path)
    else:
        width, height = resolution, resolution
    return Dataset(
        name=name or folder.resolve().name,
        images=LazyImages(
            keys=tuple(files[row].path for row in order),
            shape=(3, height, width),
            masked=False,
            read=partial(_read, size=(width, height), resize=resolution is not None),
            content=content_of,
            settings=f"folder, resolution {resolution}",
        ),
        labels=labels[order],
        split=split[order],
        index=np.array([_index(paths[row]) for row in order], np.int64),
        class_names=class_names,
        flip=flip,
    )


def _read(path: Path, *, size: tuple[int, int], resize: bool) -> Picture:
    image = read_image(path)
    if not resize and image.size != size:
        raise RequestError(
            f"{path}: {image.width} x {image.height} pixels, but the first image has "
            f"{size[0]} x {size[1]}. Give a `resolution` to make them alike."
        )
    if resize and image.size != size:
        image = squared(image, size[0])
    return Picture(to_pixels(image))


def _files(folder: Path) -> list[_File]:
    """Every image, sorted by its path; the split is empty where there is none."""
    inside = _subfolders(folder)
    splits = [sub for sub in inside if sub.name in SPLITS]
    others = [sub.name for sub in inside if sub.name not in SPLITS]
    if splits and others:
        raise RequestError(
            f"{folder}: holds {some_of(others)} beside folders of splits. Expected "
            "train, val and test alone, or classes alone."
        )
    files = [
        _File(path, split.name if splits else "", sub.name)
        for split in (splits or [folder])
        for sub in _subfolders(split)
        for path in sorted(sub.iterdir())
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    ]
    if not files:
        raise RequestError(
            f"{folder}: no images. Expected files such as CLASS/name.png or "
            f"test/CLASS/name.png, with one of the endings {', '.join(SUFFIXES)}."
        )
    return files


def _subfolders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")


def _index(path: str) -> int:
    digest = hashlib.blake2b(path.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> (64 - _INDEX_BITS)
