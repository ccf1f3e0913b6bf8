"""What probes say of paths whose truth is known."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from toys import (
    SIZE,
    Brightness,
    behind,
    gray,
    identity,
    noisy,
    rounded,
    rounded_straight_through,
    victim,
)

from robustgen.adaptive.victim import Draw, Rows
from robustgen.attacks.logits import margin
from robustgen.budgets import BUDGETS
from robustgen.library import PgdAttack, PgdSettings, TierAttack
from robustgen.probes.attacks import (
    SWEEP,
    probe_longer_attack,
    probe_longer_tier,
    probe_noise,
    probe_sweep,
    probe_tier_sweep,
    reach,
)
from robustgen.probes.gradients import probe_gradients
from robustgen.probes.outputs import probe_outputs, probe_randomness
from robustgen.threat import Threat

LEVELS = (0.55, 0.6, 0.7, 0.8)
LABELS = torch.zeros(4, dtype=torch.int64)
LINF = Threat("linf", 0.12)
PGD = PgdAttack(
    name="pgd",
    attack="pgd",
    norm="linf",
    eps=0.12,
    settings=PgdSettings(steps=10, step_size=0.05),
)


def test_a_path_of_logits_and_its_classes():
    toy = victim(behind(Brightness(), identity), count=4)
    images = gray(0.6, 0.7, 0.4, 0.3)
    found = probe_outputs(toy, Brightness()(images), images, LABELS)
    assert (found.kind, found.classes, found.finite) == ("logits", 2, True)
    assert found.top_class_share == 0.5
    assert found.top_label_share == 1.0
    assert found.all_negative_share == 0.0


@pytest.mark.parametrize(
    ("made", "kind", "negative"),
    [
        (lambda z: z.softmax(dim=1), "probabilities", 0.0),
        (lambda z: z.log_softmax(dim=1), "log_probabilities", 1.0),
        (lambda z: z - 100, "logits", 1.0),
    ],
)
def test_what_a_module_returns_is_recognized(made, kind: str, negative: float):
    images = gray(*LEVELS)
    toy = victim(behind(Brightness(), identity), count=4)
    found = probe_outputs(toy, made(Brightness()(images)), images, LABELS)
    assert (found.kind, found.all_negative_share) == (kind, negative)


def test_saturated_outputs_are_counted():
    images = gray(0.51, 0.9, 0.95, 0.99)
    toy = victim(behind(Brightness(30.0), identity), count=4)
    found = probe_outputs(toy, Brightness(30.0)(images), images, LABELS)
    # z = 30 * 16 * 0.01 = 4.8 for the first: p = 0.99993; far beyond for the others.
    assert found.saturated_share == 0.75


def test_a_path_without_draws_is_not_random():
    toy = victim(behind(Brightness(), identity), count=2)
    found = probe_randomness(toy, gray(0.6, 0.7))
    assert not found.detected
    assert found.repeatable
    assert not found.uses_global_rng


def test_numbered_draws_are_random_and_repeatable():
    toy = victim(behind(Brightness(), noisy(0.1, (0, 1))), count=2, random=True)
    found = probe_randomness(toy, gray(0.6, 0.7))
    assert found.declared
    assert found.detected
    assert found.repeatable
    assert not found.uses_global_rng


def test_global_draws_are_found_out():
    def forward(images: Tensor, rows: Rows, draw: Draw) -> Tensor:
        del rows, draw
        shaken = images + 0.1 * torch.rand_like(images)
        return F.log_softmax(Brightness()(shaken), dim=1)

    before = torch.random.get_rng_state()
    found = probe_randomness(victim(forward, count=2), gray(0.6, 0.7))
    assert found.detected
    assert not found.declared
    assert found.repeatable
    assert found.uses_global_rng
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_sound_gradient():
    toy = victim(
        behind(Brightness(), identity),
        count=4,
        surrogates={"unrolled": behind(Brightness(), identity)},
    )
    found = probe_gradients(toy, "unrolled", gray(*LEVELS), LABELS, LINF, draws=1)
    assert found.zero_share == 0.0
    assert found.gain == 1.0
    assert found.slope_error < 1e-2
    # d CE / d x = -2 (1 - p) per pixel, 16 pixels: the length is 8 (1 - p).
    p = torch.sigmoid(2 * 16 * (torch.tensor(LEVELS) - 0.5))
    lengths = (8 * (1 - p)).sort().values
    assert found.norm_median == pytest.approx(lengths.quantile(0.5).item(), rel=1e-4)
    assert found.cosine != found.cosine  # it draws nothing


def test_a_shattered_gradient_is_zero_and_a_straight_through_one_is_not():
    shattered = behind(Brightness(), rounded)
    through = behind(Brightness(), rounded_straight_through)
    toy = victim(
        shattered,
        count=4,
        surrogates={"unrolled": shattered, "bpda_identity": through},
    )
    own = probe_gradients(toy, "unrolled", gray(*LEVELS), LABELS, LINF, draws=1)
    assert own.zero_share == 1.0
    assert own.gain == 0.0
    other = probe_gradients(toy, "bpda_identity", gray(*LEVELS), LABELS, LINF, draws=1)
    assert other.zero_share == 0.0
    assert other.slope_error != other.slope_error  # an approximation by design


def test_a_wrong_backward_pass_shows_in_slope_and_gain():
    def reversed_gradient(images: Tensor, rows: Rows, draw: Draw) -> Tensor:
        del rows, draw
        return 2 * images.detach() - images

    toy = victim(
        behind(Brightness(), identity),
        count=4,
        surrogates={"unrolled": behind(Brightness(), reversed_gradient)},
    )
    found = probe_gradients(toy, "unrolled", gray(*LEVELS), LABELS, LINF, draws=1)
    assert found.gain == 0.0


def test_gradients_of_noise_disagree_until_draws_are_averaged():
    change = noisy(0.5, tuple(range(4)))
    forward = behind(Brightness(0.3), change)
    toy = victim(forward, count=4, random=True, surrogates={"unrolled": forward})

    def product(images: Tensor, rows: Rows, draw: Draw) -> Tensor:
        # The gradient is noise around a weak signal: (1 + 20 n) per pixel.
        noise = change(torch.zeros_like(images), rows, draw)
        return F.log_softmax(Brightness(0.3)(images * (1 + 20 * noise)), dim=1)

    weak = replace(toy, predict=product, surrogates={"unrolled": product})
    images = gray(*LEVELS)
    one = probe_gradients(weak, "unrolled", images, LABELS, LINF, draws=1)
    sound = probe_gradients(toy, "unrolled", images, LABELS, LINF, draws=1)
    assert sound.cosine > 0.99
    assert one.cosine < 0.5


def test_noise_breaks_what_lies_within_its_reach():
    toy = victim(behind(Brightness(), identity), count=4)
    images = gray(*LEVELS)
    none = probe_noise(toy, images, LABELS, Threat("linf", 0.04), draws=20, seed=0)
    assert none.accuracy == 1.0  # 0.55 - 0.04 is still above one half
    wide = probe_noise(toy, images, LABELS, Threat("linf", 1.0), draws=20, seed=0)
    assert wide.accuracy < 1.0
    assert (wide.draws, wide.n, wide.norm) == (20, 4, "linf")


def test_l2_noise_has_the_length_of_the_radius():
    seen: list[Tensor] = []

    def forward(images: Tensor, rows: Rows, draw: Draw) -> Tensor:
        del rows, draw
        seen.append(images)
        return F.log_softmax(Brightness()(images), dim=1)

    images = gray(0.5, 0.5)
    threat = Threat("l2", 0.3)
    probe_noise(victim(forward, count=2), images, LABELS[:2], threat, draws=1, seed=0)
    lengths = (seen[0] - images).flatten(1).norm(dim=1)
    torch.testing.assert_close(lengths, torch.full((2,), 0.3))


def test_the_sweep_of_a_linear_classifier_is_its_closed_form():
    toy = replace(
        victim(behind(Brightness(), identity), count=4),
        path="image",
    )
    images = gray(*LEVELS)
    # A gray level above one half falls within a radius of its distance to it.
    own = torch.tensor([False, False, True, True])
    found = probe_sweep(PGD, toy, images, LABELS, own=own, seed=0)
    assert [one.factor for one in found] == list(SWEEP)
    distances = torch.tensor(LEVELS) - 0.5
    for one in found:
        expected = (distances > one.eps).float().mean().item()
        assert one.accuracy == pytest.approx(expected), one
    assert found[-1].eps == 1.0


def test_longer_searches_are_compared_on_the_same_images():
    toy = replace(victim(behind(Brightness(), identity), count=4), path="image")
    weak = torch.ones(4, dtype=torch.bool)  # an attack that turned nothing
    found = probe_longer_attack(PGD, toy, gray(*LEVELS), LABELS, own=weak, seed=0)
    assert (found.accuracy, found.longer_accuracy) == (1.0, 0.5)
    assert found.what == "steps 10 -> 20"


def tier(name: str = "bpda_identity") -> TierAttack:
    return TierAttack(
        name=name,
        norm="linf",
        eps=0.12,
        tier=name,
        target="toy",
        budget=BUDGETS["smoke"],
    )


def test_a_longer_tier_looks_at_survivors():
    toy = victim(behind(Brightness(), identity), count=2)
    images = gray(0.6, 0.8)
    found = probe_longer_tier(tier(), toy, images, LABELS[:2], seed=0, survivors=9)
    assert (found.accuracy, found.longer_accuracy, found.n) == (1.0, 0.5, 2)
    assert found.what == "steps 10 -> 20, on 2 of 9 survivors"


def test_a_tier_with_the_whole_pixel_range_breaks_what_has_a_gradient():
    toy = victim(behind(Brightness(), identity), count=2)
    none, whole = probe_tier_sweep(tier(), toy, gray(0.6, 0.9), LABELS[:2], seed=0)
    assert (none.eps, none.accuracy) == (0.0, 1.0)
    assert (whole.eps, whole.accuracy) == (1.0, 0.0)


def test_reach_is_what_the_steps_add_up_to():
    found = reach(PGD)
    assert found is not None
    assert (found.travel, found.needed) == pytest.approx((0.5, 0.24))
    of_tier = reach(tier())
    assert of_tier is not None
    assert of_tier.travel == pytest.approx(0.55 * 0.25 * 0.12 * 10)
    assert of_tier.needed == pytest.approx(0.12)
    assert reach(tier("square")) is None


def test_the_toy_is_what_the_closed_forms_assume():
    lead = margin(Brightness()(gray(0.75)), LABELS[:1])
    assert lead.item() == pytest.approx(-2 * SIZE * SIZE * 0.25)
