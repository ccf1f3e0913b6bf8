"""Network pickles of stylegan2-ada-pytorch and stylegan3, read without their code.

Such a file holds, beside the weights, the source of the module that defined them, and
an ordinary load executes it. Here a file may name a short list of things, each of which
is replaced by a stand-in that only keeps values; whatever else it names is refused, and
the source is never looked at.

Of the networks in the file `G_ema` is read, the average over training that NVIDIA's
tools use, or `G` in a file without it.
"""

import io
import math
import pickle
import pickletools
import re
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import torch
from torch import Tensor

from robustgen.checkpoints import container_of
from robustgen.errors import RequestError
from robustgen.gan.formats import NVIDIA_CONV_CLAMP
from robustgen.inert import NumpyType, Record, numpy_scalar

_MAPPING_DEFAULTS: Mapping[str, object] = MappingProxyType(
    {"activation": "lrelu", "lr_multiplier": 0.01}
)
_SYNTHESIS_DEFAULTS: Mapping[str, object] = MappingProxyType(
    {"activation": "lrelu", "architecture": "skip", "use_noise": True}
)
"""The only values that our generator implements."""

_ARGUMENTS = (
    "z_dim",
    "c_dim",
    "w_dim",
    "img_resolution",
    "img_channels",
    "mapping_kwargs",
    "synthesis_kwargs",
)
"""Positional arguments of NVIDIA's generator."""

_MAX_AXES = 8
"""Axes that a tensor may have."""

_CLAMPED = re.compile(r"synthesis\.b\d+\.(conv0|conv1|torgb)")


@dataclass(frozen=True, eq=False)
class NetworkPickle:
    """The generator of a network pickle.

    Args:
        state: Its state dict, on the CPU.
        conv_clamp: Bound on the magnitude of its activations, or None for no bound.
    """

    state: Mapping[str, Tensor]
    conv_clamp: float | None


def read_network_pickle(path: Path) -> NetworkPickle:
    """Reads the generator of a `.pkl` of NVIDIA's, executing nothing of the file.

    Args:
        path: File with a dict of networks (`G_ema`, `D` and so on), or one network.

    Raises:
        RequestError: the file names something that such a network does not need, is
            damaged, was written by TensorFlow, or holds another kind of network.
    """
    if container_of(path) != "pickle":
        raise RequestError(f"{path}: no pickle, so no network pickle of NVIDIA's.")
    try:
        network = _generator(_unpickle(path))
        return NetworkPickle(_state(network), _conv_clamp(network))
    except RequestError as error:
        raise RequestError(f"{path}: {error}") from error
    # A hostile or damaged stream can fail in the unpickler in any way.
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise RequestError(
            f"{path}: a pickle that is cut off or damaged ({reason[0]})."
        ) from error


class _Function:
    """Something that a pickle may call, and neither change nor look into."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., object]):
        self._call = call

    def __call__(self, *args: object) -> object:
        return self._call(*args)

    def __setstate__(self, state: object) -> None:
        raise RequestError("the pickle tries to change a function. Nothing was run.")


class _Value:
    """Something that a pickle may hold, and not change."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise RequestError("the pickle tries to change a value. Nothing was run.")


class _Network(_Value):
    """A persistent object: its state, without the source.

    Args:
        meta: What `torch_utils.persistence` stores of an object.
    """

    __slots__ = ("state",)

    def __init__(self, meta: object):
        state = meta.get("state") if isinstance(meta, Mapping) else None
        self.state: Mapping[Any, Any] = state if isinstance(state, Mapping) else {}

    def entries(self, name: str) -> list[tuple[str, object]]:
        """What PyTorch keeps of a module under `name`, such as `_parameters`."""
        entries = self.state.get(name)
        if not isinstance(entries, Mapping):
            return []
        return [(str(key), value) for key, value in entries.items()]


class _Storage(_Value):
    """The numbers behind tensors."""

    __slots__ = ("values",)

    def __init__(self, data: object):
        if not isinstance(data, bytes):
            raise ValueError("a tensor without bytes")
        storage: Any = torch.load(
            io.BytesIO(data), map_location="cpu", weights_only=True
        )
        self.values = torch.empty(0, dtype=storage.dtype).set_(storage)


