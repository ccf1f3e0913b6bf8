import functools
import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from synthetic import make_run

from robustgen.ensembling import EnsembleRule
from robustgen.grids import headline, with_alpha
from robustgen.metrics import (
    accuracy_frame,
    curves_frame,
    differences_frame,
    worst_case_frame,
)
from robustgen.names import TIERS
from robustgen.outcomes import read_outcomes
from robustgen.plots import (
    Threat,
    accuracy_bars,
    alpha_curves,
    difference_marks,
    eps_curves,
    ladder_marks,
    ladder_steps,
    ladder_threats,
    png_file,
    svg_file,
    svg_text,
    sweep_rows,
)
from robustgen.plots.style import LOOKS, SERIES

ATTACKS = ["clean", "pgd"]
ENSEMBLES = ("stylemix_ensemble", "combined_ensemble", "image_ensemble")
PATHS = ("image", "reconstruction", *ENSEMBLES)
THREAT = Threat("linf", 8 / 255)


def frames() -> dict[str, pd.DataFrame]:
    outcomes = read_outcomes(make_run(), EnsembleRule(resamples=2))
    accuracy = accuracy_frame(outcomes, suite="s", profile="embedded")
    return {
        "accuracy": headline(accuracy, "clean")[0],
        "curves": curves_frame(outcomes),
        "differences": with_alpha(differences_frame(outcomes, seed=0), "clean"),
        "worst": with_alpha(worst_case_frame(outcomes), "clean"),
    }


FRAMES = frames()


def row(
    attack: str, tier: str, eps: float, path: str, accuracy: float, verdict: str = ""
) -> dict[str, object]:
    """One row of an accuracy frame."""
    return {
        "dataset": "faces",
        "classifier": "cnn",
        "attack": attack,
        "tier": tier,
        "norm": "none" if tier == "none" else "linf",
        "eps": eps,
        "path": path,
        "split": "test",
        "n": 10,
        "accuracy": accuracy,
        "ci_low": max(accuracy - 0.1, 0),
        "ci_high": min(accuracy + 0.1, 1),
        "alpha": np.nan,
        "alpha_from": "",
        "verdict": verdict,
    }


def full_ladder() -> pd.DataFrame:
    """Every path under clean images and every tier, INVALID and SUSPECT at the end."""
    verdicts = {"spsa": "INVALID", "square": "SUSPECT"}
    return pd.DataFrame(
        [
            row("clean", "none", 0, path, 1, "TRUSTED")
            if tier == "clean"
            else row(tier, tier, 8 / 255, path, 0.5, verdicts.get(tier, "TRUSTED"))
            for path in PATHS
            for tier in ("clean", *TIERS)
        ]
    )


def two_sweeps() -> pd.DataFrame:
    """FGSM and PGD at 4/255 and 8/255 on two paths, 8/255 first, and JPEG."""
    return pd.DataFrame(
        [
            one
            for path in PATHS[:2]
            for one in (
                row("clean", "none", 0, path, 1, "TRUSTED"),
                row("jpeg", "none", np.inf, path, 0.8, "TRUSTED"),
                row("pgd_8", "oblivious", 8 / 255, path, 0.1, "SUSPECT"),
                row("pgd_4", "oblivious", 4 / 255, path, 0.4, "TRUSTED"),
                row("fgsm_4", "oblivious", 4 / 255, path, 0.7, "TRUSTED"),
            )
        ]
    )


SWEEPS = {"pgd_4": "pgd", "pgd_8": "pgd", "fgsm_4": "fgsm"}


def ladder_figure() -> Figure:
    """A ladder of all tiers on all paths."""
    rows = full_ladder()
    worst = rows.loc[rows["tier"] == "unrolled"]
    return ladder_marks(ladder_steps(rows, worst, THREAT), chance=0.5)


def eps_figure() -> Figure:
    return eps_curves(sweep_rows(two_sweeps(), SWEEPS))


FIGURES: dict[str, Callable[[], Figure]] = {
    "bars": lambda: accuracy_bars(FRAMES["accuracy"]),
    "bars_ladder": lambda: accuracy_bars(full_ladder()),
    "alphas": lambda: alpha_curves(FRAMES["curves"], FRAMES["accuracy"]),
    "differences": lambda: difference_marks(FRAMES["differences"]),
    "ladder": ladder_figure,
    "eps": eps_figure,
}


