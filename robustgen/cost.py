"""What a run will cost, from the cases alone: passes, seconds, memory.

The work is counted by `robustgen.workload`; what a piece of it costs was measured once,
see `robustgen.unit_costs`. `python benchmarks/estimates.py` compares the estimate with
real runs; docs/cli.md has the table.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from robustgen.library import TierAttack
from robustgen.progress import Stage
from robustgen.suite import Case
from robustgen.unit_costs import UNIT_COSTS, UnitCost
from robustgen.workload import (
    Work,
    attack_passes,
    listed_parts,
    probe_work,
    tier_work,
    total,
)
from robustgen.workload import attack_cost as attack_cost

BATCH_PIXELS = 2**22
"""Pixels, over all images, of a batch; 64 images at most."""

START_SECONDS = 4.0
"""CPU seconds of imports, and of reading data and weights."""

PAIR_SECONDS = 0.5
"""CPU seconds of loading one pair."""

CASE_SECONDS = 0.3
"""CPU seconds of one case beyond networks: tables, pictures, its rows of the report."""

REPORT_SECONDS = 3.5
"""CPU seconds of checks, figures and report."""

BASE_MEMORY_MB = 1080.0
"""The process with torch, the assets and the report's libraries."""


@dataclass(frozen=True)
class Cost:
    """Counts and estimates of one run; all splits together.

    Args:
        images: Attacked images, over all cases.
        attack_passes: Forward passes that attacks spend on them, as expected; of tiers,
            through what they search.
        projection_passes: Evaluations of the projection loss, as expected.
        synthesized: Pictures that the generator makes outside of projections.
        classified: Images that the classifier scores outside of attacks.
        cpu_seconds: In one thread.
        seconds: By the clock, on two CPU cores.
        memory_mb: Peak of the process.
        parts: Seconds of what the time is spent on; they add up to `seconds`.
        cases: Seconds of each case, in order.
        stages: Stages of the run in order, with the seconds of each.
    """

    images: int
    attack_passes: int
    projection_passes: int
    synthesized: int
    classified: int
    cpu_seconds: float
    seconds: float
    memory_mb: float
    parts: Mapping[str, float]
    cases: tuple[float, ...]
    stages: tuple[Stage, ...]


def estimate_cost(cases: Sequence[Case], *, batch_size: int | None = None) -> Cost:
    """What running `cases` costs if nothing can be reused.

    Args:
        cases: From `resolve_cases`; those of a pair are adjacent.
        batch_size: Images worked on together; see `default_batch_size`.
    """
    parts: dict[str, float] = {"start and report": 0.0}
    seconds: list[float] = []
    stages: list[Stage] = []
    works: list[Work] = []
    images, passes, cpu = 0, 0.0, 0.0

    def spend(part: str, single: float, share: float) -> float:
        nonlocal cpu
        cpu += single
        parts[part] = parts.get(part, 0.0) + single * share
        return single * share

    spend("start and report", START_SECONDS + REPORT_SECONDS, 1.0)
    for _, group in itertools.groupby(cases, key=lambda case: case.pair):
        pair = tuple(group)
        unit = unit_cost(pair[0])
        spend("start and report", PAIR_SECONDS, 1.0)
        for case in pair:
            tier = isinstance(case.attack, TierAttack)
            spent = spend("start and report", CASE_SECONDS, 1.0)
            for split in ("test",) if tier else ("val", "test"):
                count: int = getattr(case.splits, split)
                images += count
                passes += count * attack_passes(case.attack).images
                whole = 0.0
                for part, work in _parts(case, count, batch_size).items():
                    works.append(work)
                    whole += spend(part, unit.cpu_seconds(work), unit.two_cores)
                stages.append(Stage(f"{case.name} {split}", whole))
                spent += whole
            seconds.append(spent)
        work = probe_work(pair)
        works.append(work)
        probes = spend("probes", unit.cpu_seconds(work), unit.two_cores)
        stages.append(Stage(probe_stage(pair[0]), probes))
    stages.append(Stage(REPORT_STAGE, REPORT_SECONDS))
    done = total(works)
    return Cost(
        images=images,
        attack_passes=round(passes),
        projection_passes=round(done.images.get("project", 0)),
        synthesized=round(done.images.get("synthesize", 0)),
        classified=round(done.images.get("classify", 0)),
        cpu_seconds=cpu,
        seconds=sum(parts.values()),
        memory_mb=max(_memory_mb(case, batch_size) for case in cases),
        parts=parts,
        cases=tuple(seconds),
        stages=tuple(stages),
    )


REPORT_STAGE = "report"
"""Name of the last stage of a run."""


def probe_stage(case: Case) -> str:
    """Name of the stage in which a pair is probed."""
    return f"{'-'.join(case.pair.labels)} probes"


def _parts(case: Case, count: int, batch_size: int | None) -> Mapping[str, Work]:
    size = batch_size or default_batch_size(*_shape(case))
    if isinstance(case.attack, TierAttack):
        return {"tiers": tier_work(case, case.attack, count, size)}
    return listed_parts(case, count, size)


def _shape(case: Case) -> tuple[int, int]:
    side = 32 if case.domain is None else case.domain.resolution
    return side, side


def unit_cost(case: Case) -> UnitCost:
    """The figures of a case's domain; those of faces where there are none."""
    name = "" if case.domain is None else case.domain.name
    return UNIT_COSTS.get(name, UNIT_COSTS["faces"])


def _memory_mb(case: Case, batch_size: int | None) -> float:
    unit, size = unit_cost(case), batch_size or default_batch_size(*_shape(case))
    most = min(size, max(case.splits.val, case.splits.test))
    return BASE_MEMORY_MB + unit.networks_mb + most * unit.image_mb


def default_batch_size(height: int, width: int) -> int:
    """Images that are worked on together unless the user says otherwise.

    >>> default_batch_size(32, 32), default_batch_size(512, 512)
    (64, 16)
    >>> default_batch_size(1024, 1024)
    4
    """
    return max(1, min(64, BATCH_PIXELS // (height * width)))


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
