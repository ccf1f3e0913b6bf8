"""Momentum iterative FGSM.

A loop of our own, step for step that of `torchattacks.MIFGSM` 3.5.1 (a test holds the
two together), because there one gradient of zero is divided by its size of zero: the
momentum of that image is NaN from then on, and the image never moves again. It also
returns the last iterate, whether or not an earlier one was stronger.
"""

from functools import partial

import torch

from robustgen.attacks.attack import Attack, Rngs
from robustgen.attacks.best import Best, gradient
from robustgen.attacks.checks import require, require_norm
from robustgen.attacks.steps import cross_entropy, per_mean, require_reach
from robustgen.threat import Threat
from robustgen.types import Images, Labels, LogitsFn


def build_mifgsm(*, steps: int, step_size: float, decay: float = 1.0) -> Attack:
    """MI-FGSM with fixed settings; see `mifgsm`.

    Raises:
        RequestError: a setting is out of its range.
    """
    require("mifgsm", "steps", steps, "1 or more", met=steps >= 1)
    require(
        "mifgsm",
        "step_size",
        step_size,
        "above 0 and at most 1",
        met=0 < step_size <= 1,
    )
    require("mifgsm", "decay", decay, "0 or more", met=decay >= 0)
    return partial(mifgsm, steps=steps, step_size=step_size, decay=decay)


def mifgsm(
    logits_fn: LogitsFn,
    images: Images,
    labels: Labels,
    threat: Threat,
    rngs: Rngs,
    *,
    steps: int,
    step_size: float,
    decay: float = 1.0,
) -> Images:
    """Steps along the sign of a decaying sum of gradients (arXiv:1710.06081, alg. 1).

    Each gradient of the cross-entropy counts in units of its mean absolute value; one
    of zero adds nothing, and the momentum goes on. Starts at the clean image. Of all
    iterates, the first and the last among them, each image keeps the one with the
    largest margin. Costs `steps` + 1 forward and `steps` backward passes per image.

    Args:
        logits_fn: The classifier under attack.
        images: Clean images.
        labels: True classes, to get away from.
        threat: An `linf` ball; every iterate lies in it.
        rngs: Unused; the attack draws nothing.
        steps: Gradient steps.
        step_size: Length of a step, pixel units of [0, 1].
        decay: Share of the sum that each step keeps (mu in the paper); 0 is plain
            iterative FGSM.

    Returns:
        Attacked images. An image whose logits were never finite comes back as NaN, for
        the framework to count as a failure.

    Raises:
        RequestError: the threat is not `linf`, or the steps together are too short to
            reach its edge, which would make the classifier look robust.
    """
    del rngs
    require_norm("mifgsm", threat, "linf")
    require_reach("mifgsm", threat, steps * step_size, random_start=False)
    best, rows = Best(images, labels), torch.arange(len(images), device=images.device)
    momentum, x = torch.zeros_like(images), images

    for _ in range(steps):
        x = x.detach().requires_grad_()
        logits = logits_fn(x)
        best.look(rows, x, logits)
        momentum = decay * momentum + per_mean(
            gradient(cross_entropy(logits, labels), x)
        )
        x = threat.clip(x.detach() + step_size * momentum.sign(), images)
    best.look(rows, x, logits_fn(x))
    return best.images
