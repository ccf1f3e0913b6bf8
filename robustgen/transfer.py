"""One file over HTTP: whole or resumable, never half under its own name.

A download goes to `FILE.part`, with a note of what the server said about it beside it.
The next try asks for the rest; a server that cannot give it, or whose file changed in
the meantime, sends all of it.
"""

import contextlib
import http.client
import json
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator
from dataclasses import dataclass
from email.message import Message
from importlib.metadata import version
from pathlib import Path
from typing import Any

from robustgen.errors import RequestError
from robustgen.files import sha256_of, write_text
from robustgen.progress import Progress

ATTEMPTS = 5
"""Failures in a row, none of which brought a new byte, after which a download ends."""

TIMEOUT_SECONDS = 60.0
"""A server that says nothing for so long counts as failed."""

_CHUNK = 1 << 20
_MEGABYTE = 1_000_000
_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_DROPPED = (OSError, http.client.HTTPException)
"""What a connection that fails raises; `URLError` and time-outs are `OSError`s."""


@dataclass(frozen=True)
class Remote:
    """A file of a server, and what is known of it beforehand.

    Args:
        url: Where it is.
        bytes: Exact size, where known.
        sha256: Digest, where known.
        how: What a person does to get it, for messages.
    """

    url: str
    bytes: int | None
    sha256: str | None
    how: str


class _TransientError(Exception):
    """The connection failed in a way that may pass."""


@dataclass(frozen=True)
class _Note:
    """What must be the same for a part to be the beginning of the file."""

    url: str
    validator: str


