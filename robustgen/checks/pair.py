"""What the checks know of one pair of a run."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

from robustgen.checks.finding import Effect, Finding, Status
from robustgen.evidence import Evidence
from robustgen.metrics import select_alpha
from robustgen.names import GRADIENT_TIERS
from robustgen.outcomes import CLEAN, Outcome, Outcomes
from robustgen.table import PredictionTable, TableKey

Threat: TypeAlias = tuple[str, float]
"""Norm and radius."""

GRADIENT_KINDS = frozenset(
    ("pgd", "mifgsm", "eotpgd", "deepfool", "cw", "apgd", "fab", "autoattack")
)
"""Attacks that follow gradients until an image is broken. One step of FGSM is not
meant to break every image."""

IMAGE = "image"
"""The path that nothing defends."""

BROKEN = 0.05
"""Accuracy up to which a classifier counts as broken (facts of the literature's
sanity checks: an attack without bounds must reach 0; 5% leaves room for few images)."""

NEAR = 0.05
"""How near to the undefended accuracy a defended path must come for a defense to
count as undone."""


@dataclass(frozen=True)
class Pair:
    """One classifier on its data set, with all that was measured.

    Args:
        dataset: Name of the data set.
        classifier: Name of the classifier.
        tables: Tables of both splits.
        rows: What every path got right on test images, under each way of choosing
            alpha.
        evidence: What the probes measured; None where none were run.
        kinds: Kind of each attack of the suite, such as `pgd`, by its name.
        sweeps: Name shared by the same attack at several radii, by the attack's name.
        promised: Number of images that the suite asked for, by split.
    """

    dataset: str
    classifier: str
    tables: tuple[PredictionTable, ...]
    rows: tuple[Outcome, ...]
    evidence: Evidence | None
    kinds: Mapping[str, str]
    sweeps: Mapping[str, str]
    promised: Mapping[str, int]

    @cached_property
    def scored(self) -> tuple[Outcome, ...]:
        """One row per table and path: alpha from clean images where there are any."""
        return tuple(select_alpha(self.rows, CLEAN))

    @cached_property
    def attacked(self) -> tuple[Outcome, ...]:
        """Scored rows that somebody searched for."""
        return tuple(one for one in self.scored if one.key.tier != "none")

    @property
    def paths(self) -> tuple[str, ...]:
        """All paths, in the order of the report."""
        return tuple(dict.fromkeys(one.path for one in self.rows))

    def clean(self, path: str) -> Outcome | None:
        """The row of a path without an attack."""
        found = (o for o in self.scored if o.key.attack == CLEAN and o.path == path)
        return next(found, None)

    def on(self, path: str, threat: Threat | None = None) -> tuple[Outcome, ...]:
        """Attacked, scored rows of a path; of one threat, or of all."""
        return tuple(
            one
            for one in self.attacked
            if one.path == path and threat in (None, threat_of(one))
        )

    @cached_property
    def chance(self) -> float:
        """Accuracy of a guess among all classes."""
        counts = [len(table.class_names) for table in self.tables]
        return 1 / max(counts, default=1)

    @property
    def broken(self) -> float:
        """Accuracy up to which a path counts as broken: 5% or chance."""
        return max(BROKEN, self.chance)

    def kind(self, one: Outcome) -> str:
        """What sort of attack made a row; its name where the suite does not say."""
        return self.kinds.get(one.key.attack, one.key.attack)

    def follows_gradients(self, one: Outcome) -> bool:
        """Whether a row's attack follows gradients over several steps."""
        if one.key.tier == "oblivious":
            return self.kind(one) in GRADIENT_KINDS
        return one.key.tier in GRADIENT_TIERS

    def undone(self, path: str, threat: Threat) -> str:
        """How some attack leaves no more of a path than of the bare classifier.

        Returns:
            The numbers, for a sentence; empty where the path holds more.
        """
        rows = self.on(path, threat)
        if not rows:
            return ""
        best = weakest(rows)
        left = accuracy(best)
        if left <= self.broken:
            return f"{name(best)} leaves {left:.2f}"
        bare = self.on(IMAGE, threat)
        if path == IMAGE or not bare:
            return ""
        undefended = accuracy(weakest(bare))
        if left > undefended + NEAR:
            return ""
        return f"{name(best)} leaves {left:.2f}, the bare classifier {undefended:.2f}"

    def finding(
        self,
        check: str,
        title: str,
        status: Status,
        evidence: str,
        advice: str = "",
        effect: Effect = "",
        *,
        attack: str = "",
        tier: str = "",
        path: str = "",
        alpha_from: str = "",
    ) -> Finding:
        """A finding about this pair."""
        return Finding(
            check=check,
            title=title,
            dataset=self.dataset,
            classifier=self.classifier,
            status=status,
            attack=attack,
            tier=tier,
            path=path,
            evidence=evidence,
            advice=advice,
            effect=effect,
            alpha_from=alpha_from,
        )

    def about(
        self,
        one: Outcome,
        check: str,
        title: str,
        status: Status,
        evidence: str,
        advice: str = "",
        effect: Effect = "",
    ) -> Finding:
        """A finding about the row of one attack and path."""
        return self.finding(
            check,
            title,
            status,
            evidence,
            advice,
            effect,
            attack=one.key.attack,
            tier=one.key.tier,
            path=one.path,
        )


