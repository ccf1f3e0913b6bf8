"""The README's picture: strips of a run's first test images, one per attack and image.

python benchmarks/picture.py RUN OUT.png
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imread

IMAGES = 2
"""Test images shown under each attack."""


PANEL = 96
"""Side of a panel in the picture, pixels at least."""


def main() -> None:
    """Writes the picture."""
    parser = argparse.ArgumentParser(description="The README's picture of a run.")
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    folder = arguments.run / "pictures"
    entries = json.loads((folder / "pictures.json").read_text(encoding="utf-8"))
    attacks = [a for a in dict.fromkeys(e["attack"] for e in entries) if a != "clean"]
    rows = [
        entry
        for attack in attacks
        for entry in [e for e in entries if e["attack"] == attack][:IMAGES]
    ]
    panels = [panel["name"] for panel in rows[0]["panels"]]
    strips = [_framed(imread(folder / row["file"]), len(panels)) for row in rows]
    height, width = strips[0].shape[:2]
    figure = Figure(
        figsize=(width / 100 + 1.1, len(rows) * height / 100 + 0.3), dpi=100
    )
    left = 1.1 / figure.get_figwidth()
    top = 1 - 0.3 / figure.get_figheight()
    axes = figure.add_axes((left, 0, 1 - left, top))
    axes.imshow(np.concatenate(strips))
    axes.set_xticks(
        [(i + 0.5) * width / len(panels) for i in range(len(panels))], panels
    )
    axes.set_yticks([(i + 0.5) * height for i in range(len(rows))])
    axes.set_yticklabels([row["attack"] for row in rows])
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelsize=9)
    for spine in axes.spines.values():
        spine.set_visible(False)
    figure.savefig(arguments.out)


def _framed(strip: np.ndarray, count: int) -> np.ndarray:
    """The panels of a strip, enlarged and parted by white lines."""
    times = math.ceil(PANEL / strip.shape[0])
    return np.concatenate(
        [
            np.pad(
                panel.repeat(times, axis=0).repeat(times, axis=1),
                ((2, 2), (2, 2), (0, 0)),
                constant_values=1.0,
            )
            for panel in np.split(strip, count, axis=1)
        ],
        axis=1,
    )


if __name__ == "__main__":
    main()
