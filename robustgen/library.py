"""Attack presets and suites that come with robustgen, and the schema of a preset.

A preset is one YAML file of `attacks/`: what the attack is, what it may do (its
threat), its settings, and where each of these numbers comes from.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, get_args

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    field_serializer,
    field_validator,
)

from robustgen.budgets import Budget
from robustgen.documents import Document, read_document
from robustgen.errors import RequestError, suggestion, unknown_name
from robustgen.names import ADAPTIVE_TIERS
from robustgen.plugins import Custom, find_plugin, is_plugin, with_plugins
from robustgen.schema import (
    Count,
    Extended,
    Info,
    Items,
    Name,
    Number,
    Record,
    brief,
    fault,
    validate,
)

_PRESET_TIERS = ("oblivious", "none")
"""Tiers of attacks that a suite lists by themselves."""


class NoSettings(Record):
    """Settings of an attack that has none."""


class PgdSettings(Record):
    """Settings of projected gradient descent (arXiv:1706.06083)."""

    steps: Count
    """Gradient steps; one forward and one backward pass each."""
    step_size: Annotated[Number, Field(gt=0, le=1)]
    """Length of a step, in pixel units of [0, 1]."""
    restarts: Count = 1
    """Runs from different starts; the worst for the classifier is kept."""
    random_start: bool = True
    """Whether a run starts at a random point of the threat."""
    loss: Literal["ce", "margin"] = "ce"
    """What a step raises: the cross-entropy, or the lead of the best wrong class, whose
    gradient survives where the softmax saturates."""

    @field_validator("random_start")
    @classmethod
    def _restarts_differ(cls, value: bool, info: Info) -> bool:
        if not value and info.data.get("restarts", 1) > 1:
            raise fault("should be true: without it all restarts are the same search.")
        return value


class RandFgsmSettings(Record):
    """Settings of RAND+FGSM (arXiv:1705.07204)."""

    alpha: Annotated[Number, Field(ge=0, lt=1)]
    """Length of the random step, in pixel units of [0, 1]; `eps` less it is left for
    the step along the gradient."""


class CwSettings(Record):
    """Settings of Carlini and Wagner's L2 attack (arXiv:1608.04644)."""

    steps: Count
    """Adam steps for each constant; one forward and one backward pass each."""
    learning_rate: Annotated[Number, Field(gt=0)]
    """Of Adam, in the arctanh space of the paper."""
    constants: Items[Annotated[Number, Field(gt=0)]]
    """Weights of the misclassification term, tried one after the other."""
    confidence: Annotated[Number, Field(ge=0)] = 0.0
    """Margin of the logits that counts as success (kappa in the paper)."""

    @field_validator("constants")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or list(value) != sorted(set(value)):
            raise fault("should be one or more rising numbers.")
        return value


class MifgsmSettings(Record):
    """Settings of the momentum iterative FGSM (arXiv:1710.06081)."""

    steps: Count
    """Gradient steps; one forward and one backward pass each."""
    step_size: Annotated[Number, Field(gt=0, le=1)]
    """Length of a step, in pixel units of [0, 1]."""
    decay: Annotated[Number, Field(ge=0)] = 1.0
    """Share of the accumulated gradient that each step keeps."""


class EotPgdSettings(Record):
    """Settings of PGD on gradients averaged over draws (arXiv:1707.07397)."""

    steps: Count
    """Steps; `draws` forward and backward passes each."""
    step_size: Annotated[Number, Field(gt=0, le=1)]
    """Length of a step, in pixel units of [0, 1]."""
    draws: Count
    """Evaluations of a random classifier over which each gradient is averaged."""
    random_start: bool = True
    """Whether the search starts at a random point of the threat."""


class DeepfoolSettings(Record):
    """Settings of DeepFool (arXiv:1511.04599)."""

    steps: Count
    """Linearizations at most; one backward pass for each class they look at."""
    overshoot: Annotated[Number, Field(ge=0)] = 0.02
    """How far beyond the boundary the result lies, as a share of the way."""
    classes: Annotated[int, Field(ge=2)] = 10
    """Classes looked at: the true one and the most probable others."""


class ApgdSettings(Record):
    """Settings of auto-PGD (arXiv:2003.01690)."""

    steps: Count
    """Gradient steps of a restart; one forward and one backward pass each."""
    restarts: Count = 1
    """Searches from different random starts; each on the images not yet broken."""
    loss: Literal["ce", "dlr", "margin"] = "ce"
    """`ce`; `dlr`, the scale-free ratio of the paper, for 3 classes or more; `margin`,
    the lead of the best wrong class, for any number."""
    targets: Annotated[int, Field(ge=0)] = 0
    """0 for no target; else each of so many most probable wrong classes is aimed at in
    turn, by the targeted DLR loss with 4 classes or more and by the margin below."""
    draws: Count = 1
    """Evaluations of a random classifier over which each gradient is averaged."""


