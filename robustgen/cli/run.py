"""`robustgen run`: a suite to a report."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustgen.allocator import LARGE, keep_large_blocks
from robustgen.cli.completion import suites
from robustgen.cli.dry_run import dry_run_text
from robustgen.cli.gate import gate_run, refuse_request
from robustgen.cli.interrupts import command_again
from robustgen.cli.options import (
    DeviceOption,
    ExecutorOption,
    ProfileOption,
    Seed,
)
from robustgen.cli.terminal import refuse_file, watched, writable
from robustgen.cost import estimate_cost
from robustgen.plugins import check_plugins
from robustgen.sources import choose_profile
from robustgen.suite import (
    custom_parts,
    load_suite,
    narrow,
    resolve_cases,
    suite_record,
)

if TYPE_CHECKING:
    from robustgen.report_schema import Report


def run_command(
    suite: Annotated[
        str,
        typer.Argument(help="A YAML file, or a shipped suite.", autocompletion=suites),
    ],
    profile: Annotated[
        ProfileOption,
        typer.Option(help="auto: full if all its files are here, else embedded."),
    ] = ProfileOption.AUTO,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write. [default: reports/runs/SUITE-PROFILE]"),
    ] = None,
    device: Annotated[
        DeviceOption, typer.Option(help="auto: cuda if there is one.")
    ] = DeviceOption.AUTO,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Images of each split, at most.")
    ] = None,
    seed: Seed = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100_000,
            help="Changes speed, no number. [default: 64, fewer from 512 px]",
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Reuse nothing of earlier runs.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the cases and the cost, and stop.")
    ] = False,
    baseline: Annotated[
        Path | None,
        typer.Option(help="Compare the run with this baseline; see `check`."),
    ] = None,
    plugin: Annotated[
        list[str] | None,
        typer.Option(metavar="MODULE", help="A module whose factories may run."),
    ] = None,
    executor: Annotated[
        ExecutorOption, typer.Option(help="local: processes here; ray: a cluster.")
    ] = ExecutorOption.LOCAL,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes that compute; changes no number.")
    ] = 1,
) -> None:
    """Runs a suite: attacks, projects, varies, classifies, and reports."""
    plugins = tuple(plugin or ())
    asked = narrow(load_suite(suite), seed=seed, limit=limit)
    chosen, message = choose_profile(asked, profile.value)
    typer.echo(message)
    cases = resolve_cases(asked, chosen)
    check_plugins(plugins, (part for case in cases for part in custom_parts(case)))
    if baseline is not None:
        # Before hours of work, not after them.
        refuse_request(baseline, suite_record(asked, chosen), chosen, limit)
    folder = out or Path("reports/runs") / f"{asked.name}-{chosen}"
    if dry_run:
        refuse_file(folder)
        typer.echo(dry_run_text(asked, cases, folder, batch_size))
        return
    writable(folder)
    if any(case.domain and case.domain.resolution >= LARGE for case in cases):
        keep_large_blocks()
    again = command_again(sys.argv, without=("--fresh",))
    with watched(again, estimate_cost(cases).stages) as told:
        from robustgen.rendering import terminal_table
        from robustgen.runner import run

        report = run(
            asked,
            out=folder,
            profile=profile.value,
            device=device.value,
            limit=limit,
            seed=seed,
            batch_size=batch_size,
            fresh=fresh,
            plugins=plugins,
            executor=executor.value,
            workers=workers,
            progress=told,
        )
    typer.echo(terminal_table(report))
    typer.echo(f"Written to {folder}/: open report.html")
    failed = 0 if baseline is None else gate_run(folder, baseline)
    # A regression says more than a row that cannot be trusted.
    if failed != 1:
        refuse_invalid(report)
    if failed:
        raise typer.Exit(failed)


def refuse_invalid(report: "Report") -> None:
    """Ends with status 3 where a number is no measurement."""
    invalid = report.accuracy.loc[report.accuracy["verdict"] == "INVALID"]
    if len(invalid):
        about = dict.fromkeys(
            f"{row.attack} on {row.path}" for row in invalid.itertuples(index=False)
        )
        typer.echo(
            f"robustgen: {len(invalid)} rows of accuracy.csv are INVALID "
            f"({_short(about)}): the checks in report.md say why.",
            err=True,
        )
        raise typer.Exit(3)


def _short(names: Iterable[str]) -> str:
    """At most three names."""
    listed = list(names)
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return ", ".join(listed[:3]) + more
