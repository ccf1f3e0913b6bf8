"""What a check found."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Status: TypeAlias = Literal["pass", "warn", "fail"]
"""`pass`: measured and fine. `fail`: measured, and against the number. `warn`: not
measured, or worth a look."""

Effect: TypeAlias = Literal["", "SUSPECT", "INVALID"]
"""What a finding does to the verdict of the rows that it is about."""


@dataclass(frozen=True)
class Finding:
    """One result of one check on one pair.

    Args:
        check: `S1` to `S16`.
        title: What the check asks, as the fact that it hopes for.
        dataset: Name of the data set.
        classifier: Name of the classifier.
        status: See `Status`.
        attack: Attack of the rows that it is about; empty for all.
        tier: Tier of these rows; empty for all.
        path: Path of these rows; empty for all.
        evidence: The numbers, in one sentence.
        advice: What to do; empty where the check passed.
        effect: What it does to the verdict of these rows.
        alpha_from: Protocol of alpha of these rows; empty for all.
    """

    check: str
    title: str
    dataset: str
    classifier: str
    status: Status
    attack: str = ""
    tier: str = ""
    path: str = ""
    evidence: str = ""
    advice: str = ""
    effect: Effect = ""
    alpha_from: str = ""
