"""How long work tells how far it is."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Told by the doing arm, shown by the command line."""

    def start(self, stage: str, total: int) -> None:
        """A stage of `total` steps begins; the one before it is over."""
        ...

    def advance(self, count: int = 1) -> None:
        """`count` further steps of the stage are done."""
        ...


class Silent:
    """Progress that shows nothing."""

    def start(self, stage: str, total: int) -> None:
        """Shows nothing."""

    def advance(self, count: int = 1) -> None:
        """Shows nothing."""
