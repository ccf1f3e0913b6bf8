import pytest
from planted import outcome, pair, told

from robustgen.checks import Finding
from robustgen.checks.projection import check_ablation, check_projection
from robustgen.outcomes import Outcome

PATH = "reconstruction"


def _cost(
    final: float = 0.1, initial: float = 0.5, psnr: float = 25.0
) -> dict[str, list[float]]:
    columns = {"final_loss": final, "initial_loss": initial, "psnr": psnr}
    return {name: [value] * 100 for name, value in columns.items()}


def _projection(*rows: Outcome) -> list[Finding]:
    return check_projection(pair(*rows))


def test_s13_a_sound_projection_passes():
    found = _projection(
        outcome("clean", "image", 0.95, cost=_cost()),
        outcome("clean", PATH, 0.92, cost=_cost()),
        outcome("pgd", PATH, 0.6, cost=_cost(final=0.12)),
    )
    assert told(found) == [("pass", ""), ("pass", "")]
    assert found[0].evidence == (
        "median final loss 0.1, PSNR 25.0 dB, final by initial loss 0.20, clean "
        "accuracy 0.95 -> 0.92 by reconstruction"
    )


@pytest.mark.parametrize(
    ("cost", "accuracy", "fault"),
    [
        (_cost(psnr=10), 0.95, "PSNR below 15 dB"),
        (_cost(final=0.5), 0.95, "the loss does not fall"),
        (_cost(), 0.5, "reconstruction costs clean accuracy"),
    ],
)
def test_s13_only_warns(cost: dict[str, list[float]], accuracy: float, fault: str):
    (found,) = _projection(
        outcome("clean", "image", 0.95, cost=cost),
        outcome("clean", PATH, accuracy, cost=cost),
    )
    assert (found.status, found.effect) == ("warn", "")
    assert found.evidence.startswith(fault)


def test_s13_warns_where_attacked_images_project_worse():
    found = _projection(
        outcome("clean", PATH, 0.9, cost=_cost(final=0.1)),
        outcome("pgd", PATH, 0.6, cost=_cost(final=0.2)),
    )
    assert told(found) == [("pass", ""), ("warn", "")]
    assert found[1].evidence == "median final loss 0.1 clean, 0.2 under pgd"


def test_s13_a_run_without_a_projection_passes():
    assert told(_projection(outcome("pgd", "image", 0.5))) == [("pass", "")]
    found = _projection(outcome("pgd", PATH, 0.5, cost=_cost()))
    assert told(found) == [("warn", "")]


def test_s14_each_part_is_compared_with_the_control():
    found = check_ablation(
        pair(
            outcome("pgd", "image", 0.0),
            outcome("pgd", PATH, 0.6),
            outcome("pgd", "combined_ensemble", 0.12),
            outcome("pgd", "image_ensemble", 0.1),
        )
    )
    assert [(one.path, one.status, one.effect) for one in found] == [
        (PATH, "pass", ""),
        ("combined_ensemble", "warn", ""),
    ]
    assert found[0].evidence == (
        "under pgd: reconstruction against image_ensemble: +0.50 (+50 -0 of 100 "
        "images); image 0.00, reconstruction 0.60, combined_ensemble 0.12, "
        "image_ensemble 0.10"
    )


def test_s14_the_strongest_attack_of_the_ladder_counts():
    found = check_ablation(
        pair(
            outcome("pgd", "image", 0.1),
            outcome("pgd", "defense", 0.9),
            outcome("unrolled", "defense", 0.12),
        )
    )
    assert told(found) == [("pass", ""), ("warn", "")]
    assert found[1].evidence.startswith(
        "under the strongest attack at linf 8/255: defense against image: +0.02"
    )
    assert "defense 0.12 (unrolled)" in found[1].evidence


def test_s14_nothing_to_compare_passes():
    assert told(check_ablation(pair(outcome("pgd", "image", 0)))) == [("pass", "")]
