"""How a suite's images are projected: one record of settings for each method.

    projection: {method: optimization, space: w, passes: 500}

Without `method` it is `hybrid`. The defaults of a method are those published for it. A
method of the user's own is named by `factory: module:callable`, or by the name of an
entry point.
No torch here: a suite is checked, and its cost estimated, before anything is loaded.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    field_validator,
)

from robustgen.errors import RequestError, suggestion
from robustgen.plugins import Factory, find_plugin, is_plugin, with_plugins
from robustgen.schema import Info, Number, Record, brief, fault

METHODS: Mapping[str, str] = MappingProxyType(
    {
        "hybrid": "the encoder's code, then batched L-BFGS or Adam from there",
        "encoder": "the encoder's code alone (pSp, e4e)",
        "optimization": "from the mean code, in Z, W or W+ (Image2StyleGAN)",
        "stylegan2": "StyleGAN2's projector: W or W+, with noise of each image's own",
        "in_domain": "Adam from the encoder's code, held near its domain (IDInvert)",
        "defensegan": "random restarts in Z, gradient descent on pixels (Defense-GAN)",
        "pivotal": "a pivot code, then a generator tuned for each image (PTI)",
    }
)
"""Projection methods, with one line about each."""

Passes = Annotated[int, Field(ge=1, le=100_000)]
Steps = Annotated[int, Field(ge=1, le=100_000)]
Tolerance = Annotated[Number, Field(ge=0, lt=1)]
Rate = Annotated[Number, Field(gt=0)]
Share = Annotated[Number, Field(ge=0, le=1)]
Weight = Annotated[Number, Field(ge=0)]
Width = Annotated[Number, Field(gt=0)]
Side = Annotated[int, Field(ge=1, le=4096)]


class _Comparison(Record):
    """(1-λp) pixel term + λp perceptual + λl latent term."""

    pixel_term: Literal["l1", "l2"] = "l1"
    """How pixels are compared: mean of |G(w) - x| or of its square."""
    pixel_range: Width = 1.0
    """Width of the range of pixels; 2 for the released code, on images in [-1, 1]."""
    perceptual_weight: Share = 0.5
    """λp: share of the perceptual loss in the image term; 0 is the pixel term alone."""
    latent_weight: Weight = 0.25
    """λl: weight of the latent term; 0 saves its cost."""
    latent_term: Literal["encoder", "cycle", "start"] = "encoder"
    """MSE(E(G(w)), E(x)), MSE(w, E(G(w))), or MSE(w, start), which needs no E."""


class HybridSettings(_Comparison):
    """w* = argmin (1-λp) pixel + λp perceptual + λl latent, from w = E(x)."""

    method: Literal["hybrid"] = "hybrid"
    optimizer: Literal["lbfgs", "adam"] = "lbfgs"
    """Batched L-BFGS with a line search, or Adam."""
    passes: Passes = 12
    """Evaluations of the loss and its gradient that one image may cost."""
    steps: Steps | None = None
    """Iterations at most; by default as many as the passes allow."""
    tolerance: Tolerance = 0.0
    """An image stops when a step lowers its loss by less than this share; 0: never."""
    rate: Rate | None = None
    """Step size of adam, by default 0.05; lbfgs finds its own."""

    @field_validator("rate")
    @classmethod
    def _of_adam(cls, value: float | None, info: Info) -> float | None:
        return _rate_of_adam(value, info)


class EncoderSettings(_Comparison):
    """w* = E(x); the loss is computed for the report alone."""

    method: Literal["encoder"] = "encoder"


class OptimizationSettings(Record):
    """A search from the mean code, without an encoder (arXiv:1904.03189)."""

    method: Literal["optimization"] = "optimization"
    space: Literal["z", "w", "w_plus"] = "w_plus"
    """One latent, one style code, or one style code for each layer."""
    optimizer: Literal["lbfgs", "adam"] = "adam"
    """Adam as published, or batched L-BFGS as the released code has it for CIFAR-10."""
    passes: Passes = 5000
    """Evaluations of the loss and its gradient that one image may cost."""
    steps: Steps | None = None
    """Iterations at most; by default as many as the passes allow."""
    tolerance: Tolerance = 0.0
    """An image stops when its loss falls by less than this share; 0: never."""
    rate: Rate | None = None
    """Step size of adam, by default 0.01; lbfgs finds its own."""
    pixel_term: Literal["l1", "l2"] = "l2"
    """How pixels are compared: mean of |G(w) - x| or of its square."""
    pixel_range: Width = 1.0
    """Width of the range of pixels; 2 for images in [-1, 1]."""
    perceptual_weight: Share = 0.5
    """λp: share of the perceptual loss in the image term; published is 1 to 1."""
    latent_weight: Weight = 0.0
    """Weight of MSE(w, start); the released code has 0.25 for CIFAR-10."""
    latent_term: Literal["start"] = "start"
    """There is no encoder to compare with."""

    @field_validator("rate")
    @classmethod
    def _of_adam(cls, value: float | None, info: Info) -> float | None:
        return _rate_of_adam(value, info)


class StyleGan2Settings(Record):
    """The projector of StyleGAN2 (arXiv:1912.04958, appendix D)."""

    method: Literal["stylegan2"] = "stylegan2"
    space: Literal["w", "w_plus"] = "w"
    """One style code, or one for each layer."""
    passes: Passes = 1000
    """Iterations; one evaluation of the loss and its gradient each."""
    steps: Steps | None = None
    """Iterations after which to stop, on the schedule of `passes`."""
    tolerance: Tolerance = 0.0
    """Once codes are no longer jittered: least share by which the loss must fall."""
    rate: Rate = 0.1
    """Largest step size of Adam."""
    ramp_up: Share = 0.05
    """Share of the iterations in which the step size rises from 0."""
    ramp_down: Share = 0.25
    """Share of the iterations in which it falls to 0."""
    code_noise: Weight = 0.05
    """Std of the noise on the code at first, in spreads of w."""
    code_noise_until: Share = 0.75
    """Share of the iterations after which the code has no noise."""
    optimize_noise: bool = True
    """Whether each image gets noise maps of its own, or all share the stored ones."""
    noise_weight: Weight = 1e5
    """Weight of the term that keeps the noise maps free of structure."""
    pixel_term: Literal["l1", "l2"] = "l2"
    """How pixels are compared, where they have a weight."""
    pixel_range: Width = 2.0
    """Width of the range of pixels; published images lie in [-1, 1]."""
    perceptual_weight: Share = 1.0
    """Share of the perceptual loss; published is the perceptual loss alone."""
    side: Side = 256
    """Larger images are averaged to this many pixels on a side before comparison."""


class InDomainSettings(Record):
    """In-domain inversion (arXiv:2004.00049); a mask drops the latent term."""

    method: Literal["in_domain"] = "in_domain"
    passes: Passes = 100
    """Evaluations of the loss and its gradient that one image may cost."""
    steps: Steps | None = None
    """Iterations at most; by default as many as the passes allow."""
    tolerance: Tolerance = 0.0
    """An image stops when its loss falls by less than this share; 0: never."""
    rate: Rate = 0.01
    """Step size of Adam."""
    pixel_weight: Weight = 1.0
    """Weight of the mean squared difference of pixels."""
    pixel_range: Width = 2.0
    """Width of the range of pixels; published images lie in [-1, 1]."""
    perceptual_weight: Weight = 1.0
    """Weight of the perceptual loss. Published: 5e-5 of raw VGG features, whose
    mean squares are in the thousands; ours have unit length."""
    latent_weight: Weight = 2.0
    """Weight of MSE(w, E(G(w)))."""

    @field_validator("perceptual_weight")
    @classmethod
    def _sees_the_image(cls, value: float, info: Info) -> float:
        return _seeing(value, info)


class DefenseGanSettings(Record):
    """The projection of Defense-GAN (arXiv:1805.06605): pixels alone, in Z."""

    method: Literal["defensegan"] = "defensegan"
    restarts: Annotated[int, Field(ge=1, le=1000)] = 10
    """Random starts of each image; the best is kept."""
    passes: Passes = 200
    """Iterations of each restart; an image costs restarts times passes."""
    steps: Steps | None = None
    """Iterations at most; by default as many as the passes allow."""
    tolerance: Tolerance = 0.0
    """A restart stops when its loss falls by less than this share; 0: never."""
    rate: Rate = 10.0
    """Step size, times the gradient of the mean squared difference."""
    momentum: Annotated[Number, Field(ge=0, lt=1)] = 0.7
    """Share of the last step that goes on."""
    drop: Annotated[Number, Field(gt=0, le=1)] = 0.1
    """Factor of the step size from `drop_at` on."""
    drop_at: Share = 0.8
    """Share of the passes after which the step size drops."""
    pixel_range: Width = 1.0
    """Width of the range of pixels; published digits lie in [0, 1]."""


_Pivot: TypeAlias = (
    HybridSettings | EncoderSettings | OptimizationSettings | StyleGan2Settings
)


def _complete_pivot(value: object) -> object:
    """A pivot with the method and the numbers of the published one filled in."""
    if not isinstance(value, Mapping):
        return value
    named: dict[str, Any] = {"method": "stylegan2", **value}
    if named["method"] != "stylegan2":
        return named
    return {"passes": 450, "rate": 0.01, **named}


class CustomProjection(Factory):
    """A method of the user's own; see `robustgen.projectors.custom`."""

    @property
    def method(self) -> str:
        """What reports and random draws call it."""
        return self.label


