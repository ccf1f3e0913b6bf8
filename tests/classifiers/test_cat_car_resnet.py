"""The classifiers of cats and cars, against torchvision's own ResNet-18."""

import functools
from pathlib import Path

import pytest
import torch
from seeded_weights import seeded_state, unlike
from torch import Tensor
from torchvision.models import resnet18

from robustgen.classifiers.load import load_classifier
from robustgen.classifiers.preprocess import Preprocess
from robustgen.errors import RequestError
from robustgen.rngs import rng_for


@functools.cache
def state_of(classes: int) -> dict[str, Tensor]:
    with torch.device("meta"):
        return seeded_state(resnet18(weights=None, num_classes=classes), seed=classes)


def released(state: dict[str, Tensor]) -> dict[str, object]:
    """What the released training script saves."""
    return {
        "state_dict": state,
        "optimizer": {
            "state": {0: {"step": 7, "exp_avg": torch.zeros(3)}},
            "param_groups": [{"lr": 1e-4, "betas": (0.5, 0.999), "params": [0]}],
        },
        "epoch": 41,
        "valacc": torch.tensor([96.25]),
    }


@pytest.mark.parametrize(("classes", "prefix"), [(3, ""), (12, "module.")])
def test_logits_are_those_of_torchvision(classes: int, prefix: str, tmp_path: Path):
    state = state_of(classes)
    assert len(state) == 122
    assert state["fc.weight"].shape == (classes, 512)
    path = tmp_path / "net_best.pth"
    torch.save(released({prefix + name: value for name, value in state.items()}), path)
    classifier = load_classifier(path)

    with torch.device("meta"):
        network = resnet18(weights=None, num_classes=classes).eval()
    network.load_state_dict(state, assign=True)
    images = torch.rand(2, 3, 64, 64, generator=rng_for(0, "images"))
    expected = network((images - 0.5) / 0.5)
    torch.testing.assert_close(classifier(images), expected, rtol=1e-6, atol=1e-6)
    assert not classifier.training
    assert not any(p.requires_grad for p in classifier.parameters())


def test_cars_of_512_pixels_are_classified_behind_their_preparation(tmp_path: Path):
    torch.save(released(state_of(3)), tmp_path / "net_best.pth")
    classifier = load_classifier(tmp_path / "net_best.pth")
    cars = Preprocess(classifier, crop=(384, 512), resize=(256, 342), center_crop=256)
    images = torch.rand(1, 3, 512, 512, generator=rng_for(0, "images"))
    empty = images.clone()
    empty[:, :, :64] = empty[:, :, 448:] = 0
    assert cars(images).shape == (1, 3)
    assert torch.equal(cars(images), cars(empty))


def test_weights_of_unknown_origin_are_not_guessed(tmp_path: Path):
    path = tmp_path / "net.pth"

    def names(classes: int) -> dict[str, Tensor]:
        convs = dict.fromkeys(("conv1.weight", "layer4.1.conv2.weight"), torch.zeros(1))
        return convs | {"fc.weight": torch.zeros(classes, 512)}

    for content in (
        names(5),
        {"state_dict": names(5), "arch": "resnet18", "epoch": 3},
        {"state_dict": names(1000)},
    ):
        torch.save(content, path)
        with pytest.raises(RequestError, match="a ResNet-18, but how its images") as no:
            load_classifier(path)
        assert "'torchvision:resnet18'" in str(no.value)
        assert "'cat_car_resnet18'" in str(no.value)


def test_the_kind_decides_on_the_normalization(tmp_path: Path):
    path = tmp_path / "net.pth"
    torch.save(state_of(5), path)
    images = torch.rand(1, 3, 224, 224, generator=rng_for(0, "images"))
    centered = load_classifier(path, kind="cat_car_resnet18")
    imagenet = load_classifier(path, kind="torchvision:resnet18")
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    torch.testing.assert_close(
        imagenet(images), centered((images - mean) / std * 0.5 + 0.5)
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fc__bias": torch.zeros(7)}, r"'fc.bias' has shape \[7\], expected \[3\]"),
        ({"fc__weight": torch.zeros(1, 512)}, "'fc' gives one logit"),
        ({"conv1__weight": torch.zeros(64, 3, 3, 3)}, r"expected \[64, 3, 7, 7\]"),
        ({"layer1__1__bn3__bias": torch.zeros(64)}, "has unknown 'layer1.1.bn3.bias'"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(
    changes: dict[str, Tensor], message: str, tmp_path: Path
):
    path = tmp_path / "net_best.pth"
    torch.save(released(unlike(state_of(3), **changes)), path)
    with pytest.raises(RequestError, match=message) as caught:
        load_classifier(path)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 2


def test_deeper_networks_are_not_taken_for_it(tmp_path: Path):
    path = tmp_path / "net_best.pth"
    deeper = unlike(state_of(3), layer1__2__conv1__weight=torch.zeros(64, 64, 3, 3))
    torch.save(released(deeper), path)
    with pytest.raises(RequestError, match=r"no classifier .* 'torchvision:resnet50'"):
        load_classifier(path)
