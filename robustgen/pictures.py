"""Pictures of a run: image, attacked, difference, reconstruction, views.

The first test images of every case, whatever became of them: nothing is picked.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from matplotlib.image import imsave

from robustgen.files import whole_file, write_text
from robustgen.table import PredictionTable

SHOWN = 24
"""Test images of each case that are shown."""

GAIN = 10
"""Amplification of the difference between attacked and clean image."""


def write_pictures(
    folder: Path,
    case: str,
    table: PredictionTable,
    clean: Float32[np.ndarray, "m c h w"],
    panels: Sequence[Mapping[str, np.ndarray]],
) -> list[dict[str, Any]]:
    """Writes one strip per image; returns what `pictures.json` says about each.

    Args:
        folder: `pictures` folder of the run.
        case: Name of the case, for file names.
        table: Predictions on the test split; its first rows are shown.
        clean: Clean images of these rows, as small as their panels.
        panels: For each of these rows `attacked` [C, H, W] and, where a generator
            defends, `reconstruction` [C, H, W] and `views` [V, C, H, W] of bytes and
            `view_probability` [V].
    """
    entries: list[dict[str, Any]] = []
    key = table.key
    for row, (image, found) in enumerate(zip(clean, panels, strict=True)):
        shown = _shown(image, found, attacked=key.attack != "clean")
        file = f"{case}-{int(table.sample[row])}.png"
        strip = np.concatenate([_panel(pixels) for _, pixels in shown], axis=1)
        with whole_file(folder / file) as temporary:
            # No version of a library: the same pixels are the same bytes.
            imsave(temporary, strip, format="png", metadata={"Software": ""})
        entries.append(
            {
                "file": file,
                "dataset": key.dataset,
                "classifier": key.classifier,
                "attack": key.attack,
                "tier": key.tier,
                "norm": key.norm,
                "eps": key.eps if math.isfinite(key.eps) else str(key.eps),
                "target": key.target,
                "sample": int(table.sample[row]),
                "label": table.class_names[int(table.label[row])],
                "classes": list(table.class_names),
                "panels": [said for said, _ in shown],
            }
        )
    return entries


def write_index(folder: Path, entries: Sequence[dict[str, Any]]) -> None:
    """Writes `pictures.json`: every strip, in the order of the cases."""
    write_text(folder / "pictures.json", json.dumps(entries, indent=1) + "\n")


def _shown(
    image: np.ndarray, found: Mapping[str, np.ndarray], *, attacked: bool
) -> list[tuple[dict[str, Any], np.ndarray]]:
    """What each panel is, and its pixels in [0, 1] or bytes, from left to right."""
    shown: list[tuple[dict[str, Any], np.ndarray]] = [({"name": "image"}, image)]
    if attacked:
        changed = found["attacked"]
        difference = np.clip(0.5 + GAIN * (changed - image), 0, 1)
        shown += [
            ({"name": "attacked"}, changed),
            ({"name": f"difference x{GAIN}"}, difference),
        ]
    if "reconstruction" in found:
        shown.append(({"name": "reconstruction"}, found["reconstruction"]))
    chances = found.get("view_probability", ())
    for place, view in enumerate(found.get("views", ())):
        said: dict[str, Any] = {"name": f"view {place + 1}"}
        if place < len(chances):
            said["probability"] = round(float(chances[place]), 4)
        shown.append((said, view))
    return shown


def _panel(pixels: np.ndarray) -> np.ndarray:
    """[C, H, W] to RGB bytes, [H, W, 3]."""
    if pixels.dtype != np.uint8:
        pixels = np.round(pixels * 255).astype(np.uint8)
    return np.broadcast_to(pixels, (3, *pixels.shape[1:])).transpose(1, 2, 0)
