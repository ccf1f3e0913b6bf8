"""What is told of long work, on a terminal and in a log, and how it is stopped."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import pytest
import typer
from rich.console import Console

from robustgen.cli import terminal
from robustgen.cli.interrupts import STATUS, Stopped, command_again, stoppable
from robustgen.progress import Pace, Stage

ROOT = Path(__file__).parents[1]
PLAN = (Stage("easy", 10), Stage("hard", 90))


@pytest.fixture(autouse=True)
def _signals_as_before() -> Generator[None]:
    before = {number: signal.getsignal(number) for number in STATUS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_planned_stage_counts_by_its_seconds():
    pace = Pace(PLAN, now=0)
    pace.start("easy", 5, now=0)
    pace.advance(5, now=10)
    assert pace.share == pytest.approx(0.1)
    assert pace.left(10) == pytest.approx(90)
    pace.start("hard", 90, now=10)
    pace.advance(45, now=55)
    assert pace.stages == (2, 2)
    assert pace.share == pytest.approx(0.55)
    assert pace.left(55) == pytest.approx(45)
    # The clock runs while a step is at work.
    assert pace.left(60) == pytest.approx(40)
    assert pace.left(500) == 0


def test_slow_work_stretches_what_is_left():
    pace = Pace(PLAN, now=0)
    pace.start("easy", 1, now=0)
    pace.advance(1, now=30)
    # 10 expected seconds took 30, and 10 more are trusted: a pace of 40 for 20.
    assert pace.left(30) == pytest.approx(90 * 2)


def test_reused_work_tells_nothing_about_the_pace():
    pace = Pace(PLAN, now=0)
    pace.start("easy", 1, now=0)
    pace.advance(1, now=0.001)
    assert pace.left(0.001) == pytest.approx(90)


def test_stages_that_never_began_count_as_over():
    pace = Pace(PLAN, now=0)
    pace.start("hard", 90, now=0)
    assert pace.share == pytest.approx(0.1)
    pace.start("unplanned", 3, now=1)
    pace.advance(1, now=2)
    assert pace.share == pytest.approx(0.1)


def test_without_a_plan_each_stage_is_a_whole():
    pace = Pace((), now=0)
    assert pace.left(0) is None
    assert pace.stages == (0, 0)
    pace.start("project", 40, now=0)
    pace.advance(10, now=12)
    assert pace.share == pytest.approx(0.25)
    assert pace.left(12) == pytest.approx(36)
    pace.start("next", 2, now=12)
    assert (pace.share, pace.left(12)) == (0, None)


def test_a_log_gets_a_line_for_a_stage_and_every_ten_seconds(
    capsys: pytest.CaptureFixture[str],
):
    now = [0.0]
    lines = terminal.Lines(Pace((), 0), clock=lambda: now[0])
    lines.start("project", 40)
    for _ in range(3):
        now[0] += 6
        lines.advance(5)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "project: 0 of 40; 0 s gone, 0% done",
        "project: 10 of 40; 12 s gone, 25% done, 36 s left",
    ]


def test_no_terminal_no_control_characters(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    # Colors that a user wants everywhere do not turn a file into a terminal.
    monkeypatch.setenv("FORCE_COLOR", "1")
    with terminal.show_progress() as told:
        assert isinstance(told, terminal.Lines)
        told.start("work", 2)
        told.advance()
    said = capfd.readouterr().err
    assert said.startswith("work: 0 of 2")
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", said)


@pytest.mark.parametrize(
    ("environment", "bar"),
    [({}, True), ({"CI": "true"}, False), ({"TERM": "dumb"}, False)],
)
def test_a_bar_needs_a_terminal_that_nobody_logs(
    environment: dict[str, str], bar: bool, monkeypatch: pytest.MonkeyPatch
):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stderr", Terminal())
    with terminal.show_progress() as told:
        assert isinstance(told, terminal.Bar) == bar


def bar_lines(width: int, *, no_color: bool = False) -> tuple[list[str], str]:
    """What a bar shows at the end, line by line, and all that was written."""
    stream = io.StringIO()
    console = Console(
        file=stream,
        force_terminal=True,
        width=width,
        _environ={"TERM": "xterm-256color", "COLUMNS": str(width)},
        no_color=no_color,
    )
    pace = Pace((Stage("celebahq-faces-pgd-reconstruction test", 10),), 0)
    bar = terminal.Bar(console, pace, clock=lambda: 5.0)
    bar.start("celebahq-faces-pgd-reconstruction test", 200)
    bar.advance(100)
    shown = Console(width=width, file=io.StringIO())
    with shown.capture() as capture:
        shown.print(bar.bar.get_renderable())
    with bar.bar:
        pass
    return capture.get().splitlines(), stream.getvalue()


@pytest.mark.parametrize("width", [30, 50, 80, 120])
def test_a_bar_is_one_line_on_any_terminal(width: int):
    lines, _ = bar_lines(width)
    assert len(lines) == 1
    assert len(lines[0]) <= width
    assert "50% done, 5 s left" in lines[0]
    assert lines[0].startswith("celeba")


def test_no_color_leaves_no_color():
    _, written = bar_lines(80, no_color=True)
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", written)


def test_signals_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with stoppable(lambda: ""):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(ValueError, match="own"), stoppable(lambda: ""):
        raise ValueError("own")
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_with_its_status(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
):
    unwound: list[str] = []

    def work() -> None:
        with stoppable(lambda: "Go on."):
            try:
                os.kill(os.getpid(), number)
                time.sleep(5)
            except Stopped:
                # Pressed twice: the work still unwinds.
                os.kill(os.getpid(), number)
                unwound.append("whole")
                raise

    with pytest.raises(typer.Exit) as caught:
        work()
    assert caught.value.exit_code == STATUS[number]
    assert unwound == ["whole"]
    assert capsys.readouterr().err.endswith("ed. Go on.\n")
    os.kill(os.getpid(), number)  # while the process ends: nothing happens


def test_a_stop_says_how_far_the_work_was_and_how_to_go_on(
    capsys: pytest.CaptureFixture[str],
):
    def work() -> None:
        with terminal.watched("robustgen run digits", PLAN) as told:
            told.start("easy", 1)
            told.advance()
            told.start("hard", 90)
            told.advance(30)
            raise KeyboardInterrupt

    with pytest.raises(typer.Exit):
        work()
    said = capsys.readouterr().err
    assert "1 of 2 stages were done, during hard (30 of 90). Finished work" in said
    assert said.endswith("To continue: robustgen run digits\n")


def test_the_command_to_go_on_is_the_one_that_was_given():
    given = ["run", "my suite.yaml", "--out", "o", "--fresh", "--plugin=a"]
    assert (
        command_again(["/opt/bin/robustgen", *given], without=("--fresh",))
        == "robustgen run 'my suite.yaml' --out o --plugin=a"
    )
    module = "/site-packages/robustgen/cli/__main__.py"
    assert command_again([module, "doctor"]) == "python -m robustgen.cli doctor"


STOPPED = """
import os, signal, sys, time
from robustgen.cli import terminal
from robustgen.cli.interrupts import stoppable
with terminal.watched("robustgen run digits") as told:
    told.start("work", 3)
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(("number", "status"), STATUS.items())
def test_a_stopped_process_leaves_no_traceback(number: signal.Signals, status: int):
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import typer\ndef work():\n"
            + "".join(f"    {line}\n" for line in STOPPED.splitlines())
            + "typer.run(work)\n",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == status
    assert "Traceback" not in said
    assert "To continue: robustgen run digits" in said
