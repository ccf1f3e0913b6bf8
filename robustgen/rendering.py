"""A report as text for a terminal, as Markdown and as one HTML page."""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from tabulate import tabulate

from robustgen.ensembling import ALPHA_TIE_RULE, CLASS_TIE_RULE
from robustgen.errors import RequestError
from robustgen.grids import (
    Grid,
    Subject,
    accuracy_grid,
    attacks_grid,
    checks_grid,
    differences_grid,
    headline,
    oblivious_note,
    projection_grid,
    random_grid,
    robustness_grid,
    subjects,
    with_alpha,
    worst_case_grid,
)
from robustgen.outcomes import CLEAN
from robustgen.plots import accuracy_bars, alpha_curves, difference_marks, svg_text
from robustgen.report_schema import Report

PROFILE_NOTES = {
    "embedded": (
        "Profile embedded: stand-in assets that ship with the package, not the data "
        "and networks that the suite is named after. Never compare these numbers with "
        "those of profile full."
    ),
    "full": (
        "Profile full: the data and networks that the suite names. Never compare these "
        "numbers with those of profile embedded."
    ),
}

READING_NOTES = (
    "alpha_from=clean is the honest protocol: a defender does not know the attack, so "
    "alpha is chosen on clean validation images. alpha_from=matched chooses it on "
    "validation images under the same attack: the paper's protocol, and optimistic.",
    "An ensemble's accuracy and alpha are means over its resamples; each resample "
    f"chooses its own alpha. {ALPHA_TIE_RULE} {CLASS_TIE_RULE}",
    "Intervals are at 95% and over samples: Wilson's for shares, a paired bootstrap "
    "for differences. They do not cover other trainings of the assets, other seeds, or "
    "the alphas that other validation images would have chosen.",
)

_TEMPLATES = Path(__file__).with_name("templates")


