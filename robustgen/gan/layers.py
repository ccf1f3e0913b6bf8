"""Ranges of style layers.

A generator of resolution R has `2 log2(R) - 2` style layers. The early ones set pose
and shape (coarse), the late ones color and texture (fine); the card of a generator
says where each range lies.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from robustgen.errors import RequestError, suggestion


@dataclass(frozen=True)
class LayerRange:
    """The style layers `start, ..., stop - 1`.

    Args:
        start: First layer, counted from 0.
        stop: One past the last layer.

    Raises:
        RequestError: the range is empty or starts below 0.
    """

    start: int
    stop: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop:
            raise RequestError(
                f"Layers [{self.start}, {self.stop}] are not a range: it counts from "
                "0 and leaves out the second number, so the first must be smaller."
            )

    @property
    def size(self) -> int:
        """Number of layers in the range."""
        return self.stop - self.start

    def check(self, num_layers: int) -> None:
        """Makes sure that a generator has these layers.

        Raises:
            RequestError: the range ends behind the generator's last layer.
        """
        if self.stop > num_layers:
            raise RequestError(
                f"Layers [{self.start}, {self.stop}] end behind the generator's last: "
                f"it has {num_layers}, so the second number may be {num_layers} at "
                "most."
            )


LayerSpec: TypeAlias = str | Sequence[int] | LayerRange
"""How a range may be asked for: by a name of the card or as `[start, stop]`."""


def parse_layers(
    spec: LayerSpec, *, named: Mapping[str, LayerRange], num_layers: int
) -> LayerRange:
    """The range that a user asked for, known to exist in the generator.

    >>> fine = LayerRange(4, 8)
    >>> parse_layers("fine", named={"fine": fine}, num_layers=8)
    LayerRange(start=4, stop=8)
    >>> parse_layers([6, 8], named={}, num_layers=8)
    LayerRange(start=6, stop=8)

    Args:
        spec: A name such as `coarse` or `fine`, or the two numbers `[start, stop]`.
        named: Ranges of the generator's card.
        num_layers: Number of style layers of the generator.

    Raises:
        RequestError: the name is unknown, the numbers are not two integers, or the
            generator has no such layers.
    """
    if isinstance(spec, LayerRange):
        layers = spec
    elif isinstance(spec, str):
        if spec not in named:
            raise RequestError(
                f"Unknown layers '{spec}' of this generator. {suggestion(spec, named)}"
                " Two numbers [start, stop] will do as well."
            )
        layers = named[spec]
    else:
        # A YAML `true` is an int to Python, but nobody means layer 1 by it.
        if len(spec) != 2 or any(type(bound) is not int for bound in spec):
            raise RequestError(
                f"Layers {list(spec)} must be two whole numbers [start, stop], or a "
                f"name. Known: {', '.join(sorted(named)) or 'none'}."
            )
        layers = LayerRange(spec[0], spec[1])
    layers.check(num_layers)
    return layers
