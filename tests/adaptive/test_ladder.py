"""Tiers break what can be broken, report luck as luck, and waste no pass."""

import pytest
import torch
import toys

from robustgen.adaptive.ladder import (
    applies,
    fixed_draw_attack,
    run_tier,
    score_draws,
)
from robustgen.adaptive.victim import Draw
from robustgen.errors import RequestError
from robustgen.threat import Threat

LINF = Threat("linf", toys.EPS)
L2 = Threat("l2", toys.EPS * toys.SIZE)  # the same corner of a gray image's ball
ZEROS = torch.zeros(4, dtype=torch.int64)


def linear(count: int = 4):
    return toys.victim(toys.behind(toys.Brightness(), toys.identity), count=count)


@pytest.mark.parametrize("threat", [LINF, L2], ids=["linf", "l2"])
def test_a_linear_path_falls_exactly_where_it_must(threat):
    # Mean brightness can be lowered by eps; class 0 lies above one half.
    images = toys.gray(0.55, 0.59, 0.61, 0.65)
    found = run_tier(
        "bpda_identity", linear(), images, ZEROS, threat, toys.budget(), seed=0
    )
    assert found.outcome.success.tolist() == [True, True, False, False]
    assert found.outcome.in_threat.all()
    best = 16 * 2 * (0.5 - (images[2:, 0, 0, 0] - toys.EPS))
    assert torch.allclose(found.select_margin[2:], best, atol=0.05)
    assert found.candidates == ("clean", "ce from clean")
    assert found.chosen.tolist() == [1, 1, 1, 1]


def test_rounding_stops_gradients_and_bpda_goes_through():
    classifier = toys.Brightness()
    masked = toys.behind(classifier, toys.rounded)
    victim = toys.victim(
        masked,
        count=2,
        surrogates={
            "unrolled": masked,
            "bpda_identity": toys.behind(classifier, toys.rounded_straight_through),
        },
    )
    images = toys.gray(0.55, 0.59)
    labels = torch.zeros(2, dtype=torch.int64)
    blind = run_tier("unrolled", victim, images, labels, LINF, toys.budget(), seed=0)
    seeing = run_tier(
        "bpda_identity", victim, images, labels, LINF, toys.budget(), seed=0
    )
    assert not blind.outcome.success.any()
    assert torch.equal(blind.outcome.images, images)
    assert blind.chosen.tolist() == [0, 0]
    assert seeing.outcome.success.all()


def test_eot_finds_the_mean_of_a_noisy_path():
    samples = tuple(range(8))
    forward = toys.behind(toys.Brightness(), toys.noisy(0.3, samples))
    victim = toys.victim(forward, count=8, random=True)
    images = toys.gray(*[0.55] * 4, *[0.85] * 4)
    labels = torch.zeros(8, dtype=torch.int64)
    found = run_tier(
        "bpda_identity",
        victim,
        images,
        labels,
        LINF,
        toys.budget(draws=4, select_draws=5),
        seed=0,
    )
    assert found.outcome.success.tolist() == [True] * 4 + [False] * 4
    right = score_draws(victim, found.outcome.images, 200).argmax(dim=2) == 0
    # Noise of the mean pixel: 0.3 / 4; it stands 0.05 below the boundary, 0.25 above.
    share = right.float().mean(dim=1)
    assert (share[:4] < 0.35).all()
    assert (share[4:] > 0.95).all()


def coin(count: int):
    labels = torch.zeros(count, dtype=torch.int64)
    forward = toys.Watched(toys.Coin(0.9, labels, tuple(range(count))))
    return forward, toys.victim(forward, count=count, random=True), labels


