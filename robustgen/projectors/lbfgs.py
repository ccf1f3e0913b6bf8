"""L-BFGS for many independent problems at once.

One call of the objective evaluates all samples, each at a trial point of its own: a
sample whose last trial was accepted tries the first point of a new direction, another
the next point of its line search. So nobody waits for anybody, and no number of a
sample depends on the others, except for how the objective itself rounds.

This differs from the optimizer of the released code (`FullBatchLBFGS`) in:

1. A trial is accepted on sufficient decrease alone (Armijo). The weak Wolfe condition
   spends passes on longer trials along the same line; here the next direction makes up
   for a short step. Positive curvature is asked of a pair instead, before it is stored.
2. The first step is scaled by the loss (`FIRST_DECREASE`), not by one.
3. Blocks of coordinates (style layers) are scaled by their gradients at the start.
4. A line search that failed is not repeated: the memory is dropped, and the search goes
   on along the gradient.
"""

import math
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from robustgen.errors import RequestError
from robustgen.projectors.memory import PairMemory
from robustgen.projectors.minimum import (
    Minimum,
    Objective,
    Outcome,
    check_budget,
    dot,
    is_usable,
)

FIRST_DECREASE = 0.1
"""Share of the loss that a step along the gradient aims to remove, if it were linear.

Of 0.03, 0.1, 0.2, 0.3 and 0.5, the one with the lowest loss after 6 to 40 passes of a
face projection: nearly every first trial is accepted, and none is much too short.
"""

SHRINK_MOST, SHRINK_LEAST = 0.1, 0.5
"""What a failed trial does to its step; interpolation chooses in between."""

HISTORY = 10
"""Pairs that the inverse Hessian of a sample is made of, if nothing else is asked."""

ARMIJO = 1e-4
"""Share of the promised decrease that a trial must keep, if nothing else is asked."""

MAX_TRIALS = 8
"""Trials on one line, after which its direction is given up."""

FLATTEST_BLOCK = 1e-3
"""Least gradient of a block, relative to the steepest, that its scale goes by."""


@dataclass
class LineSearch:
    """Where the samples that still search are, and the next trial of each.

    Args:
        sample: Index in the batch.
        point: The best point so far, as a scaled distance from the start.
        loss: Loss there.
        gradient: Gradient there.
        direction: The line on which trials lie.
        slope: Derivative of the loss along it, negative.
        step: Length of the next trial, in units of `direction`.
        trials: Trials so far on this line.
        steps: Accepted trials so far.
        outcome: An `Outcome`.
    """

    sample: Int64[Tensor, " n"]
    point: Float[Tensor, "n p"]
    loss: Float[Tensor, " n"]
    gradient: Float[Tensor, "n p"]
    direction: Float[Tensor, "n p"]
    slope: Float[Tensor, " n"]
    step: Float[Tensor, " n"]
    trials: Int64[Tensor, " n"]
    steps: Int64[Tensor, " n"]
    outcome: Int64[Tensor, " n"]

    @staticmethod
    def begin(
        sample: Int64[Tensor, " n"],
        loss: Float[Tensor, " n"],
        gradient: Float[Tensor, "n p"],
    ) -> "LineSearch":
        """At the start, before any direction is chosen."""
        usable = is_usable(loss, gradient)
        return LineSearch(
            sample=sample,
            point=torch.zeros_like(gradient),
            loss=loss,
            gradient=gradient,
            direction=torch.zeros_like(gradient),
            slope=torch.zeros_like(loss),
            step=torch.ones_like(loss),
            trials=torch.zeros_like(sample),
            steps=torch.zeros_like(sample),
            outcome=torch.where(
                usable, Outcome.RUNNING.value, Outcome.NOT_FINITE.value
            ),
        )

    def select(self, rows: Int64[Tensor, " m"]) -> "LineSearch":
        """Some of the samples."""
        return LineSearch(*(getattr(self, f.name)[rows] for f in fields(self)))

    def finish(self, where: Bool[Tensor, " n"], outcome: Outcome) -> None:
        """Ends the search of some samples, unless it has ended already."""
        ends = where & (self.outcome == Outcome.RUNNING)
        self.outcome = self.outcome.masked_fill(ends, outcome)


