"""Scores the prediction files that the released code writes.

The layout is that of chail/gan-ensembling: `gan_ensemble_*.npz` holds probabilities
of the image (`original`), of its reconstruction (`reconstructed`), of the views of one
family, and the labels; `image_ensemble_imcrop.npz` beside it holds crops of the image.
Binary classifiers store p(class 1) without a class axis.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypedDict

import numpy as np
from jaxtyping import Float64, Int, Int64, Shaped

from robustgen.ensembling import (
    EnsembleRule,
    choose_alpha,
    correct_by_alpha,
    pooled_means,
)
from robustgen.errors import RequestError, suggestion

Arrays: TypeAlias = dict[str, Shaped[np.ndarray, "..."]]

CROPS_FILE = "image_ensemble_imcrop.npz"
_SHARED_KEYS = frozenset({"original", "reconstructed", "label", "random_seed"})


class Scores(TypedDict):
    """Accuracy by the released rule; every accuracy is a share of 1."""

    mean: float
    """Mean over the resamples of the test accuracy at each one's alpha."""
    stderr: float
    """Standard deviation over the resamples (ddof 0) over the root of their number.
    It measures the draw of views, not of images, and shrinks with more resamples."""
    alphas: Float64[np.ndarray, " resample"]
    """The alpha chosen on validation images, per resample; the largest tied one."""
    val_curves: Float64[np.ndarray, "resample alpha"]
    """Validation accuracy at every alpha of the grid."""
    test_curves: Float64[np.ndarray, "resample alpha"]
    """Test accuracy at every alpha of the grid."""


@dataclass(frozen=True)
class _Predictions:
    """One released file: what is averaged into the image term and the view term."""

    path: Path
    label: Int64[np.ndarray, " n"]
    image_term: Float64[np.ndarray, "#resample n k"]
    pooled: Float64[np.ndarray, "resample n k"]


def score_predictions(
    val_npz: Path | str,
    test_npz: Path | str,
    family: str = "stylemix_fine",
    ensemble_size: int = 31,
    image_crops: bool = False,
) -> Scores:
    """Accuracy of an ensemble by the released rule, over 20 resamples and 21 alphas.

    Args:
        val_npz: Released file of the validation images, on which alpha is chosen.
        test_npz: Released file of the test images.
        family: Name of the views' array in both files, such as `stylemix_fine`.
        ensemble_size: Members drawn per resample: 31 for one image and 31 views; 16
            with `image_crops`.
        image_crops: The protocol for cars: the image term is not the image but a mean
            of `ensemble_size` draws from the image and its crops, read from
            `image_ensemble_imcrop.npz` beside each file and drawn with the seed of
            the views.

    Raises:
        RequestError: a file is missing or damaged, or does not hold what is asked for.
    """
    if ensemble_size < 1:
        raise RequestError(f"`ensemble_size={ensemble_size}` must be 1 or more.")
    rule = EnsembleRule(size=ensemble_size)
    val, test = (
        _read_predictions(Path(path), family, rule, image_crops)
        for path in (val_npz, test_npz)
    )
    if val.pooled.shape[2] != test.pooled.shape[2]:
        raise RequestError(
            f"{test.path}: {test.pooled.shape[2]} classes, but {val.path} has "
            f"{val.pooled.shape[2]}."
        )
    val_correct, test_correct = (
        correct_by_alpha(split.image_term, split.pooled, split.label, rule.grid)
        for split in (val, test)
    )
    chosen = choose_alpha(val_correct)
    test_curves = test_correct.mean(axis=2)
    accuracies = test_curves[np.arange(rule.resamples), chosen]
    return Scores(
        mean=float(accuracies.mean()),
        stderr=float(accuracies.std() / np.sqrt(rule.resamples)),
        alphas=rule.grid[chosen],
        val_curves=val_correct.mean(axis=2),
        test_curves=test_curves,
    )


