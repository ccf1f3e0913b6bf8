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

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeAlias, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    WrapValidator,
    field_validator,
    model_validator,
)

from robustgen.budgets import BUDGETS, BudgetSetting
from robustgen.documents import Document, Loc, mapping_document, read_document
from robustgen.domain import Domain, Jitter, load_domain
from robustgen.errors import RequestError, suggestion
from robustgen.full_assets import asset_domain, full_assets
from robustgen.library import (
    AttackSpec,
    TierAttack,
    attack_document,
    attack_names,
    suite_path,
)
from robustgen.names import (
    ADAPTIVE_TIERS,
    DEFENSE,
    EMBEDDED,
    KINDS,
    NONE,
    OPTIONAL_KINDS,
    TIERS,
    WEIGHT_SUFFIXES,
)
from robustgen.plugins import (
    Custom,
    Factory,
    find_plugin,
    is_plugin,
    with_plugins,
)
from robustgen.projection_settings import (
    HybridSettings,
    ProjectionSettings,
    needs_encoder,
    needs_perceptual,
)
from robustgen.schema import (
    Count,
    ExistingFile,
    Info,
    Items,
    Name,
    Number,
    Record,
    brief,
    existing_file,
    fault,
    find_faults,
    validate,
)
from robustgen.view_settings import (
    LayerViews,
    StylemixViews,
    Views,
    ViewSettings,
)

ProfileName: TypeAlias = Literal["full", "embedded"]

PathName: TypeAlias = Literal[
    "image",
    "reconstruction",
    "stylemix_ensemble",
    "combined_ensemble",
    "image_ensemble",
    "defense",
]

GENERATED_PATHS = ("reconstruction", "stylemix_ensemble", "combined_ensemble")
"""Paths that a generator defends."""


class WeightFile(Record):
    """A classifier from a file that does not say what network it is."""

    weights: ExistingFile
    """A torch or safetensors file of named tensors."""
    kind: str
    """Such as `torchvision:resnet50` or `timm:vit_small_patch16_224`."""
    name: Name | None = None
    """What tables call it; by default the stem of the file."""

    @property
    def label(self) -> str:
        """What tables call it."""
        return self.name or Path(self.weights).stem


class NpzFile(Record):
    """A data set in one `.npz` file; see `robustgen.data.npz`."""

    npz: ExistingFile
    """The file."""
    name: Name | None = None
    """What tables call it; by default the stem of the file."""

    @property
    def label(self) -> str:
        """What tables call it."""
        return self.name or Path(self.npz).stem


class ImageFolder(Record):
    """A data set in a folder of images; see `robustgen.data.folder`."""

    folder: str
    """`FOLDER/{train,val,test}/CLASS/*.png`, or `FOLDER/CLASS/*.png`."""
    resolution: Annotated[int, Field(ge=4, le=4096)] | None = None
    """Side to which images are resized; by default they have one size already."""
    name: Name | None = None
    """What tables call it; by default the name of the folder."""

    @field_validator("folder")
    @classmethod
    def _is_there(cls, value: str, info: Info) -> str:
        path = (info.context or {}).get("folder", Path()) / value
        if not path.is_dir():
            raise fault(f"{path}: no such folder.")
        return str(path.resolve())

    @property
    def label(self) -> str:
        """What tables call it."""
        return self.name or Path(self.folder).name


def _form(value: object) -> str:
    """Which member of a union of assets a value is meant to be."""
    if isinstance(value, str):
        return "<name>"
    if isinstance(value, Mapping):
        keys = value.keys()
        return next((f"<{key}>" for key in _FORMS if key in keys), "<factory>")
    return next(
        (f"<{key}>" for key in _FORMS if isinstance(value, _FORMS[key])), "<factory>"
    )


_FORMS: Mapping[str, type[Record]] = MappingProxyType(
    {"weights": WeightFile, "npz": NpzFile, "folder": ImageFolder}
)

Asset: TypeAlias = Annotated[
    Annotated[str, Tag("<name>")] | Annotated[Factory, Tag("<factory>")],
    Discriminator(lambda value: "<name>" if isinstance(value, str) else "<factory>"),
]
"""A catalog name, the path of a weight file, or a factory of the user's own."""

ClassifierAsset: TypeAlias = Annotated[
    Annotated[str, Tag("<name>")]
    | Annotated[WeightFile, Tag("<weights>")]
    | Annotated[Factory, Tag("<factory>")],
    Discriminator(_form),
]
"""An asset, or a file of weights with the network that they belong to."""

