"""Changes of light, and the pixels that tell classes apart."""

import math
from pathlib import Path

import pytest
import torch
import yaml

from robustgen.classifiers.load import load_classifier
from robustgen.errors import RequestError
from robustgen.gan.encoder import EncoderConfig, SplitEncoder
from robustgen.rngs import rng_for
from robustgen.training.classifier import class_weights
from robustgen.training.generated import load_view_maker
from robustgen.training.images import TrainingImages, augment, blur, relight
from robustgen.training.losses import gradient_l1, laplacian_l1
from robustgen.training.recipe import AugmentationRecipe
from robustgen.training.relevance import relevance_weights
from robustgen.training.train import train


def grays(n: int, side: int = 16) -> torch.Tensor:
    return torch.rand(n, 1, side, side, generator=rng_for(0, "grays"))


def test_no_strength_leaves_the_light_alone():
    x = grays(3)
    lit = relight(x, 0.0, rng_for(0, "light"))
    torch.testing.assert_close(lit, x, atol=1e-4, rtol=0)
    assert torch.equal(augment(x, AugmentationRecipe(), rng_for(0, "light")), x)


def test_light_bends_a_flat_image_into_a_plane():
    x = torch.full((200, 1, 9, 9), 0.5)
    lit = relight(x, 0.5, rng_for(0, "light"))
    # No detail is added: the second differences along both axes vanish.
    across = lit[..., 2:] - 2 * lit[..., 1:-1] + lit[..., :-2]
    assert float(across.abs().max()) < 1e-6
    # At half strength: exponents in [2^-0.5, 2^0.5], brightness within 0.075.
    center = lit[..., 4, 4]
    assert float(center.min()) >= 0.5 ** math.sqrt(2) - 0.075 - 1e-6
    assert float(center.max()) <= 0.5 ** math.sqrt(0.5) + 0.075 + 1e-6
    slope = lit[..., 4, -1] - lit[..., 4, 0]
    assert 0.2 < float(slope.abs().max()) <= 0.25 + 1e-6


def test_light_is_drawn_for_each_image():
    x = grays(1).expand(4, -1, -1, -1)
    lit = augment(x, AugmentationRecipe(light=0.5), rng_for(0, "light"))
    assert len({float(image.mean()) for image in lit}) == 4
    assert 0 <= float(lit.min()) <= float(lit.max()) <= 1


def test_blur_is_drawn_for_each_image_and_keeps_the_mean():
    x = grays(3, 32)
    std = torch.tensor([0.0, 1.0, 3.0])
    blurred = blur(x, std)
    torch.testing.assert_close(blurred[0], x[0])
    # A point spreads to the weights of a normal distribution.
    point = torch.zeros(1, 1, 33, 33)
    point[..., 16, 16] = 1
    spread = blur(point, torch.tensor([2.0]))[0, 0]
    assert float(spread.sum()) == pytest.approx(1.0, abs=1e-5)
    ratio = float(spread[16, 18] / spread[16, 16])
    assert ratio == pytest.approx(math.exp(-(2**2) / (2 * 2**2)), rel=1e-5)
    torch.testing.assert_close(spread, spread.T)
    detail = (blurred[..., 1:] - blurred[..., :-1]).abs().mean(dim=(1, 2, 3))
    assert detail[0] > detail[1] > detail[2]


def test_reflection_moves_no_black_into_the_image():
    x = torch.full((50, 1, 16, 16), 0.7)
    moved = AugmentationRecipe(shift=3.0, rotate=20.0)
    black = augment(x, moved, rng_for(0, "move"))
    kept = augment(
        x, moved.model_copy(update={"border": "reflection"}), rng_for(0, "move")
    )
    assert float(black.min()) == 0
    torch.testing.assert_close(kept, x)


