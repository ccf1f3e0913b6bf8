"""`rg.run`: a suite to tables, pictures and a report."""

import datetime
import functools
import itertools
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn

from robustgen import fingerprints, provenance
from robustgen.catalog import (
    build_attack,
    build_classifier,
    build_defense,
    build_models,
    build_whole_defense,
    direction_files,
)
from robustgen.cost import default_batch_size
from robustgen.data.dataset import Dataset
from robustgen.datasets import build_dataset
from robustgen.defense import Defense, WholeDefense
from robustgen.devices import find_device
from robustgen.ensembling import EnsembleRule
from robustgen.errors import RequestError
from robustgen.evaluate import (
    Batch,
    Subject,
    TierSubject,
    evaluate_batch,
    evaluate_tier_batch,
    join_tables,
    missing_tier,
    train_substitutes,
)
from robustgen.evidence import load_evidence, save_evidence
from robustgen.files import sha256_of, write_text
from robustgen.library import TierAttack
from robustgen.outcomes import CLEAN, clean_alpha
from robustgen.pictures import SHOWN, write_index, write_pictures
from robustgen.probes import Probe, probe_pair
from robustgen.progress import Progress, Silent
from robustgen.report import Report, rebuild_report
from robustgen.sources import choose_profile
from robustgen.store import BatchStore
from robustgen.suite import (
    Case,
    Suite,
    asset_label,
    load_suite,
    narrow,
    resolve_cases,
    suite_record,
)
from robustgen.table import PredictionTable, save_table
from robustgen.threat import Threat
from robustgen.thumbnails import thumbnails

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
    progress: Progress | None = None,
) -> Report:
    """Evaluates every case of a suite and writes the run's folder.

    Finished batches in `out` are reused if everything that their numbers depend on is
    the same: suite, seed, data, weights and code. So a run that was killed goes on.

    Args:
        suite: A suite, its file, or the name of one that comes with robustgen.
        out: Folder to write; by default `reports/runs/SUITE-PROFILE`.
        profile: `auto`, `embedded` or `full`.
        device: `auto` (cuda if there is one), `cpu` or `cuda`.
        limit: Images of each split, at most; for a quick look.
        seed: Takes the place of the suite's seed.
        batch_size: Images at a time; by default `default_batch_size` of the data set.
            Changes speed and memory, and no number beyond float rounding.
        fresh: Whether to throw away what `out` holds of earlier runs.
        plugins: Modules whose factories the suite may call.
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
    tables = folder / "tables"
    if fresh:
        for old in ("batches", "tables", "pictures", "probes"):
            shutil.rmtree(folder / old, ignore_errors=True)

    started, began = datetime.datetime.now(datetime.UTC), time.monotonic()
    told = progress or Silent()
    work = _Work(
        folder=folder,
        device=where,
        plugins=tuple(plugins),
        batch_size=batch_size,
        code_sha256=fingerprints.of_code(),
        progress=told,
    )
    assets_sha256: dict[str, str] = {}
    strips: list[dict[str, Any]] = []
    written: set[str] = set()
    # Cases of a pair are adjacent, so one pair at a time is in memory.
    for pair, group in itertools.groupby(cases, key=lambda case: case.pair):
        assets_sha256 |= provenance.asset_hashes(pair)
        done = _run_pair(tuple(group), work)
        strips += done.strips
        written |= done.files
    for stale in (*tables.glob("*.npz"), *(folder / "probes").glob("*.json")):
        # Tables of cases that the suite no longer has would enter the report.
        if stale.name not in written:
            stale.unlink()
    write_index(folder / "pictures", strips)
    manifest = {
        "suite": suite_record(asked, choice.name),
        "profile": choice.name,
        "profile_message": choice.message,
        "seeds": {"suite": asked.seed},
        "versions": provenance.versions(),
        "assets_sha256": assets_sha256,
        "code_sha256": work.code_sha256,
        "git_commit": provenance.git_commit(),
        "machine": provenance.machine(where),
        "batch_size": batch_size or "by image size",
        "limit": limit,
        "plugins": list(plugins),
        "started": started.isoformat(timespec="seconds"),
        "wall_seconds": round(time.monotonic() - began, 1),
    }
    write_text(folder / "manifest.json", json.dumps(manifest, indent=1) + "\n")
    return rebuild_report(folder)


@dataclass(frozen=True, eq=False)
class _Work:
    """What all pairs of a run share."""

    folder: Path
    device: torch.device
    plugins: tuple[str, ...]
    batch_size: int | None
    code_sha256: str
    progress: Progress


@dataclass(frozen=True, eq=False)
class _Done:
    """What the cases of a pair left: strips of pictures and names of files."""

    strips: list[dict[str, Any]]
    files: set[str]


@dataclass(frozen=True, eq=False)
class _LoadedPair:
    """What all cases of a pair share, and the fingerprints of it."""

    dataset: Dataset
    defense: Defense | WholeDefense
    parts: Mapping[str, Dataset]
    parts_sha256: Mapping[str, str]
    networks_sha256: tuple[str, ...]
    directions_sha256: tuple[str, ...]


def _run_pair(cases: Sequence[Case], work: _Work) -> _Done:
    """Evaluates all cases of a pair: listed attacks, then the ladder, then probes.

    The ladder needs the weight of the views that clean validation images choose.
    """
    began = time.monotonic()
    loaded = _load_pair(cases[0], work.device, work.plugins)
    height, width = loaded.dataset.image_shape[1:]
    size = work.batch_size or default_batch_size(height, width)
    strips: list[dict[str, Any]] = []
    found: dict[str, PredictionTable] = {}
    alpha: dict[str, float] = {}
    skipped: list[tuple[str, str, str]] = []
    addresses = [fingerprints.of_code(("probes",))]
    for case in cases:
        if isinstance(case.attack, TierAttack):
            subject = _tier_subject(case, case.attack, loaded, alpha, work)
            reason = missing_tier(subject, loaded.parts["test"])
            if reason is not None:
                skipped.append((case.attack.target, case.attack.tier, reason))
                continue
            evaluate, texts = _tier_evaluation(subject, loaded)
            splits = ("test",)
        else:
            evaluate, texts = _evaluation(case, loaded, work)
            splits = SPLITS
        for split in splits:
            name = f"{case.name}-{split}"
            address = _address(case, split, loaded, (*texts, work.code_sha256))
            addresses.append(address)
            store = BatchStore(work.folder / "batches" / f"{name}-{address[:16]}")
            part = loaded.parts[split]
            stage = f"{case.name} {split}"
            table = _evaluate(evaluate, part, split, store, size, work.progress, stage)
            save_table(table, work.folder / "tables" / f"{name}.npz")
            found[f"{name}.npz"] = table
            if split == "val" and table.key.attack == CLEAN:
                alpha = _clean_alphas(case, table)
            if split == "test":
                strips += write_pictures(
                    work.folder / "pictures",
                    case.name,
                    table,
                    thumbnails(part.rows(slice(SHOWN)).pixels()),
                    store.pictures(),
                )
    probe = Probe(
        defense=loaded.defense,
        parts=loaded.parts,
        tables=tuple(found.values()),
        alpha=alpha,
        skipped=tuple(skipped),
        device=work.device,
    )
    file = f"{'-'.join(cases[0].pair.labels)}.json"
    path = work.folder / "probes" / file
    address = fingerprints.of_texts(*addresses)
    if _measured_at(path) != address:
        began_probes = time.monotonic() - began
        evidence = probe_pair(cases, probe, run_seconds=began_probes)
        save_evidence(evidence.model_copy(update={"address": address}), path)
    return _Done(strips, {*found, file})


def _measured_at(path: Path) -> str:
    """The address of evidence on disk; empty where there is none to read."""
    try:
        return load_evidence(path).address
    except RequestError:
        return ""


def _load_pair(case: Case, device: torch.device, plugins: Sequence[str]) -> _LoadedPair:
    pair = case.pair
    dataset = build_dataset(pair, case.domain, case.splits, plugins)
    directions: tuple[str, ...] = ()
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
        networks: tuple[nn.Module | None, ...] = (classifier, defense.module)
    else:
        models = build_models(pair, case.domain, dataset, device, plugins)
        defense = build_defense(case, dataset, models)
        networks = (models.classifier, models.gan, models.encoder, models.perceptual)
        directions = tuple(sha256_of(p) for p in direction_files(case))
    parts = {
        split: dataset.part(split, getattr(case.splits, split)) for split in SPLITS
    }
    return _LoadedPair(
        dataset=dataset,
        defense=defense,
        parts=parts,
        parts_sha256={split: part.fingerprint() for split, part in parts.items()},
        networks_sha256=tuple(
            fingerprints.of_module(network)
            for network in networks
            if network is not None
        ),
        directions_sha256=directions,
    )


_Evaluation: TypeAlias = Callable[[Dataset, str], Batch]
"""Images of a batch and the name of their split, to what came out."""


def _evaluation(
    case: Case, loaded: _LoadedPair, work: _Work
) -> tuple[_Evaluation, tuple[str, ...]]:
    """How a listed attack is evaluated, and what else its numbers depend on."""
    assert not isinstance(case.attack, TierAttack)
    attack, threat = build_attack(case.attack, work.plugins)
    subject = Subject(
        attack=attack,
        attack_name=case.attack.name,
        tier=case.attack.tier,
        threat=threat,
        defense=loaded.defense,
        classifier_name=asset_label(case.pair.classifier),
        seed=case.seed,
        device=work.device,
    )
    texts = (fingerprints.of_source(attack),) if case.attack.attack == "factory" else ()
    return partial(evaluate_batch, subject), texts


def _tier_subject(
    case: Case,
    attack: TierAttack,
    loaded: _LoadedPair,
    alpha: Mapping[str, float],
    work: _Work,
) -> TierSubject:
    return TierSubject(
        attack=attack,
        threat=Threat(attack.norm, attack.eps),
        defense=loaded.defense,
        classifier_name=asset_label(case.pair.classifier),
        seed=case.seed,
        device=work.device,
        alpha=alpha,
    )


def _tier_evaluation(
    subject: TierSubject, loaded: _LoadedPair
) -> tuple[_Evaluation, tuple[str, ...]]:
    """How a tier is evaluated, and what else its numbers depend on."""

    @functools.cache
    def prepared() -> TierSubject:
        # Only where a batch is left to compute: substitutes take time to train.
        substitutes = train_substitutes(subject, loaded.parts["val"])
        return replace(subject, substitutes=substitutes)

    def evaluate(part: Dataset, split: str) -> Batch:
        return evaluate_tier_batch(prepared(), part, split)

    return evaluate, (json.dumps(dict(subject.alpha)), loaded.parts_sha256["val"])


def _clean_alphas(case: Case, table: PredictionTable) -> dict[str, float]:
    """The weight of the views that clean validation images choose, by ensemble path."""
    rule = EnsembleRule(**case.ensemble.model_dump())
    return {path: clean_alpha(table, path, rule) for path in table.views}


def _address(case: Case, split: str, loaded: _LoadedPair, texts: Sequence[str]) -> str:
    """Fingerprint of everything that the predictions of a split depend on."""
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
        loaded.parts_sha256[split],
        *loaded.networks_sha256,
        *loaded.directions_sha256,
        *texts,
    )


def _evaluate(
    evaluate: _Evaluation,
    part: Dataset,
    split: str,
    store: BatchStore,
    batch_size: int,
    progress: Progress,
    stage: str,
) -> PredictionTable:
    """The table of one split: finished batches are read, the others computed."""
    count = len(part.index)
    pictured = split == "test"
    done = store.finished(count, pictured=pictured)
    progress.start(stage, count)
    row = 0
    while row < count:
        if row in done:
            size = len(done[row].sample)
        else:
            following = min((start for start in done if start > row), default=count)
            size = min(batch_size, following - row)
            batch = evaluate(part.rows(slice(row, row + size)), split)
            shown = SHOWN if pictured and row == 0 else 0
            store.save(row, batch, shown)
            done[row] = batch.table
        progress.advance(size)
        row += size
    return join_tables([done[start] for start in sorted(done)])
