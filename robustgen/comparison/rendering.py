"""A comparison as text: for a terminal and as Markdown."""

from collections.abc import Iterable, Sequence

from robustgen.comparison.compare import (
    HIGHER,
    LEVEL,
    LOWER,
    SAME,
    ComparedRow,
    Comparison,
)
from robustgen.comparison.configuration import GROUPS
from robustgen.comparison.pairing import RowKey
from robustgen.comparison.samples import gained_samples, lost_samples, most_changed
from robustgen.grids import (
    Grid,
    attack_name,
    eps_text,
    oblivious_note,
    share_text,
)

SHOWN_SAMPLES = 8
"""Samples that a text lists for each row, and samples of the last table."""

NOTES = (
    "Differences are B minus A on the same test samples. Gained: samples on which B is "
    "right more often; lost: A is. p: exact paired test (McNemar's for single "
    "decisions), two-sided, corrected by Holm over all rows. Not distinguishable: "
    f"p >= {LEVEL:g}; how far apart the two may be is the interval. Intervals are at "
    "95%, of one row each.",
    "SUSPECT: do not quote the number alone. INVALID: no measurement.",
)


def comparison_text(comparison: Comparison) -> str:
    """The whole comparison as plain text."""
    head = ["\n".join(_names(comparison)), *_head(comparison)]
    parts = [*head, *_configuration_text(comparison)]
    for title, grids in _sections(comparison):
        parts.append(title)
        for grid in grids:
            shown = [grid.title, grid.plain, grid.caption]
            parts.append("\n".join(filter(None, shown)))
    parts += [*_unmatched(comparison), *NOTES]
    return "\n\n".join(parts)


def to_markdown(comparison: Comparison) -> str:
    """The whole comparison as Markdown."""
    a, b = comparison.a, comparison.b
    parts = [f"# {a.folder} and {b.folder} compared", _list(_names(comparison))]
    parts += [*_head(comparison), "## Configuration"]
    for group in GROUPS:
        lines = _changes(comparison, group)
        if lines:
            parts += [f"### {group.capitalize()}", _list(f"`{one}`" for one in lines)]
    if not comparison.changes:
        parts.append("The two do not differ.")
    for title, grids in _sections(comparison):
        parts.append(f"## {title}")
        for grid in grids:
            parts += [f"### {grid.title}", grid.markdown]
            if grid.caption:
                parts.append(grid.caption)
    parts += [*_unmatched(comparison), *NOTES]
    return "\n\n".join(parts) + "\n"


def summary(rows: Sequence[ComparedRow]) -> str:
    """How many rows are told apart, in one sentence."""
    higher = sum(row.told_apart and row.difference.mean > 0 for row in rows)
    lower = sum(row.told_apart and row.difference.mean < 0 for row in rows)
    same = len(rows) - higher - lower
    doubted = sum("(" in row.reading for row in rows)
    said = f"{len(rows)} rows: {HIGHER} in {higher}, {LOWER} in {lower}, {SAME} in "
    said += f"{same}."
    if doubted:
        said += f" {doubted} of them SUSPECT or INVALID in one run or both."
    return said


def _names(comparison: Comparison) -> list[str]:
    return [
        f"{letter}: {run.folder} (suite {run.suite}, profile {run.profile})"
        for letter, run in (("A", comparison.a), ("B", comparison.b))
    ]


def _head(comparison: Comparison) -> list[str]:
    return [summary(comparison.rows), *comparison.notes]


def _changes(comparison: Comparison, group: str) -> list[str]:
    return [str(one) for one in comparison.changes if one.group == group]


def _configuration_text(comparison: Comparison) -> list[str]:
    parts = [
        "\n".join([f"Configuration: {group}", *(f"  {line}" for line in lines)])
        for group in GROUPS
        if (lines := _changes(comparison, group))
    ]
    return parts or ["Configuration: the two do not differ."]


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _sections(comparison: Comparison) -> Iterable[tuple[str, list[Grid]]]:
    """Heading and grids of each data set and classifier."""
    pairs = dict.fromkeys(
        (row.key.dataset, row.key.classifier) for row in comparison.rows
    )
    for pair in pairs:
        rows = [
            row
            for row in comparison.rows
            if (row.key.dataset, row.key.classifier) == pair
        ]
        grids = [_accuracy_grid(rows)]
        if comparison.plan is not None:
            grids.append(_size_grid(rows, comparison))
        changed = [row for row in rows if row.paired.steps.any()]
        if changed:
            grids += [_samples_grid(changed), _most_changed_grid(changed)]
        yield f"Data set {pair[0]}, classifier {pair[1]}", grids


