"""Candidates of a tier, and the choice of the strongest on draws that none has seen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from robustgen.adaptive.scoring import margins
from robustgen.adaptive.victim import (
    Draw,
    ExpectedLogits,
    Forward,
    Generative,
    Rows,
    SharedForward,
    Victim,
)
from robustgen.attacks.attack import Attack, AttackOutcome, run_attack
from robustgen.budgets import Budget
from robustgen.projectors.method import Projection
from robustgen.rngs import rng_for
from robustgen.seeding import derive_seed
from robustgen.threat import Threat
from robustgen.types import (
    Images,
    Labels,
    Logits,
    LogitsFn,
    PerSample,
    StylesPlus,
)

CLEAR = 0.1
"""Lead, in nats, from which an image of a path that draws nothing counts as broken for
good, and no search goes on with it. A projection amplifies how sums are rounded, and an
image that leads by less may be right again in another batch."""

ENOUGH = 5
"""Draws of a random path that must all be broken before an image is left alone: a coin
that is wrong every tenth time shows that once in 100,000 images."""

_OF_THE_IMAGE = ("images", "in_threat", "distance_linf", "distance_l2")
_OF_THE_SEARCH = (
    "clipped",
    "failed",
    "first_success",
    "margin_first",
    "margin_best",
    "margin_last",
)


@dataclass(frozen=True, eq=False)
class TierOutcome:
    """The strongest image that a tier found for each clean one.

    Args:
        outcome: Of the candidate chosen for each image. `success` says whether
            `select_margin` is above 0; `forwards` and `backwards` are those of all
            candidates; `clipped`, `failed`, `first_success` and the margins are of the
            strongest search, even where the clean image is chosen over it.
        select_margin: Mean lead of the best wrong class, in nats, of the chosen image
            on the full path, over draws of the stream `select`.
        candidates: Their names; the clean image is the first.
        chosen: Number of the candidate chosen for each image.
    """

    outcome: AttackOutcome
    select_margin: PerSample
    candidates: tuple[str, ...]
    chosen: Int64[Tensor, " n"]


@dataclass(frozen=True, eq=False)
class Problem:
    """A batch of images and the path to break.

    Args:
        tier: What the attack knows.
        victim: The path, of this batch.
        images: Clean images.
        labels: True classes.
        threat: Set that attacked images lie in; `linf` or `l2`.
        budget: Bounds of every search.
        seed: Seed of the suite.
        starts: Images to search from as well, inside the threat set; None for none.
    """

    tier: str
    victim: Victim
    images: Images
    labels: Labels
    threat: Threat
    budget: Budget
    seed: int
    starts: Images | None = None

    @property
    def draws(self) -> int:
        """Draws of the path that a gradient or a query is averaged over."""
        return self.budget.draws if self.victim.random else 1

    def of(self, rows: Rows) -> "Problem":
        """The same for some of the images."""
        return replace(
            self,
            victim=restricted(self.victim, rows),
            images=self.images[rows],
            labels=self.labels[rows],
            starts=None if self.starts is None else self.starts[rows],
        )


@dataclass(frozen=True, eq=False)
class Candidate:
    """One search of a tier.

    Args:
        name: What reports call it; no two of a tier share one.
        search: Finds an image for each of the batch.
    """

    name: str
    search: Callable[[Problem], AttackOutcome]


def attacked(
    problem: Problem,
    name: str,
    attack: Attack,
    forward: Forward,
    *,
    draws: int = 1,
    networks: nn.Module | None = None,
) -> AttackOutcome:
    """Runs an attack on one function of a path.

    Args:
        problem: What to break.
        name: Of the search. Its random numbers and its draws hang on it.
        attack: Who searches.
        forward: What is searched; the passes of the outcome are through it.
        draws: Draws that one pass averages.
        networks: Behind `forward` and not of the path; None for none.
    """
    victim = problem.victim
    path = (problem.tier, victim.path, name)
    own = victim.networks
    model = ExpectedLogits(
        forward,
        own if networks is None else nn.ModuleList([own, networks]),
        count=len(problem.images),
        draws=draws,
        start=derive_seed(problem.seed, "attack draws", *path) % 2**40,
    )
    rngs = [rng_for(problem.seed, "ladder", *path, i) for i in victim.samples]
    images, labels = problem.images, problem.labels
    return run_attack(
        attack, model, images, labels, problem.threat, rngs, name=problem.tier
    )


def bare(classifier: LogitsFn) -> Forward:
    """A classifier without a defense, as a path that draws nothing."""

    def forward(images: Images, rows: Rows, draw: Draw) -> Logits:
        del rows, draw
        return classifier(images).log_softmax(dim=1)

    return forward


def strongest(
    problem: Problem, candidates: Callable[[Problem], Sequence[Candidate]]
) -> TierOutcome:
    """Runs candidates and keeps the one with the largest mean lead of each image.

    All are measured on the full path, on the same `select_draws` draws. The clean image
    is a candidate. An image that leads by `CLEAR` is left out of the candidates that
    follow; where the path draws at random, it must lead so in each of `ENOUGH` draws or
    more, since a lead over few draws may be luck.

    Args:
        problem: What to break.
        candidates: Makes the candidates; not called if no image is left to attack.
    """
    names = ["clean"]
    images, count = problem.images, problem.budget.select_draws

    def measured(part: Problem, found: Images) -> tuple[PerSample, PerSample]:
        leads = margins(part.victim, found, part.labels, count, stream="select")
        return leads.mean(dim=1), leads.amin(dim=1)

    lead, least = measured(problem, images)
    searched = torch.full_like(lead, -torch.inf)
    chosen = torch.zeros(len(images), dtype=torch.int64)
    total = _untouched(images)
    found = candidates(problem) if _open(problem, least).numel() else ()
    for number, candidate in enumerate(found, start=1):
        names.append(candidate.name)
        rows = _open(problem, least)
        if not len(rows):
            continue
        part = problem.of(rows)
        outcome = candidate.search(part)
        reached, weakest = measured(part, outcome.images)
        total.forwards[rows.cpu()] += outcome.forwards
        total.backwards[rows.cpu()] += outcome.backwards
        _write(total, outcome, rows, reached > lead[rows], _OF_THE_IMAGE)
        _write(total, outcome, rows, reached > searched[rows], _OF_THE_SEARCH)
        chosen[rows.cpu()] = torch.where(
            (reached > lead[rows]).cpu(), number, chosen[rows.cpu()]
        )
        least[rows] = torch.where(reached > lead[rows], weakest, least[rows])
        lead[rows] = torch.maximum(lead[rows], reached)
        searched[rows] = torch.maximum(searched[rows], reached)
    return TierOutcome(replace(total, success=lead > 0), lead, tuple(names), chosen)


def restricted(victim: Victim, rows: Rows) -> Victim:
    """The same path for some of the images of its batch.

    Args:
        victim: A path and its batch.
        rows: Which images to keep, by their place in that batch.
    """
    samples = tuple(victim.samples[row] for row in rows.tolist())

    def placed(local: Rows) -> Rows:
        return rows.to(local.device)[local]

    return replace(rerouted(victim, rows=placed), samples=samples)


def rerouted(
    victim: Victim,
    *,
    rows: Callable[[Rows], Rows] = lambda rows: rows,
    draw: Callable[[Draw], Draw] = lambda draw: draw,
) -> Victim:
    """The same path, asked about other rows or draws than it is told.

    Args:
        victim: A path.
        rows: From the rows told to those asked about.
        draw: From the draw told to the one asked for.
    """

    def route(forward: Forward) -> Forward:
        return _Rerouted(forward, rows, draw)

    generative = victim.generative
    if generative is not None:
        generative = _rerouted_model(generative, rows, draw)
    return replace(
        victim,
        predict=route(victim.predict),
        surrogates={name: route(each) for name, each in victim.surrogates.items()},
        generative=generative,
    )


@dataclass(frozen=True, eq=False)
class _Rerouted:
    """A `SharedForward` around any forward; what draws share is still done once."""

    forward: Forward
    rows: Callable[[Rows], Rows]
    draw: Callable[[Draw], Draw]

    def __call__(self, images: Images, rows: Rows, draw: Draw) -> Logits:
        return self.forward(images, self.rows(rows), self.draw(draw))

    def over(
        self, images: Images, rows: Rows, draws: Sequence[Draw]
    ) -> Sequence[Logits]:
        asked, rows = [self.draw(draw) for draw in draws], self.rows(rows)
        if isinstance(self.forward, SharedForward):
            return self.forward.over(images, rows, asked)
        return [self.forward(images, rows, draw) for draw in asked]


def _rerouted_model(
    generative: Generative,
    rows_of: Callable[[Rows], Rows],
    draw_of: Callable[[Draw], Draw],
) -> Generative:
    def project(images: Images, rows: Rows, draw: Draw) -> Projection:
        return generative.project(images, rows_of(rows), draw_of(draw))

    encode = generative.encode
    if encode is None:
        return replace(generative, project=project)

    def encoded(images: Images, rows: Rows) -> StylesPlus:
        return encode(images, rows_of(rows))

    return replace(generative, project=project, encode=encoded)


def _open(problem: Problem, least: PerSample) -> Rows:
    """Images that a search still goes on with, by their least lead over the draws."""
    if problem.threat.eps == 0:
        return torch.zeros(0, dtype=torch.int64, device=least.device)
    if problem.victim.random and problem.budget.select_draws < ENOUGH:
        return torch.arange(len(least), device=least.device)
    return (least <= CLEAR).nonzero().flatten()


def _untouched(images: Images) -> AttackOutcome:
    """Clean images, before any search."""
    count = len(images)
    no = torch.zeros(count, dtype=torch.bool, device=images.device)
    nothing = images.new_zeros(count)
    unknown = torch.full((count,), torch.nan)
    return AttackOutcome(
        images=images.detach().clone(),
        in_threat=~no,
        clipped=no.clone(),
        failed=no.clone(),
        distance_linf=nothing.clone(),
        distance_l2=nothing.clone(),
        forwards=torch.zeros(count, dtype=torch.int64),
        backwards=torch.zeros(count, dtype=torch.int64),
        success=no.clone(),
        first_success=torch.full((count,), -1),
        margin_first=unknown.clone(),
        margin_best=unknown.clone(),
        margin_last=unknown.clone(),
    )


def _write(
    total: AttackOutcome,
    outcome: AttackOutcome,
    rows: Rows,
    better: Tensor,
    names: Sequence[str],
) -> None:
    """Puts what `names` say of a candidate's better rows into the total."""
    for field in fields(AttackOutcome):
        if field.name not in names:
            continue
        into: Tensor = getattr(total, field.name)
        new: Tensor = getattr(outcome, field.name)
        some = better.to(new.device)
        into[rows.to(into.device)[better.to(into.device)]] = new[some].to(into)