DatasetAsset: TypeAlias = Annotated[
    Annotated[str, Tag("<name>")]
    | Annotated[NpzFile, Tag("<npz>")]
    | Annotated[ImageFolder, Tag("<folder>")]
    | Annotated[Factory, Tag("<factory>")],
    Discriminator(_form),
]
"""A catalog name, a file or folder of images, or a factory of the user's own."""

AnyAsset: TypeAlias = str | Factory | WeightFile | NpzFile | ImageFolder


def asset_label(asset: AnyAsset) -> str:
    """What tables and reports call an asset.

    >>> asset_label("faces"), asset_label("weights/net.safetensors")
    ('faces', 'net')
    """
    if not isinstance(asset, str):
        return asset.label
    return Path(asset).stem if asset.endswith(WEIGHT_SUFFIXES) else asset


def _shipped_names(kind: str) -> tuple[str, ...]:
    """Every name of a kind that robustgen has itself."""
    if kind not in KINDS:
        return ()
    optional = (NONE,) if kind in OPTIONAL_KINDS else ()
    return (*EMBEDDED[kind], *full_assets(kind), *optional)


_DEFENSE_KINDS = ("generator", "encoder", "perceptual")
"""Parts of a pair that a whole defense stands for."""


class Pair(Record):
    """A classifier on its data set, and the generative model that defends it."""

    dataset: DatasetAsset
    attribute: str | None = None
    """Which of the data set's attributes is the label; by default its first."""
    classifier: ClassifierAsset
    defense: Factory | None = None
    """A whole defense of the user's own, in the place of generator, encoder and
    perceptual loss: the factory returns an `nn.Module` from images in [0, 1] to logits.
    """
    generator: Asset
    encoder: Asset
    """`none` for a projection method that needs no encoder."""
    perceptual: Asset
    """`none` where the perceptual loss has no weight."""
    domain: str | None = None
    """Card of the generator's domain, by name or file; by default the one that the
    generator's name stands for, and none for a generator of the user's own."""

    @model_validator(mode="before")
    @classmethod
    def _whole_defense(cls, value: object) -> object:
        if not isinstance(value, Mapping) or "defense" not in value:
            return value
        given = [key for key in ("domain", *_DEFENSE_KINDS) if key in value]
        if given and value["defense"] is not None:
            raise fault(
                f"`defense:` is the whole defense; leave out `{given[0]}:`, or bring "
                "the parts instead of the whole."
            )
        filled = dict.fromkeys(_DEFENSE_KINDS, NONE)
        return {**value, **(filled if value["defense"] is not None else {})}

    @field_validator(*KINDS, "defense", mode="before")
    @classmethod
    def _by_name(cls, value: object, info: Info) -> object:
        """The name of a plugin, written out as one."""
        kind = info.field_name or ""
        if kind == DEFENSE and isinstance(value, str):
            return {"plugin": value}
        if isinstance(value, str) and is_plugin(kind, value):
            return {"plugin": value}
        return value

    @field_validator(*KINDS, "defense")
    @classmethod
    def _installed(cls, value: AnyAsset | None, info: Info) -> AnyAsset | None:
        if isinstance(value, Factory) and value.plugin is not None:
            kind = info.field_name or ""
            try:
                find_plugin(kind, value.plugin, _shipped_names(kind))
            except RequestError as error:
                raise fault(str(error)) from None
        return value

    @field_validator(*KINDS)
    @classmethod
    def _known(cls, value: AnyAsset, info: Info) -> AnyAsset:
        kind = info.field_name or ""
        if not isinstance(value, str):
            return value
        if kind != "dataset" and value.endswith(WEIGHT_SUFFIXES):
            return existing_file(value, info)
        whole = kind in _DEFENSE_KINDS and info.data.get("defense") is not None
        if value == NONE and (kind in OPTIONAL_KINDS or whole):
            return value
        known = _shipped_names(kind)
        if value not in known:
            known = with_plugins(kind, known)
            raise fault(f"unknown {kind} '{value}'. {suggestion(value, known)}")
        return value

    @field_validator("domain")
    @classmethod
    def _readable(cls, value: str | None, info: Info) -> str | None:
        if value is None:
            return None
        folder = (info.context or {}).get("folder", Path())
        try:
            load_domain(value, folder)
        except RequestError as error:
            raise fault(str(error)) from None
        path = folder / value
        return str(path.resolve()) if path.is_file() else value

    @property
    def labels(self) -> tuple[str, str]:
        """What tables call the data set and the classifier."""
        return asset_label(self.dataset), asset_label(self.classifier)

    @property
    def card(self) -> Domain | None:
        """The card of the generator's domain; None where nothing says which it is."""
        if self.domain is not None:
            return load_domain(self.domain)
        if not isinstance(self.generator, str):
            return None
        if self.generator in EMBEDDED["generator"]:
            return load_domain(self.generator)
        if self.generator not in full_assets("generator"):
            return None
        name = asset_domain(self.generator)
        return None if name is None else load_domain(name)


