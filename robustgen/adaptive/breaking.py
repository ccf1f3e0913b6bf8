"""Projection breaking: images whose codes are those of something else.

A feature adversary (Sabour et al. 2016, arXiv:1511.05122): an image near x whose inner
representation, here the code that the encoder gives it, is that of another image. Where
a projection starts from that code, it starts in another class.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from robustgen.adaptive.latent import model_of, projected, search_codes
from robustgen.adaptive.search import (
    Measure,
    ascend,
    gradient_of,
    step_shares,
)
from robustgen.adaptive.selection import Candidate, Problem, attacked
from robustgen.adaptive.victim import Draw, Rows, Victim
from robustgen.attacks.attack import AttackOutcome, Rngs
from robustgen.attacks.passes import logits_of
from robustgen.attacks.steps import start_anywhere
from robustgen.threat import Threat
from robustgen.types import Images, Labels, Logits, LogitsFn, PerSample, StylesPlus

TARGET_STEPS = 30
"""Steps of Adam that look for the code of another class, of `latent_steps` at most."""

TARGET_WEIGHT = 1.0
"""Penalty, in nats per excess of one `eps`, on a target far from the projection: near
codes are easier to reach."""


def cannot_break(victim: Victim) -> str | None:
    """Why codes cannot be steered; None if they can."""
    if victim.generative is None:
        return f"The path '{victim.path}' has no generative model to mislead."
    if victim.generative.encode is None:
        default = f"The projection of path '{victim.path}' has no encoder to mislead."
        return victim.missing.get("bpda_encoder", default)
    return None


def breaking_candidates(problem: Problem) -> list[Candidate]:
    """Two searches through the encoder E, by `ascend`, of `breaking_steps`.

    * to another class: from the clean image, climbs -|E(x') - w_t|^2. The target w_t is
      a code near the projection's whose picture the classifier gets wrong, found by the
      search of `latent`.
    * away from its code: from a random start, climbs |E(x') - E(x)|^2.

    Passes are those through the encoder, and those through the generator and classifier
    that find w_t. The trace of margins is empty: no class is asked for on the way.

    Args:
        problem: What to break; `cannot_break` finds nothing against it.
    """
    del problem
    return [
        Candidate("to another class", partial(_search, toward=True)),
        Candidate("away from its code", partial(_search, toward=False)),
    ]


def _search(problem: Problem, *, toward: bool) -> AttackOutcome:
    budget, threat = problem.budget, problem.threat
    encode = _encoder_of(problem)

    def codes_of(images: Images, rows: Rows, draw: Draw) -> Logits:
        del draw
        return encode(images, rows).flatten(1)

    def attack(
        logits_fn: LogitsFn, images: Images, labels: Labels, _: Threat, rngs: Rngs
    ) -> Images:
        if toward:
            measure = _distance(logits_fn, _other_class(problem, labels), sign=-1.0)
            first = images
        else:
            with torch.no_grad():
                own = encode(images, torch.arange(len(images), device=images.device))
            measure = _distance(logits_fn, own, sign=1.0)
            first = start_anywhere(images, threat, rngs)
        shares = step_shares(budget.breaking_steps, budget.step_share)
        return ascend(measure, images, threat, first, shares=shares)

    # The codes take the place of logits, so that passes are counted and images checked.
    name = "to another class" if toward else "away from its code"
    outcome = attacked(problem, name, attack, codes_of)
    unknown = torch.full_like(outcome.margin_first, torch.nan)
    steps = _target_steps(problem)
    return replace(
        outcome,
        forwards=outcome.forwards + (steps + 1 if toward else 1),
        backwards=outcome.backwards + (steps if toward else 0),
        first_success=torch.full_like(outcome.first_success, -1),
        margin_first=unknown,
        margin_best=unknown.clone(),
        margin_last=unknown.clone(),
    )


def _encoder_of(problem: Problem) -> Callable[[Images, Rows], StylesPlus]:
    encode = model_of(problem).encode
    if encode is None:
        raise ValueError(f"path '{problem.victim.path}' has no encoder")
    return encode


def _target_steps(problem: Problem) -> int:
    return min(TARGET_STEPS, problem.budget.latent_steps)


def _other_class(problem: Problem, labels: Labels) -> StylesPlus:
    """Codes near those of the projection, whose pictures are of another class."""
    generative = model_of(problem)
    codes, anchors = projected(generative, problem.images)
    (found,) = search_codes(
        generative.gan,
        lambda images: problem.victim.classifier(images).log_softmax(dim=1),
        codes,
        anchors,
        labels,
        problem.threat,
        steps=_target_steps(problem),
        weights=(TARGET_WEIGHT,),
    )
    return found


def _distance(codes_fn: LogitsFn, codes: StylesPlus, *, sign: float) -> Measure:
    """`sign` x the squared distance of an image's code from a given one."""
    given = codes.detach().flatten(1)

    def measure(images: Images, rows: Rows, last: bool) -> tuple[PerSample, Images]:
        x = images.detach().requires_grad_(not last)
        gap = logits_of(codes_fn, rows)(x) - given[rows]
        value = sign * gap.square().sum(dim=1)
        if last:
            return value.detach(), torch.zeros_like(images)
        return value.detach(), gradient_of(value.sum(), x)

    return measure
