import json
from pathlib import Path

import numpy as np
import pytest
import torch
from golden import golden_state
from reference import reference_file
from safetensors.torch import save_file
from torch import Tensor, nn

import robustgen.assets
from robustgen.classifiers.attribute import AttributeClassifier
from robustgen.classifiers.cnn import SmallCNN
from robustgen.classifiers.load import (
    check_classifier,
    load_classifier,
    save_classifier,
)
from robustgen.errors import RequestError


@pytest.fixture
def model() -> SmallCNN:
    return SmallCNN(3, 4, widths=(4, 6), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))


def test_a_saved_classifier_comes_back_exactly(model: SmallCNN, tmp_path: Path):
    images = torch.linspace(0, 1, 2 * 3 * 64).view(2, 3, 8, 8)
    model.train()(images)  # moves the running statistics
    save_classifier(model, tmp_path / "c.safetensors")
    loaded = load_classifier(tmp_path / "c.safetensors")
    assert torch.equal(loaded(images), model.eval()(images))
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    assert isinstance(loaded, SmallCNN)
    assert (loaded.in_channels, loaded.num_classes, loaded.widths) == (3, 4, (4, 6))
    assert loaded.std.flatten().tolist() == pytest.approx([0.2, 0.3, 0.4])


def test_a_name_finds_an_asset(model: SmallCNN, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(robustgen.assets, "_FOLDER", tmp_path)
    save_classifier(model, tmp_path / "faces" / "classifier.safetensors")
    (tmp_path / "facets").mkdir()
    assert isinstance(load_classifier("faces", kind="small_cnn"), SmallCNN)
    with pytest.raises(RequestError, match=r"Unknown classifier 'face'\. Did you mean"):
        load_classifier("face")


def test_probability_of_an_attribute_matches_the_reference(tmp_path: Path):
    expected = np.load(reference_file("attribute_classifier_256_expected.npz"))
    torch.save(
        {"state_dict": golden_state("attribute_classifier_256"), "epoch": 1},
        tmp_path / "net_best.pth",
    )
    classifier = load_classifier(tmp_path / "net_best.pth")
    rng = np.random.default_rng(int(expected["image_seed"]))
    raw = rng.uniform(-1, 1, (2, 3, 512, 512)).astype(np.float32)
    # The first of the two images: the network is large.
    logits = classifier((torch.from_numpy(raw[:1]) + 1) / 2)
    assert isinstance(classifier, AttributeClassifier)
    assert logits[0, 0].item() == pytest.approx(expected["logit"][0], rel=1e-4)
    assert logits.softmax(dim=1)[0, 1].item() == pytest.approx(
        expected["prob_label1"][0], abs=1e-5
    )


def test_the_two_logits_of_an_attribute_are_those_of_the_released_evaluation():
    # All but the last layer is replaced: it sees the mean of each channel.
    with torch.device("meta"):
        classifier = AttributeClassifier()
    classifier.from_rgb = classifier.dense = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    classifier.trunk = nn.Sequential(nn.AdaptiveAvgPool2d(1))
    classifier.head = nn.Linear(3, 1, device="cpu")
    with torch.no_grad():
        classifier.head.weight.copy_(torch.tensor([[1.0, 2.0, 3.0]]))
        classifier.head.bias.fill_(-0.5)
    images = torch.tensor([0.75, 0.5, 1.0]).view(1, 3, 1, 1).expand(1, 3, 512, 512)
    logits = classifier(images)
    logit = 1 * 0.5 + 2 * 0.0 + 3 * 1.0 - 0.5
    torch.testing.assert_close(logits, torch.tensor([[logit, -logit]]))
    # As evaluated, and as trained: BCEWithLogits(l, 1 - y) is as sure as half of it.
    evaluated, trained = (torch.tensor(-scale * logit).sigmoid() for scale in (2, 1))
    torch.testing.assert_close(logits.softmax(dim=1)[0, 1], evaluated)
    torch.testing.assert_close((logits / 2).softmax(dim=1)[0, 1], trained)


@pytest.mark.parametrize("shape", [(1, 256, 256), (3, 300, 300), (3, 128, 128)])
def test_attributes_are_read_from_square_color_images(shape: tuple[int, int, int]):
    with torch.device("meta"):
        classifier = AttributeClassifier()
        images = torch.zeros(1, *shape)
    with pytest.raises(RequestError, match="color images of 256 x 256"):
        classifier(images)


def test_attribute_weights_with_a_wrong_key_are_refused(tmp_path: Path):
    state = {"fromrgb_lod0.conv.conv.weight": torch.zeros(64, 3, 1, 1)}
    torch.save({"state_dict": state}, tmp_path / "net.pth")
    with pytest.raises(RequestError, match=r"lacks .* and \d+ more"):
        load_classifier(tmp_path / "net.pth")


def _header(**changes: object) -> dict[str, str]:
    config = {"in_channels": 3, "num_classes": 2, "widths": [4]} | changes
    return {"robustgen.small_cnn.1": json.dumps(config)}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "no classifier that robustgen knows"),
        (_header(num_classes=1), "one logit for each of 2 or more classes"),
        (_header(widths=None), "configuration in the header is damaged"),
        (_header(widths=[]), "has no layers"),
        ({"robustgen.small_cnn.1": "{}"}, "configuration in the header is damaged"),
        (_header(), "lacks 'mean'"),
    ],
)
def test_a_damaged_classifier_is_refused(metadata, message: str, tmp_path: Path):
    path = tmp_path / "c.safetensors"
    save_file({"head.weight": torch.zeros(2, 4)}, path, metadata=metadata)
    with pytest.raises(RequestError, match=message) as caught:
        load_classifier(path)
    assert str(path) in str(caught.value)


