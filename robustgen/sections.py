"""What a report shows about each pair of data set and classifier, part by part."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from robustgen.figures import pair_figures
from robustgen.gallery import PICTURE_BYTES, Gallery, Strip, build_gallery
from robustgen.grids import (
    MARKS,
    CheckGroup,
    Grid,
    Subject,
    accuracy_grid,
    attacks_grid,
    balanced_grid,
    check_groups,
    check_lines,
    checks_grid,
    differences_grid,
    headline,
    projection_grid,
    random_grid,
    records,
    robustness_grid,
    share_text,
    subjects,
    with_alpha,
    worst_case_grid,
)
from robustgen.outcomes import CLEAN
from robustgen.plots import svg_text
from robustgen.report_schema import Report

MATCHED = "matched"


class Plot(NamedTuple):
    """An SVG element and what it shows."""

    title: str
    svg: str
    caption: str


@dataclass(frozen=True)
class Part:
    """One question about a pair, and what answers it.

    Args:
        slug: Short name, for addresses within a page.
        title: Heading.
        plots: Figures, shown first.
        grids: Tables.
        folded: Tables that a page shows on demand.
        findings: What the checks said; a page shows them in place of their table.
        gallery: Pictures of single samples.
    """

    slug: str
    title: str
    plots: tuple[Plot, ...] = ()
    grids: tuple[Grid, ...] = ()
    folded: tuple[Grid, ...] = ()
    findings: tuple[CheckGroup, ...] = ()
    gallery: Gallery | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to show."""
        return self.gallery is None and not (self.plots or self.grids or self.folded)


class Left(NamedTuple):
    """What is left of a path in the worst case."""

    path: str
    share: str
    attacks: int
    """How many attacks it was under, clean images not counted."""
    oblivious: bool
    """Whether the path is defended and no attack knew that."""

    @property
    def attacks_text(self) -> str:
        """The number of attacks in words, and what they did not know."""
        said = "1 attack" if self.attacks == 1 else f"{self.attacks} attacks"
        return f"{said}, oblivious" if self.oblivious and self.attacks else said


class Count(NamedTuple):
    """How many rows of accuracy have a verdict."""

    verdict: str
    mark: str
    rows: int


@dataclass(frozen=True)
class Summary:
    """What a reader takes away if they read one line.

    Args:
        worst: What the worst case is over, in words.
        left: What is left, path by path: not all were under the same attacks.
        counts: How many rows have each verdict; empty where no check has run.
    """

    worst: str
    left: tuple[Left, ...]
    counts: tuple[Count, ...]

    @property
    def text(self) -> str:
        """The summary as one line."""
        left = ", ".join(
            f"{one.path} {one.share} ({one.attacks_text})" for one in self.left
        )
        counts = ", ".join(f"{count.rows} {count.verdict}" for count in self.counts)
        said = f"Rows: {counts}." if counts else "No check has run."
        return f"{self.worst}: {left}. {said}"


@dataclass(frozen=True)
class Section:
    """What a report shows about one data set and classifier."""

    slug: str
    title: str
    summary: Summary
    parts: tuple[Part, ...]

    @property
    def grids(self) -> tuple[Grid, ...]:
        """All tables, in the order of the parts."""
        return tuple(
            grid for part in self.parts for grid in (*part.grids, *part.folded)
        )


