"""Corruptions: what they do to pixels, that they ask nothing, and what a suite says."""

import io
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from attack_models import NoParameters, convnet, pictures, rngs
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter
from torch import Tensor

from robustgen.attacks import (
    Attack,
    build_corruption,
    build_gaussian_blur,
    build_gaussian_noise,
    build_jpeg,
    run_attack,
)
from robustgen.attacks.corruptions import gaussian_blur, gaussian_noise, jpeg
from robustgen.errors import RequestError
from robustgen.library import CorruptionAttack, load_attack
from robustgen.rngs import rng_for
from robustgen.suite import Settings
from robustgen.threat import Threat

ANY = Threat("none", math.inf)
KINDS = ("jpeg", "gaussian_blur", "gaussian_noise")


def colored(count: int, size: int = 32) -> Tensor:
    """Smooth color pictures with texture; image i is the same whatever the count."""
    axis = torch.linspace(0, 3, size)
    made: list[Tensor] = []
    for index in range(count):
        phase = torch.rand(3, 1, 1, generator=rng_for(2, index)) * 6
        noise = torch.rand(3, size, size, generator=rng_for(3, index))
        wave = torch.sin(axis[:, None] * 2 + axis[None] * (1 + index) + phase)
        made.append((0.5 + 0.3 * wave + 0.3 * (noise - 0.5)).clamp(0, 1))
    return torch.stack(made)


def corrupted(attack: Attack, images: Tensor, seed: int = 0) -> Tensor:
    labels = torch.zeros(len(images), dtype=torch.int64)
    return attack(NoParameters(), images, labels, ANY, rngs(len(images), seed))


def preset(name: str, **settings: Any) -> CorruptionAttack:
    given_attack = {"preset": name, "settings": settings}
    (spec,) = Settings.model_validate({"attacks": [given_attack]}).attacks
    assert isinstance(spec, CorruptionAttack)
    return spec


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_corruption_costs_no_pass_and_stays_in_range(kind: str, channels: int):
    images = colored(3)[:, :channels]
    attack = build_corruption(preset(kind).settings)
    labels = torch.zeros(3, dtype=torch.int64)
    outcome = run_attack(attack, NoParameters(), images, labels, ANY, rngs(3))
    assert outcome.forwards.tolist() == outcome.backwards.tolist() == [0, 0, 0]
    assert outcome.in_threat.all()
    assert not (outcome.clipped | outcome.failed).any()
    assert (outcome.distance_l2 > 0.1).all()
    gap = (outcome.images - images).flatten(1)
    torch.testing.assert_close(outcome.distance_l2, gap.norm(dim=1))
    torch.testing.assert_close(outcome.distance_linf, gap.abs().amax(dim=1))


@pytest.mark.parametrize("kind", KINDS)
def test_a_higher_severity_goes_further(kind: str):
    images = colored(4, size=64)
    labels = torch.zeros(4, dtype=torch.int64)
    distances: list[float] = []
    for severity in range(1, 6):
        attack = build_corruption(preset(kind, severity=severity).settings)
        outcome = run_attack(attack, NoParameters(), images, labels, ANY, rngs(4))
        distances.append(float(outcome.distance_l2.mean()))
    steps = [later / earlier for earlier, later in itertools.pairwise(distances)]
    assert all(step > 1.01 for step in steps)


@pytest.mark.parametrize("kind", KINDS)
def test_batch_size_changes_no_number(kind: str):
    attack = build_corruption(preset(kind).settings)
    images = colored(3)
    whole = corrupted(attack, images)
    labels = torch.zeros(1, dtype=torch.int64)
    for row, rng in enumerate(rngs(3)):
        alone = attack(NoParameters(), images[row : row + 1], labels, ANY, [rng])
        torch.testing.assert_close(alone, whole[row : row + 1], rtol=0, atol=1e-6)


def test_the_grids_are_those_of_imagenet_c():
    jpeg_spec, blur, noise = (load_attack(kind) for kind in KINDS)
    assert isinstance(jpeg_spec, CorruptionAttack)
    assert isinstance(blur, CorruptionAttack)
    assert isinstance(noise, CorruptionAttack)
    assert jpeg_spec.settings.grid == (25, 18, 15, 10, 7)
    assert blur.settings.grid == (1, 2, 3, 4, 6)
    assert noise.settings.grid == (0.08, 0.12, 0.18, 0.26, 0.38)
    for spec in (jpeg_spec, blur, noise):
        assert (spec.norm, spec.eps, spec.tier) == ("none", math.inf, "none")
        assert spec.settings.severity == 3


def test_jpeg_is_pillows():
    images = colored(2)
    found = jpeg(images, 15)
    for image, compressed in zip(images, found, strict=True):
        pixels = (image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=15)
        expected = np.asarray(Image.open(stream)).astype(np.float32) / 255
        np.testing.assert_allclose(
            compressed.permute(1, 2, 0).numpy(), expected, atol=1e-6
        )


def test_jpeg_keeps_a_flat_gray_image_of_8_bits():
    gray = torch.full((1, 1, 16, 16), 128 / 255)
    torch.testing.assert_close(jpeg(gray, 25), gray)


def test_jpeg_stores_one_or_three_channels():
    with pytest.raises(RequestError) as caught:
        jpeg(torch.zeros(1, 2, 8, 8), 50)
    assert str(caught.value) == (
        "Attack 'jpeg': images of 2 channels; JPEG stores 1 or 3."
    )


