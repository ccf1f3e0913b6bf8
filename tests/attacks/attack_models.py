"""Small classifiers whose answers are known, and images for them."""

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn

from robustgen.rngs import rng_for

Map = Callable[[Tensor], Tensor]


@final
class Linear(nn.Module):
    """Two classes, logits (z, -z) with z = w.x + b: class 0 where z > 0."""

    def __init__(self, weight: Tensor, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = bias

    def forward(self, images: Tensor) -> Tensor:
        z = (images * self.weight).flatten(1).sum(dim=1) + self.bias
        return torch.stack([z, -z], dim=1)


@final
class Mapped(nn.Module):
    """A classifier whose logits go through a function."""

    def __init__(self, model: nn.Module, change: Map) -> None:
        super().__init__()
        self.model = model
        self.change = change

    def forward(self, images: Tensor) -> Tensor:
        return self.change(self.model(images))


@final
class NoParameters(nn.Module):
    """Mean brightness against its complement: nothing to learn, no parameter."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.flatten(1).mean(dim=1)
        return torch.stack([mean, 1 - mean], dim=1)


def convnet(classes: int = 3, seed: int = 0) -> nn.Sequential:
    """A small net with batch norm and dropout, in training mode, weights by seed."""
    with torch.random.fork_rng(devices=[]):  # layers draw weights that are not used
        model = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(8 * 4 * 4, classes),
        )
    rng = rng_for(seed, "convnet")
    state = model.state_dict()
    for name, scale in (("0.weight", 0.5), ("6.weight", 0.5)):
        state[name] = torch.randn(state[name].shape, generator=rng) * scale
    # A mid-gray image gives zero everywhere, so that no class wins by its bias alone.
    state["0.bias"] = -0.5 * state["0.weight"].sum(dim=(1, 2, 3))
    state["6.bias"] = torch.zeros(classes)
    model.load_state_dict(state)
    return model


def pictures(
    count: int, *, low: float = 0.0, high: float = 1.0, size: int = 8
) -> Tensor:
    """Gray images, evenly drawn; image i is the same whatever the count."""
    draws = [torch.rand(1, size, size, generator=rng_for(1, i)) for i in range(count)]
    return low + (high - low) * torch.stack(draws)


def rngs(count: int, seed: int = 0) -> list[torch.Generator]:
    """One generator per image, as a run makes them."""
    return [rng_for(seed, "attack", index) for index in range(count)]


def predictions(model: nn.Module, images: Tensor) -> Tensor:
    """Classes that a model in eval mode gives."""
    with torch.no_grad():
        return model.eval()(images).argmax(dim=1)
