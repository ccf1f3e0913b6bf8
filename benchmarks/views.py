"""Which view families keep the label, and which help under attack?

    python benchmarks/views.py --choose               # strengths, on validation images
    python benchmarks/views.py --gallery docs/view_families.png

The embedded assets of a suite, its first 200 test images and 100 validation images,
clean and under its PGD. Every image is projected once; all families vary the same
codes. Strengths are those of `STRENGTHS`, chosen by `--choose` on validation images;
alpha is chosen on validation images under the same attack, as in the paper.
"""

import argparse
import dataclasses
import io
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageOps
from pydantic import TypeAdapter
from tabulate import tabulate
from torch import Tensor

from robustgen.attacks import run_attack
from robustgen.catalog import (
    Models,
    build_attack,
    build_defense,
    build_models,
    pca_path,
)
from robustgen.data.dataset import Dataset
from robustgen.datasets import build_dataset
from robustgen.defense import ROWS, predict_paths, probabilities
from robustgen.ensembling import (
    EnsembleRule,
    choose_alpha,
    correct_by_alpha,
    decide,
    pooled_means,
)
from robustgen.gan.layers import LayerRange
from robustgen.intervals import paired_difference, wilson_interval
from robustgen.library import TierAttack
from robustgen.rngs import rng_for
from robustgen.seeding import numpy_rng
from robustgen.suite import Case, load_suite, resolve_cases
from robustgen.view_settings import ViewSettings
from robustgen.views.boundary import Boundaries, crossings, fit_boundaries
from robustgen.views.build import build_views
from robustgen.views.directions import Directions, save_directions
from robustgen.views.edits import EDITS
from robustgen.views.walk import fit_walks

TEST = 200
VAL = 100
BATCH = 50
COUNT = 32
"""Views of an image, as in the suites."""

TRIED = 8
"""Views of an image for which a strength is tried: the first of the `COUNT`."""

SHOWN = 6
"""Views of a gallery's row."""

KEPT = 0.95
"""Share of the views of clean validation images that should keep the decision."""

# The released code tries sigma up to 2 and steps of up to 3 stds.
SIGMAS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
BETAS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0)

RANGES = {"coarse": LayerRange(0, 4), "fine": LayerRange(4, 8), "all": LayerRange(0, 8)}


@dataclass(frozen=True)
class Row:
    """A view family on a layer range, without its strength."""

    name: str
    family: str
    layers: str
    orthogonal: bool = False


ROWS_OF_TABLE = tuple(
    Row(name, family, layers, orthogonal)
    for name, family, orthogonal in (
        ("stylemix", "stylemix", False),
        ("isotropic", "isotropic", False),
        ("pca", "pca", False),
        ("sefa", "sefa", False),
        ("boundary", "boundary", False),
        ("boundary, orthogonal", "boundary", True),
        ("walk", "walk", False),
    )
    for layers in ("coarse", "fine", "all")
    if layers != "all" or family in ("boundary", "walk")
)

STRENGTHS: dict[str, dict[tuple[str, str], float]] = {
    "celebahq_smiling": {
        ("isotropic", "coarse"): 0.3,
        ("isotropic", "fine"): 0.7,
        ("pca", "coarse"): 3.0,
        ("pca", "fine"): 3.0,
        ("sefa", "coarse"): 3.0,
        ("sefa", "fine"): 3.0,
        ("boundary", "coarse"): 0.5,
        ("boundary", "fine"): 3.0,
        ("boundary", "all"): 0.5,
        ("boundary, orthogonal", "coarse"): 3.0,
        ("boundary, orthogonal", "fine"): 3.0,
        ("boundary, orthogonal", "all"): 3.0,
        ("walk", "coarse"): 0.5,
        ("walk", "fine"): 1.0,
        ("walk", "all"): 0.5,
    },
    "digits": {
        ("isotropic", "coarse"): 0.3,
        ("isotropic", "fine"): 0.7,
        ("pca", "coarse"): 3.0,
        ("pca", "fine"): 3.0,
        ("sefa", "coarse"): 3.0,
        ("sefa", "fine"): 3.0,
        ("boundary", "coarse"): 2.0,
        ("boundary", "fine"): 3.0,
        ("boundary", "all"): 2.0,
        ("boundary, orthogonal", "coarse"): 3.0,
        ("boundary, orthogonal", "fine"): 3.0,
        ("boundary, orthogonal", "all"): 3.0,
        ("walk", "coarse"): 1.0,
        ("walk", "fine"): 1.0,
        ("walk", "all"): 1.5,
    },
}
"""What `--choose` found, by suite, name of the row and layers."""


