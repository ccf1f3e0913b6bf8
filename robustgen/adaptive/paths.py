"""The paths of a generative defense as victims: what they answer, and gradients of it.

One draw of an ensemble is the mean over all its pool, the base member and
`view_count` fresh views with fresh jitter. That is what the released rule, 31 members
drawn from the pool with replacement, predicts on average; its resampling is left to the
counting arm.

Surrogates compute in logarithms, `logsumexp(log weight + log p(member))`, so that no
probability is too small to have a gradient. What a generator makes is clamped to [0, 1]
with the gradient of the identity: a black or white pixel keeps its gradient.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeAlias, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from robustgen.adaptive.victim import (
    Draw,
    Forward,
    Generative,
    Rows,
    Victim,
    connected,
    draw_ids,
)
from robustgen.budgets import Budget
from robustgen.defense import (
    ROWS,
    Defense,
    classes_for,
    predict_paths,
)
from robustgen.errors import RequestError, unknown_name
from robustgen.gan.class_means import ClassMeanEncoder
from robustgen.projectors.custom import CustomProjector
from robustgen.projectors.encoder_only import EncoderProjector
from robustgen.projectors.in_domain import InDomainProjector
from robustgen.projectors.loss import Encoder, Gan, suitable_chunk
from robustgen.projectors.method import Projection, ProjectionMethod, evaluating
from robustgen.projectors.optimization import OptimizationProjector
from robustgen.projectors.pivotal import PivotalProjector
from robustgen.projectors.projector import Projector
from robustgen.projectors.unrolled import can_unroll, unrolled_projection
from robustgen.types import Images, Labels, Logits, Masks, StylesPlus
from robustgen.views.draws import ViewCodes
from robustgen.views.jitter import ImageViews, jitter

Tier: TypeAlias = Literal["bpda_identity", "bpda_encoder", "unrolled"]

SURROGATE_TIERS: tuple[Tier, ...] = ("bpda_identity", "bpda_encoder", "unrolled")
"""Tiers that differentiate a stand-in for the path."""

PATHS = (
    "image",
    "reconstruction",
    "stylemix_ensemble",
    "combined_ensemble",
    "image_ensemble",
)

GRAPH_PIXELS = 2**19
"""Pixels of views whose graph a surrogate keeps until backward: 512 of 32 px, eight of
256 px. With more, every block of views is computed a second time in backward. For 512
views of `faces` that saves 0.7 of 0.9 GB and takes 1.3 times as long."""

BLOCK_PIXELS = 2**20
"""Pixels of views that pass the networks at once, at most: 16 views of 256 px, one of
1,024 px; never more than `ROWS` views."""

LEAST = torch.finfo(torch.float32).tiny
"""Smallest probability of which `predict` takes the logarithm, 1.2e-38."""

SAME = 1e-3
"""Largest difference of a pixel at which two pictures are of one generator."""

PURPOSE = "defense"
"""One for all paths, so that the same draw of two ensembles has the same views."""

LogProbabilities: TypeAlias = Float[Tensor, "batch cls"]
LogViews: TypeAlias = Float[Tensor, "batch view cls"]


def path_victims(
    defense: Defense,
    samples: Sequence[int],
    masks: Masks | None = None,
    *,
    alpha: Mapping[str, float],
    budget: Budget,
    paths: Sequence[str],
    classes: int,
) -> dict[str, Victim]:
    """The victims of one batch, one for each path.

    They share the last projection that one of them computed, if the projection draws
    nothing: scoring 20 draws of an image projects it once.

    Args:
        defense: The defended classifier. Its `paths` do not matter.
        samples: Index of each image of the batch in its data set.
        masks: Pixels that the projection looks at, one mask per image of the batch;
            None for all.
        alpha: Weight of the pool against the image, by path, for the ensembles.
        budget: `views` that one gradient looks at, and passes that `unrolled` goes
            through.
        paths: Which paths.
        classes: Number of classes K.

    Raises:
        RequestError: an unknown path, an ensemble without an alpha in [0, 1], or not
            one mask per image.
    """
    if masks is not None and len(masks) != len(samples):
        raise RequestError(
            f"{len(masks)} masks for {len(samples)} images: expected one for each."
        )
    projections = _Remembering(defense.projector)
    found: dict[str, Victim] = {}
    for name in paths:
        if name not in PATHS:
            raise unknown_name("path", name, PATHS)
        path = _Path(
            name=name,
            defense=replace(defense, projector=projections),
            samples=tuple(int(sample) for sample in samples),
            masks=masks,
            alpha=_alpha(name, alpha),
            budget=budget,
        )
        found[name] = _victim(path, defense, classes)
    return found


def draws_starts(projector: ProjectionMethod) -> bool:
    """Whether a projection draws random numbers, such as starts or noise.

    Of a method that is not robustgen's own it is assumed unless it is known: a wrong
    yes costs passes, a wrong no would score one draw as if it were many.
    """
    if isinstance(projector, CustomProjector):
        return projector.random is not False
    if isinstance(projector, PivotalProjector):
        return bool(projector.locality.weight) or draws_starts(projector.pivot)
    return not isinstance(
        projector,
        Projector | EncoderProjector | InDomainProjector | OptimizationProjector,
    )


def encoder_of(projector: ProjectionMethod) -> Encoder | None:
    """The encoder that a projection starts from; None where it has none."""
    if isinstance(projector, PivotalProjector):
        return encoder_of(projector.pivot)
    found = getattr(projector, "encoder", None)
    return found if isinstance(found, Encoder) else None


def networks_of(defense: Defense) -> nn.ModuleList:
    """All networks of a defense, those inside the projector's settings included."""
    found: dict[int, nn.Module] = {}
    seen = set[int]()

    def visit(thing: object) -> None:
        if id(thing) in seen:
            return
        seen.add(id(thing))
        if isinstance(thing, nn.Module):
            found[id(thing)] = thing
        elif isinstance(thing, Mapping):
            for value in thing.values():
                visit(value)
        elif isinstance(thing, list | tuple):
            for value in thing:
                visit(value)
        elif type(thing).__module__.split(".")[0] not in ("builtins", "torch", "numpy"):
            for value in getattr(thing, "__dict__", {}).values():
                visit(value)

    for part in (
        defense.classifier,
        defense.projector,
        defense.projector.gan,
        defense.vary,
    ):
        visit(part)
    return nn.ModuleList(found.values())


