"""The projection of a suite against that of Defense-GAN, on the same attacked images.

    python benchmarks/defensegan.py suites/mnist_defensegan.yaml --json defensegan.json
    python benchmarks/defensegan.py --from defensegan.json --into docs/mnist.md

Every attack of the suite is run on the bare classifier of every pair, as in a run of
the suite. Each batch of attacked images is then projected by all settings, in one
process and in turns: Defense-GAN's search in Z (arXiv:1805.06605) with R restarts of L
steps, up to the published R = 10, L = 200; and the suite's own method with as many
passes as `--ours` says. Prints three tables:

* at equal passes: accuracy of the picture, its distance to the projected image, time;
* at equal accuracy: the fewest passes with which either reaches the accuracy that
  Defense-GAN has at its largest setting, and how many times faster ours is;
* beside the published figures.

A pass is one evaluation of loss and gradient. Ours also passes features and encoder,
so its pass is dearer: compare seconds. They are CPU seconds of one thread, without the
time that others take from it.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from defensegan_tables import (
    ARRAYS,
    BARE,
    OURS,
    THEIRS,
    Measured,
    Setting,
    beside_published,
    equal_accuracy,
    equal_passes,
    filled,
    measured_of,
)
from torch import Tensor

from robustgen.attacks import run_attack
from robustgen.catalog import Models, build_attack, build_models
from robustgen.data.dataset import Dataset
from robustgen.datasets import build_dataset
from robustgen.errors import RequestError
from robustgen.files import write_text
from robustgen.library import TierAttack
from robustgen.projection_settings import (
    DefenseGanSettings,
    EncoderSettings,
    HybridSettings,
    ProjectionSettings,
)
from robustgen.projectors.build import build_projector
from robustgen.projectors.method import ProjectionMethod
from robustgen.rngs import rng_for
from robustgen.suite import Case, load_suite, resolve_cases

GRID = ((1, 10), (1, 20), (1, 50), (1, 200), (2, 200), (10, 200))
"""Restarts and steps of Defense-GAN: the published L as soon as the passes allow, then
the published R."""

PASSES = (0, 1, 2, 3, 6, 10, 20, 50, 200)
"""Passes of the suite's method; 0 is the encoder alone."""


@dataclass(eq=False)
class Log:
    """What one setting did, batch by batch."""

    values: dict[str, list[np.ndarray]] = field(
        default_factory=lambda: {name: [] for name in ARRAYS}
    )

    def add(self, **batch: np.ndarray) -> None:
        """Takes the arrays of one batch."""
        for name, value in batch.items():
            self.values[name].append(value)

    def measured(self, setting: Setting, classifier: str, attack: str) -> Measured:
        """All batches."""
        arrays = {
            name: np.concatenate(found) if found else np.zeros(0)
            for name, found in self.values.items()
        }
        return Measured(setting, classifier, attack, **arrays)


@dataclass(frozen=True, eq=False)
class Picture:
    """What a projection made of a batch, and what that cost.

    Args:
        images: Pictures in [0, 1].
        passes: Of each image.
        seconds: CPU seconds of the batch.
    """

    images: Tensor
    passes: np.ndarray
    seconds: float


def settings_of(grid: Sequence[tuple[int, int]], ours: Sequence[int]) -> list[Setting]:
    """All settings, those of Defense-GAN and those of the suite in turns."""
    theirs = [Setting(THEIRS, restarts, passes) for restarts, passes in grid]
    own = [Setting(OURS, 1, passes) for passes in ours]
    length = max(len(theirs), len(own))
    turns = [side[i] for i in range(length) for side in (theirs, own) if i < len(side)]
    return [Setting(BARE, 0, 0), *turns]


