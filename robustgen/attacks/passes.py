"""Counts the forward and backward passes that each image cost."""

from functools import partial
from typing import final

import torch
from jaxtyping import Int64
from torch import Tensor

from robustgen.attacks.logits import LogitsModule
from robustgen.errors import RequestError
from robustgen.types import Images, Logits, LogitsFn


@final
class PassCounter:
    """A classifier that counts; the classifier itself gets no hook.

    Args:
        classifier: From images to logits.
        images: The clean images, [N, C, H, W].

    Attributes:
        forwards: Passes of each image through the classifier, [N].
        backwards: Passes of a gradient back to each image, [N].
    """

    def __init__(self, classifier: LogitsFn, images: Images) -> None:
        self._classifier = classifier
        self._images = images
        self.forwards = torch.zeros(len(images), dtype=torch.int64)
        self.backwards = torch.zeros(len(images), dtype=torch.int64)

    def __call__(self, images: Images) -> Logits:
        """Logits of any batch made from the clean images.

        A batch as long as the clean one is taken to be in its order. In any other,
        such as several variants of each, a row counts for the clean image nearest to
        it in L2; where an attack knows better, it says so by `of`.
        """
        if len(images) == len(self._images):
            return self._logits(images, torch.arange(len(images)))
        with torch.no_grad():
            gaps = torch.cdist(images.flatten(1), self._images.flatten(1))
        return self._logits(images, gaps.argmin(dim=1).cpu())

    def of(self, rows: Int64[Tensor, " some"]) -> LogitsFn:
        """The same classifier, for batches made from these clean images only."""
        return partial(self._logits, rows=rows.cpu())

    def _logits(self, images: Images, rows: Int64[Tensor, " some"]) -> Logits:
        passes = torch.bincount(rows, minlength=len(self._images))
        logits = checked_logits(self._classifier(images), len(images))
        self.forwards += passes

        def count(_: Tensor) -> None:
            self.backwards += passes

        # A copy: an attack may write into it, and the hook dies with it.
        logits = logits.clone()
        if logits.requires_grad:
            logits.register_hook(count)
        return logits


def logits_of(logits_fn: LogitsFn, rows: Int64[Tensor, " some"]) -> LogitsFn:
    """`logits_fn` for a part of the batch, so that passes count for the right images.

    An attack need not call this. Without it, the passes of a part of the batch count
    for the clean images nearest to it.
    """
    if isinstance(logits_fn, LogitsModule):
        logits_fn = logits_fn.hidden[0]
    return logits_fn.of(rows) if isinstance(logits_fn, PassCounter) else logits_fn


def checked_logits(logits: object, rows: int) -> Tensor:
    """The logits, if they are `[rows, K]` with K >= 2.

    Raises:
        RequestError: they are not.
    """
    expected = f"expected logits [{rows}, K] with K >= 2 classes"
    if not isinstance(logits, Tensor):
        raise RequestError(
            f"The classifier returned {type(logits).__name__}; {expected}."
        )
    if logits.ndim != 2 or len(logits) != rows or logits.shape[1] < 2:
        advice = (
            " For one score z per image, return the two logits [-z, z]."
            if logits.numel() == rows
            else ""
        )
        raise RequestError(
            f"The classifier returned shape {list(logits.shape)}; {expected}.{advice}"
        )
    return logits
