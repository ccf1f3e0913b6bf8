"""A web server for tests that gives files, and fails as told."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NOBODY = "http://127.0.0.1:{port}/{name}"


@dataclass
class Site:
    """What the server gives, and how.

    Args:
        files: Content by name.
        etag: Tag of every file; empty for none.
        modified: Date of the last change of every file; empty for none.
        content_type: Sent with every file.
        ranges: Whether a part of a file can be had.
        drop_after: Bytes after which each of the next answers breaks off; one answer
            takes one entry.
        statuses: Statuses that the next answers have instead of the file.
        false_range: Whether a part begins one byte too early.
        length: Whether the size is said; without it the answer comes in chunks.
        asked: The header `Range` of each request, in order; empty for none.
    """

    files: dict[str, bytes]
    etag: str = '"one"'
    modified: str = ""
    content_type: str = "application/octet-stream"
    ranges: bool = True
    drop_after: list[int] = field(default_factory=list[int])
    statuses: list[int] = field(default_factory=list[int])
    false_range: bool = False
    length: bool = True
    asked: list[str] = field(default_factory=list[str])
    port: int = 0

    def url(self, name: str) -> str:
        """Where a file is."""
        return NOBODY.format(port=self.port, name=name)


@contextmanager
def serving(**files: bytes) -> Generator[Site]:
    """Serves files until the end of the block."""
    site = Site(files)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            del format, args

        def do_GET(self) -> None:
            _answer(self, site)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(handler: BaseHTTPRequestHandler, site: Site) -> None:
    asked = handler.headers.get("Range", "")
    site.asked.append(asked)
    content = site.files.get(handler.path[1:])
    if site.statuses or content is None:
        status = site.statuses.pop(0) if site.statuses else 404
        handler.send_response(status)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    start = 0
    same = handler.headers.get("If-Range") in (site.etag, site.modified)
    if asked and site.ranges and same:
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(content):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(content)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(206)
        said = start - 1 if site.false_range else start
        handler.send_header(
            "Content-Range", f"bytes {said}-{len(content) - 1}/{len(content)}"
        )
    else:
        handler.send_response(200)
    handler.send_header("Content-Type", site.content_type)
    if site.length:
        handler.send_header("Content-Length", str(len(content) - start))
    if site.etag:
        handler.send_header("ETag", site.etag)
    if site.modified:
        handler.send_header("Last-Modified", site.modified)
    handler.end_headers()
    end = len(content)
    if site.drop_after:
        end = min(end, start + site.drop_after.pop(0))
    handler.wfile.write(content[start:end])
    handler.close_connection = True
