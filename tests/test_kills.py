"""Runs that are killed at random times, and what the killing itself relies on."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from robustgen.seeding import numpy_rng

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

TOY = """
import sys
from pathlib import Path
from robustgen.cache import Cache
from robustgen.files import write_text

out, cache = Path(sys.argv[1]), Cache(Path(sys.argv[2]))
texts = [str(k) * 20000 for k in range(60)]
for k, text in enumerate(texts):
    if cache.get("predictions", "aa", str(k)) is None:
        cache.put("predictions", "aa", str(k), text.encode())
    found = cache.get("predictions", "aa", str(k))
    write_text(out / "tables" / f"{k}.npz", found.decode())
write_text(out / "accuracy.csv", "".join(texts))
for path in out.rglob("*.tmp"):
    path.unlink()
"""
"""Stands in for a run: it writes, reads and resumes like one, in half a second."""


def start(place: Any) -> int:
    """Starts the toy; returns its process id."""
    return detached(TOY, str(place.out), str(place.cache))


def detached(code: str, *arguments: str) -> int:
    """Starts Python code, for others to wait for."""
    process = subprocess.Popen([sys.executable, "-c", code, *arguments])
    process.returncode = 0
    return process.pid


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("kills")


def test_what_is_killed_while_it_writes_is_whole_or_absent(
    kills: ModuleType, tmp_path: Path
):
    whole = kills.Place(tmp_path, tmp_path / "whole", tmp_path / "whole-cache")
    seconds = kills.finish(start, whole)
    files = kills.final_files(whole.out)
    assert len(files) == 61
    tally = kills.Tally()
    for turn in range(4):
        here = tmp_path / str(turn)
        place = kills.Place(tmp_path, here / "out", here / "cache")
        rng = numpy_rng(0, "toy", turn)
        kills.kill_and_resume(start, place, files, seconds, rng, tally)
    assert tally.killed + tally.ended_before == 4
    assert tally.identical == tally.killed >= 1
    assert sum(tally.stages.values()) == tally.kills >= tally.killed


def test_a_run_that_fails_is_no_kill(kills: ModuleType, tmp_path: Path):
    def fail(place: object) -> int:
        child = detached("raise SystemExit(2)")
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        return child

    with pytest.raises(RuntimeError, match="failed with status 2"):
        kills.was_killed(fail(tmp_path), 0.0)
    with pytest.raises(RuntimeError, match="failed with status 2"):
        kills.finish(fail, tmp_path)


def test_a_file_that_differs_is_told(
    kills: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    here = kills.Place(tmp_path, tmp_path / "out", tmp_path / "cache")
    tally = kills.Tally()
    files = {"accuracy.csv": b"other numbers"}
    kills.kill_and_resume(start, here, files, 0.01, numpy_rng(0), tally)
    assert (tally.killed, tally.identical) == (1, 0)
    assert "differs: ['accuracy.csv', 'tables/0.npz'" in capsys.readouterr().out


def test_times_alone_are_left_out_of_the_comparison(kills: ModuleType, tmp_path: Path):
    texts = {
        "report.md": (
            "started: '2026-11-22T17:33:25+00:00'\nwall_seconds: 14.3\nloss: 1.5\n",
            "started: '2027-01-01T00:00:00+00:00'\nwall_seconds: 2\nloss: 1.5\n",
            "started: '2027-01-01T00:00:00+00:00'\nwall_seconds: 2\nloss: 1.6\n",
        ),
        "report.html": (
            "<dt>wall seconds</dt><dd>14.3</dd><b>0.5</b>",
            "<dt>wall seconds</dt><dd>9</dd><b>0.5</b>",
            "<dt>wall seconds</dt><dd>9</dd><b>0.6</b>",
        ),
        "probes/a.json": (
            '{"seconds": 1.25, "run_seconds": 3e-05, "accuracy": 0.5}',
            '{"seconds": 4, "run_seconds": 12.5, "accuracy": 0.5}',
            '{"seconds": 4, "run_seconds": 12.5, "accuracy": 0.25}',
        ),
        "manifest.json": (
            '{"files": {"tables/a": "1", "probes/a": "2"}, "sha256": "3"}',
            '{"files": {"tables/a": "1", "probes/a": "4"}, "sha256": "5"}',
            '{"files": {"tables/a": "6", "probes/a": "4"}, "sha256": "5"}',
        ),
        "accuracy.csv": ("seconds: 1", "seconds: 1", "seconds: 2"),
    }
    found: list[dict[str, bytes]] = []
    for turn in range(3):
        for name, variants in texts.items():
            path = tmp_path / str(turn) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(variants[turn])
        found.append(kills.final_files(tmp_path / str(turn)))
    assert found[0] == found[1]
    for name in texts:
        assert found[1][name] != found[2][name]


def test_stages_follow_from_the_folders(kills: ModuleType, tmp_path: Path):
    out, cache = tmp_path / "out", tmp_path / "cache"
    made = [
        ("loading", None),
        ("evaluating", cache / "predictions/ab/abc/one.entry"),
        ("evaluating", out / "tables/one.npz"),
        ("probing", out / "tables/two.npz"),
        ("writing", cache / "evidence/ab/abc/evidence.entry"),
        ("reporting", out / "manifest.json"),
    ]
    for stage, path in made:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        assert kills.stage_of(out, cache, 2) == stage


@pytest.mark.slow
def test_twenty_killed_runs_leave_what_an_uninterrupted_run_leaves():
    command = [sys.executable, str(BENCHMARKS / "kills.py"), "20", "--commands", "2"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = done.stdout.splitlines()
    assert re.match("20 runs killed and resumed, 20 identical; ", line)
