"""Networks, attacked images, projections and views that the measurements share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np
import torch
from departures_scoring import Members
from torch import Tensor, nn
from torchvision.transforms.functional import adjust_hue

from robustgen.attacks import Attack, build_clean, build_fgsm, build_pgd, run_attack
from robustgen.classifiers.load import load_classifier
from robustgen.data.dataset import Dataset
from robustgen.data.digits import load_digits
from robustgen.data.faces import load_faces
from robustgen.domain import load_domain
from robustgen.gan.layers import LayerRange
from robustgen.gan.load import load_encoder, load_gan
from robustgen.gan.stylegan2 import StyleGAN2
from robustgen.perceptual import load_perceptual
from robustgen.projectors.loss import (
    Encoder,
    Perceptual,
    ProjectionLoss,
    ProjectionObjective,
    describe,
)
from robustgen.projectors.method import Projection
from robustgen.projectors.projector import Projector
from robustgen.rngs import rng_for
from robustgen.threat import Threat
from robustgen.views.jitter import JitterSpec, jitter
from robustgen.views.stylemix import stylemix_codes

Kind: TypeAlias = Literal[
    "stylemix", "unclamped", "combined", "eight", "hue", "image", "crop", "color"
]
"""Pools of views; see `view_logits`."""

SEED = 0
"""Seed of attacks, views and jitter, as in the suites."""

COUNT = 32
"""Views of an image."""

ROWS = 32
"""Images that pass a network at once."""

HUE = 0.05
"""Half-width of the hue's shift, in turns; released for jittered photographs."""

PASSES = MappingProxyType({"faces": 8, "digits": 6})
"""Passes of a projection, as in the suites."""

COUNTS = MappingProxyType({"faces": (100, 200), "digits": (200, 300)})
"""Validation and test images, as in the suites."""

EPS = MappingProxyType({"faces": 8 / 255, "digits": 32 / 255})
"""Budget of FGSM and PGD, as in the suites."""

ATTACKS = ("clean", "fgsm", "pgd")

TERMS: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {
        "robustgen": {},
        "paper's latent term": {"latent_term": "start"},
        "pixels on [-1, 1]": {"pixel_range": 2.0},
        "doubled": {
            "pixel_weight": 1.0,
            "perceptual_weight": 1.0,
            "latent_weight": 0.5,
        },
    }
)
"""Losses by name: what differs from the suites' loss."""


@dataclass(frozen=True)
class Scene:
    """One family of assets, and how many of its images are used.

    Args:
        assets: `faces` or `digits`.
        limit: Images of a split; None for those of the suite. Of faces there are as
            many as are asked for, of digits no more than in the suite.
    """

    assets: str
    limit: int | None = None


@dataclass(frozen=True, eq=False)
class Networks:
    """What the embedded assets hold."""

    gan: StyleGAN2
    encoder: Encoder
    classifier: nn.Module
    perceptual: Perceptual


@cache
def networks(assets: str) -> Networks:
    """The networks of one family of assets."""
    return Networks(
        load_gan(assets),
        load_encoder(assets),
        load_classifier(assets),
        load_perceptual(assets),
    )


@cache
def part(scene: Scene, split: str) -> Dataset:
    """The first images of a split."""
    val, test = COUNTS[scene.assets]
    count = val if split == "val" else test
    if scene.assets == "faces":
        count = scene.limit or count
        data = load_faces(val=count) if split == "val" else load_faces(test=count)
        return data.part(split)
    return load_digits().part(split, min(count, scene.limit or count))


def samples(scene: Scene, split: str) -> list[int]:
    """Indices that random draws hang on."""
    return [int(index) for index in part(scene, split).index]


def labels(scene: Scene, split: str) -> np.ndarray:
    """True classes."""
    return part(scene, split).labels


def layer_range(scene: Scene, name: str) -> LayerRange:
    """Named style layers of the domain card."""
    return LayerRange(*load_domain(scene.assets).ranges[name])


def jitter_spec(scene: Scene) -> JitterSpec:
    """Zoom, flip and color of the domain card."""
    card = load_domain(scene.assets).jitter
    return JitterSpec(zoom=card.zoom, flip=card.flip, color=card.color)


@cache
def attacked(scene: Scene, split: str, attack: str) -> Tensor:
    """Images as a defender sees them; attacks as in `attacks/` and the suites."""
    data = part(scene, split)
    threat = Threat("linf", 0.0 if attack == "clean" else EPS[scene.assets])
    search: Mapping[str, Attack] = {
        "clean": build_clean(),
        "fgsm": build_fgsm(),
        "pgd": build_pgd(steps=40, step_size=2 / 255),
    }
    return run_attack(
        search[attack],
        networks(scene.assets).classifier,
        torch.from_numpy(data.images),
        torch.from_numpy(data.labels),
        threat,
        [rng_for(SEED, "attack", attack, sample) for sample in samples(scene, split)],
    ).images


def loss_terms(scene: Scene, terms: str) -> ProjectionLoss:
    """One of `TERMS`."""
    settings = {"perceptual_weight": 0.5, "latent_weight": 0.25, **TERMS[terms]}
    return ProjectionLoss(networks(scene.assets).perceptual, **settings)  # pyright: ignore[reportArgumentType]