def test_a_file_without_tensors_is_refused(tmp_path: Path):
    torch.save({"epoch": 3}, tmp_path / "c.pth")
    with pytest.raises(RequestError, match="holds no named tensors"):
        load_classifier(tmp_path / "c.pth")


def test_the_kind_may_be_insisted_on(model: SmallCNN, tmp_path: Path):
    path = tmp_path / "c.safetensors"
    save_classifier(model, path)
    with pytest.raises(RequestError, match="'small_cnn', but 'attribute' was asked"):
        load_classifier(path, kind="attribute")
    with pytest.raises(RequestError, match="Did you mean 'attribute'"):
        load_classifier(path, kind="atribute")
    with pytest.raises(RequestError, match="no such file"):
        load_classifier("absent.safetensors")
    with pytest.raises(RequestError, match="Did you mean 'torchvision:resnet50'"):
        load_classifier(path, kind="resnet50")
    with pytest.raises(RequestError, match="Did you mean 'torchvision:NAME'"):
        load_classifier(path, kind="torchvison:resnet50")
    with pytest.raises(RequestError, match=r"Known: .*timm:NAME, torchvision:NAME\."):
        load_classifier(path, kind="timm:")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html>404</html>", "an HTML page, not weights"),
        (b"", "the file is empty"),
        (b"PK\x03\x04 and no more", "cut off or damaged"),
    ],
)
@pytest.mark.parametrize("kind", [None, "cifar_resnet18", "torchvision:resnet18"])
def test_what_is_no_checkpoint_is_refused_whatever_is_asked_for(
    content: bytes, message: str, kind: str | None, tmp_path: Path
):
    path = tmp_path / "net_best.pth"
    path.write_bytes(content)
    with pytest.raises(RequestError, match=message) as caught:
        load_classifier(path, kind=kind)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 2


class _Fixed(nn.Module):
    def __init__(self, output: object) -> None:
        super().__init__()
        self.output = output

    def forward(self, images: Tensor) -> object:
        return self.output


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (torch.zeros(2, 1), "gives 1 logit"),
        (torch.zeros(2), r"gave \[2\]"),
        (torch.zeros(3, 2), r"gave \[3, 2\]"),
        ((torch.zeros(2, 2),), "tuple"),
        (torch.full((2, 2), torch.nan), "NaN"),
    ],
)
def test_outputs_that_are_no_logits_are_refused(output: object, message: str):
    with pytest.raises(RequestError, match=message):
        check_classifier(_Fixed(output), (3, 8, 8), "mine")


def test_a_classifier_is_tried_without_a_trace(model: SmallCNN):
    model.train()
    model.trunk[1].eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert check_classifier(model, (3, 8, 8), "mine") == 4
    assert model.training
    assert not model.trunk[1].training
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    with pytest.raises(RequestError, match=r"cannot read images of shape \[1, 8, 8\]"):
        check_classifier(nn.Sequential(nn.Conv2d(3, 2, 3)), (1, 8, 8), "mine")
