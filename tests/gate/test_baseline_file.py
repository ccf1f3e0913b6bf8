"""Baselines: what is kept of a run, and what a file must hold."""

import json
from pathlib import Path
from typing import Any

import pytest
from gate_runs import N, row, write_run

from robustgen.errors import RequestError
from robustgen.evidence import DataEvidence, load_evidence, save_evidence
from robustgen.gate import load_baseline, write_baseline
from robustgen.gate.snapshot import path_definition


@pytest.fixture
def written(tmp_path: Path) -> Path:
    write_baseline(write_run(tmp_path / "run"), tmp_path / "b.json")
    return tmp_path / "b.json"


def test_a_baseline_holds_every_trusted_test_row(written: Path):
    found = load_baseline(written)
    named = [str(one.name) for one in found.rows]
    assert named == [
        f"{attack} on {path}"
        for attack in ("clean", "jpeg")
        for path in (
            "image",
            "reconstruction",
            "stylemix_ensemble (matched)",
            "stylemix_ensemble (clean)",
            "image_ensemble (matched)",
            "image_ensemble (clean)",
        )
    ]
    by_name = {str(one.name): one for one in found.rows}
    image = by_name["jpeg on image"]
    assert (image.of, image.n, sum(image.right), image.eps) == (1, N, 40, float("inf"))
    assert image.right == (1,) * 40 + (0,) * 20
    ensemble = by_name["jpeg on stylemix_ensemble (clean)"]
    assert (ensemble.of, ensemble.right[0], ensemble.right[-1]) == (20, 20, 0)
    (pair,) = found.pairs
    assert (pair.sample[0], len(pair.sample), pair.label[:3]) == (100, N, (0, 1, 0))
    assert pair.paths["image"] == {}
    assert pair.paths["reconstruction"] == {"projection": {"passes": 6}}
    assert set(pair.paths["image_ensemble"]) == {"jitter", "ensemble", "views"}
    assert pair.paths["image_ensemble"]["views"] == {"count": 32}
    assert (found.suite, found.seed, found.assets_sha256["classifier: cnn"]) == (
        "gated",
        3,
        "aa",
    )
    assert found.attacks["jpeg"]["settings"] == {"kind": "jpeg", "severity": 3}


def test_the_samples_of_a_row_stand_on_one_line(written: Path):
    lines = written.read_text().splitlines()
    right = [line for line in lines if line.strip().startswith('"right"')]
    assert len(right) == 12
    assert all(line.count("1") + line.count("0") >= N for line in right)
    assert max(map(len, lines)) < 6 * N


def test_the_same_run_gives_the_same_bytes(written: Path, tmp_path: Path):
    write_baseline(tmp_path / "run", tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == written.read_bytes()


def test_rows_that_are_not_trusted_are_left_out_with_their_checks(tmp_path: Path):
    run = write_run(tmp_path / "run", right={"clean": 58, "jpeg": 40, "pgd": 30})
    found = write_baseline(run, tmp_path / "b.json")
    assert {one.attack for one in found.rows} == {"clean", "jpeg"}
    key = "faces/cnn: pgd (oblivious) on reconstruction"
    assert found.left_out[key].startswith("SUSPECT; S")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"checked": False}, "no check has run"),
        ({"limit": 8}, "--limit 8"),
    ],
)
def test_a_run_that_cannot_be_a_baseline_is_refused(
    tmp_path: Path, changes: dict[str, Any], said: str
):
    run = write_run(tmp_path / "run", **changes)
    with pytest.raises(RequestError, match=said):
        write_baseline(run, tmp_path / "b.json")
    assert not (tmp_path / "b.json").exists()


def test_a_run_without_a_trusted_row_is_refused(tmp_path: Path):
    run = write_run(tmp_path / "run")
    # The data set had more test images than the tables hold: INVALID by S16.
    data = DataEvidence(
        split="test", asked=80, found=80, label_counts=(40, 40), duplicate_images=0
    )
    probes = run / "probes" / "faces-cnn.json"
    save_evidence(load_evidence(probes).model_copy(update={"data": (data,)}), probes)
    with pytest.raises(RequestError, match=r"no row is TRUSTED[\s\S]*INVALID; S16"):
        write_baseline(run, tmp_path / "b.json")
    assert not (tmp_path / "b.json").exists()


def test_a_missing_or_foreign_file_is_refused(tmp_path: Path):
    path = tmp_path / "b.json"
    with pytest.raises(RequestError, match=r"cannot read.*robustgen baseline"):
        load_baseline(path)
    for text, said in (
        ("{", "not valid JSON"),
        ("[]", "not a baseline"),
        ('{"version": 2}', "version 2, but this robustgen reads version 1"),
        ('{"version": 1}', "damaged: created"),
    ):
        path.write_text(text)
        with pytest.raises(RequestError, match=said):
            load_baseline(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("right", [0] * N),
        ("right", [1] * (N - 1)),
        ("right", [2] * N),
        ("accuracy", 0.5),
        ("of", 0),
        ("verdict", "SUSPECT"),
        ("verdict", "GOOD"),
        ("dataset", "digits"),
        ("path", "reconstruction"),
        ("surprise", 1),
    ],
)
def test_a_changed_row_is_refused(written: Path, field: str, value: object):
    data = json.loads(written.read_text())
    data["rows"][0][field] = value
    written.write_text(json.dumps(data))
    with pytest.raises(RequestError, match="robustgen baseline"):
        load_baseline(written)


def test_every_cut_of_a_file_is_refused(written: Path):
    whole = written.read_bytes()
    for length in range(0, len(whole) - 2, 997):
        written.write_bytes(whole[:length])
        with pytest.raises(RequestError):
            load_baseline(written)


def test_a_definition_names_files_without_the_folders_of_a_machine():
    settings = {"projection": {"passes": 4}, "views": {"directions": "/a/b/pca.npz"}}
    found = path_definition("stylemix_ensemble", settings, {"domain": "/a/d.yaml"})
    assert found["views"] == {"directions": "pca.npz"}
    assert found["domain"] == "d.yaml"


def test_names_say_tier_and_target():
    assert str(row([1]).name) == "pgd (oblivious) on reconstruction"
    aimed = row([1], attack="unrolled", tier="unrolled", target="reconstruction")
    assert str(aimed.name) == "unrolled on reconstruction"
