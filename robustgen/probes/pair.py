"""All probes of one pair, on few images, so that they cost a small share of the run."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64

from robustgen.adaptive.build import build_victim
from robustgen.adaptive.victim import Victim
from robustgen.attacks.isolation import isolated
from robustgen.budgets import (
    BUDGETS,
    PROBE_CHEAP,
    PROBE_DEAR,
    PROBE_NOISES,
    PROBE_SHARE,
    PROBE_SURVIVORS,
)
from robustgen.data.dataset import Dataset
from robustgen.defense import Defense, WholeDefense
from robustgen.evidence import (
    ConvergenceEvidence,
    Evidence,
    GradientEvidence,
    NoiseEvidence,
    OutputEvidence,
    RandomnessEvidence,
    RoundingEvidence,
    SweepEvidence,
)
from robustgen.library import ApgdAttack, AttackSpec, PgdAttack, TierAttack
from robustgen.names import DEFENSE, GRADIENT_TIERS
from robustgen.probes.attacks import (
    probe_longer_attack,
    probe_longer_tier,
    probe_noise,
    probe_sweep,
    probe_tier_sweep,
    reach,
)
from robustgen.probes.data import probe_data
from robustgen.probes.gradients import probe_gradients
from robustgen.probes.outputs import probe_outputs, probe_randomness
from robustgen.suite import Case, asset_label
from robustgen.table import PredictionTable
from robustgen.threat import Threat
from robustgen.types import Flags, Images, Labels

RowNumbers = Int64[np.ndarray, " n"]

RAW = ("image", DEFENSE)
"""Paths that one module answers for."""


@dataclass(frozen=True, eq=False)
class Probe:
    """What the probes of a pair look at.

    Args:
        defense: What is evaluated.
        parts: Images of each split.
        tables: Predictions of every case of the pair.
        alpha: Weight of the views, by ensemble path.
        skipped: `(path, tier, reason)` of tiers that the defense cannot offer.
        device: Where everything is computed.
    """

    defense: Defense | WholeDefense
    parts: Mapping[str, Dataset]
    tables: tuple[PredictionTable, ...]
    alpha: Mapping[str, float]
    skipped: tuple[tuple[str, str, str], ...]
    device: torch.device

    def first(self, count: int) -> tuple[RowNumbers, Images, Labels]:
        """Row numbers, images and labels of the first test images."""
        return self.rows(np.arange(min(count, len(self.parts["test"].index))))

    @property
    def cheap(self) -> int:
        """How many images the probes of the bare classifier look at."""
        total = sum(len(part.index) for part in self.parts.values())
        return min(PROBE_CHEAP, max(PROBE_DEAR, math.ceil(PROBE_SHARE * total)))

    def image_table(self, attack: str) -> PredictionTable | None:
        """Predictions of a listed attack on the test images."""
        for table in self.tables:
            if (table.key.attack, table.key.split) == (attack, "test"):
                return table if not table.key.target else None
        return None

    def rows(self, rows: RowNumbers) -> tuple[RowNumbers, Images, Labels]:
        """Row numbers, images and labels of some test images."""
        part = self.parts["test"]
        pixels = [part.rows(slice(row, row + 1)).pixels() for row in rows.tolist()]
        return (
            rows,
            torch.from_numpy(np.concatenate(pixels)).to(self.device),
            torch.from_numpy(part.labels[rows]).to(self.device),
        )

    def victim(self, path: str, rows: RowNumbers, attack: TierAttack | None) -> Victim:
        """A path for some test images, with the views that an attack's budget says."""
        part = self.parts["test"]
        masks = [part.rows(slice(row, row + 1)).mask_pixels() for row in rows.tolist()]
        shown = [mask for mask in masks if mask is not None]
        return build_victim(
            self.defense,
            path,
            [int(part.index[row]) for row in rows],
            torch.from_numpy(np.concatenate(shown)).to(self.device) if shown else None,
            alpha=self.alpha,
            budget=BUDGETS["smoke"] if attack is None else attack.budget,
            classes=len(part.class_names),
        )


