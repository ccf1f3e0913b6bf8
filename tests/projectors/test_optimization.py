"""Least squares of a linear generator, whose solution is known in every space."""

import math
from typing import Any

import pytest
import torch
from problems import LinearGan, ToyGan, linear_images, rng
from torch import Tensor

from robustgen.errors import RequestError
from robustgen.projectors.loss import ProjectionLoss
from robustgen.projectors.optimization import OptimizationProjector
from robustgen.projectors.spaces import (
    DRAWS,
    Centers,
    class_labels,
    lift_from,
    require_mapping,
    start_at,
)
from robustgen.rngs import rng_for

SQUARES = ProjectionLoss(None, 0.0, 0.0, pixel_term="l2", latent_term="start")


def least_squares(images: Tensor, mask: Tensor, space: str) -> Tensor:
    """The codes [N, 2, 3] of a `LinearGan` of lowest masked L2, in closed form."""
    rows = LinearGan().weight.detach().double()
    basis = rows if space == "w_plus" else rows[:3] + rows[3:]
    solutions: list[Tensor] = []
    for image, m in zip(images.double(), mask.double(), strict=True):
        weighted = basis * m.flatten()
        target = weighted @ (image - 0.5).flatten()
        w = torch.linalg.solve(weighted @ basis.T, target)
        solutions.append(w.view(2, 3) if space == "w_plus" else w.expand(2, 3))
    return torch.stack(solutions).float()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("space", ["z", "w", "w_plus"])
@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_least_squares_are_solved_in_every_space(
    space: Any, optimizer: Any, masked: bool
):
    images = linear_images(4)
    mask = torch.ones(4, 1, 6, 6)
    if masked:
        mask = torch.rand(4, 1, 6, 6, generator=rng(1))
        mask[:, :, 0] = 0
    project = OptimizationProjector(
        LinearGan(),
        SQUARES,
        space=space,
        optimizer=optimizer,
        passes=40 if optimizer == "lbfgs" else 400,
        rate=0.02,
    )
    found = project(images, mask if masked else None)
    expected = least_squares(images, mask, space)
    torch.testing.assert_close(found.w_plus, expected, atol=2e-3, rtol=0)
    residual = LinearGan().synthesize(expected) - images
    weight = mask.sum(dim=(1, 2, 3))
    lowest = (residual.square() * mask).sum(dim=(1, 2, 3)) / weight
    torch.testing.assert_close(found.loss, lowest.detach(), atol=1e-6, rtol=1e-3)


def test_the_latent_term_holds_the_code_at_its_start():
    # Orthonormal rows: per code coordinate (w - a)^2 / 36 + k (w - s)^2 / 6.
    images, k = linear_images(3), 0.5
    held = ProjectionLoss(None, 0.0, k, pixel_term="l2", latent_term="start")
    gan = LinearGan()
    found = OptimizationProjector(gan, held, optimizer="lbfgs", passes=30)(images)
    start = Centers(gan)(None, 1, torch.device("cpu")).w
    a = least_squares(images, torch.ones(3, 1, 6, 6), "w_plus")
    expected = (a / 36 + k * start[:, None] / 6) / (1 / 36 + k / 6)
    torch.testing.assert_close(found.w_plus, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("space", ["z", "w", "w_plus"])
def test_the_search_starts_at_the_mean_code_of_the_class(space: Any):
    gan = LinearGan(num_classes=3)
    images, labels = linear_images(2), torch.tensor([2, 0])
    project = OptimizationProjector(gan, SQUARES, space=space, passes=1)
    found = project(images, labels=labels)
    mean = torch.tensor([2.0, 0.0])[:, None, None].expand(2, 2, 3)
    # The mean of 10,000 codes of std 2, or the nearest of them.
    torch.testing.assert_close(
        found.w_plus, mean, atol=0.3 if space == "z" else 0.1, rtol=0
    )
    assert found.passes.tolist() == [1, 1]
    assert torch.equal(found.loss, found.initial_loss)


def test_the_center_is_the_mean_of_fixed_draws_and_its_spread_their_distance():
    gan = LinearGan()
    center = Centers(gan)(None, 2, torch.device("cpu"))
    z = torch.randn(DRAWS, 3, generator=rng_for(0, "projection", "mean code"))
    w = 2 * z
    torch.testing.assert_close(center.w[0], w.mean(dim=0))
    assert torch.equal(center.w[0], center.w[1])
    distance = (w - w.mean(dim=0)).square().sum(dim=1)
    torch.testing.assert_close(center.spread[0], distance.mean().sqrt())
    assert center.spread[0].item() == pytest.approx(2 * math.sqrt(3), rel=0.02)
    assert torch.equal(center.z[0], z[distance.argmin()])


def test_a_center_is_estimated_once():
    class Counted(LinearGan):
        calls = 0

        def map(
            self, z: Tensor, labels: Tensor | None = None, truncation: float = 1.0
        ) -> Tensor:
            self.calls += len(z)
            return super().map(z, labels, truncation)

    gan = Counted(num_classes=4)
    centers = Centers(gan)
    for labels in ([0, 3], [3, 3], [0, 0]):
        centers(torch.tensor(labels), 2, torch.device("cpu"))
    assert gan.calls == 2 * DRAWS


def test_points_of_each_space_lift_to_one_code_per_layer():
    gan = LinearGan(num_classes=2)
    labels = torch.tensor([0, 1, 1])
    points, some = torch.randn(2, 3, generator=rng(0)), torch.tensor([0, 2])
    w = lift_from("w", gan, labels)(points, some)
    assert torch.equal(w, points[:, None].expand(2, 2, 3))
    z = lift_from("z", gan, labels)(points, some)
    assert torch.equal(z[:, 0], 2 * points + torch.tensor([[0.0], [1.0]]))
    both = torch.randn(2, 6, generator=rng(0))
    assert torch.equal(lift_from("w_plus", gan, None)(both, some).flatten(1), both)
    center = Centers(gan)(labels, 3, torch.device("cpu"))
    assert torch.equal(
        start_at(center, "w_plus", 2), torch.cat([center.w, center.w], dim=1)
    )


def test_what_makes_no_sense_is_refused():
    gan, images = LinearGan(num_classes=3), linear_images(2)
    project = OptimizationProjector(gan, SQUARES, passes=1)
    with pytest.raises(RequestError, match="3 classes: the projection needs the pred"):
        project(images)
    with pytest.raises(RequestError, match="from 0 to 3: this generator has classes 0"):
        project(images, labels=torch.tensor([0, 3]))
    assert class_labels(LinearGan(), torch.tensor([5, 6]), 2) is None
    with pytest.raises(RequestError, match="latent_term is 'encoder', which needs an"):
        OptimizationProjector(gan, ProjectionLoss(perceptual_weight=0.0))
    with pytest.raises(RequestError, match="passes is 0"):
        OptimizationProjector(gan, SQUARES, passes=0)
    with pytest.raises(RequestError, match="ToyGan has no mapping network"):
        require_mapping(ToyGan())
    init: Any = OptimizationProjector.__init__
    init = getattr(init, "__wrapped__", init)
    blank = object.__new__(OptimizationProjector)
    with pytest.raises(RequestError, match=r"Unknown space 'wplus'. Did you mean 'w_"):
        init(blank, gan, SQUARES, space="wplus")
    with pytest.raises(RequestError, match="Unknown optimizer 'sgd'"):
        init(blank, gan, SQUARES, optimizer="sgd")
