"""What differs in the configuration of two runs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from robustgen.finished import FinishedRun
from robustgen.grids import eps_text

MEASURED = "changes what is measured"
COMPARED = "what is compared"
INERT = "should change nothing"

GROUPS = (MEASURED, COMPARED, INERT)
"""What a difference means for the numbers, in the order in which it is told."""

ABSENT = "absent"
"""What stands for a key that one run does not have."""

Place: TypeAlias = tuple[str, ...]

_UNTOLD = frozenset(
    ("suite", "profile", "profile_message", "started", "wall_seconds", "cache")
)
"""Keys of a manifest that are told elsewhere, or differ between any two runs."""

_UNTOLD_SETTINGS = frozenset(("version", "about", "seed", "profile", "profiles"))

_INERT = frozenset(("machine", "versions", "batch_size", "workers", "executor"))
_MEASURED = frozenset(("data", "limit", "splits", "paths", "ensemble"))
_MEASURED_IN: Mapping[str, frozenset[str]] = {
    "attacks": frozenset(("norm", "eps", "tier")),
    "ladder": frozenset(("norm", "eps", "paths", "fixed_seed", "score_draws")),
    "pairs": frozenset(("dataset", "attribute")),
}

_RADII = ("eps", "step_size")
"""Last words of keys whose values are in pixel units."""

_SHORT = 60
"""Characters of a value in a text; files hold all of it."""


@dataclass(frozen=True)
class Change:
    """One key of the configuration that two runs do not share.

    Args:
        key: Where it stands: words joined by dots.
        a: Value in the first run, as JSON has it; `absent` where it has none.
        b: Value in the second run.
        group: One of `GROUPS`.
    """

    key: str
    a: Any
    b: Any
    group: str

    def __str__(self) -> str:
        return f"{self.key}: {self._text(self.a)} -> {self._text(self.b)}"

    def _text(self, value: Any) -> str:
        """A value in one line of bounded length."""
        if self.key.endswith(_RADII) and isinstance(value, float):
            return eps_text(value)
        if isinstance(value, Mapping):
            return "given"
        text = value if isinstance(value, str) else json.dumps(value)
        if "sha256" in self.key or self.key == "git_commit":
            dirty = "-dirty" if text.endswith("-dirty") else ""
            return text[:12] + dirty
        return text if len(text) <= _SHORT else f"{text[: _SHORT - 3]}..."


def configuration_changes(a: FinishedRun, b: FinishedRun) -> tuple[Change, ...]:
    """Every key of suite and manifest whose values differ, group by group.

    Sections are told as the profile of the run has them. Attacks and pairs are told by
    name, so that their order in the suite does not matter. Descriptions and sources of
    numbers are left out, and so are times.
    """
    found = [
        Change(".".join(place), one, other, group_of(place))
        for place, one, other in _differences((), _configuration(a), _configuration(b))
    ]
    return tuple(sorted(found, key=lambda change: GROUPS.index(change.group)))


def group_of(place: Place) -> str:
    """What a difference at this key means for the numbers.

    >>> group_of(("projection", "passes")), group_of(("attacks", "pgd", "eps"))
    ('what is compared', 'changes what is measured')
    """
    head, last = place[0], place[-1]
    if head in _INERT:
        return INERT
    if head in _MEASURED or last in _MEASURED_IN.get(head, ()):
        return MEASURED
    return COMPARED


def _configuration(run: FinishedRun) -> dict[str, Any]:
    """Sections of the suite and keys of the manifest, as nested mappings."""
    settings = {k: v for k, v in run.settings.items() if k not in _UNTOLD_SETTINGS}
    named = {
        "suite": settings.pop("name", ""),
        "attacks": _by_name(settings.pop("attacks", ())),
        "pairs": _by_name(settings.pop("pairs", ())),
    }
    rest = {k: v for k, v in run.manifest.items() if k not in _UNTOLD}
    return {**named, **settings, **rest}


def _by_name(items: Sequence[Any]) -> dict[str, Any]:
    """Attacks or pairs by what tables call them."""
    found: dict[str, Any] = {}
    for item in items:
        if not isinstance(item, Mapping):
            found[str(item)] = {}
            continue
        told = {k: v for k, v in item.items() if k not in ("about", "sources", "name")}
        if "dataset" in item and "classifier" in item:
            name = f"{_asset(item['dataset'])}/{_asset(item['classifier'])}"
        else:
            name = str(item.get("name"))
        found[name] = told
    return found


def _asset(value: Any) -> str:
    """What an asset is called: its name, or that of its file."""
    if isinstance(value, Mapping):
        named = value.get("name") or next(iter(value.values()), "")
        return Path(str(named)).stem
    return str(value)


def _differences(place: Place, a: Any, b: Any) -> list[tuple[Place, Any, Any]]:
    """Leaves that differ; a mapping that one side lacks is one leaf."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return [
            found
            for key in dict.fromkeys((*a, *b))
            for found in _differences(
                (*place, str(key)), a.get(key, ABSENT), b.get(key, ABSENT)
            )
        ]
    return [] if a == b else [(place, a, b)]
