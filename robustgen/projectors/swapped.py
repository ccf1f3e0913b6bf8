"""A generator with some of its tensors replaced for a call; nothing of it changes."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, vmap

from robustgen.errors import RequestError
from robustgen.projectors.loss import Gan
from robustgen.types import Images, StylesPlus


class _Synthesis(nn.Module):
    """`synthesize` as `forward`, since that is what `functional_call` calls."""

    def __init__(self, gan: nn.Module):
        super().__init__()
        self.gan = gan

    def forward(self, w_plus: StylesPlus) -> Images:
        # Any: whether the module is a generator was asked by `require_module`.
        return self.gan.synthesize(w_plus)  # pyright: ignore[reportCallIssue]


def require_module(gan: Gan) -> nn.Module:
    """The generator, known to be a module whose tensors have names.

    Raises:
        RequestError: it is none.
    """
    if not isinstance(gan, nn.Module):
        raise RequestError(
            f"{type(gan).__name__} is no torch.nn.Module: this projection makes each "
            "image with tensors of its own. Choose hybrid or encoder."
        )
    return gan


def synthesize_with(
    gan: Gan, tensors: Mapping[str, Tensor], w_plus: StylesPlus
) -> Images:
    """Pictures by the generator with other parameters or buffers.

    Args:
        gan: The generator, a module.
        tensors: What replaces its tensors of these names; a buffer may have an axis for
            the images before its own, if the generator broadcasts it.
        w_plus: Style codes.

    Raises:
        RequestError: the generator is no module.
    """
    if not tensors:
        return gan.synthesize(w_plus)
    swapped = {f"gan.{name}": tensor for name, tensor in tensors.items()}
    return functional_call(_Synthesis(require_module(gan)), swapped, (w_plus,))


def synthesize_each(
    gan: Gan, tensors: Mapping[str, Float[Tensor, "n ..."]], w_plus: StylesPlus
) -> Images:
    """Pictures by as many generators as there are codes, each with its own tensors.

    All at once by `vmap`, whose convolutions have a group for each image. Forward and
    backward, one at a time took 1.2 times as long for 2 images of 32 px, 1.6 times for
    4 and 1.7 to 2.5 times for 8 to 32 (`benchmarks/methods.py --tuning`).

    Args:
        gan: The generator, a module.
        tensors: Parameters by name, with an axis for the images before their own.
        w_plus: Style codes.

    Raises:
        RequestError: the generator is no module.
    """
    if len(w_plus) == 1:
        alone = {name: tensor[0] for name, tensor in tensors.items()}
        return synthesize_with(gan, alone, w_plus)

    def one(own: Mapping[str, Tensor], code: Tensor) -> Tensor:
        return synthesize_with(gan, own, code[None])[0]

    return vmap(one)(dict(tensors), w_plus)


def tuned_parameters(gan: Gan, w_plus: StylesPlus) -> dict[str, Tensor]:
    """The parameters that pictures depend on, by name; detached, not copied.

    Args:
        gan: The generator, a module.
        w_plus: Codes of any picture.

    Raises:
        RequestError: the generator is no module, or pictures depend on no parameter.
    """
    parameters = {
        name: parameter.detach()
        for name, parameter in require_module(gan).named_parameters()
    }
    with torch.enable_grad():
        leaves = {name: p.clone().requires_grad_() for name, p in parameters.items()}
        pictures = synthesize_with(gan, leaves, w_plus[:1])
        if not pictures.requires_grad:
            raise RequestError(f"{type(gan).__name__} has no parameter to tune.")
        gradients = torch.autograd.grad(
            pictures.sum(), list(leaves.values()), allow_unused=True
        )
    return {
        name: parameter
        for (name, parameter), gradient in zip(
            parameters.items(), gradients, strict=True
        )
        # The stubs of torch do not know what `allow_unused` does.
        if gradient is not None  # pyright: ignore[reportUnnecessaryComparison]
    }
