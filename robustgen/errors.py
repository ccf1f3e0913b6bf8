"""Errors that a user can mend, and the exit status of each.

* `RobustgenError`: base; never raised itself.
    * `RequestError` (2): what was asked for is wrong or missing. Its text is the
      whole message that the user sees: it names the file, key or line, says what was
      expected, and suggests the nearest valid name.
"""

import difflib
from collections.abc import Iterable


class RobustgenError(Exception):
    """Base of all errors that end a command with a plain message."""

    exit_code: int = 1


class RequestError(RobustgenError):
    """The request is wrong: bad YAML, unknown name, missing or damaged file."""

    exit_code: int = 2


def suggestion(name: str, known: Iterable[str]) -> str:
    """A sentence that helps with a mistyped name.

    >>> suggestion("pdg", ["cw", "pgd"])
    "Did you mean 'pgd'? Known: cw, pgd."
    >>> suggestion("zzz", ["cw", "pgd"])
    'Known: cw, pgd.'
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"Did you mean '{near[0]}'? " if near else ""
    return f"{hint}Known: {', '.join(names)}."


def unknown_name(kind: str, name: str, known: Iterable[str]) -> RequestError:
    """The error for a name that is not in a catalog.

    >>> str(unknown_name("attack", "pdg", ["cw", "pgd"]))
    "Unknown attack 'pdg'. Did you mean 'pgd'? Known: cw, pgd."
    """
    return RequestError(f"Unknown {kind} '{name}'. {suggestion(name, known)}")