@cache
def projected(
    scene: Scene,
    split: str,
    attack: str,
    terms: str = "robustgen",
    passes: int | None = None,
) -> Projection:
    """The projection of the suites, or one with another loss or budget."""
    net = networks(scene.assets)
    projector = Projector(
        net.gan,
        net.encoder,
        loss=loss_terms(scene, terms),
        passes=passes or PASSES[scene.assets],
    )
    return projector(attacked(scene, split, attack))


def objective_of(
    scene: Scene, split: str, attack: str, terms: str = "robustgen"
) -> tuple[ProjectionObjective, Tensor]:
    """What the projection minimizes, and where it starts, [N, P]."""
    net = networks(scene.assets)
    loss = loss_terms(scene, terms)
    target = describe(
        attacked(scene, split, attack), None, encoder=net.encoder, terms=loss
    )
    objective = ProjectionObjective(
        target, gan=net.gan, encoder=net.encoder, terms=loss
    )
    return objective, target.codes.flatten(1)


@torch.no_grad()
def decode(scene: Scene, codes: Tensor) -> Tensor:
    """Pictures of codes [..., L, D], not clamped."""
    flat = codes.flatten(0, -3)
    gan = networks(scene.assets).gan
    made = torch.cat([gan.synthesize(block) for block in flat.split(ROWS)])
    return made.view(*codes.shape[:-2], *made.shape[1:])


@torch.no_grad()
def classify(scene: Scene, images: Tensor) -> np.ndarray:
    """Logits of images [..., C, H, W]."""
    classifier = networks(scene.assets).classifier
    flat = images.flatten(0, -4)
    logits = torch.cat([classifier(block) for block in flat.split(ROWS)])
    return logits.view(*images.shape[:-3], -1).numpy()


@cache
def image_logits(scene: Scene, split: str, attack: str) -> np.ndarray:
    """Logits of the images themselves, [N, K]."""
    return classify(scene, attacked(scene, split, attack))


@cache
def views(scene: Scene, split: str, attack: str, first: int | None = None) -> Tensor:
    """Style-mix views of the projected images, [N, V, C, H, W], not clamped.

    Args:
        scene: Assets.
        split: `val` or `test`.
        attack: What was done to the images.
        first: Index that the draws of the first image hang on, the next one those of
            the second; None for the indices of the data set.
    """
    w_plus = projected(scene, split, attack).w_plus
    index = samples(scene, split)
    if first is not None:
        index = list(range(first, first + len(index)))
    codes = stylemix_codes(
        networks(scene.assets).gan,
        w_plus,
        layers=layer_range(scene, "fine"),
        count=COUNT,
        seed=SEED,
        samples=index,
    )
    return decode(scene, codes)


@cache
def view_logits(scene: Scene, split: str, attack: str, kind: Kind) -> np.ndarray:
    """Logits of one kind of views, [N, V, K].

    `stylemix` and `combined` are robustgen's paths, `image` the views of its control.
    `unclamped` are style-mix views as the generator leaves them. `eight`: the first 8
    style-mix views, each jittered four times. `hue`: combined views, then a shift of
    hue. `crop` and `color`: jittered images of the released code, which crops or
    recolors (with hue), but never both.
    """
    spec = jitter_spec(scene)
    index = samples(scene, split)
    if kind in ("image", "crop", "color"):
        copies = attacked(scene, split, attack)[:, None].expand(-1, COUNT, -1, -1, -1)
        specs = {
            "image": spec,
            "crop": JitterSpec(zoom=spec.zoom, flip=spec.flip, color=0.0),
            "color": JitterSpec(zoom=1.0, flip=spec.flip, color=spec.color),
        }
        made = jitter(copies, specs[kind], seed=SEED, samples=index, purpose="image")
        made = shift_hue(made, index) if kind == "color" else made
        return classify(scene, made)
    made = views(scene, split, attack)
    if kind == "unclamped":
        return classify(scene, made)
    made = made.clamp(0, 1)
    if kind == "stylemix":
        return classify(scene, made)
    if kind == "eight":
        made = made[:, torch.arange(COUNT) % 8]
    made = jitter(made, spec, seed=SEED, samples=index, purpose="combined")
    return classify(scene, shift_hue(made, index) if kind == "hue" else made)


def shift_hue(images: Tensor, index: Sequence[int]) -> Tensor:
    """Views [N, V, 3, H, W], each with a hue of its own from U(-HUE, HUE)."""
    shifted: list[Tensor] = []
    for some, sample in zip(images, index, strict=True):
        rng = rng_for(SEED, "hue", sample)
        factors = HUE * (2 * torch.rand(len(some), generator=rng) - 1)
        shifted.append(
            torch.stack(
                [adjust_hue(v, f) for v, f in zip(some, factors.tolist(), strict=True)]
            )
        )
    return torch.stack(shifted)


def members(
    scene: Scene,
    split: str,
    attack: str,
    kind: Kind = "stylemix",
    *,
    first: bool = True,
) -> Members:
    """Logits of an ensemble's pool: its first member, then the views.

    The first member is the reconstruction, or the image for the image's own views.
    """
    label = labels(scene, split)
    image = image_logits(scene, split, attack)
    pool = view_logits(scene, split, attack, kind)
    if kind in ("image", "crop", "color"):
        lead = image
    else:
        made = projected(scene, split, attack).images
        made = made if kind == "unclamped" else made.clamp(0, 1)
        lead = classify(scene, made)
    if first:
        pool = np.concatenate([lead[:, None], pool], axis=1)
    return Members(label, image, pool)
