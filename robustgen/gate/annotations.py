"""The gate as annotations of GitHub Actions: lines on stdout, shown at a commit."""

from robustgen.gate.rendering import explain, headline
from robustgen.gate.report import GateReport

SHOWN = 9
"""Rows of one level that get a line each; GitHub shows ten lines of a step."""


def annotations(report: GateReport) -> list[str]:
    """One line per row that fails or is refused, one for all undecided, one at the end.

    The last one tells the outcome: a notice where the gate passed.
    """
    errors = [
        annotation("error", f"{row.verdict}: {row.name}", explain(report, place))
        for place, row in enumerate(report.rows)
        if report.fails(row) or row.verdict == "refused"
    ]
    lines = errors[:SHOWN]
    if len(errors) > SHOWN:
        more = f"{len(errors) - SHOWN} more rows fail or are refused: see gate.md."
        lines.append(annotation("error", "more rows", more))
    undecided = [
        row for row in report.rows if row.verdict == "undecided" and not report.strict
    ]
    if undecided:
        worst = min(undecided, key=lambda row: row.low)
        lines.append(
            annotation(
                "warning",
                "undecided rows",
                f"{len(undecided)} of {len(report.rows)} rows are undecided; at worst, "
                f"{worst.name} may have lost up to {-worst.low:.3f}. See gate.md.",
            )
        )
    level = "notice" if report.status == "passed" else "warning"
    return [*lines, annotation(level, f"gate {report.status}", headline(report))]


def annotation(level: str, title: str, message: str) -> str:
    r"""One workflow command.

    >>> annotation("error", "pgd on image: 100%", "first\nsecond")
    '::error title=pgd on image%3A 100%25::first%0Asecond'
    """
    escaped = _escape(title).replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={escaped}::{_escape(message)}"


def _escape(text: str) -> str:
    """Percent first: it introduces the other escapes."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
