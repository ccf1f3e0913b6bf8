from typing import Any

import pytest
from problems import LinearGan, ToyGan, ToyPerceptual

from robustgen.errors import RequestError
from robustgen.projection_settings import (
    DefenseGanSettings,
    EncoderSettings,
    HybridSettings,
    InDomainSettings,
    OptimizationSettings,
    PivotalSettings,
    ProjectionSettings,
    StyleGan2Settings,
)
from robustgen.projectors.build import build_projector
from robustgen.projectors.defensegan import DefenseGanProjector
from robustgen.projectors.encoder_only import EncoderProjector
from robustgen.projectors.in_domain import InDomainProjector
from robustgen.projectors.optimization import OptimizationProjector
from robustgen.projectors.pivotal import PivotalProjector
from robustgen.projectors.projector import Projector
from robustgen.projectors.stylegan2_projector import StyleGan2Projector


def built(settings: ProjectionSettings, **change: Any) -> Any:
    gan = LinearGan()
    given: dict[str, Any] = {
        "gan": gan,
        "encoder": gan.encode,
        "perceptual": ToyPerceptual(),
    }
    return build_projector(settings, **(given | change), seed=3)


def test_the_numbers_of_a_suite_reach_the_hybrid():
    settings = HybridSettings(
        optimizer="adam",
        passes=7,
        steps=5,
        tolerance=0.1,
        rate=0.02,
        pixel_term="l2",
        pixel_range=2.0,
        perceptual_weight=0.3,
        latent_weight=0.4,
        latent_term="start",
    )
    found = built(settings)
    assert isinstance(found, Projector)
    assert (found.optimizer, found.passes, found.steps) == ("adam", 7, 5)
    assert (found.tolerance, found.rate) == (0.1, 0.02)
    loss = found.loss
    assert (loss.pixel_term, loss.pixel_range, loss.pixel_weight) == ("l2", 2.0, None)
    assert (loss.perceptual_weight, loss.latent_weight) == (0.3, 0.4)
    assert loss.latent_term == "start"
    assert built(HybridSettings()).rate == 0.05


def test_the_published_numbers_reach_the_other_methods():
    found = built(EncoderSettings(perceptual_weight=0.1))
    assert isinstance(found, EncoderProjector)
    assert (found.loss.perceptual_weight, found.loss.latent_weight) == (0.1, 0.25)

    found = built(OptimizationSettings(space="z"))
    assert isinstance(found, OptimizationProjector)
    assert (found.space, found.passes, found.rate) == ("z", 5000, 0.01)
    assert (found.loss.latent_weight, found.loss.latent_term) == (0.0, "start")
    assert built(OptimizationSettings(rate=0.2)).rate == 0.2

    found = built(StyleGan2Settings(ramp_up=0.1, code_noise=0.2))
    assert isinstance(found, StyleGan2Projector)
    assert (found.passes, found.schedule.rate, found.noise_weight) == (1000, 0.1, 1e5)
    assert (found.schedule.ramp_up, found.schedule.code_noise) == (0.1, 0.2)
    assert (found.schedule.ramp_down, found.schedule.code_noise_until) == (0.25, 0.75)
    assert (found.loss.side, found.loss.pixel_factor, found.seed) == (256, 0.0, 3)

    found = built(InDomainSettings())
    assert isinstance(found, InDomainProjector)
    assert (found.passes, found.rate, found.loss.latent_term) == (100, 0.01, "cycle")
    assert (found.loss.pixel_factor, found.loss.latent_weight) == (4.0, 2.0)

    found = built(DefenseGanSettings(drop=0.5, drop_at=0.9))
    assert isinstance(found, DefenseGanProjector)
    assert (found.restarts, found.passes, found.rate) == (10, 200, 10.0)
    assert (found.momentum, found.drop, found.drop_at) == (0.7, 0.5, 0.9)
    assert found.seed == 3

    found = built(PivotalSettings(locality_weight=0.1))
    assert isinstance(found, PivotalProjector)
    assert isinstance(found.pivot, StyleGan2Projector)
    assert (found.pivot.passes, found.pivot.schedule.rate) == (450, 0.01)
    assert (found.passes, found.rate, found.threshold) == (350, 3e-4, 0.06)
    assert (found.locality.weight, found.locality.distance) == (0.1, 30.0)
    assert (found.loss.pixel_factor, found.loss.perceptual_weight) == (4.0, 1.0)


@pytest.mark.parametrize(
    "settings", [HybridSettings(), EncoderSettings(), InDomainSettings()]
)
def test_a_missing_encoder_is_named(settings: Any):
    with pytest.raises(
        RequestError,
        match=f"projection: method '{settings.method}' starts at an encoder's code, "
        "but the pair names no encoder",
    ):
        built(settings, encoder=None)
    pivotal = PivotalSettings(pivot=HybridSettings())
    with pytest.raises(RequestError, match="method 'hybrid' starts at an encoder"):
        built(pivotal, encoder=None)
    assert built(OptimizationSettings(), encoder=None)
    assert built(DefenseGanSettings(), encoder=None, perceptual=None)


def test_a_missing_perceptual_loss_is_named():
    for settings in (HybridSettings(), StyleGan2Settings(), PivotalSettings()):
        with pytest.raises(
            RequestError,
            match=rf"method '{settings.method}' has a perceptual_weight of \d.*, but "
            "the pair names no perceptual loss",
        ):
            built(settings, perceptual=None)
    assert built(HybridSettings(perceptual_weight=0), perceptual=None)


@pytest.mark.parametrize(
    "settings", [OptimizationSettings(), StyleGan2Settings(), DefenseGanSettings()]
)
def test_a_generator_without_a_mapping_network_is_named(settings: Any):
    with pytest.raises(RequestError, match="ToyGan has no mapping network"):
        built(settings, gan=ToyGan())
