"""Square: random search over square patches, without a gradient.

A loop of our own, because `torchattacks.Square` 3.5.1 draws one patch for the whole
batch from the global generator, which it also resets, so that an image's result depends
on its neighbors; rescales the schedule of the official code; never places a patch in
the last row or column; and writes minus infinity into what the model returned.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from robustgen.attacks.attack import Attack, Rngs
from robustgen.attacks.best import (
    Best,
    exceeds,
    look_at_clean,
    per_image,
    require_ball,
)
from robustgen.attacks.checks import require
from robustgen.attacks.logits import margin
from robustgen.attacks.passes import logits_of
from robustgen.threat import Threat
from robustgen.types import Images, Labels, LogitsFn, PerSample

_TINY = 1e-12

_Window: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries after which the share of pixels halves (section 5 of the paper)."""


def build_square(*, queries: int, p_init: float = 0.8) -> Attack:
    """Square with fixed settings; see `square`.

    Raises:
        RequestError: a setting is out of its range.
    """
    require("square", "queries", queries, "2 or more", met=queries >= 2)
    require("square", "p_init", p_init, "above 0 and at most 1", met=0 < p_init <= 1)
    return partial(square, queries=queries, p_init=p_init)


def square(
    logits_fn: LogitsFn,
    images: Images,
    labels: Labels,
    threat: Threat,
    rngs: Rngs,
    *,
    queries: int,
    p_init: float = 0.8,
) -> Images:
    """Random search over square patches (arXiv:1912.00049, algorithms 1 to 3).

    Raises the lead of the best wrong class and keeps each patch that does. Needs no
    gradient: where gradients vanish and Square succeeds, they were masked. Costs at
    most `queries` forward passes per image, the one of the clean image among them;
    an image that is broken costs no more.

    Args:
        logits_fn: The classifier under attack; called under `no_grad`.
        images: Clean images.
        labels: True classes, to get away from.
        threat: An `linf` or `l2` ball; every query lies in it.
        rngs: Sources of the patches. Consumed.
        queries: Forward passes of an image at most.
        p_init: Share of the pixels that the first patches cover. It is halved after 10,
            50, 200, 500, 1,000, 2,000, 4,000, 6,000 and 8,000 queries, however many
            there are (`resc_schedule=False` of the official code).

    Returns:
        The first broken image, else the strongest near miss. An image whose logits were
        never finite comes back as NaN, for the framework to count as a failure.

    Raises:
        RequestError: the threat is no ball of finite radius.
    """
    require_ball("square", threat)
    best, _ = look_at_clean(logits_fn, images, labels)
    search_square(logits_fn, best, threat, rngs, queries=queries - 1, p_init=p_init)
    return best.images


@torch.no_grad()
def search_square(
    logits_fn: LogitsFn,
    best: Best,
    threat: Threat,
    rngs: Rngs,
    *,
    queries: int,
    p_init: float = 0.8,
) -> None:
    """The search of `square` on the images that are not broken yet.

    Args:
        logits_fn: As in `square`, like all arguments not named here.
        best: What is known of the batch; updated.
        threat: An `linf` or `l2` ball.
        rngs: One for each image of the batch.
        queries: Forward passes of an image at most, none of them of the clean image.
        p_init: As in `square`.
    """
    linf = threat.norm == "linf"
    start = _stripes if linf else _tiles
    propose = _square_linf if linf else _square_l2
    height, width = best.clean.shape[2:]
    current = best.clean.clone()
    reached = torch.full_like(best.margin, torch.nan)

    for query in range(queries):
        rows = best.left()
        if len(rows) == 0:
            return
        clean, labels = best.clean[rows], best.labels[rows]
        some = [rngs[row] for row in rows.tolist()]
        if query == 0:
            x = start(clean, threat, some)
        else:
            share = patch_share(query - 1, p_init)
            side = min(max(round(math.sqrt(share * height * width)), 1), height, width)
            x = propose(current[rows], clean, threat, some, side)
        logits = logits_of(logits_fn, rows)(x)
        wrong = best.look(rows, x, logits)
        found = margin(logits, labels)
        better = wrong | exceeds(found, reached[rows])
        current[rows[better]] = x[better]
        reached[rows[better]] = found[better]


def patch_share(query: int, p_init: float) -> float:
    """Share of the pixels that a patch covers, queries counted from 0.

    >>> [patch_share(query, 0.8) for query in (0, 10, 11, 51, 4999)]
    [0.8, 0.8, 0.4, 0.2, 0.00625]
    """
    return p_init / 2 ** sum(query > halving for halving in _HALVINGS)


def _uniform(count: int, like: Images, rngs: Sequence[Generator]) -> Tensor:
    """`[N, count]` draws from [0, 1), each row from its image's generator."""
    draws = [torch.rand(count, generator=rng, device=rng.device) for rng in rngs]
    return torch.stack(draws).to(like)


def _signs(draws: Tensor) -> Tensor:
    """Draws from [0, 1) as -1 or 1."""
    return torch.where(draws < 0.5, -1.0, 1.0).to(draws)


def _places(draws: PerSample, size: int, side: int) -> Tensor:
    """First row or column of a patch, each possible one as likely."""
    return (draws * (size - side + 1)).long().clamp(max=size - side)


