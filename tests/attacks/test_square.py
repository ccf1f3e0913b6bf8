"""Square breaks what has no gradient, image by image, within its budget."""

from itertools import pairwise
from typing import Any

import pytest
import torch
import torchattacks
from attack_models import Linear, Mapped, convnet, pictures, predictions, rngs
from torch import Tensor, nn

from robustgen.attacks import build_pgd, build_square, run_attack
from robustgen.attacks.square import bump, patch_share
from robustgen.errors import RequestError
from robustgen.threat import Threat

LINF = Threat("linf", 0.1)
L2 = Threat("l2", 0.8)
BALLS = [LINF, L2]
FLAT = torch.full((1, 8, 8), 0.1)


def rounded() -> nn.Module:
    """Brightness of an image of 8 levels: its gradient is zero nearly everywhere."""
    model = Linear(FLAT, bias=-0.5 * float(FLAT.sum()) - 0.01)
    return Mapped(nn.Identity(), lambda x: model((x * 7).round() / 7))


def test_square_breaks_rounded_inputs_where_gradients_vanish():
    # Mid-gray pixels lie 1/14 from the next level on either side.
    model = rounded()
    images = 0.5 + 0.06 * pictures(6, low=-1.0)
    images = torch.where(images > 0.5, 4 / 7, 3 / 7)
    images[:, :, :5] = 4 / 7
    labels = predictions(model, images)
    assert (labels == 0).all()
    pgd = build_pgd(steps=20, step_size=0.02, loss="margin", random_start=False)
    stuck = run_attack(pgd, model, images, labels, LINF, rngs(6))
    assert (predictions(model, stuck.images) == labels).all()
    assert torch.equal(stuck.images, images)
    outcome = run_attack(
        build_square(queries=300), model, images, labels, LINF, rngs(6)
    )
    assert (predictions(model, outcome.images) != labels).all()
    assert outcome.backwards.tolist() == [0] * 6


def test_the_schedule_is_the_official_one():
    # torchattacks' default rescales it to its budget; the official code does not.
    upstream: Any = torchattacks.Square(convnet(), n_queries=5000, resc_schedule=False)
    queries = range(10_000)
    ours = [patch_share(query, 0.8) for query in queries]
    assert ours == [upstream.p_selection(query) for query in queries]
    default: Any = torchattacks.Square(convnet(), n_queries=5000)
    assert default.p_selection(30) == 0.2
    assert patch_share(30, 0.8) == 0.4


@pytest.mark.parametrize(("height", "width"), [(1, 3), (3, 7), (4, 8), (16, 33)])
def test_bumps_have_the_shape_of_the_official_code(height: int, width: int):
    upstream: Any = torchattacks.Square(convnet())
    upstream.device = torch.device("cpu")
    theirs = upstream.eta_rectangles(height, width)
    ours = bump(height, width)
    torch.testing.assert_close(ours.norm(), torch.tensor(1.0))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 5), (1, 4, 4), (3, 11, 9)])
@pytest.mark.parametrize("threat", BALLS, ids=lambda threat: threat.norm)
def test_every_query_lies_in_the_ball_whatever_the_shape(
    threat: Threat, shape: tuple[int, int, int]
):
    seen: list[Tensor] = []

    def robust(x: Tensor) -> Tensor:
        seen.append(x.detach().clone())
        bright = x.flatten(1).mean(dim=1)
        return torch.stack([bright + 5, -bright], dim=1)

    rng = torch.Generator().manual_seed(0)
    images = torch.rand(3, *shape, generator=rng)
    labels = torch.zeros(3, dtype=torch.int64)
    model = Mapped(nn.Identity(), robust)
    run_attack(build_square(queries=40), model, images, labels, threat, rngs(3))
    queries = [x for x in seen if len(x) == 3]
    assert all(threat.contains(x, images).all() for x in queries)
    assert sum(not torch.equal(x, images) for x in queries) >= 30


@pytest.mark.parametrize("threat", BALLS, ids=lambda threat: threat.norm)
def test_an_image_stops_when_it_is_broken_and_costs_its_budget_at_most(threat: Threat):
    model, images = convnet(classes=5), pictures(8)
    labels = predictions(model, images)
    labels[0] = (labels[0] + 1) % 5  # misclassified without an attack
    outcome = run_attack(
        build_square(queries=60), model, images, labels, threat, rngs(8)
    )
    broken = predictions(model, outcome.images) != labels
    assert outcome.forwards[0] == 1
    assert torch.equal(outcome.images[0], images[0])
    assert (outcome.forwards[~broken] == 60).all()
    assert (outcome.forwards[broken] <= 60).all()
    assert broken[1:].any()
    assert len(set(outcome.forwards.tolist())) > 3