@functools.cache
def drawn(name: str) -> Figure:
    """One of the figures, drawn once for all tests that only look at it."""
    return FIGURES[name]()


def texts(figure: Figure) -> list[Text]:
    return [one for one in figure.findobj(Text) if one.get_text() and one.get_visible()]


def bars_of(figure: Figure) -> dict[str, list[float]]:
    (axes,) = figure.axes
    return {
        str(bars.get_label()): [bar.get_width() for bar in bars.patches]
        for bars in axes.containers
        if isinstance(bars, BarContainer)
    }


def marks_of(axes: Axes) -> dict[float, list[tuple[str, str, str]]]:
    """Marker, face and edge of what stands at each place of a panel of the ladder."""
    found: dict[float, list[tuple[str, str, str]]] = {}
    for line in axes.lines:
        if line.get_linestyle() == "None":
            look = (
                str(line.get_marker()),
                str(line.get_markerfacecolor()),
                str(line.get_color()),
            )
            (x,) = np.asarray(line.get_xdata(), float)
            if look[0] != "|":
                found.setdefault(float(x), []).append(look)
    return found


def luminance(color: str) -> float:
    """Relative luminance of a color, as WCAG 2 defines it."""
    linear = [
        one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4
        for one in to_rgb(color)
    ]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def test_bars_are_as_long_as_the_accuracies():
    lengths = bars_of(drawn("bars"))
    assert lengths["image"] == pytest.approx([1.0, 0.1])
    assert lengths["reconstruction"] == pytest.approx([0.9, 0.7])
    (axes,) = drawn("bars").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ATTACKS


def test_a_path_without_a_number_takes_no_room():
    rows = pd.DataFrame(
        [row("clean", "none", 0, path, 1) for path in PATHS]
        + [row("spsa", "spsa", 8 / 255, "reconstruction", 0.5)]
    )
    figure = accuracy_bars(rows)
    assert len(bars_of(figure)["reconstruction"]) == 2
    assert len(bars_of(figure)["image"]) == 1
    (axes,) = figure.axes
    # Five bars, an empty line, one bar.
    assert list(axes.get_yticks()) == [2.0, 6.0]


def test_bars_keep_the_order_of_paths_under_every_attack():
    paths = ["image", "reconstruction"]
    rows = pd.DataFrame(
        [
            *(row("clean", "none", 0, path, 1) for path in paths),
            row("square", "square", 8 / 255, "reconstruction", 0.25),
            row("square", "square", 8 / 255, "image", 0.5),
        ]
    )
    said = [one.get_text() for one in accuracy_bars(rows).axes[0].texts]
    assert said == ["1.000", "1.000", "0.500", "0.250"]


def test_the_mark_of_a_verdict_stands_behind_its_number():
    rows = pd.DataFrame(
        [
            row("a", "oblivious", 8 / 255, "image", 0.25, "TRUSTED"),
            row("b", "oblivious", 8 / 255, "image", 0.5, "SUSPECT"),
            row("c", "oblivious", 8 / 255, "image", 0.75, "INVALID"),
        ]
    )
    said = {one.get_text() for one in texts(accuracy_bars(rows))}
    assert {"0.250", "0.500 ?", "0.750 ✗"} <= said


def test_curves_have_one_panel_per_attack():
    panels = drawn("alphas").axes
    assert [axes.get_title() for axes in panels] == ATTACKS
    # Three ensembles on two splits, and three marks of the chosen alpha.
    assert [len(axes.lines) for axes in panels] == [9, 9]


def test_an_odd_number_of_attacks_leaves_a_panel_empty():
    third = FRAMES["curves"].assign(attack="cw")
    rows = pd.concat([FRAMES["curves"], third], ignore_index=True)
    panels = alpha_curves(rows, FRAMES["accuracy"]).axes
    assert [axes.get_title() for axes in panels] == [*ATTACKS, "cw", ""]


