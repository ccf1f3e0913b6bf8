"""Any classifier of torchvision, against torchvision itself."""

from pathlib import Path

import pytest
import torch
import torchvision.models
from safetensors.torch import save_file
from seeded_weights import seeded_state, unlike
from torch import Tensor, nn

from robustgen.classifiers.load import load_classifier
from robustgen.classifiers.torchvision_models import (
    _current_names,
    _last_layer,
    _options,
    torchvision_classifier,
    torchvision_names,
)
from robustgen.errors import RequestError
from robustgen.rngs import rng_for

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def build(name: str, **options: object) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        return torchvision.models.get_model(name, weights=None, **options).eval()


def normalized(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (images - mean) / std


def images(side: int = 224) -> Tensor:
    return torch.rand(1, 3, side, side, generator=rng_for(0, "images"))


@pytest.mark.parametrize("name", ["squeezenet1_1", "mnasnet0_5", "shufflenet_v2_x0_5"])
def test_logits_are_those_of_torchvision(name: str, tmp_path: Path):
    network = build(name, num_classes=4)
    state = seeded_state(network)
    save_file(state, tmp_path / "c.safetensors")
    torch.save({"model": state, "epoch": 7, "args": {}}, tmp_path / "c.pth")
    # Not the dict itself: mnasnet asks for the version that only its own has.
    for key, tensor in network.state_dict().items():
        tensor.copy_(state[key])
    expected = network(normalized(images()))
    for file in ("c.safetensors", "c.pth"):
        classifier = load_classifier(tmp_path / file, kind=f"torchvision:{name}")
        logits = classifier(images())
        assert logits.shape == (1, 4)
        torch.testing.assert_close(logits, expected, rtol=1e-6, atol=1e-6)
        assert not classifier.training
        assert not any(p.requires_grad for p in classifier.parameters())


def test_images_come_at_the_size_that_torchvision_evaluates_at(tmp_path: Path):
    network = build("squeezenet1_1", num_classes=2)
    state = seeded_state(network)
    network.load_state_dict(state)
    path = tmp_path / "c.pth"
    torch.save(state, path)
    large = images(300)[..., 30:270]
    at_224 = nn.functional.interpolate(
        large, (280, 224), mode="bilinear", antialias=True, align_corners=False
    )[:, :, 28:252]
    torch.testing.assert_close(
        torchvision_classifier("squeezenet1_1", path)(large),
        network(normalized(at_224)),
    )
    torch.testing.assert_close(
        torchvision_classifier("squeezenet1_1", path, resize=False)(images(64)),
        network(normalized(images(64))),
    )


def test_files_of_2017_lack_the_counters_of_batches(tmp_path: Path):
    network = build("shufflenet_v2_x0_5", num_classes=3)
    state = seeded_state(network)
    old = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    assert len(old) < len(state)
    torch.save(old, tmp_path / "c.pth")
    network.load_state_dict(state)
    classifier = torchvision_classifier("shufflenet_v2_x0_5", tmp_path / "c.pth")
    torch.testing.assert_close(classifier(images()), network(normalized(images())))


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("alexnet", "classifier.6"),
        ("convnext_tiny", "classifier.2"),
        ("densenet121", "classifier"),
        ("googlenet", "fc"),
        ("maxvit_t", "classifier.5"),
        ("mobilenet_v3_small", "classifier.3"),
        ("squeezenet1_0", "classifier.1"),
        ("swin_t", "head"),
        ("vit_b_16", "heads.head"),
    ],
)
def test_the_last_layer_is_found_in_any_order(name: str, layer: str):
    options = {"init_weights": False} if name == "googlenet" else {}
    with torch.device("meta"):
        state = torchvision.models.get_model(name, weights=None, **options).state_dict()
    for names in (sorted(state), sorted(state, reverse=True)):
        assert _last_layer({key: state[key] for key in names}) == layer


