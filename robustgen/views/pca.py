"""PCA views: steps along the principal directions of the style space.

Ensembling with Deep Generative Views (Chai et al., CVPR 2021), equation 6, with the
directions of GANSpace (arXiv:2004.02546). The paper scales a direction by its
eigenvalue; the released code by its standard deviation, and so does this module.
"""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

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
from robustgen.views.draws import ViewCodes, check_size, check_views, view_rngs
from robustgen.views.stylemix import MappingNetwork

DIRECTIONS = 20
"""Leading directions that views step along, as in the released code."""

_ROWS = 4096
"""Latents mapped at once when statistics are fitted: bounds the memory."""


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


@runtime_checkable
class ConditionalMapping(MappingNetwork, Protocol):
    """A mapping network that says how many classes it knows."""

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 where the generator has none."""
        ...


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
    largest = components.gather(1, components.abs().argmax(dim=1, keepdim=True))
    components = components * largest.sign()
    stddev = variance.flip(0)[:keep].clamp(min=0).sqrt()
    return PcaStats(components.float(), stddev.float(), mean.float())


@torch.no_grad()
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
    rng = rng_for(seed, "pca", "fit")
    blocks: list[Tensor] = []
    for start in range(0, samples, _ROWS):
        rows = min(_ROWS, samples - start)
        z = torch.randn(rows, gan.z_dim, generator=rng)
        labels = None
        if gan.num_classes:
            labels = torch.randint(gan.num_classes, (rows,), generator=rng)
        blocks.append(gan.map(z, labels=labels))
    return fit_pca(torch.cat(blocks), count=count)


def save_pca(stats: PcaStats, path: Path) -> None:
    """Writes the statistics as a safetensors file, whole or not at all."""
    tensors = {"components": stats.components, "stddev": stats.stddev}
    if stats.mean is not None:
        tensors["mean"] = stats.mean
    with whole_file(path) as temporary:
        save_file({k: v.contiguous().cpu() for k, v in tensors.items()}, temporary)


def load_pca(path: Path) -> PcaStats:
    """Reads statistics: our safetensors, or the `.npz` of the released code.

    Raises:
        RequestError: the file is missing, damaged, or has other contents.
    """
    entries = _read_npz(path) if _is_npz(path) else _read_tensors(path)
    missing = {"components", "stddev"} - entries.keys()
    if missing:
        raise RequestError(
            f"{path}: no PCA statistics: no entry {sorted(missing)[0]!r} among "
            f"{', '.join(sorted(entries)) or 'none'}."
        )
    components, stddev = entries["components"], entries["stddev"]
    mean = entries.get("mean")
    shape = list(components.shape)
    if components.ndim != 2 or list(stddev.shape) != shape[:1] or 0 in shape:
        raise RequestError(
            f"{path}: PCA statistics need components [C, D] and stddev [C], not {shape}"
            f" and {list(stddev.shape)}."
        )
    if mean is not None and list(mean.shape) != shape[1:]:
        raise RequestError(
            f"{path}: PCA statistics have a mean of shape {list(mean.shape)} for "
            f"components of {shape[1]} numbers."
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
    """Codes moved along one principal direction each.

    A view draws one of the 20 leading directions and a factor from U(-beta, beta),
    and adds `component * stddev * factor` to every one of the layers.

    Args:
        w_plus: Codes of the projected images `[N, L, D]`.
        stats: Directions; all are drawn from where there are fewer than 20.
        layers: Layers that are moved, all by the same vector.
        beta: Largest step, in standard deviations along the direction.
        count: Number of views of an image. The first ones stay the same when more
            are asked for.
        seed: Seed of the suite.
        samples: Index of each image in its data set.

    Returns:
        Codes `[N, count, L, D]`, on the device of `w_plus`.

    Raises:
        RequestError: `beta`, `count`, `samples`, `layers` or the width of the
            directions do not fit.
    """
    check_views(w_plus, samples, count)
    check_size("beta", beta)
    layers.check(w_plus.shape[1])
    if stats.components.shape[1] != w_plus.shape[2]:
        raise RequestError(
            f"PCA statistics of width {stats.components.shape[1]} do not fit codes of "
            f"width {w_plus.shape[2]}: they belong to another generator."
        )
    known = min(DIRECTIONS, len(stats.stddev))
    draws = [
        _draw_step(rng, known, beta)
        for rng in view_rngs(seed, "pca", samples)
        for _ in range(count)
    ]
    shape = (len(samples), count)
    direction = torch.tensor([d for d, _ in draws]).view(shape)  # [N, V]
    factor = torch.tensor([f for _, f in draws]).view(shape)
    length = factor * stats.stddev.cpu()[direction]
    delta = length[..., None] * stats.components.cpu()[direction]  # [N, V, D]
    codes = w_plus[:, None].repeat(1, count, 1, 1)  # [N, V, L, D]
    codes[:, :, layers.start : layers.stop] += delta[:, :, None].to(w_plus)
    return codes


def _draw_step(rng: torch.Generator, known: int, beta: float) -> tuple[int, float]:
    direction = int(torch.randint(known, (), generator=rng))
    return direction, beta * (2 * float(torch.rand((), generator=rng)) - 1)


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