class Splits(Record):
    """How many images are scored."""

    val: Count = 100
    """Validation images, on which α is chosen."""
    test: Count = 200
    """Test images, on which accuracy is reported."""


class JitterSettings(Record):
    """Classic variations of an image: crop, flip and color."""

    zoom: Annotated[Number, Field(ge=1, le=2)] | None = None
    """Enlargement before a random crop back to size; 1 crops nothing. By default that
    of the domain card, 33/32 without one."""
    flip: Literal["auto"] | bool = "auto"
    """Mirror half of the views; `auto`: where the data set allows it."""
    color: Annotated[Number, Field(ge=0, lt=1)] | None = None
    """Half-width of the factors of brightness, contrast and saturation. By default that
    of the domain card, 0.05 without one."""

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


def _sweep(value: object, handler: Callable[[object], object]) -> object:
    """One attack; or, where `eps` is a list, the same attack at each radius."""
    radii = value.get("eps") if isinstance(value, Mapping) else None
    if not isinstance(value, Mapping) or not isinstance(radii, list):
        return (handler(value),)
    listed: list[object] = list(cast("list[object]", radii))
    if not listed or len(set(map(str, listed))) < len(listed):
        raise fault("eps: should list one radius or more, each once.")
    sweep = value.get("name", value.get("preset", value.get("attack", "sweep")))
    return tuple(
        handler(
            {**value, "eps": eps, "name": f"{sweep}_{_as_name(eps)}", "sweep": sweep}
        )
        for eps in listed
    )


def _as_name(eps: object) -> str:
    """A radius as a part of a name.

    >>> _as_name("8/255"), _as_name(0.5)
    ('8_255', '0.5')
    """
    return re.sub(r"[^A-Za-z0-9.]+", "_", str(eps))


def _flat(value: tuple[object, ...]) -> tuple[Any, ...]:
    """The attacks of all sweeps in one row."""
    return tuple(
        spec
        for entry in value
        for spec in (entry if isinstance(entry, tuple) else (entry,))
    )


class LadderSettings(Record):
    """What the attacks of `tiers` may do, and how much work they spend."""

    norm: Literal["linf", "l2"] | None = None
    """By default that of the suite's PGD, or else of its first attack with a radius."""
    eps: Annotated[Number, Field(gt=0)] | None = None
    """Radius in pixel units of [0, 1]; by default that of the same attack."""
    budget: BudgetSetting = BUDGETS["smoke"]
    """`smoke`, `standard`, `paper`, or `{preset: standard, steps: 50}`."""
    paths: Items[PathName] | None = None
    """Paths attacked; by default every path of the suite that a defense makes."""
    fixed_seed: bool = False
    """Also attack random paths at one draw that the attacker knows: it must break."""

    @field_validator("eps")
    @classmethod
    def _both_or_none(cls, value: float | None, info: Info) -> float | None:
        if (value is None) != (info.data.get("norm") is None):
            raise fault("norm and eps belong together: give both or neither.")
        if value is not None and info.data.get("norm") == "linf" and value > 1:
            raise fault(
                f"{value:g} exceeds the pixel range; did you mean {value:g}/255?"
            )
        return value


def _known_tier(value: object) -> object:
    if value not in TIERS:
        raise fault(f"unknown tier {brief(value)}. {suggestion(str(value), TIERS)}")
    return value


