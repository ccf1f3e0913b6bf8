"""Small problems with known answers, and small networks to project with."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustgen.projectors.minimum import Objective


def objective_of(loss: Callable[[Tensor, Tensor], Tensor]) -> Objective:
    """An objective from a differentiable loss of points and samples."""

    def evaluate(points: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            points = points.detach().requires_grad_()
            value = loss(points, samples)
            (gradient,) = torch.autograd.grad(value.sum(), points)
        return value.detach(), gradient

    return evaluate


def rosenbrock(points: Tensor, samples: Tensor) -> Tensor:
    """Minimum 0 at ones, along a curved valley."""
    a, b = points[:, :-1], points[:, 1:]
    return (100 * (b - a * a) ** 2 + (1 - a) ** 2).sum(dim=1)


def bowl(center: Tensor, curvature: Tensor) -> Objective:
    """`sum curvature (x - center)^2 / 2`, by elementwise operations alone."""

    def evaluate(points: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        offset = points - center[samples]
        gradient = curvature[samples] * offset
        return 0.5 * (gradient * offset).sum(dim=1), gradient

    return evaluate


def rng(seed: int) -> torch.Generator:
    """A seeded generator."""
    generator = torch.Generator()
    generator.manual_seed(seed)
    return generator


class ToyGan(nn.Module):
    """Codes [N, 3, 4] to images [N, 2, 6, 6], smooth and nonlinear."""

    num_layers = 3
    w_dim = 4

    def __init__(self, seed: int = 0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(12, 72, generator=rng(seed)) / 4)
        self.dropout = nn.Dropout(0.5)
        self.calls = 0

    def synthesize(self, w_plus: Tensor) -> Tensor:
        self.calls += 1
        pixels = torch.sigmoid(self.dropout(w_plus).flatten(1) @ self.weight)
        return pixels.view(-1, 2, 6, 6)


class ToyEncoder(nn.Module):
    """Images and a mask to codes: a linear map, far from the inverse."""

    def __init__(self, seed: int = 1):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(72, 12, generator=rng(seed)) / 8)
        self.calls = 0

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        self.calls += 1
        if mask is not None:
            images = images * mask
        return (images.flatten(1) @ self.weight).view(-1, 3, 4)


class ToyPerceptual(nn.Module):
    """Squared difference of local means."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        self.calls += 1
        return (F.avg_pool2d(images, 2),)

    def compare(
        self,
        a: tuple[Tensor, ...],
        b: tuple[Tensor, ...],
        mask: Tensor | None = None,
    ) -> Tensor:
        distance = (a[0] - b[0]).square().mean(dim=1)
        if mask is None:
            return distance.mean(dim=(1, 2))
        weight = F.avg_pool2d(mask, 2)[:, 0]
        return (distance * weight).sum(dim=(1, 2)) / weight.sum(dim=(1, 2))


def toy_images(count: int, seed: int = 2) -> Tensor:
    """Images in the range of `ToyGan`."""
    with torch.no_grad():
        codes = torch.randn(count, 3, 4, generator=rng(seed))
        return ToyGan().eval().synthesize(codes)


class LinearGan(nn.Module):
    """Codes [N, 2, 3] to images [N, 1, 6, 6] by orthonormal rows, plus a noise map.

    `image = 1/2 + w_plus @ weight + strength * noise`, so that least squares have a
    closed form. The mapping network doubles latents and adds an offset for each class.
    """

    num_layers = 2
    w_dim = 3
    z_dim = 3
    noise: Tensor

    def __init__(self, num_classes: int = 0, strength: float = 0.0):
        super().__init__()
        self.num_classes = num_classes
        rows = torch.linalg.qr(torch.randn(36, 6, generator=rng(7)))[0].T
        self.weight = nn.Parameter(rows.contiguous())
        self.strength = nn.Parameter(torch.tensor(strength))
        self.unused = nn.Parameter(torch.ones(2))
        self.register_buffer("noise", torch.randn(6, 6, generator=rng(8)))

    def map(
        self, z: Tensor, labels: Tensor | None = None, truncation: float = 1.0
    ) -> Tensor:
        offset = 0 if labels is None else labels[:, None].to(z.dtype)
        return truncation * (2 * z + offset)

    def synthesize(self, w_plus: Tensor) -> Tensor:
        flat = w_plus.flatten(1) @ self.weight
        return 0.5 + flat.view(-1, 1, 6, 6) + self.strength * self.noise

    def encode(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        """The least-squares code of all pixels, whatever the mask."""
        return ((images - 0.5).flatten(1) @ self.weight.T).view(-1, 2, 3)


def linear_images(count: int, seed: int = 9) -> Tensor:
    """Images that a `LinearGan` can nearly make."""
    codes = torch.randn(count, 2, 3, generator=rng(seed))
    noise = torch.randn(count, 1, 6, 6, generator=rng(seed + 1))
    with torch.no_grad():
        return (LinearGan().synthesize(0.5 * codes) + 0.02 * noise).clamp(0, 1)