def probe_pair(cases: Sequence[Case], probe: Probe, *, run_seconds: float) -> Evidence:
    """Measures what the checks of a pair need beyond its tables.

    Args:
        cases: All cases of the pair.
        probe: What to look at.
        run_seconds: What the cases took.
    """
    began = time.monotonic()
    first = cases[0]
    listed = [c.attack for c in cases if not isinstance(c.attack, TierAttack)]
    missing = {(path, tier) for path, tier, _ in probe.skipped}
    tiers = [
        case.attack
        for case in cases
        if isinstance(case.attack, TierAttack)
        and (case.attack.target, case.attack.tier) not in missing
    ]
    paths = [path for path in first.paths if not _lacks_alpha(path, probe)]
    return Evidence(
        dataset=probe.parts["test"].name,
        classifier=asset_label(first.pair.classifier),
        outputs=tuple(_outputs(paths, probe)),
        randomness=tuple(_randomness(paths, probe)),
        gradients=tuple(_gradients(tiers, probe)),
        noise=tuple(_noise(paths, _threat(listed, tiers), probe, first.seed)),
        sweeps=tuple(_sweeps(listed, tiers, probe, first.seed)),
        convergence=tuple(_convergence(listed, tiers, probe, first.seed)),
        rounding=tuple(_rounding(probe.tables)),
        reach=tuple(
            found for a in (*listed, *tiers) if (found := reach(a)) is not None
        ),
        data=tuple(
            probe_data(part, split, getattr(first.splits, split))
            for split, part in probe.parts.items()
        ),
        skipped_tiers=probe.skipped,
        seconds=time.monotonic() - began,
        run_seconds=run_seconds,
    )


def _lacks_alpha(path: str, probe: Probe) -> bool:
    """Whether an ensemble has no weight of the views: the suite has no clean images."""
    return path.endswith("_ensemble") and path not in probe.alpha


def _outputs(paths: Sequence[str], probe: Probe) -> Iterator[OutputEvidence]:
    for path in paths:
        rows, images, labels = probe.first(probe.cheap if path in RAW else PROBE_DEAR)
        module = probe.defense.classifier
        if isinstance(probe.defense, WholeDefense) and path == DEFENSE:
            module = probe.defense.module
        with isolated(module, probe.device, ()), torch.no_grad():
            raw = module(images).detach()
        yield probe_outputs(probe.victim(path, rows, None), raw, images, labels)


