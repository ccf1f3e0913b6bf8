"""Weak defenses of digits, each as a user would bring it, and one honest control.

Each callable is a `factory: robustgen.canaries.planted:NAME` of a suite's pair. It
returns an `nn.Module` from images in [0, 1] to logits, and says nothing of what it does
inside. Every known way to look robust without being so has one here; an evaluation that
calls one of them trusted is at fault (arXiv:1802.00420).
"""

import io
from typing import final

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from robustgen.classifiers.load import load_classifier
from robustgen.gan.load import load_encoder, load_gan
from robustgen.gan.stylegan2 import StyleGAN2
from robustgen.types import Images, Logits

SIDE = 32

CONSTANT = 3
"""Class of the constant defense."""


@final
class Jpeg(nn.Module):
    """JPEG compression before the classifier: no gradient at all."""

    def __init__(self, classifier: nn.Module, quality: int) -> None:
        super().__init__()
        self.classifier = classifier
        self.quality = quality

    def forward(self, images: Images) -> Logits:
        pixels = (images.detach() * 255).round().byte().cpu().numpy()
        kept = np.stack([self._compressed(image[0]) for image in pixels])
        return self.classifier(torch.from_numpy(kept)[:, None].to(images))

    def _compressed(self, pixels: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=self.quality)
        return np.asarray(Image.open(file), dtype=np.float32) / 255


@final
class Rounded(nn.Module):
    """Pixels rounded to a few levels: the gradient is 0 everywhere."""

    def __init__(self, classifier: nn.Module, levels: int) -> None:
        super().__init__()
        self.classifier = classifier
        self.steps = levels - 1

    def forward(self, images: Images) -> Logits:
        return self.classifier((images * self.steps).round() / self.steps)


@final
class Resized(nn.Module):
    """A random size, then random padding back (arXiv:1711.01991)."""

    def __init__(self, classifier: nn.Module, smallest: int) -> None:
        super().__init__()
        self.classifier = classifier
        self.smallest = smallest

    def forward(self, images: Images) -> Logits:
        side = int(torch.randint(self.smallest, SIDE + 1, ()))
        left, top = torch.randint(0, SIDE - side + 1, (2,)).tolist()
        small = F.interpolate(images, size=side, mode="bilinear", align_corners=False)
        right, bottom = SIDE - side - left, SIDE - side - top
        return self.classifier(F.pad(small, (left, right, top, bottom)))


@final
class Saturated(nn.Module):
    """A softmax so sharp that float32 rounds its gradient to 0."""

    def __init__(self, classifier: nn.Module, sharpness: float) -> None:
        super().__init__()
        self.classifier = classifier
        self.sharpness = sharpness

    def forward(self, images: Images) -> Logits:
        sharp = (self.classifier(images) * self.sharpness).softmax(dim=1)
        return sharp.clamp(min=1e-30).log()


@final
class Detached(nn.Module):
    """An encoder and a generator before the classifier, computed without gradients."""

    def __init__(
        self, classifier: nn.Module, encoder: nn.Module, gan: StyleGAN2
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.encoder = encoder
        self.gan = gan

    def forward(self, images: Images) -> Logits:
        with torch.no_grad():
            projected = self.gan.synthesize(self.encoder(images)).clamp(0, 1)
        return self.classifier(projected)


@final
class Blind(nn.Module):
    """A generator behind an encoder that does not look: one picture for all images."""

    def __init__(self, classifier: nn.Module, gan: StyleGAN2) -> None:
        super().__init__()
        self.classifier = classifier
        self.gan = gan

    def forward(self, images: Images) -> Logits:
        mean = self.gan.map(images.new_zeros(1, self.gan.z_dim), truncation=0.0)
        codes = mean[:, None].expand(len(images), self.gan.num_layers, -1)
        return self.classifier(self.gan.synthesize(codes).clamp(0, 1))


@final
class Constant(nn.Module):
    """The same class for every image; nothing can turn it."""

    def __init__(self, classes: int, label: int) -> None:
        super().__init__()
        self.classes = classes
        self.label = label

    def forward(self, images: Images) -> Logits:
        logits = images.new_zeros(len(images), self.classes)
        logits[:, self.label] = 5.0
        return logits


def jpeg(quality: int = 50) -> nn.Module:
    """JPEG before the classifier of digits."""
    return Jpeg(load_classifier("digits"), quality)


def rounding(levels: int = 16) -> nn.Module:
    """Rounding before the classifier of digits: a shattered gradient."""
    return Rounded(load_classifier("digits"), levels)


def resizing(smallest: int = 26) -> nn.Module:
    """Random resizing and padding before the classifier of digits."""
    return Resized(load_classifier("digits"), smallest)


def saturated(sharpness: float = 1e3) -> nn.Module:
    """The classifier of digits behind a saturated softmax."""
    return Saturated(load_classifier("digits"), sharpness)


def detached() -> nn.Module:
    """Encoder and generator of digits, detached, before their classifier."""
    return Detached(
        load_classifier("digits"), load_encoder("digits"), load_gan("digits")
    )


def blind() -> nn.Module:
    """The mean picture of digits, whatever the image."""
    return Blind(load_classifier("digits"), load_gan("digits"))


def constant(label: int = CONSTANT) -> nn.Module:
    """One of the ten digits for every image."""
    return Constant(10, label)


def robust() -> nn.Module:
    """The control: trained on attacked images, so its accuracy is real."""
    return load_classifier("digits_robust")
