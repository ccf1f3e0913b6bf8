from pathlib import Path

import numpy as np
import pytest

from robustgen.errors import RequestError
from robustgen.table import PredictionTable, TableKey, load_table, save_table

KEY = TableKey("faces", "faces", "cw", "oblivious", "l2", float("inf"), "test")


def _table() -> PredictionTable:
    rng = np.random.default_rng(0)
    return PredictionTable(
        key=KEY,
        class_names=("neutral", "smiling"),
        sample=np.array([4, 7, 9]),
        label=np.array([0, 1, 1]),
        single={"image": rng.dirichlet([1, 1], 3).astype(np.float32)},
        views={"stylemix_ensemble": rng.dirichlet([1, 1], (3, 5)).astype(np.float32)},
        cost={"distance_l2": np.array([0.1, np.nan, np.inf], np.float32)},
    )


def test_a_saved_table_comes_back_unchanged(tmp_path: Path):
    table = _table()
    save_table(table, tmp_path / "t.npz")
    again = load_table(tmp_path / "t.npz")
    assert again.key == KEY
    assert again.class_names == table.class_names
    np.testing.assert_array_equal(again.sample, table.sample)
    np.testing.assert_array_equal(again.label, table.label)
    for group in ("single", "views", "cost"):
        before, after = getattr(table, group), getattr(again, group)
        assert before.keys() == after.keys()
        for name in before:
            assert before[name].dtype == after[name].dtype
            np.testing.assert_array_equal(before[name], after[name])


@pytest.mark.parametrize("kept", [0, 10, 400])
def test_a_damaged_table_is_named(tmp_path: Path, kept: int):
    path = tmp_path / "t.npz"
    save_table(_table(), path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(RequestError, match=r"t\.npz: not a readable prediction table"):
        load_table(path)


def test_a_missing_table_is_named(tmp_path: Path):
    with pytest.raises(RequestError, match=r"none\.npz: not a readable"):
        load_table(tmp_path / "none.npz")
