"""DeepFool finds the nearest boundary of a linear model, and survives flat ones."""

from typing import Any

import pytest
import torch
from attack_models import Linear, Mapped, convnet, pictures, predictions, rngs
from torch import Tensor, nn

from robustgen.attacks import AttackOutcome, build_deepfool, run_attack
from robustgen.errors import RequestError
from robustgen.threat import Threat

L2 = Threat("l2", torch.inf)
DEEPFOOL: dict[str, Any] = {"steps": 50, "overshoot": 0.02, "classes": 10}


def run(
    model: nn.Module, images: Tensor, labels: Tensor, threat: Threat = L2, **more: Any
) -> AttackOutcome:
    attack = build_deepfool(**(DEEPFOOL | more))
    return run_attack(attack, model, images, labels, threat, rngs(len(images)))


def at_distances(weight: Tensor, distances: Tensor) -> Tensor:
    """Images whose distance to the boundary w.x = 0 is as asked, inside the box."""
    images = pictures(len(distances), low=0.4, high=0.6)
    z = (images * weight).flatten(1).sum(dim=1)
    shift = (distances - z / weight.norm()) / weight.norm()
    return images + shift.view(-1, 1, 1, 1) * weight


@pytest.mark.parametrize("overshoot", [0.0, 0.02, 0.5])
def test_one_step_reaches_the_boundary_of_a_linear_model(overshoot: float):
    weight = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0))
    distances = torch.tensor([0.1, 0.3, 0.6])
    images, labels = at_distances(weight, distances), torch.zeros(3, dtype=torch.int64)
    outcome = run(Linear(weight), images, labels, overshoot=overshoot)
    assert outcome.success.all()
    torch.testing.assert_close(
        outcome.distance_l2, (1 + overshoot) * distances, atol=5e-5, rtol=0
    )
    assert outcome.forwards.tolist() == [2, 2, 2]
    assert outcome.backwards.tolist() == [1, 1, 1]
    assert outcome.first_success.tolist() == [2, 2, 2]


def test_of_several_boundaries_the_nearest_is_taken():
    # Class k wins where its coordinate is the largest: the runner-up is the nearest.
    def first_pixels(x: Tensor) -> Tensor:
        return x.flatten(1)[:, :4]

    images = torch.tensor([[0.8, 0.2, 0.6, 0.4]]).view(1, 1, 2, 2)
    model = Mapped(nn.Identity(), first_pixels)
    outcome = run(model, images, torch.tensor([0]), overshoot=0.01)
    expected = torch.tensor([[0.699, 0.2, 0.701, 0.4]]).view(1, 1, 2, 2)
    torch.testing.assert_close(outcome.images, expected, atol=1e-5, rtol=0)


def test_classes_are_the_most_probable_on_the_clean_image():
    model, images = convnet(classes=5).eval(), pictures(3)
    labels = predictions(model, images)
    outcome = run(model, images, labels, classes=3, steps=1)
    assert outcome.backwards.tolist() == [2, 2, 2]
    assert run(model, images, labels, steps=1).backwards.tolist() == [4, 4, 4]


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("count", [1, 3])
def test_a_small_network_is_broken_from_nearby(count: int, classes: int):
    model, images = convnet(classes=classes).eval(), pictures(count)
    labels = predictions(model, images)
    outcome = run(model, images, labels)
    assert outcome.success.all()
    assert float(outcome.distance_l2.max()) < 1.0


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_steps_are_not_spent_on_pixels_that_cannot_move(level: float):
    # Half of the pixels would leave the box: the way goes through the other half.
    weight = torch.ones(1, 8, 8)
    weight[:, :, :4] = -1.0
    images, labels = torch.full((1, 1, 8, 8), level), torch.zeros(1, dtype=torch.int64)
    outcome = run(Linear(weight, bias=1.0), images, labels)
    assert outcome.success.all()
    assert outcome.forwards.tolist() == [2]
    # z falls by 1 over 32 pixels that move alike: 1 / 32 each.
    expected = torch.full((1,), 1.02 / 32**0.5)
    torch.testing.assert_close(outcome.distance_l2, expected, atol=1e-4, rtol=0)


def test_an_image_without_gradients_stays_and_its_neighbors_do_not():
    # Dark pictures see a constant; the framework is told of no failure.
    def flat_if_dark(x: Tensor) -> Tensor:
        mean = x.flatten(1).mean(dim=1)
        z = torch.where(mean > 0.3, mean - 0.5, 0.2)
        return torch.stack([z, -z], dim=1)

    images = torch.stack([torch.full((1, 4, 4), level) for level in (0.1, 0.6)])
    model = Mapped(nn.Identity(), flat_if_dark)
    outcome = run(model, images, torch.tensor([0, 0]))
    assert not outcome.failed.any()
    assert torch.equal(outcome.images[0], images[0])
    assert outcome.success.tolist() == [False, True]


def test_what_is_misclassified_already_does_not_move():
    model, images = convnet().eval(), pictures(3)
    labels = (predictions(model, images) + 1) % 3
    outcome = run(model, images, labels)
    assert torch.equal(outcome.images, images)
    assert outcome.success.all()
    assert outcome.forwards.tolist() == [1, 1, 1]


def test_a_finite_radius_shortens_what_lies_outside():
    weight = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0))
    images = at_distances(weight, torch.tensor([0.1, 0.495, 0.6]))
    labels = torch.zeros(3, dtype=torch.int64)
    outcome = run(Linear(weight), images, labels, Threat("l2", 0.5))
    assert outcome.clipped.tolist() == [False, True, True]
    assert outcome.success.tolist() == [True, True, False]
    assert outcome.in_threat.all()


def test_an_image_that_cannot_be_broken_comes_back_as_the_nearest_miss():
    # No image of the box is of class 1: the attack can only come closer.
    flat = torch.full((1, 8, 8), 0.02)
    model, images = Linear(flat, bias=1.0), pictures(3, low=0.3, high=0.7)
    outcome = run(model, images, torch.zeros(3, dtype=torch.int64))
    assert not outcome.success.any()
    assert not outcome.failed.any()
    torch.testing.assert_close(outcome.images, torch.zeros(3, 1, 8, 8))
    assert (outcome.margin_best > outcome.margin_first).all()


def test_batch_size_changes_no_number():
    model, images = convnet().double().eval(), pictures(5).double()
    labels = predictions(model, images)
    whole = run(model, images, labels)
    alone = [run(model, images[i : i + 1], labels[i : i + 1]) for i in range(5)]
    together = torch.cat([one.images for one in alone])
    torch.testing.assert_close(together, whole.images, atol=1e-9, rtol=0)
    passes = torch.cat([one.forwards for one in alone])
    assert passes.tolist() == whole.forwards.tolist()


def test_another_norm_is_refused():
    with pytest.raises(RequestError, match=r"searches the l2 norm.*`norm: linf`"):
        run(convnet(), pictures(1), torch.tensor([0]), Threat("linf", 0.1))


@pytest.mark.parametrize(
    ("key", "value"), [("steps", 0), ("overshoot", -0.1), ("classes", 1)]
)
def test_settings_that_make_no_sense_are_refused(key: str, value: Any):
    with pytest.raises(RequestError, match=f"Attack 'deepfool': `{key}"):
        build_deepfool(**(DEEPFOOL | {key: value}))
