import json
import math
from pathlib import Path

import pandas as pd
import pytest
from strength_tables import suite, table

from robustgen.errors import RequestError
from robustgen.grids import eps_text
from robustgen.strength.rendering import strength_text
from robustgen.strength.report import load_strength, write_strength
from robustgen.strength.tallies import StrengthReport, strength_report
from robustgen.table import PredictionTable, save_table

SUITE = suite("clean", "pgd_4", "pgd_8", sweeps={"pgd_4": "pgd", "pgd_8": "pgd"})


def tables() -> list[PredictionTable]:
    return [
        table("clean", "+" * 8),
        table("pgd_4", "--++++++", eps=4 / 255, first_success=[1] * 2 + [math.nan] * 6),
        table("pgd_8", "-------+", eps=8 / 255, first_success=[1] * 7 + [math.nan]),
        table("fgsm", "-+++++++", eps=8 / 255),
        table("square", "--++++++", eps=8 / 255),
        table("cw", "-" * 8, norm="l2", eps=math.inf),
    ]


def report() -> StrengthReport:
    return strength_report(tables(), SUITE, seed=0)


def save_run(folder: Path) -> None:
    for number, one in enumerate(tables()):
        save_table(one, folder / "tables" / f"{number}.npz")
    manifest = {"suite": SUITE, "profile": "embedded"}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_the_text_says_what_cannot_be_told_apart():
    text = strength_text(report())
    lines = {
        line.split()[3]: line for line in text.splitlines() if "linf 8/255" in line
    }
    assert "Data set digits, classifier cnn, path image" in text
    assert "not distinguishable (1 to 0, p = 1)" in lines["fgsm"]
    # Five discordant samples, p = 2/32, times two neighbors.
    assert "not distinguishable (5 to 0, p = 0.12)" in lines["square"]
    assert "4/255 to 8/255" in text
    assert "oblivious accuracy is not robustness" in text


def test_a_run_folder_gives_the_report_of_its_tables(tmp_path: Path):
    save_run(tmp_path)
    assert strength_text(load_strength(tmp_path)) == strength_text(report())


def test_all_files_are_written_and_the_same_again(tmp_path: Path):
    for name in ("one", "two"):
        write_strength(report(), tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["attacks.csv", "attacks.json", "attacks.md", "attacks_eps.svg"]
    for name in files:
        one, two = (tmp_path / run / name for run in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()


def test_json_and_csv_hold_the_ranking(tmp_path: Path):
    write_strength(report(), tmp_path)
    saved = json.loads((tmp_path / "attacks.json").read_text())
    assert saved["version"] == 1
    order = [row["attack"] for row in saved["ranking"]]
    assert order == ["pgd_4", "pgd_8", "square", "fgsm", "cw"]
    cw = next(row for row in saved["ranking"] if row["attack"] == "cw")
    assert cw["eps"] == "inf"
    assert cw["p_value"] is None
    csv = pd.read_csv(tmp_path / "attacks.csv")
    assert list(csv["attack"]) == order


def test_the_figure_is_an_svg_file_that_the_markdown_shows(tmp_path: Path):
    write_strength(report(), tmp_path)
    svg = (tmp_path / "attacks_eps.svg").read_text()
    assert svg.startswith("<?xml")
    assert 'xmlns="http://www.w3.org/2000/svg"' in svg
    assert "(attacks_eps.svg)" in (tmp_path / "attacks.md").read_text()


def test_without_a_sweep_there_is_no_figure(tmp_path: Path):
    run = [table("clean", "++"), table("pgd", "+-")]
    write_strength(strength_report(run, suite("clean", "pgd"), seed=0), tmp_path)
    assert not (tmp_path / "attacks_eps.svg").exists()
    assert "svg" not in (tmp_path / "attacks.md").read_text()


def test_folders_that_hold_no_run_are_refused(tmp_path: Path):
    with pytest.raises(RequestError, match="Name the folder of a run"):
        load_strength(tmp_path)
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(RequestError, match="no key 'suite'"):
        load_strength(tmp_path)
    (tmp_path / "manifest.json").write_text(
        json.dumps({"suite": SUITE, "profile": "embedded"})
    )
    with pytest.raises(RequestError, match="no prediction tables"):
        load_strength(tmp_path)


def test_a_radius_reads_as_people_write_it():
    assert eps_text(32 / 255) == "32/255"
    assert eps_text(0.3) == "0.3"
