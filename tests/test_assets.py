"""The assets that ship are what their cards say."""

from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import yaml

from robustgen.assets import asset_path
from robustgen.classifiers.cnn import SmallCNN
from robustgen.classifiers.load import load_classifier
from robustgen.data.dataset import Dataset
from robustgen.data.digits import load_digits
from robustgen.data.faces import load_faces
from robustgen.files import sha256_of
from robustgen.gan.load import load_encoder, load_gan
from robustgen.names import EMBEDDED
from robustgen.rngs import rng_for
from robustgen.sources import data_folder
from robustgen.training.classifier import accuracy_under_pgd
from robustgen.training.images import stored_dataset
from robustgen.training.quality import accuracy
from robustgen.training.recipe import load_recipe
from robustgen.views.pca import fit_gan_pca, load_pca

NAMES = ("digits", "faces")
ROBUST = "digits_robust"
REAL = ("mnist", "smiles")
"""Assets of real images, which are fetched."""

ATTRIBUTE_CLASSIFIERS = tuple(
    name for name in EMBEDDED["classifier"] if name.startswith("faces_")
)


def card_of(name: str) -> dict[str, Any]:
    return yaml.safe_load(asset_path(name, "card.yaml").read_text(encoding="utf-8"))


def validation(name: str) -> Dataset:
    dataset = load_digits() if name == "digits" else load_faces(val=200)
    return dataset.part("val", 200)


@pytest.mark.parametrize("name", EMBEDDED["classifier"])
def test_files_are_those_of_the_card(name: str):
    card = card_of(name)
    folder = asset_path(name, "card.yaml").parent
    assert set(card["sha256"]) == {p.name for p in folder.glob("*.safetensors")}
    for file, digest in card["sha256"].items():
        assert sha256_of(folder / file) == digest
    recipe = load_recipe(folder / "recipe.yaml")
    # A card may be older than a key of the recipes; the default then is what it did.
    assert type(recipe).model_validate(card["recipe"]) == recipe
    assert card["license"]
    families = {*NAMES, *REAL}
    stages = {"autoencoder", "adversarial", "mapping"} if name in families else set()
    assert card["wall_seconds"].keys() >= stages | {"classifier"}


def test_all_files_together_are_small():
    folder = Path(asset_path("faces", "card.yaml")).parents[1]
    sizes = {p: p.stat().st_size for p in folder.rglob("*.safetensors")}
    real = {p for p in sizes if p.parent.name.split("_")[0] in REAL}
    assert {p.parent.name for p in real} == {*REAL, *(f"{n}_views" for n in REAL)}
    assert sum(sizes[p] for p in real) <= 15_000_000
    assert sum(sizes[p] for p in sizes.keys() - real) <= 12_000_000


@pytest.mark.parametrize("name", NAMES)
def test_figures_of_the_card_hold(name: str):
    card, part = card_of(name), validation(name)
    images, labels = torch.from_numpy(part.images), torch.from_numpy(part.labels)
    gan, encoder = load_gan(name), load_encoder(name)
    classifier = load_classifier(name)
    with torch.no_grad():
        output = gan.synthesize(encoder(images)).clamp(0, 1)
        right = (classifier(images).argmax(dim=1) == labels).double().mean()
        kept = (classifier(output).argmax(dim=1) == labels).double().mean()
    quality = card["quality"]
    # 200 images here; the card of faces counts 1,000: three standard errors.
    assert float(right) == pytest.approx(quality["classifier_accuracy"], abs=0.015)
    assert float(kept) == pytest.approx(quality["encoder_only_accuracy"], abs=0.02)
    l1 = float((output - images).abs().mean())
    assert l1 == pytest.approx(quality["encoder_only_l1"], abs=0.001)
    assert float(right) >= 0.97
    assert float(kept) >= 0.97


