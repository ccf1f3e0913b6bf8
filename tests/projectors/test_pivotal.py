import math
from dataclasses import replace

import pytest
import torch
from problems import LinearGan, ToyEncoder, ToyGan, ToyPerceptual, linear_images, rng
from torch import Tensor

from robustgen.errors import RequestError
from robustgen.projectors.encoder_only import EncoderProjector
from robustgen.projectors.loss import ProjectionLoss
from robustgen.projectors.minimum import Outcome
from robustgen.projectors.pivotal import Locality, PivotalProjector, unflattened
from robustgen.projectors.projector import Projector
from robustgen.projectors.swapped import tuned_parameters

SQUARES = ProjectionLoss(
    None, 0.0, 0.0, pixel_range=2.0, pixel_term="l2", pixel_weight=1.0
)
BOTH = ProjectionLoss(
    ToyPerceptual(), 1.0, 0.0, pixel_range=2.0, pixel_term="l2", pixel_weight=1.0
)


def pivotal(gan: LinearGan, loss: ProjectionLoss = SQUARES) -> PivotalProjector:
    pivot = EncoderProjector(gan, gan.encode)
    return PivotalProjector(gan, pivot, loss, passes=40, rate=5e-3)


def published(image: Tensor, passes: int, rate: float) -> tuple[Tensor, Tensor]:
    """Weights and lowest loss after the published loop with `torch.optim.Adam`."""
    gan = LinearGan(strength=0.1)
    code = gan.encode(image[None]).detach()
    tuned = [gan.weight, gan.strength]
    optimizer = torch.optim.Adam(tuned, lr=rate)
    best, weight = math.inf, gan.weight.detach().clone()
    for _ in range(passes):
        made, aim = 2 * gan.synthesize(code) - 1, 2 * image[None] - 1
        loss = (made - aim).square().mean()
        if loss.item() < best:
            best, weight = loss.item(), gan.weight.detach().clone()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return weight, torch.tensor(best)


def test_tuning_is_that_of_the_published_loop_for_each_image():
    gan, images = LinearGan(strength=0.1), linear_images(3)
    found = pivotal(gan)(images)
    assert torch.equal(found.w_plus, gan.encode(images).detach())
    for i in range(3):
        weight, loss = published(images[i], 40, 5e-3)
        torch.testing.assert_close(found.loss[i], loss, atol=1e-6, rtol=1e-3)
        # Pictures of unit codes are the rows of the tuned weights.
        codes = torch.eye(6).view(1, 6, 2, 3)
        zero = found.decode(torch.zeros(1, 1, 2, 3), slice(i, i + 1))
        views = found.decode(codes, slice(i, i + 1)) - zero
        torch.testing.assert_close(views.flatten(2)[0], weight, atol=1e-3, rtol=0)


def test_the_shared_generator_is_not_changed_and_the_tuned_ones_are_near():
    gan, images = LinearGan(strength=0.1), linear_images(4)
    before = {k: v.clone() for k, v in gan.state_dict().items()}
    found = pivotal(gan)(images)
    after = gan.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())
    assert gan.weight.grad is None
    assert (found.loss < 0.01 * found.initial_loss).all()
    torch.testing.assert_close(found.images, images, atol=0.04, rtol=0)
    shared = gan.synthesize(found.w_plus).detach()
    expected = 4 * (shared - images).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(found.initial_loss, expected)


def test_the_pivot_counts_and_a_distance_below_the_threshold_ends_it():
    gan, images = LinearGan(), linear_images(3)
    pivot = Projector(
        gan, gan.encode, loss=ProjectionLoss(perceptual_weight=0.0), passes=5
    )
    project = PivotalProjector(gan, pivot, BOTH, passes=7, threshold=0.0)
    found = project(images)
    assert found.passes.tolist() == [12] * 3
    assert found.outcome.tolist() == [Outcome.BUDGET] * 3
    near = replace(project, threshold=1.0)(images)
    assert near.passes.tolist() == [6] * 3
    assert near.outcome.tolist() == [Outcome.REACHED] * 3
    torch.testing.assert_close(near.images, pivot(images).images)
    # The perceptual distance alone counts, not the loss.
    made = pivot(images).images
    distance = ToyPerceptual()
    levels = distance.compare(distance.features(made), distance.features(images))
    middle = levels.sort().values[1].item() * (1 + 1e-3)
    some = replace(project, threshold=middle)(images)
    assert (some.passes == 6).tolist() == (levels <= middle).tolist()
    steps = replace(project, steps=2)(images)
    assert steps.passes.tolist() == [8] * 3


