"""The workflow that the docs show, and the commands in it."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from robustgen.cli import build_app
from robustgen.cli.gate import FILES
from robustgen.gate import load_baseline, request_refusals
from robustgen.suite import load_suite, suite_record

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / "docs" / "gate-workflow.yml"
GUIDE = (ROOT / "docs" / "gate.md").read_text()


def workflow() -> dict[str, Any]:
    return yaml.safe_load(WORKFLOW.read_text())["jobs"]["gate"]


def commands(text: str) -> list[list[str]]:
    """Every `robustgen ...` line, split as a shell does."""
    found = [line.strip() for line in text.splitlines()]
    return [
        shlex.split(line, comments=True)[1:]
        for line in found
        if re.match(r"robustgen \w", line)
    ]


def parse(arguments: list[str]) -> dict[str, Any]:
    """Lets the command line read a command without running it."""
    group = typer.main.get_command(build_app())
    context = group.make_context("robustgen", list(arguments))
    name, command, rest = group.resolve_command(  # pyright: ignore[reportAttributeAccessIssue]
        context, list(arguments)
    )
    return command.make_context(name, rest, parent=context).params


def test_the_commands_of_the_workflow_exist_and_parse():
    steps = [step["run"] for step in workflow()["steps"] if "run" in step]
    (run,) = commands("\n".join(steps))
    read = parse(run)
    assert read["suite"] == "suites/ci.yaml"
    assert str(read["baseline"]) == "reports/baselines/ci.json"
    assert (ROOT / read["suite"]).is_file()
    assert (ROOT / read["baseline"]).is_file()


def test_the_workflow_keeps_the_cache_and_the_reports():
    job = workflow()
    by_action = {
        step["uses"].partition("@")[0]: step["with"]
        for step in job["steps"]
        if "with" in step
    }
    folder = by_action["actions/cache"]["path"]
    assert job["env"]["ROBUSTGEN_CACHE"].endswith(f"/{folder}")
    kept = {Path(line) for line in by_action["actions/upload-artifact"]["path"].split()}
    assert {path.name for path in kept} == {"report.html", "gate.md", "gate.xml"}
    assert {path.parent.name for path in kept} == {"ci-embedded"}
    assert {"gate.md", "gate.xml"} < set(FILES)


def test_the_guide_shows_the_workflow_as_it_is():
    assert f"```yaml\n{WORKFLOW.read_text()}```" in GUIDE


@pytest.mark.parametrize("command", commands(GUIDE), ids=" ".join)
def test_every_command_of_the_guide_parses(command: list[str]):
    assert parse(command)


def test_the_tracked_baseline_fits_the_suite_of_ci():
    baseline = load_baseline(ROOT / "reports" / "baselines" / "ci.json")
    suite = load_suite(ROOT / "suites" / "ci.yaml")
    settings = suite_record(suite, "embedded")
    refused = request_refusals(
        baseline, settings=settings, profile="embedded", limit=None
    )
    assert refused == []
