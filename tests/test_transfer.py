"""Downloads against a server of our own: resumed, repeated, refused."""

import hashlib
import json
import shutil
import socket
from collections.abc import Generator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from file_server import Site, serving

from robustgen import transfer
from robustgen.errors import RequestError
from robustgen.progress import Silent
from robustgen.transfer import Remote, download, require_space

CONTENT = bytes(range(256)) * 4000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
HOW = "ask its owner"


class Told:
    """Progress that remembers."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int]] = []
        self.done = 0

    def start(self, stage: str, total: int) -> None:
        self.stages.append((stage, total))
        self.done = 0

    def advance(self, count: int = 1) -> None:
        self.done += count


class Try(NamedTuple):
    site: Site
    path: Path
    pauses: list[float]

    @property
    def part(self) -> Path:
        return self.path.with_name("net.pth.part")

    @property
    def note(self) -> Path:
        return self.path.with_name("net.pth.part.json")

    def go(self, **known: Any) -> str:
        facts = {"bytes": None, "sha256": None, **known}
        remote = Remote(self.site.url("net"), how=HOW, **facts)
        return download(remote, self.path, progress=Silent(), pause=self.pauses.append)

    def refused(self, **known: Any) -> str:
        with pytest.raises(RequestError) as caught:
            self.go(**known)
        assert caught.value.exit_code == 2
        return str(caught.value)


@pytest.fixture
def trial(tmp_path: Path) -> Generator[Try]:
    with serving(net=CONTENT) as site:
        yield Try(site, tmp_path / "weights" / "net.pth", [])


def test_a_file_comes_whole_and_leaves_nothing_else(trial: Try):
    assert trial.go(bytes=len(CONTENT), sha256=DIGEST) == DIGEST
    assert trial.path.read_bytes() == CONTENT
    assert [p.name for p in trial.path.parent.iterdir()] == ["net.pth"]
    assert (trial.pauses, trial.site.asked) == ([], [""])


def test_an_interrupted_transfer_goes_on_where_it_stopped(trial: Try):
    trial.site.drop_after = [300_000, 100_000]
    assert trial.go() == DIGEST
    assert trial.site.asked == ["", "bytes=300000-", "bytes=400000-"]
    # Every try brought new bytes, so each pause is the first of its row.
    assert trial.pauses == [1.0, 1.0]


def test_the_next_call_goes_on_where_the_last_one_gave_up(trial: Try):
    trial.site.drop_after = [300_000]
    trial.site.statuses = []
    trial.site.drop_after += [0] * 4
    message = trial.refused()
    assert message == (
        f"{trial.site.url('net')}: gave up after 5 tries (the connection ended after "
        f"300,000 of 1,024,000 bytes). {trial.part} is kept; the same command goes on "
        "from there. By hand: ask its owner"
    )
    assert trial.pauses == [1.0, 2.0, 4.0, 8.0]
    assert trial.part.stat().st_size == 300_000
    assert json.loads(trial.note.read_text()) == {
        "url": trial.site.url("net"),
        "validator": '"one"',
    }
    trial.site.asked.clear()
    assert trial.go() == DIGEST
    assert trial.site.asked == ["bytes=300000-"]


def test_a_server_without_ranges_sends_all_again(trial: Try):
    trial.site.ranges = False
    trial.site.drop_after = [300_000]
    assert trial.go(sha256=DIGEST) == DIGEST
    assert trial.site.asked == ["", "bytes=300000-"]


def test_a_file_that_changed_in_between_is_fetched_anew(trial: Try):
    trial.site.drop_after = [300_000] + [0] * 4
    trial.refused()
    other = CONTENT[::-1]
    trial.site.files["net"], trial.site.etag = other, '"two"'
    assert trial.go() == hashlib.sha256(other).hexdigest()
    assert trial.path.read_bytes() == other


@pytest.mark.parametrize(
    ("etag", "modified", "resumed"),
    [
        ("", "Wed, 21 Oct 2015 07:28:00 GMT", True),
        ('W/"weak"', "Wed, 21 Oct 2015 07:28:00 GMT", True),
        ('W/"weak"', "", False),
        ("", "", False),
    ],
)
def test_without_a_mark_of_the_file_nothing_is_resumed(
    trial: Try, etag: str, modified: str, resumed: bool
):
    trial.site.etag, trial.site.modified = etag, modified
    trial.site.drop_after = [300_000]
    assert trial.go() == DIGEST
    assert trial.site.asked == ["", "bytes=300000-" if resumed else ""]


def test_a_false_range_is_not_believed(trial: Try):
    trial.site.false_range = True
    trial.site.drop_after = [300_000]
    assert trial.go() == DIGEST
    assert trial.site.asked == ["", "bytes=300000-", ""]


def test_a_part_of_another_address_is_not_continued(trial: Try):
    trial.path.parent.mkdir()
    trial.part.write_bytes(b"x" * 1000)
    trial.note.write_text(json.dumps({"url": "http://other/", "validator": '"one"'}))
    assert trial.go() == DIGEST
    assert trial.site.asked == [""]


def test_a_damaged_note_is_not_believed(trial: Try):
    trial.path.parent.mkdir()
    trial.part.write_bytes(b"x" * 1000)
    trial.note.write_text("{")
    assert trial.go() == DIGEST
    assert trial.site.asked == [""]


def test_a_part_that_is_whole_needs_no_byte(trial: Try):
    trial.path.parent.mkdir()
    trial.part.write_bytes(CONTENT)
    note = {"url": trial.site.url("net"), "validator": '"one"'}
    trial.note.write_text(json.dumps(note))
    assert trial.go() == DIGEST
    assert trial.site.asked == ["bytes=1024000-"]


def test_a_part_longer_than_the_file_is_thrown_away(trial: Try):
    trial.path.parent.mkdir()
    trial.part.write_bytes(CONTENT + b"x")
    note = {"url": trial.site.url("net"), "validator": '"one"'}
    trial.note.write_text(json.dumps(note))
    assert trial.go() == DIGEST
    assert trial.site.asked == ["bytes=1024001-", ""]


def test_ctrl_c_leaves_a_part_to_go_on_from(
    trial: Try, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(transfer, "_CHUNK", 100_000)
    real, read = transfer._read, [0]

    def interrupted(response: Any) -> bytes:
        read[0] += 1
        if read[0] == 4:
            raise KeyboardInterrupt
        return real(response)

    monkeypatch.setattr(transfer, "_read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trial.go()
    assert trial.part.read_bytes() == CONTENT[:300_000]
    assert not trial.path.exists()
    assert trial.go(sha256=DIGEST) == DIGEST
    assert trial.site.asked == ["", "bytes=300000-"]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_fault_is_tried_again(trial: Try, status: int):
    trial.site.statuses = [status, status]
    assert trial.go() == DIGEST
    assert trial.pauses == [1.0, 2.0]


@pytest.mark.parametrize(
    ("status", "words"), [(404, "404 Not Found"), (403, "403 Forbidden")]
)
def test_a_lasting_fault_is_not_tried_again(trial: Try, status: int, words: str):
    trial.site.statuses = [status]
    assert trial.refused() == (
        f"{trial.site.url('net')}: the server says {words}. By hand: ask its owner"
    )
    assert (trial.pauses, len(trial.site.asked)) == ([], 1)


def test_a_wrong_digest_names_both_and_keeps_nothing(trial: Try):
    assert trial.refused(sha256="0" * 64) == (
        f"{trial.site.url('net')}: the file has sha256\n  {DIGEST}, expected\n  "
        f"{'0' * 64}. It was deleted: the file has changed at its origin, or something "
        "on the way altered it."
    )
    assert list(trial.path.parent.iterdir()) == []


def test_a_wrong_size_is_refused_before_a_byte_is_kept(trial: Try):
    assert trial.refused(bytes=7) == (
        f"{trial.site.url('net')}: the file has 1,024,000 bytes, expected 7. It has "
        "changed at its origin. By hand: ask its owner"
    )
    assert list(trial.path.parent.iterdir()) == []


@pytest.mark.parametrize("bytes_known", [7, 2_000_000])
def test_a_wrong_size_shows_at_the_end_if_the_server_says_none(
    trial: Try, bytes_known: int
):
    trial.site.length = False
    message = trial.refused(bytes=bytes_known)
    assert f"bytes, expected {bytes_known:,}. It has changed" in message
    assert not trial.path.exists()


def test_a_size_that_nobody_says_is_fine(trial: Try):
    trial.site.length = False
    assert trial.go() == DIGEST


@pytest.mark.parametrize("told", ["text/html; charset=utf-8", "application/binary"])
def test_a_web_page_is_not_the_file(trial: Try, told: str):
    trial.site.files["net"] = b"\n <!DOCTYPE html><html>Please log in</html>"
    trial.site.content_type = told
    assert trial.refused() == (
        f"{trial.site.url('net')}: the server sent a web page instead of the file, "
        "such as one to log in or to accept terms. By hand: ask its owner"
    )
    assert not trial.path.exists()
    assert trial.pauses == []


def test_a_full_disk_is_seen_before(trial: Try, monkeypatch: pytest.MonkeyPatch):
    usage = shutil.disk_usage(trial.path.parent.parent)
    monkeypatch.setattr(
        transfer.shutil, "disk_usage", lambda folder: usage._replace(free=500_000)
    )
    assert trial.refused() == (
        f"{trial.path.parent}: net.pth needs 1.0 MB, but 0.5 MB are free. Make room, "
        "or set ROBUSTGEN_DATA and ROBUSTGEN_WEIGHTS to folders on a larger disk."
    )
    require_space(trial.path.parent, 500_000, "that")


def test_a_folder_that_cannot_be_made(trial: Try):
    trial.path.parent.write_text("a file")
    assert trial.refused() == f"{trial.path.parent}: cannot write here (File exists)."


def test_a_server_that_is_not_there(tmp_path: Path):
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}/net"
        pauses: list[float] = []
        with pytest.raises(RequestError) as caught:
            download(
                Remote(url, None, None, HOW),
                tmp_path / "net",
                progress=Silent(),
                pause=pauses.append,
            )
    assert str(caught.value) == (
        f"{url}: gave up after 5 tries ([Errno 111] Connection refused). Try again "
        "later. By hand: ask its owner"
    )
    assert pauses == [1.0, 2.0, 4.0, 8.0]


def test_progress_counts_megabytes_resumed_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(transfer, "_MEGABYTE", 1000)
    told = Told()
    with serving(net=CONTENT) as site:
        site.drop_after = [300_000]
        download(
            Remote(site.url("net"), None, None, HOW),
            tmp_path / "net.pth",
            progress=told,
            pause=lambda seconds: None,
        )
    assert told.stages == [("net.pth (MB)", 1024), ("net.pth (MB)", 1024)]
    assert told.done == 1024