def minimize_lbfgs(
    objective: Objective,
    start: Float[Tensor, "n p"],
    *,
    passes: int,
    steps: int | None = None,
    history: int = HISTORY,
    armijo: float = ARMIJO,
    tolerance: float = 0.0,
    blocks: int = 1,
) -> Minimum:
    """Minimizes each row on its own.

    Args:
        objective: Loss and gradient of all points given; one pass for each of them. A
            value that is not finite counts as a failed trial and is never accepted.
        start: Where each sample starts.
        passes: Evaluations per sample, the one at the start included. With the defaults
            of `steps` and `tolerance` every sample uses all of them, so cost and pass
            counts are the same for all samples and batches.
        steps: Accepted trials after which a sample leaves; None for no such bound.
        history: Pairs that the inverse Hessian of a sample is made of. More costs
            memory, `2 * history` points per sample, and pays only after that many
            steps.
        armijo: Share of the decrease promised by the slope that a trial must keep.
        tolerance: A sample leaves when a step lowers its loss by no more than this
            share of it, or when no step along the gradient lowers it at all. At 0 no
            sample leaves early.
        blocks: Number of equal, consecutive blocks of coordinates, each rescaled by
            `1 / sqrt(gradient)` of the block at the start. For style codes, the number
            of layers: at 12 passes it saves about one, for the same loss. 1 rescales
            nothing.

    Returns:
        The best points. `steps` counts accepted trials.

    Raises:
        RequestError: a bound is out of range, or `blocks` does not divide the points.
    """
    check_budget(passes, steps, tolerance)
    if history < 1:
        raise RequestError(f"history is {history}: expected at least 1.")
    if blocks < 1 or start.shape[1] % blocks:
        raise RequestError(
            f"blocks is {blocks}: expected a divisor of {start.shape[1]} coordinates."
        )
    start = start.detach()
    everyone = torch.arange(len(start), device=start.device)
    initial_loss, gradient = objective(start, everyone)
    scale = block_scale(gradient, blocks)
    minimum = Minimum.at_start(start, initial_loss)
    search = LineSearch.begin(everyone, initial_loss, gradient * scale)
    memory = PairMemory.empty(start, history)
    origin, row_scale = start, scale
    for used in range(1, passes + 1):
        if steps is not None:
            search.finish(search.steps >= steps, Outcome.STEPS)
        if used == passes:
            search.finish(
                torch.ones_like(search.outcome, dtype=torch.bool), Outcome.BUDGET
            )
        # Nobody can leave in between otherwise; asking would wait for the device.
        if used in (1, passes) or steps is not None or tolerance > 0:
            leaving = (search.outcome != Outcome.RUNNING).nonzero().squeeze(1)
            if len(leaving):
                gone = search.select(leaving)
                minimum.settle(
                    gone.sample,
                    points=origin[leaving] + row_scale[leaving] * gone.point,
                    loss=gone.loss,
                    passes=used,
                    steps=gone.steps,
                    outcome=gone.outcome,
                )
                staying = (search.outcome == Outcome.RUNNING).nonzero().squeeze(1)
                search, memory = search.select(staying), memory.select(staying)
                origin, row_scale = origin[staying], row_scale[staying]
            if not len(search.sample):
                break
        if used == 1:
            choose_direction(
                search, memory, torch.ones_like(search.sample, dtype=torch.bool)
            )
        trial = search.point + search.step[:, None] * search.direction
        loss, gradient = objective(origin + row_scale * trial, search.sample)
        advance(
            search,
            memory,
            trial,
            loss,
            gradient * row_scale,
            armijo=armijo,
            tolerance=tolerance,
        )
    return minimum


