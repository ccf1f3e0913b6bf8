"""The CelebA attribute classifiers of the released code.

The discriminator of StyleGAN (arXiv:1812.04948) at 256 pixels without its minibatch
statistics, one logit l for one attribute, negative where it is seen. robustgen needs a
logit for each class, so it makes the two of the released evaluation: `[l, -l]`, class 1
being the attribute.

Training and evaluation do not agree on what l means. Training minimizes
`BCEWithLogits(l, 1 - y)`: the attribute has the probability `sigmoid(-l)`. Evaluation
takes `softmax([l, -l])`: `sigmoid(-2 l)`, the same class, but as if the network were
twice as sure. For one image this changes nothing; where probabilities of several images
are averaged, or a loss is attacked, it does. The released tables are made with the
doubled logit, so it is kept. `[l / 2, -l / 2]` would be what was trained.
"""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustgen.checkpoints import check_entries, load_weights
from robustgen.errors import RequestError
from robustgen.types import Images, Logits

SIDE = 256
"""Pixels on a side that the network sees."""

_SLOPE = 0.2
_BLOCKS = ((256, 64), (128, 128), (64, 256), (32, 512), (16, 512), (8, 512), (4, 512))
"""Resolution of each block and its channels."""


class AttributeClassifier(nn.Module):
    """Two logits `[l, -l]` for "without" and "with" the attribute.

    Images larger than 256 pixels are averaged over boxes down to 256. 23 million
    parameters, equalized learning rate already multiplied into the weights.
    """

    def __init__(self) -> None:
        super().__init__()
        self.from_rgb = nn.Conv2d(3, 64, 1)
        layers: list[nn.Module] = []
        for (_, before), (_, after) in pairwise(_BLOCKS):
            layers += [nn.Conv2d(before, before, 3, padding=1), nn.LeakyReLU(_SLOPE)]
            layers += [nn.Conv2d(before, after, 3, padding=1)]
            layers += [nn.AvgPool2d(2), nn.LeakyReLU(_SLOPE)]
        layers += [nn.Conv2d(512, 512, 3, padding=1), nn.LeakyReLU(_SLOPE)]
        self.trunk = nn.Sequential(*layers)
        self.dense = nn.Linear(512 * 4 * 4, 512)
        self.head = nn.Linear(512, 1)

    def forward(self, images: Images) -> Logits:
        """Logits `[N, 2]` of images in [0, 1], 256 pixels or a multiple on a side.

        Raises:
            RequestError: the images have another shape.
        """
        x = F.leaky_relu(self.from_rgb(_to_256(images) * 2 - 1), _SLOPE)
        x = F.leaky_relu(self.dense(self.trunk(x).flatten(1)), _SLOPE)
        logit = self.head(x)
        return torch.cat([logit, -logit], dim=1)


def is_attribute_state(state: Mapping[str, Tensor]) -> bool:
    """Whether tensors carry the names of a released attribute classifier."""
    return any(key.startswith(("fromrgb_lod0.", "4x4.dense1.")) for key in state)


def attribute_from_state(
    state: Mapping[str, Tensor], path: Path
) -> AttributeClassifier:
    """The classifier of a released state dict, in eval mode and frozen.

    Args:
        state: Tensors under the released names, such as `256x256.conv0.conv.weight`.
        path: File to name in a message.

    Raises:
        RequestError: the tensors are not those of such a network.
    """
    with torch.device("meta"):
        classifier = AttributeClassifier()
    own = classifier.state_dict()
    names = _released_names()
    shapes = {released: own[key].shape for key, released in names.items()}
    # `lod_in` is the level of detail of progressive training, long over.
    check_entries({k: v for k, v in state.items() if k != "lod_in"}, shapes, path)
    converted = {key: state[released] for key, released in names.items()}
    for key, weight in converted.items():
        if key.endswith(".weight"):
            # Equalized learning rate: sqrt(2) before a leaky ReLU, 1 at the end.
            gain = 1.0 if key == "head.weight" else 2**0.5
            converted[key] = weight * (gain / weight[0].numel() ** 0.5)
    load_weights(classifier, converted, path)
    return classifier.eval().requires_grad_(False)


def _released_names() -> dict[str, str]:
    """Our name of each tensor and the released one."""
    layers = {
        "from_rgb": ("fromrgb_lod0.conv", "conv"),
        "trunk.30": ("4x4.conv", "conv"),
        "dense": ("4x4.dense0", "linear"),
        "head": ("4x4.dense1", "linear"),
    }
    for block, (side, _) in enumerate(_BLOCKS[:-1]):
        # A block is conv, ReLU, conv, pooling, ReLU.
        layers[f"trunk.{5 * block}"] = (f"{side}x{side}.conv0", "conv")
        layers[f"trunk.{5 * block + 2}"] = (f"{side}x{side}.conv1", "conv")
    names: dict[str, str] = {}
    for layer, (released, kind) in layers.items():
        names[f"{layer}.weight"] = f"{released}.{kind}.weight"
        names[f"{layer}.bias"] = f"{released}.wscale.b"
    return names


def _to_256(images: Images) -> Tensor:
    side = images.shape[-1]
    if images.shape[1] != 3 or images.shape[-2] != side or side % SIDE or not side:
        raise RequestError(
            f"The attribute classifier sees color images of {SIDE} x {SIDE} pixels or "
            f"a whole multiple, not {list(images.shape[1:])}."
        )
    return F.avg_pool2d(images, side // SIDE) if side > SIDE else images
