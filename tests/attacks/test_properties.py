"""What every attack does: treats images alone, stays in its set, leaves no trace.

And on linear models, whose robustness has a closed form, every attack finds exactly it.
"""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from attack_models import Linear, Mapped, convnet, pictures, predictions, rngs
from torch import Tensor, nn

from robustgen.attacks import (
    Attack,
    AttackOutcome,
    build_apgd,
    build_autoattack,
    build_cw,
    build_deepfool,
    build_eotpgd,
    build_fab,
    build_fgsm,
    build_mifgsm,
    build_pgd,
    build_rand_fgsm,
    build_square,
    run_attack,
)
from robustgen.catalog import build_attack
from robustgen.library import attack_names, load_attack
from robustgen.threat import Threat

LINF, L2, FREE = Threat("linf", 0.1), Threat("l2", 0.6), Threat("l2", torch.inf)

ATTACKS: dict[str, tuple[Callable[[], Attack], Threat]] = {
    "fgsm": (build_fgsm, LINF),
    "rand_fgsm": (lambda: build_rand_fgsm(alpha=0.03), LINF),
    "pgd": (lambda: build_pgd(steps=8, step_size=0.03, restarts=2), LINF),
    "pgd margin": (lambda: build_pgd(steps=8, step_size=0.03, loss="margin"), LINF),
    "pgd l2": (lambda: build_pgd(steps=8, step_size=0.2), L2),
    "mifgsm": (lambda: build_mifgsm(steps=5, step_size=0.03), LINF),
    "eotpgd": (lambda: build_eotpgd(steps=7, step_size=0.03, draws=2), LINF),
    "eotpgd l2": (lambda: build_eotpgd(steps=7, step_size=0.2, draws=2), L2),
    "deepfool": (lambda: build_deepfool(steps=10), FREE),
    "deepfool in a ball": (lambda: build_deepfool(steps=10), Threat("l2", 0.1)),
    "cw": (lambda: build_cw(steps=10, learning_rate=0.05, constants=(1, 10)), FREE),
    "cw in a ball": (
        lambda: build_cw(steps=10, learning_rate=0.05, constants=(10,)),
        Threat("l2", 0.1),
    ),
    "apgd": (lambda: build_apgd(steps=6), LINF),
    "apgd margin": (lambda: build_apgd(steps=6, loss="margin", restarts=2), LINF),
    "apgd targeted": (lambda: build_apgd(steps=4, targets=9), LINF),
    "apgd l2": (lambda: build_apgd(steps=6), L2),
    "fab": (lambda: build_fab(steps=4), LINF),
    "fab targeted": (lambda: build_fab(steps=3, targets=2), LINF),
    "fab l2": (lambda: build_fab(steps=4), FREE),
    "square": (lambda: build_square(queries=12), LINF),
    "square l2": (lambda: build_square(queries=12), L2),
    "autoattack": (lambda: build_autoattack(steps=3, queries=5, targets=2), LINF),
    "autoattack l2": (lambda: build_autoattack(steps=3, queries=5, targets=2), L2),
}
every_attack = pytest.mark.parametrize("name", ATTACKS)


def run(
    name: str,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    rng_list: list[torch.Generator] | None = None,
) -> AttackOutcome:
    build, threat = ATTACKS[name]
    drawn = rngs(len(images)) if rng_list is None else rng_list
    return run_attack(build(), model, images, labels, threat, drawn)


@pytest.mark.parametrize("name", attack_names())
def test_every_preset_gives_an_attack_whose_name_is_tested(name: str):
    spec = load_attack(name)
    attack, threat = build_attack(spec, ())
    assert callable(attack)
    assert threat == Threat(spec.norm, spec.eps)
    if spec.attack not in ("clean", "corruption"):
        assert any(key.split()[0] == spec.attack for key in ATTACKS)


@every_attack
@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("count", [1, 3])
def test_any_number_of_images_and_classes_is_attacked(
    name: str, count: int, classes: int
):
    model, images = convnet(classes=classes), pictures(count)
    labels = predictions(model, images)
    outcome = run(name, model, images, labels)
    threat = ATTACKS[name][1]
    assert outcome.images.shape == images.shape
    assert outcome.in_threat.all()
    assert threat.contains(outcome.images, images).all()
    assert not outcome.failed.any()
    wrong = predictions(model, outcome.images) != labels
    assert outcome.success.tolist() == wrong.tolist()
    assert outcome.margin_first.isfinite().all()
    assert (outcome.margin_best >= outcome.margin_first).all()
    assert (outcome.margin_best >= outcome.margin_last).all()
    assert (outcome.first_success <= outcome.forwards).all()


