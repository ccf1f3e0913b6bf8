"""A report as text for a terminal, as Markdown and as one HTML page."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup, escape

from robustgen.ensembling import ALPHA_TIE_RULE, CLASS_TIE_RULE
from robustgen.gallery import read_strips
from robustgen.grids import (
    MARKS,
    accuracy_grid,
    balanced_grid,
    oblivious_note,
    subjects,
)
from robustgen.outcomes import CLEAN
from robustgen.report_schema import Report
from robustgen.sections import build_sections

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

VERDICT_MARKS = {**MARKS, "TRUSTED": "✓"}
"""What a page shows beside each verdict, so that color is never alone."""

_TEMPLATES = Path(__file__).with_name("templates")
_SHARE = re.compile(r"(?P<share>[+-]?\d\.\d{3}) (?P<interval>\[[^\]]*\])")


def terminal_table(report: Report, *, alpha_from: str = CLEAN) -> str:
    """Accuracy on test images as plain text: attacks down, paths across.

    Where classes are unbalanced a table of balanced accuracy follows.

    Args:
        report: The report.
        alpha_from: How the ensembles chose alpha; where the run has no clean
            validation images, `matched` stands in and the heading says so.
    """
    parts = [f"{report.name}  profile: {report.profile}"]
    for subject in subjects(report.accuracy):
        balanced = balanced_grid(subject.rows(report.balanced), alpha_from)
        grids = [accuracy_grid(subject.rows(report.accuracy), alpha_from)]
        for grid in [*grids, balanced] if balanced.rows else grids:
            heading = f"{subject}. {grid.title}"
            parts.append("\n".join(filter(None, [heading, grid.plain, grid.footer])))
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
    sections = build_sections(report, with_plots=False)
    return (
        _environment(escape=False)
        .get_template("report.md.jinja")
        .render(
            report=report,
            sections=sections,
            suite=_as_yaml(report.suite),
            provenance=_as_yaml(report.provenance),
        )
    )


def to_html(report: Report, pictures_folder: Path) -> str:
    """The text of report.html: one file that loads nothing else.

    Args:
        report: The report.
        pictures_folder: Folder of pictures.json and its PNG files; may be absent.

    Raises:
        RequestError: pictures.json is damaged or names a file that is missing.
    """
    strips = read_strips(pictures_folder)
    sections = build_sections(report, with_plots=True, strips=strips)
    galleries = {
        section.slug: part.gallery.to_json()
        for section in sections
        for part in section.parts
        if part.gallery
    }
    return (
        _environment(escape=True)
        .get_template("report.html.jinja")
        .render(
            report=report,
            sections=sections,
            galleries=_as_script(galleries),
            verdict_marks=VERDICT_MARKS,
            share_parts=share_parts,
            breakable=breakable,
            facts=_facts(report),
            suite=_as_yaml(report.suite),
            provenance=_as_yaml(report.provenance),
        )
    )


def _environment(*, escape: bool) -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def share_parts(cell: str) -> tuple[str, str]:
    """A share and its interval apart; other cells stay whole.

    >>> share_parts("0.700 [0.397, 0.892]"), share_parts("pgd [x]")
    (('0.700', '[0.397, 0.892]'), ('pgd [x]', ''))
    """
    found = _SHARE.fullmatch(cell)
    return (found["share"], found["interval"]) if found else (cell, "")


def breakable(text: str) -> Markup:
    """A text of a page that may break behind its underscores.

    >>> breakable("a_b <c>")
    Markup('a_<wbr>b &lt;c&gt;')
    """
    return escape(text).replace("_", Markup("_<wbr>"))


def _facts(report: Report) -> tuple[tuple[str, str], ...]:
    """What the manifest says in one line each."""
    return tuple(
        (name.replace("_", " "), str(value))
        for name, value in report.provenance.items()
        if isinstance(value, str | int | float) and str(value)
    )


def _as_script(value: object) -> Markup:
    """JSON that can stand inside a script element, whatever names it holds."""
    return htmlsafe_json_dumps(value, separators=(",", ":"), allow_nan=False)


def _as_yaml(value: dict[str, Any]) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=78).strip()
