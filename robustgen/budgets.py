"""How much work the attacks of the ladder may spend, and how much the probes do."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from robustgen.errors import suggestion
from robustgen.schema import Count, Number, Record, brief, fault


class Budget(Record):
    """Numbers that bound every search of the ladder; see `BUDGETS` for the presets."""

    steps: Count
    """Gradient steps of one search (`bpda_identity`, `bpda_encoder`, `unrolled`)."""
    restarts: Count
    """Searches per image: the first from the clean image, more from random starts."""
    step_share: Annotated[Number, Field(gt=0, le=2)] = 0.25
    """Length of the first step, as a share of `eps`; it falls to a tenth of that."""
    draws: Count
    """Draws of a random defense over which each gradient is averaged (EOT)."""
    views: Count
    """Views of an ensemble that one gradient looks at, fresh ones for each draw."""
    unroll: Count | None
    """Passes of the projection that `unrolled` goes through; None for all of them. The
    attacked image is scored behind all of them in any case."""
    latent_steps: Count
    """Steps of the search in w of `latent`."""
    breaking_steps: Count
    """Gradient steps of `projection_breaking`."""
    queries: Count
    """Images that `square` asks the defense about."""
    spsa_steps: Count
    """Steps of `spsa`."""
    spsa_samples: Count
    """Random directions, two queries each, of one step of `spsa`."""
    substitute_epochs: Count
    """Passes over the queried images when `transfer` trains its substitute."""
    select_draws: Count
    """Fresh draws on which the strongest candidate of each image is chosen."""
    score_draws: Count
    """Fresh draws on which the chosen image is scored."""


BUDGETS: Mapping[str, Budget] = MappingProxyType(
    {
        "smoke": Budget(
            steps=10,
            restarts=1,
            draws=1,
            views=4,
            unroll=None,
            latent_steps=30,
            breaking_steps=10,
            queries=20,
            spsa_steps=2,
            spsa_samples=8,
            substitute_epochs=10,
            select_draws=2,
            score_draws=5,
        ),
        "standard": Budget(
            steps=20,
            restarts=2,
            draws=2,
            views=8,
            unroll=None,
            latent_steps=100,
            breaking_steps=20,
            queries=100,
            spsa_steps=4,
            spsa_samples=16,
            substitute_epochs=30,
            select_draws=5,
            score_draws=20,
        ),
        "paper": Budget(
            steps=200,
            restarts=5,
            draws=20,
            views=32,
            unroll=None,
            latent_steps=1000,
            breaking_steps=200,
            queries=5000,
            spsa_steps=100,
            spsa_samples=128,
            substitute_epochs=100,
            select_draws=20,
            score_draws=100,
        ),
    }
)
"""`smoke` shows that everything runs, `standard` gives numbers on two CPU cores,
`paper` has the budgets of the literature (200 steps and 20 draws: Lee and Kim,
ICCV 2023; 5,000 queries: arXiv:1912.00049)."""


def _expand(value: object) -> object:
    """The keys of a preset, with those of the suite in their place."""
    if isinstance(value, Budget):
        return value
    own: dict[str, Any] = {}
    name = value
    if isinstance(value, Mapping):
        own = {str(key): item for key, item in value.items()}
        name = own.pop("preset", "standard")
    if not isinstance(name, str):
        raise fault(
            f"should be the name of a budget or its keys, not {brief(value)}. "
            f"Known: {', '.join(BUDGETS)}."
        )
    if name not in BUDGETS:
        raise fault(f"unknown budget '{name}'. {suggestion(name, tuple(BUDGETS))}")
    return {**BUDGETS[name].model_dump(), **own}


BudgetSetting = Annotated[Budget, BeforeValidator(_expand)]
"""`standard`, or `{preset: standard, steps: 50}`."""

PROBE_CHEAP = 32
"""Images of probes that ask the bare classifier, at most."""

PROBE_DEAR = 8
"""Images of probes that ask a whole path."""

PROBE_SHARE = 0.03
"""Those of the bare classifier as a share of all images of the run: a small run has
small probes."""

PROBE_NOISES = 5
"""Noises that each image of a path meets; the bare classifier meets four times as
many."""

PROBE_SURVIVORS = 0.08
"""Survivors of a tier that are searched for longer, as a share of the test images: of
200 images 16. With four, a tier of which twice the steps break every second survivor
passed or failed by the rounding of the day."""
