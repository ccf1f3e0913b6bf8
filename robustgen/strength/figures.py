"""The figure of accuracy over eps, drawn without pyplot: nothing global changes."""

import io

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from robustgen.strength.series import SERIES_COLUMNS

# Okabe and Ito's palette: told apart by color-blind readers.
_COLORS = ("#d55e00", "#3d8fd1", "#00a878", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c8c")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_PANEL = (3.2, 2.4)


def eps_curves(curves: pd.DataFrame) -> Figure:
    """Accuracy over eps with its intervals, one panel per pair, path and norm.

    Args:
        curves: Rows of the curves frame of a strength report; one or more.
    """
    names = [*SERIES_COLUMNS, "norm"]
    groups = [group for _, group in curves.groupby(names, sort=False)]
    columns = min(2, len(groups))
    lines = -(-len(groups) // columns)
    attacks = list(dict.fromkeys(curves["attack"]))
    style = {
        attack: (_COLORS[place % len(_COLORS)], _MARKERS[place % len(_MARKERS)])
        for place, attack in enumerate(attacks)
    }
    figure = Figure(figsize=(_PANEL[0] * columns, 0.6 + _PANEL[1] * lines))
    panels = list(figure.subplots(lines, columns, squeeze=False).flat)
    for unused in panels[len(groups) :]:
        unused.set_axis_off()
    for axes, group in zip(panels, groups, strict=False):
        first = group.iloc[0]
        unit = 255 if first["norm"] == "linf" else 1
        for attack, curve in group.groupby("attack", sort=False):
            color, marker = style[str(attack)]
            eps = curve["eps"].to_numpy(float) * unit
            low, high = (curve[end].to_numpy(float) for end in ("ci_low", "ci_high"))
            axes.plot(
                eps,
                curve["accuracy"].to_numpy(float),
                color=color,
                marker=marker,
                markersize=3,
                linewidth=1.2,
            )
            axes.fill_between(eps, low, high, color=color, alpha=0.12, linewidth=0)
        axes.set_title(
            f"{first['dataset']}, {first['classifier']}, {first['path']}", fontsize=8
        )
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlim(left=0)
        scale = " (1/255)" if unit == 255 else ""
        axes.set_xlabel(f"{first['norm']} eps{scale}", fontsize=8)
        axes.set_ylabel("accuracy, 95% interval", fontsize=8)
        axes.grid(color="#808080", alpha=0.3, linewidth=0.6)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    handles = [
        Line2D([], [], color=color, marker=marker, markersize=3, label=attack)
        for attack, (color, marker) in style.items()
    ]
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=4,
        frameon=False,
        fontsize=7.5,
    )
    figure.set_layout_engine("constrained")
    return figure


def standalone_svg(figure: Figure) -> str:
    """The figure as an SVG file. The same figure gives the same bytes."""
    buffer = io.StringIO()
    with mpl.rc_context(
        {"svg.hashsalt": "attacks", "svg.fonttype": "none", "font.size": 8.5}
    ):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
