"""What `--dry-run` says: the resolved cases and what they would cost."""

from collections.abc import Sequence
from pathlib import Path

from robustgen.cost import Cost, attack_cost, duration, estimate_cost
from robustgen.projection_settings import CustomProjection, max_passes
from robustgen.suite import Case, Suite


def dry_run_text(
    suite: Suite, cases: Sequence[Case], folder: Path, batch_size: int | None
) -> str:
    """The resolved cases and what they would cost.

    Args:
        suite: As asked for.
        cases: From `resolve_cases`.
        folder: That the run would write.
        batch_size: Images at a time; None for the default.
    """
    first, cost = cases[0], estimate_cost(cases, batch_size=batch_size)
    projection, views = first.projection, first.views
    passes = (
        "passes not known"
        if isinstance(projection, CustomProjection)
        else f"{max_passes(projection)} passes at most"
    )
    # A family of the user's own need not vary a range of layers.
    varied = getattr(views, "layers", None)
    layers = "" if varied is None else f", layers {varied}"
    return "\n".join(
        (
            f"Suite {suite.name}, seed {suite.seed}: {len(cases)} cases of "
            f"{first.splits.val} validation and {first.splits.test} test images",
            *_table(cases, cost),
            f"  paths: {', '.join(first.paths)}",
            f"  projection: {projection.method}, {passes}",
            f"  views: {views.count} x {views.family}{layers}",
            f"Cost: {cost.images:,} images; passes: about {cost.attack_passes:,} of "
            f"attacks, {cost.projection_passes:,} of projections",
            f"  {cost.synthesized:,} images made, {cost.classified:,} classified",
            f"  about {duration(cost.seconds)} on two CPU cores, "
            f"{cost.memory_mb / 1000:.1f} GB of memory, if nothing can be reused",
            f"  spent on: {_shares(cost)}",
            f"Would write {folder}/",
        )
    )


def _table(cases: Sequence[Case], cost: Cost) -> list[str]:
    """One line for each case: its threat, its attack's passes at most, its time."""
    rows = [("case", "norm", "eps", "passes", "tier", "time")]
    rows += [
        (
            case.name,
            case.attack.norm,
            f"{case.attack.eps:.4g}",
            str(attack_cost(case.attack)),
            case.attack.tier,
            duration(seconds),
        )
        for case, seconds in zip(cases, cost.cases, strict=True)
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  "
        + "  ".join(
            f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]


def _shares(cost: Cost) -> str:
    """What the time is spent on, most of it first."""
    ranked = sorted(cost.parts.items(), key=lambda part: -part[1])
    return ", ".join(
        f"{name} {duration(seconds)} ({seconds / cost.seconds:.0%})"
        for name, seconds in ranked
        if seconds > 0
    )
