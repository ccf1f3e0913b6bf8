"""`rg.run`: a suite to tables, pictures and a report."""

import datetime
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from robustgen import fingerprints, provenance
from robustgen.catalog import (
    Models,
    build_attack,
    build_dataset,
    build_defense,
    build_models,
)
from robustgen.data.dataset import Dataset
from robustgen.errors import RequestError
from robustgen.evaluate import Subject, evaluate_batch, join_tables
from robustgen.files import write_text
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

SPLITS = ("val", "test")


def run(
    suite: Suite | str | Path,
    *,
    out: str | Path | None = None,
    profile: str = "auto",
    device: str = "auto",
    limit: int | None = None,
    seed: int | None = None,
    batch_size: int = 64,
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
        batch_size: Images at a time. Changes speed and memory, and no number beyond
            float rounding.
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
    where = _device(device)
    folder = Path(out or Path("reports/runs") / f"{asked.name}-{choice.name}")
    batches, tables = folder / "batches", folder / "tables"
    if fresh:
        for old in (batches, tables, folder / "pictures"):
            shutil.rmtree(old, ignore_errors=True)

    started, began = datetime.datetime.now(datetime.UTC), time.monotonic()
    told = progress or Silent()
    pairs = _Pairs(where, plugins)
    strips: list[dict[str, Any]] = []
    written: set[str] = set()
    for case in cases:
        dataset, models = pairs.of(case)
        subject = _subject(case, dataset, models, where, plugins)
        for split in SPLITS:
            part = dataset.part(split, getattr(case.splits, split))
            address = _address(case, part, models, plugins)
            store = BatchStore(batches / f"{case.name}-{split}-{address[:16]}")
            table = _evaluate(
                subject, part, split, store, batch_size, told, f"{case.name} {split}"
            )
            save_table(table, tables / f"{case.name}-{split}.npz")
            written.add(f"{case.name}-{split}.npz")
            if split == "test":
                strips += write_pictures(
                    folder / "pictures",
                    case.name,
                    table,
                    part.images[:SHOWN],
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
        "assets_sha256": pairs.hashes,
        "code_sha256": fingerprints.of_code(),
        "git_commit": provenance.git_commit(),
        "machine": provenance.machine(where),
        "batch_size": batch_size,
        "limit": limit,
        "plugins": list(plugins),
        "started": started.isoformat(timespec="seconds"),
        "wall_seconds": round(time.monotonic() - began, 1),
    }
    write_text(folder / "manifest.json", json.dumps(manifest, indent=1) + "\n")
    return rebuild_report(folder)


class _Pairs:
    """Data set and models of the last pair asked for: cases of a pair are adjacent."""

    def __init__(self, device: torch.device, plugins: Sequence[str]):
        self._device = device
        self._plugins = plugins
        self._last: tuple[Case, Dataset, Models] | None = None
        self.hashes: dict[str, str] = {}

    def of(self, case: Case) -> tuple[Dataset, Models]:
        last = self._last
        if last is None or last[0].pair != case.pair:
            dataset = build_dataset(case.pair, case.splits, self._plugins)
            models = build_models(case.pair, dataset, self._device, self._plugins)
            self.hashes |= provenance.asset_hashes(case.pair)
            self._last = last = (case, dataset, models)
        return last[1], last[2]


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise RequestError("--device cuda: torch finds no CUDA device here.")
    return torch.device(name)


def _subject(
    case: Case,
    dataset: Dataset,
    models: Models,
    device: torch.device,
    plugins: Sequence[str],
) -> Subject:
    attack, threat = build_attack(case.attack, plugins)
    return Subject(
        attack=attack,
        attack_name=case.attack.name,
        tier=case.attack.tier,
        threat=threat,
        defense=build_defense(case, dataset, models),
        classifier_name=asset_label(case.pair.classifier),
        seed=case.seed,
        device=device,
    )


def _address(case: Case, part: Dataset, models: Models, plugins: Sequence[str]) -> str:
    """Fingerprint of everything that the predictions of a split depend on."""
    config = {
        "seed": case.seed,
        "pair": case.pair.model_dump(mode="json"),
        "attack": case.attack.model_dump(mode="json", exclude={"about", "sources"}),
        "paths": sorted(case.paths),
        "projection": case.projection.model_dump(mode="json"),
        "views": case.views.model_dump(mode="json"),
        "jitter": case.jitter.model_dump(mode="json"),
        "flip": part.flip,
        "card": dict(models.card),
    }
    networks = (models.classifier, models.gan, models.encoder, models.perceptual)
    code = [fingerprints.of_code()]
    if case.attack.attack == "factory":
        code.append(fingerprints.of_source(build_attack(case.attack, plugins)[0]))
    return fingerprints.of_texts(
        json.dumps(config, sort_keys=True),
        fingerprints.of_dataset(part),
        *(fingerprints.of_module(network) for network in networks),
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
