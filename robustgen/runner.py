"""`rg.run`: a suite to tables, pictures and a report."""

import datetime
import functools
import itertools
import json
import pickle
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from robustgen import fingerprints, provenance
from robustgen.cache import Cache, default_cache
from robustgen.catalog import (
    build_attack,
    build_classifier,
    build_defense,
    build_models,
    build_whole_defense,
    direction_files,
)
from robustgen.cost import REPORT_STAGE, default_batch_size, probe_stage
from robustgen.data.dataset import Dataset
from robustgen.datasets import build_dataset
from robustgen.defense import Defense, WholeDefense
from robustgen.devices import find_device
from robustgen.ensembling import EnsembleRule
from robustgen.evaluate import (
    PANEL,
    Batch,
    Subject,
    TierSubject,
    evaluate_batch,
    evaluate_tier_batch,
    missing_tier,
    train_substitutes,
)
from robustgen.evidence import Evidence, save_evidence
from robustgen.executors import Executor, open_executor
from robustgen.files import sha256_of, write_text
from robustgen.finished import sealed
from robustgen.library import CleanAttack, TierAttack
from robustgen.outcomes import CLEAN, clean_alpha
from robustgen.pictures import SHOWN, write_index, write_pictures
from robustgen.plugin_code import code_texts, plugin_origins
from robustgen.plugins import Factory
from robustgen.probes import Probe, probe_pair
from robustgen.progress import Progress, Silent
from robustgen.report import Report, rebuild_report
from robustgen.sources import choose_profile
from robustgen.store import Found, PredictionStore, assemble, cells
from robustgen.suite import (
    Case,
    Suite,
    asset_label,
    custom_parts,
    load_suite,
    narrow,
    resolve_cases,
    suite_record,
)
from robustgen.table import PredictionTable, save_table
from robustgen.threat import Threat
from robustgen.thumbnails import thumbnails

EVIDENCE = "evidence"

SPLITS = ("val", "test")


def run(
    suite: Suite | str | Path,
    *,
    out: str | Path | None = None,
    profile: str = "auto",
    device: str = "auto",
    limit: int | None = None,
    seed: int | None = None,
    batch_size: int | None = None,
    fresh: bool = False,
    plugins: Sequence[str] = (),
    executor: str = "local",
    workers: int = 1,
    progress: Progress | None = None,
) -> Report:
    """Evaluates every case of a suite and writes the run's folder.

    Finished work lies in the cache (see `robustgen.cache`), under everything that its
    numbers depend on: image, seed, attack, settings, weights and code. So a run that
    was killed goes on, and another run of the same takes it from there.

    Args:
        suite: A suite, its file, or the name of one that comes with robustgen.
        out: Folder to write; by default `reports/runs/SUITE-PROFILE`.
        profile: `auto`, `embedded` or `full`.
        device: `auto` (cuda if there is one), `cpu` or `cuda`.
        limit: Images of each split, at most; for a quick look.
        seed: Takes the place of the suite's seed.
        batch_size: Images at a time; by default `default_batch_size` of the data set.
            Changes speed and memory, and no number beyond float rounding.
        fresh: Whether to compute everything again, whatever the cache holds.
        plugins: Modules whose factories the suite may call.
        executor: `local` or `ray`.
        workers: Processes that compute batches; 1 is this process. Each holds its own
            networks. Changes no number beyond float rounding.
        progress: Told how far the run is.

    Returns:
        The report, as also written to `out`.

    Raises:
        RequestError: something that was asked for is wrong or missing.
    """
    asked = suite if isinstance(suite, Suite) else load_suite(suite)
    asked = narrow(asked, seed=seed, limit=limit)
    choice = choose_profile(asked, profile)
    cases = resolve_cases(asked, choice.name)
    where = find_device(device)
    folder = Path(out or Path("reports/runs") / f"{asked.name}-{choice.name}")
    started, began = datetime.datetime.now(datetime.UTC), time.monotonic()
    done: list[_Done] = []
    with open_executor(executor, workers) as others:
        work = _Work(
            folder=folder,
            device=where,
            plugins=tuple(plugins),
            batch_size=batch_size,
            cache=default_cache(reads=not fresh),
            code_sha256=fingerprints.of_code(),
            executor=others,
            progress=progress or Silent(),
        )
        # Cases of a pair are adjacent, so one pair at a time is in memory.
        for _, group in itertools.groupby(cases, key=lambda case: case.pair):
            done.append(_run_pair(tuple(group), work))
    strips = [strip for one in done for strip in one.strips]
    write_index(folder / "pictures", strips)
    files = {file for one in done for file in one.files}
    files |= {f"pictures/{strip['file']}" for strip in strips}
    files.add("pictures/pictures.json")
    _remove_stale(folder, files)
    manifest = {
        "suite": suite_record(asked, choice.name),
        "profile": choice.name,
        "profile_message": choice.message,
        "seeds": {"suite": asked.seed},
        "versions": provenance.versions(),
        "assets_sha256": {k: v for one in done for k, v in one.assets_sha256.items()},
        "data": {k: v for one in done for k, v in one.data.items()},
        "code_sha256": work.code_sha256,
        "git_commit": provenance.git_commit(),
        "machine": provenance.machine(where),
        "batch_size": batch_size or "by image size",
        "executor": executor,
        "workers": workers,
        "limit": limit,
        "plugins": list(plugins),
        "entry_points": plugin_origins(
            part for case in cases for part in custom_parts(case)
        ),
        "started": started.isoformat(timespec="seconds"),
        "wall_seconds": round(time.monotonic() - began, 1),
        "files": {file: sha256_of(folder / file) for file in sorted(files)},
    }
    write_text(folder / "manifest.json", json.dumps(sealed(manifest), indent=1) + "\n")
    work.progress.start(REPORT_STAGE, 1)
    report = rebuild_report(folder)
    work.progress.advance()
    return report


