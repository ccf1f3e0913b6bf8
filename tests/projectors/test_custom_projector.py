"""Projection methods of the user's own: what they get, and what is made of theirs."""

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from toys import LeastSquares, Project, Ramps, gray

from robustgen.adaptive.paths import draws_starts, encoder_of
from robustgen.errors import RequestError
from robustgen.projection_settings import (
    CustomProjection,
    max_passes,
    needs_encoder,
    needs_perceptual,
)
from robustgen.projectors.build import build_projector
from robustgen.projectors.custom import CustomProjector
from robustgen.projectors.loss import ProjectionLoss
from robustgen.projectors.method import Projection, ProjectionMethod
from robustgen.projectors.projector import Projector
from robustgen.projectors.unrolled import can_unroll

MODULE = "a_projector"


def built(
    monkeypatch: pytest.MonkeyPatch, make: Any, encoder: bool = True, **args: Any
) -> ProjectionMethod:
    """The method that a suite gets which names `make`."""
    module = ModuleType(MODULE)
    setattr(module, "make", make)  # noqa: B010
    monkeypatch.setitem(sys.modules, MODULE, module)
    gan = Ramps()
    return build_projector(
        CustomProjection(factory=f"{MODULE}:make", args=args, name="mine"),
        gan=gan,
        encoder=LeastSquares(gan) if encoder else None,
        perceptual=None,
        seed=3,
        plugins=(MODULE,),
    )


def closest(gan: Ramps, encoder: Any, perceptual: Any, seed: int, shift: float = 0.0):
    """A projection whose codes are those of the encoder, shifted."""

    def project(images: Tensor, mask: Any, samples: Any, labels: Any) -> Tensor:
        return encoder(images, mask) + shift

    return project


def test_settings_say_what_is_not_known():
    settings = CustomProjection(plugin="any")
    assert (settings.method, max_passes(settings)) == ("any", 0)
    assert not needs_encoder(settings)
    assert not needs_perceptual(settings)


def test_codes_alone_make_a_projection(monkeypatch: pytest.MonkeyPatch):
    projector = built(monkeypatch, closest, shift=0.1)
    images = gray(0.2, 0.7)
    found = projector(images)
    codes = LeastSquares(Ramps())(images) + 0.1
    torch.testing.assert_close(found.w_plus, codes)
    torch.testing.assert_close(found.images, Ramps().synthesize(codes))
    error = (found.images - images).abs().flatten(1).mean(dim=1)
    torch.testing.assert_close(found.loss, error)
    assert torch.equal(found.loss, found.initial_loss)
    assert found.passes.tolist() == [0, 0]
    views = found.decode(codes[:1, None].expand(-1, 3, -1, -1), slice(1))
    assert views.shape == (1, 3, 1, 4, 4)


def test_it_gets_seed_samples_and_gradients(monkeypatch: pytest.MonkeyPatch):
    seen: list[Any] = []

    def make(gan: Ramps, encoder: Any, perceptual: Any, seed: int):
        def project(images: Tensor, mask: Any, samples: Any, labels: Any) -> Tensor:
            codes = encoder(images).requires_grad_()
            loss = gan.synthesize(codes).square().sum()
            (slope,) = torch.autograd.grad(loss, codes)
            seen.append((seed, perceptual, tuple(samples), labels, float(slope.sum())))
            return codes

        return project

    projector = built(monkeypatch, make)
    with torch.inference_mode():
        found = projector(gray(0.5, 0.5), samples=[7, 9])
    assert seen == [(3, None, (7, 9), None, pytest.approx(32.0))]
    assert not found.w_plus.requires_grad


def test_draws_belong_to_the_image(monkeypatch: pytest.MonkeyPatch):
    def make(gan: Ramps, encoder: Any, perceptual: Any, seed: int):
        return lambda images, mask, samples, labels: encoder(images) + torch.rand(1)

    projector = built(monkeypatch, make)
    assert isinstance(projector, CustomProjector)
    images = gray(0.5, 0.5)
    before = torch.random.get_rng_state()
    one, two = (projector(images, samples=[4, 5]) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(one.w_plus, two.w_plus)
    assert projector.draws(images)
    assert draws_starts(projector)


def test_whether_it_draws_is_found_out_or_said(monkeypatch: pytest.MonkeyPatch):
    projector = built(monkeypatch, closest)
    assert isinstance(projector, CustomProjector)
    assert projector.random is None
    assert not projector.draws(gray(0.1, 0.9))

    def make(gan: Ramps, encoder: Any, perceptual: Any, seed: int):
        project = closest(gan, encoder, perceptual, seed)
        setattr(project, "random", False)  # noqa: B010
        return project

    assert not draws_starts(built(monkeypatch, make))


def test_attacks_know_the_encoder_and_not_the_search(
    monkeypatch: pytest.MonkeyPatch,
):
    assert isinstance(encoder_of(built(monkeypatch, closest)), LeastSquares)
    bare = built(monkeypatch, lambda **_: Project(LeastSquares(Ramps())), encoder=False)
    assert isinstance(encoder_of(bare), LeastSquares)
    assert can_unroll(bare) == "CustomProjector: its search is not known"
    found = bare(gray(0.25))
    assert isinstance(found, Projection)
    assert found.passes.tolist() == [1]


def test_a_method_that_ships_keeps_its_type(monkeypatch: pytest.MonkeyPatch):
    def make(gan: Ramps, encoder: Any, perceptual: Any, seed: int, passes: int):
        loss = ProjectionLoss(perceptual_weight=0.0, latent_weight=0.0)
        return Projector(gan, encoder, loss=loss, passes=passes)

    projector = built(monkeypatch, make, passes=2)
    assert isinstance(projector, Projector)
    assert can_unroll(projector) is None


def returning(value: Any) -> Any:
    return lambda **_: lambda images, mask, samples, labels: value


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda **_: 3, "'mine': the callable returned int; expected a function"),
        (lambda gan: gan, r"failed \(TypeError: .*unexpected keyword argument"),
        (returning(None), r"returned NoneType; expected codes w_plus \[2, 1, 2\]"),
        (returning(torch.zeros(2, 2)), r"codes of shape \[2, 2\] .* floats \[2, 1, 2"),
        (returning(torch.zeros(2, 1, 2).long()), "type torch.int64; expected floats"),
        (returning(torch.full((2, 1, 2), torch.nan)), "not finite, for image 0"),
    ],
)
def test_what_makes_no_sense_is_refused(
    monkeypatch: pytest.MonkeyPatch, make: Any, message: str
):
    with pytest.raises(RequestError, match=message):
        built(monkeypatch, make)(gray(0.1, 0.2))


def test_samples_are_those_of_the_batch(monkeypatch: pytest.MonkeyPatch):
    samples: Sequence[int] = [1]
    with pytest.raises(RequestError, match="1 sample indices for 2 images"):
        built(monkeypatch, closest)(gray(0.1, 0.2), samples=samples)
