import pytest
from planted import evidence, outcome, pair, said, told

from robustgen.checks.data import check_data, check_precision
from robustgen.evidence import DataEvidence


@pytest.mark.parametrize(
    ("n", "right", "expected"),
    [
        (200, 0.5, ("pass", "")),
        (96, 1.0, ("pass", "")),
        (50, 0.5, ("warn", "")),
        (10, 0.5, ("warn", "")),
        (9, 1.0, ("fail", "SUSPECT")),
    ],
)
def test_s15_half_widths(n: int, right: float, expected: tuple[str, str]):
    assert told(check_precision(pair(outcome("pgd", "image", right, n=n)))) == [
        expected
    ]


def test_s15_names_the_widest_row_and_how_many_images_it_takes():
    rows = [outcome("pgd", "image", 0.0, n=50), outcome("cw", "image", 0.5, n=50)]
    (found,) = check_precision(pair(*rows))
    assert "0.50 ± 0.13 (cw on image, 50 images)" in found.evidence
    assert found.advice == "For ± 0.05 take 385 test images."


def _data(changes: dict[str, object] | None = None, n: int = 100):
    sound = {
        "split": "test",
        "asked": 100,
        "found": 100,
        "label_counts": (50, 50),
        "duplicate_images": 0,
    }
    measured = evidence(
        data=(DataEvidence.model_validate({**sound, **(changes or {})}),)
    )
    return check_data(pair(outcome("pgd", "image", 0.5, n=n), measured=measured))


def test_s16_all_images_once():
    assert said(_data()) == ("pass", "", "test: 100 images, by label 50 50")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"asked": 200}, "200 were asked for, 100 found"),
        ({"asked": 50}, "100 found, only 50 asked for"),
        ({"duplicate_images": 3}, "3 images have the pixels of another"),
        ({"label_counts": (100, 0)}, "a class has no image"),
    ],
)
def test_s16_data_worth_a_look(changes: dict[str, object], fault: str):
    status, effect, evidence = said(_data(changes))
    assert (status, effect) == ("warn", "")
    assert evidence.startswith(fault)


def test_s16_a_dropped_batch_measures_nothing():
    found = _data(n=96)
    assert told(found) == [("fail", "INVALID"), ("pass", "")]
    assert found[0].evidence == "test: 96 images scored, 100 were there"
    assert (found[0].attack, found[0].path) == ("pgd", "")


def test_s16_samples_that_stand_twice_measure_nothing():
    row = outcome("clean", "image", [1.0, 1.0, 0.0], sample=[5, 5, 6])
    found = check_data(pair(row, suite={}))
    assert told(found) == [("fail", "INVALID"), ("warn", "")]
    assert found[0].evidence == "test: 1 of 3 samples stand twice"


def test_s16_validation_tables_count_too():
    rows = [
        outcome("pgd", "image", 0, split=s, n=n) for s, n in (("val", 3), ("test", 4))
    ]
    measured = evidence(
        data=tuple(
            DataEvidence(
                split=s, asked=4, found=4, label_counts=(4,), duplicate_images=0
            )
            for s in ("val", "test")
        )
    )
    found = check_data(pair(*rows, measured=measured))
    assert [one.evidence for one in found if one.effect] == [
        "val: 3 images scored, 4 were there"
    ]


def test_s16_without_evidence_a_short_table_is_worth_a_look():
    found = check_data(pair(outcome("pgd", "image", 0.5, n=96)))
    assert told(found) == [("warn", ""), ("warn", "")]
    assert found[0].evidence.startswith("test: 100 images asked for, 96 scored")
