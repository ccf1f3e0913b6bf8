"""The tier ladder: what is left of each path as the attack learns more."""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from robustgen.names import ADAPTIVE_TIERS, TIERS
from robustgen.plots.style import (
    GRAY,
    SMALL,
    TEXT,
    Look,
    drawing,
    finish,
    legend,
    look_of,
    new_figure,
    whiskers,
)

CLEAN, WORST = "clean", "worst case"
"""What stands before the first tier, and behind the last."""

_KEPT = ["path", "tier", "accuracy", "ci_low", "ci_high", "verdict"]


class Threat(NamedTuple):
    """What an attack may do: a norm, and a radius in pixel units of [0, 1]."""

    norm: str
    eps: float


def ladder_threats(rows: pd.DataFrame) -> list[Threat]:
    """The threats at which attacks that know the defense were run, in order.

    Args:
        rows: Rows of the accuracy frame.
    """
    aimed = rows.loc[rows["tier"].isin(ADAPTIVE_TIERS)]
    pairs = zip(aimed["norm"], aimed["eps"], strict=True)
    return [Threat(str(norm), float(eps)) for norm, eps in dict.fromkeys(pairs)]


def ladder_steps(
    rows: pd.DataFrame, worst: pd.DataFrame, threat: Threat
) -> pd.DataFrame:
    """What `ladder_marks` draws: one row per path and step of the ladder.

    Of several attacks of one tier the one that leaves least stands for it.

    Args:
        rows: Rows of the accuracy frame about one pair, one per attack and path.
        worst: Rows of the worst-case frame about the same pair and protocol.
        threat: The threat whose tiers are shown.

    Returns:
        Columns `path`, `tier` (`clean`, a tier, or `worst case`), `accuracy`,
        `ci_low`, `ci_high` and `verdict` (empty for the worst case), in the order of
        paths and, for each, from least to most knowledge.
    """
    clean = rows.loc[rows["attack"] == CLEAN].assign(tier=CLEAN)
    same = (rows["norm"] == threat.norm) & (rows["eps"] == threat.eps)
    tiers = rows.loc[same & rows["tier"].isin(TIERS)]
    last = worst.loc[worst["path"].isin(list(rows["path"]))]
    last = last.assign(tier=WORST, verdict="")
    parts = [part[_KEPT] for part in (clean, tiers, last) if len(part)]
    steps = pd.concat(parts, ignore_index=True)
    steps = steps.loc[np.argsort(steps["accuracy"].to_numpy(float), kind="stable")]
    steps = steps.drop_duplicates(["path", "tier"])
    order = [CLEAN, *TIERS, WORST]
    paths = list(dict.fromkeys(rows["path"]))
    place = [
        paths.index(path) * len(order) + order.index(tier)
        for path, tier in zip(steps["path"], steps["tier"], strict=True)
    ]
    return steps.iloc[np.argsort(place)].reset_index(drop=True)


def ladder_marks(steps: pd.DataFrame, chance: float = math.nan) -> Figure:
    """Accuracy with its interval at every step of the ladder, one panel per path.

    Filled marks are TRUSTED or were not checked, hollow ones SUSPECT, and hollow ones
    with a cross INVALID. The worst case has a bar for a mark, and no verdict.

    Args:
        steps: From `ladder_steps`.
        chance: Accuracy of a constant guess, drawn as a dashed line; NaN for none.
    """
    paths = list(dict.fromkeys(steps["path"]))
    found = set(steps["tier"])
    names = [name for name in (CLEAN, *TIERS, WORST) if name in found]
    with drawing():
        figure = new_figure(1.3 + 1.0 * len(paths))
        panels: list[Axes] = list(
            figure.subplots(len(paths), squeeze=False, sharex=True, sharey=True).flat
        )
        for axes, path in zip(panels, paths, strict=True):
            if not math.isnan(chance):
                axes.axhline(chance, color=GRAY, linestyle="--", linewidth=0.8)
            here = steps.loc[steps["path"] == path]
            _draw(axes, here, [names.index(tier) for tier in here["tier"]])
            axes.set_title(path, fontsize=TEXT, loc="left", pad=4)
            axes.set_xlim(-0.6, len(names) - 0.4)
            axes.set_ylim(-0.1, 1.45)
            axes.set_yticks([0, 0.5, 1])
        panels[-1].set_xticks(
            range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor"
        )
        figure.supylabel("accuracy, 95% interval", fontsize=TEXT)
        _add_legend(figure, steps, chance)
        return finish(figure, panels, grid="y")


def _draw(axes: Axes, steps: pd.DataFrame, places: list[int]) -> None:
    x = np.array(places, float)
    y = steps["accuracy"].to_numpy(float)
    whiskers(axes, x, steps, y, upright=True)
    for place, value, tier, path, verdict in zip(
        x, y, steps["tier"], steps["path"], steps["verdict"], strict=True
    ):
        look = look_of(str(path))
        for mark in _marks(look, str(verdict), is_worst=tier == WORST):
            mark.set_data([place], [value])
            axes.add_line(mark)
    # Above the interval, and above the mark, which may be taller.
    above = np.maximum(steps["ci_high"].to_numpy(float), y + 0.13)
    for place, value, high in zip(x, y, above, strict=True):
        axes.text(
            place, high + 0.02, f"{value:.2f}", ha="center", va="bottom", fontsize=SMALL
        )


def _marks(look: Look, verdict: str, *, is_worst: bool = False) -> list[Line2D]:
    if is_worst:
        return [_mark(look, "_", filled=True, size=12)]
    marks = [_mark(look, look.marker, filled=verdict in ("", "TRUSTED"))]
    if verdict == "INVALID":
        marks.append(_mark(look, "x", filled=True, size=8))
    return marks


def _mark(look: Look, marker: str, *, filled: bool, size: float = 4.5) -> Line2D:
    return Line2D(
        [],
        [],
        linestyle="none",
        color=look.color,
        marker=marker,
        markersize=size,
        markerfacecolor=look.color if filled else "none",
        markeredgewidth=2 if marker == "_" else 1.3,
        zorder=3,
    )


def _add_legend(figure: Figure, steps: pd.DataFrame, chance: float) -> None:
    gray = Look(GRAY, "o", "")
    found = set(steps["verdict"])
    entries: list[tuple[tuple[Line2D, ...], str]] = [
        (tuple(_marks(gray, verdict)), verdict)
        for verdict in ("TRUSTED", "SUSPECT", "INVALID")
        if verdict in found
    ]
    if WORST in set(steps["tier"]):
        entries.append((tuple(_marks(gray, "", is_worst=True)), "worst case"))
    if not math.isnan(chance):
        line = Line2D([], [], color=GRAY, linestyle="--", linewidth=0.8)
        entries.append(((line,), "constant guess"))
    legend(
        figure,
        [handles[0] if len(handles) == 1 else handles for handles, _ in entries],
        [name for _, name in entries],
        columns=3 if len(entries) > 4 else len(entries),
    )
