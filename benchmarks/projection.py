"""What projecting a batch costs, against its floor and against one image at a time.

    python benchmarks/projection.py --assets faces
    python benchmarks/projection.py --random

Floor: passes x the time of one evaluation of the loss with its gradient, per image, in
the batch size that suits the machine best. The other side of the comparison is
`torch.optim.LBFGS` with its strong-Wolfe line search, for one image at a time, on the
same images and loss, with at least as many passes.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustgen.data.digits import load_digits
from robustgen.data.faces import load_faces
from robustgen.gan.encoder import EncoderConfig, SplitEncoder
from robustgen.gan.load import load_encoder, load_gan
from robustgen.gan.stylegan2 import GanConfig, StyleGAN2
from robustgen.perceptual import PerceptualNet, load_perceptual
from robustgen.projectors.loss import (
    Encoder,
    Gan,
    ProjectionLoss,
    ProjectionObjective,
    describe,
)
from robustgen.projectors.projector import Projector
from robustgen.rngs import rng_for

NOISE = {"faces": 8 / 255, "digits": 32 / 255}
"""Random signs of this size stand in for an attack: the budgets of the suites."""


@dataclass(frozen=True)
class Subject:
    """Networks and the images that they project."""

    gan: Gan
    encoder: Encoder
    loss: ProjectionLoss
    images: Tensor

    def objective(self, rows: slice) -> tuple[ProjectionObjective, Tensor]:
        """The objective of some images, and its start."""
        target = describe(
            self.images[rows], None, encoder=self.encoder, terms=self.loss
        )
        objective = ProjectionObjective(
            target,
            gan=self.gan,
            encoder=self.encoder,
            terms=self.loss,
            chunk=len(target.images),
        )
        return objective, target.codes.flatten(1)


def shipped(name: str, count: int) -> Subject:
    """Assets that ship, and noisy validation images of theirs."""
    dataset = load_faces(val=count) if name == "faces" else load_digits()
    images = torch.from_numpy(dataset.part("val", count).images)
    signs = torch.randn(images.shape, generator=rng_for(0, "benchmark", name)).sign()
    return Subject(
        load_gan(name),
        load_encoder(name),
        ProjectionLoss(load_perceptual(name)),
        (images + NOISE[name] * signs).clamp(0, 1),
    )


def untrained(count: int) -> Subject:
    """Networks of random parameters, of the sizes of those that ship."""
    gan = StyleGAN2(GanConfig(32, (96, 64, 48, 32), 96, 96, 3), rng_for(0, "gan"))
    encoder = SplitEncoder(EncoderConfig(32, 3, 8, 64, 32, 8))
    perceptual = PerceptualNet(3)
    rng = rng_for(0, "networks")
    for parameter in (*encoder.parameters(), *perceptual.parameters()):
        fan_in = parameter[0].numel()
        parameter.data = torch.randn(parameter.shape, generator=rng) / fan_in**0.5
    with torch.no_grad():
        w = gan.map(torch.randn(count, gan.z_dim, generator=rng))
        images = gan.synthesize(w[:, None].expand(-1, gan.num_layers, -1))
    for network in (gan, encoder, perceptual):
        network.eval().requires_grad_(False)
    return Subject(gan, encoder, ProjectionLoss(perceptual), images.clamp(0, 1))


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def pass_times(subject: Subject, sizes: Sequence[int], rounds: int) -> dict[int, float]:
    """Seconds per image of one pass, for each batch size: the best of the rounds."""
    times: dict[int, float] = {}
    for size in sizes:
        objective, start = subject.objective(slice(size))
        everyone = torch.arange(size)

        def evaluate(
            objective: ProjectionObjective = objective,
            start: Tensor = start,
            everyone: Tensor = everyone,
        ) -> None:
            objective(start, everyone)

        evaluate()
        times[size] = min(seconds(evaluate) for _ in range(rounds)) / size
    return times


def project_one(subject: Subject, row: int, passes: int) -> tuple[float, int]:
    """Final loss and passes of `torch.optim.LBFGS` for one image."""
    objective, start = subject.objective(slice(row, row + 1))
    point = start.clone().requires_grad_()
    only = torch.arange(1)
    losses: list[float] = []

    def closure() -> Tensor:
        loss, gradient = objective(point, only)
        losses.append(loss.item())
        point.grad = gradient
        return loss.sum()

    optimizer = torch.optim.LBFGS(
        [point],
        max_iter=passes,
        max_eval=passes,
        history_size=10,
        tolerance_grad=0.0,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )
    optimizer.step(closure)
    return min(losses), len(losses)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="Cost of projecting a batch.")
    parser.add_argument("--assets", choices=("faces", "digits"), default="faces")
    parser.add_argument("--random", action="store_true", help="untrained networks")
    parser.add_argument("--images", type=int, default=64, help="size of the batch")
    parser.add_argument("--passes", type=int, default=12)
    parser.add_argument(
        "--loop-passes", type=int, help="budget of the loop; by default the same"
    )
    parser.add_argument("--rounds", type=int, default=3, help="timings of each kind")
    parser.add_argument("--threads", type=int, help="threads that torch may use")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    count, passes = arguments.images, arguments.passes
    budget = max(passes, arguments.loop_passes or passes)
    subject = untrained(count) if arguments.random else shipped(arguments.assets, count)
    projector = Projector(
        subject.gan, subject.encoder, loss=subject.loss, passes=passes
    )

    projection = projector(subject.images)  # also warms up
    project_one(subject, 0, 2)
    sizes = sorted({size for size in (1, 4, 8, 16, 32, 64) if size < count} | {count})
    times: dict[int, float] = {}
    walls: list[float] = []
    loops: list[float] = []
    singles: list[tuple[float, int]] = []

    def one_by_one() -> None:
        singles[:] = [project_one(subject, i, budget) for i in range(count)]

    # In turns, and the best of all rounds, so that a busy spell hurts no side.
    for _ in range(arguments.rounds):
        walls.append(seconds(lambda: projector(subject.images)))
        for size, one in pass_times(subject, sizes, 2).items():
            times[size] = min(one, times.get(size, one))
        loops.append(seconds(one_by_one))
    total = int(projection.passes.sum())
    best = min(times, key=lambda size: times[size])
    floor = total * times[best]
    wall = min(walls)
    loop = min(loops)
    ours = projection.loss.mean().item()
    theirs = statistics.mean(loss for loss, _ in singles)
    loop_passes = sum(used for _, used in singles)
    won = sum(
        mine <= loss
        for mine, (loss, _) in zip(projection.loss.tolist(), singles, strict=True)
    )

    name = "untrained networks" if arguments.random else arguments.assets
    print(f"{name}, {count} images, {torch.get_num_threads()} threads")
    print("one pass, ms per image, by batch size:")
    print("  " + "  ".join(f"{size}: {1000 * t:.2f}" for size, t in times.items()))
    print(f"batched: {wall:.2f} s, the best of {', '.join(f'{w:.2f}' for w in walls)}")
    print(
        f"  {total} passes x {1000 * times[best]:.2f} ms (batch {best}): {floor:.2f} s"
    )
    print(f"  ratio to that floor: {wall / floor:.2f} (goal: at most 1.25)")
    print(f"one at a time: {loop:.2f} s, {loop_passes} passes")
    print(f"  throughput of the batched projector: {loop / wall:.1f} x")
    print(f"  at its mean final loss {ours:.5f}, of the loop {theirs:.5f},")
    print(f"  from {projection.initial_loss.mean().item():.5f};")
    print(f"  equal or lower for {won} of {count} images")


if __name__ == "__main__":
    main()
