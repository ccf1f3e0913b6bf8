"""What the doing arm measured for the checks, and its form on disk.

Probes look at a few images of each pair and attack; the counting arm turns their
numbers into checks S1 to S16. One file `probes/PAIR.json` per pair of a run.
"""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from robustgen.errors import RequestError
from robustgen.files import write_text


def _from_text(value: object) -> object:
    return float(value) if isinstance(value, str) else value


Value: TypeAlias = Annotated[
    float,
    BeforeValidator(_from_text),
    PlainSerializer(lambda value: value if abs(value) < 1e300 else str(value)),
]
"""A number that may be infinite or NaN, which JSON holds as text."""


class _Evidence(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OutputEvidence(_Evidence):
    """What a path returns on clean images (S10)."""

    path: str
    classes: int
    finite: bool
    kind: Literal["logits", "log_probabilities", "probabilities"]
    """`probabilities`: rows in [0, 1] that sum to 1, where logits are expected."""
    all_negative_share: Value
    """Share of images whose logits are all below 0, which break CW's usual mask."""
    top_class_share: Value
    """Share of images that get the most frequent prediction; 1 for a constant."""
    top_label_share: Value
    """Share of the most frequent label among the same images."""
    saturated_share: Value
    """Share of images whose largest probability rounds to 1 in float32."""


class RandomnessEvidence(_Evidence):
    """Whether a path is random, and whether its draws are its own (S11)."""

    path: str
    declared: bool
    detected: bool
    """Whether different draws gave different outputs for the same images."""
    repeatable: bool
    """Whether the same draw gave the same output twice."""
    uses_global_rng: bool
    """Whether the output changed with the global generators' state alone."""


class GradientEvidence(_Evidence):
    """Health of the gradients that a tier follows (S7)."""

    path: str
    tier: str
    n: int
    zero_share: Value
    """Share of images whose gradient is exactly 0."""
    nonfinite_share: Value
    norm_low: Value
    """10% quantile of the norms of the gradients."""
    norm_median: Value
    norm_high: Value
    """90% quantile."""
    cosine: Value
    """Mean cosine of gradients averaged over two halves of the draws; NaN if the path
    draws nothing."""
    slope_error: Value
    """Median relative error of the slope along the gradient's own direction against
    central differences of the same function. NaN where not measured: for paths that
    draw, tiers that approximate, and projections, which float32 cannot resolve."""
    gain: Value
    """Share of images whose loss rises after a small step along the gradient's sign."""


class NoiseEvidence(_Evidence):
    """Uniform noise of the threat's radius, the worst of some draws (S6)."""

    path: str
    norm: str
    eps: Value
    draws: int
    n: int
    accuracy: Value
    """Share of the images right under every draw."""


class SweepEvidence(_Evidence):
    """Accuracy of a path under one attack at one radius, on the same images (S2)."""

    path: str
    attack: str
    tier: str
    factor: Value
    """Radius as a multiple of the attack's own; infinity for the whole pixel range."""
    eps: Value
    n: int
    accuracy: Value


class ConvergenceEvidence(_Evidence):
    """The same search with twice the work, on the same images (S4)."""

    path: str
    attack: str
    tier: str
    n: int
    accuracy: Value
    longer_accuracy: Value
    what: str
    """What was doubled, such as `steps 40 -> 80`."""


class RoundingEvidence(_Evidence):
    """Attacked images after rounding to 8 bits (S9)."""

    path: str
    attack: str
    tier: str
    n: int
    accuracy: Value
    rounded_accuracy: Value


class ReachEvidence(_Evidence):
    """How far an attack can travel (S12)."""

    attack: str
    tier: str
    travel: Value
    needed: Value


class DataEvidence(_Evidence):
    """What the data set promised, for S16."""

    split: str
    asked: int
    found: int
    label_counts: tuple[int, ...]
    duplicate_images: int


class Evidence(_Evidence):
    """All that was measured for one pair."""

    dataset: str
    classifier: str
    seconds: Value
    """What the probes took."""
    run_seconds: Value
    """What the rest of the pair's run took."""
    outputs: tuple[OutputEvidence, ...] = ()
    randomness: tuple[RandomnessEvidence, ...] = ()
    gradients: tuple[GradientEvidence, ...] = ()
    noise: tuple[NoiseEvidence, ...] = ()
    sweeps: tuple[SweepEvidence, ...] = ()
    convergence: tuple[ConvergenceEvidence, ...] = ()
    rounding: tuple[RoundingEvidence, ...] = ()
    reach: tuple[ReachEvidence, ...] = ()
    data: tuple[DataEvidence, ...] = ()
    skipped_tiers: tuple[tuple[str, str, str], ...] = ()
    """`(path, tier, reason)` of what a suite asked for and a defense cannot offer."""
    address: str = ""
    """Fingerprint of all that it was measured on; the same is not measured again."""


def save_evidence(evidence: Evidence, path: Path) -> None:
    """Writes the evidence of a pair, whole or not at all."""
    write_text(path, evidence.model_dump_json(indent=1) + "\n")


def load_evidence(path: Path) -> Evidence:
    """Reads evidence written by `save_evidence`.

    Raises:
        RequestError: the file is missing or damaged.
    """
    try:
        return Evidence.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RequestError(
            f"{path}: not readable as evidence of checks. Run the suite again; what "
            "is whole will be reused."
        ) from error
