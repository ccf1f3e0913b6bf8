from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from generators import brightness_gan
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from robustgen.errors import RequestError
from robustgen.gan.layers import LayerRange
from robustgen.rngs import rng_for
from robustgen.views.directions import (
    Directions,
    load_directions,
    save_directions,
    step_codes,
)

DIM = 4
LAYERS = LayerRange(1, 3)
SAMPLES = (5, 0, 9, 2)
W_PLUS = torch.randn(4, 5, DIM, generator=rng_for(0, "tests", "w_plus"))
SHARED = Directions(
    torch.eye(DIM)[:3, None], torch.tensor([1.0, 10.0, 100.0]), ("a", "b", "c")
)
LAYERED = Directions(
    torch.stack([torch.eye(DIM)[:2], 2 * torch.eye(DIM)[2:]]),
    torch.ones(2),
    ("even", "odd"),
    LAYERS,
)


def _codes(
    pick: slice = slice(None),
    *,
    directions: Directions = SHARED,
    family: str = "pca",
    layers: LayerRange = LAYERS,
    beta: float = 0.5,
    count: int = 9,
    seed: int = 0,
    rows: Tensor | None = None,
) -> Tensor:
    return step_codes(
        W_PLUS[pick],
        directions=directions,
        family=family,
        layers=layers,
        beta=beta,
        count=count,
        seed=seed,
        samples=SAMPLES[pick],
        rows=rows,
    )


@settings(max_examples=40)
@given(
    count=st.integers(1, 12),
    more=st.integers(0, 8),
    start=st.integers(0, 4),
    size=st.integers(1, 4),
    beta=st.floats(0, 5),
    seed=st.integers(0, 9),
)
def test_views_belong_to_their_sample_and_their_layers(
    count: int, more: int, start: int, size: int, beta: float, seed: int
):
    layers = LayerRange(start, min(5, start + size))
    draw = partial(_codes, layers=layers, beta=beta, seed=seed)
    all_codes = draw(count=count + more)
    assert torch.equal(draw(count=count), all_codes[:, :count])
    alone = draw(slice(2, 3), count=count + more)
    assert torch.equal(alone, all_codes[2:3])
    delta = all_codes - W_PLUS[:, None]
    outside = torch.ones(5, dtype=torch.bool)
    outside[layers.start : layers.stop] = False
    assert not delta[:, :, outside].any()
    inside = delta[:, :, layers.start : layers.stop]
    reach = beta * torch.tensor([1.0, 10.0, 100.0, 0.0])
    assert (inside.abs() <= reach + 1e-4).all()


def test_a_layer_may_have_a_vector_of_its_own():
    codes = _codes(directions=LAYERED, count=50)
    delta = (codes - W_PLUS[:, None])[:, :, 1:3]
    even = delta[..., 2:].abs().amax(dim=(2, 3)) < 1e-6
    torch.testing.assert_close(
        delta[even][:, 0, 0], delta[even][:, 1, 1], atol=1e-6, rtol=0
    )
    torch.testing.assert_close(
        delta[~even][:, 0, 2], delta[~even][:, 1, 3], atol=1e-6, rtol=0
    )
    assert 0.3 < even.float().mean().item() < 0.7


def test_a_direction_may_be_given_to_each_image():
    rows = torch.tensor([2, 0, 1, 2])
    delta = (_codes(rows=rows) - W_PLUS[:, None])[:, :, 1]
    assert delta.abs().sum(dim=(1)).argmax(dim=1).tolist() == [2, 0, 1, 2]
    with pytest.raises(RequestError, match="class 3 has no direction of family 'pca'"):
        _codes(rows=torch.tensor([0, 0, 0, 3]))


def test_another_family_draws_other_steps():
    assert not torch.isclose(_codes(), _codes(family="sefa"))[:, :, 1].all()


def test_gradients_reach_the_codes():
    w_plus = W_PLUS.clone().requires_grad_()
    codes = step_codes(
        w_plus,
        directions=SHARED,
        family="pca",
        layers=LAYERS,
        beta=1.0,
        count=3,
        seed=0,
        samples=SAMPLES,
    )
    codes.sum().backward()
    assert w_plus.grad is not None
    assert torch.equal(w_plus.grad, torch.full_like(w_plus, 3.0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beta": float("nan")}, "`beta=nan` must be a finite number of 0 or more"),
        ({"layers": LayerRange(4, 6)}, "it has 5"),
        (
            {"directions": LAYERED, "layers": LayerRange(2, 4)},
            r"for layers \[2, 4\] are needed, but these were made for layers \[1, 3\]",
        ),
        (
            {"directions": Directions(torch.ones(1, 1, 7), torch.ones(1), ("x",))},
            "are 7 wide and do not fit codes of width 4",
        ),
    ],
)
def test_a_wrong_request_is_refused(changes, message: str):
    with pytest.raises(RequestError, match=message):
        _codes(**changes)


