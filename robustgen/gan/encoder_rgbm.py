"""The encoder of the released code: RGB and a mask in, a style per layer out.

Ensembling with Deep Generative Views (Chai et al., CVPR 2021) uses the encoders of
Chai et al., arXiv:2103.10426: a ResNet-34 whose stem sees four channels and whose
fully connected layer is a 1x1 convolution to one style of 512 for each layer.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import resnet34

from robustgen.checkpoints import load_weights, read_checkpoint, tensor_entries
from robustgen.errors import RequestError
from robustgen.types import Images, Masks, StylesPlus

SIDE = 256
"""Pixels on a side that the network sees."""

_W_DIM = 512
_HEAD = "layer5.conv5.weight"


class EncoderRgbm(nn.Module):
    """Absolute style codes of masked images; no mean style is added.

    Args:
        num_layers: Style layers of the generator that it belongs to.
    """

    def __init__(self, num_layers: int) -> None:
        super().__init__()
        self.num_layers = num_layers
        self.w_dim = _W_DIM
        trunk = resnet34(weights=None)
        self.conv1 = nn.Conv2d(4, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = trunk.bn1
        self.layer1 = trunk.layer1
        self.layer2 = trunk.layer2
        self.layer3 = trunk.layer3
        self.layer4 = trunk.layer4
        self.layer5 = nn.ModuleDict({"conv5": nn.Conv2d(512, num_layers * _W_DIM, 1)})

    def forward(self, images: Images, mask: Masks | None = None) -> StylesPlus:
        """Style codes `[N, num_layers, 512]` of images in [0, 1] of any size.

        Args:
            images: Color images; resized to 256 x 256 by averaging areas.
            mask: Weight of each pixel; None means that all are to be seen.
        """
        mask = torch.ones_like(images[:, :1]) if mask is None else mask
        x = torch.cat([images * 2 - 1, mask], dim=1)
        x = F.interpolate(x, size=(SIDE, SIDE), mode="area")
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, stride=2, padding=1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        # Averaging first gives the same as after a 1x1 convolution, for 1/64 the work.
        x = self.layer5["conv5"](x.mean(dim=(2, 3), keepdim=True))
        return x.view(-1, self.num_layers, self.w_dim)


def is_encoder_rgbm(content: object) -> bool:
    """Whether a checkpoint's content is such an encoder."""
    return _HEAD in tensor_entries(_state_dict(content))


def load_encoder_rgbm(path: Path) -> EncoderRgbm:
    """Reads a released encoder, `sgan_encoders_{domain}_RGBM_model_initial.pth.tar`.

    Args:
        path: Torch file with the weights under `state_dict`, or safetensors with the
            same names.

    Returns:
        Encoder on the CPU, in eval mode, its weights frozen. The number of layers is
        read from the file.

    Raises:
        RequestError: the file is missing, damaged, or holds something else.
    """
    return encoder_rgbm_from_content(read_checkpoint(path).content, path)


def encoder_rgbm_from_content(content: object, path: Path) -> EncoderRgbm:
    """The encoder that a checkpoint's content is; see `load_encoder_rgbm`.

    Args:
        content: What the file holds.
        path: The file, to name in a message.
    """
    state = tensor_entries(_state_dict(content))
    if _HEAD not in state:
        raise RequestError(f"{path}: no RGB+mask encoder: it has no tensor '{_HEAD}'.")
    rows = state[_HEAD].shape[0]
    if rows == 0 or rows % _W_DIM:
        raise RequestError(
            f"{path}: '{_HEAD}' has {rows} rows, which is no multiple of {_W_DIM}."
        )
    # On the meta device no weights are drawn, so no global random state is read.
    with torch.device("meta"):
        encoder = EncoderRgbm(rows // _W_DIM)
    load_weights(encoder, state, path)
    return encoder.eval().requires_grad_(False)


def _state_dict(content: object) -> object:
    if isinstance(content, Mapping) and "state_dict" in content:
        return content["state_dict"]
    return content
