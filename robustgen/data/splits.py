"""Which images are for training, validation and test."""

from collections.abc import Hashable, Sequence

import numpy as np
from jaxtyping import Int64

from robustgen.seeding import derive_seed

DROPPED = "dropped"
"""Split of an image that resembles a held-out one too much; nothing reads it."""


def halves_and_quarters(groups: Sequence[Hashable]) -> np.ndarray:
    """Half, a quarter and a quarter of each group, in the order given.

    Of n images the first `n // 2` train, the last `ceil(n / 4)` test, and those between
    validate: the slices `[: n // 2]`, `[n // 2 : -n // 4]` and `[-n // 4 :]` of the
    released code (`data_cars.py`, `data_cats.py` of chail/gan-ensembling), whose `-n //
    4` rounds away from zero. So 5 images give 2, 1 and 2, and a single one tests.

    >>> halves_and_quarters(["a", "a", "b", "a", "a", "a"]).tolist()
    ['train', 'train', 'test', 'val', 'test', 'test']

    Args:
        groups: Group of each image, such as its class.

    Returns:
        `train`, `val` or `test` for each image.
    """
    return _cut(groups, range(len(groups)))


def hashed_halves_and_quarters(
    groups: Sequence[Hashable], names: Sequence[str], *, seed: int
) -> np.ndarray:
    """The same shares, in an order that hangs on seed and names instead of on places.

    An image that is added moves no other image but those at the borders of the shares.

    Args:
        groups: Group of each image, such as its class.
        names: Name of each image.
        seed: Another seed gives another split.

    Returns:
        `train`, `val` or `test` for each image.
    """
    draws = [derive_seed(seed, "split", name) for name in names]
    return _cut(groups, sorted(range(len(names)), key=lambda row: draws[row]))


def alternate(
    split: np.ndarray, labels: Int64[np.ndarray, " n"]
) -> Int64[np.ndarray, " n"]:
    """Order in which the classes of a split take turns, so that its head has them all.

    Within a class the order stays.

    Args:
        split: Split of each image.
        labels: Class of each image.

    Returns:
        Rows in their new order.
    """
    turn = np.zeros(len(labels), np.int64)
    seen: dict[tuple[str, int], int] = {}
    for row, (name, label) in enumerate(zip(split, labels, strict=True)):
        key = str(name), int(label)
        turn[row] = seen[key] = seen.get(key, -1) + 1
    return np.lexsort((labels, turn)).astype(np.int64)


def _cut(groups: Sequence[Hashable], order: Sequence[int]) -> np.ndarray:
    members: dict[Hashable, list[int]] = {}
    for row in order:
        members.setdefault(groups[row], []).append(row)
    split = np.full(len(groups), "train", "<U5")
    for rows in members.values():
        half, quarter = len(rows) // 2, -len(rows) // 4
        split[rows[half:quarter]] = "val"
        split[rows[quarter:]] = "test"
    return split
