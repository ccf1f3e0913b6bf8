"""What attacks that climb a loss step by step share: starts, directions, reach."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from robustgen.attacks.attack import Rngs
from robustgen.attacks.logits import margin
from robustgen.errors import RequestError
from robustgen.threat import Norm, Threat
from robustgen.types import Images, Labels, Logits, PerSample

Loss: TypeAlias = Callable[[Logits, Labels], PerSample]
"""What an attack raises, one number per image."""


def cross_entropy(logits: Logits, labels: Labels) -> PerSample:
    """Minus the log-probability of the true class."""
    return F.cross_entropy(logits, labels, reduction="none")


LOSSES: Mapping[str, Loss] = MappingProxyType({"ce": cross_entropy, "margin": margin})
"""`ce` has no gradient left where float32 rounds the probability of the true class to
1; `margin`, the lead of the best wrong class, has one there too."""


def start_anywhere(images: Images, threat: Threat, rngs: Rngs) -> Images:
    """An even draw from the ball around each image, cut to [0, 1].

    Args:
        images: Clean images.
        threat: An `linf` or `l2` ball of finite radius.
        rngs: One generator per image. Consumed.
    """
    shape = images.shape[1:]
    if threat.norm == "linf":
        draws = [torch.rand(shape, generator=rng, device=rng.device) for rng in rngs]
        offset = (2 * torch.stack(draws).to(images) - 1) * threat.eps
    else:
        draws = [_in_the_unit_ball(shape, rng) for rng in rngs]
        offset = torch.stack(draws).to(images) * threat.eps
    return threat.clip(images + offset, images)


def _in_the_unit_ball(shape: torch.Size, rng: torch.Generator) -> Tensor:
    """An even direction, and a length that gives every shell its share of volume."""
    normal = torch.randn(shape, generator=rng, device=rng.device)
    length = torch.rand((), generator=rng, device=rng.device) ** (1 / shape.numel())
    return normal * (length / normal.norm().clamp(min=1e-30))


def uphill(gradient: Images, norm: Norm) -> Images:
    """The step that climbs most: the sign (`linf`), or length 1 along it (`l2`).

    A gradient of zero moves nothing. Its size does not matter, however small.
    """
    if norm == "linf":
        return gradient.sign()
    # Scaled first: the square of a small gradient would vanish in float32.
    scaled = gradient / _positive(gradient.flatten(1).abs().amax(dim=1))
    return scaled / _positive(scaled.flatten(1).norm(dim=1))


def per_mean(gradient: Images) -> Images:
    """The gradient over the mean of its absolute values; zero where it is zero."""
    size = gradient.flatten(1).abs()
    scaled = gradient / _positive(size.amax(dim=1))
    return scaled / _positive(scaled.flatten(1).abs().mean(dim=1))


def _positive(sizes: PerSample) -> Tensor:
    """Divisors of images: 1 in the place of 0, which divides nothing but zeros."""
    return torch.where(sizes > 0, sizes, 1.0).view(-1, 1, 1, 1)


def require_reach(
    name: str, threat: Threat, travel: float, *, random_start: bool
) -> None:
    """Refuses steps that together cannot cross the ball.

    Such an attack would make the classifier look robust.

    Args:
        name: What messages call the attack.
        threat: The ball.
        travel: Length of all steps, in its norm.
        random_start: Whether the far side may be 2 `eps` away, in place of `eps`.

    Raises:
        RequestError: they are too short, or the ball has no end.
    """
    needed = threat.eps * (2 if random_start else 1)
    if travel < needed * (1 - 1e-6):
        across = "2 x eps" if random_start else "eps"
        raise RequestError(
            f"Attack '{name}' cannot cross its ball: steps x step_size = {travel:.4g} "
            f"is below {across} = {needed:.4g}. Raise `steps` or `step_size`."
        )
