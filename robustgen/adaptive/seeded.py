"""Gives a model the draws it shall have, whichever generators it draws from."""

import random
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import nn

from robustgen.seeding import derive_seed


@contextmanager
def seeded(module: nn.Module, device: torch.device, seed: int) -> Generator[None]:
    """Inside, every generator that the module can be expected to draw from is seeded.

    These are the global ones of torch, NumPy and Python, and those that the module or a
    submodule holds as an attribute. Afterwards all are as before, whatever happened.
    Draws from anything else, such as `os.urandom`, cannot be repeated.

    Args:
        module: The model.
        device: Where it computes.
        seed: What the draws hang on; 0 or more.
    """
    cuda = device.type == "cuda"
    with torch.random.fork_rng([device] if cuda else []), ExitStack() as stack:
        stack.callback(random.setstate, random.getstate())
        stack.callback(np.random.set_state, np.random.get_state())
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        random.seed(seed)
        np.random.set_state(np.random.RandomState(seed % 2**32).get_state())
        for number, own in enumerate(_own_generators(module)):
            stack.callback(_reseed(own, derive_seed(seed, "own", number)))
        yield


def _own_generators(module: nn.Module) -> list[object]:
    """Generators that the module or a submodule holds, each once."""
    kinds = (
        torch.Generator,
        np.random.Generator,
        np.random.RandomState,
        random.Random,
    )
    held = (value for part in module.modules() for value in vars(part).values())
    found = {id(value): value for value in held if isinstance(value, kinds)}
    return list(found.values())


def _reseed(generator: object, seed: int) -> Callable[[], object]:
    """Seeds a generator, and returns what puts its state back."""
    match generator:
        case torch.Generator():
            state = generator.get_state()
            generator.manual_seed(seed)
            return lambda: generator.set_state(state)
        case np.random.Generator():
            bits = generator.bit_generator
            before = bits.state
            bits.state = type(bits)(seed).state

            def put_back() -> None:
                bits.state = before

            return put_back
        case np.random.RandomState():
            legacy = generator.get_state()
            generator.seed(seed % 2**32)
            return lambda: generator.set_state(legacy)
        case random.Random():
            python = generator.getstate()
            generator.seed(seed)
            return lambda: generator.setstate(python)
        case _:
            raise TypeError(f"{type(generator).__name__} is no generator.")
