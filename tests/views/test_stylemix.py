import pytest
import torch
from torch import Tensor

from robustgen.errors import RequestError
from robustgen.gan.layers import LayerRange
from robustgen.rngs import rng_for
from robustgen.views.stylemix import stylemix_codes

LAYERS = LayerRange(3, 6)
W_PLUS = torch.randn(5, 6, 64, generator=rng_for(0, "tests", "w_plus"))
SAMPLES = (11, 3, 7, 200, 4)


class _Mapping:
    """A mapping network wide enough for a matrix product to take several paths."""

    def __init__(self) -> None:
        rng = rng_for(0, "tests", "mapping")
        self.z_dim = 48
        self.first = torch.randn(48, 96, generator=rng)
        self.second = torch.randn(96, 64, generator=rng)
        self.classes = torch.randn(4, 48, generator=rng)

    def map(
        self, z: Tensor, labels: Tensor | None = None, truncation: float = 1.0
    ) -> Tensor:
        assert truncation == 1.0
        if labels is not None:
            z = z + self.classes[labels]
        return torch.tanh(z @ self.first) @ self.second


def _codes(pick: slice = slice(None), *, count: int = 20, seed: int = 5, labels=None):
    return stylemix_codes(
        _Mapping(),
        W_PLUS[pick],
        layers=LAYERS,
        count=count,
        seed=seed,
        samples=SAMPLES[pick],
        labels=None if labels is None else labels[pick],
    )


def test_only_the_slice_changes_and_takes_one_style():
    codes = _codes()
    assert codes.shape == (5, 20, 6, 64)
    assert torch.equal(codes[:, :, :3], W_PLUS[:, None, :3].expand(-1, 20, -1, -1))
    mixed = codes[:, :, 3:]
    assert torch.equal(mixed, mixed[:, :, :1].expand_as(mixed))
    assert not torch.isclose(mixed, W_PLUS[:, None, 3:]).any(dim=3).all()


def test_the_style_is_the_mapped_latent_of_the_sample():
    rng = rng_for(5, "views", "stylemix", 3)
    z = torch.stack([torch.randn(48, generator=rng) for _ in range(20)])
    torch.testing.assert_close(_codes()[1, :, 4], _Mapping().map(z))


def test_a_latent_is_mapped_with_the_class_of_its_image():
    labels = torch.tensor([0, 1, 2, 3, 1])
    rng = rng_for(5, "views", "stylemix", 7)
    z = torch.stack([torch.randn(48, generator=rng) for _ in range(20)])
    expected = _Mapping().map(z, torch.full((20,), 2))
    torch.testing.assert_close(_codes(labels=labels)[2, :, 4], expected)
    assert torch.equal(_codes(slice(2, 4), labels=labels), _codes(labels=labels)[2:4])


@pytest.mark.parametrize("size", [1, 2, 3])
def test_batch_size_changes_no_code(size: int):
    split = [_codes(slice(start, start + size)) for start in range(0, 5, size)]
    assert torch.equal(torch.cat(split), _codes())


@pytest.mark.parametrize("count", [1, 7, 16, 19, 33])
def test_more_views_leave_the_first_as_they_were(count: int):
    assert torch.equal(_codes(count=count), _codes(count=40)[:, :count])


def test_every_view_sample_and_seed_has_its_own_style():
    styles = torch.cat([_codes()[:, :, 4], _codes(seed=6)[:, :, 4]]).flatten(0, 1)
    assert len(styles.unique(dim=0)) == 2 * 5 * 20
    assert torch.equal(_codes(), _codes())


def test_gradients_reach_the_layers_that_are_kept():
    w_plus = W_PLUS.clone().requires_grad_()
    codes = stylemix_codes(
        _Mapping(), w_plus, layers=LAYERS, count=4, seed=0, samples=SAMPLES
    )
    codes.sum().backward()
    assert w_plus.grad is not None
    assert torch.equal(w_plus.grad[:, :3], torch.full((5, 3, 64), 4.0))
    assert torch.equal(w_plus.grad[:, 3:], torch.zeros(5, 3, 64))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 0}, "ask for 1 or more"),
        ({"samples": (1, 2)}, "2 sample indices for 5 images"),
        ({"layers": LayerRange(3, 7)}, "it has 6"),
    ],
)
def test_a_wrong_request_is_refused(changes, message: str):
    request = {"layers": LAYERS, "count": 2, "seed": 0, "samples": SAMPLES} | changes
    with pytest.raises(RequestError, match=message):
        stylemix_codes(_Mapping(), W_PLUS, **request)
