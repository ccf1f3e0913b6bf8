"""pSp and e4e against their published definition."""

import itertools
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from robustgen.errors import RequestError
from robustgen.gan.encoder_psp import Kind, PspEncoder, _latent_avg
from robustgen.gan.load import load_encoder
from robustgen.rngs import rng_for

NARROW = (2, 2, 3, 4, 6)
TYPES: dict[Kind, str] = {"psp": "GradualStyleEncoder", "e4e": "Encoder4Editing"}


def published_shapes(layers: int) -> dict[str, list[int]]:
    """Names and shapes of `GradualStyleEncoder(50, 'ir_se')`, written out."""
    shapes: dict[str, list[int]] = {"input_layer.0.weight": [64, 3, 3, 3]}

    def norm(name: str, channels: int) -> None:
        for entry in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{entry}"] = [channels]
        shapes[f"{name}.num_batches_tracked"] = []

    norm("input_layer.1", 64)
    shapes["input_layer.2.weight"] = [64]
    stages = [(64, 64, 3), (64, 128, 4), (128, 256, 14), (256, 512, 3)]
    pairs = [
        (before if i == 0 else after, after)
        for before, after, count in stages
        for i in range(count)
    ]
    for index, (before, after) in enumerate(pairs):
        name = f"body.{index}"
        if before != after:
            shapes[f"{name}.shortcut_layer.0.weight"] = [after, before, 1, 1]
            norm(f"{name}.shortcut_layer.1", after)
        norm(f"{name}.res_layer.0", before)
        shapes[f"{name}.res_layer.1.weight"] = [after, before, 3, 3]
        shapes[f"{name}.res_layer.2.weight"] = [after]
        shapes[f"{name}.res_layer.3.weight"] = [after, after, 3, 3]
        norm(f"{name}.res_layer.4", after)
        shapes[f"{name}.res_layer.5.fc1.weight"] = [after // 16, after, 1, 1]
        shapes[f"{name}.res_layer.5.fc2.weight"] = [after, after // 16, 1, 1]
    for layer in range(layers):
        for conv in range(4 if layer < 3 else 5 if layer < 7 else 6):
            shapes[f"styles.{layer}.convs.{2 * conv}.weight"] = [512, 512, 3, 3]
            shapes[f"styles.{layer}.convs.{2 * conv}.bias"] = [512]
        shapes[f"styles.{layer}.linear.weight"] = [512, 512]
        shapes[f"styles.{layer}.linear.bias"] = [512]
    for number, channels in ((1, 256), (2, 128)):
        shapes[f"latlayer{number}.weight"] = [512, channels, 1, 1]
        shapes[f"latlayer{number}.bias"] = [512]
    return shapes


@pytest.mark.parametrize("layers", [1, 8, 18])
def test_names_and_shapes_are_those_of_the_release(layers: int):
    with torch.device("meta"):
        encoder = PspEncoder(layers, kind="psp")
    own = {k: list(v.shape) for k, v in encoder.state_dict().items()}
    assert own.pop("latent_avg") == [layers, 512]
    assert own == published_shapes(layers)
    if layers == 18:
        # 98 convolutions of 512 channels, 18 linear maps, two laterals and the trunk.
        styles = 98 * (512 * 512 * 9 + 512) + 18 * (512 * 512 + 512)
        laterals = (256 + 1) * 512 + (128 + 1) * 512
        trunk = sum(p.numel() for p in encoder.body.parameters()) + 64 * 27 + 3 * 64
        assert sum(p.numel() for p in encoder.parameters()) == 267_136_704
        assert styles + laterals + trunk == 267_136_704


def seeded(kind: Kind, layers: int, **options: Any) -> PspEncoder:
    rng = rng_for(0, "psp")
    encoder = PspEncoder(layers, kind=kind, widths=NARROW, **options)
    for name, value in encoder.state_dict().items():
        if not value.is_floating_point():
            continue
        draw = torch.randn(value.shape, generator=rng)
        fan_in = value[0].numel() if value.ndim == 4 else 9
        value.copy_(draw.abs() + 0.5 if "running_var" in name else draw * fan_in**-0.5)
    return encoder.eval().requires_grad_(False)


def reference(encoder: PspEncoder, x: Tensor) -> Tensor:
    """The published forward pass, from the state dict alone."""
    state = encoder.state_dict()

    def norm(x: Tensor, name: str) -> Tensor:
        entries = (state[f"{name}.{k}"] for k in ("running_mean", "running_var"))
        return F.batch_norm(
            x, *entries, weight=state[f"{name}.weight"], bias=state[f"{name}.bias"]
        )

    def conv(x: Tensor, name: str, stride: int = 1, padding: int = 0) -> Tensor:
        bias = state.get(f"{name}.bias")
        return F.conv2d(x, state[f"{name}.weight"], bias, stride, padding)

    def style(x: Tensor, index: int) -> Tensor:
        name = f"styles.{index}"
        for i in itertools.count(step=2):
            if f"{name}.convs.{i}.weight" not in state:
                break
            x = F.leaky_relu(conv(x, f"{name}.convs.{i}", 2, 1), 0.01)
        weight = state[f"{name}.linear.weight"] / weight_scale
        return x[:, :, 0, 0] @ weight.T + state[f"{name}.linear.bias"]

    weight_scale = NARROW[-1] ** 0.5
    x = norm(conv(x, "input_layer.0", padding=1), "input_layer.1")
    x = F.prelu(x, state["input_layer.2.weight"])
    taps: dict[int, Tensor] = {}
    for i in range(24):
        name, stride = f"body.{i}", 2 if i in (0, 3, 7, 21) else 1
        shortcut = x[:, :, ::stride, ::stride]
        if f"{name}.shortcut_layer.0.weight" in state:
            shortcut = conv(x, f"{name}.shortcut_layer.0", stride)
            shortcut = norm(shortcut, f"{name}.shortcut_layer.1")
        y = conv(norm(x, f"{name}.res_layer.0"), f"{name}.res_layer.1", padding=1)
        y = F.prelu(y, state[f"{name}.res_layer.2.weight"])
        y = norm(conv(y, f"{name}.res_layer.3", stride, 1), f"{name}.res_layer.4")
        gate = F.relu(conv(y.mean((2, 3), keepdim=True), f"{name}.res_layer.5.fc1"))
        x = y * conv(gate, f"{name}.res_layer.5.fc2").sigmoid() + shortcut
        taps[i] = x

    def joined(top: Tensor, lateral: Tensor) -> Tensor:
        size = lateral.shape[2:]
        up = F.interpolate(top, size=size, mode="bilinear", align_corners=True)
        return up + lateral

    p3 = taps[23]
    p2 = joined(p3, conv(taps[20], "latlayer1"))
    p1 = joined(p2, conv(taps[6], "latlayer2"))
    levels = [p3] * 3 + [p2] * 4 + [p1] * 99
    codes = [style(levels[i], i) for i in range(encoder.num_layers)]
    if encoder.kind == "e4e":
        codes = [codes[0], *(codes[0] + delta for delta in codes[1:])]
    return torch.stack(codes, dim=1) + state["latent_avg"]


@pytest.mark.parametrize("kind", ["psp", "e4e"])
def test_the_forward_pass_is_the_published_one(kind: Kind):
    encoder = seeded(kind, 9)
    images = torch.rand(2, 3, 256, 256, generator=rng_for(0, "images"))
    codes = encoder(images)
    expected = reference(encoder, images * 2 - 1)
    assert codes.shape == (2, 9, 6)
    assert codes.std(dim=1).min() > 0.01
    torch.testing.assert_close(codes, expected, rtol=1e-4, atol=1e-4)


def test_cars_are_seen_without_the_bars_of_their_canvas():
    encoder = seeded("e4e", 8, rows=(32, 224))
    images = torch.rand(1, 3, 512, 512, generator=rng_for(0, "images"))
    other = images.clone()
    other[:, :, :64] = other[:, :, 448:] = 0.5
    assert torch.equal(encoder(images), encoder(other))
    content = F.avg_pool2d(images[:, :, 64:448], 2) * 2 - 1  # 192 x 256
    torch.testing.assert_close(
        encoder(images), reference(encoder, content), rtol=1e-4, atol=1e-4
    )


def test_large_and_small_images_are_resized_by_area():
    encoder = seeded("psp", 2)
    images = torch.rand(1, 3, 256, 256, generator=rng_for(0, "images"))
    large = images.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(encoder(large), encoder(images))


def test_a_mask_shows_grey():
    encoder = seeded("psp", 2)
    images = torch.rand(1, 3, 256, 256, generator=rng_for(0, "images"))
    mask = torch.ones(1, 1, 256, 256)
    assert torch.equal(encoder(images, mask), encoder(images))
    mask[..., :128] = 0
    greyed = images.clone()
    greyed[..., :128] = 0.5
    torch.testing.assert_close(encoder(images, mask), encoder(greyed))


def checkpoint(layers: int, **changes: Any) -> dict[str, Any]:
    """A file of the released format with weights of 0; no number is stored twice."""
    state = {
        f"encoder.{name}": torch.zeros(()).expand(shape)
        for name, shape in published_shapes(layers).items()
    }
    average = torch.arange(layers * 512.0).view(layers, 512)
    opts = {"encoder_type": "GradualStyleEncoder", "start_from_latent_avg": True}
    return {"state_dict": state, "latent_avg": average, "opts": opts} | changes


@pytest.mark.parametrize(("kind", "options"), [("psp", dict), ("e4e", Namespace)])
def test_without_weights_the_code_is_the_mean(kind: Kind, options: Any, tmp_path: Path):
    opts = options(
        encoder_type=TYPES[kind], start_from_latent_avg=True, device="cuda:0"
    )
    content = checkpoint(2, opts=opts)
    torch.save(content, tmp_path / "psp.pt")
    encoder = load_encoder(tmp_path / "psp.pt")
    assert isinstance(encoder, PspEncoder)
    assert (encoder.kind, encoder.num_layers, encoder.rows) == (kind, 2, (0, 256))
    codes = encoder(torch.rand(1, 3, 64, 64, generator=rng_for(0, "images")))
    assert torch.equal(codes, content["latent_avg"][None])
    assert not encoder.training
    assert not any(p.requires_grad for p in encoder.parameters())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"latent_avg": torch.arange(512.0)[None]}, torch.arange(512.0).expand(2, 512)),
        ({"latent_avg": torch.arange(512.0)}, torch.arange(512.0).expand(2, 512)),
        (
            {"opts": {"encoder_type": "Encoder4Editing"}},
            torch.arange(1024.0).view(2, 512),
        ),
        (
            {
                "opts": {
                    "encoder_type": "GradualStyleEncoder",
                    "start_from_latent_avg": False,
                }
            },
            torch.zeros(2, 512),
        ),
    ],
)
def test_the_mean_code_is_added_where_the_original_does(
    changes: dict[str, Any], expected: Tensor
):
    content = checkpoint(2, **changes)
    with torch.device("meta"):
        encoder = PspEncoder(2, kind="psp")
    average = _latent_avg(content, content["opts"], encoder, Path("psp.pt"))
    assert torch.equal(average, expected)


