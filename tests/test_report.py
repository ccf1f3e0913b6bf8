import base64
import csv
import json
import shutil
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from synthetic import first, make_run, make_table

import robustgen as rg
from robustgen.errors import RequestError
from robustgen.grids import OBLIVIOUS_NOTE
from robustgen.rendering import terminal_table, to_html
from robustgen.report import (
    build_report,
    rebuild_report,
    write_numbers,
    write_report,
)
from robustgen.report_schema import Report, json_safe
from robustgen.table import save_table

FILES = (
    "report.md",
    "report.html",
    "report.json",
    "accuracy.csv",
    "predictions.parquet",
    "figures/faces-cnn-bars.png",
    "figures/faces-cnn-bars.svg",
)
SUITE: dict[str, Any] = {
    "version": 1,
    "name": "celebahq_smiling",
    "seed": 3,
    "profiles": {
        "full": None,
        "embedded": {
            "attacks": [
                {"name": "clean", "norm": "none", "eps": 0.0},
                {"name": "pgd", "norm": "linf", "eps": float("inf")},
            ],
            "paths": [
                "image",
                "reconstruction",
                "stylemix_ensemble",
                "combined_ensemble",
                "image_ensemble",
            ],
            "ensemble": {"size": 31, "resamples": 20, "alphas": 21},
        },
    },
}
MANIFEST: dict[str, Any] = {
    "suite": SUITE,
    "profile": "embedded",
    "versions": {"python": "3.11.0", "robustgen": "0.1.0"},
    "commit": "0123abc",
    "started": "2026-01-01T00:00:00Z",
}
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAA"
    "AABJRU5ErkJggg=="
)


class _Page(HTMLParser):
    """Collects what a browser would load, and whether tags are balanced."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: Counter[str] = Counter()
        self.loads: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag not in ("meta", "link", "wbr"):
            self.open.append(tag)
        if values.get("id"):
            self.ids[str(values["id"])] += 1
        self.loads += [str(values[name]) for name in ("src", "href") if name in values]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in ("meta", "link", "wbr"):
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def _report(**changes: Any) -> Report:
    arguments: dict[str, Any] = {
        "suite": SUITE,
        "profile": "embedded",
        "manifest": MANIFEST,
        **changes,
    }
    return build_report(arguments.pop("tables", make_run()), **arguments)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a run leaves it, with tables, manifest, pictures and reports."""
    folder = tmp_path_factory.mktemp("run")
    for table in make_run():
        save_table(
            table, folder / "tables" / f"{table.key.attack}-{table.key.split}.npz"
        )
    (folder / "manifest.json").write_text(json.dumps(MANIFEST))
    (folder / "pictures").mkdir()
    (folder / "pictures" / "a.png").write_bytes(PNG)
    entry = {
        "file": "a.png",
        "dataset": "faces",
        "classifier": "cnn",
        "attack": "pgd",
        "tier": "oblivious",
        "norm": "linf",
        "eps": 8 / 255,
        "target": "",
        "sample": 103,
        "label": "class1",
        "classes": ["class0", "class1"],
        "panels": [{"name": "image"}, {"name": "view 1", "probability": 0.25}],
    }
    (folder / "pictures" / "pictures.json").write_text(json.dumps([entry]))
    rebuild_report(folder)
    return folder


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


def test_accuracy_csv_holds_the_numbers_of_the_tables(run: Path):
    with (run / "accuracy.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert ",".join(rows[0]) == (
        "suite,profile,dataset,classifier,attack,tier,norm,eps,path,split,n,accuracy,"
        "ci_low,ci_high,alpha,alpha_from,verdict"
    )
    found = {
        (row["attack"], row["path"], row["alpha_from"]): row
        for row in rows
        if row["split"] == "test"
    }
    assert found["pgd", "image", ""]["accuracy"] == "0.1"
    assert found["pgd", "reconstruction", ""]["accuracy"] == "0.7"
    assert found["pgd", "reconstruction", ""]["alpha"] == ""
    assert found["pgd", "stylemix_ensemble", "matched"]["accuracy"] == "0.8"
    assert found["pgd", "stylemix_ensemble", "matched"]["alpha"] == "1"
    assert found["pgd", "stylemix_ensemble", "clean"]["alpha"] == "0.55"
    assert found["pgd", "stylemix_ensemble", "clean"]["accuracy"] == "0.1"
    assert found["pgd", "image", ""]["eps"] == "0.03137254902"
    assert {row["profile"] for row in rows} == {"embedded"}


