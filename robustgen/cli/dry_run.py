"""What `--dry-run` says: the resolved cases and what they would cost."""

from collections.abc import Sequence
from pathlib import Path

from robustgen.cost import attack_cost, duration, estimate_cost
from robustgen.projection_settings import max_passes
from robustgen.suite import Case, Suite


def dry_run_text(
    suite: Suite, cases: Sequence[Case], folder: Path, batch_size: int | None
) -> str:
    """The resolved cases and what they would cost."""
    first, cost = cases[0], estimate_cost(cases, batch_size=batch_size)
    projection, views = first.projection, first.views
    rows = [("case", "norm", "eps", "passes", "tier")]
    rows += [
        (
            case.name,
            case.attack.norm,
            f"{case.attack.eps:.4g}",
            str(attack_cost(case.attack)),
            case.attack.tier,
        )
        for case in cases
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = [
        "  " + "  ".join(f"{cell:{n}}" for cell, n in zip(row, widths, strict=True))
        for row in rows
    ]
    return "\n".join(
        (
            f"Suite {suite.name}, seed {suite.seed}: {len(cases)} cases of "
            f"{first.splits.val} validation and {first.splits.test} test images",
            *(line.rstrip() for line in table),
            f"  paths: {', '.join(first.paths)}",
            f"  projection: {projection.method}, "
            f"{max_passes(projection)} passes at most",
            f"  views: {views.count} x {views.family}, layers {views.layers}",
            f"Cost: {cost.images:,} images; passes: {cost.attack_passes:,} of attacks, "
            f"{cost.projection_passes:,} of projections",
            f"  {cost.synthesized:,} images made, {cost.classified:,} classified",
            f"  about {duration(cost.seconds)} on two CPU cores, "
            f"{cost.memory_mb / 1000:.1f} GB of memory",
            f"Would write {folder}/",
        )
    )
