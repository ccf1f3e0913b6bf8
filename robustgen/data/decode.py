"""Image files to pixels, with a plain message for every file that is none.

Every file becomes RGB of 8 bits, as in the released code: gray is repeated, alpha is
dropped, a palette is looked up. The order of pixels is the stored one: an EXIF
orientation is ignored, also as there. Deeper pixels than 8 bits would lose digits
silently, so they are refused.
"""

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from PIL import Image

from robustgen.errors import RequestError
from robustgen.files import sha256_of

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Endings of files that are taken for images, in any case."""

_SHOWN = 3
_DEEP_MODES = ("F", "I")
# What Pillow raises on files that are cut off or damaged, beside its own errors.
_DAMAGES = (
    OSError,
    SyntaxError,
    ValueError,
    IndexError,
    TypeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def read_image(path: Path) -> Image.Image:
    """The decoded picture of a file, RGB of 8 bits.

    Raises:
        RequestError: the file is missing, cut off, damaged, no image, or has more than
            8 bits for a channel.
    """
    try:
        with Image.open(path) as image:
            if image.mode.startswith(_DEEP_MODES):
                raise RequestError(
                    f"{path}: pixels of mode {image.mode}, deeper than 8 bits. Convert "
                    "it to 8 bits for each channel."
                )
            return image.convert("RGB")
    except _DAMAGES as error:
        raise _fault(path, error) from error


def image_size(path: Path) -> tuple[int, int]:
    """Width and height that the head of a file states; no pixel is decoded.

    Raises:
        RequestError: the file is missing or no image.
    """
    try:
        with Image.open(path) as image:
            return image.size
    except _DAMAGES as error:
        raise _fault(path, error) from error


def to_pixels(image: Image.Image) -> Float32[np.ndarray, "3 h w"]:
    """An RGB picture as pixels in [0, 1]: 255 becomes 1."""
    values = np.asarray(image, np.float32) / np.float32(255)
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def squared(image: Image.Image, side: int) -> Image.Image:
    """The middle of a picture whose shorter side is resized to `side` (LANCZOS)."""
    shorter = min(image.size)
    width, height = (length * side // shorter for length in image.size)
    resized = image.resize((width, height), Image.Resampling.LANCZOS)
    left, top = (width - side) // 2, (height - side) // 2
    return resized.crop((left, top, left + side, top + side))


def content_of(path: Path) -> bytes:
    """SHA-256 of a file's bytes.

    Raises:
        RequestError: the file cannot be read.
    """
    try:
        return bytes.fromhex(sha256_of(path))
    except OSError as error:
        raise _fault(path, error) from error


def existing_folder(folder: Path, names: Sequence[str], what: str) -> Path:
    """The first of some subfolders that is there.

    Args:
        folder: Where to look.
        names: Subfolders, the preferred one first.
        what: What the subfolder holds, for the message.

    Raises:
        RequestError: none of them is there.
    """
    for name in names:
        if (folder / name).is_dir():
            return folder / name
    raise RequestError(
        f"{folder}: no {what}; looked for {' and '.join(f'{n}/' for n in names)}."
    )


def some_of(names: Sequence[object]) -> str:
    """The first few of many names, for a message.

    >>> some_of(["a", "b"])
    'a, b'
    >>> some_of([1, 2, 3, 4, 5])
    '1, 2, 3 and 2 more'
    """
    rest = len(names) - _SHOWN
    shown = ", ".join(str(name) for name in names[:_SHOWN])
    return f"{shown} and {rest} more" if rest > 0 else shown


def _fault(path: Path, error: Exception) -> RequestError:
    if not path.exists():
        return RequestError(f"{path}: no such file.")
    if path.is_dir():
        return RequestError(f"{path}: a folder, not an image file.")
    if isinstance(error, PermissionError):
        return RequestError(f"{path}: cannot be read ({error.strerror}).")
    if path.stat().st_size == 0:
        return RequestError(f"{path}: the file is empty.")
    reason = str(error).strip().splitlines() or [type(error).__name__]
    return RequestError(
        f"{path}: no image, or one that is cut off or damaged ({reason[0]})."
    )
