"""Cars196 in the layout of the released code: kinds of cars, aligned by their boxes.

The training images of Krause et al. (3DRR 2013) under `FOLDER/images/images/` (or
`FOLDER/cars_train/`, as the archive unpacks) and its `FOLDER/devkit/`. The label is the
kind of car, the second-last word of the name of the class (`AM General Hummer SUV
2000`), as in `data_cars.py` of chail/gan-ensembling.

One departure: there the classifier sees a crop of the photograph as it is, the
generator its aligned form. Here everyone sees the aligned form, since attack,
classifier and projection must speak of the same pixels.
"""

import hashlib
import struct
import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from robustgen.data.alignment import Box, center_box
from robustgen.data.dataset import Dataset
from robustgen.data.decode import content_of, existing_folder, read_image, some_of
from robustgen.data.images import LazyImages, Picture
from robustgen.data.splits import halves_and_quarters
from robustgen.errors import RequestError, unknown_name

GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "threecars": ("SUV", "Sedan", "Cab"),
        "sixcars": ("SUV", "Sedan", "Hatchback", "Convertible", "Coupe", "Cab"),
        "suvsedan": ("SUV", "Sedan"),
    }
)
"""Sets of kinds that the released code knows, each in the order of its labels."""

IMAGE_FOLDERS = ("images/images", "cars_train")
ANNOTATIONS = "devkit/cars_train_annos.mat"
CLASSES = "devkit/cars_meta.mat"

_FIELDS = ("fname", "class", "bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")
# What scipy raises on files that are cut off or no MATLAB files at all.
_DAMAGES = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    NotImplementedError,
    OverflowError,
    MemoryError,
    MatReadError,
    struct.error,
    zlib.error,
)


class Car(NamedTuple):
    """A photograph and where the car is in it."""

    path: Path
    box: Box


class _Annotation(NamedTuple):
    file: str
    fine_class: int
    box: Box


def load_cars(
    folder: Path,
    *,
    group: str,
    width: int,
    content: tuple[int, int],
    canvas: int,
) -> Dataset:
    """Cars of some kinds; reads the annotations, but no image.

    Each fine class is cut into half, a quarter and a quarter in the order of the
    annotations, see `halves_and_quarters`. That order mixes the classes.

    Args:
        folder: Where the images and the devkit are.
        group: Which kinds, one of `GROUPS`.
        width: Width in pixels after resizing.
        content: Rows and columns of the canvas that a photograph may fill.
        canvas: Side of the images.

    Returns:
        Images with masks, see `robustgen.data.alignment.center_box`; the index is the
        number of the file.

    Raises:
        RequestError: the group is unknown, or a file is missing or damaged.
    """
    if group not in GROUPS:
        raise unknown_name("group of data set 'cars'", group, GROUPS)
    kinds = GROUPS[group]
    annotations = _annotations(folder / ANNOTATIONS)
    kind_of = _kinds(folder / CLASSES)
    for car in annotations:
        if not 1 <= car.fine_class <= len(kind_of):
            raise RequestError(
                f"{folder / ANNOTATIONS}: class {car.fine_class} of {car.file} is "
                f"outside 1 to {len(kind_of)}."
            )
    split = halves_and_quarters([car.fine_class for car in annotations])
    rows = [
        row
        for row, car in enumerate(annotations)
        if kind_of[car.fine_class - 1] in kinds
    ]
    chosen = [annotations[row] for row in rows]
    if not chosen:
        raise RequestError(
            f"{folder / ANNOTATIONS}: no car is of a kind of '{group}': "
            f"{', '.join(kinds)}."
        )
    images = existing_folder(folder, IMAGE_FOLDERS, "folder of images")
    there = {path.name for path in images.iterdir()}
    missing = [car.file for car in chosen if car.file not in there]
    if missing:
        # The split counts them, so it would be another one without them.
        raise RequestError(
            f"{images}: lacks {len(missing)} of {len(chosen)} annotated images: "
            f"{some_of(missing)}."
        )
    return Dataset(
        name="cars",
        images=LazyImages(
            keys=tuple(Car(images / car.file, car.box) for car in chosen),
            shape=(3, canvas, canvas),
            masked=True,
            read=partial(_read, width=width, content=content, canvas=canvas),
            content=_content,
            settings=f"cars, width {width}, content {content}, canvas {canvas}",
        ),
        labels=np.array(
            [kinds.index(kind_of[car.fine_class - 1]) for car in chosen], np.int64
        ),
        split=split[rows],
        index=np.array([int(Path(car.file).stem) for car in chosen], np.int64),
        class_names=kinds,
        flip=True,
    )


def _read(car: Car, *, width: int, content: tuple[int, int], canvas: int) -> Picture:
    image = read_image(car.path)
    return center_box(image, car.box, width=width, content=content, canvas=canvas)


def _content(car: Car) -> bytes:
    box = ",".join(str(edge) for edge in car.box)
    return hashlib.sha256(content_of(car.path) + box.encode()).digest()


def _annotations(path: Path) -> list[_Annotation]:
    """Every annotated car, in the order of the file."""
    records = np.atleast_1d(_variable(path, "annotations"))
    lacking = [f for f in _FIELDS if f not in (records.dtype.names or ())]
    if lacking:
        raise RequestError(f"{path}: the annotations lack {some_of(lacking)}.")
    found: list[_Annotation] = []
    for row, record in enumerate(records):
        file = str(record["fname"])
        try:
            numbers = [int(record[field]) for field in _FIELDS[1:]]
        except (TypeError, ValueError) as error:
            raise RequestError(
                f"{path}: annotation {row + 1} ({file}) holds no whole numbers."
            ) from error
        if not Path(file).stem.isdigit():
            raise RequestError(
                f"{path}: annotation {row + 1} names the file '{file}', expected a "
                "number such as 00001.jpg."
            )
        found.append(_Annotation(file, numbers[0], Box(*numbers[1:])))
    return found


def _kinds(path: Path) -> list[str]:
    """Kind of each class, the second-last word of its name."""
    names = [str(name) for name in np.atleast_1d(_variable(path, "class_names"))]
    for name in names:
        if len(name.split(" ")) < 2:
            raise RequestError(
                f"{path}: class '{name}' is no name with a kind and a year, such as "
                "'AM General Hummer SUV 2000'."
            )
    return [name.split(" ")[-2] for name in names]


def _variable(path: Path, name: str) -> Any:
    if not path.is_file():
        raise RequestError(f"{path}: no such file.")
    try:
        content = loadmat(path, squeeze_me=True)
    except _DAMAGES as error:
        raise RequestError(
            f"{path}: no MATLAB file, or one that is cut off or damaged. "
            "Fetch the devkit again."
        ) from error
    if name not in content:
        raise RequestError(f"{path}: holds no '{name}'. Is it another file's copy?")
    return content[name]
