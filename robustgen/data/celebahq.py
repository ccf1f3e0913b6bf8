"""CelebA-HQ in the layout of the released code: 1024 px faces with 40 attributes.

`FOLDER/images/images/NNNNNN.png`, named by the number of the photograph in CelebA, and
CelebA's own `list_attr_celeba.txt` and `list_eval_partition.txt`. Only photographs
that lie there count, in the order of their numbers, as in `data_celebahq.py` of
chail/gan-ensembling.
"""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from robustgen.data.dataset import Dataset
from robustgen.data.decode import (
    content_of,
    existing_folder,
    read_image,
    some_of,
    to_pixels,
)
from robustgen.data.images import LazyImages, Picture
from robustgen.errors import RequestError, unknown_name

IMAGE_FOLDERS = ("images/images",)
ATTRIBUTE_LIST = "list_attr_celeba.txt"
PARTITION_LIST = "list_eval_partition.txt"

SPLITS = ("train", "val", "test")
"""Names of the partitions 0, 1 and 2."""


def load_celebahq(folder: Path, *, attribute: str, resolution: int) -> Dataset:
    """CelebA-HQ with one attribute as its label; reads the lists, but no image.

    Only PNG files count. The JPEG copies that circulate are lossy and numbered by
    another order, so their labels would be wrong.

    Args:
        folder: Where the lists and the folder of images are.
        attribute: Label, one of the names in the head of the list, in any case.
        resolution: Side in pixels. Square files of another size are resized as
            torchvision's `Resize` does it: bilinear, averaging when it shrinks.

    Returns:
        Classes `not ATTRIBUTE` (0, listed as -1) and `ATTRIBUTE` (1); the index is the
        number in CelebA.

    Raises:
        RequestError: a list or the folder is missing, damaged or contradictory, the
            attribute is unknown, or a file is named in another way.
    """
    attributes = _lines(folder / ATTRIBUTE_LIST)
    names = _header(folder / ATTRIBUTE_LIST, attributes)
    column = {name.lower(): place for place, name in enumerate(names)}.get(
        attribute.lower()
    )
    if column is None:
        raise unknown_name("attribute of data set 'celebahq'", attribute, names)
    images = existing_folder(folder, IMAGE_FOLDERS, "folder of images")
    numbers = _numbers(images)
    listed = _attribute_column(folder / ATTRIBUTE_LIST, attributes, len(names), column)
    parts = _partitions(folder / PARTITION_LIST)
    for path, table in ((ATTRIBUTE_LIST, listed), (PARTITION_LIST, parts)):
        lacking = [name for name in numbers if name not in table]
        if lacking:
            raise RequestError(
                f"{folder / path}: no line for {len(lacking)} images of {images}: "
                f"{some_of(lacking)}."
            )
    words = names[column].replace("_", " ")
    return Dataset(
        name="celebahq",
        images=LazyImages(
            keys=tuple(images / f"{name}.png" for name in numbers),
            shape=(3, resolution, resolution),
            masked=False,
            read=partial(_read, resolution=resolution),
            content=content_of,
            settings=f"celebahq, {resolution} px, bilinear",
        ),
        labels=np.array([listed[name] for name in numbers], np.int64),
        split=np.array([SPLITS[parts[name]] for name in numbers]),
        index=np.array([int(name) for name in numbers], np.int64),
        class_names=(f"not {words}", words),
        flip=True,
    )


def attribute_names(folder: Path) -> tuple[str, ...]:
    """Names of the attributes, in the order of the list.

    Args:
        folder: Where the list is.

    Raises:
        RequestError: the list is missing or damaged.
    """
    path = folder / ATTRIBUTE_LIST
    return _header(path, _lines(path))


def _header(path: Path, lines: Sequence[str]) -> tuple[str, ...]:
    if len(lines) < 2 or not lines[0].strip().isdigit():
        raise RequestError(
            f"{path}: expected the number of images in line 1 and names of attributes "
            "in line 2."
        )
    if len(lines) - 2 != int(lines[0]):
        raise RequestError(
            f"{path}: line 1 says {int(lines[0])} images, but {len(lines) - 2} lines "
            "follow the names. Fetch it again."
        )
    return tuple(lines[1].split())


def _read(path: Path, *, resolution: int) -> Picture:
    image = read_image(path)
    if image.width != image.height:
        raise RequestError(
            f"{path}: {image.width} x {image.height} pixels; images of CelebA-HQ are "
            "square."
        )
    if image.width != resolution:
        image = image.resize((resolution, resolution), Image.Resampling.BILINEAR)
    return Picture(to_pixels(image))


def _numbers(images: Path) -> list[str]:
    """CelebA numbers, as six digits, of the files that are there."""
    files = [p.name for p in images.iterdir() if not p.name.startswith(".")]
    found = sorted(name for name in files if name.endswith(".png"))
    if not found:
        raise RequestError(
            f"{images}: no PNG file among {len(files)} files. Expected CelebA-HQ as "
            "PNG, named by the numbers of CelebA, such as 000004.png."
        )
    for name in found:
        if not re.fullmatch(r"\d{6}\.png", name):
            raise RequestError(
                f"{images / name}: not named by a number of CelebA in six digits, such "
                "as 000004.png. The numbers 0 to 29999 of CelebA-HQ itself are another "
                "order."
            )
    return [name.removesuffix(".png") for name in found]


def _attribute_column(
    path: Path, lines: Sequence[str], count: int, column: int
) -> dict[str, int]:
    """0 or 1 for each image of the list."""
    values: dict[str, int] = {}
    for number, line in enumerate(lines[2:], start=3):
        name, *row = line.split()
        if len(row) != count or row[column] not in ("-1", "1"):
            raise RequestError(
                f"{path}: line {number}: expected a file name and {count} values of -1 "
                "or 1."
            )
        values[name.partition(".")[0]] = int(row[column] == "1")
    return values


def _partitions(path: Path) -> dict[str, int]:
    """0, 1 or 2 for each image of the list."""
    parts: dict[str, int] = {}
    for number, line in enumerate(_lines(path), start=1):
        name, *part = line.split()
        if part not in (["0"], ["1"], ["2"]):
            raise RequestError(
                f"{path}: line {number}: expected a file name and 0 (train), 1 (val) "
                "or 2 (test)."
            )
        parts[name.partition(".")[0]] = int(part[0])
    return parts


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise RequestError(f"{path}: no such file.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{path}: cannot be read as text ({error}).") from error
    return [line for line in text.splitlines() if line.strip()]
