"""Torch generators, one per draw. See `robustgen.seeding` for the rule."""

import torch

from robustgen.seeding import derive_seed


def rng_for(seed: int, *path: str | int) -> torch.Generator:
    """A CPU generator owned by one draw, such as `rng_for(0, "views", index)`."""
    rng = torch.Generator()
    rng.manual_seed(derive_seed(seed, *path))
    return rng
