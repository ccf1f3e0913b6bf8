"""One generator in every layout that is read gives the same images."""

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from published import (
    nvidia_names,
    persistent,
    rosinality_names,
    seeded_gan,
    small_config,
    write_snapshot,
)
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from robustgen.errors import RequestError
from robustgen.gan.load import load_gan, save_gan
from robustgen.gan.stylegan2 import StyleGAN2
from robustgen.rngs import rng_for


def contiguous(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in state.items()}


def g_ema(gan: StyleGAN2, path: Path) -> None:
    torch.save(
        {
            "g": rosinality_names(gan),
            "g_ema": rosinality_names(gan),
            "latent_avg": gan.mapping.w_avg,
            "args": Namespace(size=gan.resolution),
            "ada_aug_p": 0.5,
        },
        path,
    )


def decoder(gan: StyleGAN2, path: Path) -> None:
    names = rosinality_names(gan)
    state = {f"decoder.{name}": tensor for name, tensor in names.items()}
    state["encoder.input_layer.0.weight"] = torch.zeros(64, 3, 3, 3)
    average = gan.mapping.w_avg.repeat(gan.num_layers, 1)
    torch.save({"state_dict": state, "latent_avg": average, "opts": {}}, path)


def network_pickle(gan: StyleGAN2, path: Path) -> None:
    arguments = {"_init_kwargs": {"conv_clamp": gan.config.conv_clamp}}
    write_snapshot(path, persistent(nvidia_names(gan), "Generator", arguments))


LAYOUTS: dict[str, Callable[[StyleGAN2, Path], Any]] = {
    "rosinality": g_ema,
    "rosinality, old torch": lambda gan, path: torch.save(
        {"g_ema": rosinality_names(gan), "latent_avg": gan.mapping.w_avg[None]},
        path,
        _use_new_zipfile_serialization=False,
    ),
    "pSp": decoder,
    "pickle": network_pickle,
    "NVIDIA": lambda gan, path: torch.save(nvidia_names(gan), path),
    "NVIDIA, G_ema": lambda gan, path: torch.save({"G_ema": nvidia_names(gan)}, path),
    "NVIDIA, safetensors": lambda gan, path: save_file(
        contiguous(nvidia_names(gan)), path
    ),
    "ours": save_gan,
}


@pytest.mark.parametrize("resolution", [8, 16, 32, 64])
def test_all_layouts_give_the_same_images(tmp_path: Path, resolution: int):
    gan = seeded_gan(small_config(resolution))
    z = torch.randn(3, gan.z_dim, generator=rng_for(0, "z"))
    w = gan.map(z, truncation=0.7)
    images = gan.synthesize(w[:, None].expand(-1, gan.num_layers, -1))
    assert images.std() > 0.1
    for layout, write in LAYOUTS.items():
        write(gan, tmp_path / "generator")
        again = load_gan(tmp_path / "generator")
        assert again.resolution == resolution, layout
        assert torch.equal(again.map(z, truncation=0.7), w), layout
        w_plus = w[:, None].expand(-1, again.num_layers, -1)
        torch.testing.assert_close(
            again.synthesize(w_plus),
            images,
            rtol=0,
            atol=1e-4 * float(images.abs().max()),
        )


@pytest.mark.parametrize("layout", ["NVIDIA", "pickle", "ours"])
def test_a_conditional_generator_keeps_its_classes(tmp_path: Path, layout: str):
    gan = seeded_gan(small_config(8, num_classes=4, img_channels=1))
    LAYOUTS[layout](gan, tmp_path / "generator")
    again = load_gan(tmp_path / "generator")
    assert (again.num_classes, again.img_channels) == (4, 1)
    z = torch.randn(4, gan.z_dim, generator=rng_for(0, "z"))
    assert torch.equal(again.map(z, torch.arange(4)), gan.map(z, torch.arange(4)))


