import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from synthetic import first, make_run, make_table

from robustgen.errors import RequestError
from robustgen.figures import (
    constant_guess,
    pair_figures,
    report_figures,
    write_figures,
)
from robustgen.grids import OBLIVIOUS_NOTE, Subject
from robustgen.report import build_report
from robustgen.report_schema import Report
from robustgen.table import PredictionTable

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def report_of(tables: list[PredictionTable], record: dict[str, Any]) -> Report:
    return build_report(tables, suite=record, profile="embedded", manifest={})


def four_paths() -> Report:
    return report_of(make_run(), {"name": "four", "ensemble": {"resamples": 2}})


def oblivious(attack: str, steps: int, right: int) -> PredictionTable:
    """PGD of linf `steps`/255 that leaves so many of ten images right."""
    paths = {"image": first(right), "reconstruction": first(9)}
    one = make_table("pgd", "test", paths)
    return replace(one, key=replace(one.key, attack=attack, eps=steps / 255))


def adaptive(tier: str, steps: int, right: int) -> PredictionTable:
    """A table of one tier aimed at the reconstruction, scored on one draw."""
    one = oblivious(tier, steps, right)
    return replace(
        one,
        key=replace(one.key, tier=tier, target="reconstruction"),
        single={},
        cost={**one.cost, "select_margin": np.ones(10, np.float32)},
        draws={"reconstruction": one.single["image"][:, None]},
    )


def sweep_and_ladder() -> Report:
    clean = {"image": first(10), "reconstruction": first(10)}
    tables = [
        make_table("clean", "test", clean),
        oblivious("pgd_4", 4, 5),
        oblivious("pgd_8", 8, 1),
        adaptive("bpda_identity", 8, 4),
        adaptive("unrolled", 8, 2),
        adaptive("square", 16, 9),
    ]
    sweep = [{"name": name, "sweep": "pgd"} for name in ("pgd_4", "pgd_8")]
    return report_of(tables, {"name": "two", "attacks": [{"name": "clean"}, *sweep]})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "figures").iterdir())


def test_a_run_with_ensembles_has_bars_alphas_and_differences():
    figures = report_figures(four_paths())
    assert [one.kind for one in figures] == ["bars", "alpha", "differences"]
    assert [one.name for one in figures] == [
        "faces-cnn-bars",
        "faces-cnn-alpha",
        "faces-cnn-differences",
    ]


def test_a_ladder_has_one_figure_per_threat_and_a_sweep_one():
    figures = {one.name: one for one in report_figures(sweep_and_ladder())}
    assert list(figures) == [
        "faces-cnn-bars",
        "faces-cnn-ladder1",
        "faces-cnn-ladder2",
        "faces-cnn-eps",
    ]
    assert figures["faces-cnn-ladder1"].title.endswith("knows more, linf 8/255")
    assert figures["faces-cnn-ladder2"].title.endswith("knows more, linf 16/255")
    steps = [
        label.get_text()
        for label in figures["faces-cnn-ladder1"].figure.axes[-1].get_xticklabels()
    ]
    assert steps == ["clean", "oblivious", "bpda_identity", "unrolled", "worst case"]


def test_every_caption_carries_the_warning_of_its_numbers():
    figures = report_figures(four_paths())
    assert all(one.caption.endswith(OBLIVIOUS_NOTE) for one in figures)
    assert not any("  " in one.caption for one in figures)


def test_names_are_unique_and_fit_for_files_and_ids():
    report = sweep_and_ladder()
    frames = {
        name: pd.concat(
            [
                getattr(report, name).assign(classifier=classifier)
                for classifier in ("my/net v1.pt", "my net v1.pt")
            ],
            ignore_index=True,
        )
        for name in ("accuracy", "worst_case", "differences", "curves", "predictions")
    }
    found = [one.name for one in report_figures(report.model_copy(update=frames))]
    assert len(found) == len(set(found)) == 8
    assert all(re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", name) for name in found)
    assert found[0] == "faces-my_net_v1.pt-bars"
    assert found[4] == "faces-my_net_v1.pt-2-bars"


def test_a_constant_guess_is_as_good_as_the_most_frequent_class():
    # Ten test samples, labels in turn 0 and 1, seen under two attacks and five paths.
    assert constant_guess(four_paths().predictions) == 0.5
    zeros = four_paths().predictions.assign(label=0)
    assert constant_guess(zeros) == 1.0
    assert np.isnan(constant_guess(four_paths().predictions.iloc[:0]))


def test_figures_of_a_pair_start_with_its_name():
    found = pair_figures(four_paths(), Subject("faces", "cnn"), "pair1")
    assert [one.name for one in found] == [
        "pair1-bars",
        "pair1-alpha",
        "pair1-differences",
    ]


def test_every_figure_is_an_svg_and_a_png_file(tmp_path: Path):
    write_figures(sweep_and_ladder(), tmp_path)
    stems = ("bars", "eps", "ladder1", "ladder2")
    assert names(tmp_path) == [
        f"faces-cnn-{stem}.{suffix}" for stem in stems for suffix in ("png", "svg")
    ]
    for stem in stems:
        svg = tmp_path / "figures" / f"faces-cnn-{stem}.svg"
        assert ET.parse(svg).getroot().tag == "{http://www.w3.org/2000/svg}svg"
        png = svg.with_suffix(".png")
        assert png.read_bytes()[:8] == PNG_SIGNATURE
        with Image.open(png) as image:
            assert image.info["dpi"][0] == pytest.approx(150, abs=0.1)


def test_files_are_the_same_again_and_hold_no_date(tmp_path: Path):
    for name in ("one", "two"):
        write_figures(four_paths(), tmp_path / name)
    for name in names(tmp_path / "one"):
        one, two = (
            (tmp_path / run / "figures" / name).read_bytes() for run in ("one", "two")
        )
        assert one == two, name
        assert not re.search(rb"20\d\d-\d\d-\d\d|[Mm]atplotlib v", one)


def test_figures_of_an_earlier_report_are_removed(tmp_path: Path):
    write_figures(sweep_and_ladder(), tmp_path)
    (tmp_path / "figures" / "mine.txt").write_text("stays")
    write_figures(four_paths(), tmp_path)
    assert names(tmp_path) == [
        *(
            f"faces-cnn-{kind}.{suffix}"
            for kind in ("alpha", "bars", "differences")
            for suffix in ("png", "svg")
        ),
        "mine.txt",
    ]


def test_a_folder_that_cannot_be_made_is_a_plain_message(tmp_path: Path):
    (tmp_path / "figures").write_text("a file")
    with pytest.raises(RequestError, match="cannot write here"):
        write_figures(four_paths(), tmp_path)


def test_a_run_without_test_images_has_no_figures(tmp_path: Path):
    tables = [one for one in make_run() if one.key.split == "val"]
    report = report_of(tables, {"name": "val", "ensemble": {"resamples": 2}})
    assert report_figures(report) == []
    write_figures(report, tmp_path)
    assert not (tmp_path / "figures").exists()


def test_splits_without_samples_give_empty_figures(tmp_path: Path):
    tables = [
        make_table(attack, "test", {"image": [], "reconstruction": []})
        for attack in ("clean", "pgd")
    ]
    write_figures(report_of(tables, {"name": "none"}), tmp_path)
    assert names(tmp_path) == ["faces-cnn-bars.png", "faces-cnn-bars.svg"]
