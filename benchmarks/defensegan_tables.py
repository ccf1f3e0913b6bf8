"""What the measurements of `defensegan.py` add up to: tables, ratios, intervals."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tabulate import tabulate

from robustgen.errors import RequestError
from robustgen.intervals import (
    BOOTSTRAP_RESAMPLES,
    CONFIDENCE,
    Difference,
    Interval,
    paired_difference,
    wilson_interval,
)
from robustgen.seeding import numpy_rng

THEIRS, OURS, BARE = "defensegan", "ours", "bare"
"""Families of settings: Defense-GAN's projection, the suite's, and no projection."""

PUBLISHED: dict[str, tuple[str, str, str]] = {
    "clean": ("none", "0.997", ""),
    "fgsm": ("FGSM, eps 0.3", "0.217", "0.988"),
    "rand_fgsm": ("RAND+FGSM, eps 0.3, alpha 0.05", "0.179", "0.988"),
    "cw_published": ("CW, 100 steps, rate 10, c 100", "0.141", "0.989"),
    "cw": ("CW, preset `cw`", "", ""),
}
"""By attack of the suite: what it is; accuracy of the classifier undefended; accuracy
of Defense-GAN-Rec. Claims of arXiv:1805.06605, table 4, MNIST, model A."""

LEFT_OUT = ("cw_published",)
"""Attacks that count in no mean over attacks: they leave nothing of the image."""


@dataclass(frozen=True)
class Setting:
    """One way to project an image.

    Args:
        family: `defensegan`, `ours` or `bare`.
        restarts: Searches of an image; 1 for ours, 0 for none.
        passes: Evaluations of loss and gradient of each.
    """

    family: str
    restarts: int
    passes: int

    @property
    def budget(self) -> int:
        """Passes of an image, over all restarts."""
        return self.restarts * self.passes

    @property
    def label(self) -> str:
        """What tables call it."""
        if self.family == BARE:
            return "no projection"
        if self.family == THEIRS:
            return f"R = {self.restarts}, L = {self.passes}"
        if self.passes == 0:
            return "encoder alone"
        return f"{self.passes} pass{'es' if self.passes > 1 else ''}"


@dataclass(frozen=True, eq=False)
class Measured:
    """What a setting made of the images of one classifier under one attack.

    Args:
        setting: How they were projected.
        classifier: Name of the classifier.
        attack: Name of the attack.
        right: Whether each image is classified right, 1.0 or 0.0, [N].
        l1: Mean absolute difference of picture and projected image, [N].
        mse: Mean squared difference of the same, [N].
        l2_clean: Euclidean length of picture less clean image, [N]; without a
            projection, that of the attack.
        passes: Evaluations of loss and gradient spent, [N].
        seconds: CPU seconds of each batch, [B].
        timed: Images of each batch, [B].
    """

    setting: Setting
    classifier: str
    attack: str
    right: np.ndarray
    l1: np.ndarray
    mse: np.ndarray
    l2_clean: np.ndarray
    passes: np.ndarray
    seconds: np.ndarray
    timed: np.ndarray

    def record(self) -> dict[str, Any]:
        """Plain JSON values, of which `measured_of` makes the same again."""
        setting = self.setting
        return {
            "family": setting.family,
            "restarts": setting.restarts,
            "iterations": setting.passes,
            "classifier": self.classifier,
            "attack": self.attack,
            **{name: getattr(self, name).tolist() for name in ARRAYS},
        }


ARRAYS = ("right", "l1", "mse", "l2_clean", "passes", "seconds", "timed")


def measured_of(record: dict[str, Any]) -> Measured:
    """What `Measured.record` wrote."""
    setting = Setting(record["family"], record["restarts"], record["iterations"])
    arrays = {name: np.asarray(record[name], dtype=np.float64) for name in ARRAYS}
    return Measured(setting, record["classifier"], record["attack"], **arrays)


def chosen(
    rows: Iterable[Measured],
    *,
    family: str | None = None,
    classifier: str | None = None,
    attack: str | None = None,
) -> list[Measured]:
    """The measurements that have these names; None stands for any."""
    return [
        row
        for row in rows
        if family in (None, row.setting.family)
        and classifier in (None, row.classifier)
        and attack in (None, row.attack)
    ]


@dataclass(frozen=True, eq=False)
class Point:
    """A setting over one or more classifiers and attacks, image by image.

    Args:
        setting: How images were projected.
        right: Share of the classifiers and attacks under which an image is right, [N].
        l1, mse, l2_clean, passes: Means over the same, and over images.
        seconds, timed: Batches of all of them, one after the other.
    """

    setting: Setting
    right: np.ndarray
    l1: float
    mse: float
    l2_clean: float
    passes: float
    seconds: np.ndarray
    timed: np.ndarray

    @property
    def accuracy(self) -> float:
        """Mean over images."""
        return float(self.right.mean())

    @property
    def milliseconds(self) -> float:
        """CPU milliseconds of an image."""
        return 1000 * float(self.seconds.sum() / self.timed.sum())


def points_of(rows: Sequence[Measured], family: str) -> list[Point]:
    """The settings of a family, fewest passes first.

    An image that stands under several attacks counts once, by its mean: draws of it
    are no independent samples.
    """
    settings = {row.setting for row in chosen(rows, family=family)}
    found: list[Point] = []
    for setting in sorted(settings, key=lambda one: (one.budget, one.restarts)):
        own = [row for row in rows if row.setting == setting]
        means = {
            name: float(np.mean([getattr(row, name) for row in own]))
            for name in ("l1", "mse", "l2_clean", "passes")
        }
        right = np.mean([row.right for row in own], axis=0)
        seconds = np.concatenate([row.seconds for row in own])
        timed = np.concatenate([row.timed for row in own])
        found.append(Point(setting, right, seconds=seconds, timed=timed, **means))
    return found


def cheapest(points: Iterable[Point], goal: float) -> Point | None:
    """The setting of fewest passes whose accuracy is `goal` or more; None if none is.

    By the accuracy measured: the interval beside it says how sure that is.
    """
    reaching = (point for point in points if point.accuracy >= goal - 1e-9)
    return min(reaching, key=lambda point: point.setting.budget, default=None)


def ratio_interval(
    slow: np.ndarray, fast: np.ndarray, rng: np.random.Generator
) -> Interval:
    """Percentile bootstrap over batches of the ratio of total times.

    Args:
        slow: Seconds of each batch, [B].
        fast: Seconds of the same batches by another way, [B].
        rng: Source of the resamples. Consumed.
    """
    rows = rng.integers(len(slow), size=(BOOTSTRAP_RESAMPLES, len(slow)))
    ratios = slow[rows].sum(axis=1) / fast[rows].sum(axis=1)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(ratios, [tail, 100 - tail])
    return Interval(float(low), float(high))


def groups_of(rows: Sequence[Measured]) -> list[tuple[str, list[Measured]]]:
    """All but `LEFT_OUT` together, then each classifier under each attack."""
    pairs = dict.fromkeys((row.classifier, row.attack) for row in rows)
    named = [
        (f"{attack}, {classifier}", chosen(rows, classifier=classifier, attack=attack))
        for classifier, attack in pairs
    ]
    return [("all", pooled(rows)), *named]


def pooled(rows: Sequence[Measured]) -> list[Measured]:
    """The measurements that a mean over attacks counts."""
    return [row for row in rows if row.attack not in LEFT_OUT]


def equal_passes(rows: Sequence[Measured], seed: int) -> str:
    """Table: both projections at the passes that both were given, over all attacks."""
    counted = pooled(rows)
    ours = {point.setting.budget: point for point in points_of(counted, OURS)}
    lines: list[list[str]] = []
    for theirs in points_of(counted, THEIRS):
        budget = theirs.setting.budget
        if budget not in ours:
            continue
        mine = ours[budget]
        found = difference(theirs, mine, seed)
        lines.append(
            [
                str(budget),
                theirs.setting.label,
                *both(theirs, mine, lambda point: f"{point.accuracy:.3f}"),
                signed(found),
                *both(theirs, mine, lambda point: f"{point.l1:.4f}"),
                *both(theirs, mine, lambda point: f"{point.mse:.4f}"),
                *both(theirs, mine, lambda point: f"{point.milliseconds:.0f}"),
            ]
        )
    headers = (
        "passes", "Defense-GAN", "accuracy", "ours", "ours − theirs",
        "L1", "ours", "MSE", "ours", "ms per image", "ours",
    )  # fmt: skip
    return markdown(lines, headers)


def equal_accuracy(rows: Sequence[Measured], seed: int) -> str:
    """Table: what each needs to reach Defense-GAN's accuracy at its most passes."""
    lines: list[list[str]] = []
    for title, group in groups_of(rows):
        theirs = points_of(group, THEIRS)
        reference = theirs[-1]
        least = cheapest(theirs, reference.accuracy) or reference
        ours = cheapest(points_of(group, OURS), reference.accuracy)
        start = [title, f"{reference.accuracy:.3f}", needs(reference)]
        if reference.accuracy == 0:
            lines.append([*start, *["nothing to reach"] * 2, "", "", "", ""])
            continue
        start.append(needs(least))
        if ours is None:
            best = max(points_of(group, OURS), key=lambda point: point.accuracy)
            reached = [
                f"{best.accuracy:.3f}",
                signed(difference(reference, best, seed)),
            ]
            lines.append([*start, f"none; best {needs(best)}", *reached, "", ""])
            continue
        lines.append(
            [
                *start,
                needs(ours),
                f"{ours.accuracy:.3f}",
                signed(difference(reference, ours, seed)),
                faster(reference, ours, seed),
                faster(least, ours, seed),
            ]
        )
    headers = (
        "attack, classifier", "goal", "Defense-GAN as published",
        "Defense-GAN, fewest passes", "ours, fewest passes", "accuracy of ours",
        "ours − goal", "times faster than published", "than fewest passes",
    )  # fmt: skip
    return markdown(lines, headers)


