"""The four paths and the control: a batch of images to probabilities.

The defense of *Ensembling with Deep Generative Views* (CVPR 2021): project an image,
vary its code, classify image and views. Averaging is not done here: the counting arm
draws and weighs the views from the saved table.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from robustgen.projectors.projector import Projection, Projector
from robustgen.types import Images, StylesPlus
from robustgen.views.draws import ViewCodes
from robustgen.views.jitter import ImageViews, JitterSpec, jitter

Probabilities: TypeAlias = Float[Tensor, "batch cls"]
ViewProbabilities: TypeAlias = Float[Tensor, "batch view cls"]

ViewFamily: TypeAlias = Callable[[StylesPlus, Sequence[int]], ViewCodes]
"""`(w_plus [N, L, D], sample indices) -> codes [N, V, L, D]`."""

ROWS = 32
"""Images that pass a network at once.

On a CPU, larger blocks need activations of 32 MB and more, which the C library maps and
unmaps on every use: 256 rows took three times as long as 32.
"""


@dataclass(frozen=True, eq=False)
class Defense:
    """A classifier behind a generative model.

    Args:
        classifier: Images in [0, 1] to logits.
        projector: Images to style codes.
        vary: Style codes to the codes of their views.
        jitter: Crop, flip and color of `combined_ensemble` and `image_ensemble`.
        view_count: Views per image.
        paths: Which of the five paths to predict.
        seed: Seed of the suite; the jitter of an image hangs on it and its index.
    """

    classifier: nn.Module
    projector: Projector
    vary: ViewFamily
    jitter: JitterSpec
    view_count: int
    paths: frozenset[str]
    seed: int

    @property
    def projects(self) -> bool:
        """Whether any path asked for needs the generator."""
        return bool(self.paths - {"image", "image_ensemble"})


@dataclass(frozen=True, eq=False)
class PathPredictions:
    """What the paths predict for N images.

    Args:
        single: Probabilities [N, K] of `image` and `reconstruction`.
        views: Probabilities [N, V, K] of the views of the ensemble paths.
        projection: The projection of the images; None where no path needs it.
        shown: The first views of each image, for pictures, [N, <= 4, C, H, W]; None
            where no path needs them.
    """

    single: Mapping[str, Probabilities]
    views: Mapping[str, ViewProbabilities]
    projection: Projection | None
    shown: Float[Tensor, "batch shown channel height width"] | None


def predict_paths(
    defense: Defense, images: Images, samples: Sequence[int]
) -> PathPredictions:
    """Predictions of every path for a batch.

    What the generator makes is clamped to [0, 1] before it is classified; the released
    code classifies it unclamped.

    Args:
        defense: The defended classifier.
        images: Images as the defender sees them, attacked or not.
        samples: Index of each image in its data set, on which its views hang.
    """
    single: dict[str, Tensor] = {}
    views: dict[str, Tensor] = {}
    projection = shown = None
    if "image" in defense.paths:
        single["image"] = probabilities(defense.classifier, images)
    if "image_ensemble" in defense.paths:
        copies = images[:, None].expand(-1, defense.view_count, -1, -1, -1)
        views["image_ensemble"] = view_probabilities(
            defense.classifier,
            jitter(
                copies,
                defense.jitter,
                seed=defense.seed,
                samples=samples,
                purpose="image",
            ),
        )
    if defense.projects:
        projection = defense.projector(images)
        if "reconstruction" in defense.paths:
            single["reconstruction"] = probabilities(
                defense.classifier, projection.images.clamp(0, 1)
            )
        if defense.paths & {"stylemix_ensemble", "combined_ensemble"}:
            codes = defense.vary(projection.w_plus, samples)
            made = synthesize_views(defense.projector, codes)
            shown = made[:, :4]
            if "stylemix_ensemble" in defense.paths:
                views["stylemix_ensemble"] = view_probabilities(
                    defense.classifier, made
                )
            if "combined_ensemble" in defense.paths:
                views["combined_ensemble"] = view_probabilities(
                    defense.classifier,
                    jitter(
                        made,
                        defense.jitter,
                        seed=defense.seed,
                        samples=samples,
                        purpose="combined",
                    ),
                )
    return PathPredictions(single, views, projection, shown)


@torch.no_grad()
def probabilities(classifier: nn.Module, images: Images) -> Probabilities:
    """Softmax of the logits, in blocks of `ROWS` images."""
    blocks = [classifier(block).softmax(dim=1) for block in images.split(ROWS)]
    return torch.cat(blocks)


def view_probabilities(classifier: nn.Module, views: ImageViews) -> ViewProbabilities:
    """Softmax of the logits of every view, [N, V, K]."""
    flat = probabilities(classifier, views.flatten(0, 1))
    return flat.view(*views.shape[:2], -1)


@torch.no_grad()
def synthesize_views(projector: Projector, codes: ViewCodes) -> ImageViews:
    """Images of the codes of views, clamped to [0, 1], in blocks of `ROWS`."""
    blocks = codes.flatten(0, 1).split(ROWS)
    images = torch.cat([projector.gan.synthesize(b).clamp(0, 1) for b in blocks])
    return images.view(*codes.shape[:2], *images.shape[1:])
