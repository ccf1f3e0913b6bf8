"""Search along gradients in a ball: steps that shrink, and the best iterate kept."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from robustgen.adaptive.scoring import bounded_margin, mean_margin
from robustgen.adaptive.selection import (
    CLEAR,
    Candidate,
    Problem,
    attacked,
    restricted,
)
from robustgen.adaptive.victim import Rows
from robustgen.attacks.attack import AttackOutcome, Rngs
from robustgen.attacks.passes import logits_of
from robustgen.attacks.steps import start_anywhere, uphill
from robustgen.threat import Threat
from robustgen.types import Flags, Images, Labels, Logits, LogitsFn, PerSample

MEMORY = 0.7
"""Weight of the past in the running mean by which iterates of a random path are judged:
one draw may be luck, while images of successive steps are nearly the same."""

Loss: TypeAlias = Literal["ce", "margin"]

Leave: TypeAlias = Callable[[Images, Rows, PerSample], Flags]
"""`(images, rows, leads) -> flags`: which images a search need not go on with."""


Measure: TypeAlias = Callable[[Images, Rows, bool], tuple[PerSample, Images]]
"""`(images, rows, last) -> (values, gradients)`: what a search climbs.

How good iterates are, the more the better, and the gradient at them; `rows` are the
images of the batch that they belong to. If `last`, no step follows, and the gradient
may be anything."""


def gradient_candidates(problem: Problem) -> list[Candidate]:
    """Searches along the gradients of the path's surrogate for the tier.

    The first starts at the clean image and climbs the cross-entropy; the second starts
    anywhere in the ball and climbs the margin, which does not saturate; further ones
    alternate. If there are given starts, one more climbs the margin from there.

    Args:
        problem: What to break; its tier names the surrogate.
    """
    plans: list[tuple[Loss, str]] = [
        ("ce" if number % 2 == 0 else "margin", "random" if number else "clean")
        for number in range(problem.budget.restarts)
    ]
    names = [_plan_name(plans, number) for number in range(len(plans))]
    if problem.starts is not None:
        plans.append(("margin", "given"))
        names.append("margin from given")
    return [
        Candidate(name, partial(_search, name=name, loss=loss, start=start))
        for name, (loss, start) in zip(names, plans, strict=True)
    ]


def _plan_name(plans: Sequence[tuple[Loss, str]], number: int) -> str:
    loss, start = plans[number]
    earlier = plans[:number].count(plans[number])
    again = f" {earlier + 1}" if earlier else ""
    return f"{loss} from clean" if start == "clean" else f"{loss}, random start{again}"


def _search(problem: Problem, *, name: str, loss: Loss, start: str) -> AttackOutcome:
    budget, threat = problem.budget, problem.threat

    def attack(
        logits_fn: LogitsFn, images: Images, labels: Labels, _: Threat, rngs: Rngs
    ) -> Images:
        first = images
        if start == "random":
            first = start_anywhere(images, threat, rngs)
        elif start == "given" and problem.starts is not None:
            first = threat.clip(problem.starts, images)
        return ascend(
            loss_measure(logits_fn, labels, loss),
            images,
            threat,
            first,
            shares=step_shares(budget.steps, budget.step_share),
            memory=MEMORY if problem.victim.random else 0.0,
            leave=leaves(problem),
        )

    forward = problem.victim.surrogates[problem.tier]
    return attacked(problem, name, attack, forward, draws=problem.draws)


def ascend(
    measure: Measure,
    images: Images,
    threat: Threat,
    start: Images,
    *,
    shares: Sequence[float],
    memory: float = 0.0,
    momentum: float = 0.0,
    leave: Leave | None = None,
) -> Images:
    """Climbs a measure from `start`, in steps of given lengths.

    A step goes along the sign of the gradient (`linf`) or along the gradient itself at
    length 1 (`l2`), and back into the ball. A gradient of zero or NaN moves nothing.
    Measures `len(shares) + 1` iterates of each image, the start among them.

    Args:
        measure: What to climb; an image's own value and gradient, whatever its batch.
        images: Clean images.
        threat: An `linf` or `l2` ball around them; every iterate lies in it.
        start: First iterates.
        shares: Length of each step, as a share of `eps`.
        memory: Weight of the past in the running mean by which iterates are judged;
            0 to judge each by its own measure.
        momentum: Weight of the past in the running sum of gradients that is followed.
        leave: Who is done before the last step; None for nobody.

    Returns:
        The iterate of each image that was judged best.
    """
    rows = torch.arange(len(images), device=images.device)
    x, best = start.clone(), start.clone()
    judged = images.new_full((len(images),), -torch.inf)
    best_judged, ahead = judged.clone(), torch.zeros_like(images)
    for step in range(len(shares) + 1):
        last = step == len(shares)
        reached, gradient = measure(x[rows], rows, last)
        reached = reached.nan_to_num(nan=-1e30, neginf=-1e30)
        mean = memory * judged[rows] + (1 - memory) * reached if step else reached
        judged[rows] = mean
        better = rows[mean > best_judged[rows]]
        best[better], best_judged[better] = x[better], judged[better]
        if last:
            break
        ahead[rows] = momentum * ahead[rows] + gradient.nan_to_num(0.0, 0.0, 0.0)
        if leave is not None:
            rows = rows[~leave(x[rows], rows, reached)]
            if not len(rows):
                break
        moved = x[rows] + shares[step] * threat.eps * uphill(ahead[rows], threat.norm)
        x[rows] = threat.clip(moved, images[rows])
    return best


def loss_measure(logits_fn: LogitsFn, labels: Labels, loss: Loss) -> Measure:
    """The margin of a classifier's iterates, and the gradient of a loss at them.

    Args:
        logits_fn: The classifier; log-probabilities, if the loss is to be their mean
            over draws.
        labels: True classes of the whole batch.
        loss: `ce`, minus the log-probability of the true class, or `margin`.
    """

    def measure(images: Images, rows: Rows, last: bool) -> tuple[PerSample, Images]:
        true = labels[rows]
        x = images.detach().requires_grad_(not last)
        logits = logits_of(logits_fn, rows)(x)
        reached = bounded_margin(logits.detach(), true)
        if last:
            return reached, torch.zeros_like(images)
        # Sum, not mean: each image's gradient must not depend on its batch.
        return reached, gradient_of(_loss(logits, true, loss).sum(), x)

    return measure


def _loss(logits: Logits, labels: Labels, loss: Loss) -> PerSample:
    if loss == "ce":
        return F.nll_loss(logits, labels, reduction="none")
    wrong = logits.scatter(1, labels[:, None], -torch.inf).amax(dim=1)
    return wrong - logits.gather(1, labels[:, None])[:, 0]


def gradient_of(value: Tensor, x: Images) -> Images:
    """The gradient at `x`; zero if `value` does not hang on it."""
    if not value.requires_grad:
        return torch.zeros_like(x)
    (gradient,) = torch.autograd.grad(
        value, x, allow_unused=True, materialize_grads=True
    )
    return gradient


def step_shares(steps: int, share: float) -> list[float]:
    """Lengths of steps, falling evenly from `share` to a tenth of it.

    Steps too short to reach the edge of the ball together start longer, so that they
    do: no search looks weak because it could not get there.

    >>> step_shares(4, 0.5)
    [0.5, 0.35, 0.2, 0.05]
    >>> step_shares(1, 0.25)
    [1.0]

    Args:
        steps: How many.
        share: Of the first, in units of `eps`.
    """
    falls = [1 - 0.9 * step / max(1, steps - 1) for step in range(steps)]
    first = max(share, 1 / sum(falls))
    return [round(first * fall, 12) for fall in falls]


def leaves(problem: Problem, *, trusted: bool = False) -> Leave | None:
    """Who is done: images that lead by `CLEAR` on the full path, if it draws nothing.

    Where a path draws at random, nobody is done early: a lead may be luck.

    Args:
        problem: What to break.
        trusted: Whether the leads seen by the search are those of the full path. If
            not, the full path is asked about those that seem to be done.
    """
    if problem.victim.random:
        return None

    def leave(images: Images, rows: Rows, leads: PerSample) -> Flags:
        done = leads > CLEAR
        if trusted or not bool(done.any()):
            return done
        some = rows[done]
        part, labels = restricted(problem.victim, some), problem.labels[some]
        done[done.clone()] = (
            mean_margin(part, images[done], labels, 1, stream="attack") > CLEAR
        )
        return done

    return leave
