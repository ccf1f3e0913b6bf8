"""Generators as other projects store them: key names, and network pickles.

A pickle of NVIDIA's names two packages that are not there when it is read. They are
played here by small stand-ins, which `sys.modules` knows while a pickle is written.
"""

import contextlib
import io
import pickle
import sys
import types
from collections import OrderedDict
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from robustgen.gan.stylegan2 import GanConfig, StyledConv, StyleGAN2
from robustgen.rngs import rng_for

FIR = torch.tensor([1.0, 3.0, 3.0, 1.0]).outer(torch.tensor([1.0, 3.0, 3.0, 1.0])) / 64

SOURCE = "raise SystemExit('the source of a pickle was run')"


def small_config(resolution: int, **changes: Any) -> GanConfig:
    """A narrow generator with other numbers of channels in every block."""
    blocks = resolution.bit_length() - 3 + 1
    fields: dict[str, Any] = {
        "resolution": resolution,
        "channels": tuple(4 + 2 * k for k in reversed(range(blocks))),
        "z_dim": 5,
        "w_dim": 7,
        "mapping_layers": 3,
    }
    return GanConfig(**(fields | changes))


def seeded_gan(config: GanConfig) -> StyleGAN2:
    """A generator whose every parameter, noise and mean code counts."""
    rng = rng_for(0, "published", config.resolution)
    gan = StyleGAN2(config, rng)
    for name, tensor in gan.state_dict().items():
        if name.endswith(("bias", "noise_strength", "w_avg")) or ".biases." in name:
            tensor += torch.randn(tensor.shape, generator=rng) * 0.3
    return gan.eval().requires_grad_(False)


