"""The two suites of Defense-GAN's protocol: the same attacks, two projections."""

import math

import pytest

from robustgen.library import CwAttack, RandFgsmAttack
from robustgen.projection_settings import (
    DefenseGanSettings,
    HybridSettings,
    max_passes,
)
from robustgen.suite import Case, load_suite, resolve_cases


def cases_of(name: str) -> tuple[Case, ...]:
    return resolve_cases(load_suite(name), "full")


@pytest.mark.parametrize("name", ["mnist_defensegan", "mnist_defensegan_z"])
def test_the_attacks_are_the_published_ones(name: str):
    cases = cases_of(name)
    attacks = {case.attack.name: case.attack for case in cases}
    assert {case.pair.labels for case in cases} == {
        ("mnist", "mnist"),
        ("mnist", "mnist_views"),
    }
    assert (attacks["fgsm"].norm, attacks["fgsm"].eps) == ("linf", 0.3)
    rand = attacks["rand_fgsm"]
    assert isinstance(rand, RandFgsmAttack)
    assert (rand.eps, rand.settings.alpha) == (0.3, 0.05)
    if name == "mnist_defensegan":
        cw = attacks["cw_published"]
        assert isinstance(cw, CwAttack)
        assert (cw.settings.steps, cw.settings.learning_rate) == (100, 10)
        assert (cw.settings.constants, cw.eps) == ((100,), math.inf)


def test_both_suites_attack_the_same_images_by_the_same_draws():
    ours, theirs = cases_of("mnist_defensegan"), cases_of("mnist_defensegan_z")
    attacks = {case.name: case.attack for case in ours}
    assert {case.name for case in theirs} < set(attacks)
    assert all(case.attack == attacks[case.name] for case in theirs)
    assert {case.seed for case in (*ours, *theirs)} == {0}
    assert theirs[0].splits.test <= ours[0].splits.test


def test_the_projections_are_a_few_passes_and_the_published_search():
    ours = cases_of("mnist_defensegan")[0].projection
    theirs = cases_of("mnist_defensegan_z")[0].projection
    assert isinstance(ours, HybridSettings)
    assert isinstance(theirs, DefenseGanSettings)
    assert (theirs.restarts, theirs.passes) == (10, 200)
    assert (theirs.rate, theirs.momentum, theirs.drop_at) == (10.0, 0.7, 0.8)
    assert max_passes(theirs) == 2000
    assert max_passes(ours) <= 20