def test_differences_stand_below_their_attack():
    rows = FRAMES["differences"]
    (axes,) = drawn("differences").axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[:2] == ["clean", "image → reconstruction"]
    assert len(labels) == len(rows) + len(ATTACKS)


def test_the_threats_of_a_ladder_are_those_of_attacks_that_know_the_defense():
    rows = full_ladder()
    assert ladder_threats(rows) == [THREAT]
    assert ladder_threats(rows.loc[rows["tier"] == "oblivious"]) == []
    assert ladder_threats(FRAMES["accuracy"]) == []


def test_the_strongest_attack_stands_for_its_tier_at_one_threat():
    rows = pd.DataFrame(
        [
            row("clean", "none", 0, "image", 1),
            row("fgsm", "oblivious", 8 / 255, "image", 0.6),
            row("pgd", "oblivious", 8 / 255, "image", 0.2),
            row("pgd_16", "oblivious", 16 / 255, "image", 0.0),
            row("square", "square", 8 / 255, "image", 0.4),
        ]
    )
    worst = rows.loc[rows["attack"] == "pgd_16"]
    steps = ladder_steps(rows, worst, THREAT)
    assert list(zip(steps["tier"], steps["accuracy"], strict=True)) == [
        ("clean", 1.0),
        ("oblivious", 0.2),
        ("square", 0.4),
        ("worst case", 0.0),
    ]


def test_the_ladder_rises_from_clean_to_the_worst_case():
    figure = drawn("ladder")
    assert [axes.get_title(loc="left") for axes in figure.axes] == list(PATHS)
    names = [label.get_text() for label in figure.axes[-1].get_xticklabels()]
    assert names == ["clean", *TIERS, "worst case"]


def test_marks_of_the_ladder_say_the_verdict():
    look = LOOKS["image"]
    marks = marks_of(drawn("ladder").axes[0])
    places = {name: place for place, name in enumerate(("clean", *TIERS, "worst case"))}
    filled = (look.marker, look.color, look.color)
    hollow = (look.marker, "none", look.color)
    assert marks[places["unrolled"]] == [filled]
    assert marks[places["square"]] == [hollow]
    assert marks[places["spsa"]] == [hollow, ("x", look.color, look.color)]
    assert marks[places["worst case"]] == [("_", look.color, look.color)]


def test_a_ladder_without_chance_or_worst_case_names_neither():
    steps = ladder_steps(full_ladder(), full_ladder().iloc[:0], THREAT)
    said = {one.get_text() for one in texts(ladder_marks(steps))}
    assert not said & {"constant guess", "worst case"}
    assert {"TRUSTED", "SUSPECT", "INVALID"} <= said


def test_sweeps_rise_from_clean_images():
    curves = sweep_rows(two_sweeps(), SWEEPS)
    pgd = curves[(curves["attack"] == "pgd") & (curves["path"] == "image")]
    assert pgd["eps"].tolist() == [0, 4 / 255, 8 / 255]
    assert pgd["accuracy"].tolist() == [1, 0.4, 0.1]
    assert set(pgd["norm"]) == {"linf"}
    assert len(curves) == 2 * (3 + 2)


def test_without_a_sweep_there_are_no_curves():
    assert len(sweep_rows(two_sweeps(), {})) == 0
    assert len(sweep_rows(FRAMES["accuracy"], {"other": "other"})) == 0


def test_curves_over_eps_have_one_panel_per_path():
    panels = drawn("eps").axes
    assert [axes.get_title() for axes in panels] == ["image", "reconstruction"]
    assert panels[0].get_xlabel() == "linf eps (1/255)"
    faces = [
        (str(line.get_markerfacecolor()), list(np.asarray(line.get_xdata(), float)))
        for line in panels[0].lines
        if line.get_linestyle() == "None"
    ]
    # PGD at 8/255 is SUSPECT, and so hollow.
    assert faces[1] == ("none", [8.0])


def test_paths_and_lines_differ_without_color():
    assert len({look.marker for look in LOOKS.values()}) == len(LOOKS)
    assert len({look.hatch for look in LOOKS.values()}) == len(LOOKS)
    assert len({look.marker for look in SERIES}) == len(SERIES)


