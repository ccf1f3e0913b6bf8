"""The linear canary: its closed forms, and that it fails when something is wrong."""

import itertools
import math

import pytest
import torch

from robustgen.attacks import build_cw, build_deepfool, build_fgsm, build_pgd
from robustgen.attacks.attack import Rngs
from robustgen.canaries import linear
from robustgen.canaries.linear import (
    L2_EPS,
    LINF_EPS,
    LinearProblem,
    Trial,
    box_robust,
    l2_canary,
    l2_problem,
    linf_canary,
    linf_problem,
    plane_distance,
    shipped_attacks,
)
from robustgen.threat import Threat
from robustgen.types import Images, Labels, LogitsFn

PGD = Trial(build_pgd(steps=10, step_size=LINF_EPS / 4), LINF_EPS)


def idle(
    logits_fn: LogitsFn, images: Images, labels: Labels, threat: Threat, rngs: Rngs
) -> Images:
    """An attack that does nothing."""
    del logits_fn, labels, threat, rngs
    return images


def test_the_box_form_is_the_worst_corner_of_box_and_ball():
    problem = linf_problem(8)
    robust = box_robust(problem, LINF_EPS)
    for row in range(8):
        image = problem.images[row].flatten()
        low = (image - LINF_EPS).clamp(min=0)
        high = (image + LINF_EPS).clamp(max=1)
        signs = torch.tensor(list(itertools.product([0.0, 1.0], repeat=16)))
        corners = (low + signs * (high - low)).view(-1, 1, 4, 4)
        with torch.no_grad():
            right = problem.model(corners).argmax(dim=1) == problem.labels[row]
        assert bool(robust[row]) == bool(right.all())
    assert robust.tolist() == [True] * 4 + [False] * 4


def test_the_box_binds():
    problem = linf_problem()
    outside = (problem.images < LINF_EPS) | (problem.images > 1 - LINF_EPS)
    assert 0.1 < float(outside.double().mean()) < 0.3


def test_the_distance_is_that_of_the_foot_of_the_perpendicular():
    problem = l2_problem()
    weight = problem.model.weight.detach()
    sign = torch.where(problem.labels == 0, 1.0, -1.0)
    distance = plane_distance(problem)
    foot = problem.images - (sign * distance).view(-1, 1, 1, 1) * (
        weight / weight.norm()
    )
    with torch.no_grad():
        torch.testing.assert_close(
            problem.model(foot), torch.zeros(24, 2), atol=1e-6, rtol=0
        )
    assert bool(((foot > 0) & (foot < 1)).all())
    ratio = distance / L2_EPS
    assert float(ratio.min()) == pytest.approx(0.5, abs=1e-4)
    assert float(ratio.max()) == pytest.approx(1.5, abs=1e-4)


def test_gradient_attacks_match_the_closed_forms():
    found = linf_canary(linf_problem(), {"fgsm": Trial(build_fgsm(), 0.1), "pgd": PGD})
    assert found.passed, found.text
    assert "2 attacks leave 0.500" in found.text
    trials = {
        "pgd": Trial(build_pgd(steps=20, step_size=0.1), L2_EPS),
        "deepfool": Trial(build_deepfool(steps=10), math.inf),
    }
    found = l2_canary(l2_problem(), trials)
    assert found.passed, found.text


def test_every_shipped_attack_is_tried_in_every_norm_that_it_can_take():
    kinds = {"pgd", "apgd", "fab", "square", "autoattack"}
    for norm, eps, more in (
        ("linf", LINF_EPS, {"fgsm", "rand_fgsm", "mifgsm", "eotpgd"}),
        ("l2", L2_EPS, {"cw", "deepfool", "eotpgd"}),
    ):
        names = " ".join(shipped_attacks(norm, eps))  # pyright: ignore[reportArgumentType]
        assert {kind for kind in kinds | more if kind not in names} == set()


@pytest.mark.slow
def test_every_shipped_attack_matches_the_closed_forms():
    found = linf_canary(linf_problem(), shipped_attacks("linf", LINF_EPS))
    assert found.passed, found.text
    found = l2_canary(l2_problem(), shipped_attacks("l2", L2_EPS))
    assert found.passed, found.text


def test_an_attack_that_does_nothing_is_seen():
    found = linf_canary(linf_problem(), {"idle": Trial(idle, LINF_EPS), "pgd": PGD})
    assert not found.passed
    assert found.text == "idle misses 10 of 24 images"
    found = l2_canary(l2_problem(), {"idle": Trial(idle, L2_EPS)})
    assert not found.passed
    assert found.text == "idle misses 12 of 24 images"


def test_an_attack_of_half_the_radius_is_seen():
    def weak(
        logits_fn: LogitsFn, images: Images, labels: Labels, threat: Threat, rngs: Rngs
    ) -> Images:
        half = Threat(threat.norm, threat.eps / 2)
        return build_fgsm()(logits_fn, images, labels, half, rngs)

    assert not linf_canary(linf_problem(), {"weak": Trial(weak, LINF_EPS)}).passed


def test_a_wrong_closed_form_is_seen(monkeypatch: pytest.MonkeyPatch):
    def without_radius(problem: LinearProblem, eps: float) -> torch.Tensor:
        return box_robust(problem, eps / 2)

    monkeypatch.setattr(linear, "box_robust", without_radius)
    found = linf_canary(linf_problem(), {"pgd": PGD})
    assert not found.passed
    assert "that cannot be broken" in found.text


def test_an_attack_of_least_norm_that_goes_too_far_is_seen():
    trial = Trial(build_cw(steps=20, learning_rate=0.5, constants=(1000.0,)), math.inf)
    found = l2_canary(l2_problem(), {"cw": trial})
    assert not found.passed
    assert "beyond the plane" in found.text


def test_no_attack_is_no_proof():
    assert not linf_canary(linf_problem(), {}).passed
    assert not l2_canary(l2_problem(), {}).passed
