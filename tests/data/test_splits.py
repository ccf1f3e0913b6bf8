"""Fixed splits: the released floors, hashed orders, and classes that take turns."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustgen.data.splits import (
    alternate,
    halves_and_quarters,
    hashed_halves_and_quarters,
)


@pytest.mark.parametrize(
    ("count", "sizes"),
    [
        (1, (0, 0, 1)),
        (2, (1, 0, 1)),
        (3, (1, 1, 1)),
        (4, (2, 1, 1)),
        (5, (2, 1, 2)),
        (6, (3, 1, 2)),
        (7, (3, 2, 2)),
        (8, (4, 2, 2)),
        (41, (20, 10, 11)),
    ],
)
def test_the_floors_of_the_released_slices(count: int, sizes: tuple[int, int, int]):
    train, val, test = sizes
    expected = ["train"] * train + ["val"] * val + ["test"] * test
    assert halves_and_quarters([0] * count).tolist() == expected


def _reference_split(groups: list[int]) -> list[str]:
    """The released code, line by line."""
    members: dict[int, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    names = [""] * len(groups)
    for v in members.values():
        for part, rows in (
            ("train", v[: len(v) // 2]),
            ("val", v[len(v) // 2 : -len(v) // 4]),
            ("test", v[-len(v) // 4 :]),
        ):
            for row in rows:
                names[row] = part
    return names


groups = st.lists(st.integers(0, 3), min_size=1, max_size=40)


@given(groups)
def test_every_group_is_cut_as_in_the_released_code(groups: list[int]):
    assert halves_and_quarters(groups).tolist() == _reference_split(groups)


@settings(max_examples=40)
@given(groups, st.randoms(use_true_random=False))
def test_a_hashed_split_hangs_on_names_alone(groups: list[int], random):
    names = [f"image {row}" for row in range(len(groups))]
    split = hashed_halves_and_quarters(groups, names, seed=3)
    for group in set(groups):
        there = np.array(groups) == group
        counts = sorted(split[there].tolist())
        assert counts == sorted(halves_and_quarters([0] * int(there.sum())).tolist())
    order = list(range(len(groups)))
    random.shuffle(order)
    again = hashed_halves_and_quarters(
        [groups[row] for row in order], [names[row] for row in order], seed=3
    )
    assert again.tolist() == [split[row] for row in order]


def test_an_added_image_moves_few_others():
    names = [f"image {row}" for row in range(400)]
    before = hashed_halves_and_quarters([0] * 400, names, seed=0)
    after = hashed_halves_and_quarters([0] * 401, [*names, "new"], seed=0)
    assert (before != after[:400]).sum() <= 2
    other = hashed_halves_and_quarters([0] * 400, names, seed=1)
    assert (before != other).mean() > 0.4


@settings(max_examples=40)
@given(groups, st.randoms(use_true_random=False))
def test_classes_take_turns(groups: list[int], random):
    labels = np.array(groups)
    split = np.array([random.choice(["val", "test"]) for _ in groups])
    order = alternate(split, labels)
    assert sorted(order.tolist()) == list(range(len(groups)))
    for name in ("val", "test"):
        rows = [row for row in order.tolist() if split[row] == name]
        for label in set(groups):
            mine = [row for row in rows if groups[row] == label]
            assert mine == sorted(mine), "within a class the order stays"
        # Any head of the split holds as many of each class as that class can give.
        for stop in range(len(rows) + 1):
            heads = [groups[row] for row in rows[:stop]]
            counts = {k: heads.count(k) for k in groups}
            totals = {k: [groups[row] for row in rows].count(k) for k in groups}
            left = [counts[k] for k in groups if counts[k] < totals[k]]
            assert not left or max(counts.values()) <= min(left) + 1
