"""The StyleGAN2 generator (arXiv:1912.04958), one implementation for every format.

Skip architecture, fixed noise buffers, optional class conditioning. Parameters have
unit variance and are scaled at run time (equalized learning rate), as in both reference
implementations, so that their checkpoints map onto it entry by entry.

On CPU a batch shares one convolution: the input is multiplied by the styles and the
output divided by the demodulation coefficient, instead of modulating the weights per
sample, which turns into a slow grouped convolution.
"""

import itertools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from robustgen.errors import RequestError
from robustgen.types import Images, Latents, Styles, StylesPlus

MAPPING_LR = 0.01
"""Learning-rate multiplier of the mapping network: scales its weights and biases."""

EPSILON = 1e-8
"""Keeps the normalizations finite; the value of both reference implementations."""


@dataclass(frozen=True)
class GanConfig:
    """Sizes of a generator.

    Args:
        resolution: Side of the images in pixels, a power of two from 8 to 1024.
        channels: Feature channels of each block, from 4 px up to `resolution`.
        z_dim: Length of a latent `z`.
        w_dim: Length of a style code `w`.
        mapping_layers: Fully connected layers of the mapping network.
        num_classes: Classes that condition the mapping; 0 for none.
        img_channels: 3 for color, 1 for grey.
        conv_clamp: Bound on the magnitude of activations, or None for no bound.

    Raises:
        RequestError: the resolution is no power of two from 8 to 1024, the channels do
            not match it, or a size is not positive.
    """

    resolution: int
    channels: tuple[int, ...]
    z_dim: int
    w_dim: int
    mapping_layers: int
    num_classes: int = 0
    img_channels: int = 3
    conv_clamp: float | None = None

    def __post_init__(self) -> None:
        if self.resolution not in (8, 16, 32, 64, 128, 256, 512, 1024):
            raise RequestError(
                f"A generator of {self.resolution} px: expected a power of two from 8 "
                "to 1024."
            )
        if len(self.channels) != self.num_blocks:
            raise RequestError(
                f"A generator of {self.resolution} px has {self.num_blocks} blocks, "
                f"but {len(self.channels)} numbers of channels were given."
            )
        sizes = (self.z_dim, self.w_dim, self.mapping_layers, self.img_channels)
        if min(*sizes, *self.channels) < 1 or self.num_classes < 0:
            raise RequestError("A size of the generator is below 1.")

    @property
    def num_blocks(self) -> int:
        """Number of resolutions, 4 px included."""
        return int(math.log2(self.resolution)) - 1

    @property
    def num_layers(self) -> int:
        """Number of style codes in a `w_plus`."""
        return 2 * self.num_blocks


