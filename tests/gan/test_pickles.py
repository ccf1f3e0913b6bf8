"""Network pickles: the same images as the reference, and nothing of the file runs."""

import contextlib
import copyreg
import io
import os
import pickle
import pickletools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden import golden_state
from hypothesis import given, settings
from hypothesis import strategies as st
from published import (
    EasyDict,
    Persistent,
    nvidia_names,
    persistent,
    pickled,
    seeded_gan,
    small_config,
    snapshot,
    write_snapshot,
)
from reference import reference_file
from torch import Tensor

from robustgen.errors import RequestError
from robustgen.gan.load import load_gan
from robustgen.gan.pickles import read_network_pickle
from robustgen.gan.stylegan2 import StyleGAN2
from robustgen.rngs import rng_for

SMALL = seeded_gan(small_config(8))

STYLEGAN3 = EasyDict(
    z_dim=64, c_dim=0, w_dim=64, mapping_kwargs=EasyDict(num_layers=2), num_fp16_res=0
)
"""Arguments as stylegan3's generator keeps them: those of the synthesis beside."""

ADA = EasyDict(
    z_dim=64,
    c_dim=0,
    mapping_kwargs=EasyDict(num_layers=2),
    synthesis_kwargs=EasyDict(channel_base=1024, num_fp16_res=4, conv_clamp=256),
)
"""Arguments as stylegan2-ada-pytorch's keeps them: those of the synthesis inside."""


def generator(state: Mapping[str, Tensor] | None = None, **attributes: Any):
    return persistent(state or nvidia_names(SMALL), "Generator", attributes)


def images_of(gan: StyleGAN2, scale: float = 1.0) -> Tensor:
    shape = (2, gan.num_layers, gan.w_dim)
    return gan.synthesize(torch.randn(shape, generator=rng_for(1, "w")) * scale)


def close(value: Tensor, expected: np.ndarray) -> None:
    target = torch.from_numpy(expected)
    scale = float(target.abs().max())
    torch.testing.assert_close(value, target, rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize(
    ("kwargs", "protocol"), [(STYLEGAN3, 4), (ADA, 2), (ADA, 3), (None, 5)]
)
def test_golden(tmp_path: Path, kwargs: EasyDict | None, protocol: int):
    expected = np.load(reference_file("stylegan2_nvidia_32_expected.npz"))
    attributes = {} if kwargs is None else {"_init_args": (), "_init_kwargs": kwargs}
    network = generator(golden_state("stylegan2_nvidia_32"), **attributes)
    gan = load_gan(write_snapshot(tmp_path / "network.pkl", network, protocol))
    assert (gan.resolution, gan.num_layers, gan.w_dim) == (32, 8, 64)
    assert gan.config.conv_clamp == 256
    z = torch.from_numpy(expected["z"])
    close(gan.map(z), expected["ws"][:, 0])
    close(gan.map(z, truncation=0.7), expected["ws_psi07"][:, 0])
    close(
        gan.synthesize(torch.from_numpy(expected["wplus"])) * 2 - 1, expected["image"]
    )


@pytest.mark.parametrize(
    "content",
    [
        lambda network: network,
        lambda network: {"G_ema": network},
        lambda network: {"G": network},
        lambda network: EasyDict(G=generator({"x": torch.ones(1)}), G_ema=network),
    ],
    ids=["bare", "only G_ema", "only G", "G_ema before G"],
)
def test_the_generator_is_found(tmp_path: Path, content: Callable[[object], object]):
    path = tmp_path / "network.pkl"
    path.write_bytes(pickled(content(generator())))
    state = read_network_pickle(path).state
    expected = nvidia_names(SMALL)
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], expected[key]) for key in expected)


def test_what_a_module_does_not_save_is_left_out(tmp_path: Path):
    network = generator()
    buffers = network.state["_buffers"]
    buffers["scratch"], buffers["unset"] = torch.ones(1), None
    network.state["_non_persistent_buffers_set"].add("scratch")
    network.state["_modules"]["unset"] = None
    path = write_snapshot(tmp_path / "network.pkl", network)
    assert read_network_pickle(path).state.keys() == nvidia_names(SMALL).keys()