def beside_published(rows: Sequence[Measured], passes: int) -> str:
    """Table: the published figures, and those measured here.

    Args:
        rows: All measurements.
        passes: Passes of the suite's own projection.
    """
    lines: list[list[str]] = []
    for attack, (title, undefended, defended) in PUBLISHED.items():
        for classifier in dict.fromkeys(row.classifier for row in rows):
            group = chosen(rows, classifier=classifier, attack=attack)
            if not group:
                continue
            mine = [p for p in points_of(group, OURS) if p.setting.passes == passes]
            bare = points_of(group, BARE)[-1]
            lines.append(
                [
                    title,
                    undefended,
                    defended,
                    classifier,
                    f"{bare.l2_clean:.2f}",
                    with_interval(bare),
                    with_interval(points_of(group, THEIRS)[-1]),
                    with_interval(mine[0]) if mine else "",
                ]
            )
    headers = (
        "attack", "undefended, claimed", "Defense-GAN-Rec, claimed",
        "classifier here", "L2 of the attack", "undefended", "Defense-GAN's projection",
        f"ours, {passes} passes",
    )  # fmt: skip
    return markdown(lines, headers)


def filled(text: str, name: str, table: str) -> str:
    """A document with a table put between its markers of this name.

    Raises:
        RequestError: the markers are missing or stand in the wrong order.

    >>> filled("<!-- a: start -->old<!-- a: end -->", "a", "new").split()[4]
    'new'
    """
    start, end = f"<!-- {name}: start -->", f"<!-- {name}: end -->"
    before, found, rest = text.partition(start)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise RequestError(f"The document has no '{start}' followed by '{end}'.")
    return f"{before}{start}\n\n{table}\n\n{end}{after}"


