"""What each projection method costs, and what it leaves of an attack.

    python benchmarks/methods.py
    python benchmarks/methods.py --dataset faces --only encoder --only hybrid --limit 50
    python benchmarks/methods.py --tuning

Every method projects the first test images of the digits and the faces that ship, clean
and under PGD on the bare classifier (preset `pgd`; digits at 32/255, as in their
suite). Prints a Markdown table for each data set: how far the picture is from the image
that was projected, whether the classifier is right on the picture, and what an image
cost. Seconds are those of one core, without the time that others take from it.

Passes are fewer than published where the table says so.

`--tuning` instead times one pass of pivotal tuning: generators of several images side
by side, against one after the other.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tabulate import tabulate
from torch import Tensor, nn

from robustgen.attacks import build_pgd, run_attack
from robustgen.classifiers.load import load_classifier
from robustgen.data.digits import load_digits
from robustgen.data.faces import load_faces
from robustgen.gan.load import load_encoder, load_gan
from robustgen.gan.stylegan2 import StyleGAN2
from robustgen.intervals import wilson_interval
from robustgen.library import PgdAttack, load_attack
from robustgen.perceptual import load_perceptual
from robustgen.projection_settings import (
    DefenseGanSettings,
    EncoderSettings,
    HybridSettings,
    InDomainSettings,
    OptimizationSettings,
    PivotalSettings,
    ProjectionSettings,
    StyleGan2Settings,
)
from robustgen.projectors.build import build_projector
from robustgen.projectors.loss import Perceptual
from robustgen.projectors.pivotal import unflattened
from robustgen.projectors.swapped import synthesize_each, tuned_parameters
from robustgen.rngs import rng_for
from robustgen.threat import Threat

EPS = {"digits": 32 / 255, "faces": 8 / 255}
"""Budgets of the suites."""

IMAGES = 200
"""Test images at most."""

BATCH = 50


@dataclass(frozen=True)
class Entry:
    """One row of the table.

    Args:
        name: What `--only` and the table call it.
        settings: The method.
        images: Images at most, where 200 would take too long.
        note: What differs from the published settings.
    """

    name: str
    settings: ProjectionSettings
    images: int = IMAGES
    note: str = ""


ENTRIES = (
    Entry("encoder", EncoderSettings()),
    Entry("hybrid, 8 passes", HybridSettings(passes=8)),
    Entry("hybrid, 50 passes", HybridSettings(passes=50)),
    Entry("hybrid, adam, 20 passes", HybridSettings(passes=20, optimizer="adam")),
    Entry("in_domain", InDomainSettings()),
    Entry(
        "optimization, z",
        OptimizationSettings(space="z", passes=150),
        note="published: 5000 passes",
    ),
    Entry(
        "optimization, w",
        OptimizationSettings(space="w", passes=150),
        note="published: 5000 passes",
    ),
    Entry(
        "optimization, w_plus",
        OptimizationSettings(space="w_plus", passes=150),
        note="published: 5000 passes",
    ),
    Entry(
        "stylegan2",
        StyleGan2Settings(passes=150),
        note="published: 1000 passes",
    ),
    Entry(
        "stylegan2, shared noise",
        StyleGan2Settings(passes=150, optimize_noise=False),
        note="published: 1000 passes, own noise",
    ),
    Entry("defensegan", DefenseGanSettings(), images=40),
    Entry(
        "pivotal, from hybrid",
        PivotalSettings(pivot=HybridSettings(passes=8), passes=50, threshold=0.0),
        note="published: other pivot, 350 passes, stop at LPIPS 0.06",
    ),
    Entry(
        "pivotal, from stylegan2",
        PivotalSettings(
            pivot=StyleGan2Settings(passes=150, rate=0.1), passes=50, threshold=0.0
        ),
        images=25,
        note="published: 450 + 350 passes, pivot rate 0.01, stop at LPIPS 0.06",
    ),
)


@dataclass(frozen=True, eq=False)
class Subject:
    """Networks, and test images as they are and attacked."""

    classifier: nn.Module
    gan: StyleGAN2
    encoder: nn.Module
    perceptual: Perceptual
    labels: Tensor
    samples: Sequence[int]
    images: dict[str, Tensor]


def subject_of(name: str, count: int) -> Subject:
    """The assets of a data set, and its first test images, clean and under PGD."""
    dataset = load_faces(test=count) if name == "faces" else load_digits()
    part = dataset.part("test", count)
    clean, labels = torch.from_numpy(part.pixels()), torch.from_numpy(part.labels)
    samples = [int(i) for i in part.index]
    classifier = load_classifier(name)
    preset = load_attack("pgd")
    assert isinstance(preset, PgdAttack)
    pgd = build_pgd(
        steps=preset.settings.steps,
        step_size=preset.settings.step_size,
        restarts=preset.settings.restarts,
        random_start=preset.settings.random_start,
    )
    rngs = [rng_for(0, "attack", "pgd", sample) for sample in samples]
    attacked = run_attack(
        pgd, classifier, clean, labels, Threat("linf", EPS[name]), rngs
    )
    return Subject(
        classifier,
        load_gan(name),
        load_encoder(name),
        load_perceptual(name),
        labels,
        samples,
        {"clean": clean, "pgd": attacked.images},
    )


@dataclass(frozen=True, eq=False)
class Measured:
    """What a method made of some images."""

    l1: float
    perceptual: float
    right: int
    passes: float
    seconds: float


@torch.no_grad()
def measure(entry: Entry, subject: Subject, kind: str, count: int) -> Measured:
    """Projects the first images of a kind, in batches."""
    method = build_projector(
        entry.settings,
        gan=subject.gan,
        encoder=subject.encoder,
        perceptual=subject.perceptual,
        seed=0,
    )
    l1 = perceptual = passes = 0.0
    right, spent = 0, 0.0
    for start in range(0, count, BATCH):
        rows = slice(start, min(start + BATCH, count))
        images = subject.images[kind][rows]
        began = time.process_time()
        found = method(images, samples=subject.samples[rows])
        spent += time.process_time() - began
        made = found.images.clamp(0, 1)
        l1 += (made - images).abs().mean(dim=(1, 2, 3)).sum().item()
        network = subject.perceptual
        distance = network.compare(network.features(made), network.features(images))
        perceptual += distance.sum().item()
        decided = subject.classifier(made).argmax(dim=1)
        right += int((decided == subject.labels[rows]).sum())
        passes += found.passes.sum().item()
    return Measured(
        l1 / count, perceptual / count, right, passes / count, spent / count
    )


def share(right: int, count: int) -> str:
    """A share with its interval."""
    low, high = wilson_interval(right, count)
    return f"{right / count:.3f} [{low:.3f}, {high:.3f}]"


def row_of(entry: Entry, subject: Subject) -> list[str]:
    """One row of the table."""
    count = min(entry.images, len(subject.labels))
    clean = measure(entry, subject, "clean", count)
    pgd = measure(entry, subject, "pgd", count)
    return [
        entry.name,
        str(count),
        f"{clean.passes:.0f}",
        f"{(clean.seconds + pgd.seconds) / 2:.3f}",
        f"{clean.l1:.4f}",
        f"{clean.perceptual:.4f}",
        share(clean.right, count),
        f"{pgd.l1:.4f}",
        f"{pgd.perceptual:.4f}",
        share(pgd.right, count),
        entry.note,
    ]


def bare_row(subject: Subject) -> list[str]:
    """The classifier on the images themselves."""
    count = len(subject.labels)
    shares: list[str] = []
    with torch.no_grad():
        for images in subject.images.values():
            decided = subject.classifier(images).argmax(dim=1)
            shares.append(share(int((decided == subject.labels).sum()), count))
    return [
        "no projection", str(count), "0", "", "", "", shares[0], "", "", shares[1], ""
    ]  # fmt: skip


def tuning_times(rounds: int = 5) -> list[list[str]]:
    """Milliseconds per image, forward and backward, by the size of a block."""
    gan = load_gan("faces")
    codes = torch.randn(32, gan.num_layers, gan.w_dim, generator=rng_for(0, "codes"))
    shared = tuned_parameters(gan, codes)
    flat = torch.cat([tensor.flatten() for tensor in shared.values()])

    def pass_time(count: int, together: bool) -> float:
        points = flat.repeat(count, 1).requires_grad_()
        began = time.process_time()
        blocks = [points] if together else points.split(1)
        w_plus = [codes[:count]] if together else codes[:count].split(1)
        pictures = [
            synthesize_each(gan, unflattened(block, shared), w)
            for block, w in zip(blocks, w_plus, strict=True)
        ]
        torch.autograd.grad(torch.cat(pictures).square().sum(), points)
        return 1000 * (time.process_time() - began) / count

    rows: list[list[str]] = []
    for count in (1, 2, 4, 8, 16, 32):
        best = [
            min(pass_time(count, together) for _ in range(rounds))
            for together in (True, False)
        ]
        rows.append([str(count), *(f"{ms:.1f}" for ms in best)])
    return rows


HEADERS = (
    "method", "images", "passes", "seconds", "L1", "perceptual", "accuracy",
    "L1, PGD", "perceptual, PGD", "accuracy, PGD", "settings",
)  # fmt: skip


def main() -> None:
    """Prints one table for each data set, and rows as they are found."""
    parser = argparse.ArgumentParser(description="Projection methods compared.")
    parser.add_argument("--limit", type=int, default=IMAGES, help="test images at most")
    parser.add_argument(
        "--only", action="append", help="rows whose name starts so; may be repeated"
    )
    parser.add_argument("--dataset", choices=tuple(EPS), action="append")
    parser.add_argument(
        "--tuning", action="store_true", help="time a pass of pivotal tuning instead"
    )
    arguments = parser.parse_args()
    if arguments.tuning:
        headers = ("images", "side by side, ms", "one by one, ms")
        print(tabulate(tuning_times(), headers=headers, tablefmt="github"))
        return
    wanted = tuple(arguments.only or ("",))
    for name in arguments.dataset or tuple(EPS):
        subject = subject_of(name, arguments.limit)
        rows = [bare_row(subject)]
        for entry in ENTRIES:
            if entry.name.startswith(wanted):
                rows.append(row_of(entry, subject))
                print(name, *rows[-1], sep=" | ", flush=True)
        print(f"\n{name}, PGD at {255 * EPS[name]:.0f}/255\n")
        print(tabulate(rows, headers=HEADERS, tablefmt="github", disable_numparse=True))
        print()


if __name__ == "__main__":
    main()
