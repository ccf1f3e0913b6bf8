"""Which rows and samples of two runs are the same."""

from typing import Any

import pytest
from planted_runs import EPS, run, table

from robustgen.comparison.compare import Comparison, compare_runs
from robustgen.errors import RequestError
from robustgen.finished import FinishedRun
from robustgen.table import PredictionTable


def data(letter: str) -> dict[str, Any]:
    return {"digits/cnn test": {"sha256": letter * 64, "n": 4}}


def compared(a: PredictionTable, b: PredictionTable, **manifest: Any) -> Comparison:
    return compare_runs(run(a), run(b, **manifest))


def refusal(a: FinishedRun, b: FinishedRun) -> str:
    with pytest.raises(RequestError) as caught:
        compare_runs(a, b)
    return str(caught.value)


def test_rows_of_one_run_alone_are_listed_and_not_compared():
    a = run(table("clean", {"image": "++", "reconstruction": "++"}), table("pgd", "+-"))
    b = run(table("clean", "++"), table("pgd", "--", eps=2 * EPS))
    found = compare_runs(a, b)
    assert [row.key.path for row in found.rows] == ["image"]
    assert [(key.attack, key.path, key.eps) for key in found.only_a] == [
        ("clean", "reconstruction", 0.0),
        ("pgd", "image", EPS),
    ]
    assert [(key.attack, key.eps) for key in found.only_b] == [("pgd", 2 * EPS)]


def test_the_order_of_the_samples_does_not_matter():
    a = table("pgd", "++--", sample=[3, 1, 2, 0], label=[0, 1, 1, 0])
    b = table("pgd", "+--+", sample=[0, 1, 2, 3], label=[0, 1, 1, 0])
    (row,) = compared(a, b).rows
    assert row.paired.sample.tolist() == [0, 1, 2, 3]
    assert row.paired.steps.tolist() == [1, -1, 0, 0]


def test_a_smaller_selection_is_compared_on_the_common_samples():
    a = table("pgd", "++++++", sample=[5, 6, 7, 8, 9, 10])
    b = table("pgd", "--+", sample=[7, 5, 9])
    found = compare_runs(run(a, data=data("d")), run(b, data=data("e")))
    (row,) = found.rows
    assert row.difference.n == 3
    assert (row.accuracy_a, row.accuracy_b) == (1.0, pytest.approx(1 / 3))
    assert row.paired.sample.tolist() == [5, 7, 9]
    assert found.notes == (
        "digits/cnn: A has 6 test samples, B has 3. All numbers are of the 3 that both "
        "have, paired by index and label; they differ from those of the reports.",
    )


def test_equal_samples_with_equal_fingerprints_need_no_note():
    found = compared(table("pgd", "++++"), table("pgd", "++++"))
    assert found.notes == ()


def test_a_manifest_without_fingerprints_is_paired_and_said_so():
    found = compared(table("pgd", "++++"), table("pgd", "++++"), data={})
    assert found.notes == (
        "digits/cnn: a manifest without fingerprints of the data. Samples are paired "
        "by index and label; that their images are the same was not checked.",
    )


def test_other_images_under_the_same_indices_are_refused():
    one = table("pgd", "++++")
    said = refusal(run(one, data=data("d")), run(one, data=data("e")))
    assert "equal indices, but the data differ" in said
    assert "d" * 12 in said
    assert "e" * 12 in said


def test_other_labels_are_refused_with_the_first_of_them():
    a = table("pgd", "++++", label=[0, 1, 0, 1])
    b = table("pgd", "++++", label=[0, 1, 1, 0])
    assert "2 of 4 common samples have another label, such as sample 102: 0 in A, 1 in "
    assert refusal(run(a), run(b)).startswith("digits/cnn: 2 of 4 common samples")


def test_other_classes_are_refused():
    a, b = table("pgd", "++"), table("pgd", "++", class_names=("no", "yes"))
    assert "classes are zero, one in A and no, yes in B" in refusal(run(a), run(b))


def test_selections_that_only_overlap_are_refused():
    a = table("pgd", "++++", sample=[0, 1, 2, 3])
    b = table("pgd", "++++", sample=[2, 3, 4, 5])
    assert "only 2 indices occur in both" in refusal(run(a), run(b))


def test_runs_without_a_common_sample_are_refused():
    a = table("pgd", "++", sample=[0, 1])
    b = table("pgd", "++", sample=[2, 3])
    assert "no test sample in common" in refusal(run(a), run(b))


def test_runs_without_a_common_row_are_refused():
    said = refusal(run(table("pgd", "++")), run(table("pgd", "++", eps=2 * EPS)))
    assert "no row in common" in said
    said = refusal(run(table("pgd", "++")), run(table("pgd", "++", dataset="faces")))
    assert "digits / cnn / pgd" in said
    assert "faces / cnn / pgd" in said


def test_two_profiles_are_never_compared():
    one = table("pgd", "++")
    said = refusal(run(one, folder="x"), run(one, folder="y", profile="full"))
    assert said.startswith("x is of profile 'embedded', y of profile 'full'.")
