"""Finished work on disk, found again by what it depends on.

An entry is bytes under (kind, address, name): the kind says what the bytes are, the
address is a fingerprint of everything that they depend on, the name tells the entries
of an address apart. An entry is whole or absent. Its checksum covers kind, address and
name too, so right bytes in a wrong place are damage like flipped ones; what is damaged
is removed and counts as absent.

Several processes may share a folder without locks: an entry appears by one rename, two
writers of one entry write the same, and whoever finds an entry gone computes it again.
What was least recently used goes first when the cap is reached. Nothing is exempt, not
even what this process wrote: a cap below what one run needs costs time, no result.
"""

import contextlib
import datetime
import hashlib
import logging
import os
import re
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import platformdirs

from robustgen.errors import RequestError
from robustgen.files import whole_file

FOLDER_VARIABLE = "ROBUSTGEN_CACHE"
CAP_VARIABLE = "ROBUSTGEN_CACHE_CAP"

DEFAULT_CAP = 10 * 10**9
"""Bytes that a cache may hold if nobody says otherwise."""

BLOCK = 4096
"""Bytes that a file system gives out at once: an entry counts whole blocks."""

STALE_SECONDS = 24 * 3600
"""Age from which an unfinished file is one that a killed process left."""

_MAGIC = b"robustgen cache entry 1\n"
_SUFFIX = ".entry"
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,159}")
_HEAD = re.compile(rb"([0-9a-f]{64}) ([0-9]{1,15})\n")
_UNITS = {
    "": 1,
    "B": 1,
    **{f"{unit}B": 10 ** (3 * k) for k, unit in enumerate("KMGT", 1)},
    **{f"{unit}IB": 2 ** (10 * k) for k, unit in enumerate("KMGT", 1)},
}

_log = logging.getLogger(__name__)


@dataclass
class _Ledger:
    """What a process knows of the folder between two looks at all of it.

    Args:
        held: Bytes at the last look; None before the first.
        put: Bytes that this process wrote since.
        warned: Whether a failed write has been told.
    """

    held: int | None = None
    put: int = 0
    warned: bool = False


@dataclass(frozen=True)
class Cache:
    """A folder of entries.

    Args:
        folder: Where they lie, as KIND/AA/ADDRESS/NAME.entry; AA are the first two
            letters of the address. Files of any other form are left alone.
        cap_bytes: Space that entries may take. Beyond it, the least recently used are
            removed until nine tenths are left; 0 keeps nothing. Each process looks at
            the whole folder at its first write and then once per hundredth of the
            cap, so processes that write together may exceed it by that much each.
        reads: False finds nothing, and still writes: what is computed replaces what
            was there.
    """

    folder: Path
    cap_bytes: int = DEFAULT_CAP
    reads: bool = True
    _ledger: _Ledger = field(
        default_factory=_Ledger, init=False, repr=False, compare=False
    )

    def get(self, kind: str, address: str, name: str) -> bytes | None:
        """The bytes of an entry; None if it is absent or damaged.

        A damaged entry is removed, with a warning in the log.

        Raises:
            ValueError: kind, address or name cannot be a file name.
        """
        path = self._path(kind, address, name)
        if not self.reads:
            return None
        try:
            content = path.read_bytes()
        except OSError:
            return None
        payload, fault = _opened(content, kind, address, name)
        if payload is None:
            _log.warning("%s: damaged (%s); it will be computed again.", path, fault)
            _unlink(path)
            return None
        with contextlib.suppress(OSError):
            # The time of a file is the time of its last use: eviction goes by it.
            os.utime(path)
        return payload

    def put(self, kind: str, address: str, name: str, payload: bytes) -> None:
        """Writes an entry, in place of one that is there, and keeps to the cap.

        A folder that cannot be written loses the entry, not the run: the first time,
        the log says so. A payload larger than the cap is not kept.

        Raises:
            ValueError: kind, address or name cannot be a file name.
        """
        path = self._path(kind, address, name)
        content = _MAGIC + _head(kind, address, name, payload) + payload
        size = _space(len(content))
        if size > self.cap_bytes:
            return
        try:
            _write(path, content)
        except (OSError, RequestError) as error:
            if not self._ledger.warned:
                self._ledger.warned = True
                _log.warning(
                    "%s: finished work cannot be kept (%s); a run that is interrupted "
                    "will start over.",
                    self.folder,
                    error,
                )
            return
        self._keep_to_cap(size)

    def names(self, kind: str, address: str) -> list[str]:
        """Names of the entries under an address, sorted; damaged ones included."""
        folder = self._path(kind, address, "_").parent
        if not self.reads:
            return []
        try:
            files = [file.name for file in os.scandir(folder)]
        except OSError:
            return []
        return sorted(
            file.removesuffix(_SUFFIX) for file in files if _is_entry_name(file)
        )

    def remove(self, kind: str, address: str, name: str) -> None:
        """Removes an entry, if it is there."""
        _unlink(self._path(kind, address, name))

    def _path(self, kind: str, address: str, name: str) -> Path:
        for word in (kind, address, name):
            if _WORD.fullmatch(word) is None:
                raise ValueError(
                    f"{word!r} is not a word of at most 160 letters, digits, '_', '-' "
                    "and '.' that starts with one of the first three"
                )
        return self.folder / kind / address[:2] / address / f"{name}{_SUFFIX}"

    def _keep_to_cap(self, size: int) -> None:
        ledger = self._ledger
        ledger.put += size
        if ledger.held is not None:
            within = ledger.held + ledger.put <= self.cap_bytes
            if within and ledger.put <= self.cap_bytes // 100:
                return
        ledger.held, ledger.put = _held_after_trim(self, self.cap_bytes), 0


