"""What the comparison with Defense-GAN adds up from its measurements."""

import doctest
import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from robustgen.errors import RequestError
from robustgen.projection_settings import (
    DefenseGanSettings,
    EncoderSettings,
    HybridSettings,
    max_passes,
)
from robustgen.seeding import numpy_rng

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("defensegan_tables")


@pytest.fixture
def measuring(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("defensegan")


def row(
    tables: ModuleType,
    setting: tuple[str, int, int],
    right: Sequence[float],
    *,
    attack: str = "fgsm",
    classifier: str = "mnist",
    seconds: tuple[float, ...] = (1.0, 1.0),
    l1: float = 0.1,
) -> Any:
    """A measurement of `len(right)` images in batches of equal size."""
    n = len(right)
    return tables.Measured(
        tables.Setting(*setting),
        classifier,
        attack,
        right=np.array(right),
        l1=np.full(n, l1),
        mse=np.full(n, l1 / 10),
        l2_clean=np.full(n, 2.0),
        passes=np.full(n, float(setting[1] * setting[2])),
        seconds=np.array(seconds),
        timed=np.full(len(seconds), n / len(seconds)),
    )


def cells(table: str) -> list[list[str]]:
    """The cells of a Markdown table, without its head."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.splitlines()[2:]
    ]


def test_an_image_under_two_attacks_is_one_sample(tables: ModuleType):
    rows = [
        row(tables, ("ours", 1, 6), [1, 0, 1], seconds=(1.0,)),
        row(tables, ("ours", 1, 6), [1, 1, 0], attack="cw", seconds=(2.0,)),
        row(tables, ("ours", 1, 1), [0, 0, 0], seconds=(1.0,)),
    ]
    few, many = tables.points_of(rows, "ours")
    assert (few.setting.budget, many.setting.budget) == (1, 6)
    assert many.right.tolist() == [1.0, 0.5, 0.5]
    assert many.accuracy == pytest.approx(2 / 3)
    assert many.milliseconds == pytest.approx(1000 * 3 / 6)


def test_the_cheapest_setting_that_reaches_a_goal(tables: ModuleType):
    accuracies = {0: [0, 0], 1: [1, 0], 6: [1, 1], 20: [1, 1]}
    rows = [row(tables, ("ours", 1, p), right) for p, right in accuracies.items()]
    points = tables.points_of(rows, "ours")
    reached = {goal: tables.cheapest(points, goal) for goal in (0.0, 0.5, 0.9, 1.0)}
    assert {goal: one.setting.budget for goal, one in reached.items()} == {
        **{0.0: 0, 0.5: 1},
        **{0.9: 6, 1.0: 6},
    }
    assert tables.cheapest(points[:2], 0.9) is None


def test_the_interval_of_a_ratio_of_times(tables: ModuleType):
    rng = numpy_rng(0, "times")
    fast = rng.uniform(1, 2, size=40)
    exact = tables.ratio_interval(5 * fast, fast, numpy_rng(0))
    assert exact.low == pytest.approx(5)
    assert exact.high == pytest.approx(5)
    # Normal times around 10 and 2: the ratio's standard error by the delta method.
    slow, quick = 10 + rng.normal(size=400), 2 + 0.1 * rng.normal(size=400)
    low, high = tables.ratio_interval(slow, quick, numpy_rng(1))
    spread = 1.96 * 5 * np.sqrt((1 / 10) ** 2 + (0.1 / 2) ** 2) / np.sqrt(400)
    assert low < 5 < high
    assert (high - low) / 2 == pytest.approx(spread, rel=0.15)


def test_equal_passes_pairs_what_both_were_given(tables: ModuleType):
    rows = [
        row(tables, ("defensegan", 1, 10), [1, 0, 0, 0], l1=0.3, seconds=(4.0,)),
        row(tables, ("defensegan", 10, 200), [1, 1, 1, 1]),
        row(tables, ("ours", 1, 10), [1, 1, 1, 0], l1=0.2, seconds=(2.0,)),
        row(tables, ("ours", 1, 6), [1, 1, 1, 1]),
        # Leaves nothing of the image: counts in no mean.
        row(tables, ("ours", 1, 10), [0, 0, 0, 0], attack="cw_published"),
        row(tables, ("defensegan", 1, 10), [0, 0, 0, 0], attack="cw_published"),
    ]
    ((passes, label, theirs, ours, apart, *rest),) = cells(tables.equal_passes(rows, 0))
    assert (passes, label, theirs, ours) == ("10", "R = 1, L = 10", "0.250", "0.750")
    assert apart.startswith("+0.500 [")
    assert rest == ["0.3000", "0.2000", "0.0300", "0.0200", "1000", "500"]


def test_equal_accuracy_finds_what_each_needs(tables: ModuleType):
    rows = [
        row(tables, ("defensegan", 1, 10), [1, 0], seconds=(1.0, 1.0)),
        row(tables, ("defensegan", 1, 200), [1, 1], seconds=(10.0, 10.0)),
        row(tables, ("defensegan", 10, 200), [1, 1], seconds=(100.0, 100.0)),
        row(tables, ("ours", 1, 1), [0, 1], seconds=(0.1, 0.1)),
        row(tables, ("ours", 1, 6), [1, 1], seconds=(0.5, 0.5)),
    ]
    every, one = cells(tables.equal_accuracy(rows, 0))
    assert every[0] == "all"
    assert one == [
        *("fgsm, mnist", "1.000"),
        "R = 10, L = 200: 2000, 100000 ms",
        "R = 1, L = 200: 200, 10000 ms",
        "6 passes: 6, 500 ms",
        *("1.000", "+0.000 [+0.000, +0.000]"),
        *("200.0 [200.0, 200.0]", "20.0 [20.0, 20.0]"),
    ]


def test_a_goal_that_is_not_reached_shows_the_best(tables: ModuleType):
    rows = [
        row(tables, ("defensegan", 10, 200), [1, 1]),
        row(tables, ("ours", 1, 1), [0, 1]),
        row(tables, ("ours", 1, 6), [0, 0]),
    ]
    line = cells(tables.equal_accuracy(rows, 0))[1]
    assert line[4] == "none; best 1 pass: 1, 1000 ms"
    assert line[5:] == ["0.500", "-0.500 [-1.000, +0.000]", "", ""]
    lost = [
        row(tables, ("defensegan", 10, 200), [0, 0]),
        row(tables, ("ours", 1, 1), [0, 0]),
    ]
    assert cells(tables.equal_accuracy(lost, 0))[1][3] == "nothing to reach"


def test_published_figures_stand_beside_ours(tables: ModuleType):
    rows = [
        row(tables, ("bare", 0, 0), [0, 0, 0, 1]),
        row(tables, ("defensegan", 10, 200), [1, 1, 1, 1]),
        row(tables, ("ours", 1, 6), [1, 1, 1, 0]),
        row(tables, ("ours", 1, 1), [0, 0, 0, 0]),
    ]
    (line,) = cells(tables.beside_published(rows, 6))
    assert line[:5] == ["FGSM, eps 0.3", "0.217", "0.988", "mnist", "2.00"]
    assert [cell.split()[0] for cell in line[5:]] == ["0.250", "1.000", "0.750"]


def test_measurements_survive_json(tables: ModuleType):
    one = row(tables, ("defensegan", 10, 200), [1, 0, 1])
    again = tables.measured_of(json.loads(json.dumps(one.record())))
    assert (again.setting, again.attack) == (one.setting, one.attack)
    for name in tables.ARRAYS:
        assert getattr(again, name).tolist() == getattr(one, name).tolist()


def test_tables_go_between_their_markers(tables: ModuleType):
    text = "a\n<!-- t: start -->\nold\n<!-- t: end -->\nb"
    once = tables.filled(text, "t", "| new |")
    assert once == "a\n<!-- t: start -->\n\n| new |\n\n<!-- t: end -->\nb"
    assert tables.filled(once, "t", "| new |") == once
    with pytest.raises(RequestError, match="no '<!-- other: start -->'"):
        tables.filled(text, "other", "x")
    found, _ = doctest.testmod(tables)
    assert found == 0


def test_settings_become_projections_of_as_many_passes(measuring: ModuleType):
    base = HybridSettings(passes=6, perceptual_weight=0.3, latent_weight=0.1)
    for setting in measuring.settings_of(measuring.GRID, measuring.PASSES)[1:]:
        made = measuring.projection_of(setting, base)
        assert max_passes(made) == setting.budget
        if setting.family == "defensegan":
            assert isinstance(made, DefenseGanSettings)
            assert (made.rate, made.momentum) == (10.0, 0.7)
        else:
            assert isinstance(made, EncoderSettings | HybridSettings)
            assert (made.perceptual_weight, made.latent_weight) == (0.3, 0.1)
    assert measuring.GRID[-1] == (10, 200)
