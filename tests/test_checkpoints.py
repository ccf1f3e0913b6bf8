import argparse
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from robustgen.checkpoints import load_weights, read_checkpoint, tensor_entries
from robustgen.errors import RequestError


def test_both_containers_give_back_their_tensors(tmp_path: Path):
    tensors = {"a": torch.arange(6.0).view(2, 3)}
    save_file(tensors, tmp_path / "a.safetensors", metadata={"format": "x"})
    torch.save({"state_dict": tensors, "epoch": 4}, tmp_path / "a.pth")
    torch.save(tensors, tmp_path / "old.pth", _use_new_zipfile_serialization=False)

    safe = read_checkpoint(tmp_path / "a.safetensors")
    assert safe.metadata == {"format": "x"}
    assert torch.equal(safe.content["a"], tensors["a"])
    content = read_checkpoint(tmp_path / "a.pth").content
    assert content["epoch"] == 4
    assert torch.equal(content["state_dict"]["a"], tensors["a"])
    old = read_checkpoint(tmp_path / "old.pth")
    assert torch.equal(old.content["a"], tensors["a"])


def _write(path: Path, kind: str) -> None:
    save_file({"a": torch.zeros(64)}, path.parent / "whole.safetensors")
    torch.save({"a": torch.zeros(64)}, path.parent / "whole.pth")
    match kind:
        case "html":
            path.write_text("\n<!doctype html><title>Too many requests</title>")
        case "lfs":
            path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0")
        case "text":
            path.write_text("weights, honestly")
        case "empty":
            path.write_bytes(b"")
        case "cut safetensors":
            path.write_bytes((path.parent / "whole.safetensors").read_bytes()[:-9])
        case "cut torch":
            path.write_bytes((path.parent / "whole.pth").read_bytes()[:300])
        case "code":
            torch.save({"args": argparse.Namespace(lr=1)}, path)
        case _:
            path.mkdir()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("html", "an HTML page, not weights"),
        ("lfs", "a Git LFS pointer"),
        ("text", "no checkpoint"),
        ("empty", "the file is empty"),
        ("cut safetensors", "cut off or damaged"),
        ("cut torch", "cut off or damaged"),
        ("code", "runs no code of a checkpoint"),
        ("folder", "a folder; name a file"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_named(kind: str, message: str, tmp_path: Path):
    path = tmp_path / "weights.bin"
    _write(path, kind)
    with pytest.raises(RequestError, match=message) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_suggests_its_neighbor(tmp_path: Path):
    (tmp_path / "net_best.pth").touch()
    with pytest.raises(RequestError, match=r"no such file\. Did you mean 'net_best"):
        read_checkpoint(tmp_path / "net_bets.pth")
    with pytest.raises(RequestError, match="Nor is there a folder"):
        read_checkpoint(tmp_path / "absent" / "net.pth")


def test_weights_fill_a_module_exactly():
    with torch.device("meta"):
        module = nn.Linear(2, 1)
    state = {"weight": torch.ones(1, 2, dtype=torch.float64), "bias": torch.ones(1)}
    load_weights(module, state, Path("w"))
    assert module(torch.ones(1, 2)).item() == 3.0
    assert module.weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            {"weigth": torch.ones(1, 2), "bias": torch.ones(1)},
            r"lacks 'weight' \(nearest: 'weigth'\)",
        ),
        (
            {"weight": torch.ones(1, 2), "bias": torch.ones(1), "x": torch.ones(1)},
            "has unknown 'x'",
        ),
        (
            {"weight": torch.ones(2, 2), "bias": torch.ones(1)},
            r"shape \[2, 2\], expected \[1, 2\]",
        ),
        (
            {"weight": torch.full((1, 2), torch.nan), "bias": torch.ones(1)},
            "'weight' holds NaN",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(state, message: str):
    with pytest.raises(RequestError, match=message):
        load_weights(nn.Linear(2, 1), state, Path("w"))


def test_a_long_list_of_wrong_keys_is_cut():
    with pytest.raises(RequestError, match=r"has unknown 'k0', 'k1', 'k2' and 7 more"):
        load_weights(nn.ReLU(), {f"k{i}": torch.zeros(1) for i in range(10)}, Path("w"))


def test_only_named_tensors_are_entries():
    assert tensor_entries([torch.zeros(1)]) == {}
    assert list(tensor_entries({"a": torch.zeros(1), "b": 2, 3: torch.zeros(1)})) == [
        "a"
    ]