@pytest.mark.parametrize("tier", ["bpda_identity", "transfer", "square", "spsa"])
def test_no_tier_takes_luck_for_a_break(tier):
    # 300 coins of p = 0.9, 20 draws each: the standard error of the mean is 0.0039.
    # A rule that counts an image as broken once any query of the search came out wrong
    # calls nearly all of them broken.
    _, victim, labels = coin(300)
    images = toys.gray(*torch.linspace(0.1, 0.9, 300).tolist())
    budget = toys.budget(steps=4, queries=10)
    found = run_tier(tier, victim, images, labels, LINF, budget, seed=0)
    right = score_draws(victim, found.outcome.images, 20).argmax(dim=2) == 0
    assert abs(right.float().mean().item() - 0.9) < 3 * 0.0039
    if tier != "transfer":  # which does not ask the path
        assert (found.outcome.first_success > 0).float().mean() > 0.3


def test_streams_of_attack_choice_and_score_never_meet():
    forward, victim, labels = coin(3)
    budget = toys.budget(steps=3, restarts=2, draws=2, select_draws=5)
    images = toys.gray(0.3, 0.5, 0.7)
    run_tier("bpda_identity", victim, images, labels, LINF, budget, seed=0)
    searched = [draw for draw in forward.draws if draw.stream == "attack"]
    # Two searches of 4 passes, one to learn K and one for `success`, 2 draws each.
    assert len(searched) == len(set(searched)) == 2 * (4 + 2) * 2
    chosen = [draw for draw in forward.draws if draw.stream == "select"]
    assert chosen == [Draw("select", n) for n in range(5)] * 3
    assert len(forward.draws) == len(searched) + len(chosen)


def test_an_image_fares_the_same_in_any_batch():
    samples = (7, 3, 11)
    images = toys.gray(0.58, 0.62, 0.7)
    images += 0.01 * torch.randn(images.shape, generator=torch.Generator())
    labels = torch.zeros(3, dtype=torch.int64)
    settings = toys.budget(restarts=3, draws=2)

    def crafted(order: list[int], random: bool):
        ids = tuple(samples[i] for i in order)
        change = toys.noisy(0.1, ids) if random else toys.identity
        victim = toys.victim(
            toys.behind(toys.Brightness(), change),
            count=len(ids),
            random=random,
            samples=ids,
        )
        return run_tier(
            "bpda_identity",
            victim,
            images[order],
            labels[order],
            LINF,
            settings,
            seed=0,
        )

    for random in (False, True):
        together = crafted([0, 1, 2], random)
        for order in ([2, 0], [1]):
            apart = crafted(order, random)
            assert torch.allclose(
                apart.outcome.images, together.outcome.images[order], atol=1e-6
            )
            assert torch.equal(apart.outcome.forwards, together.outcome.forwards[order])
            assert torch.allclose(
                apart.select_margin, together.select_margin[order], atol=1e-4
            )


def test_broken_images_leave_and_save_their_passes():
    forward = toys.Watched(toys.behind(toys.Brightness(), toys.identity))
    victim = toys.victim(forward, count=4)
    images = toys.gray(0.3, 0.52, 0.59, 0.9)
    found = run_tier(
        "bpda_identity",
        victim,
        images,
        ZEROS,
        LINF,
        toys.budget(steps=10, restarts=2),
        seed=0,
    )
    forwards = found.outcome.forwards.tolist()
    assert forwards[0] == 0  # wrong from the start
    assert forwards[1] == 2  # one step of 0.025 is enough
    assert 4 <= forwards[2] <= 8
    assert forwards[3] == 2 * 11  # never: both searches, to the end
    assert found.outcome.backwards.tolist()[3] == 2 * 10
    assert found.chosen.tolist()[:3] == [0, 1, 1]
    assert found.outcome.success.tolist() == [True, True, True, False]


def test_a_surrogate_that_errs_does_not_let_an_image_leave():
    # The surrogate thinks that the boundary is 0.05 nearer than it is.
    predict = toys.behind(toys.Brightness(), toys.identity)
    wrong = toys.behind(toys.Brightness(), lambda x, rows, draw: x - 0.05)
    victim = toys.victim(predict, count=1, surrogates={"unrolled": wrong})
    found = run_tier(
        "unrolled",
        victim,
        toys.gray(0.58),
        torch.zeros(1, dtype=torch.int64),
        LINF,
        toys.budget(steps=20),
        seed=0,
    )
    assert found.outcome.success.all()


