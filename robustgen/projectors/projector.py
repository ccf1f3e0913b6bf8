"""The hybrid projection: an encoder's code, then a search from there."""

from collections.abc import Sequence
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from robustgen.errors import RequestError, unknown_name
from robustgen.projectors.adam import minimize_adam
from robustgen.projectors.lbfgs import minimize_lbfgs
from robustgen.projectors.loss import (
    Encoder,
    Gan,
    ProjectionLoss,
    ProjectionObjective,
    describe,
    suitable_chunk,
)
from robustgen.projectors.method import (
    Projection,
    check_chunk,
    check_codes,
    projecting,
    shared_projection,
)
from robustgen.projectors.minimum import Minimum, Objective, check_budget
from robustgen.types import Images, Labels, Masks

RATE = 0.05
"""Step size of Adam, in units of w: suits the few passes of a search from E(x)."""


class Projector:
    """Finds `w* = argmin loss(G(w), x)` from `w = E(x)`, for a batch at once.

    The hybrid of Zhu et al. (arXiv:1609.03552), and what *Ensembling with Deep
    Generative Views* does (arXiv:2104.14551, section 3.1).

    Every image has its own search; none depends on its neighbors, except for how the
    networks round in batches of different sizes. No parameter is changed or
    differentiated, and the networks run in eval mode, restored afterwards.

    Args:
        gan: The generator.
        encoder: Where the search starts, and the latent term of the loss.
        loss: The terms and their weights. By default L1 and the latent term alone,
            since a perceptual network must be given.
        optimizer: `lbfgs` falls faster in few passes. `adam` takes every step whether
            or not it helps, and keeps 4 points per image instead of 24.
        passes: Evaluations of loss and gradient per image, the cost unit. The default
            of 12 is for a start at a good encoder's code; from 10 on the accuracy of
            the defense gained nothing. The released code takes 200 to 500 steps.
        steps: Accepted steps at most; None for as many as the passes allow. With a
            number, images that never fail a trial stop after `steps + 1` passes.
        tolerance: An image stops when its loss falls by no more than this share. At 0,
            the default, every image uses all passes, so that cost and pass counts
            depend on nothing; above, easy images get cheaper.
        rate: Step size of `adam`, in units of w; `lbfgs` finds its own.
        chunk: Images that the networks see at once. None lets the device decide: on a
            CPU as many as its caches like, elsewhere all, for which its memory must
            suffice. Changes time and memory, and numbers by rounding alone.

    Raises:
        RequestError: a bound is out of range, or the optimizer unknown.
    """

    def __init__(
        self,
        gan: Gan,
        encoder: Encoder,
        *,
        loss: ProjectionLoss | None = None,
        optimizer: Literal["lbfgs", "adam"] = "lbfgs",
        passes: int = 12,
        steps: int | None = None,
        tolerance: float = 0.0,
        rate: float = RATE,
        chunk: int | None = None,
    ):
        if optimizer not in ("lbfgs", "adam"):
            raise unknown_name("optimizer", optimizer, ("lbfgs", "adam"))
        check_budget(passes, steps, tolerance)
        check_chunk(chunk)
        if not 0 < rate < float("inf"):
            raise RequestError(f"rate is {rate}: expected more than 0.")
        self.gan = gan
        self.encoder = encoder
        self.loss = ProjectionLoss(perceptual_weight=0.0) if loss is None else loss
        self.optimizer = optimizer
        self.passes = passes
        self.steps = steps
        self.tolerance = tolerance
        self.rate = rate
        self.chunk = chunk

    def __call__(
        self,
        images: Images,
        mask: Masks | None = None,
        *,
        samples: Sequence[int] | None = None,
        labels: Labels | None = None,
    ) -> Projection:
        """Projects images; works under `torch.no_grad` and in inference mode, too.

        Args:
            images: Pixels in [0, 1], attacked or not.
            mask: Weights of the pixels; those at 0 are not looked at. None for all.
            samples: Not used: nothing is drawn.
            labels: Not used: the encoder knows where to start.

        Raises:
            RequestError: shapes, ranges or values of images or mask make no sense, or
                encoder and generator do not fit together.
        """
        del samples, labels
        networks = (self.gan, self.encoder, self.loss.perceptual)
        with projecting(images, mask, networks) as (images, mask):
            target = describe(images, mask, encoder=self.encoder, terms=self.loss)
            check_codes(target.codes, self.gan)
            objective = ProjectionObjective(
                target,
                gan=self.gan,
                encoder=self.encoder,
                terms=self.loss,
                chunk=self.chunk,
            )
            minimum = self.minimize(
                objective, target.codes.flatten(1), passes=self.passes
            )
            w_plus = minimum.points.unflatten(1, target.codes.shape[1:])
            chunk = self.chunk or suitable_chunk(images)
            return shared_projection(self.gan, w_plus, minimum, chunk=chunk)

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
            blocks=self.gan.num_layers,
        )
