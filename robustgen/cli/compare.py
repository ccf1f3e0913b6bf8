"""`robustgen compare RUN_A RUN_B`."""

from pathlib import Path
from typing import Annotated

import typer


def compare_command(
    run_a: Annotated[Path, typer.Argument(help="Folder of the first run.")],
    run_b: Annotated[
        Path, typer.Argument(help="Folder of the second run; differences are B - A.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for comparison.md, .json and .csv; else no files."),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(help="Also say how many samples would show this difference."),
    ] = None,
    power: Annotated[
        float | None,
        typer.Option(help="Chance of finding the margin; 0.8 unless given."),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(help="Level of the test that should find it; 0.05 unless given."),
    ] = None,
) -> None:
    """Compares two runs: configuration, accuracies, samples."""
    from robustgen.comparison.compare import compare_folders
    from robustgen.comparison.files import write_comparison
    from robustgen.comparison.rendering import comparison_text
    from robustgen.comparison.sample_size import Plan
    from robustgen.errors import RequestError

    if margin is None and (power is not None or alpha is not None):
        raise RequestError("--power and --alpha belong to a margin; give --margin too.")
    plan = None
    if margin is not None:
        power = 0.8 if power is None else power
        plan = Plan(margin, power, 0.05 if alpha is None else alpha)
    comparison = compare_folders(run_a, run_b, plan)
    typer.echo(comparison_text(comparison))
    if out is not None:
        write_comparison(comparison, out)
        typer.echo(f"Written to {out}/: comparison.md, comparison.json, comparison.csv")
