"""The ladder of tiers: what each knows, and the strongest image that it finds."""

from collections.abc import Sequence
from dataclasses import replace

from jaxtyping import Float
from torch import Tensor, nn

from robustgen.adaptive.breaking import breaking_candidates, cannot_break
from robustgen.adaptive.latent import latent_candidates
from robustgen.adaptive.scoring import mean_margin, score_draws
from robustgen.adaptive.search import gradient_candidates
from robustgen.adaptive.selection import (
    Candidate,
    Problem,
    TierOutcome,
    attacked,
    bare,
    rerouted,
    strongest,
)
from robustgen.adaptive.spsa import spsa_candidates
from robustgen.adaptive.transfer import transfer_candidates
from robustgen.adaptive.victim import Draw, Victim
from robustgen.attacks.attack import (
    AttackOutcome,
    Rngs,
    check_images,
    check_labels,
)
from robustgen.attacks.square import build_square
from robustgen.budgets import Budget
from robustgen.errors import RequestError, unknown_name
from robustgen.names import ADAPTIVE_TIERS, GRADIENT_TIERS
from robustgen.rngs import rng_for
from robustgen.threat import Threat
from robustgen.types import Images, Labels, LogitsFn

__all__ = [
    "TierOutcome",
    "applies",
    "fixed_draw_attack",
    "mean_margin",
    "run_tier",
    "score_draws",
]


def applies(tier: str, victim: Victim) -> str | None:
    """Why a tier cannot attack a path; None if it can.

    Args:
        tier: One of `ADAPTIVE_TIERS`.
        victim: The path.

    Raises:
        RequestError: there is no such tier.
    """
    if tier not in ADAPTIVE_TIERS:
        raise unknown_name("tier", tier, ADAPTIVE_TIERS)
    if tier in GRADIENT_TIERS and tier not in victim.surrogates:
        default = f"The path '{victim.path}' offers no gradients for '{tier}'."
        return victim.missing.get(tier, default)
    if tier == "latent" and victim.generative is None:
        return f"The path '{victim.path}' has no generative model to search."
    if tier == "projection_breaking":
        return cannot_break(victim)
    return None


def run_tier(
    tier: str,
    victim: Victim,
    images: Images,
    labels: Labels,
    threat: Threat,
    budget: Budget,
    *,
    seed: int,
    starts: Images | None = None,
    surrogates: Sequence[nn.Module] = (),
) -> TierOutcome:
    """Attacks a path with what a tier knows, and keeps each image's strongest result.

    Searches see draws of the stream `attack`, the choice those of `select`, and none
    sees those of `score`. The clean image is always among the candidates, so on the
    draws of `select` no tier reports more accuracy than the clean image. Where the path
    draws nothing, an image leaves as soon as it is broken. The user's networks come
    back as they were. No result depends on the other images of the batch, except for
    how networks round.

    Args:
        tier: One of `ADAPTIVE_TIERS`.
        victim: The path, of this batch.
        images: Clean images.
        labels: True classes.
        threat: An `linf` or `l2` ball with a finite radius; 0 leaves the clean image.
        budget: Bounds of every search.
        seed: Seed of the suite.
        starts: Attacked images of another tier, such as an easier one: candidates as
            they are, and one more start of the tiers that follow gradients.
        surrogates: Networks beside the classifier to transfer from, images in [0, 1]
            to logits. Only `transfer` looks at them.

    Returns:
        The strongest images; their passes are through the function that the tier
        searches, and leave out those of the choice.

    Raises:
        RequestError: the tier is unknown or does not apply, the threat is no finite
            ball, or images and labels make no sense.
    """
    reason = applies(tier, victim)
    if reason is not None:
        raise RequestError(
            f"Tier '{tier}' does not attack path '{victim.path}': {reason}"
        )
    if threat.norm == "none" or not threat.eps < float("inf"):
        raise RequestError(
            f"Tier '{tier}' searches a ball of the linf or l2 norm; the threat says "
            f"`norm: {threat.norm}`, `eps: {threat.eps:g}`."
        )
    check_images(images, labels, [rng_for(seed, i) for i in victim.samples])
    check_labels(labels, classes=victim.classes)
    images = images.detach()
    problem = Problem(tier, victim, images, labels, threat, budget, seed, starts)

    def candidates(problem: Problem) -> list[Candidate]:
        given = [] if starts is None else [Candidate("given", _given)]
        return [*given, *_searches(problem, surrogates)]

    return strongest(problem, candidates)


def fixed_draw_attack(
    tier: str,
    victim: Victim,
    images: Images,
    labels: Labels,
    threat: Threat,
    budget: Budget,
    *,
    seed: int,
) -> Float[Tensor, "n k"]:
    """Attacks one realization of a path that the attacker knows, and scores on it.

    The realization is draw 0 of the stream `score`. A path that only seems robust
    because its draws differ from call to call falls here.

    Args:
        tier: One that follows gradients: `bpda_identity`, `bpda_encoder`, `unrolled`.
        victim: The path.
        images: Clean images.
        labels: True classes.
        threat: See `run_tier`.
        budget: See `run_tier`.
        seed: Seed of the suite.

    Returns:
        Probabilities of the attacked images on that realization.

    Raises:
        RequestError: the tier follows no gradients; see also `run_tier`.
    """
    if tier not in GRADIENT_TIERS:
        raise RequestError(
            f"Tier '{tier}' cannot attack a fixed draw: expected one of "
            f"{', '.join(GRADIENT_TIERS)}."
        )
    known = fixed(victim, Draw("score", 0))
    found = run_tier(tier, known, images, labels, threat, budget, seed=seed)
    return score_draws(known, found.outcome.images, 1)[:, 0]


def fixed(victim: Victim, draw: Draw) -> Victim:
    """The path with one realization of all that it draws, whichever is asked for.

    Args:
        victim: The path.
        draw: The realization.
    """
    return replace(rerouted(victim, draw=lambda _: draw), random=False)


def _given(problem: Problem) -> AttackOutcome:
    """The images handed over, clipped and measured, without a search."""

    def attack(
        logits_fn: LogitsFn, images: Images, labels: Labels, _: Threat, rngs: Rngs
    ) -> Images:
        del logits_fn, labels, rngs
        return images if problem.starts is None else problem.starts.clone()

    return attacked(problem, "given", attack, bare(problem.victim.classifier))


def _square_candidates(problem: Problem) -> list[Candidate]:
    """Random search on the path's own answers."""
    name = "random squares"
    attack = build_square(queries=problem.budget.queries)

    def search(part: Problem) -> AttackOutcome:
        return attacked(part, name, attack, part.victim.predict, draws=part.draws)

    return [Candidate(name, search)]


def _searches(problem: Problem, surrogates: Sequence[nn.Module]) -> list[Candidate]:
    """What a tier tries."""
    match problem.tier:
        case "transfer":
            return transfer_candidates(problem, surrogates)
        case "latent":
            return latent_candidates(problem)
        case "projection_breaking":
            return breaking_candidates(problem)
        case "square":
            return _square_candidates(problem)
        case "spsa":
            return spsa_candidates(problem)
        case _:
            return gradient_candidates(problem)
