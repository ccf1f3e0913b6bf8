"""What reconstructions keep of the images, by the steps of the projection.

    python benchmarks/reconstructions.py --assets faces --limit 200 --attacked
    python benchmarks/reconstructions.py --steps 20 --gallery lost.png --json lost.json

Test images are projected by the encoder alone (0 passes) and by the hybrid projection
with L-BFGS. The table says how near the reconstruction is (L1 and structural
similarity, no LPIPS) and what the classifier makes of it. `--gallery` draws the images
whose reconstruction changes the decision, and tells by numbers how they differ from
the rest (`reconstructions_lost.py`). All intervals are at 95% and over images; those of
means are bootstraps. Seconds are of the processor per image, on CUDA of the clock.
"""

import argparse
import json
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from reconstructions_lost import draw_gallery, explain, explained_text, relevance_of
from tabulate import tabulate
from torch import Tensor

from robustgen.attacks import run_attack
from robustgen.balanced import balanced_accuracy
from robustgen.catalog import Models, build_attack, build_models
from robustgen.data.dataset import Dataset
from robustgen.datasets import build_dataset
from robustgen.devices import find_device
from robustgen.gan.layers import LayerRange, parse_layers
from robustgen.intervals import Interval, bootstrap_interval, wilson_interval
from robustgen.library import load_attack
from robustgen.projection_settings import EncoderSettings, HybridSettings
from robustgen.projectors.build import build_projector
from robustgen.report_schema import json_safe
from robustgen.rngs import rng_for
from robustgen.seeding import numpy_rng
from robustgen.suite import KINDS, Pair, Splits
from robustgen.training.losses import ssim
from robustgen.types import Images
from robustgen.views.stylemix import stylemix_codes

SEED = 0

STEPS = (0, 20, 100, 500)
"""Passes of the projection; 0 is the encoder alone."""

BATCH = 50


@dataclass(frozen=True, eq=False)
class Scene:
    """Networks, and test images as they are and attacked.

    Args:
        pair: Names the networks and the domain.
        dataset: The whole data set.
        models: The networks.
        labels: True classes of the test images.
        samples: Their indices.
        images: The test images by kind: `clean`, and `pgd` if asked for.
        decided: What the classifier says of the clean images.
        layers: Layers that style-mixed views replace.
    """

    pair: Pair
    dataset: Dataset
    models: Models
    labels: Int[np.ndarray, " n"]
    samples: list[int]
    images: dict[str, Tensor]
    decided: Int[np.ndarray, " n"]
    layers: str


@dataclass(frozen=True)
class Share:
    """A number and its interval."""

    value: float
    low: float
    high: float

    @property
    def text(self) -> str:
        """Three digits, the interval in brackets."""
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Quality:
    """One row of the table.

    Args:
        kind: `clean` or `pgd`.
        steps: Passes allowed; None for the images themselves.
        passes: Passes taken, mean over images.
        l1: Mean absolute difference from the image given, pixel units of [0, 1].
        l1_clean: The same from the clean image.
        ssim: Structural similarity to the image given.
        keeps_decision: Share of images that get the class of the clean image.
        accuracy: Share that is right.
        balanced: Mean over classes of the share that is right.
        view_keeps: Share of single style-mixed views that get the class of the
            reconstruction.
        seconds: Of the projection, per image.
    """

    kind: str
    steps: int | None
    passes: float
    l1: Share
    l1_clean: Share
    ssim: Share
    keeps_decision: Share
    accuracy: Share
    balanced: Share
    view_keeps: Share
    seconds: float


@dataclass(frozen=True, eq=False)
class Reconstructed:
    """Reconstructions of some images, and what was found on the way."""

    images: Tensor
    w_plus: Tensor
    passes: Tensor
    seconds: float


def find_scene(arguments: argparse.Namespace) -> Scene:
    """The networks and images that the command line names."""
    pair = {kind: getattr(arguments, kind) or arguments.assets for kind in KINDS}
    pair = Pair.model_validate(pair)
    device = find_device(arguments.device)
    splits = Splits(val=1, test=arguments.limit)
    dataset = build_dataset(pair, pair.card, splits, ())
    models = build_models(pair, pair.card, dataset, device, ())
    part = dataset.part("test", arguments.limit)
    labels = torch.from_numpy(part.labels).to(device)
    samples = [int(index) for index in part.index]
    images = {"clean": torch.from_numpy(part.pixels()).to(device)}
    if arguments.attacked:
        eps = float(Fraction(arguments.eps))
        preset = load_attack("pgd").model_copy(update={"norm": "linf", "eps": eps})
        attack, threat = build_attack(preset, ())
        rngs = [rng_for(SEED, "attack", "pgd", sample) for sample in samples]
        images["pgd"] = torch.cat(
            [
                run_attack(
                    attack,
                    models.classifier,
                    images["clean"][rows],
                    labels[rows],
                    threat,
                    rngs[rows],
                ).images
                for rows in batches(len(samples))
            ]
        )
    decided = logits_of(models, images["clean"]).argmax(axis=1)
    return Scene(
        pair, dataset, models, part.labels, samples, images, decided, arguments.layers
    )


