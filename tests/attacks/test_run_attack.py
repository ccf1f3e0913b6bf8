"""The framework: nothing that an attack does gets past it, and it leaves no trace."""

import random
from collections.abc import Callable
from typing import final

import numpy as np
import pytest
import torch
import torchattacks
from attack_models import Linear, Mapped, NoParameters, convnet, pictures, rngs
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from robustgen.adaptive.victim import Draw, ExpectedLogits
from robustgen.attacks import AttackOutcome, build_clean, build_pgd, run_attack
from robustgen.attacks.attack import check_images, check_labels
from robustgen.attacks.logits import LogitsModule, margin
from robustgen.attacks.passes import PassCounter, checked_logits, logits_of
from robustgen.errors import RequestError
from robustgen.threat import Threat

LINF = Threat("linf", 0.1)
LABELS = torch.tensor([0, 1, 2, 0])


def run(attack: Callable[..., object], model: nn.Module | None = None) -> AttackOutcome:
    return run_attack(
        attack,  # pyright: ignore[reportArgumentType]
        model or convnet(),
        pictures(4),
        LABELS,
        LINF,
        rngs(4),
    )


def test_an_honest_result_comes_back_unchanged():
    outcome = run(lambda f, x, y, t, r: (x + 0.05).clamp(0, 1))
    torch.testing.assert_close(outcome.images, (pictures(4) + 0.05).clamp(0, 1))
    assert outcome.in_threat.all()
    assert not outcome.clipped.any()
    assert not outcome.failed.any()
    assert not outcome.images.requires_grad


def test_distances_are_those_of_the_images_returned():
    images = pictures(4, low=0.2, high=0.8)
    outcome = run_attack(
        lambda f, x, y, t, r: x + 0.05, convnet(), images, LABELS, LINF, rngs(4)
    )
    torch.testing.assert_close(outcome.distance_linf, torch.full((4,), 0.05))
    torch.testing.assert_close(outcome.distance_l2, torch.full((4,), 0.05 * 8.0))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_one_pixel_that_is_not_finite_fails_that_image_only(bad: float):
    def attack(f, x, y, t, r):
        x = x.clone()
        x[2, 0, 3, 3] = bad
        x[1] = (x[1] + 0.05).clamp(0, 1)
        return x

    outcome = run(attack)
    assert outcome.failed.tolist() == [False, False, True, False]
    assert torch.equal(outcome.images[2], pictures(4)[2])
    assert outcome.distance_l2[2] == 0
    assert outcome.distance_l2[1] > 0
    assert outcome.in_threat.all()


@pytest.mark.parametrize("step", [0.5, -7.0])
def test_what_leaves_the_threat_set_is_brought_back_and_said_so(step: float):
    outcome = run(lambda f, x, y, t, r: torch.cat([x[:2] + step, x[2:]]))
    expected = pictures(4)
    expected[:2] = (expected[:2] + (0.1 if step > 0 else -0.1)).clamp(0, 1)
    torch.testing.assert_close(outcome.images, expected)
    assert outcome.clipped.tolist() == [True, True, False, False]
    assert outcome.in_threat.all()


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (None, "returned NoneType"),
        ([1.0], "returned list"),
        (torch.zeros(4, 1, 8, 7), r"returned shape \[4, 1, 8, 7\]"),
        (torch.zeros(3, 1, 8, 8), r"returned shape \[3, 1, 8, 8\]"),
        (torch.zeros(4, 1, 8, 8, dtype=torch.uint8), "returned torch.uint8 pixels"),
    ],
)
def test_what_is_no_batch_of_images_is_refused_by_name(result: object, words: str):
    def planted(f, x, y, t, r):
        return result

    message = rf"^Attack 'planted' {words}.*expected images \[4, 1, 8, 8\]"
    with pytest.raises(RequestError, match=message):
        run(planted)


def test_the_name_given_is_the_name_said():
    with pytest.raises(RequestError, match=r"^Attack 'mine' returned"):
        run_attack(
            lambda f, x, y, t, r: None,  # pyright: ignore[reportArgumentType, reportReturnType]
            convnet(),
            pictures(4),
            LABELS,
            LINF,
            rngs(4),
            name="mine",
        )


def test_type_and_gradient_of_a_result_do_not_leak():
    def attack(f, x, y, t, r):
        return (x.double() + 0.01).clamp(0, 1).requires_grad_()

    outcome = run(attack)
    assert outcome.images.dtype == torch.float32
    assert not outcome.images.requires_grad


