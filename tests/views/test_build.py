from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generators import LinearGan
from pydantic import TypeAdapter
from torch import Tensor

from robustgen.errors import RequestError
from robustgen.gan.layers import LayerRange
from robustgen.gan.stylegan2 import GanConfig, StyleGAN2
from robustgen.rngs import rng_for
from robustgen.view_settings import ViewSettings
from robustgen.views.boundary import fit_boundaries
from robustgen.views.build import build_views
from robustgen.views.directions import Directions, save_directions
from robustgen.views.draws import ViewFamily
from robustgen.views.pca import PcaStats, save_pca

DIM = 6
SIDE = 8
READER: TypeAdapter[ViewSettings] = TypeAdapter(ViewSettings)
GAN = StyleGAN2(
    GanConfig(SIDE, (6, 5), z_dim=DIM, w_dim=DIM, mapping_layers=1, img_channels=1),
    rng_for(0, "tests", "gan"),
).requires_grad_(False)
NAMED = {"coarse": LayerRange(0, 2), "fine": LayerRange(2, 4)}
WEIGHT = torch.randn(SIDE * SIDE, 3, generator=rng_for(0, "tests", "classifier"))
W_PLUS = GAN.map(torch.randn(4, DIM, generator=rng_for(0, "tests", "z")))[
    :, None
].repeat(1, 4, 1)
SAMPLES = (7, 3, 0, 11)


def _classify(images: Tensor) -> Tensor:
    return (images.flatten(1) - 0.5) @ WEIGHT


def _two(images: Tensor) -> Tensor:
    return _classify(images)[:, :2]


def _build(views: dict[str, Any], **changes: Any) -> ViewFamily:
    request: dict[str, Any] = {
        "gan": GAN,
        "classifier": _classify,
        "named_layers": NAMED,
        "pca": None,
        "seed": 0,
    }
    return build_views(READER.validate_python(views), **(request | changes))


@pytest.fixture(scope="module")
def pca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("assets") / "pca.safetensors"
    save_pca(PcaStats(torch.eye(DIM), torch.ones(DIM), None), path)
    return path


@pytest.mark.parametrize(
    "views",
    [
        {},
        {"family": "isotropic", "sigma": 0.5},
        {"family": "pca", "beta": 1.0},
        {"family": "sefa", "beta": 1.0},
        {"family": "boundary", "beta": 1.0, "samples": 300},
        {"family": "boundary", "beta": 1.0, "samples": 300, "orthogonal": True},
        {"family": "walk", "edits": ["zoom", "brightness"], "steps": 2},
    ],
    ids=lambda views: "-".join(views),
)
def test_every_family_varies_its_layers_by_sample(views: dict[str, Any], pca: Path):
    codes = _build({**views, "count": 5}, pca=pca)(W_PLUS, SAMPLES, None)
    assert codes.shape == (4, 5, 4, DIM)
    assert torch.equal(codes[:, :, :2], W_PLUS[:, None, :2].expand(-1, 5, -1, -1))
    moved = (codes[:, :, 2:] - W_PLUS[:, None, 2:]).abs().amax(dim=(2, 3))
    assert moved.min().item() > 0
    again = _build({**views, "count": 3}, pca=pca)
    assert torch.equal(again(W_PLUS[1:2], SAMPLES[1:2], None), codes[1:2, :3])


def test_layers_are_named_by_the_domain_or_all():
    for name, inside in (("coarse", [0, 1]), ("all", [0, 1, 2, 3])):
        vary = _build({"family": "isotropic", "sigma": 1, "layers": name, "count": 1})
        moved = vary(W_PLUS, SAMPLES, None) != W_PLUS[:, None]
        assert moved.any(dim=3)[0, 0].nonzero().flatten().tolist() == inside
    with pytest.raises(RequestError, match="Unknown layers 'middle'"):
        _build({"layers": "middle"})


def test_two_classes_share_a_normal():
    vary = _build({"family": "boundary", "beta": 1, "samples": 400}, classifier=_two)
    normal = fit_boundaries(GAN, _two, seed=0, samples=400).normals[0]
    delta = (vary(W_PLUS, SAMPLES, None) - W_PLUS[:, None])[:, :, 3]
    along = (delta @ normal)[..., None] * normal
    torch.testing.assert_close(along, delta, atol=1e-5, rtol=0)


def test_of_more_classes_a_view_crosses_the_boundary_of_its_own():
    vary = _build({"family": "boundary", "beta": 1, "samples": 400})
    normals = fit_boundaries(GAN, _classify, seed=0, samples=400).normals
    own = _classify(GAN.synthesize(W_PLUS).clamp(0, 1)).argmax(dim=1)
    assert len(own.unique()) > 1
    delta = (vary(W_PLUS, SAMPLES, None) - W_PLUS[:, None])[:, :, 3]
    along = torch.einsum("nvd,nd->nv", delta, normals[own])
    torch.testing.assert_close(
        along[..., None] * normals[own][:, None], delta, atol=1e-5, rtol=0
    )


