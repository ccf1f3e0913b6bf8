"""Data sets put together from archives: rows, orders, refusals, and the round trip."""

import functools
import gzip
import hashlib
import io
import struct
import zipfile
from collections.abc import Generator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from file_server import Site, serving
from PIL import Image

from robustgen import assembling
from robustgen import fetch as module
from robustgen.assembling import (
    Arrays,
    SmilesRow,
    assemble,
    content_digest,
    read_arrays,
    smiles_rows,
    write_arrays,
)
from robustgen.errors import RequestError
from robustgen.fetch import FetchedFile, fetch, fetched_lines
from robustgen.full_assets import Archive, find_archive
from robustgen.sources import asset_files, data_folder

ROWS = [
    SmilesRow("5", True, "train"),
    SmilesRow("12", False, "train"),
    SmilesRow("5", False, "val"),
    SmilesRow("7", True, "test"),
]

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 64, 64), np.uint8)


def picture(image: np.ndarray) -> bytes:
    """A picture file without loss; readers go by content, not by name."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def zipped(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("SMILEsmileD-main/README", b"SMILEs")
        for name, content in files.items():
            file.writestr(f"SMILEsmileD-main/{name}", content)
    return stream.getvalue()


def photographs() -> dict[str, bytes]:
    # From the last to the first: the order of an archive is not that of the rows.
    pairs = zip(reversed(ROWS), IMAGES[::-1], strict=True)
    return {row.member: picture(image) for row, image in pairs}


def idx(array: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(head + array.tobytes(), 1, mtime=0)


@functools.cache
def digits(count: int = 8004) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    images = np.zeros((count, 28, 28), np.uint8)
    images[:, 10:12, 10:12] = rng.integers(0, 256, (count, 2, 2))
    return images, rng.integers(0, 10, count).astype(np.uint8)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four photographs stand for all."""
    monkeypatch.setattr(assembling, "smiles_rows", lambda: ROWS)


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def test_the_rows_that_ship():
    rows = smiles_rows()
    splits = [row.split for row in rows]
    assert splits == ["train"] * 9965 + ["val"] * 1000 + ["test"] * 1000
    assert sum(row.smiling for row in rows) == 3344
    # A number may stand in both folders; together with the folder it is unique.
    assert len({row.name for row in rows}) == 11_959
    assert len({row.member for row in rows}) == len(rows) == 11_965
    assert rows[0].member == "SMILEs/positives/positives7/12431.jpg"
    assert rows[1].member == "SMILEs/negatives/negatives7/7747.jpg"


@pytest.mark.usefixtures("few")
def test_photographs_come_in_the_order_of_the_rows(tmp_path: Path):
    archive = written(tmp_path, "a.zip", zipped(photographs()))
    arrays = assemble("smiles", [archive])
    np.testing.assert_array_equal(arrays["images"], IMAGES)
    assert arrays["labels"].tolist() == [1, 0, 0, 1]
    assert arrays["labels"].dtype == np.uint8
    assert arrays["split"].tolist() == ["train", "train", "val", "test"]
    assert arrays["names"].tolist() == ["5", "12", "5", "7"]


@pytest.mark.usefixtures("few")
def test_color_and_jpeg_become_gray_pixels(tmp_path: Path):
    files = photographs()
    flat = np.full((64, 64), 90, np.uint8)
    stream = io.BytesIO()
    Image.fromarray(flat).save(stream, "JPEG", quality=95)
    files[ROWS[0].member] = stream.getvalue()
    files[ROWS[1].member] = picture(np.repeat(IMAGES[1][:, :, None], 3, axis=2))
    arrays = assemble("smiles", [written(tmp_path, "a.zip", zipped(files))])
    np.testing.assert_array_equal(arrays["images"][0], flat)
    np.testing.assert_array_equal(arrays["images"][1], IMAGES[1])


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({ROWS[2].member: None}, f"holds no {ROWS[2].member}. It has changed at"),
        ({ROWS[2].member: b"text"}, "is no picture of 64 x 64 pixels (cannot ide"),
        ({ROWS[2].member: picture(IMAGES[0, :32])}, "pixels (64 x 32 pixels). Delete"),
        ({ROWS[2].member: picture(IMAGES[0])[:900]}, "is no picture of 64 x 64 pixels"),
    ],
)
def test_archives_that_changed(
    tmp_path: Path, change: dict[str, bytes | None], words: str
):
    files = {**photographs(), **change}
    whole = {name: content for name, content in files.items() if content is not None}
    with pytest.raises(RequestError) as caught:
        assemble("smiles", [written(tmp_path, "a.zip", zipped(whole))])
    assert str(tmp_path / "a.zip") in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.usefixtures("few")
