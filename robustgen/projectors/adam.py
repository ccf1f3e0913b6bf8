"""Adam for many independent problems at once (arXiv:1412.6980)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from robustgen.errors import RequestError
from robustgen.projectors.descent import Memory, Reached, descend
from robustgen.projectors.minimum import Minimum, Objective

EPSILON = 1e-8
"""Keeps the division finite; the value of the paper."""


@dataclass(frozen=True)
class Adam:
    """The step of Algorithm 1 of the paper; a `StepRule`.

    Args:
        betas: Decay of the moving means of the gradient and of its square.

    Raises:
        RequestError: a decay is outside [0, 1).
    """

    betas: tuple[float, float] = (0.9, 0.999)

    memories = 2

    def __post_init__(self) -> None:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise RequestError(
                f"betas are {self.betas}: expected two numbers in [0, 1)."
            )

    def __call__(
        self,
        gradient: Float[Tensor, "n p"],
        memory: Memory,
        age: Float[Tensor, "n 1"],
        rate: Float[Tensor, "n 1"],
    ) -> tuple[Memory, Float[Tensor, "n p"]]:
        mean = memory[0].lerp(gradient, 1 - self.betas[0])
        power = memory[1].lerp(gradient.square(), 1 - self.betas[1])
        unbiased_mean = mean / (1 - self.betas[0] ** age)
        unbiased_power = power / (1 - self.betas[1] ** age)
        # The root of a constant where the power is 0: the root of 0 has no derivative.
        still = unbiased_power == 0
        root = torch.where(still, 0.0, torch.where(still, 1.0, unbiased_power).sqrt())
        return (mean, power), rate * unbiased_mean / (root + EPSILON)


def minimize_adam(
    objective: Objective,
    start: Float[Tensor, "n p"],
    *,
    passes: int,
    steps: int | None = None,
    rate: float = 0.05,
    betas: tuple[float, float] = (0.9, 0.999),
    tolerance: float = 0.0,
    reached: Reached | None = None,
) -> Minimum:
    """Minimizes each row on its own; see `robustgen.projectors.descent.descend`.

    Args:
        objective: Loss and gradient of all points given; one pass for each of them.
        start: Where each sample starts.
        passes: Evaluations per sample, the one at the start included.
        steps: Steps at most; None for as many as the passes allow.
        rate: Step size, in units of the points. For style codes of unit scale 0.05 is
            the best of 0.01, 0.02 and 0.05 within 20 passes; more passes want less.
        betas: Decay of the moving means of the gradient and of its square.
        tolerance: A sample leaves when its best loss fell by no more than this share in
            the last `descent.PATIENCE` passes. At 0 no sample leaves early.
        reached: Tells samples that need no more passes; None for none.

    Returns:
        The best points. `steps` is `passes - 1`.

    Raises:
        RequestError: a bound is out of range.
    """
    return descend(
        objective,
        start,
        rule=Adam(betas),
        passes=passes,
        steps=steps,
        rate=rate,
        tolerance=tolerance,
        reached=reached,
    )