def test_orthogonal_views_are_parallel_to_every_boundary():
    vary = _build({"family": "boundary", "beta": 3, "samples": 400, "orthogonal": True})
    normals = fit_boundaries(GAN, _classify, seed=0, samples=400).normals
    delta = (vary(W_PLUS, SAMPLES, None) - W_PLUS[:, None])[:, :, 3]
    assert (delta @ normals.T).abs().max().item() < 1e-5


def test_only_a_conditional_generator_gets_the_classes():
    seen: list[Tensor | None] = []

    class Mapping(LinearGan):
        def map(
            self, z: Tensor, labels: Tensor | None = None, truncation: float = 1.0
        ) -> Tensor:
            seen.append(labels)
            return z

    gan = Mapping(torch.ones(4, DIM), torch.ones(DIM), side=2)
    gan.num_layers = 4
    classes = torch.tensor([2, 0, 1, 2])
    _build({"count": 1}, gan=gan)(W_PLUS, SAMPLES, classes)
    assert seen == [None] * 4
    gan.num_classes = 3
    seen.clear()
    _build({"count": 1}, gan=gan)(W_PLUS, SAMPLES, classes)
    found = [int(labels[0]) for labels in seen if labels is not None]
    assert found == classes.tolist()


def test_directions_come_from_files(tmp_path: Path):
    normal = np.eye(1, DIM, 2, dtype=np.float32)
    np.save(tmp_path / "normal.npy", normal)
    walks = Directions(
        torch.eye(DIM)[:2, None].expand(-1, 2, -1).contiguous(),
        torch.ones(2),
        ("zoom", "rotate"),
        NAMED["fine"],
    )
    save_directions(walks, tmp_path / "walks.safetensors", family="walk")
    pca = PcaStats(torch.eye(DIM)[4:5], torch.ones(1), None)
    save_pca(pca, tmp_path / "pca.safetensors")
    torch.save({"eigvec": torch.eye(DIM)[:, 3:4]}, tmp_path / "factor.pt")
    for family, name, more, axis in (
        ("boundary", "normal.npy", {}, 2),
        ("walk", "walks.safetensors", {"edits": ("rotate",)}, 1),
        ("pca", "pca.safetensors", {}, 4),
        ("sefa", "factor.pt", {}, 3),
    ):
        file = str(tmp_path / name)
        views = {"family": family, "beta": 1.0, "directions": file, **more}
        delta = _build(views)(W_PLUS, SAMPLES, None) - W_PLUS[:, None]
        moved = (delta.abs() > 1e-6).any(dim=0).any(dim=0)
        assert moved.nonzero().tolist() == [[2, axis], [3, axis]]
    with pytest.raises(RequestError, match=r"factor\.pt: no walks\. .*save_directions"):
        _build({"family": "walk", "directions": str(tmp_path / "factor.pt")})
    both = {"family": "walk", "directions": str(tmp_path / "walks.safetensors")}
    with pytest.raises(RequestError, match=r"no walk for 'shift_x'\. Known: zoom, "):
        _build({**both, "edits": ("shift_x",)})
    assert _build(both)(W_PLUS, SAMPLES, None).shape == (4, 32, 4, DIM)


@pytest.mark.parametrize(
    ("views", "message"),
    [
        (
            {"family": "isotropic"},
            "views: family 'isotropic' needs `sigma`: the domain has no strength for "
            "layers fine.",
        ),
        (
            {"family": "sefa", "layers": (0, 2)},
            r"views: family 'sefa' needs `beta`: .* layers \(0, 2\)\.",
        ),
        (
            {"family": "pca", "beta": 1},
            "views: family 'pca' needs statistics of the generator",
        ),
        (
            {"family": "boundary", "beta": 1, "samples": 100, "share": 0.1},
            "views: class 0 is predicted for 0 of 100 random images",
        ),
    ],
)
def test_what_is_missing_is_named(views: dict[str, Any], message: str):
    def never_0(images: Tensor) -> Tensor:
        return _classify(images) - torch.tensor([1e3, 0, 0])

    with pytest.raises(RequestError, match=message):
        _build(views, classifier=never_0)


def test_sefa_needs_the_weights_of_a_stylegan():
    gan = LinearGan(torch.ones(4, DIM), torch.ones(DIM), side=2)
    with pytest.raises(RequestError, match="needs the style weights of a StyleGAN2"):
        _build({"family": "sefa", "beta": 1.0, "layers": (0, 2)}, gan=gan)
