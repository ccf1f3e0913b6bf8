from pathlib import Path

import numpy as np
import pytest
import torch
from golden import golden_state
from reference import reference_file

from robustgen.errors import RequestError
from robustgen.gan.encoder_rgbm import (
    EncoderRgbm,
    is_encoder_rgbm,
    load_encoder_rgbm,
)


def test_styles_match_the_reference(tmp_path: Path):
    expected = np.load(reference_file("encoder_rgbm_8_expected.npz"))
    state = golden_state("encoder_rgbm_8")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "encoder.pth.tar")
    encoder = load_encoder_rgbm(tmp_path / "encoder.pth.tar")

    images = (torch.from_numpy(expected["image"]) + 1) / 2
    w_plus = encoder(images, torch.from_numpy(expected["mask"]))

    target = torch.from_numpy(expected["wplus"])
    assert encoder.num_layers == 8
    torch.testing.assert_close(
        w_plus, target, rtol=0, atol=1e-4 * float(target.abs().max())
    )


@pytest.fixture(scope="module")
def encoder() -> EncoderRgbm:
    with torch.random.fork_rng():
        return EncoderRgbm(num_layers=2).eval()


def test_no_mask_means_all_pixels(encoder: EncoderRgbm):
    images = torch.linspace(0, 1, 3 * 16 * 16).view(1, 3, 16, 16)
    with torch.no_grad():
        unmasked = encoder(images)
        masked = encoder(images, torch.ones(1, 1, 16, 16))
        hidden = encoder(images, torch.zeros(1, 1, 16, 16))
    assert unmasked.shape == (1, 2, 512)
    assert torch.equal(unmasked, masked)
    assert not torch.allclose(unmasked, hidden)


def test_a_file_is_known_by_its_head():
    head = {"layer5.conv5.weight": torch.zeros(1)}
    assert is_encoder_rgbm(head)
    assert is_encoder_rgbm({"state_dict": head})
    assert not is_encoder_rgbm({"state_dict": {"conv1.weight": torch.zeros(1)}})
    assert not is_encoder_rgbm([1, 2])


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"fc.weight": torch.zeros(2)}, "no tensor 'layer5.conv5.weight'"),
        ({"layer5.conv5.weight": torch.zeros(700, 512, 1, 1)}, "700 rows"),
        (
            {
                "layer5.conv5.weight": torch.zeros(512, 512, 1, 1),
                "conv1.weigth": torch.zeros(64, 4, 7, 7),
            },
            r"lacks 'conv1.weight' \(nearest: 'conv1.weigth'\)",
        ),
    ],
)
def test_other_files_are_refused(state, message: str, tmp_path: Path):
    torch.save({"state_dict": state}, tmp_path / "encoder.pth")
    with pytest.raises(RequestError, match=message):
        load_encoder_rgbm(tmp_path / "encoder.pth")


def test_loading_leaves_the_global_random_state_alone(
    encoder: EncoderRgbm, tmp_path: Path
):
    torch.save(encoder.state_dict(), tmp_path / "encoder.pth")
    before = torch.get_rng_state()
    load_encoder_rgbm(tmp_path / "encoder.pth")
    assert torch.equal(before, torch.get_rng_state())