def _randomness(paths: Sequence[str], probe: Probe) -> Iterator[RandomnessEvidence]:
    rows, images, _ = probe.first(PROBE_DEAR // 2)
    for path in paths:
        yield probe_randomness(probe.victim(path, rows, None), images)


def _gradients(tiers: Sequence[TierAttack], probe: Probe) -> Iterator[GradientEvidence]:
    rows, images, labels = probe.first(PROBE_DEAR)
    for attack in tiers:
        victim = probe.victim(attack.target, rows, attack)
        if attack.tier not in victim.surrogates:
            continue
        yield probe_gradients(
            victim,
            attack.tier,
            images,
            labels,
            Threat(attack.norm, attack.eps),
            draws=attack.budget.draws,
        )


def _threat(listed: Sequence[AttackSpec], tiers: Sequence[TierAttack]) -> Threat | None:
    """The threat that noise is compared with: the ladder's, or the first attack's."""
    bounded = [
        Threat(attack.norm, attack.eps)
        for attack in (*tiers, *listed)
        if attack.norm != "none" and math.isfinite(attack.eps)
    ]
    return bounded[0] if bounded else None


def _noise(
    paths: Sequence[str], threat: Threat | None, probe: Probe, seed: int
) -> Iterator[NoiseEvidence]:
    if threat is None:
        return
    for path in paths:
        rows, images, labels = probe.first(probe.cheap if path in RAW else PROBE_DEAR)
        yield probe_noise(
            probe.victim(path, rows, None),
            images,
            labels,
            threat,
            draws=4 * PROBE_NOISES if path in RAW else PROBE_NOISES,
            seed=seed,
        )


def _sweeps(
    listed: Sequence[AttackSpec],
    tiers: Sequence[TierAttack],
    probe: Probe,
    seed: int,
) -> Iterator[SweepEvidence]:
    rows, images, labels = probe.first(probe.cheap)
    victim = probe.victim("image", rows, None)
    for attack, own in _swept(listed, probe, labels):
        yield from probe_sweep(attack, victim, images, labels, own=own, seed=seed)
    rows, images, labels = probe.first(PROBE_DEAR // 2)
    for attack in _strongest_tiers(tiers):
        victim = probe.victim(attack.target, rows, attack)
        yield from probe_tier_sweep(attack, victim, images, labels, seed=seed)


def _swept(
    listed: Sequence[AttackSpec], probe: Probe, labels: Labels
) -> Iterator[tuple[PgdAttack | ApgdAttack, Flags]]:
    """One attack of each kind that is swept, and where the image path stood it.

    Others of the kind share its code.
    """
    found = {attack.attack: attack for attack in reversed(listed)}
    for attack in found.values():
        table = probe.image_table(attack.name)
        if (
            isinstance(attack, PgdAttack | ApgdAttack)
            and math.isfinite(attack.eps)
            and table is not None
        ):
            predicted = table.single["image"][: len(labels)].argmax(axis=1)
            yield attack, torch.from_numpy(predicted).to(labels.device) == labels


def _strongest_tiers(tiers: Sequence[TierAttack]) -> list[TierAttack]:
    """Of each path the gradient tier that knows most and costs one pass a step."""
    found: dict[str, TierAttack] = {}
    for attack in tiers:
        dear = attack.tier == "unrolled" and attack.target != DEFENSE
        if attack.tier in GRADIENT_TIERS and not dear:
            found[attack.target] = attack
    return list(found.values())


def _convergence(
    listed: Sequence[AttackSpec],
    tiers: Sequence[TierAttack],
    probe: Probe,
    seed: int,
) -> Iterator[ConvergenceEvidence]:
    rows, images, labels = probe.first(probe.cheap)
    victim = probe.victim("image", rows, None)
    for attack, own in _swept(listed, probe, labels):
        yield probe_longer_attack(attack, victim, images, labels, own=own, seed=seed)
    found = {
        (table.key.tier, table.key.target): table
        for table in probe.tables
        if table.key.target
    }
    for attack in tiers:
        table = found.get((attack.tier, attack.target))
        if table is None or attack.tier not in GRADIENT_TIERS:
            continue
        left = np.flatnonzero(table.cost["select_margin"] <= 0)
        count = max(1, math.ceil(PROBE_SURVIVORS * len(table.label)))
        if not len(left):
            continue
        _, images, labels = probe.rows(left[:count])
        yield probe_longer_tier(
            attack,
            probe.victim(attack.target, left[:count], attack),
            images,
            labels,
            seed=seed,
            survivors=len(left),
        )


def _rounding(tables: Sequence[PredictionTable]) -> Iterator[RoundingEvidence]:
    for table in tables:
        rounded = table.cost.get("rounded_correct")
        if rounded is None or table.key.split != "test" or table.key.tier == "none":
            continue
        target = table.key.target
        found = table.draws[target][:, 0] if target else table.single["image"]
        yield RoundingEvidence(
            path=target or "image",
            attack=table.key.attack,
            tier=table.key.tier,
            n=len(table.label),
            accuracy=float((found.argmax(axis=1) == table.label).mean()),
            rounded_accuracy=float(rounded.mean()),
        )