def _remove_stale(folder: Path, files: Container[str]) -> None:
    """Removes what earlier runs left here: it would enter the report, or is half."""
    unfinished = (
        *(f"{name}/.*.tmp" for name in ("tables", "probes", "pictures", "figures")),
        *(
            f".{name}.*.tmp"
            for name in ("manifest", "report", "accuracy", "balanced", "predictions")
        ),
    )
    for pattern in ("tables/*.npz", "probes/*.json", "pictures/*.png", *unfinished):
        for path in folder.glob(pattern):
            if path.relative_to(folder).as_posix() not in files:
                path.unlink()


@dataclass(frozen=True, eq=False)
class _Work:
    """What all pairs of a run share."""

    folder: Path
    device: torch.device
    plugins: tuple[str, ...]
    batch_size: int | None
    cache: Cache
    code_sha256: str
    executor: Executor | None
    progress: Progress


@dataclass(frozen=True, eq=False)
class _Done:
    """What the cases of a pair left.

    Args:
        strips: Entries of pictures.json.
        files: Files written, relative to the run's folder.
        assets_sha256: Of every weight file and every network of the user's own.
        data: Fingerprint and number of the images of each split.
    """

    strips: list[dict[str, Any]]
    files: set[str]
    assets_sha256: dict[str, str]
    data: dict[str, dict[str, Any]]


@dataclass(frozen=True, eq=False)
class _LoadedPair:
    """What all cases of a pair share, and the fingerprints of it.

    Args:
        dataset: Its images.
        defense: What is evaluated.
        parts: The images asked for, by split.
        keys: Fingerprint of each of them, by split.
        networks_sha256: Of the networks and the code that they were built by.
        directions_sha256: Of the files that views take directions from.
        built: Networks that no file of the suite names, by kind.
    """

    dataset: Dataset
    defense: Defense | WholeDefense
    parts: Mapping[str, Dataset]
    keys: Mapping[str, list[str]]
    networks_sha256: tuple[str, ...]
    directions_sha256: tuple[str, ...]
    built: Mapping[str, nn.Module]


