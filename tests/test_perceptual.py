"""The perceptual loss that ships with the assets."""

from pathlib import Path

import pytest
import torch

from robustgen.errors import RequestError
from robustgen.perceptual import PerceptualNet, load_perceptual, save_perceptual
from robustgen.rngs import rng_for


@pytest.fixture(scope="module")
def network() -> PerceptualNet:
    with torch.random.fork_rng(devices=[]):
        return PerceptualNet(3, (4, 6, 8)).eval().requires_grad_(False)


def test_distance_is_zero_symmetric_and_bounded(network: PerceptualNet):
    a = torch.rand(3, 3, 16, 16, generator=rng_for(0, "a"))
    b = torch.rand(3, 3, 16, 16, generator=rng_for(0, "b"))
    assert torch.equal(network(a, a), torch.zeros(3))
    torch.testing.assert_close(network(a, b), network(b, a))
    # Unit vectors of non-negative features are at most the square root of 2 apart.
    assert bool((network(a, b) <= 2).all())
    assert bool((network(a, b) > 0).all())


def test_a_mask_hides_pixels(network: PerceptualNet):
    a = torch.rand(2, 3, 16, 16, generator=rng_for(0, "a"))
    b = a.clone()
    b[..., 8:] = 0
    left = torch.zeros(2, 1, 16, 16)
    left[..., :4] = 1
    assert torch.equal(network(a, b, left), torch.zeros(2))
    whole = torch.ones(2, 1, 16, 16)
    torch.testing.assert_close(network(a, b, whole), network(a, b))


def test_gradients_are_finite_where_features_vanish(network: PerceptualNet):
    x = torch.zeros(1, 3, 16, 16, requires_grad=True)
    network(x, torch.ones(1, 3, 16, 16)).sum().backward()
    assert x.grad is not None
    assert bool(torch.isfinite(x.grad).all())


def test_round_trip_and_wrong_files(network: PerceptualNet, tmp_path: Path):
    path = tmp_path / "p.safetensors"
    save_perceptual(network, path)
    again = load_perceptual(path)
    a = torch.rand(2, 3, 16, 16, generator=rng_for(0, "a"))
    assert torch.equal(again(a, 1 - a), network(a, 1 - a))
    torch.save({"x": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(RequestError, match="no perceptual network") as caught:
        load_perceptual(tmp_path / "other.pt")
    assert str(caught.value) == (
        f"{tmp_path / 'other.pt'}: no perceptual network of robustgen, nor the "
        "ImageNet weights of torchvision's alexnet, vgg16 or squeezenet1_1, which make "
        "LPIPS."
    )


def test_lpips_is_looked_for_in_the_weights_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ROBUSTGEN_WEIGHTS", str(tmp_path))
    with pytest.raises(RequestError) as caught:
        load_perceptual("lpips_vgg")
    assert str(caught.value) == (
        f"{tmp_path / 'vgg16-397923af.pth'}: no such file. It is the perceptual "
        "'lpips_vgg'; `robustgen fetch lpips_vgg` gets it or says how."
    )
    with pytest.raises(RequestError, match="Unknown perceptual 'lpips_vg'"):
        load_perceptual("lpips_vg")