def _alpha(name: str, alpha: Mapping[str, float]) -> float:
    """Weight of what the path makes against the image itself."""
    if not name.endswith("_ensemble"):
        return float(name != "image")
    if name not in alpha or not 0 <= alpha[name] <= 1:
        given = f"{alpha[name]:g}" if name in alpha else "none"
        raise RequestError(
            f"Path '{name}' needs its alpha, a share in [0, 1]; got {given}."
        )
    return float(alpha[name])


@final
class _Remembering:
    """A projection method that keeps its last result, where it draws nothing."""

    def __init__(self, projector: ProjectionMethod) -> None:
        self.projector = projector
        self._keeps = not draws_starts(projector)
        self._last: tuple[tuple[Tensor | None, ...], Projection] | None = None

    @property
    def gan(self) -> Gan:
        return self.projector.gan

    def __call__(
        self,
        images: Images,
        mask: Masks | None = None,
        *,
        samples: Sequence[int] | None = None,
        labels: Labels | None = None,
    ) -> Projection:
        asked = (images, mask, labels)
        if self._last is not None and all(map(_equal, self._last[0], asked)):
            return self._last[1]
        found = self.projector(images, mask, samples=samples, labels=labels)
        if self._keeps:
            kept = tuple(None if t is None else t.detach().clone() for t in asked)
            self._last = (kept, found)
        return found


