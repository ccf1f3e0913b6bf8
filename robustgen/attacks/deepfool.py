"""DeepFool: straight to the nearest boundary of a linearized classifier.

An own implementation: `torchattacks.DeepFool` 3.5.1 divides by the length of a gradient
that may be zero, and its image is NaN from then on. It also goes through images one by
one, and spends its steps on pixels that are at 0 or 1 and cannot move further.
"""

import math
from functools import partial

import torch
from torch import Tensor

from robustgen.attacks.attack import Attack, Rngs
from robustgen.attacks.best import Best, gradient, per_image, wrong_classes
from robustgen.attacks.checks import require, require_norm
from robustgen.attacks.passes import logits_of
from robustgen.attacks.steps import uphill
from robustgen.threat import Threat
from robustgen.types import Images, Labels, Logits, LogitsFn, PerSample

LEAST = 1e-6
"""Root mean square, over the pixels, of what each step adds to its length. So a step
that starts next to the boundary is not lost in rounding."""


def build_deepfool(*, steps: int, overshoot: float = 0.02, classes: int = 10) -> Attack:
    """DeepFool with fixed settings; see `deepfool`.

    Raises:
        RequestError: a setting is out of its range.
    """
    require("deepfool", "steps", steps, "1 or more", met=steps >= 1)
    require("deepfool", "overshoot", overshoot, "0 or more", met=overshoot >= 0)
    require("deepfool", "classes", classes, "2 or more", met=classes >= 2)
    return partial(deepfool, steps=steps, overshoot=overshoot, classes=classes)


def deepfool(
    logits_fn: LogitsFn,
    images: Images,
    labels: Labels,
    threat: Threat,
    rngs: Rngs,
    *,
    steps: int,
    overshoot: float = 0.02,
    classes: int = 10,
) -> Images:
    """The nearest misclassified image, by linearization (arXiv:1511.04599, alg. 2).

    Each step goes to the nearest of the boundaries between the true class and the
    others that are looked at, as the gradients at the iterate see them; pixels that
    would leave [0, 1] do not count. An image stops at its first misclassified iterate.
    Costs per step one forward pass and one backward pass for each other class looked
    at, and one forward pass in the end.

    Args:
        logits_fn: The classifier under attack.
        images: Clean images.
        labels: True classes, to get away from.
        threat: An `l2` ball. The search does not look at `eps`; the framework shortens
            what lies outside.
        rngs: Unused; the attack draws nothing.
        steps: Linearizations at most.
        overshoot: How far beyond the boundary an iterate lies, as a share of the way.
        classes: Classes looked at: the true one and, of the others, those with the
            largest logits on the clean image; at most all there are.

    Returns:
        Per image the first misclassified iterate; else the one with the largest margin,
        which is *not* broken. An image whose gradients are all zero stays where it is.
        One whose logits were never finite comes back as NaN, for the framework to count
        as a failure.

    Raises:
        RequestError: the threat is not `l2`.
    """
    del rngs
    require_norm("deepfool", threat, "l2")
    best = Best(images, labels)
    rows = torch.arange(len(images), device=images.device)
    straight, x = images.clone(), images.clone()
    others = torch.empty(0)

    for step in range(steps + 1):
        last = step == steps
        at = x[rows].requires_grad_(not last)
        logits = logits_of(logits_fn, rows)(at)
        if step == 0:
            others = wrong_classes(logits.detach(), labels)[:, : classes - 1]
        wrong = best.look(rows, at, logits)
        if last or bool(wrong.all()):
            break
        way, length = _nearest_boundary(logits, at, labels[rows], others[rows])
        moving = ~wrong & torch.isfinite(length)
        rows, way, length = rows[moving], way[moving], length[moving]
        if len(rows) == 0:
            break
        least = LEAST * math.sqrt(images[0].numel())
        straight[rows] += per_image(length + least) * way
        beyond = images[rows] + (1 + overshoot) * (straight[rows] - images[rows])
        x[rows] = beyond.clamp(0, 1)
    return best.images


def _nearest_boundary(
    logits: Logits, x: Images, labels: Labels, others: Tensor
) -> tuple[Images, PerSample]:
    """Direction, of length 1, and distance to the nearest of the linear boundaries.

    The distance is infinite where no class has a gradient.
    """
    nearest = torch.full_like(x[:, 0, 0, 0].detach(), torch.inf)
    way = torch.zeros_like(x)
    for rank in range(others.shape[1]):
        lead = (
            logits.gather(1, others[:, rank : rank + 1])
            - logits.gather(1, labels[:, None])
        )[:, 0]
        slope = gradient(lead, x, keep=rank + 1 < others.shape[1])
        stuck = ((x <= 0) & (slope < 0)) | ((x >= 1) & (slope > 0))
        slope = torch.where(stuck, 0.0, slope)
        direction = uphill(slope, "l2")
        steepness = (slope * direction).flatten(1).sum(dim=1)  # the length of the slope
        distance = torch.where(
            steepness > 0, lead.detach().abs() / steepness, torch.inf
        )
        closer = distance < nearest
        nearest = torch.where(closer, distance, nearest)
        way = torch.where(per_image(closer), direction, way)
    return way.detach(), nearest
