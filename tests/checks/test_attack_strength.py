import pytest
from planted import EPS, SUITE, evidence, outcome, pair, said, sweep, told

from robustgen.checks import Finding
from robustgen.checks.attack_strength import (
    check_breaks_undefended,
    check_converged,
    check_pgd_beats_fgsm,
    check_stronger_than_noise,
)
from robustgen.evidence import ConvergenceEvidence, NoiseEvidence


def test_s1_passes_at_the_attacks_own_radius():
    one = pair(outcome("pgd", "image", 0.04))
    status, effect, evidence = said(check_breaks_undefended(one))
    assert (status, effect) == ("pass", "")
    assert evidence == "pgd leaves 0.04 of 100 images at linf 8/255; limit 0.10"


def test_s1_passes_a_robust_classifier_that_larger_radii_break():
    measured = evidence(sweeps=(sweep(0.6, 1), sweep(0.0, 8)))
    one = pair(outcome("pgd", "image", 0.6), measured=measured)
    assert told(check_breaks_undefended(one)) == [("pass", "")]


def test_s1_passes_by_another_radius_of_the_suites_sweep():
    specs = [
        {"name": f"pgd_{eps}", "attack": "pgd", "sweep": "pgd"} for eps in ("s", "l")
    ]
    one = pair(
        outcome("pgd_s", "image", 0.7, tier="oblivious"),
        outcome("pgd_l", "image", 0.0, tier="oblivious", eps=1.0),
        suite={"attacks": specs},
    )
    assert told(check_breaks_undefended(one)) == [("pass", ""), ("pass", "")]


def test_s1_an_attack_that_fails_at_the_largest_radius_is_no_attack():
    measured = evidence(sweeps=(sweep(0.9, 1), sweep(0.8, float("inf"))))
    one = pair(outcome("pgd", "image", 0.9), measured=measured)
    (found,) = check_breaks_undefended(one)
    assert (found.status, found.effect) == ("fail", "INVALID")
    # All paths under the attack, not the ladder's rows.
    assert (found.attack, found.tier, found.path) == ("pgd", "oblivious", "")
    assert "0.80 of 20 images at inf times the radius; limit" in found.evidence


def test_s1_a_minimum_norm_attack_has_no_larger_radius():
    one = pair(outcome("cw", "image", 0.4, norm="l2", eps=float("inf")))
    assert told(check_breaks_undefended(one)) == [("fail", "INVALID")]


def test_s1_without_a_larger_radius_is_not_measured():
    status, effect, evidence = said(
        check_breaks_undefended(pair(outcome("pgd", "image", 0.6)))
    )
    assert (status, effect) == ("warn", "SUSPECT")
    assert evidence.startswith("not measured: ")
    blind = pair(outcome("pgd", "reconstruction", 0.6))
    assert told(check_breaks_undefended(blind)) == [("warn", "SUSPECT")]


@pytest.mark.parametrize(
    ("eps", "expected"),
    [(16 / 255, ("warn", "SUSPECT")), (0.5, ("fail", "INVALID"))],
)
def test_s1_judges_by_a_radius_at_which_all_images_meet(
    eps: float, expected: tuple[str, str]
):
    specs = [
        {"name": f"pgd_{size}", "attack": "pgd", "sweep": "pgd"} for size in ("s", "l")
    ]
    one = pair(
        outcome("pgd_s", "image", 0.7, tier="oblivious"),
        outcome("pgd_l", "image", 0.6, tier="oblivious", eps=eps),
        suite={"attacks": specs},
    )
    assert told(check_breaks_undefended(one)) == [expected] * 2


def test_s1_allows_what_few_images_give_by_chance():
    measured = evidence(sweeps=(sweep(3 / 20, float("inf")),))
    one = pair(outcome("pgd", "image", 0.9), measured=measured)
    assert told(check_breaks_undefended(one)) == [("pass", "")]


def test_s1_counts_two_classes_as_broken_at_chance():
    one = pair(outcome("pgd", "image", 0.5, classes=2))
    assert told(check_breaks_undefended(one)) == [("pass", "")]


def test_s1_does_not_ask_it_of_one_step_or_of_a_random_search():
    one = pair(outcome("fgsm", "image", 0.9), outcome("square", "image", 0.9))
    assert told(check_breaks_undefended(one)) == [("pass", "")]


def test_s1_probes_speak_for_all_attacks_of_a_kind():
    specs = [{"name": name, "attack": "pgd"} for name in ("pgd", "pgd_margin")]
    one = pair(
        outcome("pgd", "image", 0.6),
        outcome("pgd_margin", "image", 0.6, tier="oblivious"),
        measured=evidence(sweeps=(sweep(0.0, float("inf")),)),
        suite={"attacks": specs},
    )
    found = check_breaks_undefended(one)
    assert told(found) == [("pass", ""), ("pass", "")]
    assert "at inf times the radius of pgd" in found[1].evidence


@pytest.mark.parametrize(("left", "status"), [(0.6, "pass"), (0.9, "warn")])
def test_s1_an_attack_no_weaker_than_one_that_works_passes(left: float, status: str):
    specs = [{"name": name, "attack": name} for name in ("pgd", "autoattack")]
    one = pair(
        outcome("pgd", "image", 0.6),
        outcome("autoattack", "image", left, tier="oblivious"),
        measured=evidence(sweeps=(sweep(0.0, float("inf")),)),
        suite={"attacks": specs},
    )
    assert [found.status for found in check_breaks_undefended(one)] == ["pass", status]


