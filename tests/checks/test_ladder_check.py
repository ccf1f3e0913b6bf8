from collections.abc import Sequence

import pytest
from planted import EPS, effects, evidence, outcome, pair, told

from robustgen.checks import Finding
from robustgen.checks.ladder import check_ladder
from robustgen.outcomes import Outcome

PATH = "reconstruction"


def _ladder(*rows: Outcome, **parts: object) -> list[Finding]:
    measured = evidence(**parts) if parts else None
    return check_ladder(pair(*rows, measured=measured))


def _on(path: str = PATH, **tiers: float | Sequence[float]) -> list[Outcome]:
    return [outcome(tier, path, right) for tier, right in tiers.items()]


def test_without_a_tier_that_knows_the_defense_all_rows_are_suspect():
    (found,) = _ladder(*_on(clean=1.0, pgd=0.7))
    assert (found.status, found.effect) == ("warn", "SUSPECT")
    assert (found.attack, found.tier, found.path) == ("", "", PATH)
    assert "tiers:" in found.advice
    (found,) = _ladder(*_on(pgd=0.7, transfer=0.7))
    assert found.effect == "SUSPECT"


def test_tiers_that_were_skipped_are_named_with_their_reason():
    skipped = (("defense", "unrolled", "it does not say how it projects"),)
    (found,) = _ladder(outcome("pgd", "defense", 0.7), skipped_tiers=skipped)
    assert "(skipped: unrolled: it does not say how it projects)" in found.evidence


def test_searches_alone_do_not_vouch_for_a_path_that_holds():
    square = outcome("square", "defense", 0.7, tier="square")
    found = _ladder(*_on("image", pgd=0.0), *_on("defense", pgd=0.7), square)
    assert effects(found) == {("", "", "defense"): "SUSPECT"}
    broken = outcome("square", "defense", 0.0, tier="square")
    found = _ladder(*_on("image", pgd=0.0), *_on("defense", pgd=0.0), broken)
    assert effects(found) == {}


def test_a_ladder_that_does_not_rise_is_trusted_at_its_foot():
    found = _ladder(*_on(pgd=0.7, bpda_identity=0.7, bpda_encoder=0.2, unrolled=0.2))
    assert effects(found) == {
        ("pgd", "oblivious", PATH): "SUSPECT",
        ("bpda_identity", "bpda_identity", PATH): "SUSPECT",
    }
    for one in (one for one in found if one.effect):
        assert "bpda_encoder leaves 0.20" in one.evidence


def test_within_chance_all_tiers_are_trusted():
    # Five samples of a hundred in one direction: McNemar's p is 0.06.
    found = _ladder(*_on(pgd=0.50, bpda_encoder=0.45, unrolled=0.47))
    assert effects(found) == {}
    (first, *_) = found
    assert first.status == "pass"
    assert first.evidence.endswith(
        "linf 8/255: pgd 0.50, bpda_encoder 0.45, unrolled 0.47"
    )


def test_more_knowledge_that_leaves_more_is_suspect():
    found = _ladder(*_on(pgd=0.3, bpda_identity=0.6, unrolled=0.3))
    assert effects(found) == {("bpda_identity",) * 2 + (PATH,): "SUSPECT"}
    (bad,) = (one for one in found if one.effect)
    assert bad.evidence.startswith(
        "bpda_identity leaves 0.60, though pgd, which knows less, leaves 0.30"
    )


def test_searches_of_another_kind_are_compared_too():
    found = _ladder(*_on(pgd=0.7, unrolled=0.6, latent=0.3))
    assert effects(found) == {
        ("pgd", "oblivious", PATH): "SUSPECT",
        ("unrolled", "unrolled", PATH): "SUSPECT",
    }


def test_the_strongest_attack_stands_for_the_oblivious_tier():
    weak = outcome("fgsm", PATH, 0.9)
    assert effects(_ladder(weak, *_on(pgd=0.3, unrolled=0.3))) == {}
    found = _ladder(weak, *_on(pgd=0.6, unrolled=0.3))
    assert set(effects(found)) == {
        ("fgsm", "oblivious", PATH),
        ("pgd", "oblivious", PATH),
    }


def test_each_way_of_choosing_alpha_is_compared():
    path = "stylemix_ensemble"
    rows = [
        outcome("pgd", path, 0.7, alpha_from="matched"),
        outcome("pgd", path, 0.3, alpha_from="clean"),
        outcome("unrolled", path, 0.3, alpha_from="clean"),
    ]
    (bad,) = (one for one in _ladder(*rows) if one.effect)
    assert (bad.attack, bad.tier, bad.alpha_from) == ("pgd", "oblivious", "matched")


