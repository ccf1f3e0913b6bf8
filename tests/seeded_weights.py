"""Weights for networks of any shapes, made without a network's own initialization."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from robustgen.rngs import rng_for


def seeded_state(module: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """A state dict that keeps activations at a scale of about 1.

    Args:
        module: Whose names and shapes to use; it may lie on the meta device.
        seed: Seed of the numbers.
    """
    return {
        name: _values(name, tensor, rng_for(seed, name))
        for name, tensor in module.state_dict().items()
    }


def unlike(state: Mapping[str, Tensor], **changes: Tensor) -> dict[str, Tensor]:
    """The same with some tensors replaced; `__` in a name stands for a dot."""
    return dict(state) | {k.replace("__", "."): v for k, v in changes.items()}


def _values(name: str, like: Tensor, rng: torch.Generator) -> Tensor:
    if not like.is_floating_point():
        return torch.zeros(like.shape, dtype=like.dtype, device="cpu")
    normal = torch.randn(like.shape, generator=rng, device="cpu")
    if like.ndim > 1:
        return normal * (2 / like[0].numel()) ** 0.5
    # Scales and variances around 1, all else around 0.
    scale = name.endswith(("weight", "running_var"))
    return normal.mul(0.2).exp() if scale else normal * 0.1
