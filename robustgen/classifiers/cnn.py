"""A small, ordinary classifier for images of about 32 pixels."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robustgen.errors import RequestError
from robustgen.rngs import rng_for
from robustgen.types import Images, Logits


class SmallCNN(nn.Module):
    """Pairs of 3x3 convolutions with batch normalization, then a linear layer.

    Each pair halves the resolution in its first convolution, so that most of the work
    is done on small maps. With the default widths: 288k parameters, about 10 million
    multiplications for an image of 32 x 32. It has no defense of any kind.

    Args:
        in_channels: Channels of an image, 1 for grey or 3 for color.
        num_classes: Number of classes, at least 2.
        widths: Channels of each pair; the side of an image must be `2^len(widths)` at
            least.
        mean: Mean of each channel over the training images, in pixel units of [0, 1].
        std: Standard deviation of each channel, in the same units.
        seed: Seed of the initial weights; no global random state is touched.

    Raises:
        RequestError: there are fewer than 2 classes, no widths, or `mean` and `std`
            do not have one positive `std` for each channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        widths: Sequence[int] = (32, 64, 128),
        mean: Sequence[float] = (0.5,),
        std: Sequence[float] = (0.25,),
        *,
        seed: int = 0,
    ) -> None:
        super().__init__()
        _check_config(in_channels, num_classes, widths, mean, std)
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.widths = tuple(widths)
        for name, values in (("mean", mean), ("std", std)):
            channels = torch.tensor(values).expand(in_channels).clone()
            self.register_buffer(name, channels.view(1, -1, 1, 1))
        layers: list[nn.Module] = []
        before = in_channels
        for width in widths:
            layers += [*_conv(before, width, 2), *_conv(width, width, 1)]
            before = width
        self.trunk = nn.Sequential(*layers)
        # Made on the meta device, a layer draws no weights from the global generator.
        self.head = nn.Linear(before, num_classes, device="meta").to_empty(device="cpu")
        self._draw_weights(seed)

    def forward(self, images: Images) -> Logits:
        """Logits `[N, K]` of images in [0, 1].

        Raises:
            RequestError: the images have another number of channels.
        """
        if images.shape[1] != self.in_channels:
            # Not left to the arithmetic: one channel would be spread to three.
            raise RequestError(
                f"Images of {images.shape[1]} channels, but the classifier reads "
                f"{self.in_channels}."
            )
        x = (images - self.mean) / self.std
        return self.head(self.trunk(x).mean(dim=(2, 3)))

    @torch.no_grad()
    def _draw_weights(self, seed: int) -> None:
        """Normal weights of variance 2 / fan-in (He et al., arXiv:1502.01852)."""
        rng = rng_for(seed, "weights", "small_cnn")
        for parameter in self.parameters():
            if parameter.ndim > 1:
                fan_in = parameter[0].numel()
                parameter.normal_(0.0, (2 / fan_in) ** 0.5, generator=rng)
        self.head.bias.zero_()


def _conv(before: int, after: int, stride: int) -> list[nn.Module]:
    conv = nn.Conv2d(
        before, after, 3, stride=stride, padding=1, bias=False, device="meta"
    ).to_empty(device="cpu")
    return [conv, nn.BatchNorm2d(after), nn.ReLU(inplace=True)]


def _check_config(
    in_channels: int,
    num_classes: int,
    widths: Sequence[int],
    mean: Sequence[float],
    std: Sequence[float],
) -> None:
    if in_channels < 1 or not widths or min(widths) < 1:
        raise RequestError(
            f"A classifier of {in_channels} channels and widths {list(widths)} has no "
            "layers: both must be 1 or more."
        )
    if num_classes < 2:
        raise RequestError(
            f"`num_classes={num_classes}`: a classifier gives one logit for each of 2 "
            "or more classes. For a single logit l use two: [0, l]."
        )
    if {len(mean), len(std)} - {1, in_channels} or min(std) <= 0:
        raise RequestError(
            f"`mean={list(mean)}` and `std={list(std)}` need one number for all or "
            f"for each of the {in_channels} channels, and every `std` above 0."
        )
