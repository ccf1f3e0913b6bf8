"""APGD finds its own step lengths, image by image, for any number of classes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchattacks
from attack_models import Linear, Mapped, convnet, pictures, predictions, rngs
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from robustgen.attacks import build_apgd, run_attack
from robustgen.attacks.apgd import apgd, dlr, targeted_dlr
from robustgen.attacks.logits import margin
from robustgen.errors import RequestError
from robustgen.threat import Threat

LINF = Threat("linf", 0.08)
L2 = Threat("l2", 0.5)
BALLS = [LINF, L2]
WEIGHT = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0))
UPSTREAM = {"linf": "Linf", "l2": "L2"}


def recorded(model: nn.Module) -> tuple[list[Tensor], Callable[[Tensor], Tensor]]:
    """Every batch that a model is asked about, and the model that writes them down."""
    seen: list[Tensor] = []

    def logits_fn(images: Tensor) -> Tensor:
        seen.append(images.detach().clone())
        return model(images)

    return seen, logits_fn


@pytest.mark.parametrize("loss", ["ce", "margin"])
@pytest.mark.parametrize("threat", BALLS, ids=lambda threat: threat.norm)
def test_robust_accuracy_of_a_linear_model_is_the_closed_form(
    threat: Threat, loss: str
):
    # Logits (z, -z), z = w.x: the boundary is |z| / |w|_1 away in linf, |z| / |w|_2 in
    # L2. Images are moved along the steepest way until it is as far as asked.
    linf = threat.norm == "linf"
    way = WEIGHT.sign() if linf else WEIGHT / WEIGHT.norm()
    reach = torch.tensor([0.2, 0.5, 0.97, 1.01, 1.2, 1.5]) * threat.eps
    images = 0.5 + reach.view(-1, 1, 1, 1) * way
    model = Linear(0.1 * WEIGHT, bias=-0.05 * float(WEIGHT.sum()))
    labels = torch.zeros(6, dtype=torch.int64)
    attack = build_apgd(steps=50, loss=loss)
    outcome = run_attack(attack, model, images, labels, threat, rngs(6))
    right = predictions(model, outcome.images) == 0
    assert right.tolist() == [False, False, False, True, True, True]
    with torch.no_grad():
        reached = margin(model(outcome.images), labels) / 2
        least = (reach - threat.eps) * 0.1 * float((way * WEIGHT).sum())
    # z of what is not broken is as low as it can be.
    torch.testing.assert_close(-reached[3:], least[3:], atol=0, rtol=0.02)


@pytest.mark.parametrize("loss", ["ce", "dlr"])
@pytest.mark.parametrize("threat", BALLS, ids=lambda threat: threat.norm)
def test_apgd_walks_the_path_of_torchattacks(threat: Threat, loss: str):
    # One image, and a generator seeded as torchattacks seeds the global one: then both
    # draw the same start.
    model, images = convnet(classes=5).eval(), pictures(1, low=0.2, high=0.8)
    labels = predictions(model, images)
    upstream: Any = torchattacks.APGD(
        model, UPSTREAM[threat.norm], threat.eps, steps=40, seed=0, loss=loss
    )
    theirs, upstream.get_logits = recorded(model)
    with torch.random.fork_rng(devices=[]):
        upstream(images, labels)
    ours, logits_fn = recorded(model)
    rng = torch.Generator().manual_seed(0)
    apgd(logits_fn, images, labels, threat, [rng], steps=40, loss=loss)
    assert len(ours) == len(theirs) == 42
    torch.testing.assert_close(
        torch.stack(ours), torch.stack(theirs), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("loss", ["ce", "dlr"])
@pytest.mark.parametrize("threat", BALLS, ids=lambda threat: threat.norm)
def test_no_more_is_left_than_torchattacks_leaves(threat: Threat, loss: str):
    model, images = convnet(classes=5).eval(), pictures(40)
    labels = predictions(model, images)
    ball = Threat(threat.norm, threat.eps / 2)
    upstream = torchattacks.APGD(
        model, UPSTREAM[ball.norm], ball.eps, steps=20, loss=loss
    )
    with torch.random.fork_rng(devices=[]):
        theirs = predictions(model, upstream(images, labels)) == labels
    outcome = run_attack(
        build_apgd(steps=20, loss=loss), model, images, labels, ball, rngs(40)
    )
    ours = predictions(model, outcome.images) == labels
    assert 0.05 < float(theirs.float().mean()) < 0.95
    assert float(ours.float().mean()) <= float(theirs.float().mean()) + 0.025


def test_upstream_s_dlr_fails_on_two_classes_and_ours_names_the_margin():
    model, images = convnet(classes=2).eval(), pictures(2)
    labels = predictions(model, images)
    with torch.random.fork_rng(devices=[]), pytest.raises(IndexError):
        torchattacks.APGD(model, loss="dlr")(images, labels)
    with pytest.raises(RequestError, match=r"has 2\. Set `loss: margin`"):
        run_attack(
            build_apgd(steps=3, loss="dlr"), model, images, labels, LINF, rngs(2)
        )


@pytest.mark.parametrize("classes", [2, 3])
def test_upstream_s_targeted_search_fails_on_few_classes(classes: int):
    model, images = convnet(classes=classes).eval(), pictures(2)
    labels = predictions(model, images)
    with torch.random.fork_rng(devices=[]), pytest.raises(IndexError):
        torchattacks.APGDT(model, n_classes=classes)(images, labels)


@pytest.mark.parametrize("classes", [2, 3, 4, 6])
@pytest.mark.parametrize("threat", BALLS, ids=lambda threat: threat.norm)
def test_each_target_is_searched_in_turn_where_there_is_one(
    classes: int, threat: Threat
):
    model, images = convnet(classes=classes), pictures(4)
    labels = predictions(model, images)
    attack = build_apgd(steps=5, targets=4)
    tiny = Threat(threat.norm, 1e-4)
    outcome = run_attack(attack, model, images, labels, tiny, rngs(4))
    searches = min(4, classes - 1)
    assert outcome.forwards.tolist() == [1 + searches * 6] * 4
    assert outcome.backwards.tolist() == [searches * 5] * 4
    wide = Threat(threat.norm, 8 * threat.eps)
    outcome = run_attack(
        build_apgd(steps=20, targets=4), model, images, labels, wide, rngs(4)
    )
    assert (predictions(model, outcome.images) != labels).all()


@pytest.mark.parametrize("classes", [3, 4])
def test_a_target_ends_up_ahead_of_the_class_it_was_aimed_from(classes: int):
    # Class k is right for images whose pixel k is the brightest.
    model = Mapped(nn.Flatten(), lambda x: x[:, :classes])
    images = torch.full((1, 1, 2, 2), 0.1)
    images[0, 0, 0] = torch.tensor([0.6, 0.5])
    seen, logits_fn = recorded(model)
    label = torch.tensor([0])
    threat = Threat("linf", 0.01)
    apgd(logits_fn, images, label, threat, rngs(1), steps=30, targets=2)
    first, second = seen[31].flatten(), seen[-1].flatten()
    torch.testing.assert_close(first[:2], torch.tensor([0.59, 0.51]))
    torch.testing.assert_close(second[[0, 2]], torch.tensor([0.59, 0.11]))


def neighbors() -> tuple[nn.Module, Tensor, Tensor]:
    """Two images that stop rising at different steps, and one that both stand beside.

    In float64, so that rounding, which does depend on the batch, stays small.
    """
    model, images = convnet(classes=5).double().eval(), pictures(8).double()
    return model, images, predictions(model, images)


def test_upstream_s_targeted_search_in_l2_takes_its_neighbor_s_step_length():
    model, images, labels = neighbors()
    model, images = model.float(), images.float()
    found: list[Tensor] = []
    for neighbor in range(1, 8):
        pair = torch.tensor([neighbor, 0])
        attack: Any = torchattacks.APGDT(model, "L2", 0.3, steps=40, n_classes=5)
        theirs, attack.get_logits = recorded(model)
        with torch.random.fork_rng(devices=[]):
            attack(images[pair], labels[pair])
        # Passes of the first target; the start is the same, whoever stands beside.
        found.append(torch.stack([x[1] for x in theirs[2:40]]))
    starts = torch.stack([path[0] for path in found])
    ends = torch.stack([path[-1] for path in found])
    assert float((starts - starts[0]).abs().max()) < 1e-6
    assert float((ends - ends[0]).abs().max()) > 1e-3


@pytest.mark.parametrize("targets", [0, 3])
@pytest.mark.parametrize("threat", BALLS, ids=lambda threat: threat.norm)
def test_no_neighbor_changes_an_image(threat: Threat, targets: int):
    model, images, labels = neighbors()
    attack = build_apgd(steps=9, restarts=2, targets=targets)
    small = Threat(threat.norm, threat.eps / 2)
    whole = run_attack(attack, model, images, labels, small, rngs(8))
    for start, stop in ((0, 1), (1, 4), (4, 8)):
        part = slice(start, stop)
        alone = run_attack(
            attack, model, images[part], labels[part], small, rngs(8)[part]
        )
        torch.testing.assert_close(alone.images, whole.images[part], atol=1e-9, rtol=0)
        assert torch.equal(alone.forwards, whole.forwards[part])


@pytest.mark.parametrize("loss", ["ce", "dlr", "margin"])
def test_the_strongest_of_all_looks_is_kept_and_upstream_s_miss_is_clean(loss: str):
    model, images = convnet(classes=5).eval(), pictures(6)
    labels = predictions(model, images)
    small = Threat("linf", 0.005)
    with torch.random.fork_rng(devices=[]):
        theirs = torchattacks.APGD(model, eps=0.005, steps=10)(images, labels)
    seen, logits_fn = recorded(model)
    found = apgd(logits_fn, images, labels, small, rngs(6), steps=10, loss=loss)
    with torch.no_grad():
        margins = torch.stack([margin(model(x), labels) for x in seen])
        kept = margin(model(found), labels)
    missed = kept < 0
    assert missed.any()
    assert torch.equal(theirs[missed], images[missed])
    torch.testing.assert_close(kept, margins.amax(dim=0))
    assert (kept > margins[0]).all()


def test_restarts_are_spent_on_what_is_not_broken():
    model, images = convnet(classes=5), pictures(12)
    labels = predictions(model, images)
    labels[0] = (labels[0] + 1) % 5  # misclassified without an attack
    attack = build_apgd(steps=10, restarts=3)
    outcome = run_attack(attack, model, images, labels, Threat("linf", 0.03), rngs(12))
    broken = predictions(model, outcome.images) != labels
    assert outcome.forwards[0] == 1
    assert torch.equal(outcome.images[0], images[0])
    assert set(outcome.forwards[1:][broken[1:]].tolist()) <= {12, 23, 34}
    assert set(outcome.forwards[~broken].tolist()) == {34}
    assert 12 in outcome.forwards.tolist()


def test_draws_average_the_gradient_of_a_random_classifier():
    # z = w.x plus noise along random pixels that is far larger than w in one call.
    source = torch.Generator().manual_seed(3)
    model = Linear(WEIGHT)

    def noisy(x: Tensor) -> Tensor:
        noise = 3 * torch.randn(1, 8, 8, generator=source)
        return Linear(WEIGHT + noise)(x - 0.5)

    images = torch.full((1, 1, 8, 8), 0.5)
    labels = torch.zeros(1, dtype=torch.int64)
    ends: list[float] = []
    for draws in (1, 30):
        seen, logits_fn = recorded(Mapped(nn.Identity(), noisy))
        settings: dict[str, Any] = {"steps": 3, "loss": "margin", "draws": draws}
        apgd(logits_fn, images, labels, LINF, rngs(1), **settings)
        assert len(seen) == 1 + draws * 4
        with torch.no_grad():
            ends.append(float(margin(model(seen[-1] - 0.5), labels)))
    assert ends[1] > ends[0]
    assert ends[1] > 0.5 * 2 * LINF.eps * float(WEIGHT.abs().sum())


def test_scores_that_are_never_finite_are_a_failure_of_that_image_only():
    def spoil(x: Tensor) -> Tensor:
        bright = x.flatten(1).mean(dim=1, keepdim=True)
        logits = torch.cat([bright, 1 - bright], dim=1)
        return torch.where(bright > 0.8, torch.nan, logits)

    images = torch.stack([torch.full((1, 4, 4), v) for v in (0.55, 0.95)])
    labels = torch.zeros(2, dtype=torch.int64)
    model = Mapped(nn.Identity(), spoil)
    outcome = run_attack(
        build_apgd(steps=10), model, images, labels, Threat("linf", 0.1), rngs(2)
    )
    assert outcome.failed.tolist() == [False, True]
    assert float(outcome.images[0].mean()) < 0.5


def test_a_classifier_without_a_gradient_ends_no_attack():
    # Decisions only: nothing to differentiate, so that only the starts are tried.
    def decide(x: Tensor) -> Tensor:
        bright = x.flatten(1).mean(dim=1) > 0.5
        return torch.stack([~bright, bright], dim=1).float()

    outcome = run_attack(
        build_apgd(steps=5),
        Mapped(nn.Identity(), decide),
        torch.full((2, 1, 4, 4), 0.2),
        torch.zeros(2, dtype=torch.int64),
        LINF,
        rngs(2),
    )
    assert outcome.backwards.tolist() == [0, 0]
    assert not outcome.failed.any()


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "logits": lambda z: z,
    "all negative": lambda z: z - 100,
    "log-softmax": lambda z: z.log_softmax(dim=1),
    "probabilities": lambda z: z.softmax(dim=1),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("classes", "loss"), [(2, "ce"), (2, "margin"), (5, "dlr")])
@pytest.mark.parametrize("count", [1, 3])
def test_every_kind_of_score_is_attacked(
    count: int, classes: int, loss: str, change: str
):
    model = Mapped(convnet(classes=classes), CHANGES[change])
    images = pictures(count)
    labels = predictions(model, images)
    attack = build_apgd(steps=20, loss=loss)
    outcome = run_attack(
        attack, model, images, labels, Threat("linf", 0.25), rngs(count)
    )
    assert (predictions(model, outcome.images) != labels).all()


@settings(max_examples=20, deadline=None)
@given(shift=st.floats(-50, 50), scale=st.floats(0.1, 100), seed=st.integers(0, 99))
def test_neither_shift_nor_scale_changes_the_dlr(shift: float, scale: float, seed: int):
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, 6, generator=rng).double()
    labels, aims = torch.tensor([0, 1, 2, 3]), torch.tensor([5, 4, 3, 2])
    other = scale * logits + shift
    torch.testing.assert_close(dlr(other, labels), dlr(logits, labels))
    torch.testing.assert_close(
        targeted_dlr(other, labels, aims), targeted_dlr(logits, labels, aims)
    )


@pytest.mark.parametrize("threat", [Threat("l2", torch.inf), Threat("none", 0.0)])
def test_what_is_no_ball_is_refused(threat: Threat):
    with pytest.raises(RequestError, match=r"Attack 'apgd' searches a ball.*Set both"):
        run_attack(
            build_apgd(steps=3),
            convnet(),
            pictures(1),
            torch.tensor([0]),
            threat,
            rngs(1),
        )


@pytest.mark.parametrize(
    ("key", "value"),
    [("steps", 0), ("restarts", 0), ("loss", "hinge"), ("targets", -1), ("draws", 0)],
)
def test_settings_that_make_no_sense_are_refused(key: str, value: Any):
    settings: dict[str, Any] = {"steps": 3, key: value}
    with pytest.raises(RequestError, match=f"Attack 'apgd': `{key}"):
        build_apgd(**settings)