@every_attack
def test_an_image_does_not_see_its_batch(name: str):
    # In float64, so that rounding, which does depend on the batch, stays small. Alone,
    # in a partial batch, and in another order: the same image, the same passes.
    model, images = convnet().double().eval(), pictures(5).double()
    labels = torch.cat([predictions(model, images)[:4], torch.tensor([2])])
    whole = run(name, model, images, labels)
    for rows in ([3], [3, 4], [4, 2, 0, 3, 1]):
        part = run(name, model, images[rows], labels[rows], [rngs(5)[r] for r in rows])
        torch.testing.assert_close(part.images, whole.images[rows], atol=1e-7, rtol=0)
        assert part.forwards.tolist() == whole.forwards[rows].tolist()
        assert part.backwards.tolist() == whole.backwards[rows].tolist()
        assert part.success.tolist() == whole.success[rows].tolist()
        assert part.first_success.tolist() == whole.first_success[rows].tolist()
        torch.testing.assert_close(part.margin_best, whole.margin_best[rows])


@every_attack
def test_no_trace_is_left_in_the_model_or_the_generators(name: str):
    model, images = convnet().train(), pictures(3)
    model[2].eval()
    frozen = next(iter(model.parameters()))
    frozen.requires_grad_(False)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    modes = [module.training for module in model.modules()]
    required = [parameter.requires_grad for parameter in model.parameters()]
    values = {key: value.clone() for key, value in model.state_dict().items()}
    torch_state, numpy_state = torch.get_rng_state(), repr(np.random.get_state())

    run(name, model, images, torch.tensor([0, 1, 2]))

    assert torch.equal(torch.get_rng_state(), torch_state)
    assert repr(np.random.get_state()) == numpy_state
    assert [module.training for module in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == required
    assert all(bool((p.grad == 1).all()) for p in model.parameters())
    for key, value in model.state_dict().items():
        assert torch.equal(value, values[key])


@every_attack
def test_python_s_generator_is_as_after_an_attack_that_does_nothing(name: str):
    # The type checker of the tests draws from it on every call: how often differs from
    # attack to attack, so what an attack reads is compared, not what it leaves.
    build, threat = ATTACKS[name]
    inside: list[object] = []

    def attack(f: Any, x: Tensor, y: Tensor, t: Threat, r: Any) -> Tensor:
        result = build()(f, x, y, t, r)
        random.seed(1)  # what this attack leaves behind
        inside.append(random.getstate())
        return result

    random.seed(5)
    run_attack(attack, convnet(), pictures(2), torch.tensor([0, 1]), threat, rngs(2))
    assert random.getstate() not in inside


@every_attack
def test_nothing_depends_on_the_global_generators(name: str):
    model, images = convnet(), pictures(3)
    labels = predictions(model, images)
    first = run(name, model, images, labels)
    torch.rand(7)
    np.random.rand(7)
    random.random()
    assert torch.equal(run(name, model, images, labels).images, first.images)


@every_attack
def test_nan_logits_are_a_failure_and_never_a_success(name: str):
    images, labels = pictures(3), torch.tensor([0, 1, 2])
    outcome = run(name, Mapped(convnet(), lambda z: z * torch.nan), images, labels)
    assert not outcome.success.any()
    assert (outcome.first_success == -1).all()
    assert outcome.failed.all()
    assert torch.equal(outcome.images, images)


@every_attack
def test_nan_logits_of_an_image_do_not_touch_its_neighbors(name: str):
    # Bright pictures give NaN; the first one does so clean.
    net = convnet().double().eval()

    def spoiled(x: Tensor) -> Tensor:
        bright = x.detach().flatten(1).mean(dim=1, keepdim=True) > 0.8
        return torch.where(bright, torch.nan, net(x))

    model = Mapped(nn.Identity(), spoiled)
    images = torch.cat([torch.ones(1, 1, 8, 8), pictures(2)]).double()
    labels = torch.cat([torch.tensor([0]), predictions(net, images[1:])])
    outcome = run(name, model, images, labels)
    expected = run(name, net, images[1:], labels[1:], rngs(3)[1:])
    torch.testing.assert_close(outcome.images[1:], expected.images, atol=1e-7, rtol=0)
    assert not bool(outcome.success[0])
    assert torch.isfinite(outcome.images).all()


@every_attack
def test_a_classifier_without_gradients_is_no_error(name: str):
    model, images = Mapped(convnet(), lambda z: z.detach()), pictures(2)
    labels = predictions(model, images)
    outcome = run(name, model, images, labels)
    assert not outcome.failed.any()
    assert outcome.in_threat.all()


WEIGHT = torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(0))


