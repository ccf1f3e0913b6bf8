"""Training: parts against closed forms, and one tiny recipe end to end."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch.nn.functional import cross_entropy

from robustgen.classifiers.cnn import SmallCNN
from robustgen.classifiers.load import load_classifier
from robustgen.data.digits import load_digits
from robustgen.errors import RequestError
from robustgen.files import sha256_of
from robustgen.gan.load import load_encoder, load_gan
from robustgen.rngs import rng_for
from robustgen.training import autoencoder
from robustgen.training.autoencoder import build_autoencoder, decode, mix_codes
from robustgen.training.classifier import attacked
from robustgen.training.images import augment, load_training_images
from robustgen.training.losses import (
    gradient_l1,
    laplacian_l1,
    non_saturating,
    r1_penalty,
    ssim,
)
from robustgen.training.mapping import sliced_wasserstein
from robustgen.training.perceptual import contrastive_loss
from robustgen.training.quality import frechet_distance
from robustgen.training.recipe import (
    AttackedTraining,
    AugmentationRecipe,
    Recipe,
    load_recipe,
)
from robustgen.training.train import find_recipe, train

TINY = """
name: tiny
about: A recipe that takes a second.
dataset: digits
images: 200
seed: 3
generator:
  resolution: 32
  img_channels: 1
  channels: [8, 8, 4, 4]
  mapping_layers: 1
  coarse_dim: 6
  fine_dim: 2
  coarse_layers: 4
  thumbnail: 2
augmentation: {shift: 1.0}
autoencoder: {steps: 6, batch: 4, warmup: 2}
adversarial: {steps: 4, batch: 4}
mapping:
  {normal_steps: 3, steps: 3, batch: 64, projections: 8, codes: 500, pca_samples: 500}
classifier: {steps: 3, batch: 8, widths: [4, 8, 8]}
perceptual: {steps: 2, batch: 8, widths: [4, 4, 4]}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


def images(name: str, n: int = 2) -> torch.Tensor:
    return torch.rand(n, 1, 16, 16, generator=rng_for(0, name))


def test_losses_of_equal_images_are_zero():
    x = images("a")
    assert laplacian_l1(x, x) == 0
    assert gradient_l1(x, x) == 0
    assert float(ssim(x, x)) == pytest.approx(1.0)


def test_losses_of_a_constant_shift():
    x = images("a") * 0.5
    # A shift has no detail: only the coarsest level of the pyramid sees it.
    assert float(laplacian_l1(x + 0.1, x)) == pytest.approx(0.1, abs=1e-6)
    assert float(gradient_l1(x + 0.1, x)) == pytest.approx(0.0, abs=1e-6)


def test_r1_of_a_linear_critic_is_its_squared_norm():
    weight = torch.randn(256, generator=rng_for(0, "w"))
    x = images("a").requires_grad_()
    penalty = r1_penalty(x.flatten(1) @ weight, x)
    assert float(penalty) == pytest.approx(float(weight.square().sum()), rel=1e-5)
    zero = torch.zeros(3)
    assert float(non_saturating(zero, real=True)) == pytest.approx(np.log(2))


def test_sliced_wasserstein_of_a_shift():
    a = torch.randn(500, 4, generator=rng_for(0, "codes"))
    shift = torch.tensor([0.3, 0.0, -0.1, 0.2])
    directions = torch.eye(4)
    distance = sliced_wasserstein(a + shift, a[torch.randperm(500)], directions)
    assert float(distance) == pytest.approx(float(shift.square().mean()), rel=1e-4)


def test_frechet_distance_of_known_normals():
    rng = np.random.default_rng(0)
    a = torch.from_numpy(rng.standard_normal((200_000, 2)))
    b = a * torch.tensor([2.0, 1.0]) + torch.tensor([1.0, 0.0])
    # |(1, 0)|^2 + (1 - 2)^2 for independent axes.
    assert frechet_distance(a, b) == pytest.approx(2.0, abs=0.02)
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-6)


