"""What every projection method takes and returns."""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from robustgen.errors import RequestError
from robustgen.projectors.loss import Gan
from robustgen.projectors.minimum import Minimum
from robustgen.types import Images, Labels, Masks, PerSample, StylesPlus

RANGE_SLACK = 1e-3
"""How far pixels may lie outside [0, 1] before they are taken for another range."""

ALL = slice(None)
"""All images of a projection."""


@runtime_checkable
class Decode(Protocol):
    """Codes of views to pictures, by the generator that the projection found.

    For most methods that is the shared generator; a method that tunes the generator or
    its noise for each image decodes the views of an image with what it found for it.
    """

    def __call__(
        self, codes: Float[Tensor, "n v l d"], rows: slice = ALL
    ) -> Float[Tensor, "n v c h w"]:
        """Pictures of views, not clamped, made in blocks that suit the device.

        Args:
            codes: Codes of the views of images of this projection.
            rows: Which images of the projection these are, in their order.

        Raises:
            RequestError: there are not as many codes as images.
        """
        ...


@dataclass(frozen=True, eq=False)
class Projection:
    """What a projection found, per image.

    Args:
        w_plus: The best style codes w*.
        images: The picture of `w_plus`, not clamped.
        loss: Loss at w*; never above `initial_loss`.
        initial_loss: Loss where the search starts.
        passes: Evaluations of the loss and its gradient.
        outcome: Why the search ended, a `robustgen.projectors.minimum.Outcome`.
        decode: Pictures of codes near `w_plus`, made as `images` is.
    """

    w_plus: StylesPlus
    images: Images
    loss: PerSample
    initial_loss: PerSample
    passes: Int64[Tensor, " batch"]
    outcome: Int64[Tensor, " batch"]
    decode: Decode


@runtime_checkable
class ProjectionMethod(Protocol):
    """Finds style codes whose pictures are near to given images.

    No result depends on the other images of the batch, on their number or order, except
    for how networks round. No parameter of a network changes.
    """

    @property
    def gan(self) -> Gan:
        """The generator."""
        ...

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
            samples: Index of each image in its data set, on which its random draws
                hang; None for 0 to N - 1. Methods without draws ignore it.
            labels: Predicted classes, for a class-conditional generator; others ignore
                them.

        Raises:
            RequestError: shapes, ranges or values make no sense, or networks do not fit
                together.
        """
        ...


@contextmanager
def projecting(
    images: Tensor, mask: Tensor | None, networks: Iterable[object]
) -> Generator[tuple[Images, Masks | None]]:
    """Checked images and mask; inside, networks are in eval mode and gradients off.

    Inference mode ends inside, since gradients of its tensors cannot be had.

    Raises:
        RequestError: images or mask make no sense.
    """
    images = checked_images(images)
    mask = None if mask is None else checked_mask(mask, images)
    with evaluating(networks), torch.inference_mode(False), torch.no_grad():
        yield differentiable(images), None if mask is None else differentiable(mask)


def differentiable(tensor: Tensor) -> Tensor:
    """The tensor, or a copy that may take part in a gradient."""
    return tensor.clone() if tensor.is_inference() else tensor


@contextmanager
def evaluating(networks: Iterable[object]) -> Generator[None]:
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


Synthesize: TypeAlias = Callable[
    [Float[Tensor, "m l d"], Int64[Tensor, " m"]], Float[Tensor, "m c h w"]
]
"""Codes, and the number in the projection of the image that each belongs to."""


def decoder(
    synthesize: Synthesize, *, count: int, chunk: int, networks: Iterable[object]
) -> Decode:
    """A `Decode` that makes `chunk` pictures at once.

    Args:
        synthesize: Codes and numbers of their images to pictures.
        count: Images of the projection.
        chunk: Pictures made at once.
        networks: What is put into eval mode meanwhile.
    """
    networks = tuple(networks)

    def decode(codes: Tensor, rows: slice = ALL) -> Tensor:
        images = torch.arange(count, device=codes.device)[rows]
        if len(images) != len(codes):
            raise RequestError(
                f"Codes of the views of {len(codes)} images: this projection has "
                f"{len(images)} at {rows}."
            )
        owners = images.repeat_interleave(codes.shape[1])
        with evaluating(networks), torch.no_grad():
            blocks = [
                synthesize(block, some)
                for block, some in zip(
                    codes.flatten(0, 1).split(chunk), owners.split(chunk), strict=True
                )
            ]
        return torch.cat(blocks).unflatten(0, codes.shape[:2])

    return decode


def shared_projection(
    gan: Gan, w_plus: StylesPlus, minimum: Minimum, *, chunk: int
) -> Projection:
    """The projection to codes of the shared generator.

    Args:
        gan: The generator.
        w_plus: The codes found.
        minimum: What finding them cost.
        chunk: Pictures made at once.
    """

    def synthesize(codes: Tensor, owners: Tensor) -> Tensor:
        del owners
        return gan.synthesize(codes)

    decode = decoder(synthesize, count=len(w_plus), chunk=chunk, networks=(gan,))
    return projection_of(w_plus, minimum, decode)


def projection_of(w_plus: StylesPlus, minimum: Minimum, decode: Decode) -> Projection:
    """The projection to these codes, whose pictures `decode` makes."""
    return Projection(
        w_plus=w_plus,
        images=decode(w_plus[:, None])[:, 0],
        loss=minimum.loss,
        initial_loss=minimum.initial_loss,
        passes=minimum.passes,
        outcome=minimum.outcome,
        decode=decode,
    )


def check_codes(codes: StylesPlus, gan: Gan) -> None:
    """Makes sure that an encoder's codes are those of the generator.

    Raises:
        RequestError: they have another shape.
    """
    expected = (gan.num_layers, gan.w_dim)
    if codes.shape[1:] != expected:
        raise RequestError(
            f"The encoder returns codes of shape {list(codes.shape)}: this "
            f"generator takes [N, {expected[0]}, {expected[1]}]."
        )


def check_chunk(chunk: int | None) -> None:
    """Makes sure that some images are evaluated at once.

    Raises:
        RequestError: `chunk` is below 1.
    """
    if chunk is not None and chunk < 1:
        raise RequestError(f"chunk is {chunk}: expected at least 1, or none.")


def sample_numbers(samples: Sequence[int] | None, count: int) -> tuple[int, ...]:
    """The index of each image in its data set; 0 to N - 1 where none are given.

    Raises:
        RequestError: there are not as many as images.
    """
    if samples is None:
        return tuple(range(count))
    if len(samples) != count:
        raise RequestError(
            f"{len(samples)} sample indices for {count} images: expected one for each."
        )
    return tuple(int(sample) for sample in samples)


def checked_images(images: Tensor) -> Images:
    """The images, detached.

    Raises:
        RequestError: the reason why they cannot be projected.
    """
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


def checked_mask(mask: Tensor, images: Images) -> Masks:
    """The mask, detached.

    Raises:
        RequestError: the reason why it cannot be used.
    """
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
