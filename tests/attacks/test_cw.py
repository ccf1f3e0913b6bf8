"""CW finds the nearest broken image, where torchattacks' own stops short of it."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
import torchattacks
from attack_models import Linear, Mapped, convnet, pictures, predictions, rngs
from torch import Tensor, nn

from robustgen.attacks import AttackOutcome, build_cw, run_attack
from robustgen.attacks.cw import EDGE
from robustgen.attacks.logits import margin
from robustgen.classifiers.load import load_classifier
from robustgen.data.digits import load_digits
from robustgen.errors import RequestError
from robustgen.threat import Threat

L2 = Threat("l2", torch.inf)
CW: dict[str, Any] = {
    "steps": 50,
    "learning_rate": 0.05,
    "constants": (1.0, 10.0, 100.0),
    "confidence": 0.0,
}
FLAT = torch.full((1, 8, 8), 0.02)  # |w|^2 = 0.0256, |w| = 0.16


def run(model: nn.Module, images: Tensor, labels: Tensor, **more: Any):
    attack = build_cw(**(CW | more))
    return run_attack(attack, model, images, labels, L2, rngs(len(images)))


def score(model: nn.Module, outcome: AttackOutcome, labels: Tensor) -> Tensor:
    with torch.no_grad():
        return margin(model.eval()(outcome.images), labels)


def test_the_least_distance_of_a_linear_model_is_found():
    # Logits (z, -z) with z = w.x: the boundary is |z| / |w| away. Images are moved
    # along w until it is as far as asked.
    weight = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0))
    distance = torch.tensor([0.2, 0.5, 1.0])
    images = pictures(3, low=0.4, high=0.6)
    z = (images * weight).flatten(1).sum(dim=1)
    shift = (distance - z / weight.norm()) / weight.norm()
    images = images + shift.view(-1, 1, 1, 1) * weight
    model, labels = Linear(weight), torch.zeros(3, dtype=torch.int64)
    outcome = run(model, images, labels, steps=200, learning_rate=0.01)
    assert (score(model, outcome, labels) >= 0).all()
    assert (outcome.distance_l2 >= distance - 1e-4).all()
    assert (outcome.distance_l2 <= 1.03 * distance).all()


def test_each_constant_breaks_what_its_closed_form_says():
    # On logits (z, -z) the loss |d|^2 + 2 c z has its minimum at d = -c w, which moves
    # z by c |w|^2: a constant breaks an image if and only if z < c |w|^2.
    ratio = torch.tensor([0.5, 5.0, 20.0])  # z / |w|^2
    images = 0.5 + ratio.view(-1, 1, 1, 1) * FLAT.expand(3, 1, 8, 8)
    labels = torch.zeros(3, dtype=torch.int64)
    model = Linear(FLAT, bias=-0.5 * float(FLAT.sum()))
    settings: dict[str, Any] = {
        "constants": (1.0, 10.0),
        "steps": 100,
        "learning_rate": 0.01,
    }
    outcome = run(model, images, labels, **settings)
    broken = score(model, outcome, labels) >= 0
    assert broken.tolist() == [True, True, False]
    assert outcome.forwards.tolist() == [100, 200, 200]
    assert outcome.backwards.tolist() == [100, 200, 200]


def test_an_image_that_is_not_broken_comes_back_as_the_nearest_miss():
    # No image of the box is of class 1: the attack can only come closer.
    model, images = Linear(FLAT, bias=1.0), pictures(3, low=0.3, high=0.7)
    labels = torch.zeros(3, dtype=torch.int64)
    outcome = run(model, images, labels)
    with torch.no_grad():
        before = margin(model(images), labels)
    after = score(model, outcome, labels)
    assert (after < 0).all()
    assert (after > before + 0.2).all()
    assert not outcome.failed.any()
    assert outcome.forwards.tolist() == [150] * 3


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_saturated_images_are_broken_and_upstream_moves_no_pixel(level: float):
    sign = 1.0 if level == 1.0 else -1.0
    model = Linear(sign * FLAT, bias=0.2 - (1.28 if level == 1.0 else 0.0))
    images = torch.full((4, 1, 8, 8), level)
    labels = torch.zeros(4, dtype=torch.int64)
    assert (predictions(model, images) == 0).all()
    upstream = torchattacks.CW(model, c=10, steps=200, lr=0.05)(images, labels)
    assert torch.equal(upstream, images)
    outcome = run(model, images, labels, learning_rate=0.1)
    assert (predictions(model, outcome.images) == 1).all()


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_the_settings_of_defense_gan_move_saturated_pixels(level: float):
    # 100 steps at a rate of 10 with one constant, 100 (arXiv:1805.06605, whitebox.py).
    # The first step of Adam takes every pixel to the other end: far, but broken.
    sign = 1.0 if level == 1.0 else -1.0
    model = Linear(sign * FLAT, bias=0.2 - (1.28 if level == 1.0 else 0.0))
    images, labels = torch.full((3, 1, 8, 8), level), torch.zeros(3, dtype=torch.int64)
    upstream = torchattacks.CW(model, c=100, steps=100, lr=10)(images, labels)
    assert torch.equal(upstream, images)
    published: dict[str, Any] = {"steps": 100, "learning_rate": 10, "constants": (100,)}
    outcome = run(model, images, labels, **published)
    assert outcome.success.all()
    assert (outcome.distance_linf > 0.9).all()
    assert outcome.forwards.tolist() == [100] * 3


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "logits": lambda z: z,
    "all negative": lambda z: z - 100,
    "log-softmax": lambda z: z.log_softmax(dim=1),
    "probabilities": lambda z: z.softmax(dim=1),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("count", [1, 3])
def test_every_kind_of_score_is_attacked(count: int, classes: int, change: str):
    model = Mapped(convnet(classes=classes), CHANGES[change])
    images = pictures(count)
    labels = predictions(model, images)
    outcome = run(model, images, labels)
    assert (predictions(model, outcome.images) != labels).all()
    assert outcome.in_threat.all()


@cache
def digits() -> tuple[nn.Module, Tensor, Tensor]:
    """The undefended classifier of digits, and 30 digits it was not trained on."""
    part = load_digits().part("spare", 30)
    return (
        load_classifier("digits").eval(),
        torch.from_numpy(part.pixels()),
        torch.from_numpy(part.labels),
    )


@pytest.mark.parametrize("change", ["logits", "all negative", "log-softmax"])
@pytest.mark.parametrize("saturated", [False, True])
def test_all_digits_that_are_classified_right_are_broken(saturated: bool, change: str):
    # Of the pixels 38% are at 0 or 1; rounded to black and white, all are.
    model, images, labels = digits()
    images = images.round() if saturated else images
    right = predictions(model, images) == labels
    assert int(right.sum()) >= 27
    outcome = run(Mapped(model, CHANGES[change]), images[right], labels[right])
    assert outcome.success.all()
    assert float(outcome.distance_l2.mean()) < 2.0


@pytest.mark.parametrize("change", ["all negative", "log-softmax"])
def test_upstream_moves_no_pixel_where_all_scores_are_negative(change: str):
    model = Mapped(convnet(classes=3), CHANGES[change]).eval()
    images = pictures(3, low=0.1, high=0.9)
    labels = predictions(model, images)
    upstream = torchattacks.CW(model, c=10, steps=50, lr=0.03)(images, labels)
    assert torch.equal(upstream, images)


def test_upstream_stops_when_its_batch_gets_worse_and_ours_never_does():
    model, images = convnet(), pictures(3, low=0.1, high=0.9)
    labels = predictions(model, images)
    calls = 0

    def count(logits: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return logits

    counted = Mapped(model, count).eval()
    torchattacks.CW(counted, c=1, steps=50, lr=0.5)(images, labels)
    assert calls < 50
    outcome = run(model, images, labels, learning_rate=0.5, constants=(1.0,))
    assert outcome.forwards.tolist() == [50] * 3
    assert outcome.backwards.tolist() == [50] * 3


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_batch_size_changes_no_number(batch_size: int):
    # In float64, so that rounding, which does depend on the batch, stays small.
    model, images = convnet().double(), pictures(5).double()
    labels = predictions(model, images)
    whole = run(model, images, labels)
    parts = [
        run(model, images[i : i + batch_size], labels[i : i + batch_size])
        for i in range(0, 5, batch_size)
    ]
    together = torch.cat([part.images for part in parts])
    torch.testing.assert_close(together, whole.images, atol=1e-9, rtol=0)
    passes = torch.cat([part.forwards for part in parts])
    assert passes.tolist() == whole.forwards.tolist()


def test_upstream_depends_on_the_batch():
    # Why the early stop had to go: an easy neighbor ends the search of a hard image.
    model, images = convnet().eval(), pictures(6, low=0.1, high=0.9)
    labels = predictions(model, images)
    attack = torchattacks.CW(model, c=1, steps=50, lr=0.1)
    whole = attack(images, labels)
    alone = torch.cat([attack(images[i : i + 1], labels[i : i + 1]) for i in range(6)])
    assert float((whole - alone).abs().max()) > 1e-3


@pytest.mark.parametrize("confidence", [0.0, 0.5, 2.0])
def test_broken_means_by_the_confidence_asked_for(confidence: float):
    model, images = convnet(), pictures(4)
    labels = predictions(model, images)
    outcome = run(model, images, labels, confidence=confidence)
    lead = score(model, outcome, labels)
    assert (lead >= confidence - 1e-4).all()
    assert (lead < confidence + 0.5).all()


def test_what_is_misclassified_already_hardly_moves():
    model, images = convnet(), pictures(3)
    labels = (predictions(model, images) + 1) % 3
    outcome = run(model, images, labels)
    assert (outcome.distance_linf <= EDGE + 1e-6).all()


def test_a_finite_radius_shortens_what_lies_outside():
    model, images = convnet(), pictures(3)
    labels = predictions(model, images)
    attack = build_cw(**CW)
    radius = Threat("l2", 0.05)
    outcome = run_attack(attack, model, images, labels, radius, rngs(3))
    assert (outcome.distance_l2 <= 0.05 + 1e-6).all()
    assert outcome.in_threat.all()
    assert outcome.clipped.any()


def test_scores_that_are_never_finite_are_a_failure_of_that_image_only():
    def spoil(x: Tensor) -> Tensor:
        bright = x.flatten(1).mean(dim=1, keepdim=True)
        logits = torch.cat([bright, 1 - bright], dim=1)
        return torch.where(bright > 0.8, torch.nan, logits)

    images = torch.stack([torch.full((1, 4, 4), v) for v in (0.55, 0.95)])
    labels = torch.zeros(2, dtype=torch.int64)
    outcome = run(Mapped(nn.Identity(), spoil), images, labels)
    assert outcome.failed.tolist() == [False, True]
    assert torch.equal(outcome.images[1], images[1])
    assert float(outcome.images[0].mean()) < 0.5


def test_another_norm_is_refused():
    with pytest.raises(RequestError, match=r"searches the l2 norm.*`norm: linf`"):
        run_attack(
            build_cw(**CW),
            convnet(),
            pictures(1),
            torch.tensor([0]),
            Threat("linf", 0.1),
            rngs(1),
        )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("steps", 0),
        ("learning_rate", 0.0),
        ("confidence", -1.0),
        ("constants", ()),
        ("constants", (10.0, 1.0)),
        ("constants", (0.0, 1.0)),
    ],
)
def test_settings_that_make_no_sense_are_refused(key: str, value: Any):
    with pytest.raises(RequestError, match=f"Attack 'cw': `{key}"):
        build_cw(**(CW | {key: value}))
