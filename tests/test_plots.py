import re

import matplotlib as mpl
import pandas as pd
import pytest
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from synthetic import make_run

from robustgen.ensembling import EnsembleRule
from robustgen.grids import headline
from robustgen.metrics import accuracy_frame, curves_frame, differences_frame
from robustgen.outcomes import read_outcomes
from robustgen.plots import accuracy_bars, alpha_curves, difference_marks, svg_text

ATTACKS = ["clean", "pgd"]


@pytest.fixture(scope="module")
def frames() -> dict[str, pd.DataFrame]:
    outcomes = read_outcomes(make_run(), EnsembleRule(resamples=2))
    accuracy = accuracy_frame(outcomes, suite="s", profile="embedded")
    return {
        "accuracy": headline(accuracy, "clean")[0],
        "curves": curves_frame(outcomes),
        "differences": differences_frame(outcomes, seed=0),
    }


def test_bars_are_as_long_as_the_accuracies(frames: dict[str, pd.DataFrame]):
    (axes,) = accuracy_bars(frames["accuracy"]).axes
    lengths = {
        bars.get_label(): [bar.get_width() for bar in bars.patches]
        for bars in axes.containers
        if isinstance(bars, BarContainer)
        and bars.get_label() in ("image", "reconstruction")
    }
    assert lengths == {
        "image": pytest.approx([1.0, 0.1]),
        "reconstruction": pytest.approx([0.9, 0.7]),
    }
    assert [label.get_text() for label in axes.get_yticklabels()] == ATTACKS


def test_curves_have_one_panel_per_attack(frames: dict[str, pd.DataFrame]):
    panels = alpha_curves(frames["curves"], frames["accuracy"]).axes
    assert [axes.get_title() for axes in panels] == ATTACKS
    # Three ensembles on two splits, and three marks of the chosen alpha.
    assert [len(axes.lines) for axes in panels] == [9, 9]


def test_an_odd_number_of_attacks_leaves_a_panel_empty(
    frames: dict[str, pd.DataFrame],
):
    third = frames["curves"].assign(attack="cw")
    rows = pd.concat([frames["curves"], third], ignore_index=True)
    panels = alpha_curves(rows, frames["accuracy"]).axes
    assert [axes.get_title() for axes in panels] == [*ATTACKS, "cw", ""]


def test_differences_stand_in_one_line_each(frames: dict[str, pd.DataFrame]):
    (axes,) = difference_marks(frames["differences"]).axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[0] == "clean: image → reconstruction"
    assert len(labels) == len(frames["differences"])


def test_a_figure_is_the_same_text_every_time(frames: dict[str, pd.DataFrame]):
    one, again = (
        svg_text(accuracy_bars(frames["accuracy"]), "bars", "Bars") for _ in range(2)
    )
    assert one == again
    assert one.startswith('<svg role="img" aria-label="Bars"')
    assert one.endswith("</svg>")


def test_ids_carry_the_name_of_the_figure(frames: dict[str, pd.DataFrame]):
    text = svg_text(accuracy_bars(frames["accuracy"]), "bars0", "Bars")
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert ids
    assert all(one.startswith("bars0-") for one in ids)
    used = re.findall(r'(?:href="#|url\(#)([^")]*)', text)
    assert used
    assert set(used) <= set(ids)


def test_the_page_sets_size_and_text_color():
    figure = Figure(figsize=(2, 1))
    figure.text(0.5, 0.5, "words")
    text = svg_text(figure, "tiny", "Tiny")
    opening = text[: text.index(">")]
    assert 'viewBox="0 0 144 72"' in opening
    assert "width=" not in opening
    assert "height=" not in opening
    assert "#000000" not in text
    assert ">words</text>" in text


def test_drawing_leaves_the_settings_of_matplotlib_alone():
    before = dict(mpl.rcParams)
    svg_text(Figure(figsize=(1, 1)), "empty", "Empty")
    assert dict(mpl.rcParams) == before
