"""Seconds and memory of the kinds of work that a suite consists of, by domain."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from robustgen.workload import Kind, Work


class Rate(NamedTuple):
    """CPU seconds of one kind of work.

    Args:
        call: What a call of the network costs, however few images it holds.
        image: What each image in it adds.
    """

    call: float
    image: float


@dataclass(frozen=True)
class UnitCost:
    """What the kinds of work cost in one domain.

    Args:
        rates: CPU seconds of one thread; see `robustgen.workload.Kind`.
        two_cores: Seconds by the clock on two cores, as a share of those.
        networks_mb: Memory of the networks and of one block of activations.
        image_mb: Memory that grows with each image of a batch.
    """

    rates: Mapping[Kind, Rate]
    two_cores: float
    networks_mb: float
    image_mb: float

    def cpu_seconds(self, work: Work) -> float:
        """CPU seconds of some work, in one thread."""
        return sum(
            rate.call * work.calls.get(kind, 0) + rate.image * work.images.get(kind, 0)
            for kind, rate in self.rates.items()
        )


def _large(
    *, classify: float, attack: float, synthesize: float, project: float
) -> Mapping[Kind, Rate]:
    """Rates of networks of released size, from seconds per image on two cores.

    Large layers keep both cores busy, so an image takes twice that of one. What was
    not measured is put together from what was.
    """
    seconds: dict[Kind, float] = {
        "classify": classify,
        "attack": attack,
        "synthesize": synthesize,
        "steer": 2 * synthesize + attack,
        "encode": attack,
        "project": project,
        "jitter": 0.0,
    }
    return {kind: Rate(0.0, 2 * each) for kind, each in seconds.items()}


_DIGITS = UnitCost(
    rates={
        "classify": Rate(0.0004, 0.00009),
        "attack": Rate(0.0018, 0.00038),
        "synthesize": Rate(0.0010, 0.00110),
        "steer": Rate(0.0045, 0.00210),
        "encode": Rate(0.0014, 0.00053),
        "project": Rate(0.0096, 0.00255),
        "jitter": Rate(0.0002, 0.00002),
    },
    two_cores=0.95,
    networks_mb=0,
    image_mb=6,
)

UNIT_COSTS: Mapping[str, UnitCost] = MappingProxyType(
    {
        "digits": _DIGITS,
        "faces": UnitCost(
            rates={
                "classify": Rate(0.0004, 0.00003),
                "attack": Rate(0.0014, 0.00012),
                "synthesize": Rate(0.0013, 0.00062),
                "steer": Rate(0.0045, 0.00200),
                "encode": Rate(0.0010, 0.00059),
                "project": Rate(0.0077, 0.00279),
                "jitter": Rate(0.0002, 0.00004),
            },
            two_cores=0.95,
            networks_mb=0,
            image_mb=6,
        ),
        "mnist": _DIGITS,  # networks of the same sizes
        "smiles": UnitCost(
            rates={
                "classify": Rate(0.0, 0.00079),
                "attack": Rate(0.0030, 0.00199),
                "synthesize": Rate(0.0, 0.00768),
                "steer": Rate(0.0, 0.02560),
                "encode": Rate(0.0010, 0.00221),
                "project": Rate(0.0047, 0.01425),
                "jitter": Rate(0.0, 0.00008),
            },
            two_cores=0.95,
            networks_mb=0,
            image_mb=24,
        ),
        "celebahq": UnitCost(
            rates=_large(classify=0.16, attack=0.34, synthesize=0.83, project=2.4),
            two_cores=0.5,
            networks_mb=6100,
            image_mb=250,
        ),
        "car": UnitCost(
            rates=_large(classify=0.015, attack=0.043, synthesize=0.53, project=1.4),
            two_cores=0.5,
            networks_mb=3000,
            image_mb=100,
        ),
        "cat": UnitCost(
            rates=_large(classify=0.017, attack=0.037, synthesize=0.33, project=0.92),
            two_cores=0.5,
            networks_mb=1600,
            image_mb=60,
        ),
        "cifar10": UnitCost(
            rates=_large(classify=0.003, attack=0.008, synthesize=0.044, project=0.17),
            two_cores=0.5,
            networks_mb=1000,
            image_mb=40,
        ),
    }
)
"""By domain; a generator of the user's own without a card counts as `faces`.
`python benchmarks/units.py` measures faces and digits, with a name smiles and mnist,
`python benchmarks/scale.py` the others, on networks of the released sizes."""
