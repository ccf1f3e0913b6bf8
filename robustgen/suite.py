"""The schema of a suite: which pairs meet which attacks, and how they are scored.

    version: 1
    name: digits
    profiles:
      embedded:
        pairs: [{dataset: digits, classifier: digits, ...}]
    attacks: [clean, pgd, {preset: pgd, name: pgd_16, eps: 16/255}]

Sections (`attacks`, `paths`, `splits`, `projection`, `views`, `jitter`, `ensemble`)
stand at the top for all profiles; a profile may repeat one and change some of its
keys. No torch here: a suite is checked and its cases are listed in milliseconds.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from robustgen.documents import Document, Loc, read_document
from robustgen.errors import RequestError, suggestion
from robustgen.library import AttackSpec, attack_document, suite_path
from robustgen.names import EMBEDDED, FULL, KINDS, WEIGHT_SUFFIXES
from robustgen.plugins import Factory
from robustgen.schema import (
    Count,
    Info,
    Items,
    Name,
    Number,
    Record,
    fault,
    find_faults,
    validate,
)

ProfileName: TypeAlias = Literal["full", "embedded"]

PathName: TypeAlias = Literal[
    "image",
    "reconstruction",
    "stylemix_ensemble",
    "combined_ensemble",
    "image_ensemble",
]

Asset: TypeAlias = Annotated[
    Annotated[str, Tag("<name>")] | Annotated[Factory, Tag("<factory>")],
    Discriminator(lambda value: "<name>" if isinstance(value, str) else "<factory>"),
]
"""A catalog name, the path of a weight file, or a factory of the user's own."""


def asset_label(asset: str | Factory) -> str:
    """What tables and reports call an asset.

    >>> asset_label("faces"), asset_label("weights/net.safetensors")
    ('faces', 'net')
    """
    if isinstance(asset, Factory):
        return asset.label
    return Path(asset).stem if asset.endswith(WEIGHT_SUFFIXES) else asset


class Pair(Record):
    """A classifier on its data set, and the generative model that defends it."""

    dataset: Asset
    attribute: str | None = None
    """Which of the data set's attributes is the label; by default its first."""
    classifier: Asset
    generator: Asset
    encoder: Asset
    perceptual: Asset

    @field_validator(*KINDS)
    @classmethod
    def _known(cls, value: str | Factory, info: Info) -> str | Factory:
        kind = info.field_name or ""
        if isinstance(value, Factory):
            return value
        if kind != "dataset" and value.endswith(WEIGHT_SUFFIXES):
            path = (info.context or {}).get("folder", Path()) / value
            if not path.is_file():
                raise fault(f"{path}: no such file.")
            return str(path.resolve())
        known = (*EMBEDDED[kind], *FULL[kind])
        if value not in known:
            raise fault(f"unknown {kind} '{value}'. {suggestion(value, known)}")
        return value

    @property
    def labels(self) -> tuple[str, str]:
        """What tables call the data set and the classifier."""
        return asset_label(self.dataset), asset_label(self.classifier)


class Splits(Record):
    """How many images are scored."""

    val: Count = 100
    """Validation images, on which α is chosen."""
    test: Count = 200
    """Test images, on which accuracy is reported."""


