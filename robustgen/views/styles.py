"""Random styles of a generator, and how far they spread: the unit of a step in w."""

import itertools
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from robustgen.types import Labels, Styles

_ROWS = 4096
"""Latents mapped at once: bounds the memory."""

SPREAD_SAMPLES = 10_000
"""Random styles behind the spread along a direction: known to 1% (1 / sqrt(2 n))."""


@runtime_checkable
class MappingNetwork(Protocol):
    """The part of a generator that turns latents into styles."""

    @property
    def z_dim(self) -> int:
        """Width of a latent."""
        ...

    def map(
        self, z: Tensor, labels: Tensor | None = None, truncation: float = 1.0
    ) -> Tensor:
        """Style codes `[N, D]` of latents `[N, z_dim]`."""
        ...


@runtime_checkable
class ConditionalMapping(MappingNetwork, Protocol):
    """A mapping network that says how many classes it knows."""

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 where the generator has none."""
        ...


@runtime_checkable
class ImageGenerator(ConditionalMapping, Protocol):
    """A generator as far as its own random images need it."""

    @property
    def num_layers(self) -> int:
        """Number of style codes in a `w_plus`."""
        ...

    def synthesize(self, w_plus: Tensor) -> Tensor:
        """Images `[N, C, H, W]` of codes `[N, L, D]`, not clamped."""
        ...


def device_of(network: object) -> torch.device:
    """Where a network computes; the CPU for what is no module or has no weights."""
    if isinstance(network, nn.Module):
        for tensor in itertools.chain(network.parameters(), network.buffers()):
            return tensor.device
    return torch.device("cpu")


@torch.no_grad()
def random_styles(gan: ConditionalMapping, rng: torch.Generator, count: int) -> Styles:
    """Styles of random latents, not truncated.

    Args:
        gan: Generator; of a class-conditional one every class is drawn equally often
            on average.
        rng: Source of latents and classes. Consumed.
        count: How many.

    Returns:
        Styles `[count, D]`, on the device of the generator.
    """
    device = device_of(gan)
    blocks: list[Tensor] = []
    for rows in _blocks(count):
        z = torch.randn(rows, gan.z_dim, generator=rng)
        labels: Labels | None = None
        if gan.num_classes:
            drawn = torch.randint(gan.num_classes, (rows,), generator=rng)
            labels = drawn.to(device)
        blocks.append(gan.map(z.to(device), labels=labels))
    return torch.cat(blocks)


def spread_along(
    w: Styles, vectors: Float[Tensor, "direction dim"]
) -> Float[Tensor, " direction"]:
    """Standard deviation of styles along unit vectors, in units of w, on the CPU."""
    steps = w.detach().cpu().double() @ vectors.detach().cpu().double().T
    return steps.std(dim=0).float()


def with_positive_peak(
    vectors: Float[Tensor, "direction dim"],
) -> Float[Tensor, "direction dim"]:
    """The same lines, each pointing to where its largest entry is positive.

    The sign of an eigenvector is arbitrary; this makes it a matter of the numbers.
    """
    peak = vectors.gather(1, vectors.abs().argmax(dim=1, keepdim=True))
    return vectors * torch.where(peak < 0, -1.0, 1.0).to(vectors)


def _blocks(count: int) -> Iterator[int]:
    for start in range(0, count, _ROWS):
        yield min(_ROWS, count - start)