def _run_pair(cases: Sequence[Case], work: _Work) -> _Done:
    """Evaluates all cases of a pair: listed attacks, then the ladder, then probes.

    The ladder needs the weight of the views that clean validation images choose.
    """
    began = time.monotonic()
    loaded = _load_pair(cases[0], work.device, work.plugins)
    strips: list[dict[str, Any]] = []
    found: dict[str, PredictionTable] = {}
    alpha: dict[str, float] = {}
    skipped: list[tuple[str, str, str]] = []
    addresses = [fingerprints.of_code(("probes", "budgets.py"))]
    for case in cases:
        subject = _subject(case, loaded, alpha, work.device, work.plugins)
        if isinstance(subject, TierSubject):
            reason = missing_tier(subject, loaded.parts["test"])
            if reason is not None:
                skipped.append((subject.attack.target, subject.attack.tier, reason))
                continue
        # Not the data set's code: its images stand for themselves.
        own = [(kind, part) for kind, part in custom_parts(case) if kind != "dataset"]
        texts = (
            *_subject_texts(subject, loaded),
            *code_texts(own, work.plugins),
            work.code_sha256,
            work.device.type,
        )
        store = PredictionStore(work.cache, _address(case, loaded, texts))
        for split in SPLITS if isinstance(subject, Subject) else ("test",):
            addresses += (store.address, split, *loaded.keys[split])
            stage = _Stage(case, split, subject, loaded, store)
            table, panels = _evaluate(stage, work)
            name = f"{case.name}-{split}"
            save_table(table, work.folder / "tables" / f"{name}.npz")
            found[f"tables/{name}.npz"] = table
            if split == "val" and table.key.attack == CLEAN:
                alpha = _clean_alphas(case, table)
            if split == "test":
                first = loaded.parts[split].rows(slice(len(panels)))
                strips += write_pictures(
                    work.folder / "pictures",
                    case.name,
                    table,
                    thumbnails(first.pixels(), PANEL),
                    panels,
                )
    probe = Probe(
        defense=loaded.defense,
        parts=loaded.parts,
        tables=tuple(found.values()),
        alpha=alpha,
        skipped=tuple(skipped),
        device=work.device,
    )
    file = f"probes/{'-'.join(cases[0].pair.labels)}.json"
    address = fingerprints.of_texts(*addresses)
    work.progress.start(probe_stage(cases[0]), 1)
    evidence = _kept_evidence(work.cache, address)
    if evidence is None:
        evidence = probe_pair(cases, probe, run_seconds=time.monotonic() - began)
        content = evidence.model_dump_json(indent=1).encode()
        work.cache.put(EVIDENCE, address, EVIDENCE, content)
    save_evidence(evidence, work.folder / file)
    work.progress.advance()
    return _Done(
        strips,
        {*found, file},
        provenance.asset_hashes(cases[0].pair, loaded.built),
        {
            f"{'/'.join(cases[0].pair.labels)} {split}": {
                "sha256": fingerprints.of_texts(*keys),
                "n": len(keys),
            }
            for split, keys in loaded.keys.items()
        },
    )


def _kept_evidence(cache: Cache, address: str) -> Evidence | None:
    """Evidence in the cache; None where there is none to read."""
    content = cache.get(EVIDENCE, address, EVIDENCE)
    try:
        return None if content is None else Evidence.model_validate_json(content)
    except ValueError:
        return None


def _load_pair(case: Case, device: torch.device, plugins: Sequence[str]) -> _LoadedPair:
    pair = case.pair
    dataset = build_dataset(pair, case.domain, case.splits, plugins)
    directions: tuple[str, ...] = ()
    networks: dict[str, nn.Module | None]
    if pair.defense is not None:
        classifier = build_classifier(pair, case.domain, dataset, device, plugins)
        defense = build_whole_defense(
            pair.defense,
            classifier,
            dataset,
            device,
            plugins,
            draws=case.ladder.budget.score_draws,
            seed=case.seed,
        )
        networks = {"classifier": classifier, "defense": defense.module}
    else:
        models = build_models(pair, case.domain, dataset, device, plugins)
        defense = build_defense(case, dataset, models, plugins)
        networks = {
            "classifier": models.classifier,
            "generator": models.gan,
            "encoder": models.encoder,
            "perceptual": models.perceptual,
        }
        directions = tuple(sha256_of(p) for p in direction_files(case))
    parts = {
        split: dataset.part(split, getattr(case.splits, split)) for split in SPLITS
    }
    found = {kind: net for kind, net in networks.items() if net is not None}
    return _LoadedPair(
        dataset=dataset,
        defense=defense,
        parts=parts,
        keys={split: part.row_fingerprints() for split, part in parts.items()},
        networks_sha256=tuple(map(fingerprints.of_module, found.values())),
        directions_sha256=directions,
        built={
            kind: net
            for kind, net in found.items()
            if isinstance(getattr(pair, kind), Factory)
        },
    )


