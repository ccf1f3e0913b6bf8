"""Calls what a suite names beside the parts that ship, where it can do no harm."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from robustgen.attacks.isolation import isolated
from robustgen.plugins import Custom, call_custom


def make(
    part: Custom,
    kind: str,
    plugins: Sequence[str],
    given: Mapping[str, Any] = MappingProxyType({}),
) -> Any:
    """What a factory or plugin returns.

    Meanwhile the global generators of torch, NumPy and Python start at the same seed
    every time, so that a network that draws its weights from them is the same in every
    run and every process. Afterwards they are as before.

    Args:
        part: Factory or plugin, with its arguments.
        kind: A key of `robustgen.plugins.GROUPS`.
        plugins: Modules named with `--plugin`.
        given: Keyword arguments beside those of the suite.

    Raises:
        RequestError: it may not run, is not found, or fails.
    """
    with isolated(nn.Module(), torch.device("cpu"), ()):
        return call_custom(part, kind, plugins, given)
