import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from published import seeded_gan, small_config
from torch import Tensor, nn

from robustgen.errors import RequestError
from robustgen.gan.class_means import ClassMeanEncoder, load_class_means, mean_code
from robustgen.rngs import rng_for


class Brightest(nn.Module):
    """Predicts the column of four whose pixels are brightest."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(1, 2))


def test_the_code_is_that_of_the_predicted_class():
    means = torch.randn(4, 3, 5, generator=rng_for(0, "means"))
    encoder = ClassMeanEncoder(means, Brightest())
    images = torch.zeros(3, 1, 2, 4)
    for image, column in zip(images, (2, 0, 3), strict=True):
        image[..., column] = 1
    codes = encoder(images.requires_grad_(True))
    assert torch.equal(codes, means[[2, 0, 3]])
    assert not codes.requires_grad
    assert torch.equal(encoder(images, torch.zeros(3, 1, 2, 4)), codes)
    assert (encoder.num_layers, encoder.w_dim) == (3, 5)


def test_classes_must_agree():
    encoder = ClassMeanEncoder(torch.zeros(10, 3, 5), Brightest())
    with pytest.raises(RequestError, match=r"knows 4 classes, but .* codes of 10"):
        encoder(torch.zeros(1, 1, 2, 4))


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape)


@pytest.mark.parametrize("shape", [(10, 6), (10, 1, 6), (10, 4, 6), (10, 1, 4, 6)])
def test_released_means_are_read(shape: tuple[int, ...], tmp_path: Path):
    wmeans = draw(*shape)
    np.savez(tmp_path / "means.npz", wmeans=wmeans)
    means = load_class_means(tmp_path / "means.npz", 4)
    expected = np.broadcast_to(wmeans.reshape(10, -1, 6), (10, 4, 6))
    assert means.dtype == torch.float32
    np.testing.assert_array_equal(means.numpy(), expected.astype(np.float32))


def array_file() -> bytes:
    stream = io.BytesIO()
    np.save(stream, draw(2, 3))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: np.savez(path, means=draw(2, 3)), "has no array 'wmeans'"),
        (
            lambda path: np.savez(path, wmeans=draw(10, 5, 6)),
            r"shape \[10, 5, 6\], expected codes of K classes, \[K, D\] or \[K, 4, D\]",
        ),
        (lambda path: np.savez(path, wmeans=draw(10)), r"shape \[10\]"),
        (lambda path: np.savez(path, wmeans=draw(2, 3) * np.nan), "NaN or infinite"),
        (
            lambda path: np.savez(path, wmeans=np.array([{}], object)),
            "no readable .npz file",
        ),
        (lambda path: path.write_bytes(array_file()), "no readable .npz file"),
        (lambda path: path.write_bytes(b"PK\x03\x04 cut"), "no readable .npz file"),
        (lambda path: path.write_text("<html>"), "no readable .npz file"),
        (lambda path: path.mkdir(), "no readable .npz file"),
        (lambda path: None, "no such file"),
    ],
)
def test_other_files_are_refused(
    write: Callable[[Path], object], message: str, tmp_path: Path
):
    path = tmp_path / "means.npz"
    write(path)
    with pytest.raises(RequestError, match=message) as caught:
        load_class_means(path, 4)
    assert str(caught.value).startswith(f"{path}: ")


def test_the_stored_mean_is_taken_where_there_is_one():
    gan = seeded_gan(small_config(8))
    average = gan.mapping.w_avg
    assert torch.equal(mean_code(gan), average[None])
    assert torch.equal(mean_code(gan, torch.tensor([0, 5])), average.expand(2, -1))
    conditional = seeded_gan(small_config(8, num_classes=3))
    assert torch.equal(mean_code(conditional), conditional.mapping.w_avg[None])


def test_without_a_stored_mean_random_codes_are_averaged():
    gan = seeded_gan(small_config(8))
    gan.mapping.w_avg.zero_()
    code = mean_code(gan, samples=5000, seed=3)
    z = torch.randn(200_000, gan.z_dim, generator=rng_for(9, "z"))
    w = gan.map(z)
    # Five standard errors of an average of 5,000.
    assert ((code[0] - w.mean(dim=0)).abs() < 5 * w.std(dim=0) / 5000**0.5).all()
    assert torch.equal(code, mean_code(gan, samples=5000, seed=3))
    assert not torch.equal(code, mean_code(gan, samples=5000, seed=4))


def test_a_class_has_a_mean_of_its_own():
    gan = seeded_gan(small_config(8, num_classes=3))
    codes = mean_code(gan, torch.tensor([2, 0, 2]), samples=5000)
    assert codes.shape == (3, gan.w_dim)
    assert torch.equal(codes[0], codes[2])
    # Other classes asked for change nothing.
    assert torch.equal(codes[:1], mean_code(gan, torch.tensor([2]), samples=5000))
    z = torch.randn(200_000, gan.z_dim, generator=rng_for(9, "z"))
    for code, label in zip(codes, (2, 0, 2), strict=True):
        w = gan.map(z, torch.full((len(z),), label))
        assert ((code - w.mean(dim=0)).abs() < 5 * w.std(dim=0) / 5000**0.5).all()
    assert mean_code(gan, torch.tensor([], dtype=torch.int64)).shape == (0, gan.w_dim)


def test_classes_that_are_not_there_are_refused():
    gan = seeded_gan(small_config(8, num_classes=3))
    with pytest.raises(RequestError, match=r"Labels from 1 to 3: .* has 3 classes"):
        mean_code(gan, torch.tensor([3, 1]))
