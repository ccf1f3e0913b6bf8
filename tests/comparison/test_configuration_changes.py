"""What differs in the configuration of two runs, and what that means."""

from typing import Any

import pytest
from planted_runs import EPS, SUITE, run, table

from robustgen.comparison.configuration import (
    COMPARED,
    GROUPS,
    INERT,
    MEASURED,
    Change,
    configuration_changes,
    group_of,
)

TABLE = table("clean", "++")


def changes(suite: dict[str, Any] | None = None, **manifest: Any) -> list[Change]:
    return list(configuration_changes(run(TABLE), run(TABLE, suite=suite, **manifest)))


def attacks(**pgd: Any) -> dict[str, Any]:
    clean, old = SUITE["attacks"]
    return {"attacks": [clean, {**old, **pgd}]}


def test_equal_configurations_differ_in_nothing():
    assert changes() == []


def test_times_and_descriptions_are_no_differences():
    suite = {**attacks(about="Other words", sources={}), "about": "A story"}
    assert changes(suite, started="2027", wall_seconds=9.0) == []


def test_another_seed_is_one_difference():
    suite = {"seed": 1}
    (found,) = changes(suite, seeds={"suite": 1})
    assert str(found) == "seeds.suite: 0 -> 1"
    assert found.group == COMPARED


def test_a_section_is_told_key_by_key():
    (found,) = changes({"projection": {"method": "hybrid", "passes": 2}})
    assert str(found) == "projection.passes: 6 -> 2"
    assert (found.a, found.b, found.group) == (6, 2, COMPARED)


def test_attacks_are_told_by_name_whatever_their_order():
    assert changes({"attacks": SUITE["attacks"][::-1]}) == []
    (found,) = changes(attacks(settings={"steps": 2, "step_size": 2 / 255}))
    assert str(found) == "attacks.pgd.settings.steps: 40 -> 2"
    (found,) = changes({"attacks": SUITE["attacks"][:1]})
    assert str(found) == "attacks.pgd: given -> absent"


def test_a_radius_is_written_as_people_do():
    (found,) = changes(attacks(eps=2 * EPS))
    assert str(found) == "attacks.pgd.eps: 8/255 -> 16/255"
    assert found.group == MEASURED


def test_pairs_are_told_by_data_set_and_classifier():
    pair = SUITE["pairs"][0]
    (found,) = changes({"pairs": [{**pair, "generator": {"factory": "mine:gan"}}]})
    assert found.key == "pairs.digits/cnn.generator.factory" or (
        found.key == "pairs.digits/cnn.generator"
    )
    assert found.group == COMPARED
    (found,) = changes({"pairs": [{**pair, "attribute": "odd"}]})
    assert found.group == MEASURED


def test_groups_come_in_order_and_hashes_are_short():
    found = changes(
        {"splits": {"val": 10, "test": 5}},
        machine={"device": "cuda"},
        assets_sha256={"classifier: cnn": "e" * 64},
        git_commit="b" * 40 + "-dirty",
    )
    assert [one.group for one in found] == [MEASURED, COMPARED, COMPARED, INERT]
    assert list(map(str, found)) == [
        "splits.test: 10 -> 5",
        f"assets_sha256.classifier: cnn: {'c' * 12} -> {'e' * 12}",
        f"git_commit: {'b' * 12} -> {'b' * 12}-dirty",
        "machine.device: cpu -> cuda",
    ]
    assert found[1].b == "e" * 64


def test_a_profile_that_repeats_a_section_is_told_as_it_is_used():
    suite = {"profiles": {"embedded": {"projection": {"method": "hybrid"}}}}
    (found,) = changes(suite)
    assert str(found) == "projection.passes: 6 -> absent"


@pytest.mark.parametrize(
    ("place", "group"),
    [
        (("data", "digits/cnn test", "sha256"), MEASURED),
        (("limit",), MEASURED),
        (("paths",), MEASURED),
        (("ensemble", "size"), MEASURED),
        (("attacks", "pgd", "norm"), MEASURED),
        (("attacks", "pgd", "settings", "steps"), COMPARED),
        (("ladder", "budget", "score_draws"), MEASURED),
        (("ladder", "budget", "steps"), COMPARED),
        (("views", "count"), COMPARED),
        (("code_sha256",), COMPARED),
        (("versions", "torch"), INERT),
        (("workers",), INERT),
        (("batch_size",), INERT),
    ],
)
def test_what_a_difference_means(place: tuple[str, ...], group: str):
    assert group_of(place) == group
    assert group in GROUPS
