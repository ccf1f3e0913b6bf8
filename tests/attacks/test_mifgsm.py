"""MI-FGSM takes torchattacks' steps, and goes on after a gradient of zero."""

from typing import Any

import pytest
import torch
import torchattacks
from attack_models import Linear, Mapped, convnet, pictures, predictions, rngs
from torch import Tensor, nn

from robustgen.attacks import build_mifgsm, run_attack
from robustgen.attacks.logits import margin
from robustgen.attacks.mifgsm import mifgsm
from robustgen.attacks.steps import per_mean
from robustgen.errors import RequestError
from robustgen.threat import Threat

LINF = Threat("linf", 0.1)
MIFGSM: dict[str, Any] = {"steps": 10, "step_size": 0.02, "decay": 1.0}


def recorded(model: nn.Module) -> tuple[list[Tensor], Any]:
    """Every batch that a model is asked about, and the model that writes them down."""
    seen: list[Tensor] = []

    def logits_fn(images: Tensor) -> Tensor:
        seen.append(images.detach().clone())
        return model(images)

    return seen, logits_fn


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
def test_mifgsm_walks_the_path_of_torchattacks(decay: float):
    model, images = convnet().double().eval(), pictures(4).double()
    labels = predictions(model, images)
    seen, logits_fn = recorded(model)
    settings: dict[str, Any] = MIFGSM | {"decay": decay}
    mifgsm(logits_fn, images, labels, LINF, rngs(4), **settings)
    theirs = torchattacks.MIFGSM(model, eps=0.1, alpha=0.02, steps=10, decay=decay)(
        images, labels
    )
    torch.testing.assert_close(seen[-1], theirs, atol=1e-9, rtol=0)


def test_momentum_is_a_decaying_sum_of_gradients_in_units_of_their_mean():
    gradients = pictures(3, low=-1, high=1)
    expected = gradients / gradients.abs().mean(dim=(1, 2, 3), keepdim=True)
    torch.testing.assert_close(per_mean(gradients), expected)
    torch.testing.assert_close(per_mean(gradients * 1e-35), expected)
    assert torch.equal(per_mean(torch.zeros(1, 1, 2, 2)), torch.zeros(1, 1, 2, 2))


def test_the_strongest_iterate_is_kept():
    model, images = convnet().eval(), pictures(6)
    labels = predictions(model, images)
    seen, logits_fn = recorded(model)
    found = mifgsm(
        logits_fn, images, labels, Threat("linf", 0.3), rngs(6), steps=5, step_size=0.3
    )
    with torch.no_grad():
        margins = torch.stack([margin(model(x), labels) for x in seen])
        kept = margin(model(found), labels)
    torch.testing.assert_close(kept, margins.amax(dim=0))


def test_a_gradient_of_zero_does_not_end_the_search():
    # Without it, one call less: the first step moves nothing, all others as ever.
    model, images = convnet().eval(), pictures(3)
    labels = predictions(model, images)
    calls = 0

    def flat_at_first(z: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return z.detach() + 0 * z if calls <= 2 else z  # the first is the framework's

    attack = build_mifgsm(**MIFGSM)
    slow = run_attack(
        attack, Mapped(model, flat_at_first), images, labels, LINF, rngs(3)
    )
    shorter = build_mifgsm(**(MIFGSM | {"steps": 9}))
    expected = run_attack(shorter, model, images, labels, LINF, rngs(3))
    assert torch.equal(slow.images, expected.images)
    assert (slow.margin_best > slow.margin_first).all()


def test_the_cost_is_a_pass_for_each_step_and_one_more_look():
    outcome = run_attack(
        build_mifgsm(**MIFGSM),
        convnet(),
        pictures(2),
        torch.tensor([0, 1]),
        LINF,
        rngs(2),
    )
    assert outcome.forwards.tolist() == [11, 11]
    assert outcome.backwards.tolist() == [10, 10]


def test_the_optimum_of_a_linear_model_is_reached_exactly():
    weight = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0))
    images, labels = pictures(4), torch.tensor([0, 1, 0, 1])
    outcome = run_attack(
        build_mifgsm(**MIFGSM), Linear(weight), images, labels, LINF, rngs(4)
    )
    side = (2 * labels - 1).view(-1, 1, 1, 1)
    expected = (images + side * 0.1 * weight.sign()).clamp(0, 1)
    torch.testing.assert_close(outcome.images, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("key", "value"), [("steps", 0), ("step_size", 0.0), ("decay", -0.1)]
)
def test_settings_that_make_no_sense_are_refused(key: str, value: Any):
    with pytest.raises(RequestError, match=f"Attack 'mifgsm': `{key}"):
        build_mifgsm(**(MIFGSM | {key: value}))


@pytest.mark.parametrize(
    ("threat", "words"),
    [
        (Threat("l2", 1.0), "searches the linf norm"),
        (Threat("linf", 0.3), r"0\.2 is below eps = 0\.3"),
    ],
)
def test_threats_that_it_cannot_search_are_refused(threat: Threat, words: str):
    with pytest.raises(RequestError, match=words):
        run_attack(
            build_mifgsm(**MIFGSM),
            convnet(),
            pictures(1),
            torch.tensor([0]),
            threat,
            rngs(1),
        )
