"""Directions in the style space, steps along them, and their files.

PCA, SeFa, boundaries and walks all end in a few vectors with a length each; their views
are the same uniform steps.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

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
from robustgen.types import Labels, StylesPlus
from robustgen.views.draws import (
    ViewCodes,
    check_size,
    check_views,
    view_rngs,
)
from robustgen.views.styles import (
    SPREAD_SAMPLES,
    ConditionalMapping,
    random_styles,
    spread_along,
)

LEADING = 20
"""Directions that views step along at most, as in the released code for PCA."""

_FORMAT = "robustgen.directions.1"
"""Entry of a file's header; the number rises when old files cannot be read."""

_NUMPY = b"\x93NUMPY"
"""First bytes of a `.npy` file."""


@dataclass(frozen=True, eq=False)
class Directions:
    """Lines in the style space that views move along.

    Args:
        vectors: One per direction `[K, S, D]`. S is 1 where all layers move by the same
            vector, else the number of layers.
        scale: Length `[K]` that a vector is multiplied by for a step of 1: standard
            deviation of w along a unit vector, or 1 for a vector that is a step itself.
        names: What each direction is, for people.
        layers: Layers that they were made for; None fits any.
        evidence: What was measured when they were made: one number per direction.

    Raises:
        RequestError: the shapes do not fit together, or a number is not finite.
    """

    vectors: Float[Tensor, "direction span dim"]
    scale: Float[Tensor, " scale"]
    names: tuple[str, ...]
    layers: LayerRange | None = None
    evidence: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])

    def __post_init__(self) -> None:
        count = len(self.vectors)
        lengths = {len(self.scale), len(self.names)}
        lengths |= {len(values) for values in self.evidence.values()}
        if lengths != {count} or not self.vectors.numel():
            raise RequestError(
                f"{count} directions of shape {list(self.vectors.shape[1:])} with "
                f"{len(self.scale)} lengths and {len(self.names)} names: expected "
                "one of each."
            )
        if not (self.vectors.isfinite().all() and self.scale.isfinite().all()):
            raise RequestError("Directions hold NaN or infinite numbers.")

    def only(self, rows: Sequence[int]) -> "Directions":
        """Some of the directions, in the order of `rows`."""
        picked = list(rows)
        return Directions(
            vectors=self.vectors[picked],
            scale=self.scale[picked],
            names=tuple(self.names[row] for row in picked),
            layers=self.layers,
            evidence={key: value[picked] for key, value in self.evidence.items()},
        )


def step_codes(
    w_plus: StylesPlus,
    *,
    directions: Directions,
    family: str,
    layers: LayerRange,
    beta: float,
    count: int,
    seed: int,
    samples: Sequence[int],
    rows: Labels | None = None,
) -> ViewCodes:
    """Codes moved along one direction each, by a uniform step.

    A view draws a direction and a factor from U(-beta, beta), and adds
    `vector * scale * factor` to the layers. Gradients reach `w_plus`.

    Args:
        w_plus: Codes of the projected images `[N, L, D]`.
        directions: Where to; all are equally likely.
        family: Name of the family; another one draws other numbers.
        layers: Layers that are moved.
        beta: Half-width of the step, in units of the directions' scale.
        count: Number of views of an image. The first ones stay the same when more
            are asked for.
        seed: Seed of the suite.
        samples: Index of each image in its data set.
        rows: The direction of each image, where it is not drawn.

    Returns:
        Codes `[N, count, L, D]`, on the device of `w_plus`.

    Raises:
        RequestError: `beta`, `count`, `samples`, `layers`, `rows` or the width of the
            directions do not fit.
    """
    check_views(w_plus, samples, count)
    check_size("beta", beta)
    layers.check(w_plus.shape[1])
    _check_fit(directions, w_plus, layers, family)
    known = len(directions.vectors)
    if rows is not None and not bool(((rows >= 0) & (rows < known)).all()):
        raise RequestError(
            f"views: class {int(rows.max())} has no direction of family '{family}': "
            f"there are {known}."
        )
    fixed = None if rows is None else rows.tolist()
    draws = [
        _draw_step(rng, known, beta)
        if fixed is None
        else (fixed[image], _factor(rng, beta))
        for image, rng in enumerate(view_rngs(seed, family, samples))
        for _ in range(count)
    ]
    shape = (len(samples), count)
    direction = torch.tensor([d for d, _ in draws]).view(shape)  # [N, V]
    factor = torch.tensor([f for _, f in draws]).view(shape)
    length = factor * directions.scale.cpu()[direction]
    vectors = directions.vectors.cpu()[direction]  # [N, V, S, D]
    delta = length[..., None, None] * vectors
    codes = w_plus[:, None].repeat(1, count, 1, 1)  # [N, V, L, D]
    codes[:, :, layers.start : layers.stop] += delta.to(w_plus)
    return codes


def save_directions(directions: Directions, path: Path, *, family: str) -> None:
    """Writes directions as a safetensors file, whole or not at all.

    Args:
        directions: What to write.
        path: File to write.
        family: Family whose views step along them.
    """
    tensors = {"vectors": directions.vectors, "scale": directions.scale}
    tensors |= {f"evidence.{key}": value for key, value in directions.evidence.items()}
    layers = directions.layers
    header = {
        "family": family,
        "names": directions.names,
        "layers": None if layers is None else [layers.start, layers.stop],
    }
    contiguous = {key: value.cpu().contiguous() for key, value in tensors.items()}
    with whole_file(path) as temporary:
        save_file(contiguous, temporary, metadata={_FORMAT: json.dumps(header)})


