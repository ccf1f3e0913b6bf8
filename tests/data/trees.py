"""Small data sets on disk, in the layouts that the published ones are unpacked in.

Their pictures are drawn, so that labels can be learned from the pixels. `tests/` is on
the path of its own tests, so those beside `tests/data` import `data.trees`.
"""

import pickle
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from robustgen.data.faces import FaceParameters, draw_faces, render_faces

CELEBA_HEADER = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips "
    "Big_Nose Black_Hair Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby "
    "Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male "
    "Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose "
    "Receding_Hairline Rosy_Cheeks Sideburns Smiling Straight_Hair Wavy_Hair "
    "Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace Wearing_Necktie "
    "Young"
)
"""The 40 names in the head of CelebA's list."""

PARTITIONS = (0, 0, 1, 2)
"""Partition of every fourth face, in turn: half train, the rest val and test."""

CAR_CLASSES = (
    "AM General Hummer SUV 2000",
    "Acura RL Sedan 2012",
    "Aston Martin V8 Vantage Coupe 2012",
    "Chevrolet Silverado 1500 Hybrid Crew Cab 2012",
    "BMW X5 SUV 2007",
)
"""Names of the fine classes 1 to 5; a coupe is not among the three kinds."""

CAT_BREEDS = ("Abyssinian", "Bengal", "Maine_Coon")

CIFAR_RECORD = 1 + 3 * 32 * 32
"""Bytes of an image and its label in the binary archive."""

_GRAY = 128
_BLOND = 3
_SCALE = 1.15
_DRAWN_AT = 64
"""Largest side that a face is painted at; larger pictures are enlarged."""


