"""Estimates of `--dry-run` beside what runs really take.

    python benchmarks/estimates.py [--limit N] SUITE...

Each suite runs in a process of its own, with one thread and an empty cache. Prints CPU
seconds and peak memory, as estimated and as the system measured them. CPU time in one
thread does not hang on what else the machine does, so far as caches are not shared.
"""

import argparse
import os
import sys
import tempfile
from typing import NamedTuple

from robustgen.cost import estimate_cost
from robustgen.suite import load_suite, narrow, resolve_cases


class Measured(NamedTuple):
    """What a process took.

    Args:
        cpu_seconds: User and system time.
        memory_mb: Largest resident set.
    """

    cpu_seconds: float
    memory_mb: float


def measure(suite: str, limit: int | None) -> Measured:
    """Runs the embedded profile of a suite and measures its process.

    Args:
        suite: Name or file.
        limit: Images of each split, at most.

    Raises:
        RuntimeError: the run failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        argv = [sys.executable, "-m", "robustgen.cli", "run", suite, "--out", folder]
        argv += ["--profile", "embedded"]
        argv += [] if limit is None else ["--limit", str(limit)]
        # What would keep several cores busy, or reuse results, is not measured.
        environment = os.environ | {
            "OMP_NUM_THREADS": "1",
            "ROBUSTGEN_CACHE": f"{folder}/cache",
        }
        with open(os.devnull, "wb") as nowhere:
            quiet = [(os.POSIX_SPAWN_DUP2, nowhere.fileno(), n) for n in (1, 2)]
            process = os.posix_spawn(argv[0], argv, environment, file_actions=quiet)
            _, status, used = os.wait4(process, 0)
    code = os.waitstatus_to_exitcode(status)
    # 3: a row is INVALID, which few images may well be.
    if code not in (0, 3):
        raise RuntimeError(f"{' '.join(argv)} ended with status {code}")
    return Measured(used.ru_utime + used.ru_stime, used.ru_maxrss / 1000)


def estimated(suite: str, limit: int | None) -> Measured:
    """What `--dry-run` says, for one thread."""
    asked = narrow(load_suite(suite), seed=None, limit=limit)
    cost = estimate_cost(resolve_cases(asked, "embedded"))
    return Measured(cost.cpu_seconds, cost.memory_mb)


def line(suite: str, limit: int | None) -> str:
    """One row of the table."""
    said, found = estimated(suite, limit), measure(suite, limit)
    return (
        f"| {suite} | {limit or 'all'} | {said.cpu_seconds:.0f} | "
        f"{found.cpu_seconds:.0f} | {said.cpu_seconds / found.cpu_seconds:.2f} | "
        f"{said.memory_mb:,.0f} | {found.memory_mb:,.0f} | "
        f"{said.memory_mb / found.memory_mb:.2f} |"
    )


def main() -> None:
    """Prints the table, a row as soon as its suite is done."""
    parser = argparse.ArgumentParser(description="Estimates beside real runs.")
    parser.add_argument("--limit", type=int, help="images of each split, at most")
    parser.add_argument("suites", nargs="+", metavar="SUITE")
    given = parser.parse_args()
    print("| suite | limit | CPU s said | found | ratio | MB said | found | ratio |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for suite in given.suites:
        print(line(suite, given.limit), flush=True)


if __name__ == "__main__":
    main()
