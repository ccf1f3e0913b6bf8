"""Names of a suite to what they stand for: networks, attacks, the whole defense."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias, cast

import torch
from torch import nn

from robustgen.adaptive.whole import draws_randomly
from robustgen.assets import asset_path
from robustgen.attacks import (
    Attack,
    build_apgd,
    build_autoattack,
    build_clean,
    build_corruption,
    build_cw,
    build_deepfool,
    build_eotpgd,
    build_fab,
    build_fgsm,
    build_mifgsm,
    build_pgd,
    build_rand_fgsm,
    build_square,
)
from robustgen.attacks.isolation import isolated
from robustgen.classifiers.load import check_classifier, load_classifier
from robustgen.classifiers.preprocess import Preprocess
from robustgen.data.dataset import Dataset
from robustgen.defense import Defense, WholeDefense
from robustgen.domain import ClassifierInput, Domain
from robustgen.errors import RequestError
from robustgen.full_assets import full_assets
from robustgen.gan.class_means import ClassMeanEncoder, load_class_means
from robustgen.gan.layers import LayerRange
from robustgen.gan.load import load_encoder, load_gan
from robustgen.library import (
    AttackSpec,
    CleanAttack,
    CorruptionAttack,
    FactoryAttack,
    ShippedAttack,
)
from robustgen.making import make
from robustgen.names import EMBEDDED, NONE
from robustgen.perceptual import load_perceptual
from robustgen.plugins import Factory
from robustgen.projectors.build import build_projector
from robustgen.projectors.custom import CustomProjector
from robustgen.sources import companion, weights_path
from robustgen.suite import Case, Pair, WeightFile, asset_label
from robustgen.threat import Threat
from robustgen.view_settings import PcaViews
from robustgen.views.build import build_views
from robustgen.views.jitter import JitterSpec

Network: TypeAlias = Any
"""An `nn.Module` with the attributes that `_PARTS` lists for its kind; Python has no
type for both at once."""

_PARTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "generator": (
            "img_channels",
            "resolution",
            "num_layers",
            "num_classes",
            "z_dim",
            "w_dim",
            "map",
            "synthesize",
        ),
        "perceptual": ("features", "compare"),
    }
)
"""Attributes and methods that a network of the user's own must have, by kind."""


@dataclass(frozen=True, eq=False)
class Models:
    """The networks of a pair, on one device.

    Args:
        classifier: Images in [0, 1] to logits.
        gan: Generator, or a module of the user's with its methods.
        encoder: Images to `w_plus`; None where the projection needs none.
        perceptual: Perceptual loss, or a module of the user's with its methods; None
            where it has no weight.
    """

    classifier: nn.Module
    gan: Network
    encoder: nn.Module | None
    perceptual: Network | None


def build_models(
    pair: Pair,
    domain: Domain | None,
    dataset: Dataset,
    device: torch.device,
    plugins: Sequence[str],
) -> Models:
    """The networks of a pair, checked against its data set.

    Args:
        pair: Names the networks.
        domain: Card of the generator's domain; says what of an image the classifier
            sees.
        dataset: What they are for.
        device: Where they go.
        plugins: Modules whose factories may run.

    Raises:
        RequestError: a name is unknown, a file is missing or damaged, or a network does
            not fit the images, the labels or the domain.
    """
    shape = dataset.image_shape
    classifier = build_classifier(pair, domain, dataset, device, plugins)
    gan = _network(pair.generator, load_gan, "generator", plugins)
    made = (gan.img_channels, gan.resolution, gan.resolution)
    if made != tuple(shape):
        raise RequestError(
            f"Generator '{asset_label(pair.generator)}' makes images of shape "
            f"{list(made)}, but those of data set '{dataset.name}' are {list(shape)}."
        )
    if domain is not None and gan.num_layers != domain.style_layers:
        raise RequestError(
            f"Generator '{asset_label(pair.generator)}' has {gan.num_layers} style "
            f"layers, but domain '{domain.name}' has {domain.style_layers}. Name its "
            "own card with `domain:`."
        )
    encoder = _encoder(pair, gan, classifier, plugins)
    perceptual = _perceptual(pair, plugins)
    return Models(
        classifier=classifier,
        gan=gan.to(device),
        encoder=None if encoder is None else encoder.to(device),
        perceptual=None if perceptual is None else perceptual.to(device),
    )


