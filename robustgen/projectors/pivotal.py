"""Pivotal tuning (PTI; Roich et al., arXiv:2106.05744)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from robustgen.errors import RequestError
from robustgen.projectors.adam import minimize_adam
from robustgen.projectors.loss import (
    Gan,
    ProjectionLoss,
    Target,
    describe,
    image_terms,
    masked_l2,
    suitable_chunk,
)
from robustgen.projectors.method import (
    Projection,
    ProjectionMethod,
    check_chunk,
    decoder,
    projecting,
    projection_of,
    sample_numbers,
)
from robustgen.projectors.minimum import Minimum, check_budget
from robustgen.projectors.spaces import class_labels, require_mapping
from robustgen.projectors.swapped import (
    synthesize_each,
    synthesize_with,
    tuned_parameters,
)
from robustgen.rngs import rng_for
from robustgen.types import Images, Labels, Masks

BLOCK = 8
"""Images whose generators are tuned at once, at most. Each holds seven copies of the
parameters while it is tuned: 10 MB for the generators that ship, 0.8 GB at 1,024 px."""


@dataclass(frozen=True)
class Locality:
    """Keeps the pictures of codes around the pivot as they were (section 3.3).

    Args:
        weight: Weight of the change of pixels and of features; published is 0.1. At 0
            the term is off, as in the published settings, and costs nothing.
        distance: How far from the pivot these codes lie, toward random ones.

    Raises:
        RequestError: a number is out of range.
    """

    weight: float = 0.0
    distance: float = 30.0

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise RequestError(f"locality_weight is {self.weight}: expected 0 or more.")
        if not 0 < self.distance < math.inf:
            raise RequestError(
                f"locality_distance is {self.distance}: expected more than 0."
            )


TRUNCATION = 0.5
"""Truncation of the random codes of the locality term; of the published code."""


@dataclass(frozen=True, eq=False)
class PivotalProjector:
    """A pivot code, then the generator tuned for each image while the code stays.

    Each image has a generator of its own, which decodes its views; the shared one is
    never changed. A tuned generator can reproduce an attack's pattern, too.

    Args:
        gan: The generator, a module.
        pivot: Finds the code; published is StyleGAN2's projector in W with 450 passes.
        loss: The terms of tuning; published is `pixel_term="l2"` on images in [-1, 1]
            and LPIPS, both of weight 1. No latent term.
        passes: Evaluations of loss and gradient in tuning.
        steps: Steps of tuning at most; None for as many as the passes allow.
        tolerance: Tuning stops when the loss fell by no more than this share in
            `descent.PATIENCE` passes.
        rate: Step size of Adam on the parameters.
        threshold: Tuning stops at this perceptual distance, where it has a weight.
        locality: What keeps pictures of other codes as they were.
        seed: Seed of the suite; the draws of an image hang on it and its index.
        chunk: Images tuned at once; None for as many as suit the device, at most
            `BLOCK`.

    Raises:
        RequestError: a bound is out of range, the loss has a latent term, or generator
            and pivot do not fit the method.
    """

    gan: Gan
    pivot: ProjectionMethod
    loss: ProjectionLoss
    passes: int = 350
    steps: int | None = None
    tolerance: float = 0.0
    rate: float = 3e-4
    threshold: float = 0.06
    locality: Locality = Locality()
    seed: int = 0
    chunk: int | None = None

    def __post_init__(self) -> None:
        check_budget(self.passes, self.steps, self.tolerance)
        check_chunk(self.chunk)
        if not 0 <= self.threshold < math.inf:
            raise RequestError(f"threshold is {self.threshold}: expected 0 or more.")
        if self.loss.latent_weight:
            raise RequestError(
                f"latent_weight is {self.loss.latent_weight}: tuning moves no code and "
                "has no latent term. Set it to 0."
            )
        if self.pivot.gan is not self.gan:
            raise RequestError("The pivot is found with another generator.")
        if self.locality.weight:
            require_mapping(self.gan)

    def __call__(
        self,
        images: Images,
        mask: Masks | None = None,
        *,
        samples: Sequence[int] | None = None,
        labels: Labels | None = None,
    ) -> Projection:
        """Projects images; see `ProjectionMethod`.

        Losses of the result are those of tuning, from the pivot on; `passes` counts
        those of the pivot, too.

        Raises:
            RequestError: shapes, ranges or values make no sense, or labels are missing
                for a generator with classes.
        """
        pivot = self.pivot(images, mask, samples=samples, labels=labels)
        numbers = sample_numbers(samples, len(images))
        networks = (self.gan, self.loss.perceptual)
        with projecting(images, mask, networks) as (images, mask):
            if self.locality.weight:
                labels = class_labels(require_mapping(self.gan), labels, len(images))
            target = describe(
                images, mask, encoder=None, terms=self.loss, codes=pivot.w_plus
            )
            shared = tuned_parameters(self.gan, pivot.w_plus)
            chunk = suitable_chunk(images)
            everyone = torch.arange(len(images), device=images.device)
            tuned = _joined(
                [
                    self._tune(
                        target.select(rows),
                        shared,
                        [numbers[row] for row in rows.tolist()],
                        None if labels is None else labels[rows],
                    )
                    for rows in everyone.split(self.chunk or min(BLOCK, chunk))
                ]
            )
            own = unflattened(tuned.points, shared)

            def synthesize(codes: Tensor, owners: Tensor) -> Tensor:
                # Views of an image share its generator, and so their convolutions.
                pictures = [
                    synthesize_with(
                        self.gan,
                        {name: tensor[owner] for name, tensor in own.items()},
                        codes[owners == owner],
                    )
                    for owner in owners.unique_consecutive().tolist()
                ]
                return torch.cat(pictures)

            decode = decoder(
                synthesize, count=len(images), chunk=chunk, networks=(self.gan,)
            )
            minimum = replace(tuned, passes=pivot.passes + tuned.passes)
            return projection_of(pivot.w_plus, minimum, decode)

    def _tune(
        self,
        target: Target,
        shared: Mapping[str, Tensor],
        numbers: Sequence[int],
        labels: Tensor | None,
    ) -> Minimum:
        """Tunes the generators of some images, side by side."""
        tuning = _Tuning(
            self,
            target,
            shared,
            [rng_for(self.seed, "projection", number, "tuning") for number in numbers],
            labels,
        )
        start = torch.cat([tensor.flatten() for tensor in shared.values()])
        return minimize_adam(
            tuning,
            start.repeat(len(numbers), 1),
            passes=self.passes,
            steps=self.steps,
            rate=self.rate,
            tolerance=self.tolerance,
            reached=tuning.reached,
        )


class _Tuning:
    """Loss and gradient of generators, one for each image: an `Objective`.

    Args:
        method: The settings.
        target: What to reconstruct; its codes are the pivots.
        shared: The parameters that are tuned, as the shared generator has them.
        rngs: Source of each image's random codes. Consumed.
        labels: Class of each image, where the generator has classes.
    """

    def __init__(
        self,
        method: PivotalProjector,
        target: Target,
        shared: Mapping[str, Tensor],
        rngs: list[torch.Generator],
        labels: Tensor | None,
    ):
        self._method = method
        self._target = target
        self._shared = shared
        self._rngs = rngs
        self._labels = labels
        self._perceptual = torch.full_like(target.codes[:, 0, 0], math.inf)

    def __call__(
        self, points: Float[Tensor, "n p"], samples: Int64[Tensor, " n"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, "n p"]]:
        method = self._method
        target = self._target.select(samples)
        around = self._codes_around(target.codes, samples)
        with torch.enable_grad():
            point = points.detach().requires_grad_()
            own = unflattened(point, self._shared)
            images = synthesize_each(method.gan, own, target.codes)
            terms = image_terms(images, target, method.loss)
            loss = terms.weighted(method.loss)
            if around is not None:
                images = synthesize_each(method.gan, own, around)
                loss = loss + method.locality.weight * self._change(images, around)
            # The sum keeps the gradient of each generator its own.
            (gradient,) = torch.autograd.grad(loss.sum(), point)
        if terms.perceptual is not None:
            self._perceptual[samples] = terms.perceptual.detach()
        return loss.detach(), gradient

    def reached(self, samples: Int64[Tensor, " n"]) -> Bool[Tensor, " n"]:
        """Which images were near enough when they were last looked at."""
        return self._perceptual[samples] <= self._method.threshold

    def _codes_around(self, pivots: Tensor, samples: Tensor) -> Tensor | None:
        """Codes at the distance of the locality term, toward random ones."""
        method = self._method
        if not method.locality.weight:
            return None
        gan = require_mapping(method.gan)
        draws = [
            torch.randn(gan.z_dim, generator=self._rngs[sample])
            for sample in samples.tolist()
        ]
        labels = None if self._labels is None else self._labels[samples]
        z = torch.stack(draws).to(pivots.device)
        away = gan.map(z, labels, truncation=TRUNCATION)[:, None] - pivots
        length = away.flatten(1).norm(dim=1)[:, None, None]
        return pivots + method.locality.distance * away / length

    def _change(self, images: Tensor, codes: Tensor) -> Tensor:
        """How far pictures are from those of the shared generator."""
        loss = self._method.loss
        with torch.no_grad():
            before = self._method.gan.synthesize(codes)
        change = loss.pixel_range**2 * masked_l2(images, before, None)
        if loss.perceptual is None or loss.perceptual_weight == 0:
            return change
        features = loss.perceptual.features(images)
        return change + loss.perceptual.compare(
            features, loss.perceptual.features(before)
        )


def unflattened(
    points: Float[Tensor, "n p"], like: Mapping[str, Tensor]
) -> dict[str, Float[Tensor, "n ..."]]:
    """Parameters by name, from one row of numbers for each image."""
    parts = points.split([tensor.numel() for tensor in like.values()], dim=1)
    return {
        name: part.unflatten(1, tensor.shape) if tensor.ndim else part[:, 0]
        for (name, tensor), part in zip(like.items(), parts, strict=True)
    }


def _joined(parts: Sequence[Minimum]) -> Minimum:
    """The minima of all images, from those of some each."""
    return Minimum(
        points=torch.cat([part.points for part in parts]),
        initial_loss=torch.cat([part.initial_loss for part in parts]),
        loss=torch.cat([part.loss for part in parts]),
        passes=torch.cat([part.passes for part in parts]),
        steps=torch.cat([part.steps for part in parts]),
        outcome=torch.cat([part.outcome for part in parts]),
    )
