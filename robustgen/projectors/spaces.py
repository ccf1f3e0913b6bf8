"""The latent spaces of a generator, and where a search without an encoder starts."""

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from robustgen.errors import RequestError
from robustgen.projectors.loss import Gan, Lift
from robustgen.rngs import rng_for
from robustgen.types import Labels, Latents, PerSample, Styles

Space: TypeAlias = Literal["z", "w", "w_plus"]
"""One latent of the mapping network, one style code, or one style code per layer."""

DRAWS = 10_000
"""Latents that the mean code is estimated from; the number of StyleGAN2's projector."""

_BLOCK = 1000


@runtime_checkable
class MappedGan(Gan, Protocol):
    """A generator with a mapping network."""

    @property
    def z_dim(self) -> int:
        """Length of a latent."""
        ...

    @property
    def num_classes(self) -> int:
        """Classes that condition the mapping network; 0 for none."""
        ...

    def map(
        self, z: Latents, labels: Labels | None = None, truncation: float = 1.0
    ) -> Styles:
        """Style codes of latents, of the class of `labels` where there are classes."""
        ...


@dataclass(frozen=True, eq=False)
class Center:
    """Where the codes of a generator, or of one of its classes, lie; one row an image.

    Args:
        w: The mean code.
        z: The latent, of `DRAWS`, whose code is nearest to it. The mean of all latents
            is zero, which the mapping network cannot normalize.
        spread: Root of the mean squared distance of a code from the mean code.
    """

    w: Styles
    z: Latents
    spread: PerSample


class Centers:
    """Estimates the center of a generator once, or of each class that is asked for.

    The latents it draws are the same for all generators, images and seeds: the mean
    code belongs to the generator.

    Args:
        gan: The generator.
    """

    def __init__(self, gan: MappedGan):
        self._gan = gan
        self._known: dict[int | None, Center] = {}

    def __call__(
        self, labels: Labels | None, count: int, device: torch.device
    ) -> Center:
        """The center that each of `count` images starts from."""
        classes = [None] * count if labels is None else labels.tolist()
        for label in set(classes) - self._known.keys():
            self._known[label] = self._estimate(label, device)
        rows = [self._known[label] for label in classes]
        return Center(
            torch.cat([row.w for row in rows]).to(device),
            torch.cat([row.z for row in rows]).to(device),
            torch.cat([row.spread for row in rows]).to(device),
        )

    def _estimate(self, label: int | None, device: torch.device) -> Center:
        rng = rng_for(0, "projection", "mean code")
        z = torch.randn(DRAWS, self._gan.z_dim, generator=rng).to(device)
        with torch.no_grad():
            w = torch.cat([self._gan.map(b, _all(label, b)) for b in z.split(_BLOCK)])
        mean = w.mean(dim=0, keepdim=True)
        distance = (w - mean).square().sum(dim=1)
        nearest = distance.argmin()
        return Center(mean, z[nearest][None], distance.mean().sqrt()[None])


def _all(label: int | None, z: Latents) -> Labels | None:
    if label is None:
        return None
    return torch.full((len(z),), label, dtype=torch.int64, device=z.device)


def class_labels(gan: MappedGan, labels: Labels | None, count: int) -> Labels | None:
    """The labels for the mapping network: None where it has no classes.

    Raises:
        RequestError: it has classes, but labels are missing or out of range.
    """
    if gan.num_classes == 0:
        return None
    if labels is None or labels.shape != (count,):
        raise RequestError(
            f"This generator has {gan.num_classes} classes: the projection needs the "
            f"predicted class of each of the {count} images."
        )
    if not bool(((labels >= 0) & (labels < gan.num_classes)).all()):
        raise RequestError(
            f"Labels from {int(labels.min())} to {int(labels.max())}: this generator "
            f"has classes 0 to {gan.num_classes - 1}."
        )
    return labels.clone() if labels.is_inference() else labels


def start_at(center: Center, space: Space, num_layers: int) -> Float[Tensor, "n p"]:
    """The point of a space, flattened, that is the center or nearest to it."""
    if space == "z":
        return center.z
    if space == "w":
        return center.w
    return center.w.repeat(1, num_layers)


def lift_from(space: Space, gan: Gan, labels: Labels | None) -> Lift:
    """From points of a space to style codes, one for each layer.

    Args:
        space: Where the points lie.
        gan: The generator; one with a mapping network for `z`.
        labels: Classes of all samples of the search, for the mapping network.

    Raises:
        RequestError: the space is `z` and the generator has no mapping network.
    """
    if space == "z":
        mapped = require_mapping(gan)

        def lift_z(points: Tensor, samples: Tensor) -> Tensor:
            w = mapped.map(points, None if labels is None else labels[samples])
            return w[:, None].expand(-1, gan.num_layers, -1)

        return lift_z

    def lift_w(points: Tensor, samples: Tensor) -> Tensor:
        del samples
        if space == "w":
            return points[:, None].expand(-1, gan.num_layers, -1)
        return points.unflatten(1, (gan.num_layers, gan.w_dim))

    return lift_w


def require_mapping(gan: Gan) -> MappedGan:
    """The generator, known to have a mapping network.

    Raises:
        RequestError: it has none.
    """
    if not isinstance(gan, MappedGan):
        raise RequestError(
            f"{type(gan).__name__} has no mapping network (`map`, `z_dim`, "
            "`num_classes`): this projection starts from its latents. Choose hybrid or "
            "encoder."
        )
    return gan