def celebahq_tree(folder: Path, count: int, resolution: int) -> list[int]:
    """CelebA-HQ with `count` faces that smile broadly or frown, in turn in each split.

    Heads are upright and mouths closed, so that few images teach a smile. The lists
    name all photographs of CelebA up to the last, four of five of which are not in
    CelebA-HQ. `Smiling` and `Blond_Hair` are true of the picture, `Male` of odd
    numbers; the other attributes are of none.

    Returns:
        Numbers of the faces in CelebA: 4, 9, 14 and so on.
    """
    images = folder / "images" / "images"
    images.mkdir(parents=True)
    smiling = (np.arange(count) // len(PARTITIONS)) % 2 == 1
    faces = draw_faces(0, "tree", range(count))
    still = np.zeros(count, np.float32)
    changes = {
        "curvature": np.where(smiling, 1, -1).astype(np.float32),
        "scale": np.full(count, _SCALE, np.float32),
        **{name: still for name in ("roll", "yaw", "pitch", "mouth_open")},
    }
    faces = FaceParameters(**{**vars(faces), **changes})
    numbers = [5 * place + 4 for place in range(count)]
    drawn = render_faces(faces, min(resolution, _DRAWN_AT))
    for number, pixels in zip(numbers, drawn, strict=True):
        picture = _picture(pixels).resize((resolution, resolution))
        picture.save(images / f"{number:06d}.png")
    rows = [f"{numbers[-1]}", CELEBA_HEADER + " "]
    parts: list[str] = []
    for number in range(1, numbers[-1] + 1):
        place = number // 5
        values = dict.fromkeys(CELEBA_HEADER.split(), -1)
        values["Male"] = 1 if number % 2 else -1
        values["Smiling"] = 1 if smiling[place] else -1
        values["Blond_Hair"] = 1 if faces.hair_kind[place] == _BLOND else -1
        listed = " ".join(f"{value:2d}" for value in values.values())
        rows.append(f"{number:06d}.jpg {listed}")
        parts.append(f"{number:06d}.jpg {PARTITIONS[place % len(PARTITIONS)]}")
    (folder / "list_attr_celeba.txt").write_text("\n".join(rows) + "\n")
    (folder / "list_eval_partition.txt").write_text("\n".join(parts) + "\n")
    return numbers


def cars_tree(
    folder: Path,
    classes: Sequence[int],
    size: tuple[int, int] = (120, 80),
    images: str = "images/images",
) -> list[tuple[int, int, int, int]]:
    """Cars196 with one photograph for each fine class (from 1) that is listed.

    A photograph is a color that tells the class, with a white car of a third of its
    width and height, off its middle.

    Args:
        folder: Where the tree is made.
        classes: Fine class of each photograph, in file order.
        size: Width and height of the photographs.
        images: Folder of the photographs.

    Returns:
        Box of each car: left, top, right, bottom.
    """
    (folder / images).mkdir(parents=True)
    (folder / "devkit").mkdir()
    width, height = size
    boxes: list[tuple[int, int, int, int]] = []
    for place, fine_class in enumerate(classes):
        left, top = width // 8 + place % 3, height // 2 - place % 3
        boxes.append((left, top, left + width // 3, top + height // 3))
        canvas = np.empty((height, width, 3), np.uint8)
        canvas[:] = (40 * fine_class, 250 - 40 * fine_class, 90)
        canvas[top : top + height // 3, left : left + width // 3] = 255
        picture = Image.fromarray(canvas)
        picture.save(folder / images / f"{place + 1:05d}.jpg", quality=95)
    fields = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")
    records = np.empty((1, len(classes)), [(name, "O") for name in fields])
    for place, (fine_class, box) in enumerate(zip(classes, boxes, strict=True)):
        numbers = [np.uint16(edge) for edge in box]
        records[0, place] = (*numbers, np.uint8(fine_class), f"{place + 1:05d}.jpg")
    names = np.empty((1, len(CAR_CLASSES)), object)
    names[0] = CAR_CLASSES
    savemat(folder / "devkit" / "cars_train_annos.mat", {"annotations": records})
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": names})
    return boxes


def cats_tree(
    folder: Path,
    per_breed: int,
    resolution: int,
    breeds: Sequence[str] = CAT_BREEDS,
    images: str = "images/images",
) -> None:
    """Aligned cats: a color that tells the breed, mid-gray in the upper quarter.

    A dog lies beside them, as in the data set that they are of.
    """
    (folder / images).mkdir(parents=True)
    for label, breed in enumerate(breeds):
        for number in range(1, per_breed + 1):
            canvas = np.empty((resolution, resolution, 3), np.uint8)
            canvas[:] = (20 + 80 * label, 10 * number, 60)
            canvas[: resolution // 4] = _GRAY
            Image.fromarray(canvas).save(folder / images / f"{breed}_{number}.png")
    dog = Image.new("RGB", (resolution, resolution))
    dog.save(folder / images / "beagle_1.png")


def cifar10_tree(folder: Path, per_batch: int, *, python: bool = False) -> None:
    """CIFAR-10 with six batches; a class is a stripe at a tenth of the width.

    Labels go 0 to 9 in turn, through all batches.

    Args:
        folder: Where the tree is made.
        per_batch: Images of a batch.
        python: Whether to write the archive of pickles, as Python 2 wrote it, instead
            of the binary one.
    """
    archive = folder / ("cifar-10-batches-py" if python else "cifar-10-batches-bin")
    archive.mkdir(parents=True)
    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    for place, name in enumerate(names):
        labels = [(place * per_batch + row) % 10 for row in range(per_batch)]
        pixels = np.zeros((per_batch, 3, 32, 32), np.uint8)
        for row, label in enumerate(labels):
            pixels[row, :, :, 3 * label : 3 * label + 4] = 255
            pixels[row, 0, 0, 0] = place * per_batch + row
        if python:
            (archive / name).write_bytes(
                python2_batch(pixels.reshape(-1, 3072), labels)
            )
            continue
        records = np.concatenate(
            [np.array(labels, np.uint8)[:, None], pixels.reshape(per_batch, -1)], axis=1
        )
        (archive / f"{name}.bin").write_bytes(records.tobytes())


def python2_batch(data: np.ndarray, labels: Sequence[int]) -> bytes:
    """A batch as `cPickle` of Python 2 wrote it: texts are strings of bytes."""

    def text(value: bytes) -> bytes:
        return pickle.BINSTRING + struct.pack("<i", len(value)) + value

    def number(value: int) -> bytes:
        return pickle.BININT + struct.pack("<i", value)

    def call(module: str, name: str, arguments: bytes) -> bytes:
        called = pickle.GLOBAL + f"{module}\n{name}\n".encode()
        return called + pickle.MARK + arguments + pickle.TUPLE + pickle.REDUCE

    dtype = call("numpy", "dtype", text(b"u1") + number(0) + number(1))
    dtype_state = number(3) + text(b"|") + 3 * pickle.NONE + 2 * number(-1) + number(0)
    dtype += pickle.MARK + dtype_state + pickle.TUPLE + pickle.BUILD
    empty = pickle.GLOBAL + b"numpy\nndarray\n" + number(0) + pickle.TUPLE1 + text(b"b")
    array = call("numpy.core.multiarray", "_reconstruct", empty)
    shape = b"".join(number(length) for length in data.shape)
    state = number(1) + pickle.MARK + shape + pickle.TUPLE + dtype
    state += number(0) + text(data.tobytes())
    array += pickle.MARK + state + pickle.TUPLE + pickle.BUILD
    listed = b"".join(number(label) for label in labels)
    items = text(b"data") + array
    items += text(b"labels") + pickle.EMPTY_LIST + pickle.MARK + listed + pickle.APPENDS
    content = pickle.EMPTY_DICT + pickle.MARK + items + pickle.SETITEMS
    return pickle.PROTO + b"\x02" + content + pickle.STOP


def _picture(pixels: np.ndarray) -> Image.Image:
    values = np.round(pixels.transpose(1, 2, 0) * 255).astype(np.uint8)
    return Image.fromarray(values)
