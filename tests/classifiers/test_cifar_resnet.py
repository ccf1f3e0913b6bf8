"""The CIFAR ResNet-18, against the network written out once more."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from seeded_weights import seeded_state, unlike
from torch import Tensor

from robustgen.classifiers.cifar_resnet import CIFAR10_STATISTICS, CifarResNet18
from robustgen.classifiers.load import load_classifier
from robustgen.errors import RequestError
from robustgen.rngs import rng_for


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    with torch.device("meta"):
        return seeded_state(CifarResNet18(10))


def images() -> Tensor:
    return torch.rand(3, 3, 32, 32, generator=rng_for(0, "images"))


def _reference(state: Mapping[str, Tensor], x: Tensor) -> Tensor:
    def norm(name: str, x: Tensor) -> Tensor:
        return F.batch_norm(
            x,
            state[f"{name}.running_mean"],
            state[f"{name}.running_var"],
            state[f"{name}.weight"],
            state[f"{name}.bias"],
        )

    x = norm("bn1", F.conv2d(x, state["conv1.weight"], padding=1)).relu()
    for stage in (1, 2, 3, 4):
        for block in (0, 1):
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            y = F.conv2d(x, state[f"{name}.conv1.weight"], stride=stride, padding=1)
            y = norm(f"{name}.bn1", y).relu()
            y = norm(
                f"{name}.bn2", F.conv2d(y, state[f"{name}.conv2.weight"], padding=1)
            )
            if stride == 2:
                x = F.conv2d(x, state[f"{name}.shortcut.0.weight"], stride=2)
                x = norm(f"{name}.shortcut.1", x)
            x = (x + y).relu()
    x = F.avg_pool2d(x, 4).flatten(1)
    return x @ state["linear.weight"].T + state["linear.bias"]


def test_it_has_the_published_size_and_names():
    with torch.device("meta"):
        network = CifarResNet18(10)
    assert sum(p.numel() for p in network.parameters()) == 11_173_962
    shapes = {name: tuple(t.shape) for name, t in network.state_dict().items()}
    assert len(shapes) == 122
    assert shapes["conv1.weight"] == (64, 3, 3, 3)
    assert shapes["layer1.1.bn2.num_batches_tracked"] == ()
    assert shapes["layer2.0.shortcut.0.weight"] == (128, 64, 1, 1)
    assert shapes["layer4.0.shortcut.1.running_var"] == (512,)
    assert shapes["linear.weight"] == (10, 512)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_released_file_gives_the_logits_of_the_network(
    state: dict[str, Tensor], prefix: str, tmp_path: Path
):
    path = tmp_path / "ckpt.pth"
    net = {f"{prefix}{name}": value for name, value in state.items()}
    torch.save({"net": net, "acc": torch.tensor(95.1), "epoch": 199}, path)
    classifier = load_classifier(path)
    x = images()
    expected = _reference(state, x * 2 - 1)
    torch.testing.assert_close(classifier(x), expected, rtol=1e-5, atol=1e-5)
    assert not classifier.training
    assert not any(p.requires_grad for p in classifier.parameters())


def test_the_original_repository_normalizes_otherwise(
    state: dict[str, Tensor], tmp_path: Path
):
    torch.save({"net": state, "acc": 95.1, "epoch": 3}, tmp_path / "ckpt.pth")
    classifier = load_classifier(tmp_path / "ckpt.pth", kind="pytorch_cifar_resnet18")
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in CIFAR10_STATISTICS)
    x = images()
    expected = _reference(state, (x - mean) / std)
    torch.testing.assert_close(classifier(x), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(RequestError, match="'cifar_resnet18', but 'attribute' was"):
        load_classifier(tmp_path / "ckpt.pth", kind="attribute")


def test_loading_reads_no_global_random_state(state: dict[str, Tensor], tmp_path: Path):
    torch.save({"net": state}, tmp_path / "ckpt.pth")
    before = torch.get_rng_state()
    load_classifier(tmp_path / "ckpt.pth")
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"linear__weight": torch.zeros(1, 512)}, "'linear' gives one logit; one for"),
        ({"linear__weight": torch.zeros(4)}, "last layer 'linear.weight' .* not there"),
        ({"linear__bias": torch.zeros(9)}, r"'linear.bias' has shape \[9\], expected"),
        ({"bn1__bias": torch.full((64,), torch.nan)}, "'bn1.bias' holds NaN"),
        ({"bn2__bias": torch.zeros(64)}, r"has unknown 'bn2.bias'"),
        (
            {"layer2__0__shortcut__0__weight": torch.zeros(128, 64, 3, 3)},
            r"'layer2.0.shortcut.0.weight' has shape \[128, 64, 3, 3\], expected",
        ),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(
    state: dict[str, Tensor], changes: dict[str, Tensor], message: str, tmp_path: Path
):
    path = tmp_path / "ckpt.pth"
    torch.save({"net": unlike(state, **changes)}, path)
    with pytest.raises(RequestError, match=message) as caught:
        load_classifier(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_the_variant_that_normalizes_first_is_another_network(
    state: dict[str, Tensor], tmp_path: Path
):
    # Its blocks have no normalization in the shortcut.
    path = tmp_path / "ckpt.pth"
    torch.save({"net": {k: v for k, v in state.items() if "cut.1." not in k}}, path)
    with pytest.raises(RequestError, match=r"lacks 'layer2.0.shortcut.1.weight'"):
        load_classifier(path)
