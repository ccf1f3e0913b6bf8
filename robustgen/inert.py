"""Stand-ins for the objects beside tensors that files of weights hold.

A reader of untrusted files puts them where a file names a class or function of NumPy,
argparse and the like. So none of those runs: all that a hostile file can make is a
wrong value. Each defines `__setstate__`, which keeps a pickle from reaching into the
class itself.
"""

import re
import struct
from collections.abc import Mapping
from typing import Any

_NUMBERS: Mapping[str, str] = {
    "b1": "?",
    "i1": "b",
    "u1": "B",
    "i2": "h",
    "u2": "H",
    "i4": "i",
    "u4": "I",
    "i8": "q",
    "u8": "Q",
    "f2": "e",
    "f4": "f",
    "f8": "d",
}
"""NumPy's names of the numbers that are read, and those of `struct`."""


class Record(dict[str, Any]):
    """Named values: stands for `argparse.Namespace` and for kinds of `dict`."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        """Takes the attributes of the original as entries."""
        if isinstance(state, Mapping):
            self.update(state)


class NumpyType:
    """Stands for `numpy.dtype`.

    Args:
        code: NumPy's name, such as `f8`.
        align: Not looked at.
        copy: Not looked at.
    """

    __slots__ = ("code", "order")

    def __init__(self, code: object, align: object = False, copy: object = False):
        del align, copy
        self.code = str(code)
        self.order = "<"

    def __setstate__(self, state: object) -> None:
        """Takes the byte order, second in NumPy's state of a type."""
        if isinstance(state, tuple) and len(state) > 1 and state[1] == ">":
            self.order = ">"


def numpy_scalar(kind: object, data: object) -> int | float | bool:
    """Stands for `numpy.core.multiarray.scalar`.

    >>> numpy_scalar(NumpyType("f8"), bytes(8))
    0.0

    Args:
        kind: Type of the number.
        data: Its bytes.

    Raises:
        ValueError: the type is none of a plain number, or the bytes are not its.
    """
    if not isinstance(kind, NumpyType) or not isinstance(data, bytes):
        raise ValueError("a NumPy number without its type or bytes")
    code = re.sub(r"^[<>|=]", "", kind.code)
    if code not in _NUMBERS:
        raise ValueError(f"a NumPy value of type '{code}', which is no plain number")
    try:
        return struct.unpack(kind.order + _NUMBERS[code], data)[0]
    except struct.error as error:
        raise ValueError(f"{len(data)} bytes for a NumPy number '{code}'") from error
