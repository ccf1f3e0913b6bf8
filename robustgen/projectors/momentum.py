"""Gradient descent with momentum for many independent problems at once."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from robustgen.errors import RequestError
from robustgen.projectors.descent import Memory, descend
from robustgen.projectors.minimum import Minimum, Objective


@dataclass(frozen=True)
class Momentum:
    """`v <- momentum * v + gradient`, a step of `-rate * v`; a `StepRule`.

    Args:
        momentum: Share of the last step that goes on. 0 is plain descent.

    Raises:
        RequestError: the momentum is outside [0, 1).
    """

    momentum: float

    memories = 1

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise RequestError(
                f"momentum is {self.momentum}: expected at least 0, below 1."
            )

    def __call__(
        self,
        gradient: Float[Tensor, "n p"],
        memory: Memory,
        age: Float[Tensor, "n 1"],
        rate: Float[Tensor, "n 1"],
    ) -> tuple[Memory, Float[Tensor, "n p"]]:
        del age
        velocity = self.momentum * memory[0] + gradient
        return (velocity,), rate * velocity


def minimize_momentum(
    objective: Objective,
    start: Float[Tensor, "n p"],
    *,
    passes: int,
    steps: int | None = None,
    rate: float,
    momentum: float,
    drop: float = 1.0,
    drop_at: float = 1.0,
    tolerance: float = 0.0,
) -> Minimum:
    """Minimizes each row on its own; see `robustgen.projectors.descent.descend`.

    Args:
        objective: Loss and gradient of all points given; one pass for each of them.
        start: Where each sample starts.
        passes: Evaluations per sample, the one at the start included.
        steps: Steps at most; None for as many as the passes allow.
        rate: Step size, times the gradient.
        momentum: Share of the last step that goes on.
        drop: Factor of the step size from `drop_at` on.
        drop_at: Share of the passes after which the step size drops.
        tolerance: A sample leaves when its best loss fell by no more than this share in
            the last `descent.PATIENCE` passes. At 0 no sample leaves early.

    Returns:
        The best points. `steps` is `passes - 1`.

    Raises:
        RequestError: a bound is out of range.
    """
    return descend(
        objective,
        start,
        rule=Momentum(momentum),
        passes=passes,
        steps=steps,
        rate=rate,
        schedule=dropping_rate(passes, drop, drop_at),
        tolerance=tolerance,
    )


def dropping_rate(passes: int, drop: float, drop_at: float) -> Callable[[int], float]:
    """Factor of the step size at each step, counted from 0; see `minimize_momentum`.

    Raises:
        RequestError: a bound is out of range.
    """
    if not 0 < drop <= 1:
        raise RequestError(f"drop is {drop}: expected more than 0, at most 1.")
    if not 0 <= drop_at <= 1:
        raise RequestError(f"drop_at is {drop_at}: expected a share in [0, 1].")
    dropping = math.ceil(drop_at * passes)
    return lambda step: drop if step >= dropping else 1.0
