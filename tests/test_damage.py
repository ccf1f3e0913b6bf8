"""Damage to every kind of file of a run and of the cache: repaired or refused."""

import importlib
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml

from robustgen.cache import Cache, usage, verify
from robustgen.cli import main
from robustgen.errors import RequestError
from robustgen.finished import FILES, SEAL, read_run
from robustgen.report import rebuild_report
from robustgen.runner import run
from robustgen.seeding import numpy_rng

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

READ = (
    "manifest.json",
    "tables/*.npz",
    "probes/*.json",
    "pictures/pictures.json",
    "pictures/*.png",
)
"""Kinds of files that later commands read."""

WRITTEN = (
    "figures/*.svg",
    "figures/*.png",
    "report.json",
    "report.html",
    "report.md",
    "accuracy.csv",
    "balanced.csv",
    "predictions.parquet",
)
"""Kinds of files that are written for people and other programs."""

ENTRIES = (
    "predictions/*/*/*.entry",
    "pictures/*/*/*.entry",
    "evidence/*/*/*.entry",
)
"""Kinds of entries of the cache."""


@dataclass(frozen=True)
class Finished:
    """A finished run, its cache, and another run to take wrong files from.

    Args:
        suite: File of the suite.
        out: Folder of the run.
        cache: Folder of its cache.
        other: Folder of a run of another suite.
        other_cache: Folder of that run's cache.
        files: Comparable content of the run's files.
        files_of: Reads the same of any folder.
    """

    suite: Path
    out: Path
    cache: Path
    other: Path
    other_cache: Path
    files: Mapping[str, bytes]
    files_of: Callable[[Path], dict[str, bytes]]


@pytest.fixture(scope="module")
def kills() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
        return importlib.import_module("kills")


