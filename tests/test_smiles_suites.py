"""The suites of photographs."""

import pytest

from robustgen.domain import load_domain
from robustgen.library import TierAttack
from robustgen.names import ADAPTIVE_TIERS
from robustgen.projection_settings import HybridSettings
from robustgen.suite import load_suite, resolve_cases


def test_four_attacks_meet_two_classifiers_on_the_whole_test_split():
    cases = resolve_cases(load_suite("smiles"), "full")
    plain = [case for case in cases if not isinstance(case.attack, TierAttack)]
    found = {(case.pair.labels[1], case.attack.name) for case in plain}
    assert found == {
        (classifier, attack)
        for classifier in ("smiles", "smiles_views")
        for attack in ("clean", "fgsm", "pgd", "cw")
    }
    assert {case.splits.test for case in cases} == {1000}
    radii = {case.attack.name: case.attack.eps for case in plain}
    assert radii["fgsm"] == radii["pgd"] == pytest.approx(8 / 255)


def test_the_ladder_holds_every_tier_and_projects_alike():
    cases = resolve_cases(load_suite("ladder_smiles"), "full")
    rungs = [case for case in cases if isinstance(case.attack, TierAttack)]
    tiers = {case.attack.tier for case in rungs if isinstance(case.attack, TierAttack)}
    assert tiers == set(ADAPTIVE_TIERS)
    assert [case.attack.eps for case in rungs] == pytest.approx([8 / 255] * len(rungs))
    main = resolve_cases(load_suite("smiles"), "full")[0]
    assert isinstance(main.projection, HybridSettings)
    assert cases[0].projection == main.projection
    assert cases[0].views == main.views


def test_fine_layers_of_the_card_are_those_of_the_recipe():
    card = load_domain("smiles")
    assert (card.resolution, card.style_layers) == (64, 10)
    assert card.layers.fine == (6, 10)
