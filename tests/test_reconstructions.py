"""The parts of the reconstruction benchmark that need no network."""

import doctest
import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import mannwhitneyu

from robustgen.training.losses import ssim

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def lost() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        return importlib.import_module("reconstructions_lost")


@pytest.fixture(scope="module")
def table() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        return importlib.import_module("reconstructions")


def pictures(count: int, channels: int = 1, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(count, channels, 12, 12, generator=rng)


def test_examples_of_the_benchmark_hold(lost: ModuleType):
    found = doctest.testmod(lost)
    assert found.attempted == 3
    assert found.failed == 0


def test_similarity_per_image_has_the_mean_of_the_batch(table: ModuleType):
    a, b = pictures(5, channels=3), pictures(5, channels=3, seed=1)
    each = table.ssim_each(a, b)
    assert each.mean() == pytest.approx(float(ssim(a, b)), abs=1e-6)
    assert table.ssim_each(a, a) == pytest.approx(np.ones(5), abs=1e-6)
    assert table.l1_each(a, a + 0.25) == pytest.approx(np.full(5, 0.25))


def test_area_of_normals_is_that_of_the_formula(lost: ModuleType):
    # P(X > Y) = Phi(d / sqrt(2)) for unit normals whose means are d apart.
    rng = np.random.default_rng(0)
    area, (low, high) = lost.auc(rng.normal(1, 1, 400), rng.normal(0, 1, 600))
    assert low < 0.7602 < high
    # sd of the estimate is near 0.016 at these sizes.
    assert area == pytest.approx(0.7602, abs=0.05)


@given(
    st.lists(st.integers(0, 5), min_size=2, max_size=20),
    st.lists(st.integers(0, 5), min_size=2, max_size=20),
)
def test_area_is_the_statistic_of_mann_and_whitney(first: list[int], second: list[int]):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        auc = importlib.import_module("reconstructions_lost").auc
    a, b = np.array(first, float), np.array(second, float)
    statistic = mannwhitneyu(a, b, method="asymptotic").statistic
    assert auc(a, b)[0] == pytest.approx(statistic / (len(a) * len(b)))
    assert auc(b, a)[0] == pytest.approx(1 - auc(a, b)[0])


def test_intervals_of_the_area_hold_the_truth_as_often_as_they_say(lost: ModuleType):
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        _, (low, high) = lost.auc(rng.normal(1, 1, 25), rng.normal(0, 1, 150))
        held += low <= 0.7602 <= high
    # Five standard deviations of a share of 400 at 0.95 are 0.054.
    assert held / 400 > 0.89


def test_what_separates_is_told_from_what_does_not(lost: ModuleType):
    rng = np.random.default_rng(2)
    gone = np.arange(300) < 30
    values = {
        "shifted": rng.normal(0, 1, 300) + 2 * gone,
        "noise": rng.normal(0, 1, 300),
        "constant": np.ones(300),
    }
    shifted, noise, constant = lost.compare_traits(values, gone)
    assert shifted.separates
    assert shifted.low < 2 < shifted.high
    assert shifted.difference == pytest.approx(shifted.lost - shifted.kept)
    assert not noise.separates
    assert (constant.auc, constant.p) == (0.5, 1.0)
    assert (constant.low, constant.high) == (0.0, 0.0)
    text = lost.explained_text([noise, shifted])
    assert text.index("shifted") < text.index("noise")


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_lost_images_are_not_compared(lost: ModuleType, count: int):
    gone = np.arange(10) < count
    assert lost.compare_traits({"x": np.arange(10.0)}, gone) == []
    assert lost.explained_text([]) == "Too few images on one side to compare."


def test_sharpness_of_a_ramp_is_its_slope_squared(lost: ModuleType):
    ramp = torch.arange(8.0).view(1, 1, 1, 8).expand(1, 1, 8, 8) / 10
    assert lost.gradient_energy(ramp) == pytest.approx([0.01])
    assert lost.gradient_energy(ramp.mT) == pytest.approx([0.01])


def test_a_margin_is_the_lead_of_the_best_class(lost: ModuleType):
    assert list(lost.margins(np.array([[1.0, 4.0, 2.5], [0.0, 0.0, -1.0]]))) == [1.5, 0]


def test_relevant_contrast_of_even_weights_is_the_deviation(lost: ModuleType):
    images = pictures(3)
    found = lost.relevant_contrast(images, torch.ones(1, 1, 12, 12))
    assert found == pytest.approx(
        images.flatten(1).std(dim=1, correction=0).numpy(), abs=1e-6
    )


@pytest.mark.parametrize("count", [1, 3, 5])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_gallery_has_the_size_and_the_images_that_are_lost(
    lost: ModuleType, tmp_path: Path, count: int, channels: int
):
    images = pictures(6, channels)
    before = np.tile([2.0, 0.0], (6, 1)) * np.arange(1, 7)[:, None]
    after = np.where(np.arange(6)[:, None] < count, -before, before)
    path = tmp_path / "lost.png"
    drawn = lost.draw_gallery(
        images,
        images,
        before,
        after,
        names=("a", "b"),
        path=path,
        limit=4,
    )
    assert drawn == min(count, 4)
    with Image.open(path) as picture:
        assert picture.size == lost.gallery_size(drawn)
        pixels = np.asarray(picture)
    # Where nothing differs, the third tile is gray.
    middle = pixels[lost.TILE // 2, 2 * lost.TILE + lost.TILE // 2]
    assert set(middle.tolist()) <= {127, 128}


def test_a_gallery_begins_with_the_surest(lost: ModuleType):
    logits = np.array([[1.0, 0.0], [0.0, 5.0], [3.0, 0.0], [9.0, 0.0]])
    gone = np.array([True, True, True, False])
    assert lost.order_of(logits, gone) == [1, 2, 0]
