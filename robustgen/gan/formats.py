"""Published StyleGAN2 state dicts, renamed entry by entry to ours.

Two layouts: rosinality/stylegan2-pytorch (`g_ema`) and NVIDIA's
`networks_stylegan2` (stylegan2-ada-pytorch, stylegan3). Both store up-sampling kernels
in the same orientation, so no kernel is flipped.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from robustgen.errors import RequestError
from robustgen.gan.stylegan2 import GanConfig

NVIDIA_CONV_CLAMP = 256.0
"""Default of stylegan3's generator; a bare state dict does not say otherwise."""

_FIR = torch.tensor([1.0, 3.0, 3.0, 1.0]).outer(torch.tensor([1.0, 3.0, 3.0, 1.0])) / 64

State = Mapping[str, Tensor]


def is_rosinality(state: State) -> bool:
    """Whether the keys are those of rosinality's generator."""
    return "input.input" in state and "conv1.conv.weight" in state


def is_nvidia(state: State) -> bool:
    """Whether the keys are those of NVIDIA's generator."""
    return "synthesis.b4.const" in state


def _take(state: State, used: set[str], key: str, axes: int, lead: int = 0) -> Tensor:
    """An entry as float32, without `lead` leading axes of length 1."""
    if key not in state:
        raise RequestError(f"the entry '{key}' is missing.")
    value = state[key]
    if value.ndim != axes or set(value.shape[:lead]) - {1}:
        leading = f", the first {lead} of length 1" if lead else ""
        raise RequestError(
            f"'{key}' has shape {list(value.shape)}, expected {axes} axes{leading}."
        )
    used.add(key)
    return value.detach().float().reshape(value.shape[lead:])


def _check_rest(state: State, used: set[str], ignored: str) -> None:
    rest = sorted(k for k in state if k not in used and not re.search(ignored, k))
    if rest:
        raise RequestError(
            f"{len(rest)} entries do not belong to a skip-architecture StyleGAN2, "
            f"the first is '{rest[0]}'."
        )


def _check_fir(state: State, pattern: str, gain: float) -> None:
    for key, kernel in state.items():
        if not re.search(pattern, key):
            continue
        if kernel.shape != _FIR.shape or not kernel.float().allclose(_FIR * gain):
            raise RequestError(f"'{key}' is not the [1, 3, 3, 1] up-sampling filter.")


def _check_architecture(state: State, blocks: int) -> None:
    """Makes sure that every block of an NVIDIA generator has an RGB layer."""
    skips = [k for k in state if re.fullmatch(r"synthesis\.b\d+\.skip\.weight", k)]
    if skips:
        found = f"'resnet' (it has '{skips[0]}')"
    elif blocks > 1 and not any(".b4.torgb." in key for key in state):
        found = "'orig' (it has no 'synthesis.b4.torgb.weight')"
    else:
        return
    raise RequestError(
        f"a generator with architecture={found}; robustgen reads architecture='skip' "
        "only."
    )


def _count(state: State, pattern: str) -> int:
    return sum(bool(re.fullmatch(pattern, key)) for key in state)


def _rename_conv(
    out: dict[str, Tensor], source: Mapping[str, Tensor], target: str
) -> None:
    for name, value in source.items():
        out[f"{target}.{name}"] = value


def from_rosinality(
    state: State, latent_avg: Tensor | None
) -> tuple[GanConfig, dict[str, Tensor]]:
    """Our configuration and state of a `g_ema`; see `robustgen.gan.load.load_gan`.

    Args:
        state: The `g_ema` entry of the file, or a pSp decoder without its prefix.
        latent_avg: Mean style code, stored beside `g_ema`; zeros where None, which
            makes truncation pull toward the origin of `w`.

    Raises:
        RequestError: an entry is missing, superfluous or of another filter.
    """
    used: set[str] = set()
    blocks = 1 + _count(state, r"to_rgbs\.\d+\.bias")
    out: dict[str, Tensor] = {}
    mapping = max(_count(state, r"style\.\d+\.weight"), 1)
    for i in range(mapping):
        out[f"mapping.weights.{i}"] = _take(state, used, f"style.{i + 1}.weight", 2)
        out[f"mapping.biases.{i}"] = _take(state, used, f"style.{i + 1}.bias", 1)
    out["const"] = _take(state, used, "input.input", 4, lead=1)
    channels: list[int] = []
    for i in range(2 * blocks - 1):
        source = "conv1" if i == 0 else f"convs.{i - 1}"
        weight = _take(state, used, f"{source}.conv.weight", 5, lead=1)
        if i % 2 == 0:
            channels.append(weight.shape[0])
        parts = {
            "weight": weight,
            "affine.weight": _take(state, used, f"{source}.conv.modulation.weight", 2),
            "affine.bias": _take(state, used, f"{source}.conv.modulation.bias", 1),
            "noise_strength": _take(state, used, f"{source}.noise.weight", 1, lead=1),
            "bias": _take(state, used, f"{source}.activate.bias", 1),
            "noise": _take(state, used, f"noises.noise_{i}", 4, lead=2),
        }
        _rename_conv(out, parts, f"convs.{i}")
    for k in range(blocks):
        source = "to_rgb1" if k == 0 else f"to_rgbs.{k - 1}"
        parts = {
            "weight": _take(state, used, f"{source}.conv.weight", 5, lead=1),
            "affine.weight": _take(state, used, f"{source}.conv.modulation.weight", 2),
            "affine.bias": _take(state, used, f"{source}.conv.modulation.bias", 1),
            "bias": _take(state, used, f"{source}.bias", 4, lead=1).flatten(),
        }
        _rename_conv(out, parts, f"rgbs.{k}")
    _check_rest(state, used, r"(blur|upsample)\.kernel$")
    _check_fir(state, r"(blur|upsample)\.kernel$", 4.0)
    first = out["mapping.weights.0"]
    w_dim = first.shape[0]
    average = torch.zeros(w_dim) if latent_avg is None else latent_avg.detach().float()
    if average.numel() == 0 or average.shape[-1:] != (w_dim,):
        raise RequestError(
            f"'latent_avg' has shape {list(average.shape)}, expected [{w_dim}] or one "
            "such row for each layer."
        )
    out["mapping.w_avg"] = average.reshape(-1, w_dim)[0]
    config = GanConfig(
        resolution=4 * 2 ** (blocks - 1),
        channels=tuple(channels),
        z_dim=first.shape[1],
        w_dim=w_dim,
        mapping_layers=mapping,
        img_channels=out["rgbs.0.bias"].shape[0],
    )
    return config, out


