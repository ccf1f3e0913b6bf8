"""Kills small runs at random times, resumes them, and compares every file they leave.

    OMP_NUM_THREADS=1 python benchmarks/kills.py 200

Every run has a cache and an out folder of its own. A child process runs the suite and
gets SIGKILL at a time drawn uniformly from the time that an uninterrupted run takes;
one in three is killed again while it resumes. Then it resumes to its end, and each file
of its folder must equal that of an uninterrupted run: tables, pictures, figures,
accuracy.csv and predictions.parquet byte for byte, probes, manifest and report but for
the times that they quote. A run that ends before its signal comes does not count.

Most children are forked from this process, which has loaded torch already: a kill costs
about a second instead of ten. `--commands` of them (default 4) are real command lines.
A kill hit a file while it was written where it left an unfinished `.tmp` file.

Prints one line for each run that differs, then a summary; on the way, one on the error
stream for every 20 runs. Exit status 1 if one differs.
"""

import argparse
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from robustgen.cache import Cache, verify
from robustgen.seeding import numpy_rng

ASSETS = ("dataset", "classifier", "generator", "encoder", "perceptual")

SUITE: dict[str, Any] = {
    "version": 1,
    "name": "small",
    "seed": 5,
    "profiles": {"embedded": {"pairs": [dict.fromkeys(ASSETS, "digits")]}},
    "attacks": [
        {"name": "clean", "attack": "clean"},
        {
            "name": "pgd",
            "attack": "pgd",
            "norm": "linf",
            "eps": "32/255",
            "settings": {"steps": 2, "step_size": "32/255"},
        },
    ],
    "paths": ["image", "reconstruction", "combined_ensemble"],
    "tiers": ["oblivious", "bpda_encoder"],
    "ladder": {
        "paths": ["reconstruction"],
        "budget": {
            "preset": "smoke",
            "steps": 2,
            "restarts": 1,
            "draws": 1,
            "views": 1,
            "score_draws": 2,
        },
    },
    "splits": {"val": 2, "test": 4},
    "projection": {"passes": 2},
    "views": {"count": 2},
    "ensemble": {"size": 2, "resamples": 2},
}
"""Every kind of work and file in about a second: clean, an attack, a tier, probes."""

BATCH_SIZE = 2

AGAIN = 1 / 3
"""Chance that a resumed run is killed as well."""

TIMES = re.compile(
    rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+\d:]*"
    rb"|(?<=seconds)(\W{1,3}|</\w+>\s*<\w+>)[\d.]+(e-?\d+)?"
)
"""What two runs of the same quote differently in a text: when, and how long."""


def write_suite(folder: Path) -> Path:
    """The small suite as a file."""
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(SUITE), encoding="utf-8")
    return path


