"""How long work tells how far it is."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Told by the doing arm, shown by the command line."""

    def start(self, stage: str, total: int) -> None:
        """A stage of `total` steps begins; the one before it is over."""
        ...

    def advance(self, count: int = 1) -> None:
        """`count` further steps of the stage are done."""
        ...


class Stage(NamedTuple):
    """One stage of work that is known beforehand.

    Args:
        name: What `Progress.start` will call it.
        seconds: What it is expected to take; only the shares of the whole matter.
    """

    name: str
    seconds: float


class Silent:
    """Progress that shows nothing."""

    def start(self, stage: str, total: int) -> None:
        """Shows nothing."""

    def advance(self, count: int = 1) -> None:
        """Shows nothing."""


class Pace:
    """How far a sequence of stages is, and how long the rest will take.

    The time left is the expected time of what is left, times how much slower than
    expected the work was so far. Steps that took less than a twentieth of their time
    are taken to be reused results, and tell nothing about the pace. Without a plan
    every stage is a whole of its own.

    Args:
        stages: The plan, in order; empty for none.
        now: Time at the beginning, in seconds of any clock.

    Attributes:
        stage: Name of the stage that runs; empty before the first.
        done: Steps of it that are done.
        total: Steps of it.
    """

    def __init__(self, stages: Sequence[Stage], now: float) -> None:
        self._planned = bool(stages)
        self._before: dict[str, float] = {}
        self._seconds = {stage.name: max(0.0, stage.seconds) for stage in stages}
        self._whole = 0.0
        for name, seconds in self._seconds.items():
            self._before[name] = self._whole
            self._whole += seconds
        self.stage, self.done, self.total = "", 0, 0
        self._began = self._last = now
        self._reached = self._worked = self._took = 0.0

    def start(self, stage: str, total: int, now: float) -> None:
        """A stage begins; see `Progress.start`."""
        self.stage, self.done, self.total = stage, 0, total
        if not self._planned:
            self._seconds, self._before, self._whole = {stage: 1.0}, {stage: 0.0}, 1.0
            self._reached = self._worked = self._took = 0.0
            self._last = now
        # Stages before it that never began are not going to.
        self._reached = max(self._reached, self._before.get(stage, 0.0))

    def advance(self, count: int, now: float) -> None:
        """Steps are done; see `Progress.advance`."""
        self.done = min(self.total, self.done + count)
        step = self._seconds.get(self.stage, 0.0) * count / max(1, self.total)
        took, self._last = max(0.0, now - self._last), now
        share = self.done / max(1, self.total)
        base = self._before.get(self.stage, 0.0)
        reached = base + self._seconds.get(self.stage, 0.0) * share
        self._reached = max(self._reached, min(self._whole, reached))
        if not self._planned or took >= step * self._slowness() / 20:
            self._worked += step
            self._took += took

    @property
    def stages(self) -> tuple[int, int]:
        """Number of the stage that runs, from 1, and of all; (0, 0) without a plan."""
        if not self._planned:
            return 0, 0
        names = list(self._seconds)
        at = names.index(self.stage) + 1 if self.stage in self._seconds else 0
        return at, len(names)

    @property
    def share(self) -> float:
        """How much of the whole is done, in [0, 1]."""
        return self._reached / self._whole if self._whole else 0.0

    def elapsed(self, now: float) -> float:
        """Seconds since the beginning."""
        return now - self._began

    def left(self, now: float) -> float | None:
        """Seconds that the rest will take; None before anything is known."""
        if not self._planned and self._worked == 0:
            return None
        rest = (self._whole - self._reached) * self._slowness()
        # What the step at hand has taken so far is no longer to come.
        return max(0.0, rest - (now - self._last))

    def _slowness(self) -> float:
        """Seconds of work for each expected one; the plan counts for a tenth."""
        if not self._planned:
            return self._took / self._worked if self._worked else 0.0
        trust = self._whole / 10
        if trust == 0:
            return 1.0
        return (self._took + trust) / (self._worked + trust)
