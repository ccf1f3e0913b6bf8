import pytest
from planted import EPS, evidence, outcome, pair, said, told

from robustgen.checks.bounds import check_bounds, check_reach
from robustgen.evidence import ReachEvidence, RoundingEvidence
from robustgen.outcomes import Outcome


def _row(distance: list[float], *, norm: str = "linf", eps: float = EPS) -> Outcome:
    column = "distance_l2" if norm == "l2" else "distance_linf"
    cost = {"distance_linf": [0.0] * len(distance), column: distance}
    return outcome("pgd", "image", 0.0, n=len(distance), norm=norm, eps=eps, cost=cost)


@pytest.mark.parametrize(
    ("norm", "eps", "distance", "inside"),
    [
        ("linf", EPS, EPS, True),
        ("linf", EPS, EPS + 9e-7, True),
        ("linf", EPS, EPS + 2e-6, False),
        ("l2", 3.0, 3.0 + 1e-5, True),
        ("l2", 3.0, 3.0 + 1e-4, False),
        ("l2", float("inf"), 20.0, True),
        ("l2", float("inf"), float("nan"), False),
    ],
)
def test_s9_distances(norm: str, eps: float, distance: float, inside: bool):
    row = _row([0.0, distance], norm=norm, eps=eps)
    expected = ("pass", "") if inside else ("fail", "INVALID")
    assert told(check_bounds(pair(row))) == [expected]


def test_s9_says_how_far_beyond():
    _, _, evidence = said(check_bounds(pair(_row([0.0, 0.5]))))
    assert evidence == ("1 of 2 images lie beyond linf 8/255; the farthest at 0.5")


def test_s9_clean_images_do_not_move():
    row = outcome("clean", "image", 1.0, cost={"distance_linf": [0.1] * 100})
    (found,) = check_bounds(pair(row))
    assert (found.effect, found.tier) == ("INVALID", "none")


@pytest.mark.parametrize(
    ("failed", "expected"),
    [
        (0, ("pass", "")),
        (1, ("fail", "SUSPECT")),
        (5, ("fail", "SUSPECT")),
        (6, ("fail", "INVALID")),
    ],
)
def test_s9_failed_searches(failed: int, expected: tuple[str, str]):
    cost = {
        "distance_linf": [0.0] * 100,
        "attack_failed": [1.0] * failed + [0.0] * (100 - failed),
    }
    row = outcome("pgd", "image", 0.5, cost=cost)
    assert told(check_bounds(pair(row))) == [expected]


@pytest.mark.parametrize(("rounded", "status"), [(0.2, "pass"), (0.6, "warn")])
def test_s9_rounding_only_warns(rounded: float, status: str):
    measured = evidence(
        rounding=(
            RoundingEvidence(
                path="image",
                attack="pgd",
                tier="oblivious",
                n=20,
                accuracy=0.1,
                rounded_accuracy=rounded,
            ),
        )
    )
    one = pair(outcome("pgd", "image", 0.1), measured=measured)
    assert told(check_bounds(one)) == [(status, "")]


def test_s9_without_distances_nothing_is_measured():
    assert told(check_bounds(pair(outcome("pgd", "image", 0)))) == [("warn", "")]


@pytest.mark.parametrize(
    ("travel", "expected"),
    [(2 * EPS, ("pass", "")), (EPS, ("fail", "INVALID"))],
)
def test_s12_reach(travel: float, expected: tuple[str, str]):
    one = ReachEvidence(attack="pgd", tier="oblivious", travel=travel, needed=2 * EPS)
    row = outcome("pgd", "image", 0.9)
    (found,) = check_reach(pair(row, measured=evidence(reach=(one,))))
    assert (found.status, found.effect) == expected
    assert (found.attack, found.path) == ("pgd", "")


def test_s12_not_measured_suspects_nothing():
    assert told(check_reach(pair(outcome("pgd", "image", 0)))) == [("warn", "")]
