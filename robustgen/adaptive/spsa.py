"""SPSA: gradients estimated from answers alone (arXiv:1802.05666, section 4)."""

from functools import partial

import torch

from robustgen.adaptive.scoring import bounded_margin
from robustgen.adaptive.search import MEMORY, Measure, ascend, leaves, step_shares
from robustgen.adaptive.selection import Candidate, Problem, attacked
from robustgen.adaptive.victim import Rows
from robustgen.attacks.attack import AttackOutcome, Rngs
from robustgen.attacks.passes import logits_of
from robustgen.threat import Threat
from robustgen.types import Images, Labels, LogitsFn, PerSample

DELTA = 0.01
"""Length of a probing step along each pixel, in units of [0, 1]: the paper's."""

MOMENTUM = 0.9
"""Weight of earlier estimates in the direction of a step, that of the paper's Adam. One
estimate from few directions is mostly noise."""

BLOCK = 4
"""Directions asked about at once. Fixed: were it to follow the number of images, the
draws of a random path would hang on the batch."""

_NAME = "estimated gradient"


def spsa_candidates(problem: Problem) -> list[Candidate]:
    """One search from the clean image along estimates of the margin's gradient.

    The margin of the path's own answers is climbed as `ascend` does, so steps have the
    length that the threat asks for; the paper follows Adam. Costs `spsa_steps` x (2 x
    `spsa_samples` + 1) + 1 passes per image, and no gradient.

    Args:
        problem: What to break.
    """
    del problem
    return [Candidate(_NAME, _search)]


def _search(problem: Problem) -> AttackOutcome:
    budget, threat = problem.budget, problem.threat

    def attack(
        logits_fn: LogitsFn, images: Images, labels: Labels, _: Threat, rngs: Rngs
    ) -> Images:
        return ascend(
            _measure(logits_fn, labels, rngs, budget.spsa_samples),
            images,
            threat,
            images,
            shares=step_shares(budget.spsa_steps, budget.step_share),
            memory=MEMORY if problem.victim.random else 0.0,
            momentum=MOMENTUM,
            leave=leaves(problem, trusted=True),
        )

    forward = problem.victim.predict
    return attacked(problem, _NAME, attack, forward, draws=problem.draws)


def _measure(logits_fn: LogitsFn, labels: Labels, rngs: Rngs, samples: int) -> Measure:
    """The margin, and the estimate of its gradient from 2 x `samples` answers."""

    @torch.no_grad()
    def measure(images: Images, rows: Rows, last: bool) -> tuple[PerSample, Images]:
        lead = partial(_leads, logits_fn, labels)
        reached = lead(images[:, None], rows)[:, 0]
        estimate = torch.zeros_like(images)
        for first in range(0, 0 if last else samples, BLOCK):
            count = min(BLOCK, samples - first)
            signs = _signs(images, rows, rngs, count)
            # Answers are asked for in [0, 1], but not in the ball: any image may be.
            ahead = (images[:, None] + DELTA * signs).clamp(0, 1)
            behind = (images[:, None] - DELTA * signs).clamp(0, 1)
            leads = lead(torch.cat([ahead, behind], dim=1), rows)
            rise = (leads[:, :count] - leads[:, count:]) / (2 * DELTA)
            estimate += (rise[:, :, None, None, None] * signs).sum(dim=1) / samples
        return reached, estimate

    return measure


def _leads(
    logits_fn: LogitsFn, labels: Labels, variants: torch.Tensor, rows: Rows
) -> torch.Tensor:
    """Margins [n, v] of variants [n, v, C, H, W] of the images at `rows`."""
    owners = rows.repeat_interleave(variants.shape[1])
    logits = logits_of(logits_fn, owners)(variants.flatten(0, 1))
    return bounded_margin(logits, labels[owners]).view(variants.shape[:2])


def _signs(images: Images, rows: Rows, rngs: Rngs, count: int) -> torch.Tensor:
    """Directions [n, count, C, H, W] of -1 and 1, from each image's generator."""
    shape = (count, *images.shape[1:])
    drawn = [torch.randint(0, 2, shape, generator=rngs[row]) for row in rows.tolist()]
    return torch.stack(drawn).to(images) * 2 - 1
