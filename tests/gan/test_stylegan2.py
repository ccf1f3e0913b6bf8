"""The generator against the reference implementations and against itself."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden import golden_state
from reference import reference_file
from safetensors.torch import save_file
from torch import Tensor

from robustgen.errors import RequestError
from robustgen.gan.load import load_gan, save_gan
from robustgen.gan.stylegan2 import (
    GanConfig,
    StyledConv,
    StyleGAN2,
    upsample_image,
    upsample_smooth,
)
from robustgen.rngs import rng_for

SMALL = GanConfig(resolution=16, channels=(8, 6, 4), z_dim=5, w_dim=7, mapping_layers=2)


def convs_of(gan: StyleGAN2) -> list[StyledConv]:
    return [layer for _, layer in gan.styled_layers() if isinstance(layer, StyledConv)]


def small_gan(config: GanConfig = SMALL) -> StyleGAN2:
    gan = StyleGAN2(config, rng_for(0, "test gan"))
    for layer in convs_of(gan):
        layer.noise_strength.data.fill_(0.3)
    return gan.eval().requires_grad_(False)


def close(value: Tensor, expected: np.ndarray) -> None:
    target = torch.from_numpy(expected)
    scale = float(target.abs().max())
    torch.testing.assert_close(value, target, rtol=0, atol=1e-4 * scale)


def test_rosinality_golden(tmp_path: Path):
    expected = np.load(reference_file("stylegan2_rosinality_32_expected.npz"))
    path = tmp_path / "generator.pt"
    average = torch.linspace(-1, 1, 512)
    torch.save(
        {"g_ema": golden_state("stylegan2_rosinality_32"), "latent_avg": average}, path
    )
    gan = load_gan(path)
    assert (gan.resolution, gan.num_layers, gan.w_dim) == (32, 8, 512)
    z = torch.from_numpy(expected["z"])
    close(gan.map(z), expected["w"])
    close(gan.map(z, truncation=0.0), average.expand(len(z), -1).numpy())
    raw = gan.synthesize(torch.from_numpy(expected["wplus"])) * 2 - 1
    close(raw, expected["image"])


@pytest.mark.parametrize("container", ["torch", "safetensors", "G_ema"])
def test_nvidia_golden(tmp_path: Path, container: str):
    expected = np.load(reference_file("stylegan2_nvidia_32_expected.npz"))
    state = golden_state("stylegan2_nvidia_32")
    path = tmp_path / "generator.bin"
    if container == "safetensors":
        save_file({k: v.contiguous() for k, v in state.items()}, path)
    else:
        torch.save(state if container == "torch" else {"G_ema": state}, path)
    gan = load_gan(path)
    assert (gan.resolution, gan.num_layers, gan.w_dim) == (32, 8, 64)
    z = torch.from_numpy(expected["z"])
    close(gan.map(z), expected["ws"][:, 0])
    close(gan.map(z, truncation=0.7), expected["ws_psi07"][:, 0])
    raw = gan.synthesize(torch.from_numpy(expected["wplus"])) * 2 - 1
    close(raw, expected["image"])


@pytest.mark.parametrize("resolution", [8, 16, 64, 128])
@pytest.mark.parametrize("classes", [0, 3])
def test_every_size_round_trips(tmp_path: Path, resolution: int, classes: int):
    blocks = {8: 2, 16: 3, 64: 5, 128: 6}[resolution]
    gan = small_gan(
        GanConfig(
            resolution=resolution,
            channels=(6,) * blocks,
            z_dim=4,
            w_dim=5,
            mapping_layers=3,
            num_classes=classes,
            img_channels=1,
        )
    )
    save_gan(gan, tmp_path / "gan.safetensors")
    again = load_gan(tmp_path / "gan.safetensors")
    z = torch.randn(2, 4, generator=rng_for(1, "z"))
    labels = torch.tensor([2, 0]) if classes else None
    w = again.map(z, labels)
    assert torch.equal(w, gan.map(z, labels))
    w_plus = w[:, None].expand(-1, gan.num_layers, -1)
    images = again.synthesize(w_plus)
    assert images.shape == (2, 1, resolution, resolution)
    assert torch.equal(images, gan.synthesize(w_plus))
    if classes:
        assert not torch.equal(w, gan.map(z, torch.tensor([1, 1])))


def test_noise_is_fixed_and_matters():
    gan = small_gan()
    w_plus = torch.randn(2, gan.num_layers, gan.w_dim, generator=rng_for(0, "w"))
    first = gan.synthesize(w_plus)
    assert torch.equal(first, gan.synthesize(w_plus))
    for layer in convs_of(gan):
        layer.noise_strength.data.zero_()
    assert (gan.synthesize(w_plus) - first).abs().max() > 0.01


def test_modulation_equals_modulated_weights():
    """The shared convolution is the paper's: weights modulated, then demodulated."""
    gan = small_gan()
    layer = convs_of(gan)[2]
    x = torch.randn(3, 6, 8, 8, generator=rng_for(0, "x"))
    w = torch.randn(3, gan.w_dim, generator=rng_for(0, "w"))
    style = layer.affine(w)
    rows: list[Tensor] = []
    for i in range(3):
        weight = layer.weight * layer.gain * style[i].view(1, -1, 1, 1)
        norm = weight.square().sum(dim=(1, 2, 3), keepdim=True)
        rows.append(
            F.conv2d(x[i : i + 1], weight * torch.rsqrt(norm + 1e-8), padding=1)
        )
    expected = torch.cat(rows) + layer.noise * layer.noise_strength
    expected = F.leaky_relu(expected + layer.bias.view(1, -1, 1, 1), 0.2) * 2**0.5
    torch.testing.assert_close(layer(x, w), expected, atol=1e-5, rtol=1e-5)