def _equal(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return (
        a.shape == b.shape
        and a.dtype == b.dtype
        and a.device == b.device
        and torch.equal(a, b)
    )


@dataclass(frozen=True, eq=False)
class _Path:
    """One path for one batch of images.

    Args:
        name: Of the path.
        defense: The defense, with a projector that remembers.
        samples: Index of each image of the batch in its data set.
        masks: One per image of the batch; None for all pixels.
        alpha: Weight of the pool against the image.
        budget: Bounds of the surrogates.
    """

    name: str
    defense: Defense
    samples: tuple[int, ...]
    masks: Masks | None
    alpha: float
    budget: Budget

    @property
    def projector(self) -> ProjectionMethod:
        """The projection method itself."""
        inner = self.defense.projector
        return inner.projector if isinstance(inner, _Remembering) else inner

    @property
    def has_views(self) -> bool:
        return self.name.endswith("_ensemble")

    @property
    def projects(self) -> bool:
        return self.name not in ("image", "image_ensemble")

    @property
    def random(self) -> bool:
        """Whether two draws may differ."""
        if self.alpha == 0:
            return False
        return self.has_views or (self.projects and draws_starts(self.projector))

    def ids(self, rows: Rows, draw: Draw) -> tuple[int, ...]:
        """What stands for the sample indices of these rows in one draw."""
        samples = [self.samples[row] for row in rows.tolist()]
        return draw_ids(self.defense.seed, PURPOSE, samples, draw)

    def masks_of(self, rows: Rows, images: Images) -> Masks | None:
        if self.masks is None:
            return None
        return self.masks[rows.to(self.masks.device)].to(images)

    def project(self, images: Images, rows: Rows, draw: Draw) -> Projection:
        """The projection, as the path does it; remembered where it draws nothing."""
        images = images.detach()
        return self.defense.projector(
            images,
            self.masks_of(rows, images),
            samples=self.ids(rows, draw),
            labels=classes_for(self.defense, images),
        )

    def encode(self, images: Images, rows: Rows) -> StylesPlus:
        """The codes at which the projection starts, with gradients to the images."""
        encoder = encoder_of(self.projector)
        assert encoder is not None  # else nobody asks
        masks = self.masks_of(rows, images)
        return torch.cat(
            [
                encoder(images[some], None if masks is None else masks[some])
                for some in _slices(len(images), suitable_chunk(images))
            ]
        )

    @torch.no_grad()
    def predict(self, images: Images, rows: Rows, draw: Draw) -> Logits:
        """Log-probabilities of one draw of the full path."""
        images = images.detach()
        wanted = {"image"} if self.alpha < 1 else set[str]()
        base = "image" if self.name == "image_ensemble" else "reconstruction"
        if self.alpha > 0:
            wanted |= {base, self.name}
        with evaluating((self.defense.classifier, self.defense.projector.gan)):
            found = predict_paths(
                replace(self.defense, paths=frozenset(wanted)),
                images,
                self.ids(rows, draw),
                self.masks_of(rows, images),
            )
        if self.alpha == 0:
            return _log(found.single["image"])
        pool = found.single[base][:, None]
        if self.has_views:
            pool = torch.cat([pool, found.views[self.name]], dim=1)
        mean = self.alpha * pool.mean(dim=1)
        if self.alpha < 1:
            mean = (1 - self.alpha) * found.single["image"] + mean
        return _log(mean)


def _log(probabilities: LogProbabilities) -> LogProbabilities:
    return probabilities.clamp_min(LEAST).log()


def _victim(path: _Path, defense: Defense, classes: int) -> Victim:
    surrogates: dict[str, Forward] = {}
    missing: dict[str, str] = {}
    for tier in SURROGATE_TIERS:
        reason = _missing(tier, path)
        if reason is None:
            surrogates[tier] = _Surrogate(path, tier)
        else:
            missing[tier] = reason
    generative = Generative(
        gan=defense.projector.gan,
        encode=path.encode if "bpda_encoder" in surrogates else None,
        projector=defense.projector,
        project=path.project,
    )
    return Victim(
        path=path.name,
        samples=path.samples,
        classes=classes,
        random=path.random,
        networks=networks_of(defense),
        classifier=defense.classifier,
        predict=path.predict,
        surrogates=surrogates,
        missing=missing,
        generative=generative if path.projects else None,
    )


def _missing(tier: Tier, path: _Path) -> str | None:
    """Why a path cannot offer a tier; None where it can."""
    if path.name == "image":
        return (
            "path 'image' is the bare classifier, whose own gradient the oblivious "
            "attacks follow."
        )
    if tier == "bpda_identity":
        return None
    if path.name == "image_ensemble":
        return "no generator, and so no encoder." if tier == "bpda_encoder" else None
    if tier == "unrolled":
        return can_unroll(path.projector)
    encoder = encoder_of(path.projector)
    if encoder is None:
        return f"{type(path.projector).__name__} has no encoder to go backward through."
    if isinstance(encoder, ClassMeanEncoder):
        return "the encoder looks up the mean code of a class, which has no gradient."
    return None


Show: TypeAlias = Callable[
    [ViewCodes, slice], tuple[Callable[[Tensor], ImageViews], Tensor]
]
"""Codes of views of some images to a function and its argument, which give their
pictures. The gradient enters through the argument, and whatever the function does is
done again in backward where memory is short."""


@dataclass(frozen=True, eq=False)
class _Made:
    """A projection as a surrogate differentiates it.

    Args:
        w_plus: Codes w*.
        pictures: Their pictures in [0, 1].
        show: Pictures of views.
    """

    w_plus: StylesPlus
    pictures: Images
    show: Show


@dataclass(frozen=True, eq=False)
class _Surrogate:
    """A path with gradients to the images: a `SharedForward`.

    Values are those of the full path, for ensembles of its base member and the first
    `budget.views` views of the draw, which weigh as much as all views together. With
    fewer passes than the projection has (`budget.unroll`), `unrolled` has the values
    of the shorter projection.
    """

    path: _Path
    tier: Tier

    def __call__(self, images: Images, rows: Rows, draw: Draw) -> Logits:
        """Log-probabilities of one draw."""
        return self.over(images, rows, [draw])[0]

    def over(self, images: Images, rows: Rows, draws: Sequence[Draw]) -> list[Logits]:
        """Log-probabilities of each draw.

        The image term, and the projection where it draws nothing, are computed and
        differentiated once for all of them.
        """
        path = self.path
        with evaluating((path.defense.classifier, path.defense.projector.gan)):
            members = self._shared_members(images)
            if path.alpha == 0:
                return [connected(_mixed(members), images) for _ in draws]
            classes = classes_for(path.defense, images.detach())
            pixels = images.shape[2] * images.shape[3]
            views = len(images) * self._views * len(draws)
            again = torch.is_grad_enabled() and views * pixels > GRAPH_PIXELS
            shared: _Made | None = None
            found: list[Logits] = []
            for draw in draws:
                ids = path.ids(rows, draw)
                made = shared
                if path.projects and made is None:
                    made = self._make(images, rows, draw, ids, classes)
                    shared = None if draws_starts(path.projector) else made
                own = self._draw_members(images, made, ids, classes, again=again)
                found.append(connected(_mixed([*members, *own]), images))
            return found

    @property
    def _views(self) -> int:
        """Views that one gradient looks at."""
        if not self.path.has_views:
            return 0
        return min(self.path.budget.views, self.path.defense.view_count)

    def _shared_members(self, images: Images) -> "list[_Members]":
        """The image term, where it counts."""
        path = self.path
        weight = 1 - path.alpha
        if path.name == "image_ensemble":
            weight += path.alpha / (path.defense.view_count + 1)
        if weight == 0:
            return []
        return [_Members(weight, self._classify(images)[:, None])]

    def _draw_members(
        self,
        images: Images,
        made: _Made | None,
        ids: Sequence[int],
        classes: Labels | None,
        *,
        again: bool,
    ) -> "list[_Members]":
        """The pool of one draw."""
        path = self.path
        if made is None:
            views = self._jittered_images(images, ids, again=again)
            return [_Members(path.alpha * self._share, views)]
        base = self._classify(made.pictures)[:, None]
        if not path.has_views:
            return [_Members(path.alpha, base)]
        views = self._varied(made, ids, classes, again=again)
        return [
            _Members(path.alpha * (1 - self._share), base),
            _Members(path.alpha * self._share, views),
        ]

    @property
    def _share(self) -> float:
        """Share of the views in the pool."""
        count = self.path.defense.view_count
        return count / (count + 1)

    def _make(
        self,
        images: Images,
        rows: Rows,
        draw: Draw,
        ids: Sequence[int],
        classes: Labels | None,
    ) -> _Made:
        if self.tier == "unrolled":
            w_plus, pictures = unrolled_projection(
                self.path.projector,
                images,
                self.path.masks_of(rows, images),
                passes=self.path.budget.unroll,
                samples=ids,
                labels=classes,
            )
            return _Made(w_plus, _clamped(pictures), partial(self._show, None))
        projection = self.path.project(images, rows, draw)
        if self.tier == "bpda_identity":
            return self._as_images(images, projection)
        w_plus = follow(projection.w_plus, self.path.encode(images, rows))
        pictures = torch.cat(
            [self._gan.synthesize(part) for part in w_plus.split(_block(images))]
        )
        tuned = not torch.allclose(pictures, projection.images, rtol=0, atol=SAME)
        if tuned:
            pictures = follow(projection.images, pictures)
        show = partial(self._show, projection if tuned else None)
        return _Made(w_plus, _clamped(pictures), show)

    def _as_images(self, images: Images, projection: Projection) -> _Made:
        """Every picture is made as it is, and differentiated as the image itself."""

        def show(
            codes: ViewCodes, some: slice
        ) -> tuple[Callable[[Tensor], ImageViews], Tensor]:
            with torch.no_grad():
                values = projection.decode(codes.detach(), some).clamp(0, 1)

            def pictures(x: Tensor) -> Tensor:
                return follow(values, x[:, None])

            return pictures, images[some]

        base = follow(projection.images.clamp(0, 1), images)
        return _Made(projection.w_plus, base, show)

    def _show(
        self, projection: Projection | None, codes: ViewCodes, some: slice
    ) -> tuple[Callable[[Tensor], ImageViews], Tensor]:
        """Pictures of views, differentiated through the shared generator.

        Args:
            projection: Whose own generators make the values; None for the shared one.
            codes: Codes of the views.
            some: Which images of the projection they belong to.
        """

        def pictures(codes: Tensor) -> Tensor:
            flat = self._gan.synthesize(codes.flatten(0, 1))
            made = flat.unflatten(0, codes.shape[:2])
            if projection is not None:
                with torch.no_grad():
                    values = projection.decode(codes.detach(), some)
                made = follow(values, made)
            return _clamped(made)

        return pictures, codes

    def _varied(
        self,
        made: _Made,
        ids: Sequence[int],
        classes: Labels | None,
        *,
        again: bool,
    ) -> LogViews:
        """Log-probabilities of the views of a projection."""
        codes = self.path.defense.vary(made.w_plus, ids, classes)[:, : self._views]
        if made.w_plus.requires_grad and not codes.requires_grad:
            # A family that cuts the graph: its views as fixed steps from w*.
            codes = follow(codes, made.w_plus[:, None].expand_as(codes))

        def seen(
            pictures: Callable[[Tensor], ImageViews], some: slice, way: Tensor
        ) -> LogViews:
            views = pictures(way)
            if self.path.name == "combined_ensemble":
                views = self._jitter(views, ids[some], "combined")
            return self._classify_views(views)

        found: list[Tensor] = []
        for some in self._parts(made.pictures):
            pictures, way = made.show(codes[some], some)
            found.append(_evaluate(partial(seen, pictures, some), way, again=again))
        return torch.cat(found)

    def _jittered_images(
        self, images: Images, ids: Sequence[int], *, again: bool
    ) -> LogViews:
        """Log-probabilities of the jittered copies of images."""

        def seen(some: slice, x: Tensor) -> LogViews:
            copies = x[:, None].expand(-1, self._views, -1, -1, -1)
            if self.tier == "unrolled":
                views = self._jitter(copies, ids[some], "image")
            else:
                with torch.no_grad():
                    views = self._jitter(copies, ids[some], "image")
                views = follow(views, copies)
            return self._classify_views(views)

        return torch.cat(
            [
                _evaluate(partial(seen, some), images[some], again=again)
                for some in self._parts(images)
            ]
        )

    def _jitter(
        self, views: ImageViews, ids: Sequence[int], purpose: str
    ) -> ImageViews:
        defense = self.path.defense
        return jitter(
            views, defense.jitter, seed=defense.seed, samples=ids, purpose=purpose
        )

    def _classify(self, images: Images) -> LogProbabilities:
        classifier = self.path.defense.classifier
        return torch.cat(
            [
                classifier(part).log_softmax(dim=1)
                for part in images.split(_block(images))
            ]
        )

    def _classify_views(self, views: ImageViews) -> LogViews:
        return self._classify(views.flatten(0, 1)).unflatten(0, views.shape[:2])

    def _parts(self, images: Images) -> Iterator[slice]:
        """Images whose views pass the networks at once."""
        return _slices(len(images), max(1, _block(images) // self._views))

    @property
    def _gan(self) -> Gan:
        return self.path.projector.gan


@dataclass(frozen=True, eq=False)
class _Members:
    """Members of an average: their weight together, and log-probabilities [N, M, K]."""

    weight: float
    logs: LogViews


def _mixed(members: Sequence[_Members]) -> LogProbabilities:
    """Logarithm of the weighted mean of probabilities."""
    parts = [each.logs + math.log(each.weight / each.logs.shape[1]) for each in members]
    return torch.cat(parts, dim=1).logsumexp(dim=1)


def follow(
    value: Float[Tensor, "*shape"], way: Float[Tensor, "*#shape"]
) -> Float[Tensor, "*shape"]:
    """A tensor with the values of one and the gradient of another: straight-through."""
    return way + (value - way).detach()


def _clamped(pictures: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Pictures clamped to [0, 1], with the gradient of those that are not."""
    return follow(pictures.clamp(0, 1), pictures)


def _evaluate(
    function: Callable[[Tensor], Tensor], argument: Tensor, *, again: bool
) -> Tensor:
    """`function(argument)`, in backward `again` if its graph would take much memory."""
    if not again or not argument.requires_grad:
        return function(argument)
    # Nothing draws from global generators here, so that none need be kept.
    found = checkpoint(
        function, argument, use_reentrant=False, preserve_rng_state=False
    )
    assert isinstance(found, Tensor)
    return found


def _block(images: Images) -> int:
    """Images of this size that pass the networks at once."""
    return max(1, min(ROWS, BLOCK_PIXELS // (images.shape[2] * images.shape[3])))


def _slices(count: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, count, size))
