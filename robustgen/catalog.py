"""Names of a suite to what they stand for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import torch
import yaml
from torch import nn

from robustgen.assets import asset_path
from robustgen.attacks import (
    Attack,
    build_clean,
    build_corruption,
    build_cw,
    build_fgsm,
    build_pgd,
)
from robustgen.classifiers.load import check_classifier, load_classifier
from robustgen.data.dataset import Dataset
from robustgen.data.digits import load_digits
from robustgen.data.faces import load_faces
from robustgen.defense import Defense, ViewFamily
from robustgen.errors import RequestError, unknown_name
from robustgen.gan.layers import LayerRange, parse_layers
from robustgen.gan.load import load_encoder, load_gan
from robustgen.gan.stylegan2 import StyleGAN2
from robustgen.library import (
    AttackSpec,
    CleanAttack,
    CorruptionAttack,
    CwAttack,
    FgsmAttack,
    PgdAttack,
)
from robustgen.perceptual import PerceptualNet, load_perceptual
from robustgen.plugins import Factory, call_factory
from robustgen.projectors.loss import ProjectionLoss
from robustgen.projectors.projector import Projector
from robustgen.suite import Case, Pair, Splits, ViewSettings, asset_label
from robustgen.threat import Threat
from robustgen.types import StylesPlus
from robustgen.views.draws import ViewCodes
from robustgen.views.isotropic import isotropic_codes
from robustgen.views.jitter import JitterSpec
from robustgen.views.pca import load_pca, pca_codes
from robustgen.views.stylemix import stylemix_codes


def _digits(splits: Splits, attribute: str | None) -> Dataset:
    if attribute is not None:
        raise RequestError(
            f"data set 'digits' has no attributes: leave `attribute: {attribute}` out."
        )
    return load_digits()


def _faces(splits: Splits, attribute: str | None) -> Dataset:
    return load_faces(splits.val, splits.test, attribute or "smiling")


DATASETS: Mapping[str, Callable[[Splits, str | None], Dataset]] = MappingProxyType(
    {"digits": _digits, "faces": _faces}
)
"""Data sets that ship: from the sizes of the splits and the attribute to predict."""


@dataclass(frozen=True, eq=False)
class Models:
    """The networks of a pair, on one device.

    Args:
        classifier: Images in [0, 1] to logits.
        gan: Generator, or a module of the user's with its methods.
        encoder: Images to `w_plus`.
        perceptual: Perceptual loss, or a module of the user's with its methods.
        card: What the generator's card says, such as its named layer ranges; empty for
            a generator without a card.
    """

    classifier: nn.Module
    gan: StyleGAN2
    encoder: nn.Module
    perceptual: PerceptualNet
    card: Mapping[str, Any]


def build_dataset(pair: Pair, splits: Splits, plugins: Sequence[str]) -> Dataset:
    """The data set of a pair.

    Raises:
        RequestError: the name is unknown, or what a factory returned is no data set.
    """
    asset = pair.dataset
    if isinstance(asset, Factory):
        if pair.attribute is not None:
            raise RequestError(
                f"data set '{asset.label}': a factory makes its own labels; give it "
                "`args` instead of `attribute`."
            )
        made = call_factory(asset.factory, asset.args, plugins)
        return _adopted_dataset(made, asset.label)
    if asset not in DATASETS:
        raise unknown_name("dataset", asset, DATASETS)
    return DATASETS[asset](splits, pair.attribute)


def _adopted_dataset(made: object, name: str) -> Dataset:
    """A user's object with `images`, `labels` and `split`, checked and completed."""
    if isinstance(made, Dataset):
        return made
    for attribute in ("images", "labels", "split"):
        if not hasattr(made, attribute):
            raise RequestError(
                f"data set '{name}': the factory returned {type(made).__name__} "
                f"without `{attribute}`; expected `images` [N, C, H, W] in [0, 1], "
                "`labels` [N] and `split` [N]."
            )
    images = np.asarray(getattr(made, "images"))  # noqa: B009
    labels = np.asarray(getattr(made, "labels"))  # noqa: B009
    split = np.asarray(getattr(made, "split")).astype(str)  # noqa: B009
    if images.ndim != 4:
        raise RequestError(
            f"data set '{name}': images of shape {list(images.shape)}, expected "
            "[N, C, H, W]."
        )
    if images.dtype.kind != "f":
        raise RequestError(
            f"data set '{name}': images of type {images.dtype}, expected floats in "
            "[0, 1]. Divide 8-bit images by 255."
        )
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise RequestError(
            f"data set '{name}': labels of type {labels.dtype} and shape "
            f"{list(labels.shape)}, expected whole numbers [N]."
        )
    count = int(labels.max(initial=0)) + 1
    names = getattr(made, "class_names", None) or [str(k) for k in range(count)]
    return Dataset(
        name=name,
        images=images.astype(np.float32),
        labels=labels.astype(np.int64),
        split=split,
        index=np.arange(len(images), dtype=np.int64),
        class_names=tuple(str(n) for n in names),
        flip=bool(getattr(made, "flip", False)),
    )


