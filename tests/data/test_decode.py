"""Image files: what is read of them, and what is said of those that are none."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustgen.data.decode import (
    content_of,
    existing_folder,
    image_size,
    read_image,
    to_pixels,
)
from robustgen.errors import RequestError


def noise(height: int = 12, width: int = 9) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_pixels_are_shares_of_255(tmp_path: Path):
    Image.fromarray(noise()).save(tmp_path / "a.png")
    pixels = to_pixels(read_image(tmp_path / "a.png"))
    assert pixels.shape == (3, 12, 9)
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, noise().transpose(2, 0, 1) / np.float32(255))
    assert image_size(tmp_path / "a.png") == (9, 12)


@pytest.mark.parametrize(
    ("mode", "value", "rgb"),
    [
        ("L", 51, (51, 51, 51)),
        ("1", 1, (255, 255, 255)),
        ("RGBA", (10, 20, 30, 0), (10, 20, 30)),
        ("LA", (7, 0), (7, 7, 7)),
    ],
)
def test_every_mode_of_8_bits_becomes_rgb(
    tmp_path: Path, mode: str, value: int | tuple[int, ...], rgb: tuple[int, ...]
):
    Image.new(mode, (2, 2), value).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.mode == "RGB"
    assert image.getpixel((0, 0)) == rgb


def test_a_palette_is_looked_up(tmp_path: Path):
    image = Image.new("P", (2, 2), 1)
    image.putpalette([0, 0, 0, 9, 8, 7])
    image.save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").getpixel((1, 1)) == (9, 8, 7)


def test_deeper_pixels_are_refused(tmp_path: Path):
    path = tmp_path / "deep.png"
    Image.fromarray(np.full((2, 2), 40_000, np.uint16)).save(path)
    with pytest.raises(RequestError, match=r"deep\.png: pixels of mode I;16, deeper"):
        read_image(path)


def test_an_exif_orientation_is_ignored(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by a quarter turn
    Image.fromarray(noise()).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").size == (9, 12)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp"])
def test_a_file_that_is_cut_off_is_refused_wherever_it_is_cut(
    tmp_path: Path, suffix: str
):
    path = tmp_path / f"whole{suffix}"
    Image.fromarray(noise(40, 40)).save(path)
    whole = path.read_bytes()
    cut = tmp_path / f"cut{suffix}"
    # To nine tenths: what follows the last pixel may be missed without harm.
    for stop in np.linspace(1, 0.9 * len(whole), 40).astype(int):
        cut.write_bytes(whole[:stop])
        with pytest.raises(RequestError) as caught:
            read_image(cut)
        assert str(caught.value).startswith(f"{cut}: no image, or one that is cut off")


def test_damaged_bytes_never_escape_as_another_error(tmp_path: Path):
    path = tmp_path / "a.png"
    Image.fromarray(noise()).save(path)
    whole = bytearray(path.read_bytes())
    messages: list[str] = []
    for place in range(8, len(whole), 7):
        changed = bytearray(whole)
        changed[place] ^= 0xFF
        path.write_bytes(changed)
        try:
            read_image(path)
        except RequestError as error:
            messages.append(str(error))
    assert len(messages) > 20
    assert all(message.startswith(f"{path}: ") for message in messages)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "a.png: no such file."),
        (b"", "a.png: the file is empty."),
        (b"<html>404</html>", "a.png: no image, or one that is cut off or damaged"),
    ],
)
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes | None, message: str):
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    for read in (read_image, image_size):
        with pytest.raises(RequestError, match=message):
            read(path)


def test_a_folder_is_no_image(tmp_path: Path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(RequestError, match=r"a\.png: a folder, not an image file\."):
        read_image(tmp_path / "a.png")


def test_content_is_the_bytes_of_the_file(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"abc")
    assert content_of(tmp_path / "a").hex().startswith("ba7816bf8f01cfea")
    with pytest.raises(RequestError, match=r"gone: no such file\."):
        content_of(tmp_path / "gone")


def test_the_first_subfolder_that_is_there(tmp_path: Path):
    (tmp_path / "b").mkdir()
    assert existing_folder(tmp_path, ("a", "b"), "cats") == tmp_path / "b"
    with pytest.raises(RequestError, match=r"no cats; looked for a/ and c/\."):
        existing_folder(tmp_path, ("a", "c"), "cats")
