"""Many independent problems at once, each by steps of the same rule.

What Adam and momentum share: every pass after the first follows a step that is taken
whether or not it lowers the loss, and the best point is returned.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64
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

Memory: TypeAlias = tuple[Tensor, ...]
"""What a rule remembers of the samples, each of the shape of the points."""

Reached: TypeAlias = Callable[[Int64[Tensor, " n"]], Bool[Tensor, " n"]]
"""Which of these samples need no more passes; asked after each pass."""


@runtime_checkable
class StepRule(Protocol):
    """How a gradient becomes a step."""

    @property
    def memories(self) -> int:
        """Tensors that the rule remembers; all zero at first."""
        ...

    def __call__(
        self,
        gradient: Float[Tensor, "n p"],
        memory: Memory,
        age: Float[Tensor, "n 1"],
        rate: Float[Tensor, "n 1"],
    ) -> tuple[Memory, Float[Tensor, "n p"]]:
        """What to remember now, and what to subtract from the points.

        Args:
            gradient: Gradient at the points.
            memory: What was remembered after the last step.
            age: Steps since the memory was empty, this one included.
            rate: Step size.
        """
        ...


@dataclass
class Descent:
    """Where the samples that still search are.

    Args:
        sample: Index in the batch.
        point: Where the next pass evaluates.
        memory: What the rule remembers.
        age: Steps since the memory was empty.
        rate: Step size.
        best_point: Point of the lowest loss.
        best_loss: Loss there.
        marked_loss: `best_loss` when the tolerance was last applied.
    """

    sample: Int64[Tensor, " n"]
    point: Float[Tensor, "n p"]
    memory: Memory
    age: Float[Tensor, " n"]
    rate: Float[Tensor, " n"]
    best_point: Float[Tensor, "n p"]
    best_loss: Float[Tensor, " n"]
    marked_loss: Float[Tensor, " n"]

    @staticmethod
    def begin(
        sample: Int64[Tensor, " n"],
        start: Float[Tensor, "n p"],
        loss: Float[Tensor, " n"],
        *,
        rule: StepRule,
        rate: float,
    ) -> "Descent":
        """At the start, before any step."""
        return Descent(
            sample=sample,
            point=start,
            memory=tuple(torch.zeros_like(start) for _ in range(rule.memories)),
            age=torch.zeros_like(loss),
            rate=torch.full_like(loss, rate),
            best_point=start,
            best_loss=loss,
            marked_loss=loss,
        )

    def select(self, rows: Int64[Tensor, " m"]) -> "Descent":
        """Some of the samples."""
        return replace(
            self,
            sample=self.sample[rows],
            point=self.point[rows],
            memory=tuple(each[rows] for each in self.memory),
            age=self.age[rows],
            rate=self.rate[rows],
            best_point=self.best_point[rows],
            best_loss=self.best_loss[rows],
            marked_loss=self.marked_loss[rows],
        )


def descend(
    objective: Objective,
    start: Float[Tensor, "n p"],
    *,
    rule: StepRule,
    passes: int,
    steps: int | None = None,
    rate: float,
    schedule: Callable[[int], float] | None = None,
    tolerance: float = 0.0,
    reached: Reached | None = None,
) -> Minimum:
    """Minimizes each row on its own; every pass after the first follows a step.

    A step is taken whether or not it lowers the loss, and the best point is returned.
    A loss or gradient that is not finite sends a sample back to its best point, with
    an empty memory and half the step size.

    Args:
        objective: Loss and gradient of all points given; one pass for each of them.
        start: Where each sample starts.
        rule: How a gradient becomes a step.
        passes: Evaluations per sample, the one at the start included.
        steps: Steps at most; None for as many as the passes allow.
        rate: Step size, in units that the rule gives it.
        schedule: Factor of the step size at each step, counted from 0; None for 1.
        tolerance: A sample leaves when its best loss fell by no more than this share in
            the last `PATIENCE` passes. At 0 no sample leaves early.
        reached: Tells samples that need no more passes; they leave at once. Asked after
            every pass, which waits for the device.

    Returns:
        The best points. `steps` is `passes - 1`.

    Raises:
        RequestError: a bound is out of range.
    """
    check_budget(passes, steps, tolerance)
    if not 0 < rate < float("inf"):
        raise RequestError(f"rate is {rate}: expected more than 0.")
    limit = passes if steps is None else min(passes, steps + 1)
    last = Outcome.BUDGET if limit == passes else Outcome.STEPS
    start = start.detach()
    everyone = torch.arange(len(start), device=start.device)
    loss, gradient = objective(start, everyone)
    minimum = Minimum.at_start(start, loss)
    usable = is_usable(loss, gradient)
    outcome = torch.where(usable, Outcome.RUNNING.value, Outcome.NOT_FINITE.value)
    search = Descent.begin(everyone, start, loss, rule=rule, rate=rate)
    for used in range(1, limit + 1):
        checked = tolerance > 0 and used > 1 and (used - 1) % PATIENCE == 0
        if reached is not None:
            done = reached(search.sample) & (outcome == Outcome.RUNNING)
            outcome = outcome.masked_fill(done, Outcome.REACHED)
        if checked:
            fall = search.marked_loss - search.best_loss
            done = fall <= tolerance * search.marked_loss.abs()
            running = outcome == Outcome.RUNNING
            outcome = outcome.masked_fill(running & done, Outcome.CONVERGED)
            search.marked_loss = search.best_loss
        if used == limit:
            outcome = outcome.masked_fill(outcome == Outcome.RUNNING, last)
        # Nobody can leave in between otherwise; asking would wait for the device.
        if checked or used in (1, limit) or reached is not None:
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
        factor = 1.0 if schedule is None else schedule(used - 1)
        take_step(search, gradient, rule, factor)
        loss, gradient = objective(search.point, search.sample)
        gradient = take_in(search, loss, gradient)
    return minimum


def take_step(
    search: Descent, gradient: Float[Tensor, "n p"], rule: StepRule, factor: float
) -> None:
    """Moves the points, whether or not that lowers the loss.

    Args:
        search: Changed in place; its tensors are replaced, not written to.
        gradient: Gradient at the points.
        rule: How a gradient becomes a step.
        factor: Of the step size.
    """
    search.age = search.age + 1
    search.memory, move = rule(
        gradient, search.memory, search.age[:, None], (search.rate * factor)[:, None]
    )
    search.point = search.point - move


def take_in(
    search: Descent, loss: Float[Tensor, " n"], gradient: Float[Tensor, "n p"]
) -> Float[Tensor, "n p"]:
    """Takes in one pass; the gradient from which the next step is made.

    Args:
        search: Changed in place; its tensors are replaced, not written to.
        loss: Loss at the points.
        gradient: Gradient there.
    """
    usable = is_usable(loss, gradient)
    better = usable & (loss < search.best_loss)
    search.best_loss = torch.where(better, loss, search.best_loss)
    search.best_point = torch.where(better[:, None], search.point, search.best_point)
    lost = ~usable[:, None]
    search.point = torch.where(lost, search.best_point, search.point)
    search.memory = tuple(each.masked_fill(lost, 0) for each in search.memory)
    search.age = search.age.masked_fill(~usable, 0)
    search.rate = torch.where(usable, search.rate, search.rate / 2)
    return gradient.masked_fill(lost, 0)