def test_an_attack_cannot_write_into_the_images_or_labels():
    images, labels = pictures(4), LABELS.clone()

    def attack(f, x, y, t, r):
        y.zero_()
        return x.zero_()

    outcome = run_attack(attack, convnet(), images, labels, LINF, rngs(4))
    assert torch.equal(images, pictures(4))
    assert torch.equal(labels, LABELS)
    torch.testing.assert_close(outcome.images, (images - 0.1).clamp(min=0))


@pytest.mark.parametrize(
    ("images", "labels", "count", "words"),
    [
        (torch.rand(0, 1, 2, 2), torch.zeros(0).long(), 0, "Nothing to attack"),
        (torch.rand(2, 2, 2), torch.zeros(2).long(), 2, "Nothing to attack"),
        (torch.rand(2, 1, 2, 2), torch.zeros(3).long(), 2, "one label and one gen"),
        (torch.rand(2, 1, 2, 2), torch.zeros(2).long(), 1, "and 1 generators"),
        (torch.full((2, 1, 2, 2), 255.0), torch.zeros(2).long(), 2, "255 to 255"),
        (torch.full((2, 1, 2, 2), -0.5), torch.zeros(2).long(), 2, r"lie in \[0, 1\]"),
        (torch.full((2, 1, 2, 2), torch.nan), torch.zeros(2).long(), 2, "nan"),
    ],
)
def test_batches_that_nothing_can_attack_are_refused(
    images: Tensor, labels: Tensor, count: int, words: str
):
    with pytest.raises(RequestError, match=words):
        check_images(images, labels, rngs(count))


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_is_no_class_is_refused(label: int):
    check_labels(torch.tensor([0, 2]), classes=3)
    with pytest.raises(RequestError, match=rf"Label {label} of image 1 .* 0 to 2"):
        check_labels(torch.tensor([0, label]), classes=3)


def test_labels_are_checked_against_the_classifier_even_without_an_attack():
    labels = torch.tensor([0, 1, 2, 0])
    with pytest.raises(RequestError, match="Label 2 of image 2"):
        run_attack(
            build_clean(),
            convnet(classes=2),
            pictures(4),
            labels,
            Threat("none", 0.0),
            rngs(4),
        )


@pytest.mark.parametrize(
    ("logits", "words"),
    [
        (torch.zeros(4), r"shape \[4\].*return the two logits \[-z, z\]"),
        (torch.zeros(4, 1), r"shape \[4, 1\].*return the two logits"),
        (torch.zeros(3, 2), r"expected logits \[4, K\]"),
        ({"logits": 1}, "returned dict"),
    ],
)
def test_a_classifier_without_two_logits_is_refused(logits: object, words: str):
    with pytest.raises(RequestError, match=words):
        checked_logits(logits, 4)


modes_strategy = st.lists(st.booleans(), min_size=8, max_size=8)
frozen_strategy = st.lists(st.booleans(), min_size=6, max_size=6)


def greedy(f, x, y, t, r):
    """Uses and spoils everything global and of the model that it can get at."""
    torch.rand(3)
    np.random.rand(3)
    random.random()
    torch.default_generator.manual_seed(1)
    f.train()
    x = x.requires_grad_()
    f(x).sum().backward()
    return (x + 0.1 * x.grad.sign()).clamp(0, 1)


def failing(f, x, y, t, r):
    greedy(f, x, y, t, r)
    raise ZeroDivisionError


def spoil(model: nn.Module) -> None:
    """What an attack does that holds the model itself, not only its logits."""
    model.train()
    model(pictures(4))  # writes the statistics of the BatchNorm
    model[1].running_mean = torch.ones(8)  # pyright: ignore[reportIndexIssue]
    for parameter in model.parameters():
        parameter.requires_grad_(True)
        parameter.grad = None
    model(pictures(4)).sum().backward()


@pytest.mark.parametrize("attack", [greedy, failing])
@settings(max_examples=20)
@given(modes=modes_strategy, frozen=frozen_strategy, seed=st.integers(0, 2**31))
def test_model_and_generators_come_back_as_they_were(
    attack: Callable[..., Tensor], modes: list[bool], frozen: list[bool], seed: int
):
    model = convnet()
    for module, training in zip(model.modules(), modes, strict=True):
        module.training = training
    for parameter, is_frozen in zip(model.parameters(), frozen, strict=True):
        parameter.requires_grad = not is_frozen
        parameter.grad = torch.ones_like(parameter)
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    torch.default_generator.manual_seed(seed)
    state = torch.get_rng_state(), np.random.get_state()

    def spoiling(f, x, y, t, r):
        spoil(model)
        return attack(f, x, y, t, r)

    if attack is failing:
        with pytest.raises(ZeroDivisionError):
            run(spoiling, model)
    else:
        run(spoiling, model)

    assert torch.equal(torch.get_rng_state(), state[0])
    assert repr(np.random.get_state()) == repr(state[1])
    assert [m.training for m in model.modules()] == modes
    assert [not p.requires_grad for p in model.parameters()] == frozen
    assert all(bool((p.grad == 1).all()) for p in model.parameters())
    for key, value in model.state_dict().items():
        assert torch.equal(value, weights[key])
    assert all(not m._forward_hooks for m in model.modules())
    assert all(not m._backward_hooks for m in model.modules())


