"""Builds a report from prediction tables and writes all of its files.

Neither needs a model: a report is a function of `tables/` and `manifest.json`, and the
same two give the same bytes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robustgen.checks import Finding, checks_frame, run_checks, with_verdicts
from robustgen.errors import RequestError
from robustgen.evidence import Evidence
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
from robustgen.report_schema import Report, json_safe, to_json
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
    findings: tuple[Finding, ...] = ()
    if evidence is not None:
        findings = run_checks(outcomes, evidence, settings)
        accuracy = with_verdicts(accuracy, findings)
    return Report(
        name=name,
        profile=profile,
        notes=report_notes(
            profile, [table.key.tier for table in tables], manifest.get("limit")
        ),
        accuracy=accuracy,
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
    """Writes report.md, report.html, report.json, accuracy.csv, predictions.parquet.

    Pictures are taken from `out/pictures` where there are any.

    Raises:
        RequestError: the folder cannot be written, or its pictures are damaged.
    """
    write_text(out / "report.md", to_markdown(report))
    write_text(out / "report.html", to_html(report, out / "pictures"))
    write_text(out / "report.json", to_json(report))
    # Ten digits hold every share of up to a million samples, without noise at the end.
    csv = report.accuracy.to_csv(index=False, float_format="%.10g", lineterminator="\n")
    write_text(out / "accuracy.csv", csv)
    with whole_file(out / "predictions.parquet") as temporary:
        report.predictions.to_parquet(temporary, engine="pyarrow", index=False)


def rebuild_report(run: Path) -> Report:
    """Builds a run's report again from its tables and manifest, and writes it.

    Args:
        run: Folder of a run, with `tables/*.npz` and `manifest.json`.

    Raises:
        RequestError: the folder is not that of a run, or a file in it is damaged.
    """
    found = read_run(run)
    report = build_report(
        found.tables,
        suite=found.suite,
        profile=found.profile,
        manifest=found.manifest,
        evidence=found.evidence,
    )
    write_report(report, run)
    return report