class ProjectionSettings(Record):
    """w* = argmin (1-λp) L1 + λp perceptual + λl latent, from w = E(x)."""

    optimizer: Literal["lbfgs", "adam"] = "lbfgs"
    passes: Annotated[int, Field(ge=1, le=100_000)] = 12
    """Evaluations of the loss and its gradient that one image may cost."""
    steps: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Iterations at most; by default as many as the passes allow."""
    perceptual_weight: Annotated[Number, Field(ge=0, le=1)] = 0.5
    """λp: share of the perceptual loss in the image term; 0 is L1 alone."""
    latent_weight: Annotated[Number, Field(ge=0)] = 0.25
    """λl: weight of MSE(E(G(w)), E(x)); 0 saves its cost."""
    tolerance: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    """An image stops when a step lowers its loss by less than this share; 0: never."""


def _layer_range(value: object) -> object:
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, str) and value not in ("coarse", "fine"):
        raise fault(
            f"unknown layers '{value}'. {suggestion(value, ('coarse', 'fine'))} "
            "Or give a range: [start, stop]."
        )
    if not isinstance(value, str):
        raise fault(f"should be coarse, fine or [start, stop], not {value!r}.")
    return value


class ViewSettings(Record):
    """Variations of the projected code."""

    family: Literal["stylemix", "isotropic", "pca"] = "stylemix"
    layers: Annotated[
        Annotated[Literal["coarse", "fine"], Tag("<name>")]
        | Annotated[tuple[int, int], Tag("<range>")],
        Discriminator(lambda value: "<name>" if isinstance(value, str) else "<range>"),
        BeforeValidator(_layer_range),
    ] = "fine"
    """Style layers that vary: named by the generator's card, or half-open."""
    count: Annotated[int, Field(ge=1, le=10_000)] = 32
    """Views of one image."""
    sigma: Annotated[Number, Field(gt=0)] | None = None
    """Std of isotropic noise, in units of w."""
    beta: Annotated[Number, Field(gt=0)] | None = None
    """Half-width of a step along a principal direction, in stds."""

    @field_validator("layers")
    @classmethod
    def _a_range(cls, value: str | tuple[int, int]) -> str | tuple[int, int]:
        if not isinstance(value, str) and not 0 <= value[0] < value[1]:
            raise fault(
                f"[{value[0]}, {value[1]}] is empty; start at 0 or more, below stop."
            )
        return value

    @model_validator(mode="after")
    def _family_and_strength(self) -> "ViewSettings":
        strength = {"isotropic": "sigma", "pca": "beta"}
        own = strength.get(self.family)
        if own and getattr(self, own) is None:
            raise fault(f"family '{self.family}' needs `{own}`.")
        for family, key in strength.items():
            if key != own and getattr(self, key) is not None:
                raise fault(
                    f"`{key}` belongs to family '{family}', not to '{self.family}'."
                )
        return self


class JitterSettings(Record):
    """Classic variations of an image: crop, flip and color."""

    zoom: Annotated[Number, Field(ge=1, le=2)] = 33 / 32
    """Enlargement before a random crop back to size; 1 crops nothing."""
    flip: Literal["auto"] | bool = "auto"
    """Mirror half of the views; `auto`: where the data set allows it."""
    color: Annotated[Number, Field(ge=0, lt=1)] = 0.05
    """Half-width of the factors of brightness, contrast and saturation."""

    @field_validator("flip", mode="before")
    @classmethod
    def _flip(cls, value: object) -> object:
        if value != "auto" and not isinstance(value, bool):
            raise fault(f"should be auto, true or false, not {value!r}.")
        return value


class EnsembleSettings(Record):
    """The paper's rule: (1-α) p(x) + α · mean of views drawn from a pool."""

    size: Annotated[int, Field(ge=1, le=10_000)] = 31
    """Views drawn, with replacement, from the pool of base image and views."""
    resamples: Annotated[int, Field(ge=1, le=10_000)] = 20
    """Draws over which accuracy is averaged."""
    alphas: Annotated[int, Field(ge=2, le=1001)] = 21
    """Points of the grid from 0 to 1 on which α is chosen."""


def _expand_attack(value: object, info: Info) -> object:
    """Writes a preset's name, or a preset with overrides, out as its keys."""
    if isinstance(value, str):
        name, overrides = value, dict[str, Any]()
    elif isinstance(value, dict) and "preset" in value:
        overrides: dict[str, Any] = {k: v for k, v in value.items() if k != "preset"}
        name = value["preset"]
        if not isinstance(name, str):
            raise fault(f"preset: should be the name of a preset, not {name!r}.")
    elif isinstance(value, dict) and isinstance(value.get("factory"), str):
        return {"name": value["factory"].rpartition(":")[2], **value}
    else:
        return value
    try:
        data = attack_document(name, (info.context or {}).get("folder", Path())).data
    except RequestError as error:
        raise fault(str(error)) from None
    merged = {**data, **overrides}
    if isinstance(overrides.get("settings"), dict):
        merged["settings"] = {**(data.get("settings") or {}), **overrides["settings"]}
    return merged


