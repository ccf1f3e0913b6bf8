import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from robustgen.errors import RequestError
from robustgen.gan.layers import LayerRange
from robustgen.rngs import rng_for
from robustgen.views.directions import LEADING
from robustgen.views.pca import (
    PcaStats,
    fit_gan_pca,
    fit_pca,
    load_pca,
    pca_codes,
    save_pca,
)

DIM = 32
LAYERS = LayerRange(0, 3)
W_PLUS = torch.randn(4, 6, DIM, generator=rng_for(0, "tests", "w_plus"))
SAMPLES = (5, 0, 9, 2)
STATS = PcaStats(torch.eye(DIM), torch.arange(DIM, 0, -1.0), torch.zeros(DIM))


def _codes(
    pick: slice = slice(None),
    *,
    stats: PcaStats = STATS,
    beta: float = 2.0,
    count: int = 33,
    seed: int = 0,
) -> Tensor:
    return pca_codes(
        W_PLUS[pick],
        stats=stats,
        layers=LAYERS,
        beta=beta,
        count=count,
        seed=seed,
        samples=SAMPLES[pick],
    )


def _steps(codes: Tensor, stats: PcaStats = STATS) -> tuple[Tensor, Tensor]:
    """Direction and factor of each view, read off codes along unit vectors."""
    delta = (codes - W_PLUS[:, None])[:, :, 0]
    direction = delta.abs().argmax(dim=2)
    moved = delta.gather(2, direction[..., None])[..., 0]
    return direction, moved / stats.stddev[direction]


def test_all_layers_of_the_slice_move_by_one_vector():
    codes = _codes()
    delta = codes - W_PLUS[:, None]
    assert torch.equal(delta[:, :, 3:], torch.zeros_like(delta[:, :, 3:]))
    torch.testing.assert_close(delta[:, :, 1], delta[:, :, 0], atol=1e-5, rtol=0)
    # Unit vectors: a view moves along exactly one channel.
    assert ((delta[:, :, 0].abs() > 1e-4).sum(dim=2) <= 1).all()


def test_directions_and_factors_are_uniform():
    direction, factor = _steps(_codes(count=500))
    n = direction.numel()
    counts = torch.bincount(direction.flatten(), minlength=DIM)
    assert counts[LEADING:].sum() == 0
    share = counts[:LEADING] / n
    error = (0.05 * 0.95 / n) ** 0.5
    assert (share - 0.05).abs().max().item() < 4 * error
    # U(-beta, beta) has mean 0 and standard deviation beta / sqrt(3).
    assert factor.abs().max().item() <= 2.0 + 1e-5
    assert factor.mean().item() == pytest.approx(0, abs=3 * 2 / (3 * n) ** 0.5)
    assert factor.std().item() == pytest.approx(2 / 3**0.5, rel=0.03)


def test_fewer_statistics_are_all_drawn_from():
    few = PcaStats(torch.eye(DIM)[:3], torch.ones(3), None)
    direction, _ = _steps(_codes(stats=few), few)
    assert set(direction.flatten().tolist()) == {0, 1, 2}


@pytest.mark.parametrize("size", [1, 3])
def test_batch_size_changes_no_code(size: int):
    split = [_codes(slice(start, start + size)) for start in range(0, 4, size)]
    assert torch.equal(torch.cat(split), _codes())


@pytest.mark.parametrize("count", [1, 8])
def test_more_views_leave_the_first_as_they_were(count: int):
    assert torch.equal(_codes(count=count), _codes()[:, :count])


def test_every_view_sample_and_seed_has_its_own_step():
    factors = torch.cat([_steps(_codes())[1], _steps(_codes(seed=1))[1]])
    assert len(factors.flatten().unique()) == 2 * 4 * 33


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beta": -1.0}, "`beta=-1.0`"),
        ({"stats": PcaStats(torch.eye(4), torch.ones(4), None)}, "another generator"),
    ],
)
def test_a_wrong_request_is_refused(changes, message: str):
    with pytest.raises(RequestError, match=message):
        _codes(**changes)