def test_contrastive_loss_prefers_the_partner():
    a = torch.eye(4)
    # Partner at cosine 1, six others at 0, of 8 views less oneself.
    expected = -np.log(np.exp(5) / (np.exp(5) + 6))
    assert float(contrastive_loss(a, a, 0.2)) == pytest.approx(expected, rel=1e-5)


def test_augmentation_without_changes_is_the_identity():
    x = images("a")
    assert torch.equal(augment(x, AugmentationRecipe(), rng_for(0, "r")), x)


def test_augmentation_flips_half():
    x = images("a", 400)
    flipped = augment(x, AugmentationRecipe(flip=True), rng_for(0, "r"))
    same = (flipped == x).flatten(1).all(dim=1)
    mirrored = (flipped == x.flip(3)).flatten(1).all(dim=1)
    assert bool((same | mirrored).all())
    assert 140 < int(same.sum()) < 260


def test_a_batch_belongs_to_its_step(recipe: Path):
    plan = load_recipe(recipe)
    data = load_training_images(plan)
    assert data.images.shape == (200, 1, 32, 32)
    one, labels = data.batch(4, plan.augmentation, 0, "p", 7)
    again, _ = data.batch(4, plan.augmentation, 0, "p", 7)
    other, _ = data.batch(4, plan.augmentation, 0, "p", 8)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert labels.shape == (4,)


def test_fine_code_cannot_reach_coarse_layers(recipe: Path):
    plan = load_recipe(recipe)
    assert isinstance(plan, Recipe)
    model = build_autoencoder(plan)
    w = torch.randn(2, 8, generator=rng_for(0, "w"))
    w_plus = w[:, None].repeat(1, 8, 1)
    changed = w_plus.clone()
    changed[:, :4, 6:] += 1  # the fine part, in coarse layers
    changed[:, 4:, :6] += 1  # the coarse part, in fine layers
    assert torch.equal(model.gan.synthesize(w_plus), model.gan.synthesize(changed))
    # So one code for all layers is the code of the parts.
    mixed = mix_codes(w, plan, rng_for(0, "order"))
    assert torch.equal(mixed[:, :6], w[:, :6])
    assert sorted(mixed[:, 6].tolist()) == sorted(w[:, 6].tolist())
    assert decode(model.gan, w).shape == (2, 1, 32, 32)