def pairs_of(
    outcomes: Outcomes, evidence: Sequence[Evidence], suite: Mapping[str, Any]
) -> tuple[Pair, ...]:
    """The pairs of a run, in the order of its outcomes.

    Args:
        outcomes: Of all pairs.
        evidence: Of any pairs; at most one each.
        suite: The suite as resolved. Read are `attacks` (`name`, `attack`, `sweep`)
            and `splits`.
    """
    specs = [item for item in suite.get("attacks", ()) if isinstance(item, Mapping)]
    kinds = {str(s["name"]): str(s["attack"]) for s in specs if "attack" in s}
    sweeps = {str(s["name"]): str(s["sweep"]) for s in specs if s.get("sweep")}
    measured = {(one.dataset, one.classifier): one for one in evidence}
    names = dict.fromkeys((o.key.dataset, o.key.classifier) for o in outcomes.outcomes)
    found: list[Pair] = []
    for dataset, classifier in names:
        own = [
            one
            for one in outcomes.outcomes
            if (one.key.dataset, one.key.classifier) == (dataset, classifier)
        ]
        tables: dict[TableKey, PredictionTable] = {o.key: o.table for o in own}
        found.append(
            Pair(
                dataset=dataset,
                classifier=classifier,
                tables=tuple(tables.values()),
                rows=tuple(o for o in own if o.key.split == "test" and len(o.value)),
                evidence=measured.get((dataset, classifier)),
                kinds=kinds,
                sweeps=sweeps,
                promised={k: int(v) for k, v in (suite.get("splits") or {}).items()},
            )
        )
    return tuple(found)


def accuracy(one: Outcome) -> float:
    """Share of the samples of a row that are right; NaN for no samples."""
    return float(one.value.mean()) if len(one.value) else math.nan


def threat_of(one: Outcome) -> Threat:
    """Norm and radius of a row's attack."""
    return one.key.norm, one.key.eps


def weakest(rows: Iterable[Outcome]) -> Outcome:
    """The row of the lowest accuracy; the first of several."""
    return min(rows, key=accuracy)


def name(one: Outcome) -> str:
    """What sentences call a row's attack: its tier, or an oblivious attack's name."""
    return one.key.attack if one.key.tier == "oblivious" else one.key.tier


def threat_text(threat: Threat) -> str:
    """A threat in a sentence.

    >>> threat_text(("linf", 8 / 255)), threat_text(("l2", 0.5))
    ('linf 8/255', 'l2 0.5')
    """
    norm, eps = threat
    steps = eps * 255
    whole = norm == "linf" and math.isfinite(steps) and abs(steps - round(steps)) < 1e-6
    return f"{norm} {round(steps)}/255" if whole else f"{norm} {eps:g}"


NOT_MEASURED = "not measured: "
"""How the evidence of a check begins that had nothing to look at."""
