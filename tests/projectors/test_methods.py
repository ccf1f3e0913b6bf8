"""What every projection method promises, on a small StyleGAN2 with noise."""

import pytest
import torch
from problems import rng
from seeded_weights import seeded_state
from torch import Tensor, nn

from robustgen.errors import RequestError
from robustgen.gan.stylegan2 import GanConfig, StyleGAN2
from robustgen.perceptual import PerceptualNet
from robustgen.projection_settings import (
    DefenseGanSettings,
    EncoderSettings,
    HybridSettings,
    InDomainSettings,
    OptimizationSettings,
    PivotalSettings,
    ProjectionSettings,
    StyleGan2Settings,
    max_passes,
)
from robustgen.projectors.build import build_projector
from robustgen.projectors.method import Projection, ProjectionMethod

METHODS: dict[str, ProjectionSettings] = {
    "hybrid": HybridSettings(passes=4),
    "hybrid_adam": HybridSettings(passes=4, optimizer="adam"),
    "encoder": EncoderSettings(),
    "optimization_z": OptimizationSettings(space="z", passes=4),
    "optimization_w": OptimizationSettings(space="w", passes=4, latent_weight=0.1),
    "optimization_w_plus": OptimizationSettings(passes=4, optimizer="lbfgs"),
    "stylegan2": StyleGan2Settings(passes=3),
    "stylegan2_w_plus": StyleGan2Settings(passes=3, space="w_plus"),
    "in_domain": InDomainSettings(passes=4),
    "defensegan": DefenseGanSettings(restarts=3, passes=4),
    "pivotal": PivotalSettings(
        pivot=StyleGan2Settings(passes=2), passes=2, threshold=0.0, locality_weight=0.1
    ),
}

RANDOM = ("stylegan2", "stylegan2_w_plus", "defensegan", "pivotal")


class SmallEncoder(nn.Module):
    """A linear encoder of what the mask shows."""

    def __init__(self, codes: int):
        super().__init__()
        weight = torch.randn(3 * 64, 4 * codes, generator=rng(1)) / 14
        self.weight = nn.Parameter(weight)
        self.codes = codes

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        x = images - 0.5
        if mask is not None:
            x = x * mask
        return (x.flatten(1) @ self.weight).view(-1, 4, self.codes)


class PooledPixels(nn.Module):
    """Squared difference of local means, which no hidden pixel enters."""

    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        return (nn.functional.avg_pool2d(images, 2),)

    def compare(
        self, a: tuple[Tensor, ...], b: tuple[Tensor, ...], mask: Tensor | None = None
    ) -> Tensor:
        distance = (a[0] - b[0]).square().mean(dim=1, keepdim=True)
        if mask is None:
            return distance.mean(dim=(1, 2, 3))
        weight = nn.functional.avg_pool2d(mask, 2)
        return (distance * weight).sum(dim=(1, 2, 3)) / weight.sum(dim=(1, 2, 3))


def small_gan(num_classes: int = 0) -> StyleGAN2:
    gan = StyleGAN2(GanConfig(8, (8, 6), 5, 5, 2, num_classes), rng(0)).eval()
    for name, parameter in gan.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.05)
    return gan


def small_images(count: int) -> Tensor:
    return torch.rand(count, 3, 8, 8, generator=rng(2)) * 0.5 + 0.25


def build(
    name: str,
    gan: StyleGAN2 | None = None,
    seed: int = 0,
    perceptual: nn.Module | None = None,
) -> ProjectionMethod:
    gan = gan or small_gan()
    return build_projector(
        METHODS[name],
        gan=gan,
        encoder=SmallEncoder(gan.w_dim),
        perceptual=perceptual or PooledPixels(),  # pyright: ignore[reportArgumentType]
        seed=seed,
    )


