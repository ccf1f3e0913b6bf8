import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from robustgen.errors import RequestError
from robustgen.gan.latents import load_latents, save_latents
from robustgen.rngs import rng_for

CODES = torch.randn(2, 3, 5, generator=rng_for(0, "codes"))


def test_codes_come_back_to_the_last_bit(tmp_path: Path):
    path = tmp_path / "codes.safetensors"
    save_latents(CODES.requires_grad_(True), path)
    codes = load_latents(path)
    assert torch.equal(codes, CODES)
    assert not codes.requires_grad
    first = path.read_bytes()
    save_latents(CODES, path)
    assert path.read_bytes() == first


def numpy_file(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def torch_file(content: object) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (torch_file({"w": CODES[:1].detach()}), CODES[:1]),
        (torch_file({"w": CODES[0].detach()}), CODES[:1]),
        (torch_file(CODES.detach()), CODES),
        (torch_file({"w": CODES.detach().double()}), CODES),
        (numpy_file(CODES[:1].detach().numpy()), CODES[:1]),
        (numpy_file(CODES[1].detach().numpy()), CODES[1:]),
        (numpy_file(CODES.detach().numpy().astype(">f8")), CODES),
        (numpy_file(np.asfortranarray(CODES.detach().numpy())), CODES),
    ],
)
def test_released_files_are_read(data: bytes, expected: Tensor, tmp_path: Path):
    path = tmp_path / "latent"
    path.write_bytes(data)
    codes = load_latents(path)
    assert codes.dtype == torch.float32
    assert torch.equal(codes, expected)


def endless(path: Path) -> None:
    """A header that promises 8 TB."""
    whole = numpy_file(np.zeros((1, 1), np.float64))
    path.write_bytes(whole.replace(b"(1, 1), }" + b" " * 12, b"(1000000, 1000000), }"))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (
            lambda path: path.write_bytes(numpy_file(np.zeros(5, np.float32))),
            r"shape \[5\] and type torch.float32, expected style codes \[N, L, D\]",
        ),
        (
            lambda path: path.write_bytes(numpy_file(np.zeros((0, 3, 5)))),
            r"shape \[0, 3, 5\]",
        ),
        (
            lambda path: path.write_bytes(numpy_file(np.zeros((3, 5), int))),
            "type torch.int64",
        ),
        (
            lambda path: path.write_bytes(numpy_file(np.full((3, 5), np.nan))),
            "NaN or infinite",
        ),
        (
            lambda path: path.write_bytes(numpy_file(np.array([{}], object))),
            r"holds no numbers \(Object arrays cannot be loaded",
        ),
        (
            lambda path: path.write_bytes(numpy_file(np.array([["a"]]))),
            "holds no numbers",
        ),
        (
            lambda path: path.write_bytes(numpy_file(np.zeros((3, 5)))[:-4]),
            "an array file that is cut off",
        ),
        (
            lambda path: path.write_bytes(numpy_file(np.zeros((3, 5)))[:40]),
            "an array file that is cut off",
        ),
        (endless, "an array file that is cut off"),
        (
            lambda path: torch.save({"z": torch.zeros(1)}, path),
            r"holds no style codes: expected a tensor 'w' \[N, L, D\]",
        ),
        (lambda path: save_file({"a": torch.zeros(1)}, path), "holds no style codes"),
        (lambda path: path.write_text("<html>"), "an HTML page"),
        (lambda path: path.mkdir(), "a folder"),
        (lambda path: None, "no such file"),
    ],
)
def test_other_files_are_refused(
    write: Callable[[Path], object], message: str, tmp_path: Path
):
    path = tmp_path / "latent"
    write(path)
    with pytest.raises(RequestError, match=message) as caught:
        load_latents(path)
    assert str(caught.value).startswith(f"{path}: ")
