"""Archives: what is wanted comes out, what is not safe or not clear does not."""

import io
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from robustgen import transfer
from robustgen.errors import RequestError
from robustgen.unpack import Wanted, unpack

Make = Callable[[Path, Mapping[str, bytes]], None]


def make_zip(path: Path, members: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)


def make_tar(path: Path, members: Mapping[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as file:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))


FORMATS = pytest.mark.parametrize("make", [make_zip, make_tar])
CATS = {
    "dataset/catface/images/images/Bengal_1.png": b"one",
    "dataset/catface/images/images/Bengal_2.png": b"two",
    "dataset/catface/images/images/notes.txt": b"no",
    "dataset/catface/latents/Bengal_1.pth": b"code",
}


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, what begins with a dot included."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refused(archive: Path, *wanted: Wanted) -> str:
    with pytest.raises(RequestError) as caught:
        unpack(archive, wanted)
    return str(caught.value)


@FORMATS
def test_files_and_folders(tmp_path: Path, make: Make):
    archive, out = tmp_path / "a.bin", tmp_path / "out"
    make(archive, CATS)
    unpack(
        archive,
        [
            Wanted("catface/images/images", out / "cats" / "images", "*.png"),
            Wanted("latents/Bengal_1.pth", out / "code.pth"),
        ],
    )
    assert content(out) == {
        "cats/images/Bengal_1.png": b"one",
        "cats/images/Bengal_2.png": b"two",
        "code.pth": b"code",
    }


@FORMATS
def test_what_is_there_is_replaced(tmp_path: Path, make: Make):
    archive, out = tmp_path / "a.bin", tmp_path / "out"
    make(archive, CATS)
    out.mkdir()
    (out / "Bengal_1.png").write_bytes(b"old")
    (out / "mine.png").write_bytes(b"mine")
    (tmp_path / "code.pth").write_bytes(b"old")
    unpack(
        archive,
        [
            Wanted("images/images", out, "*.png"),
            Wanted("Bengal_1.pth", tmp_path / "code.pth"),
        ],
    )
    assert content(out) == {
        **{"Bengal_1.png": b"one", "Bengal_2.png": b"two", "mine.png": b"mine"},
    }
    assert (tmp_path / "code.pth").read_bytes() == b"code"


@FORMATS
@pytest.mark.parametrize(
    "name", ["../evil.png", "/images/images/evil.png", "a/../../images/images/b.png"]
)
def test_a_member_that_leads_out_is_refused(tmp_path: Path, make: Make, name: str):
    archive, out = tmp_path / "a.bin", tmp_path / "out"
    make(archive, {**CATS, name: b"evil"})
    assert refused(archive, Wanted("images/images", out / "x", "*.png")) == (
        f"{archive}: its member {name} leads out of the folder that it is unpacked in. "
        "Nothing was unpacked."
    )
    assert content(out) == {}


@FORMATS
def test_a_missing_member_leaves_nothing(tmp_path: Path, make: Make):
    archive, out = tmp_path / "a.bin", tmp_path / "out"
    make(archive, CATS)
    found = Wanted("latents/Bengal_1.pth", out / "code.pth")
    assert refused(archive, found, Wanted("dog.pth", out / "dog.pth")) == (
        f"{archive}: holds no dog.pth. It has changed at its origin."
    )
    assert content(out) == {}


@FORMATS
def test_a_member_that_could_be_either_of_two(tmp_path: Path, make: Make):
    archive, out = tmp_path / "a.bin", tmp_path / "out"
    make(archive, {"a/Smiling/net.pth": b"1", "b/Smiling/net.pth": b"2"})
    assert refused(archive, Wanted("Smiling/net.pth", out / "net.pth")) == (
        f"{archive}: holds Smiling/net.pth more than once, so that the right one "
        "cannot be told."
    )
    assert content(out) == {}
    unpack(archive, [Wanted("b/Smiling/net.pth", out / "net.pth")])
    assert content(out) == {"net.pth": b"2"}


def test_names_match_by_whole_parts(tmp_path: Path):
    archive = tmp_path / "a.zip"
    make_zip(archive, {"x/NotSmiling/net.pth": b"1"})
    assert "holds no Smiling" in refused(archive, Wanted("Smiling/net.pth", tmp_path))


def test_links_are_no_members(tmp_path: Path):
    archive = tmp_path / "a.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        link = tarfile.TarInfo("net.pth")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
    assert "holds no net.pth" in refused(archive, Wanted("net.pth", tmp_path / "n"))
    assert not (tmp_path / "n").exists()


@FORMATS
def test_a_damaged_archive(tmp_path: Path, make: Make):
    archive = tmp_path / "a.bin"
    # Noise cannot be compressed, so that half of the file is half of the member.
    noise = bytes((i * i * 7919 >> 5) & 255 for i in range(100_000))
    make(archive, {"net.pth": noise})
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    message = refused(archive, Wanted("net.pth", tmp_path / "net.pth"))
    assert message.startswith(f"{archive}: cannot be unpacked (")
    assert message.endswith("). Delete it and fetch it again.")
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_a_byte_that_changed_is_found(tmp_path: Path):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        file.writestr("net.pth", b"0123456789")
    archive.write_bytes(archive.read_bytes().replace(b"0123456789", b"0123456780"))
    message = refused(archive, Wanted("net.pth", tmp_path / "net.pth"))
    assert "Bad CRC-32 for file 'net.pth'" in message
    assert not (tmp_path / "net.pth").exists()


def test_what_is_no_archive(tmp_path: Path):
    archive = tmp_path / "a.zip"
    archive.write_text("<html>")
    message = refused(archive, Wanted("net.pth", tmp_path / "net.pth"))
    assert message.startswith(
        f"{archive}: cannot be unpacked (file could not be opened"
    )


def test_a_full_disk_is_seen_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    archive = tmp_path / "a.zip"
    make_zip(archive, {"net.pth": b"0" * 3_000_000})
    usage: Any = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(
        transfer.shutil, "disk_usage", lambda folder: usage._replace(free=1_000_000)
    )
    message = refused(archive, Wanted("net.pth", tmp_path / "net.pth"))
    assert "net.pth needs 3.0 MB, but 1.0 MB are free. Make room" in message
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_a_folder_that_cannot_be_made(tmp_path: Path):
    archive = tmp_path / "a.zip"
    make_zip(archive, {"net.pth": b"0"})
    assert refused(archive, Wanted("net.pth", archive / "net.pth")) == (
        f"{archive}: cannot write here (File exists)."
    )
