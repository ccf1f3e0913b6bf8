"""The strength of attacks as text, for a terminal and as Markdown."""

import math
from collections.abc import Iterable

import pandas as pd

from robustgen.grids import (
    Grid,
    Record,
    attack_name,
    eps_text,
    number_text,
    oblivious_note,
    records,
    share_text,
)
from robustgen.strength.ranking import LEVEL
from robustgen.strength.series import SERIES_COLUMNS
from robustgen.strength.tallies import StrengthReport

NOTES = (
    "All numbers are of test images, intervals at 95% over samples. A sample of a path "
    "with several resamples or draws is right where half of them or more are.",
    "Robust accuracy: right before and under the attack, of all samples. Only it: "
    "clean-correct samples that no other attack of the same norm and eps breaks. Left "
    "out: how much the worst case would rise without the attack.",
    "Attacks of one norm and eps share a rank unless an exact McNemar test between "
    f"neighbors, corrected by Holm, gives p < {LEVEL:g}. Attacks without a radius are "
    "ranked by median distance, and compared by an exact sign test of who is nearer.",
)


def strength_text(report: StrengthReport) -> str:
    """The whole report as plain text."""
    parts = [f"{report.name}: strength of the attacks"]
    for title, grids in _sections(report):
        parts.append(title)
        for grid in grids:
            shown = [grid.title, grid.plain, grid.caption]
            parts.append("\n".join(filter(None, shown)))
    return "\n\n".join((*parts, *NOTES))


def to_markdown(report: StrengthReport, figure: str | None = None) -> str:
    """The whole report as Markdown.

    Args:
        report: What to show.
        figure: File of the accuracy-eps curves beside the text, or None.
    """
    parts = [f"# Strength of the attacks of {report.name}", *NOTES]
    if figure is not None:
        parts.append(f"![Accuracy over eps, one panel per pair and path]({figure})")
    for title, grids in _sections(report):
        parts.append(f"## {title}")
        for grid in grids:
            parts += [f"### {grid.title}", grid.markdown]
            if grid.caption:
                parts.append(grid.caption)
    return "\n\n".join(parts) + "\n"


def median_text(low: float, high: float) -> str:
    """The distance within which half of the samples break, as far as it is known.

    >>> median_text(4 / 255, 8 / 255), median_text(0.5, float("inf"))
    ('4/255 to 8/255', 'more than 0.5')
    """
    if math.isnan(low):
        return "–"
    if math.isinf(low):
        return "over half hold"
    if math.isinf(high):
        return f"more than {eps_text(low)}"
    return eps_text(high) if low == high else f"{eps_text(low)} to {eps_text(high)}"


def _sections(report: StrengthReport) -> Iterable[tuple[str, list[Grid]]]:
    """Heading and grids of each pair and path."""
    names = report.ranking.loc[:, list(SERIES_COLUMNS)].drop_duplicates()
    for row in records(names):
        dataset, classifier, path = (str(row[name]) for name in SERIES_COLUMNS)
        ranking, threats, curves, reach, passes = (
            _about(frame, row)
            for frame in (
                report.ranking,
                report.threats,
                report.curves,
                report.reach,
                report.passes,
            )
        )
        grids = [_ranking_grid(ranking), _threat_grid(threats)]
        if len(curves):
            grids.append(_curve_grid(curves))
        if len(reach):
            grids.append(_reach_grid(reach))
        if len(passes):
            grids.append(_pass_grid(passes))
        yield f"Data set {dataset}, classifier {classifier}, path {path}", grids


def _about(frame: pd.DataFrame, names: Record) -> pd.DataFrame:
    chosen = pd.Series(data=True, index=frame.index)
    for column, value in names.items():
        chosen &= frame[column] == value
    return frame.loc[chosen]


