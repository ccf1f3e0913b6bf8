import math

import pytest
import torch
from problems import ToyEncoder, ToyGan, ToyPerceptual, rng, toy_images
from torch import Tensor

from robustgen.errors import RequestError
from robustgen.projectors.loss import (
    ProjectionLoss,
    ProjectionObjective,
    describe,
    loss_of,
    masked_l1,
)


def test_l1_counts_masked_pixels_once_per_channel():
    a = torch.zeros(2, 3, 2, 2)
    b = torch.zeros(2, 3, 2, 2)
    b[:, 0, 0, 0] = 0.6  # seen
    b[:, :, 1, 1] = 9.0  # hidden
    mask = torch.tensor([[[[1.0, 0.5], [0.0, 0.0]]]]).expand(2, 1, 2, 2)
    expected = torch.full((2,), 0.6 / (3 * 1.5))
    torch.testing.assert_close(masked_l1(a, b, mask), expected)
    ones = torch.ones(2, 1, 2, 2)
    torch.testing.assert_close(masked_l1(a, b, ones), masked_l1(a, b, None))


@pytest.mark.parametrize("masked", [False, True])
def test_the_loss_is_the_weighted_sum_of_its_terms(masked: bool):
    gan, encoder, perceptual = ToyGan().eval(), ToyEncoder(), ToyPerceptual()
    images = toy_images(4)
    mask = torch.rand(4, 1, 6, 6, generator=rng(3)) if masked else None
    terms = ProjectionLoss(perceptual, 0.3, 0.25, pixel_range=2.0)
    w_plus = torch.randn(4, 3, 4, generator=rng(5))
    target = describe(images, mask, encoder=encoder, terms=terms)
    loss = loss_of(w_plus, target, gan=gan, encoder=encoder, terms=terms)

    made = gan.synthesize(w_plus)
    for i in range(4):
        one = slice(i, i + 1)
        m = torch.ones(1, 1, 6, 6) if mask is None else mask[one]
        weight = m.expand(1, 2, 6, 6)
        # On images in [-1, 1], as the released code has them.
        distance = ((2 * made[one] - 1) - (2 * images[one] - 1)).abs()
        l1 = (distance * weight).sum() / weight.sum()
        p = perceptual.compare(
            perceptual.features(made[one]), perceptual.features(images[one]), m
        )
        codes = encoder(made[one], m) - encoder(images[one], m)
        expected = 0.7 * l1 + 0.3 * p[0] + 0.25 * codes.square().mean()
        torch.testing.assert_close(loss[i], expected)


def test_gradients_are_those_of_finite_differences():
    gan = ToyGan().double().eval()
    encoder = ToyEncoder().double()
    terms = ProjectionLoss(ToyPerceptual(), 0.5, 0.25)
    images = toy_images(2).double()
    target = describe(images, None, encoder=encoder, terms=terms)
    objective = ProjectionObjective(target, gan=gan, encoder=encoder, terms=terms)
    points = torch.randn(2, 12, generator=rng(0), dtype=torch.float64)
    everyone = torch.arange(2)
    _, gradient = objective(points, everyone)
    for coordinate in range(12):
        offset = torch.zeros(12, dtype=torch.float64)
        offset[coordinate] = 1e-6
        above, _ = objective(points + offset, everyone)
        below, _ = objective(points - offset, everyone)
        slope = (above - below) / 2e-6
        torch.testing.assert_close(gradient[:, coordinate], slope, rtol=1e-4, atol=1e-7)


def test_what_has_no_weight_is_not_run():
    gan, encoder, perceptual = ToyGan().eval(), ToyEncoder(), ToyPerceptual()
    images = toy_images(2)
    points, everyone = torch.zeros(2, 12), torch.arange(2)

    def calls(terms: ProjectionLoss) -> tuple[int, int]:
        encoder.calls = perceptual.calls = 0
        target = describe(images, None, encoder=encoder, terms=terms)
        objective = ProjectionObjective(target, gan=gan, encoder=encoder, terms=terms)
        objective(points, everyone)
        objective(points, everyone)
        return encoder.calls, perceptual.calls

    # Once for the images, then once per pass where the term has a weight.
    assert calls(ProjectionLoss(perceptual, 0.5, 0.25)) == (3, 3)
    assert calls(ProjectionLoss(perceptual, 0.0, 0.25)) == (3, 0)
    assert calls(ProjectionLoss(perceptual, 0.5, 0.0)) == (1, 3)
    assert calls(ProjectionLoss(None, 0.0, 0.0)) == (1, 0)


def test_samples_that_are_left_keep_their_own_targets():
    gan, encoder = ToyGan().eval(), ToyEncoder()
    terms = ProjectionLoss(ToyPerceptual())
    images = toy_images(5)
    mask = torch.rand(5, 1, 6, 6, generator=rng(3))
    target = describe(images, mask, encoder=encoder, terms=terms)
    objective = ProjectionObjective(target, gan=gan, encoder=encoder, terms=terms)
    points = torch.randn(5, 12, generator=rng(0))
    loss, gradient = objective(points, torch.arange(5))
    rows = torch.tensor([1, 4])
    some_loss, some_gradient = objective(points[rows], rows)
    torch.testing.assert_close(some_loss, loss[rows])
    torch.testing.assert_close(some_gradient, gradient[rows])


def test_no_parameter_gets_a_gradient():
    gan, encoder = ToyGan().eval(), ToyEncoder()
    terms = ProjectionLoss(perceptual_weight=0.0)
    target = describe(toy_images(2), None, encoder=encoder, terms=terms)
    objective = ProjectionObjective(target, gan=gan, encoder=encoder, terms=terms)
    parameters: list[Tensor] = [*gan.parameters(), *encoder.parameters()]
    with torch.no_grad():
        loss, gradient = objective(torch.zeros(2, 12), torch.arange(2))
    assert gradient.abs().sum() > 0
    assert not loss.requires_grad
    assert all(p.grad is None and p.requires_grad for p in parameters)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ((1.5, 0.25, 1.0), "perceptual_weight is 1.5: expected a share"),
        ((math.nan, 0.25, 1.0), "perceptual_weight is nan"),
        ((0.5, -1.0, 1.0), "latent_weight is -1.0: expected 0 or more"),
        ((0.5, math.inf, 1.0), "latent_weight is inf"),
        ((0.5, 0.25, 0.0), "pixel_range is 0.0"),
    ],
)
def test_weights_out_of_range_are_refused(
    weights: tuple[float, float, float], message: str
):
    with pytest.raises(RequestError, match=message):
        ProjectionLoss(ToyPerceptual(), weights[0], weights[1], weights[2])


def test_a_weight_without_its_network_is_refused():
    with pytest.raises(RequestError, match="no perceptual loss was given"):
        ProjectionLoss(perceptual_weight=0.5)


def test_a_generator_of_another_size_is_refused():
    terms = ProjectionLoss(perceptual_weight=0.0, latent_weight=0.0)
    images = torch.zeros(1, 2, 6, 12)

    def encoder(images: Tensor, mask: Tensor | None = None) -> Tensor:
        return torch.zeros(len(images), 3, 4)

    target = describe(images, None, encoder=encoder, terms=terms)
    with pytest.raises(RequestError, match=r"makes images of shape \[1, 2, 6, 6\]"):
        loss_of(target.codes, target, gan=ToyGan().eval(), encoder=encoder, terms=terms)
