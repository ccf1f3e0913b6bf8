"""Whether the gradients that a tier follows say where to go."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from robustgen.adaptive.victim import Draw, Victim
from robustgen.attacks.isolation import isolated
from robustgen.evidence import GradientEvidence
from robustgen.probes.outputs import PROBE_DRAW
from robustgen.threat import Threat
from robustgen.types import Images, Labels, PerSample

STEP_SHARE = 0.1
"""Length of the step that must raise the loss, as a share of `eps`."""

SLOPE_STEP = 1e-3
"""Half the distance of central differences, as RMS change of a pixel."""

EXACT_TIER = "unrolled"
"""The tier whose gradient is meant to be exact; that of BPDA is an approximation.

That of a projection is not compared: its L1 term has a kink wherever a pixel is met,
and float32 cannot resolve differences that stay between two kinks. In float64
they agree, see the tests of `robustgen.projectors.unrolled`.
"""


def probe_gradients(
    victim: Victim,
    tier: str,
    images: Images,
    labels: Labels,
    threat: Threat,
    *,
    draws: int,
) -> GradientEvidence:
    """Health of the gradient of the cross-entropy at clean images (S7).

    Args:
        victim: The path, for these images.
        tier: Which of its surrogates.
        images: Clean images.
        labels: Their classes.
        threat: Its `eps` bounds the step that must raise the loss.
        draws: Draws over which the attack averages a gradient.
    """
    with isolated(victim.networks, images.device, ()):
        first = _gradient(victim, tier, images, labels, PROBE_DRAW, draws)
        cosine = slope_error = torch.full((len(images),), torch.nan)
        if victim.random:
            half = PROBE_DRAW + draws
            second = _gradient(victim, tier, images, labels, half, draws)
            cosine = F.cosine_similarity(first.flatten(1), second.flatten(1))
        elif tier == EXACT_TIER and victim.generative is None:
            slope_error = _slope_error(victim, tier, images, labels, first)
        norms = first.flatten(1).norm(dim=1)
        gain = _gain(victim, images, labels, first, threat)
    usable = norms[torch.isfinite(norms)]
    low, median, high = (
        torch.quantile(usable, q).item() if len(usable) else torch.nan
        for q in (0.1, 0.5, 0.9)
    )
    return GradientEvidence(
        path=victim.path,
        tier=tier,
        n=len(images),
        zero_share=float((norms == 0).float().mean()),
        nonfinite_share=float((~torch.isfinite(norms)).float().mean()),
        norm_low=low,
        norm_median=median,
        norm_high=high,
        cosine=float(cosine.nanmean()),
        slope_error=float(slope_error.nanmedian()),
        gain=gain,
    )


def _loss(
    victim: Victim, tier: str, images: Images, labels: Labels, number: int
) -> PerSample:
    rows = torch.arange(len(images), device=images.device)
    found = victim.surrogates[tier](images, rows, Draw("select", number))
    return F.cross_entropy(found, labels, reduction="none")


def _gradient(
    victim: Victim, tier: str, images: Images, labels: Labels, start: int, draws: int
) -> Float[Tensor, "batch channel height width"]:
    x = images.clone().requires_grad_()
    total = torch.zeros_like(images)
    for number in range(start, start + draws):
        loss = _loss(victim, tier, x, labels, number).sum()
        (gradient,) = torch.autograd.grad(loss, x)
        total += gradient
    return total / draws


def _slope_error(
    victim: Victim, tier: str, images: Images, labels: Labels, gradient: Images
) -> PerSample:
    """Relative error of what the gradient promises along its own direction.

    The two ends of the difference are kept in [0, 1], and the promise is for where they
    are then.
    """
    norms = gradient.flatten(1).norm(dim=1)
    step = SLOPE_STEP * images[0].numel() ** 0.5
    unit = gradient / norms.clamp(min=1e-30).view(-1, 1, 1, 1)
    above = (images + step * unit).clamp(0, 1)
    below = (images - step * unit).clamp(0, 1)
    with torch.no_grad():
        rise = _loss(victim, tier, above, labels, PROBE_DRAW) - _loss(
            victim, tier, below, labels, PROBE_DRAW
        )
    promised = (gradient * (above - below)).flatten(1).sum(dim=1)
    error = (rise - promised).abs() / promised.abs().clamp(min=1e-30)
    return torch.where(promised != 0, error, torch.nan)


def _gain(
    victim: Victim, images: Images, labels: Labels, gradient: Images, threat: Threat
) -> float:
    """Share of images whose loss on the full path rises after a small step."""
    rows = torch.arange(len(images), device=images.device)
    length = STEP_SHARE * min(threat.eps, 1.0)
    direction = gradient.sign()
    if threat.norm == "l2":
        norms = gradient.flatten(1).norm(dim=1).clamp(min=1e-30).view(-1, 1, 1, 1)
        direction = gradient / norms
    moved = threat.clip(images + length * direction.nan_to_num(0), images)
    draw = Draw("select", PROBE_DRAW)
    with torch.no_grad():
        before = F.cross_entropy(
            victim.predict(images, rows, draw), labels, reduction="none"
        )
        after = F.cross_entropy(
            victim.predict(moved, rows, draw), labels, reduction="none"
        )
    return float((after > before).float().mean())
