"""Projected gradient descent, in the box of a linf threat.

A loop of our own, step for step that of `torchattacks.PGD` (a test holds the two
together), because that one cannot be told where to start: it draws its start from the
global generator for the whole batch, and projects around the very image it starts from.
It also returns the last iterate, whether or not an earlier one was stronger.
"""

from functools import partial

import torch
import torch.nn.functional as F

from robustgen.attacks.attack import Attack, Rngs
from robustgen.attacks.checks import require, require_norm
from robustgen.attacks.logits import margin
from robustgen.errors import RequestError
from robustgen.threat import Threat
from robustgen.types import Images, Labels, LogitsFn


def build_pgd(
    *,
    steps: int,
    step_size: float,
    restarts: int = 1,
    random_start: bool = True,
    loss: str = "ce",
) -> Attack:
    """PGD with fixed settings; see `pgd`.

    Raises:
        RequestError: a setting is out of its range.
    """
    require("pgd", "steps", steps, "1 or more", met=steps >= 1)
    require("pgd", "restarts", restarts, "1 or more", met=restarts >= 1)
    require(
        "pgd", "step_size", step_size, "above 0 and at most 1", met=0 < step_size <= 1
    )
    if restarts > 1 and not random_start:
        raise RequestError(
            f"Attack 'pgd': `restarts: {restarts}` repeats the same search unless "
            "`random_start: true`."
        )
    settings = {"steps": steps, "step_size": step_size}
    return partial(pgd, **settings, restarts=restarts, random_start=random_start)


def pgd(
    logits_fn: LogitsFn,
    images: Images,
    labels: Labels,
    threat: Threat,
    rngs: Rngs,
    *,
    steps: int,
    step_size: float,
    restarts: int = 1,
    random_start: bool = True,
) -> Images:
    """Projected gradient descent on the cross-entropy (arXiv:1706.06083).

    Of all iterates of all restarts, the last one and the start among them, each image
    keeps the one with the largest margin: a broken one if there was any, and the
    strongest near miss otherwise. Costs `restarts` x (`steps` + 1) forward and
    `restarts` x `steps` backward passes per image.

    Args:
        logits_fn: The classifier under attack.
        images: Clean images.
        labels: True classes, to get away from.
        threat: An `linf` ball; every iterate lies in it.
        rngs: Sources of the random starts. Consumed if `random_start`.
        steps: Gradient steps of a restart.
        step_size: Length of a step, pixel units of [0, 1].
        restarts: Independent searches.
        random_start: Whether a search starts anywhere in the ball, evenly drawn, or at
            the clean image.

    Returns:
        Attacked images. An image whose logits were never finite comes back as NaN, for
        the framework to count as a failure.

    Raises:
        RequestError: the threat is not `linf`, or the steps together are too short to
            cross the ball, which would make the classifier look robust.
    """
    require_norm("pgd", threat, "linf")
    _require_reach(threat, steps * step_size, random_start=random_start)
    best = torch.full_like(images, torch.nan)
    best_margin = images.new_full((len(images),), -torch.inf)

    for _ in range(restarts):
        x = _random_start(images, threat, rngs) if random_start else images
        for step in range(steps + 1):
            last = step == steps
            x = x.detach().requires_grad_(not last)
            logits = logits_fn(x)
            reached = margin(logits.detach(), labels)
            better = reached > best_margin  # never for NaN
            best = torch.where(better.view(-1, 1, 1, 1), x.detach(), best)
            best_margin = torch.where(better, reached, best_margin)
            if last:
                break
            # Sum, not mean: each image's gradient must not depend on its batch.
            loss = F.cross_entropy(logits, labels, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, x)
            x = threat.clip(x.detach() + step_size * gradient.sign(), images)
    return best


def _random_start(images: Images, threat: Threat, rngs: Rngs) -> Images:
    """An even draw from the ball around each image, cut to [0, 1]."""
    shape = images.shape[1:]
    noise = [torch.rand(shape, generator=rng, device=rng.device) for rng in rngs]
    offset = (2 * torch.stack(noise).to(images) - 1) * threat.eps
    return threat.clip(images + offset, images)


def _require_reach(threat: Threat, travel: float, *, random_start: bool) -> None:
    needed = threat.eps * (2 if random_start else 1)
    if travel < needed * (1 - 1e-6):
        across = "2 x eps" if random_start else "eps"
        raise RequestError(
            f"Attack 'pgd' cannot cross its ball: steps x step_size = {travel:.4g} is "
            f"below {across} = {needed:.4g}. Raise `steps` or `step_size`."
        )