@pytest.mark.parametrize(
    ("name", "least", "kept_least"), [("mnist", 0.98, 0.95), ("smiles", 0.92, 0.87)]
)
def test_figures_of_real_images_hold(
    name: Literal["mnist", "smiles"], least: float, kept_least: float
):
    if not (data_folder() / name).is_dir():
        pytest.skip(f"ROBUSTGEN_DATA has no {name}")
    card, dataset = card_of(name), stored_dataset(name)
    part = dataset.part("val", 300)
    images, labels = torch.from_numpy(part.images), torch.from_numpy(part.labels)
    gan, encoder, classifier = load_gan(name), load_encoder(name), load_classifier(name)
    start = card["layers"]["fine"][0]
    with torch.no_grad():
        w_plus = encoder(images).clone()
        output = gan.synthesize(w_plus).clamp(0, 1)
        w = gan.map(torch.randn(300, gan.z_dim, generator=rng_for(0, "assets")))
        w_plus[:, start:] = w[:, None]
        view = gan.synthesize(w_plus).clamp(0, 1)
        right, kept, same, views = (
            float((classifier(a).argmax(dim=1) == b).double().mean())
            for a, b in (
                (images, labels),
                (output, labels),
                (view, classifier(output).argmax(dim=1)),
                (images, load_classifier(f"{name}_views")(images).argmax(dim=1)),
            )
        )
    quality = card["quality"]
    # 300 of about 1,000 images: three standard errors.
    assert right == pytest.approx(quality["classifier_accuracy"], abs=0.04)
    assert kept == pytest.approx(quality["encoder_only_accuracy"], abs=0.05)
    assert same == pytest.approx(quality["stylemix_view_keeps_decision"], abs=0.03)
    l1 = float((output - images).abs().mean())
    assert l1 == pytest.approx(quality["encoder_only_l1"], abs=0.002)
    assert right >= least
    assert kept >= kept_least
    assert same >= 0.95
    assert views >= 0.9


@pytest.mark.parametrize("name", ATTRIBUTE_CLASSIFIERS)
def test_classifiers_of_attributes(name: str):
    card = card_of(name)
    attribute = card["recipe"]["attribute"]
    part = load_faces(val=300, attribute=attribute).part("val")
    assert name == f"faces_{attribute}"
    assert list(part.class_names) == card["classes"]
    with torch.no_grad():
        found = load_classifier(name)(torch.from_numpy(part.images)).argmax(dim=1)
    right = float((found.numpy() == part.labels).mean())
    assert right == pytest.approx(card["quality"]["classifier_accuracy"], abs=0.015)
    assert right >= 0.98


def test_training_on_attacked_images_holds_what_its_card_says():
    """Under PGD the control keeps what the ordinary classifier loses."""
    card, part = card_of(ROBUST), validation("digits")
    images, labels = torch.from_numpy(part.images), torch.from_numpy(part.labels)
    robust, ordinary = load_classifier(ROBUST), load_classifier("digits")
    assert isinstance(robust, SmallCNN)
    assert isinstance(ordinary, SmallCNN)
    quality = card["quality"]
    clean = accuracy(robust, images, labels)
    assert clean == pytest.approx(quality["classifier_accuracy"], abs=0.005)
    assert clean >= 0.93
    eps = card["recipe"]["classifier"]["adversarial"]["eps"]
    assert eps == 32 / 255
    few, true = images[:60], labels[:60]
    kept = accuracy_under_pgd(robust, few, true, eps, seed=0)
    # The card counts 200 images: three standard errors of 60.
    assert kept == pytest.approx(quality["accuracy_under_pgd_40"], abs=0.12)
    assert accuracy_under_pgd(robust, few, true, eps / 2, seed=0) >= 0.85
    assert accuracy_under_pgd(ordinary, few, true, eps / 2, seed=0) <= 0.05


@pytest.mark.parametrize("name", NAMES)
def test_layers_of_the_card_carry_shape_and_color(name: str):
    """Codes of other images in the fine layers change color, not the coarse picture."""
    card, gan = card_of(name), load_gan(name)
    start, stop = card["layers"]["fine"]
    assert card["layers"]["coarse"] == [0, start]
    assert stop == gan.num_layers
    w_plus = load_encoder(name)(torch.from_numpy(validation(name).images))
    w = gan.map(torch.randn(len(w_plus), gan.z_dim, generator=rng_for(0, "assets")))
    mixed = w_plus.clone()
    mixed[:, start:stop] = w[:, None]
    classifier = load_classifier(name)
    with torch.no_grad():
        before = gan.synthesize(w_plus).clamp(0, 1)
        after = gan.synthesize(mixed).clamp(0, 1)
        same = classifier(before).argmax(dim=1) == classifier(after).argmax(dim=1)
    assert float(same.double().mean()) >= 0.97
    assert float((before - after).abs().mean()) > 0.002


@pytest.mark.parametrize("name", NAMES)
def test_mean_and_pca_are_those_of_the_mapping(name: str):
    gan, stats = load_gan(name), load_pca(asset_path(name, "pca.safetensors"))
    again = fit_gan_pca(gan, seed=1, samples=20_000)
    leading = slice(0, 5)
    torch.testing.assert_close(
        again.stddev[leading], stats.stddev[leading], rtol=0.05, atol=0
    )
    w = gan.map(torch.randn(20_000, gan.z_dim, generator=rng_for(2, "mean")))
    average = gan.map(w[:1, : gan.z_dim], truncation=0.0)[0]
    spread = w.std(dim=0).clamp(min=1e-3)
    assert float(((w.mean(dim=0) - average) / spread).abs().mean()) < 0.05