class _Tensor(_Value):
    """A tensor to be: a view of a storage."""

    __slots__ = ("_offset", "_size", "_storage", "_stride")

    def __init__(
        self, storage: object, offset: object, size: object, stride: object, *_: object
    ):
        self._storage, self._offset = storage, offset
        self._size, self._stride = size, stride

    def tensor(self) -> Tensor:
        """The tensor; a view that leaves its storage or repeats it is refused."""
        storage, offset = self._storage, self._offset
        size, stride = _numbers(self._size), _numbers(self._stride)
        if (
            not isinstance(storage, _Storage)
            or not isinstance(offset, int)
            or math.prod(size) > storage.values.numel()
        ):
            raise ValueError("a tensor that does not fit its numbers")
        # Checks that the view lies within the storage.
        return storage.values.as_strided(size, stride, offset).contiguous()


def _numbers(sizes: object) -> tuple[int, ...]:
    if not isinstance(sizes, tuple) or len(sizes) > _MAX_AXES:
        raise ValueError("a tensor without a shape")
    if not all(isinstance(n, int) and n >= 0 for n in sizes):
        raise ValueError("a tensor without a shape")
    return sizes


def _first(*args: object) -> object:
    return args[0]


def _encode(text: object, encoding: object) -> bytes:
    """Bytes as pickles of protocol 2 write them."""
    if not isinstance(text, str) or encoding != "latin1":
        raise ValueError("bytes in an unknown encoding")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""


def _size(entries: object) -> tuple[object, ...]:
    return tuple(entries) if isinstance(entries, tuple) else ()


_ADMITTED: Mapping[tuple[str, str], object] = MappingProxyType(
    {
        ("torch_utils.persistence", "_reconstruct_persistent_obj"): _Function(_Network),
        ("dnnlib.util", "EasyDict"): Record,
        ("collections", "OrderedDict"): Record,
        ("torch.storage", "_load_from_bytes"): _Function(_Storage),
        ("torch._utils", "_rebuild_tensor_v2"): _Function(_Tensor),
        ("torch._utils", "_rebuild_parameter"): _Function(_first),
        ("torch._utils", "_rebuild_parameter_with_state"): _Function(_first),
        ("torch", "Size"): _Function(_size),
        ("torch", "device"): _Function(_first),
        **{
            ("torch", name): name
            for name in ("bool", "float16", "float32", "float64", "int64", "uint8")
        },
        ("numpy", "dtype"): _Function(NumpyType),
        ("numpy.core.multiarray", "scalar"): _Function(numpy_scalar),
        ("numpy._core.multiarray", "scalar"): _Function(numpy_scalar),
        ("_codecs", "encode"): _Function(_encode),
        # Protocol 2 writes the names of Python 2.
        ("builtins", "set"): _Function(set),
        ("__builtin__", "set"): _Function(set),
        ("builtins", "bytes"): _Function(_no_bytes),
        ("__builtin__", "bytes"): _Function(_no_bytes),
    }
)
"""Everything that a pickle may name, and what it gets instead."""

_INSTRUCTIONS = """
    PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE
    BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT
    BINSTRING SHORT_BINSTRING BINUNICODE SHORT_BINUNICODE BINUNICODE8
    BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
    EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3
    EMPTY_DICT DICT SETITEM SETITEMS EMPTY_SET ADDITEMS FROZENSET
    BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET
    GLOBAL STACK_GLOBAL REDUCE NEWOBJ BUILD
"""
"""The instructions that pickling a network gives, in the protocols 2 to 5."""


