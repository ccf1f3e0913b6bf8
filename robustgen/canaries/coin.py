"""A classifier that ignores its image and is right by luck, nine times in ten."""

from collections.abc import Sequence
from typing import final

import torch
from torch import nn

from robustgen.adaptive.ladder import run_tier
from robustgen.adaptive.scoring import score_draws
from robustgen.adaptive.whole import whole_victim
from robustgen.attacks import Attack, build_apgd, run_attack
from robustgen.budgets import BUDGETS
from robustgen.canaries.result import Found
from robustgen.intervals import wilson_interval
from robustgen.rngs import rng_for
from robustgen.threat import Threat
from robustgen.types import Images, Labels, Logits

RIGHT = 0.9
"""True accuracy of the coin, attacked or not."""

COUNT = 100
DRAWS = 20
RULE_COUNT = 1000

TIERS = ("unrolled", "square")

THREAT = Threat("linf", 32 / 255)


@final
class Coin(nn.Module):
    """Class 0 with probability `right`, else class 1, whatever the image.

    Drawn from torch's global generator, as a user's module would.
    """

    def __init__(self, right: float = RIGHT) -> None:
        super().__init__()
        self.right = right

    def forward(self, images: Images) -> Logits:
        wrong = torch.rand(len(images)) >= self.right
        logits = torch.stack([~wrong, wrong], dim=1).to(images) * 4
        # A slope that leads nowhere, so that attacks have something to follow.
        return logits + 0.01 * images.flatten(1).mean(dim=1, keepdim=True)


def coin_canary(module: nn.Module, *, count: int = COUNT, draws: int = DRAWS) -> Found:
    """Attacked by the ladder and scored on fresh draws, the coin keeps its 0.90."""
    images, labels = _problem(count)
    victim = whole_victim(module, module, range(count), classes=2, random=True, seed=0)
    shares: list[float] = []
    passed = True
    for tier in TIERS:
        budget = BUDGETS["smoke"]
        found = run_tier(tier, victim, images, labels, THREAT, budget, seed=0)
        drawn = score_draws(victim, found.outcome.images, draws).argmax(dim=2)
        right = int((drawn == labels[:, None]).sum())
        low, high = wilson_interval(right, drawn.numel())
        passed &= low <= RIGHT <= high
        shares.append(right / drawn.numel())
    rule = autoattack_rule(module, *_problem(RULE_COUNT))
    listed = ", ".join(
        f"{tier} {share:.3f}" for tier, share in zip(TIERS, shares, strict=True)
    )
    return Found(
        f"{listed} on {count} x {draws} fresh draws; AutoAttack's rule would say "
        f"{rule:.2f}",
        passed,
    )


def autoattack_rule(
    module: nn.Module,
    images: Images,
    labels: Labels,
    attacks: Sequence[Attack] | None = None,
) -> float:
    """Robust accuracy as AutoAttack counts it: an image must survive every look.

    The clean image is looked at once, and so is what each part returns for the images
    that are left. On a random classifier each look is one more chance to be unlucky.

    Args:
        module: The classifier.
        images: Clean images.
        labels: True classes.
        attacks: Its parts; by default two of a small budget, as many as the official
            version `rand` has.
    """
    if attacks is None:
        attacks = [build_apgd(steps=5), build_apgd(steps=5, loss="margin")]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(0)
        robust = module(images).argmax(dim=1) == labels
    for number, attack in enumerate(attacks):
        rows = robust.nonzero().flatten()
        if not len(rows):
            break
        rngs = [rng_for(0, "rule", number, int(row)) for row in rows]
        outcome = run_attack(attack, module, images[rows], labels[rows], THREAT, rngs)
        robust[rows] = ~outcome.success
    return float(robust.double().mean())


def _problem(count: int) -> tuple[Images, Labels]:
    images = torch.rand(count, 1, 8, 8, generator=rng_for(0, "coin"))
    return images, torch.zeros(count, dtype=torch.int64)