def difference(first: Point, second: Point, seed: int) -> Difference:
    """Accuracy of the second less that of the first, on the same images."""
    return paired_difference(first.right, second.right, numpy_rng(seed, "difference"))


def faster(slow: Point, fast: Point, seed: int) -> str:
    """How many times faster, with its interval."""
    low, high = ratio_interval(slow.seconds, fast.seconds, numpy_rng(seed, "ratio"))
    ratio = slow.seconds.sum() / fast.seconds.sum()
    return f"{ratio:.1f} [{low:.1f}, {high:.1f}]"


def needs(point: Point) -> str:
    """Setting, passes and time of an image."""
    return f"{point.setting.label}: {point.passes:.0f}, {point.milliseconds:.0f} ms"


def signed(found: Difference) -> str:
    """A difference with its interval."""
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def with_interval(point: Point) -> str:
    """An accuracy with its interval."""
    low, high = wilson_interval(float(point.right.sum()), len(point.right))
    return f"{point.accuracy:.3f} [{low:.3f}, {high:.3f}]"


def both(theirs: Point, ours: Point, text: Callable[[Point], str]) -> tuple[str, str]:
    """A value of both sides."""
    return text(theirs), text(ours)


def markdown(lines: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    """A Markdown table of texts as they are."""
    return tabulate(lines, headers=headers, tablefmt="github", disable_numparse=True)
