"""Paths of the defense on networks whose answers are known."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import robustgen.defense
from robustgen import fingerprints
from robustgen.defense import ROWS, Defense, predict_paths, probabilities
from robustgen.projectors.loss import ProjectionLoss
from robustgen.projectors.method import Projection
from robustgen.projectors.projector import Projector
from robustgen.views.jitter import JitterSpec


class Brightness(nn.Module):
    """Logits `(0, c)` for an image whose mean is c."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(mean), mean], dim=1)


class Flat(nn.Module):
    """A generator of grey images: the code is the brightness, layer by layer."""

    num_layers, w_dim = 2, 1

    def synthesize(self, w_plus: Tensor) -> Tensor:
        return w_plus.sum(dim=(1, 2)).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)


class Half(nn.Module):
    """An encoder that finds the brightness exactly, half in each layer."""

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        return (images.mean(dim=(1, 2, 3)) / 2).view(-1, 1, 1).expand(-1, 2, 1)


def vary(w_plus: Tensor, samples: object, labels: object) -> Tensor:
    """Three views: darker by 0.1, the same, brighter by 2."""
    shift = torch.tensor([-0.05, 0.0, 1.0]).view(1, 3, 1, 1)
    return w_plus[:, None] + shift


def defense(*paths: str) -> Defense:
    loss = ProjectionLoss(perceptual=None, perceptual_weight=0.0, latent_weight=0.0)
    return Defense(
        classifier=Brightness(),
        projector=Projector(Flat(), Half(), loss=loss, passes=1),
        vary=vary,
        jitter=JitterSpec(zoom=1.0, flip=False, color=0.0),
        view_count=3,
        paths=frozenset(paths),
        seed=0,
    )


ALL = (
    "image",
    "reconstruction",
    "stylemix_ensemble",
    "combined_ensemble",
    "image_ensemble",
)
GREY = torch.tensor([0.2, 0.6]).view(2, 1, 1, 1).expand(2, 1, 4, 4)


def p1(brightness: float) -> float:
    return 1 / (1 + np.exp(-brightness))


def test_every_path_classifies_what_it_should():
    found = predict_paths(defense(*ALL), GREY, [7, 8])
    for single in ("image", "reconstruction"):
        np.testing.assert_allclose(
            found.single[single][:, 1], [p1(0.2), p1(0.6)], rtol=1e-6
        )
    # Brightness 0.1 less, the same, and 2 more, clamped to white.
    expected = [[p1(0.1), p1(0.2), p1(1.0)], [p1(0.5), p1(0.6), p1(1.0)]]
    for path in ("stylemix_ensemble", "combined_ensemble"):
        np.testing.assert_allclose(found.views[path][..., 1], expected, rtol=1e-6)
    # Without zoom, flip and color a jittered image is the image.
    same = [[p1(0.2)] * 3, [p1(0.6)] * 3]
    np.testing.assert_allclose(found.views["image_ensemble"][..., 1], same, rtol=1e-6)
    assert found.shown is not None
    assert found.shown.shape == (2, 3, 1, 4, 4)


class OfTwoClasses(Flat):
    num_classes = 2


class Watched:
    """A projector of a class-conditional generator that keeps what it is told."""

    def __init__(self) -> None:
        self.inner = defense("image", "reconstruction").projector
        self.gan = OfTwoClasses()
        self.told: dict[str, object] = {}

    def __call__(
        self,
        images: Tensor,
        mask: Tensor | None = None,
        *,
        samples: Sequence[int] | None = None,
        labels: Tensor | None = None,
    ) -> Projection:
        self.told = {"mask": mask, "samples": samples, "labels": labels}
        return self.inner(images, mask)


def test_masks_samples_and_classes_reach_projection_and_views():
    watched, seen = Watched(), list[object]()

    def noting(w_plus: Tensor, samples: object, labels: object) -> Tensor:
        seen.append(labels)
        return vary(w_plus, samples, labels)

    conditional = dataclasses.replace(defense(*ALL), projector=watched, vary=noting)
    mask = torch.ones(2, 1, 4, 4)
    mask[:, :, :2] = 0
    black_and_white = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])
    predict_paths(conditional, black_and_white, [7, 8], mask)
    assert watched.told["mask"] is mask
    assert watched.told["samples"] == [7, 8]
    # Brightness 0 ties and counts as class 0; white is class 1.
    labels = watched.told["labels"]
    assert isinstance(labels, Tensor)
    assert labels.tolist() == [0, 1]
    assert seen == [labels]


def test_large_views_are_made_in_blocks(monkeypatch: pytest.MonkeyPatch):
    together = predict_paths(defense(*ALL), GREY, [7, 8])
    # Three views of 16 pixels: one image at a time.
    monkeypatch.setattr(robustgen.defense, "VIEW_PIXELS", 50)
    apart = predict_paths(defense(*ALL), GREY, [7, 8])
    assert together.shown is not None
    assert apart.shown is not None
    assert torch.equal(together.shown, apart.shown)
    for path, views in together.views.items():
        torch.testing.assert_close(views, apart.views[path], atol=1e-6, rtol=0)


def test_paths_not_asked_for_cost_nothing():
    found = predict_paths(defense("image"), GREY, [0, 1])
    assert set(found.single) == {"image"}
    assert not found.views
    assert found.projection is None
    found = predict_paths(defense("image", "reconstruction"), GREY, [0, 1])
    assert found.shown is None
    assert found.projection is not None


def test_blocks_do_not_change_probabilities():
    images = torch.linspace(0, 1, ROWS + 3).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    found = probabilities(Brightness(), images)
    torch.testing.assert_close(found, Brightness()(images).softmax(dim=1))


def test_fingerprints_see_every_change():
    net = nn.Linear(2, 2, device="meta").to_empty(device="cpu")
    nn.init.ones_(net.weight)
    nn.init.ones_(net.bias)
    before = fingerprints.of_module(net)
    assert before == fingerprints.of_module(net)
    net.bias.data[0] += 1e-6
    assert fingerprints.of_module(net) != before
    assert fingerprints.of_module(nn.Identity()) != fingerprints.of_module(nn.ReLU())
    # Sizes that no tensor shows.
    assert fingerprints.of_module(nn.AvgPool2d(2)) != fingerprints.of_module(
        nn.AvgPool2d(4)
    )
    assert fingerprints.of_texts("ab", "c") != fingerprints.of_texts("a", "bc")
    assert fingerprints.of_source(len) == "built in"
    assert fingerprints.of_source(defense) != fingerprints.of_source(Defense)
    assert fingerprints.of_code() == fingerprints.of_code()