class Settings(Record):
    """Sections that all pairs of a profile share."""

    attacks: Items[Annotated[AttackSpec, BeforeValidator(_expand_attack)]]
    paths: Items[PathName] = (
        "image",
        "reconstruction",
        "stylemix_ensemble",
        "combined_ensemble",
        "image_ensemble",
    )
    splits: Splits = Splits()
    projection: ProjectionSettings = ProjectionSettings()
    views: ViewSettings = ViewSettings()
    jitter: JitterSettings = JitterSettings()
    ensemble: EnsembleSettings = EnsembleSettings()

    @field_validator("attacks")
    @classmethod
    def _attack_names_differ(
        cls, value: tuple[AttackSpec, ...]
    ) -> tuple[AttackSpec, ...]:
        if not value:
            raise fault("should list at least one attack.")
        twice = _repeated(attack.name for attack in value)
        if twice:
            raise fault(f"'{twice}' stands twice; give one of them another `name`.")
        return value

    @field_validator("paths")
    @classmethod
    def _paths_are_complete(cls, value: tuple[PathName, ...]) -> tuple[PathName, ...]:
        if not value:
            raise fault("should list at least one path.")
        twice = _repeated(value)
        if twice:
            raise fault(f"'{twice}' stands twice.")
        for path in value:
            parts = {
                "image_ensemble": ("image",),
                "stylemix_ensemble": ("image", "reconstruction"),
                "combined_ensemble": ("image", "reconstruction"),
            }.get(path, ())
            for part in parts:
                if part not in value:
                    raise fault(f"'{path}' averages '{part}' too; list it as well.")
        return value

    @field_validator("ensemble")
    @classmethod
    def _pool_is_large_enough(
        cls, value: EnsembleSettings, info: Info
    ) -> EnsembleSettings:
        views = info.data.get("views")
        if isinstance(views, ViewSettings) and value.size > views.count + 1:
            raise fault(
                f"size {value.size} exceeds the pool of {views.count + 1} (one base "
                f"image and views.count = {views.count}). Lower `size` or raise "
                "`views.count`."
            )
        return value


class Profile(Settings):
    """Pairs and everything they are scored with; complete after loading."""

    pairs: Items[Pair]

    @field_validator("pairs")
    @classmethod
    def _pairs_differ(cls, value: tuple[Pair, ...]) -> tuple[Pair, ...]:
        if not value:
            raise fault("should list at least one pair.")
        twice = _repeated(pair.labels for pair in value)
        if twice:
            raise fault(
                f"data set '{twice[0]}' with classifier '{twice[1]}' stands twice; "
                "tables could not tell them apart."
            )
        return value


class EmbeddedProfile(Profile):
    """A profile that needs no download."""

    @field_validator("pairs")
    @classmethod
    def _no_downloads(cls, value: tuple[Pair, ...]) -> tuple[Pair, ...]:
        for index, pair in enumerate(value):
            for kind in KINDS:
                name = getattr(pair, kind)
                if name in FULL[kind]:
                    raise fault(
                        f"{index}.{kind} '{name}' needs a download and belongs to the "
                        f"full profile. Known here: {', '.join(EMBEDDED[kind])}."
                    )
        return value


class Profiles(Record):
    """What the suite runs on: full assets, stand-ins that ship, or both."""

    full: Profile | None = None
    embedded: EmbeddedProfile | None = None

    @model_validator(mode="after")
    def _some_profile(self) -> "Profiles":
        if self.full is None and self.embedded is None:
            raise fault("should hold `embedded`, `full` or both.")
        return self


