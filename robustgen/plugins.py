"""Code of the user's own: what a suite names beside the parts that ship.

Two ways lead to it. `factory: module:callable` names code that lies anywhere; a suite
is data and may come from anywhere too, so this runs only if the user names the module
on the command line with `--plugin`. `plugin: NAME` names an entry point of an
installed package; to install it was the user's choice, so nothing more is asked.
"""

import contextlib
import functools
import importlib
import os
import sys
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from robustgen.errors import RequestError, suggestion
from robustgen.schema import Name, Record, brief, fault

GROUPS: Mapping[str, str] = MappingProxyType(
    {
        "classifier": "robustgen.classifiers",
        "dataset": "robustgen.datasets",
        "generator": "robustgen.generators",
        "encoder": "robustgen.encoders",
        "perceptual": "robustgen.perceptual",
        "projector": "robustgen.projectors",
        "views": "robustgen.views",
        "attack": "robustgen.attacks",
        "defense": "robustgen.defenses",
    }
)
"""Kinds of parts, and the group of entry points in which packages declare them."""


def _module_and_callable(value: str) -> str:
    module, colon, name = value.partition(":")
    words = [*module.split("."), *name.split(".")]
    if not colon or not all(word.isidentifier() for word in words):
        raise fault(f"should be `module:callable`, not {brief(value)}.")
    return value


FactoryPath = Annotated[str, AfterValidator(_module_and_callable)]
"""Where a callable is found: `module:callable`."""


