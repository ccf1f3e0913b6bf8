"""Walks: linear directions in the style space that imitate an edit of the image.

On the Steerability of Generative Adversarial Networks (Jahanian et al.,
arXiv:1907.07171), linear walk in W: the direction d that minimizes the mean over
latents w and strengths a of

    || mask * (G(w + a d) - edit(G(w), a)) ||^2 / sum(mask)

The authors' learning rate is fixed; here it is in units of the spread of w, which
differs from generator to generator.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from robustgen.errors import RequestError, unknown_name
from robustgen.gan.layers import LayerRange
from robustgen.rngs import rng_for
from robustgen.types import PerSample, Styles
from robustgen.views.directions import Directions
from robustgen.views.edits import EDITS, Edit, Edited
from robustgen.views.styles import ImageGenerator, random_styles

STEPS = 100
"""Adam steps for an edit."""

_BATCH = 8
"""Images of a step: 800 for an edit, where the authors' walks in W take 2,000 to
10,000."""

_LEARNING_RATE = 0.2
"""Of Adam, in mean standard deviations of w. On the generators that ship, half of it
needs twice the steps."""

_CHECKED = 64
"""Fresh images on which a walk is measured."""

_SPREAD = 1000
"""Random styles behind the unit of the learning rate."""


def fit_walks(
    gan: ImageGenerator,
    *,
    layers: LayerRange,
    edits: Sequence[str],
    seed: int,
    steps: int = STEPS,
) -> Directions:
    """Learns one direction per edit, with a vector of its own for every layer.

    Each walk starts at zero and has its own latents, so that it does not depend on
    which others are learned. Costs `8 * steps` forward and backward passes of the
    generator per edit, and as many forward passes for the unedited images.

    Args:
        gan: The generator.
        layers: Layers that may move. Fine ones cannot move a shape; see `left`.
        edits: Names of edits; see `robustgen.views.edits`.
        seed: Seed of latents and strengths.
        steps: Adam steps for each edit.

    Returns:
        Directions whose vectors are the steps of the largest edit, with scale 1. Their
        evidence `left` is the share of the edit's squared error that the walk leaves,
        on fresh latents: 0 where it does what the edit does, 1 where it does nothing.

    Raises:
        RequestError: an edit is unknown, none is asked for, or the generator has not
            so many layers.
    """
    if not edits:
        raise RequestError("A walk needs one edit or more.")
    for name in edits:
        if name not in EDITS:
            raise unknown_name("edit", name, EDITS)
    layers.check(gan.num_layers)
    styles = random_styles(gan, rng_for(seed, "walk", "spread"), _SPREAD)
    rate = _LEARNING_RATE * float(styles.std(dim=0).mean())
    walks: list[Tensor] = []
    left: list[float] = []
    for name in edits:
        edit = EDITS[name]
        walk = styles.new_zeros(layers.size, styles.shape[1]).requires_grad_()
        optimizer = torch.optim.Adam([walk], lr=rate)
        rng = rng_for(seed, "walk", name)
        for _ in range(steps):
            w = random_styles(gan, rng, _BATCH)
            strength = _strengths(rng, _BATCH).to(w)
            walk.grad = _gradient(gan, walk, w, strength, edit=edit, layers=layers)
            optimizer.step()
        walks.append(walk.detach())
        fresh = rng_for(seed, "walk", name, "check")
        left.append(_left_over(gan, walks[-1], fresh, edit=edit, layers=layers))
    return Directions(
        vectors=torch.stack(walks).cpu(),
        scale=torch.ones(len(walks)),
        names=tuple(edits),
        layers=layers,
        evidence={"left": torch.tensor(left)},
    )


def _gradient(
    gan: ImageGenerator,
    walk: Tensor,
    w: Styles,
    strength: PerSample,
    *,
    edit: Edit,
    layers: LayerRange,
) -> Tensor:
    """Gradient of the mean loss of a batch with respect to the walk alone."""
    codes = w[:, None].expand(-1, gan.num_layers, -1)
    with torch.no_grad():
        target = edit(gan.synthesize(codes), strength)
    with torch.enable_grad():
        made = gan.synthesize(_moved(codes, walk, strength, layers))
        loss = _errors(made, target).mean()
        (gradient,) = torch.autograd.grad(loss, walk)
    return gradient


@torch.no_grad()
def _left_over(
    gan: ImageGenerator,
    walk: Tensor,
    rng: torch.Generator,
    *,
    edit: Edit,
    layers: LayerRange,
) -> float:
    """Error with the walk as a share of the error without; NaN where there is none."""
    before, after = 0.0, 0.0
    for _ in range(0, _CHECKED, _BATCH):
        w = random_styles(gan, rng, _BATCH)
        strength = _strengths(rng, _BATCH).to(w)
        codes = w[:, None].expand(-1, gan.num_layers, -1)
        images = gan.synthesize(codes)
        target = edit(images, strength)
        made = gan.synthesize(_moved(codes, walk, strength, layers))
        before += float(_errors(images, target).sum())
        after += float(_errors(made, target).sum())
    return after / before if before else float("nan")


def _moved(
    codes: Float[Tensor, "batch layer dim"],
    walk: Float[Tensor, "span dim"],
    strength: PerSample,
    layers: LayerRange,
) -> Float[Tensor, "batch layer dim"]:
    head, part, tail = codes.split(
        [layers.start, layers.size, codes.shape[1] - layers.stop], dim=1
    )
    return torch.cat([head, part + strength[:, None, None] * walk, tail], dim=1)


def _errors(images: Tensor, target: Edited) -> PerSample:
    """Mean squared error of each image over the pixels that the edit knows."""
    squares = (images - target.images).square() * target.mask
    known = target.mask.sum(dim=(1, 2, 3)) * images.shape[1]
    return squares.sum(dim=(1, 2, 3)) / known


def _strengths(rng: torch.Generator, count: int) -> PerSample:
    return 2 * torch.rand(count, generator=rng) - 1
