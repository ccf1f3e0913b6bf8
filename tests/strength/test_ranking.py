import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strength_tables import suite, table

from robustgen.errors import RequestError
from robustgen.strength.ranking import Comparison, only_broken, ranks
from robustgen.strength.tallies import strength_report
from robustgen.table import PredictionTable


def ranking(*tables: PredictionTable) -> pd.DataFrame:
    names = [one.key.attack for one in tables]
    return strength_report(tables, suite(*names), seed=0).ranking


def threats(*tables: PredictionTable) -> pd.DataFrame:
    names = [one.key.attack for one in tables]
    return strength_report(tables, suite(*names), seed=0).threats


def test_union_unique_and_left_out_are_counted_on_clean_correct_samples():
    tables = [
        table("clean", "++++-"),
        table("fgsm", "-+++-"),
        table("pgd", "--++-"),
        table("square", "+++-+"),
    ]
    rows = ranking(*tables).set_index("attack")
    assert rows["broken"].to_dict() == {"pgd": 2, "fgsm": 1, "square": 1}
    assert rows["only"].to_dict() == {"pgd": 1, "fgsm": 0, "square": 1}
    assert rows["left_out"].to_dict() == {"pgd": 0.2, "fgsm": 0.0, "square": 0.2}
    assert rows.loc["pgd", "robust_accuracy"] == pytest.approx(2 / 5)
    assert rows.loc["pgd", "success_rate"] == pytest.approx(2 / 4)
    worst = threats(*tables).iloc[0]
    assert (worst["union"], worst["clean_correct"], worst["attacks"]) == (3, 4, 3)
    assert worst["accuracy"] == pytest.approx(1 / 5)
    assert worst["ci_low"] < 1 / 5 < worst["ci_high"]


def test_leaving_an_attack_out_raises_the_worst_case_by_what_the_row_says():
    tables = [
        table("clean", "++++++"),
        table("fgsm", "-+++++"),
        table("pgd", "--++++"),
        table("square", "+++--+"),
    ]
    rows = ranking(*tables).set_index("attack")
    every = threats(*tables).iloc[0]["accuracy"]
    for left_out in ("fgsm", "pgd", "square"):
        rest = [one for one in tables if one.key.attack != left_out]
        without = threats(*rest).iloc[0]["accuracy"]
        assert without - every == pytest.approx(rows.loc[left_out, "left_out"])


def test_attacks_of_other_radii_and_norms_are_not_compared():
    rows = ranking(
        table("clean", "++++"),
        table("pgd_4", "-+++", eps=4 / 255),
        table("pgd_8", "--++", eps=8 / 255),
        table("pgd_l2", "---+", norm="l2", eps=0.5),
    )
    assert rows["rank"].tolist() == [1, 1, 1]
    assert rows["only"].tolist() == [1, 2, 3]
    assert all(map(math.isnan, rows["p_value"]))


def test_six_discordant_samples_tell_two_attacks_apart_and_five_do_not():
    # Two-sided exact p: 2 / 2**6 = 0.031 and 2 / 2**5 = 0.0625.
    apart = ranking(
        table("clean", "+" * 10), table("a", "-" * 6 + "++++"), table("b", "+" * 10)
    )
    assert apart["rank"].tolist() == [1, 2]
    assert apart["p_corrected"].tolist()[1] == pytest.approx(2 / 2**6)
    assert apart["told_apart"].tolist()[1] is True
    shared = ranking(
        table("clean", "+" * 10), table("a", "-" * 5 + "+" * 5), table("b", "+" * 10)
    )
    assert shared["rank"].tolist() == [1, 1]
    assert shared["p_corrected"].tolist()[1] == pytest.approx(2 / 2**5)
    assert shared["told_apart"].tolist()[1] is False


def test_holm_corrects_over_the_neighbors_of_one_ranking():
    # Neighbors differ by 6 and by 7 samples: p = 2/2**6 and 2/2**7. Holm doubles the
    # smaller and keeps the larger.
    rows = ranking(
        table("clean", "+" * 14),
        table("a", "-" * 13 + "+"),
        table("b", "-" * 7 + "+" * 7),
        table("c", "+" * 14),
    )
    assert rows["attack"].tolist() == ["a", "b", "c"]
    assert rows["p_value"].tolist()[1:] == pytest.approx([2 / 2**6, 2 / 2**7])
    assert rows["p_corrected"].tolist()[1:] == pytest.approx([2 / 2**6, 4 / 2**7])
    # With a third attack that ties with the last, six samples are no longer enough.
    rows = ranking(
        table("clean", "+" * 14),
        table("a", "-" * 13 + "+"),
        table("b", "-" * 7 + "+" * 7),
        table("c", "-" * 6 + "+" * 8),
    )
    assert rows["p_corrected"].tolist()[1:] == pytest.approx([4 / 2**6, 1.0])
    assert rows["rank"].tolist() == [1, 1, 1]


