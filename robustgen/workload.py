"""What a run computes, counted from its cases alone.

The counts follow the code that does the work: `robustgen.evaluate` and
`robustgen.defense` for listed attacks, `robustgen.adaptive` for tiers,
`robustgen.probes` for probes. Where an image leaves a search early, the share that is
expected to be left is a constant here, with where it was measured.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from robustgen.budgets import (
    PROBE_CHEAP,
    PROBE_DEAR,
    PROBE_NOISES,
    PROBE_SHARE,
    PROBE_SURVIVORS,
    Budget,
)
from robustgen.library import (
    ApgdAttack,
    AttackSpec,
    AutoattackAttack,
    CwAttack,
    DeepfoolAttack,
    EotPgdAttack,
    FabAttack,
    FgsmAttack,
    MifgsmAttack,
    PgdAttack,
    RandFgsmAttack,
    SquareAttack,
    TierAttack,
)
from robustgen.names import DEFENSE, GRADIENT_TIERS
from robustgen.projection_settings import max_passes
from robustgen.suite import GENERATED_PATHS, Case

Kind: TypeAlias = Literal[
    "attack", "classify", "synthesize", "steer", "encode", "project", "jitter"
]
"""`attack`: forward and backward pass of the classifier in an attack; `classify` and
`synthesize`: forward passes; `steer`: generator and classifier, forward and backward;
`encode`: encoder, forward and backward; `project`: one evaluation of the projection
loss and its gradient; `jitter`: a copy that is cropped, flipped and colored."""

BLOCK = 32
"""Images that pass a network at once where nothing else bounds them."""

BROKEN_EARLY = 0.7
"""Share of its steps that an image costs in a search that it leaves when it is broken:
0.65 on faces and 0.75 on digits, `bpda_encoder` on `reconstruction`."""

STILL_OPEN = 0.6
"""Share of images that the second and later searches of a tier still work on, where
an image that is broken leaves."""

SQUARE_SHARE = 0.6
"""Share of its queries that Square costs an image of an undefended classifier: from 1
at a quarter of the radius that breaks it to 0.02 at four times that radius."""

DEEPFOOL_STEPS = 3
"""Linearizations of DeepFool on an image of an undefended classifier: at most 4 of 50
on digits. Each has a backward pass for every class it looks at."""

UNROLLED = 3
"""Passes of the projection that going back through one of them costs."""

SUBSTITUTE_COPIES = 3
"""Copies of each validation image that train the substitute of tier `transfer`."""

TRANSFER_STEPS = 40
"""Steps of each search on a stand-in."""

TRANSFER_SEARCHES = 4
"""Two searches on the classifier and two on its substitute."""

LATENT_STAGES = 3
"""Weights of the penalty that the search in w goes through."""

TARGET_STEPS = 30
"""Steps that `projection_breaking` looks for the code of another class, at most."""

SPSA_BLOCK = 8
"""Variants of an image that `spsa` asks about at once."""

ENOUGH_DRAWS = 5
"""Draws of the choice from which on a random path lets broken images go."""

PROBE_RADII = 5
"""Radii of a sweep that are searched with all steps."""


@dataclass(frozen=True)
class Work:
    """Calls and images of each kind; what is not named is none.

    Args:
        calls: Calls of a network, each with an overhead of its own.
        images: Images in all these calls together.
    """

    calls: Mapping[Kind, float] = field(default_factory=dict[Kind, float])
    images: Mapping[Kind, float] = field(default_factory=dict[Kind, float])

    def __add__(self, other: "Work") -> "Work":
        return Work(_sum(self.calls, other.calls), _sum(self.images, other.images))

    def __mul__(self, factor: float) -> "Work":
        return self.times(calls=factor, images=factor)

    def times(self, *, calls: float, images: float) -> "Work":
        """Other multiples of calls and of images: late calls may hold fewer images."""
        return Work(
            {kind: count * calls for kind, count in self.calls.items()},
            {kind: count * images for kind, count in self.images.items()},
        )


NOTHING = Work()


def _sum(one: Mapping[Kind, float], other: Mapping[Kind, float]) -> dict[Kind, float]:
    found = dict(one)
    for kind, count in other.items():
        found[kind] = found.get(kind, 0) + count
    return found


def total(works: Iterable[Work]) -> Work:
    """All of some work together."""
    found = NOTHING
    for work in works:
        found += work
    return found


def calls_of(kind: Kind, images: float, block: int = BLOCK) -> Work:
    """One look of a network at some images, in blocks."""
    return Work({kind: math.ceil(images / block)}, {kind: images})


def listed_parts(case: Case, count: int, batch: int) -> Mapping[str, Work]:
    """What a listed attack costs on `count` images: the attack, then the paths."""
    assert not isinstance(case.attack, TierAttack)
    passes = attack_passes(case.attack)
    sizes = _batches(count, batch)
    attack = total(
        Work({"attack": passes.calls}, {"attack": passes.images * size})
        + calls_of("classify", 2 * size)
        for size in sizes
    )
    if case.pair.defense is not None:
        draws = case.ladder.budget.score_draws
        seen = total(calls_of("classify", size) * (1 + draws) for size in sizes)
        return {"attacks": attack, "classification": seen}
    parts = {"attacks": attack}
    for size in sizes:
        for name, work in _paths_parts(case, case.paths, size, 1).items():
            parts[name] = parts.get(name, NOTHING) + work
    return parts


def _batches(count: int, batch: int) -> list[int]:
    """Sizes of the batches of some images."""
    return [min(batch, count - start) for start in range(0, count, batch)]


def _paths_parts(
    case: Case, paths: Sequence[str], count: float, draws: int
) -> dict[str, Work]:
    """What some paths cost on a batch: one projection, and `draws` draws of views."""
    views = case.views.count
    projects = any(path in GENERATED_PATHS for path in paths)
    styled = [p for p in paths if p in ("stylemix_ensemble", "combined_ensemble")]
    jittered = [p for p in paths if p in ("image_ensemble", "combined_ensemble")]
    singles = sum(path in ("image", "reconstruction") for path in paths)
    pool = sum(path.endswith("_ensemble") for path in paths) * views * count * draws
    found = {"classification": NOTHING}
    if projects:
        found["projections"] = projection(case, count)
    if styled:
        found["views"] = calls_of("synthesize", views * count * draws)
    if jittered:
        shaken = len(jittered) * views * count * draws
        found["views"] = found.get("views", NOTHING) + calls_of("jitter", shaken)
    if singles:
        found["classification"] += calls_of("classify", singles * count)
    if pool:
        found["classification"] += calls_of("classify", pool)
    return found


def projection(case: Case, count: float) -> Work:
    """One projection of a batch, started from the code of the encoder."""
    passes = max_passes(case.projection)
    return Work({"project": passes}, {"project": passes * count}) + calls_of(
        "synthesize", count
    )


def predict(case: Case, path: str, count: float, draws: int = 1) -> Work:
    """What a path costs that is asked about a batch, on some draws."""
    if path == DEFENSE:
        return calls_of("classify", count) * draws
    paths = {path}
    if path.endswith("_ensemble"):
        paths |= {"image"} if path == "image_ensemble" else {"image", "reconstruction"}
    parts = _paths_parts(case, sorted(paths), count, draws if _random(path) else 1)
    return total(parts.values())


def _random(path: str) -> bool:
    """Whether draws of a path may differ; of a whole defense it is assumed."""
    return path.endswith("_ensemble") or path == DEFENSE


def tier_work(case: Case, attack: TierAttack, count: int, batch: int) -> Work:
    """Search, choice and score of a tier on all test images, substitutes included."""
    budget, path = attack.budget, attack.target
    scored = budget.score_draws if _random(path) else 1
    found = NOTHING
    for size in _batches(count, batch):
        found += search_work(case, attack, budget, size)
        found += predict(case, path, size) + predict(case, path, size, scored)
        fixed = attack.fixed_seed and _random(path) and attack.tier in GRADIENT_TIERS
        if fixed:
            found += search_work(case, attack, budget, size, known=True)
    if attack.tier == "transfer":
        asked = SUBSTITUTE_COPIES * case.splits.val
        found += predict(case, path, asked)
        steps = budget.substitute_epochs * asked
        found += Work({"attack": steps / BLOCK}, {"attack": steps})
    return found


def search_work(
    case: Case, attack: TierAttack, budget: Budget, size: int, *, known: bool = False
) -> Work:
    """The searches of a tier on a batch, and the choice among what they found.

    Args:
        case: The case.
        attack: Tier and path.
        budget: Bounds of the searches, in place of the attack's own.
        size: Images.
        known: Whether the path is one draw that the attacker knows.
    """
    path = attack.target
    random = _random(path) and not known
    chosen = budget.select_draws if random else 1
    choice = predict(case, path, size, chosen)
    stays = random and budget.select_draws < ENOUGH_DRAWS
    found, open_share = choice, 1.0
    for search in _searches(case, attack, budget, size, random=random):
        found += search.times(calls=1, images=open_share)
        found += choice.times(calls=1, images=open_share)
        open_share = 1.0 if stays else STILL_OPEN
    return found


def _searches(
    case: Case, attack: TierAttack, budget: Budget, size: int, *, random: bool
) -> list[Work]:
    """What each search of a tier costs on a batch."""
    path, tier = attack.target, attack.tier
    draws = budget.draws if random else 1
    early = 1.0 if random else BROKEN_EARLY
    asked = predict(case, path, size, draws)
    if tier in GRADIENT_TIERS:
        steps = budget.steps + 1
        step = surrogate_work(case, path, tier, budget, size, draws)
        search = step.times(calls=steps, images=steps * early)
        # Images that seem broken are shown to the path itself.
        search += NOTHING if random else asked * (1 - early)
        return [search] * budget.restarts
    if tier == "transfer":
        steps = TRANSFER_STEPS + 1
        search = Work({"attack": steps}, {"attack": steps * size})
        return [search] * TRANSFER_SEARCHES
    if tier == "latent":
        steps = budget.latent_steps + LATENT_STAGES
        search = projection(case, size) + calls_of("steer", size) * steps
        return [search + (calls_of("synthesize", size) + asked) * LATENT_STAGES] * 2
    if tier == "projection_breaking":
        steps = budget.breaking_steps + 1
        away = calls_of("encode", size) * (steps + 1)
        aimed = min(TARGET_STEPS, budget.latent_steps) + 1
        toward = projection(case, size) + calls_of("steer", size) * aimed
        return [away + toward, away]
    if tier == "square":
        share = 1.0 if random else BROKEN_EARLY
        return [asked.times(calls=budget.queries, images=budget.queries * share)]
    block = predict(case, path, SPSA_BLOCK * size, draws)
    looks = budget.spsa_steps * 2 * budget.spsa_samples / SPSA_BLOCK
    return [(block * looks + asked * (budget.spsa_steps + 1)) * early]


def surrogate_work(
    case: Case, path: str, tier: str, budget: Budget, size: float, draws: int
) -> Work:
    """One gradient of a path's surrogate."""
    views = min(budget.views, case.views.count) * draws * size
    if not path.endswith("_ensemble"):
        views = 0
    if path in ("image_ensemble", DEFENSE, "image"):
        shaken = calls_of("jitter", views) if views else NOTHING
        return shaken + calls_of("attack", size + views)
    found = projection(case, size)
    if tier == "unrolled":
        through = projection(case, size)
        passes = budget.unroll or max_passes(case.projection)
        share = passes / max(1, max_passes(case.projection))
        found = through * (UNROLLED * share)
    if tier == "bpda_identity":
        found += calls_of("synthesize", views) if views else NOTHING
        return found + calls_of("attack", 2 * size + views)
    if tier == "bpda_encoder":
        found += calls_of("encode", size)
    return found + calls_of("steer", size + views) + calls_of("attack", size)


