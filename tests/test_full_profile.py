"""The full profiles end to end, on trees of files in the released layouts.

The weights are seeded numbers, so the accuracies mean nothing; that everything fits
together, from files to tables, is what is shown.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from data.trees import celebahq_tree
from released import write_celebahq_weights

from robustgen.cli import main
from robustgen.library import suites_folder
from robustgen.table import load_table

SMALL_DOMAIN = """
version: 1
name: celebahq_256
resolution: 256
style_layers: 14
layers: {coarse: [0, 4], middle: [4, 10], fine: [10, 14]}
views: {stylemix: [coarse, fine]}
jitter: {zoom: 33/32, flip: true, color: 0.05}
"""


@pytest.fixture
def assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROBUSTGEN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ROBUSTGEN_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["run", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def small_suite(folder: Path, views: int) -> Path:
    """`celebahq_smiling` with fewer views and passes, on images of 256 px."""
    text = (suites_folder() / "celebahq_smiling.yaml").read_text(encoding="utf-8")
    suite = yaml.safe_load(text)
    full = suite["profiles"]["full"]
    full["pairs"][0]["domain"] = "small.yaml"
    full["projection"] |= {"steps": 1, "passes": 2}
    suite["attacks"] = ["clean", "fgsm"]
    suite["views"]["count"] = views
    suite["ensemble"]["size"] = views
    (folder / "small.yaml").write_text(SMALL_DOMAIN)
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump(suite))
    return path


def check_run(folder: Path, samples: list[int], views: int) -> None:
    """Every table of the run is complete and was made of these test images."""
    accuracy = pd.read_csv(folder / "accuracy.csv")
    assert set(accuracy.profile) == {"full"}
    assert set(accuracy.attack) == {"clean", "fgsm"}
    assert len(accuracy) == 2 * 5 * 2 or len(accuracy) == 2 * 5
    for attack in ("clean", "fgsm"):
        table = load_table(
            folder / "tables" / f"celebahq-celebahq_smiling-{attack}-test.npz"
        )
        assert table.sample.tolist() == samples
        assert table.views["stylemix_ensemble"].shape == (len(samples), views, 2)
        for probabilities in (*table.single.values(), *table.views.values()):
            assert np.isfinite(probabilities).all()
            np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-5)
        moved = table.cost["distance_linf"]
        assert moved.max() <= 8 / 255 + 1e-6
        assert (moved > 0).all() == (attack == "fgsm")
        assert (table.cost["final_loss"] <= table.cost["initial_loss"]).all()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["profile"] == "full"
    assert len(manifest["assets_sha256"]) == 4


def test_released_layout_at_256_px(assets: Path, capsys: pytest.CaptureFixture[str]):
    numbers = celebahq_tree(assets / "data" / "celebahq", 12, 256)
    write_celebahq_weights(assets / "weights", 256, narrow=16)
    suite = small_suite(assets, views=2)

    assert run(str(suite), "--limit", "1", "--profile", "full", "--out", "out") == 0
    out = capsys.readouterr().out
    assert out.startswith("Profile: full")
    assert "celebahq/images/images holds 12 of 30,000 files." in out
    # Every fourth face is of the test split.
    check_run(assets / "out", numbers[3::4][:1], views=2)
    # With everything in place, `auto` takes it too, and nothing is computed again.
    before = (assets / "out" / "accuracy.csv").read_bytes()
    assert run(str(suite), "--limit", "1", "--out", "out") == 0
    assert capsys.readouterr().out.startswith("Profile: full")
    assert (assets / "out" / "accuracy.csv").read_bytes() == before


def test_missing_files_are_listed_with_size_and_origin(
    assets: Path, capsys: pytest.CaptureFixture[str]
):
    assert run("celebahq_smiling", "--profile", "full") == 2
    message = capsys.readouterr().err
    for file, size, origin in (
        ("celebahq/images/images", "40 GB", "progressive_growing_of_gans"),
        ("celebahq/list_attr_celeba.txt", "27 MB", "mmlab.ie.cuhk.edu.hk"),
        ("celebahq/list_eval_partition.txt", "3 MB", "mmlab.ie.cuhk.edu.hk"),
        ("sgans_stylegan2-ffhq-config-f.pt", "133 MB", "chail/gan-ensembling"),
        ("sgan_encoders_ffhq_RGBM_model_initial.pth.tar", "105 MB", "chail/"),
        ("celebahq/Smiling/net_best.pth", "280 MB", "chail/gan-ensembling"),
        ("alexnet-owt-7be5be79.pth", "244 MB", "pytorch.org"),
    ):
        assert file in message
        assert size in message
        assert origin in message
    assert "Traceback" not in message
    assert not (assets / "reports").exists()


@pytest.mark.slow
def test_released_layout_at_1024_px(assets: Path):
    numbers = celebahq_tree(assets / "data" / "celebahq", 12, 1024)
    write_celebahq_weights(assets / "weights", 1024)
    text = (suites_folder() / "celebahq_smiling.yaml").read_text(encoding="utf-8")
    suite = yaml.safe_load(text)
    suite["profiles"]["full"]["projection"] |= {"steps": 1, "passes": 2}
    suite["attacks"] = ["clean", "fgsm"]
    suite["views"]["count"] = suite["ensemble"]["size"] = 4
    path = assets / "suite.yaml"
    path.write_text(yaml.safe_dump(suite))
    assert run(str(path), "--limit", "2", "--profile", "full", "--out", "out") == 0
    check_run(assets / "out", numbers[3::4][:2], views=4)
