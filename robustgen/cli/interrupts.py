"""Ctrl-C and SIGTERM: how a command stops, and how to go on."""

import os
import shlex
import signal
import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import typer

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}
"""Exit status of a command that a signal stopped: 128 and its number."""

PATIENCE = 2.0
"""Seconds in which further signals are taken for the first one, pressed twice."""


class Stopped(KeyboardInterrupt):
    """A signal that asks the command to stop; passes what catches `Exception`.

    Args:
        number: Of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def stoppable(message: Callable[[], str]) -> Generator[None]:
    """A signal ends the command with its status and a message, without a traceback.

    The first signal unwinds the work, so that files are left whole or absent. Further
    ones within `PATIENCE` count for nothing; one that comes later ends the process at
    once. After a signal, both stay ignored until the process is over.

    Args:
        message: What is left and how to go on; called after the work was unwound.

    Raises:
        Exit: with 130 for Ctrl-C, with 143 for SIGTERM.
    """
    first: list[float] = []

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        if not first:
            first.append(time.monotonic())
            raise Stopped(number)
        if time.monotonic() - first[0] > PATIENCE:
            os._exit(STATUS[signal.Signals(number)])

    before = {number: signal.signal(number, stop) for number in STATUS}
    try:
        yield
    except KeyboardInterrupt as stopped:
        for number in STATUS:
            signal.signal(number, signal.SIG_IGN)
        number = stopped.number if isinstance(stopped, Stopped) else signal.SIGINT
        name = "Interrupted" if number == signal.SIGINT else "Terminated"
        typer.echo(f"\n{name}. {message()}", err=True)
        raise typer.Exit(STATUS[signal.Signals(number)]) from None
    except BaseException:
        _restore(before)
        raise
    _restore(before)


def _restore(before: Mapping[signal.Signals, object]) -> None:
    for number, handler in before.items():
        # None: set by other than Python code, and so not ours to put back.
        if handler is not None:
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]


def command_again(argv: Sequence[str], *, without: Collection[str] = ()) -> str:
    """The command that a process was started with, to be pasted into a shell.

    >>> command_again(["/usr/bin/robustgen", "run", "my suite.yaml"])
    "robustgen run 'my suite.yaml'"
    >>> command_again(["run_suite.py", "digits", "--fresh"], without=["--fresh"])
    'python run_suite.py digits'

    Args:
        argv: Its `sys.argv`.
        without: Words to leave out, such as an option that throws work away.
    """
    program, given = Path(argv[0]), [word for word in argv[1:] if word not in without]
    if program.name == "__main__.py":
        started = ["python", "-m", "robustgen.cli"]
    elif program.suffix == ".py":
        started = ["python", argv[0]]
    else:
        started = [program.name]
    return shlex.join([*started, *given])
