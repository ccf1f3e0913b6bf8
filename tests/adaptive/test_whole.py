"""Whole defenses as victims: differentiable or not, random or not."""

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustgen.adaptive.victim import Draw, Rows, Victim
from robustgen.adaptive.whole import draws_randomly, log_probabilities, whole_victim
from robustgen.errors import RequestError

SAMPLES = (7, 8, 9)
FIRST = Draw("score", 0)


class Classifier(nn.Module):
    """Logits `(0, 4 * mean, 8 * first pixel)`."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean(dim=(1, 2, 3))
        return torch.stack([0 * mean, 4 * mean, 8 * images[:, 0, 0, 0]], dim=1)


CLASSIFIER = Classifier()


class Through(nn.Module):
    """A defense that classifies what a function makes of the images."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        return self.weight * CLASSIFIER(self.function(images))


def brighter(images: Tensor) -> Tensor:
    return images**2


def rounded(images: Tensor) -> Tensor:
    return images.round()


def over_numpy(images: Tensor) -> Tensor:
    return torch.from_numpy(np.round(images.numpy(), 1))


@torch.no_grad()
def ungraphed(images: Tensor) -> Tensor:
    return images**2


@torch.inference_mode()
def inferred(images: Tensor) -> Tensor:
    return images**2


def overwriting(images: Tensor) -> Tensor:
    root = (images + 1).sqrt()
    found = root * 1
    root.zero_()  # what the gradient of the root needs
    return found


def optimized(images: Tensor) -> Tensor:
    """Two steps toward the image, by gradients of its own."""
    found = torch.zeros_like(images).requires_grad_()
    for _ in range(2):
        loss = (found - images).square().sum()
        loss.backward()
        assert found.grad is not None
        found = (found.detach() - 0.25 * found.grad).requires_grad_()
    return found


def writing(images: Tensor) -> Tensor:
    return images.mul_(0.5)


def noisy_torch(images: Tensor) -> Tensor:
    return images + 0.3 * torch.randn_like(images)


def noisy_numpy(images: Tensor) -> Tensor:
    return images + 0.3 * float(np.random.normal())


def noisy_python(images: Tensor) -> Tensor:
    return images + 0.3 * random.gauss(0, 1)


class Own(Through):
    """A defense with generators of its own."""

    def __init__(self) -> None:
        super().__init__(self.shaken)
        self.torch_rng = torch.Generator()
        self.numpy_rng = np.random.default_rng(0)
        self.legacy_rng = np.random.RandomState(0)
        self.python_rng = random.Random(0)

    def shaken(self, images: Tensor) -> Tensor:
        return (
            images
            + 0.1 * torch.rand(1, generator=self.torch_rng)
            + 0.1 * self.numpy_rng.random()
            + 0.1 * self.legacy_rng.rand()
            + 0.1 * self.python_rng.random()
        )


def victim_of(module: nn.Module, *, is_random: bool = False, seed: int = 0) -> Victim:
    return whole_victim(
        module, CLASSIFIER, SAMPLES, classes=3, random=is_random, seed=seed
    )


def images() -> Tensor:
    return torch.linspace(0.1, 0.9, 12).view(3, 1, 2, 2)


def rows(*numbers: int) -> Rows:
    return torch.tensor(numbers or (0, 1, 2))


def gradient_of(logs: Tensor, x: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(logs[:, 1].sum(), x)
    return gradient


def test_a_differentiable_module_has_its_own_value_and_gradient():
    x = images().requires_grad_()
    expected = CLASSIFIER(x**2).log_softmax(dim=1)
    victim = victim_of(Through(brighter))
    assert victim.path == "defense"
    torch.testing.assert_close(victim.predict(x, rows(), FIRST), expected.detach())
    found = victim.surrogates["unrolled"](x, rows(), FIRST)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient_of(found, x), gradient_of(expected, x))


@pytest.mark.parametrize(
    "function",
    [brighter, rounded, over_numpy, ungraphed, inferred, overwriting, optimized],
)
def test_identity_follows_the_undefended_classifier(
    function: Callable[[Tensor], Tensor],
):
    x = images().requires_grad_()
    victim = victim_of(Through(function))
    value = victim.predict(x, rows(), FIRST)
    found = victim.surrogates["bpda_identity"](x, rows(), FIRST)
    torch.testing.assert_close(found, value)
    undefended = CLASSIFIER(x).log_softmax(dim=1)
    torch.testing.assert_close(gradient_of(found, x), gradient_of(undefended, x))


