from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from robustgen.documents import read_document
from robustgen.errors import RequestError
from robustgen.projection_settings import (
    METHODS,
    DefenseGanSettings,
    EncoderSettings,
    HybridSettings,
    InDomainSettings,
    OptimizationSettings,
    PivotalSettings,
    ProjectionSettings,
    StyleGan2Settings,
    max_passes,
    needs_encoder,
    needs_perceptual,
)
from robustgen.schema import Record, validate


class Section(Record):
    """A file with one section."""

    projection: ProjectionSettings = HybridSettings()


def read(folder: Path, projection: object) -> Any:
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump({"projection": projection}), encoding="utf-8")
    document = read_document(path)
    return validate(Section, document, document.data).projection


def test_every_method_is_read_by_its_name_and_hybrid_without(tmp_path: Path):
    kinds = (
        HybridSettings,
        EncoderSettings,
        OptimizationSettings,
        StyleGan2Settings,
        InDomainSettings,
        DefenseGanSettings,
        PivotalSettings,
    )
    assert [kind().method for kind in kinds] == list(METHODS)
    for method, kind in zip(METHODS, kinds, strict=True):
        assert read(tmp_path, {"method": method}) == kind()
    assert read(tmp_path, {"passes": 8}) == HybridSettings(passes=8)
    assert read(tmp_path, {}) == Section().projection == HybridSettings()


def test_what_is_written_is_read_again(tmp_path: Path):
    for method in METHODS:
        settings = read(tmp_path, {"method": method})
        written = Section(projection=settings).model_dump(mode="json")
        assert Section.model_validate(written).projection == settings


def test_the_hybrid_has_the_defaults_it_always_had():
    kept = HybridSettings().model_dump(
        include={
            "optimizer",
            "passes",
            "steps",
            "perceptual_weight",
            "latent_weight",
            "tolerance",
            "pixel_range",
        }
    )
    assert kept == {
        "optimizer": "lbfgs",
        "passes": 12,
        "steps": None,
        "perceptual_weight": 0.5,
        "latent_weight": 0.25,
        "tolerance": 0.0,
        "pixel_range": 1.0,
    }


def test_a_pivot_is_completed_by_the_published_one(tmp_path: Path):
    pivot = {"passes": 20}
    found = read(tmp_path, {"method": "pivotal", "pivot": pivot}).pivot
    assert found == StyleGan2Settings(passes=20, rate=0.01)
    found = read(tmp_path, {"method": "pivotal", "pivot": {"method": "hybrid"}}).pivot
    assert found == HybridSettings()
    assert PivotalSettings().pivot == StyleGan2Settings(passes=450, rate=0.01)


@pytest.mark.parametrize(
    ("projection", "message"),
    [
        (
            {"method": "hybrd"},
            "projection: unknown method 'hybrd'. Did you mean 'hybrid'? Known: "
            "defensegan, encoder, hybrid, in_domain, optimization, pivotal, stylegan2.",
        ),
        ({"method": ["x"]}, "projection: unknown method '['x']'."),
        (3, "projection: should be keys and values, not 3."),
        (
            {"method": "defensegan", "restart": 3},
            "projection.restart: unknown key. Did you mean 'restarts'?",
        ),
        (
            {"method": "encoder", "passes": 3},
            "projection.passes: unknown key.",
        ),
        (
            {"method": "optimization", "space": "wplus"},
            "projection.space: unknown value 'wplus'. Did you mean 'w_plus'?",
        ),
        (
            {"rate": 0.1},
            "projection.rate: belongs to optimizer 'adam'; lbfgs finds its own step",
        ),
        (
            {"method": "optimization", "optimizer": "lbfgs", "rate": 0.1},
            "projection.rate: belongs to optimizer 'adam'",
        ),
        (
            {"perceptual_weight": 1.5},
            "projection.perceptual_weight: should be less than or equal to 1, not 1.5.",
        ),
        ({"passes": 0}, "projection.passes: should be greater than or equal to 1"),
        ({"latent_term": "end"}, "projection.latent_term: unknown value 'end'."),
        (
            {"method": "optimization", "latent_term": "cycle"},
            "projection.latent_term: unknown value 'cycle'. Known: start.",
        ),
        (
            {"method": "pivotal", "pivot": {"method": "in_domain"}},
            "projection.pivot: unknown method 'in_domain'. Known: encoder, hybrid, ",
        ),
        (
            {"method": "pivotal", "pivot": {"method": "hybrid", "pases": 3}},
            "projection.pivot.pases: unknown key. Did you mean 'passes'?",
        ),
        ({"method": "pivotal", "pivot": 3}, "projection.pivot: should be keys and val"),
        (
            {"method": "in_domain", "pixel_weight": 0, "perceptual_weight": 0},
            "projection.perceptual_weight: and `pixel_weight` are 0: nothing compares",
        ),
        (
            {"method": "pivotal", "pixel_weight": 0, "perceptual_weight": 0},
            "projection.perceptual_weight: and `pixel_weight` are 0",
        ),
        ({"method": "stylegan2", "rate": "1/0"}, "projection.rate: '1/0' divides by"),
    ],
)
def test_faults_name_the_key_and_what_was_meant(
    tmp_path: Path, projection: object, message: str
):
    with pytest.raises(RequestError) as caught:
        read(tmp_path, projection)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_numbers_may_be_written_as_fractions(tmp_path: Path):
    assert read(tmp_path, {"method": "stylegan2", "rate": "1/8"}).rate == 0.125


@pytest.mark.parametrize(
    ("settings", "passes"),
    [
        (EncoderSettings(), 0),
        (HybridSettings(passes=8), 8),
        # A step of L-BFGS may take several passes.
        (HybridSettings(passes=2000, steps=500), 2000),
        (HybridSettings(passes=2000, steps=500, optimizer="adam"), 501),
        (OptimizationSettings(), 5000),
        (OptimizationSettings(steps=10), 11),
        (StyleGan2Settings(), 1000),
        (StyleGan2Settings(steps=400), 400),
        (InDomainSettings(steps=200), 100),
        (DefenseGanSettings(), 2000),
        (DefenseGanSettings(restarts=2, steps=9), 20),
        (PivotalSettings(), 800),
        (PivotalSettings(pivot=EncoderSettings(), steps=9), 10),
    ],
)
def test_what_an_image_costs_at_most(settings: ProjectionSettings, passes: int):
    assert max_passes(settings) == passes


def test_what_a_method_cannot_do_without():
    encoders = [m for m in METHODS if needs_encoder(section(m))]
    assert encoders == ["hybrid", "encoder", "in_domain"]
    assert needs_encoder(PivotalSettings(pivot=EncoderSettings()))
    features = [m for m in METHODS if not needs_perceptual(section(m))]
    assert features == ["defensegan"]
    assert not needs_perceptual(HybridSettings(perceptual_weight=0))
    bare = EncoderSettings(perceptual_weight=0)
    assert not needs_perceptual(PivotalSettings(pivot=bare, perceptual_weight=0))
    assert needs_perceptual(PivotalSettings(perceptual_weight=0))


def section(method: str) -> ProjectionSettings:
    return Section.model_validate({"projection": {"method": method}}).projection


def test_records_are_frozen_and_strict():
    settings = HybridSettings()
    with pytest.raises(ValidationError):
        settings.passes = 3  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValidationError):
        HybridSettings(passes=3.0)  # pyright: ignore[reportArgumentType]
