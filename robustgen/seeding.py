"""Seeds that belong to what is drawn, never to when it is drawn.

Two draws share a stream only if their seed and path are equal. So no result can
depend on batch size, on the order of cases, or on what ran before.
"""

import hashlib

import numpy as np


def derive_seed(seed: int, *path: str | int) -> int:
    """A 63-bit seed for one purpose, such as `derive_seed(0, "views", index)`.

    The path is hashed with the type and length of its parts, so `("a", 1)`,
    `("a", "1")` and `("a1",)` are different purposes.

    >>> derive_seed(0, "views", 3) == derive_seed(0, "views", 3)
    True
    >>> derive_seed(0, "views", 3) == derive_seed(0, "views", "3")
    False
    """
    digest = hashlib.blake2b(repr((seed, *path)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def numpy_rng(seed: int, *path: str | int) -> np.random.Generator:
    """A NumPy generator owned by one draw."""
    return np.random.default_rng(derive_seed(seed, *path))
