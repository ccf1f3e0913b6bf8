from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from problems import (
    LinearGan,
    ToyEncoder,
    ToyGan,
    ToyPerceptual,
    linear_images,
    rng,
    toy_images,
)
from seeded_weights import seeded_state
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from robustgen.errors import RequestError
from robustgen.gan.stylegan2 import GanConfig, StyleGAN2
from robustgen.perceptual import PerceptualNet
from robustgen.projectors.defensegan import DefenseGanProjector
from robustgen.projectors.encoder_only import EncoderProjector
from robustgen.projectors.in_domain import InDomainProjector
from robustgen.projectors.loss import ProjectionLoss
from robustgen.projectors.method import ProjectionMethod
from robustgen.projectors.optimization import OptimizationProjector
from robustgen.projectors.projector import Projector
from robustgen.projectors.stylegan2_projector import StyleGan2Projector
from robustgen.projectors.unrolled import can_unroll, unrolled_projection

DOUBLE = torch.float64
DIRECTIONS = 20
LOSS = ProjectionLoss(ToyPerceptual(), 0.5, 0.25)
NO_CODES = replace(LOSS, latent_weight=0.0)


class MappedToyGan(ToyGan):
    """With a mapping network that bends latents and turns them by class."""

    z_dim = 4

    def __init__(self, num_classes: int = 0):
        super().__init__()
        self.num_classes = num_classes
        self.turn = torch.randn(4, 4, generator=rng(11)).to(DOUBLE)

    def map(
        self, z: Tensor, labels: Tensor | None = None, truncation: float = 1.0
    ) -> Tensor:
        w = torch.tanh(z.to(DOUBLE) @ self.turn) + 0.1 * z
        return w if labels is None else w + 0.3 * labels[:, None]


class FragileGan(ToyGan):
    """Makes no picture of codes that are farther out than where searches start."""

    failures = 0

    def synthesize(self, w_plus: Tensor) -> Tensor:
        pixels = super().synthesize(w_plus)
        far = w_plus.flatten(1).norm(dim=1) > 3.3
        self.failures += int(far.sum())
        return torch.where(far[:, None, None, None], torch.nan, pixels)


class IdleLayerGan(ToyGan):
    """Whose last layer is without effect."""

    def synthesize(self, w_plus: Tensor) -> Tensor:
        return super().synthesize(w_plus * torch.tensor([1.0, 1.0, 0.0])[:, None])


def hybrid(**settings: Any) -> Projector:
    options: dict[str, Any] = {"loss": LOSS, "passes": 12, **settings}
    gan = options.pop("gan", ToyGan)
    return Projector(gan().to(DOUBLE), ToyEncoder().to(DOUBLE), **options)


def optimization(**settings: Any) -> OptimizationProjector:
    gan = MappedToyGan(settings.pop("num_classes", 0)).to(DOUBLE)
    options: dict[str, Any] = {"loss": NO_CODES, "passes": 12, **settings}
    return OptimizationProjector(gan, **options)


def in_domain() -> InDomainProjector:
    loss = replace(LOSS, latent_term="cycle", pixel_term="l2", pixel_weight=1.0)
    gan, encoder = ToyGan().to(DOUBLE), ToyEncoder().to(DOUBLE)
    return InDomainProjector(gan, encoder, loss, passes=12)


def encoder_only() -> EncoderProjector:
    return EncoderProjector(ToyGan().to(DOUBLE), ToyEncoder().to(DOUBLE))


def defensegan() -> DefenseGanProjector:
    gan = MappedToyGan(num_classes=2).to(DOUBLE)
    return DefenseGanProjector(gan, restarts=3, passes=12, rate=1.0)


