"""From the settings of a suite to the views of a code."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from robustgen.errors import RequestError
from robustgen.gan.layers import LayerRange, parse_layers
from robustgen.rngs import rng_for
from robustgen.types import Labels, LogitsFn, StylesPlus
from robustgen.view_settings import (
    BoundaryViews,
    CustomViews,
    IsotropicViews,
    PcaViews,
    SefaViews,
    StylemixViews,
    ViewSettings,
    WalkViews,
)
from robustgen.views.boundary import fit_boundaries, orthogonal_directions
from robustgen.views.custom import custom_views
from robustgen.views.directions import Directions, load_directions, step_codes
from robustgen.views.draws import ViewCodes, ViewFamily
from robustgen.views.edits import EDITS
from robustgen.views.isotropic import isotropic_codes
from robustgen.views.pca import leading_directions, load_pca
from robustgen.views.sefa import ModulatedGan, sefa_directions
from robustgen.views.stylemix import stylemix_codes
from robustgen.views.styles import ImageGenerator, random_styles
from robustgen.views.walk import fit_walks

Rows = Callable[[StylesPlus], Labels | None]
"""The direction of each image's views; None where each view draws its own."""


def build_views(
    settings: ViewSettings,
    *,
    gan: ImageGenerator,
    classifier: LogitsFn,
    named_layers: Mapping[str, LayerRange],
    pca: Path | None,
    seed: int,
    plugins: Sequence[str] = (),
) -> ViewFamily:
    """How the codes of views are made.

    Directions that no file gives are computed here: SeFa's from the weights, a boundary
    from 4,000 random images, walks by some thousand passes of the generator. They
    depend on the networks, the settings and the seed alone.

    Args:
        settings: Family, layers, number and strength of the views.
        gan: The generator.
        classifier: Images in [0, 1] as the generator makes them, to logits.
        named_layers: Layer ranges of the domain. `all` is known without.
        pca: PCA statistics of the generator, where there are any.
        seed: Seed of the suite.
        plugins: Modules whose factories may run.

    Returns:
        A function of codes, sample indices and predicted classes. Only a
        class-conditional generator needs the classes.

    Raises:
        RequestError: the layers, the strength or a file is missing or does not fit the
            generator; or a family of the user's own cannot be made.
    """
    if isinstance(settings, CustomViews):
        return custom_views(settings, gan=gan, seed=seed, plugins=plugins)
    named = {"all": LayerRange(0, gan.num_layers), **named_layers}
    layers = parse_layers(settings.layers, named=named, num_layers=gan.num_layers)
    if isinstance(settings, StylemixViews):
        return _stylemix(settings, gan, layers, seed)
    if isinstance(settings, IsotropicViews):
        return _isotropic(settings, layers, seed)
    directions, rows = _find_directions(
        settings, gan=gan, classifier=classifier, layers=layers, pca=pca, seed=seed
    )
    beta = _strength(settings)

    def steps(
        w_plus: StylesPlus, samples: Sequence[int], labels: Labels | None
    ) -> ViewCodes:
        return step_codes(
            w_plus,
            directions=directions,
            family=settings.family,
            layers=layers,
            beta=beta,
            count=settings.count,
            seed=seed,
            samples=samples,
            rows=rows(w_plus),
        )

    return steps


def _find_directions(
    settings: PcaViews | SefaViews | BoundaryViews | WalkViews,
    *,
    gan: ImageGenerator,
    classifier: LogitsFn,
    layers: LayerRange,
    pca: Path | None,
    seed: int,
) -> tuple[Directions, Rows]:
    if isinstance(settings, PcaViews):
        return _pca(settings, pca), _drawn
    if isinstance(settings, SefaViews):
        return _sefa(settings, gan, layers, seed), _drawn
    if isinstance(settings, WalkViews):
        return _walk(settings, gan, layers, seed), _drawn
    found = _boundary(settings, gan, classifier, seed)
    if settings.orthogonal or len(found.vectors) == 1:
        return found, _drawn

    @torch.no_grad()
    def own_class(w_plus: StylesPlus) -> Labels:
        return classifier(gan.synthesize(w_plus).clamp(0, 1)).argmax(dim=1)

    return found, own_class


