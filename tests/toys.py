"""Paths whose robustness is known, as victims made by hand."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustgen.adaptive.victim import (
    Draw,
    Forward,
    Generative,
    Rows,
    Victim,
    draw_ids,
)
from robustgen.budgets import BUDGETS, Budget
from robustgen.projectors.method import Projection, shared_projection
from robustgen.projectors.minimum import Minimum
from robustgen.rngs import rng_for
from robustgen.seeding import derive_seed

SIZE = 4
EPS = 0.1


def budget(**changes) -> Budget:
    """The smallest budget, with some numbers changed."""
    return Budget(**{**BUDGETS["smoke"].model_dump(), **changes})


@final
class Brightness(nn.Module):
    """Class 0 where the mean pixel is above one half: logits (z, -z).

    z is the sum of the pixels over one half, times the gain.
    """

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((1, SIZE, SIZE), gain))

    def forward(self, images: Tensor) -> Tensor:
        z = ((images - 0.5) * self.weight).flatten(1).sum(dim=1)
        return torch.stack([z, -z], dim=1)


def gray(*levels: float) -> Tensor:
    """Images of one level each."""
    return torch.tensor(levels).view(-1, 1, 1, 1).expand(-1, 1, SIZE, SIZE).clone()


def behind(
    classifier: nn.Module, change: Callable[[Tensor, Rows, Draw], Tensor]
) -> Forward:
    """The classifier behind a change of the images."""

    def forward(images: Tensor, rows: Rows, draw: Draw) -> Tensor:
        return F.log_softmax(classifier(change(images, rows, draw)), dim=1)

    return forward


def victim(
    predict: Forward,
    *,
    count: int,
    surrogates: Mapping[str, Forward] | None = None,
    classifier: nn.Module | None = None,
    random: bool = False,
    samples: tuple[int, ...] | None = None,
) -> Victim:
    """A path of two classes; surrogates are the path itself unless given."""
    classifier = Brightness() if classifier is None else classifier
    given = {"bpda_identity": predict} if surrogates is None else surrogates
    return Victim(
        path="toy",
        samples=tuple(range(count)) if samples is None else samples,
        classes=2,
        random=random,
        networks=classifier,
        classifier=classifier,
        predict=predict,
        surrogates=given,
        missing={"unrolled": "The toy projects nothing."},
    )


@final
class Ramps(nn.Module):
    """A generator of gray levels and ramps: two numbers, one code of one layer."""

    num_layers, w_dim = 1, 2

    def __init__(self) -> None:
        super().__init__()
        ramp = torch.linspace(-1, 1, SIZE).expand(SIZE, SIZE)
        basis = torch.stack([torch.ones(SIZE, SIZE), ramp]).flatten(1)
        self.register_buffer("basis", basis)
        self.basis: Tensor

    def synthesize(self, w_plus: Tensor) -> Tensor:
        return (w_plus[:, 0] @ self.basis).view(-1, 1, SIZE, SIZE)


@final
class LeastSquares(nn.Module):
    """The code nearest to an image, exactly: an encoder and a projection in one."""

    def __init__(self, gan: Ramps) -> None:
        super().__init__()
        self.gan = gan

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        del mask
        basis = self.gan.basis
        return (images.flatten(1) @ basis.T / basis.square().sum(dim=1))[:, None]


@final
class Project:
    """The projection of `LeastSquares` as a method."""

    def __init__(self, encoder: LeastSquares) -> None:
        self.encoder = encoder

    @property
    def gan(self) -> Ramps:
        return self.encoder.gan

    def __call__(
        self,
        images: Tensor,
        mask: Tensor | None = None,
        *,
        samples: Sequence[int] | None = None,
        labels: Tensor | None = None,
    ) -> Projection:
        del mask, samples, labels
        codes = self.encoder(images)
        loss = (self.gan.synthesize(codes) - images).square().mean(dim=(1, 2, 3))
        one = torch.ones(len(images), dtype=torch.int64)
        cost = Minimum(codes.flatten(1), loss, loss, one, one, one)
        return shared_projection(self.gan, codes, cost, chunk=8)


def projecting(*, count: int, encoder: bool = True, classifier: nn.Module) -> Victim:
    """A path that classifies the projection; encoder and projection are the same."""
    gan = Ramps()
    project = Project(LeastSquares(gan))

    def reconstruct(images: Tensor, rows: Rows, draw: Draw) -> Tensor:
        del rows, draw
        return gan.synthesize(project.encoder(images)).clamp(0, 1)

    forward = behind(classifier, reconstruct)
    return replace(
        victim(forward, count=count, classifier=classifier),
        networks=nn.ModuleList([classifier, project.encoder]),
        surrogates={"bpda_encoder": forward} if encoder else {},
        missing={} if encoder else {"bpda_encoder": "It has none."},
        generative=Generative(
            gan=gan,
            encode=(lambda images, rows: project.encoder(images)) if encoder else None,
            projector=project,
            project=lambda images, rows, draw: project(images),
        ),
    )


def identity(images: Tensor, rows: Rows, draw: Draw) -> Tensor:
    del rows, draw
    return images


def rounded(images: Tensor, rows: Rows, draw: Draw) -> Tensor:
    """Eight levels: no gradient."""
    del rows, draw
    return (images * 7).round() / 7


def rounded_straight_through(images: Tensor, rows: Rows, draw: Draw) -> Tensor:
    """Values of `rounded`, gradient of the identity."""
    return images + (rounded(images, rows, draw) - images).detach()


def noisy(std: float, samples: tuple[int, ...]) -> Callable[..., Tensor]:
    """Gaussian noise on the pixels that belongs to sample and draw."""

    def change(images: Tensor, rows: Rows, draw: Draw) -> Tensor:
        ids = draw_ids(0, "noise", [samples[row] for row in rows.tolist()], draw)
        noise = [torch.randn(images.shape[1:], generator=rng_for(i)) for i in ids]
        return images + std * torch.stack(noise)

    return change


@final
class Coin:
    """Right with probability p, whatever the image: nothing for an attack to find."""

    def __init__(self, p: float, labels: Tensor, samples: tuple[int, ...]) -> None:
        self.p, self.labels, self.samples = p, labels, samples

    def __call__(self, images: Tensor, rows: Rows, draw: Draw) -> Tensor:
        ids = draw_ids(0, "coin", [self.samples[row] for row in rows.tolist()], draw)
        right = torch.tensor([derive_seed(i) / 2**63 < self.p for i in ids])
        said = torch.where(right, self.labels[rows], 1 - self.labels[rows])
        logits = 3.0 * F.one_hot(said, 2) + 0.0 * images.flatten(1).sum(1)[:, None]
        return F.log_softmax(logits, dim=1)


@final
class Watched:
    """A forward that remembers the draws and rows that it was asked for."""

    def __init__(self, forward: Forward) -> None:
        self.forward = forward
        self.draws: list[Draw] = []
        self.asked = 0

    def __call__(self, images: Tensor, rows: Rows, draw: Draw) -> Tensor:
        self.draws.append(draw)
        self.asked += len(images)
        return self.forward(images, rows, draw)
