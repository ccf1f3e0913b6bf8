"""Perceptual distance without a download: a small network that ships with the assets.

Like LPIPS (arXiv:1801.03924): features of both images, normalized to unit length per
pixel, squared difference, averaged. Unlike LPIPS the network is trained on the suite's
own kind of images, by telling each image from all others (instance discrimination), and
no weights are fitted to human judgments. Numbers are not comparable to LPIPS.
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustgen.checkpoints import (
    load_weights,
    read_checkpoint,
    save_weights,
    tensor_entries,
)
from robustgen.errors import RequestError
from robustgen.lpips_distance import (
    LpipsDistance,
    load_lpips,
    lpips_net_of,
)
from robustgen.sources import find_weights
from robustgen.types import Images, Masks, PerSample

_FORMAT = "robustgen.perceptual.1"


class PerceptualNet(nn.Module):
    """Three levels of features at 1/1, 1/2 and 1/4 of the resolution.

    Args:
        img_channels: 3 for color, 1 for grey.
        widths: Channels of the levels.
    """

    def __init__(self, img_channels: int, widths: tuple[int, int, int] = (16, 32, 48)):
        super().__init__()
        self.img_channels = img_channels
        self.widths = widths
        a, b, c = widths
        self.levels = nn.ModuleList(
            [
                nn.Conv2d(img_channels, a, 3, padding=1),
                nn.Conv2d(a, b, 3, stride=2, padding=1),
                nn.Conv2d(b, c, 3, stride=2, padding=1),
            ]
        )

    def to_json(self) -> str:
        """The sizes as stored beside the weights."""
        return json.dumps({"img_channels": self.img_channels, "widths": self.widths})

    @staticmethod
    def from_json(text: str) -> "PerceptualNet":
        """An untrained network of the stored sizes."""
        fields = json.loads(text)
        return PerceptualNet(fields["img_channels"], tuple(fields["widths"]))

    def features(self, images: Images) -> tuple[Tensor, ...]:
        """Unit-length feature maps of every level."""
        x = images * 2 - 1
        maps: list[Tensor] = []
        for level in self.levels:
            x = F.relu(level(x))
            # The constant is inside the root, so an all-zero feature has a gradient.
            length = (x.square().sum(dim=1, keepdim=True) + 1e-6).sqrt()
            maps.append(x / length)
        return tuple(maps)

    def compare(
        self, a: tuple[Tensor, ...], b: tuple[Tensor, ...], mask: Masks | None = None
    ) -> PerSample:
        """Distance of two sets of features, the mean over levels.

        Args:
            a: Features of N images.
            b: Features of N other images.
            mask: Weights of the pixels, area-averaged to each level.
        """
        total: Tensor | None = None
        for p, q in zip(a, b, strict=True):
            # For unit vectors |p - q|^2 summed over channels; half of it is 1 - cosine.
            if mask is None:
                level = (p - q).square().sum(dim=1).mean(dim=(1, 2))
            else:
                difference = (p - q).square().sum(dim=1, keepdim=True)
                height, width = difference.shape[-2:]
                weight = F.adaptive_avg_pool2d(mask, (height, width))
                level = (difference * weight).sum(dim=(1, 2, 3)) / weight.sum(
                    dim=(1, 2, 3)
                )
            total = level if total is None else total + level
        assert total is not None
        return total / len(a)

    def forward(self, a: Images, b: Images, mask: Masks | None = None) -> PerSample:
        """Distance of two batches of images."""
        return self.compare(self.features(a), self.features(b), mask)


def save_perceptual(network: PerceptualNet, path: Path) -> None:
    """Writes weights and sizes as one safetensors file, whole or not at all."""
    save_weights(network, path, kind=_FORMAT, config=network.to_json())


def load_perceptual(path_or_name: str | Path) -> PerceptualNet | LpipsDistance:
    """A perceptual distance from a file, or one that ships with robustgen.

    Read by content: a file of `save_perceptual`, or the ImageNet weights of AlexNet,
    VGG-16 or SqueezeNet 1.1 as torchvision publishes them, which make LPIPS.

    Args:
        path_or_name: A file, or the name of an asset such as `faces`.

    Returns:
        Module with `features(images)` and `compare(a, b, mask)` for images in [0, 1],
        on the CPU, in eval mode, its weights frozen.

    Raises:
        RequestError: the name is unknown, or the file is missing, damaged, or holds
            something else.
    """
    path = find_weights(path_or_name, "perceptual.safetensors")
    checkpoint = read_checkpoint(path)
    state = tensor_entries(checkpoint.content)
    if _FORMAT not in checkpoint.metadata:
        net = lpips_net_of(state)
        if net is None:
            raise RequestError(
                f"{path}: no perceptual network of robustgen, nor the ImageNet weights "
                "of torchvision's alexnet, vgg16 or squeezenet1_1, which make LPIPS."
            )
        return load_lpips(net, path)
    try:
        with torch.device("meta"):
            network = PerceptualNet.from_json(checkpoint.metadata[_FORMAT])
    except (KeyError, TypeError, ValueError) as error:
        raise RequestError(
            f"{path}: the configuration in the header is damaged."
        ) from error
    load_weights(network, state, path)
    return network.eval().requires_grad_(False)
