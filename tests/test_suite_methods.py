"""Every projection method and every view family is reachable from a suite."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import robustgen as rg
from robustgen.data.faces import load_faces
from robustgen.projection_settings import METHODS
from robustgen.table import PredictionTable, load_table
from robustgen.view_settings import FAMILIES

FACES = dict.fromkeys(
    ("dataset", "classifier", "generator", "encoder", "perceptual"), "faces"
)
PROJECTIONS: dict[str, dict[str, Any]] = {
    "hybrid": {"passes": 3},
    "encoder": {},
    "optimization": {"space": "w", "passes": 3},
    "stylegan2": {"passes": 3},
    "in_domain": {"passes": 3},
    "defensegan": {"restarts": 2, "passes": 3},
    "pivotal": {"pivot": {"method": "encoder"}, "passes": 3, "threshold": 0},
}
PASSES = {
    # Evaluations of the loss that a face costs with these settings.
    "hybrid": 3,
    "encoder": 0,
    "optimization": 3,
    "stylegan2": 3,
    "in_domain": 3,
    "defensegan": 6,
    "pivotal": 3,
}
VIEWS: dict[str, dict[str, Any]] = {
    "stylemix": {"layers": "coarse"},
    "isotropic": {"layers": "fine"},
    "pca": {"layers": "coarse"},
    "sefa": {"layers": "all", "beta": 2},
    "boundary": {"layers": "coarse", "samples": 400},
    "walk": {"layers": "all", "edits": ["brightness"], "steps": 3},
}


def clean_table(folder: Path, **sections: Any) -> PredictionTable:
    """Runs clean faces through a suite with these sections."""
    suite = {
        "version": 1,
        "name": "small",
        "profiles": {"embedded": {"pairs": [FACES]}},
        "attacks": ["clean"],
        "ensemble": {"size": 3},
        **sections,
    }
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump(suite))
    rg.run(path, out=folder / "out", limit=4)
    return load_table(folder / "out" / "tables" / "faces-faces-clean-test.npz")


def test_the_tables_here_are_complete():
    assert set(PROJECTIONS) == set(PASSES) == set(METHODS)
    assert set(VIEWS) == set(FAMILIES)


@pytest.mark.parametrize("method", PROJECTIONS)
def test_projection_methods(method: str, tmp_path: Path):
    projection = {"method": method, **PROJECTIONS[method]}
    views = {"count": 2}
    table = clean_table(tmp_path, projection=projection, views=views)
    assert table.cost["projection_passes"].tolist() == [PASSES[method]] * 4
    assert (table.cost["final_loss"] <= table.cost["initial_loss"] + 1e-6).all()
    starts_at_encoder = method not in ("optimization", "stylegan2", "defensegan")
    if starts_at_encoder:
        # Three passes from the encoder's code keep the labels of these faces.
        labels = load_faces(test=4).labels
        found = table.single["reconstruction"].argmax(axis=1)
        np.testing.assert_array_equal(found, labels)


@pytest.mark.parametrize("family", VIEWS)
def test_view_families(family: str, tmp_path: Path):
    views = {"family": family, "count": 3, **VIEWS[family]}
    table = clean_table(tmp_path, projection={"method": "encoder"}, views=views)
    made = table.views["stylemix_ensemble"]
    assert made.shape == (4, 3, 2)
    # The views of a face are not all alike, nor those of two faces.
    assert (np.ptp(made[..., 0], axis=1) > 0).all()
    assert np.ptp(made[:, 0, 0]) > 0
