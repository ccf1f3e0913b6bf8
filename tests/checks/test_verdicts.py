import dataclasses

import pandas as pd
import pytest
from planted import SUITE, evidence, outcome, outcomes, output, randomness
from synthetic import make_run

from robustgen.checks import (
    CHECK_COLUMNS,
    Finding,
    checks_frame,
    reasons,
    run_checks,
    with_verdicts,
)
from robustgen.checks.finding import Effect
from robustgen.ensembling import EnsembleRule
from robustgen.metrics import accuracy_frame
from robustgen.outcomes import Outcomes, read_outcomes

BASE = Finding("S5", "ladder", "faces", "cnn", "fail")


def _about(effect: Effect, **places: str) -> Finding:
    return dataclasses.replace(BASE, effect=effect, **places)


def _frame() -> pd.DataFrame:
    return accuracy_frame(
        outcomes(
            outcome("clean", "image", 1.0),
            outcome("pgd", "image", 0.0),
            outcome("pgd", "combined_ensemble", 0.6, alpha_from="matched"),
            outcome("pgd", "combined_ensemble", 0.5, alpha_from="clean"),
            outcome("unrolled", "combined_ensemble", 0.3, alpha_from="clean"),
        ),
        suite="s",
        profile="embedded",
    )


def _verdicts(*findings: Finding) -> list[str]:
    letters = {"TRUSTED": "T", "SUSPECT": "S", "INVALID": "I", "": ""}
    return [letters[v] for v in with_verdicts(_frame(), findings)["verdict"]]


def test_the_worst_effect_wins():
    suspect, invalid = _about("SUSPECT"), _about("INVALID", attack="pgd")
    assert _verdicts(suspect) == ["T", "S", "S", "S", "S"]
    assert _verdicts(suspect, invalid, suspect) == ["T", "I", "I", "I", "S"]


@pytest.mark.parametrize(
    ("places", "verdicts"),
    [
        ({"path": "image"}, "TSTTT"),
        ({"tier": "unrolled"}, "TTTTS"),
        ({"attack": "pgd", "path": "combined_ensemble"}, "TTSST"),
        ({"path": "combined_ensemble", "alpha_from": "matched"}, "TTSTT"),
        ({"dataset": "digits"}, ""),
    ],
)
def test_a_finding_is_about_its_rows_only(places: dict[str, str], verdicts: str):
    assert "".join(_verdicts(_about("SUSPECT", **places))) == verdicts


@pytest.mark.parametrize("check", ["S9", "S10", "S11", "S16"])
def test_rows_without_an_attack_listen_to_these_checks(check: str):
    one = _about("INVALID", check=check, path="image")
    assert _verdicts(one)[:2] == ["I", "I"]


@pytest.mark.parametrize("check", ["S1", "S5", "S7", "S15"])
def test_and_to_no_other(check: str):
    assert _verdicts(_about("INVALID", check=check))[:2] == ["T", "I"]


def test_findings_without_an_effect_leave_rows_trusted():
    assert _verdicts(_about("")) == ["T"] * 5


def test_a_pair_that_no_check_has_seen_has_no_verdict():
    assert _verdicts() == [""] * 5


def test_the_frame_given_is_not_changed():
    frame = _frame()
    result = with_verdicts(frame, [_about("SUSPECT")])
    assert set(frame["verdict"]) == {""}
    assert list(result.columns) == list(frame.columns)
    assert result.drop(columns="verdict").equals(frame.drop(columns="verdict"))
    assert with_verdicts(frame.head(0), [BASE]).empty


def test_reasons_name_the_worst_first():
    row = _frame().to_dict(orient="records")[1]
    suspect, invalid = _about("SUSPECT"), _about("INVALID")
    other = _about("INVALID", attack="cw")
    found = reasons(row, [BASE, suspect, other, invalid])
    assert found == (invalid, suspect)


def test_the_frame_of_findings():
    frame = checks_frame([_about("SUSPECT", path="image")])
    assert tuple(frame.columns) == CHECK_COLUMNS
    assert frame.loc[0, "effect"] == "SUSPECT"
    assert tuple(checks_frame([]).columns) == CHECK_COLUMNS


def _real() -> Outcomes:
    return read_outcomes(make_run(), EnsembleRule())


def test_every_check_says_something_of_every_pair():
    found = run_checks(_real(), [], {"attacks": ["clean", "pgd"]})
    assert list(dict.fromkeys(one.check for one in found)) == [
        f"S{number}" for number in range(1, 17)
    ]
    assert {(one.dataset, one.classifier) for one in found} == {("faces", "cnn")}
    assert all(one.title and one.evidence for one in found)
    assert all(one.advice for one in found if one.status != "pass")
    assert not any(one.effect for one in found if one.status == "pass")


def test_without_evidence_attacked_rows_are_suspect_and_clean_ones_trusted():
    read = _real()
    frame = with_verdicts(
        accuracy_frame(read, suite="s", profile="embedded"),
        run_checks(read, [], {"attacks": ["clean", "pgd"]}),
    )
    verdicts = frame.groupby("attack")["verdict"].agg(set).to_dict()
    assert verdicts == {"clean": {"TRUSTED"}, "pgd": {"SUSPECT"}}


def test_a_measured_ladder_is_trusted_at_its_foot():
    path = "reconstruction"
    rows = outcomes(
        outcome("clean", "image", 1.0),
        outcome("pgd", "image", 0.0),
        outcome("clean", path, 0.95),
        outcome("pgd", path, 0.7),
        outcome("unrolled", path, 0.1),
        outcome("square", path, 0.4, tier="square"),
    )
    measured = evidence(
        outputs=(output("image"), output(path)),
        randomness=(randomness("image"), randomness(path)),
    )
    findings = run_checks(rows, [measured], SUITE)
    frame = with_verdicts(accuracy_frame(rows, suite="s", profile="p"), findings)
    assert [
        (row["path"], row["attack"], row["verdict"])
        for row in frame.to_dict(orient="records")
    ] == [
        ("image", "clean", "TRUSTED"),
        ("image", "pgd", "TRUSTED"),
        (path, "clean", "TRUSTED"),
        (path, "pgd", "SUSPECT"),
        (path, "unrolled", "TRUSTED"),
        (path, "square", "SUSPECT"),
    ]


def test_pairs_are_checked_apart():
    first = outcome("pgd", "image", 0.0)
    key = dataclasses.replace(first.key, dataset="digits")
    second = dataclasses.replace(first, table=dataclasses.replace(first.table, key=key))
    found = run_checks(outcomes(first, second), [evidence()], SUITE)
    assert list(dict.fromkeys(one.dataset for one in found)) == ["faces", "digits"]
    seen = [one.evidence for one in found if one.check == "S16"]
    assert len(seen) == 2
