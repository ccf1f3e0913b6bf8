"""What a run will cost, from the cases alone: passes, seconds, memory.

The seconds rest on figures per image that were measured once, on two CPU cores. They
are meant to tell a minute from an hour, not to time anything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from robustgen.library import (
    ApgdAttack,
    AttackSpec,
    AutoattackAttack,
    CwAttack,
    EotPgdAttack,
    FgsmAttack,
    MifgsmAttack,
    PgdAttack,
    SquareAttack,
    TierAttack,
)
from robustgen.names import GRADIENT_TIERS
from robustgen.progress import Stage
from robustgen.projection_settings import max_passes
from robustgen.suite import GENERATED_PATHS, Case


@dataclass(frozen=True)
class UnitCost:
    """Seconds for one image in a batch of 64, on two CPU cores.

    Args:
        classify: Forward pass of the classifier.
        attack_pass: Forward and backward pass of the classifier.
        synthesize: Forward pass of the generator.
        project_pass: One evaluation of the projection loss and its gradient.
        networks_mb: Memory of the networks and of one block of activations.
        image_mb: Memory that grows with each image of a batch.
    """

    classify: float
    attack_pass: float
    synthesize: float
    project_pass: float
    networks_mb: float
    image_mb: float


UNIT_COSTS: Mapping[str, UnitCost] = MappingProxyType(
    {
        "digits": UnitCost(
            classify=0.00007,
            attack_pass=0.0002,
            synthesize=0.0005,
            project_pass=0.0022,
            networks_mb=0,
            image_mb=12,
        ),
        "faces": UnitCost(
            classify=0.00003,
            attack_pass=0.0001,
            synthesize=0.0006,
            project_pass=0.0023,
            networks_mb=0,
            image_mb=12,
        ),
        "celebahq": UnitCost(
            classify=0.16,
            attack_pass=0.34,
            synthesize=0.83,
            project_pass=2.4,
            networks_mb=6100,
            image_mb=250,
        ),
        "car": UnitCost(
            classify=0.015,
            attack_pass=0.043,
            synthesize=0.53,
            project_pass=1.4,
            networks_mb=3000,
            image_mb=100,
        ),
        "cat": UnitCost(
            classify=0.017,
            attack_pass=0.037,
            synthesize=0.33,
            project_pass=0.92,
            networks_mb=1600,
            image_mb=60,
        ),
        "cifar10": UnitCost(
            classify=0.003,
            attack_pass=0.008,
            synthesize=0.044,
            project_pass=0.17,
            networks_mb=1000,
            image_mb=40,
        ),
    }
)
"""By domain; a generator of the user's own without a card counts as `faces`.
`python benchmarks/units.py` measures faces and digits, `python benchmarks/scale.py` the
others, on networks of the released sizes."""

BATCH_PIXELS = 2**22
"""Pixels, over all images, of a batch; 64 images at most."""

TRANSFER_CANDIDATES = 4
"""Images, of each one attacked, that tier `transfer` asks a path about."""

OVERHEAD_SECONDS = 6.0
"""Imports, loading, tables, figures and the report."""

BASE_MEMORY_MB = 700.0
"""The process with torch, the assets and the report's libraries."""


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
        stages: Stages of the run in order, with the seconds of each.
    """

    images: int
    attack_passes: int
    projection_passes: int
    synthesized: int
    classified: int
    seconds: float
    memory_mb: float
    stages: tuple[Stage, ...] = ()


def estimate_cost(cases: Sequence[Case], *, batch_size: int | None = None) -> Cost:
    """What running `cases` costs if nothing can be reused.

    Args:
        cases: From `resolve_cases`.
        batch_size: Images worked on together; matters for memory only.
    """
    images = attack_passes = projection_passes = synthesized = classified = 0
    seconds = OVERHEAD_SECONDS
    for case in cases:
        unit = unit_cost(case)
        work = _case_work(case)
        images += work.images
        attack_passes += work.attacked
        projection_passes += work.projected
        synthesized += work.made
        classified += work.scored
        seconds += (
            work.attacked * unit.attack_pass
            + work.projected * unit.project_pass
            + work.made * unit.synthesize
            + work.scored * unit.classify
        )
    return Cost(
        images=images,
        attack_passes=attack_passes,
        projection_passes=projection_passes,
        synthesized=synthesized,
        classified=classified,
        seconds=seconds,
        memory_mb=max(_memory_mb(case, batch_size) for case in cases),
    )


@dataclass(frozen=True)
class _Work:
    """Counts of one case; see `Cost`."""

    images: int
    attacked: int
    projected: int
    made: int
    scored: int


def _case_work(case: Case) -> _Work:
    if isinstance(case.attack, TierAttack):
        return _tier_work(case, case.attack)
    count = case.splits.val + case.splits.test
    views = case.views.count
    paths = case.paths
    styled = "stylemix_ensemble" in paths or "combined_ensemble" in paths
    projects = "reconstruction" in paths
    return _Work(
        images=count,
        attacked=count * attack_cost(case.attack),
        projected=count * max_passes(case.projection) if projects else 0,
        made=count * views if styled else 0,
        scored=count * sum(views if p.endswith("_ensemble") else 1 for p in paths),
    )


def _tier_work(case: Case, attack: TierAttack) -> _Work:
    """At most: images that are broken early cost less."""
    count, budget = case.splits.test, attack.budget
    ensemble = attack.target.endswith("_ensemble")
    asked = attack_cost(attack)
    generated = attack.target in GENERATED_PATHS
    draws = budget.score_draws if ensemble else 1
    seen = budget.views if ensemble and attack.tier in GRADIENT_TIERS else 1
    if ensemble and attack.tier not in GRADIENT_TIERS:
        seen = case.views.count
    # Going back through the projection costs about twice its passes more.
    factor = 3 if attack.tier == "unrolled" else 1
    return _Work(
        images=count,
        attacked=count * asked * seen,
        projected=count * asked * max_passes(case.projection) * factor
        if generated
        else 0,
        made=count * (asked * seen + draws * case.views.count) if ensemble else 0,
        scored=count * draws * (case.views.count if ensemble else 1),
    )


def unit_cost(case: Case) -> UnitCost:
    """The figures of a case's domain; those of faces where there are none."""
    name = "" if case.domain is None else case.domain.name
    return UNIT_COSTS.get(name, UNIT_COSTS["faces"])


