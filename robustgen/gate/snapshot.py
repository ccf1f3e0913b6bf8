"""From a finished run to what the gate keeps of it."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from robustgen.checks import TRUSTED, Finding, reasons, run_checks
from robustgen.errors import RequestError
from robustgen.finished import FinishedRun
from robustgen.gate.baseline import Baseline, BaselineRow, PairRecord, Settings
from robustgen.intervals import wilson_interval
from robustgen.names import DEFENSE, WEIGHT_SUFFIXES
from robustgen.outcomes import Outcome

PATH_SECTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "image": (),
        "reconstruction": ("projection",),
        "stylemix_ensemble": ("projection", "views", "ensemble"),
        "combined_ensemble": ("projection", "views", "jitter", "ensemble"),
        "image_ensemble": ("jitter", "ensemble"),
        DEFENSE: (),
    }
)
"""Sections of a suite that define a path. Networks and images come by their sha256."""


def run_faults(run: FinishedRun) -> list[str]:
    """Why a run can neither be a baseline nor be checked against one."""
    faults: list[str] = []
    limit = run.manifest.get("limit")
    if limit is not None:
        faults.append(
            f"it was run with --limit {limit}, for a quick look; run the whole suite."
        )
    if run.evidence is None:
        faults.append(
            "no check has run on it (no probes/*.json), so nothing says whether its "
            "numbers can be trusted; run the suite again."
        )
    if any(not len(t.label) for t in run.tables if t.key.split == "test"):
        faults.append("it has no test images; raise `splits.test` in the suite.")
    return faults


def take_snapshot(run: FinishedRun) -> Baseline:
    """All test rows of a run, whatever their verdict.

    Raises:
        RequestError: the tables do not fit together, or `run_faults` finds something.
    """
    if faults := run_faults(run):
        raise RequestError("\n".join(f"{run.folder}: {one}" for one in faults))
    outcomes = run.outcomes()
    test = outcomes.on("test")
    findings = run_checks(outcomes, run.evidence or (), run.settings)
    manifest = run.manifest
    return Baseline(
        created=str(manifest.get("started", "")),
        suite=str(run.suite["name"]),
        profile=run.profile,
        seed=int(run.suite.get("seed", 0)),
        git_commit=str(manifest.get("git_commit", "")),
        code_sha256=str(manifest.get("code_sha256", "")),
        versions=dict(manifest.get("versions", {})),
        assets_sha256=dict(manifest.get("assets_sha256", {})),
        data=dict(manifest.get("data", {})),
        attacks=attack_settings(run.settings, test),
        pairs=_pairs(run.settings, test),
        rows=tuple(_row(one, findings) for one in test),
    )


def trusted_part(snapshot: Baseline) -> Baseline:
    """The rows that a gate may rest on; the others are named in `left_out`."""
    rows = tuple(row for row in snapshot.rows if row.verdict == TRUSTED)
    pairs = {(row.dataset, row.classifier) for row in rows}
    attacks = {row.attack for row in rows}
    return snapshot.model_copy(
        update={
            "rows": rows,
            "left_out": {
                f"{row.dataset}/{row.classifier}: {row.name}": _against(row)
                for row in snapshot.rows
                if row.verdict != TRUSTED
            },
            "pairs": tuple(
                pair
                for pair in snapshot.pairs
                if (pair.dataset, pair.classifier) in pairs
            ),
            "attacks": {k: v for k, v in snapshot.attacks.items() if k in attacks},
        }
    )


def path_definition(path: str, settings: Mapping[str, Any], pair: Settings) -> Settings:
    """What a path is made of, beside networks and images.

    Args:
        path: Name of the path.
        settings: Sections of the suite as the profile has them.
        pair: The pair as the suite has it; read are `defense` and `domain`.
    """
    found: Settings = {name: settings.get(name) for name in PATH_SECTIONS[path]}
    if path == "image_ensemble":
        found["views"] = {"count": settings.get("views", {}).get("count")}
    if path == DEFENSE:
        found["defense"] = pair.get("defense")
    elif path != "image" and pair.get("domain") is not None:
        found["domain"] = pair["domain"]
    return _portable(found)


def attack_settings(
    settings: Mapping[str, Any], outcomes: Sequence[Outcome] = ()
) -> dict[str, Settings]:
    """What every attack of a run may do, by its name in tables."""
    listed: dict[str, Settings] = {}
    for spec in settings.get("attacks", ()):
        if isinstance(spec, Mapping):
            own = ("name", "about", "sources", "norm", "eps", "tier", "sweep")
            listed[str(spec["name"])] = {k: v for k, v in spec.items() if k not in own}
    ladder = settings.get("ladder") or {}
    for one in outcomes:
        if one.key.target:
            kept = ("budget", "fixed_seed")
            listed[one.key.attack] = {k: ladder[k] for k in kept if k in ladder}
    return _portable(listed)


def find_pair(
    settings: Mapping[str, Any], dataset: str, classifier: str
) -> Settings | None:
    """The pair that tables call so, as the suite has it; None if there is none."""
    for pair in settings.get("pairs", ()):
        if (_label(pair["dataset"]), _label(pair["classifier"])) == (
            dataset,
            classifier,
        ):
            return dict(pair)
    return None


def _pairs(
    settings: Mapping[str, Any], outcomes: Sequence[Outcome]
) -> tuple[PairRecord, ...]:
    paths: dict[tuple[str, str], dict[str, Settings]] = {}
    tables = {}
    for one in outcomes:
        place = (one.key.dataset, one.key.classifier)
        tables.setdefault(place, one.table)
        pair = find_pair(settings, *place) or {}
        definition = path_definition(one.path, settings, pair)
        paths.setdefault(place, {})[one.path] = definition
    return tuple(
        PairRecord(
            dataset=place[0],
            classifier=place[1],
            paths=paths[place],
            sample=tuple(table.sample.tolist()),
            label=tuple(table.label.tolist()),
        )
        for place, table in tables.items()
    )


def _label(asset: object) -> str:
    """What tables call an asset, from its form in a manifest."""
    if not isinstance(asset, Mapping):
        name = str(asset)
        return Path(name).stem if name.endswith(WEIGHT_SUFFIXES) else name
    if asset.get("name"):
        return str(asset["name"])
    if "factory" in asset:
        return str(asset["factory"]).rpartition(":")[2]
    if "folder" in asset:
        return Path(str(asset["folder"])).name
    return Path(str(asset.get("weights") or asset.get("npz"))).stem


def _row(one: Outcome, findings: Sequence[Finding]) -> BaselineRow:
    key = one.key
    about = {
        "dataset": key.dataset,
        "classifier": key.classifier,
        "attack": key.attack,
        "tier": key.tier,
        "path": one.path,
        "alpha_from": one.alpha_from,
    }
    against = reasons(about, findings)
    checked = any(
        (found.dataset, found.classifier) == (key.dataset, key.classifier)
        for found in findings
    )
    trusted = TRUSTED if checked else ""
    resamples, n = one.correct.shape
    right = one.correct.sum(axis=0)
    total = float(right.sum()) / resamples
    low, high = wilson_interval(total, n)
    return BaselineRow(
        **about,
        norm=key.norm,
        eps=key.eps,
        target=key.target,
        verdict=against[0].effect or "" if against else trusted,
        checks=tuple(
            dict.fromkeys(f"{found.check}: {found.evidence}" for found in against)
        ),
        n=n,
        accuracy=total / n,
        ci_low=low,
        ci_high=high,
        alpha=None if math.isnan(one.alpha) else one.alpha,
        of=resamples,
        right=tuple(right.tolist()),
    )


def _against(row: BaselineRow) -> str:
    if not row.verdict:
        return "no check has run"
    return f"{row.verdict}; {' '.join(row.checks)}".rstrip("; ")


def _portable(value: Any) -> Any:
    """The same without the folders of one machine: of a full path, the file's name."""
    if isinstance(value, Mapping):
        return {str(key): _portable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_portable(item) for item in value]
    if isinstance(value, str) and Path(value).is_absolute():
        return Path(value).name
    return value
