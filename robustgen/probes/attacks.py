"""How strong the attacks of a run are on a few images: noise, sweeps, more steps."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from robustgen.adaptive.ladder import run_tier
from robustgen.adaptive.victim import Draw, Victim
from robustgen.attacks import build_apgd, build_pgd, run_attack
from robustgen.attacks.corruptions import gaussian_noise
from robustgen.attacks.isolation import isolated
from robustgen.evidence import (
    ConvergenceEvidence,
    NoiseEvidence,
    ReachEvidence,
    SweepEvidence,
)
from robustgen.library import (
    ApgdAttack,
    AttackSpec,
    EotPgdAttack,
    MifgsmAttack,
    PgdAttack,
    TierAttack,
)
from robustgen.names import GRADIENT_TIERS
from robustgen.probes.outputs import PROBE_DRAW
from robustgen.rngs import rng_for
from robustgen.threat import Threat
from robustgen.types import Flags, Images, Labels

SWEEP = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, math.inf)
"""Radii of the sweep as multiples of the attack's own; infinity: all of [0, 1]."""

TIER_SWEEP = (0.0, math.inf)
"""The same for tiers, which ask the whole defense."""


def probe_noise(
    victim: Victim,
    images: Images,
    labels: Labels,
    threat: Threat,
    *,
    draws: int,
    seed: int,
) -> NoiseEvidence:
    """Noise as large as the threat allows; the worst of some draws counts (S6).

    Args:
        victim: The path, for these images.
        images: Clean images.
        labels: Their classes.
        threat: Uniform noise within an `linf` ball; noise of the length `eps` for `l2`.
        draws: Noises that each image meets.
        seed: Seed of the suite.
    """
    right = torch.ones(len(images), dtype=torch.bool, device=images.device)
    for number in range(draws):
        rngs = [rng_for(seed, "probe noise", number, s) for s in victim.samples]
        right &= _right(victim, _noisy(images, threat, rngs), labels)
    return NoiseEvidence(
        path=victim.path,
        norm=threat.norm,
        eps=threat.eps,
        draws=draws,
        n=len(images),
        accuracy=float(right.float().mean()),
    )


def _noisy(images: Images, threat: Threat, rngs: Sequence[torch.Generator]) -> Images:
    if threat.norm == "l2":
        noise = gaussian_noise(torch.full_like(images, 0.5), 0.1, rngs) - 0.5
        lengths = noise.flatten(1).norm(dim=1).clamp(min=1e-30)
        return threat.clip(
            images + threat.eps * noise / lengths.view(-1, 1, 1, 1), images
        )
    shape = images.shape[1:]
    drawn = torch.stack([torch.rand(shape, generator=rng) for rng in rngs])
    return threat.clip(images + (2 * drawn.to(images) - 1) * threat.eps, images)


def _right(victim: Victim, images: Images, labels: Labels) -> Flags:
    rows = torch.arange(len(images), device=images.device)
    with isolated(victim.networks, images.device, ()), torch.no_grad():
        found = victim.predict(images, rows, Draw("select", PROBE_DRAW))
    return found.argmax(dim=1) == labels


def probe_sweep(
    attack: PgdAttack | ApgdAttack,
    victim: Victim,
    images: Images,
    labels: Labels,
    *,
    own: Flags,
    seed: int,
) -> tuple[SweepEvidence, ...]:
    """The same attack on the undefended classifier within other radii (S2).

    Args:
        attack: A listed attack that searches within a radius.
        victim: The path `image`, for these images.
        images: Clean images.
        labels: Their classes.
        own: Whether it is right on them within the attack's own radius, from the run.
        seed: Seed of the suite.
    """
    found: list[SweepEvidence] = []
    for factor in SWEEP:
        eps = _radius(attack.norm, attack.eps, factor, images)
        right = own
        if factor != 1:
            threat = Threat(attack.norm, eps)
            right = _attacked_right(attack, victim, images, labels, threat, seed=seed)
        found.append(
            SweepEvidence(
                path=victim.path,
                attack=attack.name,
                tier=attack.tier,
                factor=factor,
                eps=eps,
                n=len(images),
                accuracy=float(right.float().mean()),
            )
        )
    return tuple(found)


def _radius(norm: str, eps: float, factor: float, images: Images) -> float:
    """A multiple of a radius, no larger than the distance of any two images."""
    whole = 1.0 if norm == "linf" else images[0].numel() ** 0.5
    return min(whole, whole if math.isinf(factor) else factor * eps)


