import math

import pytest
import torch
from generators import LinearGan
from torch import Tensor

from robustgen.errors import RequestError
from robustgen.gan.layers import LayerRange
from robustgen.rngs import rng_for
from robustgen.views.boundary import (
    Boundaries,
    boundaries_between,
    crossings,
    fit_boundaries,
    orthogonal_directions,
)

DIM = 6
SIDE = 4
SPREAD = torch.tensor([1.0, 0.5, 0.8, 1.2, 0.6, 1.0])
RNG = rng_for(0, "tests", "pixels")
PIXELS = 0.02 * torch.randn(SIDE * SIDE, DIM, generator=RNG)
GAN = LinearGan(PIXELS, SPREAD, SIDE)
READ = torch.randn(SIDE * SIDE, generator=RNG)
"""What the classifier looks at; the boundary's normal is parallel to PIXELS^T READ."""

NORMAL = (PIXELS.T @ READ) / (PIXELS.T @ READ).norm()
OFFSET = 0.1


def _classify(images: Tensor) -> Tensor:
    """Two classes, apart by a hyperplane of w at OFFSET from the mean style."""
    along = (images.flatten(1) - 0.5) @ READ / (PIXELS.T @ READ).norm()
    return torch.stack([-10 * (along - OFFSET), 10 * (along - OFFSET)], dim=1)


def _angle(a: Tensor, b: Tensor) -> float:
    """Between two lines, in degrees."""
    cosine = (a @ b).abs() / (a.norm() * b.norm())
    return math.degrees(math.acos(min(1.0, float(cosine))))


def test_the_normal_of_a_linear_classifier_is_found():
    found = fit_boundaries(GAN, _classify, seed=0, samples=3000)
    assert found.normals.shape == (1, DIM)
    assert _angle(found.normals[0], NORMAL) < 6
    assert (found.normals[0] @ NORMAL).item() > 0
    assert found.offsets.item() == pytest.approx(-OFFSET, abs=0.1)
    assert found.stddev.item() == pytest.approx(
        float((NORMAL * SPREAD).norm()), rel=0.05
    )
    assert found.checked.item() == 1.0
    assert found.remaining.item() > 0.9
    again = fit_boundaries(GAN, _classify, seed=0, samples=3000)
    assert torch.equal(found.normals, again.normals)
    other = fit_boundaries(GAN, _classify, seed=1, samples=3000)
    assert not torch.equal(found.normals, other.normals)


def _sectors(count: int) -> tuple[Tensor, Tensor]:
    """Styles of a plane, and logits whose largest is the nearest of `count` axes."""
    styles = torch.randn(4000, 2, generator=rng_for(0, "tests", "sectors"))
    turn = 2 * math.pi * torch.arange(count) / count
    return styles, 5 * styles @ torch.stack([turn.cos(), turn.sin()])


def test_each_of_more_classes_has_a_normal_of_its_own():
    styles, logits = _sectors(3)
    found = boundaries_between(styles, logits, seed=0, share=0.5)
    for k in range(3):
        axis = torch.tensor(
            [math.cos(2 * math.pi * k / 3), math.sin(2 * math.pi * k / 3)]
        )
        assert _angle(found.normals[k], axis) < 8
        assert (found.normals[k] @ axis).item() > 0
    assert (found.checked > 0.9).all()
    directions = found.directions()
    assert directions.names[1] == "class 1 against the rest"
    assert torch.equal(directions.vectors[:, 0], found.normals)
    assert torch.equal(directions.evidence["remaining"], found.remaining)


def test_labels_that_styles_do_not_explain_are_reported():
    rng = rng_for(0, "tests", "noise")
    styles = torch.randn(2000, DIM, generator=rng)
    logits = torch.randn(2000, 2, generator=rng)
    found = boundaries_between(styles, logits, seed=0, share=0.5)
    assert found.checked.item() == pytest.approx(0.5, abs=0.1)
    assert found.remaining.item() == pytest.approx(0.5, abs=0.1)
    assert found.directions().names == ("class 1 against class 0",)


def test_a_class_that_is_hardly_made_is_refused():
    styles, logits = _sectors(3)
    logits[:, 2] -= 100
    with pytest.raises(RequestError, match="class 2 is predicted for 0 of 4000"):
        boundaries_between(styles, logits, seed=0, share=0.5)


def test_confident_images_are_the_only_ones_learned_from():
    # A class of 10 is learned from 10, whatever the share; nothing remains of it.
    styles = torch.cat([torch.full((10, 2), -3.0), torch.full((30, 2), 3.0)])
    styles = styles + torch.randn(40, 2, generator=rng_for(0, "tests", "few"))
    side = torch.arange(40) >= 10
    logits = torch.stack([~side, side], dim=1).float()
    found = boundaries_between(styles, logits, seed=0, share=0.01)
    assert found.checked.item() == 1.0
    assert math.isnan(found.remaining.item())


def test_orthogonal_directions_leave_every_boundary_alone():
    rng = rng_for(0, "tests", "orthogonal")
    styles = torch.randn(3000, DIM, generator=rng) * SPREAD
    normals = torch.randn(2, DIM, generator=rng)
    made = orthogonal_directions(styles, normals)
    vectors = made.vectors[:, 0]
    assert vectors.shape == (DIM - 2, DIM)
    assert (vectors @ normals.T).abs().max().item() < 1e-6
    torch.testing.assert_close(vectors @ vectors.T, torch.eye(4), atol=1e-5, rtol=0)
    assert torch.equal(made.scale, made.scale.sort(descending=True).values)
    along = (styles @ vectors.T).std(dim=0)
    torch.testing.assert_close(made.scale, along, rtol=1e-3, atol=0)
    with pytest.raises(RequestError, match="leave no direction"):
        orthogonal_directions(styles, torch.eye(DIM))


def test_crossings_are_counted_on_the_layers_that_vary():
    one = torch.ones(1)
    normals = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    pair = one.expand(2)
    boundaries = Boundaries(normals, torch.tensor([-1.0, 0.0]), pair, pair, pair)
    w_plus = torch.tensor([[[9.0, 9.0], [0.0, 0.5], [0.0, 0.5]]])
    codes = w_plus[:, None].repeat(1, 3, 1, 1)
    codes[0, 1, 1:, 0] = 1.5  # crosses the first
    codes[0, 2, 0] = -9.0  # moves a layer that does not vary
    codes[0, 2, 1:, 1] = -0.1  # crosses the second
    found = crossings(boundaries, w_plus, codes, layers=LayerRange(1, 3))
    assert found.tolist() == [[False, True, False]]
    rows = torch.tensor([1])
    found = crossings(boundaries, w_plus, codes, layers=LayerRange(1, 3), rows=rows)
    assert found.tolist() == [[False, False, True]]
