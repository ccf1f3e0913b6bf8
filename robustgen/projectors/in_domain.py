"""In-domain inversion (IDInvert; Zhu et al., arXiv:2004.00049)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from robustgen.projectors.loss import Encoder, Gan, ProjectionLoss
from robustgen.projectors.method import Projection, check_chunk
from robustgen.projectors.minimum import check_budget
from robustgen.projectors.projector import Projector
from robustgen.types import Images, Labels, Masks


@dataclass(frozen=True, eq=False)
class InDomainProjector:
    """Adam from the encoder's code, on codes that the encoder would give.

    The latent term `MSE(w, E(G(w)))` keeps `w` where encoder and generator invert each
    other. For an image with a mask it is dropped, as the published code does where it
    fits a part of an image ("diffusion"). Unlike the published code the best point is
    returned, not the one after the last step.

    Args:
        gan: The generator.
        encoder: Where the search starts, and the latent term.
        loss: The terms; published is `pixel_term="l2"` of weight 1 on images in
            [-1, 1], squared differences of VGG features, and the `cycle` latent term of
            weight 2.
        passes: Evaluations of loss and gradient per image.
        steps: Steps at most; None for as many as the passes allow.
        tolerance: An image stops when its loss falls by no more than this share.
        rate: Step size, in units of w.
        chunk: Images that the networks see at once; None for as many as suit the
            device.

    Raises:
        RequestError: a bound is out of range.
    """

    gan: Gan
    encoder: Encoder
    loss: ProjectionLoss
    passes: int = 100
    steps: int | None = None
    tolerance: float = 0.0
    rate: float = 0.01
    chunk: int | None = None

    def __post_init__(self) -> None:
        check_budget(self.passes, self.steps, self.tolerance)
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
        search = self.search(masked=mask is not None)
        return search(images, mask, samples=samples, labels=labels)

    def search(self, *, masked: bool) -> Projector:
        """The hybrid projection that this is, for images with or without masks."""
        return Projector(
            self.gan,
            self.encoder,
            loss=replace(self.loss, latent_weight=0.0) if masked else self.loss,
            optimizer="adam",
            passes=self.passes,
            steps=self.steps,
            tolerance=self.tolerance,
            rate=self.rate,
            chunk=self.chunk,
        )