def _memory_mb(case: Case, batch_size: int | None) -> float:
    side = 32 if case.domain is None else case.domain.resolution
    unit, size = unit_cost(case), batch_size or default_batch_size(side, side)
    return BASE_MEMORY_MB + unit.networks_mb + size * unit.image_mb


def default_batch_size(height: int, width: int) -> int:
    """Images that are worked on together unless the user says otherwise.

    >>> default_batch_size(32, 32), default_batch_size(512, 512)
    (64, 16)
    >>> default_batch_size(1024, 1024)
    4
    """
    return max(1, min(64, BATCH_PIXELS // (height * width)))


def attack_cost(attack: AttackSpec | TierAttack) -> int:
    """Passes through what it attacks that an attack spends on one image, at most.

    An attack of the user's own counts as none: nobody here knows.
    """
    if isinstance(attack, TierAttack):
        return _tier_passes(attack)
    if isinstance(attack, FgsmAttack):
        return 1
    if isinstance(attack, PgdAttack):
        return attack.settings.steps * attack.settings.restarts
    if isinstance(attack, EotPgdAttack):
        return attack.settings.steps * attack.settings.draws
    if isinstance(attack, MifgsmAttack):
        return attack.settings.steps
    if isinstance(attack, CwAttack):
        return attack.settings.steps * len(attack.settings.constants)
    if isinstance(attack, ApgdAttack):
        searches = attack.settings.restarts * max(1, attack.settings.targets)
        return attack.settings.steps * searches * attack.settings.draws
    if isinstance(attack, SquareAttack):
        return attack.settings.queries
    if isinstance(attack, AutoattackAttack):
        settings = attack.settings
        return settings.steps * (1 + 2 * settings.targets) + settings.queries
    return 0


def _tier_passes(attack: TierAttack) -> int:
    budget = attack.budget
    draws = budget.draws if attack.target.endswith("_ensemble") else 1
    return {
        "transfer": TRANSFER_CANDIDATES,
        "latent": budget.latent_steps // 10,
        "projection_breaking": budget.breaking_steps,
        "square": budget.queries * draws,
        "spsa": 2 * budget.spsa_steps * budget.spsa_samples * draws,
    }.get(attack.tier, budget.steps * budget.restarts * draws)


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
