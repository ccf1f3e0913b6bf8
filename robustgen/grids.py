"""The tables that a report shows, as texts, from the frames of `robustgen.metrics`."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import pandas as pd
from tabulate import tabulate

Record: TypeAlias = dict[str, Any]
"""One row of a frame."""

OBLIVIOUS_NOTE = (
    "These attacks do not know the defense; oblivious accuracy is not robustness."
)

MIXED_NOTE = (
    "Attacks marked (oblivious) do not know the defense; oblivious accuracy is not "
    "robustness."
)


UNBALANCED = 0.6
"""Share of the largest class above which reports show balanced accuracy, too."""

MARKS = {"": "", "TRUSTED": "", "SUSPECT": "?", "INVALID": "✗"}
"""What stands behind an accuracy of each verdict."""


def oblivious_note(tiers: Iterable[str]) -> str:
    """The warning that belongs to every number of an oblivious attack."""
    found = set(tiers)
    if "oblivious" not in found:
        return ""
    return MIXED_NOTE if found - {"oblivious", "none"} else OBLIVIOUS_NOTE


def records(frame: pd.DataFrame) -> list[Record]:
    """The rows of a frame."""
    return [
        dict(zip(frame.columns, values, strict=True))
        for values in frame.itertuples(index=False, name=None)
    ]


@dataclass(frozen=True)
class Grid:
    """A table of texts, the same for Markdown and HTML."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    verdicts: tuple[tuple[str, ...], ...] = ()
    """Verdict of every cell, in the shape of `rows`; empty where none has one."""
    legend: str = ""
    """What the marks in `texts` mean."""

    @property
    def texts(self) -> tuple[tuple[str, ...], ...]:
        """The rows with the mark of its verdict behind each cell that has one."""
        if not self.verdicts:
            return self.rows
        return tuple(
            tuple(
                f"{cell} {MARKS[verdict]}".rstrip()
                for cell, verdict in zip(row, verdicts, strict=True)
            )
            for row, verdicts in zip(self.rows, self.verdicts, strict=True)
        )

    @property
    def footer(self) -> str:
        """What stands below the table where its cells are `texts`."""
        return " ".join(filter(None, (self.legend, self.caption)))

    @property
    def plain(self) -> str:
        """The table as plain text, for a terminal."""
        return tabulate(
            self.texts, headers=self.columns, tablefmt="simple", disable_numparse=True
        )

    @property
    def markdown(self) -> str:
        """The table in Markdown."""
        cells = [[cell.replace("|", "\\|") for cell in row] for row in self.texts]
        return tabulate(
            cells, headers=self.columns, tablefmt="github", disable_numparse=True
        )


@dataclass(frozen=True)
class Subject:
    """What one section of a report is about."""

    dataset: str
    classifier: str

    def __str__(self) -> str:
        return f"Data set {self.dataset}, classifier {self.classifier}"

    def rows(self, frame: pd.DataFrame, **wanted: str) -> pd.DataFrame:
        """Rows about this subject whose columns have the wanted values."""
        chosen = (frame["dataset"] == self.dataset) & (
            frame["classifier"] == self.classifier
        )
        for column, value in wanted.items():
            chosen &= frame[column] == value
        return frame.loc[chosen]


def subjects(accuracy: pd.DataFrame) -> list[Subject]:
    """The subjects of an accuracy frame, in its order."""
    pairs = zip(accuracy["dataset"], accuracy["classifier"], strict=True)
    return [Subject(str(one), str(two)) for one, two in dict.fromkeys(pairs)]


def headline(accuracy: pd.DataFrame, alpha_from: str) -> tuple[pd.DataFrame, str]:
    """One test row per attack and path, and the protocol that the ensembles use.

    Args:
        accuracy: Rows of one subject.
        alpha_from: The protocol wanted; `matched` stands in where it has no rows.
    """
    test = accuracy.loc[accuracy["split"] == "test"]
    sources = set(test["alpha_from"])
    if alpha_from not in sources and "matched" in sources:
        alpha_from = "matched"
    return with_alpha(test, alpha_from), alpha_from


