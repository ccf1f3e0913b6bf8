"""FAB finds the nearest misclassified image, in linf and in L2."""

from typing import Any

import pytest
import torch
import torchattacks
from attack_models import Linear, Mapped, convnet, pictures, predictions, rngs
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchattacks.attacks.fab import projection_l2, projection_linf

from robustgen.attacks import build_fab, run_attack
from robustgen.attacks.fab import shortest_step
from robustgen.errors import RequestError
from robustgen.threat import Norm, Threat

WEIGHT = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0))
FAR = {"linf": Threat("linf", 1.0), "l2": Threat("l2", torch.inf)}
UPSTREAM = {"linf": "Linf", "l2": "L2"}
NORMS: list[Norm] = ["linf", "l2"]


def distance(norm: Norm, outcome: Any) -> Tensor:
    return outcome.distance_linf if norm == "linf" else outcome.distance_l2


@pytest.mark.parametrize("targets", [0, 1])
@pytest.mark.parametrize("norm", NORMS)
def test_the_least_distance_of_a_linear_model_is_found(norm: Norm, targets: int):
    # Logits (z, -z), z = w.x: the boundary is |z| / |w|_1 away in linf, |z| / |w|_2 in
    # L2. Images are moved along the steepest way until it is as far as asked.
    way = WEIGHT.sign() if norm == "linf" else WEIGHT / WEIGHT.norm()
    expected = torch.tensor([0.01, 0.1, 0.3])
    images = 0.5 + expected.view(-1, 1, 1, 1) * way
    model = Linear(WEIGHT, bias=-0.5 * float(WEIGHT.sum()))
    labels = torch.zeros(3, dtype=torch.int64)
    attack = build_fab(steps=30, targets=targets)
    outcome = run_attack(attack, model, images, labels, FAR[norm], rngs(3))
    assert (predictions(model, outcome.images) == 1).all()
    torch.testing.assert_close(distance(norm, outcome), expected, rtol=0.01, atol=0)
    assert outcome.forwards.tolist() == [61] * 3
    assert outcome.backwards.tolist() == [30] * 3


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("norm", NORMS)
def test_the_nearest_image_is_the_one_of_torchattacks(
    norm: Norm, classes: int, targeted: bool
):
    model, images = convnet(classes=classes).eval(), pictures(8)
    labels = predictions(model, images)
    upstream = torchattacks.FAB(
        model,
        UPSTREAM[norm],
        eps=1.0 if norm == "linf" else 8.0,
        steps=15,
        n_classes=classes,
        multi_targeted=targeted,
    )
    if targeted:  # it stops at the first target that breaks an image
        upstream.n_target_classes = 1
    with torch.random.fork_rng(devices=[]):
        theirs = upstream(images, labels)
    attack = build_fab(steps=15, targets=int(targeted))
    outcome = run_attack(attack, model, images, labels, FAR[norm], rngs(8))
    assert (predictions(model, outcome.images) != labels).all()
    gap = (outcome.images - theirs).flatten(1).norm(dim=1)
    assert float(gap.median()) < 1e-4
    length = FAR[norm].distance(theirs, images)
    torch.testing.assert_close(distance(norm, outcome), length, rtol=0.02, atol=0)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    size=st.floats(0.0, 3.0),
    pixels=st.sampled_from([1, 2, 5, 64]),
    norm=st.sampled_from(NORMS),
)
def test_the_step_to_a_boundary_is_the_shortest_in_the_box(
    seed: int, size: float, pixels: int, norm: Norm
):
    rng = torch.Generator().manual_seed(seed)
    points = torch.rand(6, pixels, generator=rng).double()
    points[0] = points[0].round()  # on the edges of the box
    normal = torch.randn(6, pixels, generator=rng).double()
    normal[1, 0] = 0.0
    gap = size * torch.randn(6, generator=rng).double()
    step = shortest_step(points, normal, gap, norm)
    moved = (points + step).clamp(0, 1)
    torch.testing.assert_close(points + step, moved, atol=1e-12, rtol=0)

    up = normal * gap.sign()[:, None]
    most = (up * torch.where(up > 0, 1 - points, -points)).sum(dim=1)
    expected = gap.sign() * torch.minimum(gap.abs(), most)
    reached = (normal * step).sum(dim=1)
    torch.testing.assert_close(reached, expected, atol=1e-9, rtol=1e-9)

    project = projection_linf if norm == "linf" else projection_l2
    offset = (normal * points).sum(dim=1) + gap
    theirs = project(points.clone(), normal.clone(), offset.clone())
    order = torch.inf if norm == "linf" else 2
    feasible = (gap.abs() < most - 1e-6) & (gap.abs() > 1e-6)
    torch.testing.assert_close(
        step.norm(p=order, dim=1)[feasible],
        theirs.norm(p=order, dim=1)[feasible],
        atol=1e-6,
        rtol=1e-6,
    )


@pytest.mark.parametrize("norm", NORMS)
def test_a_gradient_of_zero_or_nearly_moves_no_pixel_to_nan(norm: Norm):
    points = torch.rand(3, 5, generator=torch.Generator().manual_seed(0))
    normal = torch.zeros(3, 5)
    normal[1] = 1e-38
    normal[2, 0] = 1e20
    step = shortest_step(points, normal, torch.tensor([1.0, 1.0, 1e19]), norm)
    assert torch.isfinite(step).all()
    assert (step[0] == 0).all()
    torch.testing.assert_close(
        step[2, 0], torch.tensor(0.1).clamp(max=1 - points[2, 0])
    )


