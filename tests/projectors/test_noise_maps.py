import pytest
import torch
from problems import LinearGan, ToyGan, rng
from torch import Tensor

from robustgen.errors import RequestError
from robustgen.gan.stylegan2 import GanConfig, StyleGAN2
from robustgen.projectors.noise import (
    noise_sides,
    noise_structure,
    normalized,
    split_maps,
)
from robustgen.projectors.swapped import synthesize_each, synthesize_with


def reference_structure(noise: Tensor) -> Tensor:
    """The published loop, for one map [h, w] and its halves down to 8 px."""
    total = torch.zeros(())
    while True:
        for axis in (0, 1):
            total = total + (noise * torch.roll(noise, 1, axis)).mean() ** 2
        if len(noise) <= 8:
            return total
        n = len(noise) // 2
        noise = noise.reshape(n, 2, n, 2).mean(dim=(1, 3))


def test_structure_is_that_of_the_published_loop_for_each_image():
    maps = {
        "a": torch.randn(3, 1, 32, 32, generator=rng(0)),
        "b": torch.randn(3, 1, 4, 4, generator=rng(1)),
    }
    expected = [
        reference_structure(maps["a"][i, 0]) + reference_structure(maps["b"][i, 0])
        for i in range(3)
    ]
    torch.testing.assert_close(noise_structure(maps), torch.stack(expected))


def test_structure_of_known_maps():
    flat = torch.ones(1, 1, 8, 8)
    assert noise_structure({"m": flat}).item() == 2.0
    i = torch.arange(16)
    checkers = (1.0 - 2 * ((i[:, None] + i) % 2)).view(1, 1, 16, 16)
    # Fully correlated at 16 px, gone at 8 px.
    assert noise_structure({"m": checkers}).item() == 2.0


def test_normalizing_gives_each_map_mean_0_and_square_1():
    sides = {"a": (8, 8), "b": (4, 4)}
    flat = 3 * torch.randn(5, 80, generator=rng(0)) + 2
    maps = split_maps(normalized(flat, sides), sides)
    for noise in maps.values():
        torch.testing.assert_close(
            noise.mean(dim=(1, 2, 3)), torch.zeros(5), atol=1e-6, rtol=0
        )
        torch.testing.assert_close(noise.square().mean(dim=(1, 2, 3)), torch.ones(5))
    assert torch.equal(maps["b"].flatten(1), normalized(flat, sides)[:, 64:])


def test_every_noise_map_of_a_stylegan2_is_found_and_replaced_for_each_image():
    gan = StyleGAN2(GanConfig(16, (8, 8, 8), 4, 4, 1), rng(0)).eval()
    for name, parameter in gan.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.3)
    sides = noise_sides(gan)
    assert sorted(sides.values()) == [(4, 4), (8, 8), (8, 8), (16, 16), (16, 16)]
    w_plus = torch.randn(3, gan.num_layers, 4, generator=rng(1))
    flat = torch.randn(3, 16 + 2 * 64 + 2 * 256, generator=rng(2))
    with torch.no_grad():
        made = synthesize_with(gan, split_maps(flat, sides), w_plus)
        for i in range(3):
            own = split_maps(flat[i : i + 1], sides)
            for name, noise in own.items():
                gan.get_buffer(name).copy_(noise[0, 0])
            torch.testing.assert_close(made[i], gan.synthesize(w_plus[i : i + 1])[0])


@pytest.mark.parametrize("count", [1, 3])
def test_each_image_has_its_own_parameters(count: int):
    gan = LinearGan()
    scales = torch.arange(1.0, count + 1)
    weights = gan.weight.detach() * scales[:, None, None]
    w_plus = torch.randn(count, 2, 3, generator=rng(0))
    made = synthesize_each(gan, {"weight": weights}, w_plus)
    with torch.no_grad():
        expected = gan.synthesize(w_plus * scales[:, None, None])
    torch.testing.assert_close(made, expected)


def test_a_generator_without_maps_is_refused():
    with pytest.raises(RequestError, match=r"ToyGan has no noise maps.*optimize_noise"):
        noise_sides(ToyGan())
