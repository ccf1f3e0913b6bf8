"""Any classifier of timm, against timm itself."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from seeded_weights import seeded_state
from torch import Tensor

from robustgen.classifiers.load import load_classifier
from robustgen.classifiers.timm_models import timm_classifier
from robustgen.errors import RequestError
from robustgen.rngs import rng_for

timm = pytest.importorskip("timm")

SMALL = "mobilenetv3_small_050.lamb_in1k"


def build(name: str, classes: int) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        network = timm.create_model(name, pretrained=False, num_classes=classes)
    network.load_state_dict(seeded_state(network))
    return network.eval()


def images(side: int) -> Tensor:
    return torch.rand(2, 3, side, side, generator=rng_for(0, "images"))


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        (SMALL, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("vit_tiny_patch16_224.augreg_in21k_ft_in1k", (0.5,) * 3, (0.5,) * 3),
    ],
)
def test_logits_and_normalization_are_those_of_timm(
    name: str, mean: tuple[float, ...], std: tuple[float, ...], tmp_path: Path
):
    network = build(name, 5)
    save_file(network.state_dict(), tmp_path / "c.safetensors")
    before = torch.get_rng_state()
    classifier = load_classifier(tmp_path / "c.safetensors", kind=f"timm:{name}")
    assert torch.equal(before, torch.get_rng_state())
    shift, scale = (torch.tensor(values).view(1, 3, 1, 1) for values in (mean, std))
    x = images(224)
    torch.testing.assert_close(
        classifier(x), network((x - shift) / scale), rtol=1e-6, atol=1e-6
    )
    assert classifier(images(64)).shape == (2, 5)
    assert not classifier.training
    assert not any(p.requires_grad for p in classifier.parameters())


def test_a_training_checkpoint_is_read_under_its_wrapper(tmp_path: Path):
    network = build(SMALL, 3)
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    torch.save({"epoch": 3, "arch": SMALL, "state_dict": state}, tmp_path / "c.pth")
    classifier = timm_classifier(SMALL, tmp_path / "c.pth", resize=False, num_classes=3)
    x = images(64)
    mean, std = (
        torch.tensor(v).view(1, 3, 1, 1)
        for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    torch.testing.assert_close(classifier(x), network((x - mean) / std))
    with pytest.raises(RequestError, match="has 3 classes, but 4 are expected"):
        timm_classifier(SMALL, tmp_path / "c.pth", num_classes=4)
    with pytest.raises(RequestError, match=r"'fc.weight' of this architecture is not"):
        timm_classifier("resnet18", tmp_path / "c.pth")


def test_unknown_names_get_the_nearest():
    with pytest.raises(RequestError) as caught:
        load_classifier("absent.pth", kind="timm:resnet1B")
    assert str(caught.value) == (
        "Unknown timm classifier 'resnet1B'. Did you mean 'resnet18'? "
        "`timm.list_models()` lists all."
    )
    with pytest.raises(RequestError, match=r"'resnet18.a1'. Did you mean 'resnet18\.a"):
        load_classifier("absent.pth", kind="timm:resnet18.a1")
    # timm itself would ask a server for this one.
    with pytest.raises(RequestError, match="Unknown timm classifier 'hf-hub:timm/res"):
        load_classifier("absent.pth", kind="timm:hf-hub:timm/resnet18")
    with pytest.raises(RequestError, match="is no classifier: it has no last layer"):
        load_classifier("absent.pth", kind="timm:deepseek_vit_412m_enc")


def test_without_timm_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(RequestError, match=r"pip install robustgen\[timm\]") as caught:
        load_classifier("absent.pth", kind="timm:resnet18")
    assert caught.value.exit_code == 2