def test_encoders_of_cars_are_known_and_no_random_number_is_drawn(tmp_path: Path):
    opts = {"encoder_type": "Encoder4Editing", "dataset_type": "cars_encode"}
    torch.save(checkpoint(1, opts=opts), tmp_path / "e4e_cars.pt")
    before = torch.get_rng_state()
    encoder = load_encoder(tmp_path / "e4e_cars.pt")
    assert isinstance(encoder, PspEncoder)
    assert encoder.rows == (32, 224)
    assert torch.equal(before, torch.get_rng_state())


def without(*names: str) -> dict[str, Tensor]:
    state = checkpoint(1)["state_dict"]
    return {k: v for k, v in state.items() if not k.startswith(names)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"opts": {}}, "'opts' has no 'encoder_type'. Known: Encoder4Editing, Gradual"),
        ({"opts": None}, "'opts' has no 'encoder_type'"),
        (
            {"opts": {"encoder_type": "BackboneEncoderUsingLastLayerIntoW"}},
            "Unknown encoder_type 'BackboneEncoderUsingLastLayerIntoW'",
        ),
        ({"opts": {"encoder_type": "Encoder4editing"}}, "mean 'Encoder4Editing'"),
        ({"latent_avg": None}, "the file has no 'latent_avg'"),
        (
            {"latent_avg": torch.zeros(3, 512)},
            r"'latent_avg' has shape \[3, 512\], expected \[1, 512\]",
        ),
        (
            {"state_dict": without("encoder.latlayer1.bias")},
            "the file lacks 'encoder.latlayer1.bias'",
        ),
        (
            {"state_dict": without() | {"encoder.output": torch.zeros(1)}},
            "the file has unknown 'encoder.output'",
        ),
        (
            {"state_dict": without("encoder.styles")},
            "the encoder has no tensor 'encoder.styles.0.convs.0.weight'",
        ),
        (
            {
                "state_dict": without()
                | {"encoder.input_layer.0.weight": torch.zeros(64, 19, 3, 3)}
            },
            r"reads \[19\] channels, expected color images",
        ),
    ],
)
def test_other_files_are_refused(changes: dict[str, Any], message: str, tmp_path: Path):
    torch.save(checkpoint(1, **changes), tmp_path / "psp.pt")
    with pytest.raises(RequestError, match=message) as caught:
        load_encoder(tmp_path / "psp.pt")
    assert str(caught.value).startswith(f"{tmp_path / 'psp.pt'}: ")
