"""Data sets in one file, put together from what their owners publish.

Rows, their order and their splits are fixed here, so that a figure means the same for
everyone. What was put together is compared with the digest of the arrays that the
shipped networks were trained on.
"""

import gzip
import hashlib
import io
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from robustgen.errors import RequestError
from robustgen.files import whole_file
from robustgen.names import Assembler
from robustgen.unpack import refusing_damages

Arrays: TypeAlias = Mapping[str, np.ndarray]
"""What a file holds, by name."""

SMILES_SIDE, MNIST_SIDE = 64, 28

MNIST_SPLIT: Mapping[str, int] = MappingProxyType(
    {"train": 6000, "val": 1000, "test": 1000}
)
"""Images of each split, in the official order of MNIST's test images."""

_ROWS = Path(__file__).with_name("downloads") / "smiles_rows.txt.gz"
_FOLDERS: Mapping[str, str] = MappingProxyType(
    {
        "+": "SMILEs/positives/positives7",
        "-": "SMILEs/negatives/negatives7",
    }
)
_SPLITS = ("train", "val", "test")

# What NumPy raises on files that are cut off, damaged or no archives at all.
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)

# First bytes of an IDX file of bytes: a tensor of three axes, and of one.
_IDX_IMAGES, _IDX_LABELS = b"\0\0\x08\x03", b"\0\0\x08\x01"


class SmilesRow(NamedTuple):
    """One photograph of the file.

    Args:
        name: Number of its file, as text.
        smiling: Whether it lies in the folder of those that smile.
        split: `train`, `val` or `test`.
    """

    name: str
    smiling: bool
    split: str

    @property
    def member(self) -> str:
        """How its path in the repository ends."""
        return f"{_FOLDERS['+' if self.smiling else '-']}/{self.name}.jpg"


def assemble(assembler: Assembler, archives: Sequence[Path]) -> Arrays:
    """The arrays of a data set.

    Args:
        assembler: Which one.
        archives: What it is made of, in the order of its entry in `downloads/`.

    Raises:
        RequestError: an archive is damaged or lacks a part.
    """
    return _ASSEMBLERS[assembler](*archives)


def content_digest(arrays: Arrays) -> str:
    """SHA-256 over names, types, shapes and bytes; how they are compressed is open."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def read_arrays(path: Path) -> Arrays:
    """The arrays of a file that `write_arrays` wrote.

    Raises:
        RequestError: the file is damaged.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except _UNREADABLE as error:
        raise RequestError(
            f"{path}: cannot be read ({error}). Move it away and fetch it again."
        ) from error


def write_arrays(arrays: Arrays, path: Path) -> None:
    """Writes a compressed NumPy archive as a whole file.

    Raises:
        RequestError: the folder cannot be written.
    """
    with whole_file(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **dict[str, Any](arrays))


def smiles_rows() -> list[SmilesRow]:
    """The photographs of SMILEs that are used, in the order of the file."""
    rows: list[SmilesRow] = []
    split = ""
    for line in gzip.decompress(_ROWS.read_bytes()).decode().split():
        if line in _SPLITS:
            split = line
        else:
            rows.append(SmilesRow(line[1:], line[0] == "+", split))
    return rows


def _assemble_smiles(archive: Path) -> Arrays:
    """From a zip file of the repository hromi/SMILEsmileD.

    Gray pixels are those of the JPEG files; nothing is resized.
    """
    rows = smiles_rows()
    images = np.empty((len(rows), SMILES_SIDE, SMILES_SIDE), np.uint8)
    with refusing_damages(archive), zipfile.ZipFile(archive) as file:
        members = {
            "/".join(PurePosixPath(entry.filename).parts[-4:]): entry
            for entry in file.infolist()
        }
        for place, row in enumerate(rows):
            entry = members.get(row.member)
            if entry is None:
                raise RequestError(
                    f"{archive}: holds no {row.member}. It has changed at its origin."
                )
            images[place] = _photograph(archive, row.member, file.read(entry))
    return {
        "images": images,
        "labels": np.array([row.smiling for row in rows], np.uint8),
        "split": np.array([row.split for row in rows]),
        "names": np.array([row.name for row in rows]),
    }


def _photograph(
    archive: Path, member: str, content: bytes
) -> UInt8[np.ndarray, "64 64"]:
    try:
        with Image.open(io.BytesIO(content)) as picture:
            if picture.size != (SMILES_SIDE, SMILES_SIDE):
                raise ValueError(f"{picture.size[0]} x {picture.size[1]} pixels")
            return np.asarray(picture.convert("L"))
    except (OSError, ValueError, SyntaxError) as error:
        raise RequestError(
            f"{archive}: {member} is no picture of {SMILES_SIDE} x {SMILES_SIDE} "
            f"pixels ({error}). Delete the archive and fetch it again."
        ) from error


def _assemble_mnist(images: Path, labels: Path) -> Arrays:
    """From the two files of MNIST's test images; the first 8,000 of 10,000."""
    count = sum(MNIST_SPLIT.values())
    names = [np.full(number, name) for name, number in MNIST_SPLIT.items()]
    return {
        "images": _idx(images, _IDX_IMAGES, (MNIST_SIDE, MNIST_SIDE), count),
        "labels": _idx(labels, _IDX_LABELS, (), count),
        "split": np.concatenate(names),
    }


def _idx(
    path: Path, magic: bytes, shape: tuple[int, ...], count: int
) -> UInt8[np.ndarray, "n ..."]:
    """The first entries of a compressed IDX file of bytes.

    http://yann.lecun.com/exdb/mnist/ describes the format: four bytes that name the
    type and the number of axes, the length of each axis as a big-endian number of four
    bytes, then the entries.
    """
    with refusing_damages(path), gzip.open(path) as stream:
        content = stream.read()
    start = len(magic) * (2 + len(shape))
    head = content[:start].ljust(start, b"\0")
    found = tuple(int(length) for length in np.frombuffer(head, ">u4")[1:])
    if head[: len(magic)] != magic or found[1:] != shape or found[0] < count:
        raise RequestError(
            f"{path}: starts with {content[:start].hex()}; expected an IDX file of "
            f"bytes, {count:,} or more of shape {list(shape)}."
        )
    size = count * int(np.prod(shape, dtype=np.int64))
    if len(content) < start + size:
        raise RequestError(
            f"{path}: holds {len(content):,} bytes, expected {start + size:,} or more. "
            "Delete it and fetch it again."
        )
    entries = np.frombuffer(content, np.uint8, count=size, offset=start)
    return entries.reshape(count, *shape)


_ASSEMBLERS: Mapping[Assembler, Callable[..., Arrays]] = MappingProxyType(
    {"smiles": _assemble_smiles, "mnist": _assemble_mnist}
)