def upsample_smooth(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
    """Filters by outer([1, 3, 3, 1]) / 16 along both axes: the FIR of up-sampling.

    The result is 3 smaller along both axes. Sums of slices are 3 to 6 times as fast on
    CPU as a convolution per channel.
    """
    x = x[..., :-3, :] + 3 * (x[..., 1:-2, :] + x[..., 2:-1, :]) + x[..., 3:, :]
    x = x[..., :-3] + 3 * (x[..., 1:-2] + x[..., 2:-1]) + x[..., 3:]
    return x / 16


def upsample_image(image: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
    """Doubles an image: zero insertion, then the FIR with padding (2, 1)."""
    n, c, h, w = image.shape
    spread = image.new_zeros(n, c, h, 2, w, 2)
    spread[:, :, :, 0, :, 0] = image
    spread = spread.view(n, c, 2 * h, 2 * w)
    return upsample_smooth(F.pad(spread, (2, 1, 2, 1)))


def normalize_second_moment(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Scales each row to a mean square of one."""
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + EPSILON)


class Affine(nn.Module):
    """A linear map with equalized learning rate; `w` to the styles of a layer."""

    def __init__(self, inputs: int, outputs: int, rng: torch.Generator, bias: float):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, generator=rng))
        self.bias = nn.Parameter(torch.full((outputs,), bias))
        self.gain = 1 / math.sqrt(inputs)

    def forward(self, w: Styles) -> Float[Tensor, "batch outputs"]:
        return F.linear(w, self.weight * self.gain, self.bias)


class MappingNetwork(nn.Module):
    """`z`, and a class where the generator is conditional, to `w`."""

    w_avg: Tensor

    def __init__(self, config: GanConfig, rng: torch.Generator):
        super().__init__()
        self.embed = (
            Affine(config.num_classes, config.w_dim, rng, bias=0.0)
            if config.num_classes
            else None
        )
        sizes = [config.z_dim + (config.w_dim if config.num_classes else 0)]
        sizes += [config.w_dim] * config.mapping_layers
        # Divided by the multiplier, so that training moves the layers 100x slower.
        self.weights = nn.ParameterList(
            torch.randn(o, i, generator=rng) / MAPPING_LR
            for i, o in itertools.pairwise(sizes)
        )
        self.biases = nn.ParameterList(torch.zeros(o) for o in sizes[1:])
        self.register_buffer("w_avg", torch.zeros(config.w_dim))

    def forward(self, z: Latents, labels: Int64[Tensor, " batch"] | None) -> Styles:
        x = normalize_second_moment(z)
        if self.embed is not None and labels is not None:
            one_hot = F.one_hot(labels, self.embed.weight.shape[1]).to(z.dtype)
            x = torch.cat([x, normalize_second_moment(self.embed(one_hot))], dim=1)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            gain = MAPPING_LR / math.sqrt(weight.shape[1])
            x = F.linear(x, weight * gain, bias * MAPPING_LR)
            x = F.leaky_relu(x, 0.2) * math.sqrt(2)
        return x


class StyledConv(nn.Module):
    """Modulated 3x3 convolution, noise, bias, leaky ReLU (section 2 of the paper)."""

    noise: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        resolution: int,
        config: GanConfig,
        rng: torch.Generator,
        *,
        up: bool,
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3, generator=rng))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.affine = Affine(config.w_dim, inputs, rng, bias=1.0)
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer(
            "noise", torch.randn(resolution, resolution, generator=rng)
        )
        self.gain = 1 / math.sqrt(9 * inputs)
        self.up = up
        self.clamp = config.conv_clamp

    def forward(self, x: Tensor, w: Styles) -> Tensor:
        style = self.affine(w)
        weight = self.weight * self.gain
        power = style.square() @ weight.square().sum(dim=(2, 3)).T
        demodulation = torch.rsqrt(power + EPSILON)
        x = x * style[:, :, None, None]
        if self.up:
            x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
            x = upsample_smooth(F.pad(x, (1, 1, 1, 1)))
        else:
            x = F.conv2d(x, weight, padding=1)
        x = x * demodulation[:, :, None, None]
        x = x + (self.noise * self.noise_strength + self.bias[:, None, None])
        x = F.leaky_relu(x, 0.2) * math.sqrt(2)
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class ToRgb(nn.Module):
    """Modulated 1x1 convolution to pixels; neither demodulated nor noisy."""

    def __init__(self, inputs: int, config: GanConfig, rng: torch.Generator):
        super().__init__()
        outputs = config.img_channels
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 1, 1, generator=rng))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.affine = Affine(config.w_dim, inputs, rng, bias=1.0)
        self.gain = 1 / math.sqrt(inputs)
        self.clamp = config.conv_clamp

    def forward(self, x: Tensor, w: Styles) -> Tensor:
        style = self.affine(w)[:, :, None, None]
        x = F.conv2d(x * style, self.weight * self.gain, self.bias)
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class StyleGAN2(nn.Module):
    """Latents to style codes to images.

    Args:
        config: Sizes.
        rng: Source of the initial parameters and of the noise buffers; a fixed one
            where None, for a generator that is about to be filled from a file.
    """

    def __init__(self, config: GanConfig, rng: torch.Generator | None = None):
        super().__init__()
        rng = rng or torch.Generator()
        self.config = config
        self.mapping = MappingNetwork(config, rng)
        self.const = nn.Parameter(torch.randn(config.channels[0], 4, 4, generator=rng))
        self.convs = nn.ModuleList()
        self.rgbs = nn.ModuleList()
        before = config.channels[0]
        for block, channels in enumerate(config.channels):
            side = 4 * 2**block
            if block:
                self.convs.append(
                    StyledConv(before, channels, side, config, rng, up=True)
                )
            self.convs.append(
                StyledConv(channels, channels, side, config, rng, up=False)
            )
            self.rgbs.append(ToRgb(channels, config, rng))
            before = channels

    def styled_layers(self) -> list[tuple[int, "StyledConv | ToRgb"]]:
        """Every modulated layer, with the index of the style code that it reads."""
        convs = [(i, conv) for i, conv in enumerate(self.convs)]
        rgbs = [(2 * k + 1, rgb) for k, rgb in enumerate(self.rgbs)]
        return [
            (code, layer)
            for code, layer in (*convs, *rgbs)
            if isinstance(layer, StyledConv | ToRgb)
        ]

    @property
    def resolution(self) -> int:
        """Side of the images, in pixels."""
        return self.config.resolution

    @property
    def num_layers(self) -> int:
        """Number of style codes in a `w_plus`."""
        return self.config.num_layers

    @property
    def w_dim(self) -> int:
        """Length of a style code."""
        return self.config.w_dim

    @property
    def img_channels(self) -> int:
        """3 for color, 1 for grey."""
        return self.config.img_channels

    @property
    def z_dim(self) -> int:
        """Length of a latent."""
        return self.config.z_dim

    @property
    def num_classes(self) -> int:
        """Classes that condition the mapping network; 0 for none."""
        return self.config.num_classes

    def map(
        self,
        z: Latents,
        labels: Int64[Tensor, " batch"] | None = None,
        truncation: float = 1.0,
    ) -> Styles:
        """Style codes of latents.

        Args:
            z: Standard normal latents.
            labels: Class indices; required by a conditional generator, refused by
                another.
            truncation: 1 leaves the codes alone; less pulls them toward the mean code,
                which trades variety for typicality.

        Raises:
            RequestError: labels are missing or superfluous.
        """
        if (labels is None) != (self.num_classes == 0):
            raise RequestError(
                f"This generator has {self.num_classes} classes: labels are "
                + ("required." if labels is None else "not accepted.")
            )
        w: Tensor = self.mapping(z, labels)
        if truncation != 1.0:
            w = self.mapping.w_avg.lerp(w, truncation)
        return w

    def synthesize(self, w_plus: StylesPlus) -> Images:
        """Images of style codes, in pixel units `(raw + 1) / 2`, not clamped.

        Layer `i` of `w_plus` drives convolution `i`; the RGB layer of each block shares
        the code of the convolution that follows it.

        Raises:
            RequestError: `w_plus` is not `[N, num_layers, w_dim]`.
        """
        if w_plus.shape[1:] != (self.num_layers, self.w_dim):
            raise RequestError(
                f"Style codes of shape {list(w_plus.shape)}: this generator takes "
                f"[N, {self.num_layers}, {self.w_dim}]."
            )
        codes = w_plus.unbind(dim=1)
        x = self.const.expand(w_plus.shape[0], -1, -1, -1)
        x = self.convs[0](x, codes[0])
        image = self.rgbs[0](x, codes[1])
        for block in range(1, len(self.rgbs)):
            x = self.convs[2 * block - 1](x, codes[2 * block - 1])
            x = self.convs[2 * block](x, codes[2 * block])
            image = upsample_image(image) + self.rgbs[block](x, codes[2 * block + 1])
        return (image + 1) / 2
