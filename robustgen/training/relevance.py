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
    pad = window // 2
    score = torch.zeros(1, 1, *data.images.shape[2:])
    pixels = data.images.float().mean(dim=1, keepdim=True) / 255
    for magnitude in (False, True):
        kept: list[Tensor] = []
        for block in pixels.split(1000):
            centered = block - F.avg_pool2d(
                F.pad(block, (pad, pad, pad, pad), mode="reflect"), window, 1
            )
            power = F.avg_pool2d(
                F.pad(centered.square(), (pad, pad, pad, pad), mode="reflect"),
                window,
                1,
            )
            normal = centered / (power.sqrt() + 0.02)
            kept.append(centered.abs() if magnitude else normal)
        x = torch.cat(kept)
        classes = [x[data.labels == k] for k in data.labels.unique()]
        means = torch.stack([c.mean(dim=0, keepdim=True) for c in classes])
        within = torch.stack([c.var(dim=0, keepdim=True) for c in classes]).mean(dim=0)
        score += means.var(dim=0) / within
    score = score + score.flip(3)
    score = F.avg_pool2d(F.pad(score, (pad, pad, pad, pad), mode="reflect"), window, 1)
    weight = 1 + strength * score / score.max()
    return weight / weight.mean()
