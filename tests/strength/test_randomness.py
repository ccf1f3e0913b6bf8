import math

import numpy as np
import pytest
from strength_tables import drawn

from robustgen.intervals import wilson_interval
from robustgen.strength.randomness import majority, random_frame


def test_the_three_accuracies_of_a_random_path():
    # Right in 4 of 4, 3 of 4, 1 of 4 and 0 of 4 draws.
    frame = random_frame(
        drawn(
            [[0, 0, 0, 0], [1, 1, 0, 1], [0, 1, 1, 1], [0, 0, 0, 0]],
            [0, 1, 0, 1],
            fixed=[0, 0, 1, 1],
        )
    )
    (row,) = frame.to_dict("records")
    assert (row["n"], row["draws"]) == (4, 4)
    assert row["mean"] == pytest.approx(8 / 16)
    assert row["majority"] == pytest.approx(2 / 4)
    assert row["worst"] == pytest.approx(1 / 4)
    assert row["fixed"] == pytest.approx(2 / 4)
    assert (row["target"], row["path"]) == ("reconstruction", "reconstruction")
    # A sample counts once, however many draws it has.
    assert (row["mean_low"], row["mean_high"]) == wilson_interval(2, 4)
    assert (row["worst_low"], row["worst_high"]) == wilson_interval(1, 4)


def test_the_lowest_class_wins_a_tied_vote():
    # Two to two: right for the sample of class 0, wrong for the one of class 1.
    (row,) = random_frame(drawn([[0, 1, 1, 0], [0, 1, 1, 0]], [0, 1])).to_dict(
        "records"
    )
    assert row["majority"] == pytest.approx(1 / 2)
    assert row["mean"] == pytest.approx(1 / 2)
    # Of three classes with two votes each, too.
    three = np.eye(3, dtype=np.float32)[[[2, 1, 0, 2, 1, 0], [2, 1, 1, 2, 0, 0]]]
    assert majority(three).tolist() == [0, 0]


def test_a_vote_counts_decisions_and_not_probabilities():
    # One sure draw against two that are nearly undecided.
    draws = np.array([[[0.99, 0.01], [0.49, 0.51], [0.49, 0.51]]], np.float32)
    assert majority(draws).tolist() == [1]


def test_worst_falls_with_every_draw_and_mean_does_not():
    rng = np.random.default_rng(0)
    draws = (rng.random((400, 20)) < 0.1).astype(int)  # wrong in 10% of the draws
    rows = [
        random_frame(drawn(draws[:, :count].tolist(), [0] * 400)).to_dict("records")[0]
        for count in (2, 20)
    ]
    assert rows[0]["worst"] > rows[1]["worst"]
    for row in rows:
        assert row["mean_low"] < 0.9 < row["mean_high"]
    # 0.9 ** 20 of the samples survive all draws; the coin itself is right 0.9 of times.
    assert rows[1]["worst"] == pytest.approx(0.9**20, abs=0.05)
    assert rows[1]["majority"] == pytest.approx(1.0, abs=0.01)


def test_without_a_draw_that_the_attacker_knew_fixed_is_unknown():
    (row,) = random_frame(drawn([[0, 1]], [0])).to_dict("records")
    assert all(math.isnan(row[name]) for name in ("fixed", "fixed_low", "fixed_high"))


def test_a_path_of_one_draw_is_not_random():
    assert random_frame(drawn([[0], [1]], [0, 0])).empty
