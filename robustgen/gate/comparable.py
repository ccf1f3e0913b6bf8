"""Whether a run may be compared with a baseline, and what differs where it may."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from robustgen.errors import suggestion
from robustgen.gate.baseline import Baseline, BaselineRow, PairRecord, Settings
from robustgen.gate.snapshot import find_pair, path_definition
from robustgen.grids import eps_text
from robustgen.names import DEFENSE

LISTED = 4
"""Rows or keys that one reason names."""


def request_refusals(
    baseline: Baseline,
    *,
    settings: Mapping[str, Any],
    profile: str,
    limit: int | None,
) -> list[str]:
    """Why a run that is only planned could not be compared with a baseline.

    Args:
        baseline: What to compare with.
        settings: The suite as resolved for the profile, see `suite.suite_record`.
        profile: `embedded` or `full`.
        limit: Images of each split, at most; None for all.
    """
    found = _identity(baseline, str(settings["name"]), profile)
    if limit is not None:
        found.append(f"--limit {limit}: leave it out; the baseline has all images.")
    if found:
        return found
    for before in baseline.pairs:
        about = f"{before.dataset}/{before.classifier}"
        pair = find_pair(settings, before.dataset, before.classifier)
        if pair is None:
            found.append(f"{about}: the suite lacks this pair; put it back.")
            continue
        paths = _paths_of(before, baseline.rows)
        planned = {path: path_definition(path, settings, pair) for path in paths}
        found += _path_refusals(about, before.paths, planned)
    listed = (*settings.get("paths", ()), DEFENSE)
    found += [
        f"path '{path}': the suite does not list it any more; put it back."
        for path in dict.fromkeys(row.path for row in baseline.rows)
        if path not in listed
    ]
    names = {str(spec["name"]): spec for spec in settings.get("attacks", ())}
    for row in _first_of_attacks(baseline.rows):
        if row.target:
            continue
        spec = names.get(row.attack)
        if spec is None:
            found.append(
                f"attack '{row.attack}': the suite does not list it any more. "
                f"{suggestion(row.attack, names)}"
            )
        else:
            found += _threat(row, str(spec["norm"]), float(spec["eps"]))
    return found


def refusals(baseline: Baseline, run: Baseline) -> list[str]:
    """Why a run cannot be compared with a baseline; empty where it can.

    Another seed, commit or version of a package is no reason, and neither are other
    settings of an attack: their effect is what the gate measures.
    """
    found = _identity(baseline, run.suite, run.profile)
    if found:
        return found
    found += _fingerprints("asset", baseline.assets_sha256, run.assets_sha256)
    found += _fingerprints("data", baseline.data, run.data)
    pairs = {(pair.dataset, pair.classifier): pair for pair in run.pairs}
    for pair in baseline.pairs:
        now = pairs.get((pair.dataset, pair.classifier))
        if now is None:
            found.append(
                f"{pair.dataset}/{pair.classifier}: the run lacks this pair; put it "
                "back into the suite."
            )
            continue
        found += _pair_refusals(pair, now, _paths_of(pair, baseline.rows))
    found += _row_refusals(baseline, run)
    return found


def notes(baseline: Baseline, run: Baseline) -> list[str]:
    """What differs and is no reason to refuse, one sentence each."""
    found: list[str] = []
    if run.seed != baseline.seed:
        found.append(f"Another seed: {baseline.seed} -> {run.seed}.")
    if run.code_sha256 != baseline.code_sha256:
        commits = f"{_commit(baseline.git_commit)} -> {_commit(run.git_commit)}"
        found.append(f"Other code: {commits}.")
    versions = differing(baseline.versions, run.versions)
    if versions:
        found.append(f"Other versions: {', '.join(versions)}.")
    used = dict.fromkeys(row.attack for row in baseline.rows)
    for name in used:
        changed = differing(baseline.attacks.get(name, {}), run.attacks.get(name, {}))
        if changed:
            found.append(f"Settings of {name} differ: {', '.join(changed)}.")
    known = {row.name for row in baseline.rows}
    new = [row for row in run.rows if row.name not in known]
    left_out = set(baseline.left_out)
    stayed = [row for row in new if _full_name(row) in left_out]
    fresh = [row for row in new if _full_name(row) not in left_out]
    if fresh:
        found.append(
            f"Not judged, since the baseline lacks them: {_named(fresh)}. A new "
            "baseline takes them in."
        )
    if stayed:
        found.append(
            "Not judged, since they were not TRUSTED when the baseline was written: "
            f"{_named(stayed)}."
        )
    return found


def differing(before: Settings, now: Settings) -> list[str]:
    """Settings that differ, with both values.

    >>> differing({"settings": {"steps": 40}}, {"settings": {"steps": 2}})
    ['steps 40 -> 2']
    """
    old, new = dict(_flat(before)), dict(_flat(now))
    return [
        f"{key.removeprefix('settings.')} {_value(old, key)} -> {_value(new, key)}"
        for key in dict.fromkeys((*old, *new))
        if old.get(key) != new.get(key)
    ]


def _identity(baseline: Baseline, suite: str, profile: str) -> list[str]:
    found: list[str] = []
    if suite != baseline.suite:
        found.append(
            f"suite '{suite}': the baseline is of suite '{baseline.suite}'; run that, "
            "or name the baseline of this one."
        )
    if profile != baseline.profile:
        found.append(
            f"profile '{profile}': the baseline is of profile '{baseline.profile}'; "
            f"run with --profile {baseline.profile}."
        )
    return found


def _fingerprints(
    kind: str, before: Mapping[str, Any], now: Mapping[str, Any]
) -> list[str]:
    changed = [key for key, value in before.items() if now.get(key) != value]
    if not changed:
        return []
    what = {
        "asset": "use the same files, or write a new baseline",
        "data": "use the same images in the same order, or write a new baseline",
    }
    names = ", ".join(
        f"'{key}' ({'changed' if key in now else 'missing'})"
        for key in changed[:LISTED]
    )
    return [f"other {kind}: {names}{_more(len(changed))}; {what[kind]}."]


def _pair_refusals(
    before: PairRecord, now: PairRecord, paths: Sequence[str]
) -> Iterator[str]:
    about = f"{before.dataset}/{before.classifier}"
    if (before.sample, before.label) != (now.sample, now.label):
        both = len(set(before.sample) & set(now.sample))
        yield (
            f"{about}: other test images ({len(before.sample)} in the baseline, "
            f"{len(now.sample)} in the run, {both} in both, or other labels or order); "
            "set `splits` and data as they were."
        )
    yield from _path_refusals(
        about, before.paths, {p: now.paths[p] for p in paths if p in now.paths}
    )


def _path_refusals(
    about: str, before: Mapping[str, Settings], now: Mapping[str, Settings]
) -> Iterator[str]:
    """Definitions that differ; paths that differ alike share a reason."""
    paths: dict[str, list[str]] = {}
    for path, definition in now.items():
        changed = differing(before[path], definition)
        if changed:
            paths.setdefault(", ".join(changed), []).append(f"'{path}'")
    for changed, named in paths.items():
        yield (
            f"{about}: another definition of path {', '.join(named)}: {changed}; set "
            "it back, or write a new baseline."
        )


def _row_refusals(baseline: Baseline, run: Baseline) -> list[str]:
    rows = {row.name: row for row in run.rows}
    found: list[str] = []
    for row in _first_of_attacks(baseline.rows):
        now = rows.get(row.name)
        if now is not None:
            found += _threat(row, now.norm, now.eps)
    pairs = {(pair.dataset, pair.classifier) for pair in run.pairs}
    missing = [
        row
        for row in baseline.rows
        if row.name not in rows and (row.dataset, row.classifier) in pairs
    ]
    if missing:
        nearest = suggestion(str(missing[0].name), map(str, rows))
        found.append(
            f"rows of the baseline that the run lacks: {_named(missing)}; put attack "
            f"and path back into the suite. {nearest}"
        )
    return found


def _threat(row: BaselineRow, norm: str, eps: float) -> list[str]:
    if (norm, eps) == (row.norm, row.eps):
        return []
    return [
        f"attack '{row.attack}': another threat, {row.norm} {eps_text(row.eps)} in the "
        f"baseline, {norm} {eps_text(eps)} now; set norm and eps back, or give the "
        "attack another name."
    ]


def _first_of_attacks(rows: Sequence[BaselineRow]) -> list[BaselineRow]:
    """One row for each attack of a pair."""
    found: dict[tuple[str, ...], BaselineRow] = {}
    for row in rows:
        place = (row.dataset, row.classifier, row.attack, row.target)
        found.setdefault(place, row)
    return list(found.values())


def _paths_of(pair: PairRecord, rows: Sequence[BaselineRow]) -> list[str]:
    """Paths of a pair that the rows rest on."""
    place = (pair.dataset, pair.classifier)
    return list(
        dict.fromkeys(r.path for r in rows if (r.dataset, r.classifier) == place)
    )


def _flat(value: Mapping[str, Any], section: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by their dotted names."""
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{section}{key}.")
        else:
            yield f"{section}{key}", item


def _value(settings: Settings, key: str) -> str:
    if key not in settings:
        return "(none)"
    value = settings[key]
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _full_name(row: BaselineRow) -> str:
    return f"{row.dataset}/{row.classifier}: {row.name}"


def _named(rows: Sequence[BaselineRow]) -> str:
    return ", ".join(str(row.name) for row in rows[:LISTED]) + _more(len(rows))


def _more(count: int) -> str:
    return f" and {count - LISTED} more" if count > LISTED else ""


def _commit(commit: str) -> str:
    """A commit at the length that people read."""
    mark = "-dirty" if commit.endswith("-dirty") else ""
    return commit.removesuffix("-dirty")[:10] + mark if commit else "(unknown)"