def with_alpha(rows: pd.DataFrame, alpha_from: str) -> pd.DataFrame:
    """Rows that use this protocol or need none."""
    return rows.loc[[source in ("", alpha_from) for source in rows["alpha_from"]]]


def accuracy_grid(accuracy: pd.DataFrame, alpha_from: str) -> Grid:
    """Test accuracy: attacks down, paths across."""
    rows, alpha_from = headline(accuracy, alpha_from)
    paths = list(dict.fromkeys(rows["path"]))
    has_alpha = alpha_from in set(rows["alpha_from"])
    protocol = f", alpha_from={alpha_from}" if has_alpha else ""
    n = max(map(int, rows["n"]), default=0)
    lines: dict[str, dict[str, tuple[str, str]]] = {}
    for row in records(rows):
        cell = share_text(row["accuracy"], row["ci_low"], row["ci_high"])
        lines.setdefault(attack_name(row), {})[row["path"]] = cell, row["verdict"]
    none = ("", "")
    return Grid(
        title=f"Accuracy on test images (n = {n}{protocol})",
        columns=("attack", *paths),
        rows=tuple(
            (attack, *(cells.get(path, none)[0] for path in paths))
            for attack, cells in lines.items()
        ),
        caption=oblivious_note(rows["tier"]),
        verdicts=tuple(
            ("", *(cells.get(path, none)[1] for path in paths))
            for cells in lines.values()
        ),
        legend=verdict_note(rows["verdict"]),
    )


def balanced_grid(balanced: pd.DataFrame, alpha_from: str) -> Grid:
    """Balanced test accuracy, where classes are unbalanced: attacks down, paths across.

    Empty where no class has more than `UNBALANCED` of the test images.

    Args:
        balanced: Rows of one subject of the frame `balanced`.
        alpha_from: As of `accuracy_grid`.
    """
    ends = {"balanced_low": "ci_low", "balanced_high": "ci_high"}
    shown = balanced.drop(columns="accuracy").rename(
        columns={"balanced_accuracy": "accuracy", **ends}
    )
    test = shown.loc[shown["split"] == "test"]
    largest = float(test["largest_class"].max()) if len(test) else 0.0
    if not largest > UNBALANCED:
        shown = shown.iloc[:0]
    grid = accuracy_grid(shown, alpha_from)
    classes = max(map(int, test["classes"]), default=0)
    return replace(
        grid,
        title=grid.title.replace("Accuracy", "Balanced accuracy", 1),
        caption=f"Mean over {classes} classes of the share of each that is right: "
        f"{largest:.0%} of the images are of one class, and always guessing it scores "
        f"{largest:.3f} in accuracy, {1 / max(classes, 1):.3f} here. "
        f"{grid.caption}".rstrip(),
    )


def verdict_note(verdicts: Iterable[str]) -> str:
    """What the marks behind the numbers mean; empty where no check has run."""
    found = set(verdicts)
    if not found - {""}:
        return ""
    said = [f"{mark}: {verdict}" for verdict, mark in MARKS.items() if mark]
    return f"{', '.join(said)}; all others: TRUSTED. The checks say why."


class CheckLine(NamedTuple):
    """One line about a check, as reports show it."""

    check: str
    status: str
    effect: str
    about: str
    title: str
    evidence: str
    advice: str


def check_lines(rows: pd.DataFrame) -> tuple[CheckLine, ...]:
    """What the checks found: what failed first, then warnings, then the rest.

    Findings that passed are put in one line for each check.
    """
    found = records(rows)
    lines = [
        CheckLine(
            row["check"],
            status,
            row["effect"],
            _about(row),
            row["title"],
            row["evidence"],
            row["advice"],
        )
        for status in ("fail", "warn")
        for row in found
        if row["status"] == status
    ]
    passed: dict[str, list[Record]] = {}
    for row in found:
        if row["status"] == "pass":
            passed.setdefault(row["check"], []).append(row)
    for check, group in passed.items():
        first = group[0]
        more = f" And {len(group) - 1} more of this check." if len(group) > 1 else ""
        said = f"{first['evidence']}{more}"
        about = _about(first)
        lines.append(CheckLine(check, "pass", "", about, first["title"], said, ""))
    return tuple(lines)