def projection_of(setting: Setting, base: HybridSettings) -> ProjectionSettings:
    """The section `projection` of a suite that asks for a setting."""
    if setting.family == THEIRS:
        return DefenseGanSettings(restarts=setting.restarts, passes=setting.passes)
    if setting.passes:
        return base.model_copy(update={"passes": setting.passes})
    return EncoderSettings(
        pixel_term=base.pixel_term,
        pixel_range=base.pixel_range,
        perceptual_weight=base.perceptual_weight,
        latent_weight=base.latent_weight,
        latent_term=base.latent_term,
    )


def methods_of(
    settings: Sequence[Setting], case: Case, models: Models
) -> dict[Setting, ProjectionMethod | None]:
    """The projectors of all settings, None for the bare one; both kinds warmed up.

    Raises:
        RequestError: the suite's own projection is not `hybrid`.
    """
    base = case.projection
    if not isinstance(base, HybridSettings):
        raise RequestError(
            f"The suite projects by '{base.method}'; expected `method: hybrid`, which "
            "is what Defense-GAN's is compared with."
        )

    def build(setting: Setting) -> ProjectionMethod:
        return build_projector(
            projection_of(setting, base),
            gan=models.gan,
            encoder=models.encoder,
            perceptual=models.perceptual,
            seed=case.seed,
        )

    size = models.gan.resolution
    gray = torch.full((2, models.gan.img_channels, size, size), 0.5)
    for setting in (Setting(THEIRS, 1, 2), Setting(OURS, 1, 2)):
        build(setting)(gray)
    return {one: None if one.family == BARE else build(one) for one in settings}


def projected(
    method: ProjectionMethod | None, images: Tensor, samples: Sequence[int]
) -> Picture:
    """A batch after one projection; the batch itself without one."""
    if method is None:
        return Picture(images, np.zeros(len(images)), 0.0)
    began = time.process_time()
    found = method(images, samples=samples)
    spent = time.process_time() - began
    return Picture(found.images.clamp(0, 1), found.passes.double().numpy(), spent)


@torch.no_grad()
def measure_case(
    case: Case,
    dataset: Dataset,
    models: Models,
    methods: dict[Setting, ProjectionMethod | None],
    *,
    count: int,
    batch: int,
    reused: dict[tuple[Setting, int], Picture],
) -> list[Measured]:
    """All settings on the first test images under the attack of a case.

    Args:
        case: Pair and attack.
        dataset: Where images come from.
        models: The networks of the pair.
        methods: Projectors by setting; None projects nothing.
        count: Images.
        batch: Images at once.
        reused: Pictures of clean images by setting and first row, with their times: the
            same for every classifier. Filled here.
    """
    assert not isinstance(case.attack, TierAttack)
    attack, threat = build_attack(case.attack, ())
    part = dataset.part("test", count)
    logs = {setting: Log() for setting in methods}
    is_clean = case.attack.attack == "clean"
    for number, start in enumerate(range(0, len(part.labels), batch)):
        rows = part.rows(slice(start, start + batch))
        samples = rows.index.tolist()
        clean, labels = torch.from_numpy(rows.pixels()), torch.from_numpy(rows.labels)
        name = case.attack.name
        rngs = [rng_for(case.seed, "attack", name, sample) for sample in samples]
        attacked = run_attack(
            attack, models.classifier, clean, labels, threat, rngs
        ).images
        # There and back, so that a machine that slows down slows both sides.
        order = list(methods) if number % 2 == 0 else list(reversed(methods))
        for setting in order:
            made = reused.get((setting, start)) if is_clean else None
            if made is None:
                made = projected(methods[setting], attacked, samples)
            if is_clean:
                reused[setting, start] = made
            decided = models.classifier(made.images).argmax(dim=1)
            apart = (made.images - attacked).flatten(1)
            logs[setting].add(
                right=numbers(decided == labels),
                l1=numbers(apart.abs().mean(dim=1)),
                mse=numbers(apart.square().mean(dim=1)),
                l2_clean=numbers((made.images - clean).flatten(1).norm(dim=1)),
                passes=made.passes,
                seconds=np.array([made.seconds]),
                timed=np.array([float(len(labels))]),
            )
    return [
        log.measured(setting, case.pair.labels[1], case.attack.name)
        for setting, log in logs.items()
    ]


