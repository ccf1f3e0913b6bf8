"""The evaluation checklist, filled in from a run's own results.

python benchmarks/checklist.py reports/runs/ladder_digits-embedded docs/checklist.md
"""

import sys
from pathlib import Path

import pandas as pd

from robustgen.grids import accuracy_grid, checks_grid, subjects, worst_case_grid
from robustgen.report import rebuild_report
from robustgen.report_schema import Report

HEAD = (
    "# Checklist of {name}, filled in",
    "`python run_suite.py suites/{name}.yaml`, then `python benchmarks/checklist.py "
    "{run} {out}`. Every finding comes from the run itself; nothing here was typed by "
    "hand.",
    "What each check looks at: [verdicts.md](verdicts.md). Who attacks what: "
    "[threat_models.md](threat_models.md).",
)


def main(run: Path, out: Path) -> None:
    """Writes the checklist of a run as Markdown."""
    report = rebuild_report(run)
    parts = [line.format(name=report.name, run=run, out=out) for line in HEAD]
    for subject in subjects(report.accuracy):
        rows = subject.rows(report.accuracy)
        parts += [f"## {subject}", _counts(rows), *_threat(report)]
        for grid in (
            accuracy_grid(rows, "clean"),
            worst_case_grid(subject.rows(report.worst_case)),
            checks_grid(subject.rows(report.checks)),
        ):
            parts += [f"### {grid.title}", grid.markdown, grid.caption]
    out.write_text("\n\n".join(parts).rstrip() + "\n", encoding="utf-8")


def _counts(rows: pd.DataFrame) -> str:
    counts = rows["verdict"].value_counts()
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    return f"Rows of accuracy.csv: {said}."


def _threat(report: Report) -> list[str]:
    """What the attackers of the ladder may do and spend."""
    ladder = report.suite["ladder"]
    budget = ", ".join(f"{key} {value}" for key, value in ladder["budget"].items())
    return [f"Budget of each tier: {budget}."]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
