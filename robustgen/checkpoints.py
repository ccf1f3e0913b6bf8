"""Files of weights, read by content and never by running code.

Two containers are read here: safetensors, and torch files with `weights_only=True`. A
third, the network pickle, is told apart here and read by `robustgen.gan.pickles`.
Whatever is wrong with a file ends in one sentence that names it.
"""

import difflib
import pickle
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from robustgen.errors import RequestError
from robustgen.files import whole_file
from robustgen.inert import NumpyType, Record, numpy_scalar

Container: TypeAlias = Literal["safetensors", "torch", "pickle"]
"""How a file packs its content."""

_LISTED = 3
"""Wrong keys that a message lists; the rest are counted."""

_TORCH_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The number that torch files of before version 1.6 begin with, pickled."""

_STAND_INS = (
    (NumpyType, "numpy.dtype"),
    (numpy_scalar, "numpy.core.multiarray.scalar"),
    (numpy_scalar, "numpy._core.multiarray.scalar"),
    (Record, "argparse.Namespace"),
)
"""What released torch files hold beside tensors, and what is read instead."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a file of weights holds.

    Args:
        path: The file.
        content: The saved object: tensors by name for safetensors, anything that
            `weights_only=True` admits for a torch file. Tensors are on the CPU.
        metadata: Text entries of a safetensors header; empty for a torch file.
    """

    path: Path
    content: Any
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])


def container_of(path: Path) -> Container:
    """How a file packs its content, by its first bytes.

    Raises:
        RequestError: the file is missing, empty, or no checkpoint, such as an HTML page
            that a failed download saved.
    """
    head = _first_bytes(path)
    # In a safetensors file the length of the header takes 8 bytes.
    if head[8:9] == b"{":
        return "safetensors"
    if head.startswith(b"PK") or _TORCH_MAGIC in head:
        return "torch"
    if head.startswith(b"\x80"):
        return "pickle"
    if head.lstrip().startswith(b"<"):
        raise RequestError(
            f"{path}: an HTML page, not weights. The download saved an error or "
            "confirmation page; fetch the file again."
        )
    if head.startswith(b"version https://git-lfs"):
        raise RequestError(
            f"{path}: a Git LFS pointer, not weights. Run `git lfs pull` beside it."
        )
    raise RequestError(
        f"{path}: no checkpoint. Expected a safetensors file or a torch file."
        if head
        else f"{path}: the file is empty."
    )


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads a safetensors or torch file, told apart by its first bytes.

    Of a torch file tensors, plain values and containers are read, and with them what
    released checkpoints add: a NumPy number becomes a number, an `argparse.Namespace`
    a dict of its entries.

    Raises:
        RequestError: the file is missing, is no checkpoint (such as an HTML page that
            a failed download saved), is damaged, or needs code to be run.
    """
    container = container_of(path)
    if container == "safetensors":
        return _read_safetensors(path)
    if container == "torch":
        return _read_torch(path)
    raise RequestError(
        f"{path}: a plain pickle. Only the networks that NVIDIA stores so are read, as "
        "generators; other weights must be a safetensors file or a torch file."
    )


def save_weights(
    module: nn.Module,
    path: Path,
    *,
    kind: str,
    config: str,
    dtype: torch.dtype | None = None,
) -> None:
    """Writes a module as one safetensors file, whole or not at all.

    The header has one entry, since the library writes several in random order and the
    same weights should be the same bytes.

    Args:
        module: Whose parameters and buffers to write.
        path: File to write.
        kind: What the file holds, such as `robustgen.stylegan2.1`.
        config: Sizes of the module, as JSON; found again under `metadata[kind]`.
        dtype: Type of the numbers in the file; that of the module where None. A reader
            gets the module's type again, with rounded numbers.
    """
    state = {
        k: v.detach().cpu().to(dtype or v.dtype).contiguous()
        for k, v in module.state_dict().items()
    }
    with whole_file(path) as temporary:
        save_file(state, temporary, metadata={kind: config})