def numbers(values: Tensor) -> np.ndarray:
    """As float64, for the tables."""
    return values.double().numpy()


def measure(
    suite: Path, settings: Sequence[Setting], *, count: int, batch: int, out: Path
) -> dict[str, Any]:
    """All pairs and attacks of a suite; `out` holds what is done so far.

    The embedded profile; the full one of a suite that has no other.

    Raises:
        RequestError: the suite is wrong, or its projection is not `hybrid`.
    """
    loaded = load_suite(suite)
    profile = "full" if loaded.profiles.embedded is None else "embedded"
    cases = [
        case
        for case in resolve_cases(loaded, profile)
        if not isinstance(case.attack, TierAttack)
    ]
    reused: dict[tuple[Setting, int], Picture] = {}
    found: dict[str, Any] = {"suite": suite.name, "images": count, "rows": []}
    for pair in dict.fromkeys(case.pair.labels for case in cases):
        own = [case for case in cases if case.pair.labels == pair]
        dataset = build_dataset(own[0].pair, own[0].domain, own[0].splits, ())
        device = torch.device("cpu")
        models = build_models(own[0].pair, own[0].domain, dataset, device, ())
        methods = methods_of(settings, own[0], models)
        base = own[0].projection
        assert isinstance(base, HybridSettings)
        found |= {"seed": own[0].seed, "passes": base.passes}
        for case in own:
            rows = measure_case(
                case,
                dataset,
                models,
                methods,
                count=count,
                batch=batch,
                reused=reused,
            )
            found["rows"] += [row.record() for row in rows]
            write_text(out, json.dumps(found))
            for row in rows:
                print(
                    *pair,
                    row.attack,
                    row.setting.family,
                    row.setting.label,
                    f"{row.right.mean():.3f}",
                    sep=" | ",
                    flush=True,
                )
    return found


def tables_of(found: dict[str, Any]) -> dict[str, str]:
    """The three tables by the name of their markers."""
    rows = [measured_of(record) for record in found["rows"]]
    seed = found["seed"]
    return {
        "equal passes": equal_passes(rows, seed),
        "equal accuracy": equal_accuracy(rows, seed),
        "published": beside_published(rows, found["passes"]),
    }


def main() -> None:
    """Measures or reads, prints, and fills a document."""
    parser = argparse.ArgumentParser(
        description="Our projection against Defense-GAN's."
    )
    parser.add_argument("suite", type=Path, nargs="?", help="a suite file")
    parser.add_argument("--limit", type=int, default=40, help="test images")
    parser.add_argument("--batch", type=int, default=20, help="images at once")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--ours", type=int, nargs="+", default=list(PASSES))
    parser.add_argument(
        "--most", type=int, default=2000, help="passes of Defense-GAN at most"
    )
    parser.add_argument("--json", type=Path, default=Path("defensegan.json"))
    parser.add_argument("--from", dest="source", type=Path, help="an earlier --json")
    parser.add_argument("--into", type=Path, help="document whose tables to fill")
    arguments = parser.parse_args()
    if (arguments.suite is None) == (arguments.source is None):
        parser.error("name a suite to measure, or an earlier result by --from")
    if arguments.source is not None:
        found = json.loads(arguments.source.read_text(encoding="utf-8"))
    else:
        torch.set_num_threads(arguments.threads)
        grid = [one for one in GRID if one[0] * one[1] <= arguments.most]
        found = measure(
            arguments.suite,
            settings_of(grid, arguments.ours),
            count=arguments.limit,
            batch=arguments.batch,
            out=arguments.json,
        )
    for name, table in tables_of(found).items():
        print(f"\n{name}\n\n{table}")
        if arguments.into is not None:
            text = arguments.into.read_text(encoding="utf-8")
            write_text(arguments.into, filled(text, name, table))


if __name__ == "__main__":
    main()
