"""PGD on gradients that are averaged over draws of a random classifier.

A loop of our own. `torchattacks.EOTPGD` 3.5.1 takes the same steps, but draws its start
from the global generator for the whole batch, and returns the last iterate, whether or
not an earlier one was stronger.
"""

from functools import partial

import torch

from robustgen.attacks.attack import Attack, Rngs
from robustgen.attacks.best import exceeds, gradient, per_image, require_ball
from robustgen.attacks.checks import require
from robustgen.attacks.logits import margin
from robustgen.attacks.steps import cross_entropy, require_reach, start_anywhere, uphill
from robustgen.threat import Threat
from robustgen.types import Images, Labels, LogitsFn, PerSample


def build_eotpgd(
    *, steps: int, step_size: float, draws: int, random_start: bool = True
) -> Attack:
    """EOT-PGD with fixed settings; see `eotpgd`.

    Raises:
        RequestError: a setting is out of its range.
    """
    require("eotpgd", "steps", steps, "1 or more", met=steps >= 1)
    require(
        "eotpgd",
        "step_size",
        step_size,
        "above 0 and at most 1",
        met=0 < step_size <= 1,
    )
    require("eotpgd", "draws", draws, "1 or more", met=draws >= 1)
    return partial(
        eotpgd,
        steps=steps,
        step_size=step_size,
        draws=draws,
        random_start=random_start,
    )


def eotpgd(
    logits_fn: LogitsFn,
    images: Images,
    labels: Labels,
    threat: Threat,
    rngs: Rngs,
    *,
    steps: int,
    step_size: float,
    draws: int,
    random_start: bool = True,
) -> Images:
    """PGD on the expectation over a random classifier (arXiv:1707.07397).

    Every iterate is shown to the classifier `draws` times. Steps follow the mean of the
    gradients of the cross-entropy; of all iterates, the start and the last among them,
    each image keeps the one with the largest mean margin. On a classifier that draws
    nothing this is PGD at `draws` times its cost: `draws` x (`steps` + 1) forward and
    `draws` x `steps` backward passes per image.

    Args:
        logits_fn: The classifier under attack; each call draws afresh.
        images: Clean images.
        labels: True classes, to get away from.
        threat: An `linf` or `l2` ball; every iterate lies in it.
        rngs: Sources of the random starts. Consumed if `random_start`.
        steps: Gradient steps.
        step_size: Length of a step in the norm of the threat, pixel units of [0, 1].
        draws: Calls of the classifier over which gradients and margins are averaged.
        random_start: Whether to start anywhere in the ball, evenly drawn, or at the
            clean image.

    Returns:
        Attacked images. An image whose mean logits were never finite comes back as NaN,
        for the framework to count as a failure.

    Raises:
        RequestError: the threat is no ball of finite radius, or the steps together are
            too short to cross it, which would make the classifier look robust.
    """
    require_ball("eotpgd", threat)
    require_reach("eotpgd", threat, steps * step_size, random_start=random_start)
    best = torch.full_like(images, torch.nan)
    best_margin = torch.full_like(images[:, 0, 0, 0], torch.nan)
    x = start_anywhere(images, threat, rngs) if random_start else images

    for step in range(steps + 1):
        last = step == steps
        x = x.detach().requires_grad_(not last)
        ascent = torch.zeros_like(images)
        margins: list[PerSample] = []
        for _ in range(draws):
            logits = logits_fn(x)
            margins.append(margin(logits.detach(), labels))
            if not last:
                ascent += gradient(cross_entropy(logits, labels), x)
        mean = torch.stack(margins).mean(dim=0)
        better = exceeds(mean, best_margin)
        best = torch.where(per_image(better), x.detach(), best)
        best_margin = torch.where(better, mean, best_margin)
        if not last:
            moved = x.detach() + step_size * uphill(ascent, threat.norm)
            x = threat.clip(moved, images)
    return best
