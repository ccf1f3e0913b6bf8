"""LPIPS, the learned perceptual distance, in the form that a projection needs.

Zhang et al., arXiv:1801.03924: features of an ImageNet network, of unit length in each
pixel, squared difference, channels weighted as fitted to human judgments. The numbers
are those of the package `lpips` (version 0.1 of the weights, `spatial=True`), whose
fitted weights are read from it; the network itself is torchvision's and comes from a
file. The package is not called: it computes the features of both images every time, and
the image to reconstruct does not change in a projection; and it goes to the network for
the weights that it lacks.
"""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeAlias, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import get_model

from robustgen.checkpoints import (
    check_entries,
    load_weights,
    read_checkpoint,
    tensor_entries,
)
from robustgen.errors import RequestError, unknown_name
from robustgen.types import Images, Masks, PerSample

LpipsNet: TypeAlias = Literal["alex", "vgg", "squeeze"]
"""Networks that LPIPS has been fitted for; the released code projects with `alex`."""


@dataclass(frozen=True)
class _Trunk:
    """An ImageNet network of torchvision.

    Args:
        architecture: Its name there.
        file: Name of the file of weights that torchvision publishes, with the start of
            its SHA-256.
        taps: Layers of `features` whose output is compared; all end in a ReLU.
        channels: Channels of these outputs.
        smallest: Pixels on a side, below which no pixel reaches the last tap.
    """

    architecture: str
    file: str
    taps: tuple[int, ...]
    channels: tuple[int, ...]
    smallest: int


_TRUNKS: Mapping[LpipsNet, _Trunk] = MappingProxyType(
    {
        "alex": _Trunk(
            architecture="alexnet",
            file="alexnet-owt-7be5be79.pth",
            taps=(1, 4, 7, 9, 11),
            channels=(64, 192, 384, 256, 256),
            smallest=31,
        ),
        "vgg": _Trunk(
            architecture="vgg16",
            file="vgg16-397923af.pth",
            taps=(3, 8, 15, 22, 29),
            channels=(64, 128, 256, 512, 512),
            smallest=16,
        ),
        "squeeze": _Trunk(
            architecture="squeezenet1_1",
            file="squeezenet1_1-b8a52dc0.pth",
            taps=(1, 4, 7, 9, 10, 11, 12),
            channels=(64, 128, 256, 384, 384, 512, 512),
            smallest=17,
        ),
    }
)

LPIPS_NAMES: Mapping[str, LpipsNet] = MappingProxyType(
    {"lpips_alex": "alex", "lpips_squeeze": "squeeze", "lpips_vgg": "vgg"}
)
"""What suites and reports call LPIPS with each network."""

_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
"""The statistics of ImageNet for images in [-1, 1], as the package has them."""

_TINY = 1e-10


