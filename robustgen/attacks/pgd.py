"""Projected gradient descent, in an linf box or an l2 ball.

A loop of our own, step for step that of `torchattacks.PGD` and `PGDL2` (a test holds
them together), because those cannot be told where to start: they draw their start from
the global generator for the whole batch, and project around the very image they start
from. `PGDL2` also draws most of its starts near the clean image, where the volume of
the ball is not. Both return the last iterate, whether or not an earlier one was
stronger.
"""

from functools import partial

import torch

from robustgen.attacks.attack import Attack, Rngs
from robustgen.attacks.best import Best, gradient, require_ball
from robustgen.attacks.checks import require
from robustgen.attacks.steps import LOSSES, require_reach, start_anywhere, uphill
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
    require("pgd", "loss", loss, "ce or margin", met=loss in LOSSES)
    if restarts > 1 and not random_start:
        raise RequestError(
            f"Attack 'pgd': `restarts: {restarts}` repeats the same search unless "
            "`random_start: true`."
        )
    return partial(
        pgd,
        steps=steps,
        step_size=step_size,
        restarts=restarts,
        random_start=random_start,
        loss=loss,
    )


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
    loss: str = "ce",
) -> Images:
    """Projected gradient descent (arXiv:1706.06083).

    A step goes along the sign of the gradient in `linf`, and along the gradient itself
    in `l2`. Of all iterates of all restarts, the last one and the start among them,
    each image keeps the one with the largest margin: a broken one if there was any, and
    the strongest near miss otherwise. Costs `restarts` x (`steps` + 1) forward and
    `restarts` x `steps` backward passes per image.

    Args:
        logits_fn: The classifier under attack.
        images: Clean images.
        labels: True classes, to get away from.
        threat: An `linf` or `l2` ball; every iterate lies in it.
        rngs: Sources of the random starts. Consumed if `random_start`.
        steps: Gradient steps of a restart.
        step_size: Length of a step in the norm of the threat, pixel units of [0, 1].
        restarts: Independent searches.
        random_start: Whether a search starts anywhere in the ball, evenly drawn, or at
            the clean image.
        loss: What a step raises, one of `LOSSES`.

    Returns:
        Attacked images. An image whose logits were never finite comes back as NaN, for
        the framework to count as a failure. One whose gradient is zero or not finite
        stays where it is.

    Raises:
        RequestError: the threat is no ball of finite radius, or the steps together are
            too short to cross it, which would make the classifier look robust.
    """
    require_ball("pgd", threat)
    require_reach("pgd", threat, steps * step_size, random_start=random_start)
    best, rows = Best(images, labels), torch.arange(len(images), device=images.device)

    for _ in range(restarts):
        x = start_anywhere(images, threat, rngs) if random_start else images
        for step in range(steps + 1):
            last = step == steps
            x = x.detach().requires_grad_(not last)
            logits = logits_fn(x)
            best.look(rows, x, logits)
            if last:
                break
            ascent = uphill(gradient(LOSSES[loss](logits, labels), x), threat.norm)
            x = threat.clip(x.detach() + step_size * ascent, images)
    return best.images
