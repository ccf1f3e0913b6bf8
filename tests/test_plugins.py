"""Code of the user's own: refused unless named, found in the working folder."""

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import ValidationError

from robustgen.errors import RequestError
from robustgen.plugin_code import code_texts, plugin_origins, source_files
from robustgen.plugins import (
    Factory,
    call_custom,
    call_factory,
    check_plugins,
    find_plugin,
    plugin_names,
    require_plugin,
)
from robustgen.suite import Suite, custom_parts, load_suite, resolve_cases

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


@dataclass(frozen=True)
class Site:
    """A folder on the path in which packages are installed."""

    folder: Path

    def install(self, package: str, group: str, **points: str) -> None:
        info = self.folder / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Name: {package}\nVersion: 1.0\n")
        lines = [f"{name} = {target}" for name, target in points.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines]))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return Site(folder)


def test_plugins_are_found_and_not_imported(site: Site):
    site.install("acme", "robustgen.classifiers", zebra="acme_nets:net", ant="acme:a")
    assert list(plugin_names("classifier").items()) == [
        ("ant", "from acme 1.0"),
        ("zebra", "from acme 1.0"),
    ]
    assert dict(plugin_names("encoder")) == {}
    found = find_plugin("classifier", "zebra")
    assert (found.target, found.origin) == ("acme_nets:net", "acme 1.0")
    assert "acme_nets" not in sys.modules


def test_a_package_installed_later_is_found(site: Site):
    assert dict(plugin_names("views")) == {}
    site.install("acme", "robustgen.views", noise="acme:views")
    assert list(plugin_names("views")) == ["noise"]


def test_plugins_run_without_being_named(site: Site, module: str):
    Path(f"{module}.py").rename(site.folder / f"{module}.py")
    site.install("acme", "robustgen.encoders", net=f"{module}:Net.build")
    part = Factory(plugin="net", args={"depth": 2})
    assert call_custom(part, "encoder", ()) == 20
    with pytest.raises(RequestError, match=r"unknown plugin 'net'\. No installed"):
        call_custom(part, "dataset", ())


def test_what_robustgen_gives_cannot_be_set(module: str):
    part = Factory(factory=f"{module}:Net.build", args={"depth": 2})
    with pytest.raises(RequestError, match="robustgen gives `depth` itself"):
        call_custom(part, "projector", (module,), {"depth": 3})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fces", "unknown plugin 'fces'. Did you mean 'faces'"),
        ("faces", "classifier of robustgen and also a plugin of acme 1.0"),
        ("twice", "plugin 'twice' is declared by .*acme 1.0.*: uninstall"),
        ("bad", "plugin 'bad' of acme 1.0: its entry point should be `module:call"),
    ],
)
def test_plugins_that_are_refused(site: Site, name: str, message: str):
    site.install(
        "acme", "robustgen.classifiers", faces="acme:f", twice="acme:t", bad="acme"
    )
    site.install("zeta", "robustgen.classifiers", twice="zeta:t")
    with pytest.raises(RequestError, match=message):
        find_plugin("classifier", name, ("faces", "digits"))


DIGITS = dict.fromkeys(
    ("dataset", "classifier", "generator", "encoder", "perceptual"), "digits"
)


def load(**changes: Any) -> Suite:
    pair = {**DIGITS, **changes.pop("pair", {})}
    return load_suite(
        {
            "version": 1,
            "name": "s",
            "profiles": {"embedded": {"pairs": [pair]}},
            "attacks": ["clean"],
            **changes,
        }
    )


