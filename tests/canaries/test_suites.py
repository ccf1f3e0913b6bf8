"""Suites of planted defenses, and the judgment of their reports."""

from pathlib import Path

import pandas as pd
import pytest

from robustgen.canaries.suites import (
    CONTROL,
    PLANTED,
    accuracy_of,
    judge_constant,
    judge_control,
    judge_planted,
    suite_text,
)
from robustgen.suite import load_suite, resolve_cases

Line = tuple[str, str, str, float, str]


def frame(*lines: Line, n: int = 40) -> pd.DataFrame:
    """Rows of accuracy.csv from (attack, tier, path, accuracy, verdict)."""
    columns = ["attack", "tier", "path", "accuracy", "verdict"]
    return pd.DataFrame(lines, columns=columns).assign(split="test", n=n)


BARE: tuple[Line, ...] = (
    ("clean", "none", "image", 0.99, "TRUSTED"),
    ("pgd", "oblivious", "image", 0.02, "TRUSTED"),
)


def defended(oblivious: float, adaptive: float, verdict: str) -> pd.DataFrame:
    return frame(
        *BARE,
        ("clean", "none", "defense", 0.98, verdict),
        ("pgd", "oblivious", "defense", oblivious, verdict),
        ("unrolled", "unrolled", "defense", adaptive, verdict),
        ("square", "square", "defense", max(oblivious, adaptive), verdict),
    )


@pytest.mark.parametrize("name", [*PLANTED, CONTROL, "constant"])
def test_suites_are_valid_and_their_tiers_aim_at_the_defense(name: str, tmp_path: Path):
    path = tmp_path / "suite.yaml"
    path.write_text(suite_text(name, count=25))
    suite = load_suite(path)
    cases = resolve_cases(suite, "embedded")
    assert {case.pair.labels[1] for case in cases} == {
        "digits_robust" if name == CONTROL else "digits"
    }
    assert {case.splits.test for case in cases} == {25}
    assert {case.attack.eps for case in cases} == {0, 32 / 255}
    aimed = {getattr(case.attack, "target", None) for case in cases} - {None}
    assert aimed == {"defense"}


def test_a_weak_defense_is_unmasked_by_a_fall_or_a_flag():
    assert judge_planted(defended(0.9, 0.07, "TRUSTED")).passed
    assert judge_planted(defended(0.9, 0.9, "SUSPECT")).passed
    assert judge_planted(defended(0.9, 0.9, "INVALID")).passed


def test_a_weak_defense_that_is_trusted_fails_the_canary():
    found = judge_planted(defended(0.9, 0.08, "TRUSTED"))
    assert not found.passed
    assert found.text == "unrolled leaves 0.08, 0.02 undefended; no row flagged"
    assert not judge_planted(frame(*BARE)).passed


def test_flags_of_other_paths_and_clean_accuracy_do_not_count():
    rows = defended(0.9, 0.9, "TRUSTED")
    rows.loc[rows["path"] == "image", "verdict"] = "INVALID"
    rows.loc[(rows["path"] == "defense") & (rows["tier"] == "none"), "accuracy"] = 0.0
    assert not judge_planted(rows).passed


def test_a_constant_must_be_invalid_in_every_row():
    rows = frame(
        *BARE,
        ("clean", "none", "defense", 0.1, "INVALID"),
        ("pgd", "oblivious", "defense", 0.1, "INVALID"),
    )
    assert judge_constant(rows, 0.1).passed
    assert not judge_constant(rows, 0.2).passed
    rows.loc[3, "verdict"] = "TRUSTED"
    assert not judge_constant(rows, 0.1).passed
    assert not judge_constant(frame(*BARE), 0.1).passed


def test_the_control_must_be_trusted_and_keep_its_accuracy():
    assert judge_control(defended(0.88, 0.85, "TRUSTED")).passed
    assert not judge_control(defended(0.88, 0.85, "SUSPECT")).passed
    assert not judge_control(defended(0.88, 0.6, "TRUSTED")).passed
    assert not judge_control(frame(*BARE)).passed


@pytest.mark.parametrize(
    ("tier", "accuracy", "verdict", "passed"),
    [
        ("square", 0.98, "SUSPECT", True),
        ("square", 0.98, "INVALID", False),
        ("square", 0.85, "SUSPECT", False),
        ("unrolled", 0.98, "SUSPECT", False),
    ],
)
def test_of_the_control_only_a_weak_search_may_be_suspect(
    tier: str, accuracy: float, verdict: str, passed: bool
):
    rows = defended(0.88, 0.85, "TRUSTED")
    extra = frame(("more", tier, "defense", accuracy, verdict))
    assert judge_control(pd.concat([rows, extra])).passed == passed


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANTED)
def test_every_planted_defense_is_unmasked(name: str):
    found = judge_planted(accuracy_of(name))
    assert found.passed, found.text


@pytest.mark.slow
def test_the_control_is_trusted():
    found = judge_control(accuracy_of(CONTROL))
    assert found.passed, found.text
