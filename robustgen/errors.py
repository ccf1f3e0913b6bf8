"""Errors that a user can mend, and the exit status of each.

* `RobustgenError`: base; never raised itself.
    * `RequestError` (2): what was asked for is wrong or missing. Its text is the
      whole message that the user sees: it names the file, key or line, says what was
      expected, and suggests the nearest valid name.
"""

import difflib
from collections.abc import Iterable

LISTED = 20
"""Names that a message lists; of more, it lists the nearest six."""


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
    >>> suggestion("n4", [f"n{k}" for k in range(100)])
    "Did you mean 'n4'? Known: n4, n94, n84, n74, n64, n54 and 94 others."
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"Did you mean '{near[0]}'? " if near else ""
    if len(names) <= LISTED:
        return f"{hint}Known: {', '.join(names)}."
    nearest = difflib.get_close_matches(name, names, n=6, cutoff=0.0)
    return f"{hint}Known: {', '.join(nearest)} and {len(names) - 6} others."


def unknown_name(kind: str, name: str, known: Iterable[str]) -> RequestError:
    """The error for a name that is not in a catalog.

    >>> str(unknown_name("attack", "pdg", ["cw", "pgd"]))
    "Unknown attack 'pdg'. Did you mean 'pgd'? Known: cw, pgd."
    """
    return RequestError(f"Unknown {kind} '{name}'. {suggestion(name, known)}")
