"""State dicts of classifiers: found in a file, counted, and put into a network."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from robustgen.checkpoints import Checkpoint, check_entries, tensor_entries
from robustgen.errors import RequestError

_WRAPPERS = ("state_dict", "net", "model", "model_state_dict")
"""Entries under which training scripts save a state dict beside other things."""

_PREFIXES = ("module.", "_orig_mod.")
"""What `DataParallel` and `torch.compile` put before every name."""

_COUNTER = "num_batches_tracked"


def named_tensors(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The weights of a checkpoint, by the names that they have in the bare network.

    They are looked for under `state_dict`, `net`, `model` and `model_state_dict`, else
    at the top. Prefixes that wrappers of a network put before every name are dropped.

    Raises:
        RequestError: there are no named tensors.
    """
    content = checkpoint.content
    if isinstance(content, Mapping):
        inner = (content.get(key) for key in _WRAPPERS)
        content = next((c for c in inner if isinstance(c, Mapping)), content)
    state = tensor_entries(content)
    if not state:
        raise RequestError(f"{checkpoint.path}: holds no named tensors.")
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def class_count(
    state: Mapping[str, Tensor],
    layer: str,
    path: Path,
    *,
    expected: int | None = None,
) -> int:
    """Number of classes, read from the weight of a network's last layer.

    Args:
        state: Tensors by name.
        layer: Name of the last layer, such as `fc`.
        path: File to name in a message.
        expected: Number to insist on; None for any from 2 on.

    Raises:
        RequestError: there is no such layer, it has fewer than two outputs, or not as
            many as expected.
    """
    weight = state.get(f"{layer}.weight")
    if weight is None or weight.ndim < 2:
        shown = ", ".join(f"'{key}'" for key in list(state)[:3])
        raise RequestError(
            f"{path}: the last layer '{layer}.weight' of this architecture is not "
            f"there (its tensors begin with {shown})."
        )
    classes = weight.shape[0]
    if expected is not None and classes != expected:
        raise RequestError(
            f"{path}: '{layer}' has {classes} classes, but {expected} are expected."
        )
    if classes < 2:
        raise RequestError(
            f"{path}: '{layer}' gives one logit; one for each of 2 or more classes is "
            "needed. Wrap the network by `factory: module:callable` to give two."
        )
    return classes


def fill(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Copies the tensors of a file into a network, which must have exactly these.

    Unlike `robustgen.checkpoints.load_weights` the network has been built with its
    memory, since some compute buffers that no file holds. Counters of batches may be
    missing, as in files of 2017: inference does not read them.

    Raises:
        RequestError: the tensors are not those of the network.
    """
    own = module.state_dict()
    counters = {k: v for k, v in own.items() if k.endswith(_COUNTER)}
    state = counters | dict(state)
    check_entries(state, {key: tensor.shape for key, tensor in own.items()}, path)
    with torch.no_grad():
        for key, tensor in own.items():
            tensor.copy_(state[key])
