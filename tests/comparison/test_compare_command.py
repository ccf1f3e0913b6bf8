"""`robustgen compare`: what it prints, writes and refuses."""

import json
from pathlib import Path

import pandas as pd
import pytest
from planted_runs import EPS, marks, run, save_run, table

from robustgen.cli import main
from robustgen.comparison.samples import SAMPLE_COLUMNS


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """B loses 12 of 40 samples under PGD, and gains one on clean images."""
    a = run(table("clean", marks(40, [3])), table("pgd", marks(40)))
    b = run(
        table("clean", marks(40)),
        table("pgd", marks(40, range(12))),
        suite={"projection": {"method": "hybrid", "passes": 2}},
        machine={"device": "cuda"},
    )
    return save_run(a, tmp_path / "one"), save_run(b, tmp_path / "two")


def called(*argv: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["compare", *map(str, argv)])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_the_text_says_what_differs_and_by_how_much(
    runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
):
    assert called(*runs) == 0
    text = capsys.readouterr().out
    assert f"A: {runs[0]} (suite planted, profile embedded)" in text
    assert "2 rows: B higher in 0, B lower in 1, not distinguishable in 1." in text
    assert "Configuration: what is compared\n  projection.passes: 6 -> 2" in text
    assert "should change nothing\n  machine.device: cpu -> cuda" in text
    (pgd,) = (line for line in text.splitlines() if "0.700 [" in line)
    # 2 / 2**12, times two rows.
    assert pgd.split("]")[-1].split() == ["0", "12", "0.00098", "B", "lower"]
    assert "100 101 102 103 104 105 106 107 and 4 more" in text
    assert "Samples needed" not in text
    assert "oblivious accuracy is not robustness" in text


def test_no_file_is_written_unless_asked_for(
    runs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = sorted(tmp_path.rglob("*"))
    assert called(*runs) == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_the_files_hold_every_number_and_sample(
    runs: tuple[Path, Path], tmp_path: Path
):
    assert called(*runs, "--margin", 0.1, "--out", tmp_path / "out") == 0
    found = {path.name for path in (tmp_path / "out").iterdir()}
    assert found == {"comparison.md", "comparison.json", "comparison.csv"}
    record = json.loads((tmp_path / "out/comparison.json").read_text())
    assert record["version"] == 1
    assert record["plan"] == {"margin": 0.1, "power": 0.8, "alpha": 0.05}
    assert [change["key"] for change in record["configuration"]] == [
        "projection.passes",
        "machine.device",
    ]
    clean, pgd = record["rows"]
    assert (clean["reading"], clean["gained_samples"]) == ("not distinguishable", [103])
    assert (pgd["reading"], pgd["lost_samples"]) == ("B lower", [*range(100, 112)])
    assert (pgd["accuracy_a"], pgd["accuracy_b"]) == (1.0, 0.7)
    assert pgd["needed_for_difference"] > pgd["needed_for_half_width"] > 40
    frame = pd.read_csv(tmp_path / "out/comparison.csv")
    assert tuple(frame.columns) == SAMPLE_COLUMNS
    assert len(frame) == 13
    first = frame.iloc[1]
    assert (first["attack"], first["sample"], first["label"]) == ("pgd", 100, 0)
    assert (first["correct_a"], first["correct_b"]) == (1, 0)
    assert (first["predicted_a"], first["predicted_b"]) == (0, 1)
    assert (first["probability_a"], first["probability_b"]) == pytest.approx((0.9, 0.2))
    assert first["eps"] == pytest.approx(EPS)
    text = (tmp_path / "out/comparison.md").read_text()
    assert "| pgd (oblivious) | image" in text
    assert "- `projection.passes: 6 -> 2`" in text


def test_a_run_and_itself_give_an_empty_csv_with_its_header(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert called(runs[0], runs[0], "--out", tmp_path) == 0
    assert (tmp_path / "comparison.csv").read_text() == ",".join(SAMPLE_COLUMNS) + "\n"
    assert "Configuration: the two do not differ." in capsys.readouterr().out


def test_the_same_runs_give_the_same_bytes(runs: tuple[Path, Path], tmp_path: Path):
    for name in ("first", "second"):
        assert called(*runs, "--margin", 0.05, "--out", tmp_path / name) == 0
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("one", "three"), "three/manifest.json: no such file"),
        (("one", "two", "--margin", "2"), "--margin is a share of samples"),
        (("one", "two", "--margin", ".1", "--power", "2"), "--power is a chance"),
        (("one", "two", "--power", "0.9"), "--margin"),
    ],
)
def test_requests_that_make_no_sense_end_with_2(
    runs: tuple[Path, Path],
    argv: tuple[str, ...],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(runs[0].parent)
    assert called(*argv) == 2
    assert said in capsys.readouterr().err
