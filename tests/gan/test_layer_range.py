import pytest

from robustgen.errors import RequestError
from robustgen.gan.layers import LayerRange, parse_layers

NAMED = {"coarse": LayerRange(0, 4), "fine": LayerRange(4, 8)}


def test_size_counts_the_layers_of_a_half_open_range():
    assert LayerRange(4, 8).size == 4


@pytest.mark.parametrize(("start", "stop"), [(2, 2), (3, 1), (-1, 2)])
def test_a_range_that_is_none_does_not_construct(start: int, stop: int):
    with pytest.raises(RequestError, match="are not a range"):
        LayerRange(start, stop)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("coarse", LayerRange(0, 4)),
        ([7, 8], LayerRange(7, 8)),
        ((0, 8), LayerRange(0, 8)),
        (LayerRange(1, 2), LayerRange(1, 2)),
    ],
)
def test_names_numbers_and_ranges_are_understood(spec, expected):
    assert parse_layers(spec, named=NAMED, num_layers=8) == expected


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("fin", "Did you mean 'fine'?"),
        ([4, 9], "it has 8, so the second number may be 8"),
        ([4], "two whole numbers"),
        ([False, True], "two whole numbers"),
        ([4, 4], "are not a range"),
        (LayerRange(0, 9), "it has 8"),
    ],
)
def test_a_wrong_request_says_what_would_be_right(spec, message: str):
    with pytest.raises(RequestError, match=message.replace("?", r"\?")):
        parse_layers(spec, named=NAMED, num_layers=8)
