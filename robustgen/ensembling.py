"""Averages predictions over views, and chooses how much the views count.

The rule of *Ensembling with Deep Generative Views* (CVPR 2021, section 3.4) as its
released code has it:

* a pool holds the reconstruction (for `image_ensemble`: the image) and V views;
* resample `s` draws `size` members of the pool with replacement, one set of indices
  for all images;
* the prediction is `(1 - alpha) * p(image) + alpha * mean(p(drawn members))`, an
  average of probabilities (the paper's equation 7 says logits; its code does not);
* alpha is the value of a grid that is right most often on validation images.

Two ties need a rule, and the released code leaves the second one to an unstable sort:

* two classes of equal probability: the lowest class wins;
* two alphas of equal validation accuracy: the largest wins.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

CLASS_TIE_RULE = "Of classes with equal probability the lowest wins."
ALPHA_TIE_RULE = "Of alphas with equal validation accuracy the largest wins."


@dataclass(frozen=True)
class EnsembleRule:
    """How an ensemble draws from its pool and which alphas it tries.

    Args:
        size: Members drawn per resample, with replacement; the paper's 31.
        resamples: Number of resamples, seeded 0, 1, ...; the released code's 20. More
            of them narrow only the part of the spread that comes from the draw.
        alphas: Points of the even grid from 0 (image alone) to 1 (pool alone).

    Raises:
        ValueError: a count is too small.
    """

    size: int = 31
    resamples: int = 20
    alphas: int = 21

    def __post_init__(self) -> None:
        if self.size < 1 or self.resamples < 1 or self.alphas < 2:
            raise ValueError(
                f"{self} needs a size and resamples of 1 or more and 2 or more alphas."
            )

    @property
    def grid(self) -> Float[np.ndarray, " alpha"]:
        """The alphas tried."""
        return np.linspace(0.0, 1.0, self.alphas)


def drawn_members(seed: int, pool: int, size: int) -> Int[np.ndarray, " size"]:
    """Positions in a pool that the resample `seed` draws.

    The generator is the released code's, so that its numbers come out exactly.
    """
    return np.random.RandomState(seed).choice(pool, size, replace=True)


def pooled_means(
    pool: Float[np.ndarray, "n member k"], rule: EnsembleRule
) -> Float[np.ndarray, "resample n k"]:
    """Mean probabilities of the members that each resample draws, in float64."""
    exact = pool.astype(np.float64)
    draws = (
        drawn_members(seed, exact.shape[1], rule.size) for seed in range(rule.resamples)
    )
    return np.stack([exact[:, members].mean(axis=1) for members in draws])


def decide(
    probabilities: Float[np.ndarray, "*batch k"],
) -> Int[np.ndarray, "*batch"]:
    """The predicted class. The lowest class wins a tie.

    With two classes this is `p(class 1) > 1/2`, the released rule, which equals the
    largest probability wherever the two sum to one.

    >>> decide(np.array([[0.5, 0.5], [0.4, 0.6]])).tolist()
    [0, 1]
    """
    if probabilities.shape[-1] == 2:
        return (probabilities[..., 1] > 0.5).astype(np.int64)
    return probabilities.argmax(axis=-1)


def mix(
    image: Float[np.ndarray, "#resample n k"],
    pooled: Float[np.ndarray, "#resample n k"],
    alpha: Float[np.ndarray, " #resample"],
) -> Float[np.ndarray, "#resample n k"]:
    """`(1 - alpha) * image + alpha * pooled`, with one alpha per resample."""
    weight = alpha[:, None, None]
    return (1 - weight) * image + weight * pooled


def correct_by_alpha(
    image: Float[np.ndarray, "#resample n k"],
    pooled: Float[np.ndarray, "resample n k"],
    label: Int[np.ndarray, " n"],
    grid: Float[np.ndarray, " alpha"],
) -> Bool[np.ndarray, "resample alpha n"]:
    """Whether each sample is right, for every resample and alpha.

    Args:
        image: Probabilities of the image term; its first axis may be 1.
        pooled: Means of the drawn members, from `pooled_means`.
        label: True classes.
        grid: The alphas.
    """
    image = np.broadcast_to(image, pooled.shape)
    # One resample at a time: the product over alphas then stays in the cache.
    return np.stack(
        [
            decide(mix(image[None, resample], pooled[None, resample], grid)) == label
            for resample in range(len(pooled))
        ]
    )


def choose_alpha(
    correct: Bool[np.ndarray, "resample alpha n"],
) -> Int[np.ndarray, " resample"]:
    """Position in the grid of each resample's best alpha; the largest tied one.

    Args:
        correct: From `correct_by_alpha`, on validation images.

    Raises:
        ValueError: there are no validation images.
    """
    if correct.shape[2] == 0:
        raise ValueError("No alpha can be chosen without validation images.")
    # Counts, not means: a tie must not depend on rounding.
    right = correct.sum(axis=2)
    return right.shape[1] - 1 - right[:, ::-1].argmax(axis=1)
