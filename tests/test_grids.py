import pandas as pd
import pytest
from synthetic import make_run

from robustgen.ensembling import EnsembleRule
from robustgen.grids import (
    Grid,
    Subject,
    accuracy_grid,
    attacks_grid,
    differences_grid,
    headline,
    projection_grid,
    subjects,
)
from robustgen.metrics import (
    accuracy_frame,
    costs_frame,
    differences_frame,
    robustness_frame,
)
from robustgen.outcomes import Outcomes, read_outcomes


@pytest.fixture(scope="module")
def outcomes() -> Outcomes:
    return read_outcomes(make_run(), EnsembleRule(resamples=2))


def test_a_cell_holds_share_and_interval(outcomes: Outcomes):
    accuracy = accuracy_frame(outcomes, suite="s", profile="embedded")
    grid = accuracy_grid(accuracy, "matched")
    assert grid.columns[:3] == ("attack", "image", "reconstruction")
    assert grid.rows[1][:3] == (
        "pgd (oblivious)",
        "0.100 [0.018, 0.404]",
        "0.700 [0.397, 0.892]",
    )


def test_matched_stands_in_for_clean(outcomes: Outcomes):
    accuracy = accuracy_frame(outcomes, suite="s", profile="embedded")
    matched = accuracy.loc[accuracy["alpha_from"] != "clean"]
    assert headline(matched, "clean")[1] == "matched"
    assert headline(accuracy, "clean")[1] == "clean"


def test_intervals_are_put_into_words(outcomes: Outcomes):
    rows = differences_grid(differences_frame(outcomes, seed=0)).rows
    words = {row[:4]: row[-1] for row in rows}
    pgd = "pgd (oblivious)"
    assert words[pgd, "", "image", "reconstruction"] == "second is higher"
    assert (
        words[pgd, "matched", "reconstruction", "stylemix_ensemble"] == "not told apart"
    )
    assert (
        words[pgd, "clean", "reconstruction", "stylemix_ensemble"] == "second is lower"
    )


def test_a_radius_reads_as_people_write_it(outcomes: Outcomes):
    robustness = robustness_frame(outcomes)
    image = robustness.loc[robustness["path"] == "image"]
    rows = attacks_grid(image, costs_frame(outcomes)).rows
    assert [row[:4] for row in rows] == [
        ("clean", "none", "0", ""),
        ("pgd (oblivious)", "linf", "8/255", "0.900 [0.596, 0.982]"),
    ]
    assert rows[1][-2:] == ("41", "40")


def test_paths_without_a_generator_have_no_projection(outcomes: Outcomes):
    costs = costs_frame(outcomes)
    assert projection_grid(costs).rows[0] == ("clean", "0.5", "0.25", "12")
    assert projection_grid(costs.assign(final_loss=float("nan"))).rows == ()


def test_subjects_keep_their_order():
    frame = pd.DataFrame({"dataset": ["b", "a", "b"], "classifier": ["x", "x", "x"]})
    found = subjects(frame)
    assert found == [Subject("b", "x"), Subject("a", "x")]
    assert len(found[0].rows(frame)) == 2


def test_markdown_keeps_a_bar_inside_its_cell():
    grid = Grid("t", ("a", "b"), (("x|y", "1.0"),))
    assert grid.markdown.splitlines()[-1] == "| x\\|y | 1.0 |"