def probe_work(cases: Sequence[Case]) -> Work:
    """All probes of a pair; `cases` are all of its cases."""
    first = cases[0]
    test = first.splits.test
    images = first.splits.val + test
    cheap = min(test, PROBE_CHEAP, max(PROBE_DEAR, math.ceil(PROBE_SHARE * images)))
    dear = min(test, PROBE_DEAR)
    half = min(test, PROBE_DEAR // 2)
    whole = first.pair.defense is not None
    paths = ("image", DEFENSE) if whole else first.paths
    listed = [c.attack for c in cases if not isinstance(c.attack, TierAttack)]
    tiers = [c.attack for c in cases if isinstance(c.attack, TierAttack)]
    bounded = any(a.norm != "none" and math.isfinite(a.eps) for a in (*listed, *tiers))
    found = NOTHING
    for path in paths:
        raw = path in ("image", DEFENSE)
        shown = cheap if raw else dear
        found += predict(first, path, shown)
        found += predict(first, path, half, 4)
        if bounded:
            noises = PROBE_NOISES * (4 if raw else 1)
            found += predict(first, path, shown) * noises
    swept = {a.attack: a for a in reversed(listed) if _swept(a)}
    for attack in swept.values():
        passes = attack_passes(attack)
        search = Work({"attack": passes.calls}, {"attack": passes.images * cheap})
        # The sweep, and once with twice the steps.
        found += search * (PROBE_RADII + 2)
    return found + total(_tier_probes(first, tiers, dear, half))


def _tier_probes(
    case: Case, tiers: Sequence[TierAttack], dear: int, half: int
) -> list[Work]:
    """Gradients, sweeps and longer searches of the tiers."""
    found: list[Work] = []
    strongest: dict[str, TierAttack] = {}
    for attack in tiers:
        if attack.tier not in GRADIENT_TIERS:
            continue
        path, tier, budget = attack.target, attack.tier, attack.budget
        gradient = surrogate_work(case, path, tier, budget, dear, budget.draws)
        found.append(gradient * (2 if _random(path) else 1))
        found.append(predict(case, path, dear) * 2)
        longer = budget.model_copy(update={"steps": 2 * budget.steps})
        few = max(1, math.ceil(PROBE_SURVIVORS * case.splits.test))
        found.append(search_work(case, attack, longer, few))
        if tier != "unrolled" or path == DEFENSE:
            strongest[path] = attack
    for path, attack in strongest.items():
        found.append(search_work(case, attack, attack.budget, half))
        found.append(predict(case, path, half) * 2)
    return found


def _swept(attack: AttackSpec) -> bool:
    return isinstance(attack, PgdAttack | ApgdAttack) and math.isfinite(attack.eps)


@dataclass(frozen=True)
class AttackPasses:
    """Passes of an attack through what it attacks.

    Args:
        calls: Calls of a batch.
        images: Forward and backward passes of each image, as expected.
        most: The same at most.
    """

    calls: float
    images: float
    most: float


def attack_passes(attack: AttackSpec | TierAttack) -> AttackPasses:
    """Passes that an attack spends on one image.

    An attack of the user's own counts as none: nobody here knows.
    """
    most = float(attack_cost(attack))
    if isinstance(attack, CwAttack):
        # Rarely is a second constant needed, but a batch with one image left pays it.
        first = float(attack.settings.steps)
        return AttackPasses(first, first, most)
    if isinstance(attack, SquareAttack):
        return AttackPasses(most, most * SQUARE_SHARE, most)
    if isinstance(attack, DeepfoolAttack):
        steps = min(attack.settings.steps, DEEPFOOL_STEPS)
        looks = float(steps * (attack.settings.classes - 1) + 1)
        return AttackPasses(looks, looks, most)
    if isinstance(attack, ApgdAttack):
        first = float((attack.settings.steps + 1) * attack.settings.draws)
        return AttackPasses(first, first, most)
    if isinstance(attack, AutoattackAttack):
        first = float(attack.settings.steps + 1)
        return AttackPasses(first, first, most)
    return AttackPasses(most, most, most)


def attack_cost(attack: AttackSpec | TierAttack) -> int:
    """Forward passes through what it attacks that an attack spends on one image.

    An upper bound. An attack of the user's own counts as none: nobody here knows.
    """
    if isinstance(attack, TierAttack):
        return _tier_passes(attack)
    if isinstance(attack, FgsmAttack | RandFgsmAttack):
        return 1
    if isinstance(attack, PgdAttack):
        return (attack.settings.steps + 1) * attack.settings.restarts
    if isinstance(attack, EotPgdAttack):
        return (attack.settings.steps + 1) * attack.settings.draws
    if isinstance(attack, MifgsmAttack):
        return attack.settings.steps + 1
    if isinstance(attack, CwAttack):
        return attack.settings.steps * len(attack.settings.constants)
    if isinstance(attack, DeepfoolAttack):
        return attack.settings.steps + 1
    if isinstance(attack, FabAttack):
        searches = max(1, attack.settings.targets)
        return 2 * attack.settings.steps * searches + 2
    if isinstance(attack, ApgdAttack):
        searches = attack.settings.restarts * max(1, attack.settings.targets)
        return 1 + (attack.settings.steps + 1) * searches * attack.settings.draws
    if isinstance(attack, SquareAttack):
        return attack.settings.queries
    if isinstance(attack, AutoattackAttack):
        settings = attack.settings
        searches = 1 + settings.targets
        fab = 2 * settings.steps * settings.targets + 2
        return 1 + (settings.steps + 1) * searches + fab + settings.queries
    return 0


def _tier_passes(attack: TierAttack) -> int:
    budget = attack.budget
    restarts = budget.restarts
    return {
        "transfer": TRANSFER_SEARCHES * (TRANSFER_STEPS + 1),
        "latent": 2 * (budget.latent_steps + LATENT_STAGES),
        "projection_breaking": 2 * (budget.breaking_steps + 1)
        + min(TARGET_STEPS, budget.latent_steps)
        + 2,
        "square": budget.queries,
        "spsa": budget.spsa_steps * (2 * budget.spsa_samples + 1) + 1,
    }.get(attack.tier, (budget.steps + 1) * restarts)
