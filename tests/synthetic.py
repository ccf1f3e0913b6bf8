"""Prediction tables of known accuracy, for tests of everything that counts them."""

from collections.abc import Mapping, Sequence

import numpy as np

from robustgen.table import PredictionTable, TableKey

VIEWS = 32
TIERS = {
    "clean": ("none", "none", 0.0),
    "pgd": ("oblivious", "linf", 8 / 255),
    "jpeg": ("none", "none", float("inf")),
}
RIGHT_IMAGE, RIGHT_VIEW, WRONG = 0.9, 0.7, 0.2


def make_table(
    attack: str,
    split: str,
    right: Mapping[str, Sequence[bool]],
    *,
    classes: int = 2,
    views: int = VIEWS,
) -> PredictionTable:
    """A table whose paths give the true class a high or a low probability.

    The image gives a true class 0.9, everything else 0.7, and a wrong decision 0.2;
    the class after it has the rest. So where image and views disagree, an ensemble
    follows the image up to alpha 0.55 if the image is right, and to 0.6 if it is not.

    Args:
        attack: `clean`, `pgd`, or another name for an oblivious minimum-norm attack.
        split: `val` or `test`.
        right: Whether each sample is right, by path.
        classes: Number of classes.
        views: Views of a sample, all alike.
    """
    n = len(next(iter(right.values())))
    label = np.arange(n) % classes
    tier, norm, eps = TIERS.get(attack, ("oblivious", "l2", float("inf")))

    def predictions(path: str) -> np.ndarray:
        high = RIGHT_IMAGE if path == "image" else RIGHT_VIEW
        share = np.where(np.array(right[path], bool), high, WRONG)
        probabilities = np.zeros((n, classes), np.float32)
        probabilities[np.arange(n), label] = share
        probabilities[np.arange(n), (label + 1) % classes] = 1 - share
        return probabilities

    singles = [path for path in right if not path.endswith("_ensemble")]
    ensembles = [path for path in right if path.endswith("_ensemble")]
    return PredictionTable(
        key=TableKey("faces", "cnn", attack, tier, norm, eps, split),
        class_names=tuple(f"class{i}" for i in range(classes)),
        sample=np.arange(100, 100 + n),
        label=label,
        single={path: predictions(path) for path in singles},
        views={
            path: np.repeat(predictions(path)[:, None], views, axis=1)
            for path in ensembles
        },
        cost={
            "distance_linf": np.full(n, eps if eps < 1 else 0.1, np.float32),
            "distance_l2": np.linspace(0, 1, n, dtype=np.float32),
            "attack_forwards": np.full(n, 41, np.float32),
            "attack_backwards": np.full(n, 40, np.float32),
            "initial_loss": np.full(n, 0.5, np.float32),
            "final_loss": np.full(n, 0.25, np.float32),
            "projection_passes": np.full(n, 12, np.float32),
        },
    )


def first(count: int, n: int = 10) -> list[bool]:
    """The first `count` of `n` samples are right."""
    return [i < count for i in range(n)]


def make_run(classes: int = 2) -> list[PredictionTable]:
    """Clean and PGD tables of both splits, ten samples each.

    On clean validation images the views are wrong once, so that the largest best
    alpha is 0.55; under PGD the image is wrong nine times, so that it is 1.
    """
    clean = {
        "image": first(10),
        "reconstruction": first(9),
        "stylemix_ensemble": first(9),
        "combined_ensemble": first(9),
        "image_ensemble": first(9),
    }
    pgd = {
        "image": first(1),
        "reconstruction": first(7),
        "stylemix_ensemble": first(8),
        "combined_ensemble": first(9),
        "image_ensemble": first(2),
    }
    return [
        make_table(attack, split, right, classes=classes)
        for attack, right in (("clean", clean), ("pgd", pgd))
        for split in ("val", "test")
    ]