def test_a_sample_does_not_depend_on_its_batch():
    gan = small_gan()
    w_plus = torch.randn(9, gan.num_layers, gan.w_dim, generator=rng_for(0, "w"))
    together = gan.synthesize(w_plus)
    alone = torch.cat([gan.synthesize(row[None]) for row in w_plus])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_up_sampling_is_the_fir_of_the_reference():
    kernel = torch.tensor([1.0, 3.0, 3.0, 1.0])
    kernel = kernel.outer(kernel)
    image = torch.randn(2, 3, 5, 5, generator=rng_for(0, "image"))
    spread = torch.zeros(2, 3, 10, 10)
    spread[:, :, ::2, ::2] = image
    padded = F.pad(spread, (2, 1, 2, 1))
    weight = (kernel / 64 * 4).expand(3, 1, 4, 4)
    expected = F.conv2d(padded, weight, groups=3)
    torch.testing.assert_close(upsample_image(image), expected)
    torch.testing.assert_close(upsample_smooth(padded), expected)


def test_a_constant_image_stays_constant_inside():
    doubled = upsample_image(torch.full((1, 1, 6, 6), 0.7))
    torch.testing.assert_close(doubled[..., 2:-2, 2:-2], torch.full((1, 1, 8, 8), 0.7))


def test_activations_are_bounded_where_asked():
    bounded = GanConfig(
        resolution=8,
        channels=(8, 6),
        z_dim=5,
        w_dim=7,
        mapping_layers=2,
        conv_clamp=0.1,
    )
    gan = small_gan(bounded)
    w_plus = torch.randn(2, gan.num_layers, gan.w_dim, generator=rng_for(0, "w"))
    x = convs_of(gan)[0](gan.const.expand(2, -1, -1, -1), w_plus[:, 0])
    assert float(x.abs().max()) == pytest.approx(0.1)


def test_labels_and_shapes_are_checked():
    gan = small_gan()
    with pytest.raises(RequestError, match="0 classes: labels are not accepted"):
        gan.map(torch.zeros(1, 5), torch.tensor([0]))
    with pytest.raises(RequestError, match=r"takes \[N, 6, 7\]"):
        gan.synthesize(torch.zeros(1, 5, 7))
    with pytest.raises(RequestError, match="power of two from 8 to 1024"):
        GanConfig(resolution=48, channels=(4,), z_dim=4, w_dim=4, mapping_layers=2)
    with pytest.raises(RequestError, match="3 blocks, but 1"):
        GanConfig(resolution=16, channels=(4,), z_dim=4, w_dim=4, mapping_layers=2)


def test_wrong_files_are_refused(tmp_path: Path):
    state = golden_state("stylegan2_nvidia_32")
    path = tmp_path / "generator.pt"

    missing = {k: v for k, v in state.items() if k != "synthesis.b16.conv0.bias"}
    torch.save(missing, path)
    with pytest.raises(RequestError, match=r"generator.pt: the entry 'synthesis.b16"):
        load_gan(path)

    torch.save({**state, "synthesis.b16.skip.weight": torch.zeros(1)}, path)
    with pytest.raises(RequestError, match=r"'synthesis.b16.skip.weight'"):
        load_gan(path)

    torch.save({**state, "synthesis.b4.resample_filter": torch.ones(4, 4) / 16}, path)
    with pytest.raises(RequestError, match="up-sampling filter"):
        load_gan(path)

    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(RequestError, match="no StyleGAN2 generator"):
        load_gan(path)

    path.write_text("<html>not found</html>")
    with pytest.raises(RequestError, match="HTML page"):
        load_gan(path)

    with pytest.raises(RequestError, match=r"Unknown generator 'digit'.*mean 'digits'"):
        load_gan("digit")