def _subject(
    case: Case,
    loaded: _LoadedPair,
    alpha: Mapping[str, float],
    device: torch.device,
    plugins: Sequence[str],
) -> Subject | TierSubject:
    """A case with everything that its evaluation needs."""
    label = asset_label(case.pair.classifier)
    if isinstance(case.attack, TierAttack):
        return TierSubject(
            attack=case.attack,
            threat=Threat(case.attack.norm, case.attack.eps),
            defense=loaded.defense,
            classifier_name=label,
            seed=case.seed,
            device=device,
            alpha=alpha,
        )
    attack, threat = build_attack(case.attack, plugins)
    return Subject(
        attack=attack,
        attack_name=case.attack.name,
        tier=case.attack.tier,
        threat=threat,
        defense=loaded.defense,
        classifier_name=label,
        seed=case.seed,
        device=device,
    )


def _subject_texts(
    subject: Subject | TierSubject, loaded: _LoadedPair
) -> tuple[str, ...]:
    """What the numbers of a case depend on beside its settings and networks."""
    if isinstance(subject, Subject):
        return (fingerprints.of_source(subject.attack),)
    alpha = json.dumps(dict(subject.alpha), sort_keys=True)
    # Substitutes learn from what the path says about all validation images.
    learns = subject.attack.tier == "transfer"
    return (alpha, *(loaded.keys["val"] if learns else ()))


def _clean_alphas(case: Case, table: PredictionTable) -> dict[str, float]:
    """The weight of the views that clean validation images choose, by ensemble path."""
    rule = EnsembleRule(**case.ensemble.model_dump())
    return {path: clean_alpha(table, path, rule) for path in table.views}


def _address(case: Case, loaded: _LoadedPair, texts: Sequence[str]) -> str:
    """Fingerprint of all that the predictions of a case depend on beside the image."""
    config = {
        "seed": case.seed,
        "pair": case.pair.model_dump(mode="json"),
        "attack": case.attack.model_dump(mode="json", exclude={"about", "sources"}),
        "paths": sorted(case.paths),
        "projection": case.projection.model_dump(mode="json"),
        "views": case.views.model_dump(mode="json"),
        "jitter": case.jitter.model_dump(mode="json"),
        "flip": loaded.dataset.flip,
        "draws": case.ladder.budget.score_draws,
        "domain": case.domain and case.domain.model_dump(mode="json"),
    }
    return fingerprints.of_texts(
        json.dumps(config, sort_keys=True),
        *loaded.networks_sha256,
        *loaded.directions_sha256,
        *texts,
    )


@dataclass(frozen=True, eq=False)
class _Stage:
    """One case on one split."""

    case: Case
    split: str
    subject: Subject | TierSubject
    loaded: _LoadedPair
    store: PredictionStore


@dataclass(frozen=True)
class _Job:
    """A batch for another process, which loads what it needs by itself.

    Args:
        case: What is evaluated, pickled: cases hold what cannot be hashed.
        split: `val` or `test`.
        rows: Rows of the split.
        shown: How many of the first rows to keep pictures of.
        alpha: Weight of the views, by ensemble path.
        device: Where it is computed.
        plugins: Modules whose factories may run.
    """

    case: bytes
    split: str
    rows: tuple[int, ...]
    shown: int
    alpha: tuple[tuple[str, float], ...]
    device: str
    plugins: tuple[str, ...]