def build_classifier(
    pair: Pair,
    domain: Domain | None,
    dataset: Dataset,
    device: torch.device,
    plugins: Sequence[str],
) -> nn.Module:
    """The undefended classifier of a pair, checked against its data set.

    Args:
        pair: Names it.
        domain: Card of the generator's domain; says what of an image it sees.
        dataset: What it is for.
        device: Where it goes.
        plugins: Modules whose factories may run.

    Raises:
        RequestError: the name is unknown, a file is missing or damaged, or it does not
            fit the images or the labels.
    """
    classifier = _classifier(pair, domain, plugins)
    _check_classes(classifier, dataset, f"Classifier '{asset_label(pair.classifier)}'")
    return classifier.to(device)


def build_whole_defense(
    asset: Factory,
    classifier: nn.Module,
    dataset: Dataset,
    device: torch.device,
    plugins: Sequence[str],
    *,
    draws: int,
    seed: int,
) -> WholeDefense:
    """A defense of the user's own, checked against its data set.

    Whether it is random is what it says by an attribute `random`; one that says nothing
    is asked twice about the same images.

    Args:
        asset: Names its factory.
        classifier: The undefended classifier.
        dataset: What it is for.
        device: Where it goes.
        plugins: Modules whose factories may run.
        draws: Independent draws on which it is scored if it is random.
        seed: Seed of the suite.

    Raises:
        RequestError: the factory returns no module, or one that gives no logits of the
            data set's classes.
    """
    module: nn.Module = _network(asset, load_classifier, "defense", plugins).to(device)
    with isolated(module, device, ()):
        _check_classes(module, dataset, f"Defense '{asset.label}'")
    probe = dataset.part("val", 8).pixels()
    declared = getattr(module, "random", None)
    random = (
        declared
        if isinstance(declared, bool)
        else draws_randomly(module, torch.from_numpy(probe).to(device), seed=seed)
    )
    return WholeDefense(
        classifier=classifier, module=module, random=random, draws=draws, seed=seed
    )


def _check_classes(network: nn.Module, dataset: Dataset, title: str) -> None:
    """Refuses a network whose classes are not those of the data set."""
    classes = check_classifier(network, dataset.image_shape, title)
    if classes != len(dataset.class_names):
        raise RequestError(
            f"{title} has {classes} classes, but data set '{dataset.name}' has "
            f"{len(dataset.class_names)}."
        )


def _classifier(pair: Pair, domain: Domain | None, plugins: Sequence[str]) -> nn.Module:
    """The classifier, behind what its domain shows it of an image."""
    asset = pair.classifier
    if isinstance(asset, Factory):
        return _network(asset, load_classifier, "classifier", plugins)
    if isinstance(asset, WeightFile):
        network = load_classifier(asset.weights, asset.kind)
    else:
        network = load_classifier(asset)
    seen = ClassifierInput() if domain is None else domain.classifier_input
    if seen == ClassifierInput():
        return network
    # The steps of the card come first; the network normalizes by itself.
    return Preprocess(
        network,
        crop=seen.crop,
        resize=seen.resize,
        center_crop=seen.center_crop,
    ).eval()


def _encoder(
    pair: Pair, gan: Network, classifier: nn.Module, plugins: Sequence[str]
) -> nn.Module | None:
    asset = pair.encoder
    if asset == NONE:
        return None
    if isinstance(asset, str) and asset in full_assets("class_means"):
        means = load_class_means(weights_path(asset), gan.num_layers)
        return ClassMeanEncoder(means, classifier).eval()
    return _network(asset, load_encoder, "encoder", plugins)


def _perceptual(pair: Pair, plugins: Sequence[str]) -> Network | None:
    asset = pair.perceptual
    if asset == NONE:
        return None
    return _network(asset, load_perceptual, "perceptual", plugins)


def _network(
    asset: str | Factory,
    load: Callable[[str | Path], Any],
    kind: str,
    plugins: Sequence[str],
) -> Network:
    if not isinstance(asset, Factory):
        return load(asset)
    made = make(asset, kind, plugins)
    if not isinstance(made, nn.Module):
        raise RequestError(
            f"{kind} '{asset.label}': the factory returned {type(made).__name__}; "
            "expected a torch.nn.Module."
        )
    for part in _PARTS.get(kind, ()):
        if not hasattr(made, part):
            raise RequestError(
                f"{kind} '{asset.label}': has no `{part}`; expected a module with "
                f"{', '.join(_PARTS[kind])}."
            )
    return made.eval()


