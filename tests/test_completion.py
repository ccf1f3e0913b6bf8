"""What a shell offers when the tab key is pressed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from robustgen.cli import completion
from robustgen.full_assets import all_assets
from robustgen.library import suite_names
from robustgen.projection_settings import METHODS

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def offered(*words: str) -> list[str]:
    """What bash is told for a command line whose last word is being typed."""
    code = (
        "import sys\n"
        "from robustgen.cli import main\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    heavy = {'torch', 'numpy', 'pandas', 'matplotlib'}\n"
        "    print(sorted(heavy & sys.modules.keys()), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ
        | {
            "PYTHONPATH": str(ROOT),
            "_ROBUSTGEN_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(("robustgen", *words)),
            "COMP_CWORD": str(len(words)),
        },
    )
    assert done.stderr.splitlines()[-1] == "[]"
    return done.stdout.split()


def test_commands_are_offered():
    assert {"run", "check", "compare", "doctor", "list"} <= set(offered(""))


def test_suites_are_offered_quickly():
    began = os.times()
    assert offered("run", "ladder") == [
        "ladder_digits",
        "ladder_faces",
        "ladder_smiles",
    ]
    ended = os.times()
    # Time of a processor: 0.35 s, of which 0.3 s are imports.
    assert ended.children_user - began.children_user < 0.8


def test_kinds_and_choices_are_offered():
    assert "projectors" in offered("list", "")
    assert offered("run", "digits", "--profile", "") == ["auto", "embedded", "full"]
    assert offered("project", "a.png", "--method", "") == list(METHODS)


def test_suites_are_names_and_files(tmp_path: Path):
    (tmp_path / "digits_mine.yaml").touch()
    (tmp_path / "digits_notes.txt").touch()
    assert completion.suites("digits") == ["digits", "digits_mine.yaml"]
    assert set(completion.suites("")) == {*suite_names(), "digits_mine.yaml"}


def test_runs_are_folders_with_a_manifest(tmp_path: Path):
    for name in ("reports/runs/digits-embedded", "mine/first", "mine/.hidden"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "manifest.json").touch()
    (tmp_path / "mine/other").mkdir()
    assert completion.runs("") == ["reports/runs/digits-embedded", "mine/", "reports/"]
    assert completion.runs("mine/") == ["mine/first", "mine/other/"]
    assert completion.runs("mine/f") == ["mine/first"]
    assert completion.runs("nowhere/") == []


def test_downloads_and_recipes():
    names = {asset.name for asset in all_assets()}
    assert set(completion.downloads("")) == names
    assert completion.recipes("f") == ["faces"]
    assert completion.methods("d") == ["defensegan"]