def tensor_entries(content: object) -> dict[str, Tensor]:
    """The named tensors of a checkpoint's content; empty if it is no mapping."""
    if not isinstance(content, Mapping):
        return {}
    return {
        name: value
        for name, value in content.items()
        if isinstance(name, str) and isinstance(value, Tensor)
    }


def entries_below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries whose names begin with a prefix, under the rest of their names."""
    return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}


def check_entries(
    state: Mapping[str, Tensor], shapes: Mapping[str, Sequence[int]], path: Path
) -> None:
    """Makes sure that a file holds exactly the tensors that a format has.

    Args:
        state: Tensors by name.
        shapes: Shape of every tensor that the file must hold, neither more nor less.
        path: File to name in a message.

    Raises:
        RequestError: keys are missing or unknown (the nearest ones are shown), or a
            tensor has another shape or is not finite.
    """
    missing = [key for key in shapes if key not in state]
    unknown = [key for key in state if key not in shapes]
    if missing:
        raise RequestError(f"{path}: {_wrong_keys('lacks', missing, unknown)}")
    if unknown:
        raise RequestError(f"{path}: {_wrong_keys('has unknown', unknown, missing)}")
    for key, shape in shapes.items():
        if list(state[key].shape) != list(shape):
            raise RequestError(
                f"{path}: '{key}' has shape {list(state[key].shape)}, expected "
                f"{list(shape)}."
            )
        if not torch.isfinite(state[key]).all():
            raise RequestError(f"{path}: '{key}' holds NaN or infinite numbers.")


def load_weights(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Fills a module with exactly the tensors of a file.

    Args:
        module: Module to fill. It may lie on the meta device: the tensors are taken
            over, not copied.
        state: Tensors by name, one for every parameter and buffer.
        path: File to name in a message.

    Raises:
        RequestError: the tensors are not those of the module, see `check_entries`.
    """
    own = module.state_dict()
    check_entries(state, {key: tensor.shape for key, tensor in own.items()}, path)
    cast = {key: state[key].to(tensor.dtype) for key, tensor in own.items()}
    module.load_state_dict(cast, assign=True)


def _wrong_keys(verb: str, wrong: list[str], others: list[str]) -> str:
    shown: list[str] = []
    for key in wrong[:_LISTED]:
        near = difflib.get_close_matches(key, others, n=1, cutoff=0.6)
        shown.append(f"'{key}'" + (f" (nearest: '{near[0]}')" if near else ""))
    more = len(wrong) - len(shown)
    rest = f" and {more} more" if more > 0 else ""
    return f"the file {verb} {', '.join(shown)}{rest}."


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(64)
    except FileNotFoundError as error:
        raise RequestError(f"{path}: no such file.{_neighbor(path)}") from error
    except IsADirectoryError as error:
        raise RequestError(f"{path}: a folder; name a file in it.") from error
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror}).") from error


def _neighbor(path: Path) -> str:
    if not path.parent.is_dir():
        return f" Nor is there a folder {path.parent}."
    names = [entry.name for entry in path.parent.iterdir() if entry.is_file()]
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.6)
    return f" Did you mean '{near[0]}'?" if near else ""


def _read_safetensors(path: Path) -> Checkpoint:
    try:
        with safe_open(path, framework="pt", device="cpu") as stream:
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
            return Checkpoint(path, tensors, stream.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise RequestError(
            f"{path}: a safetensors file that is cut off or damaged ({error}). "
            "Fetch it again."
        ) from error


def _read_torch(path: Path) -> Checkpoint:
    try:
        with torch.serialization.safe_globals(list(_STAND_INS)):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        what = f"asks for '{named[1]}'" if named else "holds more than plain values"
        raise RequestError(
            f"{path}: {what}, or is damaged. robustgen runs no code of a checkpoint: "
            "it reads tensors, numbers, text and containers of them."
        ) from error
    # A hostile or damaged stream can fail in any way.
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise RequestError(
            f"{path}: a torch file that is cut off or damaged ({reason[0]})."
        ) from error
    return Checkpoint(path, content)
