"""Carlini and Wagner's L2 attack: torchattacks', with its faults taken out.

What is changed in `torchattacks.CW` 3.5.1, each with a test that shows the fault there:

* Pixels at exactly 0 or 1 have no gradient through the tanh: images are moved into
  [0.001, 0.999] first.
* The true class is masked by multiplying its logit by 0, so where all logits are
  negative the loss is flat: it is masked with minus infinity.
* The search stops when the cost summed over the batch rises, so neighbors decide how
  far an image gets: it runs all its steps.
* `kappa` shapes the loss but not what counts as broken: it does here.
* One constant `c`: several, in rising order, each on the images not broken so far.
* An image that was not broken comes back clean: the strongest near miss comes back.
"""

from collections.abc import Sequence
from functools import partial
from typing import final

import torch
import torch.nn.functional as F
import torchattacks

from robustgen.attacks.attack import Attack, Rngs
from robustgen.attacks.checks import require, require_norm
from robustgen.attacks.logits import LogitsModule, margin
from robustgen.attacks.passes import logits_of
from robustgen.threat import Threat
from robustgen.types import Images, Labels, Logits, LogitsFn, PerSample

EDGE = 1e-3
"""How far pixels are kept from 0 and 1. At 1e-6 the tanh is still too flat to move."""


def build_cw(
    *,
    steps: int,
    learning_rate: float,
    constants: Sequence[float],
    confidence: float = 0.0,
) -> Attack:
    """CW with fixed settings; see `cw`.

    Raises:
        RequestError: a setting is out of its range.
    """
    rising = list(constants) == sorted(set(constants)) and len(constants) > 0
    positive = all(constant > 0 for constant in constants)
    require("cw", "steps", steps, "1 or more", met=steps >= 1)
    require("cw", "learning_rate", learning_rate, "above 0", met=learning_rate > 0)
    require("cw", "confidence", confidence, "0 or more", met=confidence >= 0)
    require(
        "cw",
        "constants",
        list(constants),
        "one or more rising numbers above 0",
        met=rising and positive,
    )
    return partial(
        cw,
        steps=steps,
        learning_rate=learning_rate,
        constants=tuple(constants),
        confidence=confidence,
    )


def cw(
    logits_fn: LogitsFn,
    images: Images,
    labels: Labels,
    threat: Threat,
    rngs: Rngs,
    *,
    steps: int,
    learning_rate: float,
    constants: Sequence[float],
    confidence: float = 0.0,
) -> Images:
    """The nearest misclassified image in L2 (arXiv:1608.04644, section VI-A).

    Minimizes |x - x0|^2 + c max(z_true - max_other z + confidence, 0) over the tanh
    space with Adam. Costs `steps` forward and backward passes per image and constant
    tried on it.

    Args:
        logits_fn: The classifier under attack.
        images: Clean images.
        labels: True classes, to get away from.
        threat: An `l2` ball. The search minimizes the distance and does not look at
            `eps`; the framework shortens what lies outside.
        rngs: Unused; the attack draws nothing.
        steps: Adam steps for each constant.
        learning_rate: Of Adam, in tanh space: a step moves a mid-gray pixel by at most
            about half of it, and a pixel near 0 or 1 by far less.
        constants: Weights `c` of the loss, rising; each is tried on the images that the
            ones before did not break. A larger one breaks more, from further away.
        confidence: Lead, in logits, of the wrong class that counts as broken.

    Returns:
        Per image the nearest broken iterate of the first constant that broke it; else,
        of all constants, the iterate with the largest margin, which is *not* broken.
        An image whose logits were never finite comes back as NaN, for the framework to
        count as a failure.

    Raises:
        RequestError: the threat is not `l2`.
    """
    del rngs
    require_norm("cw", threat, "l2")
    best = torch.full_like(images, torch.nan)
    best_margin = images.new_full((len(images),), -torch.inf)
    rows = torch.arange(len(images), device=images.device)

    for constant in constants:
        start, true = images[rows].clamp(EDGE, 1 - EDGE), labels[rows]
        search = _Search(logits_of(logits_fn, rows), start, true, confidence)
        module = LogitsModule(search, images.device)
        attack = _SoundCW(module, constant, steps, learning_rate, start[0].numel())
        nearest = attack(start, true)
        finite = torch.isfinite(nearest).flatten(1).all(dim=1)
        usable = (search.broken & finite).view(-1, 1, 1, 1)
        candidate = torch.where(usable, nearest, search.strongest)
        better = search.margin > best_margin[rows]
        best[rows[better]] = candidate[better]
        best_margin[rows[better]] = search.margin[better]
        rows = rows[~search.broken]
        if len(rows) == 0:
            break
    return best


@final
class _Search:
    """The classifier as one search sees it; remembers the strongest iterate of each.

    Attributes:
        broken: Whether an iterate was misclassified with the confidence asked for.
        margin: The largest margin so far, less the confidence.
        strongest: The iterate that reached it; NaN before the first finite one.
    """

    def __init__(
        self, logits_fn: LogitsFn, start: Images, labels: Labels, confidence: float
    ) -> None:
        self._logits_fn = logits_fn
        self._labels = labels
        self._confidence = confidence
        self.broken = torch.zeros_like(labels, dtype=torch.bool)
        self.margin = start.new_full((len(start),), -torch.inf)
        self.strongest = torch.full_like(start, torch.nan)

    def __call__(self, x: Images) -> Logits:
        """Logits whose true class is ahead by the confidence, so that it must fall."""
        logits = self._logits_fn(x)
        ahead = F.one_hot(self._labels, logits.shape[1]) * self._confidence
        logits = logits + ahead
        with torch.no_grad():
            reached = margin(logits, self._labels)
            stronger = reached > self.margin  # never for NaN
            self.margin = torch.where(stronger, reached, self.margin)
            self.strongest = torch.where(
                stronger.view(-1, 1, 1, 1), x.detach(), self.strongest
            )
            # By the rule of torchattacks: so we know which of its images are broken.
            wrong = logits.argmax(dim=1) != self._labels
            self.broken |= wrong & ~reached.isnan()
        return logits


@final
class _SoundCW(torchattacks.CW):
    """torchattacks' search with a loss that works for any logits and never stops."""

    def __init__(
        self,
        model: LogitsModule,
        constant: float,
        steps: int,
        learning_rate: float,
        pixels: int,
    ) -> None:
        super().__init__(model, kappa=0, steps=steps, lr=learning_rate)
        self.c = constant
        self._fall = 2 * pixels / constant
        self._calls = 0

    def f(self, outputs: Logits, labels: Labels) -> PerSample:
        """The gradient of the true class's lead, if it leads; a value that only falls.

        The base class reads the value only to stop once the cost of the batch rises.
        The cost is the squared distance, at most the number of pixels, plus c times
        this; falling by twice that number each step, it never rises.
        """
        loss = (-margin(outputs, labels)).clamp(min=0)
        self._calls += 1
        return loss - loss.detach() - self._calls * self._fall
