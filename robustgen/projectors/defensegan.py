"""The projection of Defense-GAN (Samangouei et al., arXiv:1805.06605)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from robustgen.errors import RequestError
from robustgen.projectors.loss import (
    ProjectionLoss,
    ProjectionObjective,
    describe,
    suitable_chunk,
)
from robustgen.projectors.method import (
    Projection,
    check_chunk,
    projecting,
    sample_numbers,
    shared_projection,
)
from robustgen.projectors.minimum import Minimum, Objective, check_budget
from robustgen.projectors.momentum import minimize_momentum
from robustgen.projectors.spaces import MappedGan, class_labels, lift_from
from robustgen.rngs import rng_for
from robustgen.types import Images, Labels, Masks


@dataclass(frozen=True, eq=False)
class DefenseGanProjector:
    """`z* = argmin MSE(G(z), x)`, the best of several descents from random latents.

    Restarts of all images run side by side. Differences from the published code: a
    restart's best point counts, not its last one; and the step size does drop. (There
    the counter that the drop hangs on is never advanced.) Its generator reads `z` as it
    is; a StyleGAN2 normalizes it, so that a step turns `z` and lengthens it, and later
    steps turn it less.

    Args:
        gan: The generator. One with classes makes images of the class that `labels`
            names.
        restarts: Random starts, N(0, 1/d) for latents of length d.
        passes: Evaluations of loss and gradient of each restart.
        steps: Steps at most; None for as many as the passes allow.
        tolerance: A restart stops when its loss falls by no more than this share.
        rate: Step size, times the gradient.
        momentum: Share of the last step that goes on.
        drop: Factor of the step size from `drop_at` on.
        drop_at: Share of the passes after which the step size drops.
        pixel_range: Width of the range of pixels: a wider one makes steps longer.
        seed: Seed of the suite; the starts of an image hang on it and its index.
        chunk: Images that the generator makes at once; None for as many as suit the
            device.

    Raises:
        RequestError: a bound is out of range.
    """

    gan: MappedGan
    restarts: int = 10
    passes: int = 200
    steps: int | None = None
    tolerance: float = 0.0
    rate: float = 10.0
    momentum: float = 0.7
    drop: float = 0.1
    drop_at: float = 0.8
    pixel_range: float = 1.0
    seed: int = 0
    chunk: int | None = None

    def __post_init__(self) -> None:
        check_budget(self.passes, self.steps, self.tolerance)
        check_chunk(self.chunk)
        if self.restarts < 1:
            raise RequestError(f"restarts is {self.restarts}: expected at least 1.")

    def __call__(
        self,
        images: Images,
        mask: Masks | None = None,
        *,
        samples: Sequence[int] | None = None,
        labels: Labels | None = None,
    ) -> Projection:
        """Projects images; see `ProjectionMethod`.

        `passes` of the result counts those of all restarts; `initial_loss` is the
        lowest one at their starts, and `outcome` that of the best restart.

        Raises:
            RequestError: shapes, ranges or values make no sense, or labels are missing
                for a generator with classes.
        """
        terms = self.loss
        numbers = sample_numbers(samples, len(images))
        with projecting(images, mask, (self.gan,)) as (images, mask):
            labels = class_labels(self.gan, labels, len(images))
            start = self.starts(numbers).to(images)
            image = torch.arange(len(images), device=images.device)
            owner = image.repeat_interleave(self.restarts)
            lift = lift_from("z", self.gan, None if labels is None else labels[owner])
            codes = lift(start, torch.arange(len(owner), device=images.device))
            target = describe(
                images[owner],
                None if mask is None else mask[owner],
                encoder=None,
                terms=terms,
                codes=codes,
            )
            chunk = self.chunk or suitable_chunk(target.images)
            objective = ProjectionObjective(
                target, gan=self.gan, encoder=None, terms=terms, chunk=chunk, lift=lift
            )
            runs = self.minimize(objective, start, passes=self.passes)
            best = best_restarts(runs, self.restarts)
            w_plus = lift_from("z", self.gan, labels)(best.points, image)
            return shared_projection(self.gan, w_plus, best, chunk=chunk)

    @property
    def loss(self) -> ProjectionLoss:
        """Squared differences of pixels."""
        return ProjectionLoss(
            perceptual_weight=0.0,
            latent_weight=0.0,
            pixel_term="l2",
            pixel_range=self.pixel_range,
        )

    def starts(self, numbers: Sequence[int]) -> Float[Tensor, "n p"]:
        """The restarts of images that have these numbers, image by image."""
        size = (self.restarts, self.gan.z_dim)
        rngs = [rng_for(self.seed, "projection", number) for number in numbers]
        starts = torch.cat([torch.randn(size, generator=rng) for rng in rngs])
        return starts / math.sqrt(self.gan.z_dim)

    def minimize(
        self, objective: Objective, start: Float[Tensor, "n p"], *, passes: int
    ) -> Minimum:
        """The descents alone, from these points, with as many passes each."""
        return minimize_momentum(
            objective,
            start,
            passes=passes,
            steps=self.steps,
            rate=self.rate,
            momentum=self.momentum,
            drop=self.drop,
            drop_at=self.drop_at,
            tolerance=self.tolerance,
        )


def best_restarts(runs: Minimum, restarts: int) -> Minimum:
    """The best of each `restarts` consecutive rows; passes and steps are summed.

    A loss that is NaN is beaten by any other.
    """
    best = best_rows(runs, restarts)
    initial = runs.initial_loss.view(-1, restarts).nan_to_num(math.inf)
    return Minimum(
        points=runs.points[best],
        initial_loss=initial.amin(dim=1),
        loss=runs.loss[best],
        passes=runs.passes.view(-1, restarts).sum(dim=1),
        steps=runs.steps.view(-1, restarts).sum(dim=1),
        outcome=runs.outcome[best],
    )


def best_rows(runs: Minimum, restarts: int) -> Int64[Tensor, " m"]:
    """Number of the row of the lowest loss of each `restarts` consecutive ones."""
    loss = runs.loss.view(-1, restarts).nan_to_num(math.inf, posinf=math.inf)
    first = torch.arange(len(loss), device=loss.device) * restarts
    return first + loss.argmin(dim=1)
