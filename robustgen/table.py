"""The prediction table: where the doing arm ends and the counting arm begins.

One table holds what one case predicted on one split: probabilities of every path
and view, and what the attack and the projection cost. No torch here.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32, Int64, Shaped

from robustgen.errors import RequestError
from robustgen.files import write_bytes
from robustgen.names import DEFENSE

Arrays: TypeAlias = dict[str, Shaped[np.ndarray, "..."]]

TABLE_VERSION = 2

SINGLE_PATHS = ("image", "reconstruction")
ENSEMBLE_PATHS = ("stylemix_ensemble", "combined_ensemble", "image_ensemble")
PATHS = (*SINGLE_PATHS, *ENSEMBLE_PATHS, DEFENSE)
GROUPS = ("single", "views", "cost", "draws", "fixed")
"""Arrays of a table, by path or by name."""


@dataclass(frozen=True)
class TableKey:
    """What a table is about.

    Args:
        dataset: Name of the data set.
        classifier: Name of the classifier.
        attack: Name of the attack preset; `clean` for none.
        tier: What the attack knew: `none` for clean, else `oblivious`, ...
        norm: `none`, `linf` or `l2`.
        eps: Radius in pixel units of [0, 1]; infinity for a minimum-norm attack.
        split: `val` or `test`.
        target: Path of the defense that the attack was aimed at; empty for an attack
            that does not know the defense.
    """

    dataset: str
    classifier: str
    attack: str
    tier: str
    norm: str
    eps: float
    split: str
    target: str = ""


@dataclass(frozen=True)
class PredictionTable:
    """Predictions of one case on one split; N samples, K classes, V views.

    Args:
        key: What the table is about.
        class_names: The K names of the classes.
        sample: Index of each sample in its data set, [N].
        label: True class, [N].
        single: Probabilities [N, K] by path, for the paths that a suite asked for
            among `image` and `reconstruction`.
        views: Probabilities [N, V, K] by path, for the ensemble paths asked for. The
            pool that an ensemble draws from is the reconstruction and these views;
            for `image_ensemble` it is the image and these views.
        cost: Numbers per sample, [N] each: `distance_linf`, `distance_l2` (attacked
            to clean image, pixel units), `attack_forwards`, `attack_backwards`,
            `attack_success` (0 or 1: the attacked model was wrong on the image that the
            attack returned), `first_success` (its forward passes until the first
            misclassified image; NaN if there was none), `margin_first`, `margin_best`,
            `margin_last` (lead of the best wrong class at its first, strongest and last
            pass), `initial_loss`, `final_loss`, `projection_passes`, `psnr`
            (reconstruction to attacked image, dB), `rounded_correct` (0 or 1: right
            after rounding the attacked image to 8 bits: the image path, or the path
            aimed at in its first draw), `select_margin` (mean lead on the
            selection stream, for attacks aimed at a path).
        draws: Probabilities [N, R, K] of R independent draws of a whole path, on the
            scoring stream: the path that an attack was aimed at, and `defense`. R is 1
            for a path that draws nothing.
        fixed: Probabilities [N, K] of one draw that the attacker knew, on images made
            for that draw; for random paths where the suite asks for it.
        alpha: Weight of the views in `draws` and `fixed`, by ensemble path.
    """

    key: TableKey
    class_names: tuple[str, ...]
    sample: Int64[np.ndarray, " n"]
    label: Int64[np.ndarray, " n"]
    single: Mapping[str, Float32[np.ndarray, "n k"]]
    views: Mapping[str, Float32[np.ndarray, "n v k"]]
    cost: Mapping[str, Float32[np.ndarray, " n"]]
    draws: Mapping[str, Float32[np.ndarray, "n r k"]] = field(
        default_factory=dict[str, np.ndarray]
    )
    fixed: Mapping[str, Float32[np.ndarray, "n k"]] = field(
        default_factory=dict[str, np.ndarray]
    )
    alpha: Mapping[str, float] = field(default_factory=dict[str, float])


def table_bytes(table: PredictionTable) -> bytes:
    """A table in the form of a `.npz` file."""
    header = {
        "version": TABLE_VERSION,
        "key": vars(table.key),
        "class_names": table.class_names,
        "alpha": dict(table.alpha),
    }
    arrays: Arrays = {
        "header": np.array(json.dumps(header)),
        "sample": table.sample,
        "label": table.label,
    }
    for group in GROUPS:
        for name, values in getattr(table, group).items():
            arrays[f"{group}/{name}"] = values
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # pyright: ignore[reportArgumentType]
    return stream.getvalue()


def save_table(table: PredictionTable, path: Path) -> None:
    """Writes a table as one `.npz` file, whole or not at all."""
    write_bytes(path, table_bytes(table))


def load_table(path: Path) -> PredictionTable:
    """Reads a table written by `save_table`.

    Raises:
        RequestError: the file is missing, damaged, or of a newer version.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RequestError(
            f"{path}: not a readable prediction table ({error}). "
            "Run the suite again; what is whole will be reused."
        ) from error
    return read_table(content, str(path))


def read_table(content: bytes, name: str) -> PredictionTable:
    """A table from the bytes of `table_bytes`.

    Args:
        content: The bytes.
        name: What a message calls them.

    Raises:
        RequestError: they are damaged, or of a newer version.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as data:
            header = json.loads(str(data["header"]))
            arrays = {name: data[name] for name in data.files}
        version = header["version"]
    except Exception as error:
        raise RequestError(
            f"{name}: not a readable prediction table ({error}). "
            "Run the suite again; what is whole will be reused."
        ) from error
    if version != TABLE_VERSION:
        raise RequestError(
            f"{name}: table version {version}, but this robustgen reads "
            f"version {TABLE_VERSION}. Run the suite again with --fresh."
        )

    def group(prefix: str) -> Arrays:
        start = f"{prefix}/"
        return {
            k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)
        }

    return PredictionTable(
        key=TableKey(**header["key"]),
        class_names=tuple(header["class_names"]),
        sample=arrays["sample"],
        label=arrays["label"],
        single=group("single"),
        views=group("views"),
        cost=group("cost"),
        draws=group("draws"),
        fixed=group("fixed"),
        alpha=header["alpha"],
    )


def take_rows(table: PredictionTable, rows: Sequence[int]) -> PredictionTable:
    """Some samples of a table, in the order of `rows`."""
    chosen = np.asarray(rows, np.int64)

    def group(name: str) -> Arrays:
        return {key: values[chosen] for key, values in getattr(table, name).items()}

    return PredictionTable(
        key=table.key,
        class_names=table.class_names,
        sample=table.sample[chosen],
        label=table.label[chosen],
        alpha=table.alpha,
        **{name: group(name) for name in GROUPS},
    )


def join_tables(tables: Sequence[PredictionTable]) -> PredictionTable:
    """The samples of several tables of one case, in order."""
    first = tables[0]

    def group(name: str) -> Arrays:
        return {
            key: np.concatenate([getattr(table, name)[key] for table in tables])
            for key in getattr(first, name)
        }

    return PredictionTable(
        key=first.key,
        class_names=first.class_names,
        sample=np.concatenate([table.sample for table in tables]),
        label=np.concatenate([table.label for table in tables]),
        alpha=first.alpha,
        **{name: group(name) for name in GROUPS},
    )
