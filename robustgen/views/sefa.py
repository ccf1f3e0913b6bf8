"""SeFa directions: what the weights of a generator's style layers amplify most.

Closed-Form Factorization of Latent Semantics in GANs (Shen and Zhou,
arXiv:2007.06600): the directions are the eigenvectors of A A^T, where the columns of A
are the rows of the affine maps from `w` to the styles of the chosen layers. They need
no image and no label.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from robustgen.errors import RequestError
from robustgen.gan.layers import LayerRange
from robustgen.gan.stylegan2 import StyledConv, ToRgb
from robustgen.rngs import rng_for
from robustgen.views.directions import LEADING, Directions
from robustgen.views.styles import (
    SPREAD_SAMPLES,
    ConditionalMapping,
    random_styles,
    spread_along,
    with_positive_peak,
)

_SILENT = 1e-9
"""Share of the largest eigenvalue below which a direction moves no style."""


@runtime_checkable
class ModulatedGan(ConditionalMapping, Protocol):
    """A generator that shows its modulated layers."""

    def styled_layers(self) -> Sequence[tuple[int, StyledConv | ToRgb]]:
        """Every modulated layer, with the index of the style code that it reads."""
        ...


def style_weights(gan: ModulatedGan, layers: LayerRange) -> Float[Tensor, "style dim"]:
    """Affine weights of a range, one row per style channel, in double precision.

    Each code counts once, by the convolution that reads it; the RGB layers beside the
    convolutions are left out, as in the authors' code. Only the last code has no
    convolution; there the RGB layer stands.

    Raises:
        RequestError: the generator has no layer in the range.
    """
    readers: dict[int, Tensor] = {}
    for code, layer in gan.styled_layers():
        if layers.start <= code < layers.stop and (
            isinstance(layer, StyledConv) or code not in readers
        ):
            readers[code] = layer.affine.weight.detach().cpu().double()
    if not readers:
        raise RequestError(
            f"Layers [{layers.start}, {layers.stop}] of this generator have no style "
            "weights to factorize."
        )
    return torch.cat([readers[code] for code in sorted(readers)])


def factorize(
    weights: Float[Tensor, "style dim"], count: int
) -> tuple[Float[Tensor, "direction dim"], Float[Tensor, " direction"]]:
    """Unit eigenvectors and eigenvalues, largest first.

    Every row of `weights` is scaled to length 1, as in the authors' code, so that all
    style channels count the same, whatever the equalized learning rate of a layer.
    (rosinality's variant leaves the lengths alone.) The authors' code does not sort;
    here the largest eigenvalue comes first, and a vector's largest entry is positive.

    Args:
        weights: One row per style channel.
        count: Directions at most. Fewer where the others move no style.
    """
    lengths = weights.norm(dim=1, keepdim=True)
    rows = (weights / lengths)[lengths[:, 0] > 0]
    values, vectors = torch.linalg.eigh(rows.T @ rows)  # ascending
    values, vectors = values.flip(0), vectors.T.flip(0)
    keep = min(count, int((values > _SILENT * values[0]).sum()))
    return with_positive_peak(vectors[:keep]), values[:keep]


def sefa_directions(
    gan: ModulatedGan, *, layers: LayerRange, seed: int, count: int = LEADING
) -> Directions:
    """The leading directions of a layer range, with the spread of w along each.

    Args:
        gan: The generator.
        layers: Layers whose weights are factorized, and which views move.
        seed: Seed of the random styles whose spread is measured.
        count: Directions at most.

    Returns:
        Directions with `eigenvalue` as evidence: the sum of squared changes of the
        normalized styles for a step of length 1.

    Raises:
        RequestError: the generator has no layer in the range.
    """
    vectors, values = factorize(style_weights(gan, layers), count)
    styles = random_styles(gan, rng_for(seed, "sefa", "spread"), SPREAD_SAMPLES)
    return Directions(
        vectors=vectors.float()[:, None],
        scale=spread_along(styles, vectors),
        names=tuple(f"eigenvector {row}" for row in range(len(vectors))),
        layers=layers,
        evidence={"eigenvalue": values.float()},
    )
