"""What a minimizer of many independent problems takes and returns."""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from robustgen.errors import RequestError

Objective: TypeAlias = Callable[
    [Float[Tensor, "n p"], Int64[Tensor, " n"]],
    tuple[Float[Tensor, " n"], Float[Tensor, "n p"]],
]
"""Points and the indices of their samples -> loss and gradient of each: one pass.

Row `i` of the result may depend on row `i` of the points alone. The tensors returned
must be new ones, since a minimizer keeps them.
"""


class Outcome(enum.IntEnum):
    """Why the minimization of one sample ended."""

    RUNNING = -1
    """It has not ended; never in a result."""
    BUDGET = 0
    """It used all passes."""
    STEPS = 1
    """It took as many steps as were allowed."""
    CONVERGED = 2
    """The loss no longer fell by more than the tolerance."""
    STALLED = 3
    """Not even a tiny step along its gradient lowered the loss: rounding rules."""
    NOT_FINITE = 4
    """Its loss or gradient was not finite at the start, so the start is returned."""
    REACHED = 5
    """It is as near to its image as the method asks for."""


@dataclass(frozen=True, eq=False)
class Minimum:
    """The best point found for each sample, and what finding it cost.

    Args:
        points: Where the loss is `loss`; the start where nothing lower was found.
        initial_loss: Loss at the start.
        loss: Lowest loss found; never above `initial_loss`. NaN only where the loss at
            the start is.
        passes: Evaluations of loss and gradient, the one at the start included.
        steps: Moves to another point, from which the search went on.
        outcome: An `Outcome`.
    """

    points: Float[Tensor, "n p"]
    initial_loss: Float[Tensor, " n"]
    loss: Float[Tensor, " n"]
    passes: Int64[Tensor, " n"]
    steps: Int64[Tensor, " n"]
    outcome: Int64[Tensor, " n"]

    @staticmethod
    def at_start(
        start: Float[Tensor, "n p"], initial_loss: Float[Tensor, " n"]
    ) -> "Minimum":
        """What is known after the first pass; `settle` fills in the rest."""
        ones = torch.ones(len(start), dtype=torch.int64, device=start.device)
        return Minimum(
            points=start.clone(),
            initial_loss=initial_loss,
            loss=initial_loss.clone(),
            passes=ones,
            steps=torch.zeros_like(ones),
            outcome=torch.full_like(ones, Outcome.RUNNING),
        )

    def settle(
        self,
        samples: Int64[Tensor, " m"],
        *,
        points: Float[Tensor, "m p"],
        loss: Float[Tensor, " m"],
        passes: int,
        steps: Int64[Tensor, " m"],
        outcome: Int64[Tensor, " m"],
    ) -> None:
        """Writes the final figures of samples that leave."""
        self.points[samples] = points
        self.loss[samples] = loss
        self.passes[samples] = passes
        self.steps[samples] = steps
        self.outcome[samples] = outcome


def is_usable(
    loss: Float[Tensor, " n"], gradient: Float[Tensor, "n p"]
) -> Bool[Tensor, " n"]:
    """Whether loss and gradient of a sample are finite."""
    return loss.isfinite() & gradient.isfinite().all(dim=-1)


def dot(a: Float[Tensor, "n p"], b: Float[Tensor, "n p"]) -> Float[Tensor, " n"]:
    """Inner product of each row, summed along its own axis only."""
    return (a * b).sum(dim=-1)


def check_budget(passes: int, steps: int | None, tolerance: float) -> None:
    """Refuses a budget under which nothing can be minimized.

    Raises:
        RequestError: `passes` below 1, `steps` below 0, or a tolerance outside [0, 1).
    """
    if passes < 1:
        raise RequestError(f"passes is {passes}: expected at least 1.")
    if steps is not None and steps < 0:
        raise RequestError(f"steps is {steps}: expected 0 or more, or none.")
    if not 0 <= tolerance < 1:
        raise RequestError(f"tolerance is {tolerance}: expected at least 0, below 1.")
