"""`robustgen fetch NAME`: the files of a full asset, downloaded, checked, unpacked.

Only what may be had without asking anyone is fetched. What its owners give under terms,
or no longer serve, comes with instructions instead.
"""

import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Literal

from robustgen.assembling import (
    assemble,
    content_digest,
    read_arrays,
    write_arrays,
)
from robustgen.errors import RequestError
from robustgen.files import sha256_of
from robustgen.full_assets import Archive, Assembly, find_archive
from robustgen.progress import Progress, Silent
from robustgen.sources import SourceFile, archive_files, asset_files, file_lines
from robustgen.transfer import Remote, download, megabytes
from robustgen.unpack import Wanted, unpack


@dataclass(frozen=True)
class FetchedFile:
    """A file or folder of an asset, now on disk.

    Args:
        path: Where it lies.
        status: `present` before, `downloaded`, `unpacked` from an archive, or
            `assembled` from what one or several hold.
        bytes: Size; of a folder, the size of its files.
        sha256: Digest of the file, or of the archive that it was unpacked from; empty
            for a folder that was there before. Of a file that is assembled, that of the
            arrays in it.
        verified: Whether a digest that a source states was compared, and is the same.
        of_content: Whether the digest is that of the arrays in the file.
    """

    path: Path
    status: Literal["present", "downloaded", "unpacked", "assembled"]
    bytes: int
    sha256: str
    verified: bool
    of_content: bool = False