def _read_predictions(
    path: Path, family: str, rule: EnsembleRule, image_crops: bool
) -> _Predictions:
    arrays = _read_arrays(path)
    label = _labels(path, arrays)
    original = _members(path, arrays, ("original",), label)
    pool = _members(path, arrays, ("reconstructed", family), label)
    classes = original.shape[2]
    if label.max() >= classes or label.min() < 0:
        raise RequestError(
            f"{path}: `label` runs from {label.min()} to {label.max()}, but the "
            f"probabilities have {classes} classes."
        )
    image_term = original[None, :, 0]
    if image_crops:
        crops_path = path.parent / CROPS_FILE
        crops = _read_arrays(crops_path)
        if not np.array_equal(_labels(crops_path, crops), label):
            raise RequestError(f"{crops_path}: labels differ from those of {path}.")
        members = _members(crops_path, crops, ("original", "imcrop"), label)
        image_term = pooled_means(members, rule)
    if not pool.shape[2] == image_term.shape[2] == classes:
        raise RequestError(
            f"{path}: image, views and crops have {classes}, {pool.shape[2]} and "
            f"{image_term.shape[2]} classes."
        )
    return _Predictions(path, label, image_term, pooled_means(pool, rule))


def _read_arrays(path: Path) -> Arrays:
    if not path.is_file():
        raise RequestError(
            f"{path}: no such file. Name a prediction file of the released layout."
        )
    try:
        # NumPy leaves a file that it cannot read open; this closes it.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as data:
            return {name: data[name] for name in data.files}
    # A damaged archive fails in as many ways as there are layers to its format.
    except Exception as error:
        raise RequestError(
            f"{path}: not a readable .npz file ({error}). Copy it again."
        ) from error


def _array(path: Path, arrays: Arrays, name: str) -> Shaped[np.ndarray, "..."]:
    if name in arrays:
        return arrays[name]
    known = arrays.keys() if name in _SHARED_KEYS else arrays.keys() - _SHARED_KEYS
    raise RequestError(f"{path}: no array '{name}'. {suggestion(name, known)}")


def _labels(path: Path, arrays: Arrays) -> Int64[np.ndarray, " n"]:
    label = _array(path, arrays, "label")
    if label.ndim not in (1, 2) or label.size != len(label) or label.size == 0:
        raise RequestError(
            f"{path}: `label` has shape {label.shape}, expected [N, 1] with N >= 1."
        )
    whole = label.reshape(-1).astype(np.int64)
    if not np.array_equal(whole, label.reshape(-1)):
        raise RequestError(f"{path}: `label` holds values that are not whole numbers.")
    return whole


def _members(
    path: Path, arrays: Arrays, names: tuple[str, ...], label: Int[np.ndarray, " n"]
) -> Float64[np.ndarray, "n member k"]:
    """Arrays side by side, with the class axis that binary files omit."""
    parts: list[Float64[np.ndarray, "n member k"]] = []
    for name in names:
        values = _array(path, arrays, name)
        if values.ndim not in (2, 3) or len(values) != len(label) or values.size == 0:
            raise RequestError(
                f"{path}: `{name}` has shape {values.shape}, expected "
                f"[{len(label)}, views] or [{len(label)}, views, classes]."
            )
        in_range = values.dtype.kind == "f" and bool(
            ((values >= 0) & (values <= 1)).all()
        )
        if not in_range:
            raise RequestError(
                f"{path}: `{name}` holds values that are not probabilities in [0, 1]."
            )
        exact = values.astype(np.float64)
        parts.append(
            np.stack([1 - exact, exact], axis=-1) if exact.ndim == 2 else exact
        )
    if len({part.shape[2] for part in parts}) > 1:
        shapes = ", ".join(f"`{name}` {arrays[name].shape}" for name in names)
        raise RequestError(
            f"{path}: arrays differ in their number of classes: {shapes}."
        )
    return np.concatenate(parts, axis=1)