def block_scale(gradient: Float[Tensor, "n p"], blocks: int) -> Float[Tensor, "n p"]:
    """`1 / sqrt(rms)` of each block of a gradient, relative to the steepest block.

    Blocks whose gradient is (nearly) zero are scaled as if it were `FLATTEST_BLOCK` of
    the steepest; a gradient of zero is not scaled at all.
    """
    if blocks == 1:
        return torch.ones_like(gradient)
    power = gradient.unflatten(1, (blocks, -1)).square().mean(dim=2)
    # The root of a constant where the power is 0: the root of 0 has no derivative.
    rms = torch.where(power == 0, 0.0, torch.where(power == 0, 1.0, power).sqrt())
    steepest = rms.amax(dim=1, keepdim=True)
    usable = (steepest > 0) & steepest.isfinite()
    relative = torch.where(usable, rms / steepest, 1.0)
    scale = relative.clamp(min=FLATTEST_BLOCK).rsqrt()
    return scale.repeat_interleave(gradient.shape[1] // blocks, dim=1)


def choose_direction(
    search: LineSearch, memory: PairMemory, where: Bool[Tensor, " n"]
) -> None:
    """Begins a new line for some samples, at the point where they are."""
    gradient = search.gradient
    power = dot(gradient, gradient)
    aim = FIRST_DECREASE * torch.where(search.loss == 0, 1.0, search.loss.abs())
    steepest = torch.where(power > 0, aim / torch.where(power > 0, power, 1.0), 0.0)
    memory.forget(where & memory.is_empty, steepest)
    direction = -memory.inverse_hessian_times(gradient)
    slope = dot(direction, gradient)
    # Rounding, or a point where the gradient is zero.
    uphill = where & ~(slope.isfinite() & (slope < 0))
    memory.forget(uphill, steepest)
    direction = torch.where(uphill[:, None], -steepest[:, None] * gradient, direction)
    slope = torch.where(uphill, -steepest * power, slope)
    search.direction = torch.where(where[:, None], direction, search.direction)
    search.slope = torch.where(where, slope, search.slope)
    search.step = torch.where(where, 1.0, search.step)
    search.trials = torch.where(where, 0, search.trials)


def advance(
    search: LineSearch,
    memory: PairMemory,
    trial: Float[Tensor, "n p"],
    loss: Float[Tensor, " n"],
    gradient: Float[Tensor, "n p"],
    *,
    armijo: float,
    tolerance: float,
) -> None:
    """Takes in one pass: accepts the trial or shortens the step of each sample."""
    loss = torch.where(is_usable(loss, gradient), loss, math.inf)
    promised = search.step * search.slope
    # The first part matters where the promise is lost in rounding.
    accepted = (loss < search.loss) & (loss <= search.loss + armijo * promised)
    search.trials = search.trials + 1

    # Minimum of the parabola through both losses and the slope at the point.
    excess = (loss - search.loss - promised).clamp(min=0)
    curved = excess > 0
    share = -promised / (2 * torch.where(curved, excess, 1.0))
    share = share.nan_to_num(0).clamp(SHRINK_MOST, SHRINK_LEAST)
    straight = torch.where(promised < 0, SHRINK_LEAST, SHRINK_MOST)
    share = torch.where(curved, share, straight)
    search.step = search.step * share

    memory.store(accepted, trial - search.point, gradient - search.gradient)
    if tolerance > 0:
        little = search.loss - loss <= tolerance * search.loss.abs()
        search.finish(accepted & little, Outcome.CONVERGED)
    search.steps = search.steps + accepted
    search.point = torch.where(accepted[:, None], trial, search.point)
    search.gradient = torch.where(accepted[:, None], gradient, search.gradient)
    search.loss = torch.where(accepted, loss, search.loss)

    given_up = ~accepted & (search.trials >= MAX_TRIALS)
    if tolerance > 0:
        search.finish(given_up & memory.is_empty, Outcome.STALLED)
    # Along the gradient there is nothing else to try: the step goes on shrinking.
    given_up = given_up & ~memory.is_empty
    memory.forget(given_up, memory.scale)
    choose_direction(search, memory, accepted | given_up)
