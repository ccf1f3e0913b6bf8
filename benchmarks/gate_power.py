"""How often the gate catches a planted regression, and fails where nothing changed.

Draws runs of 12 rows (4 paths under 3 attacks) on the same test images, judges them as
`robustgen check` does, and counts. Accuracies are spread evenly between 0.85 and 0.98.
Between two runs, in every row, a share `noise` of the images turns wrong and as many
turn right. The regression turns 5 points more of one row's images wrong.

    python benchmarks/gate_power.py
"""

import argparse

import numpy as np
from jaxtyping import Bool

from robustgen.gate.baseline import BaselineRow
from robustgen.gate.judging import MARGIN, judge
from robustgen.seeding import numpy_rng

PATHS = ("reconstruction", "stylemix_ensemble", "combined_ensemble", "image_ensemble")
ATTACKS = ("fgsm", "pgd", "cw")
LOWEST, HIGHEST = 0.85, 0.98
SAMPLES, NOISE, DROP = 500, 0.01, 0.05


def as_row(attack: str, path: str, right: Bool[np.ndarray, " n"]) -> BaselineRow:
    """A row of one decision per image; its interval is not read."""
    return BaselineRow(
        dataset="faces",
        classifier="cnn",
        attack=attack,
        tier="oblivious",
        norm="linf",
        eps=8 / 255,
        path=path,
        alpha_from="",
        target="",
        verdict="TRUSTED",
        n=len(right),
        accuracy=int(right.sum()) / len(right),
        ci_low=0.0,
        ci_high=1.0,
        alpha=None,
        of=1,
        right=tuple(int(one) for one in right),
    )


def run_again(
    right: Bool[np.ndarray, " n"],
    noise: float,
    drop: float,
    rng: np.random.Generator,
) -> Bool[np.ndarray, " n"]:
    """Another run: on average `noise` of all images flip each way, and `drop` break.

    Args:
        right: Decisions of the run before.
        noise: Share of all images that turns wrong, and share that turns right.
        drop: Share of all images, right before, that breaks for good; exact.
        rng: Source of the flips. Consumed.
    """
    n = len(right)
    wrong = int((~right).sum())
    # As many one way as the other, also where few are wrong.
    flips = min(noise * n, wrong)
    chance = np.where(right, flips / right.sum(), flips / max(wrong, 1))
    again = right ^ (rng.random(n) < chance)
    broken = rng.choice(np.flatnonzero(right), round(drop * n), replace=False)
    again[broken] = False
    return again


def simulate(
    rng: np.random.Generator,
    *,
    samples: int = SAMPLES,
    noise: float = NOISE,
    drop: float = DROP,
    margin: float = MARGIN,
) -> tuple[bool, bool, int]:
    """One run against one baseline.

    Returns:
        Whether the row of the regression is found weaker; whether any other row
        fails; how many rows are undecided.
    """
    names = [(attack, path) for attack in ATTACKS for path in PATHS]
    broken = int(rng.integers(len(names)))
    pairs: list[tuple[BaselineRow, BaselineRow]] = []
    levels = rng.permutation(np.linspace(LOWEST, HIGHEST, len(names)))
    for place, ((attack, path), level) in enumerate(zip(names, levels, strict=True)):
        right = rng.random(samples) < level
        again = run_again(right, noise, drop if place == broken else 0.0, rng)
        pairs.append((as_row(attack, path, right), as_row(attack, path, again)))
    found = judge(pairs, margin=margin)
    caught = found[broken].verdict == "defense weaker"
    false = any(one.failed for place, one in enumerate(found) if place != broken)
    if not drop:
        false = any(one.failed for one in found)
    return caught, false, sum(one.verdict == "undecided" for one in found)


def rates(
    runs: int,
    seed: int = 0,
    *,
    samples: int = SAMPLES,
    noise: float = NOISE,
    drop: float = DROP,
    margin: float = MARGIN,
) -> tuple[float, float, float]:
    """Shares of runs caught and failed falsely, and of rows undecided.

    Args:
        runs: Number of simulated runs.
        seed: Of all draws; every margin judges the same runs.
        samples: Number of images.
        noise: Share of all images that turns wrong, and share that turns right.
        drop: Share of all images that breaks for good in one row.
        margin: Change of accuracy that does no harm.
    """
    rng = numpy_rng(seed, "gate power", f"{samples} {noise} {drop}")
    outcomes = [
        simulate(rng, samples=samples, noise=noise, drop=drop, margin=margin)
        for _ in range(runs)
    ]
    caught, false, undecided = np.array(outcomes, float).mean(axis=0)
    rows = len(PATHS) * len(ATTACKS)
    return float(caught), float(false), float(undecided) / rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=300)
    runs = parser.parse_args().runs
    print(f"{runs} runs of 12 rows; {SAMPLES} images unless said")
    print("\nnoise  margin  drop    caught   fails, nothing changed   undecided")
    for noise in (0.0, 0.005, 0.01, 0.02):
        for margin in (0.0, 0.01, 0.03):
            caught, _, _ = rates(runs, noise=noise, margin=margin, drop=DROP)
            _, false, undecided = rates(runs, noise=noise, margin=margin, drop=0.0)
            print(
                f"{noise:5.3f}  {margin:6.2f}  {DROP:4.2f}  {caught:8.1%}"
                f"  {false:23.1%}  {undecided:10.1%}"
            )
    print("\nsamples  drop   caught")
    for samples in (200, 500, 1000, 2000):
        for drop in (0.02, 0.03, 0.05, 0.1):
            caught, _, _ = rates(runs, samples=samples, drop=drop)
            print(f"{samples:7d}  {drop:4.2f}  {caught:7.1%}")


if __name__ == "__main__":
    main()
