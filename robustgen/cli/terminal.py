"""What commands share on the terminal: progress, Ctrl-C, folders to write."""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from robustgen.cli.interrupts import stoppable
from robustgen.cost import duration
from robustgen.errors import RequestError
from robustgen.progress import Pace, Stage

if TYPE_CHECKING:
    from rich.console import Console

EVERY = 10.0
"""Seconds between two plain lines of one stage."""

NARROW = 60
"""Columns below which there is no room for a bar."""


def refuse_file(folder: Path) -> None:
    """Refuses a folder that is a file or would lie below one."""
    try:
        existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    except OSError as error:
        raise RequestError(f"{folder}: cannot be used ({error.strerror}).") from error
    if not existing.is_dir():
        raise RequestError(f"{existing}: is a file; --out needs a folder.")


def writable(folder: Path) -> None:
    """Refuses a folder that cannot be written before any work is done."""
    refuse_file(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RequestError(
            f"{folder}: cannot write here ({error.strerror}). "
            "Name another folder with --out."
        ) from error


@contextmanager
def interruptible(message: str) -> Generator[None]:
    """Ctrl-C and SIGTERM end the command and say what is left; see `stoppable`."""
    with stoppable(lambda: message):
        yield


@contextmanager
def watched(again: str, stages: Sequence[Stage] = ()) -> Generator["Bar | Lines"]:
    """Shows progress; a signal says how far the work was and how to go on.

    Args:
        again: Command that continues; see `command_again`.
        stages: The plan, in order; see `Pace`.
    """
    pace = Pace(stages, time.monotonic())
    with stoppable(lambda: _how_to_go_on(pace, again)), _showing(pace) as shown:
        yield shown


@contextmanager
def show_progress() -> Generator["Bar | Lines"]:
    """A bar on a terminal, plain lines otherwise; both on stderr."""
    with _showing(Pace((), time.monotonic())) as shown:
        yield shown


@contextmanager
def _showing(pace: Pace) -> Generator["Bar | Lines"]:
    if not _interactive():
        yield Lines(pace)
        return
    from rich.console import Console

    shown = Bar(Console(stderr=True), pace)
    with shown.bar:
        yield shown


def _interactive() -> bool:
    """Whether lines may be drawn over: a terminal, and nobody keeps a log of it."""
    dumb = os.environ.get("TERM", "") in ("dumb", "unknown")
    return sys.stderr.isatty() and not dumb and not os.environ.get("CI")


def _how_to_go_on(pace: Pace, again: str) -> str:
    at, count = pace.stages
    where = f"during {pace.stage} ({pace.done} of {pace.total})" if pace.stage else ""
    stages = f"{max(0, at - 1)} of {count} stages were done" if count else ""
    said = ", ".join(each for each in (stages, where) if each)
    done = f"{said[:1].upper()}{said[1:]}. " if said else ""
    return f"{done}Finished work is kept.\nTo continue: {again}"


class Bar:
    """Progress as one bar for all stages, with the time left; for a terminal.

    Args:
        console: The terminal.
        pace: How far the work is.
        clock: In seconds; that by which the pace began.
    """

    def __init__(
        self,
        console: "Console",
        pace: Pace,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
        from rich.table import Column
        from rich.text import Text

        class Left(ProgressColumn):
            """Share and time left, as of now: a step may take minutes."""

            def render(self, task: object) -> Text:
                del task
                return Text(_share_and_left(pace, clock()), no_wrap=True)

        stage = Column(no_wrap=True, overflow="ellipsis", ratio=1)
        columns: list[ProgressColumn] = [
            TextColumn("{task.description}", markup=False, table_column=stage),
            BarColumn(20),
            Left(Column(no_wrap=True)),
        ]
        if console.width < NARROW:
            del columns[1]
        self.pace, self.clock = pace, clock
        self.bar = Progress(*columns, console=console, expand=True)
        self.task = self.bar.add_task("starting", total=1.0)

    def start(self, stage: str, total: int) -> None:
        """See `robustgen.progress.Progress`."""
        self.pace.start(stage, total, self.clock())
        self._show()

    def advance(self, count: int = 1) -> None:
        """See `robustgen.progress.Progress`."""
        self.pace.advance(count, self.clock())
        self._show()

    def _show(self) -> None:
        pace = self.pace
        said = f"{pace.stage} {pace.done}/{pace.total}"
        self.bar.update(self.task, description=said, completed=pace.share)


class Lines:
    """Progress as one line when a stage starts and every ten seconds.

    Args:
        pace: How far the work is.
        clock: In seconds; that by which the pace began.
    """

    def __init__(self, pace: Pace, clock: Callable[[], float] = time.monotonic) -> None:
        self.pace, self.clock = pace, clock
        self.said = clock()

    def start(self, stage: str, total: int) -> None:
        """See `robustgen.progress.Progress`."""
        self.pace.start(stage, total, self.clock())
        self._say()

    def advance(self, count: int = 1) -> None:
        """See `robustgen.progress.Progress`."""
        self.pace.advance(count, self.clock())
        if self.clock() - self.said >= EVERY:
            self._say()

    def _say(self) -> None:
        pace, self.said = self.pace, self.clock()
        gone = duration(pace.elapsed(self.said))
        typer.echo(
            f"{pace.stage}: {pace.done} of {pace.total}; {gone} gone, "
            f"{_share_and_left(pace, self.said)}",
            err=True,
        )


def _share_and_left(pace: Pace, now: float) -> str:
    left = pace.left(now)
    return f"{pace.share:.0%} done" + (
        "" if left is None else f", {duration(left)} left"
    )
