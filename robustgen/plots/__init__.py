"""The figures of a report, from rows of its frames.

Figures are built without pyplot, so that nothing global is read or left changed, and
drawn so that equal numbers give equal bytes.
"""

from robustgen.plots.accuracy import accuracy_bars
from robustgen.plots.alphas import alpha_curves
from robustgen.plots.differences import difference_marks
from robustgen.plots.ladder import (
    Threat,
    ladder_marks,
    ladder_steps,
    ladder_threats,
)
from robustgen.plots.output import png_file, svg_file, svg_text
from robustgen.plots.sweeps import eps_curves, sweep_rows

__all__ = [
    "Threat",
    "accuracy_bars",
    "alpha_curves",
    "difference_marks",
    "eps_curves",
    "ladder_marks",
    "ladder_steps",
    "ladder_threats",
    "png_file",
    "svg_file",
    "svg_text",
    "sweep_rows",
]