@pytest.fixture(scope="module")
def finished(kills: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("whole")
    suite = kills.write_suite(folder)
    small = {k: kills.SUITE[k] for k in ("version", "profiles", "attacks", "splits")}
    other = folder / "other.yaml"
    text = yaml.safe_dump(small | {"name": "other", "paths": ["image"]})
    other.write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBUSTGEN_CACHE", str(folder / "cache"))
        run(suite, out=folder / "out", batch_size=kills.BATCH_SIZE)
        patch.setenv("ROBUSTGEN_CACHE", str(folder / "other-cache"))
        run(other, out=folder / "other", batch_size=kills.BATCH_SIZE)
    return Finished(
        suite,
        folder / "out",
        folder / "cache",
        folder / "other",
        folder / "other-cache",
        kills.final_files(folder / "out"),
        kills.final_files,
    )


def truncate(victim: Path, stranger: Path) -> None:
    """Cuts the last tenth off, at least a byte."""
    content = victim.read_bytes()
    victim.write_bytes(content[: len(content) * 9 // 10])


def flip(victim: Path, stranger: Path) -> None:
    """Flips the lowest bit of a byte in the middle."""
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)


def delete(victim: Path, stranger: Path) -> None:
    victim.unlink()


def swap(victim: Path, stranger: Path) -> None:
    """Exchanges two files."""
    content = victim.read_bytes()
    victim.write_bytes(stranger.read_bytes())
    stranger.write_bytes(content)


DAMAGES = (truncate, flip, delete, swap)

SLOW = [pytest.param(damage, marks=pytest.mark.slow) for damage in (truncate, delete)]


def harm(
    damage: Callable[[Path, Path], None], kind: str, here: Path, other: Path
) -> list[Path]:
    """Damages a file of a kind; returns the files that are wrong now.

    A swap exchanges two files of the folder or, where there is only one of the kind,
    takes that of another run.
    """
    files = sorted(here.glob(kind))
    if len(files) == 1:
        # A copy: the other run stays as it is.
        stranger = here.parent / "stranger"
        shutil.copy(sorted(other.glob(kind))[0], stranger)
        files.append(stranger)
    before = [path.read_bytes() for path in files]
    assert before[0] != before[-1], "a swap of equals is no damage"
    damage(files[0], files[-1])
    return [
        path
        for path, content in zip(files, before, strict=True)
        if path.is_relative_to(here)
        and not (path.exists() and path.read_bytes() == content)
    ]


def copy(finished: Finished, folder: Path) -> Path:
    return Path(shutil.copytree(finished.out, folder / "out"))


def test_the_kinds_are_all_kinds(finished: Finished):
    def found(folder: Path, kinds: tuple[str, ...]) -> set[Path]:
        return {path for kind in kinds for path in folder.glob(kind)}

    def there(folder: Path) -> set[Path]:
        return {path for path in folder.rglob("*") if path.is_file()}

    assert found(finished.out, READ + WRITTEN) == there(finished.out)
    assert found(finished.cache, ENTRIES) == there(finished.cache)
    for kind in READ + WRITTEN:
        assert list(finished.out.glob(kind)), kind
    for kind in ENTRIES:
        assert list(finished.cache.glob(kind)), kind


@pytest.mark.parametrize("damage", [flip, swap, *SLOW])
def test_a_run_repairs_its_folder_and_its_cache(
    finished: Finished,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kills: ModuleType,
    damage: Callable[[Path, Path], None],
):
    out = copy(finished, tmp_path)
    cache = Path(shutil.copytree(finished.cache, tmp_path / "cache"))
    for kind in READ + WRITTEN:
        harm(damage, kind, out, finished.other)
    for kind in ENTRIES:
        wrong = harm(damage, kind, cache, finished.other_cache)
        if damage is not delete:
            # Found by reading alone, too.
            once = Path(shutil.copytree(cache, tmp_path / f"once {kind[:4]}"))
            found = {path.relative_to(once) for path, _ in verify(Cache(once))}
            assert {path.relative_to(cache) for path in wrong} <= found
    for kind in READ + WRITTEN:
        # What a kill leaves: it must not stay.
        path = out / kind.replace("*", "x")
        (path.parent / f".{path.name}.abc.tmp").write_bytes(b"half")
    monkeypatch.setenv("ROBUSTGEN_CACHE", str(cache))
    run(finished.suite, out=out, batch_size=kills.BATCH_SIZE)
    assert finished.files_of(out) == finished.files
    assert verify(Cache(cache)) == []
    assert usage(Cache(cache)).entries == usage(Cache(finished.cache)).entries


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", READ)
def test_what_reads_a_run_refuses_a_damaged_one(
    finished: Finished,
    tmp_path: Path,
    kind: str,
    damage: Callable[[Path, Path], None],
):
    out = copy(finished, tmp_path)
    wrong = harm(damage, kind, out, finished.other)
    assert len(wrong) == 1 + (damage is swap and "*" in kind and "probes" not in kind)
    with pytest.raises(RequestError) as caught:
        read_run(out)
    if kind == "manifest.json" and damage is swap:
        # It is whole, and of another run: the files are not those it vouches for.
        assert str(caught.value).startswith(str(out))
    else:
        assert str(caught.value).startswith(tuple(f"{path}: " for path in wrong))
    assert "again" in str(caught.value) or "no such file" in str(caught.value)


@pytest.mark.parametrize("command", ["report", "attacks"])
def test_a_command_refuses_with_status_2_and_the_name_of_the_file(
    finished: Finished,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: str,
):
    out = copy(finished, tmp_path)
    one, other = sorted(out.glob("tables/*-test.npz"))[:2]
    swap(one, other)
    before = finished.files_of(out)
    with pytest.raises(SystemExit) as caught:
        main([command, str(out)])
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        f"robustgen: {one}: is not the file that this run wrote (sha256 differs). Run "
        "the suite again; what is whole will be reused.\n"
    )
    assert finished.files_of(out) == before


def test_a_report_is_written_anew_whatever_became_of_its_files(
    finished: Finished, tmp_path: Path
):
    out = copy(finished, tmp_path)
    for turn, kind in enumerate(WRITTEN):
        harm(DAMAGES[turn % 4], kind, out, finished.other)
    rebuild_report(out)
    assert finished.files_of(out) == finished.files


def test_no_flip_in_a_manifest_or_a_table_goes_unnoticed(
    finished: Finished, tmp_path: Path
):
    out = copy(finished, tmp_path)
    rng = numpy_rng(0, "flips")
    whole = read_run(out)
    refused = 0
    for path in (out / "manifest.json", *sorted(out.glob("tables/*.npz"))):
        content = path.read_bytes()
        places = rng.choice(len(content), 40, replace=False)
        for place, bit in zip(places, rng.integers(8, size=40), strict=True):
            damaged = np.frombuffer(content, np.uint8).copy()
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged.tobytes())
            try:
                found = read_run(out)
            except RequestError:
                refused += 1
            else:
                # A blank that became another blank.
                assert path.name == "manifest.json"
                assert found.manifest == whole.manifest
        path.write_bytes(content)
    assert refused > 200
    read_run(out)


def test_a_table_of_another_run_is_refused(finished: Finished, tmp_path: Path):
    out = copy(finished, tmp_path)
    stranger = out / "tables" / "aaa-clean-test.npz"
    shutil.copy(finished.other / "tables" / "digits-digits-clean-test.npz", stranger)
    with pytest.raises(RequestError, match=r"aaa-clean-test\.npz: is not a file of"):
        read_run(out)


def test_a_run_without_its_pictures_is_taken(finished: Finished, tmp_path: Path):
    out = copy(finished, tmp_path)
    shutil.rmtree(out / "pictures")
    assert len(read_run(out).tables) == len(list(out.glob("tables/*.npz")))


def test_what_vouches_for_the_files_stays_out_of_a_report(finished: Finished):
    manifest = read_run(finished.out).manifest
    assert not {FILES, SEAL} & manifest.keys()
    assert manifest["seeds"] == {"suite": 5}
