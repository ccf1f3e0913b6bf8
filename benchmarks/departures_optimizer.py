"""The optimizer of the released code, written anew, to be compared with ours.

`FullBatchLBFGS` (github.com/hjmshi/PyTorch-LBFGS, `utils/LBFGS.py` in chail/gan-
ensembling) with the settings that `invert_lbfgs` leaves at their defaults, one search
per image. Its line search has two properties that ours has not:

* the trial in a bracket [a, b] is held between a + 0.2 (b - a) and (b - a) / 2. The
  second is half of the width, not the middle, so that a trial may lie outside of the
  bracket, and a step between them may never be tried;
* after 10 failed trials the point goes back, and the next search begins from the same
  point along the same direction with the same trials. Only what `x + t d - t d` leaves
  of rounding can end the repetition.

Each image has a search of its own, a Python generator that is sent the loss and the
gradient of the point that it yielded. So all images are evaluated together, while no
search knows of another.
"""

import math
from collections.abc import Collection, Generator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from robustgen.projectors.minimum import Objective

ARMIJO, WOLFE = 1e-4, 0.9
"""Sufficient decrease and curvature of the weak Wolfe conditions."""

MAX_TRIALS = 10
"""Further trials on one line."""

HISTORY = 10
"""Pairs of the inverse Hessian."""

LEAST_CURVATURE = 1e-2
"""A pair is kept where y.s exceeds this share of s.B.s."""

Evaluations = Generator[Tensor, tuple[Tensor, Tensor], "Line"]
"""Yields points [P], is sent loss [] and gradient [P], returns where a line ended."""


@dataclass(frozen=True)
class Progress:
    """Where one search is, after its last whole line.

    Args:
        point: The point reached.
        loss: Loss there.
        steps: Lines that ended in a new point.
        failures: Lines that did not.
        repeats: Lines in a row, up to the last one, that did not.
        escaped: Whether any line found a new point after one that did not.
        wasted: Evaluations spent on lines that did not.
        gradients: Evaluations whose gradient the released code computes, too.
    """

    point: Tensor
    loss: float
    steps: int = 0
    failures: int = 0
    repeats: int = 0
    escaped: bool = False
    wasted: int = 0
    gradients: int = 1

    def after(self, line: "Line", point: Tensor) -> "Progress":
        """The same after another line."""
        return replace(
            self,
            point=point.clone(),
            loss=float(line.loss),
            steps=self.steps + (not line.failed),
            failures=self.failures + line.failed,
            repeats=self.repeats + 1 if line.failed else 0,
            escaped=self.escaped or (self.repeats > 0 and not line.failed),
            wasted=self.wasted + (line.passes if line.failed else 0),
            gradients=self.gradients + line.gradients,
        )


@dataclass(frozen=True, eq=False)
class Line:
    """How one line search ended; `step` is 0 where it failed."""

    step: float
    loss: Tensor
    gradient: Tensor
    failed: bool
    passes: int
    gradients: int


class ReleasedSearch:
    """The search of one image.

    Args:
        start: Where it begins, [P].
    """

    def __init__(self, start: Tensor):
        self.progress = Progress(start.clone(), float("nan"))
        self._evaluations = self._run(start.clone())
        self.trial = next(self._evaluations)

    def send(self, loss: Tensor, gradient: Tensor) -> None:
        """Takes what was found at `trial` and chooses the next one."""
        self.trial = self._evaluations.send((loss, gradient))

    def _run(self, x: Tensor) -> Generator[Tensor, tuple[Tensor, Tensor]]:
        loss, gradient = yield x.clone()
        self.progress = replace(self.progress, loss=float(loss))
        pairs: list[tuple[Tensor, Tensor]] = []
        scale: float | Tensor = 1.0
        while True:
            direction = inverse_hessian_times(-gradient, pairs, scale)
            line = yield from wolfe_line(x, direction, loss, gradient @ direction)
            self.progress = self.progress.after(line, x)
            if not line.failed:
                s, y = direction * line.step, line.gradient - gradient
                ys = y @ s
                if ys > LEAST_CURVATURE * (s @ (gradient * -line.step)):
                    pairs = [*pairs, (s, y)][-HISTORY:]
                    scale = ys / (y @ y)
            loss, gradient = line.loss, line.gradient


