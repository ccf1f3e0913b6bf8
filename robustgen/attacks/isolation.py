"""Leaves a user's model and every global generator as they were."""

import random
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from robustgen.seeding import derive_seed


@contextmanager
def isolated(
    model: nn.Module, device: torch.device, rngs: Sequence[torch.Generator]
) -> Generator[None, None, None]:
    """Inside, the model is frozen and in eval mode, and autograd is on.

    The global generators of torch, NumPy and Python are seeded from `rngs` inside,
    without drawing from them: an attack that uses one anyway still gives the same
    result every time. Afterwards generators, training modes of every submodule and
    `requires_grad` of every parameter are as before, whatever happened; `grad` was
    never written.
    """
    modes = [(module, module.training) for module in model.modules()]
    trainable = [(p, p.requires_grad) for p in model.parameters()]
    python_state = random.getstate()
    numpy_state = np.random.get_state()
    on_cuda = device.type == "cuda"
    seed = derive_seed(0, "attack", *(rng.initial_seed() for rng in rngs))
    with (
        torch.random.fork_rng(devices=[device] if on_cuda else []),
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
            for parameter, _ in trainable:
                parameter.requires_grad_(False)
            yield
        finally:
            for module, training in modes:
                module.training = training
            for parameter, required in trainable:
                parameter.requires_grad_(required)
            random.setstate(python_state)
            np.random.set_state(numpy_state)