def test_plain_dicts_and_missing_entries_will_do(tmp_path: Path):
    def plain(network: Persistent) -> Persistent:
        modules = {k: plain(v) for k, v in network.state["_modules"].items()}
        tensors = {
            k: v for k, v in network.state["_parameters"].items() if v is not None
        }
        buffers = dict(network.state["_buffers"])
        state = {"_parameters": tensors | buffers, "_modules": modules}
        return Persistent("Module", state)

    path = write_snapshot(tmp_path / "network.pkl", plain(generator()))
    assert torch.equal(images_of(load_gan(path)), images_of(SMALL))


def test_a_tensor_may_be_a_view(tmp_path: Path):
    state = nvidia_names(SMALL)
    wide = torch.stack([state["synthesis.b4.const"], torch.zeros(6, 4, 4)], dim=-1)
    network = generator(state)
    const = network.state["_modules"]["synthesis"].state["_modules"]["b4"]
    const.state["_parameters"]["const"] = wide[..., 0]
    path = write_snapshot(tmp_path / "network.pkl", network)
    assert torch.equal(
        read_network_pickle(path).state["synthesis.b4.const"],
        state["synthesis.b4.const"],
    )


@pytest.mark.parametrize(
    ("kwargs", "layer", "expected"),
    [
        ({"conv_clamp": 0.5}, {}, 0.5),
        ({"synthesis_kwargs": {"conv_clamp": 0.5}}, {}, 0.5),
        ({"synthesis_kwargs": {"conv_clamp": None}}, {}, None),
        ({"synthesis_kwargs": {}}, {}, None),
        ({}, {}, 256.0),
        ({"conv_clamp": 256}, {"conv_clamp": 0.5}, 0.5),
        ({"conv_clamp": 256}, {"conv_clamp": None}, None),
    ],
)
def test_the_bound_on_activations_is_that_of_the_file(
    tmp_path: Path,
    kwargs: dict[str, Any],
    layer: dict[str, Any],
    expected: float | None,
):
    network = persistent(
        nvidia_names(SMALL), "Generator", {"_init_kwargs": kwargs}, layer
    )
    gan = load_gan(write_snapshot(tmp_path / "network.pkl", network))
    assert gan.config.conv_clamp == expected
    if expected == 0.5:
        bounded = seeded_gan(small_config(8, conv_clamp=0.5))
        assert torch.equal(images_of(gan), images_of(bounded))
        assert not torch.equal(images_of(gan), images_of(SMALL))


def test_positional_arguments_are_read(tmp_path: Path):
    arguments = (5, 0, 7, 8, 3, EasyDict(), EasyDict(conv_clamp=2))
    path = write_snapshot(tmp_path / "n.pkl", generator(_init_args=arguments))
    assert read_network_pickle(path).conv_clamp == 2


