"""Chosen members of zip and tar archives, written where we say, not where they do."""

import contextlib
import fnmatch
import functools
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from robustgen.errors import RequestError
from robustgen.transfer import require_space

_DAMAGES = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
)
"""What the standard library raises on archives that are cut off, damaged or locked."""


@dataclass(frozen=True)
class Wanted:
    """What to take from an archive.

    Args:
        member: How the path of the member ends, `cifar-10-batches-bin/test_batch.bin`.
        target: Where it goes. What is there already is replaced.
        pattern: For a folder: which of its files to take. Empty for one file.
    """

    member: str
    target: Path
    pattern: str = ""


class _Member(NamedTuple):
    path: PurePosixPath
    size: int
    copy_to: Callable[[Path], None]


def unpack(archive: Path, wanted: Sequence[Wanted]) -> None:
    """Takes files and folders out of an archive, all or none of them.

    Every member is written under a name that is made here; those that lead out of the
    archive's folder are a reason to refuse all of it. Links and devices are no members.

    Args:
        archive: A zip file or a tar file, compressed or not.
        wanted: What to take.

    Raises:
        RequestError: the archive is damaged or unsafe, lacks what is wanted or has it
            twice, or the disk is full.
    """
    parents = {want.target.parent for want in wanted}
    with contextlib.ExitStack() as stack:
        try:
            for parent in parents:
                parent.mkdir(parents=True, exist_ok=True)
            # Beside their targets, so that a move is a renaming.
            holds = {
                parent: Path(
                    stack.enter_context(
                        tempfile.TemporaryDirectory(dir=parent, prefix=".unpack-")
                    )
                )
                for parent in parents
            }
        except OSError as error:
            raise RequestError(
                f"{error.filename}: cannot write here ({error.strerror})."
            ) from error
        staged = [
            holds[want.target.parent] / str(place) for place, want in enumerate(wanted)
        ]
        with refusing_damages(archive):
            _extract(archive, wanted, staged)
        for want, source in zip(wanted, staged, strict=True):
            if not source.exists():
                raise RequestError(
                    f"{archive}: holds no {want.member}. It has changed at its origin."
                )
        for want, source in zip(wanted, staged, strict=True):
            _place(source, want.target)


def _extract(archive: Path, wanted: Sequence[Wanted], staged: Sequence[Path]) -> None:
    """Writes every wanted member below a path of `staged`."""
    for member in _members(archive):
        if member.path.is_absolute() or ".." in member.path.parts:
            raise RequestError(
                f"{archive}: its member {member.path} leads out of the folder that it "
                "is unpacked in. Nothing was unpacked."
            )
        for want, source in zip(wanted, staged, strict=True):
            path = member.path.parent if want.pattern else member.path
            if not _ends_with(path, want.member):
                continue
            target = source
            if want.pattern:
                if not fnmatch.fnmatchcase(member.path.name, want.pattern):
                    continue
                target = source / member.path.name
            if target.exists():
                raise RequestError(
                    f"{archive}: holds {want.member} more than once, so that the right "
                    "one cannot be told."
                )
            require_space(source.parent, member.size, member.path.name)
            target.parent.mkdir(exist_ok=True)
            member.copy_to(target)


def _members(archive: Path) -> Generator[_Member]:
    """The plain files of an archive, each to be copied before the next is asked for."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            for entry in file.infolist():
                if not entry.is_dir():
                    path = PurePosixPath(entry.filename.replace("\\", "/"))
                    copy = functools.partial(_copy_from_zip, file, entry)
                    yield _Member(path, entry.file_size, copy)
        return
    with tarfile.open(archive) as file:
        for entry in file:
            if entry.isreg():
                copy = functools.partial(_copy_from_tar, file, entry)
                yield _Member(PurePosixPath(entry.name), entry.size, copy)


def _copy_from_zip(file: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    with file.open(entry) as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy)


def _copy_from_tar(file: tarfile.TarFile, entry: tarfile.TarInfo, target: Path) -> None:
    source = file.extractfile(entry)
    if source is None:
        raise tarfile.ReadError(f"{entry.name} is no plain file")
    with source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy)


@contextlib.contextmanager
def refusing_damages(archive: Path) -> Generator[None]:
    """Turns what the standard library raises on a damaged archive into a request error.

    Raises:
        RequestError: the archive is cut off, damaged or locked.
    """
    try:
        yield
    except _DAMAGES as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RequestError(
            f"{archive}: cannot be unpacked ({reason}). Delete it and fetch it again."
        ) from error


def _ends_with(path: PurePosixPath, end: str) -> bool:
    """Whether the last parts of a path are those of `end`."""
    parts = PurePosixPath(end).parts
    return path.parts[-len(parts) :] == parts


def _place(source: Path, target: Path) -> None:
    """Moves a file or a folder to its place, over what is there."""
    if source.is_file() or not target.exists():
        source.replace(target)
        return
    for file in source.iterdir():
        file.replace(target / file.name)
