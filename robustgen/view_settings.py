"""The section `views` of a suite: how a projected code varies. No torch here.

    views: {family: pca, layers: fine, count: 32, beta: 2}

Each family has the keys that it understands and no others. A family of the user's own
is named by `factory: module:callable`, or by the name of an entry point.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from robustgen.errors import RequestError, suggestion
from robustgen.plugins import Factory, find_plugin, is_plugin, with_plugins
from robustgen.schema import (
    Count,
    ExistingFile,
    Items,
    Number,
    Record,
    brief,
    fault,
)

FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        "stylemix": "codes of the chosen layers replaced by those of a random image",
        "isotropic": "Gaussian noise of std `sigma` on the chosen layers",
        "pca": "a step of up to `beta` stds along a principal direction of w",
        "sefa": "the same along a direction that the layers' weights amplify most",
        "boundary": "the same across the classifier's boundary, or beside it",
        "walk": "a step that shifts, zooms, turns or lights the image",
    }
)
"""How views vary a code, with one line about each."""

EDITS: Mapping[str, str] = MappingProxyType(
    {
        "shift_x": "to the left or right, by up to an eighth of the width",
        "shift_y": "up or down, by up to an eighth of the height",
        "zoom": "larger or smaller, by a factor of up to 1.25",
        "rotate": "by up to 15 degrees",
        "brightness": "lighter or darker, by up to a quarter of the range",
    }
)
"""What a walk may imitate, with one line about each; the sizes are those of beta 1."""

LAYER_NAMES = ("coarse", "middle", "fine", "all")
"""Ranges of style layers that may have a name; a domain may lack some."""


def _layer_range(value: object) -> object:
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, str) and value not in LAYER_NAMES:
        raise fault(
            f"unknown layers '{value}'. {suggestion(value, LAYER_NAMES)} "
            "Or give a range: [start, stop]."
        )
    if not isinstance(value, str | tuple):
        raise fault(
            f"should be {', '.join(LAYER_NAMES)} or [start, stop], not {value!r}."
        )
    return value


StrengthKey: TypeAlias = Literal["sigma", "beta"]
"""Keys that say how far a view goes."""

ACROSS = 0.5
"""Stds across a boundary: where the shipped domains' views still keep the decision."""

Strength = Annotated[Number, Field(gt=0)]
"""How far a view goes; None where the domain's middle one will do."""


class Views(Record):
    """What every family has."""

    strength: ClassVar[StrengthKey | None] = None
    """The key that says how far a view goes, where there is one."""

    count: Annotated[int, Field(ge=1, le=10_000)] = 32
    """Views of one image."""


class LayerViews(Views):
    """What every family that ships has: it varies a range of layers."""

    layers: Annotated[
        Annotated[Literal["coarse", "middle", "fine", "all"], Tag("<name>")]
        | Annotated[tuple[int, int], Tag("<range>")],
        Discriminator(lambda value: "<name>" if isinstance(value, str) else "<range>"),
        BeforeValidator(_layer_range),
    ] = "fine"
    """Style layers that vary: named by the domain, or half-open."""

    @field_validator("layers")
    @classmethod
    def _a_range(cls, value: str | tuple[int, int]) -> str | tuple[int, int]:
        if not isinstance(value, str) and not 0 <= value[0] < value[1]:
            raise fault(
                f"[{value[0]}, {value[1]}] is empty; start at 0 or more, below stop."
            )
        return value


class StylemixViews(LayerViews):
    """Codes of the layers replaced by those of a random image.

    A class-conditional generator draws it from the class that the classifier gives.
    """

    family: Literal["stylemix"] = "stylemix"


class IsotropicViews(LayerViews):
    """Gaussian noise on the layers."""

    strength: ClassVar[StrengthKey | None] = "sigma"

    family: Literal["isotropic"]
    sigma: Strength | None = None
    """Std of the noise, in units of w; by default the domain's middle one."""


class PcaViews(LayerViews):
    """Steps along principal directions of w."""

    strength: ClassVar[StrengthKey | None] = "beta"

    family: Literal["pca"]
    beta: Strength | None = None
    """Half-width of a step, in stds along it; by default the domain's middle one."""
    directions: ExistingFile | None = None
    """Statistics of `save_pca`, of the released code or of GANSpace; by default those
    of the generator's card."""


class SefaViews(LayerViews):
    """Steps along eigenvectors of the layers' weights (arXiv:2007.06600)."""

    strength: ClassVar[StrengthKey | None] = "beta"

    family: Literal["sefa"]
    beta: Strength | None = None
    """Half-width of a step, in stds along it; by default the domain's middle one."""
    directions: ExistingFile | None = None
    """Directions of `save_directions`, or factors of rosinality's; by default computed
    from the weights."""


