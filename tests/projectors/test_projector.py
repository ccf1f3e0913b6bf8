import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from problems import ToyEncoder, ToyGan, ToyPerceptual, rng, toy_images
from torch import Tensor

from robustgen.errors import RequestError
from robustgen.gan.stylegan2 import GanConfig, StyleGAN2
from robustgen.projectors.loss import ProjectionLoss
from robustgen.projectors.projector import Projector

LOSS = ProjectionLoss(ToyPerceptual(), 0.5, 0.25)


def toy_projector(**settings: Any) -> Projector:
    return Projector(ToyGan(), ToyEncoder(), loss=LOSS, **settings)


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_the_loss_falls_from_that_of_the_encoder(optimizer: str):
    projector = toy_projector(optimizer=optimizer, passes=60)
    images = toy_images(6)
    projection = projector(images)
    assert projection.w_plus.shape == (6, 3, 4)
    assert (projection.loss < 0.2 * projection.initial_loss).all()
    assert projection.passes.tolist() == [60] * 6
    made = ToyGan().eval().synthesize(projection.w_plus)
    torch.testing.assert_close(projection.images, made)
    start = toy_projector(optimizer=optimizer, passes=1)(images)
    torch.testing.assert_close(start.w_plus, ToyEncoder()(images).detach())
    assert torch.equal(start.initial_loss, projection.initial_loss)


