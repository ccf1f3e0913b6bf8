"""Seconds per image of the four kinds of work that a suite consists of.

    python benchmarks/units.py

Prints the table that `robustgen.cost.UNIT_COSTS` holds, for this machine: the best of
five timings in a batch of 64.
"""

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from robustgen.classifiers.load import load_classifier
from robustgen.data.digits import load_digits
from robustgen.data.faces import load_faces
from robustgen.gan.load import load_encoder, load_gan
from robustgen.perceptual import load_perceptual
from robustgen.projectors.loss import ProjectionLoss
from robustgen.projectors.projector import Projector

BATCH = 64
ROUNDS = 5
PASSES = 12


def best(work: Callable[[], object]) -> float:
    """Seconds per image of a batch, the best of some rounds."""
    work()
    times: list[float] = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times) / BATCH


def main() -> None:
    """Prints one line for each family of assets."""
    data = {"digits": load_digits(), "faces": load_faces(val=BATCH)}
    for name, dataset in data.items():
        part = dataset.part("val", BATCH)
        images = torch.from_numpy(part.images)
        labels = torch.from_numpy(part.labels)
        classifier, gan = load_classifier(name), load_gan(name)
        encoder = load_encoder(name)
        projector = Projector(
            gan, encoder, loss=ProjectionLoss(load_perceptual(name)), passes=PASSES
        )
        codes = encoder(images)

        def attack_pass(
            classifier: torch.nn.Module = classifier,
            images: torch.Tensor = images,
            labels: torch.Tensor = labels,
        ) -> None:
            x = images.clone().requires_grad_()
            F.cross_entropy(classifier(x), labels, reduction="sum").backward()

        with torch.no_grad():
            classify = best(lambda c=classifier, x=images: c(x))
            synthesize = best(lambda g=gan, w=codes: g.synthesize(w))
        project = best(lambda p=projector, x=images: p(x)) / PASSES
        print(
            f"{name}: classify={classify:.5f}, attack_pass={best(attack_pass):.5f}, "
            f"synthesize={synthesize:.5f}, project_pass={project:.5f}"
        )


if __name__ == "__main__":
    main()
