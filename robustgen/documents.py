"""YAML files that people write, read safely and with the line of every key."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, TypeAlias

import yaml

from robustgen.errors import RequestError

Loc: TypeAlias = tuple[str | int, ...]
"""Keys and list indices that lead to one value of a document."""

MAX_BYTES = 1_000_000
MAX_NODES = 20_000
"""Values of a document with its aliases written out."""

MAX_DEPTH = 40
"""Keys and indices that lead to a value; an alias within itself has no end."""


@dataclass(frozen=True)
class Document:
    """A YAML mapping and where each of its values stands.

    Args:
        path: The file, as the user named it.
        data: Its content: mappings, lists, texts, numbers, truth values, None.
        lines: Line of each key or list item, counted from 1.
    """

    path: Path
    data: dict[str, Any]
    lines: dict[Loc, int]

    def fault(self, loc: Loc, message: str) -> str:
        """One line that says where a fault is and what it is."""
        known = next(
            (loc[:n] for n in range(len(loc), 0, -1) if loc[:n] in self.lines), None
        )
        place = f"{self.path}:{self.lines[known]}" if known else f"{self.path}"
        return ": ".join(filter(None, (place, ".".join(map(str, loc)), message)))


def read_document(path: Path) -> Document:
    """Reads one YAML mapping with `safe_load` semantics.

    Raises:
        RequestError: the file is missing, a folder, unreadable, not UTF-8, too large,
            not YAML, empty, not a mapping, or names a key twice.
    """
    text = _read_text(path)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        lines = _lines(root, path) if root else {}
        data = yaml.safe_load(text)
    except RequestError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}" if mark else f"{path}"
        raise RequestError(f"{place}: not valid YAML ({error.problem}).") from error
    except RecursionError as error:
        raise RequestError(f"{path}: not valid YAML (nested too deeply).") from error
    # PyYAML lets errors of many types out for a bad date, `!!int x` and the like.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise RequestError(f"{path}: not valid YAML ({reason}).") from error
    if root is None or data is None:
        raise RequestError(f"{path}: the file is empty; expected keys and values.")
    if not isinstance(data, dict):
        raise RequestError(
            f"{path}: expected keys and values (`name: ...`), not a "
            f"{type(data).__name__}."
        )
    return Document(path, data, lines)


def mapping_document(data: Mapping[str, Any], title: str) -> Document:
    """A mapping made in Python, as if it had been read from a file.

    Args:
        data: Mappings with texts as keys, lists, tuples, texts, numbers, truth values
            and None.
        title: What messages call it.

    Raises:
        RequestError: it holds anything else, such as a network: settings are written
            down with every result, and objects cannot be.
    """
    return Document(Path(title), _plain(data, title), {})


def _plain(value: Any, place: str, depth: int = 0) -> Any:
    """A copy of lists and dictionaries alone."""
    if depth > MAX_DEPTH:
        raise RequestError(f"{place}: too deeply nested.")
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise RequestError(f"{place}: a key must be a text, not {key!r}.")
        return {k: _plain(v, f"{place}.{k}", depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, f"{place}.{k}", depth + 1) for k, v in enumerate(value)]
    if isinstance(value, PurePath):
        return str(value)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise RequestError(
        f"{place}: a {type(value).__name__} cannot stand in a suite, which is data. "
        "Return it from a function and name that: `factory: module:callable`."
    )


def _read_text(path: Path) -> str:
    try:
        if path.is_dir():
            raise RequestError(f"{path}: is a folder; name a YAML file.")
        if path.stat().st_size > MAX_BYTES:
            raise RequestError(f"{path}: too large for a YAML file of settings.")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}: not a UTF-8 text file.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RequestError(f"{path}: cannot be read ({reason}).") from error


def _lines(root: yaml.Node, path: Path) -> dict[Loc, int]:
    """Line of every key and list item; refuses what a mapping must not hold."""
    lines: dict[Loc, int] = {}
    faults: list[str] = []
    todo: list[tuple[Loc, yaml.Node]] = [((), root)]
    count = 0
    while todo:
        loc, node = todo.pop()
        count += 1
        if len(loc) > MAX_DEPTH or count > MAX_NODES:
            raise RequestError(
                f"{path}: too many values, too deeply nested, or an alias of itself."
            )
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                lines[(*loc, index)] = item.start_mark.line + 1
                todo.append(((*loc, index), item))
        elif isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                line = key.start_mark.line + 1
                if key.tag == "tag:yaml.org,2002:merge":
                    todo.append((loc, value))
                    continue
                if key.tag != "tag:yaml.org,2002:str":
                    faults.append(
                        f"{path}:{line}: a key must be a text; quote it: "
                        f'"{getattr(key, "value", "")}".'
                    )
                    continue
                if key.value in seen:
                    where = ".".join(map(str, (*loc, key.value)))
                    faults.append(f"{path}:{line}: {where}: this key stands twice.")
                seen.add(key.value)
                lines[(*loc, key.value)] = line
                todo.append(((*loc, key.value), value))
    if faults:
        raise RequestError("\n".join(sorted(faults)))
    return lines
