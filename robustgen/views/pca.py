"""PCA views: steps along the principal directions of the style space.

Ensembling with Deep Generative Views (Chai et al., CVPR 2021), equation 6, with the
directions of GANSpace (arXiv:2004.02546). The paper scales a direction by its
eigenvalue; the released code by its standard deviation, and so does this module.
"""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from robustgen.checkpoints import read_checkpoint, tensor_entries
from robustgen.errors import RequestError
from robustgen.files import whole_file
from robustgen.gan.layers import LayerRange
from robustgen.rngs import rng_for
from robustgen.types import Styles, StylesPlus
from robustgen.views.directions import LEADING, Directions, step_codes
from robustgen.views.draws import ViewCodes
from robustgen.views.styles import (
    ConditionalMapping,
    random_styles,
    with_positive_peak,
)

_SPELLINGS = (
    ("components", "stddev", "mean"),
    ("lat_comp", "lat_stdev", "lat_mean"),
    ("comp", "std", "mean"),
)
"""Entries of a file, by who wrote it: this package and the released code; GANSpace's
`.npz`; the `.pt` of GANSpace directions that e4e and PTI ship."""


@dataclass(frozen=True, eq=False)
class PcaStats:
    """Principal directions of a generator's style codes.

    Args:
        components: Directions of unit length, `[C, D]`, largest variance first.
        stddev: Standard deviation along each, `[C]`, in units of w.
        mean: Mean style `[D]`, or None where a released file does not have it. Views
            do not need it.
    """

    components: Float[Tensor, "component dim"]
    stddev: Float[Tensor, " component"]
    mean: Float[Tensor, " dim"] | None


def fit_pca(w: Styles, *, count: int = 80) -> PcaStats:
    """Principal component analysis of style codes, in double precision.

    The sign of a direction is arbitrary; the one whose largest entry is positive is
    taken, so that the same codes always give the same statistics.

    Args:
        w: Style codes `[M, D]`, at least two.
        count: Number of components to keep; `min(M - 1, D)` at most. GANSpace keeps 80.

    Raises:
        RequestError: there are fewer than two codes.
    """
    if len(w) < 2:
        raise RequestError(f"{len(w)} style codes have no variance: give 2 or more.")
    codes = w.detach().double()
    mean = codes.mean(dim=0)
    centered = codes - mean
    covariance = centered.T @ centered / (len(w) - 1)
    variance, vectors = torch.linalg.eigh(covariance)  # ascending
    keep = min(count, len(w) - 1, w.shape[1])
    components = vectors.T.flip(0)[:keep]  # [C, D]
    components = with_positive_peak(components)
    stddev = variance.flip(0)[:keep].clamp(min=0).sqrt()
    return PcaStats(components.float(), stddev.float(), mean.float())


def fit_gan_pca(
    gan: ConditionalMapping, *, seed: int, samples: int = 100_000, count: int = 80
) -> PcaStats:
    """Principal component analysis of a generator's own random styles.

    Args:
        gan: Generator; of a class-conditional one every class is drawn equally often
            on average.
        seed: Seed of the latents.
        samples: Number of latents. GANSpace takes 300,000 to 1,000,000; the number
            behind the released statistics is not known.
        count: Number of components to keep.
    """
    w = random_styles(gan, rng_for(seed, "pca", "fit"), samples)
    return fit_pca(w.cpu(), count=count)


def save_pca(stats: PcaStats, path: Path) -> None:
    """Writes the statistics as a safetensors file, whole or not at all."""
    tensors = {"components": stats.components, "stddev": stats.stddev}
    if stats.mean is not None:
        tensors["mean"] = stats.mean
    with whole_file(path) as temporary:
        save_file({k: v.contiguous().cpu() for k, v in tensors.items()}, temporary)