def build_models(
    pair: Pair, dataset: Dataset, device: torch.device, plugins: Sequence[str]
) -> Models:
    """The networks of a pair, checked against its data set.

    Raises:
        RequestError: a name is unknown, a file is missing or damaged, or a network does
            not fit the images or the labels.
    """
    shape = dataset.images.shape[1:]
    classifier = _network(pair.classifier, load_classifier, "classifier", plugins)
    gan = _network(pair.generator, load_gan, "generator", plugins)
    encoder = _network(pair.encoder, load_encoder, "encoder", plugins)
    perceptual = _network(pair.perceptual, load_perceptual, "perceptual", plugins)
    label = asset_label(pair.classifier)
    classes = check_classifier(classifier, (shape[0], shape[1], shape[2]), label)
    if classes != len(dataset.class_names):
        raise RequestError(
            f"Classifier '{label}' has {classes} classes, but data set "
            f"'{dataset.name}' has {len(dataset.class_names)}."
        )
    made = (gan.img_channels, gan.resolution, gan.resolution)
    if made != tuple(shape):
        raise RequestError(
            f"Generator '{asset_label(pair.generator)}' makes images of shape "
            f"{list(made)}, but those of data set '{dataset.name}' are {list(shape)}."
        )
    return Models(
        classifier=classifier.to(device),
        gan=gan.to(device),
        encoder=encoder.to(device),
        perceptual=perceptual.to(device),
        card=_card(pair.generator),
    )


def _network(
    asset: str | Factory,
    load: Callable[[str], Any],
    kind: str,
    plugins: Sequence[str],
) -> Any:
    if not isinstance(asset, Factory):
        return load(asset)
    made = call_factory(asset.factory, asset.args, plugins)
    if not isinstance(made, nn.Module):
        raise RequestError(
            f"{kind} '{asset.label}': the factory returned {type(made).__name__}; "
            "expected a torch.nn.Module."
        )
    return made.eval()


def _card(generator: str | Factory) -> Mapping[str, Any]:
    if isinstance(generator, Factory) or Path(generator).suffix:
        return {}
    text = asset_path(generator, "card.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def build_attack(spec: AttackSpec, plugins: Sequence[str]) -> tuple[Attack, Threat]:
    """An attack and what it may do.

    Raises:
        RequestError: a setting is out of range, or a factory returned no callable.
    """
    threat = Threat(spec.norm, spec.eps)
    if isinstance(spec, CleanAttack):
        return build_clean(), threat
    if isinstance(spec, FgsmAttack):
        return build_fgsm(), threat
    if isinstance(spec, PgdAttack):
        pgd = spec.settings
        return (
            build_pgd(
                steps=pgd.steps,
                step_size=pgd.step_size,
                restarts=pgd.restarts,
                random_start=pgd.random_start,
            ),
            threat,
        )
    if isinstance(spec, CwAttack):
        cw = spec.settings
        return (
            build_cw(
                steps=cw.steps,
                learning_rate=cw.learning_rate,
                constants=cw.constants,
                confidence=cw.confidence,
            ),
            threat,
        )
    if isinstance(spec, CorruptionAttack):
        return build_corruption(spec.settings), threat
    made = call_factory(spec.factory, spec.args, plugins)
    if not callable(made):
        raise RequestError(
            f"attack '{spec.name}': the factory returned {type(made).__name__}; "
            "expected a callable (logits_fn, images, labels, threat, rngs) -> images."
        )
    return cast(Attack, made), threat


def build_views(
    views: ViewSettings, generator: str | Factory, models: Models, seed: int
) -> ViewFamily:
    """How the codes of views are made.

    Raises:
        RequestError: the layers are unknown or the generator has not so many.
    """
    gan = models.gan
    named = {
        name: LayerRange(start, stop)
        for name, (start, stop) in models.card.get("layers", {}).items()
    }
    layers = parse_layers(views.layers, named=named, num_layers=gan.num_layers)
    count = views.count
    if views.family == "stylemix":

        def stylemix(w_plus: StylesPlus, samples: Sequence[int]) -> ViewCodes:
            return stylemix_codes(
                gan, w_plus, layers=layers, count=count, seed=seed, samples=samples
            )

        return stylemix
    if views.family == "isotropic":
        sigma = views.sigma or 0.0

        def isotropic(w_plus: StylesPlus, samples: Sequence[int]) -> ViewCodes:
            return isotropic_codes(
                w_plus,
                layers=layers,
                sigma=sigma,
                count=count,
                seed=seed,
                samples=samples,
            )

        return isotropic
    if isinstance(generator, Factory) or Path(generator).suffix:
        raise RequestError(
            "views: family 'pca' needs the statistics of a generator that ships; "
            "choose stylemix or isotropic for a generator of your own."
        )
    stats = load_pca(asset_path(generator, "pca.safetensors"))
    beta = views.beta or 0.0

    def pca(w_plus: StylesPlus, samples: Sequence[int]) -> ViewCodes:
        return pca_codes(
            w_plus,
            stats=stats,
            layers=layers,
            beta=beta,
            count=count,
            seed=seed,
            samples=samples,
        )

    return pca


def build_defense(case: Case, dataset: Dataset, models: Models) -> Defense:
    """The classifier of a case behind its generative model.

    Raises:
        RequestError: projection or view settings do not fit the models.
    """
    settings = case.projection
    projector = Projector(
        models.gan,
        models.encoder,
        loss=ProjectionLoss(
            perceptual=models.perceptual,
            perceptual_weight=settings.perceptual_weight,
            latent_weight=settings.latent_weight,
        ),
        optimizer=settings.optimizer,
        passes=settings.passes,
        steps=settings.steps,
        tolerance=settings.tolerance,
    )
    flip = dataset.flip if case.jitter.flip == "auto" else case.jitter.flip
    return Defense(
        classifier=models.classifier,
        projector=projector,
        vary=build_views(case.views, case.pair.generator, models, case.seed),
        jitter=JitterSpec(case.jitter.zoom, flip, case.jitter.color),
        view_count=case.views.count,
        paths=frozenset(case.paths),
        seed=case.seed,
    )