class Custom(Record):
    """A callable that does not ship, and its keyword arguments."""

    factory: FactoryPath | None = None
    """`module:callable`; its module is to be named with `--plugin`."""
    plugin: Name | None = None
    """Name of an entry point, in the place of `factory`."""
    args: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Keyword arguments of the call."""

    @model_validator(mode="after")
    def _one_of_both(self) -> "Custom":
        if (self.factory is None) == (self.plugin is None):
            raise fault(
                "should say either `factory: module:callable` or `plugin: NAME`."
            )
        return self

    @property
    def callable_name(self) -> str:
        """The name of the entry point or of the callable."""
        return self.plugin or (self.factory or "").partition(":")[2]

    @property
    def reference(self) -> str:
        """What messages call it."""
        return self.factory or f"plugin {self.plugin}"


class Factory(Custom):
    """The same with a name for reports."""

    name: Name | None = None
    """What the report calls it; by default the name of the callable."""

    @property
    def label(self) -> str:
        """What the report calls it."""
        return self.name or self.callable_name


@dataclass(frozen=True)
class Plugin:
    """An entry point of an installed package.

    Args:
        kind: A key of `GROUPS`.
        name: What a suite calls it.
        target: `module:callable`, as the package declares it.
        distribution: The package, as it is installed.
        version: Its version.
    """

    kind: str
    name: str
    target: str
    distribution: str
    version: str

    @property
    def origin(self) -> str:
        """Distribution and version."""
        return f"{self.distribution} {self.version}"


def plugin_names(kind: str) -> Mapping[str, str]:
    """What installed packages add to the parts of a kind; imports none of them.

    Args:
        kind: A key of `GROUPS`.

    Returns:
        Names in alphabetical order, each with "from DISTRIBUTION VERSION".
    """
    return {
        name: "from " + " and ".join(plugin.origin for plugin in found)
        for name, found in sorted(_installed(kind).items())
    }


def find_plugin(kind: str, name: str, shipped: Collection[str] = ()) -> Plugin:
    """The one plugin of this name.

    Args:
        kind: A key of `GROUPS`.
        name: Name of the entry point.
        shipped: Names of this kind that robustgen has itself; they cannot be taken.

    Raises:
        RequestError: there is none, several packages declare it, robustgen has a part
            of this name itself, or the entry point names no callable.
    """
    installed = _installed(kind)
    if name not in installed:
        hint = suggestion(name, installed) if installed else _none_installed(kind)
        raise RequestError(f"unknown plugin '{name}'. {hint}")
    plugin, *others = installed[name]
    origins = [one.origin for one in (plugin, *others)]
    if name in shipped:
        raise RequestError(
            f"'{name}' is a {_word(kind)} of robustgen and also a plugin of "
            f"{' and '.join(origins)}. A plugin cannot take the name of what ships: "
            "rename the entry point or uninstall the package."
        )
    if others:
        raise RequestError(
            f"plugin '{name}' is declared by {' and '.join(origins)}: uninstall all "
            "but one."
        )
    try:
        _module_and_callable(plugin.target)
    except Exception as error:
        raise RequestError(
            f"plugin '{name}' of {plugin.origin}: its entry point {error}"
        ) from None
    return plugin


def is_plugin(kind: str, name: str) -> bool:
    """Whether an installed package declares this name."""
    return name in _installed(kind)


def with_plugins(kind: str, shipped: Collection[str]) -> tuple[str, ...]:
    """Every name of a kind that a suite may say: those that ship and plugins."""
    return (*shipped, *(name for name in _installed(kind) if name not in shipped))


def _none_installed(kind: str) -> str:
    return f"No installed package declares an entry point in `{GROUPS[kind]}`."


def _word(kind: str) -> str:
    return {"projector": "projection method", "views": "view family"}.get(kind, kind)


def _installed(kind: str) -> Mapping[str, tuple[Plugin, ...]]:
    return _read_entry_points(_searched()).get(kind, {})


def _searched() -> tuple[tuple[str, int], ...]:
    """Where packages are looked for, and when each place last changed."""
    found: list[tuple[str, int]] = []
    for place in sys.path:
        try:
            found.append((place, os.stat(place or ".").st_mtime_ns))
        except OSError:
            continue
    return tuple(found)


@functools.lru_cache(maxsize=4)
def _read_entry_points(
    searched: tuple[tuple[str, int], ...],
) -> Mapping[str, Mapping[str, tuple[Plugin, ...]]]:
    """Plugins by kind and name; read again only where a place has changed."""
    del searched
    # Not needed to import robustgen.
    from importlib.metadata import entry_points

    points = entry_points()
    found: dict[str, dict[str, tuple[Plugin, ...]]] = {}
    for kind, group in GROUPS.items():
        named = found.setdefault(kind, {})
        for point in points.select(group=group):
            package = point.dist
            plugin = Plugin(
                kind=kind,
                name=point.name,
                target=point.value.partition("[")[0].strip(),
                distribution="an unknown package" if package is None else package.name,
                version="" if package is None else package.version,
            )
            others = named.get(point.name, ())
            if plugin not in others:
                named[point.name] = (*others, plugin)
    return found


def require_plugin(ref: str, plugins: Sequence[str]) -> None:
    """Refuses a factory whose module the user has not named.

    Args:
        ref: `module:callable`.
        plugins: Modules named with `--plugin`.

    Raises:
        RequestError: the module is not among them.
    """
    module = ref.partition(":")[0]
    if module not in plugins:
        raise RequestError(
            f"The suite wants to run `{ref}`. A suite is data, so its code runs only "
            f"if you name the module: --plugin {module}"
        )


def call_custom(
    part: Custom,
    kind: str,
    plugins: Sequence[str],
    given: Mapping[str, Any] = MappingProxyType({}),
) -> Any:
    """Imports and calls what a suite names.

    Args:
        part: Factory or plugin, with its arguments.
        kind: A key of `GROUPS`.
        plugins: Modules named with `--plugin`.
        given: Keyword arguments beside those of the suite, which cannot set them.

    Raises:
        RequestError: it may not run, is not found, or fails.
    """
    taken = sorted(given.keys() & part.args.keys())
    if taken:
        raise RequestError(
            f"{kind} `{part.reference}`: robustgen gives `{taken[0]}` itself; leave it "
            "out of `args`."
        )
    arguments = {**given, **part.args}
    if part.factory is not None:
        return call_factory(part.factory, arguments, plugins)
    target = find_plugin(kind, part.plugin or "").target
    return _call(target, _find(target, f"plugin {part.plugin}"), arguments)


def call_factory(ref: str, args: dict[str, Any], plugins: Sequence[str]) -> Any:
    """Imports `module:callable` from here or the environment and calls it.

    Raises:
        RequestError: the module is not named with `--plugin`, is not found, has no
            such callable, or fails.
    """
    require_plugin(ref, plugins)
    with _importable_from(Path.cwd()):
        value = _find(ref, f"--plugin {ref.partition(':')[0]}")
        return _call(ref, value, args)


def _find(ref: str, named: str) -> Any:
    module, _, name = ref.partition(":")
    value = _import(module, named)
    for part in name.split("."):
        if not hasattr(value, part):
            public = [word for word in dir(value) if not word.startswith("_")]
            raise RequestError(f"`{ref}`: no such name. {suggestion(part, public)}")
        value = getattr(value, part)
    if not callable(value):
        raise RequestError(f"`{ref}` is not callable; name a function or class.")
    return value


def _call(ref: str, value: Any, args: Mapping[str, Any]) -> Any:
    try:
        return value(**args)
    except RequestError:
        raise
    except Exception as error:
        raise RequestError(
            f"`{ref}` failed ({type(error).__name__}: {error})."
        ) from error


def check_plugins(
    plugins: Sequence[str], parts: Iterable[tuple[str, Custom]] = ()
) -> None:
    """Imports everything that will be called, so that mistakes are found early.

    Args:
        plugins: Modules named with `--plugin`.
        parts: Kind and part of what a suite names.

    Raises:
        RequestError: a factory may not run, or a module cannot be imported.
    """
    wanted = list(parts)
    for _, part in wanted:
        if part.factory is not None:
            require_plugin(part.factory, plugins)
    with _importable_from(Path.cwd()):
        for module in plugins:
            _import(module, f"--plugin {module}")
    for kind, part in wanted:
        module_of(part, kind, plugins)


def module_of(part: Custom, kind: str, plugins: Sequence[str]) -> Any:
    """The module of the callable, imported.

    Raises:
        RequestError: it may not run, or is not found.
    """
    if part.factory is not None:
        require_plugin(part.factory, plugins)
        module = part.factory.partition(":")[0]
        with _importable_from(Path.cwd()):
            return _import(module, f"--plugin {module}")
    target = find_plugin(kind, part.plugin or "").target
    return _import(target.partition(":")[0], f"plugin {part.plugin}")


def _import(module: str, named: str) -> Any:
    try:
        return importlib.import_module(module)
    except Exception as error:
        raise RequestError(
            f"{named}: cannot be imported from {Path.cwd()} "
            f"({type(error).__name__}: {error})."
        ) from error


@contextlib.contextmanager
def _importable_from(folder: Path) -> Generator[None]:
    """Modules of `folder` can be imported; the console script does not see them."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))
