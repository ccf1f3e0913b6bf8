"""`rg.run`: a suite to tables, pictures and a report."""

import datetime
import itertools
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from robustgen import fingerprints, provenance
from robustgen.attacks import Attack
from robustgen.catalog import (
    build_attack,
    build_defense,
    build_models,
    direction_files,
)
from robustgen.cost import default_batch_size
from robustgen.data.dataset import Dataset
from robustgen.datasets import build_dataset
from robustgen.defense import Defense
from robustgen.devices import find_device
from robustgen.evaluate import Subject, evaluate_batch, join_tables
from robustgen.files import sha256_of, write_text
from robustgen.pictures import SHOWN, write_index, write_pictures
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
    batches, tables = folder / "batches", folder / "tables"
    if fresh:
        for old in (batches, tables, folder / "pictures"):
            shutil.rmtree(old, ignore_errors=True)

    started, began = datetime.datetime.now(datetime.UTC), time.monotonic()
    told = progress or Silent()
    code_sha256 = fingerprints.of_code()
    assets_sha256: dict[str, str] = {}
    strips: list[dict[str, Any]] = []
    written: set[str] = set()
    # Cases of a pair are adjacent, so one pair at a time is in memory.
    for pair, group in itertools.groupby(cases, key=lambda case: case.pair):
        of_pair = tuple(group)
        loaded = _load_pair(of_pair[0], where, plugins)
        assets_sha256 |= provenance.asset_hashes(pair)
        height, width = loaded.dataset.image_shape[1:]
        size = batch_size or default_batch_size(height, width)
        for case in of_pair:
            subject = _subject(case, loaded, where, plugins)
            for split, part in loaded.parts.items():
                name = f"{case.name}-{split}"
                address = _address(case, split, loaded, subject.attack, code_sha256)
                store = BatchStore(batches / f"{name}-{address[:16]}")
                table = _evaluate(
                    subject,
                    part,
                    split,
                    store,
                    size,
                    told,
                    f"{case.name} {split}",
                )
                save_table(table, tables / f"{name}.npz")
                written.add(f"{name}.npz")
                if split == "test":
                    strips += write_pictures(
                        folder / "pictures",
                        case.name,
                        table,
                        thumbnails(part.rows(slice(SHOWN)).pixels()),
                        store.pictures(),
                    )
    for stale in tables.glob("*.npz"):
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
        "code_sha256": code_sha256,
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
class _LoadedPair:
    """What all cases of a pair share, and the fingerprints of it."""

    dataset: Dataset
    defense: Defense
    parts: Mapping[str, Dataset]
    parts_sha256: Mapping[str, str]
    networks_sha256: tuple[str, ...]
    directions_sha256: tuple[str, ...]


def _load_pair(case: Case, device: torch.device, plugins: Sequence[str]) -> _LoadedPair:
    dataset = build_dataset(case.pair, case.domain, case.splits, plugins)
    models = build_models(case.pair, case.domain, dataset, device, plugins)
    parts = {
        split: dataset.part(split, getattr(case.splits, split)) for split in SPLITS
    }
    networks = [
        network
        for network in (
            models.classifier,
            models.gan,
            models.encoder,
            models.perceptual,
        )
        if network is not None
    ]
    return _LoadedPair(
        dataset=dataset,
        defense=build_defense(case, dataset, models),
        parts=parts,
        parts_sha256={split: part.fingerprint() for split, part in parts.items()},
        networks_sha256=tuple(fingerprints.of_module(n) for n in networks),
        directions_sha256=tuple(sha256_of(p) for p in direction_files(case)),
    )


def _subject(
    case: Case, loaded: _LoadedPair, device: torch.device, plugins: Sequence[str]
) -> Subject:
    attack, threat = build_attack(case.attack, plugins)
    return Subject(
        attack=attack,
        attack_name=case.attack.name,
        tier=case.attack.tier,
        threat=threat,
        defense=loaded.defense,
        classifier_name=asset_label(case.pair.classifier),
        seed=case.seed,
        device=device,
    )


def _address(
    case: Case, split: str, loaded: _LoadedPair, attack: Attack, code_sha256: str
) -> str:
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
        "domain": case.domain and case.domain.model_dump(mode="json"),
    }
    code = [code_sha256]
    if case.attack.attack == "factory":
        code.append(fingerprints.of_source(attack))
    return fingerprints.of_texts(
        json.dumps(config, sort_keys=True),
        loaded.parts_sha256[split],
        *loaded.networks_sha256,
        *loaded.directions_sha256,
        *code,
    )


def _evaluate(
    subject: Subject,
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
            batch = evaluate_batch(subject, part.rows(slice(row, row + size)), split)
            shown = SHOWN if pictured and row == 0 else 0
            store.save(row, batch, shown)
            done[row] = batch.table
        progress.advance(size)
        row += size
    return join_tables([done[start] for start in sorted(done)])