def load_directions(
    path: Path, *, family: str, gan: ConditionalMapping, seed: int
) -> Directions:
    """Reads directions that were saved earlier, here or by another project.

    * ours, written by `save_directions`, the only ones for family `walk`;
    * boundaries of InterFaceGAN: an array `[1, D]` in a `.npy` file, or the same as a
      tensor in a `.pt` file, as the editing demos of pSp, e4e and PTI ship them;
    * the factors of rosinality's `closed_form_factorization.py`: a `.pt` file whose
      entry `eigvec` holds unit vectors as columns, largest singular value first.

    Files of other projects do not say how far w spreads along a direction: it is
    measured on random styles of the generator.

    Args:
        path: The file.
        family: Family that is going to step along the directions.
        gan: Generator whose styles give the scale that a foreign file lacks.
        seed: Seed of these styles.

    Raises:
        RequestError: the file is missing, damaged, made for another family, or holds
            something else.
    """
    if _starts_with(path, _NUMPY):
        rows = _read_npy(path)
    else:
        checkpoint = read_checkpoint(path)
        entries = tensor_entries(checkpoint.content)
        if _FORMAT in checkpoint.metadata:
            return _own(entries, checkpoint.metadata[_FORMAT], path, family)
        if isinstance(checkpoint.content, Tensor):
            rows = checkpoint.content
        elif "eigvec" in entries:
            rows = entries["eigvec"].T[:LEADING]
        else:
            raise RequestError(
                f"{path}: no directions. Expected a file of `save_directions`, an "
                "array [K, D], or an entry 'eigvec'."
            )
    if family == "walk":
        raise RequestError(
            f"{path}: no walks. Expected a file of `save_directions`: a bare vector "
            "does not say which edit it imitates, nor how far."
        )
    return _measured(_rows_of(rows, path), gan, seed)


def _check_fit(
    directions: Directions, w_plus: StylesPlus, layers: LayerRange, family: str
) -> None:
    _, span, dim = directions.vectors.shape
    if dim != w_plus.shape[2]:
        raise RequestError(
            f"Directions of family '{family}' are {dim} wide and do not fit codes of "
            f"width {w_plus.shape[2]}: they belong to another generator."
        )
    made_for = directions.layers
    if made_for not in (None, layers) or span not in (1, layers.size):
        there = f"layers [{made_for.start}, {made_for.stop}]" if made_for else "others"
        raise RequestError(
            f"Directions of family '{family}' for layers [{layers.start}, "
            f"{layers.stop}] are needed, but these were made for {there}."
        )


def _draw_step(rng: torch.Generator, known: int, beta: float) -> tuple[int, float]:
    return int(torch.randint(known, (), generator=rng)), _factor(rng, beta)


def _factor(rng: torch.Generator, beta: float) -> float:
    return beta * (2 * float(torch.rand((), generator=rng)) - 1)


def _own(
    entries: Mapping[str, Tensor], header: str, path: Path, family: str
) -> Directions:
    try:
        fields = json.loads(header)
        made_for, bounds = fields["family"], fields["layers"]
        directions = Directions(
            vectors=entries["vectors"],
            scale=entries["scale"],
            names=tuple(fields["names"]),
            layers=None if bounds is None else LayerRange(*bounds),
            evidence=MappingProxyType(
                {
                    key.removeprefix("evidence."): value
                    for key, value in entries.items()
                    if key.startswith("evidence.")
                }
            ),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RequestError(f"{path}: the directions' header is damaged.") from error
    if made_for != family:
        raise RequestError(
            f"{path}: holds directions of family '{made_for}', not of '{family}'."
        )
    return directions


def _measured(rows: Tensor, gan: ConditionalMapping, seed: int) -> Directions:
    """Unit vectors of a foreign file, with the spread of the generator's styles."""
    unit = rows.double() / rows.double().norm(dim=1, keepdim=True)
    styles = random_styles(gan, rng_for(seed, "directions", "spread"), SPREAD_SAMPLES)
    if unit.shape[1] != styles.shape[1]:
        raise RequestError(
            f"Directions of width {unit.shape[1]} do not fit a generator whose styles "
            f"have {styles.shape[1]}: they belong to another one."
        )
    names = tuple(f"direction {row}" for row in range(len(unit)))
    return Directions(unit.float()[:, None], spread_along(styles, unit), names)


def _rows_of(array: Tensor, path: Path) -> Float[Tensor, "direction dim"]:
    rows = array[None] if array.ndim == 1 else array
    if rows.ndim != 2 or not rows.numel() or not rows.is_floating_point():
        raise RequestError(
            f"{path}: an array of shape {list(array.shape)} and type {array.dtype}, "
            "expected directions [K, D] of floats."
        )
    if not rows.isfinite().all() or (rows.norm(dim=1) == 0).any():
        raise RequestError(f"{path}: a direction is zero, NaN or infinite.")
    return rows


def _starts_with(path: Path, head: bytes) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(head)) == head


def _read_npy(path: Path) -> Tensor:
    try:
        return torch.from_numpy(np.load(path, allow_pickle=False))
    except (ValueError, TypeError, OSError) as error:
        raise RequestError(f"{path}: damaged, or not an array of numbers.") from error