def batches(count: int) -> Iterable[slice]:
    """Slices of `BATCH` images."""
    return (slice(start, start + BATCH) for start in range(0, count, BATCH))


@torch.no_grad()
def logits_of(models: Models, images: Images) -> Float[np.ndarray, "n k"]:
    """What the classifier says, on the CPU."""
    found = [models.classifier(images[rows]) for rows in batches(len(images))]
    return torch.cat(found).cpu().double().numpy()


def reconstruct(scene: Scene, kind: str, steps: int) -> Reconstructed:
    """Projects all images of a kind, in batches.

    Args:
        scene: Networks and images.
        kind: Which images.
        steps: Passes; 0 for the encoder alone.
    """
    method = build_projector(
        HybridSettings(passes=steps) if steps else EncoderSettings(),
        gan=scene.models.gan,
        encoder=scene.models.encoder,
        perceptual=scene.models.perceptual,
        seed=SEED,
    )
    images = scene.images[kind]
    began = _seconds(images)
    found = [
        method(images[rows], samples=scene.samples[rows])
        for rows in batches(len(images))
    ]
    spent = _seconds(images) - began
    return Reconstructed(
        torch.cat([one.images.clamp(0, 1) for one in found]),
        torch.cat([one.w_plus for one in found]),
        torch.cat([one.passes for one in found]),
        spent / len(images),
    )


def _seconds(images: Tensor) -> float:
    if images.is_cuda:
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def l1_each(a: Images, b: Images) -> Float[np.ndarray, " n"]:
    """Mean absolute difference of each pair of images."""
    return (a - b).abs().mean(dim=(1, 2, 3)).cpu().double().numpy()


def ssim_each(a: Images, b: Images) -> Float[np.ndarray, " n"]:
    """Structural similarity of each pair of images; its mean is `losses.ssim`."""
    pairs = zip(a.split(1), b.split(1), strict=True)
    return np.array([float(ssim(one, other)) for one, other in pairs])


def mean_of(values: Float[np.ndarray, " n"], purpose: str) -> Share:
    """The mean, with a bootstrap over images."""
    interval = bootstrap_interval(values, numpy_rng(SEED, "reconstructions", purpose))
    return Share(float(values.mean()), *interval)


def share_of(right: np.ndarray) -> Share:
    """The share of images for which something is true, with Wilson's interval."""
    found: Interval = wilson_interval(float(right.sum()), len(right))
    return Share(float(right.mean()), *found)


def balanced_share(right: np.ndarray, labels: Int[np.ndarray, " n"]) -> Share:
    """Balanced accuracy with its interval."""
    found = balanced_accuracy(right.astype(np.float64), labels)
    return Share(found.balanced_accuracy, found.balanced_low, found.balanced_high)


@torch.no_grad()
def view_decisions(scene: Scene, w_plus: Tensor) -> Int[np.ndarray, " n"]:
    """The class of one style-mixed view of each code."""
    gan, card = scene.models.gan, scene.pair.card
    ranges = {} if card is None else card.ranges
    named = {name: LayerRange(*bounds) for name, bounds in ranges.items()}
    layers = parse_layers(scene.layers, named=named, num_layers=gan.num_layers)
    codes = stylemix_codes(
        gan, w_plus, layers=layers, count=1, seed=SEED, samples=scene.samples
    )[:, 0]
    made = [gan.synthesize(codes[rows]).clamp(0, 1) for rows in batches(len(codes))]
    return logits_of(scene.models, torch.cat(made)).argmax(axis=1)


def quality(scene: Scene, kind: str, steps: int, made: Reconstructed) -> Quality:
    """The row of one projection."""
    given, clean = scene.images[kind], scene.images["clean"]
    decided = logits_of(scene.models, made.images).argmax(axis=1)
    right = decided == scene.labels
    views = view_decisions(scene, made.w_plus)
    purpose = f"{kind} {steps}"
    return Quality(
        kind=kind,
        steps=steps,
        passes=float(made.passes.double().mean()),
        l1=mean_of(l1_each(made.images, given), f"l1 {purpose}"),
        l1_clean=mean_of(l1_each(made.images, clean), f"l1 clean {purpose}"),
        ssim=mean_of(ssim_each(made.images, given), f"ssim {purpose}"),
        keeps_decision=share_of(decided == scene.decided),
        accuracy=share_of(right),
        balanced=balanced_share(right, scene.labels),
        view_keeps=share_of(views == decided),
        seconds=made.seconds,
    )


def bare(scene: Scene, kind: str) -> Quality:
    """The row of the images themselves."""
    images = scene.images[kind]
    decided = logits_of(scene.models, images).argmax(axis=1)
    right = decided == scene.labels
    none = Share(math.nan, math.nan, math.nan)
    return Quality(
        kind=kind,
        steps=None,
        passes=0.0,
        l1=Share(0.0, 0.0, 0.0),
        l1_clean=mean_of(l1_each(images, scene.images["clean"]), f"bare {kind}"),
        ssim=Share(1.0, 1.0, 1.0),
        keeps_decision=share_of(decided == scene.decided),
        accuracy=share_of(right),
        balanced=balanced_share(right, scene.labels),
        view_keeps=none,
        seconds=0.0,
    )


