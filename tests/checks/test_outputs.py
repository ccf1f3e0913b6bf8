import dataclasses
from typing import Any

import numpy as np
import pytest
from planted import evidence, outcome, output, pair, randomness, said, told

from robustgen.checks import Finding
from robustgen.checks.outputs import check_outputs, check_randomness
from robustgen.outcomes import Outcome

ROWS = (
    outcome("clean", "image", 1.0),
    outcome("pgd", "image", 0.5),
    outcome("fgsm", "image", 0.6),
    outcome("pgd", "defense", 0.9),
    outcome("unrolled", "defense", 0.8),
    outcome("square", "defense", 0.8, tier="square"),
)


def _outputs(*rows: Outcome, **changes: Any) -> list[Finding]:
    measured = evidence(outputs=(output(**changes),))
    return check_outputs(pair(*(rows or ROWS), measured=measured))


def test_s10_sound_outputs_pass():
    status, effect, evidence = said(_outputs())
    assert (status, effect) == ("pass", "")
    assert evidence.startswith("logits of 10 classes, finite")


def test_s10_outputs_that_are_not_finite_measure_nothing():
    (found,) = _outputs(path="defense", finite=False)
    assert (found.status, found.effect, found.path) == ("fail", "INVALID", "defense")


@pytest.mark.parametrize(
    ("top_class", "top_label", "invalid"),
    [(1.0, 0.5, True), (1.0, 0.95, False), (0.9, 0.1, False)],
)
def test_s10_a_constant_measures_nothing(
    top_class: float, top_label: float, invalid: bool
):
    (found,) = _outputs(
        path="defense", top_class_share=top_class, top_label_share=top_label
    )
    assert (found.effect == "INVALID") is invalid


def test_s10_all_clean_images_count_where_there_are_any():
    row = outcome("clean", "defense", 1.0, n=40)
    few = {"path": "defense", "top_class_share": 1.0, "top_label_share": 0.5}
    assert told(_outputs(row, **few)) == [("pass", "")]
    constant = dataclasses.replace(row, predicted=np.zeros(40, np.int64))
    (found,) = _outputs(constant, path="defense")
    assert found.effect == "INVALID"
    assert found.evidence.startswith("100% of 40 clean images get one prediction")


def test_s10_probabilities_are_suspect_where_their_loss_is_climbed():
    (found,) = _outputs(kind="probabilities")
    assert (found.status, found.effect) == ("warn", "SUSPECT")
    assert (found.tier, found.path) == ("oblivious", "")
    found = _outputs(path="defense", kind="probabilities")
    assert [(one.tier, one.path) for one in found] == [
        ("bpda_identity", "defense"),
        ("bpda_encoder", "defense"),
        ("unrolled", "defense"),
    ]


def test_s10_saturation_is_suspect_for_gradients_only():
    found = _outputs(path="defense", saturated_share=0.9)
    assert [(one.tier, one.status, one.effect) for one in found] == [
        ("unrolled", "fail", "SUSPECT")
    ]
    found = _outputs(saturated_share=0.9)
    assert [(one.attack, one.effect) for one in found] == [("pgd", "SUSPECT")]
    assert told(_outputs(saturated_share=0.5)) == [("pass", "")]


def test_s10_saturation_does_no_harm_where_the_attack_works():
    (found,) = _outputs(outcome("pgd", "image", 0.0), saturated_share=1.0)
    assert (found.status, found.effect) == ("warn", "")
    assert found.evidence.endswith("yet pgd leaves 0.00")


def test_s10_all_negative_logits_are_safe_here():
    status, _, evidence = said(_outputs(all_negative_share=1.0))
    assert status == "pass"
    assert "100% have all logits below 0, which CW of this package masks" in evidence


@pytest.mark.parametrize("group", ["single", "views", "draws"])
def test_s10_tables_must_be_finite(group: str):
    row = outcome("unrolled", "defense", 0.5, n=4)
    values = np.full((4, 2) if group == "single" else (4, 3, 2), 0.5, np.float32)
    values[1, 0] = np.nan
    bad = dataclasses.replace(row.table, **{group: {"defense": values}})
    found = check_outputs(
        pair(
            dataclasses.replace(row, table=bad), measured=evidence(outputs=(output(),))
        )
    )
    assert told(found) == [("fail", "INVALID"), ("pass", "")]
    assert found[0].evidence.startswith("1 of 4 test images")
    assert (found[0].attack, found[0].path) == ("unrolled", "defense")


def test_s10_not_measured_suspects_nothing():
    assert told(check_outputs(pair(*ROWS))) == [("warn", "")]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ("pass", "")),
        ({"declared": True, "detected": True}, ("pass", "")),
        (
            {"declared": True, "detected": True, "uses_global_rng": True},
            ("pass", ""),
        ),
        ({"declared": True}, ("fail", "SUSPECT")),
        ({"detected": True}, ("fail", "SUSPECT")),
        ({"repeatable": False}, ("fail", "INVALID")),
        ({"uses_global_rng": True}, ("warn", "")),
    ],
)
def test_s11_randomness(changes: dict[str, bool], expected: tuple[str, str]):
    row = outcome("pgd", "defense", 0.5)
    measured = evidence(randomness=(randomness("defense", **changes),))
    (found,) = check_randomness(pair(row, measured=measured))
    assert (found.status, found.effect) == expected
    assert (found.path, found.tier) == ("defense", "")


def test_s11_unmeasured_paths_are_suspect_under_attack():
    measured = evidence(randomness=(randomness("image"),))
    found = check_randomness(pair(*ROWS, measured=measured))
    assert [(one.path, one.tier, one.effect) for one in found] == [
        ("image", "", ""),
        ("defense", "oblivious", "SUSPECT"),
        ("defense", "unrolled", "SUSPECT"),
        ("defense", "square", "SUSPECT"),
    ]
