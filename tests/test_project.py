"""`robustgen project`: image files to codes and pictures."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from released import alexnet_trunk, rgbm_encoder, rosinality, write_files

from robustgen.cli import main
from robustgen.data.faces import load_faces
from robustgen.gan.latents import load_latents
from robustgen.gan.load import load_encoder, load_gan
from robustgen.perceptual import load_perceptual
from robustgen.project import companion_network
from robustgen.projection_settings import (
    EncoderSettings,
    HybridSettings,
    OptimizationSettings,
)
from robustgen.projectors.loss import ProjectionLoss
from robustgen.projectors.projector import Projector

ENCODER_ONLY = ["face0.png", "--generator", "faces", "--method", "encoder"]


def status(*arguments: str) -> object:
    with pytest.raises(SystemExit) as ended:
        main(["project", *arguments])
    return ended.value.code


def face_files(folder: Path, size: tuple[int, int] = (32, 32)) -> list[Path]:
    """Two faces as PNG, as they are or laid in the middle of a larger picture."""
    paths: list[Path] = []
    for row, pixels in enumerate(load_faces(val=2).pixels()):
        values = np.round(pixels.transpose(1, 2, 0) * 255).astype(np.uint8)
        whole = Image.new("RGB", size)
        left, top = (size[0] - 32) // 2, (size[1] - 32) // 2
        whole.paste(Image.fromarray(values), (left, top))
        paths.append(folder / f"face{row}.png")
        whole.save(paths[-1])
    return paths


def test_codes_are_those_of_the_projector(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    first, second = face_files(tmp_path)
    out = tmp_path / "out"
    arguments = ["--generator", "faces", "--passes", "4", "--out", str(out)]
    assert status(str(first), str(second), *arguments) == 0
    gan = load_gan("faces")
    projector = Projector(
        gan,
        load_encoder("faces"),
        loss=ProjectionLoss(load_perceptual("faces")),
        passes=4,
    )
    record = json.loads((out / "projections.json").read_text())
    for path, entry in zip((first, second), record["images"], strict=True):
        pixels = np.asarray(Image.open(path), np.float32).transpose(2, 0, 1) / 255
        expected = projector(torch.from_numpy(pixels)[None])
        w_plus = load_latents(out / entry["code"])
        torch.testing.assert_close(w_plus, expected.w_plus, atol=1e-5, rtol=0)
        assert entry["loss"] == pytest.approx(float(expected.loss), abs=1e-6)
        assert entry["passes"] == 4
        assert entry["loss"] < entry["initial_loss"]
        saved = np.asarray(Image.open(out / entry["picture"]), np.float32) / 255
        shown = gan.synthesize(w_plus)[0].clamp(0, 1).permute(1, 2, 0).numpy()
        np.testing.assert_allclose(saved, shown, atol=0.5 / 255 + 1e-6)
    assert "face1.png: loss 0." in capsys.readouterr().out


def test_the_middle_of_a_larger_picture_is_projected(tmp_path: Path):
    (tmp_path / "wide").mkdir()
    for folder, size in ((tmp_path, (32, 32)), (tmp_path / "wide", (48, 32))):
        (first, _) = face_files(folder, size)
        options = ["--generator", "faces", "--method", "encoder"]
        assert status(str(first), *options, "--out", str(folder / "out")) == 0
    codes = [
        load_latents(folder / "out" / "face0.safetensors")
        for folder in (tmp_path, tmp_path / "wide")
    ]
    torch.testing.assert_close(codes[0], codes[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no.png", "--generator", "faces"], "no.png: no such file."),
        (
            ["face0.png", "--generator", "facs"],
            "Unknown generator 'facs'. Did you mean 'faces'?",
        ),
        (
            ["face0.png", "--generator", "faces", "--method", "hybryd"],
            "Unknown projection method 'hybryd'. Did you mean 'hybrid'?",
        ),
        (
            [
                "face0.png",
                "--generator",
                "faces",
                "--method",
                "encoder",
                "--passes",
                "3",
            ],
            "--passes: method 'encoder' searches nothing.",
        ),
        (["face0.png", "face0.png", "--generator", "faces"], "are called 'face0'"),
        (["words.png", "--generator", "faces"], "words.png: "),
        (
            ["face0.png", "--generator", "stylegan2_ffhq"],
            "`robustgen fetch stylegan2_ffhq`",
        ),
    ],
)
def test_wrong_requests(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROBUSTGEN_WEIGHTS", str(tmp_path / "none"))
    face_files(tmp_path)
    Path("words.png").write_text("no picture")
    assert status(*arguments, "--out", "out") == 2
    error = capsys.readouterr().err
    assert "robustgen: " in error
    assert message in error


def test_images_are_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    first, _ = face_files(tmp_path)
    before = first.read_bytes()
    assert status(str(first), "--generator", "faces", "--out", str(tmp_path)) == 2
    assert "would overwrite it" in capsys.readouterr().err
    assert first.read_bytes() == before


def test_networks_that_belong_to_a_generator():
    hybrid = HybridSettings()
    assert companion_network("faces", "encoder", hybrid) == "faces"
    assert companion_network("stylegan2_car", "encoder", hybrid) == "car_rgbm"
    assert companion_network("stylegan2_car", "perceptual", hybrid) == "lpips_alex"
    assert companion_network("faces", "encoder", OptimizationSettings()) == "none"
    pixels_alone = EncoderSettings(perceptual_weight=0)
    assert companion_network("own.pt", "perceptual", pixels_alone) == "none"


def test_a_generator_of_ones_own_needs_its_encoder_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    first, _ = face_files(tmp_path)
    write_files(
        tmp_path,
        {
            "gan.pt": rosinality(32, narrow=32),
            "encoder.pth": rgbm_encoder(8),
            "alexnet.pth": alexnet_trunk(),
        },
    )
    options = [str(first), "--generator", "gan.pt", "--out", "out", "--passes", "2"]
    assert status(*options) == 2
    assert "Name them with --encoder." in capsys.readouterr().err
    networks = ["--encoder", "encoder.pth", "--perceptual", "alexnet.pth"]
    assert status(*options, *networks) == 0
    assert load_latents(Path("out/face0.safetensors")).shape == (1, 8, 512)
