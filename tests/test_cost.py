"""The estimate counts what a run does."""

import dataclasses

import pytest

from robustgen.cost import (
    BASE_MEMORY_MB,
    OVERHEAD_SECONDS,
    UNIT_COSTS,
    attack_cost,
    estimate_cost,
    unit_cost,
)
from robustgen.domain import domain_names, load_domain
from robustgen.library import (
    CleanAttack,
    CwAttack,
    CwSettings,
    FactoryAttack,
    FgsmAttack,
    PgdAttack,
    PgdSettings,
)
from robustgen.projection_settings import DefenseGanSettings, HybridSettings
from robustgen.suite import (
    Case,
    EnsembleSettings,
    JitterSettings,
    LadderSettings,
    Pair,
    PathName,
    Splits,
)
from robustgen.view_settings import StylemixViews

PGD = PgdAttack(
    name="pgd",
    attack="pgd",
    norm="linf",
    eps=0.03,
    settings=PgdSettings(steps=40, step_size=0.01, restarts=2),
)
CW = CwAttack(
    name="cw",
    attack="cw",
    norm="l2",
    eps=float("inf"),
    settings=CwSettings(steps=50, learning_rate=0.01, constants=(0.1, 1.0, 10.0)),
)
OTHERS = {
    "clean": CleanAttack(name="clean", attack="clean"),
    "fgsm": FgsmAttack(name="fgsm", attack="fgsm", norm="linf", eps=0.03),
    "mine": FactoryAttack(name="mine", factory="a:b", norm="linf", eps=0.03),
}


def case_of(paths: tuple[PathName, ...]) -> Case:
    return Case(
        suite="s",
        profile="embedded",
        seed=0,
        pair=Pair(
            dataset="faces",
            classifier="faces",
            generator="faces",
            encoder="faces",
            perceptual="faces",
        ),
        attack=PGD,
        paths=paths,
        splits=Splits(val=3, test=7),
        projection=HybridSettings(passes=12),
        ladder=LadderSettings(),
        views=StylemixViews(count=32),
        jitter=JitterSettings(),
        ensemble=EnsembleSettings(),
        domain=load_domain("faces"),
    )


def test_passes_of_attacks():
    assert attack_cost(PGD) == 80
    assert attack_cost(CW) == 150
    assert [attack_cost(attack) for attack in OTHERS.values()] == [0, 1, 0]


def test_counts_of_all_paths():
    paths: tuple[PathName, ...] = (
        "image",
        "reconstruction",
        "stylemix_ensemble",
        "combined_ensemble",
        "image_ensemble",
    )
    cost = estimate_cost([case_of(paths), case_of(paths)], batch_size=10)
    assert cost.images == 20
    assert cost.attack_passes == 20 * 80
    assert cost.projection_passes == 20 * 12
    assert cost.synthesized == 20 * 32
    assert cost.classified == 20 * (2 + 3 * 32)
    assert cost.memory_mb == BASE_MEMORY_MB + 10 * UNIT_COSTS["faces"].image_mb


def test_paths_that_are_not_asked_for_cost_nothing():
    cost = estimate_cost([case_of(("image",))])
    assert (cost.projection_passes, cost.synthesized) == (0, 0)
    assert cost.classified == 10
    unit = UNIT_COSTS["faces"]
    expected = OVERHEAD_SECONDS + 800 * unit.attack_pass + 10 * unit.classify
    assert cost.seconds == pytest.approx(expected)


def test_every_domain_has_its_figures():
    assert set(UNIT_COSTS) == set(domain_names())


def test_a_larger_domain_costs_more():
    small = case_of(("image", "reconstruction"))
    large = dataclasses.replace(small, domain=load_domain("celebahq"))
    assert unit_cost(large) is UNIT_COSTS["celebahq"]
    assert estimate_cost([large]).seconds > 1000 * (
        estimate_cost([small]).seconds - OVERHEAD_SECONDS
    )
    # The default batch of 1,024 px is 4 images.
    unit = UNIT_COSTS["celebahq"]
    expected = BASE_MEMORY_MB + unit.networks_mb + 4 * unit.image_mb
    assert estimate_cost([small, large]).memory_mb == expected


def test_a_domain_of_ones_own_costs_what_faces_do():
    none = dataclasses.replace(case_of(("image",)), domain=None)
    assert unit_cost(none) is UNIT_COSTS["faces"]


def test_restarts_are_passes():
    case = dataclasses.replace(
        case_of(("image", "reconstruction")),
        projection=DefenseGanSettings(restarts=3, passes=7),
    )
    assert estimate_cost([case]).projection_passes == 10 * 21
