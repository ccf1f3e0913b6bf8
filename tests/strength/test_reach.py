import math

import numpy as np
import pandas as pd
import pytest
from strength_tables import suite, table

from robustgen.strength.reach import EpsSweep, area, distance_median, sweep_median
from robustgen.strength.tallies import strength_report
from robustgen.table import PredictionTable

NAMES = {"pgd_4": "pgd", "pgd_8": "pgd", "pgd_16": "pgd"}


def sweep(*right: str) -> EpsSweep:
    eps = np.array([4, 8, 16])[: len(right)] / 255
    marks = np.array([[mark == "+" for mark in row] for row in right])
    return EpsSweep("pgd", "linf", eps, marks)


def clean(marks: str) -> np.ndarray:
    return np.array([mark == "+" for mark in marks])


def run(*tables: PredictionTable) -> list[PredictionTable]:
    return [
        table("clean", "++++-"),
        table("pgd_16", "----+", eps=16 / 255),
        table("pgd_4", "+++--", eps=4 / 255),
        table("pgd_8", "+----", eps=8 / 255),
        *tables,
    ]


def frames(*tables: PredictionTable) -> tuple[pd.DataFrame, pd.DataFrame]:
    report = strength_report(
        run(*tables),
        suite("clean", *NAMES, sweeps=NAMES),
        seed=0,
    )
    return report.curves, report.reach


def test_the_curve_starts_at_the_clean_accuracy_and_is_left_as_measured():
    curves, _ = frames()
    assert curves["eps"].tolist() == pytest.approx([0, 4 / 255, 8 / 255, 16 / 255])
    # It rises at no point here but may: the last sample is right again at 16/255.
    assert curves["accuracy"].tolist() == pytest.approx([0.8, 0.6, 0.2, 0.2])
    assert set(curves["attack"]) == {"pgd"}
    for row in curves.to_dict("records"):
        assert row["ci_low"] < row["accuracy"] < row["ci_high"]


def test_the_area_is_the_trapezoid_below_the_accuracy():
    _, reach = frames()
    by_hand = (0.7 * 4 + 0.4 * 4 + 0.2 * 8) / 16
    row = reach.iloc[0]
    assert row["area"] == pytest.approx(by_hand)
    assert row["area_low"] < by_hand < row["area_high"]
    assert row["largest_eps"] == pytest.approx(16 / 255)


def test_the_area_of_a_sample_is_between_never_and_always_right():
    all_right = sweep("++", "++", "++")
    assert area(clean("++"), all_right).tolist() == [1.0, 1.0]
    assert area(clean("--"), sweep("--", "--", "--")).tolist() == [0.0, 0.0]
    # Right on the clean image alone: a triangle over the first quarter.
    assert area(clean("+"), sweep("-", "-", "-")).tolist() == [0.125]


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        (("----", "----", "----"), (0, 4)),
        (("--++", "---+", "----"), (0, 4)),  # exactly half by the first radius
        (("-+++", "---+", "----"), (4, 8)),
        (("-+++", "-+++", "----"), (8, 16)),
        (("-+++", "-+++", "-+++"), (16, math.inf)),
        (("--++", "++++", "++++"), (0, 4)),  # right again later: broken at the first
    ],
)
def test_the_median_lies_between_two_radii(
    marks: tuple[str, ...], expected: tuple[float, float]
):
    found = sweep_median(clean("++++"), sweep(*marks))
    assert [end * 255 for end in found] == pytest.approx(expected)


def test_samples_wrong_from_the_start_do_not_count_in_the_median():
    found = sweep_median(clean("++--"), sweep("++--", "++--", "-+--"))
    assert [end * 255 for end in found] == pytest.approx([8, 16])
    assert all(map(math.isnan, sweep_median(clean("--"), sweep("--"))))


def test_never_broken_samples_count_as_infinitely_far():
    assert distance_median(np.array([3.0, 1.0, 2.0])) == (2, 2)
    assert distance_median(np.array([1.0, 2.0, np.inf, np.inf])) == (2, 2)
    assert distance_median(np.array([1.0, np.inf, np.inf])) == (math.inf, math.inf)
    assert all(map(math.isnan, distance_median(np.array([]))))


def test_an_attack_of_least_norm_has_a_median_and_no_area():
    _, reach = frames(
        table(
            "cw",
            "---+-",
            norm="l2",
            eps=math.inf,
            distance_l2=[0.1, 0.4, 0.2, 0.7, 0.01],
        )
    )
    row = reach.set_index("attack").loc["cw"]
    assert row["median_high"] == pytest.approx(0.2)
    assert (row["broken"], row["clean_correct"]) == (3, 4)
    assert math.isnan(row["area"])


def test_an_attack_at_one_radius_outside_a_sweep_has_no_curve():
    curves, reach = frames(table("fgsm", "+----", eps=8 / 255))
    assert set(curves["attack"]) == {"pgd"}
    assert set(reach["attack"]) == {"pgd"}