class CheckGroup(NamedTuple):
    """Lines about one check that ask for the same."""

    check: str
    status: str
    effect: str
    title: str
    advice: str
    lines: tuple[CheckLine, ...]


def check_groups(lines: Iterable[CheckLine]) -> tuple[CheckGroup, ...]:
    """Lines put together where check, status, effect, title and advice are the same."""
    found: dict[tuple[str, ...], list[CheckLine]] = {}
    for line in lines:
        key = (line.check, line.status, line.effect, line.title, line.advice)
        found.setdefault(key, []).append(line)
    return tuple(
        CheckGroup(
            check=group[0].check,
            status=group[0].status,
            effect=group[0].effect,
            title=group[0].title,
            advice=group[0].advice,
            # A row of two protocols of alpha may be named twice in the same words.
            lines=tuple(dict.fromkeys(group)),
        )
        for group in found.values()
    )


def checks_grid(rows: pd.DataFrame) -> Grid:
    """The lines about the checks as a table."""
    return Grid(
        title="Checks: what they saw, and what to do",
        columns=("check", "status", "verdict", "about", "evidence", "advice"),
        rows=tuple(
            (
                line.check,
                line.status,
                line.effect,
                line.about,
                f"{line.title}. {line.evidence}",
                line.advice,
            )
            for line in check_lines(rows)
        ),
        caption="SUSPECT: do not quote the number alone. INVALID: no measurement.",
    )


def _about(row: Record) -> str:
    """Attack, tier and path that a finding is about."""
    attack = row["attack"] if row["attack"] != row["tier"] else ""
    return " / ".join(filter(None, (attack, row["tier"], row["path"]))) or "all"


def random_grid(rows: pd.DataFrame) -> Grid:
    """How random paths fare over the draws that score them."""
    return Grid(
        title="Random paths: one draw, a vote, the worst draw, a draw known to the "
        "attacker",
        columns=("attack", "path", "draws", "mean", "majority", "worst", "fixed"),
        rows=tuple(
            (
                attack_name(row),
                row["path"],
                str(row["draws"]),
                *(
                    share_text(row[name], row[f"{name}_low"], row[f"{name}_high"])
                    for name in ("mean", "majority", "worst", "fixed")
                ),
            )
            for row in records(rows)
        ),
        caption="Mean: share of single draws that are right. Worst: right in every "
        "draw, what is left if an image may be sent so often. Fixed: the attacker knew "
        "the draw; it must break if the attack works.",
    )


def worst_case_grid(rows: pd.DataFrame) -> Grid:
    """Share right under every attack, per path."""
    named = [str(attacks).split() for attacks in rows["attacks"]]
    every = dict.fromkeys(attack for attacks in named for attack in attacks)
    tiers = {tier for line in rows["tiers"] for tier in str(line).split()}
    return Grid(
        title="Worst case: right under every attack, per sample",
        columns=("path", "alpha_from", "attacks", "accuracy"),
        rows=tuple(
            (
                row["path"],
                row["alpha_from"],
                str(len(attacks)),
                share_text(row["accuracy"], *_ends(row)),
            )
            for row, attacks in zip(records(rows), named, strict=True)
        ),
        caption=f"Over {', '.join(every)}, as far as they were aimed at the path or at "
        "the classifier: a worst case over these attacks only. "
        f"{oblivious_note(tiers)}",
    )


def differences_grid(rows: pd.DataFrame) -> Grid:
    """Paired differences between paths, and what their intervals say."""
    return Grid(
        title="Paired differences of accuracy (second minus first, same samples)",
        columns=(
            "attack",
            "alpha_from",
            "first",
            "second",
            "difference",
            "gained",
            "lost",
            "reading",
        ),
        rows=tuple(
            (
                attack_name(row),
                row["alpha_from"],
                row["first"],
                row["second"],
                share_text(row["difference"], *_ends(row), sign=True),
                str(row["gained"]),
                str(row["lost"]),
                _reading(row),
            )
            for row in records(rows)
        ),
        caption=oblivious_note(rows["tier"]),
    )


