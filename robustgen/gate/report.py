"""One check of a run against a baseline: what was found, and the files that say it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from robustgen.errors import RequestError
from robustgen.finished import read_run
from robustgen.gate.baseline import Baseline, load_baseline, save_baseline
from robustgen.gate.comparable import differing, notes, refusals
from robustgen.gate.judging import ALPHA, MARGIN, Judgment, judge
from robustgen.gate.snapshot import run_faults, take_snapshot, trusted_part
from robustgen.report_schema import json_safe

FORMAT_VERSION = 1
"""Of gate.json."""


@dataclass(frozen=True)
class GateReport:
    """What the gate says of a run.

    Args:
        suite: Name of the suite.
        profile: `embedded` or `full`.
        baseline: File that the run was compared with, as it was named.
        created: When the run of the baseline began.
        margin: Change of accuracy that does no harm.
        alpha: Chance of one false failure or more, at most.
        strict: Whether undecided rows fail.
        rows: One judgment per row of the baseline, in its order.
        notes: What differs and was no reason to refuse.
        settings: What differs of an attack's settings, by its name.
        alphas: Weight of the views before and now, by place in `rows`, where it moved.
    """

    suite: str
    profile: str
    baseline: str
    created: str
    margin: float
    alpha: float
    strict: bool
    rows: tuple[Judgment, ...]
    notes: tuple[str, ...]
    settings: Mapping[str, tuple[str, ...]]
    alphas: Mapping[int, tuple[float, float]]

    def fails(self, row: Judgment) -> bool:
        """Whether this row fails the gate."""
        return row.failed or (self.strict and row.verdict == "undecided")

    @property
    def status(self) -> Literal["passed", "failed", "refused"]:
        """`failed` wins over `refused`, which says that a row cannot be trusted."""
        if any(self.fails(row) for row in self.rows):
            return "failed"
        refused = any(row.verdict == "refused" for row in self.rows)
        return "refused" if refused else "passed"

    @property
    def exit_code(self) -> int:
        """0 passed, 1 failed, 3 refused."""
        return {"passed": 0, "failed": 1, "refused": 3}[self.status]


def check_run(
    folder: Path,
    path: Path,
    *,
    margin: float = MARGIN,
    alpha: float = ALPHA,
    strict: bool = False,
) -> GateReport:
    """Compares the run in a folder with the baseline in a file.

    Args:
        folder: Folder of a run.
        path: File written by `write_baseline`.
        margin: Change of accuracy that does no harm, a share in [0, 1).
        alpha: Chance of one false failure or more among all rows, at most.
        strict: Whether rows that are undecided fail.

    Raises:
        RequestError: a file is missing or damaged, or the two cannot be compared; the
            message lists every reason.
    """
    if not 0 <= margin < 1:
        raise RequestError(
            f"--margin {margin:g}: should be a share of 0 or more, below 1, such as "
            "0.01 for one point of accuracy."
        )
    if not 0 < alpha < 1:
        raise RequestError(f"--alpha {alpha:g}: should lie between 0 and 1.")
    baseline = load_baseline(path)
    run = read_run(folder)
    if faults := run_faults(run):
        raise RequestError(refusal_text(path, faults))
    snapshot = take_snapshot(run)
    if reasons := refusals(baseline, snapshot):
        raise RequestError(refusal_text(path, reasons))
    now = {row.name: row for row in snapshot.rows}
    rows = [(row, now[row.name]) for row in baseline.rows]
    return GateReport(
        suite=baseline.suite,
        profile=baseline.profile,
        baseline=str(path),
        created=baseline.created,
        margin=margin,
        alpha=alpha,
        strict=strict,
        rows=tuple(judge(rows, margin=margin, alpha=alpha)),
        notes=tuple(notes(baseline, snapshot)),
        settings=_changed_settings(baseline, snapshot),
        alphas={
            place: (before.alpha, after.alpha)
            for place, (before, after) in enumerate(rows)
            if before.alpha is not None
            and after.alpha is not None
            and abs(before.alpha - after.alpha) > 1e-9
        },
    )


def write_baseline(folder: Path, out: Path) -> Baseline:
    """Makes the baseline of a run: its rows that are TRUSTED.

    Args:
        folder: Folder of a run.
        out: File to write.

    Returns:
        What was written; `left_out` names the other rows and what is against them.

    Raises:
        RequestError: the run cannot be a baseline, or none of its rows is TRUSTED.
    """
    snapshot = take_snapshot(read_run(folder))
    if any(not row.verdict for row in snapshot.rows):
        raise RequestError(
            f"{folder}: some rows have no verdict, since no check has run on their "
            "pair; run the suite again."
        )
    baseline = trusted_part(snapshot)
    if not baseline.rows:
        first = "\n".join(f"- {k}: {v}" for k, v in list(baseline.left_out.items())[:3])
        raise RequestError(
            f"{folder}: no row is TRUSTED, so there is nothing to guard. The checks "
            f"in report.md say why:\n{first}"
        )
    save_baseline(baseline, out)
    return baseline


def refusal_text(path: Path, reasons: list[str]) -> str:
    """One message of all reasons why a run cannot be compared."""
    listed = "\n".join(f"- {reason}" for reason in reasons)
    return (
        f"{path}: the run cannot be compared with this baseline.\n{listed}\n"
        "Where the change is wanted: robustgen baseline RUN --out FILE"
    )


def to_json(report: GateReport) -> str:
    """The text of gate.json: NaN is null."""
    rows: list[dict[str, Any]] = []
    for row in report.rows:
        values = asdict(row) | {"difference": row.difference, "failed": row.failed}
        rows.append(
            row.name._asdict() | {k: v for k, v in values.items() if k != "name"}
        )
    record = {
        "version": FORMAT_VERSION,
        "status": report.status,
        "suite": report.suite,
        "profile": report.profile,
        "baseline": report.baseline,
        "margin": report.margin,
        "alpha": report.alpha,
        "strict": report.strict,
        "notes": report.notes,
        "rows": rows,
    }
    return json.dumps(json_safe(record), indent=1, allow_nan=False) + "\n"


def _changed_settings(baseline: Baseline, run: Baseline) -> dict[str, tuple[str, ...]]:
    found = {
        name: tuple(differing(settings, run.attacks.get(name, {})))
        for name, settings in baseline.attacks.items()
    }
    return {name: changed for name, changed in found.items() if changed}
