"""Style codes on disk: those that the released code stores for its images, and ours."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from robustgen.checkpoints import read_checkpoint
from robustgen.errors import RequestError
from robustgen.files import whole_file
from robustgen.types import StylesPlus

_FORMAT = "robustgen.latents.1"
_ENTRY = "w"
_NPY = b"\x93NUMPY"


def save_latents(w_plus: StylesPlus, path: Path) -> None:
    """Writes style codes as a safetensors file, whole or not at all.

    Args:
        w_plus: Codes `[N, L, D]`; read back by `load_latents`, to the last bit.
        path: File to write.
    """
    codes = w_plus.detach().cpu().contiguous()
    with whole_file(path) as temporary:
        save_file({_ENTRY: codes}, temporary, metadata={_FORMAT: ""})


def load_latents(path: Path) -> StylesPlus:
    """Reads style codes.

    Read by content: a released `.pth` (a torch file with the entry `w`), a released
    `.npy` (of CIFAR-10 and of the in-domain encoder), and files of `save_latents`.

    Args:
        path: File with codes `[N, L, D]`, or those of one image, `[L, D]`.

    Returns:
        Codes `[N, L, D]`, float32, on the CPU.

    Raises:
        RequestError: the file is missing or damaged, holds something else, or its
            numbers are not finite.
    """
    codes = _read_npy(path) if _is_npy(path) else _entry(path)
    if codes.ndim == 2:
        codes = codes[None]
    if codes.ndim != 3 or not codes.numel() or not codes.is_floating_point():
        raise RequestError(
            f"{path}: an array of shape {list(codes.shape)} and type {codes.dtype}, "
            "expected style codes [N, L, D] or [L, D]."
        )
    codes = codes.float()
    if not torch.isfinite(codes).all():
        raise RequestError(f"{path}: its style codes hold NaN or infinite numbers.")
    return codes


def _is_npy(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(_NPY)) == _NPY


def _read_npy(path: Path) -> Tensor:
    try:
        array = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))
    # A header may promise more numbers than there are, or none that torch knows.
    except (ValueError, TypeError, EOFError, MemoryError) as error:
        reason = str(error).strip().splitlines() or ["no reason given"]
        raise RequestError(
            f"{path}: an array file that is cut off, damaged or holds no numbers "
            f"({reason[0]})."
        ) from error


def _entry(path: Path) -> Tensor:
    content = read_checkpoint(path).content
    if isinstance(content, Mapping) and _ENTRY in content:
        content = content[_ENTRY]
    if not isinstance(content, Tensor):
        raise RequestError(
            f"{path}: holds no style codes: expected a tensor '{_ENTRY}' [N, L, D]."
        )
    return content.detach()
