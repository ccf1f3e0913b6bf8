"""What a path returns on clean images, and whether it is as random as it says."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from robustgen.adaptive.victim import Draw, Victim
from robustgen.attacks.isolation import isolated
from robustgen.evidence import OutputEvidence, RandomnessEvidence
from robustgen.rngs import rng_for
from robustgen.types import Images, Labels, Logits

PROBE_DRAW = 1_000_000
"""Number of the first draw that probes use, beyond those of any budget."""

SAME = 1e-5
"""Outputs nearer than this are taken to be equal: networks round."""


def probe_outputs(
    victim: Victim, raw: Logits, images: Images, labels: Labels
) -> OutputEvidence:
    """What a path returns for clean images (S10).

    Args:
        victim: The path, for these images.
        raw: What its module returned for them: logits of the classifier or of a whole
            defense.
        images: Clean images.
        labels: Their classes.
    """
    rows = torch.arange(len(images), device=images.device)
    with isolated(victim.networks, images.device, ()), torch.no_grad():
        found = victim.predict(images, rows, Draw("select", PROBE_DRAW))
    predicted = found.argmax(dim=1)
    return OutputEvidence(
        path=victim.path,
        classes=victim.classes,
        finite=bool(torch.isfinite(raw).all() and not found.isnan().any()),
        kind=_kind(raw),
        all_negative_share=float((raw < 0).all(dim=1).float().mean()),
        top_class_share=_top_share(predicted),
        top_label_share=_top_share(labels),
        saturated_share=float((found.amax(dim=1) > -1e-7).float().mean()),
    )


def _kind(
    raw: Float[Tensor, "n k"],
) -> Literal["logits", "log_probabilities", "probabilities"]:
    ones = torch.ones(len(raw), device=raw.device)
    inside = bool(((raw >= 0) & (raw <= 1)).all())
    if inside and torch.allclose(raw.sum(dim=1), ones, atol=1e-4):
        return "probabilities"
    if bool((raw <= 0).all()) and torch.allclose(raw.exp().sum(dim=1), ones, atol=1e-4):
        return "log_probabilities"
    return "logits"


def _top_share(classes: Labels) -> float:
    return float(torch.bincount(classes).max()) / len(classes)


def probe_randomness(victim: Victim, images: Images) -> RandomnessEvidence:
    """Whether a path draws, and whether its draws are its own (S11).

    Args:
        victim: The path, for these images.
        images: Clean images; few suffice.
    """
    one = _answer(victim, images, PROBE_DRAW, world=0)
    again = _answer(victim, images, PROBE_DRAW, world=0)
    elsewhere = _answer(victim, images, PROBE_DRAW, world=1)
    other = _answer(victim, images, PROBE_DRAW + 1, world=0)
    return RandomnessEvidence(
        path=victim.path,
        declared=victim.random,
        detected=not _same(one, other) or not _same(one, elsewhere),
        repeatable=_same(one, again),
        uses_global_rng=not _same(one, elsewhere),
    )


def _same(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one.exp(), other.exp(), rtol=0, atol=SAME, equal_nan=True)


def _answer(victim: Victim, images: Images, number: int, *, world: int) -> Tensor:
    """One draw, while the global generators are in one of several states."""
    rows = torch.arange(len(images), device=images.device)
    # Inside, the global generators are seeded from the one that is handed over.
    elsewhere = (rng_for(world, "probe randomness"),)
    with isolated(victim.networks, images.device, elsewhere), torch.no_grad():
        return victim.predict(images, rows, Draw("select", number))