class Picture(BaseModel):
    """One entry of pictures.json: a picture file and what it shows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    """Name of a PNG file beside pictures.json."""
    attack: str
    sample: int
    """Index of the sample in its data set."""
    label: str | int
    """True class, by name or number."""
    caption: str
    panels: tuple[str, ...]
    """What the parts of the picture show, from left to right."""


@dataclass(frozen=True)
class Plot:
    """An SVG element and what it shows."""

    title: str
    svg: str
    caption: str


@dataclass(frozen=True)
class Section:
    """What a report shows about one data set and classifier."""

    title: str
    grids: tuple[Grid, ...]
    plots: tuple[Plot, ...] = field(default=())


def terminal_table(report: Report, *, alpha_from: str = CLEAN) -> str:
    """Accuracy on test images as plain text: attacks down, paths across.

    Args:
        report: The report.
        alpha_from: How the ensembles chose alpha; where the run has no clean
            validation images, `matched` stands in and the heading says so.
    """
    parts = [f"{report.name}  profile: {report.profile}"]
    for subject in subjects(report.accuracy):
        grid = accuracy_grid(subject.rows(report.accuracy), alpha_from)
        table = tabulate(
            grid.rows, headers=grid.columns, tablefmt="simple", disable_numparse=True
        )
        heading = f"{subject}. {grid.title}"
        parts.append("\n".join(filter(None, [heading, table, grid.caption])))
    return "\n\n".join(parts)


def report_notes(
    profile: str, tiers: Iterable[str], limit: int | None = None
) -> tuple[str, ...]:
    """What a reader must know before the numbers of a report.

    Args:
        profile: `embedded` or `full`.
        tiers: What the attacks of the tables knew.
        limit: Images of each split, if the run was cut to so many.
    """
    head = PROFILE_NOTES.get(profile, f"Profile {profile}.")
    cut = (
        ()
        if limit is None
        else (f"A quick look at {limit} images of each split at most (--limit).",)
    )
    note = oblivious_note(tiers)
    oblivious = (note,) if note else ()
    return (head, *cut, *oblivious, *READING_NOTES)


def to_markdown(report: Report) -> str:
    """The text of report.md."""
    return _render("report.md.jinja", report, _sections(report, with_plots=False))


def to_html(report: Report, pictures_folder: Path) -> str:
    """The text of report.html: one file that loads nothing else.

    Args:
        report: The report.
        pictures_folder: Folder of pictures.json and its PNG files; may be absent.

    Raises:
        RequestError: pictures.json is damaged or names a file that is missing.
    """
    pictures = [
        {
            "caption": picture.caption,
            "alt": f"Attack {picture.attack}, sample {picture.sample}, true class "
            f"{picture.label}. From left to right: {', '.join(picture.panels)}.",
            "panels": " · ".join(picture.panels),
            "data": base64.b64encode(content).decode("ascii"),
        }
        for picture, content in _read_pictures(pictures_folder)
    ]
    sections = _sections(report, with_plots=True)
    return _render("report.html.jinja", report, sections, pictures=pictures)


def _render(
    template: str,
    report: Report,
    sections: Sequence[Section],
    *,
    pictures: Sequence[dict[str, str]] = (),
) -> str:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=template.endswith(".html.jinja"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(
        report=report,
        sections=sections,
        pictures=pictures,
        suite=_as_yaml(report.suite),
        provenance=_as_yaml(report.provenance),
    )


def _as_yaml(value: dict[str, Any]) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=78).strip()


def _sections(report: Report, *, with_plots: bool) -> list[Section]:
    return [
        Section(
            title=str(subject),
            grids=_grids(report, subject),
            plots=_plots(report, subject, place) if with_plots else (),
        )
        for place, subject in enumerate(subjects(report.accuracy))
    ]


def _grids(report: Report, subject: Subject) -> tuple[Grid, ...]:
    accuracy = subject.rows(report.accuracy)
    grids = [accuracy_grid(accuracy, CLEAN)]
    # Without clean images the first table shows `matched` already.
    if CLEAN in set(accuracy["alpha_from"]):
        grids.append(accuracy_grid(accuracy, "matched"))
    costs = subject.rows(report.costs)
    grids += [
        worst_case_grid(subject.rows(report.worst_case)),
        checks_grid(subject.rows(report.checks)),
        random_grid(subject.rows(report.randomness)),
        differences_grid(subject.rows(report.differences)),
        attacks_grid(subject.rows(report.robustness, path="image"), costs),
        robustness_grid(subject.rows(report.robustness)),
        projection_grid(costs),
    ]
    return tuple(grid for grid in grids if grid.rows)


def _plots(report: Report, subject: Subject, place: int) -> tuple[Plot, ...]:
    rows, alpha_from = headline(subject.rows(report.accuracy), CLEAN)
    note = oblivious_note(rows["tier"])
    protocol = f"alpha_from={alpha_from}"
    title = "Accuracy per attack and path"
    plots = [
        Plot(
            title,
            svg_text(accuracy_bars(rows), f"bars{place}", title),
            f"Test images, {protocol}. {note}",
        )
    ]
    curves = subject.rows(report.curves)
    if len(curves):
        title = "Accuracy over alpha, the weight of the views"
        plots.append(
            Plot(
                title,
                svg_text(alpha_curves(curves, rows), f"curves{place}", title),
                "Mean over resamples; solid: test, dashed: validation; dotted: mean "
                f"alpha chosen ({protocol}). {note}",
            )
        )
    shown = with_alpha(subject.rows(report.differences), alpha_from)
    # Gains over the attacked image would set a scale that hides all others, and the
    # bars show them.
    shown = shown.loc[shown["first"] != "image"]
    if len(shown):
        title = "Paired differences between defended paths"
        plots.append(
            Plot(
                title,
                svg_text(difference_marks(shown), f"pairs{place}", title),
                f"Second minus first on the same test images, {protocol}. An interval "
                f"that holds 0 does not tell the two apart. {note}",
            )
        )
    return tuple(plots)


def _read_pictures(folder: Path) -> list[tuple[Picture, bytes]]:
    listing = folder / "pictures.json"
    if not listing.is_file():
        return []
    try:
        entries = TypeAdapter(list[Picture]).validate_json(listing.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise RequestError(
            f"{listing}: {place}: {first['msg']}. Run the suite again."
        ) from error
    found: list[tuple[Picture, bytes]] = []
    for entry in entries:
        path = folder / entry.file
        if Path(entry.file).name != entry.file or not path.is_file():
            raise RequestError(f"{listing}: names '{entry.file}', which is not here.")
        found.append((entry, path.read_bytes()))
    return found
