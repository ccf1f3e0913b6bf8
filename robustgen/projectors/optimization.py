"""Optimization from the mean code, without an encoder.

Image2StyleGAN (Abdal et al., arXiv:1904.03189) with Adam, and the projection of the
released code of *Ensembling with Deep Generative Views* for CIFAR-10 with L-BFGS, which
starts at the mean code of the predicted class.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from robustgen.errors import RequestError, unknown_name
from robustgen.projectors.adam import minimize_adam
from robustgen.projectors.lbfgs import minimize_lbfgs
from robustgen.projectors.loss import (
    Lift,
    ProjectionLoss,
    ProjectionObjective,
    describe,
    suitable_chunk,
)
from robustgen.projectors.method import (
    Projection,
    check_chunk,
    projecting,
    shared_projection,
)
from robustgen.projectors.minimum import Minimum, Objective, check_budget
from robustgen.projectors.spaces import (
    Centers,
    MappedGan,
    Space,
    class_labels,
    lift_from,
    start_at,
)
from robustgen.types import Images, Labels, Masks

RATE = 0.01
"""Step size of Adam, in units of the space, as published."""


@dataclass(frozen=True, eq=False)
class OptimizationProjector:
    """`w* = argmin loss(G(w), x)` from the mean code, in Z, W or W+.

    In Z the search starts at the latent whose code is nearest to the mean code. Unlike
    the published code the best point is returned, not the one after the last step.

    Args:
        gan: The generator. One with classes starts at the mean code of the class that
            `labels` names.
        loss: The terms. Published is the mean squared difference of pixels and one of
            VGG features, both of weight 1. Its latent term can be `start` only.
        space: Where the search goes on. `w_plus` fits nearest, `z` stays where the
            generator was trained.
        optimizer: `adam` as published, or `lbfgs`, which needs fewer passes.
        passes: Evaluations of loss and gradient per image.
        steps: Steps at most; None for as many as the passes allow.
        tolerance: An image stops when its loss falls by no more than this share.
        rate: Step size of `adam`, in units of the space.
        chunk: Images that the networks see at once; None for as many as suit the
            device.

    Raises:
        RequestError: a bound is out of range, a name unknown, or the loss needs an
            encoder.
    """

    gan: MappedGan
    loss: ProjectionLoss
    space: Space = "w_plus"
    optimizer: Literal["lbfgs", "adam"] = "adam"
    passes: int = 5000
    steps: int | None = None
    tolerance: float = 0.0
    rate: float = RATE
    chunk: int | None = None
    _centers: Centers = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.space not in ("z", "w", "w_plus"):
            raise unknown_name("space", self.space, ("z", "w", "w_plus"))
        if self.optimizer not in ("lbfgs", "adam"):
            raise unknown_name("optimizer", self.optimizer, ("lbfgs", "adam"))
        check_budget(self.passes, self.steps, self.tolerance)
        check_chunk(self.chunk)
        if self.loss.reads_codes:
            raise RequestError(
                f"latent_term is '{self.loss.latent_term}', which needs an encoder: "
                "optimization has none. Choose 'start', or a latent_weight of 0."
            )
        object.__setattr__(self, "_centers", Centers(self.gan))

    def __call__(
        self,
        images: Images,
        mask: Masks | None = None,
        *,
        samples: Sequence[int] | None = None,
        labels: Labels | None = None,
    ) -> Projection:
        """Projects images; see `ProjectionMethod`. `samples` is not used.

        Raises:
            RequestError: shapes, ranges or values make no sense, or labels are missing
                for a generator with classes.
        """
        del samples
        networks = (self.gan, self.loss.perceptual)
        with projecting(images, mask, networks) as (images, mask):
            start, lift = self.begin(images, labels)
            everyone = torch.arange(len(images), device=images.device)
            target = describe(
                images,
                mask,
                encoder=None,
                terms=self.loss,
                codes=lift(start, everyone),
            )
            objective = ProjectionObjective(
                target,
                gan=self.gan,
                encoder=None,
                terms=self.loss,
                chunk=self.chunk,
                lift=lift,
            )
            minimum = self.minimize(objective, start, passes=self.passes)
            chunk = self.chunk or suitable_chunk(images)
            w_plus = lift(minimum.points, everyone)
            return shared_projection(self.gan, w_plus, minimum, chunk=chunk)

    @property
    def blocks(self) -> int:
        """Style codes of a point, which L-BFGS scales one by one."""
        return self.gan.num_layers if self.space == "w_plus" else 1

    def begin(
        self, images: Images, labels: Labels | None
    ) -> tuple[Float[Tensor, "n p"], Lift]:
        """Where the search of each image starts, and how points become codes.

        Raises:
            RequestError: labels are missing for a generator with classes.
        """
        labels = class_labels(self.gan, labels, len(images))
        center = self._centers(labels, len(images), images.device)
        start = start_at(center, self.space, self.gan.num_layers).to(images)
        return start, lift_from(self.space, self.gan, labels)

    def minimize(
        self, objective: Objective, start: Float[Tensor, "n p"], *, passes: int
    ) -> Minimum:
        """The search alone, from these points, with as many passes."""
        if self.optimizer == "adam":
            return minimize_adam(
                objective,
                start,
                passes=passes,
                steps=self.steps,
                rate=self.rate,
                tolerance=self.tolerance,
            )
        return minimize_lbfgs(
            objective,
            start,
            passes=passes,
            steps=self.steps,
            tolerance=self.tolerance,
            blocks=self.blocks,
        )