def _drawn(w_plus: StylesPlus) -> None:
    """Each view draws its own direction."""


def _stylemix(
    settings: StylemixViews, gan: ImageGenerator, layers: LayerRange, seed: int
) -> ViewFamily:
    def stylemix(
        w_plus: StylesPlus, samples: Sequence[int], labels: Labels | None
    ) -> ViewCodes:
        return stylemix_codes(
            gan,
            w_plus,
            layers=layers,
            count=settings.count,
            seed=seed,
            samples=samples,
            labels=labels if gan.num_classes else None,
        )

    return stylemix


def _isotropic(settings: IsotropicViews, layers: LayerRange, seed: int) -> ViewFamily:
    sigma = _strength(settings)

    def isotropic(
        w_plus: StylesPlus, samples: Sequence[int], labels: Labels | None
    ) -> ViewCodes:
        return isotropic_codes(
            w_plus,
            layers=layers,
            sigma=sigma,
            count=settings.count,
            seed=seed,
            samples=samples,
        )

    return isotropic


def _pca(settings: PcaViews, pca: Path | None) -> Directions:
    path = pca if settings.directions is None else Path(settings.directions)
    if path is None:
        raise RequestError(
            "views: family 'pca' needs statistics of the generator. Name a file with "
            "`directions`, or choose another family."
        )
    return leading_directions(load_pca(path))


def _sefa(
    settings: SefaViews, gan: ImageGenerator, layers: LayerRange, seed: int
) -> Directions:
    if settings.directions is not None:
        return load_directions(
            Path(settings.directions), family="sefa", gan=gan, seed=seed
        )
    if not isinstance(gan, ModulatedGan):
        raise RequestError(
            "views: family 'sefa' needs the style weights of a StyleGAN2, which this "
            "generator does not show. Name a file with `directions`, or choose another "
            "family."
        )
    return sefa_directions(gan, layers=layers, seed=seed)


def _boundary(
    settings: BoundaryViews, gan: ImageGenerator, classifier: LogitsFn, seed: int
) -> Directions:
    if settings.directions is not None:
        normals = load_directions(
            Path(settings.directions), family="boundary", gan=gan, seed=seed
        )
    else:
        normals = fit_boundaries(
            gan, classifier, seed=seed, samples=settings.samples, share=settings.share
        ).directions()
    if not settings.orthogonal:
        return normals
    rng = rng_for(seed, "boundary", "orthogonal")
    styles = random_styles(gan, rng, settings.samples)
    return orthogonal_directions(styles, normals.vectors[:, 0])


def _walk(
    settings: WalkViews, gan: ImageGenerator, layers: LayerRange, seed: int
) -> Directions:
    if settings.directions is None:
        edits = tuple(EDITS) if settings.edits is None else settings.edits
        return fit_walks(
            gan, layers=layers, edits=edits, seed=seed, steps=settings.steps
        )
    walks = load_directions(
        Path(settings.directions), family="walk", gan=gan, seed=seed
    )
    if settings.edits is None:
        return walks
    missing = [name for name in settings.edits if name not in walks.names]
    if missing:
        raise RequestError(
            f"{settings.directions}: no walk for '{missing[0]}'. Known: "
            f"{', '.join(walks.names)}."
        )
    return walks.only([walks.names.index(name) for name in settings.edits])


def _strength(
    settings: IsotropicViews | PcaViews | SefaViews | BoundaryViews | WalkViews,
) -> float:
    isotropic = isinstance(settings, IsotropicViews)
    value = settings.sigma if isotropic else settings.beta
    if value is None:
        raise RequestError(
            f"views: family '{settings.family}' needs `{settings.strength}`: the "
            f"domain has no strength for layers {settings.layers}."
        )
    return value
