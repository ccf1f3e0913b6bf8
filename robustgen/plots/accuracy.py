"""Bars of accuracy."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from robustgen.grids import MARKS
from robustgen.plots.style import (
    SMALL,
    TEXT,
    drawing,
    finish,
    legend,
    look_of,
    new_figure,
    whiskers,
)


def accuracy_bars(rows: pd.DataFrame) -> Figure:
    """Accuracy with its interval, one group per attack and one bar per path.

    Paths differ in color and in hatching. Behind a number stands the mark of its
    verdict, as in the tables.

    Args:
        rows: Rows of the accuracy frame, one per attack and path.
    """
    attacks = {name: place for place, name in enumerate(dict.fromkeys(rows["attack"]))}
    paths = list(dict.fromkeys(rows["path"]))
    group = np.array([attacks[name] for name in rows["attack"]], float)
    place = np.array([paths.index(path) for path in rows["path"]], float)
    order = np.lexsort((place, group))
    bars = rows.iloc[order]
    # An empty line parts one attack from the next.
    y = np.arange(len(bars)) + group[order]
    accuracy = bars["accuracy"].to_numpy(float)
    with drawing():
        figure = new_figure(1.0 + 0.165 * (len(bars) + len(attacks)))
        axes = figure.subplots()
        for path in paths:
            here = (bars["path"] == path).to_numpy(bool)
            look = look_of(str(path))
            axes.barh(
                y[here],
                accuracy[here],
                0.9,
                color=look.color,
                hatch=look.hatch,
                edgecolor="black",
                linewidth=0,
                label=path,
            )
        whiskers(axes, y, bars, accuracy)
        for height, value, verdict in zip(y, accuracy, bars["verdict"], strict=True):
            share = "–" if np.isnan(value) else f"{value:.3f}"
            text = f"{share} {MARKS[verdict]}".rstrip()
            axes.text(1.02, height, text, va="center", fontsize=SMALL)
        middles = [y[group[order] == number].mean() for number in attacks.values()]
        axes.set_yticks(middles, list(attacks))
        axes.set_ylim(y[-1] + 1, -1)
        axes.set_xlim(0, 1.2)
        axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1])
        figure.supxlabel("accuracy, with 95% interval over samples", fontsize=TEXT)
        legend(figure, *axes.get_legend_handles_labels())
        return finish(figure, [axes], grid="x")
