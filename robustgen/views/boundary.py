"""Boundaries: hyperplanes of the style space between the classes of a classifier.

InterFaceGAN (Shen et al., arXiv:1907.10786): random images are labeled by a
classifier, and a linear SVM on their styles is trained on those it is most sure of.
Here the classifier is the suite's own, so that the normal is the direction along which
its decision turns soonest; views along it probe the boundary, views orthogonal to it
stay away from it.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from sklearn.svm import SVC
from torch import Tensor

from robustgen.errors import RequestError
from robustgen.gan.layers import LayerRange
from robustgen.rngs import rng_for
from robustgen.types import Labels, Logits, LogitsFn, PerSample, Styles, StylesPlus
from robustgen.views.directions import LEADING, Directions
from robustgen.views.draws import ViewCodes
from robustgen.views.pca import fit_pca
from robustgen.views.styles import ImageGenerator, random_styles, spread_along

LEAST = 10
"""Random images of a class below which no boundary is learned."""

_ROWS = 32
"""Images made at once: the block that suits a CPU."""

_TRAINED = 0.7
"""Share of the confident images that the SVM sees; the rest check it."""

_SILENT = 1e-6
"""Share of the styles' spread below which that of a direction is rounding."""

PerBoundary = Float[Tensor, " boundary"]


@dataclass(frozen=True, eq=False)
class Boundaries:
    """Hyperplanes `normal . w + offset = 0`, positive where the class is predicted.

    Two classes share one: class 1 against class 0. Of more, each has its own against
    all the others.

    Args:
        normals: Unit normals `[B, D]`.
        offsets: One per hyperplane, in units of w.
        stddev: Standard deviation of random styles along the normal.
        checked: Accuracy on confident images that the SVM did not see: mean of the
            shares of both sides that lie on their side.
        remaining: The same on the random images that are not confident. NaN where one
            side has none.
    """

    normals: Float[Tensor, "boundary dim"]
    offsets: PerBoundary
    stddev: PerBoundary
    checked: PerBoundary
    remaining: PerBoundary

    def directions(self) -> Directions:
        """Steps along the normals, with both accuracies as evidence."""
        count = len(self.normals)
        names = (
            ("class 1 against class 0",)
            if count == 1
            else tuple(f"class {k} against the rest" for k in range(count))
        )
        return Directions(
            vectors=self.normals[:, None],
            scale=self.stddev,
            names=names,
            evidence={"checked": self.checked, "remaining": self.remaining},
        )


def fit_boundaries(
    gan: ImageGenerator,
    classifier: LogitsFn,
    *,
    seed: int,
    samples: int = 4000,
    share: float = 0.25,
) -> Boundaries:
    """Learns the boundaries of a classifier from random images of a generator.

    Of each predicted class, the images with the largest margin between the two highest
    logits are confident. A linear SVM (C = 1, sides weighted equally) sees 70% of them.

    Args:
        gan: Source of styles and images; every layer gets the same style.
        classifier: Images in [0, 1] as the generator makes them, to logits.
        seed: Seed of the latents and of the 70/30 split.
        samples: Random images. The authors take 500,000.
        share: Share of each class that is confident. The authors take 2% of all images
            from either end.

    Raises:
        RequestError: a class is predicted for fewer than 10 images.
    """
    styles = random_styles(gan, rng_for(seed, "boundary", "styles"), samples)
    logits = _classify(gan, classifier, styles).cpu()
    return boundaries_between(styles.cpu(), logits, seed=seed, share=share)


def boundaries_between(
    styles: Styles, logits: Logits, *, seed: int, share: float
) -> Boundaries:
    """The boundaries between styles whose images have these logits.

    See `fit_boundaries` for the method and the errors.
    """
    margin, predicted = _decisions(logits)
    count = logits.shape[1]
    trained, checked = _split(margin, predicted, count, seed, share)
    rest = torch.ones(len(styles), dtype=torch.bool)
    rest[trained] = False
    rest[checked] = False
    remaining = rest.nonzero()[:, 0]
    w = styles.double()
    fitted: list[tuple[np.ndarray, float]] = []
    quality: list[tuple[float, float]] = []
    for k in [1] if count == 2 else range(count):
        side = predicted == k
        machine = SVC(kernel="linear", class_weight="balanced")
        machine.fit(w[trained].numpy(), side[trained].numpy())
        normal = np.asarray(machine.coef_, dtype=np.float64)[0]
        offset = float(np.asarray(machine.intercept_)[0])
        length = float(np.linalg.norm(normal))
        fitted.append((normal / length, offset / length))
        guess = torch.from_numpy(machine.decision_function(w.numpy()) > 0)
        quality.append(
            (
                _balanced(guess[checked], side[checked]),
                _balanced(guess[remaining], side[remaining]),
            )
        )
    normals = torch.from_numpy(np.stack([normal for normal, _ in fitted]))
    return Boundaries(
        normals=normals.float(),
        offsets=torch.tensor([offset for _, offset in fitted]),
        stddev=spread_along(styles, normals),
        checked=torch.tensor([good for good, _ in quality]),
        remaining=torch.tensor([good for _, good in quality]),
    )