def final_files(out: Path) -> dict[str, bytes]:
    """Every file of a run by its relative path, without times."""
    return {
        path.relative_to(out).as_posix(): _timeless(path)
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def _timeless(path: Path) -> bytes:
    content = path.read_bytes()
    if path.name == "manifest.json":
        manifest = json.loads(content)
        # The hash of the probes covers their times, that of the manifest its own.
        files = {k: v for k, v in manifest["files"].items() if "probes/" not in k}
        manifest |= {"files": files, "sha256": None}
        content = json.dumps(manifest).encode()
    if path.suffix in {".json", ".md", ".html"}:
        return TIMES.sub(b"-", content)
    return content


def stage_of(out: Path, cache: Path, tables: int) -> str:
    """How far a killed run had come, as its folders show it.

    Args:
        out: Folder of the run.
        cache: Folder of its cache.
        tables: Number of tables of an uninterrupted run.
    """
    if (out / "manifest.json").exists():
        return "reporting"
    if any(cache.glob("evidence/*/*/*.entry")):
        return "writing"
    if len(list(out.glob("tables/*.npz"))) == tables:
        return "probing"
    return "evaluating" if any(cache.glob("*/*/*/*.entry")) else "loading"


@dataclass(frozen=True)
class Place:
    """Where a run reads its suite and writes."""

    suite: Path
    out: Path
    cache: Path


def start_fork(place: Place) -> int:
    """Runs the suite in a forked child; returns its process id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.environ["ROBUSTGEN_CACHE"] = str(place.cache)
        from robustgen.runner import run

        run(place.suite, out=place.out, batch_size=BATCH_SIZE)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def start_command(place: Place) -> int:
    """Runs the suite by the command line; returns the id of its process."""
    command = [sys.executable, "-m", "robustgen.cli", "run", str(place.suite)]
    command += ["--out", str(place.out), "--batch-size", str(BATCH_SIZE)]
    process = subprocess.Popen(
        command,
        env={**os.environ, "ROBUSTGEN_CACHE": str(place.cache)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    # `wait_for` reaps it by its id.
    process.returncode = 0
    return process.pid


def ended_well(status: int) -> bool:
    """Whether a run wrote all of its files: a few images give INVALID rows (3)."""
    return status in (0, 3)


def wait_for(child: int) -> int:
    """Exit status of a child; negative for the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def was_killed(child: int, delay: float) -> tuple[bool, float]:
    """Whether SIGKILL, sent after `delay` seconds, came before the child's end.

    Returns:
        Also the seconds that the child lived.
    """
    began = time.monotonic()
    while time.monotonic() - began < delay and not has_ended(child):
        time.sleep(0.002)
    # A child that has ended and was not waited for still takes signals.
    os.kill(child, signal.SIGKILL)
    lived = time.monotonic() - began
    status = wait_for(child)
    if status != -signal.SIGKILL and not ended_well(status):
        raise RuntimeError(f"the run failed with status {status}")
    return status == -signal.SIGKILL, lived


def has_ended(child: int) -> bool:
    """Whether a child that nobody has waited for is over."""
    look = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return os.waitid(os.P_PID, child, look) is not None


def finish(start: Callable[[Place], int], place: Place) -> float:
    """Runs to the end; returns the seconds it took."""
    began = time.monotonic()
    status = wait_for(start(place))
    if not ended_well(status):
        raise RuntimeError(f"the run failed with status {status}")
    return time.monotonic() - began


@dataclass
class Tally:
    """What came of the runs so far."""

    killed: int = 0
    kills: int = 0
    while_writing: int = 0
    identical: int = 0
    ended_before: int = 0
    stages: Counter[str] = field(default_factory=Counter[str])

    def summary(self, seconds: float) -> str:
        """One line."""
        stages = ", ".join(f"{name} {n}" for name, n in sorted(self.stages.items()))
        return (
            f"{self.killed} runs killed and resumed, {self.identical} identical; "
            f"{self.kills} kills ({stages}), {self.while_writing} while a file was "
            f"written; {self.ended_before} runs ended before their signal; "
            f"{seconds:.0f} s"
        )


def kill_and_resume(
    start: Callable[[Place], int],
    place: Place,
    whole: Mapping[str, bytes],
    seconds: float,
    rng: np.random.Generator,
    tally: Tally,
) -> float:
    """One run, killed at least once and resumed to its end.

    Args:
        start: Starts the run.
        place: Fresh folders for it.
        whole: Files of the uninterrupted run.
        seconds: Time that it took.
        rng: Draws the times of the signals.
        tally: Counts what comes of it; a run that ends before the first signal is
            no killed run.

    Returns:
        Time that a run takes, as known now: other load may come and go.
    """
    tables = sum(name.startswith("tables/") for name in whole)
    first = True
    unfinished: set[Path] = set()
    while first or rng.random() < AGAIN:
        killed, lived = was_killed(start(place), rng.uniform(0, seconds))
        if not killed:
            if first:
                tally.ended_before += 1
                return lived
            break
        first = False
        tally.kills += 1
        tally.stages[stage_of(place.out, place.cache, tables)] += 1
        left = {*place.out.rglob("*.tmp"), *place.cache.rglob("*.tmp")}
        tally.while_writing += bool(left - unfinished)
        unfinished |= left
    tally.killed += 1
    finish(start, place)
    here = final_files(place.out)
    other = {k for k in whole.keys() | here.keys() if whole.get(k) != here.get(k)}
    damaged = verify(Cache(place.cache))
    if other or damaged:
        print(f"differs: {sorted(other)}, damaged: {damaged}; see {place.out}")
    else:
        tally.identical += 1
    return seconds


def main() -> None:
    """See the head of this file."""
    about = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("count", type=int, nargs="?", default=200)
    parser.add_argument("--commands", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    began = time.monotonic()
    # Once, for all children.
    importlib.import_module("robustgen.runner")
    folder = Path(tempfile.mkdtemp(prefix="robustgen-kills-"))
    suite = write_suite(folder)
    tally = Tally()
    plain = Place(suite, folder / "whole", folder / "whole-cache")
    seconds = {start_fork: finish(start_fork, plain)}
    whole = final_files(plain.out)
    turn = 0
    while tally.killed < asked.count:
        start = start_fork
        if asked.count - tally.killed <= asked.commands:
            start = start_command
            if start not in seconds:
                place = Place(suite, folder / "command", folder / "command-cache")
                seconds[start] = finish(start, place)
        turn += 1
        here = folder / str(turn)
        place = Place(suite, here / "out", here / "cache")
        rng = numpy_rng(asked.seed, "kills", turn)
        seconds[start] = kill_and_resume(
            start, place, whole, seconds[start], rng, tally
        )
        if turn % 20 == 0:
            print(tally.summary(time.monotonic() - began), file=sys.stderr)
        if tally.identical == tally.killed:
            shutil.rmtree(here)
    print(tally.summary(time.monotonic() - began))
    if tally.identical < tally.killed:
        raise SystemExit(1)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
