import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.transforms.v2 import functional as vision

from robustgen.errors import RequestError
from robustgen.rngs import rng_for
from robustgen.views.jitter import JitterSpec, color_jitter, jitter

SAMPLES = (5, 0, 9, 2)
MIXED = JitterSpec(zoom=33 / 32, flip=True, color=0.05)


def _images(*shape: int, key: str = "images") -> Tensor:
    return torch.rand(shape, generator=rng_for(0, "tests", key))


IMAGES = _images(4, 6, 3, 32, 32)


def _jitter(
    images: Tensor = IMAGES,
    spec: JitterSpec = MIXED,
    *,
    seed: int = 0,
    samples: tuple[int, ...] = SAMPLES,
    purpose: str = "combined",
) -> Tensor:
    return jitter(images, spec, seed=seed, samples=samples, purpose=purpose)


@pytest.mark.parametrize("channels", [1, 3])
def test_no_jitter_is_the_identity(channels: int):
    images = 3 * _images(2, 3, channels, 8, 8) - 1  # as a generator, unclamped
    spec = JitterSpec(zoom=1.0, flip=False, color=0.0)
    assert torch.equal(_jitter(images, spec, samples=(0, 1)), images)


@given(
    st.floats(1, 1.5),
    st.booleans(),
    st.floats(0, 1),
    st.sampled_from([1, 3]),
    st.integers(0, 99),
)
def test_images_stay_in_range(
    zoom: float, flip: bool, color: float, channels: int, seed: int
):
    images = _images(2, 3, channels, 7, 9, key=str(seed)).round(decimals=1)
    spec = JitterSpec(zoom, flip, color)
    jittered = _jitter(images, spec, seed=seed, samples=(0, 1))
    assert jittered.shape == images.shape
    assert jittered.min() >= 0
    assert jittered.max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_colors_match_torchvision(channels: int, order: tuple[int, int, int]):
    images = _images(8, channels, 9, 7)
    factors = 0.3 + 1.4 * _images(8, 3, key="factors")
    expected = images.clone()
    adjust = (
        vision.adjust_brightness,
        vision.adjust_contrast,
        vision.adjust_saturation,
    )
    for kind in order:
        expected = torch.stack(
            [
                adjust[kind](image, float(factor))
                for image, factor in zip(expected, factors[:, kind], strict=True)
            ]
        )
    orders = torch.tensor(order).expand(8, 3)
    torch.testing.assert_close(
        color_jitter(images, factors, orders), expected, atol=1e-6, rtol=0
    )


def test_each_image_has_its_own_order_of_colors():
    images, factors = _images(2, 3, 8, 8), torch.tensor([[1.5, 0.6, 1.3]]).expand(2, 3)
    orders = torch.tensor([[0, 1, 2], [2, 0, 1]])
    both = color_jitter(images, factors, orders)
    for i in range(2):
        alone = color_jitter(images[i : i + 1], factors[:1], orders[i : i + 1])
        assert torch.equal(both[i : i + 1], alone)


@pytest.mark.parametrize("shape", [(32, 32), (20, 32)])
def test_a_crop_is_a_window_of_the_enlarged_image(shape: tuple[int, int]):
    height, width = shape
    images = _images(3, 40, 3, height, width)
    crops = _jitter(images, JitterSpec(1.1, False, 0.0), samples=(0, 1, 2))
    large = (round(1.1 * height), round(1.1 * width))
    enlarged = interpolate(images.flatten(0, 1), size=large, mode="bilinear")
    places: set[tuple[int, int]] = set()
    for crop, image in zip(crops.flatten(0, 1), enlarged, strict=True):
        found = [
            (top, left)
            for top in range(large[0] - height + 1)
            for left in range(large[1] - width + 1)
            if torch.allclose(
                crop,
                image[:, top : top + height, left : left + width],
                rtol=0,
                atol=2e-6,
            )
        ]
        assert len(found) == 1
        places.add(found[0])
    assert len(places) == (large[0] - height + 1) * (large[1] - width + 1)


def test_half_of_the_images_are_flipped():
    images = _images(4, 400, 1, 2, 2)
    flipped = _jitter(images, JitterSpec(1.0, True, 0.0)).eq(images.flip(-1))
    kept = _jitter(images, JitterSpec(1.0, True, 0.0)).eq(images)
    is_flipped = flipped.flatten(2).all(dim=2)
    assert torch.equal(is_flipped, ~kept.flatten(2).all(dim=2))
    assert is_flipped.double().mean().item() == pytest.approx(0.5, abs=3 * 0.5 / 40)


def test_color_factors_are_uniform_around_one():
    images = torch.full((4, 500, 3, 1, 1), 0.5)
    # On a uniform grey image contrast and saturation do nothing.
    factor = _jitter(images, JitterSpec(1.0, False, 0.2))[:, :, 0] / 0.5
    assert factor.min().item() >= 0.8 - 1e-6
    assert factor.max().item() <= 1.2 + 1e-6
    n = factor.numel()
    assert factor.mean().item() == pytest.approx(1, abs=3 * 0.2 / (3 * n) ** 0.5)
    assert factor.std().item() == pytest.approx(0.2 / 3**0.5, rel=0.05)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_batch_size_changes_no_pixel(size: int, channels: int):
    images = _images(4, 5, channels, 19, 23)
    split = [
        _jitter(images[start : start + size], samples=SAMPLES[start : start + size])
        for start in range(0, 4, size)
    ]
    assert torch.equal(torch.cat(split), _jitter(images))


def test_the_number_of_threads_changes_no_pixel():
    threads = torch.get_num_threads()
    results: list[Tensor] = []
    for number in (1, 2):
        torch.set_num_threads(number)
        try:
            results.append(_jitter(_images(4, 3, 3, 65, 65)))
        finally:
            torch.set_num_threads(threads)
    assert torch.equal(*results)


def test_more_views_leave_the_first_as_they_were():
    assert torch.equal(_jitter(IMAGES[:, :2]), _jitter()[:, :2])


def test_every_view_sample_seed_and_purpose_has_its_own_jitter():
    same = IMAGES[:1, :1].expand_as(IMAGES)
    results = [_jitter(same), _jitter(same, seed=1), _jitter(same, purpose="image")]
    assert len(torch.cat(results).flatten(0, 1).unique(dim=0)) == 3 * 4 * 6
    assert torch.equal(_jitter(same), results[0])


def test_gradients_pass_through():
    images = IMAGES.clone().requires_grad_()
    _jitter(images).sum().backward()
    assert images.grad is not None
    assert (images.grad.flatten(1).norm(dim=1) > 0).all()


@pytest.mark.parametrize(
    ("zoom", "color", "message"),
    [
        (0.9, 0.0, "`zoom=0.9`"),
        (float("nan"), 0.0, "`zoom=nan`"),
        (1.0, -0.1, "`color=-0.1`"),
        (1.0, 1.5, "`color=1.5`"),
    ],
)
def test_a_jitter_that_is_none_does_not_construct(
    zoom: float, color: float, message: str
):
    with pytest.raises(RequestError, match=message):
        JitterSpec(zoom, False, color)


def test_a_wrong_request_is_refused():
    with pytest.raises(RequestError, match="2 sample indices for 4 images"):
        _jitter(samples=(1, 2))
    with pytest.raises(RequestError, match="Images of 2 channels"):
        _jitter(IMAGES[:, :, :2])