def pca_path(pair: Pair) -> Path | None:
    """File of the principal directions that belong to a generator, if there is one."""
    generator = pair.generator
    if not isinstance(generator, str):
        return None
    if generator in EMBEDDED["generator"]:
        return asset_path(generator, "pca.safetensors")
    statistics = companion(generator, "pca")
    return None if statistics is None else weights_path(statistics)


def direction_files(case: Case) -> tuple[Path, ...]:
    """Files from which the views of a case take their directions."""
    given: str | None = getattr(case.views, "directions", None)
    if given is not None:
        return (Path(given),)
    needed = isinstance(case.views, PcaViews)
    statistics = pca_path(case.pair) if needed else None
    return () if statistics is None else (statistics,)


def build_attack(spec: AttackSpec, plugins: Sequence[str]) -> tuple[Attack, Threat]:
    """An attack and what it may do.

    Raises:
        RequestError: a setting is out of range, or a factory returned no callable.
    """
    threat = Threat(spec.norm, spec.eps)
    if isinstance(spec, FactoryAttack):
        made = make(spec, "attack", plugins)
        if not callable(made):
            raise RequestError(
                f"attack '{spec.name}': the factory returned {type(made).__name__}; "
                "expected a callable "
                "(logits_fn, images, labels, threat, rngs) -> images."
            )
        return cast(Attack, made), threat
    return _shipped_attack(spec), threat


def _shipped_attack(spec: ShippedAttack) -> Attack:
    """The attack of a preset that is not the user's own code."""
    if isinstance(spec, CorruptionAttack):
        return build_corruption(spec.settings)
    if isinstance(spec, CleanAttack):
        return build_clean()
    # The keys of a preset's settings are the arguments of its builder.
    return _BUILDERS[spec.attack](**dict(spec.settings))


_BUILDERS: Mapping[str, Callable[..., Attack]] = MappingProxyType(
    {
        "apgd": build_apgd,
        "autoattack": build_autoattack,
        "cw": build_cw,
        "deepfool": build_deepfool,
        "eotpgd": build_eotpgd,
        "fab": build_fab,
        "fgsm": build_fgsm,
        "mifgsm": build_mifgsm,
        "pgd": build_pgd,
        "rand_fgsm": build_rand_fgsm,
        "square": build_square,
    }
)


def build_defense(
    case: Case, dataset: Dataset, models: Models, plugins: Sequence[str] = ()
) -> Defense:
    """The classifier of a case behind its generative model.

    The same for every attack of a pair. View families that are learned from the
    classifier or the generator are learned here.

    Args:
        case: Names projection and views.
        dataset: What it is for.
        models: The networks of the pair.
        plugins: Modules whose factories may run.

    Raises:
        RequestError: projection or view settings do not fit the models.
    """
    ranges = {} if case.domain is None else case.domain.ranges
    vary = build_views(
        case.views,
        gan=models.gan,
        classifier=models.classifier,
        named_layers={name: LayerRange(*bounds) for name, bounds in ranges.items()},
        pca=pca_path(case.pair),
        seed=case.seed,
        plugins=plugins,
    )
    projector = build_projector(
        case.projection,
        gan=models.gan,
        encoder=models.encoder,
        perceptual=models.perceptual,
        seed=case.seed,
        plugins=plugins,
    )
    if isinstance(projector, CustomProjector) and projector.random is None:
        two = torch.from_numpy(dataset.part("val", 2).pixels())
        probe = two.to(next(models.classifier.parameters(), two).device)
        projector = replace(projector, random=projector.draws(probe))
    jitter = case.jitter
    return Defense(
        classifier=models.classifier,
        projector=projector,
        vary=vary,
        jitter=JitterSpec(
            zoom=jitter.zoom or 1.0,
            flip=dataset.flip if jitter.flip == "auto" else jitter.flip,
            color=jitter.color or 0.0,
        ),
        view_count=case.views.count,
        paths=frozenset(case.paths),
        seed=case.seed,
    )