@given(st.floats(0.1, 6.0))
def test_blur_is_scipys(sigma: float):
    image = colored(1)
    expected = np.stack(
        [
            gaussian_filter(channel, sigma, mode="nearest", truncate=4.0)
            for channel in image[0].double().numpy()
        ]
    )
    found = gaussian_blur(image, sigma)[0].double().numpy()
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_blur_keeps_flat_images_and_the_mean_of_a_spot():
    flat = torch.full((1, 3, 9, 9), 0.37)
    torch.testing.assert_close(gaussian_blur(flat, 2.0), flat)
    spot = torch.zeros(1, 1, 41, 41)
    spot[0, 0, 20, 20] = 1.0
    assert float(gaussian_blur(spot, 2.0).sum()) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(("height", "width"), [(448, 448), (448, 600), (600, 448)])
def test_blur_scales_with_the_shorter_side(height: int, width: int):
    attack = build_gaussian_blur(sigma=3.0, side=224)
    images = pictures(1, size=600)[:, :, :height, :width]
    torch.testing.assert_close(corrupted(attack, images), gaussian_blur(images, 6.0))


def test_noise_has_its_std_and_belongs_to_its_image():
    gray = torch.full((2, 3, 64, 64), 0.5)
    noisy = gaussian_noise(gray, 0.08, rngs(2))
    assert float((noisy - gray).std()) == pytest.approx(0.08, rel=0.02)
    assert float((noisy - gray).mean()) == pytest.approx(0.0, abs=0.002)
    assert not torch.equal(noisy[0], noisy[1])
    assert torch.equal(gaussian_noise(gray[1:], 0.08, rngs(2)[1:]), noisy[1:])


def test_a_bounded_threat_is_refused():
    images, labels = pictures(2), torch.tensor([0, 1])
    model = convnet()
    with pytest.raises(RequestError) as caught:
        run_attack(
            build_jpeg(quality=10), model, images, labels, Threat("linf", 1.0), rngs(2)
        )
    assert str(caught.value) == (
        "Attack 'jpeg' searches the none norm; the threat says `norm: linf`. "
        "Set `norm: none`."
    )
    noise = build_gaussian_noise(std=0.1)
    with pytest.raises(RequestError) as caught:
        run_attack(noise, model, images, labels, Threat("none", 0.0), rngs(2))
    assert str(caught.value) == (
        "Attack 'gaussian_noise': `eps: 0` must be inf, as no ball holds it."
    )


def test_builders_refuse_what_makes_no_sense():
    with pytest.raises(RequestError) as caught:
        build_jpeg(quality=0)
    assert str(caught.value) == "Attack 'jpeg': `quality: 0` must be 1 to 95."
    with pytest.raises(RequestError, match=r"`sigma: -1\.0` must be above 0"):
        build_gaussian_blur(sigma=-1.0, side=224)
    with pytest.raises(RequestError, match=r"`side: 0` must be above 0"):
        build_gaussian_blur(sigma=1.0, side=0)
    with pytest.raises(RequestError, match=r"`std: nan` must be above 0"):
        build_gaussian_noise(std=math.nan)


def test_a_suite_lists_severities():
    named = {"preset": "jpeg", "name": "jpeg_5", "settings": {"severity": 5}}
    both = Settings.model_validate({"attacks": ["jpeg", named]}).attacks
    assert [attack.name for attack in both] == ["jpeg", "jpeg_5"]
    assert isinstance(both[0], CorruptionAttack)
    assert isinstance(both[1], CorruptionAttack)
    assert [both[0].settings.strength, both[1].settings.strength] == [15, 7]
    assert both[1].settings.grid == both[0].settings.grid


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("jpeg", {"severity": 6}, "6 is beyond the grid, which has 5 entries."),
        ("jpeg", {"severity": 0}, "greater than or equal to 1"),
        ("jpeg", {"grid": [7, 10]}, "falling whole numbers from 95 to 1."),
        ("jpeg", {"grid": [96, 10]}, "falling whole numbers from 95 to 1."),
        ("jpeg", {"grid": [20.5]}, "falling whole numbers from 95 to 1."),
        ("gaussian_blur", {"grid": [2, 1]}, "should be one or more rising numbers."),
        ("gaussian_blur", {"side": 0}, "greater than or equal to 1"),
        ("gaussian_noise", {"grid": []}, "should be one or more rising numbers."),
        ("gaussian_noise", {"side": 224}, "Extra inputs are not permitted"),
        ("jpeg", {"kind": "jpg"}, "unknown kind 'jpg'. Did you mean 'jpeg'?"),
    ],
)
def test_wrong_settings(kind: str, settings: dict[str, Any], message: str):
    with pytest.raises(ValidationError) as caught:
        preset(kind, **settings)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm": "linf"}, "'linf' does not fit this attack: none."),
        ({"eps": 1}, "1 would bound a corruption, which stays in no ball; leave it"),
        ({"settings": 3}, "should say `kind: NAME`. Known: gaussian_blur, gaussian_n"),
    ],
)
def test_wrong_presets(change: dict[str, Any], message: str):
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"attacks": [{"preset": "jpeg", **change}]})
    assert message in str(caught.value)