def test_a_rank_after_shared_ones_skips_them():
    apart, tied = Comparison(9, 0, 0.001, 0.002), Comparison(3, 2, 0.5, 1.0)
    assert ranks([tied, apart, tied]) == [1, 1, 3, 3]
    assert ranks([]) == [1]


def test_attacks_of_least_norm_are_ranked_by_who_is_nearer():
    rows = ranking(
        table("clean", "+" * 7 + "-"),
        table("cw", "-" * 8, norm="l2", eps=math.inf, distance_l2=[0.3] * 8),
        table("deepfool", "-" * 8, norm="l2", eps=math.inf, distance_l2=[0.4] * 8),
        table("fab", "+" * 6 + "--", norm="l2", eps=math.inf, distance_l2=[0.1] * 8),
    ).set_index("attack")
    assert rows.index.tolist() == ["cw", "deepfool", "fab"]
    assert rows["median_distance"].tolist() == pytest.approx([0.3, 0.4, math.inf])
    # CW is nearer on all seven; against FAB, DeepFool is on six of seven.
    assert rows["behind"].tolist()[1:] == [7, 6]
    assert rows["ahead"].tolist()[1:] == [0, 1]
    assert rows["p_value"].tolist()[1:] == pytest.approx([2 / 2**7, 16 / 2**7])
    assert rows["rank"].tolist() == [1, 2, 2]


def test_the_order_of_medians_needs_the_test_to_agree_with_it():
    # The median may favor one attack and most of the samples the other.
    assert not Comparison(1, 12, 0.004, 0.004).told_apart
    assert Comparison(12, 1, 0.004, 0.004).told_apart


def test_forward_passes_of_failures_are_paid_by_the_successes():
    rows = ranking(
        table("clean", "+++-"),
        table("pgd", "--+-", attack_forwards=[10, 20, 60, 1000]),
        table("none", "+++-"),
    ).set_index("attack")
    assert rows.loc["pgd", "forwards"] == pytest.approx(30)
    assert rows.loc["pgd", "forwards_per_success"] == pytest.approx(45)
    assert math.isnan(rows.loc["none", "forwards_per_success"])


def test_every_path_has_its_own_ranking():
    rows = ranking(
        table("clean", {"image": "++", "reconstruction": "+-"}),
        table("pgd", {"image": "--", "reconstruction": "+-"}),
    ).set_index("path")
    assert rows["broken"].to_dict() == {"image": 2, "reconstruction": 0}
    assert rows["clean_correct"].to_dict() == {"image": 2, "reconstruction": 1}


def test_corruptions_are_not_ranked():
    jpeg = table("jpeg", "--", norm="none", eps=math.inf, tier="none")
    rows = ranking(table("clean", "++"), table("pgd", "+-"), jpeg)
    assert rows["attack"].tolist() == ["pgd"]


def test_a_run_without_clean_images_or_without_attacks_is_refused():
    with pytest.raises(RequestError, match="List `clean` among the attacks"):
        ranking(table("pgd", "+-"))
    with pytest.raises(RequestError, match="holds no attack"):
        ranking(table("clean", "+-"))


def test_no_clean_correct_sample_gives_nothing_and_not_zero():
    rows = ranking(
        table("clean", "--"),
        table("pgd", "--"),
        table("cw", "--", norm="l2", eps=math.inf),
    )
    assert all(map(math.isnan, rows["success_rate"]))
    assert all(map(math.isnan, rows["forwards"]))
    assert all(map(math.isnan, rows["median_distance"]))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_unique_samples_belong_to_one_attack_and_the_union(
    attacks: int, n: int, seed: int
):
    broken = np.random.default_rng(seed).random((attacks, n)) < 0.4
    only = only_broken(broken)
    assert (only.sum(axis=0) <= 1).all()
    for place in range(attacks):
        rest = np.delete(broken, place, axis=0).any(axis=0)
        assert (only[place] == (broken.any(axis=0) & ~rest)).all()
