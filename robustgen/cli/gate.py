"""The regression gate: `baseline` and `check`."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robustgen.cli.options import RunFolder
from robustgen.errors import RequestError

if TYPE_CHECKING:
    from robustgen.gate import GateReport

FILES = ("gate.md", "gate.json", "gate.xml")
"""What a check writes into the folder of the run."""

MARGIN, ALPHA = 0.01, 0.01
"""Those of `robustgen.gate`, which takes a second to import."""


def baseline_command(
    run: RunFolder,
    out: Annotated[
        Path, typer.Option(help="File to write, such as reports/baselines/ci.json.")
    ],
) -> None:
    """Writes a baseline from a run: its TRUSTED rows, sample by sample."""
    from robustgen.gate import write_baseline

    written = write_baseline(run, out)
    for row, reason in written.left_out.items():
        typer.echo(f"Left out: {row}: {reason}", err=True)
    total = len(written.rows) + len(written.left_out)
    typer.echo(f"Written to {out}: {len(written.rows)} of {total} rows. Commit it.")


def check_command(
    run: RunFolder,
    baseline: Annotated[Path, typer.Option(help="File that `baseline` has written.")],
    margin: Annotated[
        float, typer.Option(help="Change of accuracy that does no harm, a share of 1.")
    ] = MARGIN,
    alpha: Annotated[
        float, typer.Option(help="Chance to fail where nothing changed, at most.")
    ] = ALPHA,
    strict: Annotated[
        bool, typer.Option("--strict", help="Rows that are undecided fail.")
    ] = False,
    junit: Annotated[
        Path | None, typer.Option(help="JUnit XML. [default: RUN/gate.xml]")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Summary. [default: RUN/gate.md]")
    ] = None,
) -> None:
    """Compares a run with a baseline: the gate. Fails with 1, refuses with 2 or 3."""
    status = gate_run(
        run,
        baseline,
        margin=margin,
        alpha=alpha,
        strict=strict,
        junit=junit,
        markdown=markdown,
    )
    if status:
        raise typer.Exit(status)


def gate_run(
    folder: Path,
    baseline: Path,
    *,
    margin: float = MARGIN,
    alpha: float = ALPHA,
    strict: bool = False,
    junit: Path | None = None,
    markdown: Path | None = None,
) -> int:
    """Compares a run with a baseline, prints what it found, and writes its files.

    Where `GITHUB_ACTIONS` is set, annotations go to stdout as well, and the summary to
    the file that `GITHUB_STEP_SUMMARY` names.

    Args:
        folder: Folder of a run.
        baseline: File that `robustgen baseline` has written.
        margin: Change of accuracy that does no harm, a share in [0, 1).
        alpha: Chance of one false failure or more among all rows, at most.
        strict: Whether rows that are undecided fail.
        junit: Where the JUnit XML goes; by default into the folder.
        markdown: Where the summary goes; by default into the folder.

    Returns:
        Exit status: 0 passed, 1 failed, 3 a row can no longer be trusted.

    Raises:
        RequestError: a file is missing or damaged, or the two cannot be compared.
    """
    from robustgen.gate import check_run
    from robustgen.gate.annotations import annotation, annotations
    from robustgen.gate.rendering import terminal_text

    on_github = bool(os.environ.get("GITHUB_ACTIONS"))
    written = _places(folder, junit, markdown)
    for path in written:
        # A check that is refused must not leave the files of an earlier one.
        path.unlink(missing_ok=True)
    try:
        report = check_run(folder, baseline, margin=margin, alpha=alpha, strict=strict)
    except RequestError as error:
        if on_github:
            typer.echo(annotation("error", "gate refused", str(error)))
        raise
    _write(report, written)
    typer.echo(terminal_text(report))
    typer.echo(f"Written: {', '.join(map(str, written))}")
    if on_github:
        for line in annotations(report):
            typer.echo(line)
        _append_summary(report)
    return report.exit_code


def refuse_request(
    baseline: Path, settings: Mapping[str, Any], profile: str, limit: int | None
) -> None:
    """Refuses a run that is only planned and could not be compared with a baseline.

    Args:
        baseline: File that `robustgen baseline` has written.
        settings: The suite as resolved for the profile, see `suite.suite_record`.
        profile: `embedded` or `full`.
        limit: Images of each split, at most; None for all.

    Raises:
        RequestError: the file is missing or damaged, or the run would be of another
            suite, profile, radius or path definition, or of fewer images.
    """
    from robustgen.gate import load_baseline, request_refusals
    from robustgen.gate.report import refusal_text

    reasons = request_refusals(
        load_baseline(baseline), settings=settings, profile=profile, limit=limit
    )
    if reasons:
        raise RequestError(refusal_text(baseline, reasons))


def _places(folder: Path, junit: Path | None, markdown: Path | None) -> list[Path]:
    """Where the three files go, in the order of `FILES`."""
    text, record, xml = (folder / name for name in FILES)
    return [markdown or text, record, junit or xml]


def _write(report: "GateReport", places: list[Path]) -> None:
    from robustgen.files import write_text
    from robustgen.gate.junit import to_junit
    from robustgen.gate.rendering import to_markdown
    from robustgen.gate.report import to_json

    texts = (to_markdown(report), to_json(report), to_junit(report))
    for path, text in zip(places, texts, strict=True):
        write_text(path, text)


def _append_summary(report: "GateReport") -> None:
    """Adds the summary to the page of the workflow's run."""
    from robustgen.gate.rendering import to_markdown

    name = os.environ.get("GITHUB_STEP_SUMMARY")
    if not name:
        return
    try:
        with Path(name).open("a", encoding="utf-8") as stream:
            stream.write(to_markdown(report))
    except OSError as error:
        # The verdict stands without its summary.
        typer.echo(f"{name}: no summary written ({error.strerror}).", err=True)