def _ranking_grid(rows: pd.DataFrame) -> Grid:
    return Grid(
        title="Attacks by threat, strongest first",
        columns=(
            "threat",
            "rank",
            "attack",
            "robust accuracy",
            "broken",
            "only it",
            "left out",
            "median distance",
            "forwards",
            "per success",
            "against the one above",
        ),
        rows=tuple(
            (
                _threat(row),
                str(row["rank"]),
                attack_name(row),
                share_text(
                    row["robust_accuracy"], row["robust_low"], row["robust_high"]
                ),
                f"{row['broken']}/{row['clean_correct']}",
                str(row["only"]),
                f"{row['left_out']:+.3f}",
                _distance(row["median_distance"]),
                number_text(row["forwards"]),
                number_text(row["forwards_per_success"]),
                _against(row),
            )
            for row in records(rows)
        ),
        caption=oblivious_note(rows["tier"]),
    )


def _threat_grid(rows: pd.DataFrame) -> Grid:
    return Grid(
        title="Worst case per threat: right under every attack of it, per sample",
        columns=("threat", "attacks", "broken by any", "accuracy"),
        rows=tuple(
            (
                _threat(row),
                str(row["attacks"]),
                f"{row['union']}/{row['clean_correct']}",
                share_text(row["accuracy"], row["ci_low"], row["ci_high"]),
            )
            for row in records(rows)
        ),
    )


def _curve_grid(rows: pd.DataFrame) -> Grid:
    radii = sorted(set(rows["eps"]))
    lines: dict[tuple[str, str], dict[float, str]] = {}
    for row in records(rows):
        cells = lines.setdefault((row["attack"], row["norm"]), {})
        cells[row["eps"]] = f"{row['accuracy']:.3f}"
    return Grid(
        title="Accuracy at each eps of the sweeps (0: clean images)",
        columns=("attack", "norm", *(eps_text(eps) for eps in radii)),
        rows=tuple(
            (attack, norm, *(cells.get(eps, "") for eps in radii))
            for (attack, norm), cells in lines.items()
        ),
    )


def _reach_grid(rows: pd.DataFrame) -> Grid:
    return Grid(
        title="How far an attack must go",
        columns=("attack", "norm", "area", "up to", "broken", "median to break"),
        rows=tuple(
            (
                row["attack"],
                row["norm"],
                share_text(row["area"], row["area_low"], row["area_high"]),
                "–" if math.isinf(row["largest_eps"]) else eps_text(row["largest_eps"]),
                f"{row['broken']}/{row['clean_correct']}",
                median_text(row["median_low"], row["median_high"]),
            )
            for row in records(rows)
        ),
        caption="Area: below accuracy over eps, from 0 to the largest eps, over that "
        "eps. Median: the distance within which half of the clean-correct samples are "
        "broken; for a sweep between two of its radii.",
    )


def _pass_grid(rows: pd.DataFrame) -> Grid:
    passes = sorted(set(rows["passes"]))
    lines: dict[tuple[str, str], dict[int, str]] = {}
    for row in records(rows):
        cells = lines.setdefault((_threat(row), attack_name(row)), {})
        cells[row["passes"]] = f"{row['success_rate']:.3f}"
    return Grid(
        title="Share of clean-correct images broken within so many forward passes",
        columns=("threat", "attack", *map(str, passes)),
        rows=tuple(
            (*names, *(cells.get(count, "") for count in passes))
            for names, cells in lines.items()
        ),
    )


def _threat(row: Record) -> str:
    radius = "least" if math.isinf(row["eps"]) else eps_text(row["eps"])
    return f"{row['norm']} {radius}"


def _against(row: Record) -> str:
    if math.isnan(row["p_corrected"]):
        return ""
    p = f"{row['behind']:.0f} to {row['ahead']:.0f}, p = {row['p_corrected']:.2g}"
    return p if row["told_apart"] is True else f"not distinguishable ({p})"


def _distance(value: float) -> str:
    return "" if math.isnan(value) else median_text(value, value)
