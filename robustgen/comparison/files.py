"""The files of a comparison: comparison.md, comparison.json, comparison.csv."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from robustgen.comparison.compare import ComparedRow, Comparison
from robustgen.comparison.rendering import to_markdown
from robustgen.comparison.samples import gained_samples, lost_samples, samples_frame
from robustgen.files import write_text
from robustgen.report_schema import json_safe

FORMAT_VERSION = 1
"""Of comparison.json."""


def write_comparison(comparison: Comparison, out: Path) -> None:
    """Writes comparison.md, comparison.json and comparison.csv.

    The CSV has one line per row and sample that differs; the JSON has everything else.

    Raises:
        RequestError: the folder cannot be written.
    """
    frame = samples_frame(comparison.rows)
    csv = frame.to_csv(index=False, float_format="%.10g", lineterminator="\n")
    write_text(out / "comparison.csv", csv)
    write_text(out / "comparison.json", to_json(comparison))
    write_text(out / "comparison.md", to_markdown(comparison))


def to_json(comparison: Comparison) -> str:
    """A comparison as strict JSON; NaN is null, infinity the text `inf`."""
    record = {
        "version": FORMAT_VERSION,
        "a": asdict(comparison.a),
        "b": asdict(comparison.b),
        "notes": comparison.notes,
        "plan": None if comparison.plan is None else asdict(comparison.plan),
        "configuration": [asdict(change) for change in comparison.changes],
        "rows": [_row(row) for row in comparison.rows],
        "only_a": [asdict(key) for key in comparison.only_a],
        "only_b": [asdict(key) for key in comparison.only_b],
    }
    return json.dumps(json_safe(record), indent=1, allow_nan=False) + "\n"


def _row(row: ComparedRow) -> dict[str, Any]:
    size = row.sample_size
    return {
        **asdict(row.key),
        "n": row.difference.n,
        "accuracy_a": row.accuracy_a,
        "ci_low_a": row.interval_a.low,
        "ci_high_a": row.interval_a.high,
        "accuracy_b": row.accuracy_b,
        "ci_low_b": row.interval_b.low,
        "ci_high_b": row.interval_b.high,
        "difference": row.difference.mean,
        "ci_low": row.difference.low,
        "ci_high": row.difference.high,
        "gained": row.difference.gained,
        "lost": row.difference.lost,
        "discordance": row.discordance,
        "p": row.p,
        "p_corrected": row.p_corrected,
        "verdict_a": row.verdict_a,
        "verdict_b": row.verdict_b,
        "reading": row.reading,
        "needed_for_difference": None if size is None else size.for_difference,
        "needed_for_half_width": None if size is None else size.for_half_width,
        "gained_samples": gained_samples(row),
        "lost_samples": lost_samples(row),
    }