def test_a_gradient_written_in_place_is_put_back_and_one_that_came_is_taken_away():
    model = convnet()
    first, *others = model.parameters()
    first.grad = torch.ones_like(first)
    held = first.grad

    def attack(f, x, y, t, r):
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        f(x).sum().backward()
        return x

    run(attack, model)
    assert first.grad is held
    assert bool((held == 1).all())
    assert all(parameter.grad is None for parameter in others)


def test_a_graph_of_the_user_s_own_survives_an_attack():
    # Buffers are written back only where they changed: a write breaks the graph.
    model = convnet().eval()
    loss = model(pictures(4)).sum()
    run(build_pgd(steps=4, step_size=0.1), model)
    loss.backward()
    assert next(model.parameters()).grad is not None


def test_python_s_own_generator_comes_back_as_it_was():
    # The type checker of the tests draws from it too, on every call of ours: so the
    # two runs are compared with each other, not with the start.
    def state_after(attack: Callable[..., Tensor]) -> object:
        random.seed(5)
        run(attack)
        return random.getstate()

    assert state_after(greedy) == state_after(lambda f, x, y, t, r: x)


def test_an_attack_sees_a_frozen_model_in_eval_mode():
    model = convnet().train()
    seen: list[tuple[bool, bool]] = []

    def attack(f, x, y, t, r):
        f.train()
        logits = f(x)
        seen.append((any(m.training for m in model.modules()), logits.requires_grad))
        return x

    run(attack, model)
    assert seen == [(False, False)]


def test_an_attack_that_draws_globally_still_repeats():
    def attack(f, x, y, t, r):
        drawn = torch.rand_like(x) + np.random.rand() + random.random()
        return (x + 0.01 * drawn).clamp(0, 1)

    first = run(attack).images
    torch.rand(5)
    np.random.rand(5)
    random.random()
    assert torch.equal(run(attack).images, first)


@pytest.mark.parametrize(
    "mode", [torch.enable_grad, torch.no_grad, torch.inference_mode]
)
def test_the_caller_s_gradient_mode_does_not_matter(mode: Callable[[], torch.no_grad]):
    attack, model = build_pgd(steps=4, step_size=0.1), convnet()
    expected = run(attack, model).images
    with mode():
        outcome = run(attack, model)
        assert torch.is_grad_enabled() == (mode is torch.enable_grad)
    assert torch.equal(outcome.images, expected)


def test_images_made_in_inference_mode_are_fine():
    with torch.inference_mode():
        images = pictures(4)
    attack = build_pgd(steps=4, step_size=0.1)
    outcome = run_attack(attack, convnet(), images, LABELS, LINF, rngs(4))
    assert torch.equal(outcome.images, run(attack).images)


def test_passes_are_counted_for_the_image_they_were_spent_on():
    def attack(f, x, y, t, r):
        f(x)  # no gradient is asked for: a forward pass only
        x = x.requires_grad_()
        f(x).sum().backward()  # both
        f(x[[3, 1]]).sum().backward()  # a part, out of order
        with torch.no_grad():
            f(x.repeat_interleave(3, dim=0) + 0.01)  # variants of each
        return x

    outcome = run(attack)
    assert outcome.forwards.tolist() == [5, 6, 5, 6]
    assert outcome.backwards.tolist() == [1, 2, 1, 2]


def test_an_attack_may_say_whose_passes_they_are():
    # Rows far from home: the nearest clean image is not the one they were made from.
    def attack(f, x, y, t, r):
        rows = torch.tensor([3, 1])
        part = logits_of(f, rows)
        swapped = x[[1, 1]].requires_grad_()
        part(swapped).sum().backward()
        return x

    outcome = run(attack)
    assert outcome.forwards.tolist() == [0, 1, 0, 1]
    assert outcome.backwards.tolist() == [0, 1, 0, 1]
    plain = Linear(torch.ones(1, 8, 8))
    assert logits_of(plain, torch.tensor([0])) is plain