def build_sections(
    report: Report, *, with_plots: bool, strips: Sequence[Strip] = ()
) -> list[Section]:
    """One section per pair, in the order of the report.

    Args:
        report: The report.
        with_plots: Whether figures are drawn.
        strips: Pictures of the run, for galleries.
    """
    sections: list[Section] = []
    pairs = subjects(report.accuracy)
    for number, subject in enumerate(pairs, 1):
        slug = f"pair{number}"
        gallery = _gallery(report, subject, strips, PICTURE_BYTES // len(pairs))
        plots = _plots(report, subject, slug) if with_plots else {}
        parts = _parts(report, subject, plots, gallery)
        sections.append(
            Section(
                slug=slug,
                title=str(subject),
                summary=summarize(report, subject),
                parts=tuple(part for part in parts if not part.is_empty),
            )
        )
    return sections


def summarize(report: Report, subject: Subject) -> Summary:
    """What is left of each path in the worst case, and how many rows can be trusted."""
    rows, alpha_from = headline(subject.rows(report.accuracy), CLEAN)
    worst = with_alpha(subject.rows(report.worst_case), alpha_from)
    tiers = {tier for line in worst["tiers"] for tier in str(line).split()}
    over = "Right on the clean image"
    if tiers - {"none"}:
        over += " and under every attack"
    if tiers - {"none"} == {"oblivious"}:
        over += ", none of which knows the defense"
    verdicts = list(rows["verdict"])
    return Summary(
        worst=over,
        left=tuple(
            Left(
                row["path"],
                share_text(row["accuracy"], row["ci_low"], row["ci_high"]),
                len(set(str(row["attacks"]).split()) - {CLEAN}),
                row["path"] != "image"
                and set(str(row["tiers"]).split()) <= {"none", "oblivious"},
            )
            for row in records(worst)
        ),
        counts=tuple(
            Count(verdict, mark or "✓", verdicts.count(verdict))
            for verdict, mark in MARKS.items()
            if verdict and any(verdicts)
        ),
    )


def _parts(
    report: Report,
    subject: Subject,
    plots: Mapping[str, tuple[Plot, ...]],
    gallery: Gallery | None,
) -> list[Part]:
    """All parts in the order of a reader, empty ones included."""
    accuracy = subject.rows(report.accuracy)
    balanced = subject.rows(report.balanced)
    costs = subject.rows(report.costs)
    checks = subject.rows(report.checks)
    # Without clean images the first table shows `matched` already.
    both = CLEAN in set(accuracy["alpha_from"])
    return [
        Part(
            "accuracy",
            "Accuracy",
            grids=(
                accuracy_grid(accuracy, CLEAN),
                *_filled(balanced_grid(balanced, CLEAN)),
            ),
            folded=(
                accuracy_grid(accuracy, MATCHED),
                *_filled(balanced_grid(balanced, MATCHED)),
            )
            if both
            else (),
        ),
        Part("bars", "Accuracy per attack and path", plots.get("bars", ())),
        Part("ladder", "Ladder of knowledge", plots.get("ladder", ())),
        Part("eps", "Accuracy over eps", plots.get("eps", ())),
        Part("alpha", "Accuracy over alpha", plots.get("alpha", ())),
        Part(
            "worst",
            "Worst case",
            grids=_filled(worst_case_grid(subject.rows(report.worst_case))),
            folded=_filled(
                robustness_grid(subject.rows(report.robustness)),
                random_grid(subject.rows(report.randomness)),
            ),
        ),
        Part(
            "checks",
            "Checks",
            grids=_filled(checks_grid(checks)),
            findings=check_groups(check_lines(checks)),
        ),
        Part("gallery", "Gallery", gallery=gallery),
        Part(
            "differences",
            "Differences between paths",
            plots.get("differences", ()),
            _filled(differences_grid(subject.rows(report.differences))),
        ),
        Part(
            "costs",
            "Attacks and their costs",
            grids=_filled(
                attacks_grid(subject.rows(report.robustness, path="image"), costs)
            ),
        ),
        Part("projection", "Projection", grids=_filled(projection_grid(costs))),
    ]


def _filled(*grids: Grid) -> tuple[Grid, ...]:
    return tuple(grid for grid in grids if grid.rows)


def _gallery(
    report: Report, subject: Subject, strips: Sequence[Strip], limit: int
) -> Gallery | None:
    pair = (subject.dataset, subject.classifier)
    own = [
        strip
        for strip in strips
        if (strip.picture.dataset, strip.picture.classifier) == pair
    ]
    said = subject.rows(report.predictions)
    return build_gallery(own, said, limit=limit) if own else None


def _plots(report: Report, subject: Subject, slug: str) -> dict[str, tuple[Plot, ...]]:
    """Figures by the slug of their part."""
    plots: dict[str, tuple[Plot, ...]] = {}
    for one in pair_figures(report, subject, slug):
        svg = svg_text(one.figure, one.name, one.title)
        shown = Plot(one.title, svg, one.caption)
        plots[one.kind] = (*plots.get(one.kind, ()), shown)
    return plots
