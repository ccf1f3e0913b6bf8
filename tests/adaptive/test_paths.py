"""Paths of the defense as victims, on linear networks whose gradients are known."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import robustgen.adaptive.paths
from robustgen.adaptive.paths import (
    PATHS,
    draws_starts,
    encoder_of,
    networks_of,
    path_victims,
)
from robustgen.adaptive.victim import (
    Draw,
    ExpectedLogits,
    SharedForward,
    Victim,
    draw_ids,
)
from robustgen.attacks.isolation import isolated
from robustgen.budgets import BUDGETS
from robustgen.defense import Defense, predict_paths
from robustgen.errors import RequestError
from robustgen.gan.class_means import ClassMeanEncoder
from robustgen.gan.layers import LayerRange
from robustgen.projectors.defensegan import DefenseGanProjector
from robustgen.projectors.encoder_only import EncoderProjector
from robustgen.projectors.loss import ProjectionLoss
from robustgen.projectors.method import Projection, ProjectionMethod
from robustgen.projectors.optimization import OptimizationProjector
from robustgen.projectors.pivotal import Locality, PivotalProjector
from robustgen.projectors.projector import Projector
from robustgen.rngs import rng_for
from robustgen.types import Labels, StylesPlus
from robustgen.views.draws import ViewCodes
from robustgen.views.isotropic import isotropic_codes
from robustgen.views.jitter import JitterSpec, jitter

LAYERS, WIDTH, SIDE, VIEWS, CLASSES = 2, 3, 6, 5, 3
PIXELS = SIDE * SIDE
SAMPLES = (11, 12, 13, 14)
ALPHA = {
    "stylemix_ensemble": 0.75,
    "combined_ensemble": 0.5,
    "image_ensemble": 0.25,
}
MADE = ("reconstruction", "stylemix_ensemble", "combined_ensemble")
TIERS = ("bpda_identity", "bpda_encoder", "unrolled")
FIRST = Draw("attack", 0)


def weights(name: str, *shape: int) -> Tensor:
    return torch.randn(shape, generator=rng_for(0, name), dtype=torch.float64)


class Classifier(nn.Module):
    """Logits `C x`."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(weights("classifier", CLASSES, PIXELS) / 2)

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight.T


class Generator(nn.Module):
    """Pictures `1/2 + G w`, a quarter of them outside [0, 1] for usual codes."""

    num_layers, w_dim, z_dim, num_classes = LAYERS, WIDTH, WIDTH, 0

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(weights("gan", PIXELS, LAYERS * WIDTH) / 3)

    def map(
        self, z: Tensor, labels: Tensor | None = None, truncation: float = 1.0
    ) -> Tensor:
        return truncation * z.to(self.weight)

    def synthesize(self, w_plus: Tensor) -> Tensor:
        flat = w_plus.flatten(1) @ self.weight.T
        return 0.5 + flat.view(-1, 1, SIDE, SIDE)


class ConditionalGenerator(Generator):
    num_classes = CLASSES