@pytest.mark.parametrize(
    "function", [rounded, over_numpy, ungraphed, inferred, overwriting, optimized]
)
def test_a_module_without_a_gradient_has_one_of_zero(
    function: Callable[[Tensor], Tensor],
):
    x = images().requires_grad_()
    victim = victim_of(Through(function))
    found = victim.surrogates["unrolled"](x, rows(), FIRST)
    torch.testing.assert_close(found.detach(), victim.predict(x, rows(), FIRST))
    assert gradient_of(found, x).count_nonzero() == 0


def test_a_module_may_optimize_inside_where_attacks_have_no_gradient():
    x = images()
    # From 0, two steps of a half: three quarters of the image.
    expected = CLASSIFIER(0.75 * x).log_softmax(dim=1)
    with torch.no_grad():
        found = victim_of(Through(optimized)).predict(x, rows(), FIRST)
    torch.testing.assert_close(found, expected)


def test_a_module_may_write_into_its_input():
    x = images()
    before = x.clone()
    x.requires_grad_()
    victim = victim_of(Through(writing))
    expected = CLASSIFIER(0.5 * x).log_softmax(dim=1)
    torch.testing.assert_close(victim.predict(x, rows(), FIRST), expected.detach())
    found = victim.surrogates["unrolled"](x, rows(), FIRST)
    torch.testing.assert_close(gradient_of(found, x), gradient_of(expected, x))
    assert x.equal(before)


NOISY = (
    Through(noisy_torch),
    Through(noisy_numpy),
    Through(noisy_python),
    Own(),
)


@pytest.mark.parametrize("module", NOISY)
def test_a_random_module_repeats_its_draws_whatever_the_batch(module: nn.Module):
    x = images()
    victim = victim_of(module, is_random=True)
    together = victim.predict(x, rows(), FIRST)
    torch.rand(3)  # the state of global generators does not matter
    part = rows(2, 0, 2)
    found = victim.predict(x[part], part, FIRST)
    assert found.equal(together[part])
    for tier in ("bpda_identity", "unrolled"):
        value = victim.surrogates[tier](x.clone().requires_grad_(), rows(), FIRST)
        torch.testing.assert_close(value.detach(), together)


@pytest.mark.parametrize("module", NOISY)
def test_random_draws_differ_between_samples_numbers_streams_and_seeds(
    module: nn.Module,
):
    x = torch.full((3, 1, 2, 2), 0.5)
    victim = victim_of(module, is_random=True)
    found = [
        victim.predict(x, rows(), FIRST),
        victim.predict(x, rows(), Draw("score", 1)),
        victim.predict(x, rows(), Draw("select", 0)),
        victim_of(module, is_random=True, seed=1).predict(x, rows(), FIRST),
    ]
    values = [value for each in found for value in each[:, 1].tolist()]
    assert len(set(values)) == 12


def test_a_random_module_is_differentiated_on_the_draw_it_is_scored_on():
    x = images().requires_grad_()
    module = Through(lambda x: x * (1 + torch.rand(1)))
    victim = victim_of(module, is_random=True)
    logs = victim.predict(x, rows(), FIRST)
    # Logits are proportional to the factor of the draw.
    lead = (logs[:, 1] - logs[:, 0]) / (4 * x.detach().mean(dim=(1, 2, 3)))
    expected = CLASSIFIER(x * lead.view(-1, 1, 1, 1)).log_softmax(dim=1)
    found = victim.surrogates["unrolled"](x, rows(), FIRST)
    torch.testing.assert_close(gradient_of(found, x), gradient_of(expected, x))


class Offering(Through):
    """A defense that knows how it is differentiated."""

    def __init__(self, offer: object) -> None:
        super().__init__(rounded)
        self.offer = offer
        self.asked: list[str] = []

    def surrogate(self, tier: str) -> object:
        self.asked.append(tier)
        return self.offer if tier == "bpda_encoder" else None


