"""What commands share on the terminal: progress, Ctrl-C, folders to write."""

import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from robustgen.cost import duration
from robustgen.errors import RequestError

if TYPE_CHECKING:
    from rich.console import Console


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
    """Ctrl-C ends the command with status 130 and says what is left."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"\nInterrupted. {message}", err=True)
        raise typer.Exit(130) from None


class Bars:
    """Progress as a bar with an ETA, for a terminal."""

    def __init__(self, console: "Console") -> None:
        from rich import progress

        self.bars = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            console=console,
        )
        self.task: progress.TaskID | None = None

    def start(self, stage: str, total: int) -> None:
        self.task = self.bars.add_task(stage, total=total)

    def advance(self, count: int = 1) -> None:
        if self.task is not None:
            self.bars.advance(self.task, count)


class Lines:
    """Progress as one line when a stage starts and every ten seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.stage, self.done, self.total = "", 0, 0
        self.began = self.said = clock()

    def start(self, stage: str, total: int) -> None:
        self.stage, self.done, self.total = stage, 0, total
        self.began = self.said = self.clock()
        typer.echo(f"{stage}: {total}", err=True)

    def advance(self, count: int = 1) -> None:
        self.done += count
        now = self.clock()
        if now - self.said < 10 or not self.done:
            return
        self.said = now
        left = (now - self.began) / self.done * (self.total - self.done)
        typer.echo(
            f"{self.stage}: {self.done} of {self.total}, {duration(left)} left",
            err=True,
        )


@contextmanager
def show_progress() -> Generator[Bars | Lines]:
    """Bars on a terminal, plain lines otherwise; both on stderr."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield Lines()
        return
    shown = Bars(console)
    with shown.bars:
        yield shown
