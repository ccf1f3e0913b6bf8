"""Ensembles scored by other rules than robustgen's, and differences with a test."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
from scipy.special import softmax

from robustgen.ensembling import (
    EnsembleRule,
    choose_alpha,
    decide,
    drawn_members,
    mix,
)
from robustgen.intervals import paired_difference
from robustgen.seeding import numpy_rng

Array: TypeAlias = np.ndarray
Tie: TypeAlias = Literal["largest", "smallest", "quicksort"]

RULE = EnsembleRule()
"""31 members, 20 resamples, 21 alphas."""

FLIPS = 10_000
"""Random signs of the sign-flip test."""


@dataclass(frozen=True, eq=False)
class Members:
    """Logits that an ensemble is made of.

    Args:
        label: True classes, [N].
        image: Logits of the image, [N, K].
        pool: Logits of the members of the pool, [N, M, K].
    """

    label: Array
    image: Array
    pool: Array


@dataclass(frozen=True)
class Rule:
    """How an ensemble decides; the defaults are robustgen's.

    Args:
        average: What is averaged: softmax outputs, or logits.
        draw: `resample` draws 31 members with replacement, `full` as many as there are,
            `once` takes every member once.
        tie: Which of several equally good alphas wins.
        resamples: Number of resamples.
    """

    average: Literal["probabilities", "logits"] = "probabilities"
    draw: Literal["resample", "full", "once"] = "resample"
    tie: Tie = "largest"
    resamples: int = RULE.resamples

    def members(self, pool: int) -> list[Array]:
        """Positions in the pool of each resample's members."""
        if self.draw == "once":
            return [np.arange(pool)]
        size = RULE.size if self.draw == "resample" else pool
        return [drawn_members(seed, pool, size) for seed in range(self.resamples)]


def sweep(members: Members, rule: Rule) -> Array:
    """Whether each image is right, by resample and alpha: [R, A, N]."""
    as_logits = rule.average == "logits"
    image = members.image.astype(np.float64)
    pool = members.pool.astype(np.float64)
    if not as_logits:
        image, pool = softmax(image, axis=-1), softmax(pool, axis=-1)
    right: list[Array] = []
    for drawn in rule.members(pool.shape[1]):
        mixed = mix(image[None], pool[:, drawn].mean(axis=1)[None], RULE.grid)
        mixed = softmax(mixed, axis=-1) if as_logits else mixed
        right.append(decide(mixed) == members.label)
    return np.stack(right)


def best_alphas(correct: Array, tie: Tie) -> Array:
    """Position of each resample's best alpha on validation images.

    Args:
        correct: [R, A, N], from `sweep`.
        tie: `quicksort` is `accuracy.argsort().iloc[-1]` of the released notebook.
    """
    if tie == "largest":
        return choose_alpha(correct)
    if tie == "smallest":
        return correct.sum(axis=2).argmax(axis=1)
    accuracy = correct.mean(axis=2)
    return np.array([int(pd.Series(row).argsort().iloc[-1]) for row in accuracy])


def resampled(test: Members, val: Members, rule: Rule | None = None) -> Array:
    """Whether each test image is right, [R, N], at the alphas of validation images."""
    rule = Rule() if rule is None else rule
    chosen = best_alphas(sweep(val, rule), rule.tie)
    return sweep(test, rule)[np.arange(len(chosen)), chosen]


def scored(test: Members, val: Members, rule: Rule | None = None) -> Array:
    """Share of the resamples that are right on each test image, [N]."""
    return resampled(test, val, rule).mean(axis=0)


def right(logits: Array, label: Array) -> Array:
    """1 where the classifier is right, else 0."""
    return (decide(softmax(logits.astype(np.float64), axis=-1)) == label).astype(float)


def resample_bar(correct: Array) -> float:
    """Error bar of the released notebook: std over the resamples / sqrt(resamples).

    >>> round(resample_bar(np.array([[1, 1], [1, 0]])), 4)  # accuracies 1 and 1/2
    0.1768
    """
    accuracy = correct.mean(axis=1)
    return float(accuracy.std() / np.sqrt(len(accuracy)))


def image_bar(values: Array, rng: np.random.Generator, draws: int = 2000) -> float:
    """Standard error by bootstrap over images.

    Args:
        values: One number per image.
        rng: Source of the draws. Consumed.
        draws: Number of bootstrap samples.
    """
    rows = rng.integers(len(values), size=(draws, len(values)))
    return float(values[rows].mean(axis=1).std())


def sign_flip_p(delta: Array, rng: np.random.Generator) -> float:
    """Two-sided p that paired differences have no direction.

    For differences of -1, 0 and 1 it is McNemar's exact test, up to the randomness of
    `FLIPS` draws. Unlike a percentile bootstrap it does not call four images that all
    changed for the better a difference.

    Args:
        delta: Second minus first, one number per image.
        rng: Source of the signs. Consumed.
    """
    moved = delta[delta != 0].astype(np.float64)
    if not len(moved):
        return 1.0
    signs = rng.choice(np.array([-1.0, 1.0]), size=(FLIPS, len(moved)))
    # The same sum in another order is as far, whatever rounding says.
    least = abs(moved.sum()) - 1e-9 * np.abs(moved).sum()
    as_far = np.abs(signs @ moved) >= least
    return float((1 + as_far.sum()) / (1 + FLIPS))


@dataclass(frozen=True)
class Row:
    """One line of what is printed.

    Args:
        name: Which departure.
        what: Data, attack and path, or the quantity.
        ours: Figure of robustgen.
        other: Figure of the other choice.
        difference: Other minus robustgen, with its interval.
        p: Sign-flip test of the difference; None where there is none.
    """

    name: str
    what: str
    ours: str
    other: str
    difference: str = ""
    p: float | None = None

    def __str__(self) -> str:
        p = "" if self.p is None else "< 0.001" if self.p < 0.001 else f"{self.p:.3f}"
        cells = (self.name, self.what, self.ours, self.other, self.difference, p)
        return f"| {' | '.join(cells)} |"


def compare(
    name: str, what: str, ours: Array, other: Array, *, form: str = ".3f"
) -> Row:
    """Means of both choices and their paired difference over images.

    Args:
        name: Which departure.
        what: Data, attack and path.
        ours: One number per image.
        other: The same for the other choice.
        form: Format of a figure.
    """
    rng = numpy_rng(0, "departures", name, what)
    change = paired_difference(ours, other, rng)
    ends = f"[{change.low:+{form}}, {change.high:+{form}}]"
    return Row(
        name=name,
        what=what,
        ours=f"{ours.mean():{form}}",
        other=f"{other.mean():{form}}",
        difference=(
            f"{change.mean:+{form}} {ends}; {change.gained} up, {change.lost} down"
        ),
        p=sign_flip_p(other - ours, rng),
    )


def count_of(changed: Sequence[bool] | Array) -> str:
    """How many of how many.

    >>> count_of([True, False, False])
    '1 of 3'
    """
    return f"{int(np.sum(changed))} of {len(changed)}"
