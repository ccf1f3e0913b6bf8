"""The four paths and the control: a batch of images to probabilities.

The defense of *Ensembling with Deep Generative Views* (CVPR 2021): project an image,
vary its code, classify image and views. Averaging is not done here: the counting arm
draws and weighs the views from the saved table.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from robustgen.projectors.method import Projection, ProjectionMethod
from robustgen.types import Images, Labels, Masks
from robustgen.views.draws import ViewFamily
from robustgen.views.jitter import ImageViews, JitterSpec, jitter

Probabilities: TypeAlias = Float[Tensor, "batch cls"]
ViewProbabilities: TypeAlias = Float[Tensor, "batch view cls"]

ROWS = 32
"""Images that pass a network at once.

On a CPU, larger blocks need activations of 32 MB and more, which the C library maps and
unmaps on every use: 256 rows took three times as long as 32.
"""

VIEW_PIXELS = 2**25
"""Pixels of views in memory at once: the views of 1,024 images of 32 px, or of one
image of 1,024 px."""


@dataclass(frozen=True, eq=False)
class Defense:
    """A classifier behind a generative model.

    Args:
        classifier: Images in [0, 1] to logits.
        projector: Images to style codes and back.
        vary: Style codes to the codes of their views.
        jitter: Crop, flip and color of `combined_ensemble` and `image_ensemble`.
        view_count: Views per image.
        paths: Which of the five paths to predict.
        seed: Seed of the suite; the jitter of an image hangs on it and its index.
    """

    classifier: nn.Module
    projector: ProjectionMethod
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
class WholeDefense:
    """A defense of the user's own: one module that is the whole pipeline.

    Args:
        classifier: The undefended classifier, images in [0, 1] to logits.
        module: The defended one, likewise; may have a method `surrogate(tier)`.
        random: Whether two calls on the same images may differ.
        draws: Independent draws on which a random defense is scored.
        seed: Seed of the suite; all draws hang on it.
    """

    classifier: nn.Module
    module: nn.Module
    random: bool
    draws: int
    seed: int


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
    defense: Defense,
    images: Images,
    samples: Sequence[int],
    masks: Masks | None = None,
) -> PathPredictions:
    """Predictions of every path for a batch.

    What the generator makes is clamped to [0, 1] before it is classified; the released
    code classifies it unclamped. For a class-conditional generator the class is the
    one that the classifier sees in the image at hand, as in the released evaluation.

    Args:
        defense: The defended classifier.
        images: Images as the defender sees them, attacked or not.
        samples: Index of each image in its data set, on which its views hang.
        masks: Pixels that the projection looks at; None for all. The classifier sees
            the whole image whatever the mask.
    """
    single: dict[str, Tensor] = {}
    views: dict[str, Tensor] = {}
    projection = shown = None
    if "image" in defense.paths:
        single["image"] = probabilities(defense.classifier, images)
    if "image_ensemble" in defense.paths:
        copies = images[:, None].expand(-1, defense.view_count, -1, -1, -1)
        views["image_ensemble"] = torch.cat(
            [
                _jittered(defense, copies[some], samples[some], "image")
                for some in _blocks(images, defense.view_count)
            ]
        )
    if defense.projects:
        classes = classes_for(defense, images)
        projection = defense.projector(images, masks, samples=samples, labels=classes)
        if "reconstruction" in defense.paths:
            single["reconstruction"] = probabilities(
                defense.classifier, projection.images.clamp(0, 1)
            )
        if defense.paths & {"stylemix_ensemble", "combined_ensemble"}:
            made = _predict_views(defense, projection, samples, classes)
            shown = made.pop("shown")
            views |= made
    return PathPredictions(single, views, projection, shown)


def _predict_views(
    defense: Defense,
    projection: Projection,
    samples: Sequence[int],
    classes: Labels | None,
) -> dict[str, Tensor]:
    """Probabilities of the views of both ensembles, and the first views as `shown`."""
    codes = defense.vary(projection.w_plus, samples, classes)
    found: dict[str, list[Tensor]] = {"shown": []}
    for some in _blocks(projection.images, codes.shape[1]):
        with torch.no_grad():
            made = projection.decode(codes[some], some).clamp(0, 1)
        found["shown"].append(made[:, :4].clone())
        if "stylemix_ensemble" in defense.paths:
            found.setdefault("stylemix_ensemble", []).append(
                view_probabilities(defense.classifier, made)
            )
        if "combined_ensemble" in defense.paths:
            found.setdefault("combined_ensemble", []).append(
                _jittered(defense, made, samples[some], "combined")
            )
    return {name: torch.cat(parts) for name, parts in found.items()}


@torch.no_grad()
def probabilities(classifier: nn.Module, images: Images) -> Probabilities:
    """Softmax of the logits, in blocks of `ROWS` images."""
    blocks = [classifier(block).softmax(dim=1) for block in images.split(ROWS)]
    return torch.cat(blocks)


def view_probabilities(classifier: nn.Module, views: ImageViews) -> ViewProbabilities:
    """Softmax of the logits of every view, [N, V, K]."""
    flat = probabilities(classifier, views.flatten(0, 1))
    return flat.view(*views.shape[:2], -1)


def _jittered(
    defense: Defense, views: ImageViews, samples: Sequence[int], purpose: str
) -> ViewProbabilities:
    """Probabilities of views that are cropped, flipped and colored at random."""
    varied = jitter(
        views, defense.jitter, seed=defense.seed, samples=samples, purpose=purpose
    )
    return view_probabilities(defense.classifier, varied)


def classes_for(defense: Defense, images: Images) -> Labels | None:
    """What a class-conditional generator is conditioned on; None for any other."""
    if not getattr(defense.projector.gan, "num_classes", 0):
        return None
    return probabilities(defense.classifier, images).argmax(dim=1)


def _blocks(images: Images, view_count: int) -> Iterator[slice]:
    """Slices of a batch whose views hold at most `VIEW_PIXELS` pixels each."""
    pixels = view_count * images.shape[2] * images.shape[3]
    size = max(1, VIEW_PIXELS // pixels)
    return (slice(start, start + size) for start in range(0, len(images), size))
