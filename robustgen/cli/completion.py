"""What a shell may offer for arguments: names and folders, found without torch."""

from collections.abc import Iterable
from pathlib import Path

from robustgen.full_assets import all_assets
from robustgen.library import suite_names
from robustgen.projection_settings import METHODS

RUNS = Path("reports/runs")
"""Where runs are written unless the user says otherwise."""


def suites(incomplete: str) -> list[str]:
    """Suites that ship, and YAML files that start so."""
    return [*_starting(incomplete, suite_names()), *_files(incomplete, ".yaml")]


def runs(incomplete: str) -> list[str]:
    """Folders that a run has written: those of `reports/runs`, and those that start so.

    A folder of other things is offered too, to go on into it.
    """
    known = [str(path.parent) for path in sorted(RUNS.glob("*/manifest.json"))]
    below = [path for path in _starting_paths(incomplete) if path.is_dir()]
    there = [
        str(path) if (path / "manifest.json").is_file() else f"{path}/"
        for path in below
        if not path.name.startswith(".")
    ]
    return list(dict.fromkeys([*_starting(incomplete, known), *there]))


def downloads(incomplete: str) -> list[str]:
    """Assets that `fetch` knows."""
    return _starting(incomplete, dict.fromkeys(asset.name for asset in all_assets()))


def methods(incomplete: str) -> list[str]:
    """Projection methods."""
    return _starting(incomplete, METHODS)


def recipes(incomplete: str) -> list[str]:
    """What `train` trains by name, and YAML files that start so."""
    return [*_starting(incomplete, ("digits", "faces")), *_files(incomplete, ".yaml")]


def _starting(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _files(incomplete: str, suffix: str) -> list[str]:
    return [
        str(path)
        for path in _starting_paths(incomplete)
        if path.suffix == suffix and path.is_file()
    ]


def _starting_paths(incomplete: str) -> list[Path]:
    """Files and folders whose path starts so."""
    typed = Path(incomplete)
    folder, start = (
        (typed, "") if incomplete.endswith("/") else (typed.parent, typed.name)
    )
    try:
        return sorted(path for path in folder.iterdir() if path.name.startswith(start))
    except OSError:
        return []