def download(
    remote: Remote,
    path: Path,
    *,
    progress: Progress,
    opener: urllib.request.OpenerDirector | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> str:
    """Fetches a file; an interrupted one goes on where it stopped.

    Args:
        remote: The file.
        path: Where it goes; its folder is made.
        progress: Told of every megabyte.
        opener: Makes the requests; by default that of `urllib`, which obeys the usual
            proxy variables.
        pause: Called between two tries with 1, 2, 4, ... seconds.

    Returns:
        The sha256 of what was fetched.

    Raises:
        RequestError: the server refuses, sends a page instead of the file or keeps
            failing; size or digest are wrong; the disk is full or cannot be written.
    """
    opener = opener or urllib.request.build_opener()
    part = path.with_name(f"{path.name}.part")
    _make_folder(path.parent)
    failures, farthest = 0, _size(part)
    while True:
        try:
            _transfer(remote, part, progress, opener)
            break
        except _TransientError as error:
            if _size(part) > farthest:
                failures, farthest = 0, _size(part)
            failures += 1
            if failures == ATTEMPTS:
                raise RequestError(
                    f"{remote.url}: gave up after {ATTEMPTS} tries ({error}). "
                    f"{_kept(part)} By hand: {remote.how}"
                ) from error
            pause(float(2 ** (failures - 1)))
    digest = sha256_of(part)
    if remote.sha256 not in (None, digest):
        _discard(part)
        raise RequestError(
            f"{remote.url}: the file has sha256\n  {digest}, expected\n  "
            f"{remote.sha256}. It was deleted: the file has changed at its origin, or "
            "something on the way altered it."
        )
    with _writing(part):
        part.replace(path)
    _note_path(part).unlink(missing_ok=True)
    return digest


def require_space(folder: Path, needed: int, what: str) -> None:
    """Refuses to begin what the disk cannot hold.

    Raises:
        RequestError: fewer than `needed` bytes are free.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise RequestError(
            f"{folder}: {what} needs {megabytes(needed)}, but {megabytes(free)} are "
            "free. Make room, or set ROBUSTGEN_DATA and ROBUSTGEN_WEIGHTS to folders "
            "on a larger disk."
        )


def megabytes(count: int) -> str:
    """A number of bytes for people.

    >>> megabytes(244_408_911), megabytes(512)
    ('244.4 MB', '0.0 MB')
    """
    return f"{count / _MEGABYTE:,.1f} MB"


def _transfer(
    remote: Remote,
    part: Path,
    progress: Progress,
    opener: urllib.request.OpenerDirector,
) -> None:
    """One request, written to the end of `part` or over it.

    Raises:
        _TransientError: the connection failed; what came is kept.
        RequestError: asking again would not help.
    """
    note = _read_note(part)
    start = _size(part) if note is not None and note.url == remote.url else 0
    headers = {
        "User-Agent": f"robustgen/{version('robustgen')}",
        "Accept-Encoding": "identity",
    }
    if start and note is not None:
        headers |= {"Range": f"bytes={start}-", "If-Range": note.validator}
    request = urllib.request.Request(remote.url, headers=headers)
    try:
        response = opener.open(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        with contextlib.closing(error):
            _refused(remote, part, error, start)
        return
    except _DROPPED as error:
        raise _TransientError(_reason(error)) from error
    with contextlib.closing(response):
        resumed = response.status == 206
        if resumed and (note is None or not _continues(response.headers, start, note)):
            _discard(part)
            raise _TransientError("the server sent a piece of another file")
        begun = start if resumed else 0
        total = _total(response.headers, begun)
        _check_answer(remote, response, total)
        if not resumed:
            _write_note(part, remote.url, response.headers)
        if total is not None:
            require_space(part.parent, total - begun, part.name.removesuffix(".part"))
        progress.start(
            f"{part.name.removesuffix('.part')} (MB)", (total or 0) // _MEGABYTE
        )
        _copy(remote, response, part, begun, total, progress)


def _copy(
    remote: Remote,
    response: Any,
    part: Path,
    begun: int,
    total: int | None,
    progress: Progress,
) -> None:
    """Appends the body of an answer to the first `begun` bytes of `part`."""
    done = begun
    if total is not None:
        progress.advance(begun // _MEGABYTE)
    with _writing(part), part.open("r+b" if begun else "wb") as stream:
        stream.seek(begun)
        stream.truncate()
        while chunk := _read(response):
            if done == 0 and _is_page(chunk):
                _discard(part)
                raise _page(remote)
            stream.write(chunk)
            before, done = done, done + len(chunk)
            if total is not None:
                progress.advance(done // _MEGABYTE - before // _MEGABYTE)
            elif remote.bytes is not None and done > remote.bytes:
                _discard(part)
                raise _wrong_size(remote, done)
    if total is not None and done < total:
        raise _TransientError(f"the connection ended after {done:,} of {total:,} bytes")
    if remote.bytes is not None and done != remote.bytes:
        _discard(part)
        raise _wrong_size(remote, done)


def _read(response: Any) -> bytes:
    try:
        return response.read(_CHUNK)
    except _DROPPED as error:
        raise _TransientError(_reason(error)) from error


def _check_answer(remote: Remote, response: Any, total: int | None) -> None:
    """Refuses, before a byte is written, what is not the file."""
    if response.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
        raise _page(remote)
    if None not in (total, remote.bytes) and total != remote.bytes:
        raise _wrong_size(remote, total)


def _refused(
    remote: Remote, part: Path, error: urllib.error.HTTPError, start: int
) -> None:
    """What an answer of the status 400 or above means.

    Returns only if the part is already the whole file.
    """
    if error.code == 416:
        length = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
        if start and length and int(length[1]) == start:
            return
        _discard(part)
        raise _TransientError("the server has fewer bytes than were there before")
    if error.code in _TRANSIENT_STATUS:
        raise _TransientError(f"the server says {error.code} {error.reason}")
    raise RequestError(
        f"{remote.url}: the server says {error.code} {error.reason}. "
        f"By hand: {remote.how}"
    ) from error


def _page(remote: Remote) -> RequestError:
    return RequestError(
        f"{remote.url}: the server sent a web page instead of the file, such as one to "
        f"log in or to accept terms. By hand: {remote.how}"
    )


def _wrong_size(remote: Remote, found: int | None) -> RequestError:
    return RequestError(
        f"{remote.url}: the file has {found or 0:,} bytes, expected "
        f"{remote.bytes or 0:,}. It has changed at its origin. By hand: {remote.how}"
    )


def _is_page(beginning: bytes) -> bool:
    head = beginning[:200].lstrip().lower()
    return head.startswith((b"<!doctype html", b"<html"))


def _continues(headers: Message, start: int, note: _Note) -> bool:
    """Whether a piece begins where the part ends, and is of the same file."""
    found = re.match(r"bytes (\d+)-\d+/", headers.get("Content-Range", ""))
    same = _validator(headers) in ("", note.validator)
    return same and found is not None and int(found[1]) == start


def _total(headers: Message, begun: int) -> int | None:
    """Size of the whole file, as far as the server says."""
    length = headers.get("Content-Length", "")
    return begun + int(length) if length.isdigit() else None


def _reason(error: BaseException) -> str:
    inner = getattr(error, "reason", None) or error
    return " ".join(str(inner).split()) or type(error).__name__


def _kept(part: Path) -> str:
    if not _size(part):
        return "Try again later."
    return f"{part} is kept; the same command goes on from there."


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _note_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_note(part: Path) -> _Note | None:
    with contextlib.suppress(OSError, ValueError, TypeError):
        return _Note(**json.loads(_note_path(part).read_text(encoding="utf-8")))
    return None


def _write_note(part: Path, url: str, headers: Message) -> None:
    """Keeps what tells this file from a later one, or that nothing does."""
    part.unlink(missing_ok=True)
    validator = _validator(headers)
    if not validator:
        _note_path(part).unlink(missing_ok=True)
        return
    with _writing(part):
        text = json.dumps({"url": url, "validator": validator})
        write_text(_note_path(part), f"{text}\n")


def _validator(headers: Message) -> str:
    """What changes when the bytes of a file do; empty if the server says nothing."""
    etag = headers.get("ETag", "")
    # A weak tag says that two files are alike, not that their bytes are the same.
    strong = etag if etag.startswith('"') else ""
    return strong or headers.get("Last-Modified", "")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note_path(part).unlink(missing_ok=True)


def _make_folder(folder: Path) -> None:
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def _writing(path: Path) -> Generator[None]:
    """Says plainly what the disk refused."""
    try:
        yield
    except OSError as error:
        raise RequestError(
            f"{path}: cannot write here ({error.strerror or error})."
        ) from error
