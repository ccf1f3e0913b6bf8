"""Does ensembling help, and does the paper's order hold? Three seeds, paired.

    python benchmarks/seeds.py celebahq_smiling digits

Runs each suite with seeds 0, 1 and 2 (random starts of attacks, mixing codes, jitter,
bootstrap) and compares paths on the same test images. A sample's value is its mean
over the seeds; intervals are 95% bootstraps over samples. Nothing is asserted and
nothing was tuned on these images.
"""

import argparse
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from robustgen.intervals import paired_difference
from robustgen.report_schema import Report
from robustgen.runner import run
from robustgen.seeding import numpy_rng

SEEDS = (0, 1, 2)

PAIRS = (
    ("reconstruction", "stylemix_ensemble"),
    ("stylemix_ensemble", "combined_ensemble"),
    ("image_ensemble", "combined_ensemble"),
)


def test_values(report: Report, column: str) -> pd.DataFrame:
    """Correctness by attack and sample, one column per path."""
    frame = report.predictions
    test = frame.query("split == 'test'")
    single = test["path"].isin(("image", "reconstruction"))
    value = test[column].where(~single, test["correct"])
    return test.assign(value=value).pivot_table(
        index=["attack", "sample"], columns="path", values="value", sort=False
    )


def main() -> None:
    """Prints one table for each suite."""
    parser = argparse.ArgumentParser(
        description="Paired differences of paths over three seeds."
    )
    parser.add_argument("suites", nargs="+")
    parser.add_argument("--out", type=Path, default=Path("reports/runs/seeds"))
    arguments = parser.parse_args()
    for suite in arguments.suites:
        reports = [
            run(suite, out=arguments.out / f"{Path(suite).stem}-{seed}", seed=seed)
            for seed in SEEDS
        ]
        for column, source in (("correct", "clean"), ("correct_matched", "matched")):
            tables = [test_values(report, column) for report in reports]
            mean = sum(tables[1:], tables[0]) / len(tables)
            rows: list[list[str]] = []
            for attack in mean.index.unique(level="attack"):
                paths = mean.loc[attack]
                row = [attack]
                for first, second in PAIRS:
                    change = paired_difference(
                        paths[first].to_numpy(),
                        paths[second].to_numpy(),
                        numpy_rng(0, "seeds", attack, first, second),
                    )
                    each = [
                        (t.loc[attack][second] - t.loc[attack][first]).mean()
                        for t in tables
                    ]
                    row.append(
                        f"{change.mean:+.4f} [{change.low:+.4f}, {change.high:+.4f}]"
                        f" ({', '.join(f'{e:+.3f}' for e in each)})"
                    )
                rows.append(row)
            print(f"\n{suite}, alpha from {source}, n = {len(mean) // len(rows)}")
            headers = ["attack", *(f"{a} -> {b}" for a, b in PAIRS)]
            print(tabulate(rows, headers=headers, tablefmt="github"))


if __name__ == "__main__":
    main()
