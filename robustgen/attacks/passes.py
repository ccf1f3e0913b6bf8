"""Counts the forward and backward passes that each image cost."""

import torch
from jaxtyping import Int64
from torch import Tensor

from robustgen.errors import RequestError
from robustgen.types import Images, Logits, LogitsFn


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
        such as what is left unbroken, or several variants of each, a row counts for
        the clean image nearest to it in L2.
        """
        rows = self._rows_per_image(images)
        logits = checked_logits(self._classifier(images), len(images))
        self.forwards += rows

        def count(_: Tensor) -> None:
            self.backwards += rows

        # A copy: an attack may write into it, and the hook dies with it.
        logits = logits.clone()
        if logits.requires_grad:
            logits.register_hook(count)
        return logits

    def _rows_per_image(self, images: Images) -> Int64[Tensor, " n"]:
        total = len(self._images)
        if len(images) == total:
            return torch.ones(total, dtype=torch.int64)
        with torch.no_grad():
            gaps = torch.cdist(images.flatten(1), self._images.flatten(1))
            owners = gaps.argmin(dim=1)
        return torch.bincount(owners.cpu(), minlength=total)


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
