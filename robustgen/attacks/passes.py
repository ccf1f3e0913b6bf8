"""Counts the passes that each image cost, and follows how an attack went on it."""

from functools import partial
from typing import Protocol, final, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from robustgen.attacks.logits import LogitsModule, margin
from robustgen.errors import RequestError
from robustgen.types import Flags, Images, Labels, Logits, LogitsFn


@runtime_checkable
class PerRow(Protocol):
    """A classifier that must know which images of the batch it is asked about."""

    def of(self, rows: Int64[Tensor, " some"]) -> LogitsFn:
        """The classifier, for images made from these rows of the batch only."""
        ...


@final
class PassCounter:
    """A classifier that counts and watches; the classifier itself gets no hook.

    A classifier with a method `of` (see `PerRow`) is always asked through it, so that
    what it holds for an image, such as its draws, stays with that image in any batch.

    Where one call asks about several variants of an image, the strongest of them
    stands for the call in the margins.

    Args:
        classifier: From images to logits.
        images: The clean images, [N, C, H, W].
        labels: Their true classes, [N].

    Attributes:
        forwards: Passes of each image through the classifier, [N].
        backwards: Passes of a gradient back to each image, [N].
        first_success: `forwards` of each image right after the call that first
            misclassified it, [N]; -1 if none did. A NaN misclassifies nothing.
        margin_first: Lead of the best wrong class in the first call about each image,
            [N]; NaN before the first, and where the logits were NaN.
        margin_best: The largest lead in all calls but those that gave NaN, [N].
        margin_last: The lead in the last call, [N].
    """

    def __init__(self, classifier: LogitsFn, images: Images, labels: Labels) -> None:
        self._classifier = classifier
        self._images = images
        self._labels = labels.cpu()
        self.forwards = torch.zeros(len(images), dtype=torch.int64)
        self.backwards = torch.zeros(len(images), dtype=torch.int64)
        self.first_success = torch.full_like(self.forwards, -1)
        self.margin_first = torch.full((len(images),), torch.nan)
        self.margin_best = self.margin_first.clone()
        self.margin_last = self.margin_first.clone()

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
        logits = checked_logits(
            asked_about(self._classifier, rows)(images), len(images)
        )
        self.forwards += passes
        self._watch(logits.detach(), rows, passes)
        # A copy: an attack may write into it, and the hook dies with it.
        logits = logits.clone()
        if logits.requires_grad:
            logits.register_hook(partial(_count, self.backwards, passes))
        return logits

    def _watch(
        self,
        logits: Float[Tensor, "some cls"],
        rows: Int64[Tensor, " some"],
        passes: Int64[Tensor, " all"],
    ) -> None:
        logits, labels = logits.cpu(), self._labels[rows]
        reached = margin(logits, labels).to(self.margin_best.dtype)
        known = ~reached.isnan()
        lead = torch.full_like(self.margin_best, torch.nan).scatter_reduce(
            0, rows[known], reached[known], "amax", include_self=False
        )
        asked = passes > 0
        first = asked & (self.forwards == passes)
        self.margin_first = torch.where(first, lead, self.margin_first)
        self.margin_best = torch.fmax(self.margin_best, lead)  # passes over NaN
        self.margin_last = torch.where(asked, lead, self.margin_last)

        broken = torch.zeros_like(asked)
        broken[rows[misclassified(logits, labels)]] = True
        new = broken & (self.first_success < 0)
        self.first_success = torch.where(new, self.forwards, self.first_success)


def _count(
    counts: Int64[Tensor, " all"], passes: Int64[Tensor, " all"], gradient: Tensor
) -> None:
    del gradient
    counts += passes


def misclassified(logits: Logits, labels: Labels) -> Flags:
    """Whether another class than the true one wins; never where a logit is NaN."""
    return (logits.argmax(dim=1) != labels) & ~margin(logits, labels).isnan()


def asked_about(classifier: LogitsFn, rows: Int64[Tensor, " some"]) -> LogitsFn:
    """A classifier for these rows of the batch, if it tells them apart at all."""
    return classifier.of(rows) if isinstance(classifier, PerRow) else classifier


def logits_of(logits_fn: LogitsFn, rows: Int64[Tensor, " some"]) -> LogitsFn:
    """`logits_fn` for a part of the batch, so that passes count for the right images.

    An attack need not call this. Without it, the passes of a part of the batch count
    for the clean images nearest to it.
    """
    if isinstance(logits_fn, LogitsModule):
        logits_fn = logits_fn.hidden[0]
    return asked_about(logits_fn, rows)


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
