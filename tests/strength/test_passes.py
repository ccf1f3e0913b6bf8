import math

import pytest
from strength_tables import suite, table

from robustgen.strength.passes import pass_grid
from robustgen.strength.tallies import strength_report


def test_the_grid_reaches_the_most_passes():
    assert pass_grid(0).tolist() == [1]
    assert pass_grid(1).tolist() == [1]
    assert pass_grid(3).tolist() == [1, 2, 5]
    assert pass_grid(1000).tolist()[-4:] == [100, 200, 500, 1000]
    assert pass_grid(20_001).tolist()[-1] == 50_000


def test_success_within_passes_is_a_share_of_clean_correct_images():
    run = [
        table("clean", "++++-"),
        table(
            "pgd",
            "---+-",
            first_success=[1, 2, 9, math.nan, 1],
            attack_forwards=[9, 9, 9, 9, 9],
        ),
    ]
    rows = strength_report(run, suite("clean", "pgd"), seed=0).passes
    assert rows["passes"].tolist() == [1, 2, 5, 10]
    assert rows["success_rate"].tolist() == pytest.approx([0.25, 0.5, 0.5, 0.75])
    lows, rates = rows["success_low"].tolist(), rows["success_rate"].tolist()
    assert all(low < rate for low, rate in zip(lows, rates, strict=True))


def test_a_break_that_the_attack_never_looked_at_counts_from_its_last_pass():
    run = [
        table("clean", "++"),
        table("fgsm", "-+", first_success=[math.nan] * 2, attack_forwards=[1, 1]),
    ]
    rows = strength_report(run, suite("clean", "fgsm"), seed=0).passes
    assert rows["passes"].tolist() == [1]
    assert rows["broken"].tolist() == [1]


def test_an_image_whose_break_was_not_kept_is_no_success():
    run = [
        table("clean", "++"),
        table("fab", "-+", first_success=[1, 1], attack_forwards=[2, 2]),
    ]
    rows = strength_report(run, suite("clean", "fab"), seed=0).passes
    assert rows["broken"].tolist() == [1, 1]


def test_passes_count_for_the_path_that_the_attack_saw():
    both = {"image": "++", "reconstruction": "++"}
    lost = {"image": "--", "reconstruction": "--"}
    run = [
        table("clean", both),
        table("pgd", lost, first_success=[1, 1]),
        table(
            "unrolled",
            {"reconstruction": "--"},
            tier="unrolled",
            target="reconstruction",
            first_success=[3, 3],
        ),
    ]
    rows = strength_report(run, suite("clean", "pgd"), seed=0).passes
    seen = set(zip(rows["path"], rows["attack"], strict=True))
    assert seen == {("image", "pgd"), ("reconstruction", "unrolled")}


def test_tables_that_know_no_first_success_are_left_out():
    run = [table("clean", "++"), table("pgd", "--")]
    assert strength_report(run, suite("clean", "pgd"), seed=0).passes.empty
