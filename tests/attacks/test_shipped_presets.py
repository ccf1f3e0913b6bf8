"""The presets that come with robustgen: complete, sourced, and strong enough."""

import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from attack_models import predictions, rngs
from sklearn.datasets import load_digits
from torch import Tensor, nn

from robustgen.attacks import Attack, run_attack
from robustgen.catalog import build_attack
from robustgen.library import FabAttack, attack_names, load_attack
from robustgen.rngs import rng_for
from robustgen.schema import parse_number
from robustgen.threat import Threat

FOLDER = Path(__file__).parents[2] / "attacks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
UNBOUND = ["clean", "gaussian_blur", "gaussian_noise", "jpeg"]
BOUND = [name for name in NAMES if name not in UNBOUND]


def preset(name: str) -> dict[str, Any]:
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text())


def attack_and_threat(name: str) -> tuple[Attack, Threat]:
    return build_attack(load_attack(name), ())


@cache
def digits() -> tuple[nn.Module, Tensor, Tensor]:
    """An undefended classifier of real digits, and 60 digits it has not seen."""
    data: Any = load_digits()
    images = torch.tensor(data.images / 16, dtype=torch.float32)[:, None]
    labels = torch.tensor(data.target, dtype=torch.int64)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
        )
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    rng = rng_for(0, "batches")
    for _ in range(400):
        rows = torch.randint(1500, (64,), generator=rng)
        optimizer.zero_grad()
        F.cross_entropy(model(images[rows]), labels[rows]).backward()
        optimizer.step()
    return model, images[1500:1560], labels[1500:1560]


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_says_where_each_of_its_numbers_comes_from(name: str):
    read = preset(name)
    assert set(read) == {
        *("name", "about", "attack", "norm", "eps", "tier", "settings", "sources")
    }
    assert read["name"] == name
    assert {"eps", *read["settings"]} <= set(read["sources"])
    assert all(len(source) > 10 for source in read["sources"].values())


def test_every_preset_is_tested():
    assert attack_names() == NAMES
    assert set(UNBOUND) < set(NAMES)
    assert all(load_attack(name).norm == "none" for name in UNBOUND)


def test_the_threats_are_those_of_the_field():
    for name in BOUND:
        _, threat = attack_and_threat(name)
        usual = [8 / 255] if threat.norm == "linf" else [0.5, math.inf]
        # That of the papers on MNIST, for which the random step was chosen.
        allowed = [0.3] if name == "rand_fgsm" else usual
        assert threat.eps in allowed, name
    assert attack_and_threat("clean")[1] == Threat("none", 0.0)


def test_budgets_are_those_of_the_official_code():
    for name in ("autoattack", "autoattack_l2"):
        assert preset(name)["settings"] == {"steps": 100, "queries": 5000, "targets": 9}
    for name in ("square", "square_l2"):
        assert preset(name)["settings"] == {"queries": 5000, "p_init": 0.8}
    for name in ("apgd_ce", "apgd_l2", "apgd_margin", "apgd_targeted", "fab", "fab_l2"):
        assert preset(name)["settings"]["steps"] == 100


MOST = {"pgd": 0.2, "pgd_margin": 0.2, "eotpgd": 0.2, "mifgsm": 0.8, "rand_fgsm": 0.02}
"""Accuracy that is left where steps of a fixed length, or the random step, do not reach
further; else 0."""


@pytest.mark.parametrize("name", BOUND)
def test_a_preset_breaks_an_undefended_classifier(name: str):
    # At 8x8 a digit has few pixels, so that the radius must be larger than 8/255.
    model, images, labels = digits()
    assert (predictions(model, images) == labels).float().mean() > 0.9
    count = 10 if name.startswith("fab") else len(images)
    images, labels = images[:count], labels[:count]
    spec = load_attack(name)
    if isinstance(spec, FabAttack):
        # FAB goes on after it has broken an image. A tenth of its steps is enough.
        settings = spec.settings.model_copy(update={"steps": 10})
        spec = spec.model_copy(update={"settings": settings})
    attack, threat = build_attack(spec, ())
    outcome = run_attack(attack, model, images, labels, wider(name), rngs(count))
    accuracy = (predictions(model, outcome.images) == labels).float().mean()
    assert float(accuracy) <= MOST.get(name, 0.0)
    assert outcome.in_threat.all()
    assert not outcome.failed.any()
    if math.isinf(threat.eps):
        assert float(outcome.distance_l2.mean()) < 1.5


def wider(name: str) -> Threat:
    """A generous radius, as far as the steps of the preset may go."""
    _, threat = attack_and_threat(name)
    if math.isinf(threat.eps):
        return threat
    eps = 64 / 255 if threat.norm == "linf" else 2.0
    settings = preset(name)["settings"]
    if "step_size" in settings:
        travel = settings["steps"] * parse_number(settings["step_size"])
        eps = min(eps, travel / 2 if settings.get("random_start") else travel)
    return Threat(threat.norm, eps)


def test_cw_breaks_from_nearby_and_at_a_known_cost():
    model, images, labels = digits()
    attack, threat = attack_and_threat("cw")
    outcome = run_attack(attack, model, images, labels, threat, rngs(len(images)))
    assert float(outcome.distance_l2.mean()) < 1.0
    assert int(outcome.forwards.max()) <= 150
    assert torch.equal(outcome.forwards, outcome.backwards)
