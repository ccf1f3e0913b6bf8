"""Search in the latent space of the generator, where the projection cannot hide it.

Athalye et al. 2018 (arXiv:1802.00420, section 5.4.2) break Defense-GAN so: a picture
G(w) that the classifier gets wrong survives a projection onto the range of G, because
it lies in that range already. Their code minimizes, over the latent code, the
classification loss and a penalty on leaving the ball.
"""

from collections.abc import Sequence
from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from robustgen.adaptive.scoring import bounded_margin, mean_margin
from robustgen.adaptive.selection import Candidate, Problem, attacked, bare
from robustgen.adaptive.victim import Draw, Generative
from robustgen.attacks.attack import AttackOutcome, Rngs
from robustgen.attacks.logits import margin
from robustgen.attacks.passes import logits_of
from robustgen.projectors.loss import Gan, suitable_chunk
from robustgen.threat import Threat
from robustgen.types import Images, Labels, LogitsFn, PerSample, StylesPlus

WEIGHTS = (1.0, 10.0, 100.0)
"""Weights of the penalty, in nats per excess of one `eps`, one after the other: from
codes that are wrong wherever they lie to codes in the ball."""

ENOUGH = 5.0
"""Lead, in nats, beyond which more does not count: the search turns to the ball."""

RATE = 0.05
"""Step of Adam, in units of w."""

_BETAS = (0.9, 0.999)

Form: TypeAlias = Literal["near the image", "along the model"]
FORMS: tuple[Form, ...] = ("near the image", "along the model")


def latent_candidates(problem: Problem) -> list[Candidate]:
    """Two searches in w+ from the projection's w*, which differ in what they return.

    Both climb `min(margin(f(G(w))), ENOUGH) - weight * excess(d)`, f the classifier,
    with Adam, in three stages of rising weight, `latent_steps` in all. `excess` is how
    far d is outside the ball, in units of `eps`: the mean over pixels for `linf`, that
    of the norm for `l2`.

    * near the image: x' = clip(G(w)), d = G(w) - x.
    * along the model: x' = clip(x + G(w) - G(w*)), d = G(w) - G(w*). It moves along the
      model's range, from the image rather than its projection, so that what the
      projection misses of x costs none of the ball.

    Of the best iterate of each stage, the one that the full path gets most wrong is
    returned, on draws of the stream `attack`.

    Args:
        problem: What to break; its path has a generative model.
    """
    del problem
    return [Candidate(form, partial(_search, form=form)) for form in FORMS]


def _search(problem: Problem, *, form: Form) -> AttackOutcome:
    victim, threat = problem.victim, problem.threat
    generative = model_of(problem)

    def attack(
        logits_fn: LogitsFn, images: Images, labels: Labels, _: Threat, rngs: Rngs
    ) -> Images:
        del rngs
        codes, anchors = projected(generative, images)
        center = images if form == "near the image" else anchors
        stages = search_codes(
            generative.gan,
            logits_fn,
            codes,
            center,
            labels,
            threat,
            steps=problem.budget.latent_steps,
            weights=WEIGHTS,
        )
        best, lead = images, images.new_full((len(images),), -torch.inf)
        for found in stages:
            made = pictures(generative.gan, found, suitable_chunk(images))
            tried = threat.clip(images + made - center, images)
            reached = mean_margin(victim, tried, labels, problem.draws, stream="attack")
            better = reached > lead
            best = torch.where(better.view(-1, 1, 1, 1), tried, best)
            lead = torch.where(better, reached, lead)
        return best

    return attacked(problem, form, attack, bare(victim.classifier))


def model_of(problem: Problem) -> Generative:
    """The generative model of a path that has one."""
    if problem.victim.generative is None:
        raise ValueError(f"path '{problem.victim.path}' has no generative model")
    return problem.victim.generative


@torch.no_grad()
def projected(generative: Generative, images: Images) -> tuple[StylesPlus, Images]:
    """Codes and pictures, in [0, 1], of the projection on one draw."""
    rows = torch.arange(len(images), device=images.device)
    found = generative.project(images, rows, Draw("attack", 0))
    return found.w_plus.detach(), found.images.detach().clamp(0, 1)


