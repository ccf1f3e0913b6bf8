"""Files in the layout of the released weights, filled with seeded numbers.

Names and shapes are the published ones; only the resolution and the width of the
generator can be smaller. What such networks answer means nothing.
"""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import alexnet, resnet18

from robustgen.gan.encoder_rgbm import EncoderRgbm

State = dict[str, Tensor]

CHANNELS = {4: 512, 8: 512, 16: 512, 32: 512, 64: 512, 128: 256, 256: 128, 512: 64}
"""Width of each resolution in config-f; 32 beyond."""


def _normal(name: str, *shape: int, scale: float = 1.0) -> Tensor:
    seed = [ord(letter) for letter in name]
    drawn = np.random.default_rng(seed).standard_normal(shape, np.float32)
    return torch.from_numpy(drawn) * scale


def rosinality(resolution: int, narrow: int = 1) -> dict[str, object]:
    """A checkpoint `{g_ema, latent_avg}` of rosinality/stylegan2-pytorch.

    Args:
        resolution: Side of the images.
        narrow: Divides the channels of every layer.
    """
    fir = torch.tensor([1.0, 3.0, 3.0, 1.0])
    fir = fir.outer(fir) / 64 * 4
    last = int(math.log2(resolution))
    state: State = {"input.input": _normal("input", 1, _width(4, narrow), 4, 4)}
    for layer in range(1, 9):
        # At run time multiplied by 0.01 / sqrt(512).
        state[f"style.{layer}.weight"] = _normal(f"style{layer}", 512, 512, scale=100)
        state[f"style.{layer}.bias"] = torch.zeros(512)
    before = _width(4, narrow)
    state |= _styled("conv1", before, before)
    state |= _rgb("to_rgb1", before)
    state["noises.noise_0"] = _normal("noise0", 1, 1, 4, 4)
    for block, power in enumerate(range(3, last + 1)):
        side = 2**power
        after = _width(side, narrow)
        state |= _styled(f"convs.{2 * block}", before, after)
        state[f"convs.{2 * block}.conv.blur.kernel"] = fir
        state |= _styled(f"convs.{2 * block + 1}", after, after)
        state |= _rgb(f"to_rgbs.{block}", after)
        state[f"to_rgbs.{block}.upsample.kernel"] = fir
        for number in (2 * block + 1, 2 * block + 2):
            state[f"noises.noise_{number}"] = _normal(
                f"noise{number}", 1, 1, side, side
            )
        before = after
    return {"g_ema": state, "latent_avg": torch.zeros(512)}


def _width(side: int, narrow: int) -> int:
    return CHANNELS.get(side, 32) // narrow


def _styled(name: str, inputs: int, outputs: int) -> State:
    return {
        f"{name}.conv.weight": _normal(name, 1, outputs, inputs, 3, 3),
        f"{name}.conv.modulation.weight": _normal(f"{name}m", inputs, 512),
        f"{name}.conv.modulation.bias": torch.ones(inputs),
        f"{name}.noise.weight": torch.full((1,), 0.05),
        f"{name}.activate.bias": torch.zeros(outputs),
    }


def _rgb(name: str, inputs: int) -> State:
    return {
        f"{name}.conv.weight": _normal(name, 1, 3, inputs, 1, 1, scale=0.3),
        f"{name}.conv.modulation.weight": _normal(f"{name}m", inputs, 512),
        f"{name}.conv.modulation.bias": torch.ones(inputs),
        f"{name}.bias": torch.zeros(1, 3, 1, 1),
    }


def rgbm_encoder(num_layers: int) -> dict[str, object]:
    """A checkpoint of the RGB + mask encoder."""
    with torch.device("meta"):
        encoder = EncoderRgbm(num_layers)
    state = _filled(encoder)
    head = "layer5.conv5.weight"
    state[head] = state[head] * 0.002
    return {"state_dict": state, "epoch": 1, "val_loss": 0.5}


def attribute_classifier() -> dict[str, object]:
    """A checkpoint of a CelebA attribute classifier, 23,038,017 parameters."""
    state: State = {"lod_in": torch.tensor(0.0)}
    widths = {256: 64, 128: 128, 64: 256, 32: 512, 16: 512, 8: 512, 4: 512}
    layers: dict[str, tuple[str, tuple[int, ...]]] = {
        "fromrgb_lod0.conv": ("conv", (64, 3, 1, 1)),
        "4x4.conv": ("conv", (512, 512, 3, 3)),
        "4x4.dense0": ("linear", (512, 8192)),
        "4x4.dense1": ("linear", (1, 512)),
    }
    for side in (256, 128, 64, 32, 16, 8):
        here, after = widths[side], widths[side // 2]
        layers[f"{side}x{side}.conv0"] = ("conv", (here, here, 3, 3))
        layers[f"{side}x{side}.conv1"] = ("conv", (after, here, 3, 3))
    for name, (kind, shape) in layers.items():
        state[f"{name}.{kind}.weight"] = _normal(name, *shape)
        state[f"{name}.wscale.b"] = torch.zeros(shape[0])
    return {"state_dict": state, "optimizer": {}, "epoch": 4, "valacc": 0.9}


def resnet_classifier(classes: int) -> dict[str, object]:
    """A checkpoint of a classifier of cats or cars."""
    with torch.device("meta"):
        net = resnet18(num_classes=classes)
    state = _filled(net)
    return {"state_dict": state, "optimizer": {}, "epoch": 9, "valacc": 95.0}


def alexnet_trunk() -> State:
    """The state dict of torchvision's AlexNet; only its convolutions are read.

    The other 58.6 million numbers are 0, and one of each tensor is stored.
    """
    with torch.device("meta"):
        net = alexnet(weights=None)
    shapes = {name: t.shape for name, t in net.classifier.state_dict().items()}
    unread = {f"classifier.{n}": torch.zeros(()).expand(s) for n, s in shapes.items()}
    return {f"features.{n}": t for n, t in _filled(net.features).items()} | unread


def write_celebahq_weights(folder: Path, resolution: int, narrow: int = 1) -> None:
    """Everything that suite `celebahq_smiling` needs, under its released names."""
    layers = 2 * int(math.log2(resolution)) - 2
    classifier = "pretrained_classifiers/celebahq/Smiling/net_best.pth"
    files: Mapping[str, object] = {
        "sgans_stylegan2-ffhq-config-f.pt": rosinality(resolution, narrow),
        "sgan_encoders_ffhq_RGBM_model_initial.pth.tar": rgbm_encoder(layers),
        classifier: attribute_classifier(),
        "alexnet-owt-7be5be79.pth": alexnet_trunk(),
    }
    write_files(folder, files)


def write_files(folder: Path, files: Mapping[str, object]) -> None:
    """Torch files by their path below a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, path)


def _filled(module: nn.Module) -> State:
    """The module's entries, weights drawn so that no layer blows up.

    Only names and shapes of the module are read, so that it may lie on `meta`.
    """
    state: State = {}
    for name, tensor in module.state_dict().items():
        if tensor.ndim > 1:
            scale = (2 / tensor[0].numel()) ** 0.5
            state[name] = _normal(name, *tensor.shape, scale=scale)
        else:
            # Norms keep scale 1, shift 0, mean 0, variance 1.
            one = name.endswith(("weight", "running_var"))
            make = torch.ones if one else torch.zeros
            state[name] = make(tensor.shape, dtype=tensor.dtype)
    return state
