"""Generators and encoders from files, told apart by their content."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from robustgen.assets import find_weights
from robustgen.checkpoints import (
    Checkpoint,
    load_weights,
    read_checkpoint,
    save_weights,
    tensor_entries,
)
from robustgen.errors import RequestError
from robustgen.gan.encoder import EncoderConfig, SplitEncoder
from robustgen.gan.encoder_rgbm import encoder_rgbm_from_content, is_encoder_rgbm
from robustgen.gan.formats import (
    from_nvidia,
    from_rosinality,
    is_nvidia,
    is_rosinality,
)
from robustgen.gan.stylegan2 import GanConfig, StyleGAN2

_GAN_FORMAT = "robustgen.stylegan2.1"
_ENCODER_FORMAT = "robustgen.split_encoder.1"


def save_gan(gan: StyleGAN2, path: Path) -> None:
    """Writes weights and sizes as one safetensors file, whole or not at all."""
    save_weights(gan, path, kind=_GAN_FORMAT, config=json.dumps(asdict(gan.config)))


def save_encoder(encoder: SplitEncoder, path: Path) -> None:
    """Writes weights and sizes as one safetensors file, whole or not at all."""
    save_weights(encoder, path, kind=_ENCODER_FORMAT, config=encoder.config.to_json())


def load_gan(path_or_name: str | Path) -> StyleGAN2:
    """A StyleGAN2 generator from a file, or one that ships with robustgen.

    Read by content: a rosinality checkpoint (`g_ema`, with or without `latent_avg`), a
    state dict of NVIDIA's `networks_stylegan2.Generator`, or our safetensors. Noise is
    always the stored buffers, so the same code gives the same image.

    Args:
        path_or_name: A file, or the name of an asset such as `faces`.

    Returns:
        The generator on the CPU, in eval mode, its weights frozen.

    Raises:
        RequestError: the name is unknown, or the file is missing, damaged, or holds
            something else.
    """
    path = find_weights(path_or_name, "generator.safetensors")
    checkpoint = read_checkpoint(path)
    content = checkpoint.content
    try:
        if _GAN_FORMAT in checkpoint.metadata:
            config = _gan_config(checkpoint)
            state = tensor_entries(content)
        elif is_rosinality(inner := _inner(content, "g_ema")):
            average = content.get("latent_avg")
            config, state = from_rosinality(
                inner, average if isinstance(average, Tensor) else None
            )
        elif is_nvidia(inner := _inner(content, "G_ema")):
            config, state = from_nvidia(inner)
        else:
            shown = ", ".join(f"'{k}'" for k in list(tensor_entries(content))[:3])
            raise RequestError(
                "no StyleGAN2 generator that robustgen knows (its tensors begin with "
                f"{shown or 'none'})"
            )
    except RequestError as error:
        raise RequestError(f"{path}: {error}") from error
    with torch.device("meta"):
        gan = StyleGAN2(config, torch.Generator("cpu"))
    load_weights(gan, state, path)
    return gan.eval().requires_grad_(False)


def load_encoder(path_or_name: str | Path) -> nn.Module:
    """An encoder from a file, or one that ships with robustgen.

    Read by content: our safetensors, or the released RGB + mask encoders (a torch file
    with `state_dict`).

    Args:
        path_or_name: A file, or the name of an asset such as `faces`.

    Returns:
        Module `(images in [0, 1], mask=None) -> w_plus [N, L, D]`, on the CPU, in eval
        mode, its weights frozen.

    Raises:
        RequestError: the name is unknown, or the file is missing, damaged, or holds
            something else.
    """
    path = find_weights(path_or_name, "encoder.safetensors")
    checkpoint = read_checkpoint(path)
    state = _inner(checkpoint.content, "state_dict")
    if _ENCODER_FORMAT in checkpoint.metadata:
        try:
            # On the meta device no weights are drawn: no global random state is read.
            with torch.device("meta"):
                encoder = SplitEncoder(
                    EncoderConfig.from_json(checkpoint.metadata[_ENCODER_FORMAT])
                )
        except (KeyError, TypeError, ValueError) as error:
            raise RequestError(
                f"{path}: the configuration in the header is damaged."
            ) from error
        load_weights(encoder, state, path)
        return encoder.eval().requires_grad_(False)
    if is_encoder_rgbm(state):
        return encoder_rgbm_from_content(state, path)
    shown = ", ".join(f"'{key}'" for key in list(state)[:3])
    raise RequestError(
        f"{path}: no encoder that robustgen knows (its tensors begin with "
        f"{shown or 'none'})."
    )


def _inner(content: object, key: str) -> dict[str, Tensor]:
    """The tensors under `key` where there is such an entry, else those of the whole."""
    if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
        content = content[key]
    return tensor_entries(content)


def _gan_config(checkpoint: Checkpoint) -> GanConfig:
    try:
        fields = json.loads(checkpoint.metadata[_GAN_FORMAT])
        fields["channels"] = tuple(fields["channels"])
        return GanConfig(**fields)
    except (KeyError, TypeError, ValueError) as error:
        raise RequestError("the configuration in the header is damaged") from error
