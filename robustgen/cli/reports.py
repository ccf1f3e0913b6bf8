"""Commands on finished work: `report`, `attacks` and `score`."""

from pathlib import Path
from typing import Annotated

import typer

from robustgen.cli.options import RunFolder
from robustgen.cli.run import refuse_invalid


def report_command(
    run: RunFolder,
) -> None:
    """Rebuilds every report file of a run from its saved tables."""
    from robustgen.rendering import terminal_table
    from robustgen.report import rebuild_report

    report = rebuild_report(run)
    typer.echo(terminal_table(report))
    typer.echo(f"Written to {run}/: open report.html")
    refuse_invalid(report)


def attacks_command(
    run: RunFolder,
) -> None:
    """Ranks the attacks of a run by strength."""
    from robustgen.strength.rendering import strength_text
    from robustgen.strength.report import load_strength, write_strength

    strength = load_strength(run)
    write_strength(strength, run)
    typer.echo(strength_text(strength))
    typer.echo(f"Written to {run}/: attacks.md, attacks.csv, attacks.json")


def score_command(
    val: Annotated[Path, typer.Argument(help="Released .npz of the validation split.")],
    test: Annotated[Path, typer.Argument(help="Released .npz of the test split.")],
    family: Annotated[str, typer.Option(help="Views to score.")] = "stylemix_fine",
    ensemble_size: Annotated[
        int, typer.Option(min=1, help="Views of an ensemble.")
    ] = 31,
    image_crops: Annotated[
        bool, typer.Option("--image-crops", help="The protocol for cars.")
    ] = False,
) -> None:
    """Scores released prediction files by the paper's rule."""
    from robustgen.score import score_predictions

    scores = score_predictions(val, test, family, ensemble_size, image_crops)
    typer.echo(f"accuracy {scores['mean']:.4f}, standard error {scores['stderr']:.4f}")
