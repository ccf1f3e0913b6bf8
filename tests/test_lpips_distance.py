"""LPIPS for projections, against the package it takes its fitted weights from."""

import functools
import warnings
from pathlib import Path

import lpips
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from seeded_weights import seeded_state, unlike
from torch import Tensor
from torchvision.models import get_model

from robustgen.errors import RequestError
from robustgen.lpips_distance import (
    LPIPS_NAMES,
    LpipsDistance,
    load_lpips,
    lpips_net_of,
    lpips_trunk_file,
)
from robustgen.perceptual import load_perceptual
from robustgen.projectors.loss import Perceptual
from robustgen.rngs import rng_for

NETS = ("alex", "vgg", "squeeze")
ARCHITECTURES = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet1_1"}
SMALLEST = {"alex": 31, "vgg": 16, "squeeze": 17}


@functools.cache
def trunk_state(net: str) -> dict[str, Tensor]:
    """The part `features.*` of a file of torchvision, with seeded numbers."""
    with torch.device("meta"):
        trunk = get_model(ARCHITECTURES[net], weights=None).get_submodule("features")
    return {f"features.{name}": value for name, value in seeded_state(trunk).items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trunks of all networks, under the names of torchvision's files."""
    folder = tmp_path_factory.mktemp("trunks")
    for net in NETS:
        # What torchvision publishes has its classifier, too.
        whole = trunk_state(net) | {"classifier.1.weight": torch.zeros(2, 3)}
        torch.save(whole, folder / lpips_trunk_file(net))
    return folder


@pytest.fixture(params=NETS)
def distance(request: pytest.FixtureRequest, folder: Path) -> LpipsDistance:
    return load_lpips(request.param, folder / lpips_trunk_file(request.param))


@functools.cache
def package(net: str) -> lpips.LPIPS:
    """The package's own network with the same numbers."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        # No numbers are drawn for the hundred million weights that it throws away.
        with pytest.MonkeyPatch.context() as patch:
            for draw in ("normal_", "uniform_", "kaiming_uniform_", "kaiming_normal_"):
                patch.setattr(torch.nn.init, draw, lambda tensor, *a, **k: tensor)
            made = lpips.LPIPS(net=net, pnet_rand=True, spatial=True, verbose=False)
    for name, tensor in made.net.state_dict().items():
        # `slice2.3.weight` is `features.3.weight`.
        tensor.copy_(trunk_state(net)[f"features.{name.partition('.')[2]}"])
    return made.requires_grad_(False)


def pictures(
    count: int = 2, height: int = 48, width: int = 64, seed: int = 0
) -> Tensor:
    return torch.rand(count, 3, height, width, generator=rng_for(seed, "pictures"))


def test_the_map_is_that_of_the_package(distance: LpipsDistance):
    a, b = pictures(seed=1), pictures(seed=2)
    mask = torch.rand(2, 1, 48, 64, generator=rng_for(0, "mask"))
    spatial = package(distance.net)(a * 2 - 1, b * 2 - 1)
    assert spatial.shape == (2, 1, 48, 64)
    expected = (spatial * mask).sum(dim=(1, 2, 3)) / mask.sum(dim=(1, 2, 3))
    torch.testing.assert_close(distance(a, b, mask), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        distance(a, b), spatial.mean(dim=(1, 2, 3)), rtol=1e-6, atol=1e-6
    )
    assert bool((distance(a, b) > 1e-3).all())


def test_the_gradient_is_that_of_the_package(distance: LpipsDistance):
    a, b = pictures(1, seed=1).requires_grad_(), pictures(1, seed=2)
    (ours,) = torch.autograd.grad(distance(a, b).sum(), a)
    (theirs,) = torch.autograd.grad(
        package(distance.net)(a * 2 - 1, b * 2 - 1).mean(), a
    )
    scale = float(theirs.abs().max())
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * scale)


def test_equal_images_are_0_apart_and_push_nowhere(distance: LpipsDistance):
    a = pictures(seed=1).requires_grad_()
    found = distance(a, a.detach(), torch.ones(2, 1, 48, 64))
    (gradient,) = torch.autograd.grad(found.sum(), a)
    assert torch.equal(found, torch.zeros(2))
    assert torch.equal(gradient, torch.zeros_like(a))


def test_gradients_are_finite_where_no_feature_responds(
    distance: LpipsDistance, folder: Path, tmp_path: Path
):
    # Every layer's bias far below 0: no ReLU lets anything through.
    path = tmp_path / "silent.pth"
    silent = {
        name: torch.full_like(value, -1e3) if name.endswith("bias") else value
        for name, value in trunk_state(distance.net).items()
    }
    torch.save(silent, path)
    dead = load_lpips(distance.net, path)
    a = pictures(seed=1).requires_grad_()
    for other in (dead.features(pictures(seed=2)), distance.features(pictures(seed=2))):
        found = dead.compare(dead.features(a), other)
        (gradient,) = torch.autograd.grad(found.sum(), a)
        assert bool(found.isfinite().all())
        assert torch.equal(gradient, torch.zeros_like(a))


def test_a_mask_weighs_the_pixels_of_the_map(distance: LpipsDistance):
    a, b = pictures(seed=1), pictures(seed=2)
    whole = torch.ones(2, 1, 48, 64)
    torch.testing.assert_close(distance(a, b, whole), distance(a, b))
    left, right = whole.clone(), whole.clone()
    left[..., 16:] = right[..., :16] = 0
    parts = distance(a, b, left) / 4 + distance(a, b, right) * 3 / 4
    torch.testing.assert_close(parts, distance(a, b))


def test_what_a_mask_hides_still_tells_near_its_edge(distance: LpipsDistance):
    a = pictures(1, 64, 256, seed=1)
    far, near = a.clone(), a.clone()
    far[..., 255:] = 1 - far[..., 255:]
    near[..., 32:] = 1 - near[..., 32:]
    mask = torch.zeros(1, 1, 64, 256)
    mask[..., :32] = 1
    assert float(distance(a, near, mask)) > 0
    if distance.net == "alex":
        # Its last features see 163 pixels.
        assert float(distance(a, far, mask)) == 0


def test_grey_is_seen_as_color(distance: LpipsDistance):
    a, b = pictures(seed=1)[:, :1], pictures(seed=2)[:, :1]
    color = distance(a.expand(-1, 3, -1, -1), b.expand(-1, 3, -1, -1))
    torch.testing.assert_close(distance(a, b), color)
    with pytest.raises(RequestError, match="Images of 2 channels, but lpips_"):
        distance.features(torch.zeros(1, 2, 64, 64))


def test_features_belong_to_their_image(distance: LpipsDistance):
    assert isinstance(distance, Perceptual)
    images = pictures(3, seed=1)
    features = distance.features(images)
    samples = torch.tensor([2, 0])
    some = tuple(feature[samples] for feature in features)
    other = distance.features(pictures(2, seed=2))
    torch.testing.assert_close(
        distance.compare(some, other), distance(images[samples], pictures(2, seed=2))
    )
    # The last one tells the size of the images, and takes no memory.
    assert features[-1].shape == (3, 0, 48, 64)
    assert len(features) == (8 if distance.net == "squeeze" else 6)


@given(st.integers(0, 31), st.floats(0.1, 1.0))
@settings(max_examples=10)
def test_the_distance_is_symmetric_and_blind_to_the_scale_of_a_mask(
    seed: int, level: float
):
    distance = _squeeze()
    a, b = pictures(1, 32, 32, seed=seed), pictures(1, 32, 32, seed=seed + 100)
    mask = torch.full((1, 1, 32, 32), level)
    torch.testing.assert_close(distance(a, b), distance(b, a))
    torch.testing.assert_close(distance(a, b, mask), distance(a, b))


@functools.cache
def _squeeze() -> LpipsDistance:
    with torch.device("meta"):
        trunk = get_model("squeezenet1_1", weights=None).get_submodule("features")
    assert isinstance(trunk, torch.nn.Sequential)
    trunk.load_state_dict(seeded_state(trunk), assign=True)
    return LpipsDistance("squeeze", trunk).eval().requires_grad_(False)


def test_small_images_work_down_to_a_limit_that_is_told(distance: LpipsDistance):
    side = SMALLEST[distance.net]
    a, b = pictures(1, side, 40, seed=1), pictures(1, side, 40, seed=2)
    assert float(distance(a, b)) > 0
    with pytest.raises(RequestError) as caught:
        distance.features(pictures(1, 40, side - 1))
    assert str(caught.value) == (
        f"Images of 40 x {side - 1} pixels are too small for lpips_{distance.net}, "
        f"which needs {side} on each side."
    )
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("net", "stored"), [("alex", 28), ("vgg", 488), ("squeeze", 117)]
)
def test_features_take_as_much_memory_as_documented(
    net: str, stored: int, folder: Path
):
    network = load_lpips(net, folder / lpips_trunk_file(net)).to("meta")
    features = network.features(torch.zeros(1, 3, 1024, 1024, device="meta"))
    mib = sum(feature.numel() for feature in features) * 4 / 2**20
    assert mib == pytest.approx(stored, abs=0.5)


def test_loading_is_silent_frozen_and_leaves_no_trace(
    folder: Path, capfd: pytest.CaptureFixture[str]
):
    before = torch.get_rng_state()
    made = load_lpips("alex", folder / lpips_trunk_file("alex"))
    made(pictures(seed=1), pictures(seed=2))
    assert torch.equal(before, torch.get_rng_state())
    assert capfd.readouterr() == ("", "")
    assert not made.training
    assert not any(p.requires_grad for p in made.parameters())


def test_all_fitted_weights_are_0_or_more_as_their_roots_need(distance: LpipsDistance):
    theirs = package(distance.net).state_dict()
    for level in range(len(distance.taps)):
        weights = theirs[f"lin{level}.model.1.weight"].flatten()
        assert bool((weights >= 0).all())
        kept = distance.get_buffer(f"kept{level}")
        assert kept.tolist() == weights.nonzero().flatten().tolist()
        roots = distance.get_buffer(f"roots{level}").flatten()
        torch.testing.assert_close(roots.square(), weights[kept])


@pytest.mark.parametrize("net", NETS)
def test_a_file_is_known_by_its_layers(net: str, folder: Path):
    assert lpips_net_of(trunk_state(net)) == net
    made = load_perceptual(folder / lpips_trunk_file(net))
    assert isinstance(made, LpipsDistance)
    assert made.net == net
    assert LPIPS_NAMES[f"lpips_{net}"] == net


def test_files_are_named_as_torchvision_publishes_them():
    assert [lpips_trunk_file(net) for net in NETS] == [
        "alexnet-owt-7be5be79.pth",
        "vgg16-397923af.pth",
        "squeezenet1_1-b8a52dc0.pth",
    ]
    with pytest.raises(RequestError, match=r"network of LPIPS 'alexx'\. Did you mean"):
        lpips_trunk_file("alexx")
    with pytest.raises(RequestError, match="Did you mean 'vgg'"):
        load_lpips("vgg16", "absent.pth")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"conv1.weight": torch.zeros(1)}, "no weights of torchvision's alexnet: it"),
        (
            {"features.0.weight": torch.zeros(64, 3, 11, 11)},
            r"lacks 'features.0.bias', .* and \d+ more",
        ),
        (
            unlike(trunk_state("alex"), features__3__bias=torch.zeros(3)),
            r"'features.3.bias' has shape \[3\], expected \[192\]",
        ),
        (
            unlike(
                trunk_state("alex"), features__3__bias=torch.full((192,), torch.nan)
            ),
            "'features.3.bias' holds NaN",
        ),
        (trunk_state("squeeze"), "lacks"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(
    state: dict[str, Tensor], message: str, tmp_path: Path
):
    path = tmp_path / "alexnet.pth"
    torch.save(state, path)
    with pytest.raises(RequestError, match=message) as caught:
        load_lpips("alex", path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_the_package_it_is_said_what_is_missing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RequestError, match="lpips is not installed: `pip install lpi"):
        load_lpips("squeeze", folder / lpips_trunk_file("squeeze"))