class FabSettings(Record):
    """Settings of the fast adaptive boundary attack (arXiv:1907.02044)."""

    steps: Count
    """Steps; two forward and, for each class looked at, one backward pass."""
    targets: Annotated[int, Field(ge=0)] = 0
    """0: each step looks at all classes. Else one search towards each of so many most
    probable wrong classes, which is cheaper where there are many."""


class SquareSettings(Record):
    """Settings of the Square attack (arXiv:1912.00049), which needs no gradient."""

    queries: Count
    """Forward passes of each image at most; an image stops when it is broken."""
    p_init: Annotated[Number, Field(gt=0, le=1)] = 0.8
    """Share of the pixels that the first squares cover."""


class AutoattackSettings(Record):
    """Budget of AutoAttack (arXiv:2003.01690); the defaults are the official ones."""

    steps: Count = 100
    """Of each gradient-based part."""
    queries: Count = 5000
    """Of Square."""
    targets: Count = 9
    """Classes that the targeted parts aim at, at most; no more than there are."""


class _CorruptionSettings(Record):
    """Strengths of a corruption, and which of them is meant."""

    grid: Items[Annotated[Number, Field(gt=0)]]
    """Strength at severity 1, 2 and so on; each harsher than the one before."""
    severity: Count
    """Which entry of the grid, counted from 1."""

    @field_validator("grid")
    @classmethod
    def _harsher(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or list(value) != sorted(set(value)):
            raise fault("should be one or more rising numbers.")
        return value

    @field_validator("severity")
    @classmethod
    def _in_the_grid(cls, value: int, info: Info) -> int:
        entries = len(info.data.get("grid", ()))
        if entries and value > entries:
            raise fault(f"{value} is beyond the grid, which has {entries} entries.")
        return value

    @property
    def strength(self) -> float:
        """The entry of the grid that `severity` names."""
        return self.grid[self.severity - 1]


class JpegSettings(_CorruptionSettings):
    """Settings of JPEG compression; the grid holds falling qualities, 1 to 95."""

    kind: Literal["jpeg"]

    @field_validator("grid")
    @classmethod
    def _harsher(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        whole = all(quality in range(1, 96) for quality in value)
        if not value or not whole or list(value) != sorted(set(value), reverse=True):
            raise fault("should be one or more falling whole numbers from 95 to 1.")
        return value

    @property
    def quality(self) -> int:
        """Quality of the encoder, 1 (worst) to 95."""
        return int(self.strength)


class BlurSettings(_CorruptionSettings):
    """Settings of a Gaussian blur; the grid holds stds in pixels."""

    kind: Literal["gaussian_blur"]
    side: Count
    """Shorter side of the images that the grid is meant for; others blur in scale."""


class NoiseSettings(_CorruptionSettings):
    """Settings of Gaussian noise; the grid holds stds in pixel units of [0, 1]."""

    kind: Literal["gaussian_noise"]


def _corruption_tag(value: object) -> str | None:
    kind = value.get("kind") if isinstance(value, Mapping) else None
    return f"<{getattr(value, 'kind', kind)}>"


def _known_corruption(value: object) -> object:
    """Refuses settings that are not those of a known corruption."""
    if isinstance(value, _CorruptionSettings):
        return value
    kinds = ("jpeg", "gaussian_blur", "gaussian_noise")
    if not isinstance(value, Mapping) or "kind" not in value:
        raise fault(f"should say `kind: NAME`. Known: {', '.join(sorted(kinds))}.")
    kind = str(value["kind"])
    if kind not in kinds:
        raise fault(f"unknown kind '{kind}'. {suggestion(kind, kinds)}")
    return value


class _Threat(Record):
    """What every attack says of itself."""

    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")

    name: Name
    """What tables and reports call it."""
    about: str = ""
    """One line for `robustgen list`."""
    norm: Literal["linf", "l2", "none"]
    """Norm of the threat."""
    eps: Annotated[Extended, Field(ge=0)]
    """Radius in pixel units of [0, 1]; `inf` for an attack of least norm, and for a
    corruption, which no radius bounds."""
    tier: str = "oblivious"
    """What the attack knows: `oblivious` sees the bare classifier only. For attacks
    that know the defense a suite has the key `tiers`."""
    sweep: Name | None = None
    """Name shared by the same attack at several radii; set where a suite lists them."""
    sources: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Where each number comes from."""

    @field_validator("tier")
    @classmethod
    def _tier_of_a_preset(cls, value: str) -> str:
        known = (*ADAPTIVE_TIERS,) if "target" in cls.model_fields else _PRESET_TIERS
        if value in ADAPTIVE_TIERS and value not in known:
            raise fault(
                f"'{value}' is aimed at a path of the defense: list it under `tiers:` "
                "of the suite instead."
            )
        if value not in known:
            raise fault(f"should be {' or '.join(known)}, not {brief(value)}.")
        return value

    @field_validator("norm")
    @classmethod
    def _norm_of_the_attack(cls, value: str) -> str:
        if value not in cls.norms:
            raise fault(
                f"'{value}' does not fit this attack: {' or '.join(cls.norms)}."
            )
        return value

    @field_validator("eps")
    @classmethod
    def _eps_in_pixel_units(cls, value: float, info: Info) -> float:
        norm = info.data.get("norm")
        if norm == "none" and value != 0:
            raise fault(f"{value:g} needs a norm: linf or l2.")
        if norm in ("linf", "l2") and value == 0:
            raise fault("0 allows no attack; for the clean image say `clean`.")
        if norm == "linf" and math.isinf(value):
            raise fault("an linf attack needs a finite radius such as 8/255.")
        if norm == "linf" and value > 1:
            raise fault(
                f"{value:g} exceeds the pixel range [0, 1]. Images are in [0, 1] "
                f"here; did you mean {value:g}/255?"
            )
        return value

    @field_serializer("eps", when_used="json")
    def _eps_as_json(self, value: float) -> float | str:
        return "inf" if math.isinf(value) else value


class CleanAttack(_Threat):
    """No attack: the clean image."""

    norms: ClassVar[tuple[str, ...]] = ("none",)

    attack: Literal["clean"]
    norm: Literal["linf", "l2", "none"] = "none"
    eps: Annotated[Extended, Field(ge=0)] = 0.0
    tier: str = "none"
    settings: NoSettings = NoSettings()


class FgsmAttack(_Threat):
    """One step along the sign of the gradient (arXiv:1412.6572)."""

    norms: ClassVar[tuple[str, ...]] = ("linf",)

    attack: Literal["fgsm"]
    settings: NoSettings = NoSettings()


class RandFgsmAttack(_Threat):
    """A random step, then one along the sign of the gradient (arXiv:1705.07204)."""

    norms: ClassVar[tuple[str, ...]] = ("linf",)

    attack: Literal["rand_fgsm"]
    settings: RandFgsmSettings

    @field_validator("settings")
    @classmethod
    def _leaves_a_step(cls, value: RandFgsmSettings, info: Info) -> RandFgsmSettings:
        eps = info.data.get("eps") or math.inf
        if value.alpha >= eps:
            raise fault(
                f"alpha {value.alpha:.4g} leaves nothing of eps={eps:.4g} for the "
                "step along the gradient; lower alpha."
            )
        return value


class PgdAttack(_Threat):
    """Projected gradient descent (arXiv:1706.06083)."""

    attack: Literal["pgd"]
    settings: PgdSettings

    @field_validator("settings")
    @classmethod
    def _reaches(cls, value: PgdSettings, info: Info) -> PgdSettings:
        _require_reach(value, info, random_start=value.random_start)
        return value


def _require_reach(
    value: PgdSettings | MifgsmSettings | EotPgdSettings,
    info: Info,
    *,
    random_start: bool,
) -> None:
    """Refuses steps that together cannot cross the ball (check S12)."""
    travel = value.steps * value.step_size
    eps = info.data.get("eps") or 0.0
    need = (2 if random_start else 1) * eps
    if math.isinf(need) or travel < need * (1 - 1e-9):
        start = "a random start" if random_start else "the clean image"
        raise fault(
            f"{value.steps} steps of {value.step_size:.4g} travel {travel:.4g}, "
            f"but from {start} the far side of eps={eps:.4g} is {need:.4g} away: "
            "the attack would be too weak. Raise steps or step_size."
        )


class MifgsmAttack(_Threat):
    """Momentum iterative FGSM (arXiv:1710.06081)."""

    norms: ClassVar[tuple[str, ...]] = ("linf",)

    attack: Literal["mifgsm"]
    settings: MifgsmSettings

    @field_validator("settings")
    @classmethod
    def _reaches(cls, value: MifgsmSettings, info: Info) -> MifgsmSettings:
        _require_reach(value, info, random_start=False)
        return value


class EotPgdAttack(_Threat):
    """PGD on gradients averaged over draws of the classifier (arXiv:1707.07397)."""

    attack: Literal["eotpgd"]
    settings: EotPgdSettings

    @field_validator("settings")
    @classmethod
    def _reaches(cls, value: EotPgdSettings, info: Info) -> EotPgdSettings:
        _require_reach(value, info, random_start=value.random_start)
        return value


class DeepfoolAttack(_Threat):
    """DeepFool, towards the nearest boundary (arXiv:1511.04599)."""

    norms: ClassVar[tuple[str, ...]] = ("l2",)

    attack: Literal["deepfool"]
    settings: DeepfoolSettings


class ApgdAttack(_Threat):
    """PGD that finds its own step lengths (arXiv:2003.01690)."""

    attack: Literal["apgd"]
    settings: ApgdSettings


class FabAttack(_Threat):
    """Fast adaptive boundary attack (arXiv:1907.02044)."""

    attack: Literal["fab"]
    settings: FabSettings


class SquareAttack(_Threat):
    """Random search over squares, without gradients (arXiv:1912.00049)."""

    attack: Literal["square"]
    settings: SquareSettings


class AutoattackAttack(_Threat):
    """APGD, FAB and Square one after the other (arXiv:2003.01690)."""

    attack: Literal["autoattack"]
    settings: AutoattackSettings = AutoattackSettings()


class CwAttack(_Threat):
    """Carlini and Wagner's attack of least L2 norm (arXiv:1608.04644)."""

    norms: ClassVar[tuple[str, ...]] = ("l2",)

    attack: Literal["cw"]
    settings: CwSettings


class CorruptionAttack(_Threat):
    """A corruption that asks the classifier nothing (grids: arXiv:1903.12261)."""

    norms: ClassVar[tuple[str, ...]] = ("none",)

    attack: Literal["corruption"]
    norm: Literal["linf", "l2", "none"] = "none"
    eps: Annotated[Extended, Field(ge=0)] = math.inf
    tier: str = "none"
    settings: Annotated[
        Annotated[JpegSettings, Tag("<jpeg>")]
        | Annotated[BlurSettings, Tag("<gaussian_blur>")]
        | Annotated[NoiseSettings, Tag("<gaussian_noise>")],
        Discriminator(_corruption_tag),
        BeforeValidator(_known_corruption),
    ]

    @field_validator("eps")
    @classmethod
    def _eps_in_pixel_units(cls, value: float, info: Info) -> float:
        if not math.isinf(value):
            raise fault(
                f"{value:g} would bound a corruption, which stays in no ball; leave it "
                "out, or say inf."
            )
        return value


class TierAttack(_Threat):
    """The attack of one tier of the ladder on one path; no suite lists it itself.

    Its name in tables is that of its tier.
    """

    attack: Literal["tier"] = "tier"
    target: str
    """Path that it is aimed at and scored on."""
    budget: Budget
    """How much work its searches may spend."""
    fixed_seed: bool = False
    """Whether a random path is also attacked at one draw that the attacker knows."""


class FactoryAttack(_Threat, Custom):
    """An attack of the user's own; the callable returns it."""

    attack: Literal["factory"] = "factory"

    @field_validator("plugin")
    @classmethod
    def _installed(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                find_plugin("attack", value, attack_names())
            except RequestError as error:
                raise fault(str(error)) from None
        return value


_OWN = frozenset({"factory", "plugin"})
"""Keys that name an attack of the user's own."""


def _tag(value: object) -> str | None:
    """Which member of `AttackSpec` a mapping is meant to be."""
    if isinstance(value, Mapping):
        if _OWN & value.keys():
            return "<factory>"
        return f"<{value['attack']}>" if "attack" in value else None
    return f"<{value.attack}>" if isinstance(value, _AttackTypes) else None


def _known_kind(value: object) -> object:
    """Refuses what is not meant to be any member of `AttackSpec`."""
    if isinstance(value, _AttackTypes):
        return value
    if not isinstance(value, Mapping) or not {"attack", *_OWN} & value.keys():
        raise fault(
            "should be the name of a preset, or keys that say `preset: NAME`, "
            "`attack: KIND`, `factory: module:callable` or `plugin: NAME`; not "
            f"{brief(value)}."
        )
    kinds = tuple(_kind_of(kind) for kind in _AttackTypes if kind is not FactoryAttack)
    if not _OWN & value.keys() and value["attack"] not in kinds:
        kind = str(value["attack"])
        raise fault(f"unknown attack '{kind}'. {suggestion(kind, kinds)}")
    return value


def _kind_of(spec: type[_Threat]) -> str:
    """What `attack:` says for a member of `AttackSpec`."""
    return get_args(spec.model_fields["attack"].annotation)[0]


_AttackTypes = (
    CleanAttack,
    FgsmAttack,
    RandFgsmAttack,
    PgdAttack,
    MifgsmAttack,
    EotPgdAttack,
    DeepfoolAttack,
    CwAttack,
    ApgdAttack,
    FabAttack,
    SquareAttack,
    AutoattackAttack,
    CorruptionAttack,
    FactoryAttack,
)

ShippedAttack: TypeAlias = (
    CleanAttack
    | FgsmAttack
    | RandFgsmAttack
    | PgdAttack
    | MifgsmAttack
    | EotPgdAttack
    | DeepfoolAttack
    | CwAttack
    | ApgdAttack
    | FabAttack
    | SquareAttack
    | AutoattackAttack
    | CorruptionAttack
)
"""An attack whose code comes with robustgen."""

AttackSpec: TypeAlias = Annotated[
    Annotated[CleanAttack, Tag("<clean>")]
    | Annotated[FgsmAttack, Tag("<fgsm>")]
    | Annotated[RandFgsmAttack, Tag("<rand_fgsm>")]
    | Annotated[PgdAttack, Tag("<pgd>")]
    | Annotated[MifgsmAttack, Tag("<mifgsm>")]
    | Annotated[EotPgdAttack, Tag("<eotpgd>")]
    | Annotated[DeepfoolAttack, Tag("<deepfool>")]
    | Annotated[CwAttack, Tag("<cw>")]
    | Annotated[ApgdAttack, Tag("<apgd>")]
    | Annotated[FabAttack, Tag("<fab>")]
    | Annotated[SquareAttack, Tag("<square>")]
    | Annotated[AutoattackAttack, Tag("<autoattack>")]
    | Annotated[CorruptionAttack, Tag("<corruption>")]
    | Annotated[FactoryAttack, Tag("<factory>")],
    Discriminator(_tag),
    BeforeValidator(_known_kind),
]
"""An attack as resolved: threat, settings, and where its numbers come from."""


class _AttackFile(Record):
    """What a file of `attacks/` holds."""

    spec: AttackSpec


def attacks_folder() -> Path:
    """Where the attack presets that come with robustgen lie."""
    return _shipped("attacks")


def suites_folder() -> Path:
    """Where the suites that come with robustgen lie."""
    return _shipped("suites")


def attack_names() -> list[str]:
    """Names of the attack presets that come with robustgen."""
    return sorted(path.stem for path in attacks_folder().glob("*.yaml"))


def suite_names() -> list[str]:
    """Names of the suites that come with robustgen."""
    return sorted(path.stem for path in suites_folder().glob("*.yaml"))


def attack_document(name: str, folder: Path) -> Document:
    """The file of an attack preset, not yet checked.

    Args:
        name: Name of a preset that comes with robustgen, or the path of a YAML file.
        folder: Folder that a relative path starts from.

    Raises:
        RequestError: no such preset or file, it is not a YAML mapping, or an installed
            plugin has taken the preset's name.
    """
    if name.endswith((".yaml", ".yml")):
        return read_document(folder / name)
    known = attack_names()
    if name not in known:
        raise unknown_name("attack", name, with_plugins("attack", known))
    if is_plugin("attack", name):
        find_plugin("attack", name, known)
    return read_document(attacks_folder() / f"{name}.yaml")


def load_attack(name: str, folder: Path | None = None) -> AttackSpec:
    """Reads and checks one attack preset.

    Args:
        name: Name of a preset that comes with robustgen, or the path of a YAML file.
        folder: Folder that a relative path starts from; by default the working one.

    Raises:
        RequestError: every fault of the file, one on each line.
    """
    document = attack_document(name, folder or Path())
    return validate(
        _AttackFile,
        document,
        {"spec": document.data},
        origin=lambda loc: loc[1:],
    ).spec


def suite_path(path_or_name: str | Path) -> Path:
    """The file that a suite's path or name stands for.

    Raises:
        RequestError: a name that no shipped suite has.
    """
    path = Path(path_or_name)
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1 or path.exists():
        return path
    known = suite_names()
    if str(path) not in known:
        raise unknown_name("suite", str(path), known)
    return suites_folder() / f"{path}.yaml"


def _shipped(kind: str) -> Path:
    """A data folder: inside an installed wheel, or at the top of a checkout."""
    package = Path(__file__).parent
    installed = package / "presets" / kind
    return installed if installed.is_dir() else package.parent / kind
