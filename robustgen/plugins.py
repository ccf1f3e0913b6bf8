"""Code of the user's own that a suite names as `factory: module:callable`.

A suite is data and may come from anywhere, so its factories run only if the user
names their module on the command line with `--plugin`.
"""

import contextlib
import importlib
import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from robustgen.errors import RequestError, suggestion
from robustgen.schema import Name, Record, brief, fault


def _module_and_callable(value: str) -> str:
    module, colon, name = value.partition(":")
    words = [*module.split("."), *name.split(".")]
    if not colon or not all(word.isidentifier() for word in words):
        raise fault(f"should be `module:callable`, not {brief(value)}.")
    return value


FactoryPath = Annotated[str, AfterValidator(_module_and_callable)]
"""Where a callable is found: `module:callable`."""


class Factory(Record):
    """A callable of the user's own and its keyword arguments."""

    factory: FactoryPath
    """`module:callable`."""
    args: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Keyword arguments of the call."""
    name: Name | None = None
    """What the report calls it; by default the name of the callable."""

    @property
    def label(self) -> str:
        """What the report calls it."""
        return self.name or self.factory.partition(":")[2]


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


def call_factory(ref: str, args: dict[str, Any], plugins: Sequence[str]) -> Any:
    """Imports `module:callable` from here or the environment and calls it.

    Raises:
        RequestError: the module is not named with `--plugin`, is not found, has no
            such callable, or fails.
    """
    require_plugin(ref, plugins)
    module, _, name = ref.partition(":")
    with _importable_from(Path.cwd()):
        value = _import(module)
        for part in name.split("."):
            if not hasattr(value, part):
                public = [word for word in dir(value) if not word.startswith("_")]
                raise RequestError(f"`{ref}`: no such name. {suggestion(part, public)}")
            value = getattr(value, part)
        if not callable(value):
            raise RequestError(f"`{ref}` is not callable; name a function or class.")
        try:
            return value(**args)
        except RequestError:
            raise
        except Exception as error:
            raise RequestError(
                f"`{ref}` failed ({type(error).__name__}: {error})."
            ) from error


def check_plugins(plugins: Sequence[str]) -> None:
    """Imports every module named with `--plugin`, so that a mistyped one is found.

    Raises:
        RequestError: a module cannot be imported.
    """
    with _importable_from(Path.cwd()):
        for module in plugins:
            _import(module)


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except Exception as error:
        raise RequestError(
            f"--plugin {module}: cannot be imported from {Path.cwd()} "
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
