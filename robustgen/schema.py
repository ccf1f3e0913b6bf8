"""What every schema of a YAML file shares: strict records, numbers with units, and
faults that are listed all at once, each with its place and what was meant.
"""

import math
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    TypeAlias,
    TypeVar,
    get_args,
    get_origin,
)

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    Tag,
    ValidationError,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from robustgen.documents import Document, Loc
from robustgen.errors import RequestError, suggestion

if TYPE_CHECKING:
    from pydantic import ValidationInfo

    Info: TypeAlias = ValidationInfo
else:
    # A protocol that cannot be checked at run time; the type checkers of the tests
    # would refuse every validator that takes one.
    Info = Any


class Record(BaseModel):
    """A frozen record that refuses unknown keys and guesses no types."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, validate_default=True
    )


def fault(message: str) -> PydanticCustomError:
    """A validator's error whose text reaches the user as it is."""
    return PydanticCustomError("fault", "{message}", {"message": message})


def parse_number(value: object) -> float:
    """A number as people write it: `0.03`, `8/255`, `1e-3` or `inf`.

    >>> parse_number("8/255") == 8 / 255
    True
    >>> parse_number("inf")
    inf

    Raises:
        PydanticCustomError: not a number, or a division by zero.
    """
    number = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
    elif isinstance(value, str) and len(value) <= 40:
        parts = re.fullmatch(r"\s*(-?\d+(?:\.\d+)?)\s*/\s*(\d+(?:\.\d+)?)\s*", value)
        try:
            # Only digits reach Fraction: "1e999999999" would keep it busy for hours.
            number = (
                float(Fraction(parts[1]) / Fraction(parts[2]))
                if parts
                else float(value)
            )
        except ZeroDivisionError:
            raise fault(f"{value!r} divides by zero.") from None
        except ValueError:
            pass
    if math.isnan(number):
        raise fault(f"should be a number such as 0.5 or 8/255, not {brief(value)}.")
    return number


def brief(value: object) -> str:
    """A value as a short text for a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _as_tuple(value: object) -> object:
    # YAML has lists only; a record that is frozen all through holds tuples.
    return tuple(value) if isinstance(value, list) else value


def _finite(value: float) -> float:
    if math.isinf(value):
        raise fault("should be a finite number.")
    return value


T = TypeVar("T")
Items = Annotated[tuple[T, ...], BeforeValidator(_as_tuple)]
"""A list of the file, as a tuple."""

Extended = Annotated[float, BeforeValidator(parse_number)]
"""A number that may be infinite."""

Number = Annotated[float, AfterValidator(_finite), BeforeValidator(parse_number)]
"""A finite number."""

Count = Annotated[int, Field(ge=1, le=1_000_000)]
"""How many of something; at least one."""

Name = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$", max_length=80)
]
"""A name that can stand in a file name and in a table."""


def existing_file(value: str, info: Info) -> str:
    """The absolute path of a file that a document names relative to itself."""
    path = (info.context or {}).get("folder", Path()) / value
    if not path.is_file():
        raise fault(f"{path}: no such file.")
    return str(path.resolve())


ExistingFile = Annotated[str, AfterValidator(existing_file)]
"""A file that is there, as an absolute path; a relative one starts at the folder of the
document that names it."""

R = TypeVar("R", bound=BaseModel)


def validate(
    model: type[R],
    document: Document,
    data: object,
    *,
    origin: Callable[[Loc], Loc] = lambda loc: loc,
    keys: Sequence[str] = (),
    more: Sequence[str] = (),
    context: dict[str, Any] | None = None,
) -> R:
    """Checks `data`, which comes from `document`, against `model`.

    Args:
        model: What the data should be.
        document: Where it was read; gives the line numbers of the faults.
        data: What to check.
        origin: From a place in `data` to the place in `document` it came from.
        keys: Further keys that the top of the document may have.
        more: Faults found elsewhere, listed too.
        context: For the validators of the model.

    Raises:
        RequestError: all faults, one on each line.
    """
    faults = list(more)
    record = None
    try:
        record = model.model_validate(data, context=context)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            place, message = _describe(model, detail, keys)
            faults.append(document.fault(origin(place), message))
    if record is None or faults:
        raise RequestError("\n".join(sorted(dict.fromkeys(faults), key=_line)))
    return record


def _line(text: str) -> int:
    """The line number at the head of a fault; 0 if it has none."""
    found = re.match(r"[^\n]*?\.ya?ml:(\d+): ", text)
    return int(found[1]) if found else 0


def find_faults(
    model: type[BaseModel],
    document: Document,
    data: object,
    *,
    context: dict[str, Any] | None = None,
) -> list[str]:
    """The faults of `data` against `model`, one text each; see `validate`."""
    try:
        validate(model, document, data, context=context)
    except RequestError as error:
        return str(error).splitlines()
    return []


def _describe(
    model: type[BaseModel], error: ErrorDetails, keys: Sequence[str]
) -> tuple[Loc, str]:
    """Place and text of one fault, in words of the YAML file."""
    loc, kind, value = error["loc"], error["type"], error["input"]
    context = error.get("ctx", {})
    place = tuple(part for part in loc if not _is_tag(part))
    if kind == "extra_forbidden":
        known = [*_keys_at(model, loc[:-1]), *(keys if len(loc) == 1 else ())]
        return place, f"unknown key. {suggestion(str(loc[-1]), known)}"
    if kind == "missing":
        return place, "required, but missing."
    if kind == "literal_error" and isinstance(value, str):
        known = re.findall(r"'([^']*)'", str(context["expected"]))
        return place, f"unknown value '{value}'. {suggestion(value, known)}"
    if kind in ("model_type", "dict_type"):
        return place, f"should be keys and values, not {brief(value)}."
    if kind == "tuple_type":
        return place, f"should be a list, not {brief(value)}."
    if kind == "string_pattern_mismatch":
        return place, (
            f"should be letters, digits, '_', '-' and '.' only, not {brief(value)}."
        )
    if kind == "fault":
        return place, error["msg"]
    message = error["msg"].removeprefix("Input ").removeprefix("Value error, ")
    return place, f"{message}, not {brief(value)}."


def _is_tag(part: str | int) -> bool:
    """Whether a part of a place names a member of a union, not a key."""
    return isinstance(part, str) and part.startswith("<") and part.endswith(">")


def _keys_at(model: type[BaseModel], loc: Loc) -> list[str]:
    """Keys that the record at `loc` may have."""
    here: type[BaseModel] | None = model
    members: dict[str | None, type[BaseModel]] = {}
    for part in loc:
        if isinstance(part, int):
            continue
        if not _is_tag(part) and here is not None:
            members = _records_in(here.model_fields[part].annotation)
            here = members.get(None)
        else:
            here = members.get(str(part))
    return [] if here is None else list(here.model_fields)


def _records_in(
    annotation: Any, tag: str | None = None
) -> dict[str | None, type[BaseModel]]:
    """The records that a type speaks of, by the tag they have in its union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {tag: annotation}
    if get_origin(annotation) is Annotated:
        tags = [mark.tag for mark in annotation.__metadata__ if isinstance(mark, Tag)]
        return _records_in(annotation.__origin__, tags[0] if tags else tag)
    found: dict[str | None, type[BaseModel]] = {}
    for argument in get_args(annotation):
        found |= _records_in(argument, tag)
    return found
