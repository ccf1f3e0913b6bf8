"""What the projection minimizes: how far G(w) is from an image."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from robustgen.errors import RequestError
from robustgen.types import Images, Masks, PerSample, StylesPlus

CHUNK_PIXELS = 32 * 32 * 32
"""Pixels, over all images, that one evaluation on a CPU takes at once.

On one core the time per image was lowest for 32 images of 32 px and 8 of 64 px, and
within 10% of the lowest for 2 of 128 and 256 px; a batch of 64 at 32 px costs 14% more.
"""

PAIRED_PIXELS = 256 * 256
"""Pixels of an image up to which two are taken at once at least. One of 1,024 px alone
needs 6 GB for a pass."""


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


SmallImages: TypeAlias = Float[Tensor, "batch channel small_height small_width"]
"""Images as they are compared."""

SmallMasks: TypeAlias = Float[Tensor, "batch 1 small_height small_width"]
"""Masks of such images."""

Lift: TypeAlias = Callable[[Float[Tensor, "n p"], Int64[Tensor, " n"]], StylesPlus]
"""Points of a search and the indices of their samples -> the style codes there."""


@dataclass(frozen=True, eq=False)
class ProjectionLoss:
    """The terms and their weights, by default in the form of the released code.

    `(1 - perceptual_weight) * L1(G(w), x) + perceptual_weight * P(G(w), x)
    + latent_weight * MSE(E(G(w)), E(x))`, where L1 and P count the masked pixels only.
    The text of *Ensembling with Deep Generative Views* (arXiv:2104.14551, section 3.1)
    writes the latent term as a distance of `w` itself from E(x); its code re-encodes
    the reconstruction, and that is the default here.

    Args:
        perceptual: The distance P; not needed where its weight is 0.
        perceptual_weight: Share of P against the pixel term, in [0, 1]. More keeps
            texture and identity at the price of exact colors; 0 skips the network.
            Beside a `pixel_weight` it is a weight of its own, 0 or more.
        latent_weight: Weight of the latent term. More keeps `w` where the generator is
            plausible; 0 skips the term and the encoder, which makes a pass about a
            third cheaper.
        pixel_range: Width of the range on which pixels are measured. 1 for pixels in
            [0, 1]; 2 for the scale of the released code, whose images are in [-1, 1],
            so that L1 weighs twice as much against the other terms, and L2 four times.
        pixel_term: `l1`, the mean of |G(w) - x|, or `l2`, the mean of its square.
        pixel_weight: Weight of the pixel term; None for what `perceptual_weight`
            leaves of 1.
        latent_term: `encoder`, MSE(E(G(w)), E(x)) of the released code; `start`,
            MSE(w, start), which needs no encoder and is what the paper writes where
            the start is E(x); `cycle`, MSE(w, E(G(w))) of in-domain inversion
            (arXiv:2004.00049).
        side: Larger images are area-averaged to this many pixels on a side before
            pixels and features are compared; None to compare them as they are.

    Raises:
        RequestError: a weight is out of range, P is missing though it has a weight, or
            no term looks at the image.
    """

    perceptual: Perceptual | None = None
    perceptual_weight: float = 0.5
    latent_weight: float = 0.25
    pixel_range: float = 1.0
    pixel_term: Literal["l1", "l2"] = "l1"
    pixel_weight: float | None = None
    latent_term: Literal["encoder", "cycle", "start"] = "encoder"
    side: int | None = None

    def __post_init__(self) -> None:
        if self.pixel_weight is None and not 0 <= self.perceptual_weight <= 1:
            raise RequestError(
                f"perceptual_weight is {self.perceptual_weight}: expected a share in "
                "[0, 1], since the pixel term takes the rest."
            )
        for name in ("perceptual_weight", "latent_weight", "pixel_weight"):
            weight: float | None = getattr(self, name)
            if weight is not None and not 0 <= weight < float("inf"):
                raise RequestError(f"{name} is {weight}: expected 0 or more.")
        if not 0 < self.pixel_range < float("inf"):
            raise RequestError(
                f"pixel_range is {self.pixel_range}: expected more than 0."
            )
        if self.side is not None and self.side < 1:
            raise RequestError(f"side is {self.side}: expected at least 1, or none.")
        if self.perceptual_weight > 0 and self.perceptual is None:
            raise RequestError(
                f"perceptual_weight is {self.perceptual_weight}, but no perceptual "
                "loss was given. Give one, or set the weight to 0."
            )
        if self.perceptual_weight == self.pixel_weight == 0:
            raise RequestError(
                "pixel_weight and perceptual_weight are 0: no term looks at the image."
            )

    @property
    def pixel_factor(self) -> float:
        """Weight of the pixel term on images in [0, 1]."""
        weight = self.pixel_weight
        weight = 1 - self.perceptual_weight if weight is None else weight
        return weight * self.pixel_range ** (1 if self.pixel_term == "l1" else 2)

    @property
    def reads_codes(self) -> bool:
        """Whether the latent term runs the encoder on the reconstruction."""
        return self.latent_weight > 0 and self.latent_term != "start"


@dataclass(frozen=True, eq=False)
class Target:
    """An image batch, and all that the loss needs of it and of it alone.

    Args:
        images: What to reconstruct.
        mask: Pixels that count; None for all.
        small: `images` as they are compared: no larger than the `side` of the loss.
        weight: `mask` of the same size.
        features: Perceptual features of `small`; empty where they have no weight.
        codes: What the latent term compares with: the encoder's codes of `images`, or
            those where the search starts.
    """

    images: Images
    mask: Masks | None
    small: SmallImages
    weight: SmallMasks | None
    features: tuple[Tensor, ...]
    codes: StylesPlus

    def select(self, samples: Int64[Tensor, " n"]) -> "Target":
        """The same for some of the images, one of them perhaps several times."""
        return Target(
            self.images[samples],
            None if self.mask is None else self.mask[samples],
            self.small[samples],
            None if self.weight is None else self.weight[samples],
            tuple(feature[samples] for feature in self.features),
            self.codes[samples],
        )


def masked_l1(a: Images, b: Images, mask: Masks | None) -> PerSample:
    """`sum(|a - b| * m) / sum(m)` of each image, `m` repeated over the channels."""
    return _masked_mean((a - b).abs(), mask)


def masked_l2(a: Images, b: Images, mask: Masks | None) -> PerSample:
    """`sum((a - b)^2 * m) / sum(m)` of each image, `m` repeated over the channels."""
    return _masked_mean((a - b).square(), mask)


def _masked_mean(distance: Images, mask: Masks | None) -> PerSample:
    if mask is None:
        return distance.mean(dim=(1, 2, 3))
    weight = mask.sum(dim=(1, 2, 3)) * distance.shape[1]
    return (distance * mask).sum(dim=(1, 2, 3)) / weight


def shrink(
    images: Images, mask: Masks | None, side: int | None
) -> tuple[SmallImages, SmallMasks | None]:
    """Images of at most `side` pixels on a side, by averaging what the mask shows.

    A pixel of the result under which the mask shows nothing is black and weighs 0.
    """
    height, width = images.shape[2:]
    if side is None or max(height, width) <= side:
        return images, mask
    largest = max(height, width)
    size = (max(1, height * side // largest), max(1, width * side // largest))
    if mask is None:
        return F.interpolate(images, size=size, mode="area"), None
    weight = F.interpolate(mask, size=size, mode="area")
    shown = F.interpolate(images * mask, size=size, mode="area")
    return torch.where(weight > 0, shown / weight.clamp(min=1e-12), 0.0), weight


def describe(
    images: Images,
    mask: Masks | None,
    *,
    encoder: Encoder | None,
    terms: ProjectionLoss,
    codes: StylesPlus | None = None,
) -> Target:
    """Computes, once, what depends on the images to reconstruct alone; no gradients.

    Args:
        images: What to reconstruct.
        mask: Pixels that count; None for all.
        encoder: The encoder, where the codes are its own.
        terms: Terms and weights of the loss.
        codes: Codes for the latent term; None for the encoder's codes of the images.

    Raises:
        RequestError: neither an encoder nor codes are given.
    """
    with torch.no_grad():
        return target_of(images, mask, encoder=encoder, terms=terms, codes=codes)


def target_of(
    images: Images,
    mask: Masks | None,
    *,
    encoder: Encoder | None,
    terms: ProjectionLoss,
    codes: StylesPlus | None = None,
) -> Target:
    """`describe`, differentiable with respect to the images."""
    if codes is None:
        codes = _required(encoder)(images, mask)
    small, weight = shrink(images, mask, terms.side)
    features: tuple[Tensor, ...] = ()
    if terms.perceptual is not None and terms.perceptual_weight > 0:
        features = terms.perceptual.features(small)
    return Target(images, mask, small, weight, features, codes)


def _required(encoder: Encoder | None) -> Encoder:
    if encoder is None:
        raise RequestError(
            "This projection needs an encoder, but none was given. Give one, or choose "
            "a method and a latent term without."
        )
    return encoder


def loss_of(
    w_plus: StylesPlus,
    target: Target,
    *,
    gan: Gan,
    encoder: Encoder | None,
    terms: ProjectionLoss,
) -> PerSample:
    """The loss of each image on its own; see `ProjectionLoss`.

    Raises:
        RequestError: the generator makes images of another shape, or the latent term
            needs an encoder and there is none.
    """
    images = gan.synthesize(w_plus)
    loss = image_terms(images, target, terms).weighted(terms)
    if terms.latent_weight > 0:
        made = _required(encoder)(images, target.mask) if terms.reads_codes else w_plus
        aim = w_plus if terms.latent_term == "cycle" else target.codes
        distance = (made - aim).square().mean(dim=(1, 2))
        loss = loss + terms.latent_weight * distance
    return loss


class ImageTerms(NamedTuple):
    """How far pictures are from the images to reconstruct, not weighted.

    Args:
        pixel: L1 or L2 of the pixels in [0, 1].
        perceptual: The perceptual distance; None where it has no weight.
    """

    pixel: PerSample
    perceptual: PerSample | None

    def weighted(self, terms: ProjectionLoss) -> PerSample:
        """The sum that the loss has of them."""
        loss = terms.pixel_factor * self.pixel
        if self.perceptual is None:
            return loss
        return loss + terms.perceptual_weight * self.perceptual


def image_terms(images: Images, target: Target, terms: ProjectionLoss) -> ImageTerms:
    """The terms that compare pictures, without the latent term.

    Raises:
        RequestError: the images have not the shape of those to project.
    """
    if images.shape != target.images.shape:
        raise RequestError(
            f"The generator makes images of shape {list(images.shape)}, but those to "
            f"project have {list(target.images.shape)}."
        )
    images, weight = shrink(images, target.mask, terms.side)
    compare = masked_l1 if terms.pixel_term == "l1" else masked_l2
    pixel = compare(images, target.small, weight)
    if terms.perceptual is None or terms.perceptual_weight == 0:
        return ImageTerms(pixel, None)
    features = terms.perceptual.features(images)
    return ImageTerms(
        pixel, terms.perceptual.compare(features, target.features, weight)
    )


class ProjectionObjective:
    """Loss and gradient of points in a latent space: an `Objective`.

    One call is one pass: every network that has a weight runs forward and backward
    once. Only the points are differentiated, never a parameter.

    Args:
        target: Images and what is known of them.
        gan: The generator.
        encoder: The encoder of the latent term; None where it needs none.
        terms: Weights.
        chunk: Images evaluated at once; None for as many as suit the device: all, but
            on a CPU no more than its caches like. It changes nothing but rounding.
        lift: Points to style codes; None where the points are flattened style codes.
    """

    def __init__(
        self,
        target: Target,
        *,
        gan: Gan,
        encoder: Encoder | None,
        terms: ProjectionLoss,
        chunk: int | None = None,
        lift: Lift | None = None,
    ):
        self._target = target
        self._parts: tuple[tuple[Tensor, Target], ...] = ()
        self._samples: Tensor | None = None
        self._chunk = chunk or suitable_chunk(target.images)
        self._gan, self._encoder, self._terms = gan, encoder, terms
        self._lift = lift or self._unflatten

    def __call__(
        self, points: Float[Tensor, "n p"], samples: Int64[Tensor, " n"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, "n p"]]:
        # Minimizers pass the same tensor until samples leave: select only then.
        if samples is not self._samples:
            chunks = samples.split(self._chunk)
            self._parts = tuple((some, self._target.select(some)) for some in chunks)
            self._samples = samples
        losses: list[Tensor] = []
        gradients: list[Tensor] = []
        blocks = points.detach().split(self._chunk)
        for (some, part), block in zip(self._parts, blocks, strict=True):
            with torch.enable_grad():
                point = block.detach().requires_grad_()
                loss = loss_of(
                    self._lift(point, some),
                    part,
                    gan=self._gan,
                    encoder=self._encoder,
                    terms=self._terms,
                )
                # The sum keeps the gradient of each image its own; the mean would not.
                (gradient,) = torch.autograd.grad(loss.sum(), point)
            losses.append(loss.detach())
            gradients.append(gradient)
        return torch.cat(losses), torch.cat(gradients)

    def _unflatten(
        self, points: Float[Tensor, "n p"], samples: Int64[Tensor, " n"]
    ) -> StylesPlus:
        del samples
        return points.unflatten(1, self._target.codes.shape[1:])


def suitable_chunk(images: Images) -> int:
    """How many of these images one evaluation takes at once.

    >>> suitable_chunk(torch.zeros(64, 3, 32, 32))
    32
    >>> suitable_chunk(torch.zeros(5, 3, 32, 32))
    5
    >>> suitable_chunk(torch.zeros(4, 1, 256, 256))
    2
    >>> suitable_chunk(torch.zeros(4, 1, 512, 512))
    1
    """
    if images.device.type != "cpu":
        return len(images)
    pixels = images.shape[2] * images.shape[3]
    least = 2 if pixels <= PAIRED_PIXELS else 1
    return min(len(images), max(least, CHUNK_PIXELS // pixels))
