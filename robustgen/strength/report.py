"""From the folder of a run to the strength of its attacks, and the files that say it.

A function of `tables/` and `manifest.json`: the same two give the same bytes.
"""

import json
from pathlib import Path

from robustgen.files import write_text
from robustgen.finished import read_run
from robustgen.plots import eps_curves, svg_file
from robustgen.report_schema import json_safe
from robustgen.strength.rendering import to_markdown
from robustgen.strength.tallies import StrengthReport, strength_report

FORMAT_VERSION = 1
"""Of attacks.json."""

FIGURE = "attacks_eps.svg"


def load_strength(run: Path) -> StrengthReport:
    """Measures the attacks of a finished run from its tables.

    Args:
        run: Folder of a run, with `tables/*.npz` and `manifest.json`.

    Raises:
        RequestError: the folder is not that of a run, a file in it is damaged, or it
            holds no attack.
    """
    found = read_run(run)
    seed = int(found.suite.get("seed", 0))
    return strength_report(found.tables, found.suite, seed=seed)


def write_strength(report: StrengthReport, out: Path) -> None:
    """Writes attacks.csv, attacks.md, attacks.json and, for sweeps, attacks_eps.svg.

    `attacks.csv` holds the ranking; `attacks.json` everything.

    Raises:
        RequestError: the folder cannot be written.
    """
    csv = report.ranking.to_csv(index=False, float_format="%.10g", lineterminator="\n")
    write_text(out / "attacks.csv", csv)
    write_text(out / "attacks.json", to_json(report))
    has_figure = len(report.curves) > 0
    if has_figure:
        svg = svg_file(eps_curves(report.curves), "attacks")
        write_text(out / FIGURE, svg)
    write_text(out / "attacks.md", to_markdown(report, FIGURE if has_figure else None))


def to_json(report: StrengthReport) -> str:
    """All frames as JSON; NaN is null, infinity the text `inf`."""
    frames = {
        name: json_safe(getattr(report, name).to_dict(orient="records"))
        for name in ("ranking", "threats", "curves", "reach", "passes")
    }
    record = {"version": FORMAT_VERSION, "suite": report.name, **frames}
    return json.dumps(record, indent=1, allow_nan=False) + "\n"
