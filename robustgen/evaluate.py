"""One batch of one case: attack it, send it through the paths, tabulate."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from robustgen.attacks import Attack, run_attack
from robustgen.data.dataset import Dataset
from robustgen.defense import Defense, predict_paths
from robustgen.rngs import rng_for
from robustgen.table import PredictionTable, TableKey
from robustgen.threat import Threat

Pixels = Float32[np.ndarray, "n c h w"]


@dataclass(frozen=True, eq=False)
class Subject:
    """All that a case needs to be evaluated.

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
    defense: Defense
    classifier_name: str
    seed: int
    device: torch.device


@dataclass(frozen=True, eq=False)
class Batch:
    """What came out of one batch.

    Args:
        table: Predictions.
        attacked: The images as the defender saw them, [N, C, H, W].
        reconstruction: G(w*), clamped; None where no path needs the generator.
        views: The first views of each image, [N, <= 4, C, H, W]; None likewise.
    """

    table: PredictionTable
    attacked: Pixels
    reconstruction: Pixels | None
    views: Float32[np.ndarray, "n v c h w"] | None


def evaluate_batch(subject: Subject, part: Dataset, split: str) -> Batch:
    """Attacks the undefended classifier and predicts every path on the result.

    The attack of tier `oblivious` knows the classifier, not the defense.

    Args:
        subject: Attack and defense.
        part: The images of the batch.
        split: `val` or `test`.
    """
    samples = [int(i) for i in part.index]
    images = torch.from_numpy(part.pixels()).to(subject.device)
    weights = part.mask_pixels()
    masks = None if weights is None else torch.from_numpy(weights).to(subject.device)
    labels = torch.from_numpy(part.labels).to(subject.device)
    outcome = run_attack(
        subject.attack,
        subject.defense.classifier,
        images,
        labels,
        subject.threat,
        [rng_for(subject.seed, "attack", subject.attack_name, s) for s in samples],
        name=subject.attack_name,
    )
    predicted = predict_paths(subject.defense, outcome.images, samples, masks)
    cost = {
        "distance_linf": outcome.distance_linf,
        "distance_l2": outcome.distance_l2,
        "attack_forwards": outcome.forwards,
        "attack_backwards": outcome.backwards,
        "attack_failed": outcome.failed,
    }
    projection = predicted.projection
    if projection is not None:
        cost["initial_loss"] = projection.initial_loss
        cost["final_loss"] = projection.loss
        cost["projection_passes"] = projection.passes
    table = PredictionTable(
        key=TableKey(
            dataset=part.name,
            classifier=subject.classifier_name,
            attack=subject.attack_name,
            tier=subject.tier,
            norm=subject.threat.norm,
            eps=subject.threat.eps,
            split=split,
        ),
        class_names=part.class_names,
        sample=part.index,
        label=part.labels,
        single={name: _array(p) for name, p in predicted.single.items()},
        views={name: _array(p) for name, p in predicted.views.items()},
        cost={name: _array(values) for name, values in cost.items()},
    )
    return Batch(
        table=table,
        attacked=_array(outcome.images),
        reconstruction=(
            None if projection is None else _array(projection.images.clamp(0, 1))
        ),
        views=None if predicted.shown is None else _array(predicted.shown),
    )


def join_tables(tables: Sequence[PredictionTable]) -> PredictionTable:
    """The rows of several tables of one case, in order."""
    first = tables[0]

    def rows(group: str, name: str) -> np.ndarray:
        return np.concatenate([getattr(t, group)[name] for t in tables])

    return PredictionTable(
        key=first.key,
        class_names=first.class_names,
        sample=np.concatenate([t.sample for t in tables]),
        label=np.concatenate([t.label for t in tables]),
        single={name: rows("single", name) for name in first.single},
        views={name: rows("views", name) for name in first.views},
        cost={name: rows("cost", name) for name in first.cost},
    )


def _array(values: Tensor) -> np.ndarray:
    return values.detach().float().cpu().numpy()