def test_directions_have_one_length_and_one_name_each():
    with pytest.raises(RequestError, match=r"2 directions .* 1 lengths and 2 names"):
        Directions(torch.ones(2, 1, 3), torch.ones(1), ("a", "b"))
    with pytest.raises(RequestError, match="NaN or infinite"):
        Directions(torch.full((1, 1, 3), float("nan")), torch.ones(1), ("a",))


def test_saved_directions_come_back(tmp_path: Path):
    path = tmp_path / "walks.safetensors"
    made = Directions(
        LAYERED.vectors,
        LAYERED.scale,
        LAYERED.names,
        LAYERS,
        {"left": torch.tensor([0.25, 0.5])},
    )
    save_directions(made, path, family="walk")
    loaded = load_directions(path, family="walk", gan=brightness_gan(), seed=0)
    assert torch.equal(loaded.vectors, made.vectors)
    assert torch.equal(loaded.scale, made.scale)
    assert (loaded.names, loaded.layers) == (("even", "odd"), LAYERS)
    assert loaded.evidence["left"].tolist() == [0.25, 0.5]
    with pytest.raises(RequestError, match=r"of family 'walk', not of 'sefa'\."):
        load_directions(path, family="sefa", gan=brightness_gan(), seed=0)


def test_a_normal_of_interfacegan_is_read(tmp_path: Path):
    # stylegan_ffhq_smile_w_boundary.npy holds a float32 array [1, 512] of unit length.
    normal = np.array([[0.0, 0.0, 3.0, 0.0]], np.float32)
    np.save(tmp_path / "smile_boundary.npy", normal)
    torch.save(torch.from_numpy(normal), tmp_path / "smile.pt")
    for name in ("smile_boundary.npy", "smile.pt"):
        loaded = load_directions(
            tmp_path / name, family="boundary", gan=brightness_gan(), seed=0
        )
        assert loaded.vectors.tolist() == [[[0.0, 0.0, 1.0, 0.0]]]
        # The generator's styles spread by 2 along its third channel.
        assert loaded.scale.item() == pytest.approx(2.0, rel=0.03)


def test_factors_of_rosinality_are_read_as_columns(tmp_path: Path):
    eigvec = torch.eye(4)[:, [1, 0, 3, 2]]
    torch.save({"ckpt": "550000.pt", "eigvec": eigvec}, tmp_path / "factor.pt")
    loaded = load_directions(
        tmp_path / "factor.pt", family="sefa", gan=brightness_gan(), seed=0
    )
    assert loaded.vectors[:, 0].argmax(dim=1).tolist() == [1, 0, 3, 2]
    assert loaded.scale.tolist() == pytest.approx([0.5, 1.0, 1.0, 2.0], rel=0.03)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weights": torch.ones(3)}, "no directions. Expected a file of"),
        (torch.ones(2, 2, 2), r"shape \[2, 2, 2\] .* expected directions \[K, D\]"),
        (torch.ones(2, dtype=torch.int64), "type torch.int64"),
        (torch.zeros(1, 4), "a direction is zero, NaN or infinite"),
        (torch.ones(1, 3), "Directions of width 3 do not fit a generator"),
    ],
)
def test_other_contents_are_refused(content, message: str, tmp_path: Path):
    torch.save(content, tmp_path / "file.pt")
    with pytest.raises(RequestError, match=message):
        load_directions(
            tmp_path / "file.pt", family="sefa", gan=brightness_gan(), seed=0
        )


def test_damaged_files_are_refused(tmp_path: Path):
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY\x01")
    with pytest.raises(RequestError, match=r"cut\.npy: damaged"):
        load_directions(
            tmp_path / "cut.npy", family="boundary", gan=brightness_gan(), seed=0
        )
    with pytest.raises(RequestError, match="no such file"):
        load_directions(
            tmp_path / "absent.npy", family="boundary", gan=brightness_gan(), seed=0
        )
