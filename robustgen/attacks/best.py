"""What the searches of one attack have found so far of each image."""

from typing import TypeAlias, final

import torch
from jaxtyping import Int64
from torch import Tensor

from robustgen.attacks.logits import margin
from robustgen.attacks.passes import logits_of, misclassified
from robustgen.errors import RequestError
from robustgen.threat import Threat
from robustgen.types import Flags, Images, Labels, Logits, LogitsFn, PerSample

Rows: TypeAlias = Int64[Tensor, " some"]
"""Which images of the batch a part of it holds."""


@final
class Best:
    """The strongest look at each image, over any number of searches.

    Args:
        clean: Clean images.
        labels: True classes.

    Attributes:
        images: The look with the largest margin; NaN before the first finite one.
        margin: That margin; NaN before the first finite one.
        broken: Whether a look was misclassified.
    """

    def __init__(self, clean: Images, labels: Labels) -> None:
        self.clean = clean
        self.labels = labels
        self.images = torch.full_like(clean, torch.nan)
        self.margin = clean.new_full((len(clean),), torch.nan)
        self.broken = torch.zeros_like(labels, dtype=torch.bool)

    def left(self) -> Rows:
        """The images that are not broken yet."""
        return (~self.broken).nonzero()[:, 0]

    def look(self, rows: Rows, x: Images, logits: Logits) -> Flags:
        """Remembers `x` where it is stronger than all before.

        Args:
            rows: Which images `x` was made from.
            x: Candidates, inside the threat set.
            logits: What the classifier says of them.

        Returns:
            Which of them are misclassified; never those with a logit that is NaN.
        """
        logits, labels = logits.detach(), self.labels[rows]
        reached = margin(logits, labels)
        wrong = misclassified(logits, labels)
        better = exceeds(reached, self.margin[rows])
        self.images[rows[better]] = x.detach()[better]
        self.margin[rows[better]] = reached[better]
        self.broken[rows[wrong]] = True
        return wrong


def look_at_clean(
    logits_fn: LogitsFn, images: Images, labels: Labels
) -> tuple[Best, Logits]:
    """The clean images as the first look, and their logits; one pass each.

    What is misclassified without an attack is broken, and comes back as it is.
    """
    best = Best(images, labels)
    rows = torch.arange(len(images), device=images.device)
    with torch.no_grad():
        logits = logits_of(logits_fn, rows)(images)
    best.look(rows, images, logits)
    return best, logits


def wrong_classes(logits: Logits, labels: Labels) -> Int64[Tensor, "batch wrong"]:
    """All classes but the true one, the most probable first.

    >>> wrong_classes(torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([1]))
    tensor([[2, 0]])
    """
    order = logits.argsort(dim=1, descending=True, stable=True)
    wrong = order != labels[:, None]
    return order[wrong].view(len(logits), logits.shape[1] - 1)


def exceeds(new: PerSample, old: PerSample) -> Flags:
    """Whether a number is larger; any number is larger than NaN, and NaN than none."""
    return (new > old) | (old.isnan() & ~new.isnan())


def gradient(value: PerSample, x: Images, *, keep: bool = False) -> Images:
    """Gradient of each value with respect to its own image.

    0 where it is not finite, and everywhere if the classifier gives none: an image
    then stays where it is, in place of turning into NaN or ending the attack.

    Args:
        value: One number per image, of which the sum is differentiated: the gradient
            of an image does not depend on its batch.
        x: The images.
        keep: Whether another gradient of the same pass follows.
    """
    if not value.requires_grad:
        return torch.zeros_like(x)
    (found,) = torch.autograd.grad(
        value.sum(), x, retain_graph=keep, allow_unused=True, materialize_grads=True
    )
    return torch.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0)


def per_image(values: Tensor) -> Tensor:
    """`[N]` as `[N, 1, 1, 1]`, to be combined with images."""
    return values.view(-1, 1, 1, 1)


def require_ball(name: str, threat: Threat) -> None:
    """Refuses a threat that is no ball of finite radius.

    Raises:
        RequestError: the norm is neither linf nor l2, or `eps` is infinite.
    """
    if threat.norm == "none" or threat.eps == torch.inf:
        raise RequestError(
            f"Attack '{name}' searches a ball of norm linf or l2 and finite radius; "
            f"the threat says `norm: {threat.norm}`, `eps: {threat.eps:g}`. Set both."
        )