def _attacked_right(
    attack: PgdAttack | ApgdAttack,
    victim: Victim,
    images: Images,
    labels: Labels,
    threat: Threat,
    *,
    seed: int,
    longer: int = 1,
) -> Flags:
    """Whether the classifier is right after the attack, steps scaled to the radius."""
    settings = attack.settings
    # Within no radius every step leads back to the clean image.
    steps = settings.steps * longer if threat.eps > 0 else 1
    if isinstance(attack, PgdAttack):
        needed = 2 * threat.eps / steps
        search = build_pgd(
            steps=steps,
            step_size=max(
                needed, attack.settings.step_size * threat.eps / attack.eps, 1e-6
            ),
            restarts=settings.restarts,
            random_start=attack.settings.random_start,
            loss=attack.settings.loss,
        )
    else:
        search = build_apgd(
            steps=steps,
            restarts=settings.restarts,
            loss=attack.settings.loss,
            targets=attack.settings.targets,
        )
    outcome = run_attack(
        search,
        victim.classifier,
        images,
        labels,
        threat,
        [rng_for(seed, "attack", attack.name, s) for s in victim.samples],
        name=attack.name,
    )
    return _right(victim, outcome.images, labels)


def probe_longer_attack(
    attack: PgdAttack | ApgdAttack,
    victim: Victim,
    images: Images,
    labels: Labels,
    *,
    own: Flags,
    seed: int,
) -> ConvergenceEvidence:
    """A listed attack and the same with twice the steps (S4).

    Args:
        attack: A listed attack that searches within a radius.
        victim: The path `image`, for these images.
        images: Clean images.
        labels: Their classes.
        own: Whether it is right on them after the attack itself, from the run.
        seed: Seed of the suite.
    """
    threat = Threat(attack.norm, attack.eps)
    longer = _attacked_right(
        attack, victim, images, labels, threat, seed=seed, longer=2
    )
    steps = attack.settings.steps
    return ConvergenceEvidence(
        path=victim.path,
        attack=attack.name,
        tier=attack.tier,
        n=len(images),
        accuracy=float(own.float().mean()),
        longer_accuracy=float((own & longer).float().mean()),
        what=f"steps {steps} -> {2 * steps}",
    )


def probe_longer_tier(
    attack: TierAttack,
    victim: Victim,
    images: Images,
    labels: Labels,
    *,
    seed: int,
    survivors: int,
) -> ConvergenceEvidence:
    """A gradient tier with twice the steps, on images that it did not break (S4).

    Args:
        attack: Tier, path and budget.
        victim: The path, for these images.
        images: Clean images of samples that survived.
        labels: Their classes.
        seed: Seed of the suite.
        survivors: How many survived in all.
    """
    steps = attack.budget.steps
    budget = attack.budget.model_copy(update={"steps": 2 * steps})
    found = run_tier(
        attack.tier,
        victim,
        images,
        labels,
        Threat(attack.norm, attack.eps),
        budget,
        seed=seed,
    )
    left = float((found.select_margin <= 0).float().mean())
    return ConvergenceEvidence(
        path=victim.path,
        attack=attack.name,
        tier=attack.tier,
        n=len(images),
        accuracy=1.0,
        longer_accuracy=left,
        what=f"steps {steps} -> {2 * steps}, on {len(images)} of {survivors} survivors",
    )


def probe_tier_sweep(
    attack: TierAttack, victim: Victim, images: Images, labels: Labels, *, seed: int
) -> tuple[SweepEvidence, ...]:
    """A tier within no radius at all and within the whole pixel range (S2)."""
    found: list[SweepEvidence] = []
    for factor in TIER_SWEEP:
        eps = _radius(attack.norm, attack.eps, factor, images)
        attacked: Tensor = images
        if eps > 0:
            threat = Threat(attack.norm, eps)
            attacked = run_tier(
                attack.tier,
                victim,
                images,
                labels,
                threat,
                attack.budget,
                seed=seed,
            ).outcome.images
        found.append(
            SweepEvidence(
                path=victim.path,
                attack=attack.name,
                tier=attack.tier,
                factor=factor,
                eps=eps,
                n=len(images),
                accuracy=float(_right(victim, attacked, labels).float().mean()),
            )
        )
    return tuple(found)


def reach(attack: AttackSpec | TierAttack) -> ReachEvidence | None:
    """How far an attack of fixed steps can travel (S12); None for any other."""
    if isinstance(attack, PgdAttack | EotPgdAttack):
        settings = attack.settings
        travel = settings.steps * settings.step_size
        needed = attack.eps * (2 if settings.random_start else 1)
    elif isinstance(attack, MifgsmAttack):
        travel = attack.settings.steps * attack.settings.step_size
        needed = attack.eps
    elif isinstance(attack, TierAttack) and attack.tier in GRADIENT_TIERS:
        budget = attack.budget
        # Steps fall to a tenth of the first: on average they are 0.55 of it.
        travel = 0.55 * budget.step_share * attack.eps * budget.steps
        needed = attack.eps
    else:
        return None
    return ReachEvidence(
        attack=attack.name, tier=attack.tier, travel=travel, needed=needed
    )
