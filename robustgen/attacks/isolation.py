"""Leaves a user's model and every global generator as they were."""

import random
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from robustgen.seeding import derive_seed


@contextmanager
def isolated(
    model: nn.Module, device: torch.device, rngs: Sequence[torch.Generator]
) -> Generator[None, None, None]:
    """Inside, the model is frozen and in eval mode, and autograd is on.

    The global generators of torch, NumPy and Python are seeded from `rngs` inside,
    without drawing from them: an attack that uses one anyway still gives the same
    result every time. Afterwards generators, training modes of every submodule,
    `requires_grad` and `grad` of every parameter and every buffer, such as the
    statistics of a BatchNorm, are as before, whatever happened. A buffer that the
    model made meanwhile, for itself, stays.
    """
    state = _State(model)
    python_state = random.getstate()
    numpy_state = np.random.get_state()
    on_cuda = device.type == "cuda"
    cuda = on_cuda or torch.cuda.is_initialized()
    seed = derive_seed(0, "attack", *(rng.initial_seed() for rng in rngs))
    with (
        torch.random.fork_rng(range(torch.cuda.device_count()) if cuda else []),
        torch.inference_mode(mode=False),
        torch.enable_grad(),
    ):
        try:
            torch.default_generator.manual_seed(seed)
            if on_cuda:
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed)
            random.seed(seed)
            np.random.set_state(np.random.RandomState(seed % 2**32).get_state())
            model.eval()
            for parameter in model.parameters():
                parameter.requires_grad_(False)
            yield
        finally:
            state.restore()
            random.setstate(python_state)
            np.random.set_state(numpy_state)


@final
class _State:
    """What an attack may spoil of a model, and how to put it back."""

    def __init__(self, model: nn.Module) -> None:
        self._modes = [(module, module.training) for module in model.modules()]
        self._parameters = [
            (p, p.requires_grad, p.grad, _copy(p.grad)) for p in model.parameters()
        ]
        self._buffers = [
            (module, name, buffer, buffer.clone())
            for module in model.modules()
            for name, buffer in module.named_buffers(recurse=False)
        ]

    @torch.no_grad()
    def restore(self) -> None:
        for module, training in self._modes:
            module.training = training
        for parameter, required, grad, values in self._parameters:
            parameter.requires_grad_(required)
            parameter.grad = grad
            if grad is not None and values is not None:
                _put_back(grad, values)
        for module, name, buffer, values in self._buffers:
            if getattr(module, name, None) is not buffer:
                setattr(module, name, buffer)
            _put_back(buffer, values)


def _copy(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.clone()


def _put_back(tensor: Tensor, values: Tensor) -> None:
    # Only if need be: a write would break a graph of the user's that holds the tensor.
    if not torch.equal(tensor, values):
        tensor.copy_(values)
