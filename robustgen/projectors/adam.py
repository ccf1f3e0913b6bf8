"""Adam for many independent problems at once (arXiv:1412.6980)."""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from robustgen.errors import RequestError
from robustgen.projectors.minimum import (
    Minimum,
    Objective,
    Outcome,
    check_budget,
    is_usable,
)

PATIENCE = 10
"""Passes in which the best loss must fall by more than the tolerance."""

EPSILON = 1e-8
"""Keeps the division finite; the value of the paper."""


@dataclass
class _Search:
    """Where the samples that still search are.

    Args:
        sample: Index in the batch.
        point: Where the next pass evaluates.
        mean: Moving mean of the gradient.
        power: Moving mean of its square.
        age: Steps since the moving means began.
        rate: Step size.
        best_point: Point of the lowest loss.
        best_loss: Loss there.
        marked_loss: `best_loss` when the tolerance was last applied.
    """

    sample: Int64[Tensor, " n"]
    point: Float[Tensor, "n p"]
    mean: Float[Tensor, "n p"]
    power: Float[Tensor, "n p"]
    age: Float[Tensor, " n"]
    rate: Float[Tensor, " n"]
    best_point: Float[Tensor, "n p"]
    best_loss: Float[Tensor, " n"]
    marked_loss: Float[Tensor, " n"]

    def select(self, rows: Int64[Tensor, " m"]) -> "_Search":
        """Some of the samples."""
        return _Search(*(getattr(self, f.name)[rows] for f in fields(self)))


def minimize_adam(
    objective: Objective,
    start: Float[Tensor, "n p"],
    *,
    passes: int,
    steps: int | None = None,
    rate: float = 0.05,
    betas: tuple[float, float] = (0.9, 0.999),
    tolerance: float = 0.0,
) -> Minimum:
    """Minimizes each row on its own; every pass after the first follows a step.

    A step is taken whether or not it lowers the loss, and the best point is returned.
    A loss or gradient that is not finite sends a sample back to its best point, with
    empty moments and half the step size.

    Args:
        objective: Loss and gradient of all points given; one pass for each of them.
        start: Where each sample starts.
        passes: Evaluations per sample, the one at the start included.
        steps: Steps at most; None for as many as the passes allow.
        rate: Step size, in units of the points. For style codes of unit scale 0.05 is
            the best of 0.01, 0.02 and 0.05 within 20 passes; more passes want less.
        betas: Decay of the moving means of the gradient and of its square.
        tolerance: A sample leaves when its best loss fell by no more than this share in
            the last `PATIENCE` passes. At 0 no sample leaves early.

    Returns:
        The best points. `steps` is `passes - 1`.

    Raises:
        RequestError: a bound is out of range.
    """
    check_budget(passes, steps, tolerance)
    if not 0 < rate < float("inf"):
        raise RequestError(f"rate is {rate}: expected more than 0.")
    if not all(0 <= beta < 1 for beta in betas):
        raise RequestError(f"betas are {betas}: expected two numbers in [0, 1).")
    limit = passes if steps is None else min(passes, steps + 1)
    last = Outcome.BUDGET if limit == passes else Outcome.STEPS
    start = start.detach()
    everyone = torch.arange(len(start), device=start.device)
    loss, gradient = objective(start, everyone)
    minimum = Minimum.at_start(start, loss)
    usable = is_usable(loss, gradient)
    outcome = torch.where(usable, Outcome.RUNNING.value, Outcome.NOT_FINITE.value)
    search = _Search(
        sample=everyone,
        point=start,
        mean=torch.zeros_like(start),
        power=torch.zeros_like(start),
        age=torch.zeros_like(loss),
        rate=torch.full_like(loss, rate),
        best_point=start,
        best_loss=loss,
        marked_loss=loss,
    )
    for used in range(1, limit + 1):
        checked = tolerance > 0 and used > 1 and (used - 1) % PATIENCE == 0
        if checked:
            fall = search.marked_loss - search.best_loss
            done = fall <= tolerance * search.marked_loss.abs()
            running = outcome == Outcome.RUNNING
            outcome = outcome.masked_fill(running & done, Outcome.CONVERGED)
            search.marked_loss = search.best_loss
        if used == limit:
            outcome = outcome.masked_fill(outcome == Outcome.RUNNING, last)
        # Nobody can leave in between; asking would wait for the device.
        if checked or used in (1, limit):
            leaving = (outcome != Outcome.RUNNING).nonzero().squeeze(1)
            if len(leaving):
                gone = search.select(leaving)
                minimum.settle(
                    gone.sample,
                    points=gone.best_point,
                    loss=gone.best_loss,
                    passes=used,
                    steps=torch.full_like(gone.sample, used - 1),
                    outcome=outcome[leaving],
                )
                staying = (outcome == Outcome.RUNNING).nonzero().squeeze(1)
                search, outcome = search.select(staying), outcome[staying]
                gradient = gradient[staying]
            if not len(search.sample):
                break
        _step(search, gradient, betas)
        loss, gradient = objective(search.point, search.sample)
        usable = is_usable(loss, gradient)
        better = usable & (loss < search.best_loss)
        search.best_loss = torch.where(better, loss, search.best_loss)
        search.best_point = torch.where(
            better[:, None], search.point, search.best_point
        )
        lost = ~usable[:, None]
        search.point = torch.where(lost, search.best_point, search.point)
        search.mean = search.mean.masked_fill(lost, 0)
        search.power = search.power.masked_fill(lost, 0)
        search.age = search.age.masked_fill(~usable, 0)
        search.rate = torch.where(usable, search.rate, search.rate / 2)
        gradient = gradient.masked_fill(lost, 0)
    return minimum


def _step(
    search: _Search, gradient: Float[Tensor, "n p"], betas: tuple[float, float]
) -> None:
    """Moves every sample by one step (Algorithm 1 of the paper)."""
    search.age = search.age + 1
    search.mean = search.mean.lerp(gradient, 1 - betas[0])
    search.power = search.power.lerp(gradient.square(), 1 - betas[1])
    age = search.age[:, None]
    mean = search.mean / (1 - betas[0] ** age)
    power = search.power / (1 - betas[1] ** age)
    search.point = search.point - search.rate[:, None] * mean / (power.sqrt() + EPSILON)
