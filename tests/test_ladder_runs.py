"""Suites with tiers end to end: tables, resuming, whole defenses, verdicts, exit 3."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from robustgen.budgets import BUDGETS
from robustgen.cli import main
from robustgen.evidence import load_evidence
from robustgen.runner import run
from robustgen.table import PredictionTable, load_table

pytestmark = pytest.mark.usefixtures("without_figures")

PAIR = {"dataset": "digits", "classifier": "digits"}
GENERATIVE = {
    **PAIR,
    "generator": "digits",
    "encoder": "digits",
    "perceptual": "digits",
}
BUDGET = {
    "preset": "smoke",
    "steps": 2,
    "views": 2,
    "latent_steps": 2,
    "breaking_steps": 2,
    "queries": 2,
    "spsa_steps": 1,
    "spsa_samples": 2,
    "substitute_epochs": 1,
    "select_draws": 2,
    "score_draws": 3,
}
PGD = {
    "name": "pgd",
    "attack": "pgd",
    "norm": "linf",
    "eps": "32/255",
    "settings": {"steps": 8, "step_size": "8/255"},
}
SUITE: dict[str, Any] = {
    "version": 1,
    "name": "rungs",
    "seed": 3,
    "profiles": {"embedded": {"pairs": [GENERATIVE]}},
    "attacks": [{"name": "clean", "attack": "clean"}, PGD],
    "tiers": ["oblivious", "bpda_encoder", "unrolled", "square"],
    "ladder": {
        "budget": BUDGET,
        "paths": ["reconstruction", "combined_ensemble"],
        "fixed_seed": True,
    },
    "splits": {"val": 4, "test": 5},
    "projection": {"passes": 2},
    "views": {"count": 3},
    "ensemble": {"size": 3, "resamples": 3},
}


def write_suite(folder: Path, **changes: Any) -> Path:
    path = folder / "rungs.yaml"
    path.write_text(yaml.safe_dump({**SUITE, **changes}), encoding="utf-8")
    return path


def tables_of(folder: Path) -> dict[str, PredictionTable]:
    return {p.stem: load_table(p) for p in sorted((folder / "tables").glob("*.npz"))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    before = torch.random.get_rng_state()
    run(write_suite(folder), out=folder / "run", batch_size=3)
    assert torch.equal(before, torch.random.get_rng_state())
    return folder / "run"


def test_every_tier_has_one_row_for_each_path(whole: Path):
    frame = pd.read_csv(whole / "accuracy.csv")
    rungs = frame[~frame.tier.isin(["none", "oblivious"])]
    found = list(zip(rungs["tier"], rungs["path"], strict=True))
    assert found == [
        (tier, path)
        for tier in ("bpda_encoder", "unrolled", "square")
        for path in ("combined_ensemble", "reconstruction")
    ]
    assert set(rungs.split) == {"test"}
    assert set(rungs.n) == {5}
    assert rungs.eps.unique() == pytest.approx([32 / 255])
    ensembles = rungs[rungs.path == "combined_ensemble"]
    assert set(ensembles["alpha_from"]) == {"clean"}
    clean = frame.query("attack == 'clean' and alpha_from == 'clean'")
    (alpha,) = clean.loc[clean["path"] == "combined_ensemble", "alpha"]
    assert ensembles["alpha"].tolist() == pytest.approx([alpha] * 3)


def test_accuracy_is_that_of_the_scoring_draws(whole: Path):
    frame = pd.read_csv(whole / "accuracy.csv")
    tables = tables_of(whole)
    for name, draws in (("reconstruction", 1), ("combined_ensemble", 3)):
        table = tables[f"digits-digits-square-{name}-test"]
        assert table.draws[name].shape == (5, draws, 10)
        assert table.key.target == name
        right = table.draws[name].argmax(axis=2) == table.label[:, None]
        row = frame[(frame.tier == "square") & (frame.path == name)]
        assert row.accuracy.item() == pytest.approx(right.mean())


def test_only_random_paths_are_attacked_at_a_known_draw(whole: Path):
    tables = tables_of(whole)
    fixed = {
        name.removeprefix("digits-digits-").removesuffix("-test")
        for name, table in tables.items()
        if table.fixed
    }
    assert fixed == {"bpda_encoder-combined_ensemble", "unrolled-combined_ensemble"}


def test_attacked_images_stay_in_the_ball_and_their_cost_is_known(whole: Path):
    for name, table in tables_of(whole).items():
        if not table.key.target:
            continue
        cost = table.cost
        assert cost["distance_linf"].max() <= 32 / 255 + 1e-6, name
        assert np.isfinite(cost["select_margin"]).all()
        assert (cost["attack_success"] == (cost["select_margin"] > 0)).all()
        if table.key.tier != "square":
            still_right = cost["margin_first"] <= 0
            assert (cost["attack_backwards"][still_right] > 0).all(), name


@pytest.mark.usefixtures("without_probes")
def test_batch_size_and_resuming_change_no_decision(
    whole: Path, empty_cache: Path, tmp_path: Path
):
    suite = write_suite(tmp_path)
    run(suite, out=tmp_path / "run", batch_size=5)
    other = tables_of(tmp_path / "run")
    for name, table in tables_of(whole).items():
        for path, draws in table.draws.items():
            np.testing.assert_allclose(
                draws, other[name].draws[path], atol=2e-3, err_msg=name
            )
    gone = sorted(empty_cache.glob("predictions/*/*/*.entry"))[::3]
    for entry in gone:
        entry.unlink()
    run(suite, out=tmp_path / "run", batch_size=5)
    assert gone
    assert all(entry.exists() for entry in gone)
    for name, table in tables_of(tmp_path / "run").items():
        for path, draws in table.draws.items():
            np.testing.assert_array_equal(draws, other[name].draws[path])


def test_the_report_has_checks_and_a_verdict_for_every_row(whole: Path):
    frame = pd.read_csv(whole / "accuracy.csv")
    assert set(frame.verdict) <= {"TRUSTED", "SUSPECT", "INVALID"}
    assert set(frame[frame.attack == "clean"].verdict) == {"TRUSTED"}
    text = (whole / "report.md").read_text()
    for number in range(1, 17):
        assert re.search(rf"^\| S{number} ", text, re.MULTILINE), number
    evidence = load_evidence(whole / "probes" / "digits-digits.json")
    assert {(g.path, g.tier) for g in evidence.gradients} == {
        (path, tier)
        for path in ("reconstruction", "combined_ensemble")
        for tier in ("bpda_encoder", "unrolled")
    }
    assert {r.path: r.detected for r in evidence.randomness} == {
        "image": False,
        "reconstruction": False,
        "stylemix_ensemble": True,
        "combined_ensemble": True,
        "image_ensemble": True,
    }
    assert all(r.repeatable and not r.uses_global_rng for r in evidence.randomness)


def test_a_rebuilt_report_is_the_same(whole: Path):
    before = {
        name: (whole / name).read_bytes()
        for name in ("report.md", "report.json", "accuracy.csv")
    }
    with pytest.raises(SystemExit) as ended:
        main(["report", str(whole)])
    assert ended.value.code in (0, 3)
    assert before == {name: (whole / name).read_bytes() for name in before}


PLUGIN = '''
import torch
from torch import nn
from robustgen.classifiers.load import load_classifier


class Noisy(nn.Module):
    """Adds noise from the global generator, as users do."""

    def __init__(self, std):
        super().__init__()
        self.classifier, self.std = load_classifier("digits"), std

    def forward(self, images):
        noise = self.std * torch.randn_like(images)
        return self.classifier((images + noise).clamp(0, 1))


class Constant(nn.Module):
    def forward(self, images):
        return torch.eye(10)[3].expand(len(images), 10)


def noisy():
    return Noisy(0.1)


def constant():
    return Constant()
'''


def whole_suite(folder: Path, name: str) -> Path:
    (folder / "my_defense.py").write_text(PLUGIN, encoding="utf-8")
    pair = {**PAIR, "defense": {"factory": f"my_defense:{name}"}}
    return write_suite(
        folder,
        profiles={"embedded": {"pairs": [pair]}},
        tiers=["oblivious", "bpda_identity", "bpda_encoder", "unrolled", "square"],
        ladder={"budget": BUDGET, "norm": "linf", "eps": "32/255"},
        splits={"val": 4, "test": 12},
        paths=["image", "defense"],
    )


def test_a_random_defense_of_ones_own_gets_tiers_draws_and_a_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    suite = whole_suite(tmp_path, "noisy")
    report = run(suite, out=tmp_path / "run", plugins=["my_defense"], batch_size=5)
    rows = report.accuracy[report.accuracy.path == "defense"]
    tiers = list(dict.fromkeys(rows.tier))
    assert tiers == ["none", "oblivious", "bpda_identity", "unrolled", "square"]
    assert rows.verdict.ne("").all()
    assert set(report.randomness.draws) == {3}
    evidence = load_evidence(tmp_path / "run/probes/digits-digits.json")
    ((path, tier, reason),) = evidence.skipped_tiers
    assert (path, tier) == ("defense", "bpda_encoder")
    assert "surrogate" in reason
    again = run(suite, out=tmp_path / "again", plugins=["my_defense"], batch_size=12)
    pd.testing.assert_frame_equal(report.accuracy, again.accuracy)


def test_a_constant_defense_ends_with_status_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    suite = whole_suite(tmp_path, "constant")
    with pytest.raises(SystemExit) as ended:
        main(["run", str(suite), "--plugin", "my_defense", "--out", "run"])
    assert ended.value.code == 3
    assert "INVALID" in capfd.readouterr().err
    frame = pd.read_csv("run/accuracy.csv")
    assert set(frame[frame.path == "defense"].verdict) == {"INVALID"}
    assert set(frame[frame.path == "image"].verdict) <= {"TRUSTED", "SUSPECT"}


def test_a_whole_defense_needs_its_plugin(tmp_path: Path):
    with pytest.raises(SystemExit) as ended:
        main(["run", str(whole_suite(tmp_path, "noisy")), "--out", str(tmp_path / "r")])
    assert ended.value.code == 2


def test_a_factory_that_returns_no_module_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    suite = whole_suite(tmp_path, "torch.zeros")
    suite.write_text(suite.read_text().replace("torch.zeros", "PAIR"))
    (tmp_path / "my_defense.py").write_text("def PAIR():\n    return 3\n")
    monkeypatch.delitem(__import__("sys").modules, "my_defense", raising=False)
    with pytest.raises(SystemExit) as ended:
        main(["run", str(suite), "--plugin", "my_defense", "--out", "run"])
    assert ended.value.code == 2
    assert "expected a torch.nn.Module" in capfd.readouterr().err


def test_budgets_of_presets_rise():
    smoke, standard, paper = (BUDGETS[name] for name in ("smoke", "standard", "paper"))
    for name in ("steps", "queries", "latent_steps", "score_draws", "select_draws"):
        values = [getattr(budget, name) for budget in (smoke, standard, paper)]
        assert values == sorted(values), name