@pytest.mark.parametrize("threat", BALLS, ids=lambda threat: threat.norm)
def test_no_neighbor_changes_an_image_and_upstream_s_does(threat: Threat):
    model, images = convnet(classes=5).double().eval(), pictures(6).double()
    labels = predictions(model, images)
    small = Threat(threat.norm, threat.eps / 4)
    attack = build_square(queries=40)
    whole = run_attack(attack, model, images, labels, small, rngs(6))
    for part in (slice(0, 1), slice(1, 4), slice(4, 6)):
        alone = run_attack(
            attack, model, images[part], labels[part], small, rngs(6)[part]
        )
        torch.testing.assert_close(alone.images, whole.images[part], atol=1e-9, rtol=0)
        assert torch.equal(alone.forwards, whole.forwards[part])

    model, images = model.float(), images.float()
    name = "Linf" if threat.norm == "linf" else "L2"
    upstream: Any = torchattacks.Square(model, name, eps=2 * threat.eps, n_queries=40)
    with torch.random.fork_rng(devices=[]):
        together = upstream(images, labels)
        single = torch.cat(
            [upstream(images[i : i + 1], labels[i : i + 1]) for i in range(6)]
        )
    assert float((together - single).abs().max()) > 1e-3


def test_patches_reach_the_last_row_and_column_and_upstream_s_never_do():
    images = torch.full((1, 1, 8, 8), 0.5)

    def corner(x: Tensor) -> Tensor:
        lit = x[:, 0, 7, 7]
        return torch.stack([0.555 - lit, lit - 0.555], dim=1)

    def patches(seen: list[Tensor]) -> set[tuple[int, int]]:
        """Where single pixels changed from one query to the next."""
        moved = [(b - a)[0, 0].nonzero() for a, b in pairwise(seen)]
        return {(int(m[0, 0]), int(m[0, 1])) for m in moved if len(m) == 1}

    # The smallest share makes patches of one pixel.
    upstream: Any = torchattacks.Square(
        convnet(), eps=0.05, n_queries=800, p_init=0.01, resc_schedule=False
    )
    theirs: list[Tensor] = []

    def never(x: Tensor) -> Tensor:
        theirs.append(x.detach().clone())
        return corner(x) + torch.tensor([1.0, 0.0])

    upstream.get_logits = never
    labels = torch.zeros(1, dtype=torch.int64)
    with torch.random.fork_rng(devices=[]):
        upstream(images, labels)
    places = patches(theirs)
    assert places
    assert max(place[0] for place in places) == 6

    ours: list[Tensor] = []

    def also_never(x: Tensor) -> Tensor:
        ours.append(x.detach().clone())
        return corner(x) + torch.tensor([1.0, 0.0])

    attack = build_square(queries=800, p_init=0.01)
    run_attack(
        attack,
        Mapped(nn.Identity(), also_never),
        images,
        labels,
        Threat("linf", 0.05),
        rngs(1),
    )
    assert max(place[0] for place in patches(ours)) == 7


def test_scores_that_are_never_finite_are_a_failure_of_that_image_only():
    def spoil(x: Tensor) -> Tensor:
        bright = x.flatten(1).mean(dim=1, keepdim=True)
        logits = torch.cat([bright, 1 - bright], dim=1)
        return torch.where(bright > 0.8, torch.nan, logits)

    images = torch.stack([torch.full((1, 4, 4), v) for v in (0.52, 0.95)])
    labels = torch.zeros(2, dtype=torch.int64)
    model = Mapped(nn.Identity(), spoil)
    outcome = run_attack(build_square(queries=60), model, images, labels, LINF, rngs(2))
    assert outcome.failed.tolist() == [False, True]
    assert float(outcome.images[0].mean()) < 0.5


def test_what_is_no_ball_is_refused():
    with pytest.raises(RequestError, match=r"Attack 'square' searches a ball"):
        run_attack(
            build_square(queries=3),
            convnet(),
            pictures(1),
            torch.tensor([0]),
            Threat("l2", torch.inf),
            rngs(1),
        )


@pytest.mark.parametrize(
    ("key", "value"), [("queries", 1), ("p_init", 0.0), ("p_init", 1.5)]
)
def test_settings_that_make_no_sense_are_refused(key: str, value: float):
    settings: dict[str, Any] = {"queries": 10, key: value}
    with pytest.raises(RequestError, match=f"Attack 'square': `{key}"):
        build_square(**settings)
