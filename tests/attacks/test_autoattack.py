"""AutoAttack: official budget, any number of classes, and why luck must not count."""

from typing import Any, final

import pytest
import torch
import torchattacks
from attack_models import Linear, Mapped, convnet, pictures, predictions, rngs
from torch import Tensor, nn

from robustgen.attacks import (
    build_apgd,
    build_autoattack,
    build_fab,
    build_square,
    run_attack,
)
from robustgen.errors import RequestError
from robustgen.threat import Threat

LINF = Threat("linf", 0.03)
L2 = Threat("l2", 0.25)
BALLS = [LINF, L2]
SMALL: dict[str, Any] = {"steps": 5, "queries": 20, "targets": 9}


def test_the_budget_is_the_official_one_and_that_of_torchattacks_is_a_tenth():
    attack: Any = build_autoattack()
    assert attack.keywords == {"steps": 100, "queries": 5000, "targets": 9}
    upstream: Any = torchattacks.AutoAttack(convnet(classes=10))
    parts = upstream._autoattack.attacks
    assert [part.steps for part in parts[:3]] == [10, 10, 10]
    assert parts[3].rescale_schedule  # the official code does not


@pytest.mark.parametrize("classes", [2, 3])
def test_upstream_fails_on_few_classes(classes: int):
    model, images = convnet(classes=classes).eval(), pictures(2)
    labels = predictions(model, images)
    attack = torchattacks.AutoAttack(model, n_classes=classes, eps=1e-4, seed=0)
    with torch.random.fork_rng(devices=[]), pytest.raises(IndexError):
        attack(images, labels)


@pytest.mark.parametrize("classes", [2, 3, 4, 6])
def test_the_parts_are_those_that_the_number_of_classes_allows(classes: int):
    # Nothing breaks these images, so that every part runs in full.
    model, images = convnet(classes=classes), pictures(3)
    labels = predictions(model, images)
    attack = build_autoattack(**SMALL)
    tiny = Threat("linf", 1e-5)
    outcome = run_attack(attack, model, images, labels, tiny, rngs(3))
    assert (predictions(model, outcome.images) == labels).all()
    wrong = classes - 1
    apgd = 6 + (6 * wrong if classes >= 4 else 6)
    fab = 10 * wrong if classes >= 4 else 10
    clipped = 1  # FAB finds a boundary outside the ball, and looks at its direction
    assert outcome.forwards.tolist() == [1 + apgd + fab + clipped + 20] * 3
    steep = 5 + (5 * wrong if classes >= 4 else 5) + 5 * wrong
    assert outcome.backwards.tolist() == [steep] * 3


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("threat", BALLS, ids=lambda threat: threat.norm)
def test_what_a_part_breaks_is_broken(threat: Threat, classes: int, count: int):
    model, images = convnet(classes=classes), pictures(count)
    labels = predictions(model, images)
    left = torch.ones(count, dtype=torch.bool)
    for part in (
        build_apgd(steps=5),
        build_fab(steps=5),
        build_square(queries=20),
    ):
        found = run_attack(part, model, images, labels, threat, rngs(count))
        left &= predictions(model, found.images) == labels
    outcome = run_attack(
        build_autoattack(**SMALL), model, images, labels, threat, rngs(count)
    )
    right = predictions(model, outcome.images) == labels
    assert int(right.sum()) <= int(left.sum())
    assert outcome.in_threat.all()
    assert not outcome.clipped.any()


def test_a_part_works_on_what_is_still_right_only():
    model, images = convnet(classes=5), pictures(8)
    labels = predictions(model, images)
    labels[0] = (labels[0] + 1) % 5  # misclassified without an attack
    attack = build_autoattack(**SMALL)
    outcome = run_attack(attack, model, images, labels, Threat("linf", 0.04), rngs(8))
    assert outcome.forwards[0] == 1
    assert torch.equal(outcome.images[0], images[0])
    first = outcome.forwards == 7  # clean, start, 5 steps
    assert first.any()
    assert (outcome.backwards[first] == 5).all()
    assert (predictions(model, outcome.images)[first] != labels[first]).all()


def test_gradients_that_vanish_leave_it_to_square():
    flat = torch.full((1, 8, 8), 0.1)
    linear = Linear(flat, bias=-0.5 * float(flat.sum()))
    model = Mapped(nn.Identity(), lambda x: linear((x * 7).round() / 7))
    images = torch.full((3, 1, 8, 8), 4 / 7)
    images[:, :, :1] = 3 / 7
    labels = predictions(model, images)
    attack = build_autoattack(steps=5, queries=300)
    outcome = run_attack(attack, model, images, labels, Threat("linf", 0.1), rngs(3))
    assert (predictions(model, outcome.images) != labels).all()


@pytest.mark.parametrize("threat", BALLS, ids=lambda threat: threat.norm)
def test_no_neighbor_changes_an_image(threat: Threat):
    model, images = convnet(classes=5).double().eval(), pictures(6).double()
    labels = predictions(model, images)
    attack = build_autoattack(**SMALL)
    small = Threat(threat.norm, threat.eps / 2)
    whole = run_attack(attack, model, images, labels, small, rngs(6))
    for part in (slice(0, 1), slice(1, 4), slice(4, 6)):
        alone = run_attack(
            attack, model, images[part], labels[part], small, rngs(6)[part]
        )
        torch.testing.assert_close(alone.images, whole.images[part], atol=1e-9, rtol=0)
        assert torch.equal(alone.forwards, whole.forwards[part])


@final
class Coin(nn.Module):
    """Right with probability 0.9 whatever the image: no attack can do anything."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.source = torch.Generator().manual_seed(seed)

    def forward(self, images: Tensor) -> Tensor:
        right = torch.rand(len(images), generator=self.source) < 0.9
        return torch.stack([right, ~right], dim=1).float()


def test_on_a_coin_its_rule_counts_luck_as_breaks():
    count = 500
    images = torch.full((count, 1, 4, 4), 0.5)
    labels = torch.zeros(count, dtype=torch.int64)
    attack = build_autoattack(steps=1, queries=2)
    outcome = run_attack(attack, Coin(0), images, labels, LINF, rngs(count))
    rule = (outcome.first_success < 0).float().mean()
    with torch.no_grad():
        fresh = (Coin(1)(outcome.images).argmax(dim=1) == labels).float().mean()
    # 9 looks, each right with 0.9: clean, four of APGD, two of FAB, two of Square.
    assert abs(float(rule) - 0.9**9) < 0.07
    # Two standard errors of 500 tosses.
    assert abs(float(fresh) - 0.9) < 0.027


def test_what_is_no_ball_is_refused():
    with pytest.raises(RequestError, match=r"Attack 'autoattack' searches a ball"):
        run_attack(
            build_autoattack(),
            convnet(),
            pictures(1),
            torch.tensor([0]),
            Threat("l2", torch.inf),
            rngs(1),
        )


@pytest.mark.parametrize("key", ["steps", "queries", "targets"])
def test_settings_that_make_no_sense_are_refused(key: str):
    with pytest.raises(RequestError, match=f"Attack 'autoattack': `{key}"):
        build_autoattack(**(SMALL | {key: 0}))