def _gaussian(rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Codes of known mean, directions and standard deviations 5, 2 and 1."""
    rng = rng_for(0, "tests", "pca")
    basis = torch.linalg.qr(torch.randn(8, 8, generator=rng)).Q.T[:3]
    mean = torch.arange(8.0)
    z = torch.randn(rows, 3, generator=rng) * torch.tensor([5.0, 2.0, 1.0])
    return mean + z @ basis, basis, mean


def test_directions_of_a_gaussian_are_found():
    w, basis, mean = _gaussian(20_000)
    stats = fit_pca(w, count=3)
    assert stats.mean is not None
    torch.testing.assert_close(stats.mean, mean, atol=0.15, rtol=0)
    np.testing.assert_allclose(stats.stddev, [5, 2, 1], rtol=3 / (2 * 20_000) ** 0.5)
    cosine = (stats.components @ basis.T).abs()
    torch.testing.assert_close(cosine, torch.eye(3), atol=0.02, rtol=0)
    torch.testing.assert_close(
        stats.components @ stats.components.T, torch.eye(3), atol=1e-6, rtol=0
    )
    largest = stats.components.abs().argmax(dim=1, keepdim=True)
    assert (stats.components.gather(1, largest) > 0).all()


def test_all_components_rebuild_the_codes_covariance():
    w, _, _ = _gaussian(50)
    stats = fit_pca(w)
    assert stats.components.shape == (8, 8)
    scaled = stats.components.T * stats.stddev**2
    torch.testing.assert_close(
        scaled @ stats.components, torch.cov(w.T), atol=1e-4, rtol=1e-4
    )
    assert fit_pca(w[:3]).components.shape == (2, 8)
    with pytest.raises(RequestError, match="1 style codes have no variance"):
        fit_pca(w[:1])


class _Stretch:
    """Maps z to twice itself, and marks each class in a channel of its own."""

    z_dim = 4

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes

    def map(
        self, z: Tensor, labels: Tensor | None = None, truncation: float = 1.0
    ) -> Tensor:
        if labels is None:
            return 2 * z
        return 100.0 * torch.nn.functional.one_hot(labels, 4)


def test_a_generator_is_sampled_by_its_seed():
    stats = fit_gan_pca(_Stretch(0), seed=0, samples=5_000)
    np.testing.assert_allclose(stats.stddev, 2.0, rtol=0.05)
    again = fit_gan_pca(_Stretch(0), seed=0, samples=5_000)
    other = fit_gan_pca(_Stretch(0), seed=1, samples=5_000)
    assert torch.equal(stats.components, again.components)
    assert not torch.equal(stats.components, other.components)


def test_a_conditional_generator_is_sampled_over_its_classes():
    stats = fit_gan_pca(_Stretch(4), seed=0, samples=5_000)
    assert stats.mean is not None
    np.testing.assert_allclose(stats.mean, 25.0, atol=3)


def test_saved_statistics_come_back(tmp_path: Path):
    save_pca(STATS, tmp_path / "pca.safetensors")
    loaded = load_pca(tmp_path / "pca.safetensors")
    assert loaded.mean is not None
    assert torch.equal(loaded.components, STATS.components)
    assert torch.equal(loaded.stddev, STATS.stddev)
    assert torch.equal(loaded.mean, torch.zeros(DIM))


def test_released_statistics_have_no_mean(tmp_path: Path):
    np.savez(
        tmp_path / "stats.npz",
        components=np.eye(20, 512),
        stddev=np.linspace(2, 1, 20),
    )
    loaded = load_pca(tmp_path / "stats.npz")
    assert loaded.mean is None
    assert loaded.components.shape == (20, 512)
    assert loaded.stddev.dtype == torch.float32
    assert loaded.stddev[0] == 2.0


def _ganspace() -> dict[str, np.ndarray]:
    """The entries of GANSpace's `.npz`, of 80 directions of a w of 512 numbers."""
    rng = np.random.default_rng(0)
    return {
        "act_comp": rng.normal(size=(80, 512)).astype(np.float32),
        "act_mean": np.zeros(512, np.float32),
        "act_stdev": np.ones(80, np.float32),
        "lat_comp": np.eye(80, 512, dtype=np.float32)[:, None],
        "lat_mean": np.full((1, 512), 0.5, np.float32),
        "lat_stdev": np.linspace(3, 1, 80, dtype=np.float32),
        "var_ratio": np.ones(80, np.float32),
        "random_stdevs": np.ones(80, np.float32),
    }


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """What `np.savez` writes: a zip archive of one `.npy` file per entry."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as stream:
                np.lib.format.write_array(stream, array)


def test_statistics_of_ganspace_are_read(tmp_path: Path):
    _write(tmp_path / "stylegan2.npz", _ganspace())
    loaded = load_pca(tmp_path / "stylegan2.npz")
    assert torch.equal(loaded.components, torch.eye(80, 512))
    assert loaded.stddev[0].item() == 3.0
    assert loaded.mean is not None
    assert torch.equal(loaded.mean, torch.full((512,), 0.5))


def test_ganspace_directions_of_an_editing_demo_are_read(tmp_path: Path):
    content = {
        "mean": torch.full((1, 512), 0.5),
        "comp": torch.eye(80, 512)[:, None],
        "std": torch.linspace(3, 1, 80),
    }
    torch.save(content, tmp_path / "ffhq_pca.pt")
    loaded = load_pca(tmp_path / "ffhq_pca.pt")
    assert torch.equal(loaded.components, torch.eye(80, 512))
    assert torch.equal(loaded.stddev, torch.linspace(3, 1, 80))
    assert loaded.mean is not None
    assert torch.equal(loaded.mean, torch.full((512,), 0.5))


def test_ganspace_directions_of_z_are_refused(tmp_path: Path):
    ones = np.ones(80, np.float32)
    _write(tmp_path / "z.npz", {**_ganspace(), "lat_stdev": ones})
    with pytest.raises(RequestError, match=r"directions of z.*`--use_w`"):
        load_pca(tmp_path / "z.npz")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"components": np.eye(3)}, "no entry 'stddev' among components"),
        ({"lat_comp": np.eye(3)}, "no entry 'lat_stdev' among lat_comp"),
        ({}, "no entry 'components' among none"),
        ({"components": np.eye(3), "stddev": np.ones(2)}, "need components"),
        ({"components": np.ones(3), "stddev": np.ones(3)}, "need components"),
        ({"components": np.array([None]), "stddev": np.ones(3)}, "not arrays of num"),
        (
            {"components": np.eye(3), "stddev": np.ones(3), "mean": np.ones(2)},
            "mean of shape \\[2\\]",
        ),
    ],
)
def test_other_arrays_are_refused(arrays, message: str, tmp_path: Path):
    np.savez(tmp_path / "stats.npz", **arrays)
    with pytest.raises(RequestError, match=message):
        load_pca(tmp_path / "stats.npz")
    with pytest.raises(RequestError, match="no such file"):
        load_pca(tmp_path / "absent.npz")
