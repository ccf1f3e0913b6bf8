"""RAND+FGSM: a random step of alpha, then a step of eps - alpha along the sign."""

import math

import pytest
import torch
import torch.nn.functional as F
import torchattacks
from attack_models import Linear, convnet, pictures, predictions, rngs
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from robustgen.attacks import build_fgsm, build_rand_fgsm, run_attack
from robustgen.errors import RequestError
from robustgen.library import AttackSpec, RandFgsmAttack, load_attack
from robustgen.threat import Threat

EPS, ALPHA = 0.3, 0.05
LINF = Threat("linf", EPS)
WEIGHT = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0))


def signs(count: int) -> Tensor:
    """The random signs that the attack draws from `rngs(count)`."""
    return torch.stack([torch.randn(1, 8, 8, generator=r).sign() for r in rngs(count)])


@pytest.mark.parametrize("label", [0, 1])
def test_the_step_on_a_linear_model_is_the_closed_form(label: int):
    # Logits (z, -z), z = w.x: wherever the random step leads, the gradient's sign is
    # that of -w for label 0 and of w for label 1.
    images, labels = pictures(6), torch.full((6,), label)
    outcome = run_attack(
        build_rand_fgsm(alpha=ALPHA), Linear(WEIGHT), images, labels, LINF, rngs(6)
    )
    push = WEIGHT.sign() * (-1 if label == 0 else 1)
    middle = (images + ALPHA * signs(6)).clamp(0, 1)
    expected = (middle + (EPS - ALPHA) * push).clamp(0, 1)
    torch.testing.assert_close(outcome.images, expected, atol=1e-6, rtol=0)
    # A pixel of the inside ends at eps or at eps - 2 alpha from where it was.
    inside = (images > EPS) & (images < 1 - EPS)
    moved = ((outcome.images - images) * push)[inside]
    near = [(moved - length).abs() < 1e-6 for length in (EPS, EPS - 2 * ALPHA)]
    assert bool((near[0] | near[1]).all())
    assert 0.4 < float(near[0].float().mean()) < 0.6
    assert not outcome.clipped.any()
    assert float(outcome.distance_linf.max()) == pytest.approx(EPS, abs=1e-6)


def test_the_gradient_is_that_of_the_point_after_the_random_step():
    model, images = convnet().eval(), pictures(5)
    labels = predictions(model, images)
    middle = (images + ALPHA * signs(5)).clamp(0, 1).requires_grad_()
    loss = F.cross_entropy(model(middle), labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, middle)
    expected = (middle.detach() + (EPS - ALPHA) * gradient.sign()).clamp(0, 1)
    outcome = run_attack(
        build_rand_fgsm(alpha=ALPHA), model, images, labels, LINF, rngs(5)
    )
    torch.testing.assert_close(outcome.images, expected, atol=1e-6, rtol=0)
    assert outcome.forwards.tolist() == [1] * 5
    assert outcome.backwards.tolist() == [1] * 5


def test_without_a_random_step_it_is_fgsm():
    model, images = convnet().eval(), pictures(5)
    labels = predictions(model, images)
    found = [
        run_attack(attack, model, images, labels, LINF, rngs(5)).images
        for attack in (build_rand_fgsm(alpha=0.0), build_fgsm())
    ]
    assert torch.equal(*found)


@pytest.mark.parametrize("level", [0.0, 0.02, 0.98, 1.0])
def test_the_result_lies_in_the_ball_and_in_the_box(level: float):
    images = torch.full((4, 1, 8, 8), level)
    model = convnet().eval()
    outcome = run_attack(
        build_rand_fgsm(alpha=0.2),
        model,
        images,
        torch.tensor([0, 1, 2, 0]),
        LINF,
        rngs(4),
    )
    assert outcome.in_threat.all()
    assert not outcome.clipped.any()
    assert float(outcome.distance_linf.max()) <= EPS + 1e-6
    assert 0 <= float(outcome.images.min()) <= float(outcome.images.max()) <= 1


def test_each_image_has_its_own_signs_whatever_its_batch():
    model, images = convnet().double().eval(), pictures(4).double()
    labels, attack = predictions(model, images), build_rand_fgsm(alpha=ALPHA)
    whole = run_attack(attack, model, images, labels, LINF, rngs(4)).images
    for row in range(4):
        part = slice(row, row + 1)
        alone = run_attack(
            attack, model, images[part], labels[part], LINF, rngs(4)[part]
        )
        torch.testing.assert_close(alone.images, whole[part], atol=1e-9, rtol=0)
    again = run_attack(attack, model, images, labels, LINF, rngs(4, seed=1)).images
    assert not torch.equal(again, whole)


def test_upstream_has_another_step_length():
    # torchattacks' RFGSM goes on by steps of alpha: one step of it stops 0.2 short.
    model, images = Linear(WEIGHT), pictures(3, low=0.4, high=0.6)
    labels = torch.zeros(3, dtype=torch.int64)
    attack = torchattacks.RFGSM(model, eps=EPS, alpha=ALPHA, steps=1)
    assert float((attack(images, labels) - images).abs().max()) < 2 * ALPHA + 1e-6


@pytest.mark.parametrize("alpha", [-0.1, 1.0, math.nan])
def test_lengths_that_make_no_sense_are_refused(alpha: float):
    with pytest.raises(RequestError, match="Attack 'rand_fgsm': `alpha"):
        build_rand_fgsm(alpha=alpha)


@pytest.mark.parametrize(
    ("threat", "message"),
    [
        (Threat("linf", 0.05), "`alpha: 0.05` must be below `eps` = 0.05"),
        (Threat("l2", 1.0), "searches the linf norm"),
    ],
)
def test_threats_that_do_not_fit_are_refused(threat: Threat, message: str):
    with pytest.raises(RequestError, match=message):
        run_attack(
            build_rand_fgsm(alpha=0.05),
            convnet(),
            pictures(1),
            torch.tensor([0]),
            threat,
            rngs(1),
        )


def test_the_preset_is_the_published_one():
    spec = load_attack("rand_fgsm")
    assert isinstance(spec, RandFgsmAttack)
    assert (spec.norm, spec.eps, spec.settings.alpha) == ("linf", 0.3, 0.05)


def test_a_suite_whose_random_step_uses_up_eps_is_refused():
    data = {
        "name": "rand_fgsm",
        "attack": "rand_fgsm",
        "norm": "linf",
        "eps": "8/255",
        "settings": {"alpha": 0.05},
    }
    with pytest.raises(ValidationError, match="leaves nothing of eps="):
        TypeAdapter(AttackSpec).validate_python(data)
