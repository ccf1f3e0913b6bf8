"""The threat set: what `clip` returns lies in it, and what lies in it stays."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from robustgen.threat import Threat


@st.composite
def threats(draw: st.DrawFn) -> Threat:
    norm = draw(st.sampled_from(["linf", "l2"]))
    if norm == "linf":
        return Threat("linf", draw(st.floats(0, 1)))
    return Threat("l2", draw(st.one_of(st.floats(0, 8), st.just(torch.inf))))


@st.composite
def image_pairs(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Any images beside clean ones: inside [0, 1] or not, near or far."""
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, 3)), 3, 2)
    rng = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    x0 = torch.rand(shape, generator=rng)
    x0 = torch.where(torch.rand(shape, generator=rng) < 0.3, x0.round(), x0)
    scale = draw(st.sampled_from([0.0, 1e-6, 1e-3, 0.03, 0.3, 3.0, 1e6]))
    x = x0 + scale * torch.randn(shape, generator=rng)
    return x, x0


@given(threats(), image_pairs())
def test_clip_returns_images_of_the_set(threat: Threat, pair: tuple[Tensor, Tensor]):
    x, x0 = pair
    clipped = threat.clip(x, x0)
    assert threat.contains(clipped, x0).all()
    assert (clipped >= 0).all()
    assert (clipped <= 1).all()


@given(threats(), image_pairs())
def test_clip_leaves_legal_images_alone(threat: Threat, pair: tuple[Tensor, Tensor]):
    x, x0 = pair
    legal = threat.contains(x, x0, atol=0)
    clipped = threat.clip(x, x0)
    torch.testing.assert_close(clipped[legal], x[legal], atol=1e-6, rtol=0)


@given(threats(), image_pairs())
def test_clip_twice_is_clip_once(threat: Threat, pair: tuple[Tensor, Tensor]):
    x, x0 = pair
    once = threat.clip(x, x0)
    torch.testing.assert_close(threat.clip(once, x0), once, atol=1e-6, rtol=0)


@given(threats(), image_pairs())
def test_clip_never_moves_an_image_further_away(
    threat: Threat, pair: tuple[Tensor, Tensor]
):
    x, x0 = pair
    before, after = threat.distance(x, x0), threat.distance(threat.clip(x, x0), x0)
    assert (after <= before * (1 + 1e-6) + 1e-6).all()


@given(threats(), image_pairs())
def test_clip_keeps_the_direction_of_each_pixel(
    threat: Threat, pair: tuple[Tensor, Tensor]
):
    # No sign turns, so a step towards the optimum is never undone.
    x, x0 = pair
    clipped = threat.clip(x, x0)
    assert ((clipped - x0) * (x - x0) >= -1e-9).all()


@given(threats(), image_pairs())
def test_an_image_is_clipped_alone(threat: Threat, pair: tuple[Tensor, Tensor]):
    x, x0 = pair
    whole = threat.clip(x, x0)
    alone = torch.cat([threat.clip(x[i : i + 1], x0[i : i + 1]) for i in range(len(x))])
    torch.testing.assert_close(alone, whole, atol=1e-7, rtol=0)


@given(threats(), image_pairs())
def test_clip_writes_into_nothing(threat: Threat, pair: tuple[Tensor, Tensor]):
    x, x0 = pair
    kept = x.clone(), x0.clone()
    threat.clip(x, x0)
    assert torch.equal(x, kept[0])
    assert torch.equal(x0, kept[1])


@given(st.floats(0.01, 1.0), st.floats(2.0, 50.0))
def test_an_l2_image_far_out_lands_on_the_surface_on_its_line(
    eps: float, factor: float
):
    # The fault of two libraries: a factor clamped on the wrong side never shortens.
    x0 = torch.full((1, 1, 4, 4), 0.5)
    step = torch.zeros_like(x0)
    step[0, 0, 1, 2], step[0, 0, 3, 0] = 0.006, -0.008  # length 0.01
    x = x0 + step * min(factor * eps / 0.01, 60)
    clipped = Threat("l2", eps * 0.1).clip(x, x0)
    expected = x0 + step / 0.01 * min(eps * 0.1, 60 * 0.01, factor * eps)
    torch.testing.assert_close(clipped, expected, atol=1e-6, rtol=1e-5)


def test_distances_are_the_norms():
    x0 = torch.zeros(2, 1, 2, 2)
    x = x0.clone()
    x[1, 0, 0] = torch.tensor([0.3, -0.4])
    assert Threat("l2", 1.0).distance(x, x0).tolist() == pytest.approx([0, 0.5])
    assert Threat("linf", 1.0).distance(x, x0).tolist() == pytest.approx([0, 0.4])


def test_the_clean_threat_holds_the_clean_image_only():
    threat = Threat("none", 0.0)
    x0 = torch.rand(2, 1, 2, 2)
    assert torch.equal(threat.clip(x0 + 0.1, x0), x0)
    assert threat.contains(x0, x0).all()
    assert not threat.contains((x0 * 0.5) + 0.01, x0).any()


def test_the_threat_of_a_corruption_holds_every_image():
    threat = Threat("none", torch.inf)
    x0 = torch.rand(2, 1, 2, 2)
    far = 1 - x0.round()
    assert torch.equal(threat.clip(far, x0), far)
    assert threat.contains(far, x0).all()
    assert torch.equal(threat.clip(far * 3 - 1, x0), far)
    assert not threat.contains(far * 3 - 1, x0).any()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -0.01, 1.01])
@pytest.mark.parametrize("norm", ["linf", "l2", "none"])
def test_one_bad_pixel_puts_an_image_outside(norm: str, bad: float):
    threat = Threat("linf", 1.0) if norm == "linf" else Threat(norm, torch.inf)  # pyright: ignore[reportArgumentType]
    x0 = torch.full((2, 1, 2, 2), 0.5)
    x = x0.clone()
    x[1, 0, 0, 0] = bad
    assert threat.contains(x, x0).tolist() == [True, False]


@pytest.mark.parametrize(
    ("norm", "eps", "words"),
    [
        ("linf", 8.0, "did you mean 8/255"),
        ("linf", torch.inf, "exceeds the pixel range"),
        ("linf", -0.1, "must be 0 or more"),
        ("l2", torch.nan, "must be 0 or more"),
        ("none", 0.1, "needs a norm"),
    ],
)
def test_a_radius_that_makes_no_sense_does_not_construct(
    norm: str, eps: float, words: str
):
    with pytest.raises(ValueError, match=words):
        Threat(norm, eps)  # pyright: ignore[reportArgumentType]
