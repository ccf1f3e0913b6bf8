from pathlib import Path
from typing import Any

import pytest

from robustgen.documents import Document
from robustgen.errors import RequestError
from robustgen.schema import Record, validate
from robustgen.view_settings import (
    FAMILIES,
    BoundaryViews,
    LayerViews,
    PcaViews,
    StylemixViews,
    ViewSettings,
    WalkViews,
)


class _Suite(Record):
    views: ViewSettings = StylemixViews()


def _read(views: Any, folder: Path = Path()) -> ViewSettings:
    data = {"views": views}
    document = Document(Path("suite.yaml"), data, {})
    return validate(_Suite, document, data, context={"folder": folder}).views


def test_a_suite_that_says_nothing_mixes_fine_styles():
    for views in (_Suite().views, _read({})):
        assert isinstance(views, StylemixViews)
        assert (views.family, views.layers, views.count) == ("stylemix", "fine", 32)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_stands_alone(family: str):
    views = _read({"family": family, "layers": [2, 5]})
    assert isinstance(views, LayerViews)
    assert views.family == family
    assert views.layers == (2, 5)
    # What a manifest keeps reads back as the same settings.
    assert _read(views.model_dump(mode="json")) == views
    assert _read(views) == views


def test_settings_have_their_defaults():
    assert _read({"family": "boundary"}) == BoundaryViews(
        family="boundary",
        layers="fine",
        count=32,
        beta=0.5,
        orthogonal=False,
        samples=4000,
        share=0.25,
        directions=None,
    )
    beside = _read({"family": "boundary", "orthogonal": True})
    assert beside.model_dump()["beta"] is None
    across = _read({"family": "boundary", "beta": 2})
    assert across.model_dump()["beta"] == 2.0
    walk = _read({"family": "walk", "edits": ["zoom"], "beta": "1/2"})
    assert isinstance(walk, WalkViews)
    assert (walk.beta, walk.edits, walk.steps) == (0.5, ("zoom",), 100)


@pytest.mark.parametrize("layers", ["coarse", "middle", "fine", "all"])
def test_layers_may_have_a_name(layers: str):
    views = _read({"layers": layers})
    assert isinstance(views, LayerViews)
    assert views.layers == layers


@pytest.mark.parametrize(
    ("views", "message"),
    [
        (
            {"family": "stylemx"},
            "views: unknown family 'stylemx'. Did you mean 'stylemix'? Known: "
            "boundary, isotropic, pca, sefa, stylemix, walk.",
        ),
        ({"family": 3}, "views: unknown family 3. Known: boundary"),
        (3, "views: should be keys and values, not 3."),
        (
            {"family": "pca", "bta": 1},
            "views.bta: unknown key. Did you mean 'beta'? Known: beta, count, "
            "directions, family, layers.",
        ),
        (
            {"sigma": 1},
            "views: `sigma` belongs to family 'isotropic', not to 'stylemix'.",
        ),
        (
            {"family": "isotropic", "beta": 1},
            "views: `beta` belongs to family 'pca', 'sefa', 'boundary' or 'walk', not "
            "to 'isotropic'.",
        ),
        ({"layers": "fin"}, "views.layers: unknown layers 'fin'. Did you mean 'fine'?"),
        ({"layers": [3, 3]}, "views.layers: [3, 3] is empty; start at 0 or more"),
        (
            {"layers": 3},
            "views.layers: should be coarse, middle, fine, all or [start, stop], not "
            "3.",
        ),
        ({"count": 0}, "views.count: should be greater than or equal to 1, not 0."),
        (
            {"family": "isotropic", "sigma": 0},
            "views.sigma: should be greater than 0, not 0.",
        ),
        (
            {"family": "walk", "edits": ["shiftx"]},
            "views.edits.0: unknown value 'shiftx'. Did you mean 'shift_x'?",
        ),
        ({"family": "walk", "edits": []}, "views.edits: should list at least one"),
        (
            {"family": "walk", "edits": ["zoom", "zoom"]},
            "views.edits: lists an edit twice.",
        ),
        (
            {"family": "sefa", "directions": "factor.pt"},
            "views.directions: factor.pt: no such file.",
        ),
        (
            {"family": "boundary", "share": 1.5},
            "views.share: should be less than or equal to 1, not 1.5.",
        ),
    ],
)
def test_a_wrong_section_is_explained(views: Any, message: str):
    with pytest.raises(RequestError) as caught:
        _read(views)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_is_looked_for_beside_the_suite(tmp_path: Path):
    (tmp_path / "smile.npy").touch()
    views = _read({"family": "boundary", "directions": "smile.npy"}, tmp_path)
    assert isinstance(views, BoundaryViews)
    assert views.directions == str((tmp_path / "smile.npy").resolve())


def test_a_family_says_which_key_is_its_strength():
    assert StylemixViews.strength is None
    assert PcaViews.strength == "beta"
    assert _read({"family": "isotropic"}).strength == "sigma"
    assert "strength" not in PcaViews(family="pca").model_dump()
