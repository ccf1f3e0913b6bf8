"""The command line: `robustgen run SUITE` and its sisters.

Exit status: 0 done; 1 a gate failed; 2 the request is wrong; 3 the evaluation cannot be
trusted; 130 interrupted; 143 terminated. What needs torch or pandas is imported by the
command that needs it, so that help, `list` and `--dry-run` answer at once.
"""

from collections.abc import Sequence
from typing import NoReturn

import typer

from robustgen.cli.assets import fetch_command, project_command, train_command
from robustgen.cli.cache import cache_command
from robustgen.cli.compare import compare_command
from robustgen.cli.gate import baseline_command, check_command
from robustgen.cli.listing import doctor_command, list_command
from robustgen.cli.reports import attacks_command, report_command, score_command
from robustgen.cli.run import run_command
from robustgen.errors import RobustgenError

COMMANDS = {
    "run": run_command,
    "baseline": baseline_command,
    "check": check_command,
    "report": report_command,
    "attacks": attacks_command,
    "compare": compare_command,
    "cache": cache_command,
    "doctor": doctor_command,
    "train": train_command,
    "project": project_command,
    "fetch": fetch_command,
    "list": list_command,
    "score": score_command,
}
"""Every command, in the order of `--help`."""


def build_app() -> typer.Typer:
    """The command line with all its commands."""
    app = typer.Typer(
        name="robustgen",
        help="Measures, truthfully, how much a generative defense protects a "
        "classifier.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    for name, command in COMMANDS.items():
        app.command(name)(command)
    return app


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs one command and exits.

    Args:
        argv: Arguments after the program's name; by default those of the process.

    Raises:
        SystemExit: always; see the exit statuses at the head of this module.
    """
    command = typer.main.get_command(build_app())
    try:
        command.main(args=None if argv is None else list(argv), prog_name="robustgen")
    except RobustgenError as error:
        typer.echo(f"robustgen: {error}", err=True)
        raise SystemExit(error.exit_code) from None
    raise SystemExit(0)