def test_a_mask_hides_pixels_from_tuning():
    gan, images = LinearGan(), linear_images(2)
    mask = torch.ones(2, 1, 6, 6)
    mask[:, :, :2] = 0
    other = images.clone()
    other[:, :, :2] = torch.rand(2, 1, 2, 6, generator=rng(0))
    codes = gan.encode(images).detach()

    def same(images: Tensor, mask: Tensor | None = None) -> Tensor:
        return codes

    project = PivotalProjector(
        gan, EncoderProjector(gan, same), BOTH, passes=30, rate=5e-3, threshold=0.0
    )
    a, b = project(images, mask), project(other, mask)
    assert torch.equal(a.images, b.images)
    hidden = (a.images - images)[:, :, :2].abs().mean()
    shown = (a.images - images)[:, :, 2:].abs().mean()
    assert shown < 0.5 * hidden


def test_locality_keeps_pictures_of_other_codes():
    gan, images = LinearGan(strength=0.1), linear_images(3)
    free = pivotal(gan)(images)
    held = replace(pivotal(gan), locality=Locality(50.0, 2.0))(images)
    away = torch.randn(3, 8, 2, 3, generator=rng(3))
    codes = free.w_plus[:, None] + 2 * torch.nn.functional.normalize(
        away.flatten(2), dim=2
    ).view_as(away)
    shared = gan.synthesize(codes.flatten(0, 1)).view(3, 8, 1, 6, 6)
    moved = [(p.decode(codes) - shared).abs().mean().item() for p in (free, held)]
    assert moved[1] < 0.4 * moved[0]


def test_codes_of_the_locality_term_lie_at_its_distance():
    gan = LinearGan()
    seen: list[Tensor] = []

    class Watched(LinearGan):
        def synthesize(self, w_plus: Tensor) -> Tensor:
            seen.append(w_plus.detach())
            return super().synthesize(w_plus)

    gan = Watched()
    pivot = EncoderProjector(gan, gan.encode)
    project = PivotalProjector(
        gan, pivot, SQUARES, passes=1, locality=Locality(0.1, 3.0)
    )
    found = project(linear_images(1))
    distances = [(w - found.w_plus).norm().item() for w in seen if w.shape[0] == 1]
    assert max(distances) == pytest.approx(3.0, rel=1e-5)
    # The tuned and the shared generator make the same code.
    assert [d > 2 for d in distances].count(True) == 2


def test_every_parameter_of_the_picture_is_tuned_and_no_other():
    gan = LinearGan()
    gan.requires_grad_(False)
    assert tuned_parameters(gan, torch.zeros(2, 2, 3)).keys() == {"weight", "strength"}
    own = unflattened(
        torch.arange(14.0).view(2, 7),
        {"a": torch.zeros(2, 3), "b": torch.zeros(())},
    )
    assert own["a"].shape == (2, 2, 3)
    assert own["b"].tolist() == [6.0, 13.0]


def test_what_makes_no_sense_is_refused():
    gan = LinearGan()
    pivot = EncoderProjector(gan, gan.encode)
    with pytest.raises(RequestError, match="The pivot is found with another generator"):
        PivotalProjector(LinearGan(), pivot, SQUARES)
    with pytest.raises(RequestError, match=r"latent_weight is 0.25: tuning moves no"):
        PivotalProjector(gan, pivot, ProjectionLoss(perceptual_weight=0.0))
    with pytest.raises(RequestError, match="threshold is -1"):
        PivotalProjector(gan, pivot, SQUARES, threshold=-1.0)
    with pytest.raises(RequestError, match="locality_weight is -1"):
        Locality(-1.0)
    with pytest.raises(RequestError, match="locality_distance is 0"):
        Locality(0.1, 0.0)
    toy = ToyGan()
    toy_pivot = EncoderProjector(toy, ToyEncoder())
    with pytest.raises(RequestError, match="ToyGan has no mapping network"):
        PivotalProjector(toy, toy_pivot, SQUARES, locality=Locality(0.1))

    class Frozen:
        num_layers, w_dim = 2, 3

        def synthesize(self, w_plus: Tensor) -> Tensor:
            return gan.synthesize(w_plus)

    frozen = Frozen()
    with pytest.raises(RequestError, match=r"Frozen is no torch\.nn\.Module"):
        PivotalProjector(frozen, EncoderProjector(frozen, gan.encode), SQUARES)(
            linear_images(1)
        )