@dataclass(frozen=True, eq=False)
class Scene:
    """The networks of a suite, and what was learned from them."""

    case: Case
    dataset: Dataset
    models: Models
    boundaries: Boundaries
    walks: dict[str, Directions]
    folder: Path


@dataclass(frozen=True, eq=False)
class Projected:
    """Images of a split under an attack, and their codes."""

    images: Tensor
    labels: np.ndarray
    samples: list[int]
    image: np.ndarray
    reconstruction: np.ndarray
    w_plus: Tensor


def build_scene(suite: str, folder: Path) -> Scene:
    """Everything that all families share; directions are learned once."""
    cases = resolve_cases(load_suite(suite), "embedded")
    case = next(c for c in cases if c.attack.name == "pgd")
    dataset = build_dataset(case.pair, case.domain, case.splits, ())
    device = torch.device("cpu")
    models = build_models(case.pair, case.domain, dataset, device, ())
    boundaries = fit_boundaries(models.gan, models.classifier, seed=case.seed)
    save_directions(
        boundaries.directions(), folder / "boundary.safetensors", family="boundary"
    )
    walks: dict[str, Directions] = {}
    for layers in RANGES:
        walks[layers] = fit_walks(
            models.gan, layers=RANGES[layers], edits=tuple(EDITS), seed=case.seed
        )
        path = folder / f"walk_{layers}.safetensors"
        save_directions(walks[layers], path, family="walk")
    return Scene(case, dataset, models, boundaries, walks, folder)


def project(scene: Scene, split: str, count: int, *, attacked: bool) -> Projected:
    """The first images of a split, attacked or not, and their codes."""
    case, classifier = scene.case, scene.models.classifier
    whole = build_defense(case, scene.dataset, scene.models)
    paths = frozenset({"image", "reconstruction"})
    defense = dataclasses.replace(whole, paths=paths)
    assert not isinstance(case.attack, TierAttack)
    attack, threat = build_attack(case.attack, ())
    part = scene.dataset.part(split, count)
    images: list[Tensor] = []
    codes: list[Tensor] = []
    single: dict[str, list[np.ndarray]] = {path: [] for path in paths}
    for start in range(0, count, BATCH):
        batch = part.rows(slice(start, start + BATCH))
        samples = batch.index.tolist()
        x = torch.from_numpy(batch.pixels())
        if attacked:
            name = case.attack.name
            rngs = [rng_for(case.seed, "attack", name, s) for s in samples]
            labels = torch.from_numpy(batch.labels)
            x = run_attack(attack, classifier, x, labels, threat, rngs).images
        found = predict_paths(defense, x, samples)
        assert found.projection is not None
        images.append(x)
        codes.append(found.projection.w_plus)
        for path in paths:
            single[path].append(found.single[path].numpy())
    return Projected(
        images=torch.cat(images),
        labels=part.labels,
        samples=part.index.tolist(),
        image=np.concatenate(single["image"]),
        reconstruction=np.concatenate(single["reconstruction"]),
        w_plus=torch.cat(codes),
    )


def settings_of(row: Row, strength: float, folder: Path) -> ViewSettings:
    """The section `views` of a suite that asks for a row of the table."""
    views: dict[str, Any] = {"family": row.family, "layers": row.layers, "count": COUNT}
    if row.family != "stylemix":
        views["sigma" if row.family == "isotropic" else "beta"] = strength
    if row.family == "boundary":
        views["directions"] = str(folder / "boundary.safetensors")
        views["orthogonal"] = row.orthogonal
    if row.family == "walk":
        views["directions"] = str(folder / f"walk_{row.layers}.safetensors")
    return TypeAdapter[ViewSettings](ViewSettings).validate_python(views)


def view_codes(scene: Scene, row: Row, strength: float, projected: Projected) -> Tensor:
    """Codes of the views `[N, V, L, D]`."""
    vary = build_views(
        settings_of(row, strength, scene.folder),
        gan=scene.models.gan,
        classifier=scene.models.classifier,
        named_layers=RANGES,
        pca=pca_path(scene.case.pair),
        seed=scene.case.seed,
    )
    return vary(projected.w_plus, projected.samples, None)