@pytest.mark.parametrize("layers", [2, 8])
def test_a_conditional_generator(tmp_path: Path, layers: int):
    config = small_config(8, num_classes=3, mapping_layers=layers)
    state = nvidia_names(seeded_gan(config))
    gan = load_gan(write_snapshot(tmp_path / "network.pkl", generator(state)))
    assert (gan.num_classes, gan.z_dim) == (3, 5)
    z = torch.randn(4, 5, generator=rng_for(0, "z"))
    labels = torch.tensor([2, 0, 1, 2])

    def normalized(x: Tensor) -> Tensor:
        return x / (x.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()

    weight, bias = state["mapping.embed.weight"], state["mapping.embed.bias"]
    classes = torch.stack([weight[:, label] / 3**0.5 + bias for label in labels])
    x = torch.cat([normalized(z), normalized(classes)], dim=1)
    for i in range(layers):
        weight, bias = state[f"mapping.fc{i}.weight"], state[f"mapping.fc{i}.bias"]
        x = x @ weight.T * (0.01 / weight.shape[1] ** 0.5) + bias * 0.01
        x = F.leaky_relu(x, 0.2) * 2**0.5
    torch.testing.assert_close(gan.map(z, labels), x)


class Run:
    """Writes the file `harm` when it is unpickled."""

    def __init__(self, call: Callable[..., object], *arguments: object) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call, self.arguments


def harm(path: Path) -> str:
    return f"open({str(path)!r}, 'w').close()"


def stored(payload: object) -> bytes:
    """A legacy torch file with something in it, as tensors lie in a pickle."""
    stream = io.BytesIO()
    torch.save(payload, stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


def load_from_bytes(data: bytes) -> Run:
    return Run(torch.storage._load_from_bytes, data)  # pyright: ignore[reportAttributeAccessIssue]


def instruction(code: bytes) -> Callable[[Path], bytes]:
    """A pickle of one list, whose only entry is what the instructions give."""
    return lambda path: (
        b"\x80\x02]" + code.replace(b"HARM", harm(path).encode()) + b"a."
    )


TWO = load_from_bytes(
    next(
        argument
        for _, argument, _ in pickletools.genops(pickle.dumps(torch.ones(2)))
        if isinstance(argument, bytes)
    )
)
"""Two numbers, as a tensor's storage is pickled."""

SYSTEM = Run(os.system, "touch")  # pyright: ignore[reportDeprecated]

HOSTILE: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "os.system": (lambda _: pickled(SYSTEM), "asks for 'posix.system'"),
    "os.system, 2": (lambda _: pickled(SYSTEM, 2), "asks for 'posix.system'"),
    "eval": (lambda p: pickled(Run(eval, harm(p))), "asks for 'builtins.eval'"),
    "eval, 2": (lambda p: pickled(Run(eval, harm(p)), 2), "'__builtin__.eval'"),
    "in D": (
        lambda p: pickled(snapshot(generator()) | {"D": Run(eval, harm(p))}),
        "asks for 'builtins.eval'",
    ),
    "in a module's attributes": (
        lambda p: pickled(snapshot(generator(p=Run(exec, harm(p))))),
        "asks for 'builtins.exec'",
    ),
    "in a tensor": (
        lambda p: pickled({"G": load_from_bytes(stored(Run(eval, harm(p))))}),
        "Weights only load failed",
    ),
    "torch.load": (
        lambda _: pickled(Run(torch.load, "x")),
        "'torch.serialization.load'",
    ),
    "getattr": (lambda _: pickled(Run(getattr, 1, "real")), "'builtins.getattr'"),
    "an unknown class in D": (
        lambda _: pickled({"G_ema": generator(), "D": torch.nn.ReLU()}),
        "asks for 'torch.nn.modules.activation.ReLU'",
    ),
    "GLOBAL": (instruction(b"cbuiltins\neval\n(VHARM\ntR"), "instruction UNICODE"),
    "GLOBAL, BINUNICODE": (
        instruction(b"cbuiltins\neval\n"),
        "asks for 'builtins.eval'",
    ),
    "STACK_GLOBAL": (
        instruction(b"\x8c\x08builtins\x8c\x04eval\x93"),
        "asks for 'builtins.eval'",
    ),
    "a dotted name": (
        instruction(b"\x8c\x05torch\x8c\x10serialization.os\x93"),
        "asks for 'torch.serialization.os'",
    ),
    "INST": (instruction(b"(X\x01\x00\x00\x00xios\nsystem\n"), "instruction INST"),
    "OBJ": (instruction(b"(cos\nsystem\nX\x01\x00\x00\x00xo"), "instruction OBJ"),
    "EXT1": (instruction(b"\x82\xf0"), "instruction EXT1"),
    "EXT2": (instruction(b"\x83\xf0\x00"), "instruction EXT2"),
    "EXT4": (instruction(b"\x84\xf0\x00\x00\x00"), "instruction EXT4"),
    "PERSID": (instruction(b"Px\n"), "instruction PERSID"),
    "BINPERSID": (instruction(b"NQ"), "instruction BINPERSID"),
    "a memo without end": (instruction(b"Nr\xff\xff\xff\x7f"), "memo index 2147483647"),
    "a text without end": (
        instruction(b"\x8d" + b"\xff" * 7 + b"\x0f"),
        "cut off or damaged",
    ),
    "a changed function": (
        instruction(b"c_codecs\nencode\n}b"),
        "tries to change a function",
    ),
    "a changed class": (
        instruction(b"cdnnlib.util\nEasyDict\nN}\x86b"),
        "cut off or damaged",
    ),
    "a changed network": (
        instruction(b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n}\x85R}b"),
        "tries to change a value",
    ),
    "another codec": (
        instruction(b"c_codecs\nencode\nX\x01\x00\x00\x00xX\x05\x00\x00\x00rot13\x86R"),
        "bytes in an unknown encoding",
    ),
    "many bytes": (instruction(b"cbuiltins\nbytes\nJ\xff\xff\xff\x7f\x85R"), "damaged"),
    "a NumPy object": (
        instruction(
            b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nX\x01\x00\x00\x00O\x85RN\x86R"
        ),
        "cut off or damaged",
    ),
    "TensorFlow": (
        instruction(b"cdnnlib.tflib.network\nNetwork\n"),
        r"TensorFlow version of StyleGAN. Convert it first, by `python legacy.py",
    ),
    "no network": (lambda _: pickled([1, 2]), "a pickle that holds no network"),
    "other networks": (
        lambda _: pickled({"E": 1, "D": generator()}),
        "holds no network 'G_ema' or 'G', but 'E', 'D'",
    ),
}


