"""A linear classifier of two classes, whose robustness has a closed form."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from robustgen.attacks import Attack, AttackOutcome, run_attack
from robustgen.canaries.result import Found
from robustgen.catalog import build_attack
from robustgen.library import (
    AttackSpec,
    RandFgsmAttack,
    attack_names,
    load_attack,
)
from robustgen.rngs import rng_for
from robustgen.threat import Norm, Threat
from robustgen.types import Flags, Images, Labels, Logits, PerSample

LINF_SIDE = 4
"""Few pixels, so that a random search can set the sign of each."""

L2_SIDE = 8
"""Room for the patches of a random search, which are 3 pixels wide or more."""

LINF_EPS = 0.1
L2_EPS = 0.3

QUERIES = 1000
"""Queries of a random search; it needs no more on so few pixels."""

SQUARE_L2_REACH = 0.7
"""Square's patches are pairs of bumps, so that in L2 it cannot take the shortest way:
of 30 images in the ball, 1,000 queries missed 9, the nearest at 0.74 of the radius."""

LEAST_NORM_SLACK = 0.1
"""How much farther than the plane an attack of least norm may end, as a share."""


@final
class LinearModel(nn.Module):
    """Logits (z, -z) with z = w.x + b."""

    def __init__(self, weight: Tensor, bias: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = bias

    def forward(self, images: Images) -> Logits:
        z = images.flatten(1) @ self.weight.flatten() + self.bias
        return torch.stack([z, -z], dim=1)


@dataclass(frozen=True, eq=False)
class Trial:
    """An attack on the linear classifier.

    Args:
        attack: Who searches.
        eps: Radius; infinite for an attack of least norm.
        reach: Share of the radius within which it must find what is there. 1 for what
            follows gradients; no attack may ever find more than there is.
    """

    attack: Attack
    eps: float
    reach: float = 1.0


@dataclass(frozen=True, eq=False)
class LinearProblem:
    """A linear classifier, images and labels.

    Args:
        model: The classifier.
        images: [N, 1, S, S].
        labels: 0 or 1 each.
    """

    model: LinearModel
    images: Images
    labels: Labels


def box_robust(problem: LinearProblem, eps: float) -> Flags:
    """Whether no image of the Linf ball and of [0, 1] turns the classifier.

    The worst one is x* = clip(x - eps * sign(w_y - w_o), 0, 1), pixel by pixel.
    """
    sign = torch.where(problem.labels == 0, 1.0, -1.0).view(-1, 1, 1, 1)
    x = problem.images - eps * sign * problem.model.weight.detach().sign()
    with torch.no_grad():
        z = problem.model(x.clamp(0, 1))[:, 0]
    return sign.flatten() * z > 0


def plane_distance(problem: LinearProblem) -> PerSample:
    """L2 distance to the plane between the classes; below 0 on its wrong side."""
    sign = torch.where(problem.labels == 0, 1.0, -1.0)
    with torch.no_grad():
        z = problem.model(problem.images)[:, 0]
    return sign * z / problem.model.weight.detach().norm()


def linf_problem(count: int = 24) -> LinearProblem:
    """Images of which half are robust at `LINF_EPS`, and where the box binds.

    Even draws from [0, 1], so that 1 pixel in 10 cannot move all the way. None is
    nearer to its verdict than a 20th of what the ball can do, so that a random search
    can tell. One image in 12 is misclassified from the start, and so not robust.
    """
    model = _model(LINF_SIDE)
    rng = rng_for(0, "linear", "images")
    images = torch.rand(50 * count, 1, LINF_SIDE, LINF_SIDE, generator=rng)
    every = LinearProblem(model, images, _predicted(model, images))
    gap = 0.05
    sure = box_robust(every, (1 + gap) * LINF_EPS)
    lost = ~box_robust(every, (1 - gap) * LINF_EPS)
    half = count // 2
    kept = torch.cat([images[sure][:half], images[lost][: count - half]])
    labels = _predicted(model, kept)
    flipped = max(1, count // 12)
    labels[-flipped:] = 1 - labels[-flipped:]
    return LinearProblem(model, kept, labels)


def l2_problem(count: int = 24) -> LinearProblem:
    """Images at 0.5 to 1.5 times `L2_EPS` from the plane, none within 15% of it.

    All lie so near to mid-gray that the box [0, 1] does not bind.
    """
    model = _model(L2_SIDE)
    direction = model.weight.detach() / model.weight.detach().norm()
    half = count // 2
    shares = torch.cat(
        [torch.linspace(0.5, 0.85, half), torch.linspace(1.15, 1.5, count - half)]
    )
    images: list[Tensor] = []
    for number, share in enumerate(shares.tolist()):
        rng = rng_for(1, "linear", number)
        gray = 0.45 + 0.1 * torch.rand(1, 1, L2_SIDE, L2_SIDE, generator=rng)
        with torch.no_grad():
            offset = float(model(gray)[0, 0]) / float(model.weight.norm())
        side = 1.0 if number % 2 else -1.0
        images.append(gray + (side * share * L2_EPS - offset) * direction)
    found = torch.cat(images)
    return LinearProblem(model, found, _predicted(model, found))


def shipped_attacks(norm: Norm, eps: float) -> dict[str, Trial]:
    """Every attack preset of a norm, at this radius; attacks of least norm at infinity.

    A kind of attack that can take the norm but has no preset of it, such as PGD in L2,
    comes with its other preset's settings. Step lengths follow the radius, and no
    attack gets more than `QUERIES` queries.
    """
    presets = [load_attack(name) for name in attack_names()]
    chosen = [spec for spec in presets if spec.norm == norm]
    for spec in presets:
        known = {one.attack for one in chosen}
        if norm in spec.norms and spec.norm != "none" and spec.attack not in known:
            chosen.append(spec)
    found: dict[str, Trial] = {}
    for spec in chosen:
        changed = _at(spec, norm, eps)
        name = spec.name if spec.norm == norm else f"{spec.name} in {norm}"
        found[name] = Trial(build_attack(changed, ())[0], changed.eps, _reach(changed))
    return found


def _reach(spec: AttackSpec) -> float:
    """Share of the radius within which an attack must find what is there."""
    if isinstance(spec, RandFgsmAttack):
        # Its random step may go the wrong way on every pixel.
        return 1 - 2 * spec.settings.alpha / spec.eps
    short = spec.norm == "l2" and spec.attack == "square"
    return SQUARE_L2_REACH if short else 1.0


def linf_canary(problem: LinearProblem, trials: Mapping[str, Trial]) -> Found:
    """Every Linf attack breaks exactly the images that can be broken."""
    wrong: list[str] = []
    robust = box_robust(problem, LINF_EPS)
    for name, trial in trials.items():
        outcome = _run(name, trial, problem, "linf")
        robust = box_robust(problem, trial.eps)
        within = box_robust(problem, trial.reach * trial.eps)
        wrong += _difference(name, outcome, robust, within)
    return _found(len(trials), wrong, float(robust.double().mean()))


def l2_canary(problem: LinearProblem, trials: Mapping[str, Trial]) -> Found:
    """Every L2 attack breaks exactly the images near enough to the plane.

    An attack of least norm breaks all of them, at most `LEAST_NORM_SLACK` farther away
    than the plane is.
    """
    wrong: list[str] = []
    distance = plane_distance(problem)
    for name, trial in trials.items():
        outcome = _run(name, trial, problem, "l2")
        within = distance > trial.reach * trial.eps
        wrong += _difference(name, outcome, distance > trial.eps, within)
        if trial.eps == math.inf:
            excess = float((outcome.distance_l2 / distance - 1).amax())
            if excess > LEAST_NORM_SLACK:
                wrong.append(f"{name} ends {excess:.0%} beyond the plane")
    return _found(len(trials), wrong, float((distance > L2_EPS).double().mean()))


def _at(spec: AttackSpec, norm: Norm, eps: float) -> AttackSpec:
    settings = getattr(spec, "settings", None)
    changed: dict[str, float] = {}
    for length in ("step_size", "alpha"):
        if hasattr(settings, length):
            changed[length] = getattr(settings, length) * eps / spec.eps
    if hasattr(settings, "queries"):
        changed["queries"] = QUERIES
    update: dict[str, object] = {"norm": norm}
    if isinstance(settings, BaseModel) and changed:
        update["settings"] = settings.model_copy(update=changed)
    if spec.eps != math.inf:
        update["eps"] = eps
    return spec.model_copy(update=update)


def _run(name: str, trial: Trial, problem: LinearProblem, norm: Norm) -> AttackOutcome:
    rngs = [rng_for(0, "linear", name, row) for row in range(len(problem.images))]
    return run_attack(
        trial.attack,
        problem.model,
        problem.images,
        problem.labels,
        Threat(norm, trial.eps),
        rngs,
        name=name,
    )


def _difference(
    name: str, outcome: AttackOutcome, robust: Flags, within: Flags
) -> list[str]:
    """How an attack differs from the closed form.

    Args:
        name: Of the attack.
        outcome: What it found.
        robust: Images that nothing in the ball breaks.
        within: Images that nothing breaks within the attack's reach.
    """
    missed = int((~outcome.success & ~within).sum())
    invented = int((outcome.success & robust).sum())
    parts = [f"misses {missed}"] if missed else []
    parts += [f"breaks {invented} that cannot be broken"] if invented else []
    if not parts:
        return []
    return [f"{name} {' and '.join(parts)} of {len(robust)} images"]


def _found(count: int, wrong: Sequence[str], exact: float) -> Found:
    if not count:
        return Found("no attack to try", passed=False)
    if wrong:
        return Found("; ".join(wrong), passed=False)
    return Found(f"{count} attacks leave {exact:.3f}, as it must be", passed=True)


def _model(side: int) -> LinearModel:
    """Weights of length 0.5, so that one constant of CW suits all distances here."""
    weight = torch.randn(1, 1, side, side, generator=rng_for(0, "linear", "weight"))
    weight = 0.5 * weight / weight.norm()
    return LinearModel(weight, -0.5 * float(weight.sum()))


def _predicted(model: LinearModel, images: Images) -> Labels:
    with torch.no_grad():
        return model(images).argmax(dim=1)