@torch.no_grad()
def pictures(gan: Gan, codes: StylesPlus, chunk: int) -> Images:
    """What the generator makes of codes, clamped to [0, 1], `chunk` at once."""
    return torch.cat([gan.synthesize(some).clamp(0, 1) for some in codes.split(chunk)])


def search_codes(
    gan: Gan,
    logits_fn: LogitsFn,
    codes: StylesPlus,
    center: Images,
    labels: Labels,
    threat: Threat,
    *,
    steps: int,
    weights: Sequence[float],
) -> list[StylesPlus]:
    """Codes of pictures that a classifier gets wrong and that stay near `center`.

    Costs `steps` + one pass per weight through generator and classifier, forward and
    backward, per image.

    Args:
        gan: The generator, frozen.
        logits_fn: The classifier.
        codes: Where to start.
        center: Pictures around which the threat's ball is taken.
        labels: True classes.
        threat: The ball.
        steps: Steps of Adam, shared evenly by the weights.
        weights: Of the penalty for leaving the ball; each search starts where the last
            ended.

    Returns:
        For each weight, the iterate with the best value of what is climbed.
    """
    rows = torch.arange(len(codes), device=codes.device)
    found: list[list[Tensor]] = []
    for some in rows.split(suitable_chunk(center)):
        part = logits_of(logits_fn, some)
        w, stages = codes[some], list[Tensor]()
        for number, weight in enumerate(weights):
            first, end = (steps * n // len(weights) for n in (number, number + 1))
            w, best = _stage(
                gan, part, w, center[some], labels[some], threat, end - first, weight
            )
            stages.append(best)
        found.append(stages)
    return [torch.cat(parts) for parts in zip(*found, strict=True)]


def _stage(
    gan: Gan,
    logits_fn: LogitsFn,
    codes: StylesPlus,
    center: Images,
    labels: Labels,
    threat: Threat,
    steps: int,
    weight: float,
) -> tuple[StylesPlus, StylesPlus]:
    """The last and the best iterate of Adam on one weight of the penalty."""
    w, best = codes.detach().clone(), codes.detach().clone()
    first, second = torch.zeros_like(w), torch.zeros_like(w)
    best_value = center.new_full((len(w),), -torch.inf)
    for step in range(1, steps + 2):
        last = step > steps
        w.requires_grad_(not last)
        made = gan.synthesize(w).clamp(0, 1)
        logits = logits_fn(made)
        lead = margin(logits, labels).clamp(max=ENOUGH)
        value = lead - weight * excess(made - center, threat)
        with torch.no_grad():
            shown = bounded_margin(logits, labels).clamp(max=ENOUGH)
            seen = shown - weight * excess(made - center, threat)
            better = seen > best_value
            best = torch.where(better.view(-1, 1, 1), w.detach(), best)
            best_value = torch.where(better, seen, best_value)
        if last:
            break
        (gradient,) = torch.autograd.grad(value.sum(), w)
        with torch.no_grad():
            gradient = gradient.nan_to_num(0.0, 0.0, 0.0)
            first = _BETAS[0] * first + (1 - _BETAS[0]) * gradient
            second = _BETAS[1] * second + (1 - _BETAS[1]) * gradient.square()
            rise = first / (1 - _BETAS[0] ** step)
            size = (second / (1 - _BETAS[1] ** step)).sqrt() + 1e-8
            w = w.detach() + RATE * rise / size
    return w.detach(), best


def excess(change: Images, threat: Threat) -> PerSample:
    """How far a change is outside the ball, in units of `eps`; 0 inside.

    >>> excess(torch.tensor([[[[0.75, 0.0]]]]), Threat("linf", 0.25))
    tensor([1.])
    """
    if threat.norm == "linf":
        outside = (change.abs() - threat.eps).clamp(min=0)
        return outside.mean(dim=(1, 2, 3)) / threat.eps
    # A norm of exactly zero has no gradient.
    length = (change.square().sum(dim=(1, 2, 3)) + 1e-12).sqrt()
    return (length - threat.eps).clamp(min=0) / threat.eps