@torch.no_grad()
def classify_views(scene: Scene, codes: Tensor) -> np.ndarray:
    """Probabilities of the views `[N, V, K]`."""
    blocks = [
        probabilities(
            scene.models.classifier, scene.models.gan.synthesize(block).clamp(0, 1)
        )
        for block in codes.flatten(0, 1).split(ROWS)
    ]
    return torch.cat(blocks).view(*codes.shape[:2], -1).numpy()


def candidates(row: Row) -> Sequence[float]:
    """Strengths that `--choose` tries."""
    return {"stylemix": (0.0,), "isotropic": SIGMAS}.get(row.family, BETAS)


def choose(scene: Scene) -> None:
    """Prints how many views of clean validation images keep the decision."""
    val = project(scene, "val", VAL, attacked=False)
    own = decide(val.reconstruction)[:, None]
    print("| family | layers | strength: share that keeps the decision | chosen |")
    print("|---|---|---|---|")
    for row in ROWS_OF_TABLE:
        kept: dict[float, float] = {}
        for strength in candidates(row):
            codes = view_codes(scene, row, strength, val)[:, :TRIED]
            kept[strength] = (decide(classify_views(scene, codes)) == own).mean()
        enough = [strength for strength, share in kept.items() if share >= KEPT]
        best = max(enough, default=min(kept))
        shares = ", ".join(
            f"{s:g}: {share:.3f}" if s else f"{share:.3f}" for s, share in kept.items()
        )
        chosen = f"{best:g}" if best else ""
        print(f"| {row.name} | {row.layers} | {shares} | {chosen} |", flush=True)


def share_text(values: np.ndarray) -> str:
    """Mean of one value per image, with Wilson's interval over images."""
    low, high = wilson_interval(float(values.sum()), len(values))
    return f"{values.mean():.3f} [{low:.3f}, {high:.3f}]"


def compare(scene: Scene, strengths: dict[tuple[str, str], float]) -> None:
    """Prints one table for clean test images and one for attacked ones."""
    rule = EnsembleRule()
    for attacked in (False, True):
        val = project(scene, "val", VAL, attacked=attacked)
        test = project(scene, "test", TEST, attacked=attacked)
        base = decide(test.reconstruction) == test.labels
        rows = [
            ["image", "", "", "", "", share_text(decide(test.image) == test.labels)],
            ["reconstruction", "", "", "", "", share_text(base)],
        ]
        for row in ROWS_OF_TABLE:
            strength = strengths.get((row.name, row.layers), 0.0)
            found = [
                classify_views(scene, view_codes(scene, row, strength, part))
                for part in (val, test)
            ]
            single = decide(found[1])
            label, own = test.labels[:, None], decide(test.reconstruction)[:, None]
            mean = decide(found[1].astype(np.float64).mean(axis=1)) == test.labels
            right, alpha = ruled(val, test, found, rule)
            change = paired_difference(
                base.astype(float), right, numpy_rng(scene.case.seed, "bootstrap")
            )
            rows.append(
                [
                    row.name,
                    row.layers,
                    f"{strength:g}" if strength else "",
                    share_text((single == label).mean(axis=1)),
                    share_text((single == own).mean(axis=1)),
                    share_text(mean),
                    share_text(right),
                    f"{alpha:.2f}",
                    f"{change.mean:+.3f} [{change.low:+.3f}, {change.high:+.3f}]",
                ]
            )
            print(".", end="", flush=True)
        headers = [
            "family",
            "layers",
            "strength",
            "view keeps label",
            "view keeps decision",
            "mean of views",
            "released rule",
            "alpha",
            "rule - reconstruction",
        ]
        print(f"\n\n{'PGD' if attacked else 'Clean'}:\n")
        print(tabulate(rows, headers, "github", disable_numparse=True), flush=True)
    print_evidence(scene, strengths)


def ruled(
    val: Projected,
    test: Projected,
    views: Sequence[np.ndarray],
    rule: EnsembleRule,
) -> tuple[np.ndarray, float]:
    """Share of the resamples that get each test image right, and the mean alpha."""
    correct: list[np.ndarray] = []
    for part, made in zip((val, test), views, strict=True):
        pool = np.concatenate([part.reconstruction[:, None], made], axis=1)
        pooled = pooled_means(pool, rule)
        image = part.image[None].astype(np.float64)
        correct.append(correct_by_alpha(image, pooled, part.labels, rule.grid))
    chosen = choose_alpha(correct[0])
    right = correct[1][np.arange(len(chosen)), chosen]
    return right.mean(axis=0), float(rule.grid[chosen].mean())