def load_pca(path: Path) -> PcaStats:
    """Reads statistics, told apart by their entries.

    * ours: safetensors with `components` [C, D], `stddev` [C] and `mean` [D];
    * the released code's `.npz`: the same without `mean`;
    * GANSpace's `.npz`: `lat_comp` [C, 1, D], `lat_stdev` [C], `lat_mean` [1, D], among
      entries about activations that views do not need;
    * GANSpace directions as a `.pt`: `comp` [C, 1, D], `std` [C], `mean` [1, D].

    Raises:
        RequestError: the file is missing, damaged, has other contents, or holds
            directions of z instead of w.
    """
    entries = _read_npz(path) if _is_npz(path) else _read_tensors(path)
    names = next(
        (keys for keys in _SPELLINGS if keys[0] in entries and keys[1] in entries), None
    )
    if names is None:
        near = next((keys for keys in _SPELLINGS if entries.keys() & keys[:2]), None)
        known = near or _SPELLINGS[0]
        lacks = next(key for key in known if key not in entries)
        raise RequestError(
            f"{path}: no PCA statistics: no entry {lacks!r} among "
            f"{', '.join(sorted(entries)) or 'none'}."
        )
    components, stddev = _flat(entries[names[0]]), entries[names[1]]
    mean = entries.get(names[2])
    shape = list(components.shape)
    if components.ndim != 2 or list(stddev.shape) != shape[:1] or 0 in shape:
        raise RequestError(
            f"{path}: PCA statistics need components [C, D] and stddev [C], not {shape}"
            f" and {list(stddev.shape)}."
        )
    if mean is not None and mean.shape == (1, shape[1]):
        mean = mean[0]
    if mean is not None and list(mean.shape) != shape[1:]:
        raise RequestError(
            f"{path}: PCA statistics have a mean of shape {list(mean.shape)} for "
            f"components of {shape[1]} numbers."
        )
    if names[0] == "lat_comp" and bool((stddev == 1).all()):
        # GANSpace measures the spread of w only; for z it writes ones.
        raise RequestError(
            f"{path}: directions of z: every `lat_stdev` is 1. Make the file with "
            "GANSpace's option `--use_w`."
        )
    return PcaStats(
        components.float(), stddev.float(), None if mean is None else mean.float()
    )


def pca_codes(
    w_plus: StylesPlus,
    *,
    stats: PcaStats,
    layers: LayerRange,
    beta: float,
    count: int,
    seed: int,
    samples: Sequence[int],
) -> ViewCodes:
    """Codes moved along one of the 20 leading principal directions each.

    All layers move by the same vector, `component * stddev * factor` with a factor from
    U(-beta, beta): `beta` is in standard deviations along the direction. See
    `robustgen.views.directions.step_codes` for the arguments and the errors.
    """
    return step_codes(
        w_plus,
        directions=leading_directions(stats),
        family="pca",
        layers=layers,
        beta=beta,
        count=count,
        seed=seed,
        samples=samples,
    )


def leading_directions(stats: PcaStats) -> Directions:
    """The directions that views step along: 20, or all where there are fewer."""
    vectors, scale = stats.components[:LEADING], stats.stddev[:LEADING]
    names = tuple(f"component {row}" for row in range(len(vectors)))
    return Directions(vectors[:, None], scale, names)


def _flat(components: Tensor) -> Tensor:
    """Components without GANSpace's axis of length 1."""
    if components.ndim == 3 and components.shape[1] == 1:
        return components[:, 0]
    return components


def _is_npz(path: Path) -> bool:
    """Whether the file is a NumPy archive; a torch file is a zip archive as well."""
    if not (path.is_file() and zipfile.is_zipfile(path)):
        return False
    with zipfile.ZipFile(path) as archive:
        return all(name.endswith(".npy") for name in archive.namelist())


def _read_npz(path: Path) -> dict[str, Tensor]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except (ValueError, TypeError, OSError, zipfile.BadZipFile) as error:
        raise RequestError(f"{path}: damaged, or not arrays of numbers.") from error


def _read_tensors(path: Path) -> dict[str, Tensor]:
    return tensor_entries(read_checkpoint(path).content)
