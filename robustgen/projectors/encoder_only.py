"""The encoder's code alone: pSp (arXiv:2008.00951) and e4e (arXiv:2102.02766).

How the encoder was trained is all that tells the two apart. Nothing is searched, so a
projection costs no pass; the loss is computed once, for the report.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from robustgen.projectors.loss import (
    Encoder,
    Gan,
    ProjectionLoss,
    Target,
    describe,
    loss_of,
    suitable_chunk,
)
from robustgen.projectors.method import (
    Projection,
    check_chunk,
    check_codes,
    projecting,
    shared_projection,
)
from robustgen.projectors.minimum import Minimum, Outcome
from robustgen.types import Images, Labels, Masks


def _pixels_alone() -> ProjectionLoss:
    return ProjectionLoss(perceptual_weight=0.0, latent_weight=0.0)


@dataclass(frozen=True, eq=False)
class EncoderProjector:
    """`w* = E(x)`.

    Args:
        gan: The generator.
        encoder: Images to codes.
        loss: What is reported as `loss` and `initial_loss`; by default L1 alone.
        chunk: Images that the networks see at once; None for as many as suit the
            device.

    Raises:
        RequestError: `chunk` is below 1.
    """

    gan: Gan
    encoder: Encoder
    loss: ProjectionLoss = field(default_factory=_pixels_alone)
    chunk: int | None = None

    def __post_init__(self) -> None:
        check_chunk(self.chunk)

    def __call__(
        self,
        images: Images,
        mask: Masks | None = None,
        *,
        samples: Sequence[int] | None = None,
        labels: Labels | None = None,
    ) -> Projection:
        """Projects images; see `ProjectionMethod`. `samples` and `labels` are not used.

        Raises:
            RequestError: shapes, ranges or values of images or mask make no sense, or
                encoder and generator do not fit together.
        """
        del samples, labels
        networks = (self.gan, self.encoder, self.loss.perceptual)
        with projecting(images, mask, networks) as (images, mask):
            chunk = self.chunk or suitable_chunk(images)
            target = describe(images, mask, encoder=self.encoder, terms=self.loss)
            check_codes(target.codes, self.gan)
            return projection_at_start(
                target,
                gan=self.gan,
                encoder=self.encoder,
                terms=self.loss,
                chunk=chunk,
            )


def projection_at_start(
    target: Target,
    *,
    gan: Gan,
    encoder: Encoder | None,
    terms: ProjectionLoss,
    chunk: int,
) -> Projection:
    """The projection to the codes of a target, with their loss and no search.

    Args:
        target: Images and their codes.
        gan: The generator.
        encoder: The encoder of the latent term; None where it needs none.
        terms: Weights of the loss.
        chunk: Images evaluated at once.
    """
    everyone = torch.arange(len(target.images), device=target.images.device)
    loss = torch.cat(
        [
            loss_of(
                target.codes[rows],
                target.select(rows),
                gan=gan,
                encoder=encoder,
                terms=terms,
            )
            for rows in everyone.split(chunk)
        ]
    )
    none = torch.zeros_like(everyone)
    minimum = Minimum(
        points=target.codes.flatten(1),
        initial_loss=loss,
        loss=loss,
        passes=none,
        steps=none,
        outcome=torch.full_like(none, Outcome.BUDGET),
    )
    return shared_projection(gan, target.codes, minimum, chunk=chunk)
