"""What is left of the reconstruction path when the attack knows the encoder.

    python benchmarks/adaptive.py

PGD with the settings of the suites, but through classifier(G(E(x))) instead of the
bare classifier: one network without the projection's steps. Its images are then scored
by the full projection. The simplest attack that knows the defense, not the strongest:
what it leaves is an upper bound, not robustness.
"""

import torch
from tabulate import tabulate
from torch import Tensor, nn

from robustgen.attacks import run_attack
from robustgen.catalog import (
    Models,
    build_attack,
    build_defense,
    build_models,
)
from robustgen.datasets import build_dataset
from robustgen.defense import predict_paths
from robustgen.intervals import wilson_interval
from robustgen.rngs import rng_for
from robustgen.suite import load_suite, resolve_cases

COUNT = 200
"""Test images of each suite."""

BATCH = 50


class EncoderOnly(nn.Module):
    """The classifier on G(E(x))."""

    def __init__(self, models: Models):
        super().__init__()
        assert models.encoder is not None
        self.classifier = models.classifier
        self.gan = models.gan
        self.encoder = models.encoder

    def forward(self, images: Tensor) -> Tensor:
        output = self.gan.synthesize(self.encoder(images))
        return self.classifier(output.clamp(0, 1))


def main() -> None:
    """Prints accuracy under the oblivious PGD and the one through G(E(x))."""
    rows: list[list[str]] = []
    for name in ("celebahq_smiling", "digits"):
        cases = resolve_cases(load_suite(name), "embedded")
        case = next(c for c in cases if c.attack.name == "pgd")
        dataset = build_dataset(case.pair, case.domain, case.splits, ())
        cpu = torch.device("cpu")
        models = build_models(case.pair, case.domain, dataset, cpu, ())
        defense = build_defense(case, dataset, models)
        attack, threat = build_attack(case.attack, ())
        surrogates = {
            "PGD, oblivious": models.classifier,
            "PGD through G(E(x))": EncoderOnly(models),
        }
        part = dataset.part("test", COUNT)
        for label, surrogate in surrogates.items():
            right = {"image": 0, "reconstruction": 0}
            for start in range(0, COUNT, BATCH):
                batch = part.rows(slice(start, start + BATCH))
                images = torch.from_numpy(batch.pixels())
                labels = torch.from_numpy(batch.labels)
                samples = batch.index.tolist()
                rngs = [rng_for(case.seed, "adaptive", label, s) for s in samples]
                outcome = run_attack(attack, surrogate, images, labels, threat, rngs)
                found = predict_paths(defense, outcome.images, samples)
                for path in right:
                    correct = found.single[path].argmax(dim=1) == labels
                    right[path] += int(correct.sum())
            shares: list[str] = []
            for count in right.values():
                low, high = wilson_interval(count, COUNT)
                shares.append(f"{count / COUNT:.3f} [{low:.3f}, {high:.3f}]")
            rows.append([name, label, *shares])
    headers = ["suite", "attack", "image", "reconstruction"]
    print(tabulate(rows, headers=headers, tablefmt="github"))


if __name__ == "__main__":
    main()
