"""What the gate says, as text for a terminal and as Markdown."""

import math

from robustgen.gate.judging import Judgment
from robustgen.gate.report import GateReport
from robustgen.grids import Grid, share_text
from robustgen.outcomes import CLEAN

MARKS = {"defense weaker": "✗", "attack weaker": "✗", "refused": "✗", "undecided": "?"}
"""What stands before a verdict that needs a look."""


def headline(report: GateReport) -> str:
    """One line: passed, failed or refused, and how many rows of each verdict."""
    counts: dict[str, int] = {}
    for row in report.rows:
        counts[row.verdict] = counts.get(row.verdict, 0) + 1
    listed = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    return (
        f"Gate {report.status}: suite {report.suite} ({report.profile}), "
        f"{_rows(len(report.rows))} against {report.baseline}: {listed}."
    )


def terminal_text(report: GateReport) -> str:
    """Everything that the gate says, as plain text."""
    parts: list[str] = []
    for grid in _grids(report):
        parts.append(f"{grid.title}\n{grid.plain}")
    parts.append(caption(report))
    parts += [f"- {text}" for text in explanations(report)]
    parts += list(report.notes)
    parts.append(headline(report))
    return "\n\n".join(parts)


def to_markdown(report: GateReport) -> str:
    """The text of gate.md."""
    parts = [f"# Gate {report.status}", headline(report)]
    for grid in _grids(report):
        parts += [f"## {grid.title}", grid.markdown]
    parts.append(caption(report))
    if texts := explanations(report):
        parts += ["## What to look at", "\n".join(f"- {text}" for text in texts)]
    if report.notes:
        parts += ["## What differs", "\n".join(f"- {text}" for text in report.notes)]
    return "\n\n".join(parts) + "\n"


def caption(report: GateReport) -> str:
    """How to read the table."""
    strict = " Undecided rows fail (--strict)." if report.strict else ""
    return (
        "Difference: now minus baseline on the same images, interval at 95%. Flips: "
        "images right more often (+) and less often (-) than before. p: exact paired "
        "test, corrected by Holm over all rows; a row fails where p < "
        f"{report.alpha:g} and the interval leaves the margin of {report.margin:g}."
        f"{strict}"
    )


def explanations(report: GateReport) -> list[str]:
    """What every row that needs a look says, one text each, failures first."""
    order = {"defense weaker": 0, "attack weaker": 0, "refused": 1, "undecided": 2}
    wanted = [place for place, row in enumerate(report.rows) if row.verdict in order]
    wanted.sort(key=lambda place: order[report.rows[place].verdict])
    return [f"{_title(report, place)}: {explain(report, place)}" for place in wanted]


def explain(report: GateReport, place: int) -> str:
    """What one row says, and what to look at; empty where nothing is the matter.

    Args:
        report: The report.
        place: Index of the row in it.
    """
    row = report.rows[place]
    moved = (
        f"accuracy {row.before:.3f} -> {row.now:.3f} "
        f"({share_text(row.difference, row.low, row.high, sign=True)}, flips "
        f"{flips_text(row)}, n = {row.n}, p = {_p_text(row)})"
    )
    if row.verdict == "defense weaker":
        return f"defense weaker: {moved}.{_why(report, place)}{_stronger(row)}"
    if row.verdict == "attack weaker":
        return f"attack weaker: {moved}.{_why(report, place)}{_weaker(report, row)}"
    if row.verdict == "refused":
        return (
            f"refused, no longer TRUSTED: {moved}. {' '.join(row.checks)} Repair the "
            "cause, see the checks in report.md."
        )
    if row.verdict == "undecided":
        return f"undecided: {moved}.{_excluded(report, row)}"
    return ""


def flips_text(row: Judgment) -> str:
    """Flips in both directions.

    Samples are counted, whatever the number of draws in which they moved.
    """
    return f"+{row.gained} -{row.lost}"


def _grids(report: GateReport) -> list[Grid]:
    """One grid for each pair."""
    groups: dict[tuple[str, str], list[Judgment]] = {}
    for row in report.rows:
        groups.setdefault((row.name.dataset, row.name.classifier), []).append(row)
    return [
        Grid(
            title=f"Data set {dataset}, classifier {classifier} (n = {rows[0].n})",
            columns=(
                "attack and path",
                "baseline",
                "now",
                "difference",
                "flips",
                "p (Holm)",
                "verdict",
            ),
            rows=tuple(_cells(row) for row in rows),
        )
        for (dataset, classifier), rows in groups.items()
    ]


def _cells(row: Judgment) -> tuple[str, ...]:
    return (
        str(row.name),
        f"{row.before:.3f}",
        f"{row.now:.3f}",
        share_text(row.difference, row.low, row.high, sign=True),
        flips_text(row),
        _p_text(row),
        f"{MARKS.get(row.verdict, '')} {row.verdict}".strip(),
    )


def _p_text(row: Judgment) -> str:
    return "–" if math.isnan(row.p_corrected) else f"{row.p_corrected:.2g}"


def _title(report: GateReport, place: int) -> str:
    """A row, and its pair where there are several."""
    name = report.rows[place].name
    pairs = {(row.name.dataset, row.name.classifier) for row in report.rows}
    return f"{name.dataset}/{name.classifier}: {name}" if len(pairs) > 1 else str(name)


def _why(report: GateReport, place: int) -> str:
    """What is known to differ of attack and ensemble."""
    parts: list[str] = []
    changed = report.settings.get(report.rows[place].name.attack, ())
    if changed:
        parts.append(f" Settings differ: {', '.join(changed)}.")
    if place in report.alphas:
        before, now = report.alphas[place]
        parts.append(f" Weight of the views: {before:.3f} -> {now:.3f}.")
    return "".join(parts)


def _stronger(row: Judgment) -> str:
    """What else may have lowered an accuracy."""
    if row.name.attack == CLEAN:
        return " Clean images lose too: look at projection, views and classifier."
    return (
        " Either the defense got weaker or the attack stronger. If clean images lose "
        "too, it is the defense; if the attack was improved, a new baseline signs it "
        "off."
    )


def _weaker(report: GateReport, row: Judgment) -> str:
    """What to look at where an accuracy rose under an attack."""
    image = next(
        (
            one
            for one in report.rows
            if one.name[:4] == row.name[:4] and one.name.path == "image"
        ),
        None,
    )
    parts = [" Either the attack got weaker or the defense stronger."]
    if image is not None and image is not row:
        same = "rose too, which points to the attack"
        other = "did not rise, which points to the defense"
        rose = image.verdict == "attack weaker"
        parts.append(
            f" The image path under the same attack {same if rose else other}."
        )
    elif image is row:
        parts.append(
            " No defense stands on the image path: it is the attack, or the classifier."
        )
    parts.append(
        " See `robustgen attacks RUN`. If the rise is wanted, a new baseline signs it "
        "off."
    )
    return "".join(parts)


def _excluded(report: GateReport, row: Judgment) -> str:
    """The largest change that the samples leave possible."""
    left: list[str] = []
    if row.low < -report.margin:
        left.append(f"a drop of up to {-row.low:.3f}")
    if row.name.attack != CLEAN and row.high > report.margin:
        left.append(f"a rise of up to {row.high:.3f}")
    needed = f"; about {row.needed:,} images would do if nothing changed"
    verb = "is" if len(left) == 1 else "are"
    listed = " and ".join(left)
    return f" {listed.capitalize()} {verb} not excluded{needed if row.needed else ''}."


def _rows(count: int) -> str:
    return f"{count} row" if count == 1 else f"{count} rows"
