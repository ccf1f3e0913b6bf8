"""One path of a defense as attacks see it: what it answers, and where gradients are.

Whatever a path draws at random belongs to a `Draw`, a numbered draw of one stream. So
attacking, selecting and scoring never share a draw, and every number can be repeated.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, final

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from robustgen.projectors.loss import Encoder, Gan
from robustgen.projectors.method import Projection, ProjectionMethod
from robustgen.seeding import derive_seed
from robustgen.types import Images, Logits, LogitsFn

Stream: TypeAlias = Literal["attack", "select", "score"]

Rows: TypeAlias = Int64[Tensor, " n"]
"""Which images of the victim's batch the rows of a tensor belong to."""


@dataclass(frozen=True)
class Draw:
    """One independent realization of everything that a path draws.

    Args:
        stream: `attack`, `select` or `score`; no number of one is used for another.
        number: Of the draw in its stream, from 0.
    """

    stream: Stream
    number: int


Forward: TypeAlias = Callable[[Images, Rows, Draw], Logits]
"""`(images, rows, draw) -> log-probabilities [n, K]` of one draw of a path."""


@dataclass(frozen=True, eq=False)
class Generative:
    """The generative model of a path, for attacks that search its latent space.

    Args:
        gan: The generator.
        encoder: Images to codes; None where the defense has none.
        projector: The projection method.
        project: Images, their rows and a draw to their projection, as the path does it.
    """

    gan: Gan
    encoder: Encoder | None
    projector: ProjectionMethod
    project: Callable[[Images, Rows, Draw], Projection]


@dataclass(frozen=True, eq=False)
class Victim:
    """One path of a defense, for one batch of images.

    Args:
        path: Its name, such as `reconstruction` or `defense`.
        samples: Index of each image of the batch in its data set.
        classes: Number of classes K.
        random: Whether two draws of the path may differ.
        networks: All networks of it, which the framework freezes and restores.
        classifier: The undefended classifier: images in [0, 1] to logits.
        predict: The full path, without gradients; what is scored.
        surrogates: By tier (`bpda_identity`, `bpda_encoder`, `unrolled`): what the
            attack differentiates. Values are those of the full path, unless it says
            otherwise; gradients flow to the images. A tier that the path cannot offer
            is missing.
        missing: Why, for tiers that are missing.
        generative: The generative model; None for a defense of the user's own.
    """

    path: str
    samples: tuple[int, ...]
    classes: int
    random: bool
    networks: nn.Module
    classifier: nn.Module
    predict: Forward
    surrogates: Mapping[str, Forward]
    missing: Mapping[str, str] = field(default_factory=dict[str, str])
    generative: Generative | None = None


def draw_ids(
    seed: int, purpose: str, samples: Sequence[int], draw: Draw
) -> tuple[int, ...]:
    """Numbers that stand for sample indices where a path seeds its draws by them.

    Args:
        seed: Seed of the suite.
        purpose: What is drawn.
        samples: Index of each image in its data set.
        draw: Which realization.
    """
    return tuple(
        derive_seed(seed, "draw", purpose, draw.stream, draw.number, int(sample))
        for sample in samples
    )


@final
class ExpectedLogits(nn.Module):
    """A random forward as one classifier: mean log-probabilities over fresh draws.

    Each call takes the next `draws` numbers of the stream, so the gradient of any loss
    that an attack puts on top is a fresh estimate of the expected one (EOT,
    arXiv:1707.07397).

    Args:
        forward: What to evaluate.
        networks: Networks behind it; registered, so that `isolated` finds them.
        count: Images of the batch.
        draws: Draws to average; 1 for a path that draws nothing.
        stream: Where they come from.
        start: Number of the first draw.
    """

    def __init__(
        self,
        forward: Forward,
        networks: nn.Module,
        *,
        count: int,
        draws: int = 1,
        stream: Stream = "attack",
        start: int = 0,
    ) -> None:
        super().__init__()
        self.networks = networks
        self._forward = (forward,)  # a tuple: a module here would be registered
        self._count = count
        self._draws = draws
        self._stream: Stream = stream
        self._next: int = start

    def forward(self, images: Images) -> Logits:
        """Log-probabilities of the whole batch, or of its first images."""
        rows = torch.arange(len(images), device=images.device)
        return self._mean(images, rows)

    def of(self, rows: Rows) -> LogitsFn:
        """The same for images made from these rows of the batch."""
        return lambda images: self._mean(images, rows.to(images.device))

    def _mean(self, images: Images, rows: Rows) -> Logits:
        first = self._next
        self._next += self._draws
        total = self._forward[0](images, rows, Draw(self._stream, first))
        for number in range(first + 1, first + self._draws):
            total = total + self._forward[0](images, rows, Draw(self._stream, number))
        return total / self._draws
