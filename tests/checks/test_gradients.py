from typing import Any

import pytest
from planted import evidence, gradient, outcome, pair, said, sweep, told

from robustgen.checks import Finding
from robustgen.checks.gradients import check_gradients, check_traces

PATH = "reconstruction"


def _held(**changes: float) -> list[Finding]:
    """Findings where the path keeps 0.8 and the bare classifier nothing."""
    return _health(0.8, **changes)


def _health(left: float, **changes: float) -> list[Finding]:
    rows = [
        outcome("square", "image", 0.0, tier="square"),
        outcome("bpda_encoder", PATH, left),
    ]
    return check_gradients(
        pair(
            *rows,
            measured=evidence(gradients=(gradient(PATH, "bpda_encoder", **changes),)),
        )
    )


def test_s7_healthy_gradients_pass():
    status, effect, evidence = said(_held())
    assert (status, effect) == ("pass", "")
    assert evidence.startswith("20 images: zero 0%, norm 1 (0.1 to 5), gain 100%")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"zero_share": 0.9}, "90% of the gradients are 0"),
        ({"nonfinite_share": 0.05}, "5% are not finite"),
        ({"gain": 0.4}, "the loss rises for 40% of the images only"),
        ({"slope_error": 0.5}, "the slope is off by 50%"),
        ({"cosine": 0.2}, "two halves of the draws agree by a cosine of 0.20"),
    ],
)
def test_s7_each_fault_makes_the_tier_suspect(changes: dict[str, float], fault: str):
    (found,) = _held(**changes)
    assert (found.status, found.effect) == ("fail", "SUSPECT")
    assert (found.tier, found.path) == ("bpda_encoder", PATH)
    assert found.evidence.startswith(fault)
    assert found.advice


@pytest.mark.parametrize(
    "changes",
    [
        {"zero_share": 0.1},
        {"gain": 0.5},
        {"slope_error": 0.1},
        {"cosine": 0.5},
        {"cosine": float("nan"), "slope_error": float("nan")},
    ],
)
def test_s7_thresholds_and_what_was_not_measured_pass(changes: dict[str, float]):
    assert told(_held(**changes)) == [("pass", "")]


def test_s7_only_warns_where_the_path_falls_anyway():
    status, effect, evidence = said(_health(0.04, zero_share=1.0))
    assert (status, effect) == ("warn", "")
    assert evidence.endswith("yet bpda_encoder leaves 0.04")


def test_s7_the_undefended_accuracy_is_a_floor_too():
    def found(left: float) -> list[Finding]:
        rows = [outcome("pgd", "image", 0.6), outcome("unrolled", PATH, left)]
        bad = gradient(tier="unrolled", zero_share=1.0)
        fine = gradient("image", "oblivious")
        return check_gradients(pair(*rows, measured=evidence(gradients=(bad, fine))))

    assert told(found(0.64)) == [("warn", ""), ("pass", "")]
    assert told(found(0.67)) == [("fail", "SUSPECT"), ("pass", "")]


def test_s7_unmeasured_gradients_are_suspect_unless_the_path_falls():
    rows = [outcome("pgd", "image", 0.0), outcome("unrolled", PATH, 0.5)]
    found = check_gradients(pair(*rows))
    assert [(one.path, one.tier, one.status, one.effect) for one in found] == [
        ("image", "oblivious", "pass", ""),
        (PATH, "unrolled", "warn", "SUSPECT"),
    ]
    assert all(one.evidence.startswith("not measured") for one in found)


def test_s7_a_larger_radius_shows_that_the_bare_gradient_works():
    row = outcome("pgd", "image", 0.6)
    bad = gradient("image", "oblivious", cosine=0.1)
    held = pair(row, measured=evidence(gradients=(bad,)))
    assert told(check_gradients(held)) == [("fail", "SUSPECT")]
    falls = pair(row, measured=evidence(gradients=(bad,), sweeps=(sweep(0.0, 8),)))
    assert told(check_gradients(falls)) == [("warn", "")]


def test_s7_asks_nothing_of_searches_without_gradients():
    one = pair(outcome("square", PATH, 0.5, tier="square"))
    assert told(check_gradients(one)) == [("pass", "")]


def _cost(rose: int, ended: int | None = None, n: int = 100) -> dict[str, list[float]]:
    """Margins of `n` images, of which so many rise and end no lower."""
    ended = rose if ended is None else ended
    return {
        "margin_first": [-1.0] * n,
        "margin_best": [0.5] * rose + [-1.0] * (n - rose),
        "margin_last": [0.5] * ended + [-2.0] * (n - ended),
        "attack_forwards": [41.0] * n,
    }


def _trace(**cost: list[float]) -> tuple[str, str]:
    ((status, effect),) = told(
        check_traces(pair(outcome("pgd", "image", 1, cost=cost)))
    )
    return status, effect


@pytest.mark.parametrize(
    ("rose", "ended", "expected"),
    [
        (100, 100, ("pass", "")),
        (92, 92, ("pass", "")),
        (80, 80, ("fail", "SUSPECT")),
        (100, 80, ("warn", "")),
    ],
)
def test_s8_margins_rise(rose: int, ended: int, expected: tuple[str, str]):
    assert _trace(**_cost(rose, ended)) == expected


def test_s8_looks_at_images_that_were_right_and_searched():
    still = _cost(0)
    assert _trace(**still) == ("fail", "SUSPECT")
    assert _trace(**{**still, "margin_first": [0.1] * 100}) == ("pass", "")
    assert _trace(**{**still, "attack_forwards": [1.0] * 100}) == ("pass", "")
    assert _trace(**{**still, "margin_best": [float("nan")] * 100}) == ("pass", "")


def test_s8_is_about_the_table_of_a_search():
    cost: dict[str, Any] = _cost(0)
    rows = [
        outcome("pgd", "image", 1, cost=cost),
        outcome("pgd", PATH, 1, cost=cost),
        outcome("unrolled", PATH, 1, cost=cost),
        outcome("square", PATH, 1, tier="square", cost=cost),
        outcome("clean", "image", 1, cost=cost),
    ]
    found = check_traces(pair(*rows))
    assert [(one.attack, one.path) for one in found] == [
        ("pgd", ""),
        ("unrolled", PATH),
    ]


def test_s8_without_margins_nothing_is_measured():
    assert told(check_traces(pair(outcome("pgd", "image", 1)))) == [("warn", "")]
