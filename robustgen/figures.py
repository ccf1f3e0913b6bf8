"""The figures of a report: which there are, what they are called, and their files.

The same figures stand in report.html and lie as SVG and PNG files in `figures/`.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from robustgen.files import whole_file, write_text
from robustgen.finished import profile_settings
from robustgen.grids import (
    Subject,
    eps_text,
    headline,
    oblivious_note,
    subjects,
    with_alpha,
)
from robustgen.outcomes import CLEAN
from robustgen.plots import (
    Threat,
    accuracy_bars,
    alpha_curves,
    difference_marks,
    eps_curves,
    ladder_marks,
    ladder_steps,
    ladder_threats,
    png_file,
    svg_file,
    sweep_rows,
)
from robustgen.report_schema import Report

FOLDER = "figures"
"""Of a run, for the files of its figures."""

SUFFIXES = (".svg", ".png")


@dataclass(frozen=True, eq=False)
class ReportFigure:
    """A figure and what it shows.

    Args:
        kind: `bars`, `ladder`, `eps`, `alpha` or `differences`.
        name: What its files are called, without their ending; unique in a report, and
            fit for an id of HTML.
        title: What it shows.
        caption: How to read it, with the warning that belongs to its numbers.
        figure: The figure.
    """

    kind: str
    name: str
    title: str
    caption: str
    figure: Figure


def report_figures(report: Report) -> list[ReportFigure]:
    """All figures of a report, pair by pair."""
    found: list[ReportFigure] = []
    taken: set[str] = set()
    for number, subject in enumerate(subjects(report.accuracy), 1):
        name = _plain(f"{subject.dataset}-{subject.classifier}")
        if name in taken:
            name = f"{name}-{number}"
        taken.add(name)
        found += pair_figures(report, subject, name)
    return found


def pair_figures(report: Report, subject: Subject, name: str) -> list[ReportFigure]:
    """The figures about one pair of data set and classifier.

    Args:
        report: The report.
        subject: The pair.
        name: How the names of its figures begin.

    Returns:
        Its figures, in the order of the report; none without test images.
    """
    rows, alpha_from = headline(subject.rows(report.accuracy), CLEAN)
    if not len(rows):
        return []
    return [
        *_bars(rows, alpha_from, name),
        *_ladders(report, subject, rows, alpha_from, name),
        *_sweeps(report, rows, alpha_from, name),
        *_alphas(subject.rows(report.curves), rows, alpha_from, name),
        *_differences(subject.rows(report.differences), alpha_from, name),
    ]


def write_figures(report: Report, out: Path) -> None:
    """Writes every figure as `figures/NAME.svg` and `figures/NAME.png`.

    PNG files have 150 dots per inch. Both stand on white. The same report gives the
    same bytes. Figures that the report does not have are removed.

    Raises:
        RequestError: the folder cannot be written.
    """
    folder = out / FOLDER
    kept: set[Path] = set()
    for one in report_figures(report):
        svg, png = (folder / f"{one.name}{suffix}" for suffix in SUFFIXES)
        write_text(svg, svg_file(one.figure, one.name))
        with whole_file(png) as temporary:
            temporary.write_bytes(png_file(one.figure))
        kept |= {svg, png}
    for path in folder.glob("*"):
        if path.suffix in SUFFIXES and path not in kept:
            path.unlink()


def constant_guess(predictions: pd.DataFrame) -> float:
    """Accuracy of always guessing the most frequent true class of the test images.

    NaN where there are none.

    >>> rows = [("test", 7, 0), ("test", 8, 1), ("test", 9, 1), ("val", 5, 0)]
    >>> frame = pd.DataFrame(rows, columns=["split", "sample", "label"])
    >>> round(constant_guess(frame), 3)
    0.667
    """
    test = predictions.loc[predictions["split"] == "test"]
    labels = test.drop_duplicates("sample")["label"]
    return float(labels.value_counts(normalize=True).max()) if len(labels) else math.nan


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name)


def _bars(rows: pd.DataFrame, alpha_from: str, name: str) -> Iterator[ReportFigure]:
    yield ReportFigure(
        kind="bars",
        name=f"{name}-bars",
        title="Accuracy per attack and path",
        caption=_caption(f"Test images, alpha_from={alpha_from}.", rows),
        figure=accuracy_bars(rows),
    )


def _ladders(
    report: Report, subject: Subject, rows: pd.DataFrame, alpha_from: str, name: str
) -> Iterator[ReportFigure]:
    worst = with_alpha(subject.rows(report.worst_case), alpha_from)
    threats = ladder_threats(rows)
    chance = constant_guess(subject.rows(report.predictions)) if threats else math.nan
    for number, threat in enumerate(threats, 1):
        steps = ladder_steps(rows, worst, threat)
        yield ReportFigure(
            kind="ladder",
            name=f"{name}-ladder" if len(threats) == 1 else f"{name}-ladder{number}",
            title=f"Accuracy as the attack knows more, {_threat_text(threat)}",
            caption=_caption(
                f"Test images, alpha_from={alpha_from}. Of several attacks of one tier "
                "the one that leaves least. latent and projection_breaking know the "
                "defense but move otherwise than along its gradient; square and spsa "
                "see outputs alone. Worst case: right under every attack of the run, "
                "at any eps. Constant guess: always the most frequent class.",
                rows,
            ),
            figure=ladder_marks(steps, chance),
        )


def _sweeps(
    report: Report, rows: pd.DataFrame, alpha_from: str, name: str
) -> Iterator[ReportFigure]:
    attacks: Sequence[object] = profile_settings(report.suite, report.profile).get(
        "attacks", ()
    )
    listed = [one for one in attacks if isinstance(one, dict)]
    sweeps = {one["name"]: one["sweep"] for one in listed if one.get("sweep")}
    curves = sweep_rows(rows, sweeps)
    if len(curves):
        yield ReportFigure(
            kind="eps",
            name=f"{name}-eps",
            title="Accuracy over eps",
            caption=_caption(
                f"Test images, alpha_from={alpha_from}; clean images at 0. Hollow "
                "marks: SUSPECT or INVALID.",
                curves,
            ),
            figure=eps_curves(curves),
        )


def _alphas(
    curves: pd.DataFrame, rows: pd.DataFrame, alpha_from: str, name: str
) -> Iterator[ReportFigure]:
    if len(curves):
        yield ReportFigure(
            kind="alpha",
            name=f"{name}-alpha",
            title="Accuracy over alpha, the weight of the views",
            caption=_caption(
                "Mean over resamples; solid: test, dashed: validation; dotted: mean "
                f"alpha chosen (alpha_from={alpha_from}).",
                rows,
            ),
            figure=alpha_curves(curves, rows),
        )


def _differences(
    differences: pd.DataFrame, alpha_from: str, name: str
) -> Iterator[ReportFigure]:
    shown = with_alpha(differences, alpha_from)
    # Gains over the attacked image would set a scale that hides all others, and the
    # bars show them.
    shown = shown.loc[shown["first"] != "image"]
    if len(shown):
        yield ReportFigure(
            kind="differences",
            name=f"{name}-differences",
            title="Paired differences between defended paths",
            caption=_caption(
                "Second minus first on the same test images, "
                f"alpha_from={alpha_from}. An interval that holds 0 does not tell the "
                "two apart.",
                shown,
            ),
            figure=difference_marks(shown),
        )


def _caption(text: str, rows: pd.DataFrame) -> str:
    return f"{text} {oblivious_note(rows['tier'])}".rstrip()


def _threat_text(threat: Threat) -> str:
    return f"{threat.norm} {eps_text(threat.eps)}"
