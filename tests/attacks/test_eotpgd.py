"""EOT-PGD follows the mean gradient of fresh draws, and is PGD where none are."""

from typing import Any, final

import pytest
import torch
from attack_models import convnet, pictures, predictions, rngs
from torch import Tensor, nn

from robustgen.attacks import build_eotpgd, build_pgd, run_attack
from robustgen.attacks.eotpgd import eotpgd
from robustgen.errors import RequestError
from robustgen.rngs import rng_for
from robustgen.threat import Threat

LINF = Threat("linf", 0.1)
EOT: dict[str, Any] = {"steps": 10, "step_size": 0.02, "draws": 4}


@final
class Noisy(nn.Module):
    """Logits (z, -z), z = (w + s n).(x - 0.5) + lead, with fresh noise n each call."""

    def __init__(self, weight: Tensor, noise: float, lead: float = 0.0) -> None:
        super().__init__()
        self.weight = weight
        self.noise = noise
        self.lead = lead
        self.rng = rng_for(0, "noisy")
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        drawn = torch.randn(images.shape, generator=self.rng).to(images)
        weight = self.weight + self.noise * drawn
        z = (weight * (images - 0.5)).flatten(1).sum(dim=1) + self.lead
        return torch.stack([z, -z], dim=1)


@pytest.mark.parametrize("threat", [LINF, Threat("l2", 0.1)])
def test_it_is_pgd_on_a_classifier_that_draws_nothing(threat: Threat):
    model, images = convnet().double().eval(), pictures(4).double()
    labels = predictions(model, images)
    found = run_attack(build_eotpgd(**EOT), model, images, labels, threat, rngs(4))
    pgd = build_pgd(steps=10, step_size=0.02)
    expected = run_attack(pgd, model, images, labels, threat, rngs(4))
    torch.testing.assert_close(found.images, expected.images, atol=1e-9, rtol=0)
    assert found.forwards.tolist() == [44] * 4
    assert found.backwards.tolist() == [40] * 4


def test_draws_average_out_noise_that_one_draw_drowns_in():
    # A gradient drowned in noise 5 times its size: the mean of 100 draws sees it.
    weight = torch.ones(1, 8, 8)
    images, labels = torch.full((8, 1, 8, 8), 0.5), torch.zeros(8, dtype=torch.int64)

    def lost(draws: int) -> float:
        attack = build_eotpgd(steps=1, step_size=0.1, draws=draws, random_start=False)
        model = Noisy(weight, 5.0, lead=0.1)
        outcome = run_attack(attack, model, images, labels, LINF, rngs(8))
        return float((outcome.images - 0.5).mean())

    assert lost(100) < -0.09
    assert lost(1) > -0.05


def test_the_iterate_kept_has_the_largest_mean_margin_not_the_luckiest_draw():
    # Of iterates 0 to 3, 1 has the best draw and 2 the best mean.
    leads = iter([-1.0, -1.0, -3.0, 2.0, 0.2, 0.2, -1.0, -1.0])
    seen: list[Tensor] = []

    def scripted(x: Tensor) -> Tensor:
        seen.append(x.detach().clone())
        lead = next(leads) + (x - x.detach()).flatten(1).sum(dim=1)
        return torch.stack([torch.zeros(1), lead], dim=1)

    found = eotpgd(
        scripted,
        torch.full((1, 1, 4, 4), 0.5),
        torch.zeros(1, dtype=torch.int64),
        LINF,
        rngs(1),
        steps=3,
        step_size=0.04,
        draws=2,
        random_start=False,
    )
    assert len(seen) == 8
    assert torch.equal(found, seen[4])
    assert not torch.equal(seen[2], seen[4])


@pytest.mark.parametrize(
    ("key", "value"), [("steps", 0), ("step_size", 0), ("draws", 0)]
)
def test_settings_that_make_no_sense_are_refused(key: str, value: Any):
    with pytest.raises(RequestError, match=f"Attack 'eotpgd': `{key}"):
        build_eotpgd(**(EOT | {key: value}))


@pytest.mark.parametrize(
    ("threat", "words"),
    [
        (Threat("l2", torch.inf), "searches a ball"),
        (Threat("linf", 0.2), r"0\.2 is below 2 x eps = 0\.4"),
    ],
)
def test_threats_that_it_cannot_search_are_refused(threat: Threat, words: str):
    with pytest.raises(RequestError, match=words):
        run_attack(
            build_eotpgd(**EOT),
            convnet(),
            pictures(1),
            torch.tensor([0]),
            threat,
            rngs(1),
        )
