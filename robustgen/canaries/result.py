"""What a canary is, and what came of it."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Found:
    """What a canary saw.

    Args:
        text: What came out, in one line.
        passed: Whether that is what must come out.
    """

    text: str
    passed: bool


@dataclass(frozen=True, eq=False)
class Canary:
    """A subject whose true robustness is known, and the evaluation of it.

    Args:
        name: A few words.
        expected: What must come out, in one line.
        check: Evaluates it.
    """

    name: str
    expected: str
    check: Callable[[], Found]


@dataclass(frozen=True)
class CanaryResult:
    """One canary's outcome.

    Args:
        name: Of the canary.
        expected: What must come out.
        found: What came out.
        passed: Whether the two agree. If not, no number of this installation is to be
            believed before the reason is known.
        seconds: Wall-clock time.
    """

    name: str
    expected: str
    found: str
    passed: bool
    seconds: float
