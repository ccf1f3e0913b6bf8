"""Numbers as people write them, and the words of a fault."""

import math
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from robustgen.documents import Document
from robustgen.errors import RequestError
from robustgen.schema import Items, Number, Record, parse_number, validate


@given(st.integers(-(10**9), 10**9), st.integers(1, 10**9))
def test_fractions_are_exact(top: int, bottom: int):
    assert parse_number(f"{top}/{bottom}") == top / bottom
    assert parse_number(f" {top} / {bottom} ") == top / bottom


@given(st.floats(allow_nan=False))
def test_numbers_come_back(value: float):
    assert parse_number(value) == value
    assert parse_number(repr(value)) == value


def test_text_that_yaml_leaves_as_text():
    # YAML 1.1 reads 1e-3 as a text, for want of a dot.
    assert parse_number("1e-3") == 0.001
    assert parse_number("inf") == math.inf
    assert parse_number("33/32") == 1.03125


@pytest.mark.parametrize(
    "value",
    ["", "x", "8//255", "8/255/2", "nan", math.nan, True, None, [], "1" * 41, "1/1e9"],
)
def test_what_is_no_number(value: object):
    with pytest.raises(PydanticCustomError, match="should be a number such as"):
        parse_number(value)


def test_division_by_zero_is_a_fault():
    with pytest.raises(PydanticCustomError, match="'8/0' divides by zero"):
        parse_number("8/0")


def test_infinity_is_no_number_unless_it_may_be():
    with pytest.raises(ValidationError, match="finite"):
        TypeAdapter(Number).validate_python("inf")


class _Inner(Record):
    color: Literal["red", "green"] = "red"
    size: Annotated[int, Field(ge=1)] = 1


class _Outer(Record):
    name: str
    inner: Items[_Inner] = ()


def faults(data: object) -> list[str]:
    from pathlib import Path

    document = Document(Path("f.yaml"), {}, {("inner",): 3, ("inner", 1): 5})
    with pytest.raises(RequestError) as caught:
        validate(_Outer, document, data)
    return str(caught.value).splitlines()


def test_every_fault_is_listed_in_the_order_of_lines():
    data = {"inner": [{}, {"colour": "red", "size": True}, 3], "extra": 1}
    assert faults(data) == [
        "f.yaml: name: required, but missing.",
        "f.yaml: extra: unknown key. Known: inner, name.",
        "f.yaml:3: inner.2: should be keys and values, not 3.",
        "f.yaml:5: inner.1.size: should be a valid integer, not True.",
        "f.yaml:5: inner.1.colour: unknown key. Did you mean 'color'? "
        "Known: color, size.",
    ]


def test_words_of_single_faults():
    assert faults({"name": "n", "inner": [{"color": "gren"}]}) == [
        "f.yaml:3: inner.0.color: unknown value 'gren'. Did you mean 'green'? "
        "Known: green, red."
    ]
    assert faults({"name": 1}) == ["f.yaml: name: should be a valid string, not 1."]
    assert faults({"name": "n", "inner": 5}) == [
        "f.yaml:3: inner: should be a list, not 5."
    ]
    assert faults({"name": "n", "inner": [{"size": 0}]}) == [
        "f.yaml:3: inner.0.size: should be greater than or equal to 1, not 0."
    ]


def test_a_record_is_frozen_and_converts_nothing():
    with pytest.raises(ValidationError):
        _Inner.model_validate({"size": "1"})
    with pytest.raises(ValidationError):
        _Inner().size = 2  # pyright: ignore[reportAttributeAccessIssue]
