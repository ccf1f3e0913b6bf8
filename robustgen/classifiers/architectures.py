"""Help with the names of architectures that other packages define."""

import difflib
from collections.abc import Iterable

from robustgen.errors import RequestError


def unknown_architecture(
    library: str, name: str, known: Iterable[str], how_to_list: str
) -> RequestError:
    """The error for a name that a library does not have; it has too many to list.

    >>> str(unknown_architecture("torchvision", "resnet5", ["resnet50"], "`ls`"))
    "Unknown torchvision classifier 'resnet5'. Did you mean 'resnet50'? `ls` lists all."
    """
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    hint = f"Did you mean '{near[0]}'? " if near else ""
    return RequestError(
        f"Unknown {library} classifier '{name}'. {hint}{how_to_list} lists all."
    )