def attacks_grid(turned: pd.DataFrame, costs: pd.DataFrame) -> Grid:
    """What each attack turned on the path `image`, and what it cost.

    Args:
        turned: Rows of the robustness frame on the path `image`.
        costs: Rows of the costs frame.
    """
    success = {
        tuple(row[name] for name in ("attack", "tier", "norm", "eps")): share_text(
            row["success_rate"], row["success_low"], row["success_high"]
        )
        for row in records(turned)
    }
    return Grid(
        title="Attacks: what they turned and what they cost, per image",
        columns=(
            "attack",
            "norm",
            "eps",
            "success rate",
            "mean linf",
            "max linf",
            "mean l2",
            "max l2",
            "forwards",
            "backwards",
        ),
        rows=tuple(
            (
                f"{attack_name(row)} on {row['target']}"
                if row["target"]
                else attack_name(row),
                row["norm"],
                eps_text(row["eps"]),
                ""
                if row["target"]
                else success.get(
                    tuple(row[name] for name in ("attack", "tier", "norm", "eps")), ""
                ),
                number_text(row["distance_linf"]),
                number_text(row["max_distance_linf"]),
                number_text(row["distance_l2"]),
                number_text(row["max_distance_l2"]),
                number_text(row["attack_forwards"]),
                number_text(row["attack_backwards"]),
            )
            for row in records(costs)
        ),
        caption="Success rate: turned / clean-correct, on path image. Distances in "
        f"pixel units of [0, 1]. {oblivious_note(costs['tier'])}",
    )


def robustness_grid(rows: pd.DataFrame) -> Grid:
    """Attack success and robust accuracy, per attack and path."""
    return Grid(
        title="Robust accuracy: right before and after the attack, of all samples",
        columns=("attack", "path", "alpha_from", "success rate", "robust accuracy"),
        rows=tuple(
            (
                attack_name(row),
                row["path"],
                row["alpha_from"],
                share_text(
                    row["success_rate"], row["success_low"], row["success_high"]
                ),
                share_text(
                    row["robust_accuracy"], row["robust_low"], row["robust_high"]
                ),
            )
            for row in records(rows)
        ),
        caption=oblivious_note(rows["tier"]),
    )


def projection_grid(rows: pd.DataFrame) -> Grid:
    """Losses and passes of the projection, where there was one."""
    known = rows.loc[rows["final_loss"].notna()]
    return Grid(
        title="Projection: mean loss and passes per image",
        columns=("attack", "initial loss", "final loss", "passes"),
        rows=tuple(
            (
                attack_name(row),
                number_text(row["initial_loss"]),
                number_text(row["final_loss"]),
                number_text(row["projection_passes"]),
            )
            for row in records(known)
        ),
    )


def attack_name(row: Record) -> str:
    """An attack, and what it knew where its name does not say so."""
    attack, tier = str(row["attack"]), row["tier"]
    return attack if tier in ("none", attack) else f"{attack} ({tier})"


def _ends(row: Record) -> tuple[float, float]:
    return row["ci_low"], row["ci_high"]


def _reading(row: Record) -> str:
    low, high = _ends(row)
    if math.isnan(low):
        return "nothing counted"
    if low > 0:
        return "second is higher"
    return "second is lower" if high < 0 else "not told apart"


def share_text(value: float, low: float, high: float, *, sign: bool = False) -> str:
    """A share and its interval; with `sign`, a difference."""
    if math.isnan(value):
        return "–"
    form = "+.3f" if sign else ".3f"
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def number_text(value: float) -> str:
    """Four digits; a dash where nothing was counted."""
    return "–" if math.isnan(value) else f"{value:.4g}"


def eps_text(value: float) -> str:
    """A radius as people write it: 8/255 where it is one.

    >>> eps_text(8 / 255), eps_text(0.5), eps_text(0.0)
    ('8/255', '0.5', '0')
    """
    steps = value * 255
    if 0 < value <= 1 and abs(steps - round(steps)) < 1e-6:
        return f"{round(steps)}/255"
    return f"{value:g}"
