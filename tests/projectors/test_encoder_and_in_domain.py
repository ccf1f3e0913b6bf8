import torch
from problems import (
    LinearGan,
    ToyEncoder,
    ToyGan,
    ToyPerceptual,
    linear_images,
    rng,
    toy_images,
)

from robustgen.projectors.encoder_only import EncoderProjector
from robustgen.projectors.in_domain import InDomainProjector
from robustgen.projectors.loss import ProjectionLoss
from robustgen.projectors.projector import Projector

IN_DOMAIN = ProjectionLoss(
    ToyPerceptual(),
    1.0,
    2.0,
    pixel_range=2.0,
    pixel_term="l2",
    pixel_weight=1.0,
    latent_term="cycle",
)


def test_the_encoder_alone_costs_no_pass_and_one_loss():
    gan, encoder, perceptual = ToyGan(), ToyEncoder(), ToyPerceptual()
    images = toy_images(3)
    loss = ProjectionLoss(perceptual)
    found = EncoderProjector(gan, encoder, loss)(images)
    assert found.passes.tolist() == [0, 0, 0]
    assert torch.equal(found.w_plus, encoder(images).detach())
    assert torch.equal(found.loss, found.initial_loss)
    # G: loss and picture. E: codes and latent term, and once in the line above.
    assert (gan.calls, encoder.calls, perceptual.calls) == (2, 3, 2)
    start = Projector(ToyGan(), encoder, loss=loss, passes=1)(images)
    torch.testing.assert_close(found.loss, start.initial_loss)
    pixels = EncoderProjector(ToyGan(), encoder)(images)
    expected = (pixels.images - images).abs().mean(dim=(1, 2, 3))
    torch.testing.assert_close(pixels.loss, expected)


def test_a_search_from_the_encoder_beats_the_encoder():
    images = toy_images(8)
    loss = ProjectionLoss(ToyPerceptual())
    alone = EncoderProjector(ToyGan(), ToyEncoder(), loss)(images)
    hybrid = Projector(ToyGan(), ToyEncoder(), loss=loss, passes=12)(images)
    assert (hybrid.loss < 0.6 * alone.loss).all()


def test_in_domain_stays_where_encoder_and_generator_agree():
    # An encoder that sees images 20% too bright: E(G(w)) = 1.2 w. The least squares
    # a and the term m (w - 1.2 w)^2 meet at w = a / (1 + 0.04 m * 36 / 6 / 4).
    gan, images = LinearGan(), linear_images(3)
    loss = ProjectionLoss(
        None,
        0.0,
        50.0,
        pixel_range=2.0,
        pixel_term="l2",
        pixel_weight=1.0,
        latent_term="cycle",
    )

    def bright(images: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        return 1.2 * gan.encode(images)

    project = InDomainProjector(gan, bright, loss, passes=300, rate=0.02)
    a = gan.encode(images)
    expected = a / (1 + 0.04 * 50 * 36 / (6 * 4))
    torch.testing.assert_close(
        project(images).w_plus, expected.detach(), atol=2e-3, rtol=0
    )


def test_a_mask_drops_the_latent_term():
    images = toy_images(3)
    mask = (torch.rand(3, 1, 6, 6, generator=rng(0)) > 0.4).float()
    gan, encoder = ToyGan(), ToyEncoder()
    masked = InDomainProjector(gan, encoder, IN_DOMAIN, passes=6)(images, mask)
    without = ProjectionLoss(
        IN_DOMAIN.perceptual,
        1.0,
        0.0,
        pixel_range=2.0,
        pixel_term="l2",
        pixel_weight=1.0,
    )
    plain = Projector(
        gan, encoder, loss=without, optimizer="adam", passes=6, rate=0.01
    )(images, mask)
    assert torch.equal(masked.w_plus, plain.w_plus)
    assert torch.equal(masked.loss, plain.loss)
    whole = InDomainProjector(gan, encoder, IN_DOMAIN, passes=6)(images)
    cycle = Projector(
        gan, encoder, loss=IN_DOMAIN, optimizer="adam", passes=6, rate=0.01
    )(images)
    assert torch.equal(whole.w_plus, cycle.w_plus)
