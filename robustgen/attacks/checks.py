"""Requests that an attack refuses, with the advice that mends them."""

from robustgen.errors import RequestError
from robustgen.threat import Norm, Threat


def require_norm(name: str, threat: Threat, norm: Norm) -> None:
    """Refuses a threat that an attack does not search.

    Raises:
        RequestError: the threat has another norm.
    """
    if threat.norm != norm:
        raise RequestError(
            f"Attack '{name}' searches the {norm} norm; the threat says "
            f"`norm: {threat.norm}`. Set `norm: {norm}`."
        )


def require(name: str, key: str, value: object, expected: str, *, met: bool) -> None:
    """Refuses a setting that makes no sense.

    Raises:
        RequestError: the condition is not met.
    """
    if not met:
        raise RequestError(f"Attack '{name}': `{key}: {value}` must be {expected}.")