class Encoder(nn.Module):
    """Codes `E (m x - 1/2)`."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(weights("encoder", LAYERS * WIDTH, PIXELS) / 3)

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        seen = images if mask is None else images * mask
        codes = (seen - 0.5).flatten(1) @ self.weight.T
        return codes.view(-1, LAYERS, WIDTH)


def vary(
    w_plus: StylesPlus, samples: Sequence[int], labels: Labels | None
) -> ViewCodes:
    return isotropic_codes(
        w_plus,
        layers=LayerRange(0, 1),
        sigma=0.3,
        count=VIEWS,
        seed=3,
        samples=samples,
    )


GAN, ENCODER = Generator(), Encoder()
PIXEL_LOSS = ProjectionLoss(perceptual_weight=0.0, latent_weight=0.25, pixel_term="l2")


def hybrid() -> Projector:
    return Projector(GAN, ENCODER, loss=PIXEL_LOSS, passes=3)


def defensegan() -> DefenseGanProjector:
    return DefenseGanProjector(GAN, restarts=2, passes=3)


def defense(projector: ProjectionMethod | None = None) -> Defense:
    return Defense(
        classifier=Classifier(),
        projector=hybrid() if projector is None else projector,
        vary=vary,
        jitter=JitterSpec(zoom=7 / 6, flip=True, color=0.1),
        view_count=VIEWS,
        paths=frozenset({"image"}),
        seed=4,
    )


def victims(
    projector: ProjectionMethod | None = None,
    *,
    samples: Sequence[int] = SAMPLES,
    masks: Tensor | None = None,
    alpha: Mapping[str, float] = ALPHA,
    views: int = VIEWS,
    paths: Sequence[str] = PATHS,
) -> dict[str, Victim]:
    return path_victims(
        defense(projector),
        samples,
        masks,
        alpha=alpha,
        budget=BUDGETS["smoke"].model_copy(update={"views": views}),
        paths=paths,
        classes=CLASSES,
    )


def images(count: int = len(SAMPLES)) -> Tensor:
    shape = (len(SAMPLES), 1, SIDE, SIDE)
    return torch.rand(shape, generator=rng_for(0, "x"), dtype=torch.float64)[:count]


def rows(*numbers: int) -> Tensor:
    return torch.tensor(numbers or range(len(SAMPLES)))


def gradient_of(logs: Tensor, x: Tensor) -> Tensor:
    """Gradient of the log-probability of class 1, summed over the images."""
    (gradient,) = torch.autograd.grad(logs[:, 1].sum(), x)
    return gradient


def same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_a_draw_is_the_mean_over_the_whole_pool_by_the_rule_of_the_defense():
    x = images()
    ids = draw_ids(4, "defense", SAMPLES, FIRST)
    parts = dataclasses.replace(defense(), paths=frozenset(PATHS))
    found = predict_paths(parts, x, ids)
    for name, victim in victims().items():
        if not name.endswith("_ensemble"):
            expected = found.single[name]
        else:
            base = "image" if name == "image_ensemble" else "reconstruction"
            pool = torch.cat([found.single[base][:, None], found.views[name]], dim=1)
            weight = ALPHA[name]
            expected = (1 - weight) * found.single["image"] + weight * pool.mean(dim=1)
        same(victim.predict(x, rows(), FIRST).exp(), expected)


@pytest.mark.parametrize("projector", [hybrid, defensegan])
def test_surrogates_have_the_values_of_the_full_path(projector: type):
    x = images().requires_grad_()
    checked = 0
    for victim in victims(projector()).values():
        expected = victim.predict(x, rows(), FIRST)
        assert not expected.requires_grad
        for surrogate in victim.surrogates.values():
            found = surrogate(x, rows(), FIRST)
            assert found.requires_grad
            same(found, expected)
            checked += 1
    # Three made paths with all tiers, or those without an encoder; image_ensemble two.
    assert checked == (11 if projector is hybrid else 8)


def test_a_few_views_weigh_as_much_as_all_of_them():
    x = images()
    ids = draw_ids(4, "defense", SAMPLES, FIRST)
    parts = dataclasses.replace(
        defense(), paths=frozenset({"image", "reconstruction", "stylemix_ensemble"})
    )
    found = predict_paths(parts, x, ids)
    few = found.views["stylemix_ensemble"][:, :2].mean(dim=1)
    pool = (found.single["reconstruction"] + VIEWS * few) / (VIEWS + 1)
    expected = 0.25 * found.single["image"] + 0.75 * pool
    victim = victims(views=2)["stylemix_ensemble"]
    for surrogate in victim.surrogates.values():
        same(surrogate(x, rows(), FIRST).exp(), expected)


def test_identity_takes_every_picture_for_the_image():
    x = images().requires_grad_()
    classifier = Classifier()
    for name in MADE:
        victim = victims()[name]
        found = gradient_of(victim.surrogates["bpda_identity"](x, rows(), FIRST), x)
        assert victim.generative is not None
        projection = victim.generative.project(x, rows(), FIRST)
        ids = draw_ids(4, "defense", SAMPLES, FIRST)
        codes = vary(projection.w_plus, ids, None)
        made = [projection.images[:, None], projection.decode(codes)]
        pool = torch.cat(made if name != "reconstruction" else made[:1], dim=1)
        pool = pool.clamp(0, 1).requires_grad_()
        seen = pool
        if name == "combined_ensemble":
            varied = jitter(
                pool[:, 1:],
                defense().jitter,
                seed=4,
                samples=ids,
                purpose="combined",
            )
            seen = torch.cat([pool[:, :1], varied], dim=1)
        own = x.detach().requires_grad_()
        weight = ALPHA.get(name, 1.0)
        p = classifier(seen.flatten(0, 1)).softmax(dim=1).unflatten(0, seen.shape[:2])
        mean = (1 - weight) * classifier(own).softmax(dim=1) + weight * p.mean(dim=1)
        mean.log()[:, 1].sum().backward()
        assert pool.grad is not None
        assert own.grad is not None
        same(found, own.grad + pool.grad.sum(dim=1))


@pytest.mark.parametrize("projector", [hybrid(), EncoderProjector(GAN, ENCODER)])
def test_the_encoder_is_the_way_back_to_the_image(projector: ProjectionMethod):
    x = images().requires_grad_()
    victim = victims(projector)["reconstruction"]
    found = gradient_of(victim.surrogates["bpda_encoder"](x, rows(), FIRST), x)
    assert victim.generative is not None
    made = victim.generative.project(x, rows(), FIRST).images
    classifier, at = Classifier(), made.clamp(0, 1).requires_grad_()
    slope = gradient_of(classifier(at).log_softmax(dim=1), at).flatten(1)
    # Pictures outside [0, 1] are classified clamped, and keep their gradient.
    assert isinstance(projector, Projector) or ((made < 0) | (made > 1)).any()
    same(found.flatten(1), slope @ GAN.weight @ ENCODER.weight)


def test_unrolled_and_encoder_agree_where_the_encoder_is_all():
    x = images().requires_grad_()
    for name in MADE:
        victim = victims(EncoderProjector(GAN, ENCODER))[name]
        encoder, unrolled = (
            gradient_of(victim.surrogates[tier](x, rows(), FIRST), x)
            for tier in ("bpda_encoder", "unrolled")
        )
        same(encoder, unrolled)


def test_unrolled_is_the_derivative_of_the_path(monkeypatch: pytest.MonkeyPatch):
    # A gentle generator: no picture leaves [0, 1], so that no clamp is in the way.
    monkeypatch.setattr(GAN.weight, "data", GAN.weight.detach() / 10)
    x = images().requires_grad_()
    for name in ("reconstruction", "stylemix_ensemble"):
        victim = victims()[name]
        gradient = gradient_of(victim.surrogates["unrolled"](x, rows(), FIRST), x)
        direction = weights("direction", *x.shape)
        step = 1e-6 * direction
        ahead, behind = (
            victim.predict(x.detach() + sign * step, rows(), FIRST)[:, 1].sum()
            for sign in (1, -1)
        )
        slope = ((ahead - behind) / 2e-6).item()
        assert slope == pytest.approx((gradient * direction).sum().item(), rel=1e-4)


def test_jitter_is_differentiated_exactly_or_passed_by():
    x = images().requires_grad_()
    victim = victims()["image_ensemble"]
    ids = draw_ids(4, "defense", SAMPLES, FIRST)

    def mean(copies: Tensor, own: Tensor) -> Tensor:
        """Log-probabilities of the ensemble, of copies and the image itself."""
        p = Classifier()(copies.flatten(0, 1)).softmax(dim=1)
        views = p.unflatten(0, copies.shape[:2]).sum(dim=1)
        image = Classifier()(own).softmax(dim=1)
        return (0.75 * image + 0.25 * (image + views) / (VIEWS + 1)).log()

    copies = x[:, None].expand(-1, VIEWS, -1, -1, -1)
    spec = defense().jitter
    varied = jitter(copies, spec, seed=4, samples=ids, purpose="image")
    exact = gradient_of(mean(varied, x), x)
    unrolled = victim.surrogates["unrolled"](x, rows(), FIRST)
    same(gradient_of(unrolled, x), exact)
    fixed = varied.detach().requires_grad_()
    mean(fixed, x)[:, 1].sum().backward()
    assert fixed.grad is not None
    assert x.grad is not None
    identity = victim.surrogates["bpda_identity"](x, rows(), FIRST)
    same(gradient_of(identity, x), x.grad + fixed.grad.sum(dim=1))


def test_draws_repeat_and_differ_between_numbers_and_streams():
    x = images()
    draws = [FIRST, Draw("attack", 1), Draw("select", 0), Draw("score", 0)]
    for projector in (hybrid(), defensegan()):
        for victim in victims(projector).values():
            found = [victim.predict(x, rows(), draw) for draw in draws]
            assert victim.predict(x, rows(), FIRST).equal(found[0])
            differ = [not found[0].allclose(other) for other in found[1:]]
            assert differ == [victim.random] * 3
    random_paths = {name for name, each in victims().items() if each.random}
    assert random_paths == {
        "stylemix_ensemble",
        "combined_ensemble",
        "image_ensemble",
    }
    assert victims(defensegan())["reconstruction"].random


@pytest.mark.parametrize(
    ("projector", "paths"),
    [
        (hybrid(), ("combined_ensemble", "image_ensemble")),
        (defensegan(), ("stylemix_ensemble",)),
    ],
)
def test_no_row_hangs_on_its_batch(projector: ProjectionMethod, paths: Sequence[str]):
    masks = torch.ones(len(SAMPLES), 1, SIDE, SIDE, dtype=torch.float64)
    masks[1, :, :3] = 0
    masks[3, :, :, 2:] = 0
    x = images().requires_grad_()
    asked = rows(3, 1, 1)
    together = victims(projector, masks=masks, paths=paths)
    alone = {
        row: victims(
            projector,
            samples=SAMPLES[row : row + 1],
            masks=masks[[row]],
            paths=paths,
        )
        for row in (1, 3)
    }
    for name, victim in together.items():
        for kind, forward in {"": victim.predict, **victim.surrogates}.items():
            found = forward(x[asked], asked, FIRST)
            for place, row in enumerate(asked.tolist()):
                own = alone[row][name]
                single = own.surrogates.get(kind, own.predict)
                same(found[[place]], single(x[[row]], rows(0), FIRST))
            if kind:
                gradient = gradient_of(found, x)
                assert gradient[[1, 3]].count_nonzero() > 0
                assert gradient[[0, 2]].count_nonzero() == 0


def test_masks_hide_pixels_from_the_projection_alone():
    masks = torch.ones(len(SAMPLES), 1, SIDE, SIDE, dtype=torch.float64)
    masks[:, :, :2] = 0
    x = images()
    hidden = x.clone()
    hidden[:, :, :2] = 0.9
    for name in ("reconstruction", "stylemix_ensemble"):
        victim = victims(masks=masks, alpha={**ALPHA, "stylemix_ensemble": 1.0})[name]
        for forward in (victim.predict, *victim.surrogates.values()):
            same(forward(x, rows(), FIRST), forward(hidden, rows(), FIRST))
    mixed = victims(masks=masks)["stylemix_ensemble"]
    seen, other = (mixed.predict(each, rows(), FIRST) for each in (x, hidden))
    assert not seen.allclose(other)


class Counting:
    """A hybrid projector that counts its calls."""

    def __init__(self, inner: ProjectionMethod) -> None:
        self.inner = inner
        self.encoder = ENCODER
        self.calls = 0

    @property
    def gan(self) -> Generator:
        return GAN

    def __call__(
        self,
        images: Tensor,
        mask: Tensor | None = None,
        *,
        samples: Sequence[int] | None = None,
        labels: Tensor | None = None,
    ) -> Projection:
        self.calls += 1
        return self.inner(images, mask, samples=samples, labels=labels)


def test_draws_of_the_same_images_share_a_projection_that_draws_nothing(
    monkeypatch: pytest.MonkeyPatch,
):
    x = images()
    counting = Counting(hybrid())
    monkeypatch.setattr(robustgen.adaptive.paths, "draws_starts", lambda _: False)  # pyright: ignore[reportUnknownLambdaType]
    made = victims(counting)
    for number in range(3):
        for name in MADE:
            made[name].predict(x, rows(), Draw("score", number))
            made[name].surrogates["bpda_identity"](x, rows(), Draw("score", number))
    assert counting.calls == 1
    made["reconstruction"].predict(x + 1e-6 * (x < 0.5), rows(), FIRST)
    assert counting.calls == 2


def test_a_projection_of_unknown_kind_is_taken_for_random():
    counting = Counting(hybrid())
    victim = victims(counting)["reconstruction"]
    assert victim.random
    for number in range(2):
        victim.predict(images(), rows(), Draw("score", number))
    assert counting.calls == 2
    assert "its search is not known" in victim.missing["unrolled"]


def test_methods_that_draw_are_known():
    gan, loss = GAN, ProjectionLoss(perceptual_weight=0.0, latent_weight=0.0)
    assert not draws_starts(hybrid())
    assert not draws_starts(EncoderProjector(gan, ENCODER))
    assert not draws_starts(OptimizationProjector(gan, loss))
    assert draws_starts(defensegan())
    tuned = PivotalProjector(gan, hybrid(), loss, passes=2)
    assert not draws_starts(tuned)
    assert encoder_of(tuned) is ENCODER
    assert draws_starts(dataclasses.replace(tuned, pivot=defensegan()))
    assert draws_starts(dataclasses.replace(tuned, locality=Locality(weight=0.1)))


def test_a_generator_tuned_for_each_image_gives_the_values_of_the_encoder_tier():
    loss = ProjectionLoss(
        perceptual_weight=0.0, latent_weight=0.0, pixel_term="l2", pixel_range=2.0
    )
    tuned = PivotalProjector(GAN, hybrid(), loss, passes=4, rate=0.05)
    x = images().requires_grad_()
    for name in MADE:
        victim = victims(tuned)[name]
        found = victim.surrogates["bpda_encoder"](x, rows(), FIRST)
        same(found, victim.predict(x, rows(), FIRST))
        shared = victims()[name].predict(x, rows(), FIRST)
        assert not found.allclose(shared, rtol=1e-3)
        assert gradient_of(found, x).count_nonzero() == x.numel()
        assert "tunes the generator" in victim.missing["unrolled"]


@pytest.mark.parametrize("tier", TIERS)
def test_sharing_and_recomputing_change_no_gradient(
    tier: str, monkeypatch: pytest.MonkeyPatch
):
    x = images().requires_grad_()
    draws = [Draw("attack", number) for number in range(3)]
    for name in (*MADE, "image_ensemble"):
        if name == "image_ensemble" and tier == "bpda_encoder":
            continue
        victim = victims()[name]
        surrogate = victim.surrogates[tier]
        separate = [surrogate(x, rows(), draw) for draw in draws]
        expected = torch.stack([gradient_of(logs, x) for logs in separate]).mean(dim=0)
        assert isinstance(surrogate, SharedForward)
        for pixels in (2**19, 0):
            monkeypatch.setattr(robustgen.adaptive.paths, "GRAPH_PIXELS", pixels)
            together = surrogate.over(x, rows(), draws)
            same(torch.stack([*together]), torch.stack(separate))
            mean = torch.stack([*together]).mean(dim=0)
            same(gradient_of(mean, x), expected)


def test_expected_logits_average_the_draws_of_a_path():
    x = images().requires_grad_()
    victim = victims(views=2)["combined_ensemble"]
    surrogate = victim.surrogates["unrolled"]
    expected = ExpectedLogits(surrogate, victim.networks, count=4, draws=2)
    first, second = expected(x), expected(x)
    assert not first.allclose(second)
    by_hand = sum(surrogate(x, rows(), Draw("attack", number)) for number in (2, 3))
    assert isinstance(by_hand, Tensor)
    same(second, by_hand / 2)


def test_saturated_probabilities_have_a_gradient():
    victim = victims()["stylemix_ensemble"]
    x = images().requires_grad_()
    with torch.no_grad():
        weight = victim.classifier.get_parameter("weight")
        weight *= 400
    for surrogate in victim.surrogates.values():
        logs = surrogate(x, rows(), FIRST)
        assert logs.min() < -90
        least = logs.argmin(dim=1, keepdim=True)
        (gradient,) = torch.autograd.grad(logs.gather(1, least).sum(), x)
        assert gradient.isfinite().all()
        assert gradient.flatten(1).count_nonzero(dim=1).min() > 0
    assert victim.predict(x, rows(), FIRST).isfinite().all()


def test_an_ensemble_of_the_image_alone_is_the_image():
    x = images().requires_grad_()
    victim = victims(alpha={**ALPHA, "stylemix_ensemble": 0.0})["stylemix_ensemble"]
    assert not victim.random
    expected = Classifier()(x).log_softmax(dim=1)
    same(victim.predict(x, rows(), FIRST), expected.detach())
    for surrogate in victim.surrogates.values():
        found = surrogate(x, rows(), FIRST)
        same(found, expected)
        same(gradient_of(found, x), gradient_of(expected, x))
        expected = Classifier()(x).log_softmax(dim=1)


class Cut(nn.Module):
    """An encoder without a gradient."""

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        return ENCODER(images.detach(), mask)


def test_an_encoder_without_a_gradient_gives_zero_not_an_error():
    x = images().requires_grad_()
    victim = victims(EncoderProjector(GAN, Cut()))["reconstruction"]
    for tier in ("bpda_encoder", "unrolled"):
        found = victim.surrogates[tier](x, rows(), FIRST)
        assert gradient_of(found, x).count_nonzero() == 0


def test_views_of_a_family_that_cuts_the_graph_follow_the_code():
    @torch.no_grad()
    def cut(w_plus: Tensor, samples: Sequence[int], labels: object) -> Tensor:
        return vary(w_plus, samples, None)

    x = images().requires_grad_()
    severed = dataclasses.replace(defense(), vary=cut)
    victim = path_victims(
        severed,
        SAMPLES,
        alpha=ALPHA,
        budget=BUDGETS["smoke"],
        paths=["stylemix_ensemble"],
        classes=CLASSES,
    )["stylemix_ensemble"]
    whole = victims()["stylemix_ensemble"]
    found, expected = (
        gradient_of(each.surrogates["bpda_encoder"](x, rows(), FIRST), x)
        for each in (victim, whole)
    )
    # Views of this family are fixed steps from w*, so nothing is lost.
    budget = BUDGETS["smoke"].views
    assert budget < VIEWS
    assert found.count_nonzero() == x.numel()
    same(
        victims(views=budget)["stylemix_ensemble"].surrogates["bpda_encoder"](
            x, rows(), FIRST
        ),
        victim.surrogates["bpda_encoder"](x, rows(), FIRST),
    )
    assert expected.shape == found.shape


def test_the_class_seen_in_the_image_reaches_projection_and_views():
    told: list[object] = []

    def noting(w_plus: Tensor, samples: Sequence[int], labels: Labels) -> Tensor:
        told.append(labels.tolist())
        return vary(w_plus, samples, None)

    gan = ConditionalGenerator()
    conditional = dataclasses.replace(
        defense(EncoderProjector(gan, ENCODER)), vary=noting
    )
    victim = path_victims(
        conditional,
        SAMPLES,
        alpha=ALPHA,
        budget=BUDGETS["smoke"],
        paths=["stylemix_ensemble"],
        classes=CLASSES,
    )["stylemix_ensemble"]
    x = images()
    victim.predict(x, rows(), FIRST)
    for surrogate in victim.surrogates.values():
        surrogate(x, rows(), FIRST)
    assert told == [Classifier()(x).argmax(dim=1).tolist()] * 4


def test_networks_hold_all_that_a_projection_uses():
    class Perceptual(nn.Module):
        def features(self, images: Tensor) -> tuple[Tensor, ...]:
            return (images,)

        def compare(
            self,
            a: tuple[Tensor, ...],
            b: tuple[Tensor, ...],
            mask: Tensor | None = None,
        ) -> Tensor:
            return (a[0] - b[0]).abs().mean(dim=(1, 2, 3))

    perceptual = Perceptual()
    loss = ProjectionLoss(perceptual, perceptual_weight=0.5)
    pivot = Projector(GAN, ENCODER, loss=loss, passes=2)
    whole = defense(
        PivotalProjector(GAN, pivot, ProjectionLoss(None, 0.0, 0.0), passes=2)
    )
    found = set(networks_of(whole).modules())
    assert {whole.classifier, GAN, ENCODER, perceptual} <= found


def test_networks_are_evaluated_and_come_back_as_they_were():
    victim = victims()["combined_ensemble"]
    x = images().requires_grad_()
    victim.networks.train()
    ENCODER.eval()
    # Not Python's generator: the run-time check of types draws from that one.
    state = (
        torch.get_rng_state(),
        str(np.random.get_state(legacy=False)),
    )
    victim.predict(x, rows(), FIRST)
    with isolated(victim.networks, x.device, ()):
        for surrogate in victim.surrogates.values():
            gradient_of(surrogate(x, rows(), FIRST), x)
    assert victim.classifier.training
    assert GAN.training
    assert not ENCODER.training
    assert all(p.grad is None and p.requires_grad for p in victim.networks.parameters())
    assert torch.get_rng_state().equal(state[0])
    assert str(np.random.get_state(legacy=False)) == state[1]


def test_what_a_path_cannot_offer_it_explains():
    found = victims(defensegan())
    assert found["image"].surrogates == {}
    assert set(found["image"].missing) == set(TIERS)
    assert set(found["image_ensemble"].missing) == {"bpda_encoder"}
    assert found["image"].generative is found["image_ensemble"].generative is None
    assert found["reconstruction"].missing == {
        "bpda_encoder": "DefenseGanProjector has no encoder to go backward through."
    }
    generative = found["reconstruction"].generative
    assert generative is not None
    assert generative.encode is None


def test_codes_that_are_looked_up_have_no_gradient_to_follow():
    means = torch.zeros(CLASSES, GAN.num_layers, GAN.w_dim)
    looked_up = ClassMeanEncoder(means, Classifier())
    found = victims(EncoderProjector(GAN, looked_up))["reconstruction"]
    assert "bpda_encoder" not in found.surrogates
    assert "mean code of a class" in found.missing["bpda_encoder"]
    assert found.generative is not None
    assert found.generative.encode is None


def test_the_encoder_of_an_attack_sees_the_mask_that_the_projection_sees():
    masks = torch.zeros(4, 1, SIDE, SIDE)
    masks[:, :, :2] = 1
    found = victims(masks=masks)["reconstruction"].generative
    assert found is not None
    assert found.encode is not None
    x, some = images()[[2, 0]], torch.tensor([2, 0])
    same(found.encode(x, some), ENCODER(x, masks[some]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"paths": ["reconstuction"]}, "Did you mean 'reconstruction'"),
        ({"alpha": {}}, "needs its alpha, a share in .0, 1.; got none"),
        ({"alpha": {**ALPHA, "image_ensemble": 1.5}}, "got 1.5"),
        ({"masks": torch.ones(2, 1, SIDE, SIDE)}, "2 masks for 4 images"),
    ],
)
def test_requests_that_make_no_sense_are_refused(
    change: Mapping[str, object], message: str
):
    with pytest.raises(RequestError, match=message):
        victims(**change)  # pyright: ignore[reportArgumentType]
