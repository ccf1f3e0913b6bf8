"""Random numbers of views: the same ones whatever was drawn before or beside them.

A view belongs to (suite seed, family, sample, number of the view) and to nothing
else: not to the attack, the batch, the order or the number of views.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from robustgen.errors import RequestError
from robustgen.rngs import rng_for
from robustgen.types import Labels, StylesPlus

ViewCodes: TypeAlias = Float[Tensor, "batch view layer dim"]
"""Style codes of the views of each image."""

ViewFamily: TypeAlias = Callable[[StylesPlus, Sequence[int], Labels | None], ViewCodes]
"""`(w_plus [N, L, D], sample indices, predicted classes [N]) -> codes [N, V, L, D]`.

The classes are those that the classifier gives the images; None where nobody asked it.
"""


def view_rngs(
    seed: int, family: str, samples: Sequence[int]
) -> Iterator[torch.Generator]:
    """One generator per image, from which its views draw in turn."""
    return (rng_for(seed, "views", family, sample) for sample in samples)


def normals(rng: torch.Generator, count: int, *shape: int) -> Float[Tensor, "..."]:
    """Standard normal numbers `[count, *shape]`, drawn view by view.

    Torch redraws the tail of a long block of normals, so that one block for all views
    would tie the last view's numbers to `count`.
    """
    return torch.stack([torch.randn(shape, generator=rng) for _ in range(count)])


def check_views(w_plus: StylesPlus, samples: Sequence[int], count: int) -> None:
    """Makes sure that views can be drawn for these codes.

    Raises:
        RequestError: no view is asked for, or not every code has its sample index.
    """
    if count < 1:
        raise RequestError(f"`count={count}` views: ask for 1 or more.")
    if len(samples) != len(w_plus):
        raise RequestError(
            f"{len(samples)} sample indices for {len(w_plus)} images: every image "
            "needs its index in the data set, because its views are drawn from it."
        )


def check_size(name: str, value: float) -> None:
    """Makes sure that a size of perturbation is a number of 0 or more.

    Raises:
        RequestError: it is negative, infinite or not a number.
    """
    if not 0 <= value < float("inf"):
        raise RequestError(f"`{name}={value}` must be a finite number of 0 or more.")
