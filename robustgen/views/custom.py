"""View families of the user's own.

The callable that a suite names returns a function
`(gan, w_plus [N, L, D], rngs, count) -> codes [N, count, L, D]`. `rngs` holds one
generator per image; whoever draws from it, view by view, gets the same views whatever
the batch and the count.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robustgen.attacks.isolation import isolated
from robustgen.errors import RequestError
from robustgen.making import make
from robustgen.types import Labels, StylesPlus
from robustgen.view_settings import CustomViews
from robustgen.views.draws import ViewCodes, ViewFamily, check_views, view_rngs
from robustgen.views.styles import ImageGenerator


def custom_views(
    settings: CustomViews,
    *,
    gan: ImageGenerator,
    seed: int,
    plugins: Sequence[str],
) -> ViewFamily:
    """The family that a factory or plugin makes, checked at every call.

    While it runs, the generator is frozen and in eval mode and the global generators
    are seeded from the images' indices. Gradients to the codes are kept, so that an
    attack may go backward through the views.

    Args:
        settings: Names the callable.
        gan: The generator.
        seed: Seed of the suite.
        plugins: Modules whose factories may run.

    Raises:
        RequestError: the callable may not run, fails, or returns nothing that can be
            called.
    """
    made = make(settings, "views", plugins)
    if not callable(made):
        raise RequestError(
            f"views '{settings.family}': the callable returned {type(made).__name__}; "
            "expected a function (gan, w_plus, rngs, count) -> codes."
        )
    network = nn.ModuleList([gan] if isinstance(gan, nn.Module) else [])

    def vary(
        w_plus: StylesPlus, samples: Sequence[int], labels: Labels | None
    ) -> ViewCodes:
        del labels
        check_views(w_plus, samples, settings.count)
        rngs = list(view_rngs(seed, settings.family, samples))
        wanted = torch.is_grad_enabled()
        with isolated(network, w_plus.device, rngs):
            codes = _checked(made(gan, w_plus, rngs, settings.count), w_plus, settings)
        return codes if wanted else codes.detach()

    return vary


def _checked(codes: object, w_plus: StylesPlus, settings: CustomViews) -> ViewCodes:
    """The codes, on the device and in the type of those that they vary."""
    expected = [len(w_plus), settings.count, *w_plus.shape[1:]]
    if not isinstance(codes, Tensor):
        raise RequestError(
            f"views '{settings.family}' returned {type(codes).__name__}; expected "
            f"codes {expected}."
        )
    if list(codes.shape) != expected or not codes.is_floating_point():
        raise RequestError(
            f"views '{settings.family}' returned codes of shape {list(codes.shape)} "
            f"and type {codes.dtype}; expected floats {expected}."
        )
    if not bool(codes.isfinite().all()):
        raise RequestError(
            f"views '{settings.family}' returned codes that are not finite."
        )
    return codes.to(w_plus)
