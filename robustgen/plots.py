"""The figures of a report, as SVG that follows the colors of the page.

Figures are built without pyplot, so that nothing global is read or left changed, and
drawn so that equal numbers give equal bytes.
"""

import io
import re
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart by color-blind readers, on white and on black.
PATH_COLORS = {
    "image": "#8c8c8c",
    "image_ensemble": "#e69f00",
    "reconstruction": "#3d8fd1",
    "stylemix_ensemble": "#00a878",
    "combined_ensemble": "#cc79a7",
}
_OTHER_COLOR = "#d55e00"
_WIDTH = 6.4


def accuracy_bars(rows: pd.DataFrame) -> Figure:
    """Accuracy with its interval, one group per attack and one bar per path.

    Args:
        rows: Rows of the accuracy frame, one per attack and path.
    """
    attacks = list(dict.fromkeys(rows["attack"]))
    paths = list(dict.fromkeys(rows["path"]))
    height = 0.8 / max(len(paths), 1)
    figure = Figure(figsize=(_WIDTH, 0.9 + len(attacks) * (0.3 + 0.17 * len(paths))))
    axes = figure.subplots()
    for place, path in enumerate(paths):
        here = rows[rows["path"] == path].set_index("attack").reindex(attacks)
        y = np.arange(len(attacks)) + (place - (len(paths) - 1) / 2) * height
        accuracy = here["accuracy"].to_numpy(float)
        axes.barh(y, accuracy, height * 0.9, color=_color(path), label=path)
        _whiskers(axes, y, here, accuracy)
        for position, value in zip(y, accuracy, strict=True):
            if np.isfinite(value):
                axes.text(1.02, position, f"{value:.3f}", va="center", fontsize=7)
    axes.set_yticks(range(len(attacks)), attacks)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_xlabel("accuracy, with 95% interval over samples")
    _legend(figure, axes)
    return _finished(figure, [axes], grid="x")


def alpha_curves(rows: pd.DataFrame, chosen: pd.DataFrame) -> Figure:
    """Accuracy over alpha, one panel per attack; dashed on validation images.

    Args:
        rows: Rows of the curves frame.
        chosen: Rows of the accuracy frame whose mean `alpha` is marked.
    """
    attacks = list(dict.fromkeys(rows["attack"]))
    columns = min(2, len(attacks))
    lines = -(-len(attacks) // columns)
    figure = Figure(figsize=(_WIDTH, 0.8 + 2.2 * lines))
    panels: list[Axes] = list(
        figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).flat
    )
    for unused in panels[len(attacks) :]:
        unused.set_axis_off()
    for axes, attack in zip(panels, attacks, strict=False):
        here = rows[rows["attack"] == attack]
        for path in dict.fromkeys(here["path"]):
            for split, style in (("test", "-"), ("val", "--")):
                curve = here[(here["path"] == path) & (here["split"] == split)]
                axes.plot(
                    curve["alpha"],
                    curve["accuracy"],
                    style,
                    color=_color(path),
                    linewidth=1.4 if split == "test" else 0.9,
                    label=path if split == "test" else None,
                )
            mark = chosen[(chosen["attack"] == attack) & (chosen["path"] == path)]
            for alpha in mark["alpha"]:
                axes.axvline(alpha, color=_color(path), linewidth=0.8, linestyle=":")
        axes.set_title(attack, fontsize=9)
        axes.set_ylim(0, 1.03)
        axes.set_xlim(0, 1)
    for axes in panels[-columns:]:
        axes.set_xlabel("alpha (0: image alone, 1: views alone)", fontsize=8)
    _legend(figure, panels[0])
    return _finished(figure, panels, grid="both")


def difference_marks(rows: pd.DataFrame) -> Figure:
    """Paired differences with their intervals, grouped by attack.

    Args:
        rows: Rows of the differences frame.
    """
    attacks = list(dict.fromkeys(rows["attack"]))
    figure = Figure(figsize=(_WIDTH, 1.0 + 0.24 * len(rows) + 0.2 * len(attacks)))
    axes = figure.subplots()
    # An empty line parts one attack from the next.
    y = np.arange(len(rows)) + 0.8 * np.array(
        [attacks.index(attack) for attack in rows["attack"]], dtype=float
    )
    mean = rows["difference"].to_numpy(float)
    _whiskers(axes, y, rows, mean)
    colors = [_color(path) for path in rows["second"]]
    axes.scatter(mean, y, s=22, c=colors, zorder=3)
    axes.axvline(0, color="#808080", linewidth=1)
    labels = [
        f"{attack}: {first} → {second}"
        for attack, first, second in zip(
            rows["attack"], rows["first"], rows["second"], strict=True
        )
    ]
    axes.set_yticks(y, labels, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("difference of accuracy on the same samples, 95% interval")
    return _finished(figure, [axes], grid="x")


def svg_text(figure: Figure, name: str, title: str) -> str:
    """The figure as an SVG element to stand inside a page.

    Black becomes the page's text color and text stays text, so that the figure reads
    on light and dark pages alike. The same figure gives the same bytes.

    Args:
        figure: What to draw.
        name: Prefix of the element ids; each figure of a page needs its own.
        title: What the figure shows, for readers who cannot see it.
    """
    buffer = io.StringIO()
    with mpl.rc_context(
        {"svg.hashsalt": name, "svg.fonttype": "none", "font.size": 8.5}
    ):
        figure.savefig(
            buffer,
            format="svg",
            transparent=True,
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Inside HTML no namespace is declared, and `href` needs no prefix.
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    text = text.replace("#000000", "currentColor")
    # The viewBox alone sets the shape; the page sets the size.
    text = re.sub(r'<svg (.*?)width="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r'(<svg [^>]*?)\sheight="[^"]*"', r"\1", text, count=1)
    return text.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1).strip()


def _whiskers(
    axes: Axes,
    y: Float[np.ndarray, " row"],
    rows: pd.DataFrame,
    middle: Float[np.ndarray, " row"],
) -> None:
    ends = np.stack(
        [
            middle - rows["ci_low"].to_numpy(float),
            rows["ci_high"].to_numpy(float) - middle,
        ]
    )
    # Rounding may put an end a hair on the wrong side of the middle.
    axes.errorbar(
        middle, y, xerr=ends.clip(min=0), fmt="none", ecolor="black", elinewidth=0.8
    )


def _color(path: str) -> str:
    return PATH_COLORS.get(path, _OTHER_COLOR)


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(
            handles,
            labels,
            loc="outside upper center",
            ncols=3,
            frameon=False,
            fontsize=7.5,
        )


def _finished(figure: Figure, panels: Sequence[Axes], grid: str) -> Figure:
    figure.set_layout_engine("constrained")
    for axes in panels:
        axes.grid(axis=grid, color="#808080", alpha=0.3, linewidth=0.6)  # pyright: ignore[reportArgumentType]
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    return figure