def orthogonal_directions(
    styles: Styles, normals: Float[Tensor, "boundary dim"]
) -> Directions:
    """Principal directions of styles, of what the normals leave of them.

    A step along them changes no `normal . w`: it is parallel to every boundary.

    Args:
        styles: Random styles of the generator.
        normals: Normals of the boundaries to keep away from.

    Returns:
        At most 20 directions, largest spread first.

    Raises:
        RequestError: the normals leave no direction.
    """
    basis = torch.linalg.qr(normals.T.cpu().double()).Q  # [D, B]
    w = styles.cpu().double()
    stats = fit_pca(w - (w @ basis) @ basis.T, count=LEADING)
    kept = stats.stddev > _SILENT * w.std(dim=0).max()
    if not kept.any():
        raise RequestError("The boundaries leave no direction orthogonal to them.")
    # Once more: the rounding of an eigenvector may lean on a normal.
    vectors = stats.components.double()[kept]
    vectors = vectors - (vectors @ basis) @ basis.T
    vectors = vectors / vectors.norm(dim=1, keepdim=True)
    names = tuple(f"orthogonal component {row}" for row in range(len(vectors)))
    return Directions(vectors.float()[:, None], stats.stddev[kept], names)


def crossings(
    boundaries: Boundaries,
    w_plus: StylesPlus,
    codes: ViewCodes,
    *,
    layers: LayerRange,
    rows: Labels | None = None,
) -> Bool[Tensor, "batch view"]:
    """Whether a view lies on the other side of a boundary than its projection.

    A code's place is the mean over `layers` of its styles.

    Args:
        boundaries: The hyperplanes.
        w_plus: Codes of the projected images `[N, L, D]`.
        codes: Codes of their views `[N, V, L, D]`.
        layers: Layers that the views vary.
        rows: The boundary of each image; None for the first.
    """
    row = torch.zeros(len(w_plus), dtype=torch.int64) if rows is None else rows.cpu()
    normal = boundaries.normals[row].to(w_plus)  # [N, D]
    offset = boundaries.offsets[row].to(w_plus)
    part = slice(layers.start, layers.stop)
    here = (w_plus[:, part].mean(dim=1) * normal).sum(dim=1) + offset
    there = (codes[:, :, part].mean(dim=2) * normal[:, None]).sum(dim=2)
    return (there + offset[:, None] > 0) != (here[:, None] > 0)


@torch.no_grad()
def _classify(gan: ImageGenerator, classifier: LogitsFn, styles: Styles) -> Logits:
    blocks = [
        classifier(
            gan.synthesize(block[:, None].expand(-1, gan.num_layers, -1)).clamp(0, 1)
        )
        for block in styles.split(_ROWS)
    ]
    return torch.cat(blocks)


def _decisions(logits: Logits) -> tuple[PerSample, Labels]:
    """How sure each decision is, and the decision."""
    best = logits.double().topk(2, dim=1)
    return best.values[:, 0] - best.values[:, 1], best.indices[:, 0]


def _split(
    margin: PerSample, predicted: Labels, count: int, seed: int, share: float
) -> tuple[Int64[Tensor, " trained"], Int64[Tensor, " checked"]]:
    """The confident images of every class, 70% to learn from and 30% to check."""
    trained: list[Tensor] = []
    checked: list[Tensor] = []
    for k in range(count):
        members = (predicted == k).nonzero()[:, 0]
        if len(members) < LEAST:
            raise RequestError(
                f"views: class {k} is predicted for {len(members)} of {len(margin)} "
                f"random images, and a boundary needs {LEAST}. Raise `samples`, or "
                "choose another family."
            )
        order = margin[members].argsort(descending=True, stable=True)
        sure = members[order][: max(LEAST, round(share * len(members)))]
        rng = rng_for(seed, "boundary", "split", k)
        sure = sure[torch.randperm(len(sure), generator=rng)]
        cut = round(_TRAINED * len(sure))
        trained.append(sure[:cut])
        checked.append(sure[cut:])
    return torch.cat(trained), torch.cat(checked)


def _balanced(guess: Bool[Tensor, " n"], side: Bool[Tensor, " n"]) -> float:
    """Mean of the shares of both sides that are right; NaN where a side is empty."""
    right = guess == side
    return sum(float(right[part].double().mean()) for part in (side, ~side)) / 2
