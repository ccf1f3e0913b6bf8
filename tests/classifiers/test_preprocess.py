"""What a classifier's images go through, against closed forms."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from robustgen.classifiers.preprocess import (
    ZERO_CENTERED,
    Preprocess,
    center_crop,
    resized,
)
from robustgen.errors import RequestError
from robustgen.rngs import rng_for

MEAN, STD = ZERO_CENTERED
CAR: dict[str, Any] = {"crop": (384, 512), "resize": (256, 342), "center_crop": 256}


class Seen(nn.Module):
    """Keeps what reaches a network."""

    images: Tensor

    def forward(self, images: Tensor) -> Tensor:
        self.images = images
        return images.new_zeros(len(images), 2)


def prepared(images: Tensor, **options: Any) -> Tensor:
    """What a network sees of images."""
    seen = Seen()
    Preprocess(seen, **options)(images)
    return seen.images


def rand(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=rng_for(0, "images"))


def test_nothing_is_done_that_is_not_asked_for():
    images = rand(2, 3, 5, 7)
    assert torch.equal(prepared(images), images)


def test_normalization_takes_each_channel_on_its_own():
    images = rand(2, 3, 4, 4)
    made = prepared(images, mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0))
    torch.testing.assert_close(made[:, 0], (images[:, 0] - 0.1) / 0.5)
    torch.testing.assert_close(made[:, 2], (images[:, 2] - 0.3) / 2)


def test_cars_lose_their_empty_rows():
    images = torch.zeros(1, 3, 512, 512)
    images[:, :, 64:448] = 0.25
    made = prepared(images, **CAR, mean=MEAN, std=STD)
    assert made.shape == (1, 3, 256, 256)
    assert torch.equal(made, torch.full_like(made, -0.5))


def test_cars_are_prepared_as_the_released_code_does():
    images = rand(2, 3, 512, 512)
    made = prepared(images, **CAR)
    upsample = nn.Upsample((256, 342), mode="bilinear")
    assert torch.equal(made, upsample(images[:, :, 64:-64])[..., 43:299])


def test_a_ramp_stays_a_ramp_whose_pixels_have_centers():
    ramp = torch.arange(512.0).expand(1, 1, 512, 512)
    index = torch.arange(256.0)
    columns = (index + 43 + 0.5) * 512 / 342 - 0.5
    torch.testing.assert_close(
        prepared(ramp, **CAR)[0, 0, 9], columns, rtol=1e-6, atol=0
    )
    rows = (index + 0.5) * 384 / 256 - 0.5 + 64
    torch.testing.assert_close(
        prepared(ramp.mT, **CAR)[0, 0, :, 9], rows, rtol=1e-6, atol=0
    )


def test_the_gradient_reaches_exactly_the_pixels_that_are_looked_at():
    images = rand(1, 1, 8, 10).requires_grad_()
    # Rows and columns 1 to 6 and 2 to 7, halved to 3 x 3, of which the middle one is
    # the mean of four pixels.
    seen = prepared(images, crop=(6, 6), resize=(3, 3), center_crop=1, std=(0.5,))
    (gradient,) = torch.autograd.grad(seen.sum(), images)
    expected = torch.zeros(1, 1, 8, 10)
    expected[..., 3:5, 4:6] = 0.25 / 0.5
    assert torch.equal(gradient, expected)


def test_an_odd_margin_leaves_the_smaller_half_above_and_left():
    images = torch.arange(25.0).view(1, 1, 5, 5)
    assert center_crop(images, (2, 4)).flatten().tolist() == [
        5,
        6,
        7,
        8,
        10,
        11,
        12,
        13,
    ]


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 4), st.integers(0, 4))
def test_a_crop_of_padding_gives_the_image_back(
    height: int, width: int, rows: int, columns: int
):
    image = rand(1, 2, height, width)
    padded = F.pad(image, (columns, columns, rows, rows))
    assert torch.equal(center_crop(padded, (height, width)), image)


@pytest.mark.parametrize(
    ("shape", "side", "expected"),
    [
        ((384, 512), 256, (256, 341)),
        ((512, 384), 256, (341, 256)),
        ((32, 32), 224, (224, 224)),
        ((3, 7), 6, (6, 14)),
    ],
)
def test_one_number_is_the_shorter_side(shape, side: int, expected):
    assert resized(torch.zeros(1, 1, *shape), side).shape[2:] == expected


def test_shrinking_averages_only_where_asked():
    # One white column in four: a pixel of the result lies between two black ones.
    images = torch.zeros(1, 1, 32, 32)
    images[..., ::4] = 1
    plain, smooth = (
        prepared(images, resize=8, antialias=antialias)[0, 0, :, 1:-1]
        for antialias in (False, True)
    )
    assert torch.equal(plain, torch.zeros(8, 6))
    torch.testing.assert_close(smooth, torch.full((8, 6), 0.25))


def test_an_image_of_the_right_size_is_not_touched():
    images = rand(1, 3, 16, 16)
    same = prepared(images, resize=16, center_crop=(16, 16), antialias=True)
    assert torch.equal(same, images)


def test_images_do_not_see_their_batch():
    images = rand(5, 3, 20, 24)
    options: dict[str, Any] = {
        "crop": (16, 20),
        "resize": (9, 9),
        "mean": MEAN,
        "std": STD,
    }
    alone = torch.cat([prepared(image[None], **options) for image in images])
    assert torch.equal(prepared(images, **options), alone)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": (0, 4)}, r"`crop: \(0, 4\)`: expected rows and columns"),
        ({"resize": (4, 4, 4)}, r"`resize: \(4, 4, 4\)`: expected rows and columns"),
        ({"resize": 0}, "`resize: 0`: expected rows and columns, both 1 or more"),
        ({"center_crop": -1}, "`center_crop: -1`"),
        ({"mean": (0.5, 0.5), "std": (0.5,)}, "as many numbers as each other"),
        ({"mean": (0.0,), "std": (0.0,)}, "every `std` above 0"),
        ({"mean": (), "std": ()}, "as many numbers"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, message: str):
    with pytest.raises(RequestError, match=message) as caught:
        Preprocess(nn.Identity(), **options)
    assert caught.value.exit_code == 2


def test_images_that_do_not_fit_are_refused():
    with pytest.raises(RequestError, match="crops images to 4 x 6 pixels, but they"):
        Preprocess(nn.Identity(), center_crop=(4, 6))(rand(1, 3, 4, 5))
    with pytest.raises(RequestError, match=r"Images of 1 channels, but .* reads 3"):
        Preprocess(nn.Identity(), mean=MEAN, std=STD)(rand(1, 1, 4, 4))


def test_what_it_does_can_be_read_off():
    wrapped = Preprocess(nn.Identity(), **CAR, mean=MEAN, std=STD)
    assert "crop=(384, 512), resize=(256, 342), center_crop=(256, 256)" in repr(wrapped)
    assert sorted(wrapped.state_dict()) == ["mean", "std"]
