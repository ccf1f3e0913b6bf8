"""Images whose reconstruction changes the decision: shown, and told from the rest."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from matplotlib.figure import Figure
from PIL import Image
from scipy.special import softmax
from scipy.stats import mannwhitneyu, norm, ttest_ind
from tabulate import tabulate
from torch import Tensor

from robustgen.assets import asset_names, asset_path
from robustgen.files import whole_file
from robustgen.intervals import CONFIDENCE, Interval, holm
from robustgen.training.images import load_training_images
from robustgen.training.recipe import load_recipe
from robustgen.training.relevance import relevance_weights
from robustgen.types import Images, StylesPlus

TRAINING_IMAGES = 4000
"""From which the map of relevance is found, at most."""

AMPLIFIED = 5
"""How much larger than they are differences are drawn, around gray."""

PER_ROW = 3
"""Lost images side by side."""

TILE = 96
"""Side of a drawn image, pixels."""

CAPTION = 30
"""Height of the text below a lost image, pixels."""

GAP = 12
"""Between lost images that stand side by side, pixels."""


@dataclass(frozen=True)
class Trait:
    """How lost and kept images differ in one number.

    Args:
        name: What was measured.
        lost: Mean of the lost images.
        kept: Mean of the others.
        difference: Lost minus kept.
        low: Lower end of its interval, Welch's.
        high: Upper end.
        auc: Chance that a lost image has more of it than one that is kept.
        auc_low: Lower end of its interval, DeLong's.
        auc_high: Upper end.
        p: Of the Mann-Whitney test, corrected for the number of traits (Holm).
    """

    name: str
    lost: float
    kept: float
    difference: float
    low: float
    high: float
    auc: float
    auc_low: float
    auc_high: float
    p: float

    @property
    def separates(self) -> bool:
        """Whether lost and kept images are told apart by it."""
        return self.p < 1 - CONFIDENCE


def auc(
    first: Float[np.ndarray, " m"], second: Float[np.ndarray, " n"]
) -> tuple[float, Interval]:
    """Area under the curve: how often a value of `first` exceeds one of `second`.

    Ties count one half. The interval is DeLong's (Biometrics 44, 1988), cut to [0, 1];
    it shrinks to a point where the two do not overlap. NaN with fewer than two values
    on a side.

    >>> auc(np.array([2.0, 4.0]), np.array([1.0, 3.0]))[0]
    0.75
    """
    if min(len(first), len(second)) < 2:
        return float("nan"), Interval(float("nan"), float("nan"))
    wins = (first[:, None] > second).astype(float) + 0.5 * (first[:, None] == second)
    value = float(wins.mean())
    spread = wins.mean(axis=1).var(ddof=1) / len(first)
    spread += wins.mean(axis=0).var(ddof=1) / len(second)
    half = float(norm.ppf((1 + CONFIDENCE) / 2) * np.sqrt(spread))
    return value, Interval(max(0.0, value - half), min(1.0, value + half))


def compare_traits(
    values: Mapping[str, Float[np.ndarray, " n"]], lost: Bool[np.ndarray, " n"]
) -> list[Trait]:
    """Lost images against the others, trait by trait.

    Args:
        values: One number per image, by trait.
        lost: Which images are lost.

    Returns:
        One entry per trait, in the order given; none with fewer than two images on a
        side.
    """
    if min(int(lost.sum()), int((~lost).sum())) < 2:
        return []
    tested = {name: (value[lost], value[~lost]) for name, value in values.items()}
    # A trait that is the same for all images cannot tell them apart.
    raw = [
        1.0 if np.ptp(values[name]) == 0 else float(mannwhitneyu(a, b).pvalue)
        for name, (a, b) in tested.items()
    ]
    traits: list[Trait] = []
    for (name, (a, b)), p in zip(tested.items(), holm(raw), strict=True):
        low, high = _welch(a, b)
        area, ends = auc(a, b)
        means = float(a.mean()), float(b.mean())
        traits.append(
            Trait(name, *means, means[0] - means[1], low, high, area, *ends, p)
        )
    return traits


def _welch(a: np.ndarray, b: np.ndarray) -> Interval:
    """Interval of the difference of two means, without equal variances."""
    if np.ptp(a) == 0 and np.ptp(b) == 0:
        gap = float(a[0] - b[0])
        return Interval(gap, gap)
    ends = ttest_ind(a, b, equal_var=False).confidence_interval(CONFIDENCE)
    return Interval(float(ends.low), float(ends.high))


def gradient_energy(images: Images) -> Float[np.ndarray, " n"]:
    """Mean squared difference of neighboring pixels, across plus down: sharpness."""
    across = (images[..., 1:] - images[..., :-1]).square().mean(dim=(1, 2, 3))
    down = (images[..., 1:, :] - images[..., :-1, :]).square().mean(dim=(1, 2, 3))
    return (across + down).double().numpy()


def margins(logits: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
    """Lead of the best class over the second, in logits."""
    ordered = np.sort(logits, axis=1)
    return ordered[:, -1] - ordered[:, -2]


def relevance_of(classifier: str) -> Tensor | None:
    """Where the classes of a shipped classifier's training images differ, mean 1.

    None for a classifier without a recipe.
    """
    if classifier not in asset_names("recipe.yaml"):
        return None
    recipe = load_recipe(asset_path(classifier, "recipe.yaml"))
    count = min(recipe.images, TRAINING_IMAGES)
    data = load_training_images(recipe.model_copy(update={"images": count}))
    # Of a large strength only the map is left, without the 1 that is added to it.
    return relevance_weights(data, 1e6)


def explain(
    images: Images,
    output: Images,
    logits: Float[np.ndarray, "n k"],
    *,
    labels: Int[np.ndarray, " n"],
    w_plus: StylesPlus,
    relevance: Tensor | None,
    lost: Bool[np.ndarray, " n"],
) -> list[Trait]:
    """How the images that are lost differ from the rest.

    Args:
        images: The images.
        output: Their reconstructions.
        logits: Of the images.
        labels: True classes.
        w_plus: Codes of the reconstructions.
        relevance: Weights of the pixels, mean 1; None where they are not known.
        lost: Whose reconstruction gets another class than the image.
    """
    off = (output - images).abs()
    codes = w_plus - w_plus.mean(dim=0)
    values: dict[str, np.ndarray] = {
        "L1 residual": _mean(off),
        "contrast (std of pixels)": images.flatten(1).std(dim=1).double().numpy(),
        "brightness (mean of pixels)": _mean(images),
        "sharpness (gradient energy)": gradient_energy(images),
        "sharpness of the reconstruction": gradient_energy(output),
        "margin on the image (logits)": margins(logits),
        "image misclassified": (logits.argmax(axis=1) != labels).astype(np.float64),
        "code to mean code (L2)": codes.flatten(1).norm(dim=1).double().numpy(),
    }
    if relevance is not None:
        values["residual where classes differ"] = _mean(off * relevance)
        values["contrast where classes differ"] = relevant_contrast(images, relevance)
    return compare_traits(values, lost)


def _mean(x: Tensor) -> np.ndarray:
    return x.mean(dim=(1, 2, 3)).double().numpy()


def relevant_contrast(images: Images, relevance: Tensor) -> Float[np.ndarray, " n"]:
    """Weighted standard deviation of the pixels, with weights of mean 1."""
    center = (images * relevance).mean(dim=(1, 2, 3), keepdim=True)
    return np.sqrt(_mean((images - center).square() * relevance))


def explained_text(traits: Sequence[Trait]) -> str:
    """The account as a table, the most telling trait first."""
    if not traits:
        return "Too few images on one side to compare."
    ordered = sorted(traits, key=lambda trait: -abs(trait.auc - 0.5))
    rows = [
        [
            trait.name,
            f"{trait.lost:.4g}",
            f"{trait.kept:.4g}",
            f"{trait.difference:+.4g} [{trait.low:+.4g}, {trait.high:+.4g}]",
            f"{trait.auc:.3f} [{trait.auc_low:.3f}, {trait.auc_high:.3f}]",
            f"{trait.p:.2g}",
            "yes" if trait.separates else "no",
        ]
        for trait in ordered
    ]
    headers = ["trait", "lost", "kept", "difference", "AUC", "p (Holm)", "separates"]
    return tabulate(rows, headers, "github", disable_numparse=True)


def gallery_size(count: int) -> tuple[int, int]:
    """Width and height of a gallery in pixels.

    >>> gallery_size(1), gallery_size(7)
    ((288, 126), (888, 378))
    """
    columns = max(1, min(count, PER_ROW))
    rows = max(1, -(-count // PER_ROW))
    width = columns * 3 * TILE + (columns - 1) * GAP
    return width, rows * (TILE + CAPTION)


def order_of(
    logits: Float[np.ndarray, "n k"], lost: Bool[np.ndarray, " n"]
) -> list[int]:
    """The lost images, the one of whose class the classifier was surest first."""
    sure = softmax(logits, axis=1).max(axis=1)
    return [int(row) for row in np.argsort(-sure, kind="stable") if lost[row]]


def draw_gallery(
    images: Images,
    output: Images,
    before: Float[np.ndarray, "n k"],
    after: Float[np.ndarray, "n k"],
    *,
    names: Sequence[str],
    path: Path,
    limit: int,
) -> int:
    """Draws lost images: image, reconstruction, difference times `AMPLIFIED`.

    Below stand the class and its probability before, and both after. Sorted by the
    probability before.

    Args:
        images: All images.
        output: Their reconstructions.
        before: Logits of the images.
        after: Logits of the reconstructions.
        names: Of the classes.
        path: A PNG file.
        limit: Images drawn at most.

    Returns:
        How many are drawn.
    """
    lost = before.argmax(axis=1) != after.argmax(axis=1)
    rows = order_of(before, lost)[:limit]
    width, height = gallery_size(len(rows))
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    for place, row in enumerate(rows):
        left = (place % PER_ROW) * (3 * TILE + GAP)
        top = (place // PER_ROW) * (TILE + CAPTION)
        strip = _strip(images[row], output[row])
        axes = figure.add_axes(
            (left / width, 1 - (top + TILE) / height, 3 * TILE / width, TILE / height)
        )
        axes.imshow(strip, interpolation="nearest", aspect="auto", vmin=0, vmax=1)
        axes.set_axis_off()
        figure.text(
            left / width,
            1 - (top + TILE + 2) / height,
            caption(before[row], after[row], names),
            fontsize=6.5,
            va="top",
        )
    buffer = io.BytesIO()
    figure.savefig(buffer)
    with whole_file(path) as temporary:
        drawn = Image.open(buffer).convert("RGB")
        drawn.save(temporary, format="PNG", optimize=True)
    return len(rows)


def _strip(image: Tensor, output: Tensor) -> np.ndarray:
    """Image, reconstruction and difference side by side, height x width x 3."""
    off = (0.5 + AMPLIFIED * (output - image)).clamp(0, 1)
    strip = torch.cat([image, output, off], dim=2).permute(1, 2, 0)
    return strip.expand(-1, -1, 3).numpy()


def caption(
    before: Float[np.ndarray, " k"],
    after: Float[np.ndarray, " k"],
    names: Sequence[str],
) -> str:
    """Both decisions, each with its probability before and after.

    >>> print(caption(np.array([0.0, 2.0]), np.array([1.0, 0.0]), ("no", "smiling")))
    smiling 0.88 → 0.27
    no 0.12 → 0.73
    """
    p, q = softmax(before), softmax(after)
    lines = [
        f"{names[k]} {p[k]:.2f} → {q[k]:.2f}"
        for k in (int(before.argmax()), int(after.argmax()))
    ]
    return "\n".join(lines)
