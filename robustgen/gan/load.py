"""Generators and encoders from files, told apart by their content."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from robustgen.checkpoints import (
    Checkpoint,
    container_of,
    entries_below,
    load_weights,
    read_checkpoint,
    save_weights,
    tensor_entries,
)
from robustgen.errors import RequestError
from robustgen.gan.encoder import EncoderConfig, SplitEncoder
from robustgen.gan.encoder_psp import is_psp, psp_from_content
from robustgen.gan.encoder_rgbm import encoder_rgbm_from_content, is_encoder_rgbm
from robustgen.gan.formats import (
    NVIDIA_CONV_CLAMP,
    from_nvidia,
    from_rosinality,
    is_nvidia,
    is_rosinality,
)
from robustgen.gan.pickles import read_network_pickle
from robustgen.gan.stylegan2 import GanConfig, StyleGAN2
from robustgen.sources import find_weights

_GAN_FORMAT = "robustgen.stylegan2.1"
_ENCODER_FORMAT = "robustgen.split_encoder.1"


def save_gan(gan: StyleGAN2, path: Path, dtype: torch.dtype | None = None) -> None:
    """Writes weights and sizes as one safetensors file, whole or not at all.

    Args:
        gan: The generator.
        path: File to write.
        dtype: Type of the numbers in the file; the generator's where None.
    """
    config = json.dumps(asdict(gan.config))
    save_weights(gan, path, kind=_GAN_FORMAT, config=config, dtype=dtype)


def save_encoder(
    encoder: SplitEncoder, path: Path, dtype: torch.dtype | None = None
) -> None:
    """Writes weights and sizes as one safetensors file, whole or not at all.

    Args:
        encoder: The encoder.
        path: File to write.
        dtype: Type of the numbers in the file; the encoder's where None.
    """
    config = encoder.config.to_json()
    save_weights(encoder, path, kind=_ENCODER_FORMAT, config=config, dtype=dtype)


def load_gan(path_or_name: str | Path) -> StyleGAN2:
    """A StyleGAN2 generator from a file, or one that ships with robustgen.

    Read by content:

    * rosinality/stylegan2-pytorch: a torch file with `g_ema`, with or without
      `latent_avg`;
    * a network pickle of stylegan2-ada-pytorch or stylegan3's StyleGAN2 (`.pkl`),
      conditional or not, of which nothing is executed;
    * a state dict of NVIDIA's `Generator`, alone or under `G_ema`;
    * pSp and e4e: the generator under `decoder.` of such a checkpoint;
    * our safetensors.

    Noise is always the stored buffers and numbers are always 32-bit, so the same code
    gives the same image on every device.

    Args:
        path_or_name: A file, or the name of an asset such as `faces`.

    Returns:
        The generator on the CPU, in eval mode, its weights frozen.

    Raises:
        RequestError: the name is unknown, or the file is missing, damaged, names code
            that would have to be run, or holds something else.
    """
    path = find_weights(path_or_name, "generator.safetensors")
    if container_of(path) == "pickle":
        network = read_network_pickle(path)
        content, metadata, conv_clamp = network.state, {}, network.conv_clamp
    else:
        checkpoint = read_checkpoint(path)
        content, metadata = checkpoint.content, checkpoint.metadata
        conv_clamp = NVIDIA_CONV_CLAMP
    try:
        if _GAN_FORMAT in metadata:
            config = _gan_config(metadata[_GAN_FORMAT])
            state: Mapping[str, Tensor] = tensor_entries(content)
        else:
            config, state = _published(content, conv_clamp)
    except RequestError as error:
        raise RequestError(f"{path}: {error}") from error
    with torch.device("meta"):
        gan = StyleGAN2(config, torch.Generator("cpu"))
    load_weights(gan, state, path)
    return gan.eval().requires_grad_(False)


def _published(
    content: object, conv_clamp: float | None
) -> tuple[GanConfig, Mapping[str, Tensor]]:
    """Our configuration and state of what a published file holds."""
    decoder = entries_below(_inner(content, "state_dict"), "decoder.")
    for state in (_inner(content, "g_ema"), decoder):
        if is_rosinality(state):
            average = (
                content.get("latent_avg") if isinstance(content, Mapping) else None
            )
            return from_rosinality(
                state, average if isinstance(average, Tensor) else None
            )
    state = _inner(content, "G_ema", "G")
    if is_nvidia(state):
        return from_nvidia(state, conv_clamp)
    if any(key.startswith("synthesis.input.") for key in state):
        raise RequestError("a StyleGAN3 generator; robustgen reads StyleGAN2 only.")
    raise RequestError(
        f"no StyleGAN2 generator that robustgen knows (its tensors begin with "
        f"{_first_names(state)})."
    )


def load_encoder(path_or_name: str | Path) -> nn.Module:
    """An encoder from a file, or one that ships with robustgen.

    Read by content:

    * the released RGB + mask encoders, a torch file with `state_dict`;
    * pSp and e4e: the encoder under `encoder.` of such a checkpoint, with the mean code
      `latent_avg` that it starts from; told apart by `opts['encoder_type']`, since the
      two have the same weights and use them differently;
    * our safetensors.

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
    if _ENCODER_FORMAT in checkpoint.metadata:
        return _split_encoder(checkpoint)
    if is_psp(checkpoint.content):
        return psp_from_content(checkpoint.content, path)
    state = _inner(checkpoint.content, "state_dict")
    if is_encoder_rgbm(state):
        return encoder_rgbm_from_content(state, path)
    raise RequestError(
        f"{path}: no encoder that robustgen knows (its tensors begin with "
        f"{_first_names(state)})."
    )


def _split_encoder(checkpoint: Checkpoint) -> SplitEncoder:
    try:
        # On the meta device no weights are drawn: no global random state is read.
        with torch.device("meta"):
            encoder = SplitEncoder(
                EncoderConfig.from_json(checkpoint.metadata[_ENCODER_FORMAT])
            )
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise RequestError(
            f"{checkpoint.path}: the configuration in the header is damaged."
        ) from error
    load_weights(encoder, tensor_entries(checkpoint.content), checkpoint.path)
    return encoder.eval().requires_grad_(False)


def _inner(content: object, *keys: str) -> dict[str, Tensor]:
    """The tensors under the first key that there is, else those of the whole."""
    if isinstance(content, Mapping):
        for key in keys:
            if isinstance(content.get(key), Mapping):
                return tensor_entries(content[key])
    return tensor_entries(content)


def _first_names(state: Mapping[str, Tensor]) -> str:
    return ", ".join(f"'{key}'" for key in list(state)[:3]) or "none"


def _gan_config(text: str) -> GanConfig:
    try:
        fields = json.loads(text)
        fields["channels"] = tuple(fields["channels"])
        return GanConfig(**fields)
    except (KeyError, TypeError, ValueError) as error:
        raise RequestError("the configuration in the header is damaged.") from error