def _stripes(clean: Images, threat: Threat, rngs: Sequence[Generator]) -> Images:
    """Vertical stripes one pixel wide, each channel of each up or down by `eps`."""
    channels, _, width = clean.shape[1:]
    signs = _signs(_uniform(channels * width, clean, rngs))
    return threat.clip(clean + threat.eps * signs.view(-1, channels, 1, width), clean)


def _square_linf(
    current: Images,
    clean: Images,
    threat: Threat,
    rngs: Sequence[Generator],
    side: int,
) -> Images:
    """One patch, each channel of it moved to the upper or lower edge of the ball."""
    channels, height, width = clean.shape[1:]
    draws = _uniform(2 + channels, clean, rngs)
    inside = _inside(
        _places(draws[:, 0], height, side),
        _places(draws[:, 1], width, side),
        side,
        clean,
    )
    signs = _signs(draws[:, 2:])[:, :, None, None]
    return threat.clip(current + 2 * threat.eps * signs * inside, clean)


def _inside(top: Tensor, left: Tensor, side: int, like: Images) -> Tensor:
    """`[N, 1, H, W]`: 1 in the patch of each image, 0 elsewhere."""
    rows = torch.arange(like.shape[2], device=like.device).view(1, 1, -1, 1)
    columns = torch.arange(like.shape[3], device=like.device).view(1, 1, 1, -1)
    down, right = rows - per_image(top), columns - per_image(left)
    within = (down >= 0) & (down < side) & (right >= 0) & (right < side)
    return within.to(like)


def _tiles(clean: Images, threat: Threat, rngs: Sequence[Generator]) -> Images:
    """About five by five tiles of two opposite bumps; each channel up or down."""
    channels, height, width = clean.shape[1:]
    side = max(min(height, width) // 5, 1)
    down, right = height // side, width // side
    top, left = (height - down * side) // 2, (width - right * side) // 2
    draws = _uniform(down * right * (1 + channels), clean, rngs)
    draws = draws.view(-1, down * right, 1 + channels)
    delta = torch.zeros_like(clean)
    for tile in range(down * right):
        y, x = top + tile // right * side, left + tile % right * side
        bumps = _bumps(draws[:, tile, 0], side) * _signs(draws[:, tile, 1:, None, None])
        delta[:, :, y : y + side, x : x + side] = bumps
    return threat.clip(clean + _of_length(delta, threat.eps), clean)


def _square_l2(
    current: Images,
    clean: Images,
    threat: Threat,
    rngs: Sequence[Generator],
    side: int,
) -> Images:
    """Two bumps in one patch, paid for by the change in it and in another patch.

    The other patch is cleared. Patches are 3 pixels or more, as in the official code,
    and their side is odd.
    """
    channels, height, width = clean.shape[1:]
    side = min(max(side, 3) | 1, height, width)
    draws = _uniform(5 + channels, clean, rngs)
    fresh = _window(draws[:, 0:2], side, clean)
    cleared = _window(draws[:, 2:4], side, clean)
    delta = current - clean
    both = torch.zeros_like(clean)
    both[fresh] = 1.0
    both[cleared] = 1.0

    unused = (threat.eps**2 - _norm(delta, (1, 2, 3)) ** 2).clamp(min=0) / channels
    budget = (unused + _norm(delta * both, (2, 3)) ** 2).sqrt()
    old = delta[fresh]
    bumps = _bumps(draws[:, 4], side) * _signs(draws[:, 5:, None, None])
    new = bumps + old / (_norm(old, (2, 3)) + _TINY)
    new = new / (_norm(new, (2, 3)) + _TINY) * budget
    delta[cleared] = 0.0
    delta[fresh] = new
    return threat.clip(clean + _of_length(delta, threat.eps), clean)


def _window(draws: Float[Tensor, "batch 2"], side: int, like: Images) -> _Window:
    """A patch of each image at its own place, as an index of `like`."""
    count, channels, height, width = like.shape
    step = torch.arange(side, device=like.device)
    top = per_image(_places(draws[:, 0], height, side)) + step.view(1, 1, -1, 1)
    left = per_image(_places(draws[:, 1], width, side)) + step.view(1, 1, 1, -1)
    images = per_image(torch.arange(count, device=like.device))
    return (
        images,
        torch.arange(channels, device=like.device).view(1, -1, 1, 1),
        top,
        left,
    )


def _bumps(draws: PerSample, side: int) -> Tensor:
    """`[N, 1, side, side]` of length 1: two opposite bumps, upright or lying."""
    pattern = torch.cat([bump(side // 2, side), -bump(side - side // 2, side)])
    pattern = (pattern / pattern.norm()).to(draws)
    return torch.where(per_image(draws) > 0.5, pattern.T, pattern)


def bump(height: int, width: int) -> Tensor:
    """`[height, width]` of length 1, the higher the nearer to the middle.

    The sum of nested rectangles, the k-th of them 1 / k^2 high (section 4.2 of the
    paper).
    """
    bump = torch.zeros(height, width)
    top, left = height // 2, width // 2
    for ring in range(max(top, left) + 1):
        rows = slice(max(top - ring, 0), top + ring + 1)
        columns = slice(max(left - ring, 0), left + ring + 1)
        bump[rows, columns] += 1 / (ring + 1) ** 2
    return bump / bump.norm().clamp(min=_TINY)


def _norm(values: Tensor, axes: tuple[int, ...]) -> Tensor:
    return values.square().sum(dim=axes, keepdim=True).sqrt()


def _of_length(delta: Images, length: float) -> Images:
    return delta * (length / (_norm(delta, (1, 2, 3)) + _TINY))
