import argparse
import pickle
import zipfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from robustgen.checkpoints import (
    container_of,
    entries_below,
    load_weights,
    read_checkpoint,
    tensor_entries,
)
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
        case "cut old torch":
            torch.save(torch.zeros(64), path, _use_new_zipfile_serialization=False)
            path.write_bytes(path.read_bytes()[:-9])
        case "array":
            with path.open("wb") as stream:
                np.savez(stream, a=np.zeros(3))
        case "code":
            torch.save({"args": Fraction(1, 2)}, path)
        case "old code":
            torch.save(Fraction(1), path, _use_new_zipfile_serialization=False)
        case "NumPy array":
            torch.save({"mean": np.zeros(3)}, path)
        case "NumPy object":
            torch.save({"loss": np.datetime64("2021-06-19")}, path)
        case "pickle":
            path.write_bytes(pickle.dumps({"a": 1}))
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
        ("cut old torch", "a torch file that is cut off or damaged"),
        ("array", "a torch file that is cut off or damaged"),
        ("code", "asks for 'fractions.Fraction', or .* runs no code of a checkpoint"),
        ("old code", "asks for 'fractions.Fraction'"),
        ("NumPy array", r"asks for 'numpy\._?core\.multiarray\._reconstruct'"),
        ("NumPy object", "a NumPy value of type 'M8', which is no plain number"),
        ("pickle", "a plain pickle. Only the networks that NVIDIA stores so are read"),
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


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (np.float64(0.125), 0.125),
        (np.float32(91.5), 91.5),
        (np.float16(-2), -2.0),
        (np.int64(-7), -7),
        (np.uint8(200), 200),
        (np.bool_(True), True),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("module", ["numpy.core", "numpy._core"])
def test_numpy_numbers_beside_the_weights_are_read(
    number: np.generic, expected: float, zipped: bool, module: str, tmp_path: Path
):
    path = tmp_path / "net_best.pth"
    torch.save(
        {"valacc": number, "loss": torch.tensor(2.0)},
        path,
        _use_new_zipfile_serialization=zipped,
    )
    _rename(path, b"numpy._core.multiarray", f"{module}.multiarray".encode())
    admitted = set(torch.serialization.get_safe_globals())
    content = read_checkpoint(path).content
    assert set(torch.serialization.get_safe_globals()) == admitted
    assert content["valacc"] == expected
    assert type(content["valacc"]) in (float, int, bool)
    assert content["loss"] == 2


def _rename(path: Path, old: bytes, new: bytes) -> None:
    """Writes a torch file anew as another version of NumPy would name itself."""
    if not zipfile.is_zipfile(path):
        path.write_bytes(path.read_bytes().replace(old, new))
        return
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data.replace(old, new))


def test_options_of_a_training_are_read_as_a_dict(tmp_path: Path):
    options = argparse.Namespace(lr=0.1, steps=[1, 2], inner=argparse.Namespace(a=1))
    torch.save({"g_ema": {}, "args": options}, tmp_path / "550000.pt")
    content = read_checkpoint(tmp_path / "550000.pt").content
    assert content["args"] == {"lr": 0.1, "steps": [1, 2], "inner": {"a": 1}}


@pytest.mark.parametrize(
    ("write", "container"),
    [
        (lambda path: save_file({"a": torch.zeros(1)}, path), "safetensors"),
        (lambda path: torch.save([1], path), "torch"),
        (
            lambda path: torch.save([1], path, _use_new_zipfile_serialization=False),
            "torch",
        ),
        (
            lambda path: torch.save(
                [1], path, pickle_protocol=4, _use_new_zipfile_serialization=False
            ),
            "torch",
        ),
        (lambda path: path.write_bytes(pickle.dumps([1], 2)), "pickle"),
        (lambda path: path.write_bytes(pickle.dumps([1], 5)), "pickle"),
    ],
)
def test_containers_are_told_apart(
    write: Callable[[Path], object], container: str, tmp_path: Path
):
    write(tmp_path / "weights")
    assert container_of(tmp_path / "weights") == container


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


def test_entries_below_a_prefix_lose_it():
    state = {"encoder.a": torch.ones(1), "encoders.a": torch.zeros(1)}
    assert entries_below(state, "encoder.") == {"a": torch.ones(1)}


def test_only_named_tensors_are_entries():
    assert tensor_entries([torch.zeros(1)]) == {}
    assert list(tensor_entries({"a": torch.zeros(1), "b": 2, 3: torch.zeros(1)})) == [
        "a"
    ]
