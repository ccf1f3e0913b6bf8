"""CPU seconds of the kinds of work that a suite consists of.

    OMP_NUM_THREADS=1 python benchmarks/units.py           # digits and faces
    OMP_NUM_THREADS=1 python benchmarks/units.py smiles    # or mnist: fetched data

Prints the table that `robustgen.unit_costs.UNIT_COSTS` holds, for this machine: of each
kind what a call costs and what each image in it adds, from batches of 4 and of 64, the
best of five. Time of the processor, not of the clock: other work does not count.
"""

import sys
import time
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from robustgen.attacks import build_pgd, run_attack
from robustgen.classifiers.load import load_classifier
from robustgen.data.digits import load_digits
from robustgen.data.faces import load_faces
from robustgen.data.mnist import load_mnist
from robustgen.data.smiles import load_smiles
from robustgen.gan.load import load_encoder, load_gan
from robustgen.perceptual import load_perceptual
from robustgen.projectors.loss import ProjectionLoss
from robustgen.projectors.projector import Projector
from robustgen.rngs import rng_for
from robustgen.sources import data_folder
from robustgen.threat import Threat
from robustgen.views.jitter import JitterSpec, jitter

SIZES = (4, 64)
ROUNDS = 5
PASSES = 8
STEPS = 10


def best(work: Callable[[], object]) -> float:
    """CPU seconds of a call, the best of some rounds."""
    work()
    times: list[float] = []
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


def line(work: Callable[[int], Callable[[], object]], calls: int = 1) -> str:
    """`Rate(call, image)` of work on some images, as a text."""
    small, large = (best(work(size)) / calls for size in SIZES)
    image = max(0.0, (large - small) / (SIZES[1] - SIZES[0]))
    return f"Rate({max(0.0, small - SIZES[0] * image):.5f}, {image:.5f})"


def kinds(name: str, images: Tensor, labels: Tensor) -> Mapping[str, str]:
    """One line for each kind of work on the assets of a name."""
    classifier, gan = load_classifier(name), load_gan(name)
    encoder = load_encoder(name)
    loss = ProjectionLoss(load_perceptual(name))
    projector = Projector(gan, encoder, loss=loss, passes=PASSES)
    search = build_pgd(steps=STEPS, step_size=0.01)
    threat = Threat("linf", 0.03)
    spec = JitterSpec(zoom=33 / 32, flip=False, color=0.05)
    codes = encoder(images).detach()

    def attack(n: int) -> None:
        rngs = [rng_for(0, i) for i in range(n)]
        run_attack(search, classifier, images[:n], labels[:n], threat, rngs)

    def classify(n: int) -> None:
        with torch.no_grad():
            classifier(images[:n])

    def synthesize(n: int) -> None:
        with torch.no_grad():
            gan.synthesize(codes[:n])

    def steer(n: int) -> None:
        w = codes[:n].clone().requires_grad_()
        logits = classifier(gan.synthesize(w).clamp(0, 1))
        F.cross_entropy(logits, labels[:n], reduction="sum").backward()

    def encode(n: int) -> None:
        x = images[:n].clone().requires_grad_()
        encoder(x).square().sum().backward()

    def shake(n: int) -> None:
        views = images[:n][:, None].expand(-1, 8, -1, -1, -1)
        jitter(views, spec, seed=0, samples=range(n), purpose="image")

    return {
        "classify": line(lambda n: lambda: classify(n)),
        "attack": line(lambda n: lambda: attack(n), STEPS + 1),
        "synthesize": line(lambda n: lambda: synthesize(n)),
        "steer": line(lambda n: lambda: steer(n)),
        "encode": line(lambda n: lambda: encode(n)),
        "project": line(lambda n: lambda: projector(images[:n]), PASSES),
        "jitter": line(lambda n: lambda: shake(n), 8),
    }


def main() -> None:
    """Prints one block for each family of assets."""
    torch.set_num_threads(1)
    data = {
        "digits": load_digits,
        "faces": lambda: load_faces(val=SIZES[1]),
        "mnist": lambda: load_mnist(data_folder()),
        "smiles": lambda: load_smiles(data_folder()),
    }
    for name in sys.argv[1:] or ("digits", "faces"):
        part = data[name]().part("val", SIZES[1])
        images = torch.from_numpy(part.pixels())
        found = kinds(name, images, torch.from_numpy(part.labels))
        print(f"{name}:")
        for kind, text in found.items():
            print(f'    "{kind}": {text},')


if __name__ == "__main__":
    main()