@pytest.mark.parametrize("batch", [1, 16])
def test_batch_size_changes_no_pass_and_rounding_alone(batch: int):
    images = toy_images(64)
    images = (images + 0.03 * torch.randn(images.shape, generator=rng(4))).clamp(0, 1)
    projector = toy_projector(passes=8)
    whole = projector(images)
    for rows in torch.arange(64).split(batch):
        part = projector(images[rows])
        assert torch.equal(part.passes, whole.passes[rows])
        torch.testing.assert_close(part.loss, whole.loss[rows], atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(part.images, whole.images[rows], atol=1e-2, rtol=0)


def test_a_stylegan2_finds_its_own_images():
    gan = StyleGAN2(GanConfig(8, (16, 12), 8, 8, 2), rng(0))

    def mean_code(images: Tensor, mask: Tensor | None = None) -> Tensor:
        return images.mean(dim=(1, 2, 3)).view(-1, 1, 1) * torch.zeros(4, 8)

    with torch.no_grad():
        w = gan.map(torch.randn(4, 8, generator=rng(1)))
        images = gan.synthesize(0.5 * w[:, None].expand(-1, 4, -1)).clamp(0, 1)
    loss = ProjectionLoss(perceptual_weight=0.0, latent_weight=0.0)
    projection = Projector(gan, mean_code, loss=loss, passes=60)(images)
    assert (projection.loss < 0.6 * projection.initial_loss).all()


def test_hidden_pixels_change_nothing():
    images = toy_images(3)
    mask = torch.ones(3, 1, 6, 6)
    mask[:, :, :2] = 0
    other = images.clone()
    other[:, :, :2] = torch.rand(3, 2, 2, 6, generator=rng(0))
    projector = toy_projector(passes=8)
    a, b = projector(images, mask), projector(other, mask)
    assert torch.equal(a.w_plus, b.w_plus)
    assert torch.equal(a.loss, b.loss)
    assert not torch.equal(a.w_plus, projector(images).w_plus)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_projects_though_gradients_are_off(mode: Callable[[], Any]):
    projector, images = toy_projector(passes=5), toy_images(2)
    expected = projector(images)
    mask = torch.ones(2, 1, 6, 6)
    with mode():
        found = projector(images * 1)
        masked = projector(images * 1, mask * 1)
    assert torch.equal(found.w_plus, expected.w_plus)
    torch.testing.assert_close(masked.loss, expected.loss)


def test_models_are_left_as_they_were():
    gan, encoder = ToyGan(), ToyEncoder()
    encoder.eval()
    gan.weight.requires_grad_(False)
    before = {k: v.clone() for k, v in gan.state_dict().items()}
    images = toy_images(2).requires_grad_()
    projection = Projector(gan, encoder, loss=LOSS, passes=3)(images)
    assert gan.training
    assert gan.dropout.training
    assert not encoder.training
    assert encoder.weight.requires_grad
    assert encoder.weight.grad is None
    assert images.grad is None
    assert not projection.w_plus.requires_grad
    assert all(torch.equal(v, before[k]) for k, v in gan.state_dict().items())


def test_modes_come_back_after_a_failure():
    gan = ToyGan()
    with pytest.raises(RequestError, match="The encoder returns codes of shape"):
        Projector(gan, lambda images, mask=None: torch.zeros(len(images), 5, 4))(
            toy_images(1)
        )
    assert gan.training


@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_chunks_change_rounding_alone(chunk: int):
    images = toy_images(7)
    whole = toy_projector(passes=6)(images)
    parts = toy_projector(passes=6, chunk=chunk)(images)
    torch.testing.assert_close(parts.loss, whole.loss, atol=1e-5, rtol=1e-3)
    assert torch.equal(parts.passes, whole.passes)


def test_a_pass_is_one_call_of_each_network():
    gan, encoder, perceptual = ToyGan(), ToyEncoder(), ToyPerceptual()
    loss = ProjectionLoss(perceptual, 0.5, 0.25)
    Projector(gan, encoder, loss=loss, passes=7)(toy_images(3))
    # One more: G for the result, E and the features for the images.
    assert (gan.calls, encoder.calls, perceptual.calls) == (8, 8, 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda x: x[0],
            r"Images of shape \[2, 6, 6\].*expected floats \[N, C, H, W\]",
        ),
        (lambda x: (x * 255).to(torch.uint8), "type torch.uint8"),
        (lambda x: x[:0], "nothing to project"),
        (lambda x: x * math.nan, "NaN or infinite pixels"),
        (lambda x: x / 0, "NaN or infinite pixels"),
        (lambda x: x * 2 - 1.5, r"lie in \[-.*expected pixels in \[0, 1\]"),
        (lambda x: x * 255, r"expected pixels in \[0, 1\]"),
    ],
)
def test_images_that_make_no_sense_are_refused(
    change: Callable[[Tensor], Tensor], message: str
):
    # Beartype knows the shapes in tests, users' code does not have it.
    project = Projector.__call__
    project = getattr(project, "__wrapped__", project)
    with pytest.raises(RequestError, match=message):
        project(toy_projector(), change(toy_images(2)))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(2, 2, 6, 6), r"A mask of shape \[2, 2, 6, 6\].*\[2, 1, 6, 6\]"),
        (torch.ones(2, 1, 6, 6) * 2, r"A mask holds values outside \[0, 1\]"),
        (torch.ones(2, 1, 6, 6) * math.nan, r"A mask holds values outside \[0, 1\]"),
        (
            torch.ones(2, 1, 6, 6) * torch.tensor([1.0, 0.0]).view(2, 1, 1, 1),
            "The mask of image 1 is zero everywhere",
        ),
    ],
)
def test_masks_that_make_no_sense_are_refused(mask: Tensor, message: str):
    project = Projector.__call__
    project = getattr(project, "__wrapped__", project)
    with pytest.raises(RequestError, match=message):
        project(toy_projector(), toy_images(2), mask)


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(RequestError, match="passes is 0"):
        toy_projector(passes=0)
    with pytest.raises(RequestError, match="chunk is 0"):
        toy_projector(chunk=0)
    init: Any = Projector.__init__
    init = getattr(init, "__wrapped__", init)
    with pytest.raises(RequestError, match="Unknown optimizer 'lbgfs'"):
        init(toy_projector(), ToyGan(), ToyEncoder(), optimizer="lbgfs")