class BoundaryViews(LayerViews):
    """Steps along the normal of the classifier's boundary (arXiv:1907.10786)."""

    strength: ClassVar[StrengthKey | None] = "beta"

    family: Literal["boundary"]
    beta: Strength | None = None
    """Half-width of a step, in stds along it; by default 0.5 across a boundary, and the
    domain's middle one beside it."""
    orthogonal: bool = False
    """Steps along principal directions parallel to all boundaries instead."""
    samples: Annotated[int, Field(ge=100, le=1_000_000)] = 4000
    """Random images from which the boundaries are learned."""
    share: Annotated[Number, Field(gt=0, le=1)] = 0.25
    """Share of each class, the most confident, that the boundaries are learned from."""
    directions: ExistingFile | None = None
    """Normals of `save_directions` or InterFaceGAN; by default learned."""

    @model_validator(mode="before")
    @classmethod
    def _short_steps_across(cls, value: object) -> object:
        # A domain's steps are for directions that keep the label; this one does not.
        if not isinstance(value, Mapping) or value.get("orthogonal"):
            return value
        return value if "beta" in value else {**value, "beta": ACROSS}


class WalkViews(LayerViews):
    """Steps that imitate an edit of the image (arXiv:1907.07171)."""

    strength: ClassVar[StrengthKey | None] = "beta"

    family: Literal["walk"]
    beta: Strength = 1.0
    """Half-width of a step, in units of the largest edit that the walk has seen."""
    edits: (
        Items[Literal["shift_x", "shift_y", "zoom", "rotate", "brightness"]] | None
    ) = None
    """Which edits; by default all, or all of the file. A view takes one of them."""
    steps: Count = 100
    """Adam steps in which each walk is learned."""
    directions: ExistingFile | None = None
    """Walks of `save_directions`; by default learned."""

    @field_validator("edits")
    @classmethod
    def _some_edits(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and not value:
            raise fault("should list at least one edit.")
        if value is not None and len(set(value)) < len(value):
            raise fault("lists an edit twice.")
        return value


class CustomViews(Views, Factory):
    """A family of the user's own; see `robustgen.views.custom`."""

    @property
    def family(self) -> str:
        """What reports and random draws call it."""
        return self.label


_FamilyTypes = (
    StylemixViews,
    IsotropicViews,
    PcaViews,
    SefaViews,
    BoundaryViews,
    WalkViews,
)

_MEMBERS: Mapping[str, type[LayerViews]] = MappingProxyType(
    dict(zip(FAMILIES, _FamilyTypes, strict=True))
)

_OWN = ("factory", "plugin")
"""Keys that name a family of the user's own."""


def _tag(value: object) -> str | None:
    """Which family a mapping is meant to be; `stylemix` where it does not say."""
    if isinstance(value, CustomViews):
        return "<custom>"
    if isinstance(value, Mapping):
        if any(key in value for key in _OWN):
            return "<custom>"
        return f"<{value.get('family', 'stylemix')}>"
    return f"<{value.family}>" if isinstance(value, _FamilyTypes) else None


def _known_family(value: object) -> object:
    """Refuses an unknown family, and keys that another family owns."""
    if isinstance(value, (*_FamilyTypes, CustomViews)):
        return value
    if not isinstance(value, Mapping):
        raise fault(f"should be keys and values, not {brief(value)}.")
    value = _by_name(value)
    for key in _OWN:
        if key in value:
            return _own_family(value, key)
    family = value.get("family", "stylemix")
    if not isinstance(family, str) or family not in _MEMBERS:
        known = with_plugins("views", tuple(_MEMBERS))
        raise fault(f"unknown family {brief(family)}. {suggestion(str(family), known)}")
    for key in value:
        owners = [name for name, one in _MEMBERS.items() if key in one.model_fields]
        if owners and family not in owners:
            raise fault(
                f"`{key}` belongs to family {_listed(owners)}, not to '{family}'."
            )
    return value


def _by_name(value: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """`family: NAME` written out as `plugin: NAME`, where it is that of a plugin."""
    family = value.get("family")
    if not isinstance(family, str) or not is_plugin("views", family):
        return value
    return {"plugin": family, **{k: v for k, v in value.items() if k != "family"}}


def _own_family(value: Mapping[Any, Any], key: str) -> Mapping[Any, Any]:
    """Refuses an unknown plugin, and keys of the families that ship."""
    name = value[key]
    if key == "plugin" and isinstance(name, str):
        try:
            find_plugin("views", name, _MEMBERS)
        except RequestError as error:
            raise fault(str(error)) from None
    for other in value:
        if other in CustomViews.model_fields:
            continue
        if any(other in one.model_fields for one in _MEMBERS.values()):
            raise fault(
                f"`{other}` belongs to a family that ships, not to one with `{key}`; "
                "give yours what it needs by `args`."
            )
    return value


def _listed(names: list[str]) -> str:
    """Names as people list them.

    >>> _listed(["pca"]), _listed(["pca", "sefa", "walk"])
    ("'pca'", "'pca', 'sefa' or 'walk'")
    """
    quoted = [f"'{name}'" for name in names]
    head = ", ".join(quoted[:-1])
    return f"{head} or {quoted[-1]}" if head else quoted[-1]


ViewSettings: TypeAlias = Annotated[
    Annotated[StylemixViews, Tag("<stylemix>")]
    | Annotated[IsotropicViews, Tag("<isotropic>")]
    | Annotated[PcaViews, Tag("<pca>")]
    | Annotated[SefaViews, Tag("<sefa>")]
    | Annotated[BoundaryViews, Tag("<boundary>")]
    | Annotated[WalkViews, Tag("<walk>")]
    | Annotated[CustomViews, Tag("<custom>")],
    Discriminator(_tag),
    BeforeValidator(_known_family),
]
"""How a projected code varies, one record per family."""
