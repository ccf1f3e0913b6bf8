"""Code of the user's own: refused unless named, found in the working folder."""

import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from robustgen.errors import RequestError
from robustgen.plugins import Factory, call_factory, check_plugins, require_plugin

SOURCE = """
class Net:
    @staticmethod
    def build(depth=1):
        return depth * 10

def fails():
    raise RuntimeError("out of paint")

value = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_plugin.py").write_text(SOURCE)
    (tmp_path / "my_broken.py").write_text("import no_such_module_here")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_plugin", raising=False)
    return "my_plugin"


def test_refused_unless_named():
    with pytest.raises(RequestError, match="--plugin my_plugin"):
        require_plugin("my_plugin:Net", ())
    with pytest.raises(RequestError, match=r"--plugin my_plugin\.sub"):
        require_plugin("my_plugin.sub:Net", ("my_plugin",))
    require_plugin("my_plugin:Net", ("other", "my_plugin"))


def test_refused_code_is_not_even_imported(module: str):
    with pytest.raises(RequestError):
        call_factory(f"{module}:Net.build", {}, ())
    assert module not in sys.modules


def test_called_with_its_arguments(module: str):
    path = list(sys.path)
    assert call_factory(f"{module}:Net.build", {"depth": 4}, (module,)) == 40
    assert sys.path == path


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("my_plugin:Nett", "no such name. Did you mean 'Net'"),
        ("my_plugin:value", "is not callable"),
        ("my_plugin:fails", r"failed \(RuntimeError: out of paint\)"),
        ("my_broken:x", "cannot be imported .*no_such_module_here"),
        ("my_absent:x", "--plugin my_absent: cannot be imported"),
    ],
)
def test_faults(module: str, ref: str, message: str):
    with pytest.raises(RequestError, match=message):
        call_factory(ref, {}, (ref.partition(":")[0],))


def test_wrong_arguments(module: str):
    with pytest.raises(RequestError, match="unexpected keyword argument 'width'"):
        call_factory(f"{module}:Net.build", {"width": 1}, (module,))


def test_mistyped_plugins_are_found_early(module: str):
    check_plugins((module,))
    with pytest.raises(RequestError, match="--plugin my_plugn: cannot be imported"):
        check_plugins(("my_plugn",))


@pytest.mark.parametrize("text", ["", "m", "m:", ":f", "m:f:g", "m/x:f", "m:f()"])
def test_a_factory_names_a_module_and_a_callable(text: str):
    with pytest.raises(ValidationError, match="should be `module:callable`"):
        Factory(factory=text)


def test_labels():
    assert Factory(factory="a.b:C.d").label == "C.d"
    assert Factory(factory="a.b:C.d", name="mine").label == "mine"
