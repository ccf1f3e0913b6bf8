"""The estimate counts what a run does."""

import pytest

from robustgen.cost import (
    BASE_MEMORY_MB,
    MEMORY_PER_IMAGE_MB,
    OVERHEAD_SECONDS,
    UNIT_COSTS,
    attack_cost,
    estimate_cost,
)
from robustgen.library import (
    CleanAttack,
    CwAttack,
    CwSettings,
    FactoryAttack,
    FgsmAttack,
    PgdAttack,
    PgdSettings,
)
from robustgen.names import EMBEDDED
from robustgen.suite import (
    Case,
    EnsembleSettings,
    JitterSettings,
    Pair,
    PathName,
    ProjectionSettings,
    Splits,
    ViewSettings,
)

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
        projection=ProjectionSettings(passes=12),
        views=ViewSettings(count=32),
        jitter=JitterSettings(),
        ensemble=EnsembleSettings(),
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
    assert cost.memory_mb == BASE_MEMORY_MB + 10 * MEMORY_PER_IMAGE_MB


def test_paths_that_are_not_asked_for_cost_nothing():
    cost = estimate_cost([case_of(("image",))])
    assert (cost.projection_passes, cost.synthesized) == (0, 0)
    assert cost.classified == 10
    unit = UNIT_COSTS["faces"]
    expected = OVERHEAD_SECONDS + 800 * unit.attack_pass + 10 * unit.classify
    assert cost.seconds == pytest.approx(expected)


def test_every_embedded_generator_has_its_figures():
    assert set(UNIT_COSTS) == set(EMBEDDED["generator"])
