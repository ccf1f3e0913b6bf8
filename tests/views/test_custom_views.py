"""View families of the user's own: draws, gradients and faults."""

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from robustgen.errors import RequestError
from robustgen.view_settings import CustomViews
from robustgen.views.custom import custom_views
from robustgen.views.draws import ViewFamily

MODULE = "some_views"


def built(monkeypatch: pytest.MonkeyPatch, make: Any, count: int = 3) -> ViewFamily:
    """The family that a suite gets which names `make`."""
    module = ModuleType(MODULE)
    setattr(module, "make", make)  # noqa: B010
    monkeypatch.setitem(sys.modules, MODULE, module)
    settings = CustomViews(factory=f"{MODULE}:make", count=count, name="mine")
    return custom_views(settings, gan=Toy(), seed=5, plugins=(MODULE,))


class Toy:
    """A generator of pictures of one pixel that show their code."""

    z_dim, num_layers, num_classes = 2, 1, 0

    def map(
        self, z: Tensor, labels: Tensor | None = None, truncation: float = 1.0
    ) -> Tensor:
        del labels
        return z * truncation

    def synthesize(self, w_plus: Tensor) -> Tensor:
        return w_plus[..., None]


def noise() -> Any:
    def vary(gan: Any, w_plus: Tensor, rngs: Any, count: int) -> Tensor:
        shape = w_plus.shape[1:]
        drawn = [
            torch.stack([torch.randn(shape, generator=rng) for _ in range(count)])
            for rng in rngs
        ]
        return 2 * w_plus[:, None] + torch.stack(drawn)

    return vary


CODES = torch.arange(6.0).view(3, 1, 2)


def test_views_belong_to_image_and_number(monkeypatch: pytest.MonkeyPatch):
    vary = built(monkeypatch, noise)
    all_views = vary(CODES, [4, 5, 6], None)
    assert all_views.shape == (3, 3, 1, 2)
    assert torch.equal(vary(CODES[1:2], [5], None), all_views[1:2])
    more = built(monkeypatch, noise, count=8)(CODES, [4, 5, 6], None)
    assert torch.equal(more[:, :3], all_views)
    assert not torch.equal(all_views[0, 0], all_views[0, 1])


def test_gradients_pass_where_they_are_wanted(monkeypatch: pytest.MonkeyPatch):
    vary = built(monkeypatch, noise)
    codes = CODES.clone().requires_grad_()
    (slope,) = torch.autograd.grad(vary(codes, [0, 1, 2], None).sum(), codes)
    assert torch.equal(slope, torch.full_like(CODES, 6.0))
    with torch.no_grad():
        assert not vary(codes, [0, 1, 2], None).requires_grad


def test_global_draws_can_be_repeated(monkeypatch: pytest.MonkeyPatch):
    vary = built(
        monkeypatch,
        lambda: lambda gan, w_plus, rngs, count: torch.rand(len(w_plus), count, 1, 2),
    )
    before = torch.random.get_rng_state()
    assert torch.equal(vary(CODES, [0, 1, 2], None), vary(CODES, [0, 1, 2], None))
    assert torch.equal(before, torch.random.get_rng_state())


def returning(value: Any) -> Any:
    return lambda: lambda gan, w_plus, rngs, count: value


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: 3, "'mine': the callable returned int; expected a function"),
        (returning(CODES), r"of shape \[3, 1, 2\] .* expected floats \[3, 3, 1, 2\]"),
        (returning([1]), r"returned list; expected codes \[3, 3, 1, 2\]"),
        (returning(torch.full((3, 3, 1, 2), torch.inf)), "not finite"),
    ],
)
def test_what_makes_no_sense_is_refused(
    monkeypatch: pytest.MonkeyPatch, make: Any, message: str
):
    with pytest.raises(RequestError, match=message):
        built(monkeypatch, make)(CODES, [0, 1, 2], None)
