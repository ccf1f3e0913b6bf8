"""The terms beyond those of the released code, against formulas for one image."""

import math

import pytest
import torch
from problems import LinearGan, ToyEncoder, ToyGan, ToyPerceptual, rng, toy_images
from torch import Tensor

from robustgen.errors import RequestError
from robustgen.projectors.loss import (
    ProjectionLoss,
    describe,
    image_terms,
    loss_of,
    masked_l2,
    shrink,
)


def test_l2_counts_masked_pixels_once_per_channel():
    a, b = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    b[:, 0, 0, 0] = 0.6  # seen
    b[:, :, 1, 1] = 9.0  # hidden
    mask = torch.tensor([[[[1.0, 0.5], [0.0, 0.0]]]])
    torch.testing.assert_close(masked_l2(a, b, mask), torch.tensor([0.36 / 4.5]))
    torch.testing.assert_close(masked_l2(a, b, None), torch.tensor([243.36 / 12]))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("latent_term", ["encoder", "cycle", "start"])
def test_the_loss_is_the_sum_of_its_terms(latent_term: str, masked: bool):
    gan, encoder, perceptual = ToyGan().eval(), ToyEncoder(), ToyPerceptual()
    images = toy_images(3)
    mask = torch.rand(3, 1, 6, 6, generator=rng(3)) if masked else None
    terms = ProjectionLoss(
        perceptual,
        1.5,
        2.0,
        pixel_range=2.0,
        pixel_term="l2",
        pixel_weight=0.7,
        latent_term=latent_term,  # pyright: ignore[reportArgumentType]
    )
    start = torch.randn(3, 3, 4, generator=rng(6))
    codes = start if latent_term == "start" else None
    w_plus = torch.randn(3, 3, 4, generator=rng(5))
    target = describe(images, mask, encoder=encoder, terms=terms, codes=codes)
    loss = loss_of(w_plus, target, gan=gan, encoder=encoder, terms=terms)

    made = gan.synthesize(w_plus)
    for i in range(3):
        one = slice(i, i + 1)
        m = torch.ones(1, 1, 6, 6) if mask is None else mask[one]
        weight = m.expand(1, 2, 6, 6)
        square = ((2 * made[one] - 1) - (2 * images[one] - 1)).square()
        l2 = (square * weight).sum() / weight.sum()
        p = perceptual.compare(
            perceptual.features(made[one]), perceptual.features(images[one]), m
        )
        latent = {
            "encoder": encoder(made[one], m) - encoder(images[one], m),
            "cycle": w_plus[one] - encoder(made[one], m),
            "start": w_plus[one] - start[one],
        }[latent_term]
        expected = 0.7 * l2 + 1.5 * p[0] + 2.0 * latent.square().mean()
        torch.testing.assert_close(loss[i], expected)


def test_the_start_needs_no_encoder_and_the_others_say_so():
    gan, images = ToyGan().eval(), toy_images(2)
    codes = torch.zeros(2, 3, 4)
    near = ProjectionLoss(perceptual_weight=0.0, latent_term="start")
    target = describe(images, None, encoder=None, terms=near, codes=codes)
    found = loss_of(codes + 1, target, gan=gan, encoder=None, terms=near)
    assert (found >= 0.25).all()
    for term in ("encoder", "cycle"):
        terms = ProjectionLoss(perceptual_weight=0.0, latent_term=term)
        assert terms.reads_codes
        with pytest.raises(RequestError, match="needs an encoder, but none was given"):
            loss_of(codes, target, gan=gan, encoder=None, terms=terms)
    with pytest.raises(RequestError, match="needs an encoder"):
        describe(images, None, encoder=None, terms=near)


