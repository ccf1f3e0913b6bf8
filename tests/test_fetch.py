"""`fetch`: files and archives of assets, checked, skipped, explained."""

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from file_server import Site, serving

from robustgen import fetch as module
from robustgen.errors import RequestError
from robustgen.fetch import FetchedFile, fetch, fetch_files, fetched_lines
from robustgen.full_assets import Archive
from robustgen.progress import Silent
from robustgen.sources import SourceFile

NET = b"weights" * 1000
DIGEST = hashlib.sha256(NET).hexdigest()


def zipped(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name, content in members.items():
            file.writestr(f"results/{name}/net.pth", content)
        file.writestr("dataset/cat/images/a_1.png", b"cat")
        file.writestr("dataset/cat/images/a_2.png", b"more")
    return stream.getvalue()


def tarred(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as file:
        for name, content in members.items():
            entry = tarfile.TarInfo(f"results/{name}/net.pth")
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


class World(NamedTuple):
    """A server, and the assets that come from it."""

    site: Site
    folder: Path
    users: list[SourceFile]

    def file(
        self,
        path: str = "net.pth",
        *,
        url: bool = True,
        sha256: str | None = DIGEST,
        size: int | None = len(NET),
    ) -> SourceFile:
        return SourceFile(
            asset="net",
            root="weights",
            path=path,
            size="7 kB",
            origin="https://example.org",
            how="ask its owner",
            license="MIT",
            bytes=size,
            sha256=sha256,
            url=self.site.url("net") if url else None,
        )

    def archived(self, name: str, content: bytes, **known: str | int) -> SourceFile:
        self.site.files["some.zip"] = content
        archive = Archive.model_validate(
            {
                "name": "some",
                "url": self.site.url("some.zip"),
                "size": "1 MB",
                **known,
            }
        )
        bare = self.file(f"{name}/net.pth", url=False, sha256=None, size=None)
        made = replace(bare, archive=archive, member=f"{name}/net.pth")
        self.users.append(made)
        return made

    @property
    def kept(self) -> Path:
        return self.folder / "archives" / "some.zip"

    def get(self, *files: SourceFile) -> list[FetchedFile]:
        return fetch_files(
            files,
            progress=Silent(),
            opener=None,
            pause=lambda seconds: None,
            archive_users=lambda name: self.users,
        )

    def refused(self, *files: SourceFile) -> str:
        with pytest.raises(RequestError) as caught:
            self.get(*files)
        assert caught.value.exit_code == 2
        return str(caught.value)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[World]:
    monkeypatch.setenv("ROBUSTGEN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ROBUSTGEN_WEIGHTS", str(tmp_path / "weights"))
    with serving(net=NET) as site:
        yield World(site, tmp_path / "weights", [])


def test_a_file_is_downloaded_once(world: World):
    file = world.file()
    first = world.get(file)
    assert first == [FetchedFile(file.location, "downloaded", 7000, DIGEST, True)]
    assert file.location.read_bytes() == NET
    assert world.get(file) == [replace(first[0], status="present")]
    assert world.site.asked == [""]


def test_without_a_digest_nothing_is_called_verified(world: World):
    file = world.file(sha256=None, size=None)
    (got,) = world.get(file)
    assert (got.status, got.sha256, got.verified) == ("downloaded", DIGEST, False)
    (again,) = world.get(file)
    assert (again.status, again.sha256, again.verified) == ("present", DIGEST, False)


def test_a_wrong_file_that_is_there_is_the_users_and_stays(world: World):
    file = world.file(size=None)
    file.location.parent.mkdir(parents=True)
    file.location.write_bytes(b"other")
    other = hashlib.sha256(b"other").hexdigest()
    assert world.refused(file) == (
        f"{file.location}: has sha256\n  {other}, expected\n  {DIGEST}. Move it away "
        "and fetch it again."
    )
    assert world.refused(world.file()) == (
        f"{file.location}: has 5 bytes, expected 7,000. Move it away and fetch it "
        "again."
    )
    assert file.location.read_bytes() == b"other"


def test_a_wrong_download_is_refused(world: World):
    message = world.refused(world.file(sha256="0" * 64))
    assert DIGEST in message
    assert "0" * 64 in message
    assert not world.file().present


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_members_of_an_archive(world: World, pack: object):
    content = zipped(a=b"A", b=b"B") if pack is zipped else tarred(a=b"A", b=b"B")
    digest = hashlib.sha256(content).hexdigest()
    a, b = (world.archived(n, content, sha256=digest) for n in "ab")
    (got,) = world.get(a)
    assert got == FetchedFile(a.location, "unpacked", 1, digest, True)
    assert a.location.read_bytes() == b"A"
    assert not b.present
    # The archive stays for b, is not fetched again, and goes when all is out.
    assert world.kept.read_bytes() == content
    assert world.get(b)[0].status == "unpacked"
    assert world.site.asked == [""]
    assert not world.kept.exists()


def test_a_folder_of_an_archive(world: World):
    content = zipped()
    made = world.archived("cat", content)
    folder = replace(made, path="cats", member="cat/images", pattern="*.png", count=2)
    world.users[:] = [folder]
    (got,) = world.get(folder)
    assert (got.bytes, got.verified) == (7, False)
    (again,) = world.get(folder)
    assert again == replace(got, status="present", sha256="")
    assert fetched_lines("cats", [again])[2] == (
        "            not verified: a folder that was there before"
    )
    assert sorted(p.name for p in (world.folder / "cats").iterdir()) == [
        *("a_1.png", "a_2.png"),
    ]
    assert not world.kept.exists()


def test_a_member_of_another_size_is_refused(world: World):
    file = replace(world.archived("a", zipped(a=b"A")), bytes=2)
    assert world.refused(file) == (
        f"{file.location}: has 1 bytes, expected 2. Move it away and fetch it again."
    )


def test_an_archive_that_is_there_is_checked(world: World):
    file = world.archived("a", zipped(a=b"A"), sha256="0" * 64)
    world.kept.parent.mkdir(parents=True)
    world.kept.write_bytes(b"other")
    other = hashlib.sha256(b"other").hexdigest()
    assert world.refused(file) == (
        f"{world.kept}: has sha256\n  {other}, expected\n  {'0' * 64}. Move it away "
        "and fetch it again."
    )
    assert world.site.asked == []


def test_an_interrupted_archive_goes_on(world: World):
    file = world.archived("a", zipped(a=b"A"))
    world.site.drop_after = [50, 0, 0, 0, 0]
    assert "is kept; the same command goes on from there" in world.refused(file)
    assert world.kept.with_name("some.zip.part").stat().st_size == 50
    world.site.asked.clear()
    world.get(file)
    assert world.site.asked == ["bytes=50-"]


def test_what_must_be_had_by_hand_is_explained_before_anything_is_fetched(
    world: World,
):
    by_hand = world.file("by_hand.pth", url=False)
    assert world.refused(world.file(), by_hand) == (
        "'net' cannot be fetched for you (MIT). Put these files in place (1):\n"
        f"  {by_hand.location}\n"
        "      for net, 7 kB, from https://example.org\n"
        "      ask its owner"
    )
    assert world.site.asked == []
    by_hand.location.parent.mkdir(parents=True)
    by_hand.location.write_bytes(NET)
    found = world.get(world.file(), by_hand)
    assert [one.status for one in found] == ["downloaded", "present"]


@pytest.mark.parametrize(
    ("name", "count", "words"),
    [
        ("celebahq", 3, "accept the terms there"),
        ("cars", 3, "the authors no longer serve Cars196"),
    ],
)
def test_assets_with_terms_or_dead_links(
    world: World, name: str, count: int, words: str
):
    with pytest.raises(RequestError) as caught:
        fetch(name)
    text = str(caught.value)
    assert text.startswith(f"'{name}' cannot be fetched for you (")
    assert f"Put these files in place ({count}):\n" in text
    assert words in text
    assert "robustgen fetch" not in text


def test_an_unknown_name():
    with pytest.raises(RequestError, match=r"Unknown download 'lpips'\. Did you mean"):
        fetch("lpips")


def test_fetch_goes_by_name(world: World, monkeypatch: pytest.MonkeyPatch):
    files = {"net": (world.file(),)}
    monkeypatch.setattr(module, "asset_files", files.__getitem__)
    (got,) = fetch("net")
    assert got.verified
    assert fetched_lines("net", [got]) == [
        "net: MIT",
        f"downloaded  {got.path}  0.0 MB",
        "            sha256 is the one published",
    ]


def test_lines_say_how_far_a_file_can_be_trusted(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    content = zipped(a=b"A", b=b"B")
    a, b = world.archived("a", content), world.archived("b", content)
    plain = world.file(sha256=None)
    files = {"net": (plain, a), "other": (b,)}
    monkeypatch.setattr(module, "asset_files", files.__getitem__)
    digest = hashlib.sha256(content).hexdigest()
    assert fetched_lines("net", world.get(plain, a)) == [
        "net: MIT",
        f"downloaded  {plain.location}  0.0 MB",
        "            not verified, for no digest is published; sha256:",
        f"            {DIGEST}",
        f"unpacked    {a.location}  0.0 MB",
        "            not verified, for no digest is published; the archive's sha256:",
        f"            {digest}",
        f"kept, for it holds further assets: {world.kept}",
    ]
    assert fetched_lines("net", world.get(plain, a))[4:7] == [
        f"present     {a.location}  0.0 MB",
        "            not verified, for no digest is published; sha256:",
        f"            {hashlib.sha256(b'A').hexdigest()}",
    ]
