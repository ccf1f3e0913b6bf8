"""A random step, then the fast gradient sign method."""

from functools import partial

import torch

from robustgen.attacks.attack import Attack, Rngs
from robustgen.attacks.checks import require, require_norm
from robustgen.attacks.fgsm import fgsm
from robustgen.threat import Threat
from robustgen.types import Images, Labels, LogitsFn


def build_rand_fgsm(*, alpha: float) -> Attack:
    """RAND+FGSM with a fixed random step; see `rand_fgsm`.

    Raises:
        RequestError: `alpha` is out of its range.
    """
    require("rand_fgsm", "alpha", alpha, "0 or more and below 1", met=0 <= alpha < 1)
    return partial(rand_fgsm, alpha=alpha)


def rand_fgsm(
    logits_fn: LogitsFn,
    images: Images,
    labels: Labels,
    threat: Threat,
    rngs: Rngs,
    *,
    alpha: float,
) -> Images:
    """RAND+FGSM (Tramer et al., arXiv:1705.07204).

    `x' = clip(x + alpha sign(N(0, I)))`, then one step of length `eps - alpha` along
    the sign of the gradient at `x'`: it leaves a point where the loss is flat or
    misleading, as adversarial training by one step can make it. One forward and one
    backward pass per image. Where the random step went against the gradient, a pixel
    ends at `eps - 2 alpha`: on a linear model the attack is weaker than FGSM.

    Args:
        logits_fn: The classifier under attack.
        images: Clean images.
        labels: True classes, to get away from.
        threat: An `linf` ball.
        rngs: Sources of the signs, one per image. Consumed.
        alpha: Length of the random step, pixel units of [0, 1]; 0 is FGSM.

    Raises:
        RequestError: the threat is not `linf`, or `alpha` leaves nothing of `eps`.
    """
    require_norm("rand_fgsm", threat, "linf")
    below = f"below `eps` = {threat.eps:g}"
    require("rand_fgsm", "alpha", alpha, below, met=alpha < threat.eps)
    shape = images.shape[1:]
    draws = [torch.randn(shape, generator=rng, device=rng.device) for rng in rngs]
    start = (images + alpha * torch.stack(draws).to(images).sign()).clamp(0, 1)
    rest = Threat("linf", threat.eps - alpha)
    return fgsm(logits_fn, start, labels, rest, rngs)