def test_a_rebuilt_report_is_the_same_to_the_byte(copy: Path):
    before = {name: (copy / name).read_bytes() for name in FILES}
    for name in FILES:
        (copy / name).unlink()
    rebuild_report(copy)
    assert {name: (copy / name).read_bytes() for name in FILES} == before


def test_building_from_memory_gives_the_files_of_a_rebuild(run: Path, tmp_path: Path):
    shutil.copytree(run / "pictures", tmp_path / "pictures")
    write_report(_report(tables=make_run()[::-1]), tmp_path)
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (run / name).read_bytes(), name


def test_the_profile_stands_in_the_first_line(run: Path):
    first_line = (run / "report.md").read_text().splitlines()[0]
    assert first_line == "# celebahq_smiling (profile: embedded)"
    assert (
        terminal_table(_report()).splitlines()[0]
        == "celebahq_smiling  profile: embedded"
    )
    assert "<h1>celebahq_<wbr>smiling" in (run / "report.html").read_text()


def test_every_table_of_oblivious_numbers_says_so(run: Path):
    text = (run / "report.md").read_text()
    titles = [
        "Accuracy on test images (n = 10, alpha_from=clean)",
        "Accuracy on test images (n = 10, alpha_from=matched)",
        "Worst case",
        "Paired differences",
        "Attacks: what they turned",
        "Robust accuracy",
    ]
    for title in titles:
        section = text.split(f"### {title}")[1].split("###")[0]
        assert OBLIVIOUS_NOTE in section, title
    assert OBLIVIOUS_NOTE in terminal_table(_report())
    # The note at the head, six tables and three figures.
    assert (run / "report.html").read_text().count(OBLIVIOUS_NOTE) == 10
    assert "none of which knows the defense" in text


def test_a_clean_run_has_nothing_to_warn_of():
    tables = [table for table in make_run() if table.key.attack == "clean"]
    report = _report(tables=tables)
    assert OBLIVIOUS_NOTE not in terminal_table(report)
    assert OBLIVIOUS_NOTE not in report.notes


def test_rules_and_protocols_are_stated(run: Path):
    for name in ("report.md", "report.html"):
        text = (run / name).read_text()
        assert "alpha_from=clean is the honest protocol" in text
        assert "the largest wins" in text
        assert "the lowest wins" in text
        assert "Never compare these numbers with those of profile full" in text


def test_the_page_is_whole_and_loads_nothing(run: Path):
    text = (run / "report.html").read_text()
    page = _Page()
    page.feed(text)
    page.close()
    assert page.open == []
    assert [name for name, count in page.ids.items() if count > 1] == []
    assert [load for load in page.loads if load[0] != "#"] == ["data:,"]
    assert {load[1:] for load in page.loads if load[0] == "#"} <= set(page.ids)
    assert "://" not in text
    figures = text[text.index("<svg ") : text.rindex("</svg>")]
    assert figures.count("<svg ") == 3
    assert "#000000" not in figures
    # The figures keep their words as words.
    for words in ("stylemix_ensemble", "0.700", "reconstruction → stylemix_ensemble"):
        assert words in page.text


def test_report_json_is_strict_and_versioned(run: Path):
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    report = json.loads((run / "report.json").read_text(), parse_constant=refuse)
    assert report["schema_version"] == 1
    assert report["name"] == "celebahq_smiling"
    assert report["profile"] == "embedded"
    assert report["suite"]["profiles"]["embedded"]["attacks"][1]["eps"] == "inf"
    assert report["provenance"]["commit"] == "0123abc"
    assert "suite" not in report["provenance"]
    assert "predictions" not in report
    row = report["accuracy"][0]
    assert row["alpha"] is None
    assert row["accuracy"] == 1.0
    assert len(report["differences"]) > 0


def test_predictions_parquet_reads_back(run: Path):
    frame = pd.read_parquet(run / "predictions.parquet")
    pd.testing.assert_frame_equal(frame, _report().predictions, check_dtype=False)
    assert str(frame["sample"].dtype) == "int64"
    assert len(frame) == 200


