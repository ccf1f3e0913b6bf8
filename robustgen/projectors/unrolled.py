"""Projections that can be differentiated, with the activations of one pass in memory.

What an attack needs that knows the projection: the exact derivative of what the search
computes, not of what it approximates. The search runs as ever and leaves, for each
pass, losses and gradients in the space of its points. The backward walk makes the
states of the search again from them (`robustgen.projectors.replay`), and evaluates one
pass at a time with its second derivatives: Hessian times vector for the way through
the search, mixed derivatives for what the loss knows of the image.

The derivative counts every way from an image to its projection: the encoder's code
where the search starts, the one that the latent term compares with, the perceptual
features and the pixels. The L1 of pixels has no second derivative, so that pixels act
through the other terms, through the losses that set step lengths and through the
encoder; where L1 is the only term, little more than the encoder is left.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from robustgen.errors import RequestError
from robustgen.projectors.adam import Adam
from robustgen.projectors.defensegan import DefenseGanProjector, best_rows
from robustgen.projectors.encoder_only import EncoderProjector
from robustgen.projectors.in_domain import InDomainProjector
from robustgen.projectors.loss import (
    Encoder,
    Gan,
    Lift,
    ProjectionLoss,
    ProjectionObjective,
    Target,
    loss_of,
    suitable_chunk,
    target_of,
)
from robustgen.projectors.method import (
    ProjectionMethod,
    check_codes,
    decoder,
    evaluating,
    projecting,
    sample_numbers,
)
from robustgen.projectors.minimum import Minimum, Objective
from robustgen.projectors.momentum import Momentum, dropping_rate
from robustgen.projectors.optimization import OptimizationProjector
from robustgen.projectors.projector import Projector
from robustgen.projectors.replay import (
    DescentStepper,
    LbfgsStepper,
    Pass,
    Stepper,
    gradients,
    pull_back,
)
from robustgen.projectors.spaces import class_labels, lift_from
from robustgen.types import Images, Labels, Masks, StylesPlus

REASONS = {
    "StyleGan2Projector": "it also searches noise maps, from jittered codes",
    "PivotalProjector": "it tunes the generator for each image",
}
"""Why methods that ship cannot be unrolled."""


def can_unroll(projector: ProjectionMethod) -> str | None:
    """None where `unrolled_projection` can differentiate a method, else why not."""
    if isinstance(
        projector,
        Projector
        | EncoderProjector
        | InDomainProjector
        | OptimizationProjector
        | DefenseGanProjector,
    ):
        return None
    name = type(projector).__name__
    return f"{name}: {REASONS.get(name, 'its search is not known')}"


def unrolled_projection(
    projector: ProjectionMethod,
    images: Images,
    mask: Masks | None = None,
    *,
    passes: int | None = None,
    samples: Sequence[int] | None = None,
    labels: Labels | None = None,
) -> tuple[StylesPlus, Images]:
    """Codes w* and pictures G(w*) of images, differentiable with respect to them.

    The values are those of the projector, which runs as it does without a gradient.
    The derivative is that of the search as it went: which trials were accepted, and
    which restart or point is the best, counts as constant. It is exact up to rounding
    for every image on its own, whatever its neighbors.

    Memory, beside the two results: activations of one pass of a chunk of images with
    its second derivatives, and of each pass one point and one number per image. No
    parameter of a network gets a gradient, and the derivative has none of its own.

    Args:
        projector: One for which `can_unroll` is None. Its networks run in eval mode,
            restored afterwards, forward and backward.
        images: Pixels in [0, 1].
        mask: Weights of the pixels; None for all. It gets no gradient.
        passes: Evaluations of loss and gradient, instead of the projector's own: fewer
            are a cheaper surrogate. Not used by the encoder alone.
        samples: Index of each image in its data set, for methods that draw.
        labels: Predicted classes, for a generator with classes.

    Returns:
        Codes and their pictures, not clamped. Both may enter one loss: going backward
        through both at once costs as much as through one.

    Raises:
        RequestError: the method cannot be unrolled, `passes` is below 1, or the request
            makes no sense to the projector.
    """
    reason = can_unroll(projector)
    if reason is not None:
        raise RequestError(
            f"{reason}, so it cannot be unrolled. Choose hybrid, encoder, in_domain, "
            "optimization or defensegan."
        )
    numbers = sample_numbers(samples, len(images))

    def prepare(images: Tensor, mask: Tensor | None) -> _Problem:
        return _problem(projector, images, mask, passes, numbers, labels)

    codes, pictures = _Unrolled.apply(images, mask, prepare)
    return codes, pictures


class _Unrolled(torch.autograd.Function):
    """The search forward, and its passes in reverse."""

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        mask: Tensor | None,
        prepare: Callable[[Tensor, Tensor | None], "_Problem"],
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        tape = _search(images, mask, prepare)
        ctx.tape = tape
        # Saved only so that a change in place is noticed before it makes nonsense.
        ctx.save_for_backward(images)
        return tape.codes, tape.pictures

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grad_outputs: Tensor | None
    ) -> tuple[Tensor | None, None, None]:
        codes_bar, pictures_bar = grad_outputs
        (images,) = ctx.saved_tensors
        if codes_bar is None and pictures_bar is None:
            return None, None, None
        return _reverse(ctx.tape, images, codes_bar, pictures_bar), None, None


@dataclass(frozen=True, eq=False)
class _Problem:
    """A method's search, for the images of one call. Runs are numbered image by image.

    Args:
        gan: The generator.
        encoder: The encoder of the latent term, if there is one.
        terms: The loss.
        lift: Points and numbers of their runs to codes.
        describe: Images, masks and numbers of runs to targets and starts, one for each;
            differentiable with respect to the images.
        minimize: The search.
        stepper: The same search, pass by pass; None where there is none.
        chunk: Images that the networks see at once.
        restarts: Runs of each image.
    """

    gan: Gan
    encoder: Encoder | None
    terms: ProjectionLoss
    lift: Lift
    describe: Callable[
        [Tensor, Tensor | None, Tensor], tuple[Target, Float[Tensor, "n p"]]
    ]
    minimize: Callable[[Objective, Tensor], Minimum] | None
    stepper: Stepper | None
    chunk: int
    restarts: int = 1

    @property
    def networks(self) -> tuple[object, ...]:
        """What runs in eval mode."""
        return (self.gan, self.encoder, self.terms.perceptual)


def _search(
    images: Tensor,
    mask: Tensor | None,
    prepare: Callable[[Tensor, Tensor | None], _Problem],
) -> "_Tape":
    """Runs the search, and notes what the walk back needs."""
    with projecting(images, mask, ()) as (images, mask):
        problem = prepare(images, mask)
        everyone = torch.arange(len(images), device=images.device)
        owner = everyone.repeat_interleave(problem.restarts)
        runs = torch.arange(len(owner), device=images.device)
        with evaluating(problem.networks):
            target, start = problem.describe(
                images if problem.restarts == 1 else images[owner],
                mask if mask is None or problem.restarts == 1 else mask[owner],
                runs,
            )
            if problem.encoder is not None:
                check_codes(target.codes, problem.gan)
            if problem.minimize is None:
                seen: list[_Seen] = []
                points, best, passes = start, everyone, torch.zeros_like(everyone)
            else:
                recorder = _Recorder(
                    ProjectionObjective(
                        target,
                        gan=problem.gan,
                        encoder=problem.encoder,
                        terms=problem.terms,
                        chunk=problem.chunk,
                        lift=problem.lift,
                    )
                )
                minimum = problem.minimize(recorder, start)
                seen, best = recorder.seen, best_rows(minimum, problem.restarts)
                points, passes = minimum.points[best], minimum.passes[best]
            codes = problem.lift(points, best)

        def synthesize(codes: Tensor, owners: Tensor) -> Tensor:
            del owners
            return problem.gan.synthesize(codes)

        decode = decoder(
            synthesize, count=len(codes), chunk=problem.chunk, networks=problem.networks
        )
        pictures = decode(codes[:, None])[:, 0]
        # An output that views a constant or an input would confuse autograd.
        codes = codes.clone(memory_format=torch.contiguous_format)
    return _Tape(problem, mask, codes, pictures, points, best, passes, seen)


@dataclass(frozen=True, eq=False)
class _Seen:
    """One pass: numbers of the runs, and what the objective gave for them."""

    runs: Int64[Tensor, " n"]
    loss: Float[Tensor, " n"]
    gradient: Float[Tensor, "n p"]


@dataclass(frozen=True, eq=False)
class _Recorder:
    """An objective that notes what it returns."""

    objective: Objective
    seen: list[_Seen] = field(default_factory=list[_Seen])

    def __call__(
        self, points: Float[Tensor, "n p"], samples: Int64[Tensor, " n"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, "n p"]]:
        loss, gradient = self.objective(points, samples)
        self.seen.append(_Seen(samples, loss, gradient))
        return loss, gradient


@dataclass(frozen=True, eq=False)
class _Tape:
    """A search that is over.

    Args:
        problem: What was searched.
        mask: Weights of the pixels.
        codes: Codes found.
        pictures: Their pictures.
        points: Points found.
        best: Number of the run of each image that found it.
        passes: Passes of that run.
        seen: All passes of all runs.
    """

    problem: _Problem
    mask: Masks | None
    codes: StylesPlus
    pictures: Images
    points: Float[Tensor, "n p"]
    best: Int64[Tensor, " n"]
    passes: Int64[Tensor, " n"]
    seen: list[_Seen]

    def passes_of(self, runs: Int64[Tensor, " m"], count: int) -> list[Pass]:
        """The passes of runs that all used as many."""
        rows: list[Pass] = []
        for seen in self.seen[:count]:
            # Runs are in order, since those that leave only leave gaps.
            at = torch.searchsorted(seen.runs, runs)
            rows.append(Pass(seen.loss[at], seen.gradient[at]))
        return rows


def _reverse(
    tape: _Tape,
    images: Tensor,
    codes_bar: Tensor | None,
    pictures_bar: Tensor | None,
) -> Tensor:
    """Derivative with respect to the images.

    Images that used as many passes go together, in chunks: in each, all search on until
    the last pass.
    """
    total = torch.empty_like(images)
    with evaluating(tape.problem.networks):
        for count in tape.passes.unique().tolist():
            alike = (tape.passes == count).nonzero().squeeze(1)
            for rows in alike.split(tape.problem.chunk):
                total[rows] = _reverse_rows(
                    tape,
                    images[rows].detach(),
                    rows,
                    count,
                    None if codes_bar is None else codes_bar[rows],
                    None if pictures_bar is None else pictures_bar[rows],
                )
    return total


def _reverse_rows(
    tape: _Tape,
    images: Tensor,
    rows: Tensor,
    count: int,
    codes_bar: Tensor | None,
    pictures_bar: Tensor | None,
) -> Tensor:
    problem, runs = tape.problem, tape.best[rows]
    with torch.enable_grad():
        images = images.requires_grad_()
        mask = None if tape.mask is None else tape.mask[rows]
        target, start = problem.describe(images, mask, runs)
        points = tape.points[rows].requires_grad_()
        codes = problem.lift(points, runs)
        pictures = None if pictures_bar is None else problem.gan.synthesize(codes)
    outputs = [codes] if pictures is None else [codes, pictures]
    bars = [codes_bar] if pictures is None else [codes_bar, pictures_bar]
    (bar,) = gradients(outputs, bars, [points])
    del pictures, outputs
    puller = _Puller(problem, target, runs)
    if bar is not None and problem.stepper is not None:
        passes = tape.passes_of(runs, count)
        bar = pull_back(problem.stepper, start.detach(), passes, bar, puller)
    described = [target.small, target.codes, *target.features]
    (images_bar,) = gradients([start, *described], [bar, *puller.bars], [images])
    return torch.zeros_like(images) if images_bar is None else images_bar


class _Puller:
    """Derivatives of the objective; sums up those with respect to the target.

    Args:
        problem: The search.
        target: What is projected, with its graph, which stays as it is.
        runs: Numbers of the runs.
    """

    def __init__(self, problem: _Problem, target: Target, runs: Int64[Tensor, " n"]):
        self._problem = problem
        self._runs = runs
        self._target = _with(target, [each.detach() for each in _floats(target)])
        self.bars: list[Tensor | None] = [None for _ in _floats(target)]

    def __call__(
        self,
        points: Float[Tensor, "n p"],
        loss_bar: Float[Tensor, " n"] | None,
        gradient_bar: Float[Tensor, "n p"] | None,
    ) -> Float[Tensor, "n p"] | None:
        counts = torch.zeros_like(self._runs, dtype=torch.bool)
        if loss_bar is not None:
            counts = counts | (loss_bar != 0)
        if gradient_bar is not None:
            counts = counts | (gradient_bar != 0).any(dim=1)
        rows = counts.nonzero().squeeze(1)
        if not len(rows):
            return None
        every = len(rows) == len(counts)
        problem, runs = self._problem, self._runs[rows]
        part = self._target if every else self._target.select(rows)
        with torch.enable_grad():
            point = points[rows].detach().requires_grad_()
            leaves = [each.detach().requires_grad_() for each in _floats(part)]
            loss = loss_of(
                problem.lift(point, runs),
                _with(part, leaves),
                gan=problem.gan,
                encoder=problem.encoder,
                terms=problem.terms,
            )
            (gradient,) = torch.autograd.grad(loss.sum(), point, create_graph=True)
        point_bar, *bars = gradients(
            [loss, gradient],
            [
                None if loss_bar is None else loss_bar[rows],
                None if gradient_bar is None else gradient_bar[rows],
            ],
            [point, *leaves],
        )
        for i, bar in enumerate(bars):
            self._add(i, bar, rows)
        if point_bar is None or every:
            return point_bar
        return torch.zeros_like(points).index_copy(0, rows, point_bar)

    def _add(self, i: int, bar: Tensor | None, rows: Tensor) -> None:
        if bar is None:
            return
        total = self.bars[i]
        if total is None:
            total = self.bars[i] = torch.zeros_like(_floats(self._target)[i])
        total.index_add_(0, rows, bar)


def _floats(target: Target) -> list[Tensor]:
    """What of a target hangs on the image and enters the loss."""
    return [target.small, target.codes, *target.features]


def _with(target: Target, floats: Sequence[Tensor]) -> Target:
    small, codes, *features = floats
    return replace(target, small=small, codes=codes, features=tuple(features))


def _problem(
    projector: ProjectionMethod,
    images: Tensor,
    mask: Tensor | None,
    passes: int | None,
    numbers: Sequence[int],
    labels: Tensor | None,
) -> _Problem:
    if isinstance(projector, InDomainProjector):
        passes = projector.passes if passes is None else passes
        return _hybrid(projector.search(masked=mask is not None), images, passes)
    if isinstance(projector, Projector):
        passes = projector.passes if passes is None else passes
        return _hybrid(projector, images, passes)
    if isinstance(projector, OptimizationProjector):
        passes = projector.passes if passes is None else passes
        return _optimization(projector, images, passes, labels)
    if isinstance(projector, DefenseGanProjector):
        passes = projector.passes if passes is None else passes
        return _defensegan(projector, images, passes, numbers, labels)
    assert isinstance(projector, EncoderProjector)
    return _encoder_only(projector, images)


def _hybrid(projector: Projector, images: Tensor, passes: int) -> _Problem:
    terms = projector.loss
    blocks = projector.gan.num_layers
    return _Problem(
        gan=projector.gan,
        encoder=projector.encoder,
        terms=terms,
        lift=lift_from("w_plus", projector.gan, None),
        describe=_encoded(projector.encoder, terms),
        minimize=lambda objective, start: projector.minimize(
            objective, start, passes=passes
        ),
        stepper=_stepper(projector.optimizer, blocks, projector.rate),
        chunk=projector.chunk or suitable_chunk(images),
    )


def _encoder_only(projector: EncoderProjector, images: Tensor) -> _Problem:
    terms = ProjectionLoss(perceptual_weight=0.0, latent_weight=0.0)
    return _Problem(
        gan=projector.gan,
        encoder=projector.encoder,
        terms=terms,
        lift=lift_from("w_plus", projector.gan, None),
        describe=_encoded(projector.encoder, terms),
        minimize=None,
        stepper=None,
        chunk=projector.chunk or suitable_chunk(images),
    )


def _optimization(
    projector: OptimizationProjector,
    images: Tensor,
    passes: int,
    labels: Tensor | None,
) -> _Problem:
    with evaluating((projector.gan,)):
        starts, lift = projector.begin(images, labels)
    return _Problem(
        gan=projector.gan,
        encoder=None,
        terms=projector.loss,
        lift=lift,
        describe=_started(starts, lift, projector.loss),
        minimize=lambda objective, start: projector.minimize(
            objective, start, passes=passes
        ),
        stepper=_stepper(projector.optimizer, projector.blocks, projector.rate),
        chunk=projector.chunk or suitable_chunk(images),
    )


def _defensegan(
    projector: DefenseGanProjector,
    images: Tensor,
    passes: int,
    numbers: Sequence[int],
    labels: Tensor | None,
) -> _Problem:
    labels = class_labels(projector.gan, labels, len(images))
    if labels is not None:
        labels = labels.repeat_interleave(projector.restarts)
    lift = lift_from("z", projector.gan, labels)
    starts = projector.starts(numbers).to(images)
    schedule = dropping_rate(passes, projector.drop, projector.drop_at)
    return _Problem(
        gan=projector.gan,
        encoder=None,
        terms=projector.loss,
        lift=lift,
        describe=_started(starts, lift, projector.loss),
        minimize=lambda objective, start: projector.minimize(
            objective, start, passes=passes
        ),
        stepper=DescentStepper(Momentum(projector.momentum), projector.rate, schedule),
        chunk=projector.chunk
        or suitable_chunk(images[:1].expand(len(starts), -1, -1, -1)),
        restarts=projector.restarts,
    )


def _encoded(
    encoder: Encoder, terms: ProjectionLoss
) -> Callable[[Tensor, Tensor | None, Tensor], tuple[Target, Tensor]]:
    """Targets with the encoder's codes, where the search starts."""

    def describe(
        images: Tensor, mask: Tensor | None, runs: Tensor
    ) -> tuple[Target, Tensor]:
        del runs
        target = target_of(images, mask, encoder=encoder, terms=terms)
        return target, target.codes.flatten(1)

    return describe


def _started(
    starts: Tensor, lift: Lift, terms: ProjectionLoss
) -> Callable[[Tensor, Tensor | None, Tensor], tuple[Target, Tensor]]:
    """Targets of searches that start where no image has a say."""

    def describe(
        images: Tensor, mask: Tensor | None, runs: Tensor
    ) -> tuple[Target, Tensor]:
        start = starts[runs]
        with torch.no_grad():
            codes = lift(start, runs)
        target = target_of(images, mask, encoder=None, terms=terms, codes=codes)
        return target, start

    return describe


def _stepper(optimizer: str, blocks: int, rate: float) -> Stepper:
    if optimizer == "adam":
        return DescentStepper(Adam(), rate)
    return LbfgsStepper(blocks)
