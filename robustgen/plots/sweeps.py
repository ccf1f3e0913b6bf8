"""Curves of accuracy over eps."""

import math
from collections.abc import Iterable, Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from robustgen.plots.style import (
    SERIES,
    SMALL,
    TEXT,
    WIDTH,
    Look,
    drawing,
    finish,
    legend,
    new_figure,
)

_PANELS = ["dataset", "classifier", "path", "norm"]


def sweep_rows(rows: pd.DataFrame, sweeps: Mapping[str, str]) -> pd.DataFrame:
    """What `eps_curves` draws, from the accuracies of a report.

    Args:
        rows: Test rows of the accuracy frame, one per attack and path of each pair.
        sweeps: The sweep that an attack belongs to, by the attack's name.

    Returns:
        These rows with `attack` as the name of the sweep, by rising eps, clean images
        first at eps 0. Empty where no attack belongs to a sweep.
    """
    named = rows.assign(sweep=[sweeps.get(str(name)) for name in rows["attack"]])
    swept = named.loc[named["sweep"].notna() & (named["eps"] < math.inf)]
    clean = rows.loc[rows["attack"] == "clean"]
    found: list[pd.DataFrame] = []
    for values, group in swept.groupby([*_PANELS, "sweep"], sort=False):
        dataset, classifier, path, norm, sweep = values
        start = clean.loc[
            (clean["dataset"] == dataset)
            & (clean["classifier"] == classifier)
            & (clean["path"] == path)
        ].assign(eps=0.0, norm=norm)
        rising = group.sort_values("eps", kind="stable").drop(columns="sweep")
        found.append(pd.concat([start, rising]).assign(attack=sweep))
    return pd.concat(found, ignore_index=True) if found else rows.iloc[:0]


def eps_curves(curves: pd.DataFrame) -> Figure:
    """Accuracy over eps with its intervals, one panel per pair, path and norm.

    Marks of SUSPECT and INVALID numbers are hollow.

    Args:
        curves: Rows with `dataset`, `classifier`, `path`, `attack`, `norm`, `eps`,
            `accuracy`, `ci_low`, `ci_high` and, if checks have run, `verdict`; one
            or more, each attack's by rising eps.
    """
    groups = [group for _, group in curves.groupby(_PANELS, sort=False)]
    columns = min(2, len(groups))
    lines = -(-len(groups) // columns)
    looks = dict(zip(dict.fromkeys(curves["attack"]), _in_turn(), strict=False))
    is_one_pair = len(curves[["dataset", "classifier"]].drop_duplicates()) == 1
    with drawing():
        figure = new_figure(0.6 + 2 * lines, WIDTH if columns > 1 else WIDTH * 0.7)
        panels: list[Axes] = list(
            figure.subplots(lines, columns, squeeze=False, sharey=True).flat
        )
        for unused in panels[len(groups) :]:
            unused.set_axis_off()
        for axes, group in zip(panels, groups, strict=False):
            _draw(axes, group, looks)
            first = group.iloc[0]
            pair = "" if is_one_pair else f"{first['dataset']}, {first['classifier']}\n"
            axes.set_title(f"{pair}{first['path']}", fontsize=TEXT)
        figure.supylabel("accuracy, 95% interval", fontsize=TEXT)
        handles = [
            Line2D([], [], color=look.color, marker=look.marker, markersize=3)
            for look in looks.values()
        ]
        legend(figure, handles, list(looks))
        return finish(figure, panels, grid="both")


def _in_turn() -> Iterable[Look]:
    while True:
        yield from SERIES


def _draw(axes: Axes, rows: pd.DataFrame, looks: Mapping[str, Look]) -> None:
    norm = str(rows["norm"].iloc[0])
    unit = 255 if norm == "linf" else 1
    for attack, curve in rows.groupby("attack", sort=False):
        look = looks[str(attack)]
        eps = curve["eps"].to_numpy(float) * unit
        accuracy = curve["accuracy"].to_numpy(float)
        low, high = (curve[end].to_numpy(float) for end in ("ci_low", "ci_high"))
        axes.fill_between(eps, low, high, color=look.color, alpha=0.12, linewidth=0)
        axes.plot(eps, accuracy, color=look.color, linewidth=1.2)
        doubted = (
            curve["verdict"].isin(["SUSPECT", "INVALID"]).to_numpy(bool)
            if "verdict" in curve
            else eps < 0
        )
        for chosen, face in ((~doubted, look.color), (doubted, "none")):
            axes.plot(
                eps[chosen],
                accuracy[chosen],
                linestyle="none",
                color=look.color,
                marker=look.marker,
                markerfacecolor=face,
                markersize=3.5,
            )
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlim(left=0)
    scale = " (1/255)" if unit == 255 else ""
    axes.set_xlabel(f"{norm} eps{scale}", fontsize=SMALL)
