"""One path of a defense as attacks see it: what it answers, and where gradients are.

Whatever a path draws at random belongs to a `Draw`, a numbered draw of one stream. So
attacking, selecting and scoring never share a draw, and every number can be repeated.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, final, runtime_checkable

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from robustgen.errors import RequestError
from robustgen.projectors.loss import Gan
from robustgen.projectors.method import Projection, ProjectionMethod
from robustgen.seeding import derive_seed
from robustgen.types import Images, Logits, LogitsFn, StylesPlus

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
        encode: Images and their rows to the codes at which the projection starts, with
            gradients to the images; None where no gradient passes or there is no
            encoder.
        projector: The projection method.
        project: Images, their rows and a draw to their projection, as the path does it.
    """

    gan: Gan
    encode: Callable[[Images, Rows], StylesPlus] | None
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


def connected(logits: Logits, images: Images) -> Logits:
    """The same logits, in whose graph the images are.

    Where nothing leads from them to the images, the gradient is zero instead of an
    error. That is evidence: a check counts zero gradients.
    """
    return logits + 0 * images.flatten(1).sum(dim=1, keepdim=True)


@runtime_checkable
class SharedForward(Protocol):
    """A forward that does once what all draws of an image have in common."""

    def over(
        self, images: Images, rows: Rows, draws: Sequence[Draw]
    ) -> Sequence[Logits]:
        """Log-probabilities `[n, K]` of each draw."""
        ...


@final
class ExpectedLogits(nn.Module):
    """A random forward as one classifier: mean log-probabilities over fresh draws.

    Each evaluation of an image takes the next `draws` numbers of the stream, so the
    gradient of any loss that an attack puts on top is a fresh estimate of the expected
    one (EOT, arXiv:1707.07397). Every image counts on its own: what it meets does not
    hang on how often an attack asks about others.

    Args:
        forward: What to evaluate.
        networks: Networks behind it; registered, so that `isolated` finds them.
        count: Images of the batch.
        draws: Draws to average; 1 for a path that draws nothing.
        stream: Where they come from.
        start: Number of the first draw.

    Raises:
        RequestError: `count` or `draws` is below 1, or `start` below 0.
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
        for name, value, least in (
            ("count", count, 1),
            ("draws", draws, 1),
            ("start", start, 0),
        ):
            if value < least:
                raise RequestError(f"`{name}={value}` must be {least} or more.")
        self.networks = networks
        self._forward = (forward,)  # a tuple: a module here would be registered
        self._draws = draws
        self._stream: Stream = stream
        self._next = [start] * count

    def forward(self, images: Images) -> Logits:
        """Log-probabilities of the whole batch, or of its first images.

        Either way the draws of all images are used up, so that those of an image do
        not hang on its place in the batch.

        Raises:
            RequestError: more images than the batch has.
        """
        count = len(self._next)
        if len(images) > count:
            raise RequestError(
                f"{len(images)} images of a batch of {count}: say by `of(rows)` which "
                "image each of them was made from."
            )
        return self._mean(images, list(range(len(images))), list(range(count)))

    def of(self, rows: Rows) -> LogitsFn:
        """The same for images made from these rows of the batch.

        A row may occur several times; its images then meet the same draws.
        """
        numbers: list[int] = rows.tolist()
        return lambda images: self._mean(images, numbers, numbers)

    def _mean(self, images: Images, rows: Sequence[int], used: Sequence[int]) -> Logits:
        starts = [self._next[row] for row in rows]
        for row in set(used):
            self._next[row] += self._draws
        if len(set(starts)) == 1:
            return self._average(images, rows, starts[0])
        parts: list[Tensor] = []
        order: list[int] = []
        for start in sorted(set(starts)):
            some = [place for place, each in enumerate(starts) if each == start]
            parts.append(
                self._average(images[some], [rows[place] for place in some], start)
            )
            order.extend(some)
        places = torch.tensor(order, device=images.device)
        return torch.cat(parts)[places.argsort()]

    def _average(self, images: Images, rows: Sequence[int], start: int) -> Logits:
        """Mean of the draws from `start` on."""
        forward = self._forward[0]
        at = torch.tensor(rows, device=images.device)
        draws = [Draw(self._stream, start + number) for number in range(self._draws)]
        if isinstance(forward, SharedForward):
            found = forward.over(images, at, draws)
        else:
            found = [forward(images, at, draw) for draw in draws]
        total = found[0]
        for logits in found[1:]:
            total = total + logits
        return total / self._draws