def _alone(fgsm: int, pgd: int) -> list[tuple[str, str]]:
    """Findings where so many images are broken by one of the two alone."""
    rest = 100 - fgsm - pgd
    one = pair(
        outcome("fgsm", "image", [0.0] * fgsm + [1.0] * pgd + [0.0] * rest),
        outcome("pgd", "image", [1.0] * fgsm + [0.0] * pgd + [0.0] * rest),
    )
    return told(check_pgd_beats_fgsm(one))


def test_s3_counts_what_each_breaks_alone():
    assert _alone(0, 10) == [("pass", "")]
    assert _alone(2, 10) == [("pass", "")]
    assert _alone(5, 10) == [("warn", "")]
    assert _alone(10, 2) == [("fail", "SUSPECT")]


def test_s3_compares_one_threat_only():
    one = pair(
        outcome("fgsm", "image", 0.0, eps=16 / 255), outcome("pgd", "image", 0.9)
    )
    (found,) = check_pgd_beats_fgsm(one)
    assert found.status == "pass"
    assert "does not have" in found.evidence


def _longer(
    before: float, after: float, *, n: int = 20, right: float | list[float] = 0.5
) -> Finding:
    measured = evidence(
        convergence=(
            ConvergenceEvidence(
                path="reconstruction",
                attack="unrolled",
                tier="unrolled",
                n=n,
                accuracy=before,
                longer_accuracy=after,
                what="steps 10 -> 20",
            ),
        )
    )
    row = outcome("unrolled", "reconstruction", right)
    (found,) = check_converged(pair(row, measured=measured))
    assert (found.attack, found.path) == ("unrolled", "reconstruction")
    return found


@pytest.mark.parametrize(
    ("longer", "expected"),
    # P(X >= 1) of 20 at one point is 0.18, P(X >= 2) is 0.017.
    [(0.5, ("pass", "")), (0.45, ("pass", "")), (0.4, ("fail", "SUSPECT"))],
)
def test_s4_twice_the_work(longer: float, expected: tuple[str, str]):
    found = _longer(0.5, longer)
    assert (found.status, found.effect) == expected
    assert f"steps 10 -> 20: 0.50 -> {longer:.2f} on 20 images" in found.evidence


def test_s4_survivors_are_weighed_by_their_share_of_all_images():
    # 2 of 8 survivors: at 1% of each P = 0.003, at 10% (a tenth survive) 0.19.
    assert _longer(1.0, 0.75, n=8, right=1.0).effect == "SUSPECT"
    assert _longer(1.0, 0.75, n=8, right=0.1).effect == ""


def test_s4_draws_turn_some_images_by_themselves():
    assert _longer(1.0, 0.75, n=8, right=[0.9] * 100).effect == ""
    assert _longer(1.0, 0.25, n=8, right=[0.9] * 100).effect == "SUSPECT"


def test_s4_not_measured_suspects_nothing():
    assert told(check_converged(pair(outcome("pgd", "image", 0)))) == [("warn", "")]


def _noise(accuracy: float, path: str = "image") -> NoiseEvidence:
    return NoiseEvidence(
        path=path, norm="linf", eps=EPS, draws=20, n=100, accuracy=accuracy
    )


@pytest.mark.parametrize(
    ("attack", "noise", "expected"),
    [
        (0.1, 0.9, ("pass", "")),
        (0.6, 0.55, ("pass", "")),
        (0.9, 0.5, ("fail", "INVALID")),
    ],
)
def test_s6_noise(attack: float, noise: float, expected: tuple[str, str]):
    one = pair(
        outcome("pgd", "image", attack), measured=evidence(noise=(_noise(noise),))
    )
    assert told(check_stronger_than_noise(one)) == [expected]


def test_s6_a_small_excess_is_suspect():
    one = pair(
        outcome("pgd", "image", 0.999, n=10_000),
        measured=evidence(
            noise=(
                NoiseEvidence(
                    path="image", norm="linf", eps=EPS, draws=5, n=9999, accuracy=0.98
                ),
            )
        ),
    )
    assert told(check_stronger_than_noise(one)) == [("fail", "SUSPECT")]


def test_s6_an_attack_on_the_bare_classifier_owes_nothing_to_a_defended_path():
    measured = evidence(noise=(_noise(0.5, "reconstruction"),))
    rows = [
        outcome("pgd", "reconstruction", 0.9),
        outcome("bpda_identity", "reconstruction", 0.9),
    ]
    found = check_stronger_than_noise(pair(*rows, measured=measured))
    assert [(one.tier, one.effect) for one in found] == [
        ("oblivious", "SUSPECT"),
        ("bpda_identity", "INVALID"),
    ]


def test_s6_other_radii_are_not_compared():
    measured = evidence(noise=(_noise(0.1),))
    one = pair(outcome("pgd", "image", 0.9, eps=2 / 255), measured=measured)
    assert told(check_stronger_than_noise(one)) == [("warn", "")]


def test_an_attack_that_the_suite_does_not_describe_has_the_kind_of_its_name():
    assert "pgd" in {spec["name"] for spec in SUITE["attacks"]}
    one = pair(outcome("pgd", "image", 0.0), suite={"attacks": ["pgd"]})
    (found,) = check_breaks_undefended(one)
    assert found.attack == "pgd"
