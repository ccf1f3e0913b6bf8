"""docs/cli.md names the commands and options that there are, and no others."""

import re
from pathlib import Path

import pytest

from robustgen.cli import COMMANDS, main

DOC = (Path(__file__).parents[1] / "docs" / "cli.md").read_text(encoding="utf-8")
SECTIONS = {
    part.partition("\n")[0]: part for part in DOC.split("\n## ")[1].split("\n### ")[1:]
}


def help_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    return capsys.readouterr().out


def test_every_command_has_a_section_in_the_order_of_the_help():
    assert list(SECTIONS) == list(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_options_are_those_of_the_help(
    command: str, capsys: pytest.CaptureFixture[str]
):
    real = re.findall(r"^  (--[\w-]+)", help_of(command, capsys), re.MULTILINE)
    said = re.findall(r"^\| `(--[\w-]+)`", SECTIONS[command], re.MULTILINE)
    assert said == [option for option in real if option != "--help"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_section_has_an_example_and_statuses(command: str):
    lines = SECTIONS[command].splitlines()
    assert lines[2].startswith(f"`robustgen {command}")
    assert re.search(r"Status 0[,;.]", SECTIONS[command])
