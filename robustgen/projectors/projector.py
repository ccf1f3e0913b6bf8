"""Projection: the style codes whose image is nearest to a given one."""

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Int64
from torch import Tensor, nn

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
from robustgen.projectors.minimum import Minimum, check_budget
from robustgen.types import Images, Masks, PerSample, StylesPlus

RANGE_SLACK = 1e-3
"""How far pixels may lie outside [0, 1] before they are taken for another range."""


@dataclass(frozen=True, eq=False)
class Projection:
    """What a projection found, per image.

    Args:
        w_plus: The best style codes w*.
        images: G(w*), not clamped.
        loss: Loss at w*; never above `initial_loss`.
        initial_loss: Loss at E(x), where the search starts.
        passes: Evaluations of the loss and its gradient.
        outcome: Why the search ended, a `robustgen.projectors.minimum.Outcome`.
    """

    w_plus: StylesPlus
    images: Images
    loss: PerSample
    initial_loss: PerSample
    passes: Int64[Tensor, " batch"]
    outcome: Int64[Tensor, " batch"]


class Projector:
    """Finds `w* = argmin loss(G(w), x)` from `w = E(x)`, for a batch at once.

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
        chunk: int | None = None,
    ):
        if optimizer not in ("lbfgs", "adam"):
            raise unknown_name("optimizer", optimizer, ("lbfgs", "adam"))
        check_budget(passes, steps, tolerance)
        if chunk is not None and chunk < 1:
            raise RequestError(f"chunk is {chunk}: expected at least 1, or none.")
        self.gan = gan
        self.encoder = encoder
        self.loss = ProjectionLoss(perceptual_weight=0.0) if loss is None else loss
        self.optimizer = optimizer
        self.passes = passes
        self.steps = steps
        self.tolerance = tolerance
        self.chunk = chunk

    def __call__(self, images: Images, mask: Masks | None = None) -> Projection:
        """Projects images; works under `torch.no_grad` and in inference mode, too.

        Args:
            images: Pixels in [0, 1], attacked or not.
            mask: Weights of the pixels; those at 0 are not looked at. None for all.

        Raises:
            RequestError: shapes, ranges or values of images or mask make no sense, or
                encoder and generator do not fit together.
        """
        images = _checked_images(images)
        mask = None if mask is None else _checked_mask(mask, images)
        networks = (self.gan, self.encoder, self.loss.perceptual)
        with _evaluating(networks), torch.inference_mode(False):
            if images.is_inference():
                images = images.clone()
            if mask is not None and mask.is_inference():
                mask = mask.clone()
            target = describe(images, mask, encoder=self.encoder, terms=self.loss)
            self._check_codes(target.codes)
            objective = ProjectionObjective(
                target,
                gan=self.gan,
                encoder=self.encoder,
                terms=self.loss,
                chunk=self.chunk,
            )
            with torch.no_grad():
                minimum = self._minimize(objective, target.codes.flatten(1))
                w_plus = minimum.points.unflatten(1, target.codes.shape[1:])
                blocks = w_plus.split(self.chunk or suitable_chunk(images))
                reconstruction = torch.cat([self.gan.synthesize(b) for b in blocks])
        return Projection(
            w_plus=w_plus,
            images=reconstruction,
            loss=minimum.loss,
            initial_loss=minimum.initial_loss,
            passes=minimum.passes,
            outcome=minimum.outcome,
        )

    def _minimize(self, objective: ProjectionObjective, start: Tensor) -> Minimum:
        if self.optimizer == "adam":
            return minimize_adam(
                objective,
                start,
                passes=self.passes,
                steps=self.steps,
                tolerance=self.tolerance,
            )
        return minimize_lbfgs(
            objective,
            start,
            passes=self.passes,
            steps=self.steps,
            tolerance=self.tolerance,
            blocks=self.gan.num_layers,
        )

    def _check_codes(self, codes: StylesPlus) -> None:
        expected = (self.gan.num_layers, self.gan.w_dim)
        if codes.shape[1:] != expected:
            raise RequestError(
                f"The encoder returns codes of shape {list(codes.shape)}: this "
                f"generator takes [N, {expected[0]}, {expected[1]}]."
            )


@contextmanager
def _evaluating(networks: Iterable[object]) -> Generator[None]:
    """Eval mode inside; afterwards every module is in the mode that it was in."""
    training = [
        module
        for network in networks
        if isinstance(network, nn.Module)
        for module in network.modules()
        if module.training
    ]
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True


def _checked_images(images: Tensor) -> Images:
    """The images, detached, or the reason why they cannot be projected."""
    if images.ndim != 4 or not images.is_floating_point():
        raise RequestError(
            f"Images of shape {list(images.shape)} and type {images.dtype}: expected "
            "floats [N, C, H, W]."
        )
    if images.numel() == 0:
        raise RequestError(f"Images of shape {list(images.shape)}: nothing to project.")
    if not images.isfinite().all():
        raise RequestError("Images to project hold NaN or infinite pixels.")
    low, high = images.min().item(), images.max().item()
    if low < -RANGE_SLACK or high > 1 + RANGE_SLACK:
        raise RequestError(
            f"Images to project lie in [{low:g}, {high:g}]: expected pixels in [0, 1]."
        )
    return images.detach()


def _checked_mask(mask: Tensor, images: Images) -> Masks:
    """The mask, detached, or the reason why it cannot be used."""
    expected = (len(images), 1, *images.shape[2:])
    if mask.shape != expected or not mask.is_floating_point():
        raise RequestError(
            f"A mask of shape {list(mask.shape)} and type {mask.dtype}: expected "
            f"floats {list(expected)}."
        )
    if not ((mask >= 0) & (mask <= 1)).all():
        raise RequestError("A mask holds values outside [0, 1].")
    empty = (mask.sum(dim=(1, 2, 3)) == 0).nonzero().flatten().tolist()
    if empty:
        raise RequestError(
            f"The mask of image {empty[0]} is zero everywhere: no pixel is left to "
            "compare."
        )
    return mask.detach()
