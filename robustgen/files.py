"""Files that are whole or absent, and their fingerprints."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Generator
from pathlib import Path

from robustgen.errors import RequestError


@contextlib.contextmanager
def whole_file(path: Path) -> Generator[Path]:
    """Yields a temporary path beside `path`; renames it onto `path` on success.

    A reader never sees a half-written file, and a killed writer leaves only a
    temporary name. Missing parent folders are made.

    Raises:
        RequestError: the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"
        )
        os.close(handle)
    except OSError as error:
        raise RequestError(
            f"{path.parent}: cannot write here ({error.strerror}). "
            "Name a folder that you may write to."
        ) from error
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text as a whole file."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes) -> None:
    """Writes bytes as a whole file."""
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
