"""Canaries around the classifier of digits, which nothing defends."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import final

import torch
from torch import nn

from robustgen.adaptive.ladder import applies, run_tier
from robustgen.adaptive.paths import path_victims
from robustgen.adaptive.scoring import score_draws
from robustgen.adaptive.victim import Victim
from robustgen.adaptive.whole import whole_victim
from robustgen.attacks import Attack, run_attack
from robustgen.budgets import BUDGETS
from robustgen.canaries.result import Found
from robustgen.data.digits import load_digits
from robustgen.defense import Defense
from robustgen.names import ADAPTIVE_TIERS
from robustgen.probes.gradients import probe_gradients
from robustgen.projectors.loss import Gan
from robustgen.projectors.method import Projection
from robustgen.projectors.minimum import Outcome
from robustgen.rngs import rng_for
from robustgen.threat import Threat
from robustgen.types import Images, Labels, Logits, Masks, StylesPlus
from robustgen.views.draws import ViewCodes
from robustgen.views.jitter import JitterSpec

CLASSES = 10

BREAKING = Threat("linf", 32 / 255)
"""PGD leaves the classifier of digits nothing here."""

HALF = Threat("linf", 8 / 255)
"""PGD leaves it about half, so that equal accuracies say something."""

BROKEN = 0.05
"""Accuracy up to which a classifier counts as broken."""

CW_SUCCESS = 0.99
"""Share of correctly classified images that CW must turn."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Images of digits and their labels.

    Args:
        images: [N, 1, 32, 32].
        labels: 0 to 9.
    """

    images: Images
    labels: Labels


def correct_digits(classifier: nn.Module, count: int) -> Sample:
    """The first test images that a classifier gets right."""
    part = load_digits().part("test", 2 * count)
    images, labels = torch.from_numpy(part.images), torch.from_numpy(part.labels)
    with torch.no_grad():
        right = classifier(images).argmax(dim=1) == labels
    return Sample(images[right][:count], labels[right][:count])


@final
class Lowered(nn.Module):
    """A classifier whose logits are all negative: the decisions are the same."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Images) -> Logits:
        return self.classifier(images) - 1000.0


def cw_canary(classifier: nn.Module, attack: Attack, sample: Sample) -> Found:
    """CW turns what it should, with logits as they are and with all of them negative.

    Args:
        classifier: Undefended, right on all images.
        attack: CW.
        sample: Images; most pixels of digits are saturated at 0.
    """
    threat = Threat("l2", torch.inf)
    count = len(sample.images)
    shares: dict[str, float] = {}
    for name, model in (("as is", classifier), ("all negative", Lowered(classifier))):
        rngs = [rng_for(0, "cw", row) for row in range(count)]
        outcome = run_attack(attack, model, sample.images, sample.labels, threat, rngs)
        shares[name] = float(outcome.success.double().mean())
    saturated = float(((sample.images == 0) | (sample.images == 1)).double().mean())
    listed = ", ".join(f"logits {name} {share:.2f}" for name, share in shares.items())
    return Found(
        f"of {count} images, {saturated:.0%} of their pixels saturated: {listed}",
        passed=bool(shares) and min(shares.values()) >= CW_SUCCESS,
    )


def masked_canary(module: nn.Module, classifier: nn.Module, sample: Sample) -> Found:
    """A quantizer has no gradient: its own is of no use, the identity's breaks it.

    Args:
        module: Quantizer and classifier.
        classifier: The classifier alone.
        sample: Images.
    """
    victim = _whole(module, classifier, len(sample.images))
    evidence = probe_gradients(
        victim, "unrolled", sample.images, sample.labels, BREAKING, draws=1
    )
    own = _left("unrolled", victim, sample, BREAKING)
    identity = _left("bpda_identity", victim, sample, BREAKING)
    return Found(
        f"share of zero gradients {evidence.zero_share:.2f}; accuracy under its own "
        f"gradient {own:.2f}, under bpda_identity {identity:.2f}",
        passed=evidence.zero_share == 1 and own > 0.5 and identity <= BROKEN,
    )


