"""Minimizers as chains of passes that can be walked backwards.

A search alternates between the objective, which is expensive, and vector operations in
the space of its points, which are cheap. With the losses and gradients of all passes
known, every state of the search can be had again without a network, and the derivative
of what it found is a walk over its passes in reverse.

Decisions (which trials are accepted, which point is best) are constants: they do not
change under small changes of the images, but for a set of measure zero.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from robustgen.projectors.descent import Descent, StepRule, take_in, take_step
from robustgen.projectors.lbfgs import (
    ARMIJO,
    HISTORY,
    LineSearch,
    advance,
    block_scale,
    choose_direction,
)
from robustgen.projectors.memory import PairMemory
from robustgen.projectors.minimum import is_usable

State: TypeAlias = tuple[Tensor, ...]
"""All that a search knows between two passes; rows are its samples."""

Points: TypeAlias = Float[Tensor, "n p"]
"""Points of a search, a row for each sample."""


class Pass(NamedTuple):
    """What the objective gave at the points of one pass."""

    loss: Float[Tensor, " n"]
    gradient: Float[Tensor, "n p"]

    def usable(self) -> "Pass":
        """With an infinite loss and no gradient where anything is not finite.

        A search refuses either; zeros can be multiplied by a derivative of zero.
        """
        fine = is_usable(self.loss, self.gradient)
        return Pass(
            torch.where(fine, self.loss, math.inf),
            torch.where(fine[:, None], self.gradient, 0.0),
        )


Pull: TypeAlias = Callable[
    [Float[Tensor, "n p"], Float[Tensor, " n"] | None, Float[Tensor, "n p"] | None],
    Float[Tensor, "n p"] | None,
]
"""Points, and derivatives with respect to the loss and to the gradient there -> the
derivative with respect to the points. None for zero."""


@runtime_checkable
class Stepper(Protocol):
    """The vector operations of a minimizer; differentiable, and nothing in place."""

    def begin(self, start: Points, first: Pass) -> State:
        """The state after the first pass, which was at the start."""
        ...

    def propose(self, state: State, number: int) -> tuple[Points, State]:
        """Where the next pass evaluates, and the state that waits for it.

        Args:
            state: After `number + 1` passes.
            number: Steps since the start.
        """
        ...

    def take_in(self, waiting: State, seen: Pass) -> State:
        """The state after the pass that was proposed."""
        ...

    def found(self, state: State) -> Points:
        """The best points so far."""
        ...


@dataclass(frozen=True)
class LbfgsStepper:
    """`robustgen.projectors.lbfgs.minimize_lbfgs`, for samples that all search on.

    Args:
        blocks: As given there.
    """

    blocks: int

    def begin(self, start: Points, first: Pass) -> State:
        scale = block_scale(first.gradient, self.blocks)
        everyone = torch.arange(len(start), device=start.device)
        search = LineSearch.begin(everyone, first.loss, first.gradient * scale)
        memory = PairMemory.empty(start, HISTORY)
        choose_direction(search, memory, torch.ones_like(everyone, dtype=torch.bool))
        return (start, scale, *_tensors(search), *_tensors(memory))

    def propose(self, state: State, number: int) -> tuple[Points, State]:
        del number
        origin, scale, search, _ = self._parts(state)
        trial = search.point + search.step[:, None] * search.direction
        return origin + scale * trial, (trial, *state)

    def take_in(self, waiting: State, seen: Pass) -> State:
        trial, *state = waiting
        origin, scale, search, memory = self._parts(tuple(state))
        # A pair is stored in place.
        memory = PairMemory(*(each.clone() for each in _tensors(memory)))
        gradient = seen.gradient * scale
        advance(
            search, memory, trial, seen.loss, gradient, armijo=ARMIJO, tolerance=0.0
        )
        return (origin, scale, *_tensors(search), *_tensors(memory))

    def found(self, state: State) -> Points:
        origin, scale, search, _ = self._parts(state)
        return origin + scale * search.point

    def _parts(self, state: State) -> tuple[Points, Points, LineSearch, PairMemory]:
        count = 2 + len(fields(LineSearch))
        search, memory = LineSearch(*state[2:count]), PairMemory(*state[count:])
        return state[0], state[1], search, memory


@dataclass(frozen=True)
class DescentStepper:
    """`robustgen.projectors.descent.descend`, for samples that all search on.

    Args:
        rule: As given there.
        rate: As given there.
        schedule: As given there; None for 1.
    """

    rule: StepRule
    rate: float
    schedule: Callable[[int], float] | None = None

    def begin(self, start: Points, first: Pass) -> State:
        everyone = torch.arange(len(start), device=start.device)
        search = Descent.begin(
            everyone, start, first.loss, rule=self.rule, rate=self.rate
        )
        return self._state(search, first.gradient)

    def propose(self, state: State, number: int) -> tuple[Points, State]:
        search, gradient = self._parts(state)
        factor = 1.0 if self.schedule is None else self.schedule(number)
        take_step(search, gradient, self.rule, factor)
        return search.point, self._state(search, gradient)

    def take_in(self, waiting: State, seen: Pass) -> State:
        search, _ = self._parts(waiting)
        return self._state(search, take_in(search, seen.loss, seen.gradient))

    def found(self, state: State) -> Points:
        return self._parts(state)[0].best_point

    def _state(self, search: Descent, gradient: Points) -> State:
        return (
            gradient,
            search.sample,
            search.point,
            search.age,
            search.rate,
            search.best_point,
            search.best_loss,
            *search.memory,
        )

    def _parts(self, state: State) -> tuple[Descent, Points]:
        gradient, sample, point, age, rate, best_point, best_loss, *memory = state
        search = Descent(
            sample=sample,
            point=point,
            memory=tuple(memory),
            age=age,
            rate=rate,
            best_point=best_point,
            best_loss=best_loss,
            marked_loss=best_loss,
        )
        return search, gradient


def pull_back(
    stepper: Stepper,
    start: Points,
    passes: Sequence[Pass],
    bar: Points,
    pull: Pull,
) -> Points:
    """Derivative with respect to the start, through every pass of a search.

    Keeps about `2 sqrt(K)` states of `K` passes; those in between are made again.

    Args:
        stepper: The search.
        start: Where it started.
        passes: What its objective gave, for samples that all used as many passes.
        bar: Derivative with respect to the points found.
        pull: The derivative of one pass of the objective. It may sum up derivatives
            with respect to other things that the objective depends on.

    Returns:
        Derivative with respect to the start; `bar` where there was no pass.
    """
    if not passes:
        return bar
    passes = [each.usable() for each in passes]
    steps = len(passes) - 1
    spacing = math.isqrt(steps) + 1
    kept: list[State] = []
    with torch.no_grad():
        state = stepper.begin(start, passes[0])
        for number in range(steps):
            if number % spacing == 0:
                kept.append(state)
            state = _next(stepper, state, number, passes)
    with torch.enable_grad():
        leaves = _leaves(state)
        found = stepper.found(leaves)
    bars = gradients((found,), (bar,), leaves)
    for first in reversed(range(0, steps, spacing)):
        states = [kept.pop()]
        with torch.no_grad():
            for number in range(first, min(first + spacing, steps) - 1):
                states.append(_next(stepper, states[-1], number, passes))
        for number in reversed(range(first, first + len(states))):
            bars = _pull_step(
                stepper, states.pop(), number, passes[number + 1], bars, pull
            )
    with torch.enable_grad():
        leaves = _leaves((start, *passes[0]))
        after = stepper.begin(leaves[0], Pass(leaves[1], leaves[2]))
    start_bar, loss_bar, gradient_bar = gradients(after, bars, leaves)
    total = _sum(start_bar, pull(start, loss_bar, gradient_bar))
    return torch.zeros_like(start) if total is None else total


def _next(stepper: Stepper, state: State, number: int, passes: Sequence[Pass]) -> State:
    return stepper.take_in(stepper.propose(state, number)[1], passes[number + 1])


def _pull_step(
    stepper: Stepper,
    state: State,
    number: int,
    seen: Pass,
    bars: Sequence[Tensor | None],
    pull: Pull,
) -> list[Tensor | None]:
    """From derivatives with respect to the next state to those of this one."""
    with torch.enable_grad():
        leaves, (loss, gradient) = _leaves(state), _leaves(seen)
        points, waiting = stepper.propose(leaves, number)
        after = stepper.take_in(waiting, Pass(loss, gradient))
    loss_bar, gradient_bar, *direct = gradients(
        after, bars, (loss, gradient, *leaves), again=True
    )
    points_bar = pull(points.detach(), loss_bar, gradient_bar)
    if points_bar is None:
        return direct
    through = gradients((points,), (points_bar,), leaves)
    return [_sum(a, b) for a, b in zip(direct, through, strict=True)]


def _tensors(parts: LineSearch | PairMemory) -> State:
    return tuple(getattr(parts, field.name) for field in fields(parts))


def _leaves(tensors: Sequence[Tensor]) -> State:
    """The same numbers; those that are floats ask for gradients."""
    return tuple(
        each.detach().requires_grad_() if each.is_floating_point() else each
        for each in tensors
    )


def gradients(
    outputs: Sequence[Tensor],
    bars: Sequence[Tensor | None],
    inputs: Sequence[Tensor],
    *,
    again: bool = False,
) -> list[Tensor | None]:
    """Derivatives with respect to the inputs; None for those that are zero.

    Args:
        outputs: What is differentiated.
        bars: Derivatives with respect to the outputs; None for zero.
        inputs: Tensors of which those that ask for no gradient get None.
        again: Whether the graph is used once more; otherwise it is freed on the way.
    """
    pairs = [
        (output, bar)
        for output, bar in zip(outputs, bars, strict=True)
        if bar is not None and output.requires_grad
    ]
    floats = [each for each in inputs if each.requires_grad]
    if not pairs or not floats:
        return [None] * len(inputs)
    found = iter(
        torch.autograd.grad(
            [output for output, _ in pairs],
            floats,
            [bar for _, bar in pairs],
            retain_graph=again,
            allow_unused=True,
        )
    )
    return [next(found) if each.requires_grad else None for each in inputs]


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b