@pytest.mark.parametrize("norm", NORMS)
def test_what_is_not_broken_comes_back_as_a_near_miss_and_upstream_s_clean(norm: Norm):
    model, images = convnet(classes=5).eval(), pictures(6)
    labels = predictions(model, images)
    threat = Threat(norm, 0.01 if norm == "linf" else 0.05)
    with torch.random.fork_rng(devices=[]):
        theirs = torchattacks.FAB(model, UPSTREAM[norm], threat.eps, n_classes=5)(
            images, labels
        )
    outcome = run_attack(build_fab(steps=10), model, images, labels, threat, rngs(6))
    missed = predictions(model, outcome.images) == labels
    assert missed.any()
    assert torch.equal(theirs[missed], images[missed])
    # The way to the nearest boundary, up to the edge of the ball.
    reached = threat.distance(outcome.images, images)[missed]
    torch.testing.assert_close(
        reached, torch.full_like(reached, threat.eps), rtol=1e-4, atol=0
    )
    assert not outcome.clipped.any()


def test_all_targets_find_no_more_distant_image_than_one():
    model, images = convnet(classes=5), pictures(6)
    labels = predictions(model, images)
    lengths: list[Tensor] = []
    for targets in (1, 4, 9):
        attack = build_fab(steps=10, targets=targets)
        outcome = run_attack(attack, model, images, labels, FAR["l2"], rngs(6))
        lengths.append(outcome.distance_l2)
        assert outcome.forwards.tolist() == [1 + 20 * min(targets, 4)] * 6
    assert (lengths[1] <= lengths[0]).all()
    assert (lengths[1] < lengths[0] - 1e-3).any()
    assert torch.equal(lengths[1], lengths[2])


def spoil(x: Tensor) -> Tensor:
    """Class 1 for bright images, and NaN for the dark and the very bright."""
    bright = x.flatten(1).mean(dim=1, keepdim=True)
    logits = torch.cat([1 - bright, bright], dim=1)
    return torch.where((bright > 0.8) | (bright < 0.54), torch.nan, logits)


def test_upstream_takes_nan_for_a_success_and_ours_never_does():
    model = Mapped(nn.Identity(), spoil)
    images = torch.stack([torch.full((1, 4, 4), v) for v in (0.6, 0.95)])
    labels = torch.ones(2, dtype=torch.int64)
    device_owner = nn.ParameterList([torch.zeros(1)])
    model.add_module("device_owner", device_owner)
    with torch.random.fork_rng(devices=[]):
        theirs = torchattacks.FAB(model, "Linf", eps=0.3, steps=10, n_classes=2)(
            images[:1], labels[:1]
        )
    with torch.no_grad():
        assert model(theirs).isnan().all()
    outcome = run_attack(
        build_fab(steps=10), model, images, labels, Threat("linf", 0.3), rngs(2)
    )
    assert outcome.failed.tolist() == [False, True]
    with torch.no_grad():
        assert model(outcome.images[:1]).isfinite().all()


def test_upstream_refuses_float64():
    model, images = convnet().double().eval(), pictures(2).double()
    labels = predictions(model, images)
    with torch.random.fork_rng(devices=[]), pytest.raises(RuntimeError, match="type"):
        torchattacks.FAB(model, n_classes=3)(images, labels)


@pytest.mark.parametrize("targets", [0, 2])
@pytest.mark.parametrize("norm", NORMS)
def test_no_neighbor_changes_an_image(norm: Norm, targets: int):
    # In float64, so that rounding, which does depend on the batch, stays small.
    model, images = convnet(classes=5).double().eval(), pictures(5).double()
    labels = predictions(model, images)
    labels[2] = (labels[2] + 1) % 5  # misclassified without an attack
    attack = build_fab(steps=8, targets=targets)
    threat = Threat(norm, 0.03 if norm == "linf" else 0.3)
    whole = run_attack(attack, model, images, labels, threat, rngs(5))
    assert torch.equal(whole.images[2], images[2])
    for part in (slice(0, 1), slice(1, 3), slice(3, 5)):
        alone = run_attack(
            attack, model, images[part], labels[part], threat, rngs(5)[part]
        )
        torch.testing.assert_close(alone.images, whole.images[part], atol=1e-9, rtol=0)
        assert torch.equal(alone.forwards, whole.forwards[part])


def test_a_threat_without_a_norm_is_refused():
    with pytest.raises(RequestError, match=r"Attack 'fab' searches a ball"):
        run_attack(
            build_fab(steps=3),
            convnet(),
            pictures(1),
            torch.tensor([0]),
            Threat("none", 0.0),
            rngs(1),
        )


@pytest.mark.parametrize(("key", "value"), [("steps", 0), ("targets", -1)])
def test_settings_that_make_no_sense_are_refused(key: str, value: int):
    settings: dict[str, Any] = {"steps": 3, key: value}
    with pytest.raises(RequestError, match=f"Attack 'fab': `{key}"):
        build_fab(**settings)
