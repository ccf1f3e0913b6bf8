"""Where to compute."""

import torch

from robustgen.errors import RequestError


def find_device(name: str) -> torch.device:
    """The device of a name.

    Args:
        name: `auto` (cuda if there is one), `cpu` or `cuda`.

    Raises:
        RequestError: cuda was asked for, and torch finds none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise RequestError("--device cuda: torch finds no CUDA device here.")
    return torch.device(name)
