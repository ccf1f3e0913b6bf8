"""An attack that lost its steps without a word is caught."""

import pytest
import torch
from gate_runs import row

from robustgen.attacks import pgd
from robustgen.attacks.attack import run_attack
from robustgen.attacks.pgd import build_pgd
from robustgen.classifiers.load import load_classifier
from robustgen.data.digits import load_digits
from robustgen.gate import judge
from robustgen.gate.baseline import BaselineRow
from robustgen.rngs import rng_for
from robustgen.threat import Threat

COUNT = 60


def under_pgd(steps: int, seed: int = 0) -> BaselineRow:
    """The image path of real digits under PGD with a radius of 24/255."""
    part = load_digits().part("spare", COUNT)
    labels = torch.from_numpy(part.labels)
    classifier = load_classifier("digits").eval()
    attack = build_pgd(steps=steps, step_size=2 / 255)
    threat = Threat("linf", 24 / 255)
    rngs = [rng_for(seed, "weakened", index) for index in range(len(labels))]
    images = torch.from_numpy(part.pixels())
    outcome = run_attack(attack, classifier, images, labels, threat, rngs)
    right = (~outcome.success).int().tolist()
    return row(right, path="image", dataset="digits", classifier="digits")


def test_pgd_with_two_steps_instead_of_forty_is_caught(
    monkeypatch: pytest.MonkeyPatch,
):
    before = under_pgd(40)
    # A suite that says so is refused. Here the guard is lost together with the steps.
    monkeypatch.setattr(pgd, "require_reach", lambda *args, **settings: None)
    found = judge([(before, under_pgd(2))])[0]
    assert found.verdict == "attack weaker"
    assert found.difference > 0.2


def test_pgd_from_other_random_starts_passes():
    assert judge([(under_pgd(40), under_pgd(40, seed=1))])[0].verdict in (
        "identical",
        "unchanged",
        "undecided",
    )
