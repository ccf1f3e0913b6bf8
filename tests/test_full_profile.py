"""The full profiles end to end, on trees of files in the released layouts.

The weights are seeded numbers, so the accuracies mean nothing; that everything fits
together, from files to tables, is what is shown.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from data.trees import cars_tree, cats_tree, celebahq_tree, cifar10_tree
from gan.published import (
    nvidia_names,
    persistent,
    seeded_gan,
    small_config,
    write_snapshot,
)
from released import (
    alexnet_trunk,
    resnet_classifier,
    rgbm_encoder,
    rosinality,
    write_celebahq_weights,
    write_files,
)
from seeded_weights import seeded_state

from robustgen.classifiers.cifar_resnet import CifarResNet18
from robustgen.cli import main
from robustgen.library import suites_folder
from robustgen.table import PredictionTable, load_table

pytestmark = pytest.mark.usefixtures("without_figures")

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


@pytest.mark.usefixtures("empty_cache", "without_probes")
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
    # Twelve faces are not CelebA-HQ: `auto` does not take them for it.
    assert run(str(suite), "--limit", "1", "--dry-run") == 0
    out = capsys.readouterr().out
    assert out.startswith("Profile: embedded")
    assert "celebahq/images/images (12 of 30,000 files)" in out


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


CARDS = {
    "cars": "resolution: 64\nstyle_layers: 10\nlayers: {fine: [6, 10]}\n"
    "alignment: {method: box_center, content: [48, 64], mask: canvas}\n"
    "classifier_input: {crop: [48, 64], resize: [32, 43], center_crop: 32}\n",
    "cats": "resolution: 64\nstyle_layers: 10\nlayers: {coarse: [0, 4]}\n"
    "alignment: {mask: grey, grey_threshold: 0.02}\n"
    "classifier_input: {center_crop: 56}\n",
    "cifar10": "resolution: 32\nstyle_layers: 8\nclasses: 10\nlayers: {fine: [7, 8]}\n"
    "validation_images: 4\n",
}


def smaller(folder: Path, name: str, **views: object) -> Path:
    """A shipped suite on clean images, with two views, one step and a small domain."""
    text = (suites_folder() / f"{name}.yaml").read_text(encoding="utf-8")
    suite = yaml.safe_load(text)
    full = suite["profiles"]["full"]
    full["pairs"][0]["domain"] = "card.yaml"
    full["projection"] |= {"steps": 1, "passes": 2}
    full["attacks"] = ["clean"]
    suite["views"] |= {"count": 2, **views}
    suite["ensemble"]["size"] = 2
    (folder / "card.yaml").write_text(f"version: 1\nname: small\n{CARDS[name]}")
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump(suite))
    return path


def clean_table(suite: Path) -> PredictionTable:
    """Runs a suite on one image of each split and returns its clean test table."""
    assert run(str(suite), "--limit", "1", "--profile", "full", "--out", "out") == 0
    (path,) = Path("out/tables").glob("*-clean-test.npz")
    return load_table(path)


def test_cars_are_masked_and_vary_along_released_directions(assets: Path):
    cars_tree(assets / "data" / "cars", [1, 2, 4] * 4)
    weights = assets / "weights"
    files = {
        "sgans_stylegan2-car-config-f.pt": rosinality(64, narrow=16),
        "sgan_encoders_car_RGBM_model_initial.pth.tar": rgbm_encoder(10),
        "pretrained_classifiers/car/imageclassifier/net_best.pth": resnet_classifier(3),
        "alexnet-owt-7be5be79.pth": alexnet_trunk(),
    }
    write_files(weights, files)
    rng = np.random.default_rng(0)
    np.savez(
        weights / "stylegan2_car_stats.npz",
        components=np.linalg.qr(rng.normal(size=(512, 20)))[0].T,
        stddev=np.linspace(2, 1, 20),
    )
    suite = smaller(assets, "cars", family="pca", beta=3)
    table = clean_table(suite)
    assert table.class_names == ("SUV", "Sedan", "Cab")
    assert table.views["combined_ensemble"].shape == (1, 2, 3)
    assert not np.allclose(*table.views["stylemix_ensemble"][0])


def test_cats_vary_in_coarse_layers(assets: Path):
    cats_tree(assets / "data" / "cats", 4, 64)
    files = {
        "sgans_stylegan2-cat-config-f.pt": rosinality(64, narrow=16),
        "sgan_encoders_cat_RGBM_model_initial.pth.tar": rgbm_encoder(10),
        "pretrained_classifiers/cat/imageclassifier/net_best.pth": resnet_classifier(3),
        "alexnet-owt-7be5be79.pth": alexnet_trunk(),
    }
    write_files(assets / "weights", files)
    table = clean_table(smaller(assets, "cats"))
    assert table.class_names == ("Abyssinian", "Bengal", "Maine Coon")
    assert table.views["stylemix_ensemble"].shape == (1, 2, 3)


def test_cifar10_starts_at_the_mean_code_of_the_class(assets: Path):
    cifar10_tree(assets / "data" / "cifar10", 4)
    weights = assets / "weights"
    with torch.random.fork_rng():
        classifier = seeded_state(CifarResNet18(10))
    files = {
        "pretrained_classifiers/cifar10/imageclassifier/ckpt.pth": {
            "net": {f"module.{name}": value for name, value in classifier.items()},
            "acc": 95.0,
            "epoch": 1,
        },
        "alexnet-owt-7be5be79.pth": alexnet_trunk(),
    }
    write_files(weights, files)
    gan = seeded_gan(small_config(32, num_classes=10, w_dim=8, z_dim=8))
    write_snapshot(weights / "cifar10.pkl", persistent(nvidia_names(gan)))
    means = np.random.default_rng(0).normal(size=(10, 8)).astype(np.float32)
    np.savez(weights / "stylegan2_cifar10c_wmean.npz", wmeans=means)
    table = clean_table(smaller(assets, "cifar10"))
    assert len(table.class_names) == 10
    assert table.views["stylemix_ensemble"].shape == (1, 2, 10)
    # The start is the code itself, so no latent term adds to the first loss, and one
    # step cannot lead above it.
    assert table.cost["final_loss"] <= table.cost["initial_loss"]


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
