"""One batch of one case: attack it, send it through the paths, tabulate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from robustgen.adaptive.build import build_victim
from robustgen.adaptive.ladder import applies, fixed_draw_attack, run_tier
from robustgen.adaptive.scoring import score_draws
from robustgen.adaptive.transfer import train_substitute
from robustgen.adaptive.victim import Victim
from robustgen.attacks import Attack, AttackOutcome, run_attack
from robustgen.budgets import BUDGETS
from robustgen.data.dataset import Dataset
from robustgen.defense import (
    Defense,
    PathPredictions,
    WholeDefense,
    predict_paths,
    probabilities,
)
from robustgen.library import TierAttack
from robustgen.names import DEFENSE
from robustgen.projectors.method import Projection
from robustgen.rngs import rng_for
from robustgen.table import PredictionTable, TableKey
from robustgen.threat import Threat
from robustgen.thumbnails import thumbnails
from robustgen.types import Images, Labels, Masks

PANEL = 96
"""Longest side of a kept picture, in pixels."""


@dataclass(frozen=True, eq=False)
class Subject:
    """All that a case of a listed attack needs to be evaluated.

    Args:
        attack: Who searches.
        attack_name: Name of the preset; randomness of the attack hangs on it.
        tier: What the attack knows.
        threat: What the attack may do.
        defense: What is evaluated.
        classifier_name: Shown in every output.
        seed: Seed of the suite.
        device: Where everything is computed.
    """

    attack: Attack
    attack_name: str
    tier: str
    threat: Threat
    defense: Defense | WholeDefense
    classifier_name: str
    seed: int
    device: torch.device


@dataclass(frozen=True, eq=False)
class TierSubject:
    """All that a case of the ladder needs to be evaluated.

    Args:
        attack: Tier, path and budget.
        threat: What the attack may do.
        defense: What is evaluated.
        alpha: Weight of the views, by ensemble path.
        substitutes: Networks that imitate the path, for tier `transfer`.
        classifier_name: Shown in every output.
        seed: Seed of the suite.
        device: Where everything is computed.
    """

    attack: TierAttack
    threat: Threat
    defense: Defense | WholeDefense
    classifier_name: str
    seed: int
    device: torch.device
    alpha: Mapping[str, float] = field(default_factory=dict[str, float])
    substitutes: tuple[nn.Module, ...] = ()


@dataclass(frozen=True, eq=False)
class Batch:
    """What came out of one batch.

    Args:
        table: Predictions.
        panels: Small pictures of the first images, by name; see `_panels`.
    """

    table: PredictionTable
    panels: Mapping[str, np.ndarray]


def evaluate_batch(
    subject: Subject, part: Dataset, split: str, shown: int = 0
) -> Batch:
    """Attacks the undefended classifier and predicts every path on the result.

    The attack of tier `oblivious` knows the classifier, not the defense.

    Args:
        subject: Attack and defense.
        part: The images of the batch.
        split: `val` or `test`.
        shown: How many of the first images to keep pictures of.
    """
    samples, images, labels, masks = _read(part, subject.device)
    outcome = run_attack(
        subject.attack,
        subject.defense.classifier,
        images,
        labels,
        subject.threat,
        [rng_for(subject.seed, "attack", subject.attack_name, s) for s in samples],
        name=subject.attack_name,
    )
    key = TableKey(
        dataset=part.name,
        classifier=subject.classifier_name,
        attack=subject.attack_name,
        tier=subject.tier,
        norm=subject.threat.norm,
        eps=subject.threat.eps,
        split=split,
    )
    if isinstance(subject.defense, WholeDefense):
        return _whole_batch(subject.defense, key, part, outcome, shown)
    predicted = predict_paths(subject.defense, outcome.images, samples, masks)
    cost = _attack_cost(outcome)
    cost["rounded_correct"] = _rounded_correct(
        subject.defense.classifier, outcome.images, labels
    )
    projection = predicted.projection
    if projection is not None:
        cost |= _projection_cost(projection, outcome.images)
    table = _table(key, part, single=predicted.single, views=predicted.views, cost=cost)
    return Batch(table, _panels(outcome.images, predicted, labels, shown))


def evaluate_tier_batch(
    subject: TierSubject, part: Dataset, split: str, shown: int = 0
) -> Batch:
    """Attacks one path with what the tier knows of it, and scores the same path.

    The search draws from one stream, the choice among its candidates from another, and
    the score from a third.

    Args:
        subject: Tier and defense.
        part: The images of the batch.
        split: `test`.
        shown: How many of the first images to keep pictures of.
    """
    samples, images, labels, masks = _read(part, subject.device)
    attack, threat = subject.attack, subject.threat
    victim = _victim(subject, part, samples, masks)
    seed = subject.seed
    found = run_tier(
        attack.tier,
        victim,
        images,
        labels,
        threat,
        attack.budget,
        seed=seed,
        surrogates=subject.substitutes,
    )
    count = attack.budget.score_draws if victim.random else 1
    fixed: dict[str, Tensor] = {}
    if attack.fixed_seed and victim.random and attack.tier in victim.surrogates:
        fixed[victim.path] = fixed_draw_attack(
            attack.tier, victim, images, labels, threat, attack.budget, seed=seed
        )
    attacked = found.outcome.images
    rounded = score_draws(victim, _rounded(attacked), 1)[:, 0]
    cost = {
        **_attack_cost(found.outcome),
        "select_margin": found.select_margin,
        "rounded_correct": rounded.argmax(dim=1) == labels,
    }
    table = _table(
        TableKey(
            dataset=part.name,
            classifier=subject.classifier_name,
            attack=attack.name,
            tier=attack.tier,
            norm=threat.norm,
            eps=threat.eps,
            split=split,
            target=victim.path,
        ),
        part,
        cost=cost,
        draws={victim.path: score_draws(victim, attacked, count)},
        fixed=fixed,
        alpha={path: a for path, a in subject.alpha.items() if path == victim.path},
    )
    predicted = None
    if shown and isinstance(subject.defense, Defense):
        # What the defender makes of these images, for people to look at.
        predicted = predict_paths(
            subject.defense,
            attacked[:shown],
            samples[:shown],
            None if masks is None else masks[:shown],
        )
    return Batch(table, _panels(attacked, predicted, labels, shown))


def missing_tier(subject: TierSubject, part: Dataset) -> str | None:
    """Why a tier cannot attack its path; None if it can.

    Args:
        subject: Tier and defense.
        part: Images of the pair; the first is looked at.
    """
    samples, _, _, masks = _read(part.rows(slice(1)), subject.device)
    return applies(subject.attack.tier, _victim(subject, part, samples, masks))


def train_substitutes(subject: TierSubject, part: Dataset) -> tuple[nn.Module, ...]:
    """Networks that imitate a path, for tier `transfer`; none for any other tier.

    Args:
        subject: Tier and defense.
        part: Validation images, about which the path is asked.
    """
    if subject.attack.tier != "transfer":
        return ()
    samples, images, _, masks = _read(part, subject.device)
    substitute = train_substitute(
        _victim(subject, part, samples, masks),
        images,
        epochs=subject.attack.budget.substitute_epochs,
        seed=subject.seed,
    )
    return (substitute,)


def _victim(
    subject: TierSubject, part: Dataset, samples: Sequence[int], masks: Masks | None
) -> Victim:
    return build_victim(
        subject.defense,
        subject.attack.target,
        samples,
        masks,
        alpha=subject.alpha,
        budget=subject.attack.budget,
        classes=len(part.class_names),
    )


def _whole_batch(
    defense: WholeDefense,
    key: TableKey,
    part: Dataset,
    outcome: AttackOutcome,
    shown: int,
) -> Batch:
    """Images attacked without knowledge of a whole defense, and its draws on them."""
    victim = build_victim(
        defense,
        DEFENSE,
        [int(i) for i in part.index],
        alpha={},
        budget=BUDGETS["smoke"],
        classes=len(part.class_names),
    )
    count = defense.draws if defense.random else 1
    table = _table(
        key,
        part,
        single={"image": probabilities(defense.classifier, outcome.images)},
        cost=_attack_cost(outcome),
        draws={DEFENSE: score_draws(victim, outcome.images, count)},
    )
    labels = torch.from_numpy(part.labels)
    return Batch(table, _panels(outcome.images, None, labels, shown))


def _read(
    part: Dataset, device: torch.device
) -> tuple[list[int], Images, Labels, Masks | None]:
    """Sample indices, images, labels and masks of a batch, on the device."""
    weights = part.mask_pixels()
    return (
        [int(i) for i in part.index],
        torch.from_numpy(part.pixels()).to(device),
        torch.from_numpy(part.labels).to(device),
        None if weights is None else torch.from_numpy(weights).to(device),
    )


def _attack_cost(outcome: AttackOutcome) -> dict[str, Tensor]:
    """What an attack did to each image, as columns of a table."""
    first = outcome.first_success.float()
    return {
        "distance_linf": outcome.distance_linf,
        "distance_l2": outcome.distance_l2,
        "attack_forwards": outcome.forwards,
        "attack_backwards": outcome.backwards,
        "attack_failed": outcome.failed,
        "attack_success": outcome.success,
        "first_success": torch.where(first < 0, torch.nan, first),
        "margin_first": outcome.margin_first,
        "margin_best": outcome.margin_best,
        "margin_last": outcome.margin_last,
    }


def _rounded(images: Images) -> Images:
    """What is left of images in a file of 8 bits per channel."""
    return (images * 255).round() / 255


def _rounded_correct(classifier: nn.Module, images: Images, labels: Labels) -> Tensor:
    found = probabilities(classifier, _rounded(images))
    return found.argmax(dim=1) == labels


def _projection_cost(projection: Projection, images: Images) -> dict[str, Tensor]:
    """What a projection cost and how near it came, as columns of a table."""
    error = (projection.images.clamp(0, 1) - images).square().mean(dim=(1, 2, 3))
    return {
        "initial_loss": projection.initial_loss,
        "final_loss": projection.loss,
        "projection_passes": projection.passes,
        "psnr": -10 * error.clamp(min=1e-10).log10(),
    }


def _table(
    key: TableKey,
    part: Dataset,
    *,
    single: Mapping[str, Tensor] | None = None,
    views: Mapping[str, Tensor] | None = None,
    cost: Mapping[str, Tensor],
    draws: Mapping[str, Tensor] | None = None,
    fixed: Mapping[str, Tensor] | None = None,
    alpha: Mapping[str, float] | None = None,
) -> PredictionTable:
    def arrays(tensors: Mapping[str, Tensor] | None) -> dict[str, np.ndarray]:
        return {name: _array(values) for name, values in (tensors or {}).items()}

    return PredictionTable(
        key=key,
        class_names=part.class_names,
        sample=part.index,
        label=part.labels,
        single=arrays(single),
        views=arrays(views),
        cost=arrays(cost),
        draws=arrays(draws),
        fixed=arrays(fixed),
        alpha=alpha or {},
    )


def _panels(
    attacked: Images, predicted: PathPredictions | None, labels: Labels, shown: int
) -> dict[str, np.ndarray]:
    """Small pictures of the first images of a batch.

    Args:
        attacked: The images as the defender saw them.
        predicted: What the paths made of these or of the first of them; None for a
            defense that shows nothing of itself.
        labels: True classes.
        shown: How many of the first images to keep.

    Returns:
        `attacked` [M, C, H, W] as floats and, where a generator defends,
        `reconstruction` and `views` [M, V, C, H, W] as bytes and `view_probability`
        [M, V], that of the true class; empty if nothing is shown.
    """
    if not shown:
        return {}
    panels = {"attacked": thumbnails(_array(attacked[:shown]), PANEL)}
    if predicted is None:
        return panels
    if predicted.projection is not None:
        made = predicted.projection.images[:shown].clamp(0, 1)
        panels["reconstruction"] = _bytes(made)
    if predicted.shown is not None:
        panels["views"] = _bytes(predicted.shown[:shown])
        path = "stylemix_ensemble"
        if path in predicted.views:
            count = predicted.shown.shape[1]
            rows = torch.arange(len(panels["views"]))
            chance = predicted.views[path][rows, :count, labels[: len(rows)]]
            panels["view_probability"] = _array(chance)
    return panels


def _bytes(images: Tensor) -> np.ndarray:
    """Thumbnails of 8 bits per channel."""
    small = thumbnails(_array(images), PANEL)
    return np.round(small * 255).astype(np.uint8)


def _array(values: Tensor) -> np.ndarray:
    return values.detach().float().cpu().numpy()