def test_shares_of_draws_are_compared_sample_by_sample():
    rows = [*_on(pgd=[0.9] * 40), *_on(unrolled=[0.6] * 40)]
    assert effects(_ladder(*rows)) == {("pgd", "oblivious", PATH): "SUSPECT"}


@pytest.mark.parametrize(("unrolled", "effect"), [(0.7, None), (0.2, "SUSPECT")])
def test_other_threats_lean_on_the_ladder_of_the_suite(
    unrolled: float, effect: str | None
):
    cw = outcome("cw", PATH, 0.8, norm="l2", eps=float("inf"))
    found = effects(_ladder(cw, *_on(pgd=0.7, unrolled=unrolled)))
    assert found.get(("cw", "", PATH)) == effect


def test_another_threat_without_an_oblivious_row_to_lean_on_is_suspect():
    cw = outcome("cw", PATH, 0.8, norm="l2", eps=float("inf"))
    found = effects(_ladder(cw, *_on(unrolled=0.7)))
    assert found == {("cw", "", PATH): "SUSPECT"}


def test_the_bare_classifier_needs_no_tier():
    assert effects(_ladder(*_on("image", clean=1.0, fgsm=0.3, pgd=0.0))) == {}


def _image(pgd: float, square: Sequence[float], tier: str) -> list[Finding]:
    rows = [outcome("clean", "image", 1.0), outcome("pgd", "image", pgd)]
    return _ladder(*rows, outcome("square", "image", square, tier=tier))


@pytest.mark.parametrize("tier", ["square", "oblivious"])
def test_a_search_that_beats_gradients_unmasks_the_classifier(tier: str):
    found = _image(0.9, [1.0] * 10 + [0.0] * 90, tier)
    assert effects(found) == {("pgd", "oblivious", "image"): "SUSPECT"}
    assert "square leaves 0.10, the best gradient attack, pgd, 0.90" in (
        found[0].evidence
    )
    assert effects(_image(0.0, [0.0] * 100, tier)) == {}


def test_images_that_only_a_search_breaks_are_listed():
    rows = [
        outcome("clean", PATH, 1.0),
        outcome("unrolled", PATH, [1.0] * 50 + [0.0] * 50),
        outcome("square", PATH, [0.0] * 12 + [1.0] * 88, tier="square"),
    ]
    bad = [one for one in _ladder(*rows) if "masking" in one.evidence]
    assert [(one.tier, one.effect) for one in bad] == [("unrolled", "SUSPECT")]
    listed = ", ".join(str(1000 + i) for i in range(10))
    assert bad[0].evidence.endswith(
        f"of 100 images 12 are broken by square alone: samples {listed}"
    )


@pytest.mark.parametrize(
    ("count", "n", "masked"), [(2, 100, 0), (3, 100, 1), (1, 4, 0)]
)
def test_a_few_images_are_luck(count: int, n: int, masked: int):
    rows = [
        outcome("unrolled", PATH, 1.0, n=n),
        outcome("square", PATH, [0.0] * count + [1.0] * (n - count), tier="square"),
    ]
    found = [one for one in _ladder(*rows) if "masking" in one.evidence]
    assert len(found) == masked


def test_images_wrong_when_clean_are_not_masked():
    rows = [
        outcome("clean", PATH, [0.0] * 20 + [1.0] * 80),
        outcome("unrolled", PATH, 1.0),
        outcome("square", PATH, [0.0] * 20 + [1.0] * 80, tier="square"),
    ]
    assert not [one for one in _ladder(*rows) if "masking" in one.evidence]


def test_draws_near_a_half_are_not_masked():
    rows = [
        outcome("unrolled", PATH, [0.6] * 100),
        outcome("square", PATH, [0.4] * 100, tier="square"),
    ]
    assert not [one for one in _ladder(*rows) if "masking" in one.evidence]


def test_a_run_without_attacks_passes():
    assert told(_ladder(outcome("clean", PATH, 1.0))) == [("pass", "")]


def test_swept_radii_are_threats_of_their_own():
    rows = [outcome("pgd_16", PATH, 0.9, tier="oblivious", eps=2 * EPS)]
    found = effects(_ladder(*rows, *_on(pgd=0.7, unrolled=0.1)))
    assert found[("pgd_16", "", PATH)] == "SUSPECT"
