"""The encoders of pSp and e4e: a code for each style layer from a feature pyramid.

pSp (Richardson et al., arXiv:2008.00951) and e4e (Tov et al., arXiv:2102.02766) share
one network: an IR-SE-50 trunk, the face recognition network of ArcFace with squeeze and
excitation; three levels of features; and a small convolution net for each style layer.
pSp takes the output of each net as the code of its layer. e4e takes that of the first
as the code of all layers and the others as what to add in theirs, which keeps the codes
close to the space of `w`. Both count from the generator's mean code.
"""

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from robustgen.checkpoints import entries_below, load_weights, tensor_entries
from robustgen.errors import RequestError, unknown_name
from robustgen.types import Images, Masks, StylesPlus

Kind: TypeAlias = Literal["psp", "e4e"]
"""What the outputs of the style layers are: codes, or a code and what to add to it."""

SIDE = 256
"""Pixels on a side that the network sees."""

WIDTHS = (64, 64, 128, 256, 512)
"""Channels of the stem and of the four stages of the trunk."""

BLOCKS = (3, 4, 14, 3)
"""Residual blocks of the four stages."""

CAR_ROWS = (32, 224)
"""Rows, of 256, that encoders of cars see: their images are 4:3, on square canvases."""

_MIDDLE, _FINE = 3, 7
"""First style layers that read the middle and the fine level of the pyramid."""

_REDUCTION = 16
"""How many channels share a unit of squeeze and excitation."""

_KINDS: Mapping[str, Kind] = {"GradualStyleEncoder": "psp", "Encoder4Editing": "e4e"}
_FIRST = "encoder.input_layer.0.weight"
_STYLES = "styles.0.convs.0.weight"


class SqueezeExcitation(nn.Module):
    """Scales each channel by what the averages of all channels say."""

    def __init__(self, channels: int):
        super().__init__()
        hidden = max(channels // _REDUCTION, 1)
        self.fc1 = nn.Conv2d(channels, hidden, 1, bias=False)
        self.fc2 = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean(dim=(2, 3), keepdim=True)
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(means))))


class Bottleneck(nn.Module):
    """A residual block of the trunk."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        # Without weights the shortcut keeps every `stride`-th pixel.
        self.shortcut_layer = (
            nn.MaxPool2d(1, stride)
            if inputs == outputs
            else nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                nn.BatchNorm2d(outputs),
            )
        )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            SqueezeExcitation(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.res_layer(x) + self.shortcut_layer(x)


class EqualLinear(nn.Module):
    """A linear map whose weights are scaled at run time (equalized learning rate)."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width, width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight / math.sqrt(x.shape[1]), self.bias)


class StyleNet(nn.Module):
    """Features of one level to the code of one style layer.

    Args:
        width: Channels of the features, and length of the code.
        side: Pixels on a side of the features; halved until one is left.
    """

    def __init__(self, width: int, side: int):
        super().__init__()
        convs: list[nn.Module] = []
        for _ in range(int(math.log2(side))):
            convs.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
            convs.append(nn.LeakyReLU())
        self.convs = nn.Sequential(*convs)
        self.linear = EqualLinear(width)

    def forward(self, x: Tensor) -> Float[Tensor, "batch width"]:
        return self.linear(self.convs(x).flatten(1))


class PspEncoder(nn.Module):
    """Style codes of images, as pSp and e4e make them.

    Args:
        num_layers: Style layers of the generator that it belongs to.
        kind: `psp`, or `e4e`, whose layers add to the code of the first.
        rows: First and last row of the 256 that the network sees, the second left out.
        widths: Channels of stem and stages; fewer than the released ones for tests. The
            last is the length of a style code.
    """

    latent_avg: Tensor

    def __init__(
        self,
        num_layers: int,
        *,
        kind: Kind,
        rows: tuple[int, int] = (0, SIDE),
        widths: tuple[int, int, int, int, int] = WIDTHS,
    ):
        super().__init__()
        self.num_layers = num_layers
        self.kind: Kind = kind
        self.rows = rows
        self.w_dim = widths[-1]
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, widths[0], 3, padding=1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.PReLU(widths[0]),
        )
        body: list[nn.Module] = []
        for (inputs, outputs), count in zip(
            itertools.pairwise(widths), BLOCKS, strict=True
        ):
            body.append(Bottleneck(inputs, outputs, stride=2))
            body += [Bottleneck(outputs, outputs, stride=1) for _ in range(count - 1)]
        self.body = nn.Sequential(*body)
        sides = [
            16 if i < _MIDDLE else 32 if i < _FINE else 64 for i in range(num_layers)
        ]
        self.styles = nn.ModuleList(StyleNet(self.w_dim, side) for side in sides)
        self.latlayer1 = nn.Conv2d(widths[3], self.w_dim, 1)
        self.latlayer2 = nn.Conv2d(widths[2], self.w_dim, 1)
        self.register_buffer("latent_avg", torch.zeros(num_layers, self.w_dim))

    def forward(self, images: Images, mask: Masks | None = None) -> StylesPlus:
        """Style codes `[N, num_layers, w_dim]` of images in [0, 1] of any size.

        The network knows no masks: what a mask leaves out is shown to it as mid-grey,
        and half of it where the mask is half.

        Args:
            images: Color images; resized to 256 x 256 by averaging areas, as the
                original does to its reconstructions.
            mask: Weight of each pixel; None means that all are to be seen.
        """
        x = images * 2 - 1
        if mask is not None:
            x = x * mask
        x = F.interpolate(x, size=(SIDE, SIDE), mode="area")[:, :, slice(*self.rows)]
        levels = self._pyramid(x)
        codes = torch.stack(
            [net(level) for net, level in zip(self.styles, levels, strict=True)], dim=1
        )
        if self.kind == "e4e":
            codes = torch.cat([codes[:, :1], codes[:, :1] + codes[:, 1:]], dim=1)
        return codes + self.latent_avg

    def _pyramid(self, x: Tensor) -> list[Tensor]:
        """The features that each style layer reads."""
        x = self.input_layer(x)
        last_blocks = set(itertools.accumulate(BLOCKS))
        ends: list[Tensor] = []
        for number, block in enumerate(self.body, start=1):
            x = block(x)
            if number in last_blocks:
                ends.append(x)
        _, fine, middle, coarse = ends
        middle = self.latlayer1(middle)
        middle = middle + _resized(coarse, middle)
        fine = self.latlayer2(fine)
        fine = fine + _resized(middle, fine)
        return [
            coarse if i < _MIDDLE else middle if i < _FINE else fine
            for i in range(self.num_layers)
        ]