@pytest.mark.parametrize(("make", "message"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_files_run_nothing(
    tmp_path: Path, make: Callable[[Path], bytes], message: str
):
    path, sentinel = tmp_path / "network.pkl", tmp_path / "harm"
    path.write_bytes(make(sentinel))
    copyreg.add_extension("os", "system", 0xF0)
    try:
        with pytest.raises(RequestError, match=message) as caught:
            load_gan(path)
    finally:
        copyreg.remove_extension("os", "system", 0xF0)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert not sentinel.exists()


def test_the_payloads_would_run(tmp_path: Path):
    """What is refused above does harm when it is simply unpickled."""
    pickle.loads(HOSTILE["eval"][0](tmp_path / "harm"))
    assert (tmp_path / "harm").exists()


def test_the_source_in_the_file_is_not_looked_at(tmp_path: Path):
    sentinel = tmp_path / "harm"
    network = generator()
    network.source = harm(sentinel)
    gan = load_gan(write_snapshot(tmp_path / "network.pkl", network))
    assert torch.equal(images_of(gan), images_of(SMALL))
    assert not sentinel.exists()


def test_stand_ins_cannot_be_changed_for_the_next_file(tmp_path: Path):
    # Slot state, the form of BUILD that sets attributes, on everything admitted.
    slots = b"N}X\x05\x00\x00\x00stateNs\x86b"
    for name in (
        b"dnnlib.util\nEasyDict",
        b"collections\nOrderedDict",
        b"numpy\ndtype",
    ):
        path = tmp_path / "network.pkl"
        path.write_bytes(instruction(b"c" + name + b"\n" + slots)(path))
        with pytest.raises(RequestError):
            read_network_pickle(path)
    path = write_snapshot(tmp_path / "network.pkl", generator())
    assert torch.equal(images_of(load_gan(path)), images_of(SMALL))


def test_modules_in_a_circle_are_refused(tmp_path: Path):
    twice = generator({"weight": torch.ones(1)})
    network = generator()
    network.state["_modules"] |= {"a": twice, "b": twice}
    with pytest.raises(RequestError, match=r"the module '(a|b)' is there twice"):
        load_gan(write_snapshot(tmp_path / "network.pkl", network))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((TWO, 0, (3,), (1,)), "does not fit its numbers"),
        ((TWO, 0, (9, 9), (0, 0)), "does not fit its numbers"),
        ((TWO, 1, (2,), (1,)), "cut off or damaged"),
        ((TWO, 0, (-1,), (1,)), "a tensor without a shape"),
        ((TWO, 0, ("a" * 9,), (1,)), "a tensor without a shape"),
        ((TWO, 0, (1,) * 99, (1,) * 99), "without a shape"),
        (("storage", 0, (1,), (1,)), "does not fit its numbers"),
    ],
)
def test_tensors_stay_within_their_numbers(
    tmp_path: Path, arguments: tuple[object, ...], message: str
):
    rebuild = torch._utils._rebuild_tensor_v2  # pyright: ignore[reportAttributeAccessIssue]
    network = generator()
    network.state["_buffers"]["w_avg"] = Run(rebuild, *arguments, False, {})
    with pytest.raises(RequestError, match=message):
        load_gan(write_snapshot(tmp_path / "network.pkl", network))


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (
            {"_init_kwargs": {"synthesis_kwargs": {"architecture": "resnet"}}},
            r"architecture='resnet'; robustgen reads architecture='skip' only",
        ),
        ({"_init_kwargs": {"use_noise": False}}, "use_noise=False"),
        (
            {"_init_kwargs": {"mapping_kwargs": {"lr_multiplier": 0.1}}},
            "lr_multiplier=0.1; robustgen reads lr_multiplier=0.01 only",
        ),
        ({"_init_kwargs": {"conv_clamp": "wide"}}, "'conv_clamp' is 'wide'"),
        ({"_modules": {"mapping": 3}}, "the module 'mapping' is damaged"),
        ({"_parameters": {"x": 3}}, "the entry 'x' is no tensor"),
        ({"_modules": {}}, "its tensors begin with none"),
    ],
)
def test_what_we_do_not_implement_is_said(
    tmp_path: Path, attributes: dict[str, Any], message: str
):
    path = write_snapshot(tmp_path / "network.pkl", generator(**attributes))
    with pytest.raises(RequestError, match=message) as caught:
        load_gan(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_layers_that_differ_are_refused(tmp_path: Path):
    network = persistent(nvidia_names(SMALL), "Generator", {}, {"conv_clamp": 256})
    block = network.state["_modules"]["synthesis"].state["_modules"]["b8"]
    block.state["_modules"]["conv0"].state["conv_clamp"] = None
    with pytest.raises(RequestError, match="different values of 'conv_clamp'"):
        load_gan(write_snapshot(tmp_path / "network.pkl", network))


def test_other_architectures_are_named(tmp_path: Path):
    state = nvidia_names(SMALL)
    residual = state | {"synthesis.b8.skip.weight": torch.ones(4, 6, 1, 1)}
    plain = {k: v for k, v in state.items() if not k.startswith("synthesis.b4.torgb")}
    alias_free = {
        "synthesis.input.freqs": torch.ones(3),
        "mapping.w_avg": torch.ones(3),
    }
    path = tmp_path / "network.pkl"
    for wrong, message in (
        (residual, r"architecture='resnet' \(it has 'synthesis.b8.skip.weight'\)"),
        (plain, r"architecture='orig' \(it has no 'synthesis.b4.torgb.weight'\)"),
        (alias_free, "a StyleGAN3 generator; robustgen reads StyleGAN2 only"),
        ({"b4.fc.weight": torch.ones(1)}, "its tensors begin with 'b4.fc.weight'"),
    ):
        write_snapshot(path, generator(wrong))
        with pytest.raises(RequestError, match=message):
            load_gan(path)


WHOLE = pickled({"G_ema": generator()})


@given(st.integers(0, len(WHOLE) - 1))
@settings(max_examples=30)
def test_a_file_that_is_cut_off_is_said_to_be(
    tmp_path_factory: pytest.TempPathFactory, length: int
):
    path = tmp_path_factory.getbasetemp() / "cut.pkl"
    path.write_bytes(WHOLE[:length])
    with pytest.raises(
        RequestError, match=r"cut off or damaged|is empty|no checkpoint"
    ):
        load_gan(path)


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
@settings(max_examples=60)
def test_a_damaged_byte_never_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory, position: int, change: int
):
    damaged = bytearray(WHOLE)
    damaged[position] ^= change
    path = tmp_path_factory.getbasetemp() / "damaged.pkl"
    path.write_bytes(damaged)
    with contextlib.suppress(RequestError):
        load_gan(path)


def test_a_pickle_is_nothing_else(tmp_path: Path):
    path = tmp_path / "weights.pt"
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(RequestError, match="no pickle, so no network pickle"):
        read_network_pickle(path)
    path.write_text("<html>404</html>")
    with pytest.raises(RequestError, match="an HTML page, not weights"):
        load_gan(path)
