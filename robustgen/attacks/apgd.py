"""Auto-PGD: projected gradient descent that finds its own step lengths.

A loop of our own, because those of torchattacks 3.5.1 cannot be used as they are, each
with a test that shows the fault there:

* `APGDT` in L2 takes the first image's step length for the whole batch.
* The DLR loss indexes the third largest logit, and fails on two classes.
* The start is drawn from the global generator, which is also reset.
* An image that is not broken comes back clean: the strongest near miss comes back.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import TypeAlias

import torch

from robustgen.attacks.attack import Attack, Rngs
from robustgen.attacks.best import (
    Best,
    Rows,
    exceeds,
    gradient,
    look_at_clean,
    per_image,
    require_ball,
    wrong_classes,
)
from robustgen.attacks.checks import require
from robustgen.attacks.logits import margin
from robustgen.attacks.passes import logits_of
from robustgen.attacks.steps import LOSSES, Loss, uphill
from robustgen.errors import RequestError
from robustgen.threat import Threat
from robustgen.types import Images, Labels, Logits, LogitsFn, PerSample

MOMENTUM = 0.75
"""Weight of the new step against the last one (alpha of the paper)."""

RISING = 0.75
"""Share of steps that must raise the loss for the step length to stay (rho)."""

_TINY = 1e-12

_Objective: TypeAlias = Callable[[Logits], PerSample]


def build_apgd(
    *, steps: int, restarts: int = 1, loss: str = "ce", targets: int = 0, draws: int = 1
) -> Attack:
    """APGD with fixed settings; see `apgd`.

    Raises:
        RequestError: a setting is out of its range.
    """
    require("apgd", "steps", steps, "1 or more", met=steps >= 1)
    require("apgd", "restarts", restarts, "1 or more", met=restarts >= 1)
    require("apgd", "loss", loss, "ce, dlr or margin", met=loss in _UNTARGETED)
    require("apgd", "targets", targets, "0 or more", met=targets >= 0)
    require("apgd", "draws", draws, "1 or more", met=draws >= 1)
    return partial(
        apgd, steps=steps, restarts=restarts, loss=loss, targets=targets, draws=draws
    )


def apgd(
    logits_fn: LogitsFn,
    images: Images,
    labels: Labels,
    threat: Threat,
    rngs: Rngs,
    *,
    steps: int,
    restarts: int = 1,
    loss: str = "ce",
    targets: int = 0,
    draws: int = 1,
) -> Images:
    """Auto-PGD (arXiv:2003.01690, algorithm 1).

    Of all iterates, the clean image among them, each image keeps the one with the
    largest margin: a broken one if there was any, and the strongest near miss
    otherwise. Each image has its own step length, which starts at 2 `eps` and is halved
    at checkpoints where the loss stopped rising. Costs per image one forward pass, and
    for each search on it `draws` x (`steps` + 1) forward and `draws` x `steps` backward
    passes.

    Args:
        logits_fn: The classifier under attack.
        images: Clean images.
        labels: True classes, to get away from.
        threat: An `linf` or `l2` ball; every iterate lies in it.
        rngs: Sources of the random starts. Consumed.
        steps: Gradient steps of a search.
        restarts: Searches from different starts; each on the images not yet broken.
        loss: What an untargeted search raises: `ce`, the cross-entropy; `dlr`, the lead
            of the best wrong class over the spread of the logits, for 3 classes or
            more; `margin`, that lead itself, for any number of classes.
        targets: 0 for an untargeted search. Else one for each of so many wrong classes,
            the most probable on the clean image first; at most all there are. `loss`
            does not count then: it is the targeted DLR with 4 classes or more, and the
            lead of the target over the true class with fewer.
        draws: Calls of a random classifier over which loss, gradient and logits are
            averaged (EOT, arXiv:1707.07397).

    Returns:
        Attacked images. An image whose logits were never finite comes back as NaN, for
        the framework to count as a failure.

    Raises:
        RequestError: the threat is no ball of finite radius, or the classifier has too
            few classes for the loss.
    """
    require_ball("apgd", threat)
    best, logits = look_at_clean(logits_fn, images, labels)
    search_apgd(
        logits_fn,
        best,
        logits,
        threat,
        rngs,
        steps=steps,
        restarts=restarts,
        loss=loss,
        targets=targets,
        draws=draws,
    )
    return best.images


def search_apgd(
    logits_fn: LogitsFn,
    best: Best,
    clean_logits: Logits,
    threat: Threat,
    rngs: Rngs,
    *,
    steps: int,
    restarts: int = 1,
    loss: str = "ce",
    targets: int = 0,
    draws: int = 1,
) -> None:
    """The searches of `apgd` on the images that are not broken yet.

    Args:
        logits_fn: As in `apgd`, like all arguments not named here.
        best: What is known of the batch; updated.
        clean_logits: Logits of the clean images.
        threat: An `linf` or `l2` ball.
        rngs: One for each image of the batch.
        steps: As in `apgd`.
        restarts: As in `apgd`.
        loss: As in `apgd`.
        targets: As in `apgd`.
        draws: As in `apgd`.

    Raises:
        RequestError: the classifier has too few classes for the loss.
    """
    classes = clean_logits.shape[1]
    if targets == 0 and loss == "dlr" and classes < 3:
        raise RequestError(
            f"Attack 'apgd': `loss: dlr` needs 3 classes or more; the classifier has "
            f"{classes}. Set `loss: margin`."
        )
    order = wrong_classes(clean_logits, best.labels)
    for rank in range(min(targets, classes - 1)) if targets else (None,):
        for _ in range(restarts):
            rows = best.left()
            if len(rows) == 0:
                return
            objective = (
                _untargeted(loss, best.labels[rows])
                if rank is None
                else _targeted(classes, best.labels[rows], order[rows, rank])
            )
            _search(
                logits_fn, best, rows, threat, rngs, objective, steps=steps, draws=draws
            )


def _search(
    logits_fn: LogitsFn,
    best: Best,
    rows: Rows,
    threat: Threat,
    rngs: Rngs,
    objective: _Objective,
    *,
    steps: int,
    draws: int,
) -> None:
    """One search from a random start; every iterate is shown to `best`."""
    clean, part = best.clean[rows], logits_of(logits_fn, rows)
    x = _random_start(clean, threat, [rngs[row] for row in rows.tolist()])
    loss, slope = _evaluate(part, best, rows, x, objective, draws)
    x_max, loss_max, slope_max = x, loss, slope
    x_before, loss_before = x, loss
    length = torch.full_like(loss, 2 * threat.eps)

    # Checkpoints, in steps: the first window, by how much each is shorter than the one
    # before, and the shortest (section 3.2 of the paper).
    window = max(int(0.22 * steps), 1)
    shorter, shortest = max(int(0.03 * steps), 1), max(int(0.06 * steps), 1)
    since = 0
    rises = torch.zeros_like(loss)
    halved = torch.ones_like(loss, dtype=torch.bool)
    loss_checked = loss_max

    for step in range(steps):
        ahead = _kept(x + per_image(length) * uphill(slope, threat.norm), clean, threat)
        weight = MOMENTUM if step else 1.0
        moved = x + weight * (ahead - x) + (1 - weight) * (x - x_before)
        x_before, x = x, _kept(moved, clean, threat)
        loss, slope = _evaluate(
            part, best, rows, x, objective, draws, differentiate=step + 1 < steps
        )
        rises += loss > loss_before
        loss_before = loss
        higher = exceeds(loss, loss_max)
        loss_max = torch.where(higher, loss, loss_max)
        x_max = torch.where(per_image(higher), x, x_max)
        slope_max = torch.where(per_image(higher), slope, slope_max)

        since += 1
        if since == window:
            stuck = ~halved & ~(loss_max > loss_checked)
            halved = (rises <= RISING * window) | stuck
            length = torch.where(halved, length / 2, length)
            x = torch.where(per_image(halved), x_max, x)
            slope = torch.where(per_image(halved), slope_max, slope)
            loss_checked = loss_max
            rises, since = torch.zeros_like(rises), 0
            window = max(window - shorter, shortest)


def _evaluate(
    logits_fn: LogitsFn,
    best: Best,
    rows: Rows,
    x: Images,
    objective: _Objective,
    draws: int,
    *,
    differentiate: bool = True,
) -> tuple[PerSample, Images]:
    """The loss and its gradient, averaged over calls; shows `x` to `best`."""
    x = x.detach().requires_grad_(differentiate)
    losses: list[PerSample] = []
    scores: list[Logits] = []
    slope = torch.zeros_like(x)
    with torch.enable_grad() if differentiate else torch.no_grad():
        for _ in range(draws):
            logits = logits_fn(x)
            value = objective(logits)
            if differentiate:
                slope += gradient(value, x) / draws
            losses.append(value.detach())
            scores.append(logits.detach())
    best.look(rows, x, torch.stack(scores).mean(dim=0))
    return torch.stack(losses).mean(dim=0), slope.detach()


def _kept(x: Images, clean: Images, threat: Threat) -> Images:
    """`x` brought back into the ball, then into the box, as in the official code.

    `Threat.clip` has the box first, which bends a long L2 step out of its direction.
    """
    if threat.norm == "linf":
        return threat.clip(x, clean)
    away = x - clean
    longer = (away.flatten(1).norm(dim=1) / max(threat.eps, 1e-30)).clamp(min=1.0)
    return (clean + away / per_image(longer)).clamp(0.0, 1.0)


def _random_start(images: Images, threat: Threat, rngs: Rngs) -> Images:
    """A point on the surface of the ball around each image, cut to [0, 1]."""
    draw = torch.rand if threat.norm == "linf" else torch.randn
    shape = images.shape[1:]
    noise = torch.stack([draw(shape, generator=r, device=r.device) for r in rngs])
    noise = noise.to(images)
    if threat.norm == "linf":
        noise = 2 * noise - 1
    size = threat.distance(noise, torch.zeros_like(noise)).clamp(min=_TINY)
    return threat.clip(images + threat.eps * noise / per_image(size), images)


def _untargeted(loss: str, labels: Labels) -> _Objective:
    raised = _UNTARGETED[loss]
    return lambda logits: raised(logits, labels)


def _targeted(classes: int, labels: Labels, aims: Labels) -> _Objective:
    raised = targeted_dlr if classes >= 4 else targeted_margin
    return lambda logits: raised(logits, labels, aims)


def dlr(logits: Logits, labels: Labels) -> PerSample:
    """Lead of the best wrong class over the spread of the logits (section 4 there).

    Neither a shift nor a scale of the logits changes it. Needs 3 classes or more.

    >>> dlr(torch.tensor([[3.0, 1.0, -1.0]]), torch.tensor([0]))
    tensor([-0.5000])
    """
    ranked = logits.sort(dim=1, descending=True).values
    return margin(logits, labels) / (ranked[:, 0] - ranked[:, 2] + _TINY)


def targeted_dlr(logits: Logits, labels: Labels, aims: Labels) -> PerSample:
    """Lead of a target over the true class, over the spread of the logits.

    Needs 4 classes or more.

    >>> targeted_dlr(
    ...     torch.tensor([[4.0, 2.0, 1.0, -1.0]]), torch.tensor([0]), torch.tensor([1])
    ... )
    tensor([-0.5000])
    """
    ranked = logits.sort(dim=1, descending=True).values
    spread = ranked[:, 0] - 0.5 * (ranked[:, 2] + ranked[:, 3])
    return targeted_margin(logits, labels, aims) / (spread + _TINY)


def targeted_margin(logits: Logits, labels: Labels, aims: Labels) -> PerSample:
    """Lead of a target over the true class, for any number of classes."""
    of = partial(torch.gather, logits, 1)
    return (of(aims[:, None]) - of(labels[:, None]))[:, 0]


_UNTARGETED: Mapping[str, Loss] = MappingProxyType({**LOSSES, "dlr": dlr})