def constant_canary(module: nn.Module, classifier: nn.Module, sample: Sample) -> Found:
    """A constant has the accuracy of its class under every attack."""
    victim = _whole(module, classifier, len(sample.images))
    with torch.no_grad():
        said = int(module(sample.images[:1]).argmax(dim=1))
    prior = float((sample.labels == said).double().mean())
    tiers = ("bpda_identity", "unrolled", "square")
    left = {tier: _left(tier, victim, sample, BREAKING) for tier in tiers}
    listed = ", ".join(f"{tier} {share:.2f}" for tier, share in left.items())
    return Found(
        f"share of class {said} {prior:.2f}; accuracy under {listed}",
        passed=all(share == prior for share in left.values()),
    )


@dataclass(frozen=True, eq=False)
class IdentityProjector:
    """A projection that returns its image.

    Args:
        gan: A generator; its pictures are never asked for.
        change: What happens to the image after all; nothing by default.
    """

    gan: Gan
    change: Callable[[Images], Images] = field(default=lambda images: images)

    def __call__(
        self,
        images: Images,
        mask: Masks | None = None,
        *,
        samples: Sequence[int] | None = None,
        labels: Labels | None = None,
    ) -> Projection:
        """The images; see `ProjectionMethod`."""
        del mask, samples, labels
        count = len(images)
        zero = images.new_zeros(count)
        shown = self.change(images.detach())

        def decode(codes: ViewCodes, rows: slice = slice(None)) -> ViewCodes:
            return shown[rows][:, None].expand(-1, codes.shape[1], -1, -1, -1)

        return Projection(
            w_plus=images.new_zeros(count, self.gan.num_layers, self.gan.w_dim),
            images=shown,
            loss=zero,
            initial_loss=zero,
            passes=torch.zeros(count, dtype=torch.int64),
            outcome=torch.full((count,), int(Outcome.REACHED)),
            decode=decode,
        )


def identity_canary(
    projector: IdentityProjector,
    classifier: nn.Module,
    sample: Sample,
    tiers: Sequence[str] = ADAPTIVE_TIERS,
) -> Found:
    """Behind an identity every tier leaves what it leaves of the bare classifier.

    Compared image by image: the same searches on the same random numbers.

    Args:
        projector: The projection.
        classifier: The undefended classifier.
        sample: Images.
        tiers: Which to try; those that do not apply to both are left out.
    """
    count = len(sample.images)
    defense = Defense(
        classifier=classifier,
        projector=projector,
        vary=_one_view,
        jitter=JitterSpec(zoom=1.0, flip=False, color=0.0),
        view_count=1,
        paths=frozenset(("image", "reconstruction")),
        seed=0,
    )
    budget = BUDGETS["smoke"]
    defended = path_victims(
        defense,
        range(count),
        None,
        alpha={},
        budget=budget,
        paths=("reconstruction",),
        classes=CLASSES,
    )["reconstruction"]
    bare = replace(_whole(classifier, classifier, count), path=defended.path)
    left: dict[str, float] = {}
    different = 0
    for tier in tiers:
        if applies(tier, defended) is None and applies(tier, bare) is None:
            with_projection = _right(tier, defended, sample, HALF)
            without = _right(tier, bare, sample, HALF)
            left[tier] = float(with_projection.double().mean())
            different += int((with_projection != without).sum())
    listed = ", ".join(f"{tier} {share:.2f}" for tier, share in left.items())
    return Found(
        f"{different} images differ; accuracy under {listed}",
        passed=different == 0 and bool(left),
    )


def _one_view(w_plus: StylesPlus, samples: object, labels: object) -> ViewCodes:
    del samples, labels
    return w_plus[:, None]


def _whole(module: nn.Module, classifier: nn.Module, count: int) -> Victim:
    return whole_victim(
        module, classifier, range(count), classes=CLASSES, random=False, seed=0
    )


def _right(tier: str, victim: Victim, sample: Sample, threat: Threat) -> torch.Tensor:
    found = run_tier(
        tier, victim, sample.images, sample.labels, threat, BUDGETS["smoke"], seed=0
    )
    scored = score_draws(victim, found.outcome.images, 1)[:, 0]
    return scored.argmax(dim=1) == sample.labels


def _left(tier: str, victim: Victim, sample: Sample, threat: Threat) -> float:
    return float(_right(tier, victim, sample, threat).double().mean())
