"""The estimate counts what a run does, and prices it."""

import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import pytest

from robustgen.budgets import BUDGETS
from robustgen.cost import (
    BASE_MEMORY_MB,
    CASE_SECONDS,
    PAIR_SECONDS,
    REPORT_SECONDS,
    START_SECONDS,
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
    TierAttack,
    suite_names,
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
    load_suite,
    narrow,
    resolve_cases,
)
from robustgen.unit_costs import UNIT_COSTS, Rate
from robustgen.view_settings import StylemixViews
from robustgen.workload import (
    NOTHING,
    UNROLLED,
    Work,
    attack_cost,
    attack_passes,
    listed_parts,
    predict,
    projection,
    search_work,
    surrogate_work,
    tier_work,
    total,
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
ALL: tuple[PathName, ...] = (
    "image",
    "reconstruction",
    "stylemix_ensemble",
    "combined_ensemble",
    "image_ensemble",
)
BATCH = 64


def case_of(paths: tuple[PathName, ...] = ALL) -> Case:
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


def tier(name: str, target: str = "reconstruction") -> TierAttack:
    return TierAttack(
        name=name,
        norm="linf",
        eps=0.03,
        tier=name,
        target=target,
        budget=BUDGETS["smoke"],
    )


def test_passes_of_attacks():
    assert attack_cost(PGD) == 82
    assert attack_cost(CW) == 150
    assert [attack_cost(attack) for attack in OTHERS.values()] == [0, 1, 0]


def test_a_second_constant_of_cw_is_rarely_tried():
    passes = attack_passes(CW)
    assert (passes.images, passes.most) == (50, 150)


def test_work_adds_and_multiplies():
    one = Work({"attack": 2, "project": 1}, {"attack": 20})
    both = one + Work({"attack": 3}, {"encode": 5})
    assert both == Work({"attack": 5, "project": 1}, {"attack": 20, "encode": 5})
    assert one * 2 == Work({"attack": 4, "project": 2}, {"attack": 40})
    assert one.times(calls=1, images=0.5).images == {"attack": 10}
    assert total([]) == NOTHING


def test_a_listed_attack_on_all_paths():
    parts = listed_parts(case_of(), 10, BATCH)
    assert parts["attacks"].images["attack"] == 10 * 82
    assert parts["projections"].images["project"] == 10 * 12
    assert parts["projections"].calls["project"] == 12
    assert parts["views"].images["synthesize"] == 10 * 32
    assert parts["views"].images["jitter"] == 2 * 10 * 32
    assert parts["classification"].images["classify"] == 10 * (2 + 3 * 32)


def test_batches_are_calls():
    parts = listed_parts(case_of(), 10, 4)
    assert parts["projections"].calls["project"] == 3 * 12
    assert parts["projections"].images["project"] == 10 * 12
    assert parts["attacks"].calls["attack"] == 3 * 82


def test_paths_that_are_not_asked_for_cost_nothing():
    parts = listed_parts(case_of(("image",)), 10, BATCH)
    assert set(parts) == {"attacks", "classification"}
    assert parts["classification"].images == {"classify": 10}


def test_restarts_are_passes():
    case = dataclasses.replace(
        case_of(), projection=DefenseGanSettings(restarts=3, passes=7)
    )
    assert projection(case, 10).images["project"] == 10 * 21


def test_draws_of_an_ensemble_share_one_projection():
    one = predict(case_of(), "stylemix_ensemble", 10)
    five = predict(case_of(), "stylemix_ensemble", 10, 5)
    assert five.images["project"] == one.images["project"] == 10 * 12
    views = {n: work.images["synthesize"] - 10 for n, work in ((1, one), (5, five))}
    assert (views[1], views[5]) == (10 * 32, 5 * 10 * 32)


def test_draws_of_a_path_that_draws_nothing_are_one():
    case = case_of()
    assert predict(case, "reconstruction", 10, 5) == predict(case, "reconstruction", 10)


def test_each_step_of_bpda_costs_a_projection():
    case, budget = case_of(), BUDGETS["smoke"]
    step = surrogate_work(case, "reconstruction", "bpda_encoder", budget, 10, 1)
    assert step.images["project"] == 10 * 12
    assert (step.images["encode"], step.images["steer"]) == (10, 10)
    views = surrogate_work(case, "combined_ensemble", "bpda_encoder", budget, 10, 2)
    assert views.images["steer"] == 10 * (1 + 2 * budget.views)
    unrolled = surrogate_work(case, "reconstruction", "unrolled", budget, 10, 1)
    assert unrolled.images["project"] == UNROLLED * 10 * 12


def test_a_random_path_is_searched_to_the_end():
    # 10 steps and a last look, the choice on the clean image and on the candidate.
    case, budget = case_of(), BUDGETS["smoke"]
    attack = tier("bpda_encoder", "stylemix_ensemble")
    assert search_work(case, attack, budget, 10).images["project"] == (11 + 2) * 10 * 12
    known = search_work(case, tier("bpda_encoder"), budget, 10)
    assert known.images["project"] < (11 + 2) * 10 * 12
    assert known.calls["project"] >= (11 + 2) * 12


def test_square_and_spsa_ask_the_whole_path():
    case, budget = case_of(), BUDGETS["smoke"]
    square = search_work(case, tier("square", "stylemix_ensemble"), budget, 10)
    # The choice on the clean image and on the candidate, each on the same projection.
    assert square.images["project"] == (budget.queries + 2) * 10 * 12
    spsa = search_work(case, tier("spsa", "stylemix_ensemble"), budget, 10)
    asked = budget.spsa_steps * (2 * budget.spsa_samples + 1) + 1
    assert spsa.images["project"] == (asked + 2) * 10 * 12


def test_a_substitute_is_trained_once():
    case = case_of()
    attack = tier("transfer")
    asked = 3 * case.splits.val
    both = [tier_work(case, attack, count, BATCH) for count in (7, 14)]
    trained = 2 * both[0].images["attack"] - both[1].images["attack"]
    assert trained == BUDGETS["smoke"].substitute_epochs * asked


def test_every_tier_costs_something():
    case = case_of()
    for name in ("latent", "projection_breaking", "bpda_identity", "square"):
        assert tier_work(case, tier(name), 7, BATCH).images["project"] > 7 * 12


def test_cost_is_the_sum_of_its_parts():
    case = dataclasses.replace(case_of(), attack=tier("bpda_encoder"))
    cost = estimate_cost([case_of(), case])
    assert cost.seconds == pytest.approx(sum(cost.parts.values()))
    assert set(cost.parts) == {
        "start and report",
        "attacks",
        "projections",
        "views",
        "classification",
        "tiers",
        "probes",
    }
    # Images of both splits for the listed attack, of one for the tier.
    assert cost.images == 10 + 7
    assert [stage.name for stage in cost.stages] == [
        "faces-faces-pgd val",
        "faces-faces-pgd test",
        "faces-faces-bpda_encoder-reconstruction test",
        "faces-faces probes",
        "report",
    ]
    assert len(cost.cases) == 2


def test_seconds_of_the_smallest_case():
    clean = dataclasses.replace(case_of(("image",)), attack=OTHERS["clean"])
    cost = estimate_cost([clean])
    overhead = START_SECONDS + PAIR_SECONDS + CASE_SECONDS + REPORT_SECONDS
    assert cost.parts["start and report"] == pytest.approx(overhead)
    # One look at 10 images, twice more by the framework, and the probes' few.
    assert cost.classified < 100
    assert cost.cpu_seconds == pytest.approx(overhead, rel=0.01)
    assert cost.seconds <= cost.cpu_seconds


def test_every_domain_has_its_figures():
    assert set(UNIT_COSTS) == set(domain_names())
    for unit in UNIT_COSTS.values():
        assert len(unit.rates) == 7
        assert 0.5 <= unit.two_cores <= 1


def test_a_rate_prices_calls_and_images():
    unit = dataclasses.replace(
        UNIT_COSTS["faces"], rates={"attack": Rate(2.0, 0.5), "encode": Rate(1.0, 1.0)}
    )
    assert unit.cpu_seconds(Work({"attack": 3}, {"attack": 10, "project": 9})) == 11


def test_a_larger_domain_costs_more():
    small = case_of(("image", "reconstruction"))
    large = dataclasses.replace(small, domain=load_domain("celebahq"))
    assert unit_cost(large) is UNIT_COSTS["celebahq"]
    assert estimate_cost([large]).seconds > 100 * estimate_cost([small]).seconds
    # The default batch of 1,024 px is 4 images.
    unit = UNIT_COSTS["celebahq"]
    expected = BASE_MEMORY_MB + unit.networks_mb + 4 * unit.image_mb
    assert estimate_cost([small, large]).memory_mb == expected


def test_memory_follows_the_batch():
    unit, case = UNIT_COSTS["faces"], case_of()
    for size, most in ((2, 2), (64, 7)):
        found = estimate_cost([case], batch_size=size).memory_mb
        assert found == BASE_MEMORY_MB + most * unit.image_mb


def test_a_domain_of_ones_own_costs_what_faces_do():
    none = dataclasses.replace(case_of(("image",)), domain=None)
    assert unit_cost(none) is UNIT_COSTS["faces"]


@pytest.mark.parametrize("name", suite_names())
def test_more_images_cost_more(name: str):
    suite = load_suite(name)
    profile = "embedded" if suite.profiles.embedded else "full"
    costs = [
        estimate_cost(resolve_cases(narrow(suite, seed=None, limit=limit), profile))
        for limit in (2, 20, 60)
    ]
    seconds = [cost.seconds for cost in costs]
    assert seconds == sorted(seconds)
    assert all(math.isfinite(each) and each > 0 for each in seconds)


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["cars", "celebahq_smiling"])
def test_a_real_run_takes_what_was_said(suite: str):
    done = subprocess.run(
        [sys.executable, "benchmarks/estimates.py", "--limit", "4", suite],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        check=True,
    )
    cells = [cell.strip() for cell in done.stdout.splitlines()[-1].split("|")]
    assert cells[1] == suite
    assert 0.5 <= float(cells[5]) <= 2
    assert 0.5 <= float(cells[8]) <= 2