def test_an_interrupted_training_gives_the_same_files(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(autoencoder, "CHECKPOINT_EVERY", 2)
    before = torch.random.get_rng_state()
    train(recipe, tmp_path / "whole")
    assert torch.equal(before, torch.random.get_rng_state())

    real, calls = autoencoder.update_average, []

    def fail_on_the_fifth(*args: object) -> None:
        calls.append(args)
        if len(calls) == 5:
            raise KeyboardInterrupt
        real(*args)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(autoencoder, "update_average", fail_on_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "killed")
    train(recipe, tmp_path / "killed")

    whole = yaml.safe_load((tmp_path / "whole" / "card.yaml").read_text())
    killed = yaml.safe_load((tmp_path / "killed" / "card.yaml").read_text())
    assert set(whole["sha256"]) == {
        "classifier.safetensors",
        "encoder.safetensors",
        "generator.safetensors",
        "pca.safetensors",
        "perceptual.safetensors",
    }
    assert whole["sha256"] == killed["sha256"]
    assert whole["quality"] == killed["quality"]
    courses = [
        [line.split(",") for line in path.read_text().splitlines()]
        for path in (
            tmp_path / run / "checkpoints" / f"{stage}.csv"
            for stage in ("stage1", "stage2")
            for run in ("whole", "killed")
        )
    ]
    # Steps and losses; the second column is seconds.
    kept = [[[row[0], *row[2:]] for row in course] for course in courses]
    assert kept[0] == kept[1]
    assert kept[2] == kept[3]
    assert [row[0] for row in kept[0]] == ["step", "2", "4", "6"]
    assert kept[2][0] == ["step", "pixels", "critic", "cycle"]
    for name, digest in whole["sha256"].items():
        assert sha256_of(tmp_path / "whole" / name) == digest

    gan = load_gan(tmp_path / "whole" / "generator.safetensors")
    encoder = load_encoder(tmp_path / "whole" / "encoder.safetensors")
    w_plus = encoder(torch.zeros(2, 1, 32, 32))
    assert gan.synthesize(w_plus).shape == (2, 1, 32, 32)

    with pytest.raises(RequestError, match="another recipe or seed"):
        train(recipe, tmp_path / "whole", seed=4)


def test_progress_is_logged(
    recipe: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.INFO):
        train(recipe, tmp_path / "out")
    assert "stage1 step 6, " in caplog.text
    assert "stage2 step 4, " in caplog.text


def test_recipes_are_checked(tmp_path: Path):
    path = tmp_path / "bad.yaml"
    path.write_text(TINY.replace("coarse_dim: 6", "coarse_dimm: 6"))
    with pytest.raises(RequestError) as caught:
        load_recipe(path)
    message = str(caught.value)
    assert "generator.coarse_dim: Field required" in message
    assert "generator.coarse_dimm: Extra inputs are not permitted" in message
    with pytest.raises(RequestError, match="cannot be read"):
        load_recipe(tmp_path / "none.yaml")
    path.write_bytes(b"name: \xff")
    with pytest.raises(RequestError, match="UTF-8"):
        load_recipe(path)
    with pytest.raises(RequestError, match=r"'facs'.*'faces'"):
        find_recipe("facs")
    assert find_recipe("faces").name == "recipe.yaml"


CLASSIFIER = """
name: tiny_hair
about: Hair colors.
dataset: faces
attribute: hair
images: 64
seed: 5
augmentation: {flip: true}
classifier: {steps: 2, batch: 8, widths: [4, 4, 4]}
"""


def test_a_recipe_without_generator_trains_a_classifier_alone(tmp_path: Path):
    path = tmp_path / "hair.yaml"
    path.write_text(CLASSIFIER)
    card = yaml.safe_load(train(path, tmp_path / "out").read_text())
    assert card["classes"] == ["black", "brown", "light brown", "blond", "red", "grey"]
    weights = tmp_path / "out" / "classifier.safetensors"
    assert card["sha256"] == {weights.name: sha256_of(weights)}
    assert load_classifier(weights)(torch.rand(2, 3, 32, 32)).shape == (2, 6)
    again = train(path, tmp_path / "again").parent / weights.name
    assert sha256_of(again) == sha256_of(weights)
    # Images do not depend on the label; labels are those of the renderer.
    plan = load_recipe(path)
    hair = load_training_images(plan)
    smile = load_training_images(plan.model_copy(update={"attribute": None}))
    assert torch.equal(hair.images, smile.images)
    assert set(hair.labels.tolist()) == set(range(6))
    assert set(smile.labels.tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("attribute: hare", "data set 'faces' has no 'hare'. Did you mean 'hair'?"),
        ("dataset: digits\nattribute: hair", "data set 'digits' has no 'hair'."),
    ],
)
def test_an_unknown_attribute_is_refused(tmp_path: Path, changed: str, message: str):
    path = tmp_path / "hair.yaml"
    text = CLASSIFIER.replace("attribute: hair", changed)
    if "digits" in changed:
        text = text.replace("dataset: faces\n", "")
    path.write_text(text)
    with pytest.raises(RequestError) as caught:
        load_recipe(path)
    assert message in str(caught.value)


ATTACKED = """
name: tiny_robust
about: Digits, trained on attacked images.
dataset: digits
images: 64
seed: 5
augmentation: {}
classifier:
  steps: 3
  batch: 8
  widths: [4, 4, 4]
  adversarial: {eps: 32/255, steps: 3, step_size: 24/255, warmup: 2}
"""