def default_cache(*, reads: bool = True) -> Cache:
    """The user's cache: `$ROBUSTGEN_CACHE`, else a folder among the user's caches.

    Its cap is `$ROBUSTGEN_CACHE_CAP`, such as `20GB`; by default 10 GB.

    Raises:
        RequestError: a variable holds something else than a folder or a size.
    """
    named = os.environ.get(FOLDER_VARIABLE, "")
    folder = (
        Path(named).expanduser()
        if named
        else platformdirs.user_cache_path("robustgen") / "results"
    )
    if folder.exists() and not folder.is_dir():
        raise RequestError(
            f"${FOLDER_VARIABLE}: {folder} is a file. Name a folder, or unset the "
            "variable to use the one among the user's caches."
        )
    cap = os.environ.get(CAP_VARIABLE, "")
    try:
        cap_bytes = parse_size(cap) if cap else DEFAULT_CAP
    except RequestError as error:
        raise RequestError(f"${CAP_VARIABLE}: {error}") from None
    return Cache(folder, cap_bytes, reads)


def parse_size(text: str) -> int:
    """Bytes of a size; GB counts in thousands, GiB in powers of two.

    Raises:
        RequestError: `text` is no such size.

    >>> parse_size("20GB"), parse_size("1.5 MiB"), parse_size("0")
    (20000000000, 1572864, 0)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text, re.ASCII)
    if match is None or match[2].upper() not in _UNITS:
        raise RequestError(
            f"'{text}' is not a size. Write a number and a unit: 500MB, 20GB, 1.5TiB."
        )
    return round(float(match[1]) * _UNITS[match[2].upper()])


def size_text(size: int) -> str:
    """Bytes as people read them.

    >>> size_text(0), size_text(999), size_text(9_960_000), size_text(10 * 10**9)
    ('0 B', '999 B', '10.0 MB', '10.0 GB')
    """
    if size < 1000:
        return f"{size} B"
    value, unit = size / 1000, "KB"
    for larger in ("MB", "GB", "TB"):
        # What rounds to 1000.0 reads better in the next unit.
        if value < 999.95:
            break
        value, unit = value / 1000, larger
    return f"{value:.1f} {unit}"


class Share(NamedTuple):
    """A number of entries and the bytes that they take, in whole blocks."""

    entries: int
    bytes: int


@dataclass(frozen=True)
class Usage:
    """What a cache holds.

    Args:
        entries: Number of entries.
        bytes: Space that they take, in whole blocks of `BLOCK` bytes.
        kinds: The same by kind, sorted.
        oldest: When the least recently used entry was used; None where there is none.
        newest: When the most recently used entry was used.
    """

    entries: int
    bytes: int
    kinds: Mapping[str, Share]
    oldest: datetime.datetime | None
    newest: datetime.datetime | None


class Damage(NamedTuple):
    """An entry that was damaged, and what was wrong with it."""

    path: Path
    reason: str


def usage(cache: Cache) -> Usage:
    """Counts the entries of a cache, without reading them."""
    kinds: dict[str, Share] = {}
    times: list[float] = []
    for found in _walk(cache.folder):
        if found.unfinished:
            continue
        kind = found.path.parents[2].name
        entries, size = kinds.get(kind, Share(0, 0))
        kinds[kind] = Share(entries + 1, size + found.size)
        times.append(found.used)
    return Usage(
        entries=sum(share.entries for share in kinds.values()),
        bytes=sum(share.bytes for share in kinds.values()),
        kinds=dict(sorted(kinds.items())),
        oldest=_moment(min(times)) if times else None,
        newest=_moment(max(times)) if times else None,
    )


def verify(cache: Cache) -> list[Damage]:
    """Reads every entry and removes the damaged ones, which it returns.

    The times of last use stay as they are.
    """
    damaged: list[Damage] = []
    for found in _walk(cache.folder):
        if found.unfinished:
            continue
        path = found.path
        kind, prefix, address = (path.parents[k].name for k in (2, 1, 0))
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            damaged.append(Damage(path, f"not readable: {error.strerror}"))
            continue
        name = path.name.removesuffix(_SUFFIX)
        _, fault = _opened(content, kind, address, name)
        if not fault and prefix != address[:2]:
            fault = f"lies under {prefix}, where nobody looks for it"
        if fault:
            damaged.append(Damage(path, fault))
            _unlink(path)
    return damaged


def clear(cache: Cache) -> Share:
    """Removes every entry and unfinished file; returns what went."""
    return _remove(cache, to_bytes=0, stale_seconds=0.0)


def trim(cache: Cache, to_bytes: int) -> Share:
    """Removes the least recently used entries until at most `to_bytes` are left.

    Files that killed processes left unfinished go too, once they are a day old.
    """
    return _remove(cache, to_bytes=to_bytes, stale_seconds=STALE_SECONDS)


@dataclass(frozen=True)
class _Found:
    """A file of a cache: an entry, or one that was not finished."""

    path: Path
    size: int
    used: float
    unfinished: bool


def _walk(folder: Path) -> Generator[_Found]:
    """All files of the form that this module writes; what vanishes is left out."""
    for kind in _folders(folder):
        for prefix in _folders(kind):
            for address in _folders(prefix):
                for file in _scan(address):
                    unfinished = _is_unfinished_name(file.name)
                    if not unfinished and not _is_entry_name(file.name):
                        continue
                    with contextlib.suppress(OSError):
                        if file.is_file(follow_symlinks=False):
                            stat = file.stat(follow_symlinks=False)
                            yield _Found(
                                Path(file.path),
                                _space(stat.st_size),
                                stat.st_mtime,
                                unfinished,
                            )


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as files:
            return list(files)
    except OSError:
        return []


def _folders(folder: Path) -> list[Path]:
    return [
        Path(file.path)
        for file in _scan(folder)
        if _WORD.fullmatch(file.name) and file.is_dir(follow_symlinks=False)
    ]


def _is_entry_name(name: str) -> bool:
    stem = name.removesuffix(_SUFFIX)
    return stem != name and _WORD.fullmatch(stem) is not None


def _is_unfinished_name(name: str) -> bool:
    """Whether `whole_file` gives such names to files of entries."""
    return name.startswith(".") and f"{_SUFFIX}." in name and name.endswith(".tmp")


def _remove(cache: Cache, *, to_bytes: int, stale_seconds: float) -> Share:
    """Removes stale unfinished files, then entries by age down to `to_bytes`."""
    now = time.time()
    entries: list[_Found] = []
    for found in _walk(cache.folder):
        if not found.unfinished:
            entries.append(found)
        elif now - found.used >= stale_seconds:
            _unlink(found.path)
    held = sum(found.size for found in entries)
    count, freed = 0, 0
    for found in sorted(entries, key=lambda found: (found.used, found.path)):
        if held - freed <= to_bytes:
            break
        # Gone is gone, whoever removed it; what stays (no permission) still counts.
        if _unlink(found.path):
            count += 1
            freed += found.size
    return Share(count, freed)


def _held_after_trim(cache: Cache, cap_bytes: int) -> int:
    """Bytes held, after a trim to nine tenths of the cap where they exceed it."""
    held = 0
    stale = False
    oldest_kept = time.time() - STALE_SECONDS
    for found in _walk(cache.folder):
        if found.unfinished:
            stale = stale or found.used < oldest_kept
        else:
            held += found.size
    if held > cap_bytes:
        return held - trim(cache, cap_bytes - cap_bytes // 10).bytes
    if stale:
        trim(cache, cap_bytes)
    return held


def _write(path: Path, content: bytes) -> None:
    for last in (False, True):
        try:
            with whole_file(path) as temporary:
                temporary.write_bytes(content)
            return
        except (OSError, RequestError):
            # Another process may have removed the folder or the unfinished file
            # under our hands: once more, then it is the disk.
            if last:
                raise


def _unlink(path: Path) -> bool:
    """Removes a file, and its folders where they are empty; whether it is gone."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return False
    with contextlib.suppress(OSError):
        path.parent.rmdir()
        path.parents[1].rmdir()
    return True


def _space(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _moment(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def _head(kind: str, address: str, name: str, payload: bytes) -> bytes:
    digest = hashlib.sha256()
    for part in (kind.encode(), address.encode(), name.encode(), payload):
        # The length before each part: no two entries share the hashed bytes.
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return f"{digest.hexdigest()} {len(payload)}\n".encode()


def _opened(
    content: bytes, kind: str, address: str, name: str
) -> tuple[bytes | None, str]:
    """The payload of a file and '', or None and what is wrong with it."""
    if not content.startswith(_MAGIC):
        return None, "not an entry of this version" if content else "empty"
    match = _HEAD.match(content, len(_MAGIC))
    if match is None:
        return None, "no readable checksum"
    payload = content[match.end() :]
    if len(payload) != int(match[2]):
        return None, f"{len(payload)} of {int(match[2])} bytes"
    if match[0] != _head(kind, address, name, payload):
        return None, "checksum differs"
    return payload, ""