def test_the_surrogate_of_a_module_goes_first():
    inner = nn.BatchNorm2d(1)
    smooth = nn.Sequential(inner, Through(brighter))
    module = Offering(smooth)
    victim = victim_of(module)
    assert module.asked == ["bpda_identity", "bpda_encoder", "unrolled"]
    assert victim.missing == {}
    assert inner in set(victim.networks.modules())
    smooth.eval()
    x = images().requires_grad_()
    found = victim.surrogates["bpda_encoder"](x, rows(), FIRST)
    expected = smooth(x).log_softmax(dim=1)
    torch.testing.assert_close(gradient_of(found, x), gradient_of(expected, x))


def test_without_a_surrogate_the_encoder_tier_is_missing():
    missing = victim_of(Through(rounded)).missing
    assert list(missing) == ["bpda_encoder"]
    assert "has no `surrogate('bpda_encoder')`" in missing["bpda_encoder"]
    with pytest.raises(RequestError, match=r"surrogate\('bpda_encoder'\) returned int"):
        victim_of(Offering(3))


def test_a_module_that_returns_nonsense_is_refused():
    def logits(found: Tensor) -> nn.Module:
        module = Through(brighter)
        module.forward = lambda images: found[: len(images)]  # pyright: ignore[reportAttributeAccessIssue]
        return module

    for found, message in (
        (torch.zeros(3), "expected logits"),
        (torch.zeros(3, 2), "returned 2 classes; the data set has 3"),
        (torch.tensor([[0.0, 1.0, torch.nan]] * 3), "NaN or infinity for image 7"),
    ):
        with pytest.raises(RequestError, match=message):
            victim_of(logits(found)).predict(images(), rows(), FIRST)


def test_rows_that_are_probabilities_count_as_such():
    rows_of = torch.tensor(
        [[0.25, 0.75, 0.0], [0.25, 0.75, 0.5], [-0.25, 1.25, 0.0], [1.0, 0.0, 0.0]]
    )
    found = log_probabilities(rows_of).exp()
    torch.testing.assert_close(found[[0, 3]], rows_of[[0, 3]])
    torch.testing.assert_close(found[1:3], rows_of[1:3].softmax(dim=1))
    assert found.argmax(dim=1).equal(rows_of.argmax(dim=1))


def test_logits_of_minus_infinity_have_a_finite_gradient():
    logits = torch.tensor([[0.0, 1.0, -torch.inf]], requires_grad=True)
    found = log_probabilities(logits)
    torch.testing.assert_close(
        found.exp(), torch.tensor([[0.2689, 0.7311, 0.0]]), atol=1e-4, rtol=0
    )
    (gradient,) = torch.autograd.grad(found[0, 0], logits)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("module", NOISY)
def test_randomness_is_found_and_nothing_is_left_changed(module: nn.Module):
    module.train()
    own = module.torch_rng.get_state() if isinstance(module, Own) else None
    state = torch.get_rng_state(), str(np.random.get_state(legacy=False))
    assert draws_randomly(module, images())
    assert torch.get_rng_state().equal(state[0])
    assert str(np.random.get_state(legacy=False)) == state[1]
    if isinstance(module, Own):
        assert own is not None
        assert module.torch_rng.get_state().equal(own)
    assert module.training
    assert all(p.requires_grad and p.grad is None for p in module.parameters())


@pytest.mark.parametrize("function", [brighter, over_numpy, optimized, inferred])
def test_a_deterministic_module_is_not_taken_for_random(
    function: Callable[[Tensor], Tensor],
):
    assert not draws_randomly(Through(function), images())


def test_randomness_from_elsewhere_is_found():
    calls: list[int] = []

    def counting(images: Tensor) -> Tensor:
        calls.append(1)
        return images + 0.1 * len(calls)

    assert draws_randomly(Through(counting), images())


def test_predict_changes_nothing_of_the_module():
    own = Own()
    module = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.5), own)
    module.train()
    module[0].eval()
    state = torch.get_rng_state(), own.numpy_rng.bit_generator.state
    victim = victim_of(module, is_random=True)
    first = victim.predict(images(), rows(), FIRST)
    # In eval mode: dropout would drop half of the pixels otherwise.
    assert first.equal(victim.predict(images(), rows(), FIRST))
    assert [part.training for part in module] == [False, True, True]
    assert torch.get_rng_state().equal(state[0])
    assert own.numpy_rng.bit_generator.state == state[1]
    assert all(p.requires_grad and p.grad is None for p in module.parameters())