def test_a_recipe_may_train_on_attacked_images(tmp_path: Path):
    path = tmp_path / "robust.yaml"
    path.write_text(ATTACKED)
    card = yaml.safe_load(train(path, tmp_path / "out").read_text())
    assert card["recipe"]["classifier"]["adversarial"]["eps"] == 32 / 255
    assert set(card["quality"]) == {
        "images",
        "classifier_accuracy",
        "accuracy_under_pgd_40",
    }
    weights = tmp_path / "out" / "classifier.safetensors"
    again = train(path, tmp_path / "again").parent / weights.name
    assert sha256_of(again) == sha256_of(weights)
    path.write_text(ATTACKED.replace(", warmup: 2", ""))
    other = train(path, tmp_path / "other").parent / weights.name
    assert sha256_of(other) != sha256_of(weights)


def test_training_attacks_stay_in_their_ball_and_raise_the_loss():
    data = load_digits().part("train", 32)
    images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)
    model = load_classifier("digits")
    assert isinstance(model, SmallCNN)
    recipe = AttackedTraining(eps=0.1, steps=3, step_size=0.07, warmup=4)
    statistics = model.state_dict()
    before = {name: tensor.clone() for name, tensor in statistics.items()}

    found = attacked(model, images, labels, recipe, step=3, seed=0)
    assert model.training  # as training left it
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    model.eval()
    assert float((found - images).abs().max()) <= 0.1 + 1e-6
    assert float(cross_entropy(model(found), labels)) > 1.0
    assert float(cross_entropy(model(images), labels)) < 0.2

    early = attacked(model, images, labels, recipe, step=0, seed=0)
    assert float((early - images).abs().max()) <= 0.025 + 1e-6
    one = attacked(model, images[:1], labels[:1], recipe, step=3, seed=0)
    torch.testing.assert_close(one, found[:1])


def test_training_attacks_that_cannot_cross_their_ball_are_refused(tmp_path: Path):
    path = tmp_path / "weak.yaml"
    path.write_text(ATTACKED.replace("step_size: 24/255", "step_size: 1/255"))
    with pytest.raises(RequestError, match="cannot cross its ball"):
        load_recipe(path)


def test_a_finished_network_is_kept_until_its_recipe_changes(
    recipe: Path, tmp_path: Path
):
    out = tmp_path / "out"
    first = yaml.safe_load(train(recipe, out).read_text())["sha256"]
    marker = out / "checkpoints" / "classifier.json"
    before = marker.stat().st_mtime_ns
    assert yaml.safe_load(train(recipe, out).read_text())["sha256"] == first
    assert marker.stat().st_mtime_ns == before
    # A damaged file is trained again.
    weights = out / "checkpoints" / "classifier.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert yaml.safe_load(train(recipe, out).read_text())["sha256"] == first
    recipe.write_text(TINY.replace("classifier: {steps: 3", "classifier: {steps: 4"))
    second = yaml.safe_load(train(recipe, out).read_text())["sha256"]
    changed = {name for name in first if first[name] != second[name]}
    assert changed == {"classifier.safetensors"}


def test_half_precision_files_hold_what_was_measured(recipe: Path, tmp_path: Path):
    whole = train(recipe, tmp_path / "whole").parent
    recipe.write_text(TINY.replace("thumbnail: 2", "thumbnail: 2\n  stored: float16"))
    half = train(recipe, tmp_path / "half").parent
    for name in ("generator.safetensors", "encoder.safetensors"):
        ratio = (half / name).stat().st_size / (whole / name).stat().st_size
        assert 0.5 < ratio < 0.65
    full = load_gan(whole / "generator.safetensors").state_dict()
    for name, value in load_gan(half / "generator.safetensors").state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, full[name].half().float()), name
