"""Seconds and memory of the released domains, on networks of their size.

    python benchmarks/scale.py [--plain] [celebahq car cat cifar10]

Generators of config-f, the RGB + mask encoder, LPIPS on AlexNet and the classifier of
each domain, filled with random numbers: what a pass costs does not hang on the weights.
One image at a time (16 at 32 px), in a process of its own, so that its peak memory is
that of the domain. Memory is kept as the command line keeps it; `--plain` leaves the C
library as it is. Prints a Markdown table.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import alexnet, resnet18

from robustgen.allocator import LARGE, keep_large_blocks
from robustgen.classifiers.attribute import AttributeClassifier
from robustgen.classifiers.cifar_resnet import CifarResNet18
from robustgen.domain import load_domain
from robustgen.gan.encoder_rgbm import EncoderRgbm
from robustgen.gan.stylegan2 import GanConfig, StyleGAN2
from robustgen.lpips_distance import LpipsDistance
from robustgen.projectors.loss import ProjectionLoss
from robustgen.projectors.projector import Projector
from robustgen.rngs import rng_for

DOMAINS = ("celebahq", "car", "cat", "cifar10")
WIDTHS = {4: 512, 8: 512, 16: 512, 32: 512, 64: 512, 128: 256, 256: 128, 512: 64}
PASSES = 3
ROUNDS = 3


def measure(name: str) -> dict[str, float]:
    """Seconds per image and the peak memory of one domain."""
    domain = load_domain(name)
    side = domain.resolution
    count = 16 if side <= 32 else 1
    widths = [WIDTHS.get(2**k, 32) for k in range(2, side.bit_length())]
    if name == "cifar10":
        widths = [512] * len(widths)
    with torch.random.fork_rng():
        config = GanConfig(
            resolution=side,
            channels=tuple(widths),
            z_dim=512,
            w_dim=512,
            mapping_layers=2 if name == "cifar10" else 8,
            num_classes=domain.classes,
        )
        gan = StyleGAN2(config, rng_for(0, "scale")).eval().requires_grad_(False)
        encoder = EncoderRgbm(gan.num_layers).eval().requires_grad_(False)
        trunk = alexnet(weights=None).features
        assert isinstance(trunk, nn.Sequential)
        lpips = LpipsDistance("alex", trunk).eval().requires_grad_(False)
        classifier = {
            "celebahq": AttributeClassifier,
            "cifar10": lambda: CifarResNet18(10),
        }.get(name, lambda: resnet18(num_classes=3))()
    classifier = classifier.eval().requires_grad_(False)
    images = torch.rand(count, 3, side, side, generator=rng_for(0, "images"))
    seen = images if name in ("celebahq", "cifar10") else F.interpolate(images, 224)
    projector = Projector(gan, encoder, loss=ProjectionLoss(lpips), passes=PASSES)
    codes = gan.map(torch.randn(count, 512, generator=rng_for(0, "z")), _labels(gan))
    w_plus = codes[:, None].repeat(1, gan.num_layers, 1)

    def attack() -> None:
        x = seen.clone().requires_grad_()
        classifier(x).sum().backward()

    with torch.no_grad():
        classify = best(lambda: classifier(seen))
        synthesize = best(lambda: gan.synthesize(w_plus))
    found = {
        "classify": classify / count,
        "attack_pass": best(attack) / count,
        "synthesize": synthesize / count,
        "project_pass": best(lambda: projector(images)) / count / PASSES,
    }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {**found, "images": count, "peak_gb": peak}


def _labels(gan: StyleGAN2) -> torch.Tensor | None:
    return torch.zeros(16, dtype=torch.int64) if gan.num_classes else None


def best(work: Callable[[], object]) -> float:
    """Seconds of the fastest of some rounds, after one to warm up."""
    work()
    times: list[float] = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    """Prints one row for each domain."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("domains", nargs="*", default=DOMAINS)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--plain", action="store_true", help="keep no memory")
    asked = parser.parse_args()
    if asked.inside:
        side = load_domain(asked.domains[0]).resolution
        if side >= LARGE and not asked.plain:
            keep_large_blocks()
        print(json.dumps(measure(asked.domains[0])))
        return
    plain = ["--plain"] if asked.plain else []
    print(
        "| domain | side | images at once | classify, s | attack pass, s | "
        "synthesize, s | projection pass, s | peak memory, GB |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in asked.domains:
        done = subprocess.run(
            [sys.executable, __file__, name, "--inside", *plain],
            check=True,
            capture_output=True,
            text=True,
        )
        row = json.loads(done.stdout)
        print(
            f"| {name} | {load_domain(name).resolution} | {row['images']} | "
            f"{row['classify']:.3f} | {row['attack_pass']:.3f} | "
            f"{row['synthesize']:.3f} | {row['project_pass']:.3f} | "
            f"{row['peak_gb']:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
