import dataclasses

import numpy as np
import pytest
from synthetic import first, make_run, make_table

from robustgen.ensembling import EnsembleRule
from robustgen.errors import RequestError
from robustgen.outcomes import Outcome, Outcomes, read_outcomes

RULE = EnsembleRule()


def _find(outcomes: Outcomes, *wanted: str) -> Outcome:
    (found,) = (
        one
        for one in outcomes.outcomes
        if (one.key.attack, one.key.split, one.path, one.alpha_from) == wanted
    )
    return found


@pytest.mark.parametrize("classes", [2, 10])
def test_matched_and_clean_validation_choose_different_alphas(classes: int):
    outcomes = read_outcomes(make_run(classes), RULE)
    matched = _find(outcomes, "pgd", "test", "stylemix_ensemble", "matched")
    clean = _find(outcomes, "pgd", "test", "stylemix_ensemble", "clean")
    assert matched.alpha == 1.0
    assert clean.alpha == pytest.approx(0.55)
    # At 1 the views decide; at 0.55 the image does, which PGD turned.
    assert matched.correct.mean() == pytest.approx(0.8)
    assert clean.correct.mean() == pytest.approx(0.1)
    assert matched.correct.shape == (20, 10)


def test_a_single_path_has_no_alpha():
    one = _find(read_outcomes(make_run(), RULE), "pgd", "test", "reconstruction", "")
    assert np.isnan(one.alpha)
    assert one.correct.shape == (1, 10)
    assert one.value.tolist() == [1.0] * 7 + [0.0] * 3
    assert one.probability == pytest.approx([0.7] * 7 + [0.2] * 3)
    assert one.predicted[:7].tolist() == one.table.label[:7].tolist()


def test_a_clean_table_gives_both_protocols_the_same_outcome():
    outcomes = read_outcomes(make_run(), RULE)
    for path in ("stylemix_ensemble", "combined_ensemble", "image_ensemble"):
        matched, clean = (
            _find(outcomes, "clean", "test", path, source)
            for source in ("matched", "clean")
        )
        assert matched.alpha == clean.alpha
        assert (matched.correct == clean.correct).all()


def test_order_of_tables_changes_nothing():
    tables = make_run()
    orders = [
        [(one.key, one.path, one.alpha_from) for one in read.outcomes]
        for read in (
            read_outcomes(tables, RULE),
            read_outcomes(tables[::-1], RULE),
        )
    ]
    assert orders[0] == orders[1]


def test_attacks_and_paths_follow_the_suite():
    outcomes = read_outcomes(
        make_run(),
        RULE,
        paths=("reconstruction", "image"),
        attacks=("pgd", "clean"),
    )
    assert [(one.key.attack, one.path) for one in outcomes.on("test")] == [
        ("pgd", "reconstruction"),
        ("pgd", "image"),
        ("clean", "reconstruction"),
        ("clean", "image"),
    ]
    assert outcomes.sweeps == ()


@pytest.mark.parametrize(
    ("attacks", "order"),
    [
        ((), "clean cw pgd"),
        (("pgd",), "clean pgd cw"),
        (("pgd", "clean"), "pgd clean cw"),
    ],
)
def test_attacks_that_the_suite_does_not_list_follow(attacks: tuple[str], order: str):
    tables = [
        make_table(attack, "test", {"image": [True]})
        for attack in ("pgd", "cw", "clean")
    ]
    read = read_outcomes(tables, RULE, attacks=attacks)
    assert " ".join(one.key.attack for one in read.outcomes) == order


def test_without_clean_tables_alpha_is_matched_only():
    tables = [table for table in make_run() if table.key.attack == "pgd"]
    sources = {one.alpha_from for one in read_outcomes(tables, RULE).outcomes}
    assert sources == {"", "matched"}


def test_the_image_ensemble_draws_from_the_image():
    right = {"image": first(3, 4), "image_ensemble": first(1, 4)}
    tables = [make_table("clean", split, right, views=1) for split in ("val", "test")]
    (sweep,) = (
        one
        for one in read_outcomes(tables, EnsembleRule(size=500)).sweeps
        if one.table.key.split == "test"
    )
    # Half of the members are the image (0.9), half the view (0.2).
    label = sweep.table.label
    assert sweep.pooled[0, 1, label[1]] == pytest.approx(0.55, abs=0.05)


def test_one_sample_is_enough():
    tables = [
        make_table(
            "clean",
            split,
            {"image": [True], "reconstruction": [True], "stylemix_ensemble": [True]},
        )
        for split in ("val", "test")
    ]
    outcomes = read_outcomes(tables, RULE)
    assert {one.value.mean() for one in outcomes.outcomes} == {1.0}
    assert _find(outcomes, "clean", "test", "stylemix_ensemble", "clean").alpha == 1.0


def test_tables_about_the_same_case_are_refused():
    tables = make_run()
    with pytest.raises(RequestError, match=r"2 prediction tables.*faces/cnn/clean/val"):
        read_outcomes([*tables, tables[0]], RULE)


@pytest.mark.parametrize("field", ["sample", "label"])
def test_tables_of_other_samples_are_refused(field: str):
    *tables, last = make_run()
    other = dataclasses.replace(last, **{field: getattr(last, field)[::-1]})
    with pytest.raises(RequestError, match="different samples"):
        read_outcomes([*tables, other], RULE)


def test_an_ensemble_without_validation_images_is_refused():
    tables = [table for table in make_run() if table.key.split == "test"]
    with pytest.raises(RequestError, match="no validation images"):
        read_outcomes(tables, RULE)


def test_an_ensemble_without_its_base_path_is_refused():
    right = {"image": first(3, 4), "stylemix_ensemble": first(1, 4)}
    tables = [make_table("clean", split, right) for split in ("val", "test")]
    with pytest.raises(RequestError, match="needs predictions of 'reconstruction'"):
        read_outcomes(tables, RULE)
