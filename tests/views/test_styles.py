import torch
from generators import brightness_gan
from torch import nn

from robustgen.rngs import rng_for
from robustgen.views.styles import (
    device_of,
    random_styles,
    spread_along,
    with_positive_peak,
)


def test_random_styles_hang_on_their_stream():
    gan = brightness_gan()
    styles = random_styles(gan, rng_for(0, "a"), 5000)
    assert styles.shape == (5000, 4)
    assert torch.equal(styles, random_styles(gan, rng_for(0, "a"), 5000))
    # Blocks of 4096: a longer request begins with the same styles.
    assert torch.equal(styles[:4096], random_styles(gan, rng_for(0, "a"), 4096))
    torch.testing.assert_close(styles.std(dim=0), gan.spread, rtol=0.03, atol=0)


def test_the_spread_is_measured_along_the_vectors():
    w = torch.tensor([[0.0, 0.0], [2.0, 4.0]])
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    # Two points at distance d have the sample standard deviation d / sqrt(2).
    expected = torch.tensor([2.0, 4.0, 4.4]) / 2**0.5
    torch.testing.assert_close(spread_along(w, vectors), expected)


def test_the_largest_entry_becomes_positive():
    vectors = torch.tensor([[0.6, -0.8], [-0.6, 0.8], [0.0, 0.0]])
    expected = torch.tensor([[-0.6, 0.8], [-0.6, 0.8], [0.0, 0.0]])
    assert torch.equal(with_positive_peak(vectors), expected)


def test_the_device_is_that_of_the_weights():
    assert device_of(nn.Linear(1, 1, device="meta")) == torch.device("meta")
    assert device_of(nn.BatchNorm1d(1, affine=False)) == torch.device("cpu")
    assert device_of(nn.Identity()) == torch.device("cpu")
    assert device_of(object()) == torch.device("cpu")
