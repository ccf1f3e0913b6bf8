"""Curves of accuracy over alpha."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustgen.plots.style import TEXT, drawing, finish, legend, look_of, new_figure


def alpha_curves(rows: pd.DataFrame, chosen: pd.DataFrame) -> Figure:
    """Accuracy over alpha, one panel per attack; dashed on validation images.

    Every fourth alpha carries the marker of the path.

    Args:
        rows: Rows of the curves frame.
        chosen: Rows of the accuracy frame whose mean `alpha` is marked.
    """
    attacks = list(dict.fromkeys(rows["attack"]))
    columns = min(2, len(attacks))
    lines = -(-len(attacks) // columns)
    with drawing():
        figure = new_figure(0.8 + 1.7 * lines)
        panels: list[Axes] = list(
            figure.subplots(
                lines, columns, squeeze=False, sharex=True, sharey=True
            ).flat
        )
        for unused in panels[len(attacks) :]:
            unused.set_axis_off()
        for axes, attack in zip(panels, attacks, strict=False):
            _draw(
                axes,
                rows.loc[rows["attack"] == attack],
                chosen.loc[chosen["attack"] == attack],
            )
            axes.set_title(attack, fontsize=TEXT)
            axes.set_ylim(0, 1.03)
            axes.set_xlim(0, 1)
        figure.supxlabel("alpha (0: image alone, 1: views alone)", fontsize=TEXT)
        figure.supylabel("accuracy", fontsize=TEXT)
        legend(figure, *panels[0].get_legend_handles_labels())
        return finish(figure, panels, grid="both")


def _draw(axes: Axes, rows: pd.DataFrame, chosen: pd.DataFrame) -> None:
    for path in dict.fromkeys(rows["path"]):
        look = look_of(path)
        for split, style in (("test", "-"), ("val", "--")):
            curve = rows[(rows["path"] == path) & (rows["split"] == split)]
            axes.plot(
                curve["alpha"],
                curve["accuracy"],
                style,
                color=look.color,
                linewidth=1.3 if split == "test" else 0.9,
                marker=look.marker if split == "test" else None,
                markevery=4,
                markersize=3.2,
                label=path if split == "test" else None,
            )
        for alpha in chosen.loc[chosen["path"] == path, "alpha"]:
            axes.axvline(alpha, color=look.color, linewidth=0.9, linestyle=":")
