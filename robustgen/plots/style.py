"""What all figures share: how each path looks, sizes, legends, the last touches.

A figure is 4.5 inches wide and no text in it below 8 points, so that a phone shows it
at its natural size or above. Black stands for the color of the page's text, see
`output`.
"""

import contextlib
from collections.abc import Generator, Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 4.5
"""Of every figure, in inches."""

DPI = 150
"""Dots per inch of PNG files; layouts are made for it."""

TEXT, SMALL = 9.0, 8.0
"""Sizes of text, in points."""

GRAY = "#808080"
"""For lines that must be seen on white and on black, and stay behind the numbers."""


class Look(NamedTuple):
    """How a path is told from others: by color, and without it."""

    color: str
    marker: str
    hatch: str


# Okabe and Ito's palette: told apart by color-blind readers, on white and on black.
# Source: Okabe and Ito, "Color Universal Design", 2008.
LOOKS = {
    # Lines alone for hatching: dots make an SVG six times as large.
    "image": Look("#8c8c8c", "o", ""),
    "image_ensemble": Look("#e69f00", "v", "||||"),
    "reconstruction": Look("#3d8fd1", "s", "////"),
    "stylemix_ensemble": Look("#00a878", "^", "\\\\\\\\"),
    "combined_ensemble": Look("#cc79a7", "D", "xxxx"),
}
_OTHER = Look("#d55e00", "P", "----")

SERIES = (
    Look("#d55e00", "o", ""),
    Look("#3d8fd1", "s", ""),
    Look("#00a878", "^", ""),
    Look("#cc79a7", "D", ""),
    Look("#e69f00", "v", ""),
    Look("#56b4e9", "P", ""),
    Look("#8c8c8c", "X", ""),
)
"""Looks of lines that are no paths, in turn."""


def look_of(path: str) -> Look:
    """How a path looks; a defense that the user brings has a look of its own."""
    return LOOKS.get(path, _OTHER)


@contextlib.contextmanager
def drawing() -> Generator[None]:
    """Settings under which figures are built and saved; the reader's come back."""
    with mpl.rc_context(
        {"font.size": TEXT, "hatch.linewidth": 0.5, "svg.fonttype": "none"}
    ):
        yield


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """An empty figure of so many inches."""
    return Figure(figsize=(width, height), dpi=DPI)


def whiskers(
    axes: Axes,
    place: Float[np.ndarray, " row"],
    rows: pd.DataFrame,
    middle: Float[np.ndarray, " row"],
    *,
    upright: bool = False,
) -> None:
    """Draws the intervals of rows.

    Args:
        axes: Where to draw.
        place: Position of each row across the interval.
        rows: Their `ci_low` and `ci_high`.
        middle: What lies between.
        upright: Whether the intervals stand; they lie otherwise.
    """
    ends = np.stack(
        [
            middle - rows["ci_low"].to_numpy(float),
            rows["ci_high"].to_numpy(float) - middle,
        ]
    )
    # Rounding may put an end a hair on the wrong side of the middle.
    ends = ends.clip(min=0)
    x, y = (place, middle) if upright else (middle, place)
    axes.errorbar(
        x,
        y,
        xerr=None if upright else ends,
        yerr=ends if upright else None,
        fmt="none",
        ecolor="black",
        elinewidth=0.8,
    )


def legend(
    figure: Figure,
    handles: Sequence[Artist | tuple[Artist, ...]],
    labels: Sequence[str],
    columns: int = 3,
) -> None:
    """Puts a legend above the panels; handles of a tuple lie over each other."""
    if handles:
        figure.legend(
            handles,  # pyright: ignore[reportArgumentType]
            labels,
            loc="outside upper center",
            ncols=columns,
            frameon=False,
            fontsize=SMALL,
            columnspacing=1.0,
            handletextpad=0.5,
            handlelength=1.6,
        )


def finish(figure: Figure, panels: Sequence[Axes], grid: str) -> Figure:
    """Adds grids, thins frames, and settles the layout once and for all."""
    for axes in panels:
        axes.grid(axis=grid, color=GRAY, alpha=0.3, linewidth=0.6)  # pyright: ignore[reportArgumentType]
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=SMALL)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.set_layout_engine("constrained")
    figure.draw_without_rendering()
    # Every file of the figure then has the same layout, whatever is saved first.
    figure.set_layout_engine("none")
    return figure
