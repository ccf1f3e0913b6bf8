"""What `robustgen doctor` finds, and what it says of it."""

import shutil
from pathlib import Path

import pytest

from robustgen import assets, doctor
from robustgen.cli import main
from robustgen.doctor import DAMAGED, Finding, damaged, doctor_text
from robustgen.names import EMBEDDED


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBUSTGEN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ROBUSTGEN_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("ROBUSTGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ROBUSTGEN_CACHE_CAP", raising=False)


PARTS = {
    "package": doctor._packages,
    "folder": doctor._folders,
    "cache": doctor._folders,
    "asset": doctor._downloads,
}


def found(topic: str, name: str) -> Finding:
    return next(f for f in PARTS[topic]() if (f.topic, f.name) == (topic, name))


def shipped_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the assets, in the place of those of the package."""
    copy = tmp_path / "assets"
    shutil.copytree(Path(assets.__file__).parent, copy)
    monkeypatch.setattr(assets, "_FOLDER", copy)
    return copy


def test_all_that_ships_is_whole():
    findings = [*doctor._embedded()]
    assert {f.state for f in findings} == {"whole"}
    assert {f.name for f in findings} >= set(EMBEDDED["classifier"])
    assert not damaged(findings)


def test_a_flipped_bit_is_found_and_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    path = shipped_copy(tmp_path, monkeypatch) / "faces" / "encoder.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(SystemExit) as caught:
        main(["doctor"])
    assert caught.value.code == 2
    said = capsys.readouterr().out.splitlines()
    (line,) = [each for each in said if DAMAGED in each]
    assert line.split()[:2] == ["embedded", "faces"]
    assert str(path) in line
    assert said[-1].startswith("1 parts of robustgen are damaged: install it again")


@pytest.mark.parametrize("lost", ["generator.safetensors", "card.yaml"])
def test_a_lost_file_is_damage(
    lost: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (shipped_copy(tmp_path, monkeypatch) / "digits" / lost).unlink()
    line = doctor._asset("digits")
    assert damaged([line]) == ("digits",)
    assert lost in line.detail


def test_missing_downloads_are_no_failure(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        main(["doctor"])
    assert caught.value.code == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1].startswith("Suites run on embedded assets. For full profiles ")
    starts = {line.split()[0] for line in said[:-1]}
    assert starts == {
        *("machine", "package", "folder", "cache", "embedded", "asset", "file"),
    }


def test_columns_are_aligned():
    findings = [*doctor._machine(), *doctor._packages(), *doctor._downloads()]
    lines = doctor_text(findings).splitlines()[:-1]
    edges = {line.index(line.split()[1]) for line in lines}
    assert len(edges) == 1


def test_every_place_and_its_variable_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert str(tmp_path / "data" / "cats") in found("asset", "cats").detail
    data = found("folder", "data")
    assert data.state == "absent"
    assert f"{tmp_path / 'data'} ($ROBUSTGEN_DATA set)" in data.detail
    monkeypatch.delenv("ROBUSTGEN_DATA")
    assert "($ROBUSTGEN_DATA unset)" in found("folder", "data").detail


def test_the_cache_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from robustgen.cache import BLOCK, default_cache

    default_cache().put("rows", "ab12", "x", b"12345")
    line = found("cache", "finished work")
    assert line.state == f"{BLOCK / 1000:.1f} KB"
    assert line.detail.startswith("in 1 entries, at most 10.0 GB")
    monkeypatch.setenv("ROBUSTGEN_CACHE_CAP", "much")
    assert found("folder", "cache").state == "unusable"


@pytest.mark.parametrize(
    ("version", "state"),
    [("2.9.9", "ok"), ("2.6", "ok"), ("2.5.1+cpu", "too old"), (None, "missing")],
)
def test_packages_are_held_against_what_is_needed(
    version: str | None, state: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(doctor, "_requirements", lambda: {"torch": "2.6"})
    monkeypatch.setattr(doctor, "_version", lambda name: version)
    assert found("package", "torch").state == state


def test_a_package_that_is_too_old_is_in_the_last_line():
    old = [Finding("package", "torch", "too old", "2.0, needs 2.6")]
    assert doctor_text(old).splitlines()[-1] == "Too old: torch; see the lines above."


def test_requirements_are_those_of_the_package():
    needed = doctor._requirements()
    assert {"torch", "torchattacks", "lpips", "numpy"} <= needed.keys()
    assert not {"pytest", "ruff"} & needed.keys()
    assert all(least == "" or least[0].isdigit() for least in needed.values())