def same(a: Projection, b: Projection, rows: slice | Tensor = slice(None)) -> None:
    """The first is those rows of the second, up to how networks round."""
    assert torch.equal(a.passes, b.passes[rows])
    torch.testing.assert_close(a.w_plus, b.w_plus[rows], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(a.images, b.images[rows], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(a.loss, b.loss[rows], atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("name", METHODS)
def test_no_result_depends_on_neighbors_batch_size_or_order(name: str):
    images, samples = small_images(5), [40, 7, 3, 99, 12]
    whole = build(name)(images, samples=samples)
    for rows in (slice(0, 1), slice(1, 5)):
        same(build(name)(images[rows], samples=samples[rows]), whole, rows)
    order = torch.tensor([3, 0, 4, 1, 2])
    shuffled = build(name)(images[order], samples=[samples[i] for i in order])
    same(shuffled, whole, order)


@pytest.mark.parametrize("name", METHODS)
def test_it_is_deterministic_and_changes_no_network(name: str):
    gan, images = small_gan(), small_images(3)
    before = {k: v.clone() for k, v in gan.state_dict().items()}
    gan.train()
    project = build(name, gan)
    assert isinstance(project, ProjectionMethod)
    assert project.gan is gan
    a = project(images)
    torch.randn(7)  # The global stream has no say.
    b = project(images)
    assert torch.equal(a.w_plus, b.w_plus)
    assert torch.equal(a.images, b.images)
    assert torch.equal(a.loss, b.loss)
    assert gan.training
    after = gan.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())
    assert all(p.grad is None and p.requires_grad for p in gan.parameters())
    assert not a.w_plus.requires_grad
    assert not a.images.requires_grad


@pytest.mark.parametrize("name", METHODS)
def test_the_loss_never_rises_and_no_budget_is_exceeded(name: str):
    found = build(name)(small_images(3))
    assert found.w_plus.shape == (3, 4, 5)
    assert found.images.shape == (3, 3, 8, 8)
    assert (found.loss <= found.initial_loss).all()
    assert found.passes.tolist() == [max_passes(METHODS[name])] * 3


@pytest.mark.parametrize("name", METHODS)
def test_it_projects_in_inference_mode(name: str):
    gan = small_gan(num_classes=2)
    images, labels = small_images(2), torch.tensor([1, 0])
    mask = torch.ones(2, 1, 8, 8)
    project = build(name, gan)
    expected = project(images, mask, labels=labels)
    with torch.inference_mode():
        found = project(images * 1, mask * 1, labels=labels + 0)
        views = found.decode(found.w_plus[:, None])
    same(found, expected)
    torch.testing.assert_close(views[:, 0], expected.images, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", METHODS)
def test_hidden_pixels_change_nothing(name: str):
    images = small_images(2)
    mask = torch.ones(2, 1, 8, 8)
    mask[:, :, :4] = 0
    other = images.clone()
    other[:, :, :4] = torch.rand(2, 3, 4, 8, generator=rng(3))
    a, b = build(name)(images, mask), build(name)(other, mask)
    assert torch.equal(a.w_plus, b.w_plus)
    assert torch.equal(a.loss, b.loss)
    whole = build(name)(images)
    assert not torch.equal(a.images, whole.images)


@pytest.mark.parametrize("name", METHODS)
def test_views_are_decoded_as_the_picture_is(name: str):
    found = build(name)(small_images(3))
    codes = found.w_plus[:, None].repeat(1, 40, 1, 1)
    codes[:, 1] += 1
    views = found.decode(codes)
    assert views.shape == (3, 40, 3, 8, 8)
    expected = found.images[:, None].expand(-1, 38, -1, -1, -1)
    torch.testing.assert_close(views[:, 2:], expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(views[:, 1], views[:, 0], atol=1e-3)
    some = found.decode(codes[1:], slice(1, None))
    torch.testing.assert_close(some, views[1:], atol=1e-5, rtol=1e-4)
    with pytest.raises(RequestError, match=r"views of 2 images: this projection has 3"):
        found.decode(codes[1:])


@pytest.mark.parametrize("name", RANDOM)
def test_draws_hang_on_seed_and_sample(name: str):
    images = small_images(1).expand(2, -1, -1, -1)
    found = build(name)(images, samples=[4, 5])
    assert not torch.equal(found.images[0], found.images[1])
    alike = build(name)(images, samples=[4, 4])
    torch.testing.assert_close(alike.images[0], alike.images[1], atol=1e-5, rtol=1e-4)
    other = build(name, seed=1)(images, samples=[4, 5])
    assert not torch.equal(found.images, other.images)
    default = build(name)(images)
    same(default, build(name)(images, samples=[0, 1]))


@pytest.mark.parametrize("name", METHODS)
def test_a_class_conditional_generator_needs_labels_where_it_maps(name: str):
    gan, images = small_gan(num_classes=3), small_images(2)
    project = build(name, gan)
    maps = name not in ("hybrid", "hybrid_adam", "encoder", "in_domain")
    if maps:
        with pytest.raises(RequestError, match="3 classes: the projection needs"):
            project(images)
    a = project(images, labels=torch.tensor([0, 1]))
    b = project(images, labels=torch.tensor([0, 2]))
    same(
        Projection(
            **{**vars(a), **{k: v[:1] for k, v in vars(a).items() if k != "decode"}}
        ),
        b,
        slice(0, 1),
    )
    assert torch.equal(a.images[1], b.images[1]) != maps


def test_the_embedded_perceptual_network_serves_every_method():
    network = PerceptualNet(3, (4, 4, 4)).requires_grad_(False)
    network.load_state_dict(seeded_state(network))
    for name in METHODS:
        found = build(name, perceptual=network)(small_images(2))
        assert (found.loss <= found.initial_loss).all()