def test_the_cycle_vanishes_where_the_encoder_inverts_the_generator():
    gan = LinearGan()
    w_plus = torch.randn(4, 2, 3, generator=rng(0))
    images = gan.synthesize(w_plus).detach()
    terms = ProjectionLoss(perceptual_weight=0.0, latent_weight=3, latent_term="cycle")
    target = describe(images, None, encoder=gan.encode, terms=terms)
    loss = loss_of(w_plus, target, gan=gan, encoder=gan.encode, terms=terms)
    assert loss.abs().max() < 1e-6


@pytest.mark.parametrize("side", [3, 2])
def test_large_images_are_averaged_where_the_mask_shows_them(side: int):
    images = torch.rand(2, 3, 6, 6, generator=rng(0))
    mask = torch.rand(2, 1, 6, 6, generator=rng(1))
    mask[:, :, :, 3:] = 0
    mask[1, :, :2, :2] = 0
    small, weight = shrink(images, mask, side)
    assert weight is not None
    step = 6 // side
    for n in range(2):
        for i in range(side):
            for j in range(side):
                block = (n, slice(i * step, i * step + step))
                area = slice(j * step, j * step + step)
                m = mask[n, 0, block[1], area]
                x = images[n, :, block[1], area]
                torch.testing.assert_close(weight[n, 0, i, j], m.mean())
                expected = (x * m).sum(dim=(1, 2)) / m.sum() if m.sum() else 0 * x.sum()
                torch.testing.assert_close(
                    small[n, :, i, j], torch.as_tensor(expected).expand(3)
                )
    whole, none = shrink(images, None, side)
    assert none is None
    torch.testing.assert_close(whole.mean(), images.mean())


def test_images_no_larger_than_the_side_are_left_alone():
    images, mask = torch.rand(2, 1, 4, 6, generator=rng(0)).split(1)
    assert shrink(images, mask, 6)[0] is images
    assert shrink(images, mask, None)[1] is mask
    assert shrink(images, None, 3)[0].shape == (1, 1, 2, 3)


def test_the_side_applies_to_pixels_features_and_mask_alike():
    perceptual = ToyPerceptual()
    images, made = torch.rand(2, 2, 2, 12, 12, generator=rng(0))
    mask = (torch.rand(2, 1, 12, 12, generator=rng(2)) > 0.3).float()
    small_terms = ProjectionLoss(perceptual, 0.4, 0.0, side=4)
    plain_terms = ProjectionLoss(perceptual, 0.4, 0.0)

    def found(images: Tensor, made: Tensor, mask: Tensor, terms: ProjectionLoss):
        codes = torch.zeros(2, 1, 1)
        target = describe(images, mask, encoder=None, terms=terms, codes=codes)
        return image_terms(made, target, terms).weighted(terms)

    small_made, small_mask = shrink(made, mask, 4)
    small_images, _ = shrink(images, mask, 4)
    assert small_mask is not None
    torch.testing.assert_close(
        found(images, made, mask, small_terms),
        found(small_images, small_made, small_mask, plain_terms),
    )


def test_weights_that_make_no_sense_are_refused():
    perceptual = ToyPerceptual()
    with pytest.raises(RequestError, match=r"pixel_weight is -1.*0 or more"):
        ProjectionLoss(perceptual, pixel_weight=-1.0)
    with pytest.raises(RequestError, match="perceptual_weight is nan"):
        ProjectionLoss(perceptual, math.nan, pixel_weight=1.0)
    with pytest.raises(RequestError, match="side is 0"):
        ProjectionLoss(perceptual, side=0)
    with pytest.raises(RequestError, match="no term looks at the image"):
        ProjectionLoss(perceptual, 0.0, pixel_weight=0.0)
    assert ProjectionLoss(perceptual, 3.0, pixel_weight=0.0).pixel_factor == 0
    assert ProjectionLoss(perceptual, 0.25, pixel_range=2.0).pixel_factor == 1.5
    l2 = ProjectionLoss(perceptual, 0.25, pixel_range=2.0, pixel_term="l2")
    assert l2.pixel_factor == 3.0