def fetch(
    name: str,
    *,
    progress: Progress | None = None,
    opener: urllib.request.OpenerDirector | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> list[FetchedFile]:
    """Fetches every file that a full asset needs and that is not there.

    A download that is interrupted leaves a `.part`, and the next call goes on from
    there. An archive is kept in the folder `archives` while it holds files of further
    assets that are not there, and deleted after that.

    Args:
        name: Name of the asset, such as `lpips_alex`. Where a data set and a classifier
            share it, both are fetched.
        progress: Told of every megabyte; by default nobody.
        opener: Makes the requests; by default that of `urllib`, which obeys the usual
            proxy variables.
        pause: Called between two tries with a number of seconds.

    Returns:
        One entry for each file, in the order of the asset.

    Raises:
        RequestError: there is no such asset; a file must be had by hand (all such are
            named, with instructions); a file that is there is not the right one; or
            the download fails, see `robustgen.transfer.download`.
    """
    return fetch_files(
        asset_files(name),
        progress=progress or Silent(),
        opener=opener,
        pause=pause,
        archive_users=archive_files,
    )


def fetch_files(
    files: Sequence[SourceFile],
    *,
    progress: Progress,
    opener: urllib.request.OpenerDirector | None,
    pause: Callable[[float], None],
    archive_users: Callable[[str], Sequence[SourceFile]],
) -> list[FetchedFile]:
    """Fetches files; see `fetch`.

    Args:
        files: What to fetch.
        progress: Told of every megabyte.
        opener: Makes the requests.
        pause: Called between two tries with a number of seconds.
        archive_users: From the name of an archive to all files that come from it.

    Raises:
        RequestError: see `fetch`.
    """
    lacking = [file for file in files if not file.present]
    by_hand = [file for file in lacking if not file.automatic]
    if by_hand:
        raise RequestError(
            "\n".join(
                (
                    f"'{by_hand[0].asset}' cannot be fetched for you "
                    f"({by_hand[0].license}). Put these files in place "
                    f"({len(by_hand)}):",
                    *file_lines(by_hand),
                )
            )
        )
    found = {file: _checked(file) for file in files if file not in lacking}
    for file in lacking:
        if file.url is not None:
            remote = Remote(file.url, file.bytes, file.sha256, file.how)
            digest = download(
                remote, file.location, progress=progress, opener=opener, pause=pause
            )
            found[file] = _fetched(file, "downloaded", digest, file.sha256)
    for archive in dict.fromkeys(f.archive for f in lacking if f.archive is not None):
        inside = [file for file in lacking if file.archive == archive]
        path = _archive_path(inside[0], archive)
        digest = _archive(
            archive, path, inside[0].how, progress=progress, opener=opener, pause=pause
        )
        unpack(
            path,
            [
                Wanted(file.member, file.location, file.pattern if file.count else "")
                for file in inside
            ],
        )
        for file in inside:
            found[file] = _fetched(file, "unpacked", digest, archive.sha256)
            _check_size(file)
        if all(file.present for file in archive_users(archive.name)):
            path.unlink()
    for file in lacking:
        if file.assembly is not None:
            found[file] = _assembled(
                file, file.assembly, progress=progress, opener=opener, pause=pause
            )
    return [found[file] for file in files]


def fetched_lines(name: str, fetched: Sequence[FetchedFile]) -> list[str]:
    """For people: what lies where, and how far it can be trusted.

    Args:
        name: Name of the asset.
        fetched: What `fetch` returned.
    """
    terms = dict.fromkeys(file.license for file in asset_files(name))
    lines = [f"{name}: {'; '.join(terms)}"]
    for file in fetched:
        lines.append(f"{file.status:10}  {file.path}  {megabytes(file.bytes)}")
        source = "the archive's sha256" if file.status == "unpacked" else "sha256"
        if file.of_content:
            lines.append(
                "            its arrays are those that shipped networks were trained on"
            )
        elif file.verified:
            lines.append(f"            {source} is the one published")
        elif file.sha256:
            lines.append(
                f"            not verified, for no digest is published; {source}:"
            )
            lines.append(f"            {file.sha256}")
        else:
            lines.append("            not verified: a folder that was there before")
    kept = sorted(
        {
            str(path)
            for file in asset_files(name)
            if file.archive is not None
            and (path := _archive_path(file, file.archive)).is_file()
        }
    )
    lines += [f"kept, for it holds further assets: {path}" for path in kept]
    return lines


def _archive_path(file: SourceFile, archive: Archive) -> Path:
    return file.folder / "archives" / PurePosixPath(archive.url).name


def _archive(
    archive: Archive,
    path: Path,
    how: str,
    *,
    progress: Progress,
    opener: urllib.request.OpenerDirector | None,
    pause: Callable[[float], None],
) -> str:
    """The archive on disk, and its digest."""
    remote = Remote(archive.url, archive.bytes, archive.sha256, how)
    if not path.is_file():
        return download(remote, path, progress=progress, opener=opener, pause=pause)
    digest = sha256_of(path)
    if archive.sha256 not in (None, digest):
        raise _other_digest(path, digest, archive.sha256)
    return digest


def _assembled(
    file: SourceFile,
    assembly: Assembly,
    *,
    progress: Progress,
    opener: urllib.request.OpenerDirector | None,
    pause: Callable[[float], None],
) -> FetchedFile:
    """Fetches the archives, makes the file of them, and deletes them."""
    paths: list[Path] = []
    for name in assembly.archives:
        archive = find_archive(name)
        path = _archive_path(file, archive)
        how = f"download it as {path}, then fetch again."
        paths.append(path)
        _archive(archive, path, how, progress=progress, opener=opener, pause=pause)
    arrays = assemble(assembly.assembler, paths)
    digest = content_digest(arrays)
    if digest != assembly.content:
        raise RequestError(
            f"{file.asset}: {', '.join(map(str, paths))} give arrays with sha256\n  "
            f"{digest}, expected\n  {assembly.content}. Nothing was written: the "
            "archive has changed at its origin, or this version of Pillow "
            f"({version('pillow')}) decodes its pictures to other pixels."
        )
    write_arrays(arrays, file.location)
    for path in paths:
        path.unlink()
    return _fetched(file, "assembled", digest, assembly.content)


def _checked(file: SourceFile) -> FetchedFile:
    """What is there already.

    Raises:
        RequestError: its size or digest are not the ones published.
    """
    _check_size(file)
    if file.count:
        return _fetched(file, "present", "", None)
    if file.assembly is not None:
        digest = content_digest(read_arrays(file.location))
        if digest != file.assembly.content:
            raise _other_digest(file.location, digest, file.assembly.content)
        return _fetched(file, "present", digest, file.assembly.content)
    digest = sha256_of(file.location)
    if file.sha256 not in (None, digest):
        raise _other_digest(file.location, digest, file.sha256)
    return _fetched(file, "present", digest, file.sha256)


def _check_size(file: SourceFile) -> None:
    if file.bytes is not None and file.location.stat().st_size != file.bytes:
        raise RequestError(
            f"{file.location}: has {file.location.stat().st_size:,} bytes, expected "
            f"{file.bytes:,}. Move it away and fetch it again."
        )


def _other_digest(path: Path, digest: str, expected: str | None) -> RequestError:
    return RequestError(
        f"{path}: has sha256\n  {digest}, expected\n  {expected}. Move it away and "
        "fetch it again."
    )


def _fetched(
    file: SourceFile,
    status: Literal["present", "downloaded", "unpacked", "assembled"],
    digest: str,
    published: str | None,
) -> FetchedFile:
    parts = file.location.glob(file.pattern) if file.count else [file.location]
    return FetchedFile(
        path=file.location,
        status=status,
        bytes=sum(part.stat().st_size for part in parts),
        sha256=digest,
        verified=published is not None and digest == published,
        of_content=file.assembly is not None,
    )
