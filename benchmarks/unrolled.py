"""What the gradient of a projection costs, and how far it is from differences.

    python benchmarks/unrolled.py --threads 2

On the faces assets, whose networks have kinks. Errors are those of the gradient of a
random linear functional of codes and pictures, along random directions of the images,
against central differences of the projector in double precision. Peaks are those of the
resident memory of a fresh process for each number of passes.
"""

import argparse
import resource
import subprocess
import sys
import time
from typing import Literal

import torch
from projection import Subject, shipped
from torch import Tensor

from robustgen.gan.load import load_encoder, load_gan
from robustgen.perceptual import load_perceptual
from robustgen.projectors.loss import ProjectionLoss
from robustgen.projectors.projector import Projector
from robustgen.projectors.unrolled import unrolled_projection
from robustgen.rngs import rng_for

OPTIMIZERS: tuple[Literal["lbfgs", "adam"], ...] = ("lbfgs", "adam")
DIRECTIONS = 20


def functional(codes: Tensor, pictures: Tensor) -> Tensor:
    """A random linear functional of each image's codes and picture."""
    rng = rng_for(0, "benchmark", "functional")
    a = torch.randn(codes.shape[1:], generator=rng).to(codes)
    b = torch.randn(pictures.shape[1:], generator=rng).to(codes)
    return (codes * a).sum(dim=(1, 2)) + (pictures * b).sum(dim=(1, 2, 3))


def relative_errors(
    optimizer: Literal["lbfgs", "adam"], passes: int, images: Tensor, size: float
) -> Tensor:
    """Error of the derivative of each image along each direction."""
    gan, encoder = load_gan("faces").double(), load_encoder("faces").double()
    perceptual = load_perceptual("faces").double()
    projector = Projector(
        gan,
        encoder,
        loss=ProjectionLoss(perceptual),
        optimizer=optimizer,
        passes=passes,
    )
    images = images.double().requires_grad_()
    found = functional(*unrolled_projection(projector, images)).sum()
    (gradient,) = torch.autograd.grad(found, images)
    images = images.detach()
    rng = rng_for(0, "benchmark", "directions")
    errors: list[Tensor] = []
    for _ in range(DIRECTIONS):
        direction = torch.randn(images.shape, generator=rng).double()
        high = projector(images + size * direction)
        low = projector(images - size * direction)
        change = functional(high.w_plus, high.images) - functional(
            low.w_plus, low.images
        )
        expected = change / (2 * size)
        analytic = (gradient * direction).sum(dim=(1, 2, 3))
        errors.append((analytic - expected).abs() / expected.abs())
    return torch.stack(errors)


def attack_step(subject: Subject, projector: Projector) -> tuple[float, float, float]:
    """Seconds of a projection, of the same ready to be differentiated, and back."""
    images = subject.images.clone().requires_grad_()
    times = [time.perf_counter()]
    projector(subject.images)
    times.append(time.perf_counter())
    found = functional(*unrolled_projection(projector, images)).sum()
    times.append(time.perf_counter())
    found.backward()
    times.append(time.perf_counter())
    return times[1] - times[0], times[2] - times[1], times[3] - times[2]


def projector_of(
    subject: Subject, optimizer: Literal["lbfgs", "adam"], passes: int
) -> Projector:
    """The hybrid projection with the loss of the assets."""
    return Projector(
        subject.gan,
        subject.encoder,
        loss=subject.loss,
        optimizer=optimizer,
        passes=passes,
    )


def peak_rss(optimizer: str, passes: int, count: int, threads: int) -> float:
    """MiB that a fresh process held at most; with 0 passes, before any projection."""
    command = [sys.executable, __file__, "--peak", optimizer, "--passes", str(passes)]
    command += ["--images", str(count), "--threads", str(threads)]
    output = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(output.stdout)


def print_own_peak(
    optimizer: Literal["lbfgs", "adam"], passes: int, count: int
) -> None:
    """Runs one attack step and prints the most memory this process held, in MiB."""
    subject = shipped("faces", count)
    if passes:
        attack_step(subject, projector_of(subject, optimizer, passes))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="Cost of projections' gradients.")
    parser.add_argument("--images", type=int, default=32, help="for times")
    parser.add_argument("--passes", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5, help="timings of each kind")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", type=float, default=1e-9, help="of a difference")
    parser.add_argument("--peak", choices=OPTIMIZERS, help="one step, its peak memory")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    count, passes = arguments.images, arguments.passes
    if arguments.peak:
        print_own_peak(arguments.peak, passes, count)
        return
    for optimizer in OPTIMIZERS:
        subject = shipped("faces", count)
        projector = projector_of(subject, optimizer, passes)
        best = [float("inf")] * 3
        for _ in range(arguments.rounds):
            best = [
                min(pair)
                for pair in zip(best, attack_step(subject, projector), strict=True)
            ]
        alone, forward, backward = (1000 * each / count for each in best)
        print(f"{optimizer}, {passes} passes, {count} images, ms per image:")
        print(f"  projection {alone:.1f}, forward {forward:.1f}, back {backward:.1f}")
        print(f"  back over projection: {backward / alone:.2f} (goal: at most 4)")
        errors = relative_errors(
            optimizer, passes, subject.images[:4], arguments.size
        ).flatten()
        print(f"  relative error against differences, {len(errors)} derivatives:")
        print(
            f"  median {errors.median():.1e}, 90% {errors.quantile(0.9):.1e}, "
            f"worst {errors.max():.1e}"
        )
        peaks = [
            peak_rss(optimizer, some, 8, arguments.threads) for some in (0, 10, 100)
        ]
        idle, few, many = peaks
        ratio = (many - idle) / (few - idle)
        print(f"  peak of 8 images, MiB: {few:.0f} at 10 passes, {many:.0f} at 100;")
        print(f"  {idle:.0f} before any, ratio without: {ratio:.2f}")


if __name__ == "__main__":
    main()