METHODS: dict[str, Callable[[], ProjectionMethod]] = {
    "lbfgs": hybrid,
    "adam": lambda: hybrid(optimizer="adam"),
    "lbfgs_steps": lambda: hybrid(steps=3),
    "lbfgs_tolerance": lambda: hybrid(tolerance=0.02, passes=30),
    "adam_steps": lambda: hybrid(optimizer="adam", steps=4),
    "adam_tolerance": lambda: hybrid(optimizer="adam", tolerance=0.3, passes=41),
    "one_pass": lambda: hybrid(passes=1),
    "chunks": lambda: hybrid(chunk=2),
    "side": lambda: hybrid(loss=replace(LOSS, side=4)),
    "squares": lambda: hybrid(loss=replace(LOSS, pixel_term="l2", pixel_range=2.0)),
    "pixels_alone": lambda: hybrid(loss=ProjectionLoss(None, 0.0, 0.0)),
    "latent_start": lambda: hybrid(loss=replace(LOSS, latent_term="start")),
    "latent_cycle": lambda: hybrid(loss=replace(LOSS, latent_term="cycle")),
    "in_domain": in_domain,
    "encoder": encoder_only,
    "optimization_w_plus": lambda: optimization(optimizer="lbfgs"),
    "optimization_w": lambda: optimization(space="w", rate=0.05),
    "optimization_z": lambda: optimization(space="z", rate=0.05, num_classes=2),
    "defensegan": defensegan,
}
LABELS = torch.tensor([1, 0, 1])


def noisy(count: int = 3) -> Tensor:
    images = toy_images(count).to(DOUBLE)
    noise = torch.randn(images.shape, generator=rng(4)).to(DOUBLE)
    return (images + 0.03 * noise).clamp(0.01, 0.99)


def half_mask(count: int = 3) -> Tensor:
    return (torch.rand(count, 1, 6, 6, generator=rng(5)) > 0.3).to(DOUBLE)


def functional(codes: Tensor, pictures: Tensor) -> Tensor:
    """A random linear functional of both, the same for every image."""
    a = torch.randn(codes[0].shape, generator=rng(21)).to(codes)
    b = torch.randn(pictures[0].shape, generator=rng(22)).to(codes)
    return (codes * a).sum(dim=(1, 2)) + (pictures * b).sum(dim=(1, 2, 3))


def slope(
    projector: ProjectionMethod, images: Tensor, mask: Tensor | None, **how: Any
) -> Tensor:
    """The gradient of the functional."""
    images = images.clone().requires_grad_()
    found = unrolled_projection(projector, images, mask, **how)
    (gradient,) = torch.autograd.grad(functional(*found).sum(), images)
    return gradient