class LpipsDistance(nn.Module):
    """LPIPS of images in [0, 1], weighted by a mask.

    Every layer gives a map of distances, which is resized bilinearly to the images; the
    maps are added, and the sum is averaged over the mask: `sum(map * m) / sum(m)`, as
    the released inversion does. Without a mask it is the mean of the map. That is not
    the plain LPIPS, which averages each layer at its own resolution: the two differ by
    how much the resize weighs the border. Features see their surroundings, so what a
    mask hides still tells near its edge.

    Args:
        net: Which network the channel weights are for.
        trunk: `features` of that network as torchvision defines it.

    Raises:
        RequestError: the package `lpips` has no such weights.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, net: LpipsNet, trunk: nn.Sequential) -> None:
        super().__init__()
        self.net: LpipsNet = net
        self.taps = _TRUNKS[net].taps
        self.trunk = trunk[: self.taps[-1] + 1]
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1))
        for level, weights in enumerate(_channel_weights(net)):
            (kept,) = weights.nonzero(as_tuple=True)
            self.register_buffer(f"kept{level}", kept)
            # The square of a difference of weighted features is the weighted square.
            self.register_buffer(f"roots{level}", weights[kept].sqrt().view(-1, 1, 1))

    def features(self, images: Images) -> tuple[Tensor, ...]:
        """What is compared: for each layer, channels times the root of their weight.

        Channels of weight 0 are left out, a third of AlexNet's numbers. A projection
        keeps the features of every image that it reconstructs, and needs more for those
        that it evaluates at once. At 1024 x 1024, in MiB for one image:

        | net       | kept | one pass, with its gradient |
        |-----------|-----:|----------------------------:|
        | `alex`    |   28 |                         360 |
        | `squeeze` |  117 |                        1400 |
        | `vgg`     |  488 |                        4000 |

        At 256 x 256 it is a sixteenth of that.

        Args:
            images: Color images, or grey ones, which are seen as color.

        Returns:
            For each layer `[N, C, h, w]`; then, without an element, `[N, 0, H, W]`,
            which says how large the images are.

        Raises:
            RequestError: the images have 2 or more than 3 channels, or are too small
                for the network: below 31 pixels on a side for `alex`, 16 for `vgg`, 17
                for `squeeze`.
        """
        self._check(images)
        # One channel becomes three here, all equal.
        x = (images * 2 - 1 - self.shift) / self.scale
        maps: list[Tensor] = []
        for index, layer in enumerate(self.trunk):
            x = layer(x)
            if index in self.taps:
                maps.append(self._weighted(x, level=len(maps)))
        return (*maps, images.new_empty(len(images), 0, *images.shape[2:]))

    def compare(
        self, a: tuple[Tensor, ...], b: tuple[Tensor, ...], mask: Masks | None = None
    ) -> PerSample:
        """Distance of two sets of features.

        Args:
            a: Features of N images.
            b: Features of N other images of the same size.
            mask: Weights of the pixels; None weighs all alike.
        """
        size = a[-1].shape[2:]
        total = torch.zeros((), device=a[0].device)
        for p, q in zip(a[:-1], b[:-1], strict=True):
            distance = (p - q).square().sum(dim=1, keepdim=True)
            total = total + F.interpolate(
                distance, size=size, mode="bilinear", align_corners=False
            )
        if mask is None:
            return total.mean(dim=(1, 2, 3))
        return (total * mask).sum(dim=(1, 2, 3)) / mask.sum(dim=(1, 2, 3))

    def forward(self, a: Images, b: Images, mask: Masks | None = None) -> PerSample:
        """Distance of two batches of images in [0, 1]."""
        return self.compare(self.features(a), self.features(b), mask)

    def _weighted(self, x: Tensor, level: int) -> Tensor:
        """Features of unit length in each pixel, times the roots of their weights."""
        kept, roots = (self.get_buffer(f"{name}{level}") for name in ("kept", "roots"))
        # Where all features are 0, this norm has the gradient 0; the root of a sum of
        # squares has NaN there.
        length = torch.linalg.vector_norm(x, dim=1, keepdim=True) + _TINY
        if len(kept) < x.shape[1]:
            x = x.index_select(1, kept)
        return x * (roots / length)

    def _check(self, images: Images) -> None:
        channels, height, width = images.shape[1:]
        if channels not in (1, 3):
            raise RequestError(
                f"Images of {channels} channels, but lpips_{self.net} reads grey or "
                "color."
            )
        smallest = _TRUNKS[self.net].smallest
        if min(height, width) < smallest:
            raise RequestError(
                f"Images of {height} x {width} pixels are too small for "
                f"lpips_{self.net}, which needs {smallest} on each side."
            )


def load_lpips(net: str, trunk_path: str | Path) -> LpipsDistance:
    """LPIPS with the network of a file; nothing is downloaded.

    Args:
        net: `alex`, `vgg` or `squeeze`.
        trunk_path: ImageNet weights as torchvision publishes them, see
            `lpips_trunk_file`. Its last layers, `classifier.*`, are not read.

    Returns:
        The distance on the CPU, in eval mode, its weights frozen.

    Raises:
        RequestError: the network is unknown, or the file is missing, damaged, or holds
            something else.
    """
    known = _known(net)
    path = Path(trunk_path)
    state = tensor_entries(read_checkpoint(path).content)
    seen = {key: value for key, value in state.items() if key.startswith("features.")}
    if not seen:
        raise RequestError(
            f"{path}: no weights of torchvision's {_TRUNKS[known].architecture}: it "
            "has no tensors `features.*`."
        )
    trunk = _empty_trunk(known)
    load_weights(nn.ModuleDict({"features": trunk}), seen, path)
    return LpipsDistance(known, trunk).eval().requires_grad_(False)


def lpips_trunk_file(net: str) -> str:
    """Name of the file of ImageNet weights that torchvision publishes for a network.

    >>> lpips_trunk_file("alex")
    'alexnet-owt-7be5be79.pth'

    Raises:
        RequestError: the network is unknown.
    """
    return _TRUNKS[_known(net)].file


def lpips_net_of(state: Mapping[str, Tensor]) -> LpipsNet | None:
    """Which network's trunk a file holds, by the names of its tensors; None if none."""
    names = {key for key in state if key.startswith("features.")}
    for net in _TRUNKS:
        if names == {f"features.{key}" for key in _empty_trunk(net).state_dict()}:
            return net
    return None


def _known(net: str) -> LpipsNet:
    for known in get_args(LpipsNet):
        if net == known:
            return known
    raise unknown_name("network of LPIPS", net, get_args(LpipsNet))


def _empty_trunk(net: LpipsNet) -> nn.Sequential:
    # On the meta device no weights are drawn, so no global random state is read.
    with torch.device("meta"):
        features = get_model(_TRUNKS[net].architecture, weights=None).get_submodule(
            "features"
        )
    assert isinstance(features, nn.Sequential)
    return features


def _channel_weights(net: LpipsNet) -> list[Tensor]:
    """Weight of every channel of every tap, at least 0, from the package `lpips`."""
    spec = importlib.util.find_spec("lpips")
    if spec is None or not spec.submodule_search_locations:
        raise RequestError("The package lpips is not installed: `pip install lpips`.")
    path = Path(spec.submodule_search_locations[0]) / "weights" / "v0.1" / f"{net}.pth"
    state = tensor_entries(read_checkpoint(path).content)
    shapes = {
        f"lin{level}.model.1.weight": (1, channels, 1, 1)
        for level, channels in enumerate(_TRUNKS[net].channels)
    }
    check_entries(state, shapes, path)
    return [state[name].flatten() for name in shapes]
