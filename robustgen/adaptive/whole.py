"""A whole defense that a user brings, as a victim.

All that is known of it is `forward`, images in [0, 1] to logits. It may optimize
inside, be random, or have no gradient at all.

Rows that are probabilities, in [0, 1] with a sum of 1 to within 1e-4, count as such:
their logarithm is taken instead of a log-softmax. The decision is the same either way;
margins and confidences are those that the defense states.
"""

from collections.abc import Sequence
from typing import Protocol, final, runtime_checkable

import torch
from torch import Tensor, nn

from robustgen.adaptive.seeded import seeded
from robustgen.adaptive.victim import Draw, Forward, Rows, Victim, connected, draw_ids
from robustgen.attacks.isolation import isolated
from robustgen.attacks.passes import checked_logits
from robustgen.defense import ROWS
from robustgen.errors import RequestError
from robustgen.names import DEFENSE
from robustgen.projectors.method import differentiable
from robustgen.seeding import derive_seed
from robustgen.types import Images, Logits, LogitsFn

SURROGATE_TIERS = ("bpda_identity", "bpda_encoder", "unrolled")
"""Tiers for which a module's `surrogate(tier)` is asked."""

LEAST = 1e-30
"""Smallest probability that a module may state; its logarithm, and the slope of it,
are finite in float32."""

LOWEST = -1e30
"""Logit that stands for one of minus infinity, whose gradient would be NaN."""

SUM_SLACK = 1e-4
"""How far the sum of probabilities may be from 1: rounding of half precision."""

ROUNDING = 1e-4
"""Difference of logits, relative above 1, that is not taken for randomness."""


@runtime_checkable
class OffersSurrogates(Protocol):
    """A module that says how it is best differentiated."""

    def surrogate(self, tier: str) -> LogitsFn | None:
        """A differentiable function from images to logits; None for the default."""
        ...


def whole_victim(
    module: nn.Module,
    classifier: nn.Module,
    samples: Sequence[int],
    *,
    classes: int,
    random: bool,
    seed: int,
) -> Victim:
    """The victim of one batch for a defense that is one module.

    A random module is run one image and one draw at a time, with all generators that
    it may draw from seeded by (seed, stream, draw, sample): a result hangs neither on
    the batch nor on anything that ran before. A deterministic one runs in batches.

    Surrogates, each replaced by the module's own `surrogate(tier)` where it gives one:

    * `bpda_identity`: value of the module, gradient of the undefended classifier;
    * `unrolled`: value and gradient of the module. Where it breaks the graph or raises
      when it is differentiated, the gradient is zero;
    * `bpda_encoder`: only the module's own.

    Args:
        module: Images in [0, 1] to logits `[N, K]`; may have `surrogate(tier)`, which
            returns a differentiable function of the same kind, or None.
        classifier: The undefended classifier.
        samples: Index of each image of the batch in its data set.
        classes: Number of classes K.
        random: Whether two calls may differ; see `draws_randomly`.
        seed: Seed of the suite.

    Raises:
        RequestError: `surrogate` returned something that cannot be called.
    """
    networks = nn.ModuleList([module, classifier])
    pipeline = _Pipeline(module, samples, classes=classes, random=random, seed=seed)
    surrogates: dict[str, Forward] = {
        "bpda_identity": _Identity(pipeline, classifier),
        "unrolled": _Differentiated(pipeline),
    }
    for tier in SURROGATE_TIERS:
        own = _own_surrogate(module, tier)
        if own is None:
            continue
        if isinstance(own, nn.Module):
            networks.append(own)
        surrogates[tier] = _Own(pipeline, own)
    missing: dict[str, str] = {}
    if "bpda_encoder" not in surrogates:
        missing["bpda_encoder"] = (
            f"{type(module).__name__} has no `surrogate('bpda_encoder')`, and only it "
            "knows where its encoder is."
        )

    def predict(images: Images, rows: Rows, draw: Draw) -> Logits:
        with isolated(networks, images.device, ()):
            found = pipeline.run(module, images.detach(), rows, draw).detach()
        lost = found.isnan().any(dim=1).nonzero().flatten().tolist()
        if lost:
            sample = pipeline.samples[int(rows[lost[0]])]
            raise RequestError(
                f"The defense {type(module).__name__} returned NaN or infinity for "
                f"image {sample}; expected finite logits."
            )
        return found

    return Victim(
        path=DEFENSE,
        samples=pipeline.samples,
        classes=classes,
        random=random,
        networks=networks,
        classifier=classifier,
        predict=predict,
        surrogates=surrogates,
        missing=missing,
    )


def draws_randomly(module: nn.Module, images: Images, *, seed: int = 0) -> bool:
    """Whether two calls of a module on the same images differ by more than rounding.

    Three calls: two with all generators seeded alike, which differ if the module draws
    from somewhere else, and one with other seeds. Modes, gradients, buffers and
    generators are afterwards as before.

    Args:
        module: Images to logits.
        images: A few; randomness that shows on other images alone is not found.
        seed: Of the calls.
    """
    first, *others = [
        derive_seed(seed, "draws_randomly", number) for number in (0, 0, 1)
    ]
    with isolated(module, images.device, ()):
        outputs: list[Tensor] = []
        for each in (first, *others):
            with seeded(module, images.device, each):
                logits = module(images.detach().clone())
            outputs.append(checked_logits(logits, len(images)).detach().clone())
    return not all(
        torch.allclose(outputs[0], other, rtol=ROUNDING, atol=ROUNDING, equal_nan=True)
        for other in outputs[1:]
    )


