"""FGSM and PGD reach the exact optimum where it is known, and treat images alone."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchattacks
from attack_models import (
    Linear,
    Mapped,
    NoParameters,
    convnet,
    pictures,
    predictions,
    rngs,
)
from torch import Tensor, nn

from robustgen.attacks import Attack, build_fgsm, build_pgd, run_attack
from robustgen.attacks.logits import LogitsModule, margin
from robustgen.attacks.pgd import pgd
from robustgen.errors import RequestError
from robustgen.threat import Threat

EPS = 8 / 255
LINF = Threat("linf", EPS)
WEIGHT = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0))
PGD: dict[str, Any] = {
    "steps": 40,
    "step_size": 2 / 255,
    "restarts": 1,
    "random_start": True,
}


def preset_attacks() -> list[Attack]:
    return [
        build_fgsm(),
        build_pgd(steps=40, step_size=2 / 255),
        build_pgd(steps=40, step_size=2 / 255, loss="margin"),
    ]


@pytest.mark.parametrize("attack", preset_attacks())
@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("level", [0.0, 0.01, 0.5, 1.0])
def test_a_linear_model_s_optimum_is_reached_exactly(
    attack: Attack, label: int, level: float
):
    # Logits (z, -z), z = w.x: the best linf attack on label 0 is the clip of
    # x0 - eps * sign(w), on label 1 of x0 + eps * sign(w).
    images = torch.full((3, 1, 8, 8), level)
    labels = torch.full((3,), label)
    outcome = run_attack(attack, Linear(WEIGHT), images, labels, LINF, rngs(3))
    push = -EPS * WEIGHT.sign() * (1 if label == 0 else -1)
    expected = (images + push).clamp(0, 1)
    torch.testing.assert_close(outcome.images, expected, atol=1e-7, rtol=0)
    assert not outcome.clipped.any()


@pytest.mark.parametrize("attack", preset_attacks())
def test_robust_accuracy_of_a_linear_model_is_the_closed_form(attack: Attack):
    # Images at known distances of the boundary: |z| / |w|_1 in linf, inside the box.
    weight = 0.1 * WEIGHT
    base = torch.full((6, 1, 8, 8), 0.5)
    reach = torch.tensor([0.2, 0.5, 0.99, 1.01, 1.5, 3.0]) * EPS
    images = base + reach.view(-1, 1, 1, 1) * WEIGHT.sign()
    model = Linear(weight, bias=-0.5 * float(weight.sum()))
    labels = torch.zeros(6, dtype=torch.int64)
    outcome = run_attack(attack, model, images, labels, LINF, rngs(6))
    right = predictions(model, outcome.images) == 0
    assert right.tolist() == [False, False, False, True, True, True]


def test_fgsm_is_one_step_along_the_sign_of_the_gradient():
    model, images = convnet().eval(), pictures(5)
    labels = predictions(model, images)
    x = images.clone().requires_grad_()
    F.cross_entropy(model(x), labels, reduction="sum").backward()
    assert x.grad is not None
    outcome = run_attack(build_fgsm(), model, images, labels, LINF, rngs(5))
    expected = (images + EPS * x.grad.sign()).clamp(0, 1)
    torch.testing.assert_close(outcome.images, expected, atol=1e-7, rtol=0)
    assert outcome.forwards.tolist() == [1] * 5
    assert outcome.backwards.tolist() == [1] * 5


def test_fgsm_leaves_a_pixel_without_gradient_alone():
    weight = WEIGHT.clone()
    weight[:, :, :4] = 0
    labels = torch.zeros(2, dtype=torch.int64)
    images = pictures(2, low=0.2, high=0.8)
    outcome = run_attack(build_fgsm(), Linear(weight), images, labels, LINF, rngs(2))
    moved = outcome.images != images
    assert not moved[..., :4].any()
    assert moved[..., 4:].all()


@pytest.mark.parametrize(("steps", "restarts"), [(40, 1), (3, 4)])
def test_pgd_costs_a_pass_for_each_step_and_one_more_look(steps: int, restarts: int):
    attack = build_pgd(steps=steps, step_size=0.03, restarts=restarts)
    labels = torch.tensor([0, 1, 2])
    outcome = run_attack(attack, convnet(), pictures(3), labels, LINF, rngs(3))
    assert outcome.forwards.tolist() == [restarts * (steps + 1)] * 3
    assert outcome.backwards.tolist() == [restarts * steps] * 3


def recorded(model: nn.Module) -> tuple[list[Tensor], Callable[[Tensor], Tensor]]:
    """Every batch that a model is asked about, and the model that writes them down."""
    seen: list[Tensor] = []

    def logits_fn(images: Tensor) -> Tensor:
        seen.append(images.detach().clone())
        return model(images)

    return seen, logits_fn


def test_pgd_walks_the_path_of_torchattacks():
    model, images = convnet().eval(), pictures(4)
    labels = predictions(model, images)
    seen, logits_fn = recorded(model)
    settings: dict[str, Any] = PGD | {"steps": 10, "random_start": False}
    pgd(logits_fn, images, labels, LINF, rngs(4), **settings)
    theirs = torchattacks.PGD(
        model, eps=EPS, alpha=2 / 255, steps=10, random_start=False
    )(images, labels)
    torch.testing.assert_close(seen[-1], theirs, atol=1e-6, rtol=0)
    assert torch.equal(seen[0], images)


def test_pgd_keeps_the_strongest_of_all_iterates_and_restarts():
    # Steps as long as the ball is wide overshoot: the last iterate is not the best.
    model, images = convnet().eval(), pictures(6)
    labels = predictions(model, images)
    seen, logits_fn = recorded(model)
    settings: dict[str, Any] = PGD | {"steps": 5, "step_size": 0.3, "restarts": 3}
    found = pgd(logits_fn, images, labels, Threat("linf", 0.15), rngs(6), **settings)
    with torch.no_grad():
        margins = torch.stack([margin(model(x), labels) for x in seen])
        kept = margin(model(found), labels)
    assert len(seen) == 3 * 6
    torch.testing.assert_close(kept, margins.amax(dim=0))
    assert (kept > margins[-1]).any()


def test_pgd_never_keeps_an_image_whose_logits_are_not_finite():
    def nan_when_bright(x: Tensor) -> Tensor:
        bright = x.flatten(1).mean(dim=1, keepdim=True)
        logits = torch.cat([bright, -bright], dim=1)
        return torch.where(bright > 0.52, torch.nan, logits)

    labels = torch.ones(2, dtype=torch.int64)  # going brighter
    images = torch.stack([torch.full((1, 4, 4), 0.5), torch.full((1, 4, 4), 0.9)])
    attack = build_pgd(steps=4, step_size=0.01, random_start=False)
    outcome = run_attack(
        attack,
        Mapped(nn.Identity(), nan_when_bright),
        images,
        labels,
        Threat("linf", 0.04),
        rngs(2),
    )
    assert outcome.failed.tolist() == [False, True]
    torch.testing.assert_close(outcome.images[0], torch.full((1, 4, 4), 0.52))
    assert torch.equal(outcome.images[1], images[1])


def test_starts_are_spread_over_the_ball_and_belong_to_their_image():
    model, images = convnet().eval(), pictures(5, low=0.2, high=0.8)
    labels = torch.zeros(5, dtype=torch.int64)
    seen, logits_fn = recorded(model)
    pgd(logits_fn, images, labels, LINF, rngs(5), **PGD)
    offsets = (seen[0] - images) / EPS
    assert -1 <= offsets.min() < -0.95
    assert 0.95 < offsets.max() <= 1
    assert abs(float(offsets.mean())) < 0.1

    alone, logits_fn = recorded(model)
    pgd(logits_fn, images[3:4], labels[3:4], LINF, rngs(5)[3:4], **PGD)
    assert torch.equal(alone[0], seen[0][3:4])


def test_restarts_start_elsewhere():
    seen, logits_fn = recorded(convnet().eval())
    labels = torch.zeros(2, dtype=torch.int64)
    settings: dict[str, Any] = PGD | {"steps": 1, "step_size": 0.1, "restarts": 2}
    pgd(logits_fn, pictures(2), labels, LINF, rngs(2), **settings)
    assert not torch.equal(seen[0], seen[2])


def test_a_seed_gives_the_same_start_and_another_seed_another():
    def start(seed: int) -> Tensor:
        seen, logits_fn = recorded(convnet().eval())
        labels = torch.zeros(2, dtype=torch.int64)
        pgd(logits_fn, pictures(2), labels, LINF, rngs(2, seed=seed), **PGD)
        return seen[0]

    assert torch.equal(start(0), start(0))
    assert not torch.equal(start(0), start(1))


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "logits": lambda z: z,
    "all negative": lambda z: z - 100,
    "log-softmax": lambda z: z.log_softmax(dim=1),
    "probabilities": lambda z: z.softmax(dim=1),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("attack", preset_attacks())
def test_every_kind_of_score_is_attacked(
    attack: Attack, count: int, classes: int, change: str
):
    model = Mapped(convnet(classes=classes), CHANGES[change])
    images = pictures(count)
    labels = predictions(model, images)
    outcome = run_attack(
        attack, model, images, labels, Threat("linf", 0.15), rngs(count)
    )
    with torch.no_grad():
        before = margin(model(images), labels)
        after = margin(model(outcome.images), labels)
    assert (after > before).all()
    assert (after > 0).all()


def test_a_classifier_without_parameters_is_attacked():
    images = torch.full((2, 1, 4, 4), 0.52)
    labels = torch.zeros(2, dtype=torch.int64)
    for attack in preset_attacks():
        outcome = run_attack(attack, NoParameters(), images, labels, LINF, rngs(2))
        expected = torch.full((2, 1, 4, 4), 0.52 - EPS)
        torch.testing.assert_close(outcome.images, expected)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
@pytest.mark.parametrize("attack", preset_attacks())
def test_batch_size_changes_no_number(attack: Attack, batch_size: int):
    # In float64, so that rounding, which does depend on the batch, cannot turn a sign.
    model, images = convnet().double().eval(), pictures(5).double()
    labels = torch.tensor([0, 1, 2, 0, 1])
    whole = run_attack(attack, model, images, labels, LINF, rngs(5))
    parts = [
        run_attack(attack, model, images[s], labels[s], LINF, rngs(5)[s])
        for s in (slice(i, i + batch_size) for i in range(0, 5, batch_size))
    ]
    together = torch.cat([part.images for part in parts])
    torch.testing.assert_close(together, whole.images, atol=1e-12, rtol=0)
    assert torch.cat([part.forwards for part in parts]).tolist() == (
        whole.forwards.tolist()
    )


def test_fgsm_refuses_another_norm():
    with pytest.raises(RequestError, match=r"searches the linf norm.*Set `norm: linf`"):
        run_attack(
            build_fgsm(),
            convnet(),
            pictures(1),
            torch.tensor([0]),
            Threat("l2", 1.0),
            rngs(1),
        )


@pytest.mark.parametrize("threat", [Threat("none", torch.inf), Threat("l2", torch.inf)])
def test_pgd_refuses_what_is_no_ball(threat: Threat):
    with pytest.raises(RequestError, match="Attack 'pgd' searches a ball"):
        run_attack(
            build_pgd(**PGD),
            convnet(),
            pictures(1),
            torch.tensor([0]),
            threat,
            rngs(1),
        )


@pytest.mark.parametrize("attack", preset_attacks())
def test_a_classifier_that_passes_no_gradient_back_leaves_images_unbroken(
    attack: Attack,
):
    model = Mapped(convnet(), lambda z: z.detach()).eval()
    images = pictures(2)
    labels = predictions(model, images)
    outcome = run_attack(attack, model, images, labels, LINF, rngs(2))
    assert not outcome.failed.any()
    assert outcome.in_threat.all()


def test_the_margin_has_a_gradient_where_the_cross_entropy_has_none():
    # A lead of 2000 logits: float32 rounds the probability of the true class to 1.
    images, labels = torch.full((2, 1, 4, 4), 0.51), torch.zeros(2, dtype=torch.int64)
    model = Linear(torch.full((1, 4, 4), 6400.0), bias=-51200.0)
    for loss, broken in (("ce", False), ("margin", True)):
        attack = build_pgd(steps=5, step_size=0.01, random_start=False, loss=loss)
        outcome = run_attack(attack, model, images, labels, LINF, rngs(2))
        assert outcome.success.tolist() == [broken] * 2


def test_steps_too_short_to_cross_the_ball_are_refused():
    # torchattacks' defaults, 10 steps of 2/255, with eps 0.3 look like robustness.
    attack = build_pgd(steps=10, step_size=2 / 255)
    with pytest.raises(RequestError, match=r"0\.07843 is below 2 x eps = 0\.6"):
        run_attack(
            attack,
            convnet(),
            pictures(1),
            torch.tensor([0]),
            Threat("linf", 0.3),
            rngs(1),
        )


@pytest.mark.parametrize(
    ("key", "settings"),
    [
        ("steps", PGD | {"steps": 0}),
        ("restarts", PGD | {"restarts": 0}),
        ("step_size", PGD | {"step_size": 0.0}),
        ("step_size", PGD | {"step_size": 2.0}),
        ("restarts", PGD | {"restarts": 2, "random_start": False}),
        ("loss", PGD | {"loss": "hinge"}),
    ],
)
def test_settings_that_make_no_sense_are_refused(key: str, settings: dict[str, Any]):
    with pytest.raises(RequestError, match=f"Attack 'pgd': `{key}"):
        build_pgd(**settings)


def test_the_module_for_libraries_switches_nothing():
    model = convnet().train()
    torchattacks.FGSM(LogitsModule(model, torch.device("cpu")))(
        pictures(2), torch.tensor([0, 1])
    )
    assert all(module.training for module in model.modules())