def robust_linf(images: Tensor, labels: Tensor, bias: float, eps: float) -> Tensor:
    """The least lead of the true class in the box; the image is robust above 0."""
    side = (1 - 2 * labels).view(-1, 1, 1, 1)
    worst = (images - eps * side * WEIGHT.sign()).clamp(0, 1)
    return side.flatten() * ((worst * WEIGHT).flatten(1).sum(dim=1) + bias)


EXACT_LINF: dict[str, Attack] = {
    "fgsm": build_fgsm(),
    "pgd": build_pgd(steps=20, step_size=0.03),
    "pgd margin": build_pgd(steps=20, step_size=0.03, loss="margin"),
    "mifgsm": build_mifgsm(steps=10, step_size=0.03),
    "eotpgd": build_eotpgd(steps=20, step_size=0.03, draws=2),
    "apgd": build_apgd(steps=30),
    "apgd margin": build_apgd(steps=30, loss="margin"),
    "apgd targeted": build_apgd(steps=30, targets=9),
    "fab": build_fab(steps=20),
    "square": build_square(queries=800),
    "autoattack": build_autoattack(steps=30, queries=200),
}


@pytest.mark.parametrize("name", EXACT_LINF)
def test_linf_robustness_of_a_linear_model_is_the_closed_form(name: str):
    # Pictures of the whole range, so that the box [0, 1] binds for many pixels.
    images, eps = pictures(60, size=4), 0.1
    bias = -float((0.5 * WEIGHT).sum())
    model = Linear(WEIGHT, bias=bias)
    labels = predictions(model, images)
    lead = robust_linf(images, labels, bias, eps)
    assert 15 <= int((lead > 0).sum()) <= 45
    clear = lead.abs() / WEIGHT.abs().sum() > 1e-3
    assert int(clear.sum()) >= 55
    outcome = run_attack(
        EXACT_LINF[name], model, images, labels, Threat("linf", eps), rngs(60)
    )
    robust = predictions(model, outcome.images) == labels
    assert robust[clear].tolist() == (lead > 0)[clear].tolist()


EXACT_L2: dict[str, Attack] = {
    "pgd l2": build_pgd(steps=40, step_size=0.04),
    "pgd l2 margin": build_pgd(steps=40, step_size=0.04, loss="margin"),
    "eotpgd l2": build_eotpgd(steps=40, step_size=0.04, draws=2),
    "cw": build_cw(steps=300, learning_rate=0.005, constants=(1, 10)),
    "deepfool": build_deepfool(steps=10),
    "apgd l2": build_apgd(steps=40),
    "apgd l2 targeted": build_apgd(steps=40, targets=9),
    "fab l2": build_fab(steps=20),
    "autoattack l2": build_autoattack(steps=40, queries=200),
}


def l2_problem(eps: float) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """A linear model, pictures and labels, and by how much each is beyond `eps`.

    Far enough inside the box for it not to bind: |z| / |w| is the distance.
    """
    images = pictures(60, low=0.35, high=0.65, size=4)
    bias = -float((0.5 * WEIGHT).sum())
    model = Linear(WEIGHT, bias=bias)
    z = (images * WEIGHT).flatten(1).sum(dim=1) + bias
    return model, images, predictions(model, images), z.abs() / WEIGHT.norm() - eps


@pytest.mark.parametrize("name", EXACT_L2)
def test_l2_robustness_of_a_linear_model_is_the_distance_to_its_plane(name: str):
    model, images, labels, spare = l2_problem(eps=0.1)
    assert 15 <= int((spare > 0).sum()) <= 45
    clear = spare.abs() > 1e-3
    assert int(clear.sum()) >= 55
    outcome = run_attack(
        EXACT_L2[name], model, images, labels, Threat("l2", 0.1), rngs(60)
    )
    robust = predictions(model, outcome.images) == labels
    assert robust[clear].tolist() == (spare > 0)[clear].tolist()


def test_square_in_l2_breaks_what_is_near_and_nothing_that_cannot_be_broken():
    # Its patches are smooth bumps of 3 pixels or more. The weights here are noise,
    # which no sum of bumps follows: it stops short of the edge.
    model, images, labels, spare = l2_problem(eps=0.1)
    outcome = run_attack(
        build_square(queries=500), model, images, labels, Threat("l2", 0.1), rngs(60)
    )
    robust = predictions(model, outcome.images) == labels
    assert not robust[spare < -0.04].any()
    assert int((spare < -0.04).sum()) >= 15
    assert robust[spare > 0].all()
