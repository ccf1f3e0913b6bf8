"""From the settings of a suite to the method that they name."""

from collections.abc import Sequence
from dataclasses import replace

from robustgen.errors import RequestError
from robustgen.projection_settings import (
    CustomProjection,
    DefenseGanSettings,
    EncoderSettings,
    HybridSettings,
    InDomainSettings,
    OptimizationSettings,
    PivotalSettings,
    ProjectionSettings,
    StyleGan2Settings,
)
from robustgen.projectors import optimization, projector
from robustgen.projectors.custom import custom_projector
from robustgen.projectors.defensegan import DefenseGanProjector
from robustgen.projectors.encoder_only import EncoderProjector
from robustgen.projectors.in_domain import InDomainProjector
from robustgen.projectors.loss import Encoder, Gan, Perceptual, ProjectionLoss
from robustgen.projectors.method import ProjectionMethod
from robustgen.projectors.optimization import OptimizationProjector
from robustgen.projectors.pivotal import Locality, PivotalProjector
from robustgen.projectors.projector import Projector
from robustgen.projectors.spaces import require_mapping
from robustgen.projectors.stylegan2_projector import Schedule, StyleGan2Projector


def build_projector(
    settings: ProjectionSettings,
    *,
    gan: Gan,
    encoder: Encoder | None,
    perceptual: Perceptual | None,
    seed: int,
    plugins: Sequence[str] = (),
) -> ProjectionMethod:
    """The projection method of a suite.

    Args:
        settings: Which method, and its numbers.
        gan: The generator.
        encoder: The encoder, where there is one.
        perceptual: The perceptual distance, where there is one.
        seed: Seed of the suite; random draws hang on it and the image's index.
        plugins: Modules whose factories may run.

    Raises:
        RequestError: the method needs an encoder, a perceptual distance or a mapping
            network, and there is none; the settings do not fit the generator; or a
            method of the user's own cannot be made.
    """
    if isinstance(settings, CustomProjection):
        return custom_projector(
            settings,
            gan=gan,
            encoder=encoder,
            perceptual=perceptual,
            seed=seed,
            plugins=plugins,
        )
    if isinstance(settings, DefenseGanSettings):
        return _defensegan(settings, gan, seed)
    loss = _loss(settings, perceptual)
    match settings:
        case HybridSettings():
            return _hybrid(settings, gan, _given_encoder(encoder, settings), loss)
        case EncoderSettings():
            return EncoderProjector(gan, _given_encoder(encoder, settings), loss)
        case InDomainSettings():
            return _in_domain(settings, gan, _given_encoder(encoder, settings), loss)
        case OptimizationSettings():
            return _optimization(settings, gan, loss)
        case StyleGan2Settings():
            return _stylegan2(settings, gan, loss, seed)
        case PivotalSettings():
            pivot = build_projector(
                settings.pivot,
                gan=gan,
                encoder=encoder,
                perceptual=perceptual,
                seed=seed,
            )
            return _pivotal(settings, gan, pivot, loss, seed)


def _hybrid(
    settings: HybridSettings, gan: Gan, encoder: Encoder, loss: ProjectionLoss
) -> Projector:
    return Projector(
        gan,
        encoder,
        loss=loss,
        optimizer=settings.optimizer,
        passes=settings.passes,
        steps=settings.steps,
        tolerance=settings.tolerance,
        rate=projector.RATE if settings.rate is None else settings.rate,
    )


def _in_domain(
    settings: InDomainSettings, gan: Gan, encoder: Encoder, loss: ProjectionLoss
) -> InDomainProjector:
    return InDomainProjector(
        gan,
        encoder,
        loss,
        passes=settings.passes,
        steps=settings.steps,
        tolerance=settings.tolerance,
        rate=settings.rate,
    )


def _optimization(
    settings: OptimizationSettings, gan: Gan, loss: ProjectionLoss
) -> OptimizationProjector:
    return OptimizationProjector(
        require_mapping(gan),
        loss,
        space=settings.space,
        optimizer=settings.optimizer,
        passes=settings.passes,
        steps=settings.steps,
        tolerance=settings.tolerance,
        rate=optimization.RATE if settings.rate is None else settings.rate,
    )


def _stylegan2(
    settings: StyleGan2Settings, gan: Gan, loss: ProjectionLoss, seed: int
) -> StyleGan2Projector:
    return StyleGan2Projector(
        require_mapping(gan),
        loss,
        space=settings.space,
        passes=settings.passes,
        steps=settings.steps,
        tolerance=settings.tolerance,
        schedule=Schedule(
            rate=settings.rate,
            ramp_up=settings.ramp_up,
            ramp_down=settings.ramp_down,
            code_noise=settings.code_noise,
            code_noise_until=settings.code_noise_until,
        ),
        optimize_noise=settings.optimize_noise,
        noise_weight=settings.noise_weight,
        seed=seed,
    )


def _defensegan(
    settings: DefenseGanSettings, gan: Gan, seed: int
) -> DefenseGanProjector:
    return DefenseGanProjector(
        require_mapping(gan),
        restarts=settings.restarts,
        passes=settings.passes,
        steps=settings.steps,
        tolerance=settings.tolerance,
        rate=settings.rate,
        momentum=settings.momentum,
        drop=settings.drop,
        drop_at=settings.drop_at,
        pixel_range=settings.pixel_range,
        seed=seed,
    )


def _pivotal(
    settings: PivotalSettings,
    gan: Gan,
    pivot: ProjectionMethod,
    loss: ProjectionLoss,
    seed: int,
) -> PivotalProjector:
    return PivotalProjector(
        gan,
        pivot,
        loss,
        passes=settings.passes,
        steps=settings.steps,
        tolerance=settings.tolerance,
        rate=settings.rate,
        threshold=settings.threshold,
        locality=Locality(settings.locality_weight, settings.locality_distance),
        seed=seed,
    )


def _loss(
    settings: HybridSettings
    | EncoderSettings
    | OptimizationSettings
    | StyleGan2Settings
    | InDomainSettings
    | PivotalSettings,
    perceptual: Perceptual | None,
) -> ProjectionLoss:
    """The loss that the settings of a method describe."""
    weight = settings.perceptual_weight
    if weight > 0 and perceptual is None:
        raise RequestError(
            f"projection: method '{settings.method}' has a perceptual_weight of "
            f"{weight:g}, but the pair names no perceptual loss. Name one, or set the "
            "weight to 0."
        )
    common = ProjectionLoss(
        perceptual, weight, 0.0, settings.pixel_range, pixel_term="l2", pixel_weight=1.0
    )
    match settings:
        case InDomainSettings():
            return replace(
                common,
                pixel_weight=settings.pixel_weight,
                latent_weight=settings.latent_weight,
                latent_term="cycle",
            )
        case PivotalSettings():
            return replace(common, pixel_weight=settings.pixel_weight)
        case StyleGan2Settings():
            return replace(
                common,
                pixel_weight=None,
                pixel_term=settings.pixel_term,
                side=settings.side,
            )
        case _:
            return replace(
                common,
                pixel_weight=None,
                pixel_term=settings.pixel_term,
                latent_weight=settings.latent_weight,
                latent_term=settings.latent_term,
            )


def _given_encoder(
    encoder: Encoder | None,
    settings: HybridSettings | EncoderSettings | InDomainSettings,
) -> Encoder:
    if encoder is None:
        raise RequestError(
            f"projection: method '{settings.method}' starts at an encoder's code, but "
            "the pair names no encoder. Name one, or choose optimization, stylegan2 or "
            "defensegan."
        )
    return encoder