def test_a_damaged_archive(tmp_path: Path):
    content = zipped(photographs())
    for damaged in (content[:-200], b"<html>", content.replace(b"IDAT", b"IDAX")):
        with pytest.raises(RequestError, match=r"Delete (it|the archive) and fetch"):
            assemble("smiles", [written(tmp_path, "a.zip", damaged)])


def test_digits_are_the_first_8000_in_order(tmp_path: Path):
    images, labels = digits()
    paths = [
        written(tmp_path, "i.gz", idx(images)),
        written(tmp_path, "l", idx(labels)),
    ]
    arrays = assemble("mnist", paths)
    assert sorted(arrays) == ["images", "labels", "split"]
    np.testing.assert_array_equal(arrays["images"], images[:8000])
    np.testing.assert_array_equal(arrays["labels"], labels[:8000])
    assert arrays["split"].tolist() == (
        ["train"] * 6000 + ["val"] * 1000 + ["test"] * 1000
    )


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (idx(digits(7999)[0]), idx(digits()[1]), "8,000 or more of shape [28, 28]"),
        (idx(digits()[0][:, :20]), idx(digits()[1]), "8,000 or more of shape [28, 28]"),
        (idx(digits()[1]), idx(digits()[1]), "i: starts with 0000080100001f44"),
        (idx(digits()[0]), idx(digits()[0]), "8,000 or more of shape []"),
        (idx(digits()[0])[:-9], idx(digits()[1]), "cannot be unpacked (Compressed fi"),
        (b"<html>", idx(digits()[1]), "cannot be unpacked (Not a gzipped file"),
        (
            gzip.compress(b"", mtime=0),
            idx(digits()[1]),
            "i: starts with ; expected an IDX file",
        ),
        (
            gzip.compress(b"\0\0\x08\x03\0\0\x1f\x40\0\0\0\x1c\0\0\0\x1c\1", mtime=0),
            idx(digits()[1]),
            "i: holds 17 bytes, expected 6,272,016 or more. Delete it",
        ),
    ],
)
def test_damaged_digits(tmp_path: Path, images: bytes, labels: bytes, words: str):
    paths = [written(tmp_path, "i", images), written(tmp_path, "l", labels)]
    with pytest.raises(RequestError) as caught:
        assemble("mnist", paths)
    assert words in str(caught.value)


def test_arrays_come_back_from_their_file(tmp_path: Path):
    arrays = {"images": IMAGES, "split": np.array(["train", "val"])}
    path = tmp_path / "deep" / "a.npz"
    write_arrays(arrays, path)
    assert content_digest(read_arrays(path)) == content_digest(arrays)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RequestError, match=r"cannot be read .*Move it away"):
        read_arrays(path)


@pytest.mark.parametrize(
    "change",
    [
        {"images": IMAGES[::-1]},
        {"images": IMAGES.reshape(2, 2, 64, 64)},
        {"images": IMAGES.view(np.int8)},
        {"images": IMAGES, "names": np.zeros(1)},
        {"pixels": IMAGES},
    ],
)
def test_a_digest_tells_contents_apart(change: dict[str, np.ndarray]):
    assert content_digest(change) != content_digest({"images": IMAGES})


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Site]:
    """A server in the place of every public one."""
    monkeypatch.setenv("ROBUSTGEN_DATA", str(tmp_path))
    with serving() as site:

        def local(name: str) -> Archive:
            known = find_archive(name)
            file = known.url.rpartition("/")[2]
            content = site.files[file]
            digest = hashlib.sha256(content).hexdigest()
            sha256 = None if known.sha256 is None else digest
            update = {"url": site.url(file), "bytes": None, "sha256": sha256}
            return known.model_copy(update=update)

        monkeypatch.setattr(module, "find_archive", local)
        yield site


def expect(monkeypatch: pytest.MonkeyPatch, name: str, arrays: Arrays) -> Path:
    """Makes these arrays the ones that the data set should have; where it goes."""
    (file,) = asset_files(name, "dataset")
    assert file.assembly is not None
    update = {"content": content_digest(arrays)}
    expected = replace(file, assembly=file.assembly.model_copy(update=update))
    monkeypatch.setattr(module, "asset_files", lambda name: (expected,))
    return expected.location


def put(site: Site, name: str, *contents: bytes) -> list[str]:
    """Serves the archives of a data set under their names."""
    (file,) = asset_files(name, "dataset")
    assert file.assembly is not None
    urls = [find_archive(archive).url for archive in file.assembly.archives]
    names = [url.rpartition("/")[2] for url in urls]
    site.files |= dict(zip(names, contents, strict=True))
    return names


