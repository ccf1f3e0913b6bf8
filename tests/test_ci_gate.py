"""The gate of this project's own CI: what it must notice."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from robustgen.cli import main
from robustgen.cli.gate import gate_run
from robustgen.gate import load_baseline
from robustgen.projectors import loss
from robustgen.runner import run

ROOT = Path(__file__).parents[1]
SUITE = ROOT / "suites" / "ci.yaml"
BASELINE = ROOT / "reports" / "baselines" / "ci.json"


def test_the_baseline_is_of_the_suite_and_holds_attack_and_defense():
    suite = yaml.safe_load(SUITE.read_text())
    baseline = load_baseline(BASELINE)
    assert baseline.suite == suite["name"]
    rows = {(row.attack, row.path) for row in baseline.rows}
    assert rows >= {
        ("clean", "reconstruction"),
        ("clean", "stylemix_ensemble"),
        ("pgd", "image"),
        ("bpda_encoder", "reconstruction"),
    }
    assert {row.n for row in baseline.rows} == {suite["splits"]["test"]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([str(SUITE), "--limit", "5"], "--limit 5: leave it out"),
        (["digits"], "the baseline is of suite 'ci'"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_it_runs(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    out = tmp_path / "run"
    with pytest.raises(SystemExit) as ended:
        main(["run", *arguments, "--baseline", str(BASELINE), "--out", str(out)])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.slow
def test_a_sign_flipped_in_the_projection_fails_the_gate(
    empty_cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    right = loss.loss_of

    def flipped(*args: Any, **terms: Any) -> Any:
        return -right(*args, **terms)

    monkeypatch.setattr(loss, "loss_of", flipped)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    run(SUITE, out=tmp_path / "run")
    # 3 where the attack, against which so little is left, is also found unconverged.
    assert gate_run(tmp_path / "run", BASELINE) in (1, 3)
    (row,) = (
        row
        for row in json.loads((tmp_path / "run" / "gate.json").read_bytes())["rows"]
        if (row["attack"], row["path"]) == ("bpda_encoder", "reconstruction")
    )
    assert row["verdict"] in ("defense weaker", "refused")
    assert row["difference"] < -0.5