@pytest.mark.parametrize("layout", ["rosinality", "pSp", "NVIDIA", "pickle", "ours"])
def test_a_file_that_is_cut_off_is_named(tmp_path: Path, layout: str):
    path = tmp_path / "generator"
    LAYOUTS[layout](seeded_gan(small_config(8)), path)
    whole = path.read_bytes()
    for share in (0.02, 0.4, 0.9, 0.999):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(RequestError, match="cut off") as caught:
            load_gan(path)
        assert str(caught.value).startswith(f"{path}: ")


def changed(names: dict[str, Tensor], **entries: Tensor | None) -> dict[str, Tensor]:
    """A state dict with other entries, or without where None."""
    merged = {**names, **{k.replace("__", "."): v for k, v in entries.items()}}
    return {k: v for k, v in merged.items() if v is not None}


ROSINALITY = rosinality_names(seeded_gan(small_config(8)))
NVIDIA = nvidia_names(seeded_gan(small_config(8)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"g_ema": changed(ROSINALITY, noises__noise_1=None)},
            "the entry 'noises.noise_1' is missing",
        ),
        (
            {"g_ema": changed(ROSINALITY, style__1__weight=None)},
            "the entry 'style.1.weight' is missing",
        ),
        (
            {"g_ema": changed(ROSINALITY, input__input=torch.zeros(()))},
            r"'input.input' has shape \[\], expected 4 axes, the first 1 of length 1",
        ),
        (
            {"g_ema": changed(ROSINALITY, noises__noise_0=torch.zeros(1, 2, 4, 4))},
            r"'noises.noise_0' has shape \[1, 2, 4, 4\], expected 4 axes, the first 2",
        ),
        (
            {"g_ema": changed(ROSINALITY, convs__0__conv__blur__kernel=torch.ones(3))},
            "'convs.0.conv.blur.kernel' is not the .* filter",
        ),
        (
            {"g_ema": ROSINALITY, "latent_avg": torch.zeros(5)},
            r"'latent_avg' has shape \[5\], expected \[7\]",
        ),
        (changed(NVIDIA, mapping__w_avg=None), "the entry 'mapping.w_avg' is missing"),
        (
            {k: v for k, v in NVIDIA.items() if not k.startswith("mapping.fc")},
            "the entry 'mapping.fc0.weight' is missing",
        ),
        (
            changed(NVIDIA, synthesis__b8__conv0__bias=torch.zeros(9)),
            r"'convs.1.bias' has shape \[9\], expected \[4\]",
        ),
        (
            changed(NVIDIA, synthesis__b4__const=torch.zeros(6, 4)),
            r"'synthesis.b4.const' has shape \[6, 4\], expected 3 axes",
        ),
        (
            changed(
                NVIDIA,
                mapping__embed__weight=torch.zeros(5, 2),
                mapping__embed__bias=torch.zeros(5),
            ),
            "A size of the generator is below 1",
        ),
        (
            {"synthesis.b4.const": torch.zeros(6, 4, 4)},
            "the entry 'mapping.fc0.weight'",
        ),
        ([1, 2], "its tensors begin with none"),
        ({"state_dict": {"fc.weight": torch.zeros(1)}}, "begin with 'state_dict'|none"),
    ],
)
def test_wrong_entries_are_named(tmp_path: Path, content: object, message: str):
    torch.save(content, tmp_path / "generator.pt")
    with pytest.raises(RequestError, match=message) as caught:
        load_gan(tmp_path / "generator.pt")
    assert str(caught.value).startswith(f"{tmp_path / 'generator.pt'}: ")


@pytest.mark.parametrize(
    "change", [{"z_dim": "5"}, {"z_dim": -5}, {"channels": 3}, {"depth": 2}]
)
def test_a_damaged_header_is_named(tmp_path: Path, change: dict[str, object]):
    path = tmp_path / "gan.safetensors"
    save_gan(seeded_gan(small_config(8)), path)
    with safe_open(path, framework="pt") as stream:
        ((kind, text),) = stream.metadata().items()
    config = json.dumps(json.loads(text) | change)
    save_file({"const": torch.zeros(1)}, path, metadata={kind: config})
    with pytest.raises(RequestError, match=r"header is damaged|is below 1"):
        load_gan(path)
