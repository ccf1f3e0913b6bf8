import pytest
from planted import evidence, outcome, pair, randomness, said, sweep, told

from robustgen.checks.sweeps import check_sweeps
from robustgen.evidence import RandomnessEvidence, SweepEvidence

INF = float("inf")


def _pair(
    *accuracies: float,
    path: str = "image",
    clean: float = 1.0,
    random: tuple[RandomnessEvidence, ...] = (),
    more: tuple[SweepEvidence, ...] = (),
):
    factors = (0, 1, 4, INF)
    points = [sweep(a, f, path=path) for a, f in zip(accuracies, factors, strict=True)]
    # Points come in any order.
    measured = evidence(sweeps=(*points[::-1], *more), randomness=random)
    return pair(outcome("clean", path, clean), measured=measured)


def test_a_curve_from_clean_to_zero_passes():
    status, effect, evidence = said(check_sweeps(_pair(1.0, 0.4, 0.1, 0.0)))
    assert (status, effect) == ("pass", "")
    assert evidence.endswith("on 20 images: 0x 1.00, 1x 0.40, 4x 0.10, infx 0.00")


def test_few_images_more_are_chance():
    assert told(check_sweeps(_pair(1.0, 0.2, 0.4, 0.0))) == [("pass", "")]


def test_more_room_that_leaves_more_is_suspect():
    status, effect, evidence = said(check_sweeps(_pair(1.0, 0.2, 0.6, 0.0)))
    assert (status, effect) == ("fail", "SUSPECT")
    assert evidence.startswith("4x leaves 0.60, the smaller 1x 0.20")


def test_radius_zero_must_equal_clean():
    status, effect, evidence = said(check_sweeps(_pair(0.95, 0.2, 0.1, 0.0)))
    assert (status, effect) == ("fail", "INVALID")
    assert evidence.startswith("radius 0 leaves 0.95, clean images 1.00")


def test_the_clean_images_are_the_first_of_the_run_unless_a_sweep_says_otherwise():
    # Of 100 clean images the first 90 are right, so the first 20 all are.
    assert told(check_sweeps(_pair(1.0, 0.2, 0.1, 0.0, clean=0.9))) == [("pass", "")]
    clean = sweep(0.95, 0, attack="clean", tier="none")
    found = check_sweeps(_pair(0.95, 0.2, 0.1, 0.0, more=(clean,)))
    assert told(found) == [("pass", "")]


@pytest.mark.parametrize(
    ("path", "random", "effect"),
    [
        ("combined_ensemble", (), ""),
        ("defense", (randomness("defense", declared=True, detected=True),), ""),
        ("defense", (randomness("defense"),), "INVALID"),
        ("reconstruction", (), "INVALID"),
    ],
)
def test_only_a_random_path_may_differ_from_clean_by_chance(
    path: str, random: tuple[RandomnessEvidence, ...], effect: str
):
    (found,) = check_sweeps(_pair(0.9, 0.2, 0.1, 0.0, path=path, random=random))
    assert (found.effect, found.path) == (effect, path)


def test_rounding_may_turn_one_image_of_a_projection():
    found = check_sweeps(_pair(0.95, 0.2, 0.1, 0.0, path="reconstruction"))
    assert told(found) == [("pass", "")]


def test_the_largest_radius_must_reach_chance():
    status, effect, evidence = said(check_sweeps(_pair(1.0, 0.9, 0.9, 0.8)))
    assert (status, effect) == ("fail", "SUSPECT")
    assert evidence.startswith("the largest radius leaves 0.80; limit 0.10")


def test_without_sweeps_nothing_is_measured():
    assert told(check_sweeps(pair(outcome("clean", "image", 1)))) == [("warn", "")]