def test_a_name_alone_means_a_plugin(site: Site):
    site.install("a", "robustgen.classifiers", net="m:net")
    site.install("b", "robustgen.projectors", mine="m:p")
    site.install("c", "robustgen.views", noise="m:v")
    site.install("d", "robustgen.attacks", step="m:a")
    suite = load(
        pair={"classifier": "net"},
        projection={"method": "mine", "args": {"k": 1}},
        views={"family": "noise", "count": 40},
        attacks=["clean", {"plugin": "step", "norm": "linf", "eps": "8/255"}],
    )
    (clean, step) = resolve_cases(suite, "embedded")
    assert [(kind, part.plugin) for kind, part in custom_parts(step)] == [
        ("classifier", "net"),
        ("projector", "mine"),
        ("views", "noise"),
        ("attack", "step"),
    ]
    assert (clean.projection.method, clean.views.family) == ("mine", "noise")
    assert (clean.views.count, step.attack.name) == (40, "step")
    assert clean.name == "digits-net-clean"
    assert plugin_origins(custom_parts(step)) == {
        "classifier: net": "a 1.0",
        "projector: mine": "b 1.0",
        "views: noise": "c 1.0",
        "attack: step": "d 1.0",
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pair": {"classifier": "digis"}}, "Did you mean 'digits'"),
        ({"pair": {"classifier": "mynt"}}, "Did you mean 'mynet'"),
        ({"pair": {"classifier": "faces"}}, "also a plugin of acme 1.0"),
        ({"pair": {"classifier": {"plugin": "x"}}}, "classifier: unknown plugin 'x'"),
        ({"pair": {"classifier": {"args": {}}}}, "either `factory: module:callable`"),
        (
            {"pair": {"classifier": {"plugin": "mynet", "factory": "a:b"}}},
            "either `factory: module:callable`",
        ),
        ({"pair": {"classifier": {"plugn": "mynet"}}}, "Did you mean 'plugin'"),
        ({"projection": {"method": "mine"}}, "unknown method 'mine'. Known: "),
        ({"projection": {"plugin": "mine"}}, "projection: unknown plugin 'mine'. No"),
        ({"projection": {"factory": "m:p", "passes": 3}}, "`passes` belongs to a"),
        ({"projection": {"factory": "m:p", "arg": {}}}, "Did you mean 'args'"),
        ({"projection": {"factory": "m"}}, "projection.factory: should be `module:"),
        ({"views": {"factory": "m:v", "layers": "all"}}, "`layers` belongs to a fam"),
        ({"views": {"factory": "m:v", "family": "pca"}}, "`family` belongs to a fam"),
        ({"views": {"factory": "m:v", "count": 8}}, "size 31 exceeds the pool of 9"),
        ({"attacks": ["pgd", "mine"]}, "Unknown attack 'mine'"),
        ({"attacks": [{"plugin": "m", "norm": "linf", "eps": 0.1}]}, "unknown plugin"),
    ],
)
def test_faults_of_a_suite_with_own_parts(
    site: Site, changes: dict[str, Any], message: str
):
    site.install("acme", "robustgen.classifiers", mynet="m:net", faces="m:faces")
    with pytest.raises(RequestError, match=message):
        load(**changes)


def test_a_suite_from_python_is_data():
    assert load(seed=4).seed == 4
    with pytest.raises(RequestError, match="suite: seed: should be a valid integer"):
        load(seed="x")
    with pytest.raises(RequestError, match=r"views\.args\.net: a Factory cannot stand"):
        load(views={"factory": "m:v", "args": {"net": Factory(factory="a:b")}})
    with pytest.raises(RequestError, match="views: a key must be a text, not 3"):
        load(views={3: "m:v"})


def code_of(name: str) -> set[str]:
    return {path.name for path in source_files(importlib.import_module(name))}


def test_the_code_of_a_part_is_what_it_imports_from_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(str(tmp_path))
    package = tmp_path / "own_package"
    package.mkdir()
    for name, text in {
        "own_code.py": "import json, own_helper\nfrom own_package import part",
        "own_helper.py": "def f():\n    import own_deep",
        "own_deep.py": "import own_code",
        "own_other.py": "",
        "own_package/__init__.py": "",
        "own_package/part.py": "from . import sibling",
        "own_package/sibling.py": "",
        "own_package/unused.py": "",
    }.items():
        (tmp_path / name).write_text(text)
    assert code_of("own_code") == {
        "own_code.py",
        "own_helper.py",
        "own_deep.py",
        "__init__.py",
        "part.py",
        "sibling.py",
    }
    assert code_of("own_package.part") == {"__init__.py", "part.py", "sibling.py"}
    parts = [("classifier", Factory(factory="own_code:x"))]
    before = code_texts(parts, ["own_code"])
    assert code_texts(parts, ["own_code"]) == before
    (tmp_path / "own_other.py").write_text("1")
    assert code_texts(parts, ["own_code"]) == before
    (tmp_path / "own_deep.py").write_text("2")
    assert code_texts(parts, ["own_code"]) != before


def test_code_without_a_file_is_never_the_same(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "a_notebook", ModuleType("a_notebook"))
    parts = [("classifier", Factory(factory="a_notebook:x"))]
    one, other = (code_texts(parts, ["a_notebook"]) for _ in range(2))
    assert one != other