def test_a_backward_pass_counts_each_time_it_runs():
    counter = PassCounter(Linear(torch.ones(1, 8, 8)), pictures(2), LABELS[:2])
    x = pictures(2).requires_grad_()
    loss = counter(x).square().sum()
    loss.backward(retain_graph=True)
    loss.backward()
    assert counter.forwards.tolist() == [1, 1]
    assert counter.backwards.tolist() == [2, 2]


def linear_run(attack: Callable[..., object]) -> AttackOutcome:
    """On logits (z, -z) of images of one pixel, z above 0.5; all labels are 0."""
    images = torch.tensor([0.7, 0.6, 0.4]).view(3, 1, 1, 1)
    return run_attack(
        attack,  # pyright: ignore[reportArgumentType]
        Linear(torch.ones(1, 1, 1), bias=-0.5),
        images,
        torch.zeros(3, dtype=torch.int64),
        Threat("linf", 0.3),
        rngs(3),
    )


def test_success_and_margins_are_those_of_the_passes():
    # The margin is -2z; the last image is misclassified clean.
    def attack(f, x, y, t, r):
        for change in (0.11, -0.15, -0.05):
            f(x + change)
        return x - 0.25

    outcome = linear_run(attack)
    assert outcome.success.tolist() == [True, True, True]
    assert outcome.first_success.tolist() == [-1, 2, 2]
    assert outcome.margin_first.tolist() == pytest.approx([-0.62, -0.42, -0.02])
    assert outcome.margin_best.tolist() == pytest.approx([-0.1, 0.1, 0.5])
    assert outcome.margin_last.tolist() == pytest.approx([-0.3, -0.1, 0.3])
    assert outcome.forwards.tolist() == [3] * 3


def test_an_attack_that_never_asks_has_no_margin_but_may_succeed():
    outcome = linear_run(lambda f, x, y, t, r: x - 0.15)
    assert outcome.success.tolist() == [False, True, True]
    assert outcome.first_success.tolist() == [-1] * 3
    assert outcome.forwards.tolist() == [0] * 3
    for margins in (outcome.margin_first, outcome.margin_best, outcome.margin_last):
        assert margins.isnan().all()


def test_a_failed_image_is_no_success_even_where_it_is_misclassified_clean():
    def attack(f, x, y, t, r):
        return torch.full_like(x, torch.nan)

    outcome = linear_run(attack)
    assert outcome.failed.all()
    assert outcome.success.tolist() == [False] * 3


def test_an_image_that_the_classifier_answers_with_nan_is_a_failure():
    # Else the argmax of NaN, class 0, would count as misclassified.
    def nan_below_half(x: Tensor) -> Tensor:
        mean = x.flatten(1).mean(dim=1)
        logits = torch.stack([1 - mean, mean], dim=1)
        return torch.where(mean[:, None] < 0.5, torch.nan, logits)

    images = torch.tensor([0.9, 0.55]).view(2, 1, 1, 1)
    outcome = run_attack(
        lambda f, x, y, t, r: x - 0.1,
        Mapped(nn.Identity(), nan_below_half),
        images,
        torch.ones(2, dtype=torch.int64),
        Threat("linf", 0.2),
        rngs(2),
    )
    assert outcome.failed.tolist() == [False, True]
    assert not outcome.success.any()
    assert torch.equal(outcome.images[1], images[1])


def test_success_is_judged_after_the_clip():
    images, model = torch.full((1, 1, 1, 1), 0.7), Linear(torch.ones(1, 1, 1), -0.5)
    near = run_attack(
        lambda f, x, y, t, r: x - 0.6,
        model,
        images,
        torch.zeros(1, dtype=torch.int64),
        Threat("linf", 0.1),
        rngs(1),
    )
    assert near.clipped.tolist() == [True]
    assert near.success.tolist() == [False]


def test_logits_that_are_nan_misclassify_nothing_and_count_for_no_margin():
    scores = iter([torch.nan, 1.0, torch.nan])

    def logits_fn(x: Tensor) -> Tensor:
        lead = torch.full((2,), next(scores))
        return torch.stack([torch.zeros(2), lead], dim=1)

    counter = PassCounter(logits_fn, pictures(2), torch.zeros(2, dtype=torch.int64))
    for _ in range(3):
        counter(pictures(2))
    assert counter.first_success.tolist() == [2, 2]
    assert counter.margin_best.tolist() == [1.0, 1.0]
    assert counter.margin_first.isnan().all()
    assert counter.margin_last.isnan().all()


