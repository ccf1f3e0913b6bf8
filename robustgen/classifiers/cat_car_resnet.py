"""The classifiers of cats and cars of the released code: torchvision's ResNet-18.

Checkpoints, `net_best.pth`, hold `state_dict`, `optimizer`, `epoch` and `valacc`. The
last layer `fc` has 12 classes for the breeds of cats, 3 for the kinds of cars. They are
trained on images in [-1, 1], cats of 224 pixels and cars of 256, not on images
normalized by the statistics of ImageNet, as torchvision's own weights are.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import resnet18

from robustgen.checkpoints import load_weights
from robustgen.classifiers.preprocess import ZERO_CENTERED, Preprocess
from robustgen.classifiers.states import class_count

_IMAGENET_CLASSES = 1000


def is_resnet18_state(state: Mapping[str, Tensor]) -> bool:
    """Whether tensors carry the names of torchvision's ResNet-18."""
    return (
        {"fc.weight", "conv1.weight", "layer4.1.conv2.weight"} <= state.keys()
        and "layer1.2.conv1.weight" not in state
        and "layer1.0.conv3.weight" not in state
    )


def is_cat_car_content(content: object, state: Mapping[str, Tensor]) -> bool:
    """Whether a ResNet-18 comes from the released code, as far as its file tells.

    The released code saves its weights under `state_dict`. Bare weights are what
    torchvision publishes, and `arch` is what the ImageNet example of PyTorch adds: both
    want the normalization of ImageNet.

    Args:
        content: What the file holds.
        state: Its tensors.
    """
    return (
        isinstance(content, Mapping)
        and "state_dict" in content
        and "arch" not in content
        and state["fc.weight"].shape[0] != _IMAGENET_CLASSES
    )


def cat_car_from_state(state: Mapping[str, Tensor], path: Path) -> Preprocess:
    """The classifier of a released state dict, in eval mode and frozen.

    Args:
        state: Tensors under torchvision's names.
        path: File to name in a message.

    Raises:
        RequestError: the tensors are not those of such a network.
    """
    classes = class_count(state, "fc", path)
    # On the meta device no weights are drawn, so no global random state is read.
    with torch.device("meta"):
        network = resnet18(weights=None, num_classes=classes)
    load_weights(network, state, path)
    mean, std = ZERO_CENTERED
    return Preprocess(network, mean=mean, std=std).eval().requires_grad_(False)