class _Unpickler(pickle.Unpickler):
    """An unpickler that finds what is admitted and nothing else."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        name = (module_name, global_name)
        if name in _ADMITTED:
            return _ADMITTED[name]
        if module_name.startswith("dnnlib.tflib"):
            raise RequestError(
                "a network of the TensorFlow version of StyleGAN. Convert it first, "
                "by `python legacy.py --source OLD.pkl --dest NEW.pkl` in "
                "NVlabs/stylegan2-ada-pytorch."
            )
        raise RequestError(
            f"asks for {_shown('.'.join(name))}, which no StyleGAN2 network "
            "needs. robustgen runs no code of a file, so it does not read this one."
        )


def _unpickle(path: Path) -> object:
    with path.open("rb") as stream:
        _check_instructions(stream)
        stream.seek(0)
        return _Unpickler(stream).load()


def _check_instructions(stream: BinaryIO) -> None:
    """Reads through a pickle without obeying it.

    An index of the memo that is far out would make the unpickler reserve memory up to
    there; a pickler counts them up.
    """
    known = frozenset(_INSTRUCTIONS.split())
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if opcode.name not in known:
            raise RequestError(
                f"holds the pickle instruction {opcode.name}, which no StyleGAN2 "
                "network needs. robustgen runs no code of a file, so it does not read "
                "this one."
            )
        if (
            opcode.name == "LONG_BINPUT"
            and isinstance(argument, int)
            and argument > count
        ):
            raise ValueError(f"memo index {argument} at instruction {count}")


def _generator(content: object) -> _Network:
    if isinstance(content, _Network):
        return content
    if not isinstance(content, Mapping):
        raise RequestError("a pickle that holds no network.")
    for name in ("G_ema", "G"):
        network = content.get(name)
        if isinstance(network, _Network):
            return network
    shown = ", ".join(_shown(key) for key in list(content)[:5]) or "nothing"
    raise RequestError(f"holds no network 'G_ema' or 'G', but {shown}.")


def _parts(network: _Network) -> list[tuple[str, _Network]]:
    """The network and all modules in it, with their dotted names."""
    parts: list[tuple[str, _Network]] = []
    waiting, seen = [("", network)], {id(network)}
    while waiting:
        prefix, part = waiting.pop()
        parts.append((prefix, part))
        for name, child in part.entries("_modules"):
            if child is None:
                continue
            if not isinstance(child, _Network):
                raise RequestError(f"the module {_shown(prefix + name)} is damaged.")
            # A module in two places could be met again and again.
            if id(child) in seen:
                raise RequestError(
                    f"the module {_shown(prefix + name)} is there twice."
                )
            seen.add(id(child))
            waiting.append((f"{prefix}{name}.", child))
    return parts


def _state(network: _Network) -> dict[str, Tensor]:
    """The state dict, as `torch.nn.Module.state_dict` would give it."""
    state: dict[str, Tensor] = {}
    for prefix, part in _parts(network):
        unsaved = part.state.get("_non_persistent_buffers_set")
        unsaved = unsaved if isinstance(unsaved, set | frozenset) else set[object]()
        buffers = [(k, v) for k, v in part.entries("_buffers") if k not in unsaved]
        for name, value in (*part.entries("_parameters"), *buffers):
            if value is None:
                continue
            if not isinstance(value, _Tensor):
                raise RequestError(f"the entry {_shown(prefix + name)} is no tensor.")
            state[prefix + name] = value.tensor()
    return state


def _conv_clamp(network: _Network) -> float | None:
    """What the layers of the file say, else the generator's arguments.

    Raises:
        RequestError: the arguments ask for what our generator does not implement, or
            the layers differ.
    """
    positional = network.state.get("_init_args")
    arguments: dict[str, object] = {}
    if isinstance(positional, tuple):
        arguments |= zip(_ARGUMENTS, positional, strict=False)
    arguments |= _entries(network.state.get("_init_kwargs"))
    # stylegan2-ada-pytorch nests the arguments of the synthesis, stylegan3 does not.
    nested = arguments.get("synthesis_kwargs")
    synthesis = arguments if nested is None else _entries(nested)
    _check_arguments(_entries(arguments.get("mapping_kwargs")), _MAPPING_DEFAULTS)
    _check_arguments(synthesis, _SYNTHESIS_DEFAULTS)
    clamps = [
        part.state["conv_clamp"]
        for prefix, part in _parts(network)
        if _CLAMPED.fullmatch(prefix.removesuffix(".")) and "conv_clamp" in part.state
    ]
    if any(clamp != clamps[0] for clamp in clamps):
        raise RequestError("its layers have different values of 'conv_clamp'.")
    default = NVIDIA_CONV_CLAMP if nested is None else None
    clamp = clamps[0] if clamps else synthesis.get("conv_clamp", default)
    if clamp is None:
        return None
    if isinstance(clamp, bool) or not isinstance(clamp, int | float) or not clamp > 0:
        raise RequestError(
            f"'conv_clamp' is {_shown(clamp)}, expected a positive number."
        )
    return float(clamp)


def _entries(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _check_arguments(
    arguments: Mapping[str, object], implemented: Mapping[str, object]
) -> None:
    for name, value in implemented.items():
        if arguments.get(name, value) != value:
            raise RequestError(
                f"a generator with {name}={_shown(arguments[name])}; robustgen reads "
                f"{name}={value!r} only."
            )


def _shown(value: object) -> str:
    """What a file holds, in one line of a message."""
    return repr(value[:80]) if isinstance(value, str) else reprlib.repr(value)