def _evaluate(
    stage: _Stage, work: _Work
) -> tuple[PredictionTable, list[Mapping[str, np.ndarray]]]:
    """The table of one split and pictures of its first images.

    What the cache holds is taken, the rest is computed and kept there.
    """
    keys = stage.loaded.keys[stage.split]
    first = SHOWN if stage.split == "test" else 0
    found = stage.store.find(keys)
    panels = stage.store.pictures(keys[:first])
    missing = [
        row
        for row, key in enumerate(keys)
        if key not in found or (row < first and key not in panels)
    ]
    size = work.batch_size or default_batch_size(*stage.loaded.dataset.image_shape[1:])
    work.progress.start(f"{stage.case.name} {stage.split}", len(keys))
    work.progress.advance(len(keys) - len(missing))
    for rows, batch in _compute(stage, cells(len(keys), size, missing), first, work):
        mine = [keys[row] for row in rows]
        stage.store.save(mine, batch.table)
        found |= {key: Found(batch.table, row) for row, key in enumerate(mine)}
        if batch.panels:
            shown = mine[: len(batch.panels["attacked"])]
            stage.store.save_pictures(shown, batch.panels)
            for row, key in enumerate(shown):
                panels[key] = {name: many[row] for name, many in batch.panels.items()}
        work.progress.advance(len(rows))
    table = assemble(keys, found)
    named = replace(
        table,
        key=replace(table.key, split=stage.split),
        class_names=stage.loaded.dataset.class_names,
    )
    return named, [panels[key] for key in keys[:first]]


def _compute(
    stage: _Stage, batches: Sequence[Sequence[int]], first: int, work: _Work
) -> Iterator[tuple[Sequence[int], Batch]]:
    """Rows and results of each batch, computed here or by other processes."""
    if not batches:
        return
    counts = [sum(row < first for row in rows) for rows in batches]
    if work.executor is None:
        ready = _prepared(stage.subject, stage.loaded)
        for rows, shown in zip(batches, counts, strict=True):
            yield rows, _batch(ready, stage.loaded, stage.split, rows, shown)
        return
    subject = stage.subject
    alpha = subject.alpha if isinstance(subject, TierSubject) else {}
    case = pickle.dumps(stage.case)
    jobs = [
        _Job(
            case=case,
            split=stage.split,
            rows=tuple(rows),
            shown=shown,
            alpha=tuple(alpha.items()),
            device=str(work.device),
            plugins=work.plugins,
        )
        for rows, shown in zip(batches, counts, strict=True)
    ]
    for job, batch in work.executor.compute(_work_on, jobs):
        yield job.rows, batch


def _work_on(job: _Job) -> Batch:
    """A batch in a process of its own; networks stay loaded for the next one."""
    subject, loaded = _worker_subject(job.case, job.alpha, job.device, job.plugins)
    return _batch(subject, loaded, job.split, job.rows, job.shown)


@functools.lru_cache(maxsize=1)
def _worker_subject(
    pickled: bytes,
    alpha: tuple[tuple[str, float], ...],
    device: str,
    plugins: tuple[str, ...],
) -> tuple[Subject | TierSubject, _LoadedPair]:
    """What the batches of one case share."""
    case: Case = pickle.loads(pickled)
    # All attacks of a pair share its networks.
    of_pair = replace(case, attack=CleanAttack(name=CLEAN, about="", attack="clean"))
    loaded = _worker_pair(pickle.dumps(of_pair), device, plugins)
    subject = _subject(case, loaded, dict(alpha), torch.device(device), plugins)
    return _prepared(subject, loaded), loaded


@functools.lru_cache(maxsize=1)
def _worker_pair(pickled: bytes, device: str, plugins: tuple[str, ...]) -> _LoadedPair:
    """What the cases of one pair share."""
    return _load_pair(pickle.loads(pickled), torch.device(device), plugins)


def _prepared(
    subject: Subject | TierSubject, loaded: _LoadedPair
) -> Subject | TierSubject:
    """A subject ready to be evaluated: substitutes take time to train."""
    if isinstance(subject, Subject):
        return subject
    substitutes = train_substitutes(subject, loaded.parts["val"])
    return replace(subject, substitutes=substitutes)


def _batch(
    subject: Subject | TierSubject,
    loaded: _LoadedPair,
    split: str,
    rows: Sequence[int],
    shown: int,
) -> Batch:
    part = loaded.parts[split].rows(np.asarray(rows, np.int64))
    if isinstance(subject, TierSubject):
        return evaluate_tier_batch(subject, part, split, shown)
    return evaluate_batch(subject, part, split, shown)
