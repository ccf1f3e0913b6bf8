"""What docs/plugins.md shows runs as it stands there."""

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from robustgen.cli import main
from robustgen.plugins import GROUPS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
MOST_LINES = 10


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def named_file(language: str, name: str) -> str:
    """The code block that begins with the comment `# name`."""
    (found,) = [b for b in blocks(language) if b.startswith(f"# {name}\n")]
    return found


def arguments(suite: str) -> list[str]:
    """What the page types after `robustgen` for a suite."""
    (found,) = [b for b in blocks("bash") if f"run {suite}" in b]
    return found.split()[1:]


def run(suite: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Runs a suite of the page in the working folder, by the command shown there."""
    with pytest.raises(SystemExit) as ended:
        main([*arguments(suite), "--out", "run"])
    assert ended.value.code == 0
    manifest = json.loads(Path("run/manifest.json").read_text())
    return pd.read_csv("run/accuracy.csv"), manifest


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the files that the page tells to write."""
    for name in ("mine.yaml", "named.yaml"):
        (tmp_path / name).write_text(named_file("yaml", name), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROBUSTGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    return tmp_path


def write_parts(folder: Path) -> None:
    text = "\n".join(blocks("python"))
    (folder / "mine.py").write_text(text, encoding="utf-8")


def install(folder: Path) -> None:
    """What installing a package with the page's pyproject.toml leaves behind."""
    project = tomllib.loads(named_file("toml", "pyproject.toml"))["project"]
    write_parts(folder)
    info = (
        folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    )
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\n"
        f"Version: {project['version']}\n"
    )
    lines: list[str] = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {at}" for name, at in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


def test_every_part_takes_ten_lines_at_most():
    parts = blocks("python")[1:]
    assert len(parts) == 8
    for part in parts:
        lines = [line for line in part.splitlines() if line.strip()]
        assert len(lines) <= MOST_LINES, lines[0]


def test_parts_named_by_factory_run(folder: Path):
    write_parts(folder)
    frame, manifest = run("mine.yaml")
    assert manifest["plugins"] == ["mine"]
    test = frame[(frame["split"] == "test") & (frame["alpha_from"] != "matched")]
    assert set(test["classifier"]) == {"classifier", "plain"}
    assert set(test["path"]) >= {"combined_ensemble", "defense", "reconstruction"}
    tiers = set(test.loc[test["path"] == "stylemix_ensemble", "tier"])
    assert tiers == {"none", "oblivious", "bpda_encoder"}
    # One step of 32/255 is more than a linear classifier takes.
    attacked = test[(test["path"] == "image") & (test["attack"] == "step")]
    assert max(attacked["accuracy"].tolist()) < 0.5


def test_parts_of_an_installed_package_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    site = folder / "site"
    site.mkdir()
    install(site)
    monkeypatch.syspath_prepend(str(site))
    frame, manifest = run("named.yaml")
    assert manifest["plugins"] == []
    origins = manifest["entry_points"]
    assert set(origins.values()) == {"robustgen-mine 1.0"}
    assert {name.partition(":")[0] for name in origins} == set(GROUPS) - {"perceptual"}
    assert set(frame["attack"]) == {"clean", "step"}
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["list", "classifiers"])
    assert "from robustgen-mine 1.0" in capsys.readouterr().out
