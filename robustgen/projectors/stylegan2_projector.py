"""The projector of StyleGAN2 (Karras et al., arXiv:1912.04958, appendix D)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from robustgen.errors import RequestError, unknown_name
from robustgen.projectors.adam import Adam
from robustgen.projectors.descent import PATIENCE
from robustgen.projectors.loss import (
    ProjectionLoss,
    Target,
    describe,
    image_terms,
    suitable_chunk,
)
from robustgen.projectors.method import (
    Projection,
    check_chunk,
    decoder,
    projecting,
    projection_of,
    sample_numbers,
)
from robustgen.projectors.minimum import Minimum, Outcome, check_budget
from robustgen.projectors.noise import (
    noise_sides,
    noise_structure,
    normalized,
    split_maps,
)
from robustgen.projectors.spaces import (
    Centers,
    MappedGan,
    class_labels,
    lift_from,
    start_at,
)
from robustgen.projectors.swapped import synthesize_with
from robustgen.rngs import rng_for
from robustgen.types import Images, Labels, Masks, PerSample


@dataclass(frozen=True)
class Schedule:
    """How step size and noise on the code change over a search.

    Args:
        rate: Largest step size of Adam.
        ramp_up: Share of the search in which the step size rises from 0.
        ramp_down: Share in which it falls to 0, along a cosine.
        code_noise: Std of the noise on the code at first, in spreads of w.
        code_noise_until: Share of the search after which there is none.

    Raises:
        RequestError: a number is out of range.
    """

    rate: float = 0.1
    ramp_up: float = 0.05
    ramp_down: float = 0.25
    code_noise: float = 0.05
    code_noise_until: float = 0.75

    def __post_init__(self) -> None:
        if not 0 < self.rate < math.inf:
            raise RequestError(f"rate is {self.rate}: expected more than 0.")
        if not 0 <= self.code_noise < math.inf:
            raise RequestError(f"code_noise is {self.code_noise}: expected 0 or more.")
        for name in ("ramp_up", "ramp_down", "code_noise_until"):
            share: float = getattr(self, name)
            if not 0 <= share <= 1:
                raise RequestError(f"{name} is {share}: expected a share in [0, 1].")

    def rate_at(self, t: float) -> float:
        """Step size after a share `t` of the search.

        >>> schedule = Schedule(rate=0.1)
        >>> [round(schedule.rate_at(t), 4) for t in (0.0, 0.025, 0.5, 0.875)]
        [0.0, 0.05, 0.1, 0.05]
        """
        down = min(1.0, (1 - t) / self.ramp_down) if self.ramp_down else 1.0
        up = min(1.0, t / self.ramp_up) if self.ramp_up else 1.0
        return self.rate * (0.5 - 0.5 * math.cos(down * math.pi)) * up

    def noise_at(self, t: float) -> float:
        """Std of the noise on the code after a share `t`, in spreads of w.

        >>> [Schedule().noise_at(t) for t in (0.0, 0.375, 0.75)]
        [0.05, 0.0125, 0.0]
        """
        if t >= self.code_noise_until:
            return 0.0
        return self.code_noise * (1 - t / self.code_noise_until) ** 2


@dataclass(frozen=True, eq=False)
class StyleGan2Projector:
    """Adam from the mean code, with noise on the code and noise maps of each image.

    As published the point after the last step is returned, not the best one: most
    losses on the way are those of jittered codes. Where it is worse than the start, the
    start is returned.

    Args:
        gan: The generator. One with classes starts at the mean code of the class that
            `labels` names.
        loss: The terms; published is the perceptual one alone, on images of at most
            256 px. No latent term.
        space: `w` as in the paper, or `w_plus`.
        passes: Iterations, over which the schedule is spread; one evaluation of loss
            and gradient each.
        steps: Iterations after which to stop before; None to complete the schedule.
        tolerance: Once the code has no noise, an image stops when its best loss fell by
            no more than this share in `descent.PATIENCE` passes.
        schedule: Step size and noise on the code.
        optimize_noise: Whether each image gets noise maps of its own. They can hold
            what the code cannot, an attack's pattern included; views of the image have
            them, too. Without, all images share the stored maps.
        noise_weight: Weight of the term that keeps these maps free of structure.
        seed: Seed of the suite; the draws of an image hang on it and its index.
        chunk: Images that the networks see at once; None for as many as suit the
            device.

    Raises:
        RequestError: a bound is out of range, a name unknown, the loss has a latent
            term, or the generator has no noise maps to optimize.
    """

    gan: MappedGan
    loss: ProjectionLoss
    space: Literal["w", "w_plus"] = "w"
    passes: int = 1000
    steps: int | None = None
    tolerance: float = 0.0
    schedule: Schedule = Schedule()
    optimize_noise: bool = True
    noise_weight: float = 1e5
    seed: int = 0
    chunk: int | None = None
    _centers: Centers = field(init=False, repr=False)
    _sides: dict[str, tuple[int, int]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.space not in ("w", "w_plus"):
            raise unknown_name("space", self.space, ("w", "w_plus"))
        check_budget(self.passes, self.steps, self.tolerance)
        check_chunk(self.chunk)
        if not 0 <= self.noise_weight < math.inf:
            raise RequestError(
                f"noise_weight is {self.noise_weight}: expected 0 or more."
            )
        if self.loss.latent_weight:
            raise RequestError(
                f"latent_weight is {self.loss.latent_weight}: StyleGAN2's projector "
                "has no latent term. Set it to 0, or choose optimization."
            )
        sides = noise_sides(self.gan) if self.optimize_noise else {}
        object.__setattr__(self, "_centers", Centers(self.gan))
        object.__setattr__(self, "_sides", sides)

    def __call__(
        self,
        images: Images,
        mask: Masks | None = None,
        *,
        samples: Sequence[int] | None = None,
        labels: Labels | None = None,
    ) -> Projection:
        """Projects images; see `ProjectionMethod`.

        The losses of the result are those of the pictures, without the term on noise.

        Raises:
            RequestError: shapes, ranges or values make no sense, or labels are missing
                for a generator with classes.
        """
        numbers = sample_numbers(samples, len(images))
        with projecting(images, mask, (self.gan, self.loss.perceptual)) as (
            images,
            mask,
        ):
            labels = class_labels(self.gan, labels, len(images))
            center = self._centers(labels, len(images), images.device)
            code = start_at(center, self.space, self.gan.num_layers)
            rngs = [rng_for(self.seed, "projection", number) for number in numbers]
            noise = torch.stack([self._draw(rng) for rng in rngs]).to(images.device)
            lift = lift_from(self.space, self.gan, None)
            everyone = torch.arange(len(images), device=images.device)
            target = describe(
                images,
                mask,
                encoder=None,
                terms=self.loss,
                codes=lift(code, everyone),
            )
            chunk = self.chunk or suitable_chunk(images)
            search = _Search(
                method=self,
                target=target,
                spread=center.spread,
                rngs=rngs,
                width=code.shape[1],
                sides=self._sides,
                chunk=chunk,
            )
            minimum = search.run(torch.cat([code, noise], dim=1))
            found, maps = minimum.points.tensor_split((code.shape[1],), dim=1)

            def synthesize(codes: Tensor, owners: Tensor) -> Tensor:
                own = split_maps(maps[owners], self._sides)
                return synthesize_with(self.gan, own, codes)

            decode = decoder(
                synthesize, count=len(images), chunk=chunk, networks=(self.gan,)
            )
            return projection_of(lift(found, everyone), minimum, decode)

    def _draw(self, rng: torch.Generator) -> Float[Tensor, " q"]:
        maps = [torch.randn(side, generator=rng) for side in self._sides.values()]
        return torch.cat([m.flatten() for m in maps]) if maps else torch.empty(0)


@dataclass(frozen=True, eq=False)
class _Search:
    """The iterations, on points that are a code and, after it, the noise maps.

    Args:
        method: The settings.
        target: What to reconstruct.
        spread: Spread of w around the start of each image.
        rngs: Source of the noise on each image's code. Consumed.
        width: Numbers of a code.
        sides: Noise maps by name.
        chunk: Images evaluated at once.
    """

    method: StyleGan2Projector
    target: Target
    spread: PerSample
    rngs: list[torch.Generator]
    width: int
    sides: dict[str, tuple[int, int]]
    chunk: int

    def run(self, start: Float[Tensor, "n p"]) -> Minimum:
        """All iterations of all images."""
        method, rule = self.method, Adam()
        limit = min(method.passes, method.steps or method.passes)
        last = Outcome.BUDGET if limit == method.passes else Outcome.STEPS
        alive = torch.arange(len(start), device=start.device)
        minimum = Minimum.at_start(start, self._image_loss(start))
        point, memory = start, (torch.zeros_like(start), torch.zeros_like(start))
        best = marked = torch.full_like(minimum.loss, math.inf)
        quiet = 0
        for step in range(limit):
            t = step / method.passes
            noise = method.schedule.noise_at(t)
            loss, gradient = self._evaluate(self._jittered(point, alive, noise), alive)
            age = torch.full_like(loss, step + 1)[:, None]
            rate = torch.full_like(loss, method.schedule.rate_at(t))[:, None]
            memory, move = rule(gradient, memory, age, rate)
            code, maps = (point - move).tensor_split((self.width,), dim=1)
            if self.sides:
                maps = normalized(maps, self.sides)
            point = torch.cat([code, maps], dim=1)
            if noise == 0 and method.tolerance > 0:
                best = torch.minimum(best, loss)
                if quiet % PATIENCE == 0:
                    little = marked - best <= method.tolerance * marked.abs()
                    done = marked.isfinite() & little
                    gone, stay = done.nonzero()[:, 0], (~done).nonzero()[:, 0]
                    self._settle(
                        minimum, alive[gone], point[gone], step + 1, Outcome.CONVERGED
                    )
                    alive, point, best = alive[stay], point[stay], best[stay]
                    memory = tuple(each[stay] for each in memory)
                    marked = best
                    if not len(alive):
                        break
                quiet += 1
        self._settle(minimum, alive, point, limit, last)
        return self._checked(minimum, start)

    def _settle(
        self,
        minimum: Minimum,
        samples: Tensor,
        points: Tensor,
        passes: int,
        outcome: Outcome,
    ) -> None:
        minimum.settle(
            samples,
            points=points,
            loss=minimum.initial_loss[samples],
            passes=passes,
            steps=torch.full_like(samples, passes),
            outcome=torch.full_like(samples, outcome),
        )

    def _checked(self, minimum: Minimum, start: Tensor) -> Minimum:
        """With the losses of the points found, and the start where it is no worse."""
        loss = self._image_loss(minimum.points)
        better = loss <= minimum.initial_loss
        return replace(
            minimum,
            points=torch.where(better[:, None], minimum.points, start),
            loss=torch.where(better, loss, minimum.initial_loss),
            outcome=minimum.outcome.masked_fill(~loss.isfinite(), Outcome.NOT_FINITE),
        )

    def _jittered(self, point: Tensor, alive: Tensor, noise: float) -> Tensor:
        if noise == 0:
            return point
        draws = [
            torch.randn(self.width, generator=self.rngs[sample])
            for sample in alive.tolist()
        ]
        scale = noise * self.spread[alive][:, None]
        jitter = scale * torch.stack(draws).to(point.device)
        return torch.cat(
            [point[:, : self.width] + jitter, point[:, self.width :]], dim=1
        )

    def _images(self, point: Tensor) -> Tensor:
        code, noise = point.tensor_split((self.width,), dim=1)
        lift = lift_from(self.method.space, self.method.gan, None)
        w_plus = lift(code, torch.arange(len(code), device=code.device))
        return synthesize_with(self.method.gan, split_maps(noise, self.sides), w_plus)

    def _image_loss(self, points: Tensor) -> Tensor:
        everyone = torch.arange(len(points), device=points.device)
        blocks = zip(points.split(self.chunk), everyone.split(self.chunk), strict=True)
        terms = self.method.loss
        return torch.cat(
            [
                image_terms(
                    self._images(point), self.target.select(rows), terms
                ).weighted(terms)
                for point, rows in blocks
            ]
        )

    def _evaluate(self, points: Tensor, alive: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and gradient of points: one pass."""
        method = self.method
        losses: list[Tensor] = []
        gradients: list[Tensor] = []
        blocks = zip(points.split(self.chunk), alive.split(self.chunk), strict=True)
        for block, rows in blocks:
            with torch.enable_grad():
                point = block.detach().requires_grad_()
                terms = image_terms(
                    self._images(point), self.target.select(rows), method.loss
                )
                loss = terms.weighted(method.loss)
                if self.sides and method.noise_weight:
                    maps = split_maps(point[:, self.width :], self.sides)
                    loss = loss + method.noise_weight * noise_structure(maps)
                # The sum keeps the gradient of each image its own.
                (gradient,) = torch.autograd.grad(loss.sum(), point)
            losses.append(loss.detach())
            gradients.append(gradient)
        return torch.cat(losses), torch.cat(gradients)