def _accuracy_grid(rows: Sequence[ComparedRow]) -> Grid:
    return Grid(
        title=f"Accuracy on test images (n = {rows[0].difference.n})",
        columns=(
            *_ROW_COLUMNS,
            "A",
            "B",
            "B - A",
            "gained",
            "lost",
            "p",
            "reading",
        ),
        rows=tuple(
            (
                *_row_cells(row.key),
                share_text(row.accuracy_a, *row.interval_a),
                share_text(row.accuracy_b, *row.interval_b),
                share_text(
                    row.difference.mean,
                    row.difference.low,
                    row.difference.high,
                    sign=True,
                ),
                str(row.difference.gained),
                str(row.difference.lost),
                f"{row.p_corrected:.2g}",
                row.reading,
            )
            for row in rows
        ),
        caption=oblivious_note(row.key.tier for row in rows),
    )


def _size_grid(rows: Sequence[ComparedRow], comparison: Comparison) -> Grid:
    plan = comparison.plan
    assert plan is not None
    return Grid(
        title=f"Samples needed for a margin of {plan.margin:g}",
        columns=(
            *_ROW_COLUMNS,
            "discordance",
            "half-width now",
            "to find the margin",
            "for that half-width",
        ),
        rows=tuple(
            (
                *_row_cells(row.key),
                f"{row.discordance:.3f}",
                f"{(row.difference.high - row.difference.low) / 2:.3f}",
                str(row.sample_size.for_difference),
                str(row.sample_size.for_half_width),
            )
            for row in rows
            if row.sample_size is not None
        ),
        caption="To find the margin: the exact paired test of one row, at level "
        f"{plan.alpha:g}, finds a difference of {plan.margin:g} with a chance of "
        f"{plan.power:g}. Both from the discordance seen here, the mean square of "
        "B - A.",
    )


def _samples_grid(rows: Sequence[ComparedRow]) -> Grid:
    return Grid(
        title="Samples that changed, largest changes first",
        columns=(*_ROW_COLUMNS, "gained (B)", "lost (A)"),
        rows=tuple(
            (
                *_row_cells(row.key),
                _listed(gained_samples(row)),
                _listed(lost_samples(row)),
            )
            for row in rows
        ),
    )


def _most_changed_grid(rows: Sequence[ComparedRow]) -> Grid:
    found = most_changed(rows)
    more = len(found) - SHOWN_SAMPLES
    return Grid(
        title="Samples that changed in the most rows",
        columns=("sample", "label", "rows gained", "rows lost"),
        rows=tuple(
            (str(one.sample), str(one.label), str(one.gained), str(one.lost))
            for one in found[:SHOWN_SAMPLES]
        ),
        caption=f"And {more} more." if more > 0 else "",
    )


def _listed(samples: Sequence[int]) -> str:
    """The first samples, and how many more there are.

    >>> _listed(range(3)), _listed(range(10))
    ('0 1 2', '0 1 2 3 4 5 6 7 and 2 more')
    """
    more = len(samples) - SHOWN_SAMPLES
    said = " ".join(map(str, samples[:SHOWN_SAMPLES]))
    return f"{said} and {more} more" if more > 0 else said


_ROW_COLUMNS = ("attack", "path", "alpha_from")


def _row_cells(key: RowKey) -> tuple[str, ...]:
    return attack_name(vars(key)), key.path, key.alpha_from


def _unmatched(comparison: Comparison) -> list[str]:
    """Rows that one run alone has, an attack in each line."""
    parts: list[str] = []
    for letter, keys in (("A", comparison.only_a), ("B", comparison.only_b)):
        paths: dict[str, list[str]] = {}
        for key in keys:
            path = f"{key.path} ({key.alpha_from})" if key.alpha_from else key.path
            paths.setdefault(_attack_words(key), []).append(path)
        lines = (f"{attack}: {', '.join(found)}" for attack, found in paths.items())
        if keys:
            parts.append(f"Only in {letter}:\n\n{_list(lines)}")
    return parts


def _attack_words(key: RowKey) -> str:
    """Pair, attack and threat of a row.

    >>> key = RowKey("d", "c", "pgd", "oblivious", "linf", 8 / 255, "", "image", "")
    >>> _attack_words(key)
    'd / c / pgd (oblivious) / linf 8/255'
    """
    threat = "" if key.norm == "none" else f"{key.norm} {eps_text(key.eps)}"
    words = (key.dataset, key.classifier, attack_name(vars(key)), threat)
    return " / ".join(filter(None, words))
