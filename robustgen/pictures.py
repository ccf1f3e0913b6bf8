"""Pictures of a run: image, attacked, difference, reconstruction, views.

The first test images of every case, whatever became of them: nothing is picked.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.image import imsave

from robustgen.files import whole_file, write_text
from robustgen.table import PredictionTable

SHOWN = 4
"""Test images of each case that are shown."""

GAIN = 10
"""Amplification of the difference between attacked and clean image."""

_SIDE = 96
"""Side of a panel in the picture file, in pixels; panels are enlarged to it."""


def write_pictures(
    folder: Path,
    case: str,
    table: PredictionTable,
    clean: np.ndarray,
    arrays: Mapping[str, np.ndarray],
) -> list[dict[str, Any]]:
    """Writes one strip per image; returns what `pictures.json` says about each.

    Args:
        folder: `pictures` folder of the run.
        case: Name of the case, for file names.
        table: Predictions on the test split; its first rows are shown.
        clean: Clean images of these rows, [M, C, H, W].
        arrays: `attacked` [M, C, H, W] and, where a path needs the generator,
            `reconstruction` and `views` [M, V, C, H, W].
    """
    entries: list[dict[str, Any]] = []
    for row in range(len(arrays.get("attacked", ()))):
        attacked = arrays["attacked"][row]
        difference = np.clip(0.5 + GAIN * (attacked - clean[row]), 0, 1)
        panels = {"image": clean[row]}
        if table.key.attack != "clean":
            panels |= {"attacked": attacked, f"difference x{GAIN}": difference}
        if "reconstruction" in arrays:
            panels["reconstruction"] = arrays["reconstruction"][row]
        for number, view in enumerate(
            arrays["views"][row] if "views" in arrays else ()
        ):
            panels[f"view {number + 1}"] = view
        file = f"{case}-{int(table.sample[row])}.png"
        strip = np.concatenate([_panel(p) for p in panels.values()], axis=1)
        with whole_file(folder / file) as temporary:
            # No version of a library: the same pixels are the same bytes.
            imsave(temporary, strip, format="png", metadata={"Software": ""})
        entries.append(
            {
                "file": file,
                "attack": table.key.attack,
                "sample": int(table.sample[row]),
                "label": table.class_names[int(table.label[row])],
                "caption": _caption(table, row),
                "panels": list(panels),
            }
        )
    return entries


def write_index(folder: Path, entries: list[dict[str, Any]]) -> None:
    """Writes `pictures.json`: every strip, in the order of the cases."""
    write_text(folder / "pictures.json", json.dumps(entries, indent=1) + "\n")


def _caption(table: PredictionTable, row: int) -> str:
    said = [
        f"{path} says {table.class_names[int(probabilities[row].argmax())]} "
        f"({probabilities[row].max():.2f})"
        for path, probabilities in table.single.items()
    ]
    label = table.class_names[int(table.label[row])]
    return f"{table.key.attack}: {label}; {', '.join(said)}."


def _panel(pixels: np.ndarray) -> np.ndarray:
    """[C, H, W] to a bordered RGB panel of about `_SIDE` pixels, not smoothed."""
    rgb = np.broadcast_to(pixels, (3, *pixels.shape[1:])).transpose(1, 2, 0)
    factor = max(1, _SIDE // pixels.shape[-1])
    large = rgb.repeat(factor, axis=0).repeat(factor, axis=1)
    framed = np.pad(large, ((2, 2), (2, 2), (0, 0)), constant_values=1.0)
    return np.round(framed * 255).astype(np.uint8)