def test_what_weights_of_torchvision_need_beside_their_tensors():
    # Inception networks normalize anew; the resolution of a transformer is its number
    # of positions: 24 x 24 patches of 16 pixels and the class.
    assert _options("googlenet", {"aux1.fc2.weight": torch.zeros(2, 2)}) == {
        "transform_input": True,
        "init_weights": False,
        "aux_logits": True,
    }
    assert _options("inception_v3", {})["aux_logits"] is False
    vit = {
        "encoder.pos_embedding": torch.zeros(1, 577, 8),
        "conv_proj.weight": torch.zeros(8, 3, 16, 16),
    }
    assert _options("vit_b_16", vit) == {"image_size": 384}
    assert _options("resnet50", vit) == {}


def test_old_names_of_densenet_are_known():
    name = "features.denseblock1.denselayer2.norm1.running_mean"
    old = name.replace("norm1", "norm.1")
    new = "features.norm5.weight"
    assert list(_current_names({old: torch.zeros(1), new: torch.ones(1)})) == [
        name,
        new,
    ]


def test_loading_leaves_the_global_random_state_alone(tmp_path: Path):
    torch.save(seeded_state(build("squeezenet1_1")), tmp_path / "c.pth")
    before = torch.get_rng_state()
    torchvision_classifier("squeezenet1_1", tmp_path / "c.pth")
    assert torch.equal(before, torch.get_rng_state())


def test_unknown_architectures_are_told_before_the_file_is_read():
    assert len(torchvision_names()) >= 80
    with pytest.raises(RequestError) as caught:
        load_classifier("absent.pth", kind="torchvision:resnet5O")
    assert str(caught.value) == (
        "Unknown torchvision classifier 'resnet5O'. Did you mean 'resnet50'? "
        "`torchvision.models.list_models(module=torchvision.models)` lists all."
    )
    assert caught.value.exit_code == 2
    with pytest.raises(RequestError, match=r"no such file"):
        load_classifier("absent.pth", kind="torchvision:resnet50")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"classifier__1__bias": torch.zeros(5)},
            r"'classifier.1.bias' has shape \[5\], expected \[3\]",
        ),
        (
            {"classifier__1__weight": torch.zeros(1, 512, 1, 1)},
            "'classifier.1' gives one logit",
        ),
        (
            {"classifier__1__weight": torch.zeros(3)},
            "last layer 'fc.weight' .* not there",
        ),
        ({"features__0__bais": torch.zeros(64)}, "has unknown 'features.0.bais'"),
        (
            {"features__0__bias": torch.full((64,), torch.inf)},
            "'features.0.bias' holds NaN or infinite",
        ),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(
    changes: dict[str, Tensor], message: str, tmp_path: Path
):
    path = tmp_path / "c.pth"
    torch.save(
        unlike(seeded_state(build("squeezenet1_1", num_classes=3)), **changes), path
    )
    with pytest.raises(RequestError, match=message) as caught:
        torchvision_classifier("squeezenet1_1", path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_number_of_classes_or_architecture_is_refused(tmp_path: Path):
    path = tmp_path / "c.pth"
    torch.save(seeded_state(build("squeezenet1_1", num_classes=3)), path)
    with pytest.raises(RequestError, match="has 3 classes, but 10 are expected"):
        torchvision_classifier("squeezenet1_1", path, num_classes=10)
    assert torchvision_classifier("squeezenet1_1", path, num_classes=3) is not None
    with pytest.raises(RequestError, match=r"'features.0.weight' has shape|lacks"):
        torchvision_classifier("squeezenet1_0", path)
    with pytest.raises(RequestError, match=r"'fc.weight' of this architecture is not"):
        torchvision_classifier(
            "resnet18", _saved({"conv1.weight": torch.zeros(1)}, tmp_path)
        )


def _saved(state: dict[str, Tensor], folder: Path) -> Path:
    torch.save(state, folder / "other.pth")
    return folder / "other.pth"