def test_relevance_finds_the_region_that_tells_classes_apart():
    images = grays(400, side=64)
    labels = torch.arange(400) % 2
    # Class 1 has stripes in the lower middle, elsewhere both are noise.
    images[labels == 1, :, 44:52, 24:40] *= 0.2
    data = TrainingImages((images * 255).byte(), labels)
    weight = relevance_weights(data, 4.0)
    assert weight.shape == (1, 1, 64, 64)
    assert float(weight.mean()) == pytest.approx(1.0)
    inside = float(weight[..., 44:52, 24:40].mean())
    outside = float(weight[..., :32, :].mean())
    assert inside > 3 * outside
    assert float(weight.max() / weight.min()) <= 5.0 + 1e-5
    torch.testing.assert_close(weight, weight.flip(3))
    torch.testing.assert_close(relevance_weights(data, 0.0), torch.ones(1, 1, 64, 64))


def test_pixel_weights_weigh_the_losses():
    a, b = grays(2), grays(2) * 0.5
    ones = torch.ones(1, 1, 16, 16)
    assert laplacian_l1(a, b, weight=ones) == laplacian_l1(a, b)
    assert gradient_l1(a, b, ones) == gradient_l1(a, b)
    left = ones.clone()
    left[..., 8:] = 0
    c = a.clone()
    c[..., 8:] += 0.3  # differs where the weight is zero alone
    assert float(laplacian_l1(a, c, weight=left)) == pytest.approx(0.0, abs=1e-6)


def test_the_coarse_code_alone_sees_other_light():
    encoder = SplitEncoder(EncoderConfig(32, 1, 8, 5, 3, 2, widths=(4, 6, 8, 8, 8)))
    x, other = grays(2, 32), grays(2, 32).flip(0)
    plain, both = encoder.styles(x), encoder.styles(x, relit=other)
    assert torch.equal(both[:, 5:], plain[:, 5:])
    torch.testing.assert_close(both[:, :5], encoder.styles(other)[:, :5])


def test_classes_weigh_the_same():
    labels = torch.tensor([0] * 30 + [1] * 10)
    weight = class_weights(TrainingImages(torch.zeros(40, 1, 2, 2).byte(), labels), 2)
    assert weight.tolist() == pytest.approx([40 / 60, 40 / 20])
    assert float(weight[labels].mean()) == pytest.approx(1.0)


def test_batches_are_the_same_on_every_device():
    data = TrainingImages((grays(8) * 255).byte(), torch.arange(8))
    there = TrainingImages(data.images, data.labels, "meta")
    x, labels = there.batch(4, AugmentationRecipe(shift=1.0), 0, "p", 0)
    assert x.device.type == labels.device.type == "meta"
    assert there.images.device.type == "cpu"


def test_views_keep_a_third_of_the_images():
    make = load_view_maker("digits", "cpu")
    x = grays(300, 32)
    made = make(x, rng_for(0, "views"))
    same = (made == x).flatten(1).all(dim=1)
    assert 70 < int(same.sum()) < 130
    encoded = make.gan.synthesize(make.encoder(x)).clamp(0, 1)
    near = (made - encoded).abs().flatten(1).amax(dim=1) < 1e-4
    assert 70 < int((near & ~same).sum()) < 130
    assert torch.equal(make(x, rng_for(0, "views")), made)


VIEWS = """
name: tiny_views
about: Digits and their views.
dataset: digits
images: 64
seed: 5
augmentation: {}
classifier: {steps: 2, batch: 8, widths: [4, 4, 4], balanced: true, views_of: digits}
"""


def test_a_recipe_may_train_on_views(tmp_path: Path):
    path = tmp_path / "views.yaml"
    path.write_text(VIEWS)
    card = yaml.safe_load(train(path, tmp_path / "out").read_text())
    assert card["recipe"]["classifier"]["views_of"] == "digits"
    assert load_classifier(tmp_path / "out" / "classifier.safetensors")(
        torch.rand(2, 1, 32, 32)
    ).shape == (2, 10)
    path.write_text(VIEWS.replace("views_of: digits", "views_of: digit"))
    with pytest.raises(RequestError, match=r"'digit'.*'digits'"):
        train(path, tmp_path / "other")