def test_a_path_that_is_random_but_weak_on_each_draw_falls_to_a_known_draw():
    # Every draw shifts brightness along a secret sign per pixel: gradients of the mean
    # cancel, yet each realization is linear.
    def signed(images, rows, draw):
        ids = [hash((draw.stream, draw.number)) for _ in rows.tolist()]
        signs = [
            torch.randint(
                0, 2, images.shape[1:], generator=torch.Generator().manual_seed(abs(i))
            )
            for i in ids
        ]
        return 0.5 + (images - 0.5) * (torch.stack(signs) * 2.0 - 1) + 0.05

    victim = toys.victim(toys.behind(toys.Brightness(), signed), count=2, random=True)
    images, labels = toys.gray(0.5, 0.5), torch.zeros(2, dtype=torch.int64)
    budget = toys.budget(select_draws=10)
    found = run_tier("bpda_identity", victim, images, labels, LINF, budget, seed=0)
    fresh = score_draws(victim, found.outcome.images, 50).argmax(dim=2) == 0
    known = fixed_draw_attack(
        "bpda_identity", victim, images, labels, LINF, budget, seed=0
    )
    assert fresh.float().mean() > 0.8
    assert (known.argmax(dim=1) == 1).all()


def test_given_starts_are_candidates_and_are_clipped():
    starts = toys.gray(0.45, 0.0)
    found = run_tier(
        "bpda_identity",
        linear(2),
        toys.gray(0.55, 0.9),
        torch.zeros(2, dtype=torch.int64),
        LINF,
        toys.budget(),
        seed=0,
        starts=starts,
    )
    assert found.candidates == (
        "clean",
        "given",
        "ce from clean",
        "margin from given",
    )
    assert found.chosen[0] == 1
    assert found.outcome.forwards.tolist()[0] == 0
    assert torch.allclose(found.outcome.images[1], torch.tensor(0.8), atol=1e-6)


def test_a_ball_of_radius_0_leaves_the_clean_image_without_a_search():
    images = toys.gray(0.51, 0.49, 0.6, 0.4)
    found = run_tier(
        "bpda_identity",
        linear(),
        images,
        ZEROS,
        Threat("linf", 0.0),
        toys.budget(),
        seed=0,
    )
    assert torch.equal(found.outcome.images, images)
    assert found.candidates == ("clean",)
    assert found.outcome.forwards.tolist() == [0, 0, 0, 0]
    assert found.outcome.success.tolist() == [False, True, False, True]


def test_tiers_say_why_they_do_not_apply():
    victim = linear()
    assert applies("bpda_identity", victim) is None
    assert applies("square", victim) is None
    assert applies("unrolled", victim) == "The toy projects nothing."
    assert applies("bpda_encoder", victim) == (
        "The path 'toy' offers no gradients for 'bpda_encoder'."
    )
    with pytest.raises(RequestError, match="Did you mean 'unrolled'"):
        applies("unroled", victim)
    images = toys.gray(0.5, 0.5, 0.5, 0.5)
    with pytest.raises(RequestError, match="The toy projects nothing"):
        run_tier("unrolled", victim, images, ZEROS, LINF, toys.budget(), seed=0)
    with pytest.raises(RequestError, match="ball of the linf or l2 norm"):
        run_tier(
            "bpda_identity",
            victim,
            images,
            ZEROS,
            Threat("l2", float("inf")),
            toys.budget(),
            seed=0,
        )
    with pytest.raises(RequestError, match="cannot attack a fixed draw"):
        fixed_draw_attack("square", victim, images, ZEROS, LINF, toys.budget(), seed=0)
