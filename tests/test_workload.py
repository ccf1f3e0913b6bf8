"""The counts of the estimate beside those of the work itself, on two digits."""

import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from robustgen.adaptive.build import build_victim
from robustgen.adaptive.ladder import run_tier
from robustgen.adaptive.transfer import train_substitute
from robustgen.attacks import run_attack
from robustgen.budgets import BUDGETS
from robustgen.catalog import build_attack, build_defense, build_models
from robustgen.datasets import build_dataset
from robustgen.defense import Defense, predict_paths
from robustgen.gan.stylegan2 import StyleGAN2
from robustgen.library import (
    ApgdAttack,
    CwAttack,
    DeepfoolAttack,
    EotPgdAttack,
    FabAttack,
    FactoryAttack,
    PgdAttack,
    SquareAttack,
    TierAttack,
    attack_names,
    load_attack,
)
from robustgen.names import ADAPTIVE_TIERS
from robustgen.projection_settings import HybridSettings
from robustgen.projectors.loss import ProjectionObjective
from robustgen.rngs import rng_for
from robustgen.suite import Case, load_suite, narrow, resolve_cases
from robustgen.threat import Threat
from robustgen.workload import (
    attack_cost,
    attack_passes,
    listed_parts,
    search_work,
    total,
)

COUNT = 2
PASSES = 2
BUDGET = BUDGETS["smoke"].model_copy(
    update={
        "steps": 4,
        "views": 2,
        "latent_steps": 6,
        "breaking_steps": 4,
        "queries": 5,
        "spsa_steps": 1,
        "substitute_epochs": 1,
    }
)


@pytest.fixture(scope="module")
def case() -> Case:
    suite = narrow(load_suite("digits"), seed=None, limit=COUNT)
    first = resolve_cases(suite, "embedded")[0]
    return dataclasses.replace(
        first,
        projection=HybridSettings(passes=PASSES),
        views=first.views.model_copy(update={"count": 4}),
    )


@pytest.fixture(scope="module")
def defense(case: Case) -> Defense:
    dataset = build_dataset(case.pair, case.domain, case.splits, ())
    device = torch.device("cpu")
    models = build_models(case.pair, case.domain, dataset, device, ())
    return build_defense(case, dataset, models)


@pytest.fixture(scope="module")
def batch(case: Case) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    dataset = build_dataset(case.pair, case.domain, case.splits, ())
    part = dataset.part("test", COUNT)
    images, labels = torch.from_numpy(part.pixels()), torch.from_numpy(part.labels)
    return images, labels, [int(i) for i in part.index]


@pytest.fixture
def counts(defense: Defense, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Images that pass the generator, the classifier and the projection's loss."""
    found: Counter[str] = Counter()
    synthesize, objective = StyleGAN2.synthesize, ProjectionObjective.__call__

    def counted_synthesize(self: StyleGAN2, w_plus: torch.Tensor) -> torch.Tensor:
        found["made"] += len(w_plus)
        return synthesize(self, w_plus)

    def counted_objective(self: ProjectionObjective, points: Any, samples: Any) -> Any:
        found["project"] += len(samples)
        return objective(self, points, samples)

    def counted_classifier(_: object, inputs: tuple[torch.Tensor]) -> None:
        found["seen"] += len(inputs[0])

    monkeypatch.setattr(StyleGAN2, "synthesize", counted_synthesize)
    monkeypatch.setattr(ProjectionObjective, "__call__", counted_objective)
    hook = defense.classifier.register_forward_pre_hook(counted_classifier)
    yield found
    hook.remove()


def test_a_listed_attack_does_what_is_counted(
    case: Case, defense: Defense, batch: Any, counts: Counter[str]
):
    images, labels, samples = batch
    spec = load_attack("pgd")
    attack, threat = build_attack(spec, ())
    rngs = [rng_for(0, i) for i in samples]
    found = run_attack(attack, defense.classifier, images, labels, threat, rngs)
    predict_paths(defense, found.images, samples)
    said = listed_parts(dataclasses.replace(case, attack=spec), COUNT, 64)
    work = total(said.values())
    assert counts["project"] == work.images["project"]
    made = work.images["project"] + work.images["synthesize"]
    assert counts["made"] == pytest.approx(made, abs=2 * COUNT)
    seen = work.images["attack"] + work.images["classify"]
    assert counts["seen"] == pytest.approx(seen, abs=2 * COUNT)


PATHS = ("reconstruction", "combined_ensemble")
QUICK = {("bpda_identity", "combined_ensemble"), ("square", "reconstruction")}


@pytest.mark.parametrize(
    ("name", "path"),
    [
        pytest.param(
            name, path, marks=() if (name, path) in QUICK else pytest.mark.slow
        )
        for name in ADAPTIVE_TIERS
        for path in PATHS
    ],
)
def test_a_tier_does_about_what_is_counted(
    name: str, path: str, case: Case, defense: Defense, batch: Any, counts: Counter[str]
):
    images, labels, samples = batch
    victim = build_victim(
        defense, path, samples, alpha={path: 0.5}, budget=BUDGET, classes=10
    )
    substitutes = (
        (train_substitute(victim, images, epochs=1, seed=0),)
        if name == "transfer"
        else ()
    )
    counts.clear()
    # Nothing is broken within this radius, so nothing leaves a search early.
    threat = Threat("linf", 1e-4)
    run_tier(
        name,
        victim,
        images,
        labels,
        threat,
        BUDGET,
        seed=0,
        surrogates=substitutes,
    )
    attack = TierAttack(
        name=name,
        norm="linf",
        eps=1e-4,
        tier=name,
        target=path,
        budget=BUDGET,
    )
    said = search_work(case, attack, BUDGET, COUNT).images
    made = sum(said.get(kind, 0) for kind in ("project", "synthesize", "steer"))
    assert 0.5 < made / counts["made"] < 2
    seen = sum(said.get(kind, 0) for kind in ("attack", "classify", "steer"))
    assert 0.4 < seen / counts["seen"] < 2.5
    if name != "unrolled":  # it goes through the passes by other functions
        assert 0.6 < said["project"] / counts["project"] < 1.7


SMALL: dict[type, dict[str, Any]] = {
    PgdAttack: {"steps": 40},
    ApgdAttack: {"steps": 6, "targets": 2},
    FabAttack: {"steps": 3, "targets": 2},
    SquareAttack: {"queries": 20},
    CwAttack: {"steps": 5},
    DeepfoolAttack: {"steps": 5},
    EotPgdAttack: {"draws": 2},
}


@pytest.mark.parametrize("name", [n for n in attack_names() if "autoattack" not in n])
def test_no_attack_spends_more_than_is_said(name: str, defense: Defense, batch: Any):
    images, labels, samples = batch
    spec = load_attack(name)
    assert not isinstance(spec, FactoryAttack)  # none of them ships
    if type(spec) in SMALL:
        settings = spec.settings.model_copy(update=SMALL[type(spec)])
        spec = spec.model_copy(update={"settings": settings})
    attack, threat = build_attack(spec, ())
    rngs = [rng_for(0, i) for i in samples]
    found = run_attack(attack, defense.classifier, images, labels, threat, rngs)
    passes = attack_passes(spec)
    assert passes.most == attack_cost(spec)
    assert int(found.forwards.max()) <= passes.most
    assert passes.images <= max(passes.most, passes.calls)