def worst_error(
    projector: ProjectionMethod,
    images: Tensor,
    mask: Tensor | None = None,
    size: float = 1e-8,
    **how: Any,
) -> float:
    """Largest relative error against central differences, over images and directions.

    Differences are those of the projector itself.
    """
    gradient = slope(projector, images, mask, **how)
    count, total = len(images), 2 * DIRECTIONS * len(images)
    directions = torch.randn(DIRECTIONS, *images.shape, generator=rng(100)).to(images)
    ends = torch.stack([images + size * directions, images - size * directions])
    # All ends at once: no image knows of another.
    every: dict[str, Any] = {
        name: given.repeat(total // count)
        if isinstance(given, Tensor)
        else given * (total // count)
        for name, given in how.items()
    }
    masks = None if mask is None else mask.repeat(total // count, 1, 1, 1)
    found = projector(ends.flatten(0, 2), masks, **every)
    high, low = functional(found.w_plus, found.images).view(2, DIRECTIONS, count)
    expected = (high - low) / (2 * size)
    analytic = (gradient * directions).sum(dim=(2, 3, 4))
    error = (analytic - expected).abs() / expected.abs().clamp(min=1e-3)
    return error.max().item()


@pytest.mark.parametrize(
    ("name", "masked"),
    [
        *((name, False) for name in METHODS),
        *((name, True) for name in ("lbfgs", "adam", "side", "in_domain")),
    ],
)
def test_values_are_the_projectors_and_the_gradient_is_that_of_differences(
    name: str, masked: bool
):
    projector, images = METHODS[name](), noisy()
    mask = half_mask() if masked else None
    expected = projector(images, mask, labels=LABELS, samples=[5, 3, 9])
    codes, pictures = unrolled_projection(
        projector, images, mask, labels=LABELS, samples=[5, 3, 9]
    )
    assert torch.equal(codes, expected.w_plus)
    assert torch.equal(pictures, expected.images)
    error = worst_error(projector, images, mask, labels=LABELS, samples=[5, 3, 9])
    assert error < 1e-3


def test_images_that_stop_at_different_passes_have_their_own_gradients():
    projector = METHODS["lbfgs_tolerance"]()
    passes = projector(noisy(8)).passes
    assert len(passes.unique()) > 2
    assert worst_error(projector, noisy(8)) < 1e-2


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_a_generator_with_kinks_has_the_gradient_of_differences(optimizer: str):
    gan = StyleGAN2(GanConfig(8, (8, 6), 4, 4, 2), rng(0)).eval()
    perceptual = PerceptualNet(3, (4, 5, 6))
    # Weights at which no difference quotient steps over a kink: beside one, it is not
    # the gradient that is wrong. Of eight seeds, three step over one.
    perceptual.load_state_dict(seeded_state(perceptual, 4))

    class Encoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.randn(192, 4 * 4, generator=rng(1)).to(DOUBLE) / 14

        def forward(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
            return ((images - 0.5).flatten(1) @ self.weight).view(-1, 4, 4)

    projector = Projector(
        gan.to(DOUBLE),
        Encoder(),
        loss=ProjectionLoss(perceptual.to(DOUBLE), 0.5, 0.25),
        optimizer=cast(Any, optimizer),
        passes=8,
    )
    images = (torch.rand(2, 3, 8, 8, generator=rng(2)) * 0.5 + 0.25).to(DOUBLE)
    assert worst_error(projector, images) < 1e-2


def test_a_converged_least_squares_search_has_the_gradient_of_its_solution():
    gan = LinearGan().to(DOUBLE)
    loss = ProjectionLoss(None, 0.0, 0.0, pixel_term="l2")

    def halfway(images: Tensor, mask: Tensor | None = None) -> Tensor:
        return 0.5 * gan.encode(images)

    projector = Projector(gan, halfway, loss=loss, passes=40)
    images = linear_images(2).to(DOUBLE).requires_grad_()
    codes, _ = unrolled_projection(projector, images)
    torch.testing.assert_close(codes, gan.encode(images).detach())
    aim = torch.randn(2, 2, 3, generator=rng(3)).to(DOUBLE)
    (gradient,) = torch.autograd.grad((codes * aim).sum(), images)
    # w* = (x - 1/2) A^T with orthonormal rows A, so that its derivative is A^T.
    expected = (aim.flatten(1) @ gan.weight.detach()).view_as(images)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_passes_that_fail_leave_the_gradient_exact(optimizer: str):
    projector = hybrid(optimizer=optimizer, gan=FragileGan, rate=0.3)
    assert worst_error(projector, noisy()) < 1e-3
    assert cast(FragileGan, projector.gan).failures > 0


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_coordinates_without_effect_make_no_nan(optimizer: str):
    projector = hybrid(optimizer=optimizer, gan=IdleLayerGan, loss=NO_CODES)
    assert worst_error(projector, noisy()) < 1e-3


def test_fewer_passes_are_those_of_the_same_projector_with_fewer():
    expected = hybrid(passes=5)(noisy())
    codes, pictures = unrolled_projection(hybrid(), noisy(), passes=5)
    assert torch.equal(codes, expected.w_plus)
    assert torch.equal(pictures, expected.images)
    short = slope(hybrid(passes=5), noisy(), None)
    assert torch.equal(slope(hybrid(), noisy(), None, passes=5), short)
    assert not torch.allclose(slope(hybrid(), noisy(), None), short)


@pytest.mark.parametrize("name", ["lbfgs", "adam", "lbfgs_tolerance", "defensegan"])
def test_no_gradient_depends_on_neighbors_batch_size_or_order(name: str):
    projector, images, mask = METHODS[name](), noisy(5), half_mask(5)
    labels, samples = torch.tensor([1, 0, 1, 1, 0]), [40, 7, 3, 99, 12]
    whole = slope(projector, images, mask, labels=labels, samples=samples)
    for rows in ([0], [3], [4, 2, 0, 1, 3]):
        part = slope(
            projector,
            images[rows],
            mask[rows],
            labels=labels[rows],
            samples=[samples[row] for row in rows],
        )
        torch.testing.assert_close(part, whole[rows], rtol=1e-6, atol=1e-8)


def test_one_image_of_the_functional_moves_no_other():
    images = noisy().requires_grad_()
    codes, _ = unrolled_projection(hybrid(), images)
    (gradient,) = torch.autograd.grad(codes[1].sum(), images)
    assert (gradient[[0, 2]] == 0).all()
    assert (gradient[1] != 0).any()


@pytest.mark.parametrize("name", ["lbfgs", "adam", "encoder"])
def test_codes_and_pictures_can_be_used_alone(name: str):
    projector, gradients = METHODS[name](), list[Tensor]()
    for use in ((1, 0), (0, 1), (1, 1)):
        images = noisy().requires_grad_()
        codes, pictures = unrolled_projection(projector, images)
        terms = [
            each.sum()
            for each, used in zip((codes, pictures), use, strict=True)
            if used
        ]
        (gradient,) = torch.autograd.grad(torch.stack(terms).sum(), images)
        gradients.append(gradient)
    torch.testing.assert_close(gradients[0] + gradients[1], gradients[2])


def test_no_parameter_gets_a_gradient_and_every_mode_is_restored():
    projector = hybrid()
    gan, encoder = cast(ToyGan, projector.gan), cast(ToyEncoder, projector.encoder)
    gan.train()
    before = torch.get_rng_state()
    images = noisy().requires_grad_()
    codes, _ = unrolled_projection(projector, images)
    codes.sum().backward()
    assert images.grad is not None
    assert gan.training
    assert gan.dropout.training
    assert gan.weight.grad is None
    assert encoder.weight.grad is None
    assert gan.weight.requires_grad
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_gradient_it_is_the_projection():
    with torch.no_grad():
        codes, _ = unrolled_projection(hybrid(), noisy())
    assert not codes.requires_grad
    projector, images = hybrid(), noisy()
    with torch.inference_mode():
        codes, _ = unrolled_projection(projector, images * 1)
    assert torch.equal(codes, projector(images).w_plus)


def test_what_cannot_be_unrolled_is_refused_with_the_reason():
    gan = StyleGAN2(GanConfig(8, (8, 6), 4, 4, 2), rng(0))
    loss = ProjectionLoss(ToyPerceptual(), 1.0, 0.0)
    projector = StyleGan2Projector(gan, loss, passes=2)
    assert can_unroll(projector) == (
        "StyleGan2Projector: it also searches noise maps, from jittered codes"
    )
    images = torch.full((1, 3, 8, 8), 0.5)
    with pytest.raises(RequestError, match="noise maps, from jittered codes, so it ca"):
        unrolled_projection(projector, images)
    with pytest.raises(RequestError, match="passes is 0"):
        unrolled_projection(hybrid(), noisy(), passes=0)
    assert all(can_unroll(make()) is None for make in METHODS.values())


def peak_bytes(work: Callable[[], object]) -> int:
    """Most bytes that tensors held at once, beyond those held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
        work()
    # The public tables have sums of allocations, but not what was alive at a time.
    results: Any = trace.profiler
    events = [e for e in results.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def attack_peak(optimizer: str, passes: int) -> int:
    """Peak of an attack step, less the losses and points stored of each pass."""
    gan = StyleGAN2(GanConfig(16, (12, 10, 8), 2, 2, 2), rng(0)).eval()
    weight = torch.randn(3 * 256, 12, generator=rng(1)) / 30

    def encoder(images: Tensor, mask: Tensor | None = None) -> Tensor:
        return ((images - 0.5).flatten(1) @ weight).view(-1, 6, 2)

    perceptual = PerceptualNet(3, (6, 6, 6))
    perceptual.load_state_dict(seeded_state(perceptual))
    loss = ProjectionLoss(perceptual, 0.5, 0.25)
    images = torch.rand(4, 3, 16, 16, generator=rng(2))
    projector = Projector(
        gan, encoder, loss=loss, optimizer=cast(Any, optimizer), passes=passes
    )
    floats = passes * len(images) * (1 + 12)
    return peak_bytes(lambda: slope(projector, images, None)) - 4 * floats


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize(
    ("few", "many"), [(2, 12), pytest.param(10, 100, marks=pytest.mark.slow)]
)
def test_memory_does_not_grow_with_passes(optimizer: str, few: int, many: int):
    low, high = (attack_peak(optimizer, passes) for passes in (few, many))
    assert low > 100_000
    assert high < 1.2 * low