_OWN = ("factory", "plugin")
"""Keys that name a method of the user's own."""


def _tag(value: object) -> str | None:
    """Which member of a union of methods a mapping or record is meant to be."""
    if isinstance(value, CustomProjection):
        return "<custom>"
    if isinstance(value, Mapping):
        if any(key in value for key in _OWN):
            return "<custom>"
        return f"<{value.get('method', 'hybrid')}>"
    return f"<{value.method}>" if isinstance(value, _Types) else None


def _known_method(value: object) -> object:
    """Refuses what is not meant to be any method."""
    if isinstance(value, CustomProjection):
        return value
    if isinstance(value, Mapping):
        value = _by_name(value)
        for key in _OWN:
            if key in value:
                return _own_method(value, key)
    return _one_of(value, tuple(METHODS), with_plugins("projector", tuple(METHODS)))


def _by_name(value: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """`method: NAME` written out as `plugin: NAME`, where it is that of a plugin."""
    method = value.get("method")
    if not isinstance(method, str) or not is_plugin("projector", method):
        return value
    return {"plugin": method, **{k: v for k, v in value.items() if k != "method"}}


def _own_method(value: Mapping[Any, Any], key: str) -> Mapping[Any, Any]:
    """Refuses an unknown plugin, and keys of the methods that ship."""
    name = value[key]
    if key == "plugin" and isinstance(name, str):
        try:
            find_plugin("projector", name, METHODS)
        except RequestError as error:
            raise fault(str(error)) from None
    for other in value:
        if other in CustomProjection.model_fields:
            continue
        if any(other in one.model_fields for one in _Types):
            raise fault(
                f"`{other}` belongs to a method that ships, not to one with `{key}`; "
                "give yours what it needs by `args`."
            )
    return value


def _known_pivot(value: object) -> object:
    """Refuses what cannot give a pivot."""
    pivots = ("hybrid", "encoder", "optimization", "stylegan2")
    return _one_of(value, pivots, pivots)


def _one_of(value: object, members: tuple[str, ...], known: tuple[str, ...]) -> object:
    if isinstance(value, _Types):
        method: object = value.method
    elif isinstance(value, Mapping):
        method = value.get("method", "hybrid")
    else:
        raise fault(f"should be keys and values, not {brief(value)}.")
    if method not in members:
        raise fault(f"unknown method '{method}'. {suggestion(str(method), known)}")
    return value


def _seeing(perceptual_weight: float, info: Info) -> float:
    if perceptual_weight == info.data.get("pixel_weight") == 0:
        raise fault("and `pixel_weight` are 0: nothing compares the images.")
    return perceptual_weight


def _rate_of_adam(value: float | None, info: Info) -> float | None:
    if value is not None and info.data.get("optimizer") == "lbfgs":
        raise fault("belongs to optimizer 'adam'; lbfgs finds its own step size.")
    return value


class PivotalSettings(Record):
    """Pivotal tuning (arXiv:2106.05744): the generator is tuned for each image."""

    method: Literal["pivotal"] = "pivotal"
    pivot: Annotated[
        Annotated[HybridSettings, Tag("<hybrid>")]
        | Annotated[EncoderSettings, Tag("<encoder>")]
        | Annotated[OptimizationSettings, Tag("<optimization>")]
        | Annotated[StyleGan2Settings, Tag("<stylegan2>")],
        Discriminator(_tag),
        BeforeValidator(_known_pivot),
        BeforeValidator(_complete_pivot),
    ] = StyleGan2Settings(passes=450, rate=0.01)
    """Finds the code; by default stylegan2 with 450 passes and a rate of 0.01."""
    passes: Passes = 350
    """Evaluations of loss and gradient in tuning, beside those of the pivot."""
    steps: Steps | None = None
    """Steps of tuning at most; by default as many as the passes allow."""
    tolerance: Tolerance = 0.0
    """Tuning stops when the loss falls by less than this share; 0: never."""
    threshold: Weight = 0.06
    """Tuning stops at this perceptual distance, where it has a weight."""
    rate: Rate = 3e-4
    """Step size of Adam on the generator's parameters."""
    pixel_weight: Weight = 1.0
    """Weight of the mean squared difference of pixels."""
    pixel_range: Width = 2.0
    """Width of the range of pixels; published images lie in [-1, 1]."""
    perceptual_weight: Weight = 1.0
    """Weight of the perceptual loss."""
    locality_weight: Weight = 0.0
    """Weight of keeping pictures of other codes as they were; published: 0.1 or off."""
    locality_distance: Width = 30.0
    """Distance of these codes from the pivot."""

    @field_validator("perceptual_weight")
    @classmethod
    def _sees_the_image(cls, value: float, info: Info) -> float:
        return _seeing(value, info)


_Types = (
    HybridSettings,
    EncoderSettings,
    OptimizationSettings,
    StyleGan2Settings,
    InDomainSettings,
    DefenseGanSettings,
    PivotalSettings,
)

ProjectionSettings: TypeAlias = Annotated[
    Annotated[HybridSettings, Tag("<hybrid>")]
    | Annotated[EncoderSettings, Tag("<encoder>")]
    | Annotated[OptimizationSettings, Tag("<optimization>")]
    | Annotated[StyleGan2Settings, Tag("<stylegan2>")]
    | Annotated[InDomainSettings, Tag("<in_domain>")]
    | Annotated[DefenseGanSettings, Tag("<defensegan>")]
    | Annotated[PivotalSettings, Tag("<pivotal>")]
    | Annotated[CustomProjection, Tag("<custom>")],
    Discriminator(_tag),
    BeforeValidator(_known_method),
]
"""Settings of any method, told apart by `method`."""


def max_passes(settings: ProjectionSettings) -> int:
    """Evaluations of a loss and its gradient that one image costs at most.

    A method of the user's own counts as none: nobody here knows.

    >>> max_passes(HybridSettings(passes=8))
    8
    >>> max_passes(DefenseGanSettings())
    2000
    """
    if isinstance(settings, EncoderSettings | CustomProjection):
        return 0
    bound = settings.passes
    if isinstance(settings, StyleGan2Settings):
        return min(bound, settings.steps or bound)
    # A step of L-BFGS may take several passes, one of Adam takes one.
    searched = isinstance(settings, HybridSettings | OptimizationSettings)
    if settings.steps is not None and not (searched and settings.optimizer == "lbfgs"):
        bound = min(bound, settings.steps + 1)
    if isinstance(settings, DefenseGanSettings):
        return settings.restarts * bound
    if isinstance(settings, PivotalSettings):
        return max_passes(settings.pivot) + bound
    return bound


def needs_encoder(settings: ProjectionSettings) -> bool:
    """Whether the method cannot do without an encoder; one of the user's own says so
    itself.

    >>> needs_encoder(OptimizationSettings()), needs_encoder(HybridSettings())
    (False, True)
    """
    if isinstance(settings, PivotalSettings):
        return needs_encoder(settings.pivot)
    return isinstance(settings, HybridSettings | EncoderSettings | InDomainSettings)


def needs_perceptual(settings: ProjectionSettings) -> bool:
    """Whether the method compares features with these weights.

    >>> needs_perceptual(HybridSettings(perceptual_weight=0))
    False
    """
    if isinstance(settings, DefenseGanSettings | CustomProjection):
        return False
    if isinstance(settings, PivotalSettings) and needs_perceptual(settings.pivot):
        return True
    return settings.perceptual_weight > 0