def test_variants_of_an_image_in_one_call_stand_together_as_the_strongest():
    weight = torch.ones(1, 1, 1)
    images = torch.tensor([0.7, 0.6]).view(2, 1, 1, 1)
    counter = PassCounter(
        Linear(weight, bias=-0.5), images, torch.zeros(2, dtype=torch.int64)
    )
    variants = torch.tensor([0.75, 0.65, 0.45, 0.7]).view(4, 1, 1, 1)
    counter.of(torch.tensor([0, 1, 1, 0]))(variants)
    assert counter.forwards.tolist() == [2, 2]
    assert counter.first_success.tolist() == [-1, 2]
    expected = torch.tensor([-0.4, 0.1])
    torch.testing.assert_close(counter.margin_first, expected)
    torch.testing.assert_close(counter.margin_last, expected)


@final
class Rows(nn.Module):
    """A classifier that writes down whom it is asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[list[int]] = []

    def forward(self, images: Tensor) -> Tensor:
        return self.of(torch.arange(len(images)))(images)

    def of(self, rows: Tensor) -> Callable[[Tensor], Tensor]:
        def logits(images: Tensor) -> Tensor:
            self.asked.append(rows.tolist())
            mean = images.flatten(1).mean(dim=1)
            return torch.stack([mean, 1 - mean, -mean], dim=1)

        return logits


def test_a_classifier_is_told_which_images_it_is_asked_about():
    model = Rows()

    def attack(f, x, y, t, r):
        f(x)
        f(x[[3, 1]])  # found by their distance
        logits_of(f, torch.tensor([2, 0]))(x[[1, 1]])  # said
        return x

    run(attack, model)
    whole = [0, 1, 2, 3]
    assert model.asked == [[0], whole, [3, 1], [2, 0], whole]


def test_draws_of_a_random_victim_stay_with_their_image_in_a_part_of_the_batch():
    seen: list[tuple[list[int], int]] = []

    def forward(images: Tensor, rows: Tensor, draw: Draw) -> Tensor:
        seen.append((rows.tolist(), draw.number))
        mean = images.flatten(1).mean(dim=1)
        return torch.stack([mean, 1 - mean, -mean], dim=1).log_softmax(dim=1)

    victim = ExpectedLogits(forward, nn.Identity(), count=4, draws=2)

    def attack(f, x, y, t, r):
        f(x)
        logits_of(f, torch.tensor([2]))(x[[2]])
        return x

    run(attack, victim)
    whole = [0, 1, 2, 3]
    assert seen[:6] == [
        *(([0], 0), ([0], 1)),  # to learn the number of classes
        *((whole, 2), (whole, 3)),
        *(([2], 4), ([2], 5)),
    ]
    # Of the image returned: fresh draws for each, whatever was asked about others.
    assert sorted(seen[6:]) == [
        *(([0, 1, 3], 4), ([0, 1, 3], 5), ([2], 6), ([2], 7)),
    ]


def test_what_an_attack_writes_into_logits_stays_there():
    kept = torch.zeros(2, 2)
    counter = PassCounter(lambda x: kept, pictures(2), LABELS[:2])
    counter(pictures(2)).fill_(-torch.inf)
    assert torch.equal(kept, torch.zeros(2, 2))


def test_the_clean_attack_costs_nothing_and_changes_nothing():
    outcome = run_attack(
        build_clean(), convnet(), pictures(4), LABELS, Threat("none", 0.0), rngs(4)
    )
    assert torch.equal(outcome.images, pictures(4))
    assert outcome.forwards.tolist() == [0] * 4
    assert outcome.backwards.tolist() == [0] * 4
    assert outcome.distance_linf.tolist() == [0.0] * 4
    assert outcome.in_threat.all()


def test_a_library_s_attack_runs_on_what_an_attack_is_given():
    # Square draws from the global generator, resets it, and spoils logits in place.
    def square(f, x, y, t, r):
        return torchattacks.Square(f, eps=t.eps, n_queries=5)(x, y)

    state = torch.get_rng_state()
    first, second = run(square), run(square)
    assert torch.equal(first.images, second.images)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.in_threat.all()


def test_torchattacks_takes_a_function_through_the_module(
    capsys: pytest.CaptureFixture[str],
):
    module = LogitsModule(NoParameters(), torch.device("cpu"))
    x = torchattacks.FGSM(module, eps=0.1)(pictures(2), torch.zeros(2).long())
    torch.testing.assert_close(x, (pictures(2) - 0.1).clamp(min=0))
    assert capsys.readouterr().out == ""


@given(st.lists(st.floats(-100, 100, width=32), min_size=3, max_size=3))
def test_the_margin_is_positive_exactly_where_another_class_leads(scores: list[float]):
    logits, labels = torch.tensor([scores]), torch.tensor([1])
    expected = max(scores[0], scores[2]) - scores[1]
    torch.testing.assert_close(margin(logits, labels), torch.tensor([expected]))