def is_psp(content: object) -> bool:
    """Whether a checkpoint's content has an encoder of pSp or e4e."""
    return _FIRST in _state_dict(content)


def psp_from_content(content: object, path: Path) -> PspEncoder:
    """The encoder that a checkpoint of pSp or e4e holds.

    Args:
        content: What the file holds: `state_dict` with the prefix `encoder.`, `opts`
            and, where the codes count from it, `latent_avg`.
        path: The file, to name in a message.

    Returns:
        Encoder on the CPU, in eval mode, its weights frozen. The number of layers is
        read from the file.

    Raises:
        RequestError: the file does not say which of the two it is, or it holds another
            encoder of their code, or entries are missing or damaged.
    """
    state = entries_below(_state_dict(content), "encoder.")
    opts = content.get("opts") if isinstance(content, Mapping) else None
    opts = opts if isinstance(opts, Mapping) else {}
    name = opts.get("encoder_type")
    if not isinstance(name, str):
        raise RequestError(
            f"{path}: pSp and e4e have the same weights, and the file does not say "
            "which it is: 'opts' has no 'encoder_type'. Known: "
            f"{', '.join(sorted(_KINDS))}."
        )
    if name not in _KINDS:
        raise RequestError(f"{path}: {unknown_name('encoder_type', name, _KINDS)}")
    channels = _state_dict(content)[_FIRST].shape[1:2]
    if channels != (3,):
        raise RequestError(
            f"{path}: the encoder reads {list(channels)} channels, expected color "
            "images: it was trained on sketches or segmentations."
        )
    nets = sum(key.endswith(".linear.bias") for key in state)
    if nets == 0:
        raise RequestError(f"{path}: the encoder has no tensor 'encoder.{_STYLES}'.")
    cars = opts.get("dataset_type") == "cars_encode"
    with torch.device("meta"):
        encoder = PspEncoder(
            nets, kind=_KINDS[name], rows=CAR_ROWS if cars else (0, SIDE)
        )
    own = {f"encoder.{key}": value for key, value in state.items()}
    own["encoder.latent_avg"] = _latent_avg(content, opts, encoder, path)
    # Wrapped, so that messages name the entries as the file does.
    load_weights(nn.ModuleDict({"encoder": encoder}), own, path)
    return encoder.eval().requires_grad_(False)


def _latent_avg(
    content: object, opts: Mapping[str, object], encoder: PspEncoder, path: Path
) -> Tensor:
    """The code that the encoder counts from, one row for each style layer."""
    shape = (encoder.num_layers, encoder.w_dim)
    average = content.get("latent_avg") if isinstance(content, Mapping) else None
    # The original stores the mean code only where it is used.
    wanted = opts.get("start_from_latent_avg", average is not None)
    if not wanted:
        return torch.zeros(shape)
    if not isinstance(average, Tensor):
        raise RequestError(
            f"{path}: the encoder counts from the mean code, but the file has no "
            "'latent_avg'."
        )
    if average.shape not in (shape, (1, shape[1]), (shape[1],)):
        raise RequestError(
            f"{path}: 'latent_avg' has shape {list(average.shape)}, expected "
            f"{list(shape)}."
        )
    return average.detach().expand(shape).clone()


def _resized(x: Tensor, like: Tensor) -> Tensor:
    size = like.shape[2:]
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def _state_dict(content: object) -> dict[str, Tensor]:
    if isinstance(content, Mapping) and "state_dict" in content:
        content = content["state_dict"]
    return tensor_entries(content)
