"""What the user's own code is made of: the files that decide what it computes.

Finished work is reused only if the code that made it is the same. For the user's own
that is the file of the callable and all that it imports from its own folder, found
without running anything.
"""

import ast
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from robustgen.files import sha256_of
from robustgen.plugins import Custom, find_plugin, module_of

_INSTALLED = ("site-packages", "dist-packages")
"""Folders that hold packages of many authors."""


def code_texts(
    parts: Iterable[tuple[str, Custom]], plugins: Sequence[str]
) -> tuple[str, ...]:
    """Fingerprints of the code that some parts run: one text for each file.

    Code without a file, such as that of a notebook, gets a text that never comes again:
    nobody can tell whether it is the same, so its results are not reused.

    Args:
        parts: Kind and part, as `robustgen.suite.custom_parts` gives them.
        plugins: Modules named with `--plugin`.

    Raises:
        RequestError: a module may not run, or is not found.
    """
    found: list[str] = []
    for kind, part in parts:
        files = source_files(module_of(part, kind, plugins))
        if not files:
            found.append(uuid.uuid4().hex)
        found += [f"{path.name}: {sha256_of(path)}" for path in files]
        if part.plugin is not None:
            found.append(find_plugin(kind, part.plugin).origin)
    return tuple(dict.fromkeys(found))


def plugin_origins(parts: Iterable[tuple[str, Custom]]) -> dict[str, str]:
    """Distribution and version of every plugin among some parts, for a manifest.

    Raises:
        RequestError: a plugin is not installed any more.
    """
    return {
        f"{kind}: {part.plugin}": find_plugin(kind, part.plugin).origin
        for kind, part in parts
        if part.plugin is not None
    }


def source_files(module: object) -> tuple[Path, ...]:
    """The file of a module and all files of its folder or package that it imports.

    Imports are read, not run: those inside functions count too. Of a package among
    those of other authors, its own files alone count.

    Args:
        module: An imported module.

    Returns:
        Files, sorted; none where the module has no source.
    """
    name = str(getattr(module, "__name__", ""))
    file = getattr(module, "__file__", None)
    if file is None or Path(file).suffix != ".py" or not Path(file).is_file():
        return ()
    start = Path(file).resolve()
    # `a.b.c` lies two folders below what is on sys.path, one more if it is a package.
    depth = name.count(".") + (start.name == "__init__.py")
    root = start.parents[depth]
    top = name.partition(".")[0]
    found: set[Path] = set()
    todo = [start]
    while todo:
        path = todo.pop()
        if path in found:
            continue
        found.add(path)
        todo += [
            file
            for imported in _imports(path, root)
            if _counts(imported, top, root)
            for file in _files_of(imported, root)
        ]
    return tuple(sorted(found))


def _counts(imported: str, top: str, root: Path) -> bool:
    """Whether an import is of the user's own code."""
    first = imported.partition(".")[0]
    if root.name in _INSTALLED:
        return first == top
    # The code of robustgen is in the address of every result already.
    return first != "robustgen"


def _imports(path: Path, root: Path) -> Iterator[str]:
    """Dotted names that a file imports; `from a import b` may mean a module `a.b`."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return
    package = path.relative_to(root).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*above, *filter(None, [node.module])))
            for alias in node.names:
                yield ".".join(filter(None, [base, alias.name]))


def _files_of(imported: str, root: Path) -> Iterator[Path]:
    """Files below `root` that an import runs: of the module and of its packages."""
    here = root
    for part in imported.split("."):
        here = here / part
        for file in (here.with_name(f"{part}.py"), here / "__init__.py"):
            if file.is_file():
                yield file.resolve()
