"""What the projection minimizes: how far G(w) is from an image."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from robustgen.errors import RequestError
from robustgen.types import Images, Masks, PerSample, StylesPlus

CHUNK_PIXELS = 32 * 32 * 32
"""Pixels, over all images, that one evaluation on a CPU takes at once.

On one core the time per image was lowest for 32 images of 32 px and 8 of 64 px, and
within 10% of the lowest for 2 of 128 and 256 px; a batch of 64 at 32 px costs 14% more.
"""


@runtime_checkable
class Gan(Protocol):
    """The part of a generator that a projection needs."""

    @property
    def num_layers(self) -> int:
        """Number of style codes in a `w_plus`."""
        ...

    @property
    def w_dim(self) -> int:
        """Length of a style code."""
        ...

    def synthesize(self, w_plus: StylesPlus) -> Images:
        """Images of style codes, in pixel units, not clamped."""
        ...


@runtime_checkable
class Encoder(Protocol):
    """Maps images to style codes."""

    def __call__(self, images: Images, mask: Masks | None = None) -> StylesPlus:
        """Style codes `w_plus` of images, of which only the masked part counts."""
        ...


@runtime_checkable
class Perceptual(Protocol):
    """A distance of images that compares features."""

    def features(self, images: Images) -> tuple[Tensor, ...]:
        """What is compared; first axes are the images."""
        ...

    def compare(
        self, a: tuple[Tensor, ...], b: tuple[Tensor, ...], mask: Masks | None = None
    ) -> PerSample:
        """Distance of each image from the other, by their features."""
        ...


@dataclass(frozen=True, eq=False)
class ProjectionLoss:
    """Weights of the terms, in the form of the released code.

    `(1 - perceptual_weight) * L1(G(w), x) + perceptual_weight * P(G(w), x)
    + latent_weight * MSE(E(G(w)), E(x))`, where L1 and P count the masked pixels only.
    The text of *Ensembling with Deep Generative Views* (arXiv:2104.14551, section 3.1)
    writes the latent term as a distance of `w` itself from E(x); its code re-encodes
    the reconstruction, and that is what this does.

    Args:
        perceptual: The distance P; not needed where its weight is 0.
        perceptual_weight: Share of P against L1, in [0, 1]. More keeps texture and
            identity at the price of exact colors; 0 skips the network.
        latent_weight: How strongly the reconstruction must look to the encoder as the
            image does. It keeps `w` where the generator is plausible; 0 skips the
            encoder, which makes a pass about a third cheaper.
        pixel_range: Width of the range on which L1 is measured. 1 for pixels in
            [0, 1]; 2 for the scale of the released code, whose images are in [-1, 1],
            so that L1 weighs twice as much against the other terms.

    Raises:
        RequestError: a weight is out of range, or P is missing though it has a weight.
    """

    perceptual: Perceptual | None = None
    perceptual_weight: float = 0.5
    latent_weight: float = 0.25
    pixel_range: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.perceptual_weight <= 1:
            raise RequestError(
                f"perceptual_weight is {self.perceptual_weight}: expected a share in "
                "[0, 1], since the L1 term takes the rest."
            )
        if not 0 <= self.latent_weight < float("inf"):
            raise RequestError(
                f"latent_weight is {self.latent_weight}: expected 0 or more."
            )
        if not 0 < self.pixel_range < float("inf"):
            raise RequestError(
                f"pixel_range is {self.pixel_range}: expected more than 0."
            )
        if self.perceptual_weight > 0 and self.perceptual is None:
            raise RequestError(
                f"perceptual_weight is {self.perceptual_weight}, but no perceptual "
                "loss was given. Give one, or set the weight to 0."
            )


@dataclass(frozen=True, eq=False)
class Target:
    """An image batch, and all that the loss needs of it and of it alone.

    Args:
        images: What to reconstruct.
        mask: Pixels that count; None for all.
        features: Perceptual features of `images`; empty where they have no weight.
        codes: Encoder's codes of `images`.
    """

    images: Images
    mask: Masks | None
    features: tuple[Tensor, ...]
    codes: StylesPlus

    def select(self, samples: Int64[Tensor, " n"]) -> "Target":
        """The same for some of the images."""
        return Target(
            self.images[samples],
            None if self.mask is None else self.mask[samples],
            tuple(feature[samples] for feature in self.features),
            self.codes[samples],
        )


def masked_l1(a: Images, b: Images, mask: Masks | None) -> PerSample:
    """`sum(|a - b| * m) / sum(m)` of each image, `m` repeated over the channels."""
    distance = (a - b).abs()
    if mask is None:
        return distance.mean(dim=(1, 2, 3))
    weight = mask.sum(dim=(1, 2, 3)) * a.shape[1]
    return (distance * mask).sum(dim=(1, 2, 3)) / weight


@torch.no_grad()
def describe(
    images: Images, mask: Masks | None, *, encoder: Encoder, terms: ProjectionLoss
) -> Target:
    """Computes, once, what depends on the images to reconstruct alone."""
    features: tuple[Tensor, ...] = ()
    if terms.perceptual is not None and terms.perceptual_weight > 0:
        features = terms.perceptual.features(images)
    return Target(images, mask, features, encoder(images, mask))


def loss_of(
    w_plus: StylesPlus,
    target: Target,
    *,
    gan: Gan,
    encoder: Encoder,
    terms: ProjectionLoss,
) -> PerSample:
    """The loss of each image on its own; see `ProjectionLoss`.

    Raises:
        RequestError: the generator makes images of another shape.
    """
    images = gan.synthesize(w_plus)
    if images.shape != target.images.shape:
        raise RequestError(
            f"The generator makes images of shape {list(images.shape)}, but those to "
            f"project have {list(target.images.shape)}."
        )
    share = terms.perceptual_weight
    loss = (
        (1 - share) * terms.pixel_range * masked_l1(images, target.images, target.mask)
    )
    if terms.perceptual is not None and share > 0:
        features = terms.perceptual.features(images)
        loss = loss + share * terms.perceptual.compare(
            features, target.features, target.mask
        )
    if terms.latent_weight > 0:
        codes = encoder(images, target.mask)
        distance = (codes - target.codes).square().mean(dim=(1, 2))
        loss = loss + terms.latent_weight * distance
    return loss


class ProjectionObjective:
    """Loss and gradient of flattened style codes: an `Objective` for the minimizers.

    One call is one pass: every network that has a weight runs forward and backward
    once. Only the codes are differentiated, never a parameter.

    Args:
        target: Images and what is known of them.
        gan: The generator.
        encoder: The encoder of the latent term.
        terms: Weights.
        chunk: Images evaluated at once; None for as many as suit the device: all, but
            on a CPU no more than its caches like. It changes nothing but rounding.
    """

    def __init__(
        self,
        target: Target,
        *,
        gan: Gan,
        encoder: Encoder,
        terms: ProjectionLoss,
        chunk: int | None = None,
    ):
        self._target = target
        self._parts: tuple[Target, ...] = ()
        self._samples: Tensor | None = None
        self._chunk = chunk or suitable_chunk(target.images)
        self._gan, self._encoder, self._terms = gan, encoder, terms

    def __call__(
        self, points: Float[Tensor, "n p"], samples: Int64[Tensor, " n"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, "n p"]]:
        # Minimizers pass the same tensor until samples leave: select only then.
        if samples is not self._samples:
            chunks = samples.split(self._chunk)
            self._parts = tuple(self._target.select(chunk) for chunk in chunks)
            self._samples = samples
        codes = points.detach().unflatten(1, self._target.codes.shape[1:])
        losses: list[Tensor] = []
        gradients: list[Tensor] = []
        for part, some in zip(self._parts, codes.split(self._chunk), strict=True):
            with torch.enable_grad():
                w_plus = some.detach().requires_grad_()
                loss = loss_of(
                    w_plus,
                    part,
                    gan=self._gan,
                    encoder=self._encoder,
                    terms=self._terms,
                )
                # The sum keeps the gradient of each image its own; the mean would not.
                (gradient,) = torch.autograd.grad(loss.sum(), w_plus)
            losses.append(loss.detach())
            gradients.append(gradient.flatten(1))
        return torch.cat(losses), torch.cat(gradients)


def suitable_chunk(images: Images) -> int:
    """How many of these images one evaluation takes at once.

    >>> suitable_chunk(torch.zeros(64, 3, 32, 32))
    32
    >>> suitable_chunk(torch.zeros(5, 3, 32, 32))
    5
    """
    if images.device.type != "cpu":
        return len(images)
    height, width = images.shape[2:]
    return min(len(images), max(2, CHUNK_PIXELS // (height * width)))
