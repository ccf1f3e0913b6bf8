"""Marks of paired differences."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from robustgen.plots.style import (
    GRAY,
    TEXT,
    drawing,
    finish,
    look_of,
    new_figure,
    whiskers,
)


def difference_marks(rows: pd.DataFrame) -> Figure:
    """Paired differences with their intervals, one line each, below their attack.

    Args:
        rows: Rows of the differences frame.
    """
    labels: list[str] = []
    heads: list[int] = []
    y: list[float] = []
    for attack, first, second in zip(
        rows["attack"], rows["first"], rows["second"], strict=True
    ):
        if not heads or labels[heads[-1]] != attack:
            heads.append(len(labels))
            labels.append(str(attack))
        y.append(float(len(labels)))
        labels.append(f"{first} → {second}")
    place = np.array(y)
    mean = rows["difference"].to_numpy(float)
    with drawing():
        figure = new_figure(0.6 + 0.18 * len(labels))
        axes = figure.subplots()
        axes.axvline(0, color=GRAY, linewidth=1)
        whiskers(axes, place, rows, mean)
        for path in dict.fromkeys(rows["second"]):
            here = (rows["second"] == path).to_numpy(bool)
            look = look_of(path)
            axes.scatter(
                mean[here],
                place[here],
                s=20,
                color=look.color,
                marker=look.marker,
                zorder=3,
            )
        axes.set_yticks(range(len(labels)), labels)
        for head in heads:
            axes.get_yticklabels()[head].set_fontweight("bold")
        axes.set_ylim(len(labels) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        figure.supxlabel(
            "difference of accuracy, same samples, 95% interval", fontsize=TEXT
        )
        return finish(figure, [axes], grid="x")