def print_evidence(scene: Scene, strengths: dict[tuple[str, str], float]) -> None:
    """Prints how good the learned directions are, and how many views cross."""
    test = project(scene, "test", TEST, attacked=False)
    learned = scene.boundaries.directions()
    rows = [
        [name, *(f"{float(values[row]):.3f}" for values in learned.evidence.values())]
        for row, name in enumerate(learned.names)
    ]
    headers = ["boundary", "accuracy, confident", "accuracy, remaining"]
    print(f"\n{tabulate(rows, headers, 'github', disable_numparse=True)}\n")
    rows = [
        [layers, *(f"{float(left):.3f}" for left in walks.evidence["left"])]
        for layers, walks in scene.walks.items()
    ]
    print(tabulate(rows, ["error left by walk", *EDITS], "github"), "\n")
    for row in ROWS_OF_TABLE:
        if row.family == "boundary" and len(scene.boundaries.normals) == 1:
            strength = strengths[row.name, row.layers]
            codes = view_codes(scene, row, strength, test)
            crossed = crossings(
                scene.boundaries, test.w_plus, codes, layers=RANGES[row.layers]
            )
            share = crossed.double().mean(dim=1).numpy()
            print(f"{row.name}, {row.layers}: {share_text(share)} cross")


@torch.no_grad()
def draw_gallery(
    scene: Scene, strengths: dict[tuple[str, str], float], path: Path
) -> None:
    """Writes one row of views per family, of the first test image."""
    first = project(scene, "test", BATCH, attacked=False)
    one = Projected(
        images=first.images[:1],
        labels=first.labels[:1],
        samples=first.samples[:1],
        image=first.image[:1],
        reconstruction=first.reconstruction[:1],
        w_plus=first.w_plus[:1],
    )
    gan = scene.models.gan
    start = torch.cat([one.images, gan.synthesize(one.w_plus).clamp(0, 1)])
    strips: list[Tensor] = []
    names: list[str] = []
    for row in ROWS_OF_TABLE:
        strength = strengths.get((row.name, row.layers), 0.0)
        codes = view_codes(scene, row, strength, one)[0, :SHOWN]
        strips.append(torch.cat([start, gan.synthesize(codes).clamp(0, 1)]))
        key = "σ" if row.family == "isotropic" else "β"
        names.append(
            f"{row.name} {row.layers}" + (f" {key}={strength:g}" if strength else "")
        )
    write_strips(strips, names, path)


def write_strips(strips: Sequence[Tensor], names: Iterable[str], path: Path) -> None:
    """Writes rows of images with their names, 64 px an image, 6 bits a color."""
    side, left, top = 64, 215, 20
    columns = ["image", "rec.", *(f"view {k}" for k in range(1, SHOWN + 1))]
    width, height = left + side * len(columns), top + side * len(strips)
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    axes = figure.add_axes((left / width, 0, 1 - left / width, 1 - top / height))
    rows = [strip.permute(2, 0, 3, 1).flatten(1, 2) for strip in strips]
    picture = torch.cat(rows).numpy()
    if picture.shape[2] == 1:
        picture = picture.repeat(3, axis=2)
    axes.imshow(picture, interpolation="nearest", aspect="auto")
    size = strips[0].shape[2]
    axes.set_xticks([(k + 0.5) * size for k in range(len(columns))], columns)
    axes.set_yticks([(k + 0.5) * size for k in range(len(strips))], list(names))
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelsize=8)
    for spine in axes.spines.values():
        spine.set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer)
    drawn = Image.open(buffer).convert("RGB")
    ImageOps.posterize(drawn, 6).save(path, optimize=True)


def main() -> None:
    """Chooses strengths, or compares the families at the chosen ones."""
    parser = argparse.ArgumentParser(description="Compares view families.")
    parser.add_argument("--suite", default="celebahq_smiling", choices=[*STRENGTHS])
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--gallery", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scene = build_scene(arguments.suite, Path(folder))
        if arguments.choose:
            choose(scene)
            return
        strengths = STRENGTHS[arguments.suite]
        if arguments.gallery is not None:
            draw_gallery(scene, strengths, arguments.gallery)
        compare(scene, strengths)


if __name__ == "__main__":
    main()
