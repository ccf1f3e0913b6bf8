"""What a run will cost, from the cases alone: passes, seconds, memory.

The seconds rest on figures per image that were measured once, on two CPU cores. They
are meant to tell a minute from an hour, not to time anything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from robustgen.library import AttackSpec, CwAttack, FgsmAttack, PgdAttack
from robustgen.suite import Case, asset_label


@dataclass(frozen=True)
class UnitCost:
    """Seconds for one image in a batch of 64, on two CPU cores.

    Args:
        classify: Forward pass of the classifier.
        attack_pass: Forward and backward pass of the classifier.
        synthesize: Forward pass of the generator.
        project_pass: One evaluation of the projection loss and its gradient.
    """

    classify: float
    attack_pass: float
    synthesize: float
    project_pass: float


UNIT_COSTS: Mapping[str, UnitCost] = MappingProxyType(
    {
        "digits": UnitCost(
            classify=0.00007,
            attack_pass=0.0002,
            synthesize=0.0005,
            project_pass=0.0022,
        ),
        "faces": UnitCost(
            classify=0.00003,
            attack_pass=0.0001,
            synthesize=0.0006,
            project_pass=0.0023,
        ),
    }
)
"""By name of the generator; a generator of the user's own counts as `faces`.
`python benchmarks/units.py` prints this table for the machine it runs on."""

OVERHEAD_SECONDS = 6.0
"""Imports, loading, tables, figures and the report."""

BASE_MEMORY_MB = 700.0
"""The process with torch, the assets and the report's libraries."""

MEMORY_PER_IMAGE_MB = 12.0
"""Activations and L-BFGS memory of one image of a batch."""


@dataclass(frozen=True)
class Cost:
    """Counts and estimates of one run; all splits together.

    Args:
        images: Attacked images, over all cases.
        attack_passes: Forward and backward passes of the classifier.
        projection_passes: Evaluations of the projection loss, at most.
        synthesized: Views that the generator makes.
        classified: Images that the classifier scores.
        seconds: On two CPU cores.
        memory_mb: Peak of the process.
    """

    images: int
    attack_passes: int
    projection_passes: int
    synthesized: int
    classified: int
    seconds: float
    memory_mb: float


def estimate_cost(cases: Sequence[Case], *, batch_size: int = 64) -> Cost:
    """What running `cases` costs if nothing can be reused.

    Args:
        cases: From `resolve_cases`.
        batch_size: Images worked on together; matters for memory only.
    """
    images = attack_passes = projection_passes = synthesized = classified = 0
    seconds = OVERHEAD_SECONDS
    for case in cases:
        unit = UNIT_COSTS.get(asset_label(case.pair.generator), UNIT_COSTS["faces"])
        count = case.splits.val + case.splits.test
        views = case.views.count
        paths = case.paths
        attacked = count * attack_cost(case.attack)
        projected = count * case.projection.passes if "reconstruction" in paths else 0
        styled = "stylemix_ensemble" in paths or "combined_ensemble" in paths
        made = count * views if styled else 0
        scored = count * sum(views if p.endswith("_ensemble") else 1 for p in paths)
        images += count
        attack_passes += attacked
        projection_passes += projected
        synthesized += made
        classified += scored
        seconds += (
            attacked * unit.attack_pass
            + projected * unit.project_pass
            + made * unit.synthesize
            + scored * unit.classify
        )
    return Cost(
        images=images,
        attack_passes=attack_passes,
        projection_passes=projection_passes,
        synthesized=synthesized,
        classified=classified,
        seconds=seconds,
        memory_mb=BASE_MEMORY_MB + batch_size * MEMORY_PER_IMAGE_MB,
    )


def attack_cost(attack: AttackSpec) -> int:
    """Forward and backward passes that an attack spends on one image.

    An attack of the user's own counts as none: nobody here knows.
    """
    if isinstance(attack, FgsmAttack):
        return 1
    if isinstance(attack, PgdAttack):
        return attack.settings.steps * attack.settings.restarts
    if isinstance(attack, CwAttack):
        return attack.settings.steps * len(attack.settings.constants)
    return 0


def duration(seconds: float) -> str:
    """A duration as people say it.

    >>> duration(42), duration(150), duration(7200)
    ('42 s', '2.5 min', '2.0 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"
