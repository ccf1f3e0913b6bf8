"""Builds a report from prediction tables and writes all of its files.

Neither needs a model: a report is a function of `tables/` and `manifest.json`, and the
same two give the same bytes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from robustgen.balanced import balanced_frame
from robustgen.checks import Finding, checks_frame, run_checks, with_verdicts
from robustgen.columns import PREDICTIONS
from robustgen.errors import RequestError
from robustgen.evidence import Evidence
from robustgen.figures import write_figures
from robustgen.files import whole_file, write_text
from robustgen.finished import profile_settings, read_run, suite_outcomes
from robustgen.metrics import (
    accuracy_frame,
    costs_frame,
    curves_frame,
    differences_frame,
    predictions_frame,
    robustness_frame,
    worst_case_frame,
)
from robustgen.rendering import report_notes, to_html, to_markdown
from robustgen.report_schema import SCHEMA_VERSION, Report, json_safe, to_json
from robustgen.strength.randomness import random_frame
from robustgen.table import PredictionTable


def build_report(
    tables: Sequence[PredictionTable],
    *,
    suite: Mapping[str, Any],
    profile: str,
    manifest: Mapping[str, Any],
    evidence: Sequence[Evidence] | None = None,
) -> Report:
    """Counts everything that a report shows.

    Args:
        tables: Validation and test tables of every case, in any order.
        suite: The suite as resolved, JSON-able. Read are `name`, `seed` (of the
            bootstrap; default 0) and, from its profile or else from the top,
            `attacks` and `paths` (order of the report) and `ensemble` (size,
            resamples, alphas; defaults 31, 20, 21).
        profile: `embedded` or `full`.
        manifest: Provenance, shown as it is. Its `suite` and `profile` are left out:
            the arguments stand for them.
        evidence: What the probes of each pair measured. None where no probe has run:
            then no check runs, and verdicts are empty.

    Raises:
        RequestError: there are no tables, or they do not fit together.
    """
    if not tables:
        raise RequestError("There are no prediction tables to report on.")
    settings = profile_settings(suite, profile)
    outcomes = suite_outcomes(tables, settings)
    name = str(suite["name"])
    provenance = {
        key: value for key, value in manifest.items() if key not in ("suite", "profile")
    }
    accuracy = accuracy_frame(outcomes, suite=name, profile=profile)
    balanced = balanced_frame(outcomes)
    findings: tuple[Finding, ...] = ()
    if evidence is not None:
        findings = run_checks(outcomes, evidence, settings)
        accuracy = with_verdicts(accuracy, findings)
        balanced = with_verdicts(balanced, findings)
    return Report(
        name=name,
        profile=profile,
        notes=report_notes(
            profile, [table.key.tier for table in tables], manifest.get("limit")
        ),
        accuracy=accuracy,
        balanced=balanced,
        differences=differences_frame(outcomes, seed=int(suite.get("seed", 0))),
        robustness=robustness_frame(outcomes),
        worst_case=worst_case_frame(outcomes),
        costs=costs_frame(outcomes),
        randomness=random_frame(outcomes),
        checks=checks_frame(findings),
        curves=curves_frame(outcomes),
        predictions=predictions_frame(outcomes),
        suite=json_safe(suite),
        provenance=json_safe(provenance),
    )


def write_report(report: Report, out: Path) -> None:
    """Writes every file that shows or holds the numbers of a run.

    These are report.md, report.html, report.json, accuracy.csv, balanced.csv,
    predictions.parquet and figures/; docs/files.md describes them. Pictures are taken
    from `out/pictures` where there are any.

    Raises:
        RequestError: the folder cannot be written, or its pictures are damaged.
    """
    write_text(out / "report.md", to_markdown(report))
    write_text(out / "report.html", to_html(report, out / "pictures"))
    write_numbers(report, out)
    write_figures(report, out)


def write_numbers(report: Report, out: Path) -> None:
    """Writes what programs read: JSON, accuracy.csv, balanced.csv, predictions.parquet.

    Raises:
        RequestError: the folder cannot be written.
    """
    write_text(out / "report.json", to_json(report))
    for name, frame in (("accuracy", report.accuracy), ("balanced", report.balanced)):
        # Ten digits hold every share of up to a million samples, without noise at the
        # end.
        csv = frame.to_csv(index=False, float_format="%.10g", lineterminator="\n")
        write_text(out / f"{name}.csv", csv)
    _write_predictions(report.predictions, out / "predictions.parquet")


def load_report(run: Path | str) -> Report:
    """Reads a finished run as a report, and writes nothing.

    Args:
        run: Folder of a run, with `tables/*.npz` and `manifest.json`.

    Returns:
        What `rg.run` returned: data frames `accuracy`, `predictions`, ..., counted
        again from the tables.

    Raises:
        RequestError: the folder is not that of a run, or a file in it is damaged.
    """
    found = read_run(Path(run))
    return build_report(
        found.tables,
        suite=found.suite,
        profile=found.profile,
        manifest=found.manifest,
        evidence=found.evidence,
    )


def rebuild_report(run: Path) -> Report:
    """Builds a run's report again from its tables and manifest, and writes it.

    Args:
        run: Folder of a run, with `tables/*.npz` and `manifest.json`.

    Raises:
        RequestError: the folder is not that of a run, or a file in it is damaged.
    """
    report = load_report(run)
    write_report(report, run)
    return report


def predictions_schema() -> pa.Schema:  # pyright: ignore[reportUnknownParameterType]
    """Columns of predictions.parquet; each carries its meaning, unit and emptiness."""
    return pa.schema(
        [
            pa.field(
                column.name,
                getattr(pa, column.parquet_type)(),
                nullable=not column.is_always_there,
                metadata={
                    "description": column.meaning,
                    "unit": column.unit,
                    "empty": column.empty,
                },
            )
            for column in PREDICTIONS
        ]
    )


def _write_predictions(predictions: pd.DataFrame, path: Path) -> None:
    table = pa.Table.from_pandas(
        predictions, schema=predictions_schema(), preserve_index=False
    )
    version = {"robustgen_schema_version": str(SCHEMA_VERSION)}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **version})
    with whole_file(path) as temporary:
        parquet.write_table(table, temporary)