def inverse_hessian_times(
    vector: Tensor, pairs: list[tuple[Tensor, Tensor]], scale: float | Tensor
) -> Tensor:
    """`H v` by the two-loop recursion, from pairs `(s, y)`, the newest last."""
    result = vector.clone()
    weights: list[Tensor] = []
    for s, y in reversed(pairs):
        weight = (s @ result) / (y @ s)
        result -= weight * y
        weights.append(weight)
    result *= scale
    for (s, y), weight in zip(pairs, reversed(weights), strict=True):
        result += (weight - (y @ result) / (y @ s)) * s
    return result


def wolfe_line(
    x: Tensor, direction: Tensor, loss: Tensor, slope: Tensor
) -> Evaluations:
    """Looks along a line for a point of the weak Wolfe conditions.

    Args:
        x: Where the line begins; moved to where the search ends.
        direction: Its direction.
        loss: Loss at its beginning.
        slope: Derivative along it at its beginning.
    """
    low, low_loss, low_slope = 0.0, float(loss), float(slope)
    high, high_loss = math.inf, math.nan
    step, passes, gradients = 1.0, 1, 0
    x.add_(direction, alpha=step)
    found, gradient = yield x.clone()
    for _ in range(MAX_TRIALS):
        if found > loss + ARMIJO * step * slope:
            high, high_loss = step, float(found)
        else:
            gradients += 1
            reached = gradient @ direction
            # Not a number is no failure: the released code takes such a point.
            if not reached < WOLFE * slope:
                return Line(step, found, gradient, False, passes, gradients)
            low, low_loss, low_slope = step, float(found), float(reached)
        before = step
        step = next_trial(step, low, low_loss, low_slope, high, high_loss)
        x.add_(direction, alpha=step - before)
        found, gradient = yield x.clone()
        passes += 1
    # The released code gives up before it looks at the last point.
    x.add_(direction, alpha=-step)
    found, gradient = yield x.clone()
    return Line(0.0, found, gradient, True, passes + 1, gradients + 1)


def next_trial(
    step: float,
    low: float,
    low_loss: float,
    low_slope: float,
    high: float,
    high_loss: float,
) -> float:
    """The step after `step`, in the bracket from `low` to `high`.

    >>> next_trial(1.0, 1.0, -1.0, -1.0, float("inf"), float("nan"))
    2.0
    >>> next_trial(2.0, 1.0, -1.0, -1.0, 2.0, 0.125)  # the parabola says 1.235
    0.5
    """
    if not math.isfinite(high_loss):
        return 2 * step if math.isinf(high) else (low + high) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        rise = np.float64(high_loss) - low_loss - low_slope * (high - low)
        least = low - low_slope * (high - low) ** 2 / (2 * rise)
    least = np.minimum(np.maximum(min(low, high), least), max(low, high))
    if least < low + 0.2 * (high - low):
        least = low + 0.2 * (high - low)
    elif least > (high - low) / 2:
        least = (high - low) / 2
    if least <= 0:
        least = (high - low) / 2
    return float(least)


def minimize_released(
    objective: Objective, start: Tensor, budgets: Collection[int]
) -> Mapping[int, list[Progress]]:
    """Searches every row, and says where each is after some numbers of evaluations.

    Args:
        objective: Loss and gradient of all points given.
        start: Where each row begins, [N, P].
        budgets: Numbers of evaluations per row, the one at the start included.

    Returns:
        By budget: the progress of each row. Evaluations of a line that has not ended
        yet are spent for nothing, as they would be if the loop ended there.
    """
    searches = [ReleasedSearch(row) for row in start.detach()]
    everyone = torch.arange(len(searches), device=start.device)
    reached: dict[int, list[Progress]] = {}
    for used in range(1, max(budgets) + 1):
        trials = torch.stack([search.trial for search in searches])
        losses, gradients = objective(trials, everyone)
        for search, loss, gradient in zip(searches, losses, gradients, strict=True):
            search.send(loss, gradient)
        if used in budgets:
            reached[used] = [search.progress for search in searches]
    return reached