HEADERS = (
    "images", "passes", "L1", "L1 to clean", "SSIM", "keeps decision", "accuracy",
    "balanced", "view keeps", "seconds",
)  # fmt: skip


def cells(row: Quality) -> list[str]:
    """A row as texts."""
    if row.steps is None:
        near = ["", row.l1_clean.text if row.kind != "clean" else "", ""]
        said = [row.keeps_decision, row.accuracy, row.balanced]
        return [row.kind, "image", *near, *(one.text for one in said), "", ""]
    shares = (
        row.l1, row.l1_clean, row.ssim, row.keeps_decision, row.accuracy, row.balanced,
        row.view_keeps,
    )  # fmt: skip
    texts = [one.text for one in shares]
    return [row.kind, str(row.steps), *texts, f"{row.seconds:.4f}"]


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table, and draws and explains what the reconstruction loses."""
    arguments = _parser().parse_args(argv)
    scene = find_scene(arguments)
    rows: list[Quality] = []
    found: dict[int, Reconstructed] = {}
    for kind in scene.images:
        rows.append(bare(scene, kind))
        for steps in arguments.steps:
            made = reconstruct(scene, kind, steps)
            rows.append(quality(scene, kind, steps, made))
            print(*cells(rows[-1]), sep=" | ", flush=True)
            if kind == "clean":
                found[steps] = made
    print(f"\n{_title(scene, arguments)}\n")
    table = [cells(row) for row in rows]
    print(tabulate(table, HEADERS, "github", disable_numparse=True))
    record: dict[str, Any] = {
        "settings": {key: str(value) for key, value in vars(arguments).items()},
        "rows": [asdict(row) for row in rows],
    }
    if arguments.gallery is not None:
        record["lost"] = _lost(scene, arguments, found)
    if arguments.json is not None:
        text = json.dumps(json_safe(record), indent=1, allow_nan=False)
        arguments.json.write_text(f"{text}\n", encoding="utf-8")


def _lost(
    scene: Scene, arguments: argparse.Namespace, found: dict[int, Reconstructed]
) -> dict[str, Any]:
    """Draws the gallery and prints the account of it."""
    steps = arguments.gallery_steps
    made = found[steps] if steps in found else reconstruct(scene, "clean", steps)
    images, models = scene.images["clean"].cpu(), scene.models
    before = logits_of(models, images.to(made.images.device))
    after = logits_of(models, made.images)
    output = made.images.cpu()
    lost = before.argmax(axis=1) != after.argmax(axis=1)
    names = scene.dataset.class_names
    shown = draw_gallery(
        images,
        output,
        before,
        after,
        names=names,
        path=arguments.gallery,
        limit=arguments.shown,
    )
    print(
        f"\n{int(lost.sum())} of {len(lost)} lost after {steps} passes; {shown} drawn"
    )
    traits = explain(
        images,
        output,
        before,
        labels=scene.labels,
        w_plus=made.w_plus.cpu(),
        relevance=relevance_of(str(scene.pair.classifier)),
        lost=lost,
    )
    print(explained_text(traits))
    samples = [scene.samples[row] for row in np.flatnonzero(lost)]
    return {"steps": steps, "samples": samples, "traits": [asdict(t) for t in traits]}


def _title(scene: Scene, arguments: argparse.Namespace) -> str:
    names = ", ".join(
        f"{kind} {getattr(arguments, kind) or arguments.assets}" for kind in KINDS
    )
    pgd = f"; PGD at {arguments.eps}" if arguments.attacked else ""
    return f"{names}; {len(scene.samples)} test images{pgd}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Quality of reconstructions.")
    parser.add_argument("--assets", default="smiles", help="stands for every part")
    for kind in KINDS:
        parser.add_argument(f"--{kind}", help=f"{kind}, where not that of --assets")
    parser.add_argument("--limit", type=int, default=200, help="test images")
    parser.add_argument("--steps", type=int, nargs="+", default=list(STEPS))
    parser.add_argument("--attacked", action="store_true", help="under PGD, too")
    parser.add_argument("--eps", default="8/255", type=_eps, help="of PGD")
    parser.add_argument("--layers", default="fine", help="that views replace")
    parser.add_argument("--device", default="cpu", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--json", type=Path, help="writes all numbers")
    parser.add_argument("--gallery", type=Path, help="draws what is lost")
    parser.add_argument("--gallery-steps", type=int, default=20)
    parser.add_argument("--shown", type=int, default=24, help="images of the gallery")
    return parser


def _eps(text: str) -> str:
    """A radius as it is written, if it is one."""
    if not 0 < Fraction(text) <= 1:
        raise ValueError(text)
    return text


if __name__ == "__main__":
    main()