class Suite(Record):
    """A suite as resolved: presets read, sections merged into every profile."""

    version: Literal[1]
    """Version of this schema."""
    name: Name
    about: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Root of every random draw."""
    profiles: Profiles

    def profile(self, name: str) -> Profile:
        """One profile.

        Raises:
            RequestError: the suite has no such profile.
        """
        found = {"full": self.profiles.full, "embedded": self.profiles.embedded}
        known = [key for key, value in found.items() if value is not None]
        profile = found.get(name)
        if profile is None:
            raise RequestError(
                f"Suite '{self.name}' has no profile '{name}'. "
                f"{suggestion(name, known)}"
            )
        return profile


@dataclass(frozen=True)
class Case:
    """One pair under one attack, with everything that its numbers depend on."""

    suite: str
    profile: str
    seed: int
    pair: Pair
    attack: AttackSpec
    paths: tuple[PathName, ...]
    splits: Splits
    projection: ProjectionSettings
    views: ViewSettings
    jitter: JitterSettings
    ensemble: EnsembleSettings

    @property
    def name(self) -> str:
        """Unique within a profile; can stand in a file name."""
        return "-".join((*self.pair.labels, self.attack.name))


def load_suite(path_or_name: str | Path) -> Suite:
    """Reads and checks a suite.

    Args:
        path_or_name: A YAML file, or the name of a suite that comes with robustgen.

    Raises:
        RequestError: every fault of the file, one on each line.
    """
    document = read_document(suite_path(path_or_name))
    context = {"folder": document.path.parent}
    data = document.data
    profiles = data.get("profiles")
    more: list[str] = []
    if not isinstance(profiles, dict) or not profiles:
        # No profile will carry the sections to their checks, so check them here.
        sections = {key: data[key] for key in SECTIONS if key in data}
        more = find_faults(Settings, document, sections, context=context)
    return validate(
        Suite,
        document,
        _merged(data),
        origin=lambda loc: _origin(document, loc),
        keys=SECTIONS,
        more=more,
        context=context,
    )


def resolve_cases(suite: Suite, profile: str) -> tuple[Case, ...]:
    """Every pair of a profile under every attack, in the order of the file.

    Raises:
        RequestError: the suite has no such profile.
    """
    chosen = suite.profile(profile)
    return tuple(
        Case(
            suite=suite.name,
            profile=profile,
            seed=suite.seed,
            pair=pair,
            attack=attack,
            paths=chosen.paths,
            splits=chosen.splits,
            projection=chosen.projection,
            views=chosen.views,
            jitter=chosen.jitter,
            ensemble=chosen.ensemble,
        )
        for pair in chosen.pairs
        for attack in chosen.attacks
    )


def narrow(suite: Suite, *, seed: int | None = None, limit: int | None = None) -> Suite:
    """The suite with another seed, or with at most `limit` images in each split."""

    def shorter(profile: Any) -> Any:
        if profile is None or limit is None:
            return profile
        splits = Splits(
            val=min(profile.splits.val, limit), test=min(profile.splits.test, limit)
        )
        return profile.model_copy(update={"splits": splits})

    profiles = Profiles(
        full=shorter(suite.profiles.full), embedded=shorter(suite.profiles.embedded)
    )
    return suite.model_copy(
        update={
            "profiles": profiles,
            "seed": suite.seed if seed is None else seed,
        }
    )


def suite_record(suite: Suite, profile: str) -> dict[str, Any]:
    """The suite as resolved for one profile, as plain JSON values.

    Raises:
        RequestError: the suite has no such profile.
    """
    record = suite.model_dump(mode="json", exclude={"profiles"})
    chosen = suite.profile(profile).model_dump(mode="json")
    return {**record, "profile": profile, **chosen}


SECTIONS = tuple(Settings.model_fields)


def _merged(data: dict[str, Any]) -> dict[str, Any]:
    """The document with its top sections written out in every profile."""
    merged = {key: value for key, value in data.items() if key not in SECTIONS}
    profiles = data.get("profiles")
    if isinstance(profiles, dict):
        merged["profiles"] = {
            name: _full_profile(data, profile) for name, profile in profiles.items()
        }
    return merged


def _full_profile(data: dict[str, Any], profile: object) -> object:
    if not isinstance(profile, dict):
        return profile
    filled: dict[str, Any] = dict(profile)
    for section in SECTIONS:
        if section not in data:
            continue
        top, own = data[section], profile.get(section)
        if section not in profile:
            filled[section] = top
        elif isinstance(top, dict) and isinstance(own, dict):
            filled[section] = {**top, **own}
    return filled


def _origin(document: Document, loc: Loc) -> Loc:
    """Where a value of the merged data stands in the file."""
    if len(loc) < 3 or loc[0] != "profiles" or loc[2] not in SECTIONS:
        return loc
    if loc[:3] not in document.lines:
        return loc[2:]
    if loc[:4] not in document.lines and loc[2:4] in document.lines:
        return loc[2:]
    return loc


def _repeated(values: Iterable[Any]) -> Any:
    """The first value that stands twice, or None."""
    seen: set[Any] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None
