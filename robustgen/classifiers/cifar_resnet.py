"""The CIFAR-10 classifiers of the released code: a ResNet-18 for images of 32 pixels.

The residual network of He et al. (arXiv:1512.03385) with a 3x3 stem and no pooling
before the last, as the repository kuangliu/pytorch-cifar defines it. Its checkpoints,
`ckpt.pth`, hold `net`, `acc` and `epoch`.

The released code trains it on images in [-1, 1]. The original repository normalizes by
the statistics of CIFAR-10 instead and writes files of the same form, which nothing in
them tells apart: who has one of those says so by its kind.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustgen.checkpoints import load_weights
from robustgen.classifiers.preprocess import Preprocess
from robustgen.classifiers.states import class_count
from robustgen.types import Images, Logits

CIFAR10_STATISTICS = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
"""Mean and standard deviation by which kuangliu/pytorch-cifar normalizes."""

_WIDTHS = (64, 128, 256, 512)


class CifarResNet18(nn.Module):
    """Eleven million parameters; four stages of two blocks.

    Args:
        num_classes: Number of classes.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = _conv(3, 64, 3, stride=1)
        self.bn1 = nn.BatchNorm2d(64)
        stages: list[nn.Module] = []
        before = 64
        for width in _WIDTHS:
            stride = 1 if width == before else 2
            stages.append(
                nn.Sequential(_Block(before, width, stride), _Block(width, width, 1))
            )
            before = width
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.linear = nn.Linear(before, num_classes)

    def forward(self, images: Images) -> Logits:
        """Logits `[N, K]` of normalized images, meant for 32 x 32 pixels.

        Each stage but the first halves the resolution; the mean over what is left is
        that of 4 x 4 pixels then.
        """
        x = F.relu(self.bn1(self.conv1(images)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.linear(x.mean(dim=(2, 3)))


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(before, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3, stride=1)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1 or before != width:
            self.shortcut = nn.Sequential(
                _conv(before, width, 1, stride), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def is_cifar_resnet_state(state: Mapping[str, Tensor]) -> bool:
    """Whether tensors carry the names of this network."""
    return {"linear.weight", "layer1.0.conv1.weight"} <= state.keys()


def cifar_resnet_from_state(
    state: Mapping[str, Tensor],
    path: Path,
    normalization: tuple[Sequence[float], Sequence[float]],
) -> Preprocess:
    """The classifier of a state dict, in eval mode and frozen.

    Args:
        state: Tensors by their published names, such as `layer2.0.shortcut.0.weight`.
        path: File to name in a message.
        normalization: Mean and standard deviation of each channel.

    Raises:
        RequestError: the tensors are not those of such a network.
    """
    classes = class_count(state, "linear", path)
    # On the meta device no weights are drawn, so no global random state is read.
    with torch.device("meta"):
        network = CifarResNet18(classes)
    load_weights(network, state, path)
    mean, std = normalization
    return Preprocess(network, mean=mean, std=std).eval().requires_grad_(False)


def _conv(before: int, after: int, side: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, side, stride, padding=side // 2, bias=False)