@pytest.mark.usefixtures("few")
def test_fetched_photographs(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    put(site, "smiles", zipped(photographs()))
    arrays = assemble("smiles", [written(tmp_path, "a.zip", zipped(photographs()))])
    path = expect(monkeypatch, "smiles", arrays)
    assert path == tmp_path / "smiles" / "smiles64.npz"
    (got,) = fetch("smiles", pause=lambda seconds: None)
    size, digest = path.stat().st_size, content_digest(arrays)
    assert got == FetchedFile(path, "assembled", size, digest, True, True)
    assert fetched_lines("smiles", [got]) == [
        "smiles: none stated (hromi/SMILEsmileD)",
        f"assembled   {path}  0.0 MB",
        "            its arrays are those that shipped networks were trained on",
    ]
    np.testing.assert_array_equal(read_arrays(path)["images"], IMAGES)
    assert not list((tmp_path / "archives").iterdir())
    assert fetch("smiles") == [replace(got, status="present")]
    assert site.asked == [""]


def test_fetched_digits(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    images, labels = digits()
    put(site, "mnist", idx(images), idx(labels))
    split = np.repeat(["train", "val", "test"], [6000, 1000, 1000])
    arrays = {"images": images[:8000], "labels": labels[:8000], "split": split}
    path = expect(monkeypatch, "mnist", arrays)
    (got,) = fetch("mnist", pause=lambda seconds: None)
    assert (got.path, got.status, got.verified) == (path, "assembled", True)
    assert len(site.asked) == 2
    assert not list((tmp_path / "archives").iterdir())


@pytest.mark.usefixtures("few")
def test_other_pixels_are_refused_and_nothing_is_written(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (name,) = put(site, "smiles", zipped(photographs()))
    path = expect(monkeypatch, "smiles", {})
    with pytest.raises(RequestError) as caught:
        fetch("smiles", pause=lambda seconds: None)
    assert caught.value.exit_code == 2
    assert f"{tmp_path / 'archives' / name} give arrays with sha256" in str(
        caught.value
    )
    assert "decodes its pictures to other pixels" in str(caught.value)
    assert not path.exists()


@pytest.mark.usefixtures("few")
def test_an_archive_put_there_by_hand_is_used(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (name,) = put(site, "smiles", zipped(photographs()))
    (tmp_path / "archives").mkdir()
    archive = written(tmp_path / "archives", name, zipped(photographs()))
    expect(monkeypatch, "smiles", assemble("smiles", [archive]))
    fetch("smiles")
    assert site.asked == []


@pytest.mark.usefixtures("site")
def test_another_file_that_is_there_is_the_users_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = expect(monkeypatch, "mnist", {})
    write_arrays({"images": IMAGES}, path)
    with pytest.raises(RequestError, match="Move it away and fetch it again"):
        fetch("mnist")
    path.write_bytes(b"no archive")
    with pytest.raises(RequestError, match=r"cannot be read .* Move it away"):
        fetch("mnist")
    assert path.read_bytes() == b"no archive"


HERE = data_folder()
"""The folder of data sets, before a test says otherwise."""

needs_data = pytest.mark.skipif(
    not all(
        (HERE / path).is_file() for path in ("smiles/smiles64.npz", "mnist/mnist8k.npz")
    ),
    reason=f"{HERE}: lacks SMILEs or MNIST; robustgen fetch smiles, then mnist",
)


@needs_data
def test_the_digits_that_are_here_come_back(site: Site):
    arrays = read_arrays(HERE / "mnist" / "mnist8k.npz")
    whole = [
        np.concatenate((arrays[k], arrays[k][:2000])) for k in ("images", "labels")
    ]
    put(site, "mnist", *map(idx, whole))
    (got,) = fetch("mnist", pause=lambda seconds: None)
    assert (got.status, got.verified) == ("assembled", True)
    assert read_arrays(got.path).keys() == arrays.keys()


@needs_data
@pytest.mark.slow
def test_the_photographs_that_are_here_come_back(site: Site):
    arrays = read_arrays(HERE / "smiles" / "smiles64.npz")
    pairs = zip(smiles_rows(), arrays["images"], strict=True)
    files = {row.member: picture(image) for row, image in pairs}
    put(site, "smiles", zipped(files))
    (got,) = fetch("smiles", pause=lambda seconds: None)
    assert (got.status, got.verified) == ("assembled", True)
    for name, array in arrays.items():
        np.testing.assert_array_equal(read_arrays(got.path)[name], array)