@pytest.mark.parametrize("look", [*LOOKS.values(), *SERIES])
@pytest.mark.parametrize("page", ["#ffffff", "#14171a"])
def test_colors_stand_out_from_light_and_dark_pages(look: tuple[str, ...], page: str):
    dark, light = sorted((luminance(look[0]), luminance(page)))
    # The largest that all of the palette reach: yellow and sky blue on white.
    assert (light + 0.05) / (dark + 0.05) > 2.1


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_cut_off(name: str):
    box = drawn(name).get_tightbbox()
    width, height = drawn(name).get_size_inches()
    # Half a point, for what a line is wide.
    assert box.x0 >= -0.5 / 72
    assert box.y0 >= -0.5 / 72
    assert box.x1 <= width + 0.5 / 72
    assert box.y1 <= height + 0.5 / 72


@pytest.mark.parametrize("name", FIGURES)
def test_a_phone_shows_text_of_eight_points_or_more(name: str):
    figure = drawn(name)
    assert min(float(one.get_fontsize()) for one in texts(figure)) >= 8
    # 358 CSS pixels are left between the margins of a page 390 wide.
    assert 358 / (figure.get_figwidth() * 72) > 1.1


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_the_same_every_time(name: str):
    one, again = drawn(name), FIGURES[name]()
    assert svg_text(one, name, "Title") == svg_text(again, name, "Title")


def test_files_do_not_depend_on_what_was_saved_before():
    one, again = FIGURES["differences"](), FIGURES["differences"]()
    svg, png = svg_file(one, "salt"), png_file(one)
    assert png_file(again) == png
    assert svg_file(again, "salt") == svg


def test_an_svg_file_stands_alone_on_white():
    text = svg_file(drawn("bars"), "bars")
    root = ET.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{space}svg"
    ground = root[0]
    assert (ground.tag, ground.get("fill")) == (f"{space}rect", "#ffffff")
    said = {"".join(one.itertext()) for one in root.iter(f"{space}text")}
    assert {"clean", "pgd", "0.700"} <= said
    assert "currentColor" not in text
    assert "matplotlib.org" not in text


def test_a_png_file_holds_150_dots_per_inch_and_no_versions():
    content = png_file(drawn("differences"))
    with Image.open(io.BytesIO(content)) as image:
        assert image.width == 675
        assert {*image.info} <= {"dpi"}
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_an_element_of_a_page_is_named():
    one = svg_text(drawn("bars"), "bars", "Bars")
    assert one.startswith('<svg role="img" aria-label="Bars"')
    assert one.endswith("</svg>")
    assert "xmlns" not in one
    ET.fromstring(one)


def test_ids_carry_the_name_of_the_figure():
    for name in FIGURES:
        text = svg_text(drawn(name), name, "Title")
        ids = re.findall(r'\bid="([^"]*)"', text)
        assert ids
        assert all(one.startswith(f"{name}-") for one in ids)
        used = re.findall(r'(?:href="#|url\(#)([^")]*)', text)
        assert used
        assert set(used) <= set(ids)


def test_the_page_sets_size_and_text_color():
    figure = Figure(figsize=(2, 1))
    figure.text(0.5, 0.5, "words")
    text = svg_text(figure, "tiny", "Tiny")
    opening = text[: text.index(">")]
    assert 'viewBox="0 0 144 72"' in opening
    assert not re.search(r"\s(width|height)=", opening)
    assert "max-width: 326px" in opening
    assert "#000000" not in text
    assert ">words</text>" in text


def test_drawing_leaves_the_settings_of_matplotlib_alone():
    before = dict(mpl.rcParams)
    figure = FIGURES["bars"]()
    svg_text(figure, "bars", "Bars")
    png_file(figure)
    assert dict(mpl.rcParams) == before


def test_numbers_of_the_ladder_do_not_touch_their_marks():
    axes = drawn("ladder").axes[0]
    labels = sorted(
        (one for one in axes.texts if one.get_text()),
        key=lambda one: one.get_position()[0],
    )
    boxes = [one.get_window_extent() for one in labels]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
    for label in labels:
        x, y = label.get_position()
        assert y - 0.13 >= float(label.get_text()), x
