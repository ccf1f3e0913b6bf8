"""Untargeted corruptions: JPEG, Gaussian blur and Gaussian noise.

They ask the classifier nothing, so they cost no pass and know nothing of it. They have
the signature of an attack all the same: the framework clips, checks and measures what
they return as it does for every other. A corruption stays in no ball; its threat is
any image in [0, 1], and how far it went is recorded.
"""

import io
import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from robustgen.attacks.attack import Attack, Rngs
from robustgen.attacks.checks import require, require_norm
from robustgen.errors import RequestError
from robustgen.library import BlurSettings, JpegSettings, NoiseSettings
from robustgen.threat import Threat
from robustgen.types import Images, Labels, LogitsFn

_TRUNCATE = 4.0
"""Stds at which the kernel of a blur ends, as in scikit-image."""


def build_corruption(
    settings: JpegSettings | BlurSettings | NoiseSettings,
) -> Attack:
    """The corruption that the settings of a preset describe, at its severity.

    Raises:
        RequestError: a strength is out of range.
    """
    if isinstance(settings, JpegSettings):
        return build_jpeg(quality=settings.quality)
    if isinstance(settings, BlurSettings):
        return build_gaussian_blur(sigma=settings.strength, side=settings.side)
    return build_gaussian_noise(std=settings.strength)


def build_jpeg(*, quality: int) -> Attack:
    """Compresses and decompresses images as JPEG.

    Args:
        quality: Of the encoder, 1 (worst) to 95.

    Raises:
        RequestError: the quality is out of range.
    """
    require("jpeg", "quality", quality, "1 to 95", met=1 <= quality <= 95)

    def change(images: Images, rngs: Rngs) -> Images:
        del rngs
        return jpeg(images, quality)

    return _as_attack("jpeg", change)


def build_gaussian_blur(*, sigma: float, side: int) -> Attack:
    """Blurs images by a Gaussian that grows with them.

    Args:
        sigma: Std of the Gaussian, in pixels of an image whose shorter side is `side`.
            An image of another size is blurred by the same share of its shorter side.
        side: Size in pixels that `sigma` is given for.

    Raises:
        RequestError: `sigma` or `side` is not above 0.
    """
    require("gaussian_blur", "sigma", sigma, "above 0", met=0 < sigma < math.inf)
    require("gaussian_blur", "side", side, "above 0", met=side > 0)

    def change(images: Images, rngs: Rngs) -> Images:
        del rngs
        return gaussian_blur(images, sigma * min(images.shape[2:]) / side)

    return _as_attack("gaussian_blur", change)


def build_gaussian_noise(*, std: float) -> Attack:
    """Adds independent Gaussian noise to every pixel and channel.

    Args:
        std: Of the noise, in pixel units of [0, 1].

    Raises:
        RequestError: `std` is not above 0.
    """
    require("gaussian_noise", "std", std, "above 0", met=0 < std < math.inf)

    def change(images: Images, rngs: Rngs) -> Images:
        return gaussian_noise(images, std, rngs)

    return _as_attack("gaussian_noise", change)


def jpeg(images: Images, quality: int) -> Images:
    """Each image rounded to 8 bits, encoded as baseline JPEG, and decoded.

    Colors are stored at half the resolution (4:2:0), the encoder's default.

    Args:
        images: Gray or RGB.
        quality: Of the encoder, 1 (worst) to 95.

    Raises:
        RequestError: the images have neither 1 nor 3 channels.
    """
    channels = images.shape[1]
    if channels not in (1, 3):
        raise RequestError(
            f"Attack 'jpeg': images of {channels} channels; JPEG stores 1 or 3."
        )
    pixels = (images.detach().cpu() * 255).round().to(torch.uint8)
    decoded: list[np.ndarray] = []
    for picture in pixels.permute(0, 2, 3, 1).numpy():
        stream = io.BytesIO()
        source = Image.fromarray(picture if channels == 3 else picture[:, :, 0])
        source.save(stream, "JPEG", quality=quality, subsampling="4:2:0")
        with Image.open(stream) as result:
            decoded.append(np.asarray(result).reshape(picture.shape))
    stacked = torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2)
    return (stacked.to(torch.float32) / 255).to(images)


def gaussian_blur(images: Images, sigma: float) -> Images:
    """Each channel convolved with a Gaussian; pixels beyond the edge repeat the edge.

    Args:
        images: Any number of channels.
        sigma: Std of the Gaussian, in pixels of these images.
    """
    radius = int(_TRUNCATE * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).to(images)
    rows = _convolved(images, kernel)
    return _convolved(rows.transpose(2, 3), kernel).transpose(2, 3).clamp(0.0, 1.0)


def gaussian_noise(images: Images, std: float, rngs: Rngs) -> Images:
    """Each image plus noise that its own generator draws, clamped to [0, 1].

    Args:
        images: Any number of channels.
        std: Of the noise, in pixel units of [0, 1].
        rngs: One generator per image. Consumed.
    """
    noise = torch.stack(
        [
            torch.randn(images.shape[1:], generator=rng, device=rng.device)
            for rng in rngs
        ]
    )
    return (images + std * noise.to(images)).clamp(0.0, 1.0)


def _convolved(images: Images, kernel: Float[Tensor, " taps"]) -> Images:
    """Every row of every channel convolved with `kernel`, edges repeated."""
    count, channels, height, width = images.shape
    lines = images.reshape(count * channels, 1, height, width)
    radius = len(kernel) // 2
    padded = F.pad(lines, (radius, radius, 0, 0), mode="replicate")
    return F.conv2d(padded, kernel.view(1, 1, 1, -1)).view(images.shape)


def _as_attack(name: str, change: Callable[[Images, Rngs], Images]) -> Attack:
    """A corruption with the signature of an attack; refuses any bounded threat."""

    def corruption(
        logits_fn: LogitsFn, images: Images, labels: Labels, threat: Threat, rngs: Rngs
    ) -> Images:
        del logits_fn, labels
        require_norm(name, threat, "none")
        unbounded = math.isinf(threat.eps)
        require(
            name, "eps", f"{threat.eps:g}", "inf, as no ball holds it", met=unbounded
        )
        return change(images, rngs)

    return corruption