def _own_surrogate(module: nn.Module, tier: str) -> LogitsFn | None:
    """What the module itself offers for a tier."""
    if not isinstance(module, OffersSurrogates):
        return None
    found = module.surrogate(tier)
    if found is not None and not callable(found):
        raise RequestError(
            f"{type(module).__name__}.surrogate('{tier}') returned "
            f"{type(found).__name__}; expected a function from images to logits, or "
            "None."
        )
    return found


@final
class _Pipeline:
    """How functions of images are run that may draw like the module."""

    def __init__(
        self,
        module: nn.Module,
        samples: Sequence[int],
        *,
        classes: int,
        random: bool,
        seed: int,
    ) -> None:
        self.module = module
        self.samples = tuple(int(sample) for sample in samples)
        self._classes = classes
        self._random = random
        self._seed = seed

    def run(self, function: LogitsFn, images: Images, rows: Rows, draw: Draw) -> Logits:
        """Log-probabilities of one draw of a function."""
        device = images.device
        if not self._random:
            with seeded(self.module, device, derive_seed(self._seed, "whole")):
                return torch.cat(
                    [self._logs(function, part) for part in images.split(ROWS)]
                )
        samples = [self.samples[row] for row in rows.tolist()]
        found: list[Tensor] = []
        for image, number in zip(
            images.split(1), draw_ids(self._seed, "whole", samples, draw), strict=True
        ):
            with seeded(self.module, device, number):
                found.append(self._logs(function, image))
        return torch.cat(found)

    def _logs(self, function: LogitsFn, images: Images) -> Logits:
        # A copy, since a module may write into its input.
        logits = checked_logits(function(images.clone()), len(images))
        if logits.shape[1] != self._classes:
            raise RequestError(
                f"The defense {type(self.module).__name__} returned "
                f"{logits.shape[1]} classes; the data set has {self._classes}."
            )
        return log_probabilities(differentiable(logits))


def log_probabilities(logits: Logits) -> Logits:
    """Log-softmax of logits, and the logarithm of rows that are probabilities.

    >>> log_probabilities(torch.tensor([[0.25, 0.75], [0.0, 3.0]])).exp()[:, 1]
    tensor([0.7500, 0.9526])
    """
    total = logits.detach().sum(dim=1, keepdim=True)
    inside = (logits >= 0) & (logits <= 1)
    stated = inside.all(dim=1, keepdim=True) & ((total - 1).abs() < SUM_SLACK)
    softened = logits.clamp_min(LOWEST).log_softmax(dim=1)
    if not bool(stated.any()):
        return softened
    return torch.where(stated, logits.clamp_min(LEAST).log(), softened)


@final
class _Identity:
    """Value of the module, gradient of the undefended classifier."""

    def __init__(self, pipeline: _Pipeline, classifier: nn.Module) -> None:
        self._pipeline = pipeline
        self._classifier = (classifier,)

    def __call__(self, images: Images, rows: Rows, draw: Draw) -> Logits:
        module = self._pipeline.module
        value = self._pipeline.run(module, images.detach(), rows, draw).detach()
        way = self._classifier[0](images).log_softmax(dim=1)
        return value + (way - way.detach())


@final
class _Own:
    """A surrogate that the module gave."""

    def __init__(self, pipeline: _Pipeline, function: LogitsFn) -> None:
        self._pipeline = pipeline
        self._function = (function,)

    def __call__(self, images: Images, rows: Rows, draw: Draw) -> Logits:
        found = self._pipeline.run(self._function[0], images, rows, draw)
        return connected(found, images)


@final
class _Differentiated:
    """Value and gradient of the module itself."""

    def __init__(self, pipeline: _Pipeline) -> None:
        self._pipeline = pipeline
        self._breaks: bool | None = None

    def __call__(self, images: Images, rows: Rows, draw: Draw) -> Logits:
        if not images.requires_grad or not torch.is_grad_enabled():
            return self._pipeline.run(self._pipeline.module, images, rows, draw)
        if self._breaks is None:
            self._breaks = self._fails(images, rows, draw)
        source = images.detach() if self._breaks else images
        found = self._pipeline.run(self._pipeline.module, source, rows, draw)
        return connected(found, images)

    def _fails(self, images: Images, rows: Rows, draw: Draw) -> bool:
        """Whether the module raises when its first image is differentiated.

        A step over NumPy does so forward; one that overwrites what a gradient needs,
        backward.
        """
        one = images[:1].detach().requires_grad_()
        try:
            logits = self._pipeline.run(self._pipeline.module, one, rows[:1], draw)
            torch.autograd.grad(connected(logits, one).sum(), one)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            return True
        return False