def nvidia_names(gan: StyleGAN2) -> dict[str, Tensor]:
    """The state dict of NVIDIA's generator with the same weights."""
    own = gan.state_dict()
    state: dict[str, Tensor] = {"mapping.w_avg": own["mapping.w_avg"]}
    for i in range(gan.config.mapping_layers):
        state[f"mapping.fc{i}.weight"] = own[f"mapping.weights.{i}"]
        state[f"mapping.fc{i}.bias"] = own[f"mapping.biases.{i}"]
    if gan.num_classes:
        state["mapping.embed.weight"] = own["mapping.embed.weight"]
        state["mapping.embed.bias"] = own["mapping.embed.bias"]
    state["synthesis.b4.const"] = own["const"]
    for i in range(len(gan.convs)):
        side, number = 4 * 2 ** ((i + 1) // 2), 1 - i % 2
        target = f"synthesis.b{side}.conv{number}"
        for name in ("weight", "bias", "affine.weight", "affine.bias"):
            state[f"{target}.{name}"] = own[f"convs.{i}.{name}"]
        state[f"{target}.noise_strength"] = own[f"convs.{i}.noise_strength"]
        state[f"{target}.noise_const"] = own[f"convs.{i}.noise"]
        state[f"{target}.resample_filter"] = FIR
    for k in range(len(gan.rgbs)):
        target = f"synthesis.b{4 * 2**k}"
        state[f"{target}.resample_filter"] = FIR
        for name in ("weight", "bias", "affine.weight", "affine.bias"):
            state[f"{target}.torgb.{name}"] = own[f"rgbs.{k}.{name}"]
    return state


def rosinality_names(gan: StyleGAN2) -> dict[str, Tensor]:
    """The state dict of rosinality's generator with the same weights."""
    own = gan.state_dict()
    state: dict[str, Tensor] = {"input.input": own["const"][None]}
    for i in range(gan.config.mapping_layers):
        state[f"style.{i + 1}.weight"] = own[f"mapping.weights.{i}"]
        state[f"style.{i + 1}.bias"] = own[f"mapping.biases.{i}"]
    for i, conv in enumerate(gan.convs):
        assert isinstance(conv, StyledConv)
        target = f"convs.{i - 1}" if i else "conv1"
        state[f"{target}.conv.weight"] = own[f"convs.{i}.weight"][None]
        state[f"{target}.conv.modulation.weight"] = own[f"convs.{i}.affine.weight"]
        state[f"{target}.conv.modulation.bias"] = own[f"convs.{i}.affine.bias"]
        state[f"{target}.noise.weight"] = own[f"convs.{i}.noise_strength"][None]
        state[f"{target}.activate.bias"] = own[f"convs.{i}.bias"]
        state[f"noises.noise_{i}"] = own[f"convs.{i}.noise"][None, None]
        if conv.up:
            state[f"{target}.conv.blur.kernel"] = FIR * 4
    for k in range(len(gan.rgbs)):
        target = f"to_rgbs.{k - 1}" if k else "to_rgb1"
        state[f"{target}.conv.weight"] = own[f"rgbs.{k}.weight"][None]
        state[f"{target}.conv.modulation.weight"] = own[f"rgbs.{k}.affine.weight"]
        state[f"{target}.conv.modulation.bias"] = own[f"rgbs.{k}.affine.bias"]
        state[f"{target}.bias"] = own[f"rgbs.{k}.bias"].view(1, -1, 1, 1)
        if k:
            state[f"{target}.upsample.kernel"] = FIR * 4
    return state


class EasyDict(dict[str, Any]):
    """Plays `dnnlib.util.EasyDict`."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def _reconstruct_persistent_obj(meta: object) -> None:
    """Plays the function of the same name in `torch_utils.persistence`."""
    raise AssertionError(f"never called: {meta}")


class Persistent:
    """Plays an object of a class that `torch_utils.persistence` decorates.

    Args:
        class_name: Name of the class in its module.
        state: What the object holds.
        source: Source code of that module.
    """

    def __init__(
        self, class_name: str, state: Mapping[str, Any], source: str = SOURCE
    ) -> None:
        self.class_name, self.state, self.source = class_name, dict(state), source

    def __reduce__(self) -> tuple[Any, ...]:
        meta = {
            "type": "class",
            "version": 6,
            "module_src": self.source,
            "class_name": self.class_name,
            "state": self.state,
        }
        return _reconstruct_persistent_obj, (meta,), None


@contextlib.contextmanager
def nvidia_packages() -> Generator[None]:
    """Lets pickles name what is in NVIDIA's packages."""
    persistence = types.ModuleType("torch_utils.persistence")
    util = types.ModuleType("dnnlib.util")
    setattr(persistence, "_reconstruct_persistent_obj", _reconstruct_persistent_obj)  # noqa: B010
    setattr(util, "EasyDict", EasyDict)  # noqa: B010
    modules = {
        "torch_utils": types.ModuleType("torch_utils"),
        "torch_utils.persistence": persistence,
        "dnnlib": types.ModuleType("dnnlib"),
        "dnnlib.util": util,
    }
    with (
        mock.patch.dict(sys.modules, modules),
        mock.patch.object(
            _reconstruct_persistent_obj, "__module__", "torch_utils.persistence"
        ),
        mock.patch.object(EasyDict, "__module__", "dnnlib.util"),
    ):
        yield


def persistent(
    state: Mapping[str, Tensor],
    class_name: str = "Generator",
    attributes: Mapping[str, Any] | None = None,
    layer_attributes: Mapping[str, Any] | None = None,
) -> Persistent:
    """A module of persistent modules with a state dict.

    Args:
        state: Its state dict.
        class_name: Class of the outermost module.
        attributes: Further attributes of it, such as `_init_kwargs`.
        layer_attributes: Further attributes of the convolutions.
    """
    fields = dict(nn.Module().__dict__)
    parameters: OrderedDict[str, Any] = OrderedDict(bias=None)
    buffers: OrderedDict[str, Any] = OrderedDict()
    children: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        child, dot, rest = name.partition(".")
        if dot:
            children.setdefault(child, {})[rest] = tensor
        elif name in ("w_avg", "noise_const", "resample_filter"):
            buffers[name] = tensor.clone()
        else:
            parameters[name] = nn.Parameter(tensor.clone())
    modules: OrderedDict[str, Any] = OrderedDict()
    for name, entries in children.items():
        layer = name in ("conv0", "conv1", "torgb")
        modules[name] = persistent(
            entries,
            name,
            {
                "weight_gain": np.float64(0.125),
                "activation": "lrelu",
                **((layer_attributes or {}) if layer else {}),
            },
            layer_attributes,
        )
    fields |= {"_parameters": parameters, "_buffers": buffers, "_modules": modules}
    return Persistent(class_name, fields | dict(attributes or {}))


def pickled(content: object, protocol: int = 4) -> bytes:
    """A pickle that names NVIDIA's packages."""
    stream = io.BytesIO()
    with nvidia_packages():
        pickle.dump(content, stream, protocol=protocol)
    return stream.getvalue()


def snapshot(generator: object) -> dict[str, object]:
    """What the training loops of NVIDIA save."""
    discriminator = persistent({"b4.fc.weight": torch.ones(2, 2)}, "Discriminator")
    return {
        "training_set_kwargs": EasyDict(class_name="ImageFolderDataset", xflip=True),
        "G": None,
        "D": discriminator,
        "G_ema": generator,
        "augment_pipe": persistent(
            {"Hz_geom": torch.ones(4)},
            "AugmentPipe",
            {
                "p": torch.zeros([]),
                "device": torch.device("cpu"),
                "shape": torch.Size([1, 2]),
                "dtype": torch.float32,
                "names": {"xflip", "rotate90"},
                "weights": (np.float32(0.5), np.int64(3), np.bool_(True)),
                "raw": b"\x00\xff",
                "nothing": b"",
            },
        ),
    }


def write_snapshot(path: Path, generator: object, protocol: int = 4) -> Path:
    """Writes a file as the training loops of NVIDIA do."""
    path.write_bytes(pickled(snapshot(generator), protocol))
    return path
