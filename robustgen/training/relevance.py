"""Where in the images the classes differ, found from the training labels."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from robustgen.training.images import TrainingImages

_WINDOW = 9
"""Side of the box of local normalization and of smoothing, pixels at 64 px."""


@torch.no_grad()
def relevance_weights(
    data: TrainingImages, strength: float
) -> Float[Tensor, "1 1 h w"]:
    """Weights of pixels: 1, plus more where the classes are told apart; mean 1.

    Images are freed from local brightness and contrast. The share of a pixel's variance
    that lies between the classes (Fisher's ratio), of the values and of their
    magnitudes, is smoothed, made symmetric and scaled to a largest value of 1.

    Args:
        data: Images and labels of the train split.
        strength: Added where the classes differ most.
    """
    window = max(3, _WINDOW * data.images.shape[-1] // 64 | 1)
    pixels = data.images.float().mean(dim=1, keepdim=True) / 255
    normal: list[Tensor] = []
    magnitude: list[Tensor] = []
    for block in pixels.split(1000):
        centered = block - _box_mean(block, window)
        power = _box_mean(centered.square(), window)
        normal.append(centered / (power.sqrt() + 0.02))
        magnitude.append(centered.abs())
    score = _fisher_ratio(torch.cat(normal), data.labels)
    score = score + _fisher_ratio(torch.cat(magnitude), data.labels)
    score = _box_mean(score + score.flip(3), window)
    weight = 1 + strength * score / score.max()
    return weight / weight.mean()


def _box_mean(x: Tensor, window: int) -> Tensor:
    """Mean over a box around each pixel; borders are mirrored."""
    pad = window // 2
    return F.avg_pool2d(F.pad(x, (pad, pad, pad, pad), mode="reflect"), window, 1)


def _fisher_ratio(x: Tensor, labels: Tensor) -> Tensor:
    """Variance of the means of the classes over their mean variance, per pixel."""
    classes = [x[labels == k] for k in labels.unique()]
    means = torch.stack([c.mean(dim=0, keepdim=True) for c in classes])
    within = torch.stack([c.var(dim=0, keepdim=True) for c in classes]).mean(dim=0)
    return means.var(dim=0) / within
