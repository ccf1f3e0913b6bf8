import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robustgen.errors import RequestError
from robustgen.gan.layers import LayerRange
from robustgen.rngs import rng_for
from robustgen.views.isotropic import isotropic_codes

W_PLUS = torch.randn(4, 6, 32, generator=rng_for(0, "tests", "w_plus"))
SAMPLES = (5, 0, 9, 2)


def _codes(
    pick: slice = slice(None),
    *,
    layers: LayerRange = LayerRange(2, 5),  # noqa: B008 -- frozen
    sigma: float = 0.3,
    count: int = 33,
    seed: int = 0,
) -> torch.Tensor:
    return isotropic_codes(
        W_PLUS[pick],
        layers=layers,
        sigma=sigma,
        count=count,
        seed=seed,
        samples=SAMPLES[pick],
    )


@given(st.integers(0, 5), st.integers(1, 6), st.floats(0.01, 10))
def test_only_the_slice_changes(start: int, size: int, sigma: float):
    layers = LayerRange(start, min(start + size, 6))
    changed = _codes(layers=layers, sigma=sigma, count=2) != W_PLUS[:, None]
    inside = torch.zeros(6, dtype=torch.bool)
    inside[layers.start : layers.stop] = True
    assert torch.equal(changed.flatten(0, 1).any(dim=2).all(dim=0), inside)


def test_sigma_is_the_standard_deviation():
    noise = ((_codes() - W_PLUS[:, None])[:, :, 2:5] / 0.3).double()
    n = noise.numel()  # 12,672 normals
    assert noise.mean().item() == pytest.approx(0, abs=3 / n**0.5)
    assert noise.std().item() == pytest.approx(1, abs=3 / (2 * n) ** 0.5)
    # Independent per layer and channel: the layers' numbers do not go together.
    layers = noise.transpose(0, 2).flatten(1)
    off_diagonal = torch.corrcoef(layers)[~torch.eye(3, dtype=torch.bool)]
    assert off_diagonal.abs().max().item() < 4 / layers.shape[1] ** 0.5


def test_no_noise_leaves_the_projection():
    assert torch.equal(_codes(sigma=0.0), W_PLUS[:, None].expand(-1, 33, -1, -1))


@pytest.mark.parametrize("size", [1, 3])
def test_batch_size_changes_no_code(size: int):
    split = [_codes(slice(start, start + size)) for start in range(0, 4, size)]
    assert torch.equal(torch.cat(split), _codes())


@pytest.mark.parametrize("count", [1, 8, 33])
def test_more_views_leave_the_first_as_they_were(count: int):
    assert torch.equal(_codes(count=count), _codes(count=40)[:, :count])


def test_every_view_sample_and_seed_has_its_own_noise():
    noise = torch.cat([_codes(), _codes(seed=1)]) - W_PLUS.repeat(2, 1, 1)[:, None]
    assert len(noise[:, :, 2].flatten(0, 1).unique(dim=0)) == 2 * 4 * 33


@pytest.mark.parametrize("sigma", [-0.1, float("nan"), float("inf")])
def test_a_size_that_is_none_is_refused(sigma: float):
    with pytest.raises(RequestError, match="`sigma="):
        _codes(sigma=sigma)