def _expand_attack(value: object, info: Info) -> object:
    """Writes a preset's name, or a preset with overrides, out as its keys."""
    if isinstance(value, str):
        name, overrides = value, dict[str, Any]()
    elif isinstance(value, dict) and isinstance(value.get("plugin"), str):
        return {"name": value["plugin"], **value}
    elif isinstance(value, dict) and "preset" in value:
        overrides: dict[str, Any] = {k: v for k, v in value.items() if k != "preset"}
        name = value["preset"]
        if not isinstance(name, str):
            raise fault(f"preset: should be the name of a preset, not {name!r}.")
    elif isinstance(value, dict) and isinstance(value.get("factory"), str):
        return {"name": value["factory"].rpartition(":")[2], **value}
    else:
        return value
    if is_plugin("attack", name) and name not in attack_names():
        return {"name": name, "plugin": name, **overrides}
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

    attacks: Annotated[
        Items[
            Annotated[
                AttackSpec, BeforeValidator(_expand_attack), WrapValidator(_sweep)
            ]
        ],
        AfterValidator(_flat),
    ]
    tiers: Items[Annotated[str, BeforeValidator(_known_tier)]] = ("oblivious",)
    """What attacks know: `oblivious` for the attacks listed, each other tier for one
    more attack on every defended path."""
    ladder: LadderSettings = LadderSettings()
    paths: Items[PathName] = (
        "image",
        "reconstruction",
        "stylemix_ensemble",
        "combined_ensemble",
        "image_ensemble",
    )
    splits: Splits = Splits()
    projection: ProjectionSettings = HybridSettings()
    views: ViewSettings = StylemixViews()
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
        if value == (DEFENSE,):
            return ("image", DEFENSE)
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
        if isinstance(views, Views) and value.size > views.count + 1:
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

    @model_validator(mode="after")
    def _pairs_have_what_it_takes(self) -> "Profile":
        self._ladder_has_what_it_takes()
        for pair in self.pairs:
            if pair.defense is not None:
                continue
            if needs_encoder(self.projection) and pair.encoder == NONE:
                raise fault(
                    f"projection method '{self.projection.method}' needs an encoder, "
                    f"but {pair.labels[0]} has `encoder: none`."
                )
            if needs_perceptual(self.projection) and pair.perceptual == NONE:
                raise fault(
                    "the projection compares features, but "
                    f"{pair.labels[0]} has `perceptual: none`; name a perceptual loss "
                    "or set its weight to 0."
                )
            views, card = self.views, pair.card
            strength = views.strength
            if not isinstance(views, LayerViews):
                continue
            if strength and getattr(_filled_views(views, card), strength) is None:
                layers = views.layers if isinstance(views.layers, str) else "a range"
                domain = "no domain" if card is None else f"domain '{card.name}'"
                raise fault(
                    f"views: family '{views.family}' needs `{strength}`: {domain} has "
                    f"no default for layers {layers}."
                )
        return self

    def _ladder_has_what_it_takes(self) -> None:
        """Refuses tiers without a threat, without clean images or without a path."""
        whole = any(pair.defense is not None for pair in self.pairs)
        if DEFENSE in self.paths and not whole:
            raise fault(
                f"paths: '{DEFENSE}' is the path of a whole defense, but no pair has "
                "the key `defense`."
            )
        for path in self.ladder.paths or ():
            if path not in self.paths and not (whole and path == DEFENSE):
                raise fault(f"ladder: path '{path}' is not among `paths`.")
        if not set(self.tiers) & set(ADAPTIVE_TIERS):
            return
        if ladder_threat(self) is None:
            raise fault(
                "tiers: no attack of the suite has a radius; say `ladder: {norm: linf, "
                "eps: 8/255}`."
            )
        ensembles = [path for path in self.paths if path.endswith("_ensemble")]
        if ensembles and all(attack.attack != "clean" for attack in self.attacks):
            raise fault(
                f"tiers: list `clean` among the attacks; alpha of '{ensembles[0]}' is "
                "chosen on clean images before it is attacked."
            )


class EmbeddedProfile(Profile):
    """A profile that needs no download."""

    @field_validator("pairs")
    @classmethod
    def _no_downloads(cls, value: tuple[Pair, ...]) -> tuple[Pair, ...]:
        for index, pair in enumerate(value):
            for kind in KINDS:
                name = getattr(pair, kind)
                if name in full_assets(kind):
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


def ladder_threat(
    profile: Settings,
) -> tuple[Literal["linf", "l2", "none"], float] | None:
    """Norm and radius of the ladder: its own, PGD's, or the first attack's."""
    ladder = profile.ladder
    if ladder.norm is not None and ladder.eps is not None:
        return ladder.norm, ladder.eps
    bounded = [
        attack
        for attack in profile.attacks
        if attack.norm != "none" and math.isfinite(attack.eps)
    ]
    ranked = sorted(bounded, key=lambda attack: attack.attack != "pgd")
    return (ranked[0].norm, ranked[0].eps) if ranked else None


