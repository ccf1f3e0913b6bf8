"""The cache: round trips, every damage, the cap, and processes that share it."""

import logging
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustgen import cache as module
from robustgen.cache import (
    BLOCK,
    DEFAULT_CAP,
    STALE_SECONDS,
    Cache,
    Share,
    clear,
    default_cache,
    parse_size,
    size_text,
    trim,
    usage,
    verify,
)
from robustgen.cli import main
from robustgen.errors import RequestError

KIND, ADDRESS = "predictions", "ab12" * 16
WORDS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", fullmatch=True)


def file_of(cache: Cache, name: str, kind: str = KIND, address: str = ADDRESS) -> Path:
    return cache.folder / kind / address[:2] / address / f"{name}.entry"


def files_in(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


@given(kind=WORDS, address=WORDS, name=WORDS, payload=st.binary(max_size=300))
@settings(max_examples=30)
def test_what_is_put_is_got(
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
    address: str,
    name: str,
    payload: bytes,
):
    cache = Cache(tmp_path_factory.mktemp("cache"))
    assert cache.get(kind, address, name) is None
    cache.put(kind, address, name, b"before")
    cache.put(kind, address, name, payload)
    assert cache.get(kind, address, name) == payload
    assert cache.names(kind, address) == [name]
    assert verify(cache) == []
    cache.remove(kind, address, name)
    assert cache.get(kind, address, name) is None
    assert cache.names(kind, address) == []


@pytest.mark.parametrize("word", ["", "..", ".a", "a/b", "a b", "ä", "a" * 161, "a\n"])
def test_words_that_are_no_file_names_are_refused(tmp_path: Path, word: str):
    cache = Cache(tmp_path)
    for place in range(3):
        kind, address, name = (word if k == place else "a" for k in range(3))
        with pytest.raises(ValueError, match="is not a word"):
            cache.put(kind, address, name, b"")
        with pytest.raises(ValueError, match="is not a word"):
            cache.get(kind, address, name)


def filled(folder: Path) -> Cache:
    cache = Cache(folder)
    for name in ("one", "two"):
        cache.put(KIND, ADDRESS, name, f"payload of {name}".encode() * 5)
    cache.put(KIND, "cd" * 32, "one", b"payload of one" * 5)
    cache.put("pictures", ADDRESS, "one", b"payload of one" * 5)
    return cache


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def foreign(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04 something else entirely")


def headless(path: Path) -> None:
    path.write_bytes(path.read_bytes().partition(b"\n")[0] + b"\n")


@pytest.mark.parametrize("damage", [cut, append, empty, foreign, headless])
def test_a_damaged_entry_is_absent_and_removed(
    tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
):
    cache = filled(tmp_path)
    damage(file_of(cache, "one"))
    with caplog.at_level(logging.WARNING):
        assert cache.get(KIND, ADDRESS, "one") is None
    assert "damaged" in caplog.text
    assert not file_of(cache, "one").exists()
    assert cache.get(KIND, ADDRESS, "two") == b"payload of two" * 5


def test_a_flip_of_any_bit_of_any_byte_is_noticed(tmp_path: Path):
    cache = filled(tmp_path)
    path = file_of(cache, "one")
    whole = path.read_bytes()
    for place in range(len(whole)):
        content = bytearray(whole)
        content[place] ^= 1 << (place % 8)
        path.write_bytes(content)
        assert cache.get(KIND, ADDRESS, "one") is None, f"byte {place}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(whole)
    assert cache.get(KIND, ADDRESS, "one") == b"payload of one" * 5


@pytest.mark.parametrize(
    "other",
    [
        {"name": "two"},
        {"name": "one", "address": "cd" * 32},
        {"name": "one", "kind": "pictures"},
    ],
    ids=["name", "address", "kind"],
)
def test_two_entries_that_changed_places_are_noticed(
    tmp_path: Path, other: dict[str, str]
):
    cache = filled(tmp_path)
    one, two = file_of(cache, "one"), file_of(cache, **other)
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    assert cache.get(KIND, ADDRESS, "one") is None
    assert (
        cache.get(other.get("kind", KIND), other.get("address", ADDRESS), other["name"])
        is None
    )
    assert usage(cache).entries == 2


def test_a_deleted_entry_is_absent(tmp_path: Path):
    cache = filled(tmp_path)
    file_of(cache, "one").unlink()
    assert cache.get(KIND, ADDRESS, "one") is None
    assert cache.names(KIND, ADDRESS) == ["two"]


def test_verify_removes_the_damaged_and_only_these(tmp_path: Path):
    cache = filled(tmp_path)
    cut(file_of(cache, "one"))
    misplaced = tmp_path / KIND / "zz" / ADDRESS / "two.entry"
    misplaced.parent.mkdir(parents=True)
    misplaced.write_bytes(file_of(cache, "two").read_bytes())
    damaged = verify(cache)
    assert {path: reason for path, reason in damaged} == {
        file_of(cache, "one"): "69 of 70 bytes",
        misplaced: "lies under zz, where nobody looks for it",
    }
    assert usage(cache).entries == 3
    assert verify(cache) == []


def test_a_cache_that_does_not_read_still_writes(tmp_path: Path):
    filled(tmp_path)
    fresh = Cache(tmp_path, reads=False)
    assert fresh.get(KIND, ADDRESS, "one") is None
    assert fresh.names(KIND, ADDRESS) == []
    fresh.put(KIND, ADDRESS, "one", b"new")
    assert Cache(tmp_path).get(KIND, ADDRESS, "one") == b"new"


def test_usage_counts_whole_blocks_by_kind(tmp_path: Path):
    cache = filled(tmp_path)
    cache.put("pictures", ADDRESS, "large", bytes(BLOCK))
    found = usage(cache)
    assert found.kinds == {"pictures": Share(2, 3 * BLOCK), KIND: Share(3, 3 * BLOCK)}
    assert list(found.kinds) == ["pictures", KIND]
    assert (found.entries, found.bytes) == (5, 6 * BLOCK)
    assert found.oldest is not None
    assert found.newest is not None
    assert found.oldest <= found.newest
    assert abs(found.newest.timestamp() - time.time()) < 60
    nothing = usage(Cache(tmp_path / "absent"))
    assert (nothing.entries, nothing.oldest, nothing.newest) == (0, None, None)


def test_the_least_recently_used_go_first(tmp_path: Path):
    cache = Cache(tmp_path)
    for age, name in enumerate("abcd"):
        cache.put(KIND, ADDRESS, name, b"x")
        os.utime(file_of(cache, name), (1000 + age, 1000 + age))
    cache.get(KIND, ADDRESS, "a")
    assert trim(cache, 2 * BLOCK) == Share(2, 2 * BLOCK)
    assert cache.names(KIND, ADDRESS) == ["a", "d"]
    assert trim(cache, 2 * BLOCK) == Share(0, 0)


def test_the_cap_holds_after_every_write(tmp_path: Path):
    cap = 10 * BLOCK
    cache = Cache(tmp_path, cap)
    for count in range(35):
        cache.put(KIND, ADDRESS, f"{count:03d}", bytes(100))
        os.utime(file_of(cache, f"{count:03d}"), (count, count))
        assert usage(cache).bytes <= cap
    left = cache.names(KIND, ADDRESS)
    assert left == [f"{count:03d}" for count in range(35 - len(left), 35)]
    assert 9 <= len(left) <= 10


def test_a_write_after_the_first_does_not_look_at_the_whole_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    walks: list[Path] = []
    walk = module._walk

    def counted(folder: Path):
        walks.append(folder)
        return walk(folder)

    monkeypatch.setattr(module, "_walk", counted)
    cache = Cache(tmp_path, 1000 * BLOCK)
    for count in range(100):
        cache.put(KIND, ADDRESS, str(count), b"x")
    # The first write, then one look for each hundredth of the cap (10 blocks).
    assert len(walks) == 1 + 99 // 11


def test_what_another_process_left_counts_to_the_cap(tmp_path: Path):
    other = Cache(tmp_path, 100 * BLOCK)
    for count in range(12):
        other.put(KIND, ADDRESS, str(count), b"x")
    mine = Cache(tmp_path, 10 * BLOCK)
    mine.put("pictures", ADDRESS, "x", b"x")
    assert usage(mine).bytes == 9 * BLOCK
    assert mine.get("pictures", ADDRESS, "x") == b"x"


@pytest.mark.parametrize("cap", [0, BLOCK - 1])
def test_an_entry_above_the_cap_is_not_kept(tmp_path: Path, cap: int):
    cache = Cache(tmp_path / "cache", cap)
    cache.put(KIND, ADDRESS, "one", b"x")
    assert cache.get(KIND, ADDRESS, "one") is None
    assert not cache.folder.exists()


def test_old_unfinished_files_are_swept_and_young_ones_left(tmp_path: Path):
    cache = filled(tmp_path)
    folder = file_of(cache, "one").parent
    old, young = folder / ".a.entry.x1.tmp", folder / ".b.entry.x2.tmp"
    for path in (old, young):
        path.write_bytes(b"half")
    past = time.time() - STALE_SECONDS - 1
    os.utime(old, (past, past))
    assert usage(cache).entries == 4
    assert trim(cache, 10**9) == Share(0, 0)
    assert not old.exists()
    assert young.exists()
    os.utime(young, (past, past))
    Cache(tmp_path).put(KIND, ADDRESS, "three", b"the first write looks around")
    assert not young.exists()


def test_clear_leaves_foreign_files_alone(tmp_path: Path):
    cache = filled(tmp_path)
    foreign = ["notes.txt", f"{KIND}/x.entry", f"{KIND}/ab/{ADDRESS}/photo.png"]
    for name in foreign:
        (tmp_path / name).write_text("mine")
    (file_of(cache, "one").parent / ".b.entry.x2.tmp").write_bytes(b"half")
    assert clear(cache) == Share(4, 4 * BLOCK)
    assert files_in(tmp_path) == ["notes.txt", "photo.png", "x.entry"]


def test_a_folder_that_cannot_be_made_costs_the_cache_not_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "file").write_text("in the way")
    cache = Cache(tmp_path / "file" / "cache")
    for name in ("one", "two"):
        cache.put(KIND, ADDRESS, name, b"x")
    assert cache.get(KIND, ADDRESS, "one") is None
    assert cache.names(KIND, ADDRESS) == []
    cache.remove(KIND, ADDRESS, "one")
    assert len(caplog.records) == 1
    assert "cannot be kept" in caplog.text


def test_a_full_disk_costs_the_entry_and_leaves_no_half_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    cache = filled(tmp_path)

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as stream:
            stream.write(data[:10])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        cache.put(KIND, ADDRESS, "one", b"never")
        cache.put(KIND, ADDRESS, "three", b"never")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "No space left on device" in caplog.text
    assert cache.get(KIND, ADDRESS, "one") == b"payload of one" * 5
    assert files_in(tmp_path) == ["one.entry", "one.entry", "one.entry", "two.entry"]
    cache.put(KIND, ADDRESS, "three", b"space again")
    assert cache.get(KIND, ADDRESS, "three") == b"space again"


def hammer(folder: str, seed: int) -> int:
    """Writes and reads 20 shared entries in turn; returns how many reads found one."""
    cache = Cache(Path(folder), 8 * BLOCK)
    found = 0
    for turn in range(200):
        name = str((turn * 7 + seed * 3) % 20)
        cache.put(KIND, ADDRESS, name, name.encode() * 100)
        payload = cache.get(KIND, ADDRESS, str((turn + seed) % 20))
        if payload is not None:
            assert payload == str((turn + seed) % 20).encode() * 100
            found += 1
        if turn % 50 == 49:
            clear(cache)
    return found


def test_two_processes_share_a_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        found = pool.starmap(hammer, [(str(tmp_path), 0), (str(tmp_path), 1)])
    assert min(found) > 0
    assert not caplog.records
    cache = Cache(tmp_path)
    assert verify(cache) == []
    assert not list(tmp_path.rglob("*.tmp"))


def test_the_environment_names_folder_and_cap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ROBUSTGEN_CACHE", str(tmp_path / "mine"))
    monkeypatch.setenv("ROBUSTGEN_CACHE_CAP", "1.5 GiB")
    cache = default_cache(reads=False)
    assert cache.folder == tmp_path / "mine"
    assert cache.cap_bytes == 3 * 2**29
    assert not cache.reads
    monkeypatch.delenv("ROBUSTGEN_CACHE")
    monkeypatch.delenv("ROBUSTGEN_CACHE_CAP")
    cache = default_cache()
    assert cache.folder.parts[-2:] == ("robustgen", "results")
    assert cache.cap_bytes == DEFAULT_CAP
    assert cache.reads


def test_the_environment_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ROBUSTGEN_CACHE", str(tmp_path))
    monkeypatch.setenv("ROBUSTGEN_CACHE_CAP", "much")
    with pytest.raises(RequestError) as caught:
        default_cache()
    assert str(caught.value) == (
        "$ROBUSTGEN_CACHE_CAP: 'much' is not a size. Write a number and a unit: "
        "500MB, 20GB, 1.5TiB."
    )
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ROBUSTGEN_CACHE", str(tmp_path / "file"))
    with pytest.raises(RequestError, match=r"^\$ROBUSTGEN_CACHE: .*is a file"):
        default_cache()


@pytest.mark.parametrize(
    ("text", "size"),
    [
        *[("0", 0), ("7", 7), ("7b", 7), ("2KB", 2000), ("2 kib", 2048)],
        *[("1.5TB", 15 * 10**11), (".5GB", None), ("-1GB", None), ("1PB", None)],
        *[("GB", None), ("", None), ("1e3", None), ("nan", None), ("1 2GB", None)],
    ],
)
def test_sizes(text: str, size: int | None):
    if size is not None:
        assert parse_size(text) == size
        return
    with pytest.raises(RequestError, match="is not a size"):
        parse_size(text)


@given(st.integers(min_value=0, max_value=10**15))
def test_a_size_in_words_is_right_to_half_a_digit(size: int):
    text = size_text(size)
    assert abs(parse_size(text) - size) <= 0.05 * parse_size("1" + text.split()[1])
    assert len(text) <= 9


def status(*argv: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_the_command_shows_checks_trims_and_clears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("ROBUSTGEN_CACHE", str(tmp_path))
    monkeypatch.setenv("ROBUSTGEN_CACHE_CAP", "2GB")
    cache = filled(tmp_path)
    assert status("cache") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:-1] == [
        f"folder       {tmp_path}",
        "pictures     1 entry, 4.1 KB",
        "predictions  3 entries, 12.3 KB",
        "all          4 entries, 16.4 KB",
        "cap          2.0 GB",
    ]
    assert lines[-1].startswith("last used    ")

    cut(file_of(cache, "one"))
    assert status("cache", "--verify") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"{file_of(cache, 'one')}: damaged (69 of 70 bytes); removed.",
        "4 entries read, 1 damaged.",
    ]
    assert status("cache", "--verify") == 0
    assert capsys.readouterr().out == "3 entries read, 0 damaged.\n"

    assert status("cache", "--trim", "5KB") == 0
    assert capsys.readouterr().out == "Removed 2 entries, 8.2 KB.\n"
    assert status("cache", "--clear") == 0
    assert capsys.readouterr().out == "Removed 1 entry, 4.1 KB.\n"
    assert files_in(tmp_path) == []


def test_the_command_refuses_two_actions_and_odd_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("ROBUSTGEN_CACHE", str(tmp_path))
    cache = filled(tmp_path)
    assert status("cache", "--clear", "--verify") == 2
    assert "Name one of --verify, --trim and --clear." in capsys.readouterr().err
    assert status("cache", "--trim", "lots") == 2
    assert "'lots' is not a size" in capsys.readouterr().err
    assert usage(cache).entries == 4
