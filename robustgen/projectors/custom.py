"""Projection methods of the user's own.

The callable that a suite names gets `gan`, `encoder`, `perceptual` (None where the pair
has none) and `seed` beside its own arguments. It returns one of two things:

* a function `(images, mask, samples, labels) -> w_plus [N, L, D]`. Its pictures are
  those of the shared generator, its loss is the mean absolute difference of pixels.
  Nobody sees its search: `passes` is 0 and `initial_loss` equals `loss`;
* an object with the attributes of `ProjectionMethod`, which says all of this itself.
  One of the methods that ship, with other settings or networks, is such an object.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robustgen.attacks.isolation import isolated
from robustgen.errors import RequestError
from robustgen.making import make
from robustgen.projection_settings import CustomProjection
from robustgen.projectors.encoder_only import projection_at_start
from robustgen.projectors.loss import (
    Encoder,
    Gan,
    Perceptual,
    ProjectionLoss,
    suitable_chunk,
    target_of,
)
from robustgen.projectors.method import (
    Projection,
    ProjectionMethod,
    projecting,
    sample_numbers,
)
from robustgen.rngs import rng_for
from robustgen.types import Images, Labels, Masks, StylesPlus

_OURS = "robustgen."


@dataclass(frozen=True, eq=False)
class CustomProjector:
    """A method of the user's own, checked at every call.

    While it runs, networks are frozen and in eval mode, gradients can be had, and the
    global generators are seeded from the images' indices; afterwards all is as before.

    Args:
        name: What messages call it.
        gan: The generator.
        encoder: The encoder that an attack may go backward through; None for none.
        perceptual: The perceptual distance, where there is one.
        method: What the user's callable returned.
        seed: Seed of the suite.
        random: Whether it draws random numbers; None where nobody knows, which attacks
            take for a yes.
    """

    name: str
    gan: Gan
    encoder: Encoder | None
    perceptual: Perceptual | None
    method: Callable[..., Any]
    seed: int
    random: bool | None = None

    def draws(self, images: Images) -> bool:
        """Whether the same images as other samples get other codes: asked twice.

        Raises:
            RequestError: what the method returned makes no sense.
        """
        count = len(images)
        one = self(images, samples=range(count))
        other = self(images, samples=range(count, 2 * count))
        return not torch.equal(one.w_plus, other.w_plus)

    def __call__(
        self,
        images: Images,
        mask: Masks | None = None,
        *,
        samples: Sequence[int] | None = None,
        labels: Labels | None = None,
    ) -> Projection:
        """Projects images; see `ProjectionMethod`.

        Raises:
            RequestError: images or mask make no sense, or the method returned neither
                a `Projection` of these images nor finite codes of the generator.
        """
        numbers = sample_numbers(samples, len(images))
        rngs = [rng_for(self.seed, "projection", number) for number in numbers]
        parts = (self.gan, self.encoder, self.perceptual)
        networks = nn.ModuleList([p for p in parts if isinstance(p, nn.Module)])
        with projecting(images, mask, parts) as (images, mask):
            with isolated(networks, images.device, rngs):
                if isinstance(self.method, ProjectionMethod):
                    found = self.method(images, mask, samples=numbers, labels=labels)
                else:
                    found = self.method(images, mask, numbers, labels)
            if isinstance(found, Projection):
                self._check(found.w_plus, images)
                return found
            return self._described(self._check(found, images), images, mask)

    def _check(self, codes: object, images: Images) -> StylesPlus:
        """The codes, detached, on the device and in the type of the images."""
        expected = [len(images), self.gan.num_layers, self.gan.w_dim]
        if not isinstance(codes, Tensor):
            raise RequestError(
                f"projection '{self.name}' returned {type(codes).__name__}; expected "
                f"codes w_plus {expected} or a robustgen.Projection."
            )
        if list(codes.shape) != expected or not codes.is_floating_point():
            raise RequestError(
                f"projection '{self.name}' returned codes of shape "
                f"{list(codes.shape)} and type {codes.dtype}; expected floats "
                f"{expected}."
            )
        wrong = (~codes.isfinite().flatten(1).all(dim=1)).nonzero().flatten().tolist()
        if wrong:
            raise RequestError(
                f"projection '{self.name}' returned codes that are not finite, for "
                f"image {wrong[0]} of the batch."
            )
        return codes.detach().to(images)

    def _described(
        self, codes: StylesPlus, images: Images, mask: Masks | None
    ) -> Projection:
        """The projection to codes that come without figures."""
        terms = ProjectionLoss(perceptual_weight=0.0, latent_weight=0.0)
        return projection_at_start(
            target_of(images, mask, encoder=None, terms=terms, codes=codes),
            gan=self.gan,
            encoder=None,
            terms=terms,
            chunk=suitable_chunk(images),
        )


def custom_projector(
    settings: CustomProjection,
    *,
    gan: Gan,
    encoder: Encoder | None,
    perceptual: Perceptual | None,
    seed: int,
    plugins: Sequence[str],
) -> ProjectionMethod:
    """The method that a factory or plugin makes.

    Args:
        settings: Names the callable.
        gan: The generator.
        encoder: The encoder, where there is one.
        perceptual: The perceptual distance, where there is one.
        seed: Seed of the suite.
        plugins: Modules whose factories may run.

    Raises:
        RequestError: the callable may not run, fails, or returns nothing that can be
            called.
    """
    made = make(
        settings,
        "projector",
        plugins,
        {"gan": gan, "encoder": encoder, "perceptual": perceptual, "seed": seed},
    )
    if not callable(made):
        raise RequestError(
            f"projection '{settings.method}': the callable returned "
            f"{type(made).__name__}; expected a function (images, mask, samples, "
            "labels) -> w_plus, or a projection method."
        )
    if isinstance(made, ProjectionMethod):
        # A method that ships keeps its type, by which an attack knows its search.
        if type(made).__module__.startswith(_OURS):
            return made
        gan = made.gan
    own, declared = getattr(made, "encoder", None), getattr(made, "random", None)
    return CustomProjector(
        name=settings.method,
        gan=gan,
        encoder=own if isinstance(own, Encoder) else encoder,
        perceptual=perceptual,
        method=made,
        seed=seed,
        random=declared if isinstance(declared, bool) else None,
    )