@dataclass(frozen=True)
class Case:
    """One pair under one attack, with everything that its numbers depend on."""

    suite: str
    profile: str
    seed: int
    pair: Pair
    attack: AttackSpec | TierAttack
    paths: tuple[PathName, ...]
    splits: Splits
    projection: ProjectionSettings
    views: ViewSettings
    jitter: JitterSettings
    ensemble: EnsembleSettings
    ladder: LadderSettings
    domain: Domain | None

    @property
    def name(self) -> str:
        """Unique within a profile; can stand in a file name."""
        target = (self.attack.target,) if isinstance(self.attack, TierAttack) else ()
        return "-".join((*self.pair.labels, self.attack.name, *target))


def custom_parts(case: Case) -> tuple[tuple[str, Custom], ...]:
    """Everything that a case runs and that does not ship, by kind.

    The kinds are those of `robustgen.plugins.GROUPS`.
    """
    parts: dict[str, object] = {
        kind: getattr(case.pair, kind) for kind in (*KINDS, DEFENSE)
    }
    if case.pair.defense is None:
        parts |= {"projector": case.projection, "views": case.views}
    parts["attack"] = case.attack
    return tuple(
        (kind, part) for kind, part in parts.items() if isinstance(part, Custom)
    )


def load_suite(source: str | Path | Mapping[str, Any]) -> Suite:
    """Reads and checks a suite.

    Args:
        source: A YAML file, the name of a suite that comes with robustgen, or what such
            a file holds: names, numbers, lists and mappings. Paths in a mapping start
            at the working folder.

    Raises:
        RequestError: every fault of the file, one on each line.
    """
    document = (
        mapping_document(source, "suite")
        if isinstance(source, Mapping)
        else read_document(suite_path(source))
    )
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
    """Every pair of a profile under every attack, then under every tier of the ladder.

    The cases of a pair are adjacent, those of the attacks in the order of the file.

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
            paths=paths,
            splits=chosen.splits,
            projection=chosen.projection,
            views=_filled_views(chosen.views, card),
            jitter=_filled_jitter(chosen.jitter, card),
            ensemble=chosen.ensemble,
            ladder=chosen.ladder,
            domain=card,
        )
        for pair, card in ((pair, pair.card) for pair in chosen.pairs)
        for paths in (_paths_of(pair, chosen),)
        for attack in (*_listed_attacks(chosen), *_tier_attacks(chosen, paths))
    )


def _paths_of(pair: Pair, profile: Settings) -> tuple[PathName, ...]:
    """The paths of a pair: a whole defense has no parts to look at."""
    if pair.defense is not None:
        return ("image", "defense")
    return tuple(path for path in profile.paths if path != DEFENSE)


def _listed_attacks(profile: Settings) -> tuple[AttackSpec, ...]:
    """The attacks of the file; those of tier `oblivious` only if it is listed."""
    return tuple(
        attack
        for attack in profile.attacks
        if attack.tier == "none" or attack.tier in profile.tiers
    )


def _tier_attacks(
    profile: Settings, paths: Sequence[PathName]
) -> tuple[TierAttack, ...]:
    """One attack for each tier and path, in the order of the ladder."""
    threat = ladder_threat(profile)
    if threat is None:
        return ()
    ladder = profile.ladder
    wanted = ladder.paths or (*GENERATED_PATHS, DEFENSE)
    return tuple(
        TierAttack(
            name=tier,
            about="",
            norm=threat[0],
            eps=threat[1],
            tier=tier,
            target=path,
            budget=ladder.budget,
            fixed_seed=ladder.fixed_seed,
        )
        for tier in ADAPTIVE_TIERS
        if tier in profile.tiers
        for path in paths
        if path in wanted or (path == DEFENSE and DEFENSE in paths)
    )


def _filled_views(views: ViewSettings, card: Domain | None) -> ViewSettings:
    """Views whose strength, if the suite leaves it open, is the domain's."""
    if card is None or not isinstance(views, LayerViews):
        return views
    if not isinstance(views.layers, str):
        return views
    kind = views.strength
    if kind is None or getattr(views, kind) is not None:
        return views
    return views.model_copy(update={kind: card.strength(kind, views.layers)})


def _filled_jitter(jitter: JitterSettings, card: Domain | None) -> JitterSettings:
    """Jitter that leaves nothing open but, without a card, whether to flip."""
    own = Jitter(zoom=33 / 32, color=0.05) if card is None else card.jitter
    flip = jitter.flip if card is None or jitter.flip != "auto" else own.flip
    return JitterSettings(
        zoom=own.zoom if jitter.zoom is None else jitter.zoom,
        flip=flip,
        color=own.color if jitter.color is None else jitter.color,
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