def test_a_finished_run_is_read_without_writing(copy: Path):
    for name in FILES:
        (copy / name).unlink()
    before = sorted(copy.rglob("*"))
    report = rg.load_report(copy)
    assert sorted(copy.rglob("*")) == before
    built = _report()
    pd.testing.assert_frame_equal(report.accuracy, built.accuracy)
    pd.testing.assert_frame_equal(report.predictions, built.predictions)
    assert report.model_dump_json() == built.model_dump_json()


def test_the_terminal_table_has_attacks_down_and_paths_across():
    lines = terminal_table(_report()).splitlines()
    header = next(line for line in lines if line.startswith("attack"))
    assert header.split() == [
        "attack",
        "image",
        "reconstruction",
        "stylemix_ensemble",
        "combined_ensemble",
        "image_ensemble",
    ]
    pgd = next(line for line in lines if line.startswith("pgd"))
    assert pgd.startswith("pgd (oblivious)")
    assert "0.700 [0.397, 0.892]" in pgd
    matched = terminal_table(_report(), alpha_from="matched")
    assert "0.800 [0.490, 0.943]" in matched
    assert "alpha_from=matched" in matched


def test_settings_may_stand_at_the_top_of_the_suite():
    suite = {"name": "mini", "attacks": ["pgd", "clean"], "paths": ["image"]}
    report = _report(suite=suite)
    assert report.accuracy["attack"].tolist() == ["pgd", "pgd", "clean", "clean"]
    assert set(report.accuracy["path"]) == {"image"}


def test_ten_classes_and_one_sample():
    paths = ("image", "reconstruction", "stylemix_ensemble")
    right = {path: [True] for path in paths}
    tables = [
        make_table("clean", split, right, classes=10) for split in ("val", "test")
    ]
    assert "1.000 [0.207, 1.000]" in terminal_table(_report(tables=tables))


def test_an_unfinished_attack_leaves_a_gap(tmp_path: Path):
    tables = [
        *make_run(),
        make_table("cw", "test", {"image": first(0)}),
    ]
    report = _report(tables=tables)
    line = next(
        line for line in terminal_table(report).splitlines() if line.startswith("cw")
    )
    assert line.split()[2:] == ["0.000", "[0.000,", "0.278]"]
    write_numbers(report, tmp_path)
    assert "inf" in (tmp_path / "accuracy.csv").read_text()


def test_names_cannot_inject_markup(tmp_path: Path):
    suite = {**SUITE, "name": "<script>alert(1)</script>"}
    text = to_html(_report(suite=suite), tmp_path / "pictures")
    assert "<script>alert" not in text
    assert "<h1>&lt;script&gt;alert(1)&lt;/script&gt;" in text


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda run: (run / "manifest.json").unlink(), r"manifest\.json: no such file"),
        (lambda run: (run / "manifest.json").write_text("{"), "not valid JSON"),
        (lambda run: (run / "manifest.json").write_text("[]"), "no key 'suite'"),
        (lambda run: shutil.rmtree(run / "tables"), "no prediction tables"),
        (
            lambda run: (run / "tables" / "pgd-test.npz").write_bytes(b"PK"),
            r"pgd-test\.npz: not a readable prediction table",
        ),
        (lambda run: (run / "pictures" / "a.png").unlink(), r"names 'a\.png'"),
        (
            lambda run: (run / "pictures" / "pictures.json").write_text("[{}]"),
            r"pictures\.json: 0\.file: Field required",
        ),
    ],
)
def test_a_damaged_run_is_refused_with_the_name_of_the_file(
    copy: Path, fault: Any, message: str
):
    fault(copy)
    with pytest.raises(RequestError, match=message):
        rebuild_report(copy)


def test_a_picture_outside_the_folder_is_refused(copy: Path):
    listing = copy / "pictures" / "pictures.json"
    entries = json.loads(listing.read_text())
    (copy / "secret.png").write_bytes(PNG)
    entries[0]["file"] = "../secret.png"
    listing.write_text(json.dumps(entries))
    with pytest.raises(RequestError, match="which is not here"):
        rebuild_report(copy)


def test_no_tables_are_nothing_to_report():
    with pytest.raises(RequestError, match="no prediction tables"):
        _report(tables=[])


def test_json_safe_keeps_what_json_can_hold():
    values = {"a": [1, 2.5, None, True, "x"], "b": {"c": []}}
    assert json_safe(values) == values


def test_the_counting_arm_imports_no_torch():
    code = (
        "import sys, robustgen.report, robustgen.score; "
        "sys.exit('torch' in sys.modules or 'matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
