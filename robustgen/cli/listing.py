"""What there is: `list` and `doctor`."""

import enum
from collections.abc import Callable
from typing import Annotated

import typer

from robustgen.cli.terminal import interruptible, show_progress
from robustgen.full_assets import full_assets
from robustgen.library import attack_names, load_attack, suite_names
from robustgen.names import EMBEDDED
from robustgen.projection_settings import METHODS
from robustgen.suite import load_suite
from robustgen.view_settings import FAMILIES


class Kind(enum.StrEnum):
    """What `robustgen list` lists."""

    SUITES = "suites"
    ATTACKS = "attacks"
    GENERATORS = "generators"
    CLASSIFIERS = "classifiers"
    DATASETS = "datasets"
    PROJECTORS = "projectors"
    VIEWS = "views"


def doctor_command(
    canaries: Annotated[
        bool,
        typer.Option("--canaries", help="Measure subjects whose truth is known."),
    ] = False,
) -> None:
    """Says what is installed, which assets are present, and which device."""
    from robustgen.doctor import damaged, doctor_text, examine

    findings = examine()
    typer.echo(doctor_text(findings))
    if damaged(findings):
        raise typer.Exit(2)
    if not canaries:
        return
    with interruptible("Nothing is lost."), show_progress() as told:
        from robustgen.canaries import canaries_text, run_canaries

        results = run_canaries(progress=told)
    typer.echo(canaries_text(results))
    if not all(result.passed for result in results):
        raise typer.Exit(3)


def list_command(
    kind: Annotated[Kind | None, typer.Argument(help="What to list.")] = None,
) -> None:
    """Lists what a suite may name."""
    for each in [kind] if kind else list(Kind):
        typer.echo(f"{each.value}:")
        lines = _LISTS[each]()
        width = max((len(name) for name, _ in lines), default=0)
        for name, about in lines:
            typer.echo(f"  {name:{width}}  {about}".rstrip())


def _suite_lines() -> list[tuple[str, str]]:
    return [(name, load_suite(name).about) for name in suite_names()]


def _attack_lines() -> list[tuple[str, str]]:
    return [(name, load_attack(name).about) for name in attack_names()]


def _asset_lines(kind: str) -> list[tuple[str, str]]:
    shipped = [(name, "ships with robustgen") for name in EMBEDDED[kind]]
    return shipped + [(name, "needs a download") for name in full_assets(kind)]


_LISTS: dict[Kind, Callable[[], list[tuple[str, str]]]] = {
    Kind.SUITES: _suite_lines,
    Kind.ATTACKS: _attack_lines,
    Kind.GENERATORS: lambda: _asset_lines("generator"),
    Kind.CLASSIFIERS: lambda: _asset_lines("classifier"),
    Kind.DATASETS: lambda: _asset_lines("dataset"),
    Kind.PROJECTORS: lambda: list(METHODS.items()),
    Kind.VIEWS: lambda: list(FAMILIES.items()),
}