def from_nvidia(
    state: State, conv_clamp: float | None = NVIDIA_CONV_CLAMP
) -> tuple[GanConfig, dict[str, Tensor]]:
    """Our configuration and state of an NVIDIA generator's state dict.

    Args:
        state: State of `G_ema`, with the prefixes `mapping.` and `synthesis.`.
        conv_clamp: Bound on activations, from the network's own arguments where they
            are known.

    Raises:
        RequestError: an entry is missing, superfluous or of another filter.
    """
    used: set[str] = set()
    blocks = max(_count(state, r"synthesis\.b\d+\.conv1\.weight"), 1)
    _check_architecture(state, blocks)
    out: dict[str, Tensor] = {}
    mapping = max(_count(state, r"mapping\.fc\d+\.weight"), 1)
    for i in range(mapping):
        out[f"mapping.weights.{i}"] = _take(state, used, f"mapping.fc{i}.weight", 2)
        out[f"mapping.biases.{i}"] = _take(state, used, f"mapping.fc{i}.bias", 1)
    classes = embedded = 0
    if "mapping.embed.weight" in state:
        out["mapping.embed.weight"] = _take(state, used, "mapping.embed.weight", 2)
        out["mapping.embed.bias"] = _take(state, used, "mapping.embed.bias", 1)
        embedded, classes = out["mapping.embed.weight"].shape
    out["const"] = _take(state, used, "synthesis.b4.const", 3)
    channels: list[int] = []
    for i in range(2 * blocks - 1):
        block = f"synthesis.b{4 * 2 ** ((i + 1) // 2)}"
        source = f"{block}.conv{1 if i % 2 == 0 else 0}"
        weight = _take(state, used, f"{source}.weight", 4)
        if i % 2 == 0:
            channels.append(weight.shape[0])
        parts = {
            "weight": weight,
            "affine.weight": _take(state, used, f"{source}.affine.weight", 2),
            "affine.bias": _take(state, used, f"{source}.affine.bias", 1),
            "noise_strength": _take(state, used, f"{source}.noise_strength", 0),
            "bias": _take(state, used, f"{source}.bias", 1),
            "noise": _take(state, used, f"{source}.noise_const", 2),
        }
        _rename_conv(out, parts, f"convs.{i}")
    for k in range(blocks):
        source = f"synthesis.b{4 * 2**k}.torgb"
        parts = {
            "weight": _take(state, used, f"{source}.weight", 4),
            "affine.weight": _take(state, used, f"{source}.affine.weight", 2),
            "affine.bias": _take(state, used, f"{source}.affine.bias", 1),
            "bias": _take(state, used, f"{source}.bias", 1),
        }
        _rename_conv(out, parts, f"rgbs.{k}")
    out["mapping.w_avg"] = _take(state, used, "mapping.w_avg", 1)
    _check_rest(state, used, r"resample_filter$")
    _check_fir(state, r"resample_filter$", 1.0)
    w_dim = out["mapping.w_avg"].shape[0]
    config = GanConfig(
        resolution=4 * 2 ** (blocks - 1),
        channels=tuple(channels),
        z_dim=out["mapping.weights.0"].shape[1] - embedded,
        w_dim=w_dim,
        mapping_layers=mapping,
        num_classes=classes,
        img_channels=out["rgbs.0.bias"].shape[0],
        conv_clamp=conv_clamp,
    )
    return config, out
